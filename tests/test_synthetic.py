"""The simulated cohort: formats, physics, textbook criteria, and no leak between folds."""

import ast
import io
import zipfile

import numpy as np
import pandas as pd
import pytest

from ecgkit.data.scp_table import COLUMNS as STATEMENT_COLUMNS
from ecgkit.data.scp_table import scp_statements
from ecgkit.data.synthetic import COLUMNS, known_codes, record_name, simulate, write_cohort
from ecgkit.data.wfdb_write import to_adc, write_wfdb
from ecgkit.types import LEADS, ConfigError, DataError

N_ECGS = 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_cohort(tmp_path_factory.mktemp("cohort") / "one", N_ECGS, seed=3)


@pytest.fixture(scope="module")
def table(folder):
    table = pd.read_csv(folder / "ptbxl_database.csv")
    table["scp_codes"] = table["scp_codes"].map(ast.literal_eval)
    return table


@pytest.fixture(scope="module")
def truth(folder):
    return pd.read_csv(folder / "truth.csv")


def read_adc(folder, name, n_samples=1000):
    return np.fromfile(folder / f"{name}.dat", "<i2").reshape(n_samples, 12).T.astype(int)


# --- format ---------------------------------------------------------------------------------------


def test_wfdb_reads_back_what_was_written(tmp_path):
    wfdb = pytest.importorskip("wfdb")
    adc = np.random.default_rng(0).integers(-32767, 32767, (3, 12, 200)).astype(np.int16)
    write_wfdb(tmp_path, ["a/x1", "a/x2", "b/x3"], adc, fs=100)
    for n, name in enumerate(("a/x1", "a/x2", "b/x3")):
        record = wfdb.rdrecord(str(tmp_path / name), physical=False)
        assert np.array_equal(record.d_signal.T, adc[n])
        assert record.fs == 100 and record.adc_gain == [1000.0] * 12 and record.units == ["mV"] * 12
        assert [s.upper() for s in LEADS] == record.sig_name
        assert record.init_value == adc[n, :, 0].tolist()
        assert [int(c) % 65536 for c in record.calc_checksum()] == record.checksum


def test_write_wfdb_refuses_what_does_not_fit(tmp_path):
    with pytest.raises(DataError, match="int16"):
        write_wfdb(tmp_path, ["x"], np.zeros((1, 12, 10), np.float32), fs=100)


def test_adc_clips_and_rounds():
    assert to_adc(np.array([0.0004, 0.0006, 99.0, -99.0])).tolist() == [0, 1, 32767, -32767]


def test_header_looks_like_ptbxl(folder, shared):
    ours = (folder / f"{record_name(1, 100)}.hea").read_text().splitlines()
    archive = zipfile.ZipFile(shared / "data" / "ptbxl-subset-400.zip")
    name = next(n for n in archive.namelist() if n.endswith("00001_lr.hea"))
    real = archive.read(name).decode().splitlines()
    assert ours[0] == real[0] and len(ours) == len(real)
    for mine, theirs in zip(ours[1:], real[1:]):
        mine, theirs = mine.split(), theirs.split()
        assert mine[:5] == theirs[:5] and mine[7:] == theirs[7:]


def test_tables_have_ptbxls_columns(table, folder, shared):
    archive = zipfile.ZipFile(shared / "data" / "ptbxl-subset-400.zip")
    real = {n.rsplit("/", 1)[-1]: n for n in archive.namelist() if n.endswith(".csv")}
    database = pd.read_csv(io.BytesIO(archive.read(real["ptbxl_database.csv"])))
    assert list(table.columns) == list(database.columns) == COLUMNS
    statements = pd.read_csv(io.BytesIO(archive.read(real["scp_statements.csv"])), index_col=0)
    ours = pd.read_csv(folder / "scp_statements.csv", index_col=0)
    assert list(ours.columns) == STATEMENT_COLUMNS == list(statements.columns)
    named = STATEMENT_COLUMNS[:8]
    pd.testing.assert_frame_equal(ours[named], statements[named])


