"""Mapped questions beside a plain writing-down of the published rule (ecgqa.md 1.5)."""

import json
import zipfile
from types import SimpleNamespace

import pandas as pd
import pytest

from ecgkit.data.place import open_place
from ecgkit.data.qa_mapped import write_mapped
from ecgkit.types import DataError


@pytest.fixture(scope="module")
def ecgqa(shared):
    return shared / "data" / "ecgqa-subset.zip"


def published(archive, name: str, path_of) -> list[dict]:
    """The published rule: every sample as it is, `ecg_path` last, one path per ECG."""
    samples = json.loads(archive.read(name))
    for sample in samples:
        sample["ecg_path"] = [path_of(ecg_id) for ecg_id in sample["ecg_id"]]
    return samples


def ptbxl_path(root):
    def path_of(ecg_id):
        return f"{root}/records500/{str(int(ecg_id / 1000) * 1000).zfill(5)}/{ecg_id:05d}_hr"

    return path_of


def touch(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_the_real_subset_agrees_field_by_field(tmp_path, shared, ecgqa):
    """Of the 400 recordings: the same samples, fields and order as the published rule gives."""
    data = shared / "data" / "ptbxl-subset-400.zip"
    mapped = write_mapped(ecgqa, data, tmp_path / "out", root="/data/ptb-xl/")
    with zipfile.ZipFile(data) as archive:
        there = {name.rsplit("records500/")[-1] for name in archive.namelist()}
    n_kept = 0
    with zipfile.ZipFile(ecgqa) as archive:
        names = [n for n in archive.namelist() if "/ptbxl/" in n and n.endswith(".json")]
        for name in names:
            rule = published(archive, name, ptbxl_path("/data/ptb-xl"))
            rule = [
                sample
                for sample in rule
                if all(
                    path.split("records500/")[1] + ".dat" in there for path in sample["ecg_path"]
                )
            ]
            ours = json.loads((tmp_path / "out" / name.split("/ptbxl/")[1]).read_text())
            assert ours == rule
            assert [list(sample) for sample in ours] == [list(sample) for sample in rule]
            n_kept += len(ours)
    assert n_kept == mapped.n_mapped == 2 * 489 and mapped.n_in == 2 * 24348
    listed = pd.read_csv(tmp_path / "out" / "dropped.csv")
    assert len(listed) == 2 * (24348 - 489) and set(listed["reason"]) == {"recording_missing"}
    assert (tmp_path / "out" / "train_ecgs.tsv").read_text().count("\n") == 11566
    assert "978 of 48696" in mapped.summary()


def test_a_shard_without_missing_recordings_is_the_published_file(tmp_path, ecgqa):
    with zipfile.ZipFile(ecgqa) as archive:
        name = next(n for n in archive.namelist() if n.endswith("ptbxl/template/test/80000.json"))
        rule = published(archive, name, ptbxl_path(tmp_path / "ptb-xl"))
    data = tmp_path / "ptb-xl"
    touch(data, {f"{p[len(str(data)) + 1 :]}.dat" for sample in rule for p in sample["ecg_path"]})
    (data / "ptbxl_database.csv").touch()
    write_mapped(ecgqa, data, tmp_path / "out", "template")
    written = (tmp_path / "out" / "template" / "test" / "80000.json").read_text()
    assert written == json.dumps(rule, indent=4)
    assert not (tmp_path / "out" / "paraphrased").exists()


def test_mimic_paths_come_from_the_record_list(tmp_path, ecgqa):
    with zipfile.ZipFile(ecgqa) as archive:
        name = next(n for n in archive.namelist() if n.endswith("-ecg/template/test/270000.json"))
        studies = {ecg for sample in json.loads(archive.read(name)) for ecg in sample["ecg_id"]}
        paths = {s: f"files/p{s % 7}/p{s % 1000}/s{s}/{s}" for s in studies}
        rule = published(archive, name, lambda s: f"{tmp_path}/mimic/{paths[s]}")
    data = tmp_path / "mimic"
    touch(data, [f"{path}.dat" for path in paths.values()])
    rows = [{"subject_id": s % 1000, "study_id": s, "path": paths[s]} for s in paths]
    pd.DataFrame(rows).to_csv(data / "record_list.csv", index=False)
    mapped = write_mapped(ecgqa, data, tmp_path / "out", "template")
    written = (tmp_path / "out" / "template" / "test" / "270000.json").read_text()
    assert written == json.dumps(rule, indent=4) and mapped.n_mapped == 4364


def test_a_cohort_maps_its_stored_recordings(tmp_path, shared, ecgqa):
    place = open_place(shared / "data" / "ptbxl-subset-400.zip", "ptbxl_database.csv")
    cohort = SimpleNamespace(
        name="ptbxl", place=place, table=pd.DataFrame({"ecg_id": range(1, 201)})
    )
    mapped = write_mapped(ecgqa, cohort, tmp_path / "out", "template")
    assert 0 < mapped.n_mapped < 489 and mapped.n_in == 24348
    for file in (tmp_path / "out" / "template").rglob("*.json"):
        for sample in json.loads(file.read_text()):
            assert max(sample["ecg_id"]) <= 200
            assert "ptbxl-subset-400/" in sample["ecg_path"][0]  # as if unpacked beside the .zip


def small_source(folder, samples):
    for flavour in ("template", "paraphrased"):
        (folder / "ecgqa" / flavour / "train").mkdir(parents=True)
        (folder / "ecgqa" / flavour / "train" / "00000.json").write_text(json.dumps(samples))
    (folder / "ecgqa" / "answers.csv").write_text("index,class\n0,no\n1,yes\n2,none\n")
    lists = "template_id,classes\n2,\"['no', 'yes']\"\n"
    (folder / "ecgqa" / "answers_for_each_template.csv").write_text(lists)
    touch(folder / "data", ["ptbxl_database.csv", "records500/00000/00001_hr.dat"])
    return folder / "ecgqa", folder / "data"


SAMPLE = {
    "template_id": 2, "question_id": 1, "sample_id": 0, "question_type": "single-verify",
    "attribute_type": "noise", "question": "Noise?", "answer": ["no"], "ecg_id": [1],
    "attribute": ["burst noise"],
}  # fmt: skip


def test_what_cannot_be_mapped_is_listed(tmp_path):
    samples = [SAMPLE | {"note": "é"}, SAMPLE | {"ecg_id": "1"}, 7, SAMPLE | {"ecg_id": [2]}]
    source, data = small_source(tmp_path, samples)
    (source / "template" / "train" / "10000.json").write_text("[{")
    mapped = write_mapped(source, data, tmp_path / "out")
    one = json.loads((tmp_path / "out/template/train/00000.json").read_text())
    path = f"{data}/records500/00000/00001_hr"
    assert one == [SAMPLE | {"note": "é", "ecg_path": [path]}]  # keys beyond the schema are kept
    assert (
        mapped.dropped["reason"].tolist() == ["ill_typed", "missing_key", "recording_missing"] * 2
    )
    assert mapped.n_mapped == 2 and mapped.n_in == 8
    files = pd.read_csv(tmp_path / "out" / "files.csv")
    assert "broken_json" in set(files["reason"]) and "10000.json" in mapped.summary()


def test_refusals_are_sentences_and_leave_nothing(tmp_path):
    source, data = small_source(tmp_path, [SAMPLE | {"ecg_id": [5]}])
    with pytest.raises(DataError, match="Not one of the 2 questions .* no records500/00000/00005"):
        write_mapped(source, data, tmp_path / "out")
    assert not list(tmp_path.glob("out*"))
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="there already"):
        write_mapped(source, data, tmp_path / "out")
