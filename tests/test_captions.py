"""Captions of any source: one ECG in, one out; each waveform text beside its own finding; nothing
invented for technical or unknown statements; prompts kept out of every wording.
"""

import numpy as np
import pandas as pd
import pytest

from ecgkit.data import sources
from ecgkit.data.scp_table import scp_statements
from ecgkit.data.sources import machine_statements, machine_wordings, snomed
from ecgkit.text import captions as cap
from ecgkit.text import prompts
from ecgkit.text.findings import Reader
from ecgkit.text.passages import first_sentence, read_folder

TABLE = scp_statements()
NOTES = {code: note for note in read_folder().passages for code in note.codes}
WAVES = "\nPotential ECG waveforms: "


class Looks:
    """Answers with the first sentence of the note of a code, and remembers what was asked."""

    def __init__(self):
        self.asked = []

    def answer(self, finding, code=""):
        self.asked.append((finding, code))
        return first_sentence(NOTES[code].text) if code in NOTES else ""


class ManyLooks(Looks):
    """The same with `answers`, given in the reverse order: only the key tells which is whose."""

    def answers(self, pairs):
        self.batches = getattr(self, "batches", 0) + 1
        said = {pair: type("Answer", (), {"text": self.answer(*pair)})() for pair in pairs}
        return dict(reversed(said.items()))


def table(codes, statements=None, dx=None, age=63.0, sex=0):
    n = len(codes)
    columns = {"ecg_id": range(1, n + 1), "age": [age] * n, "sex": [sex] * n, "scp_codes": codes}
    columns |= {} if statements is None else {"statements": statements}
    columns |= {} if dx is None else {"dx": dx}
    return pd.DataFrame(columns)


def from_lines(*lines, assistant=None):
    return cap.write_captions(table([{}], [list(lines)]), TABLE, assistant or Looks(), n_short=2)


# --- PTB-XL ---


def test_the_three_parts_of_figure_2():
    text = cap.write_captions(table([{"IMI": 80.0, "SR": 0.0}]), TABLE, Looks()).full[0]
    person, waves = text.split(WAVES)
    assert person == (
        "This patient is a 63 year-old male. ECG Findings: inferior myocardial infarction, sinus "
        "rhythm."
    )
    assert waves == " ".join(first_sentence(NOTES[c].text) for c in ("IMI", "SR"))


def test_without_an_assistant_there_is_no_waveform_text_and_the_same_words():
    codes = [{"IMI": 80.0, "SR": 0.0}, {"NORM": 100.0}, {"AFIB": 0.0, "PVC": 0.0}]
    bare = cap.write_captions(table(codes), TABLE, None, seed=2)
    full = cap.write_captions(table(codes), TABLE, Looks(), seed=2)
    assert not any("Potential" in text for text in bare.all_texts())
    assert bare.report["ecgs"].sum() == 0
    for without, with_waves in zip(bare.all_texts(), full.all_texts()):
        assert with_waves.split(WAVES)[0].startswith(without)  # only waveform text is added


def test_batch_and_single_assistants_give_the_same_and_ask_each_pair_once():
    codes = [{"IMI": 80.0, "SR": 0.0}, {"SR": 0.0, "CLBBB": 100.0}, {"IMI": 100.0}] * 20
    one, many = Looks(), ManyLooks()
    first, second = (cap.write_captions(table(codes), TABLE, a, seed=1) for a in (one, many))
    assert first.variants == second.variants
    assert many.batches == 1 and sorted(one.asked) == sorted(many.asked)
    assert len(one.asked) == len(set(one.asked)) == 3


def test_a_row_does_not_depend_on_the_others():
    codes = [{"IMI": 80.0, "SR": 0.0}, {"AFIB": 0.0, "PVC": 0.0}, {"NORM": 100.0, "SR": 0.0}]
    whole = cap.write_captions(table(codes), TABLE, Looks(), seed=4)
    part = cap.write_captions(table(codes).iloc[[2, 1]], TABLE, Looks(), seed=4)
    assert part.variants == [whole.variants[2], whole.variants[1]]
    other = cap.write_captions(table(codes), TABLE, Looks(), seed=5)
    assert other.full == whole.full and other.variants != whole.variants


def test_one_ecg_in_one_out_whatever_is_missing():
    codes = [{"SR": 0.0}, {}, {"XYZ": 0.0}, {}, {"NORM": 100.0}]
    written = cap.write_captions(table(codes, age=np.nan, sex=np.nan), TABLE, Looks(), n_short=3)
    assert len(written.full) == len(written.variants) == 5
    assert {len(wordings) for wordings in written.variants} == {4}
    assert written.full[1] == "This patient is a person of unknown age. ECG Findings: no statement."
    assert all(text.strip(" .") for text in written.all_texts())
    assert "XYZ" in written.full[2] and "Potential" not in written.full[2]
    assert written.report.loc["no statement", "ecgs"] == 2
    assert written.report.loc["unknown"].tolist() == [1, 1, "XYZ"]