def test_every_code_is_a_known_statement(table):
    statements = scp_statements()
    used = {code for codes in table["scp_codes"] for code in codes}
    assert used <= set(statements.index) and used <= set(known_codes())
    for codes in table["scp_codes"]:
        for code, likelihood in codes.items():
            graded = statements.loc[code, "diagnostic"] == 1  # 0 = given without a likelihood
            allowed = {100, 80, 50, 35, 15, 0} if graded else {0}
            assert likelihood in allowed, (code, likelihood)


def test_everything_is_marked_simulated(table, truth):
    assert (table["device"] == "simulated").all() and truth["simulated"].all()
    assert simulate("SR", fs=100).meta["simulated"]


# --- determinism and folds ------------------------------------------------------------------------


def test_same_seed_same_files(tmp_path):
    first, second, other = (
        write_cohort(tmp_path / name, 40, seed=s) for name, s in (("a", 1), ("b", 1), ("c", 2))
    )
    for path in sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file()):
        assert (first / path).read_bytes() == (second / path).read_bytes(), path
    name = f"{record_name(1, 100)}.dat"
    assert (first / name).read_bytes() != (other / name).read_bytes()


def test_cohort_appears_whole_and_is_not_rewritten(tmp_path):
    folder = write_cohort(tmp_path / "deep" / "cohort", 5, seed=0)
    stamp = (folder / "ptbxl_database.csv").stat().st_mtime_ns
    assert write_cohort(folder, 5, seed=0) == folder
    assert (folder / "ptbxl_database.csv").stat().st_mtime_ns == stamp
    assert [p.name for p in folder.parent.iterdir()] == ["cohort"]
    (tmp_path / "empty").mkdir()
    assert (write_cohort(tmp_path / "empty", 2, seed=0) / "truth.csv").exists()


def test_bad_arguments_are_sentences(tmp_path):
    with pytest.raises(ConfigError, match="rates"):
        write_cohort(tmp_path / "x", 5, seed=0, rates=(250,))
    with pytest.raises(ConfigError, match="seed of 0 or more"):
        write_cohort(tmp_path / "x", 5, seed=-1)
    with pytest.raises(ConfigError, match="does not draw NOPE"):
        simulate(["NOPE"])


def test_patients_keep_to_one_fold(table):
    assert table.groupby("patient_id")["strat_fold"].nunique().max() == 1
    assert set(table["strat_fold"]) == set(range(1, 11))
    per_fold = table.groupby("strat_fold")["patient_id"].nunique()
    assert per_fold.max() - per_fold.min() <= 1
    assert table.groupby("patient_id")["sex"].nunique().max() == 1
    repeats = table["patient_id"].value_counts().gt(1).mean()
    assert 0.12 < repeats < 0.30


def test_ids_follow_dates_and_truth_follows_table(table, truth):
    assert table["ecg_id"].tolist() == list(range(1, N_ECGS + 1)) == truth["ecg_id"].tolist()
    assert table["recording_date"].is_monotonic_increasing
    for code in ("AFIB", "CLBBB", "NORM"):
        assert truth[f"has_{code}"].tolist() == [code in codes for codes in table["scp_codes"]]


# --- physics --------------------------------------------------------------------------------------


def test_limb_leads_obey_einthoven_and_goldberger(folder, table):
    for name in table["filename_lr"][:30]:
        one, two, three, avr, avl, avf = read_adc(folder, name)[:6]
        assert np.array_equal(one + three, two)
        assert np.abs(2 * avr + one + two).max() <= 1  # half a unit is lost in rounding
        assert np.abs(2 * avl - 2 * one + two).max() <= 1
        assert np.abs(2 * avf - 2 * two + one).max() <= 1


