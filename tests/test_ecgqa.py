"""Reading ECG-QA: the published files, broken ones, and questions without an ECG."""

import json
import shutil
import zipfile
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ecgkit.data import ecgqa, qa_reading
from ecgkit.types import ConfigError, DataError

ANSWERS = (
    "no",
    "not sure",
    "yes",
    "none",
    "sinus rhythm",
    "atrial fibrillation",
    "left axis deviation",
    "above the normal range",
    "below the normal range",
    "within the normal range",
)


def sample(number=0, **changes):
    return {
        "template_id": 2,
        "question_id": 5,
        "sample_id": number,
        "question_type": "single-verify",
        "attribute_type": "scp_code",
        "question": "Is it there?",
        "answer": ["yes"],
        "ecg_id": [1],
        "attribute": ["sinus rhythm"],
    } | changes


def write_shelf(folder, samples, root="download/ecgqa/ptbxl"):
    """A small ECG-QA: both flavours hold `samples` as their only training file."""
    base = folder / root
    for flavour in qa_reading.FLAVOURS:
        (base / flavour / "train").mkdir(parents=True)
        text = samples if isinstance(samples, str) else json.dumps(samples)
        (base / flavour / "train" / "00000.json").write_text(text)
    rows = "".join(f"{i},{name}\n" for i, name in enumerate(ANSWERS))
    (base / "answers.csv").write_text("index,class\n" + rows)
    lists = {
        1: ["no", "not sure", "yes"],
        2: ["no", "yes"],
        10: ["sinus rhythm", "atrial fibrillation", "none"],
        40: [*ANSWERS[-3:], "none"],
    }
    rows = "".join(f'{t},"{names}"\n' for t, names in lists.items())
    (base / "answers_for_each_template.csv").write_text("template_id,classes\n" + rows)
    return folder


@pytest.fixture
def cohort():
    table = pd.DataFrame({"ecg_id": [1, 2, 3], "patient_id": [10, 10, 30], "fold": [1, 9, 10]})
    return SimpleNamespace(name="ptbxl", simulated=False, table=table)


# --- the published files --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_cohort(shared):
    with zipfile.ZipFile(shared / "data" / "ptbxl-subset-400.zip") as archive:
        name = next(n for n in archive.namelist() if n.endswith("ptbxl_database.csv"))
        table = pd.read_csv(archive.open(name))
    table["patient_id"] = table["patient_id"].astype(int)
    return SimpleNamespace(name="ptbxl", simulated=False, table=table)


@pytest.mark.parametrize("flavour", qa_reading.FLAVOURS)
def test_published_questions_of_the_400(shared, real_cohort, flavour):
    questions = ecgqa.read_questions(shared / "data" / "ecgqa-subset.zip", real_cohort, flavour)
    assert len(questions) == 489 and questions.n_in == 24348
    assert len(questions.dropped) == 24348 - 489
    assert set(questions.dropped["reason"]) == {"ecg_not_stored"}
    counts = questions.counts()
    assert counts.loc["single-verify"].tolist() == [343, 0, 0, 343]
    assert counts.loc["comparison_irrelevant-query"].tolist() == [114, 24, 8, 146]
    assert len(questions.classes) == 103 and "none" not in questions.classes
    ids = real_cohort.table["ecg_id"].to_numpy()
    assert all(
        ids[row] == ecgs[0] for row, ecgs in zip(questions.table["row1"], questions.table["ecg_id"])
    )
    labels = questions.labels(np.arange(489))
    assert (
        (labels.sum(axis=1) == 0) == questions.table["answer"].map(lambda a: a == ["none"])
    ).all()
    assert not (labels.astype(bool) & ~questions.valid_mask(np.arange(489))).any()


