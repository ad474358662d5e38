"""All 70 templates: published numbers, types and answer lists; asked and answered right of a table
that holds everything."""

import ast
import csv
import io
import json
import zipfile
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ecgkit.data import ecgqa, qa_counts, qa_generator, qa_leads, qa_reading
from ecgkit.data import qa_vocabulary as words
from ecgkit.data.qa_draw import IMBALANCE, MOST, shares_of
from ecgkit.data.qa_facts import read_facts
from ecgkit.data.qa_templates import TEMPLATES
from ecgkit.data.scp_table import scp_statements
from ecgkit.types import LEADS

N = 2400


def everything(n: int = N, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A table and truth of `n` ECGs, two of each patient, with every statement, note and size."""
    rng = np.random.default_rng(seed)
    codes = [c for c in words.NAME_OF if c not in ("NORM", *words.RHYTHM)]
    often = np.sort(rng.uniform(0.004, 0.06, len(codes)))
    has = rng.random((n, len(codes))) < often
    has[:600] = False  # a quarter has nothing
    rhythm = rng.choice(list(words.RHYTHM), n, p=_rhythm_chances())
    likely = rng.choice([100.0, 0.0, 80.0, 50.0, 35.0, 15.0], (n, len(codes)))
    listed = [
        {c: p if c in words.GROUP_OF else 0.0 for c, h, p in zip(codes, has[i], likely[i]) if h}
        | {rhythm[i]: 0.0} | ({"NORM": 100.0} if not has[i].any() else {})
        for i in range(n)
    ]  # fmt: skip
    order = rng.permutation(n)
    table = pd.DataFrame({
        "ecg_id": np.arange(1, n + 1), "patient_id": np.arange(n)[order] // 2,
        "scp_codes": [listed[i] for i in order],
        "heart_axis": rng.choice(["MID", "LAD", "RAD", "ARAD", None], n, p=[.4, .2, .1, .1, .2]),
        "extra_beats": rng.choice(["2VES", "SVES", "1ES", "VES,SVES", *[None] * 6], n),
    })  # fmt: skip
    table["fold"] = table["patient_id"] % 10 + 1
    infarct = table["scp_codes"].map(lambda c: any(words.GROUP_OF.get(k) == "MI" for k in c))
    stage = rng.choice(["Stadium I", "Stadium II", "Stadium III", "unknown"], n)
    table["infarction_stadium1"] = np.where(infarct, stage, None)
    for column in ("baseline_drift", "static_noise", "burst_noise", "electrodes_problems"):
        notes = rng.choice([" , I-AVF,", " , alles,", "V1,V2", " , II-AVL,V6,"], n)
        table[column] = np.where(rng.random(n) < 0.25, notes, None)
    return table, _truth(n, rng)


def _rhythm_chances():
    chances = np.full(len(words.RHYTHM), 0.05)
    chances[list(words.RHYTHM).index("SR")] += 1 - chances.sum()
    return chances


def _truth(n: int, rng) -> pd.DataFrame:
    limits = {"p_ms": (40, 140), "pr_ms": (100, 240), "qrs_ms": (50, 150), "qt_ms": (320, 470),
              "qtc_ms": (330, 480), "rr_ms": (450, 1200)}  # fmt: skip
    columns = {name: rng.uniform(low, high, n) for name, (low, high) in limits.items()}
    for size, low, high in (("st", -0.15, 0.15), ("t", -0.4, 0.6), ("r", 0.0, 2.0),
                            ("s", -2.0, 0.0), ("q", -0.3, 0.0), ("qd", 0.0, 50.0)):  # fmt: skip
        columns |= {f"{size}_{lead}": rng.uniform(low, high, n) for lead in LEADS}
    return pd.DataFrame(columns)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    table, truth = everything()
    root = qa_generator.write_questions(tmp_path_factory.mktemp("qa"), table, truth, seed=3)
    samples = {
        split: [s for file in sorted((root / "template" / split).iterdir())
                for s in json.loads(file.read_text())]
        for split in ("train", "valid", "test")
    }  # fmt: skip
    return SimpleNamespace(table=table, truth=truth, root=root, samples=samples)


@pytest.fixture(scope="module")
def frame(written):
    return pd.DataFrame([s | {"split": k} for k, some in written.samples.items() for s in some])


# --- against what is published --------------------------------------------------------------------


def member(shared, name: str) -> str:
    with zipfile.ZipFile(shared / "data" / "ecgqa-subset.zip") as archive:
        return archive.read(next(n for n in archive.namelist() if n.endswith(name))).decode()


def test_answer_lists_are_the_published_ones(shared):
    rows = csv.DictReader(io.StringIO(member(shared, "ptbxl/answers_for_each_template.csv")))
    published = {int(row["template_id"]): set(ast.literal_eval(row["classes"])) for row in rows}
    assert {number: set(t.answers) for number, t in TEMPLATES.items()} == published


def test_types_are_the_published_ones_and_sentences_are_not(shared):
    """As far as the shards at hold go: templates 26-28 and 68-70."""
    wordings = {w for t in TEMPLATES.values() for w in t.wordings}
    seen = set()
    for name in ("train/120000.json", "train/260000.json", "test/80000.json"):
        for sample in json.loads(member(shared, f"ptbxl/template/{name}")):
            template = TEMPLATES[sample["template_id"]]
            seen.add(sample["template_id"])
            kinds = sample["question_type"], sample["attribute_type"]
            assert kinds == (template.question_type, template.attribute_type)
            assert sample["question"] not in wordings
    assert seen == {26, 27, 28, 68, 69, 70}


def test_published_counts_are_those_of_the_shards(shared):
    shelf = qa_reading.open_shelf(shared / "data" / "ecgqa-subset.zip")
    answers, templates = {}, {}
    for name in qa_counts.SHARDS:
        for sample in json.loads(member(shared, f"ptbxl/template/{name}")):
            key = sample["template_id"]
            templates[key] = templates.get(key, 0) + 1
            for answer in sample["answer"]:
                answers[answer] = answers.get(answer, 0) + 1
    assert answers == qa_counts.PUBLISHED_ANSWERS and set(answers) <= set(shelf.answers)
    assert templates == qa_counts.PUBLISHED_TEMPLATES


def test_every_statement_has_a_name():
    assert set(words.NAME_OF) == set(scp_statements().index) and len(words.NAME_OF) == 71
    assert len(set(words.NAME_OF.values())) == 71


# --- everything is asked --------------------------------------------------------------------------


def test_all_templates_are_asked(frame):
    assert len(frame) > 20_000
    per_split = pd.crosstab(frame["template_id"], frame["split"])
    assert sorted(per_split.index) == list(range(1, 71))
    assert per_split["train"].min() >= 20 and per_split[["valid", "test"]].to_numpy().min() >= 3
    assert set(frame["question_type"]) == set(qa_reading.QUESTION_TYPES)
    assert set(frame["attribute_type"]) == set(qa_reading.ATTRIBUTE_TYPES)


def test_answers_are_valid(frame):
    for row in frame.itertuples():
        assert set(row.answer) <= set(TEMPLATES[row.template_id].answers), row
        assert "none" not in row.answer or row.answer == ["none"]
    said = frame[frame["template_id"] == 1]["answer"].map(tuple)
    assert {("yes",), ("no",), ("not sure",)} == set(said)


def test_text_alone_says_something_but_not_the_answer(frame):
    """Priors differ from question to question, and none is above three in four."""
    train = frame[(frame["split"] == "train") & frame["question_type"].str.endswith("verify")]
    groups = train.groupby(["template_id", "question_id"])["answer"]
    share = groups.agg(lambda a: a.map(tuple).value_counts(normalize=True).iloc[0])
    share = share[groups.size() >= 20]
    assert len(share) > 100 and share.max() <= 0.75
    assert share.quantile(0.9) - share.quantile(0.1) > 0.08


def test_shares():
    even, same = shares_of([100, 100])
    assert even == same
    yes, no = shares_of([40, 160])
    assert no / yes == pytest.approx(4**IMBALANCE)
    yes, no = shares_of([4, 16], imbalance=1)
    assert no / (yes + no) == pytest.approx(MOST)  # 0.8 of them
    yes, no = shares_of([1, 10_000])
    assert no / (yes + no) == pytest.approx(MOST)
    assert shares_of([1, 10_000], imbalance=0).tolist() == [1, 1]


# --- and answered right ---------------------------------------------------------------------------


def code_of(name: str) -> str:
    return next(code for code, named in words.NAME_OF.items() if named == name)


def listed(table, ecg_id: int, codes) -> set[str]:
    """Names of the statements among `codes` the ECG has, whatever their likelihood."""
    return {words.NAME_OF[c] for c in table["scp_codes"].iloc[ecg_id - 1] if c in codes}


def sure(table, ecg_id: int) -> set[str]:
    """Names of the statements the ECG has for sure."""
    found = table["scp_codes"].iloc[ecg_id - 1]
    return {words.NAME_OF[c] for c, p in found.items() if c not in words.GROUP_OF or p in (0, 100)}


def test_query_answers(written, frame):
    codes = {8: words.DIAGNOSTIC, 10: words.RHYTHM, 11: [code_of(n) for n in words.FORMS]}
    for row in frame[frame["template_id"].isin(codes)].itertuples():
        there = listed(written.table, row.ecg_id[0], codes[row.template_id])
        assert set(row.answer) == (there or {"none"})
    for row in frame[frame["template_id"] == 9].itertuples():
        there = sure(written.table, row.ecg_id[0]) & set(words.DIAGNOSTIC.values())
        assert set(row.answer) == (there or {"none"})


def test_an_ecg_with_a_statement_no_answer_stands_for_is_not_queried(written, frame):
    for row in frame[frame["template_id"].isin((8, 9))].itertuples():
        assert not listed(written.table, row.ecg_id[0], words.UNLISTED_DIAGNOSTIC)
    asked = {a[0] for a in frame[frame["template_id"] == 1]["attribute"]}
    assert {"second degree av block", "trigeminal pattern"} <= asked


def test_comparisons_of_statements(written, frame):
    relation = {
        "gone": lambda one, two: one - two, "new": lambda one, two: two - one,
        "kept": lambda one, two: one & two,
    }  # fmt: skip
    for first in (47, 61):
        for step, work_out in enumerate(relation.values()):
            rows = frame[frame["template_id"] == first + step]
            for row in rows.itertuples():
                one, two = (sure(written.table, i) for i in row.ecg_id)
                found = work_out(one, two) - {words.NORMAL}
                assert set(row.answer) == (found or {"none"}), (row, one, two)
    kept = frame[frame["template_id"].isin((45, 59)) & (frame["answer"].str[0] == "yes")]
    absent = frame[frame["template_id"].isin((46, 60))]
    for row in absent.itertuples():
        one, two = (sure(written.table, i) for i in row.ecg_id)
        longer = [n for n in words.NAME_OF.values() if words.spoken(n) in row.question]
        name = max(longer, key=lambda n: len(words.spoken(n)))
        assert (row.answer == ["yes"]) == (name not in one | two)
    assert len(kept) and len(absent)


def test_pairs_are_of_one_patient_or_two(written, frame):
    patient = dict(zip(written.table["ecg_id"], written.table["patient_id"]))
    for row in frame[frame["template_id"] >= 43].itertuples():
        one, two = (patient[i] for i in row.ecg_id)
        assert (one == two) == (43 <= row.template_id <= 56)


def test_noise_in_leads(written, frame):
    column = {name: name.replace(" ", "_") for name in words.NOISES}
    notes = written.table.set_index("ecg_id")[list(column.values())].fillna("")
    for row in frame[frame["template_id"].isin((31, 33))].itertuples():
        text = row.question.rstrip("?.") + " "
        lead = next(i for i, n in enumerate(LEADS) if f"lead {n} " in text)
        there = {n for n in row.attribute
                 if lead in qa_leads.named_leads(notes.loc[row.ecg_id[0], column[n]])}  # fmt: skip
        assert set(row.answer) == (there or {"none"})


# --- leads of a finding ---------------------------------------------------------------------------


def flat() -> pd.DataFrame:
    """Sizes of one ECG, all 0."""
    return pd.DataFrame({f"{s}_{lead}": [0.0] for s in qa_leads.SIZES for lead in LEADS})


def leads_of(code: str, **sizes) -> list[str]:
    """Where a listed `code` is, of one ECG whose sizes are 0 but for `sizes` (mV or ms)."""
    truth = flat().assign(**sizes)
    table = pd.DataFrame({"scp_codes": [{code: 100.0}]})
    facts = read_facts(table, truth)
    return [lead for lead, here in zip(LEADS, facts.leads[words.NAME_OF[code]][0]) if here == 1]


def test_leads_by_measurement():
    assert leads_of("STD_", st_V5=-0.1, st_V6=-0.06, st_I=-0.02) == ["V5", "V6"]
    assert leads_of("STE_", st_V2=0.15, st_V3=0.25, st_II=0.1) == ["II", "V3"]
    assert leads_of("INVT", t_V4=-0.2, t_aVR=-0.3) == ["V4"]
    assert leads_of("QWAVE", q_III=-0.4, qd_III=40, q_aVF=-0.2, qd_aVF=35) == ["aVF"]
    assert leads_of("VCLVH", s_V1=-1.5, r_V5=2.2) == list(LEADS[6:])
    tall = {f"r_{lead}": 1.5 for lead in LEADS[6:]}
    assert leads_of("LVOLT", r_II=0.3, **tall) == list(LEADS[:6])


def test_a_finding_in_no_lead_is_not_asked_and_a_lead_without_statement_neither():
    assert leads_of("STE_", st_V2=0.05) == []
    truth = flat().assign(st_V5=-0.2)
    facts = read_facts(pd.DataFrame({"scp_codes": [{"SR": 0.0}]}), truth)
    where = facts.leads[words.FORM["STD_"]][0]
    assert where[LEADS.index("V5")] == qa_leads.UNKNOWN and (where == 0).sum() == 11


@pytest.mark.parametrize(
    "code, report, leads",
    [
        ("STD_", "sinus rhythm. st segments are depressed in i, avl, v5,6.", "I aVL V5 V6"),
        ("INVT", "t waves are flat in i and inverted in v4-6.", "V4 V5 V6"),
        ("LVOLT", "low limb lead voltage.", "I II III aVR aVL aVF"),
        ("NDT", "a-v block i, unspecific t change", ""),
    ],
)
def test_leads_by_report(code, report, leads):
    table = pd.DataFrame({"scp_codes": [{code: 100.0}], "report": [report]})
    where = read_facts(table).leads[words.NAME_OF[code]][0]
    assert [lead for lead, here in zip(LEADS, where) if here == 1] == leads.split()


# --- counts ---------------------------------------------------------------------------------------


def test_counts_beside_the_published_ones(written):
    table = written.table
    cohort = SimpleNamespace(name="ptbxl", simulated=True, table=table, truth=written.truth)
    questions = ecgqa.read_questions(written.root.parents[1], cohort, source=ecgqa.SIMULATED)
    counts = qa_counts.qa_counts(questions)
    assert list(counts["answer"]) == [*questions.classes, "none"] and len(counts) == 104
    said = questions.table["answer"].explode().value_counts()
    assert counts.set_index("answer")["questions"].equals(
        said.reindex(counts["answer"], fill_value=0).rename("questions").rename_axis("answer")
    )
    assert counts.set_index("answer")["published"].loc["yes"] == qa_counts.PUBLISHED_ANSWERS["yes"]
    templates = qa_counts.template_counts(questions)
    assert list(templates["template_id"]) == list(range(1, 71))
    assert templates["questions"].sum() == len(questions)
    text = qa_counts.counts_text(questions)
    assert "24,348 of ECG-QA 1.0.2's 414,348" in text and "supraventricular extrasystoles" in text
