"""Machine statements: one wording for all variants, no findings for what is technical, and the
kit's notes: one for every SCP statement, short enough for a caption.
"""

import re
from collections import Counter

import numpy as np
import pytest

from ecgkit.data.scp_table import scp_statements
from ecgkit.data.sources import machine_statements, machine_wordings
from ecgkit.text import statements
from ecgkit.text.passages import FOLDER, first_sentence, read_folder, sentences

NOTES = read_folder().passages
TABLE = scp_statements()

# --- the notes ---


def test_every_scp_statement_has_one_note():
    claimed = Counter(code for note in NOTES for code in note.codes)
    assert set(TABLE.index) <= set(claimed) and max(claimed.values()) == 1
    assert len(claimed) > 130


def test_titles_and_wordings_are_unique():
    titles = Counter(note.title.lower() for note in NOTES)
    assert max(titles.values()) == 1
    owner: dict[str, str] = {}  # variants of one finding may fall together, two findings never
    for note in NOTES:
        for wording in (note.title, *note.statements):
            plain = statements.normalise(wording)
            assert owner.setdefault(plain, note.title) == note.title, plain


@pytest.mark.parametrize("note", NOTES, ids=lambda note: note.title)
def test_a_note_can_be_read_in_a_caption(note):
    """What a caption takes is one short sentence on the ECG, not on hearts or treatment."""
    seen = first_sentence(note.text)
    assert 8 <= len(seen.split()) <= 30, seen
    assert 2 <= len(sentences(note.text)) <= 5 and len(note.text.split()) <= 100
    assert not re.search(r"\b(patient|treat|drug therapy|mortality)\w*", seen), seen


def test_files_are_short_and_name_their_sources():
    files = sorted(FOLDER.glob("*.md"))
    assert len(files) >= 10
    for path in files:
        text = path.read_text()
        assert len(text.splitlines()) <= 120, path.name
        head = text.split("\n## ")[0]
        assert "Sources to read:" in head and re.search(r"(19|20)\d\d", head), path.name


@pytest.mark.parametrize("code, fact", [
    ("LNGQT", "450 ms in men or 460 ms in women"), ("1AVB", "200 ms"), ("CLBBB", "120 ms or more"),
    ("IRBBB", "110 to 119 ms"), ("LAFB", "-45 and -90"), ("LPFB", "+90 and +180"),
    ("LAD", "-30 and -90"), ("LVOLT", "0.5 mV"), ("LVH", "3.5 mV"), ("RAO/RAE", "0.25 mV"),
    ("LAO/LAE", "120 ms"), ("WPW", "under 120 ms"), ("STACH", "100 beats"), ("STD_", "0.05 mV"),
    ("PRWP", "0.3 mV in V3"), ("STEMI", "0.25 mV in younger men"), ("SPR", "120 ms"),
])  # fmt: skip
def test_limits_are_the_recommendations_own(code, fact):
    """Limits of the AHA/ACCF/HRS recommendations (2009) and the Fourth Universal Definition."""
    note = next(note for note in NOTES if code in note.codes)
    assert fact in note.text


# --- one wording ---


@pytest.mark.parametrize("variants", [
    ("*** INFERIOR INFARCT - POSSIBLY ACUTE ***", "Inferior infarct, age undetermined.",
     "possible inferior myocardial infarction", "Inferior infarct, old", "consider inferior MI"),
    ("(9@128) suggests early repolarization", "Early repolarization", "EARLY REPOLARIZATION."),
    ("1st degree A-V block", "First-degree AV block", "Borderline first degree A-V block."),
    ("RBBB", "Right bundle branch block", " right  bundle branch block. "),
    ("PVC(s)", "Premature ventricular contractions", "ventricular premature complexes"),
    ("Non-specific ST-T changes", "nonspecific ST-T changes."),
    ("Normal ECG except for rate", "Normal ECG", "Otherwise normal ECG", "Probable normal ECG"),
])  # fmt: skip
def test_variants_fall_together(variants):
    assert len({statements.normalise(text) for text in variants}) == 1


def test_different_findings_stay_apart():
    lines = ("Borderline ECG", "Abnormal ECG", "Normal ECG", "Left axis deviation", "LBBB",
             "Right axis deviation", "Incomplete LBBB", "ST elevation", "ST depression",
             "Anterior infarct", "Inferior infarct")  # fmt: skip
    assert len({statements.normalise(text) for text in lines}) == len(lines)
    assert statements.normalise("Borderline ECG") == "borderline ecg"
    assert statements.normalise("") == "" and statements.normalise("possible") == "possible"


def test_normalising_twice_changes_nothing():
    words = [w for plain, hedged in machine_wordings._WORDINGS.values() for w in (*plain, *hedged)]
    for text in words:
        once = statements.normalise(text)
        assert once and statements.normalise(once) == once, text


