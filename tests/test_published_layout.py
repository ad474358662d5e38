"""Export to the published training code's files, and back: shapes, values, accounting."""

import zipfile
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import wfdb
from scipy.io import loadmat, savemat

from ecgkit.config import KitConfig
from ecgkit.data import grounding, published_import, published_layout
from ecgkit.data.ecgqa import open_questions, read_questions
from ecgkit.data.mat_files import read_mat
from ecgkit.data.place import Folder
from ecgkit.data.qa_reading import SPLITS
from ecgkit.types import LEADS, DataError


@pytest.fixture(scope="module")
def questions(tiny_cohort):
    config = KitConfig.from_params({"preset": "tiny", "flavour": "template"})
    whole = open_questions(config, tiny_cohort, quiet=True)
    return Some(whole, every=4)


class Some:
    """Every n-th question of a set, through its public API only, so that the tests stay fast."""

    def __init__(self, whole, every):
        self.whole, self.at = whole, np.arange(0, len(whole), every)
        self.table = whole.table.iloc[self.at].reset_index(drop=True)
        self.classes, self.valid, self.flavour = whole.classes, whole.valid, whole.flavour

    def __len__(self):
        return len(self.at)

    def index(self, split):
        return np.flatnonzero(self.table["split"].to_numpy() == split)

    def labels(self, index):
        return self.whole.labels(self.at[index])

    def valid_mask(self, index):
        return self.whole.valid_mask(self.at[index])