def test_flavours_differ_in_the_question_only(shared, real_cohort):
    path = shared / "data" / "ecgqa-subset.zip"
    one, two = (ecgqa.read_questions(path, real_cohort, f).table for f in qa_reading.FLAVOURS)
    assert (one["question"] != two["question"]).mean() > 0.5
    # The published flavours list the same answers, not always in the same order.
    for table in (one, two):
        table["answer"] = table["answer"].map(sorted)
    pd.testing.assert_frame_equal(one.drop(columns="question"), two.drop(columns="question"))


def test_ecg_lists_of_the_published_splits(shared):
    shelf = qa_reading.open_shelf(shared / "data" / "ecgqa-subset.zip")
    sizes = {split: len(ids) for split, ids in qa_reading.read_ecg_ids(shelf).items()}
    assert sizes == {"train": 11566, "valid": 1274, "test": 3214}


def test_mimic_variant_is_found_by_name(shared):
    shelf = qa_reading.open_shelf(shared / "data" / "ecgqa-subset.zip", "mimic-iv-ecg")
    assert shelf.root.endswith("mimic-iv-ecg/") and len(shelf.answers) == 188


# --- labels and masks -----------------------------------------------------------------------------


def test_describe_says_what_a_batch_is(tmp_path, cohort):
    questions = ecgqa.read_questions(write_shelf(tmp_path, [sample(0), sample(1)]), cohort)
    text = questions.describe()
    assert "2 questions (train 2, valid 0, test 0)" in text and "(B, 9) float32" in text


def test_only_keeps_labels_with_their_questions(tmp_path, cohort):
    samples = [sample(i, answer=[("yes", "no")[i % 2]]) for i in range(4)]
    questions = ecgqa.read_questions(write_shelf(tmp_path, samples), cohort)
    part = questions.only(questions.table["answer"].map(lambda a: a == ["no"]).to_numpy())
    assert part.table["sample_id"].tolist() == [1, 3]
    assert (part.labels([0, 1])[:, part.classes.index("no")] == 1).all()


def test_labels_masks_and_type_ids(tmp_path, cohort):
    numeric = ["above the normal range of qt interval", "within the normal range of qt interval"]
    samples = [
        sample(0),
        sample(
            1,
            template_id=10,
            question_type="single-choose",
            answer=["none"],
            attribute=["sinus rhythm", "atrial fibrillation"],
        ),
        sample(
            2,
            template_id=40,
            question_type="single-choose",
            attribute_type="numeric_feature",
            answer=["above the normal range"],
            attribute=numeric,
        ),
        sample(3, question_type="comparison_irrelevant-verify", ecg_id=[1, 3], attribute=None),
        sample(
            4,
            template_id=10,
            question_type="single-query",
            answer=["sinus rhythm", "atrial fibrillation"],
        ),
    ]
    questions = ecgqa.read_questions(write_shelf(tmp_path, samples), cohort)
    where = np.arange(len(samples))
    named = [[questions.classes[k] for k in np.flatnonzero(row)] for row in questions.labels(where)]
    assert named == [
        ["yes"],
        [],
        ["above the normal range"],
        ["yes"],
        ["sinus rhythm", "atrial fibrillation"],
    ]
    masks = [
        {questions.classes[k] for k in np.flatnonzero(row)} for row in questions.valid_mask(where)
    ]
    assert masks[0] == masks[3] == {"no", "yes"}
    assert masks[1] == masks[4] == {"sinus rhythm", "atrial fibrillation"}
    assert masks[2] == {"above the normal range", "within the normal range"}
    assert questions.table["type1"].tolist() == [0, 0, 0, 2, 0]
    assert questions.table["type2"].tolist() == [0, 1, 1, 6, 2]
    assert questions.table["type3"].tolist() == [0, 6, 11, 36, 12]
    assert questions.table["row2"].tolist() == [-1, -1, -1, 2, -1]
    assert questions.table["patient2"].tolist() == [-1, -1, -1, 30, -1]
    assert questions.index("train", single_only=True).tolist() == [0, 1, 2, 4]
    assert questions.index("train", "single-choose").tolist() == [1, 2]
    assert len(questions.index("test")) == 0


