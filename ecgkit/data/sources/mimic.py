"""MIMIC-IV-ECG 1.0: record_list.csv and machine_measurements.csv, joined once.

The waveforms and both tables are open (ODbL). Age and sex stand in hosp/patients.csv.gz of
MIMIC-IV, which is credentialed: where it lies beside record_list.csv it is used, else both are NaN.
Its headers name aVF before aVL; leads go by name everywhere in the kit.

Usage:

    table, refused = read_table(place, rate=500)      # place rooted where record_list.csv lies
"""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit import runtime
from ecgkit.config import short_hash
from ecgkit.data import splits
from ecgkit.data.place import Folder, Zip
from ecgkit.data.scp_table import scp_statements
from ecgkit.data.sources import machine_statements, machine_wordings, tables
from ecgkit.types import DataError

RECORDS = "record_list.csv"
MACHINE = "machine_measurements.csv"
TABLES = (RECORDS, MACHINE)
SUFFIXES = (".hea", ".dat")
PATIENTS = ("patients.csv", "patients.csv.gz", "hosp/patients.csv", "hosp/patients.csv.gz")
REPORTS = tuple(f"report_{n}" for n in range(18))
MEASURED = (
    "rr_interval",
    "p_onset",
    "p_end",
    "qrs_onset",
    "qrs_end",
    "t_end",
    "p_axis",
    "qrs_axis",
    "t_axis",
)
# New code, another table in the cache.
_CODE = [Path(m.__file__) for m in (splits, tables, machine_statements, machine_wordings)]
UNMEASURED = 29999  # what the machine writes where it measured nothing


def base_rate(fs: int) -> int:
    """All of it is at 500 Hz."""
    return 500


def raw_tables(place) -> Iterator[bytes]:
    """What the fingerprint is taken of, beside the recordings; one at a time in memory."""
    for name in TABLES:
        yield tables.read_bytes(place, name)
    people = _patients(place)
    if people is not None:
        yield people[1]


def rates(offered: tuple[int, ...], base: int) -> tuple[int, ...]:
    """Rates a record may have."""
    return offered


def read_table(place, rate: int) -> tuple[pd.DataFrame, list[dict]]:
    """record_list.csv -> (usable lines, quarantine rows for the others).

    ecg_id = study_id, patient_id = subject_id, recording_date = ecg_time, `statements` = the
    machine's non-empty report lines, `report` = these joined, `scp_codes` = what they say in SCP
    (rows that say the same share one list and one dict), measurements in ms and degrees, NaN where
    the machine measured nothing. Folds are drawn by patient. Raises DataError for missing columns.
    The joined table is kept under `runtime.cache_dir()`: 800,000 lines take 6 s to read, 1 s again.
    """
    files = [hashlib.sha256(raw).hexdigest() for raw in raw_tables(place)]
    code = [path.read_text() for path in (Path(__file__), *_CODE)]
    folder = runtime.cache_dir() / f"mimic-table-{short_hash([files, code, pd.__version__])}"
    runtime.write_once(folder, lambda scratch: _keep(scratch / "table.pickle", _joined(place)))
    path = folder / "table.pickle"
    if path.stat().st_uid != os.getuid():  # in a shared cache: a stranger's could run anything
        return _joined(place)
    with runtime.reading_cached(path), open(path, "rb") as file:
        return pickle.load(file)


def _keep(path: Path, value: tuple) -> None:
    with open(path, "wb") as file:
        pickle.dump(value, file, pickle.HIGHEST_PROTOCOL)


def _joined(place) -> tuple[pd.DataFrame, list[dict]]:
    """What `read_table` gives, from the CSV files."""
    raw = tables.read_bytes(place, RECORDS)
    listed, refused = tables.read_csv(raw, RECORDS, place.label, dtype={"path": str})
    del raw  # 70 MB
    tables.require(listed, ("subject_id", "study_id", "path"), RECORDS, place.label, "MIMIC-IV-ECG")
    ids = listed[["study_id", "subject_id"]].apply(tables.whole)
    bad = ids.isna().any(axis=1) | listed["path"].isna()
    why = "its line lacks a study, a subject or a path"
    refused += tables.refuse(listed["study_id"][bad], RECORDS, why)
    twice = ids["study_id"].where(~bad).duplicated() & ~bad
    why = "another line has that study_id"
    refused += tables.refuse(listed["study_id"][twice], RECORDS, why, "duplicate_id")
    listed, ids = listed[~(bad | twice)].reset_index(drop=True), ids[~(bad | twice)]
    table = pd.DataFrame(
        {
            "ecg_id": ids["study_id"].to_numpy(np.int64),
            "patient_id": ids["subject_id"].to_numpy(np.int64),
            "recording_date": listed.get("ecg_time", pd.Series("", listed.index)).astype(str),
            "source_name": listed["path"].str.strip().str.removesuffix(".hea"),
        }
    )
    table = table.join(_people(place, table)).merge(_machine(place), on="ecg_id", how="left")
    table["fold"] = splits.make_folds(table["patient_id"].to_numpy())
    return _with_statements(table), refused


