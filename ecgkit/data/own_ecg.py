"""Your own ECG -> ECGRecord in mV with canonical lead names: a WFDB record, a CSV or an NPY file.

A WFDB header says rate, units and leads itself. CSV and NPY do not: you say them, and the kit
guesses nothing that would change a value. How a CSV is written (`own_csv`) is found out.

Usage:

    record = read_own_ecg("mine/rec_1")                                    # .hea and .dat
    record = read_own_ecg("mine.csv", fs=500, units="uV")                  # names in line 1
    record = read_own_ecg("mine.npy", fs=250, units="mV", leads="I,II,V1")
    check_record(record)                                                   # look before use
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit import runtime
from ecgkit.config import StartConfig
from ecgkit.data.own_csv import lead_of, read_table
from ecgkit.data.place import Folder
from ecgkit.data.records import RecordError, read_raw
from ecgkit.data.wfdb_header import MV_PER_UNIT
from ecgkit.types import LEADS, ConfigError, DataError, ECGRecord

PLAIN = (".csv", ".txt", ".tsv", ".npy")


def is_plain(path: str | Path) -> bool:
    """Whether a file holds bare numbers, so that rate and units have to be said."""
    return Path(path).suffix.lower() in PLAIN


def said_units(path: str | Path) -> str | None:
    """Units that a CSV's own header gives, if any."""
    path = Path(path).expanduser()
    if path.suffix.lower() not in (".csv", ".txt", ".tsv") or not path.is_file():
        return None
    return read_table(path).units