def test_folder_and_zip_read_the_same(tmp_path, cohort):
    folder = write_shelf(tmp_path / "a", [sample(i) for i in range(3)], root="ptbxl")
    archive = shutil.make_archive(str(tmp_path / "b"), "zip", folder)
    one, two = (ecgqa.read_questions(path, cohort).table for path in (folder, archive))
    pd.testing.assert_frame_equal(one, two)


def test_accents_and_blanks_in_paths_do_no_harm(tmp_path, cohort):
    plain = write_shelf(tmp_path / "plain", [sample(0)])
    odd = write_shelf(tmp_path / "données d'été ♥", [sample(0)], root="un dossier/ptbxl")
    one, two = (ecgqa.read_questions(path, cohort).table for path in (plain, odd))
    pd.testing.assert_frame_equal(one, two)


# --- what is dropped, what is refused -------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"answer": "yes"}, "ill_typed"),
        ({"ecg_id": [1, 2]}, "ill_typed"),
        ({"question_type": "comparison_irrelevant-verify"}, "ill_typed"),
        ({"question": "  "}, "ill_typed"),
        ({"sample_id": "7"}, "ill_typed"),
        ({"sample_id": True}, "ill_typed"),
        ({"question_id": 2**70}, "ill_typed"),
        ({"ecg_id": [2**70]}, "ill_typed"),
        ({"ecg_id": []}, "ill_typed"),
        ({"ecg_id": [True]}, "ill_typed"),
        ({"ecg_id": ["1"]}, "ill_typed"),
        ({"ecg_id": [1.0]}, "ill_typed"),
        ({"question_type": ["single-verify"]}, "ill_typed"),
        ({"question": "half a \ud800 character"}, "ill_typed"),
        ({"answer": []}, "ill_typed"),
        ({"answer": [["yes"]]}, "ill_typed"),
        ({"answer": {"yes": 1}}, "ill_typed"),
        ({"attribute": "sinus rhythm"}, "ill_typed"),
        ({"attribute": [1]}, "ill_typed"),
        ({"answer": ["maybe"]}, "unknown_answer"),
        ({"answer": ["left axis deviation"]}, "answer_not_allowed"),
        ({"template_id": 77}, "unknown_template"),
        ({"question_type": "single-choose", "attribute": ["sinus rhythm", "?"]}, "unknown_option"),
        ({"ecg_id": [4]}, "ecg_not_stored"),
        ({"ecg_id": [-1]}, "ecg_not_stored"),
    ],
)
def test_one_bad_sample_is_dropped_and_listed(tmp_path, cohort, changes, reason):
    samples = [sample(0), sample(1, **changes), sample(2)]
    questions = ecgqa.read_questions(write_shelf(tmp_path, samples), cohort)
    assert len(questions) == 2 and questions.n_in == 3
    assert questions.dropped["reason"].tolist() == [reason]
    sentence = questions.dropped["sentence"].iloc[0]
    assert "sample 1" in sentence or "is not among the 3 stored" in sentence
    assert reason in questions.summary()


def refusal(tmp_path, cohort, samples) -> str:
    with pytest.raises(DataError) as error:
        ecgqa.read_questions(write_shelf(tmp_path, samples), cohort)
    return str(error.value)


# A sample without a key and a shard that is broken used to end the run. Issue 3 asks that the rest
# of the data go on: they are listed, and only a source without one usable question is refused.


def test_missing_key_names_file_sample_and_key(tmp_path, cohort):
    broken = sample(1)
    del broken["answer"]
    folder = write_shelf(tmp_path, [sample(0), broken, None, sample(2)])
    questions = ecgqa.read_questions(folder, cohort)
    assert len(questions) == 2 and questions.n_in == 4
    assert questions.dropped["reason"].tolist() == ["missing_key"] * 2
    assert questions.dropped["sample_id"].tolist() == [1, -1]
    text = questions.dropped["sentence"].iloc[0]
    assert "train/00000.json" in text and "sample 1" in text and "no key answer" in text


