"""Simulated cohorts in each layout: read back by wfdb, by MATLAB's reader and by the kit."""

import ast
import json
import zipfile

import numpy as np
import pandas as pd
import pytest

from ecgkit.config import KitConfig
from ecgkit.data.layout_mimic import MACHINE_COLUMNS, RECORD_COLUMNS
from ecgkit.data.layouts import LAYOUTS, write_layout
from ecgkit.data.place import open_place
from ecgkit.data.records import read_raw
from ecgkit.data.sources import machine_statements, snomed
from ecgkit.types import LEADS, ConfigError, DataError

N = 48


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("layouts")
    return {name: write_layout(base / name, name, N, seed=5) for name in LAYOUTS}


@pytest.fixture(scope="module")
def mimic(folders):
    return folders["mimic-iv-ecg"]


def headers(folder):
    return sorted(path.with_suffix("") for path in folder.rglob("*.hea"))


def truth_of(folder):
    truth = pd.read_csv(folder / "truth.csv")
    truth["scp_codes"] = truth["scp_codes"].map(ast.literal_eval)
    return truth


# --- all layouts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "ptbxl"])
def test_files_say_that_they_are_simulated(folders, layout):
    folder = folders[layout]
    assert (folder / "README.txt").read_text().startswith("SIMULATED")
    assert truth_of(folder)["simulated"].all() and len(truth_of(folder)) == N
    assert len(headers(folder)) == N
    for path in headers(folder):
        assert "SIMULATED" in path.with_suffix(".hea").read_text()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_kit_and_wfdb_read_the_same(folders, layout):
    wfdb = pytest.importorskip("wfdb")
    folder = folders[layout]
    place = open_place(folder)
    for path in headers(folder)[:6]:
        record = wfdb.rdrecord(str(path), physical=False)
        raw = read_raw(place, path.relative_to(folder).as_posix())
        assert np.array_equal(record.d_signal.T, raw.digital)
        assert record.fs == raw.fs == 500 and record.units == ["mV"] * 12
        assert np.array_equal(raw.gain, record.adc_gain)
        assert sorted(raw.leads) == sorted(LEADS)
        assert [int(c) % 65536 for c in record.calc_checksum()] == [
            c % 65536 for c in record.checksum
        ]
        assert record.init_value == raw.digital[:, 0].tolist()
        assert 0.3 < np.abs(raw.millivolts()).max() < 8


@pytest.mark.parametrize("layout", LAYOUTS)
def test_limb_leads_hold_what_their_names_say(folders, layout):
    folder = folders[layout]
    place = open_place(folder)
    for path in headers(folder)[:20]:
        raw = read_raw(place, path.relative_to(folder).as_posix())
        lead = dict(zip(raw.leads, raw.digital.astype(int)))
        assert np.array_equal(lead["I"] + lead["III"], lead["II"])
        assert np.abs(2 * lead["aVL"] - 2 * lead["I"] + lead["II"]).max() <= 1  # half a unit
        assert np.abs(2 * lead["aVF"] - 2 * lead["II"] + lead["I"]).max() <= 1
        assert np.abs(2 * lead["aVR"] + lead["I"] + lead["II"]).max() <= 1


@pytest.mark.parametrize("layout", ["ptbxl", "mimic-iv-ecg", "cpsc-2018"])
def test_same_files_whatever_the_number_of_processes(tmp_path, layout, monkeypatch):
    monkeypatch.setattr("ecgkit.data.synthetic.population.CHUNK", 16)
    one, two, other = (
        write_layout(tmp_path / f"{seed}-{jobs}", layout, 40, seed, jobs=jobs)
        for seed, jobs in ((3, 1), (3, 2), (4, 1))
    )
    paths = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert paths == sorted(path.relative_to(two) for path in two.rglob("*") if path.is_file())
    for path in paths:
        assert (one / path).read_bytes() == (two / path).read_bytes(), path
    assert (one / "truth.csv").read_bytes() != (other / "truth.csv").read_bytes()


def test_a_folder_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr("ecgkit.data.layout_mimic._machine_table", broken)
        with pytest.raises(RuntimeError):
            write_layout(tmp_path / "m", "mimic-iv-ecg", 3, seed=1)
    assert list(tmp_path.iterdir()) == []
    folder = write_layout(tmp_path / "m", "mimic-iv-ecg", 3, seed=1)
    stamp = (folder / "truth.csv").stat().st_mtime_ns
    assert write_layout(folder, "mimic-iv-ecg", 3, seed=1) == folder
    assert (folder / "truth.csv").stat().st_mtime_ns == stamp
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("do not overwrite")
    with pytest.raises(DataError, match="not empty"):
        write_layout(tmp_path / "mine", "challenge", 3, seed=1)