def read_statements(place) -> pd.DataFrame:
    """The kit's table of SCP statements: the source has none of its own."""
    return scp_statements()


# --- the machine's lines --------------------------------------------------------------------------


def _machine(place) -> pd.DataFrame:
    """One line per study: measurements (float32) and the 18 report columns (categories)."""
    raw = tables.read_bytes(place, MACHINE)
    wanted = {"study_id", "bandwidth", "filtering", *MEASURED, *REPORTS}
    kinds = {name: "category" for name in ("bandwidth", "filtering", *REPORTS)}
    with warnings.catch_warnings():  # words among numbers are seen to below
        warnings.simplefilter("ignore", pd.errors.DtypeWarning)
        machine, _ = tables.read_csv(
            raw, MACHINE, place.label, dtype=kinds, usecols=lambda c: c in wanted
        )
    tables.require(machine, ("study_id", REPORTS[0]), MACHINE, place.label, "MIMIC-IV-ECG")
    study = tables.whole(machine.pop("study_id"))
    for name in MEASURED:
        if name in machine:
            value = pd.to_numeric(machine[name], errors="coerce").astype(np.float32)
            machine[name] = value.where(value != UNMEASURED)
    machine.insert(0, "ecg_id", study)
    usable = study.notna() & ~study.duplicated()
    return machine[usable].astype({"ecg_id": np.int64})


def _with_statements(table: pd.DataFrame) -> pd.DataFrame:
    """Replaces the report columns by `statements`, `report` and `scp_codes`."""
    columns = [name for name in REPORTS if name in table]
    words, ids = _statement_ids(table[columns])
    # Few of the combinations are unique, so each is spelled out and mapped once.
    group, first = _groups(ids)
    statements = [[words[i] for i in row if i >= 0] for row in ids[first].tolist()]
    reports = [". ".join(said) for said in statements]
    codes = [machine_statements.to_scp(said) for said in statements]
    table = table.drop(columns=columns)
    for name, values in (("statements", statements), ("report", reports), ("scp_codes", codes)):
        shared = np.empty(len(values), object)
        shared[:] = values
        table[name] = shared[group]
    return table


def _statement_ids(reports: pd.DataFrame) -> tuple[list[str], np.ndarray]:
    """Report columns -> (distinct statements, (n, columns) int32 number of each or -1)."""
    number: dict[str, int] = {"": -1}
    ids = np.full(reports.shape, -1, np.int32)
    for k, name in enumerate(reports):
        column = reports[name].astype("category").cat
        said = [str(text).strip().rstrip(".") for text in column.categories]
        # The last entry serves the code -1 of an empty cell.
        mine = [number.setdefault(text, len(number) - 1) for text in said] + [-1]
        ids[:, k] = np.array(mine, np.int32)[column.codes]
    return [text for text in number if text], ids


def _groups(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, k) -> ((n,) group of each row, (groups,) a row of each); equal rows share a group."""
    hashed = np.zeros(len(ids), np.uint64)
    for column in ids.T:
        hashed = hashed * np.uint64(0x9E3779B97F4A7C15) + pd.util.hash_array(column)
    group, unique = pd.factorize(hashed)
    first = np.zeros(len(unique), np.int64)
    first[group[::-1]] = np.arange(len(ids))[::-1]
    return group, first


# --- people ---------------------------------------------------------------------------------------


def _people(place, table: pd.DataFrame) -> pd.DataFrame:
    """age (years at the ECG) and sex of each row of `table`, from patients.csv where it is there.

    MIMIC-IV gives the age in an anchor year; the years since then are added.
    """
    found = _patients(place)
    if found is None:
        return pd.DataFrame({"age": np.nan, "sex": np.nan}, index=table.index)
    name, raw = found
    people, _ = tables.read_csv(raw, name, place.label)
    tables.require(people, ("subject_id", "gender", "anchor_age"), name, place.label, "MIMIC-IV")
    people = people.drop_duplicates("subject_id").set_index("subject_id")
    people = people.reindex(table["patient_id"]).reset_index(drop=True)
    age = pd.to_numeric(people["anchor_age"], errors="coerce")
    if "anchor_year" in people:
        year = pd.to_numeric(table["recording_date"].str[:4], errors="coerce")
        age = age + (year - pd.to_numeric(people["anchor_year"], errors="coerce")).fillna(0)
    return pd.DataFrame({"age": tables.years(age), "sex": tables.sexes(people["gender"], "m", "f")})


def _patients(place) -> tuple[str, bytes] | None:
    """Name and text of patients.csv(.gz), beside record_list.csv or beside the .zip; None: none."""
    for where in (place, Folder(place.origin.parent)) if isinstance(place, Zip) else (place,):
        for name in PATIENTS:
            if where.exists(name):
                raw = tables.read_bytes(where, name)
                return name, _unpacked(raw, name, where) if name.endswith(".gz") else raw
    return None


def _unpacked(raw: bytes, name: str, where) -> bytes:
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name} of {where.label} is damaged ({error}); fetch it again.") from error