def test_a_known_finding_without_a_note_is_counted():
    class Silent(Looks):
        def answer(self, finding, code=""):
            return ""

    written = cap.write_captions(table([{"SR": 0.0, "IMI": 9.0}, {"SR": 0.0}]), TABLE, Silent())
    assert written.report.loc["no note"].tolist() == [2, 2, "sinus rhythm"]


# --- MIMIC-IV-ECG ---


def test_lines_are_named_as_said_and_described_by_their_own_note():
    text = from_lines("Sinus rhythm with PAC(s)", "Left axis deviation.", "Abnormal ECG").full[0]
    said, waves = text.split(WAVES)
    assert said.endswith("Sinus rhythm with PAC(s), Left axis deviation, Abnormal ECG.")
    assert waves == " ".join(first_sentence(NOTES[c].text) for c in ("SR", "PAC", "LAD"))


@pytest.mark.parametrize("line, reason", [
    ("Lead(s) unsuitable for analysis: V1", "technical"),
    ("** INTERPRETATION MADE WITHOUT KNOWING PATIENT'S GENDER/AGE **", "technical"),
    ("Report not available", "technical"),
    ("Undetermined rhythm", "unknown"),
    ("Zebra complexes", "unknown"),
    ("Abnormal ECG", "summary"),
])  # fmt: skip
def test_nothing_is_invented(line, reason):
    """The published dictionary tells of an anteroseptal infarct where gender and age are unknown.

    The assistant is not even asked: no writer can invent what it is not asked for.
    """
    looks = Looks()
    written = from_lines("Sinus rhythm", line, assistant=looks)
    assert looks.asked == [("sinus rhythm", "SR")]
    assert line.strip("* ") in written.full[0]
    assert written.full[0].split(WAVES)[1] == first_sentence(NOTES["SR"].text)
    assert written.report.loc[reason, ["distinct", "ecgs"]].tolist() == [1, 1]


def test_an_ecg_with_technical_lines_alone_still_has_its_caption():
    written = from_lines("Baseline artifact", "", "Report not available.")
    assert len(written.full) == 1 and "Baseline artifact, Report not available." in written.full[0]
    assert "Potential" not in written.full[0]


def test_short_wordings_keep_the_doubt_and_leave_the_technical_out():
    lines = ["Sinus rhythm", "Possible inferior infarct - age undetermined", "Baseline artifact"]
    rows = table([{}] * 60, [lines] * 60)
    short = [t for v in cap.write_captions(rows, TABLE, None, n_short=4).variants for t in v[1:]]
    assert not any("artifact" in text for text in short)
    doubtful = [text for text in short if "inferior" in text.lower()]
    assert doubtful and all(lines[1] in text for text in doubtful)
    assert any("regular sinus rhythm" in text for text in short)  # plain ones have synonyms


def test_variants_of_a_statement_are_asked_about_once():
    looks = Looks()
    lines = ["INFERIOR INFARCT, OLD", "Inferior infarct - age undetermined", "Inferior infarct."]
    cap.write_captions(table([{}] * 3, [[line] for line in lines]), TABLE, looks)
    assert looks.asked == [("inferior infarct", "IMI")]


def test_simulated_carts_leave_nothing_unknown(tiny_cohort):
    rng = np.random.default_rng(0)
    rows = tiny_cohort.table.copy()
    rows["statements"] = [machine_statements.from_scp(c, rng, -50.0) for c in rows["scp_codes"]]
    report = cap.write_captions(rows, tiny_cohort.statements, Looks()).report
    assert report.loc[["no statement", "unknown", "no note"], "ecgs"].sum() == 0
    assert report.loc["summary", "distinct"] >= 2


# --- SNOMED CT ---


def test_snomed_codes_are_named_and_narrow_notes_preferred():
    dx = "426783006,39732003,54016002,251148003"  # sinus rhythm, LAD, Mobitz I, low in chest leads
    scp = {"SR": 100.0, "2AVB": 100.0, "LVOLT": 100.0}
    text = cap.write_captions(table([scp], dx=[dx]), TABLE, Looks()).full[0]
    said, waves = text.split(WAVES)
    assert "ECG Findings: sinus rhythm, left axis deviation, Mobitz I second" in said
    own = ("SR", "LAD", "2AVB1", "LVCHEST")
    assert waves == " ".join(first_sentence(NOTES[code].text) for code in own)


