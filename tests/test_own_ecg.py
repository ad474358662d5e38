"""The user's own ECG: units, rate and leads are stated or asked for, never guessed."""

import re

import numpy as np
import pandas as pd
import pytest
import wfdb

from ecgkit.config import StartConfig
from ecgkit.data.own_ecg import (
    check_record,
    derive_limb_leads,
    read_chosen,
    read_own_ecg,
    said_units,
)
from ecgkit.types import LEADS, ConfigError, DataError, ECGRecord


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
        ({}, "fs .in Hz: --fs, OWN_FS. and units .*OWN_UNITS"),
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


# --- CSVs as people have them ---------------------------------------------------------------------


def frame(signal, names=LEADS):
    return pd.DataFrame(np.round(signal.T.astype(float), 4), columns=list(names))


def local(table, thousands="", decimal=","):
    """Cells as a spreadsheet of another country writes them."""
    swap = str.maketrans({",": thousands, ".": decimal})
    lines = [";".join(table.columns)]
    lines += [";".join(f"{v:,.1f}".translate(swap) for v in row) for row in table.to_numpy()]
    return "\n".join(lines)


def timed(table, name, times):
    table.insert(0, name, times)
    return table.to_csv(index=False)


WAYS = {  # name: (text of a table in mV, or in uV where said)
    "semicolons and thousands, uV": lambda x: local(frame(x * 1000), "."),
    "thousands in quotes, uV": lambda x: frame(x * 1000).map("{:,.1f}".format).to_csv(index=False),
    "spaces": lambda x: frame(x).to_csv(index=False, sep=" "),
    "tabs and commas": lambda x: frame(x).to_csv(index=False, sep="\t", decimal=","),
    "unnamed index": lambda x: frame(x).to_csv(),
    "R's row names": lambda x: frame(x).to_csv(index_label=False),
    "time [s]": lambda x: timed(frame(x), "Time [s]", np.arange(x.shape[1]) / 250),
    "sample": lambda x: timed(frame(x), "Sample No", np.arange(x.shape[1])),
    "clock": lambda x: timed(frame(x), "timestamp", [f"0:0:{i / 250}" for i in range(x.shape[1])]),
    "Lead I": lambda x: frame(x, [f"Lead {n}" for n in LEADS]).to_csv(index=False),
    "ECG_I": lambda x: frame(x, [f"ECG_{n}" for n in LEADS]).to_csv(index=False),
    "C1": lambda x: frame(x).rename(columns=lambda n: re.sub("^V", "C", n)).to_csv(index=False),
    "AVR (uV)": lambda x: frame(x * 1000, [f"{n.upper()} (uV)" for n in LEADS]).to_csv(index=False),
    "a line of units": lambda x: frame(x * 1000).to_csv(index=False).replace(
        "\n", "\n" + ",".join(["uV"] * 12) + "\n", 1),
    "notes on top": lambda x: "Device;X1\nRate;250 Hz\n\n" + frame(x).to_csv(index=False, sep=";"),
    "comments": lambda x: "# made by hand\n" + frame(x).to_csv(index=False),
    "a comma too many": lambda x: frame(x).to_csv(index=False).replace("\n", ",\n"),
    "something beside": lambda x: frame(x).assign(RESP=0.1, annotation="N").to_csv(index=False),
    "one lead a row": lambda x: frame(x).T.to_csv(header=False),
    "one lead a row, numbered": lambda x: frame(x).T.to_csv(),
}  # fmt: skip


ENCODED = [(way, encoding) for way in ("spaces", "C1") for encoding in ("utf-8-sig", "utf-16")]


@pytest.mark.parametrize("way, encoding", [*((way, "utf-8") for way in WAYS), *ENCODED])
def test_a_csv_is_read_however_it_was_written(tmp_path, signal, way, encoding):
    x = signal[:, :400]
    path = tmp_path / "a.csv"
    path.write_text(WAYS[way](x), encoding=encoding)
    said = said_units(path)
    assert said == ("uV" if way in ("AVR (uV)", "a line of units") else None)
    record = read_own_ecg(path, fs=250, units=said or ("uV" if "uV" in way else "mV"))
    assert record.leads == LEADS and record.n_samples == 400
    assert np.abs(record.signal - x).max() < 1e-3


def test_gaps_stay_gaps_and_eight_leads_become_twelve(tmp_path, signal):
    eight = [0, 1, *range(6, 12)]
    table = frame(signal[eight, :400], [LEADS[i] for i in eight])
    table.loc[100:120, "V2"] = np.nan
    for gap in ("", "-", "N/A"):
        table.to_csv(tmp_path / "a.csv", index=False, na_rep=gap)
        record = read_own_ecg(tmp_path / "a.csv", fs=250, units="mV")
        assert record.leads == LEADS and len(record.meta["derived"]) == 4
        assert np.isnan(record.signal).sum() == 21


def test_an_inverted_lead_is_turned_back(tmp_path, signal):
    x = signal[:, :400].copy()
    x[3] *= -1
    frame(x, ["-aVR" if n == "aVR" else n for n in LEADS]).to_csv(tmp_path / "a.csv", index=False)
    record = read_own_ecg(tmp_path / "a.csv", fs=250, units="mV")
    assert np.abs(record.signal - signal[:, :400]).max() < 1e-3


@pytest.mark.parametrize("text, how, words", [
    ("I;II\n1.234;2.345\n567;890\n", {}, "1.234 could be 1234 or a decimal"),
    ("I,II\n0.1,0.2\n", {"units": "mV", "head": "I (uV),II (uV)"}, "says uV itself"),
    ("time (s),I\n0.000,1\n0.002,1\n0.004,1\n", {"fs": 250}, "say 500 Hz .* and fs is 250"),
    ("time (s),I\n0.000,1\n0.002,1\n0.004,1\n", {"fs": None}, "look like 500 Hz"),
    ("ECG\n0.1\n0.2\n", {}, "'ECG' is not one of"),
    ("1,2,3,4\n5,6,7,8\n", {}, "one lead a row"),
    ("I,II\nhello,world\n", {}, "not a table of numbers"),
    ("", {}, "not a table of numbers"),
    ("PK\x03\x04", {}, "save it as CSV"),
])  # fmt: skip
def test_what_could_mean_two_things_is_asked_about(tmp_path, text, how, words):
    text = "\n".join([how["head"], *text.split("\n")[1:]]) if "head" in how else text
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        read_own_ecg(tmp_path / "a.csv", fs=how.get("fs", 250), units="mV")


def test_the_notebook_reads_what_its_parameters_name(tmp_path, signal):
    path = tmp_path / "a.csv"
    frame(signal[:2, :400] * 1000, ["I (uV)", "II (uV)"]).to_csv(path, index=False)
    config = StartConfig.from_params({"OWN_ECG": str(path), "OWN_FS": 250.0})
    record = read_chosen(config)
    assert record.fs == 250 and np.abs(record.signal[0] - signal[0, :400]).max() < 1e-3
    with pytest.raises(ConfigError, match="names no file"):
        read_chosen(StartConfig.from_params({}))