def read_own_ecg(
    path: str | Path,
    fs: float | None = None,
    leads: str | Sequence[str] | None = None,
    units: str | None = None,
    derive: bool = True,
) -> ECGRecord:
    """Reads one ECG. WFDB: the .hea, .dat, .mat or the name without either. CSV, TXT, TSV, NPY:
    `fs` in Hz and `units` (mV, uV, V) are required, and `leads` in order unless a CSV's first line
    names them.

    With `derive`, limb leads that follow from two given ones (III = II - I, ...) are added and
    named in `meta["derived"]`. Leads come in the kit's order. Raises DataError saying what to give.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() in (".xlsx", ".xls", ".ods"):
        raise DataError(f"{path.name} is a spreadsheet; save it as CSV and give that.")
    if path.suffix.lower() == ".npy":
        record = _from_array(_load_npy(path), path, fs, leads, units)
    elif path.suffix.lower() in (".csv", ".txt", ".tsv"):
        record = _from_csv(path, fs, leads, units)
    else:
        record = _from_wfdb(path, fs, leads, units)
    if derive:
        record = derive_limb_leads(record)
    return record.select(tuple(name for name in LEADS if name in record.leads))


def read_chosen(config: StartConfig) -> ECGRecord:
    """The ECG that OWN_ECG names, with OWN_FS, OWN_UNITS and OWN_LEADS. Raises DataError as
    `read_own_ecg` does, ConfigError where no file is named.
    """
    if not config.own_ecg:
        raise ConfigError("OWN_ECG names no file; give a WFDB record, a .csv or a .npy file.")
    path = runtime.find_path(config.own_ecg) or Path(config.own_ecg)
    units = config.own_units or said_units(path)
    return read_own_ecg(path, config.own_fs or None, config.own_leads or None, units)


def derive_limb_leads(record: ECGRecord) -> ECGRecord:
    """Adds III, aVR, aVL, aVF where I, II (or III) are there (Einthoven, Goldberger); names them in
    meta.
    """
    have = dict(zip(record.leads, record.signal))
    given = set(have)
    for name, a, b, sign in (("III", "II", "I", -1), ("II", "I", "III", 1), ("I", "II", "III", -1)):
        if name not in have and a in have and b in have:
            have[name] = have[a] + sign * have[b]
    if "I" in have and "II" in have:
        one, two = have["I"], have["II"]
        have.setdefault("aVR", -(one + two) / 2)
        have.setdefault("aVL", one - two / 2)
        have.setdefault("aVF", two - one / 2)
    derived = [name for name in have if name not in given]
    meta = record.meta | ({"derived": derived} if derived else {})
    signal = np.stack(list(have.values())).astype(np.float32)
    return ECGRecord(signal, record.fs, tuple(have), record.ecg_id, meta)


def check_record(record: ECGRecord) -> pd.DataFrame:
    """One line per lead: range in mV, samples missing, and a remark where units or wiring look
    wrong.

    Remarks are hints: a QRS of 0.05 to 10 mV is usual, and I + III = II, aVR = -(I + II) / 2 always
    hold in a record whose limb leads were named and scaled rightly.
    """
    lines = []
    for name, x in zip(record.leads, record.signal):
        there = x[np.isfinite(x)]
        low, high = np.percentile(there, (0.1, 99.9)) if there.size else (np.nan, np.nan)
        lines.append(
            {
                "lead": name,
                "low_mV": low,
                "high_mV": high,
                "missing": len(x) - len(there),
                "remark": _remark(high - low),
            }
        )
    table = pd.DataFrame(lines).set_index("lead")
    for name, residual in _limb_residuals(record).items():
        if residual > 0.1:
            table.loc[name, "remark"] += (
                f" does not follow from I and II (off by {residual:.2f} mV)"
            )
    table["remark"] = table["remark"].str.strip()
    return table


# --- formats --------------------------------------------------------------------------------------


def _from_wfdb(path: Path, fs, leads, units) -> ECGRecord:
    stem = path.with_suffix("") if path.suffix.lower() in (".hea", ".dat", ".mat") else path
    if not stem.with_name(f"{stem.name}.hea").is_file():
        raise DataError(
            f"There is no {stem.name}.hea in {stem.parent}; give a WFDB record, a .csv or a .npy "
            "file."
        )
    if fs is not None or leads is not None or units is not None:
        raise DataError(
            f"{stem.name}.hea states rate, leads and units itself; leave fs, leads and units out."
        )
    try:
        raw = read_raw(Folder(stem.parent), stem.name)
    except RecordError as error:
        raise DataError(f"{stem.name} cannot be used: {error}.") from error
    return raw.to_record(stem.name, {"comments": list(raw.comments)})


def _load_npy(path: Path) -> np.ndarray:
    _require_file(path)
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(
            f"{path.name} is not a plain .npy array ({error}); save it with numpy.save."
        ) from error
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.number):
        raise DataError(
            f"{path.name} holds {array.dtype} of shape {array.shape}; give numbers as (leads, "
            "samples)."
        )
    return array


def _from_csv(path: Path, fs, leads, units) -> ECGRecord:
    _require_file(path)
    found = read_table(path)
    names = leads if leads is not None else found.names
    values, scale = found.values.T, MV_PER_UNIT.get(str(units).strip().lower())
    given = leads.split(",") if isinstance(leads, str) else leads
    if found.names is None and found.rates and len(values) == len(given or LEADS) + 1:
        values = values[1:]  # a column of times
    if found.units and units is not None and scale != MV_PER_UNIT[found.units.lower()]:
        raise DataError(f"{path.name} says {found.units} itself, and units is {units!r}; give "
                        f"units {found.units}, or mend the file.")  # fmt: skip
    if fs is None and found.rates:
        raise DataError(f"Give fs, the sampling rate in Hz: the times of {path.name} look like "
                        f"{found.rates[0]:.4g} Hz (seconds) or {found.rates[1]:.4g} Hz "
                        "(milliseconds).")  # fmt: skip
    if fs is not None and found.rates and not any(abs(r / fs - 1) < 0.02 for r in found.rates):
        raise DataError(f"The times of {path.name} say {found.rates[0]:.4g} Hz (if they are "
                        f"seconds), and fs is {fs:g}; give the right one, or leave the column "
                        "of times out.")  # fmt: skip
    if found.names is None and given and len(values) != len(given) == values.shape[1]:
        values = values.T  # one lead a row, as the number of leads says
    elif found.names is None and len(values) > values.shape[1]:
        raise DataError(f"{path.name} has {len(values)} columns and {values.shape[1]} rows: one "
                        "lead a row? Give leads, or put each lead's name in front of its row.")
    record = _from_array(values, path, fs, names, units or found.units, flip=False)
    record.meta.update({"left_out": list(found.left_out)} if found.left_out else {})
    return record


def _from_array(array: np.ndarray, path: Path, fs, leads, units, flip: bool = True) -> ECGRecord:
    """(C, T), or (T, C) where `flip` allows it and only that fits the number of leads."""
    if fs is None or units is None:
        missing = " and ".join(
            n for n, v in (("fs (in Hz: --fs, OWN_FS)", fs),
                           ("units (mV, uV or V: --units, OWN_UNITS)", units)) if v is None
        )
        raise DataError(f"{path.name} does not say its {missing}; give them.")
    if not np.isfinite(fs) or fs <= 0:
        raise DataError(f"fs is {fs}; give the sampling rate in Hz, a positive number.")
    scale = MV_PER_UNIT.get(units.strip().lower())
    if scale is None:
        raise DataError(f"units is {units!r}; give mV, uV or V.")
    names = _lead_list(leads, path, len(array) if not flip else min(array.shape))
    if flip and len(array) != len(names) and array.shape[1] == len(names):
        array = array.T
    if len(array) != len(names):
        raise DataError(
            f"{path.name} has shape {array.shape}, which does not fit {len(names)} lead names "
            f"({', '.join(names)}); give one name per channel."
        )
    signs = [lead_of(name) for name in names]
    names = tuple(name for name, _ in signs)
    signal = np.asarray(array, np.float64) * scale * np.array([[sign] for _, sign in signs])
    signal[~np.isfinite(signal)] = np.nan
    if np.isnan(signal).all() or signal.shape[1] < 2:
        raise DataError(f"{path.name} holds no samples; check the file.")
    return ECGRecord(signal.astype(np.float32), float(fs), names, path.stem, {"units_given": units})


def _lead_list(leads, path: Path, n_channels: int) -> tuple[str, ...]:
    if leads is None and n_channels != 12:
        raise DataError(
            f"{path.name} has {n_channels} channels and no lead names; give leads, "
            'e.g. leads="I,II,V1".'
        )
    if leads is None:
        raise DataError(
            f"{path.name} does not name its 12 channels; give leads, e.g. "
            f'leads="{",".join(LEADS)}".'
        )
    return tuple(leads.split(",") if isinstance(leads, str) else map(str, leads))


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"{path} does not exist; give a WFDB record, a .csv or a .npy file.")


# --- plausibility ---------------------------------------------------------------------------------


def _remark(span: float) -> str:
    if not np.isfinite(span):
        return "no samples"
    if span < 1e-6:
        return "flat"
    if span > 20:
        return f"{span:.0f} mV from low to high: are the units right?"
    return (
        f"only {1000 * span:.1f} uV from low to high: are the units right?" if span < 0.02 else ""
    )


def _limb_residuals(record: ECGRecord) -> dict[str, float]:
    """Lead -> how far in mV (95th percentile) it is from what I and II imply, offsets aside."""
    have = dict(zip(record.leads, record.signal))
    if "I" not in have or "II" not in have:
        return {}
    one, two = have["I"], have["II"]
    implied = {
        "III": two - one,
        "aVR": -(one + two) / 2,
        "aVL": one - two / 2,
        "aVF": two - one / 2,
    }
    residuals = {}
    for name in [name for name in implied if name in have]:
        off = have[name] - implied[name]
        off = off[np.isfinite(off)]
        if off.size:
            residuals[name] = float(np.percentile(np.abs(off - np.median(off)), 95))
    return residuals