def test_bad_arguments_are_sentences(tmp_path):
    with pytest.raises(ConfigError, match="layout 'mimic'"):
        write_layout(tmp_path / "x", "mimic", 3, seed=1)
    with pytest.raises(ConfigError, match="at 500 Hz"):
        write_layout(tmp_path / "x", "mimic-iv-ecg", 3, seed=1, rates=(100,))
    with pytest.raises(ConfigError, match="each once"):
        write_layout(tmp_path / "x", "mimic-iv-ecg", 3, seed=1, study_ids=[1, 2, 2])
    with pytest.raises(ConfigError, match="at least 1"):
        write_layout(tmp_path / "x", "challenge", 0, seed=1)
    with pytest.raises(ConfigError, match="a seed of 0 or more"):
        write_layout(tmp_path / "x", "ptbxl", 3, seed=-1)
    assert list(tmp_path.iterdir()) == []


# --- MIMIC-IV-ECG ---------------------------------------------------------------------------------


def test_mimic_tables_have_the_published_columns(mimic):
    records = pd.read_csv(mimic / "record_list.csv")
    machine = pd.read_csv(mimic / "machine_measurements.csv")
    assert tuple(records.columns) == RECORD_COLUMNS and tuple(machine.columns) == MACHINE_COLUMNS
    assert len(machine.columns) == 33 and machine.columns[21] == "report_17"
    notes = (mimic / "waveform_note_links.csv").read_text()
    assert notes == "subject_id,study_id,waveform_path,note_id,note_seq,charttime\n"
    assert records["study_id"].tolist() == machine["study_id"].tolist()
    assert records["study_id"].tolist() == truth_of(mimic)["ecg_id"].tolist()
    for row in records.itertuples():
        assert row.path == (
            f"files/p{row.subject_id // 10000}/p{row.subject_id}/s{row.study_id}/{row.study_id}"
        )
        assert (mimic / f"{row.path}.dat").stat().st_size == 120_000
    assert records["subject_id"].nunique() < N  # some subjects have more than one
    people = pd.read_csv(mimic / "patients.csv")
    assert sorted(people["subject_id"]) == sorted(records["subject_id"].unique())
    assert set(people["gender"]) == {"F", "M"} and people["anchor_age"].between(18, 91).all()


def test_mimic_headers_look_like_the_real_ones(mimic):
    path = headers(mimic)[0].with_suffix(".hea")
    lines = path.read_text().splitlines()
    when = pd.read_csv(mimic / "record_list.csv").set_index("study_id").loc[int(path.stem)]
    stamp = pd.Timestamp(when["ecg_time"])
    assert lines[0] == f"{path.stem} 12 500 5000 {stamp:%H:%M:%S %d/%m/%Y}"
    assert [line.split()[-1] for line in lines[1:7]] == ["I", "II", "III", "aVR", "aVF", "aVL"]
    assert lines[1].startswith(f"{path.stem}.dat 16 200.0(0)/mV 16 0 ")
    assert lines[13] == f"# <subject_id>: {when['subject_id']}"


def test_mimic_measurements_are_the_truth(mimic):
    machine, truth = pd.read_csv(mimic / "machine_measurements.csv"), truth_of(mimic)
    no_p = truth["pr_ms"].isna()
    assert 0 < no_p.sum() < N
    assert (machine.loc[no_p, ["p_onset", "p_end", "p_axis"]] == 29999).all(axis=None)
    p = machine[~no_p]
    assert (abs(p["qrs_onset"] - p["p_onset"] - truth["pr_ms"][~no_p]) <= 1).all()
    assert (abs(p["p_end"] - p["p_onset"] - truth["p_ms"][~no_p]) <= 1).all()
    assert (abs(machine["qrs_end"] - machine["qrs_onset"] - truth["qrs_ms"]) <= 1).all()
    assert (abs(machine["t_end"] - machine["qrs_onset"] - truth["qt_ms"]) <= 1).all()
    assert (abs(machine["rr_interval"] - truth["rr_ms"]) <= 0.5).all()
    assert (abs(machine["qrs_axis"] - truth["axis_deg"]) <= 0.5).all()
    sinus = truth["has_NORM"]
    assert machine.loc[sinus, "p_axis"].between(0, 90).all()
    assert machine.loc[sinus, "t_axis"].between(-30, 100).all()


def test_mimic_statements_say_the_drawn_codes(mimic):
    machine, truth = pd.read_csv(mimic / "machine_measurements.csv"), truth_of(mimic)
    lines = machine.filter(regex="^report_")
    for codes, row in zip(truth["scp_codes"], lines.itertuples(index=False)):
        assert set(codes) <= set(machine_statements.to_scp(row)), (codes, row)
    assert lines.iloc[:, 0].notna().all()
    n_lines = lines.notna().sum(axis=1)
    assert n_lines.between(2, 12).all()


