"""Generated questions: schema, balance, truth of the answers, flavours, determinism."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ecgkit.data import ecgqa, qa_facts, qa_generator, qa_leads, qa_reading, qa_vocabulary
from ecgkit.data.qa_draw import share_out
from ecgkit.data.qa_templates import TEMPLATES
from ecgkit.types import DataError


@pytest.fixture(scope="module")
def questions(tiny_config, tiny_cohort):
    return ecgqa.open_questions(tiny_config, tiny_cohort)


def cohort_of(codes, **columns):
    """A table of len(codes) ECGs in one training fold, one patient each."""
    n = len(codes)
    table = pd.DataFrame(
        {
            "ecg_id": range(1, n + 1),
            "patient_id": range(n),
            "fold": 1,
            "scp_codes": codes,
            **columns,
        }
    )
    return SimpleNamespace(
        name="ptbxl", simulated=False, table=table, truth=None, fingerprint="0" * 12
    )


# --- against the cohort ---------------------------------------------------------------------------


def test_every_type_is_there_and_nothing_is_dropped(questions, tiny_cohort):
    assert questions.source == "simulated" and len(questions.dropped) == 0
    counts = questions.counts()
    assert (counts["train"] > 0).all() and (counts.loc[["single-verify"]] > 0).all(axis=None)
    assert set(questions.table["attribute_type"]) == set(qa_reading.ATTRIBUTE_TYPES)
    assert 12 <= len(questions) / len(tiny_cohort.table) <= qa_generator.PER_ECG + 1
    assert questions.table["template_id"].between(1, 70).all()
    fold = tiny_cohort.table["fold"].to_numpy()
    for split, folds in qa_generator.FOLDS.items():
        part = questions.table[questions.table["split"] == split]
        assert np.isin(fold[part[["row1"]]], folds).all()
        second = part["row2"][part["row2"] >= 0]
        assert np.isin(fold[second], folds).all()


def test_common_attributes_are_asked_about_more_often(questions):
    asked = questions.table[
        (questions.table["template_id"] == 1) & (questions.table["split"] == "train")
    ]
    counts = asked["attribute"].str[0].value_counts()
    assert counts["sinus rhythm"] > 2 * counts.median() and counts.min() >= 1


def test_published_vocabulary(shared, questions):
    shelf = qa_reading.open_shelf(shared / "data" / "ecgqa-subset.zip")
    assert list(shelf.answers) == qa_vocabulary.answer_classes()
    assert questions.classes == [a for a in shelf.answers if a != "none"]


def test_answers_agree_with_the_table(questions, tiny_cohort):
    codes = tiny_cohort.table["scp_codes"].tolist()
    code_of = {name: code for code, name in qa_vocabulary.NAME_OF.items()}
    checked = 0
    for row in questions.table[questions.table["template_id"] == 1].itertuples():
        code = code_of.get(row.attribute[0])
        if code in (qa_vocabulary.RHYTHM | qa_vocabulary.FORM):
            assert (row.answer == ["yes"]) == (code in codes[row.row1])
            checked += 1
    for row in questions.table[questions.table["template_id"] == 7].itertuples():
        present = [name for name in row.attribute if code_of[name] in codes[row.row1]]
        assert sorted(row.answer) == (sorted(present) or ["none"])
        checked += 1
    for row in questions.table[questions.table["template_id"].isin((8, 9))].itertuples():
        counted = (0, 100) if row.template_id == 9 else (0, 15, 35, 50, 80, 100)
        listed = [c for c, p in codes[row.row1].items() if p in counted]
        names = {qa_vocabulary.DIAGNOSTIC[c] for c in listed if c in qa_vocabulary.DIAGNOSTIC}
        assert set(row.answer) == (names or {"none"})
        checked += 1
    assert checked > 50


def test_comparisons_agree_with_the_truth(questions, tiny_cohort):
    ranges = qa_facts.read_facts(tiny_cohort.table, tiny_cohort.truth).ranges
    within = qa_vocabulary.RANGES.index("within the normal range")
    still = questions.table[questions.table["template_id"] == 70]
    assert len(still)
    for row in still.itertuples():
        both = [m for m, side in ranges.items() if within not in (side[row.row1], side[row.row2])]
        assert sorted(row.answer) == (sorted(both) or ["none"])


def test_consecutive_pairs_are_one_patient(questions):
    pairs = questions.table[questions.table["question_type"].str.startswith("comparison")]
    consecutive = pairs["question_type"].str.contains("consecutive")
    assert (pairs["patient1"] == pairs["patient2"]).equals(consecutive)
    assert (pairs["row1"] != pairs["row2"]).all()


# --- files ----------------------------------------------------------------------------------------


def test_flavours_share_everything_but_the_wording(tiny_config, tiny_cohort):
    root = qa_generator.generated_folder(tiny_cohort, tiny_config.cohort_seed) / "ecgqa" / "ptbxl"
    for split in qa_reading.SPLITS:
        one, two = (
            json.loads((root / f / split / "00000.json").read_text()) for f in qa_reading.FLAVOURS
        )
        assert [s["sample_id"] for s in one] == list(range(len(one)))
        assert [s.pop("question") for s in one] != [s.pop("question") for s in two]
        assert one == two and set(one[0]) | {"question"} == set(qa_reading.KEYS)
        listed = [
            int(line.split("\t")[1])
            for line in (root / f"{split}_ecgs.tsv").read_text().splitlines()
        ]
        assert set(listed) == {ecg for s in one for ecg in s["ecg_id"]}


def test_one_question_id_per_question(questions):
    by_id = questions.table.assign(key=questions.table["attribute"].map(str)).groupby("question_id")
    assert (by_id["template_id"].nunique() == 1).all() and (by_id["key"].nunique() == 1).all()
    worded = by_id["question"].nunique()
    assert worded.max() >= 4


def test_wordings_do_not_tell_the_answer(questions):
    """Of questions about one attribute, each wording gets yes about as often as the others."""
    verify = questions.table[questions.table["question_type"] == "single-verify"]
    generic = verify["question"]
    for name in verify["attribute"].str[0].unique():
        generic = generic.str.replace(name, "{a}", regex=False)
    rates = verify["answer"].str[0].eq("yes").groupby(generic).agg(["mean", "size"])
    big = rates[rates["size"] >= 30]
    assert len(big) >= 4 and big["mean"].between(0.1, 0.6).all()


def test_same_seed_same_files(tmp_path, tiny_cohort):
    table, truth = tiny_cohort.table, tiny_cohort.truth
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        qa_generator.write_questions(tmp_path / name, table, truth, seed)
    part = "ecgqa/ptbxl/paraphrased/train/00000.json"
    a, b, c = ((tmp_path / name / part).read_text() for name in "abc")
    assert a == b and a != c


def test_templates_are_whole():
    for number, template in TEMPLATES.items():
        assert 1 <= number <= 70 and len(set(template.wordings)) >= 5
        assert template.question_type in qa_reading.QUESTION_TYPES
        slots = [sorted(s for s in ("{a}", "{b}", "{c}") if s in t) for t in template.wordings]
        assert all(s == slots[0] for s in slots), number
    assert sorted(TEMPLATES) == list(range(1, 71))
    kinds = {t.question_type for t in TEMPLATES.values()}
    assert kinds == set(qa_reading.QUESTION_TYPES)


# --- rules ----------------------------------------------------------------------------------------


def test_nothing_to_ask_is_a_sentence(tmp_path):
    with pytest.raises(DataError, match="No question can be written about these 3 ECGs"):
        qa_generator.write_questions(tmp_path, cohort_of([{}, {}, {}]).table)


def test_likelihood_rules():
    codes = [{"LVH": 100.0}, {"LVH": 15.0}, {"LVH": 0.0}, {"LVH": 80.0}, {"AFIB": 0.0}, {}]
    state = qa_facts.read_facts(cohort_of(codes).table).state
    assert state["left ventricular hypertrophy"].tolist() == [1, -1, 1, -1, 0, 0]
    assert state["hypertrophy"].tolist() == [1, -1, 1, -1, 0, 0]
    assert state["atrial fibrillation"].tolist() == [0, 0, 0, 0, 1, 0]


def test_any_finding_is_more_than_sinus_rhythm():
    codes = [
        {"NORM": 100.0, "SR": 0.0}, {"IMI": 15.0, "SR": 0.0}, {"IMI": 15.0, "LOWT": 0.0},
        {"NORM": 100.0, "SARRH": 0.0}, {"WPW": 100.0, "SR": 0.0},
    ]  # fmt: skip
    state = qa_facts.read_facts(cohort_of(codes).table).state
    assert state[qa_vocabulary.ANY_DIAGNOSIS].tolist() == [0, -1, -1, 0, 1]
    assert state[qa_vocabulary.ANY_FORM].tolist() == [0, 0, 1, 0, 0]
    assert state[qa_vocabulary.ANY_RHYTHM].tolist() == [0, 0, 0, 1, 0]
    assert state[qa_vocabulary.ANY_FINDING].tolist() == [0, -1, 1, 1, 1]


def test_group_is_sure_when_one_code_is():
    codes = [{"IMI": 15.0, "AMI": 100.0}, {"AMI": 100.0, "IMI": 15.0}, {"IMI": 35.0}]
    state = qa_facts.read_facts(cohort_of(codes).table).state
    assert state["myocardial infarction"].tolist() == [1, 1, -1]


@pytest.mark.parametrize(
    "note, leads",
    [
        (" , I-AVF,  ", [0, 1, 2, 3, 4, 5]),
        (" , alles,", list(range(12))),
        ("II-AVL,AVF", [1, 2, 3, 4, 5]),
        ("V1", [6]),
        (" , I,III-AVR,", [0, 2, 3]),
        ("I-V1", [0, 1, 2, 3, 4, 5, 6]),
        ("noch gering", []),
    ],
)
def test_leads_of_a_noise_note(note, leads):
    assert qa_leads.named_leads(note) == leads


def test_extra_beats_notes():
    notes = ["VES", "1ES", "2SVES", None, None, "3VES"]
    table = cohort_of([{}, {}, {}, {}, {"PVC": 100.0}, {"PVC": 100.0}], extra_beats=notes).table
    state = qa_facts.read_facts(table).state
    assert state["ventricular extrasystoles"].tolist() == [1, 0, 0, 0, -2, 1]
    assert state["supraventricular extrasystoles"].tolist() == [0, 0, 1, 0, -2, 0]
    assert state["extrasystoles"].tolist() == [0, 1, 0, 0, -2, 0]


def test_stage_of_infarction():
    notes = ["Stadium I", "Stadium II", "Stadium III", "unknown", None, None, None]
    codes = [{"IMI": 100.0}] * 5 + [{"IMI": 15.0}, {"NORM": 100.0}]
    stage = qa_facts.read_facts(cohort_of(codes, infarction_stadium1=notes).table).stage
    names = [qa_vocabulary.ALL_STAGES[k].split(" stage")[0] if k >= 0 else "" for k in stage]
    assert names == [
        "early",
        "middle",
        "old",
        "unknown",
        "unknown",
        "",
        "none of myocardial infarction",
    ]


def test_measurements_near_a_limit_are_not_asked():
    truth = pd.DataFrame({"pr_ms": [110, 121, 160, 201, 230, np.nan]})
    sides = qa_facts.read_facts(cohort_of([{}] * 6).table, truth).ranges
    assert list(sides) == ["pr interval"]
    assert sides["pr interval"].tolist() == [1, -1, 2, -1, 0, -1]


def test_share_out_fills_like_water():
    assert share_out([3, 10, 10], [1, 1, 1], 15).tolist() == [3, 6, 6]
    assert share_out([3, 10], [1, 1], 50).tolist() == [3, 10]
    assert share_out([100, 100], [3, 1], 40).tolist() == [30, 10]
    assert share_out([5, 5, 5], [1, 1, 1], 7).sum() == 7


def test_real_table_without_ecgqa(shared, tiny_config):
    import ast
    import zipfile

    with zipfile.ZipFile(shared / "data" / "ptbxl-subset-400.zip") as archive:
        name = next(n for n in archive.namelist() if n.endswith("ptbxl_database.csv"))
        table = pd.read_csv(archive.open(name))
    table["scp_codes"] = table["scp_codes"].map(ast.literal_eval)
    table["fold"] = table["strat_fold"]
    cohort = SimpleNamespace(
        name="ptbxl", simulated=False, table=table, truth=None, fingerprint="real"
    )
    questions = ecgqa.open_questions(tiny_config, cohort)
    assert questions.source == ecgqa.GENERATED and len(questions) > 3000
    assert "numeric_feature" not in set(questions.table["attribute_type"])