def test_qualifiers_in_the_order_said():
    said = statements.qualifiers("Possible anterior infarct - age undetermined")
    assert said == ("possible", "age undetermined")
    assert statements.qualifiers("CANNOT RULE OUT acute inferior MI")[0] == "cannot rule out"
    assert statements.qualifiers("Left axis deviation") == ()


# --- technical ---

TECHNICAL = (
    "Lead(s) unsuitable for analysis: V1, V2", "*** Missing lead(s): V3 ***",
    "** INTERPRETATION MADE WITHOUT KNOWING PATIENT'S GENDER/AGE **", "Report not available.",
    "Baseline artifact", "Baseline wander", "Artifact in lead(s) V1", "Noisy tracing",
    "Arm leads reversed", "Possible faulty V2 - omitted from analysis",
    "--- Warning: Data quality may affect interpretation ---", "Suggest repeat tracing",
    "No further analysis attempted due to paced rhythm", "suspected reversal of arm leads",
)  # fmt: skip


@pytest.mark.parametrize("text", TECHNICAL)
def test_technical_statements_name_no_finding(text):
    assert statements.is_technical(text)
    assert statements.codes_of(text) == () and statements.code_of(text) == ""


@pytest.mark.parametrize("text, code", [
    ("Sinus rhythm with baseline artifact", "SR"),
    ("Pacemaker rhythm - no further analysis", "PACE"),
    ("Inferior ST elevation", "STE_"),
    ("Extensive ST-T changes in all leads", "NST_"),
])  # fmt: skip
def test_a_finding_beside_it_is_kept(text, code):
    assert not statements.is_technical(text) and statements.code_of(text) == code


def test_no_description_or_wording_of_a_finding_is_technical():
    words = [w for plain, hedged in machine_wordings._WORDINGS.values() for w in (*plain, *hedged)]
    words += [*TABLE["description"], *TABLE["SCP-ECG Statement Description"]]
    words += [w for note in NOTES for w in (note.title, *note.statements)]
    assert [text for text in words if statements.is_technical(text)] == []
    assert all(statements.is_technical(text) for text in machine_wordings._TECHNICAL)


# --- codes ---


@pytest.mark.parametrize("text, codes", [
    ("Sinus rhythm with PVC(s)", ("SR", "PVC")),
    ("Left axis deviation", ("LAD",)),
    ("Poor R wave progression", ("PRWP",)),
    ("Poor R wave progression - cannot rule out septal infarct", ("PRWP",)),
    ("Possible anterior infarct - age undetermined", ("AMI",)),
    ("*** ANTERIOR INFARCT - POSSIBLY ACUTE ***", ("AMI", "STEMI")),
    ("Prolonged QT - consider ischemia, electrolyte imbalance, drug effects", ("LNGQT",)),
    ("Low QRS voltages in precordial leads", ("LVCHEST",)),  # not LVOLT, which tells of limb leads
    ("Second degree AV block, Mobitz II", ("2AVB2",)),
    ("A-V sequential pacemaker", ("AVPACE",)),
    ("Atrial flutter with 4:1 A-V block", ("AFLT",)),
    ("Inferior/lateral ST-T changes are probably due to ventricular hypertrophy", ("LVSTR",)),
    ("Tall T waves - consider hyperkalemia", ("TALLT",)),
    ("Left bundle branch block", ("CLBBB",)),  # not also a block of unstated side
    ("Bundle branch block", ("BBB",)),
    ("Abnormal ECG", ("ABECG",)),
    ("Borderline ECG", ("BLECG",)),
    ("No evidence of inferior infarct", ()),
    ("Regular rhythm, no P-waves found", ()),
    ("Undetermined rhythm", ()),
    ("", ()),
])  # fmt: skip
def test_codes_are_what_the_words_decide(text, codes):
    assert statements.codes_of(text) == codes


def test_the_telling_code_goes_before_sinus_rhythm():
    assert statements.code_of("Sinus rhythm with 1st degree A-V block") == "1AVB"
    assert statements.code_of("Sinus rhythm") == "SR"


def test_every_wording_of_the_carts_and_of_the_notes_finds_a_note():
    known = {code for note in NOTES for code in note.codes}
    for code in TABLE.index:
        for seed in range(6):
            for line in machine_statements.from_scp({code: 0.0}, np.random.default_rng(seed), -50):
                codes = statements.codes_of(line)
                assert set(codes) <= known
                assert codes or not line or statements.is_technical(line), line
    for note in NOTES:
        for wording in note.statements:
            assert statements.codes_of(wording), wording


def test_a_note_is_found_by_its_own_wordings():
    """Where the words are a note's own, its code is among those found, or a broader SCP code that
    the data room reads from them.
    """
    missed = [(note.title, w) for note in NOTES for w in note.statements
              if note.codes[0] not in statements.codes_of(w)]  # fmt: skip
    assert len(missed) <= 0.05 * sum(len(note.statements) for note in NOTES), missed