def test_what_the_adapter_knows_of_its_source_is_said():
    """CPSC-2018's lone sinus rhythm is a normal ECG; an unknown number is kept as it is."""
    rows = table([{"NORM": 100.0, "SR": 100.0}, {}], dx=["426783006", "999999999"])
    written = cap.write_captions(rows, TABLE, Looks())
    assert "ECG Findings: normal ECG, sinus rhythm." in written.full[0]
    assert "ECG Findings: 999999999." in written.full[1]
    assert written.report.loc["unknown", "ecgs"] == 1


def test_no_snomed_name_gets_a_code_its_map_denies():
    """The map leaves "acute infarct" and the like without an SCP code on purpose."""
    reader = Reader(TABLE)
    for number, name in snomed.NAMES.items():
        (finding,), = reader.read(table([{}], dx=[number]))
        scp = {code for code in finding.codes if code in TABLE.index}
        assert scp <= {snomed.SCP.get(number)}, name
        assert set(finding.codes) <= set(NOTES), name


def test_sources_may_stand_in_one_table():
    """As after `pd.concat`: what a source lacks is NaN there."""
    parts = [table([{"IMI": 80.0}]), table([{}], [["Left axis deviation"]]),
             table([{"SR": 100.0}], dx=["426783006"])]  # fmt: skip
    full = cap.write_captions(pd.concat(parts, ignore_index=True), TABLE, Looks()).full
    found = [text.split(WAVES)[0].rpartition(": ")[2] for text in full]
    assert found == ["inferior myocardial infarction.", "Left axis deviation.", "sinus rhythm."]


# --- real tables ---


def test_real_tables_leave_no_finding_without_text(shared):
    for name, n in (("ptbxl-subset-400.zip", 400), ("chapman-subset-10.zip", 10)):
        kind, place = sources.open_source(shared / "data" / name)
        reader = sources.adapter(kind)
        rows, _ = reader.read_table(place, reader.base_rate(500))
        written = cap.write_captions(rows, reader.read_statements(place), Looks())
        assert len(written.full) == n
        assert written.report["ecgs"].sum() == 0, written.report
        assert all(WAVES in text for text in written.full)


# --- prompts ---


def _wordings():
    """All that may stand in a caption's list of findings, and all sentences on waves."""
    said = [w for words in (*cap.SYNONYMS.values(), *cap.CLASS_WORDS.values()) for w in words]
    said += [*TABLE["description"], *TABLE["SCP-ECG Statement Description"]]
    said += [w for note in NOTES.values() for w in note.statements] + [*snomed.NAMES.values()]
    said += [w for ways in machine_wordings._WORDINGS.values() for way in ways for w in way]
    return said, [note.text for note in NOTES.values()]


def _asked():
    of_codes = prompts.finding_prompts(list(TABLE.index)).items()
    named = {f"{code} finding": group for code, group in of_codes}
    return prompts.superclass_prompts(list(prompts.CLASSES)) | named


def test_prompts_are_unseen_in_every_wording_of_every_source():
    """Notes whole; statements, descriptions, SNOMED names, carts' wordings behind each opening."""
    said, waves = _wordings()
    texts = [opening.format(words) for words in said for opening in cap.OPENINGS]
    report = prompts.assert_unseen(_asked(), texts + waves)
    assert report["longest_run"] < prompts.RUN


def test_no_two_wordings_side_by_side_make_up_a_prompt():
    """Findings stand in any order: the end of one and the start of the next are read in a row."""
    said, waves = _wordings()
    openings = [prompts.plain(opening.split("{}")[0]) for opening in cap.OPENINGS]
    first = [first_sentence(text) for text in waves]
    pieces = [prompts.plain(text).split() for text in (*said, *first, *openings)]
    sizes = range(1, prompts.RUN)
    ends = {tuple(words[-k:]) for words in pieces for k in sizes}
    starts = {tuple(words[:k]) for words in pieces for k in sizes}
    for prompt in (prompt for group in _asked().values() for prompt in group):
        words = tuple(prompts.plain(prompt).split())
        for i in range(len(words) - prompts.RUN + 1):
            run = words[i : i + prompts.RUN]
            assert not any(run[:k] in ends and run[k:] in starts for k in sizes), (prompt, run)


def test_every_statement_has_prompts_of_its_own():
    asked = prompts.finding_prompts(list(TABLE.index))
    assert set(asked) == set(TABLE.index)
    flat = [prompt for group in asked.values() for prompt in group]
    assert len(flat) == len(set(flat))
