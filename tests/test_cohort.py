"""open_cohort: simulated and real alike; a damaged input is one sentence or one quarantine row."""

import shutil
import zipfile

import numpy as np
import pandas as pd
import pytest
import wfdb

from ecgkit.config import KitConfig
from ecgkit.data import cohort as cohorts
from ecgkit.data import reader_trials, splits, store, synthetic
from ecgkit.data.cohort import open_cohort
from ecgkit.data.damages import DAMAGES
from ecgkit.data.labels import code_labels, superclass_labels
from ecgkit.data.synthetic import write_cohort
from ecgkit.types import LEADS, DataError, ECGRecord


def config(data, **more):
    return KitConfig.from_params({"preset": "tiny", "data": str(data), **more})


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ptbxl")
    write_cohort(folder, n_ecgs=24, seed=3, rates=(100,))
    return folder


@pytest.fixture
def folder(written, tmp_path):
    """A copy to damage, in a folder with spaces and letters beyond ASCII."""
    return shutil.copytree(written, tmp_path / "Größe 心 ecg" / "ptb xl").parent


def table_of(folder):
    return pd.read_csv(folder / "ptb xl" / "ptbxl_database.csv")


def save_table(folder, table):
    table.to_csv(folder / "ptb xl" / "ptbxl_database.csv", index=False)


# --- what a cohort promises -----------------------------------------------------------------------


def test_simulated_cohort_keeps_its_contract(tiny_cohort, tiny_config):
    cohort, n = tiny_cohort, tiny_config.cohort_size
    assert cohort.name == "synthetic" and cohort.simulated and len(cohort) == n
    assert len(tiny_cohort.store) == n == len(tiny_cohort.truth) and tiny_cohort.quarantine.empty
    assert (tiny_cohort.truth["ecg_id"] == tiny_cohort.table["ecg_id"]).all()
    assert (
        set(tiny_cohort.table["sex"]) <= {0, 1} and tiny_cohort.table["fold"].between(1, 10).all()
    )
    rows = np.concatenate([tiny_cohort.rows(s) for s in ("train", "valid", "test")])
    assert sorted(rows) == list(range(n)) and all(len(tiny_cohort.rows(s)) for s in splits.FOLDS)
    record = tiny_cohort.record(3)
    assert isinstance(record, ECGRecord) and record.leads == LEADS and record.meta["simulated"]
    assert record.ecg_id == tiny_cohort.table["ecg_id"][3]


def test_labels(tiny_cohort):
    labels, names = superclass_labels(tiny_cohort)
    assert names == ["NORM", "MI", "STTC", "CD", "HYP"] and labels.dtype == np.float32
    norm = np.array(["NORM" in codes for codes in tiny_cohort.table["scp_codes"]])
    assert np.array_equal(labels[:, 0] == 1, norm)
    counts, codes = code_labels(tiny_cohort, 5)
    assert (counts.sum(0) >= 5).all() and counts.shape == (len(tiny_cohort), len(codes))