def test_findings_meet_their_criteria(truth, table):
    """A few, as drawn in a cohort beside other findings; where the reader is certain."""

    def rows(code):
        sure = [codes.get(code) in (0, 80, 100) for codes in table["scp_codes"]]
        return truth[sure]

    assert (rows("SBRAD")["heart_rate"] < 62).all() and (rows("STACH")["heart_rate"] > 99).all()
    # Blocked beats and premature ones at every turn make a rate that is not the sinus node's.
    plain = ~rows("SR")[[f"has_{code}" for code in ("2AVB", "3AVB", "BIGU", "TRIGU")]].any(axis=1)
    assert plain.sum() > 150 and rows("SR")["heart_rate"][plain].between(55, 105).all()
    assert rows("AFIB")["pr_ms"].isna().all() and (rows("1AVB")["pr_ms"] > 195).all()
    assert (rows("CRBBB")["qrs_ms"] >= 118).all() and (rows("CLBBB")["qrs_ms"] >= 118).all()
    assert (rows("LNGQT")["qtc_ms"] > 440).all() and (rows("LAFB")["axis_deg"] < -25).all()
    normal = rows("NORM")
    assert (normal["qrs_ms"] < 122).mean() > 0.97 and (normal["pr_ms"] < 205).mean() > 0.97
    assert (rows("PVC")["n_pvc"] > 0).mean() > 0.95


@pytest.mark.parametrize(
    "code, low, high", [("SBRAD", 38, 60), ("STACH", 98, 150), ("SR", 58, 100)]
)
def test_rate_can_be_read_off_the_signal(code, low, high):
    record = simulate(code, fs=500, seed=4)
    energy = np.convolve((np.diff(record.signal, axis=1) ** 2).sum(axis=0), np.ones(50), "same")
    beats = np.flatnonzero((energy[1:] > energy.max() / 3) & (energy[:-1] <= energy.max() / 3))
    rate = 60 * 500 / np.diff(beats).mean()
    assert low < rate < high and rate == pytest.approx(record.meta["truth"]["heart_rate"], rel=0.06)


def test_infarction_leaves_q_waves_and_hypertrophy_voltage():
    plain, inferior = (simulate(c, fs=500, seed=5).signal for c in ("SR", "IMI"))
    assert inferior[5].min() < plain[5].min() - 0.1  # aVF
    large = simulate("LVH", fs=500, seed=5).signal
    sokolow = -large[6].min() + max(large[10].max(), large[11].max())
    assert sokolow > 3.5
    low = simulate("LVOLT", fs=500, seed=5).signal
    assert np.ptp(low[:6], axis=1).max() < 0.75


@pytest.mark.parametrize("code", known_codes())
def test_each_code_can_be_simulated(code):
    record = simulate([code], fs=100, seed=2)
    assert np.isfinite(record.signal).all()
    assert 0.3 < np.abs(record.signal).max() < 8


def test_heart_rate_can_be_set():
    assert simulate("AFIB", heart_rate=130, seed=1).meta["truth"]["heart_rate"] > 105
    record = simulate(["CRBBB"], fs=250, seconds=4, heart_rate=50, seed=1)
    assert record.signal.shape == (12, 1000) and record.signal.dtype == np.float32


def test_both_rates_show_the_same_recording(tmp_path):
    folder = write_cohort(tmp_path / "both", 12, seed=0, rates=(100, 500))
    table = pd.read_csv(folder / "ptbxl_database.csv")
    clean = table[["static_noise", "burst_noise", "pacemaker"]].isna().all(axis=1)
    assert clean.sum() >= 4
    for i in table["ecg_id"][clean]:  # hum and spikes are not in the 100 Hz file
        low = read_adc(folder, record_name(i, 100))
        high = read_adc(folder, record_name(i, 500), 5000)[:, ::5]
        for a, b in zip(low, high):
            assert np.corrcoef(a, b)[0, 1] > 0.95
        assert np.array_equal(low[0] + low[2], low[1])
