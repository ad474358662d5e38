"""The user's own ECG: units, rate and leads are stated or asked for, never guessed."""

import numpy as np
import pytest
import wfdb

from ecgkit.data.own_ecg import check_record, derive_limb_leads, read_own_ecg
from ecgkit.types import LEADS, DataError, ECGRecord


@pytest.fixture
def signal():
    """(12, 2500) mV that obeys Einthoven and Goldberger."""
    rng = np.random.default_rng(0)
    one, two = rng.standard_normal((2, 2500)).cumsum(axis=1) * 0.02
    chest = rng.standard_normal((6, 2500)) * 0.3
    limbs = [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    return np.concatenate([limbs, chest]).astype(np.float32)


def save_csv(path, signal, names, sep=",", decimal=".", time=False):
    rows = [sep.join((["time"] if time else []) + list(names))] if names else []
    for i, row in enumerate(signal.T):
        cells = ([f"{i / 250:.4f}"] if time else []) + [f"{v:.6f}" for v in row]
        rows.append(sep.join(c.replace(".", decimal) for c in cells))
    path.write_text("\n".join(rows) + "\n", encoding="utf-8-sig")
    return path


def test_csv_with_names_time_and_microvolts(tmp_path, signal):
    names = [n.upper() for n in LEADS]
    path = save_csv(tmp_path / "mein ekg ü.csv", signal * 1000, names, time=True)
    record = read_own_ecg(path, fs=250, units="uV")
    assert record.leads == LEADS and record.fs == 250 and record.signal.dtype == np.float32
    assert np.abs(record.signal - signal).max() < 1e-5


def test_csv_of_another_country(tmp_path, signal):
    path = save_csv(tmp_path / "a.csv", signal, LEADS, sep=";", decimal=",")
    assert np.abs(read_own_ecg(path, fs=250, units="mV").signal - signal).max() < 1e-5


def test_csv_without_names_takes_leads(tmp_path, signal):
    path = save_csv(tmp_path / "a.csv", signal[:3], None)
    record = read_own_ecg(path, fs=250, units="mV", leads="II, V1, i", derive=False)
    assert record.leads == ("I", "II", "V1")
    assert np.allclose(record.signal, signal[[2, 0, 1]], atol=1e-5)


def test_text_split_by_blanks(tmp_path, signal):
    path = save_csv(tmp_path / "a.txt", signal, LEADS, sep=" ")
    assert np.abs(read_own_ecg(path, fs=250, units="mV").signal - signal).max() < 1e-5


@pytest.mark.parametrize("turned", [False, True])
def test_npy_either_way_round(tmp_path, signal, turned):
    np.save(tmp_path / "a.npy", signal.T if turned else signal)
    record = read_own_ecg(tmp_path / "a.npy", fs=250, units="mV", leads=LEADS)
    assert np.array_equal(record.signal, signal)


def test_volts(tmp_path, signal):
    np.save(tmp_path / "a.npy", (signal / 1000).astype(np.float64))
    record = read_own_ecg(tmp_path / "a.npy", fs=250, units="V", leads=LEADS)
    assert np.allclose(record.signal, signal, atol=1e-6)


@pytest.mark.parametrize("suffix", ["", ".hea", ".dat"])
def test_wfdb_by_any_of_its_names(tmp_path, signal, suffix):
    wfdb.wrsamp(
        "r",
        fs=250,
        units=["mV"] * 12,
        sig_name=[n.upper() for n in LEADS],
        p_signal=signal.T.astype(float),
        fmt=["16"] * 12,
        write_dir=str(tmp_path),
    )
    record = read_own_ecg(tmp_path / f"r{suffix}")
    assert record.leads == LEADS and np.abs(record.signal - signal).max() < 1e-3
    with pytest.raises(DataError, match="states rate"):
        read_own_ecg(tmp_path / "r", fs=500)


def test_limb_leads_that_follow_are_added(signal):
    record = derive_limb_leads(ECGRecord(signal[:2], 250, ("I", "II")))
    assert set(record.leads) == set(LEADS[:6]) and set(record.meta["derived"]) == set(LEADS[2:6])
    assert np.allclose(record.select(LEADS[:6]).signal, signal[:6], atol=1e-5)
    alone = derive_limb_leads(ECGRecord(signal[6:7], 250, ("V1",)))
    assert alone.leads == ("V1",) and "derived" not in alone.meta


def test_check_points_at_units_and_swapped_leads(signal):
    assert (check_record(ECGRecord(signal, 250))["remark"] == "").all()
    assert check_record(ECGRecord(signal * 1000, 250))["remark"].str.contains("units").all()
    swapped = signal[[1, 0, *range(2, 12)]]
    assert "does not follow" in check_record(ECGRecord(swapped, 250)).loc["III", "remark"]
    flat = signal.copy()
    flat[7], flat[8] = 0, np.nan
    remarks = check_record(ECGRecord(flat, 250))["remark"]
    assert remarks["V2"] == "flat" and remarks["V3"] == "no samples"


@pytest.mark.parametrize(
    "how,words",
    [
        ({}, "fs .Hz. and units"),
        ({"fs": 250}, "units"),
        ({"fs": 0, "units": "mV"}, "positive"),
        ({"fs": 250, "units": "mmHg"}, "mV, uV or V"),
        ({"fs": 250, "units": "mV"}, "does not name"),
        ({"fs": 250, "units": "mV", "leads": "I,II"}, "shape"),
        ({"fs": 250, "units": "mV", "leads": "I,foo"}, "foo"),
    ],
)
def test_what_is_not_said_is_asked_for(tmp_path, signal, how, words):
    np.save(tmp_path / "a.npy", signal)
    with pytest.raises(DataError, match=words):
        read_own_ecg(tmp_path / "a.npy", **how)


def test_files_that_are_not_ecgs(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_own_ecg(tmp_path / "absent.csv", fs=250, units="mV")
    with pytest.raises(DataError, match="no absent.hea"):
        read_own_ecg(tmp_path / "absent")
    (tmp_path / "words.csv").write_text("I,II\nhello,world\n")
    with pytest.raises(DataError, match="table of numbers"):
        read_own_ecg(tmp_path / "words.csv", fs=250, units="mV")
    (tmp_path / "bad.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match="plain .npy"):
        read_own_ecg(tmp_path / "bad.npy", fs=250, units="mV")