def test_opening_again_reads_no_recording_and_is_the_same(tiny_config, tiny_cohort, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(store, "write_store", None)
        patched.setattr(synthetic, "write_cohort", None)
        again = open_cohort(tiny_config, quiet=True)
    assert again.fingerprint == tiny_cohort.fingerprint and again.store.key == tiny_cohort.store.key
    other = open_cohort(KitConfig.from_params({"preset": "tiny", "cohort_seed": 8}), quiet=True)
    assert other.fingerprint != again.fingerprint


def test_another_rate_and_length(folder, written):
    write_cohort(folder / "both", n_ecgs=20, seed=3, rates=(500,))
    at_250 = open_cohort(config(folder / "both", fs=250, seconds=4))
    assert at_250.store.read([0]).shape == (1, 12, 1000) and at_250.store.fs == 250
    fast = open_cohort(config(folder / "both", fs=500)).store.read([0])[0]
    assert np.abs(at_250.store.read([0])[0] - fast[:, 1500:3500:2]).mean() < 0.02


def test_splits_are_by_patient(tiny_cohort):
    splits.assert_no_leak(tiny_cohort.table)
    patients = np.random.default_rng(0).integers(0, 60, 500)
    folds = splits.make_folds(patients, seed=1)
    assert pd.Series(folds).groupby(patients).nunique().max() == 1
    assert np.bincount(folds)[1:].min() > 25
    leaking = tiny_cohort.table.assign(patient_id=1)
    with pytest.raises(DataError, match="more than one split"):
        splits.assert_no_leak(leaking)


# --- the real thing -------------------------------------------------------------------------------


@pytest.mark.parametrize("fs", [100, 500])
def test_all_400_real_records_equal_to_wfdb(shared, tmp_path, fs, capsys):
    path = shared / "data" / "ptbxl-subset-400.zip"
    cohort = open_cohort(config(path, fs=fs))
    assert "400 of 400 ECGs stored" in capsys.readouterr().out
    assert cohort.name == "ptbxl" and not cohort.simulated and cohort.truth is None
    column = "filename_lr" if fs == 100 else "filename_hr"
    rows = range(0, 400, 1 if fs == 100 else 8)
    with zipfile.ZipFile(path) as archive:
        root = archive.namelist()[0].split("/")[0]
        for row in rows:
            stem = cohort.table[column][row]
            for suffix in (".hea", ".dat"):
                name = tmp_path / (stem.rsplit("/", 1)[-1] + suffix)
                name.write_bytes(archive.read(f"{root}/{stem}{suffix}"))
            theirs = wfdb.rdrecord(str(name.with_suffix("")))
            assert [n.upper() for n in LEADS] == theirs.sig_name
            ours = cohort.store.read([row])[0]
            np.testing.assert_array_equal(ours, theirs.p_signal.T.astype(np.float32), err_msg=stem)
    assert np.array_equal(superclass_labels(cohort)[0].sum(0)[:1], [243])


# --- damaged inputs -------------------------------------------------------------------------------


def test_bad_records_are_quarantined_and_the_rest_goes_on(folder, capsys):
    table, root = table_of(folder), folder / "ptb xl"
    paths = [root / name for name in table["filename_lr"]]
    dat = paths[0].with_suffix(".dat")
    dat.write_bytes(dat.read_bytes()[:1000])
    paths[1].with_suffix(".hea").unlink()
    table.loc[2, "scp_codes"] = "{'NORM': "
    table.loc[3, "strat_fold"] = np.nan
    save_table(folder, table)
    cohort = open_cohort(config(folder))
    reasons = dict(zip(cohort.quarantine["ecg_id"], cohort.quarantine["reason"]))
    ids = table["ecg_id"]
    assert reasons == {
        ids[0]: "truncated",
        ids[1]: "missing_file",
        ids[2]: "bad_row",
        ids[3]: "bad_row",
    }
    assert (
        len(cohort) == 20 == len(cohort.store)
        and (cohort.truth["ecg_id"] == cohort.table["ecg_id"]).all()
    )
    assert "20 of 24 ECGs stored" in capsys.readouterr().out


def test_leads_in_another_order_and_case_give_the_same_signal(folder, written):
    before = open_cohort(config(written)).store.read([0])
    path = folder / "ptb xl" / table_of(folder)["filename_lr"][0]
    lines = path.with_suffix(".hea").read_text().splitlines()
    header, signals, rest = lines[0], lines[1:13], lines[13:]
    order = np.random.default_rng(0).permutation(12)
    shuffled = [signals[i].lower().replace(" 16 ", " 16 ").replace("/mv", "/mV") for i in order]
    path.with_suffix(".hea").write_text("\n".join([header, *shuffled, *rest]) + "\n")
    samples = np.fromfile(path.with_suffix(".dat"), "<i2").reshape(-1, 12)
    samples[:, order].tofile(path.with_suffix(".dat"))
    assert np.array_equal(open_cohort(config(folder)).store.read([0]), before)


def test_an_edited_recording_is_not_served_stale(folder):
    before = open_cohort(config(folder)).store.read([0])
    path = (folder / "ptb xl" / table_of(folder)["filename_lr"][0]).with_suffix(".dat")
    np.asarray(np.fromfile(path, "<i2") // 2, "<i2").tofile(path)
    after = open_cohort(config(folder)).store.read([0])
    assert np.abs(after - before / 2).max() < 2e-3


def test_zip_without_ptbxl_folder_without_it_and_no_path(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(DataError, match="no ptbxl_database.csv inside"):
        open_cohort(config(tmp_path / "x.zip"))
    with pytest.raises(DataError, match="x.zip"):
        open_cohort(config(tmp_path))
    with pytest.raises(DataError, match="no such file or folder"):
        open_cohort(config(tmp_path / "absent"))
    (tmp_path / "cut.zip").write_bytes((tmp_path / "x.zip").read_bytes()[:30])
    with pytest.raises(DataError, match="nor a readable .zip"):
        open_cohort(config(tmp_path / "cut.zip"))


def test_a_zip_damaged_inside_its_table_is_one_sentence(written, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("ptbxl_database.csv", "scp_statements.csv"):
            archive.write(written / name, f"ptb xl/{name}")
        start = archive.infolist()[0].header_offset + 60
    data = bytearray((tmp_path / "x.zip").read_bytes())
    for i in range(start, start + 400):
        data[i] ^= 0x5A
    (tmp_path / "x.zip").write_bytes(bytes(data))
    with pytest.raises(DataError, match="cannot be read .*; fetch it again"):
        open_cohort(config(tmp_path / "x.zip"))


def zip_of(folder, path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, f"ptb xl/{file.relative_to(folder)}")
    return path


def lock_member(path, name):
    """Marks one member as encrypted, in its own header and in the directory."""
    raw = bytearray(path.read_bytes())
    for sign, flags, at_name in ((b"PK\x03\x04", 6, 30), (b"PK\x01\x02", 8, 46)):
        at = raw.find(sign)
        while at >= 0:
            if raw[at + at_name :].startswith(name.encode()):
                raw[at + flags] |= 1
            at = raw.find(sign, at + 4)
    path.write_bytes(raw)


def test_a_locked_record_is_quarantined_a_locked_table_is_one_sentence(written, tmp_path):
    path = zip_of(written, tmp_path / "x.zip")
    stem = pd.read_csv(written / "ptbxl_database.csv")["filename_lr"][5]
    lock_member(path, f"ptb xl/{stem}.dat")
    for _ in range(2):  # built, opened
        cohort = open_cohort(config(path, seconds=5))
        assert len(cohort) == 23 and list(cohort.quarantine["reason"]) == ["damaged"]
    assert "locked with a password" in cohort.quarantine["sentence"][0]
    zip_of(written, path)  # the same checksums, and now they are right
    for _ in range(2):
        mended = open_cohort(config(path, seconds=5))
        assert len(mended) == 24 == len(mended.store) and mended.quarantine.empty
    lock_member(path, "ptb xl/ptbxl_database.csv")
    with pytest.raises(DataError, match="locked with a password: unpack it"):
        open_cohort(config(path))


def test_folder_and_zip_are_the_same_data(written, tmp_path):
    in_folder, in_zip = (
        open_cohort(config(place)) for place in (written, zip_of(written, tmp_path / "x.zip"))
    )
    assert in_folder.fingerprint == in_zip.fingerprint
    assert np.array_equal(in_folder.store.read(range(24)), in_zip.store.read(range(24)))
    assert in_folder.simulated and in_folder.name == "ptbxl"  # truth.csv lies beside the table


@pytest.mark.parametrize("spoil, says", [
    (lambda text: "", "not a readable table"),
    (lambda text: text.replace(",", ";"), "no column ecg_id"),
    (lambda text: text + text.splitlines()[1] + "\n", None),
])  # fmt: skip
def test_a_damaged_truth(written, tmp_path, spoil, says):
    shutil.copytree(written, tmp_path / "x")
    truth = tmp_path / "x" / "truth.csv"
    truth.write_text(spoil(truth.read_text()))
    if says is None:  # a line twice does no harm
        assert len(open_cohort(config(tmp_path / "x")).truth) == 24
        return
    with pytest.raises(DataError, match=f"truth.csv of x .*{says}"):
        open_cohort(config(tmp_path / "x"))


def test_where_not_all_are_looked_at_a_zip_still_tells(written, tmp_path, monkeypatch):
    monkeypatch.setattr(cohorts, "LOOKED_AT", 5)
    path = zip_of(written, tmp_path / "x.zip")
    before = open_cohort(config(path))
    members = {}
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    stem = f"ptb xl/{before.table['filename_lr'][1]}.dat"  # the second is passed over
    members[stem] = np.asarray(np.frombuffer(members[stem], "<i2") // 2, "<i2").tobytes()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    after = open_cohort(config(path))
    assert after.fingerprint == before.fingerprint and after.store.key != before.store.key
    assert np.abs(after.store.read([1]) - before.store.read([1]) / 2).max() < 2e-3


@pytest.mark.parametrize("column", ["scp_codes", "strat_fold", "filename_lr", "patient_id"])
def test_a_missing_column_is_named(folder, column):
    save_table(folder, table_of(folder).drop(columns=column))
    with pytest.raises(DataError, match=f"no column {column}"):
        open_cohort(config(folder))


def test_a_store_that_does_not_fit_is_refused_before_it_is_built(written, monkeypatch):
    usage = type("Usage", (), {"free": 24 * 24_000 - 1})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DataError, match="takes about 0.0 GB.*SAMPLE or FRACTION"):
        open_cohort(config(written, sample_seed=99, accept="flat_lead"))
    usage.free += 1
    open_cohort(config(written, sample_seed=99, accept="flat_lead"))


def test_tables_that_are_none(folder):
    table, root = table_of(folder), folder / "ptb xl"
    save_table(folder, pd.concat([table, table.iloc[:1]]))
    with pytest.raises(DataError, match="stands twice"):
        open_cohort(config(folder))
    (root / "ptbxl_database.csv").write_text("")
    with pytest.raises(DataError, match="not a readable table"):
        open_cohort(config(folder))
    save_table(folder, table)
    (root / "scp_statements.csv").unlink()
    with pytest.raises(DataError, match="has no scp_statements.csv"):
        open_cohort(config(folder))
    shutil.copy(root / "truth.csv", root / "scp_statements.csv")
    with pytest.raises(DataError, match="no column description"):
        open_cohort(config(folder))
    for name in table["filename_lr"]:
        (root / name).with_suffix(".dat").unlink()


def test_ages_above_89(folder):
    table = table_of(folder)
    table["age"] = table["age"].astype(float)
    table.loc[0, "age"], table.loc[1, "age"] = 300, np.nan
    save_table(folder, table)
    ages = open_cohort(config(folder)).table["age"]
    assert ages[0] == 90 and np.isnan(ages[1])


def test_the_trial_of_the_reader(tiny_cohort, tmp_path):
    trial = reader_trials.damage_trial(tiny_cohort, 0, tmp_path / "trial")
    harmless = ["intact", "shuffled leads", "bytes behind the end"]
    assert list(trial.index["ecg_id"]) == harmless
    assert np.array_equal(trial.read([0, 1, 2]), tiny_cohort.store.read([0, 0, 0]))
    expected = [damage.reason for damage in DAMAGES.values() if damage.reason]
    assert list(trial.quarantine["reason"]) == expected
    times = reader_trials.reading_times(tiny_cohort, range(5))
    assert (times["off_by_mV"] < 1e-6).all()