def test_extra_keys_do_no_harm(tmp_path, cohort):
    plain = ecgqa.read_questions(write_shelf(tmp_path / "a", [sample(0), sample(1)]), cohort)
    more = [sample(0, ecg_path=["x"], note={"a": [1]}), sample(1)]
    questions = ecgqa.read_questions(write_shelf(tmp_path / "b", more), cohort)
    pd.testing.assert_frame_equal(questions.table, plain.table)
    assert len(questions.dropped) == 0


@pytest.mark.parametrize(
    "content, reason",
    [
        ('[{"template_id": 1,', "broken_json"),
        ("[" * 100_000, "broken_json"),
        ("[" + "9" * 5000 + "]", "broken_json"),
        ('{"a": 1}', "foreign_json"),
        (b"\xff\xfe\x00", "unreadable_file"),
    ],
)
def test_one_broken_shard_is_listed_and_the_others_go_on(tmp_path, cohort, content, reason):
    folder = write_shelf(tmp_path, [sample(0), sample(1)])
    extra = folder / "download/ecgqa/ptbxl/paraphrased/train/10000.json"
    extra.write_bytes(content if isinstance(content, bytes) else content.encode())
    questions = ecgqa.read_questions(folder, cohort)
    assert len(questions) == questions.n_in == 2
    bad = questions.files[questions.files["reason"] != ""]
    assert bad["file"].tolist() == ["paraphrased/train/10000.json"]
    assert bad["reason"].tolist() == [reason] and bad["questions"].tolist() == [-1]
    assert "paraphrased/train/10000.json" in bad["sentence"].iloc[0]
    said = f"1 of 2 files not usable: paraphrased/train/10000.json ({reason})"
    assert said in questions.summary()


def test_a_source_without_one_usable_question_is_refused(tmp_path, cohort):
    assert "broken JSON" in refusal(tmp_path / "a", cohort, '[{"template_id": 1,')
    assert "no list of questions" in refusal(tmp_path / "b", cohort, {"a": 1})
    text = refusal(tmp_path / "c", cohort, [sample(0, answer=["maybe"])])
    assert "none of its 1 questions" in text and "'maybe'" in text
    assert "has no paraphrased questions" in refusal(tmp_path / "d", cohort, [])


def test_second_sample_id_of_a_split_is_dropped(tmp_path, cohort):
    folder = write_shelf(tmp_path, [sample(0), sample(1), sample(1, answer=["no"])])
    base = folder / "download/ecgqa/ptbxl/paraphrased"
    (base / "train" / "10000.json").write_text(json.dumps([sample(0), sample(2)]))
    (base / "test").mkdir()
    (base / "test" / "00000.json").write_text(json.dumps([sample(0), sample(1)]))
    questions = ecgqa.read_questions(folder, cohort)
    assert questions.table["sample_id"].tolist() == [0, 1, 2, 0, 1]
    assert questions.table["answer"].iloc[1] == ["yes"]
    assert questions.dropped["reason"].tolist() == ["duplicate_sample_id"] * 2
    assert "train/10000.json" in questions.dropped["sentence"].iloc[1]
    assert questions.files["kept"].tolist() == [2, 1, 2]
    assert questions.files["dropped"].tolist() == [1, 1, 0]


def test_empty_splits_count_zero(tmp_path, cohort):
    folder = write_shelf(tmp_path, [sample(0)])
    empty = folder / "download/ecgqa/ptbxl/paraphrased/valid"
    empty.mkdir()
    (empty / "00000.json").write_text("[]")
    questions = ecgqa.read_questions(folder, cohort)
    assert questions.counts().loc["single-verify"].tolist() == [1, 0, 0, 1]
    assert "no question in valid, test" in questions.summary()
    assert questions.files["questions"].tolist() == [1, 0]
    assert questions.shared_patients()["patients in both"].tolist() == [0, 0, 0]