def test_real_questions_can_be_joined(tmp_path, shared):
    archive = zipfile.ZipFile(shared / "data" / "ecgqa-subset.zip")
    name = next(n for n in archive.namelist() if "mimic-iv-ecg/template/test/" in n and "json" in n)
    samples = json.loads(archive.read(name))[:20]
    ids = list(dict.fromkeys(i for sample in samples for i in sample["ecg_id"]))
    folder = write_layout(tmp_path / "m", "mimic-iv-ecg", len(ids), seed=2, study_ids=ids)
    records = pd.read_csv(folder / "record_list.csv")
    assert records["study_id"].tolist() == ids


# --- challenges -----------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["challenge", "chapman-shaoxing", "cpsc-2018"])
def test_matlab_reads_the_samples(folders, layout):
    from scipy.io import loadmat

    folder = folders[layout]
    place = open_place(folder)
    for path in headers(folder)[:5]:
        val = loadmat(path.with_suffix(".mat"))["val"]
        raw = read_raw(place, path.relative_to(folder).as_posix())
        assert val.dtype == np.int16 and np.array_equal(val, raw.digital)


def test_challenge_headers_look_like_chapmans(folders, shared):
    archive = zipfile.ZipFile(shared / "data" / "chapman-subset-10.zip")
    real = archive.read("WFDB_ChapmanShaoxing/JS20001.hea").decode().splitlines()
    ours = (folders["chapman-shaoxing"] / "WFDB_ChapmanShaoxing/JS00001.hea").read_text()
    ours = ours.splitlines()
    assert ours[0] == "JS00001 12 500 5000" and len(ours) == len(real) + 1
    for mine, theirs in zip(ours[1:13], real[1:13]):
        mine, theirs = mine.split(), theirs.split()
        assert mine[1:5] == theirs[1:5] and mine[7:] == theirs[7:]
    for mine, theirs in zip(ours[13:], real[13:]):
        assert mine.split(":")[0] == theirs.split(":")[0]


def test_challenge_comments_say_who_and_what(folders):
    for layout, mark in (("chapman-shaoxing", "# "), ("cpsc-2018", "#")):
        truth = truth_of(folders[layout]).set_index("ecg_id")
        assert truth["patient_id"].is_unique
        for path in headers(folders[layout]):
            lines = path.with_suffix(".hea").read_text().splitlines()[13:]
            said = dict(line.removeprefix(mark).split(": ", 1) for line in lines)
            row = truth.loc[path.name]
            assert int(said["Age"]) == row["age"] and said["Sex"] == ("Male", "Female")[row["sex"]]
            assert said["Dx"].split(",") == snomed.from_scp(row["scp_codes"])
            assert snomed.unknown(said["Dx"].split(",")) == []


def test_cpsc_records_differ_in_length(folders):
    truth = truth_of(folders["cpsc-2018"]).set_index("ecg_id")
    assert truth["seconds"].between(6, 60).all() and truth["seconds"].nunique() > 5
    place = open_place(folders["cpsc-2018"])
    for path in headers(folders["cpsc-2018"]):
        raw = read_raw(place, f"WFDB_CPSC2018/{path.name}")
        assert raw.digital.shape[1] == 500 * truth.loc[path.name, "seconds"]
    assert (abs(truth["n_beats"] - truth["seconds"] * truth["heart_rate"] / 60) < 6).all()
    assert (folders["chapman-shaoxing"] / "truth.csv").exists()


# --- end to end -----------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["mimic-iv-ecg", "chapman-shaoxing", "cpsc-2018"])
def test_a_cohort_opens_with_leads_in_order_and_codes_back(folders, layout):
    from ecgkit.data.cohort import open_cohort

    folder = folders[layout]
    cohort = open_cohort(KitConfig.from_params({"preset": "tiny", "data": str(folder)}))
    assert len(cohort.store) == N and len(cohort.store.quarantine) == 0
    signal = cohort.store.read(np.arange(N))
    assert np.allclose(signal[:, 4], signal[:, 0] - signal[:, 1] / 2, atol=0.03)  # aVL
    assert np.allclose(signal[:, 5], signal[:, 1] - signal[:, 0] / 2, atol=0.03)  # aVF
    truth = truth_of(folder).set_index("ecg_id")
    table = cohort.table.set_index("ecg_id")
    wanted = truth.loc[table.index, "scp_codes"]
    pairs = [(code in table.at[i, "scp_codes"]) for i, codes in wanted.items() for code in codes]
    print(f"{layout}: {np.mean(pairs):.1%} of {len(pairs)} drawn SCP codes come back")
    # SNOMED CT as the challenges use it has no places of infarcts and one abnormal T for all.
    assert np.mean(pairs) > (0.99 if layout == "mimic-iv-ecg" else 0.6)
    assert table.groupby("patient_id")["fold"].nunique().max() == 1
    truth_age = truth.loc[table.index, "age"].clip(upper=89)
    assert (abs(table["age"].clip(upper=89) - truth_age) <= 1).all()
    assert (table["sex"] == truth.loc[table.index, "sex"]).all()