@pytest.fixture(scope="module")
def exported(questions, tiny_cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published ä") / "qa"  # a path with a space and an umlaut
    return published_layout.export_questions(questions, tiny_cohort, folder)


def manifest(folder, split):
    root, *lines = (folder / f"{split}.tsv").read_text(encoding="utf-8").splitlines()
    return root, [line.split("\t") for line in lines]


# --- questions ------------------------------------------------------------------------------------


def test_fields_and_shapes_of_a_file(questions, exported):
    """As `scipy.io.loadmat` gives them to the published data set class (ecgqa.md 2.1)."""
    k = len(questions.classes)
    seen = set()
    for i, line in enumerate(questions.table[questions.table["split"] == "train"].itertuples()):
        if line.question_type in seen:
            continue
        seen.add(line.question_type)
        path = exported.folder / "train" / f"{i}.mat"
        raw = path.read_bytes()
        assert raw.startswith(b"MATLAB 5.0") and raw[128] == 14  # a plain matrix, not compressed
        found = {name: v for name, v in loadmat(path).items() if not name.startswith("__")}
        n_ecgs = 1 if line.question_type.startswith("single") else 2
        assert found["ecg_path"].shape == (n_ecgs,) and found["ecg_path"].dtype.kind == "U"
        assert found["question"].shape == (1,) and found["question"][0] == line.question
        assert found["answer"].shape == (1, k) and found["answer"].dtype == np.int64
        assert found["valid_classes"].shape[0] == 1 and found["valid_classes"].dtype == np.int64
        for name in ("question_type1", "question_type2", "question_type3", "attribute_id"):
            assert found[name].shape == (1, 1) and found[name].dtype.kind == "i"
        assert len(found) == 8
    assert len(seen) == 7


def test_values_of_a_file(questions, exported, tiny_cohort):
    for split in SPLITS:
        table = questions.table[questions.table["split"] == split]
        attributes = sorted({
            name  # none where a "yes" counts uncertain findings, or a "no" leaves them out
            for line in table[table["question_type"] == "single-verify"].itertuples()
            if line.answer != ["not sure"]
            for name in grounding.ground(pd.DataFrame([line._asdict()])).classes
        } | {grounding_name(a[0]) for a in table["attribute"][
            table["question_type"] == "single-verify"]})  # fmt: skip
        for i, line in enumerate(table.itertuples()):
            if i % 7:
                continue
            found = loadmat(exported.folder / split / f"{i}.mat")
            names = [questions.classes[j] for j in np.flatnonzero(found["answer"][0])]
            assert sorted(names) == sorted(a for a in line.answer if a != "none")
            judged = [questions.classes[j] for j in found["valid_classes"][0]]
            if line.question_type == "single-choose":
                options = {a.split(" of ")[0] if "normal range" in a else a for a in line.attribute}
                assert judged == sorted(options, key=questions.classes.index)
            else:
                assert judged == [a for a in questions.valid[line.template_id] if a != "none"]
            types = [found[f"question_type{n}"][0, 0] for n in (1, 2, 3)]
            assert types == [line.type1, line.type2, line.type3]
            number = found["attribute_id"][0, 0]
            if line.question_type != "single-verify" or line.answer == ["not sure"]:
                assert number == -1
            else:
                assert attributes[number] == grounding_name(line.attribute[0])
            stems = [path.rstrip().rsplit("/", 1)[1] for path in found["ecg_path"]]
            assert [int(s.removesuffix("_lr")) for s in stems] == line.ecg_id


def grounding_name(attribute):
    """The attribute without the place of an infarction, injury or ischemia."""
    for start in ("myocardial infarction", "subendocardial injury", "ischemic"):
        if attribute.startswith(f"{start} in "):
            return start
    return attribute


def test_manifest(questions, exported, tiny_cohort):
    for split in SPLITS:
        root, lines = manifest(exported.folder, split)
        table = questions.table[questions.table["split"] == split]
        assert root == str(exported.folder / split) and len(lines) == len(table)
        assert [line[0] for line in lines] == [f"{i}.mat" for i in range(len(table))]
        for fields, line in zip(lines[::9], table.iloc[::9].itertuples()):
            n_ecgs = len(line.ecg_id)
            assert [int(n) for n in fields[1:]] == [1000] * n_ecgs + [
                len(line.question.split()) + 2
            ]
    assert exported.n_in == exported.n_written == len(questions)
    assert (exported.files["bytes"] / exported.files["files"]).between(1200, 2500).all()
    assert (exported.files["disk_bytes"] == 4096 * exported.files["files"]).all()
    assert f"{len(questions)} of {len(questions)} written" in exported.summary()


def test_published_way_writes_the_same(questions, exported, tiny_cohort, tmp_path):
    few = Some(questions.whole, every=60)
    one, two = (
        published_layout.export_questions(
            few, tiny_cohort, tmp_path / str(way), per_question_wfdb=way
        )
        for way in (False, True)
    )
    assert one.n_written == two.n_written == len(few)
    for split in SPLITS:
        assert manifest(one.folder, split)[1] == manifest(two.folder, split)[1]
        for path in sorted((one.folder / split).iterdir()):
            other = two.folder / split / path.name
            assert (
                path.read_bytes()[128:] == other.read_bytes()[128:]
            )  # before: the time of writing


def test_tokenizer_and_attributes_given(questions, tiny_cohort, tmp_path):
    few = Some(questions.whole, every=40)
    found = grounding.read_grounding(few)
    export = published_layout.export_questions(
        few, tiny_cohort, tmp_path / "a", count_tokens=len, attributes=found.classes
    )
    back = published_import.import_questions(export.folder)
    assert back.table["n_tokens"].tolist() == back.table["question"].map(len).tolist()
    verify = back.table[back.table["attribute_id"] >= 0]
    assert set(verify["question_type"]) == {"single-verify"}
    # One list for all splits: the same attribute has the same id wherever it is asked about.
    named = few.table[few.table["question_type"] == "single-verify"]
    for line in verify.itertuples():
        attribute = named[named["question"] == line.question]["attribute"].iloc[0][0]
        assert found.classes[line.attribute_id] == grounding_name(attribute)


def test_round_trip(questions, exported):
    back = published_import.import_questions(exported.folder)
    assert back.n_in == back.n_read == len(questions) and back.left_out.empty
    assert back.classes == questions.classes
    order = np.concatenate([questions.index(split) for split in SPLITS])
    table = questions.table.iloc[order].reset_index(drop=True)
    same = ["split", "question_type", "attribute_type", "question", "ecg_id",
            "type1", "type2", "type3"]  # fmt: skip
    pd.testing.assert_frame_equal(back.table[same], table[same], check_dtype=False)
    assert back.table["answer"].map(sorted).tolist() == table["answer"].map(sorted).tolist()
    judged = questions.valid_mask(order)
    for names, mask in zip(back.table["valid"], judged):
        assert set(names) == {back.classes[k] for k in np.flatnonzero(mask)}


def test_real_questions_round_trip(shared, tmp_path):
    """The 489 published questions about the 400 stored recordings; lengths as in their headers."""
    with zipfile.ZipFile(shared / "data" / "ptbxl-subset-400.zip") as archive:
        name = next(n for n in archive.namelist() if n.endswith("ptbxl_database.csv"))
        table = pd.read_csv(archive.open(name))
    table["source_name"] = table["filename_hr"].str.removesuffix(".hea")
    index = pd.DataFrame({"n_source": 5000, "n_missing": 0}, index=range(len(table)))
    cohort = SimpleNamespace(
        name="ptbxl", simulated=False, table=table, base=SimpleNamespace(index=index),
        place=SimpleNamespace(label="ptbxl-subset-400.zip"),
    )  # fmt: skip
    questions = read_questions(shared / "data" / "ecgqa-subset.zip", cohort)
    with pytest.raises(DataError, match="unpack it and give that folder as root"):
        published_layout.export_questions(questions, cohort, tmp_path / "no")
    root = tmp_path / "data"
    with pytest.raises(DataError, match=r"no records500/00000/\d+_hr\.hea in .*data; give"):
        published_layout.export_questions(questions, cohort, tmp_path / "no", root=root)
    (root / table["source_name"][0]).parent.mkdir(parents=True)
    (root / f"{table['source_name'][0]}.hea").touch()
    export = published_layout.export_questions(questions, cohort, tmp_path / "yes", root=root)
    back = published_import.import_questions(export.folder)
    assert back.n_read == 489
    order = np.concatenate([questions.index(split) for split in SPLITS])
    assert back.table["ecg_id"].tolist() == questions.table["ecg_id"].iloc[order].tolist()
    assert back.table["ecg_path"].iloc[0][0].startswith(f"{root}/records500/00000/00")
    noisy = back.table[back.table["attribute_id"] >= 0]
    # The published numbering shifts on a subset: "static noise" is 69 of 83 in the full set.
    assert noisy[noisy["question"].str.contains("static")]["attribute_id"].unique().tolist() == [4]


# --- grounding table ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def grounded(questions):
    return grounding.read_grounding(Some(questions.whole, every=6))


def test_grounding_files(grounded, tiny_cohort, tmp_path):
    export = published_layout.export_grounding(grounded, tiny_cohort, tmp_path / "g")
    assert export.n_written == len(grounded) and export.left_out.empty
    listed = pd.read_csv(export.folder / "grounding_class.csv")
    assert listed.columns.tolist() == ["index", "class"]
    assert listed["class"].tolist() == grounded.classes
    root, lines = manifest(export.folder, "train")
    index = grounded.index("train")
    assert root == str(export.folder / "train")
    for i, (name, n_samples) in list(zip(index, lines))[::5]:
        ecg_id, leads = grounded.table.loc[i, ["ecg_id", "leads"]]
        named = "entire" if len(leads) == 12 else "_".join(str(lead) for lead in leads)
        assert name == f"{ecg_id}_{named}.mat" and n_samples == "1000"
        found = loadmat(export.folder / "train" / name)
        assert found["ecg_path"].shape == (1,)
        assert found["lead"].tolist() == [list(leads)]
        asked = np.flatnonzero(grounded.labels([i])[0] >= 0)
        assert found["target_idx"].tolist() == found["attribute_id"].tolist() == [asked.tolist()]
        assert found["label"].tolist() == [grounded.labels([i])[0][asked].tolist()]
        assert found["label"].dtype == np.int64
    back = published_import.import_grounding(export.folder)
    assert back.n_in == back.n_read == len(grounded) and back.left_out.empty
    names = ["split", "ecg_id", "leads", "attribute", "label"]
    ours = grounded.tuples()[names]
    pd.testing.assert_frame_equal(back.table[names], ours, check_dtype=False)


# --- what cannot be used --------------------------------------------------------------------------


def test_recordings_that_cannot_be_read_are_left_out(questions, tiny_cohort, tmp_path):
    """Missing samples stop the published script for good; a broken recording ends it."""
    single = questions.table[questions.table["row2"] < 0]
    gap, gone = single["row1"].unique()[:2]
    names = tiny_cohort.table["source_name"].tolist()
    for row, name in enumerate(names):
        record = wfdb.rdrecord(str(tiny_cohort.place.root / name))
        if row == gap:
            record.p_signal[5, 3] = np.nan
        write_record(record, tmp_path / "source" / name)
    (tmp_path / "source" / f"{names[gone]}.hea").unlink()
    index = tiny_cohort.store.index.copy()
    index.loc[gap, "n_missing"] = 1
    broken = SimpleNamespace(
        table=tiny_cohort.table,
        place=Folder(tmp_path / "source"),
        store=None,  # a view may lie over the recordings: what counts is the store below it
        base=SimpleNamespace(index=index),
    )
    few = Some(questions.whole, every=20)
    rows = few.table[["row1", "row2"]]
    for way, lost in ((False, {gap}), (True, {gap, gone})):
        export = published_layout.export_questions(
            few, broken, tmp_path / str(way), per_question_wfdb=way
        )
        expected = rows.isin(lost).any(axis=1).sum()
        assert expected and len(export.left_out) == expected
        assert export.n_in == len(few) == export.n_written + expected
        reasons = {"missing_samples"} | ({"unreadable"} if way else set())
        assert set(export.left_out["reason"]) <= reasons and "missing_samples" in export.summary()
        # Numbers run on without a hole.
        assert [line[0] for line in manifest(export.folder, "train")[1]] == [
            f"{i}.mat" for i in range(export.files["files"].iloc[0])
        ]


def write_record(record, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    wfdb.wrsamp(
        path.name, record.fs, record.units, list(LEADS), record.p_signal, fmt=["16"] * 12,
        adc_gain=[1000.0] * 12, baseline=[0] * 12, write_dir=str(path.parent),
    )  # fmt: skip


def test_an_earlier_export_is_not_overwritten(questions, exported, tiny_cohort):
    with pytest.raises(DataError, match="train.tsv of an earlier export"):
        published_layout.export_questions(questions, tiny_cohort, exported.folder)


@pytest.fixture
def small(tmp_path):
    """A hand-written folder of six questions in the published form."""
    folder = tmp_path / "small"
    (folder / "train").mkdir(parents=True)
    for i in range(6):
        savemat(folder / "train" / f"{i}.mat", fields())
    lines = [str(folder / "train"), *(f"{i}.mat\t5000\t9" for i in range(6))]
    (folder / "train.tsv").write_text("\n".join(lines) + "\n")
    return folder


def fields(**changes):
    return {
        "ecg_path": ["/data/records500/00000/00017_hr"], "question": "Is it there?",
        "answer": np.array([0, 0, 1]), "valid_classes": [0, 2], "question_type1": 0,
        "question_type2": 0, "question_type3": 1, "attribute_id": 4,
    } | changes  # fmt: skip


def read(folder):
    return published_import.import_questions(folder, ["no", "none", "not sure", "yes"])


def test_a_hand_written_folder(small):
    found = read(small)
    assert found.n_read == 6 and found.left_out.empty
    line = found.table.iloc[3]
    assert line["answer"] == ["yes"] and line["valid"] == ["no", "yes"]
    assert (line["question_type"], line["attribute_type"]) == ("single-verify", "noise")
    assert line["ecg_id"] == [17] and line["n_samples"] == [5000] and line["n_tokens"] == 9


BROKEN = {
    "missing_file": lambda path: path.unlink(),
    "broken_file": lambda path: path.write_bytes(path.read_bytes()[:300]),
    "missing_field": lambda path: savemat(
        path, {k: v for k, v in fields().items() if k != "answer"}
    ),
    "other_answers": lambda path: savemat(path, fields(answer=np.zeros(103, int))),
    "ill_typed": lambda path: savemat(path, fields(question_type3=40)),
    "no_ecg_id": lambda path: savemat(path, fields(ecg_path=["/data/other"])),
    "bad_line": lambda path: rename(path.parent.parent / "train.tsv", "2.mat\t5000\t9", "2.mat\t?"),
}


def rename(path, old, new):
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize("reason", BROKEN)
def test_a_broken_file_is_listed(small, reason):
    BROKEN[reason](small / "train" / "2.mat")
    found = read(small)
    assert found.n_in == 6 and found.n_read == 5
    assert found.left_out[["file", "reason"]].values.tolist() == [["2.mat", reason]]
    assert "2.mat" in found.left_out["sentence"].iloc[0] or reason == "ill_typed"
    assert reason in found.summary()


@pytest.mark.parametrize("changes", [
    {"ecg_path": ["/a/1", "/a/2"]}, {"answer": ["x"]}, {"valid_classes": [7]},
    {"attribute_id": [1, 2]}, {"question_type1": "single"},
])  # fmt: skip
def test_an_ill_typed_file_is_listed(small, changes):
    savemat(small / "train" / "2.mat", fields(**changes))
    assert read(small).left_out["reason"].tolist() == ["ill_typed"]


@pytest.mark.parametrize("compressed", [False, True])
def test_any_bytes_for_a_file(small, compressed):
    """Whatever stands in a file: it is read or listed. (scipy's own reader ends the process.)"""
    rng = np.random.default_rng(0)
    savemat(small / "train" / "2.mat", fields(), do_compression=compressed)
    whole = (small / "train" / "2.mat").read_bytes()
    for _ in range(150):
        raw = np.frombuffer(whole, np.uint8).copy()
        where = rng.integers(0, len(raw), rng.integers(1, 30))
        raw[where] = rng.integers(0, 256, len(where))
        cut = len(raw) if rng.random() < 0.7 else rng.integers(0, len(raw))
        (small / "train" / "2.mat").write_bytes(raw[:cut].tobytes())
        found = read(small)
        assert found.n_in == 6 and found.n_read + len(found.left_out) == 6 and found.n_read >= 5


@pytest.mark.parametrize("compressed", [False, True])
def test_mat_reader_agrees_with_scipy(tmp_path, compressed):
    rng = np.random.default_rng(0)
    values = {
        "one": 3, "some": [1, 2, 3], "ints": rng.integers(0, 300, (4, 5)),
        "empty": np.zeros((1, 0)), "small": np.arange(3, dtype=np.int8),
        "floats": rng.normal(size=(2, 3, 4)),
        "single": np.float32([1.5, 2]), "flags": np.array([True, False]), "text": "wörter",
        "texts": ["short", "a longer one"], "none": "",
    }  # fmt: skip
    savemat(tmp_path / "a.mat", values, do_compression=compressed)
    found, theirs = read_mat((tmp_path / "a.mat").read_bytes()), loadmat(tmp_path / "a.mat")
    assert set(found) == {name for name in theirs if not name.startswith("__")}
    for name, value in found.items():
        assert value.dtype.kind == theirs[name].dtype.kind, name
        np.testing.assert_array_equal(value, theirs[name])


@pytest.mark.parametrize("value", [{"a": 1}, np.array([1, "a"], dtype=object)])
def test_mat_reader_refuses_structs_and_cells(tmp_path, value):
    savemat(tmp_path / "a.mat", {"a": value})
    with pytest.raises(ValueError):
        read_mat((tmp_path / "a.mat").read_bytes())


def test_manifest_names_stay_inside(small):
    rename(small / "train.tsv", "2.mat", "../train/2.mat")
    assert read(small).left_out["reason"].tolist() == ["bad_line"]


def test_no_manifest_and_no_answers(tmp_path, small):
    with pytest.raises(DataError, match="no train.tsv"):
        published_import.import_questions(tmp_path, ["no", "yes"])
    with pytest.raises(DataError, match="answers.csv"):
        published_import.import_questions(small)


@pytest.mark.parametrize("line", [b"\xff\xfe.mat\tx", b"2.mat\t\xc2\xb2", b"2.mat\t" + b"9" * 5000])
def test_manifest_lines_that_are_no_text_or_no_number(small, line):
    manifest = small / "train.tsv"
    n_in = len(read(small).table)
    manifest.write_bytes(manifest.read_bytes() + line + b"\n")
    found = read(small)
    assert len(found.table) == n_in and found.left_out["reason"].tolist() == ["bad_line"]