def test_a_byte_order_mark_does_no_harm(tmp_path, cohort):
    folder = write_shelf(tmp_path, [sample(0)])
    for file in (folder / "download/ecgqa/ptbxl").rglob("*.*"):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert len(ecgqa.read_questions(folder, cohort)) == 1


def test_no_question_about_these_ecgs(tmp_path, cohort):
    assert "same source" in refusal(tmp_path, cohort, [sample(0, ecg_id=[99])])


def test_sources_without_ecgqa(tmp_path, cohort):
    with pytest.raises(DataError, match="no such file or folder"):
        ecgqa.read_questions(tmp_path / "nowhere", cohort)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("hello")
    archive = shutil.make_archive(str(tmp_path / "other"), "zip", tmp_path / "other")
    for path in (tmp_path / "other", archive):
        with pytest.raises(DataError, match="There is no ECG-QA"):
            ecgqa.read_questions(path, cohort)


def test_answer_tables_must_be_whole(tmp_path, cohort):
    folder = write_shelf(tmp_path, [sample(0)])
    lists = folder / "download/ecgqa/ptbxl/answers_for_each_template.csv"
    lists.write_text("template_id,classes\n2,\"['no', yes]\"\n")
    with pytest.raises(DataError, match="template 2: the list of answers is unreadable"):
        ecgqa.read_questions(folder, cohort)
    lists.write_text("template_id,classes\n2,\"__import__('os').getcwd()\"\n")
    with pytest.raises(DataError, match="unreadable"):  # parsed as a literal, never run
        ecgqa.read_questions(folder, cohort)
    lists.write_text("template_id,classes\n2\n")
    with pytest.raises(DataError, match="has no column classes"):
        ecgqa.read_questions(folder, cohort)
    lists.unlink()
    with pytest.raises(DataError, match="has no .*answers_for_each_template.csv"):
        ecgqa.read_questions(folder, cohort)
    answers = folder / "download/ecgqa/ptbxl/answers.csv"
    for line, says in (("99\n", "a line that is cut short"), ("9," + "x" * 200_000, "unreadable")):
        whole = answers.read_text()
        answers.write_text(whole + line)
        with pytest.raises(DataError, match=f"answers.csv .*{says}"):
            ecgqa.read_questions(folder, cohort)
        answers.write_text(whole)
    write_shelf(folder, [sample(0)], "download/ecgqa/mimic-iv-ecg")
    answers.unlink()  # the other variant is not taken instead
    with pytest.raises(DataError, match="has no .*ptbxl/answers.csv"):
        ecgqa.read_questions(folder, cohort)


def test_a_list_of_ecgs_that_is_none(tmp_path):
    folder = write_shelf(tmp_path, [sample(0)])
    (folder / "download/ecgqa/ptbxl/train_ecgs.tsv").write_text("0\tx\n")
    with pytest.raises(DataError, match="train_ecgs.tsv of .* is no list of ECG ids"):
        qa_reading.read_ecg_ids(qa_reading.open_shelf(folder))


def test_published_questions_about_simulated_ecgs_are_refused(tmp_path, cohort):
    cohort.simulated = True
    config = SimpleNamespace(ecgqa=str(tmp_path))
    with pytest.raises(ConfigError, match="ECGQA .* DATA"):
        ecgqa.open_questions(config, cohort)


def test_unknown_split_or_type(tmp_path, cohort):
    questions = ecgqa.read_questions(write_shelf(tmp_path, [sample(0)]), cohort)
    with pytest.raises(DataError, match="no split 'dev'"):
        questions.index("dev")
    with pytest.raises(DataError, match="single-maybe"):
        questions.index("train", "single-maybe")
