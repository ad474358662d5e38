"""Heart failure after an ECG of MIMIC-IV-ECG, from the hospital tables of MIMIC-IV.

Time zero is the ECG. The event is the admission of the first stay with heart failure coded (ICD-9
428*, ICD-10 I50*, any position). Whoever had such a stay before, during or within a day of the ECG
is prevalent and left out: codes are given at discharge, and the ECG's clock is not the hospital's.
Death without heart failure competes (`deathtime`, else `dod`). Everybody else is censored a year
after the last contact (discharge or ECG), since `dod` is known for a year after discharge only.

Usage:

    sieve = read_mimic("mimic-iv-3.1", cohort)        # a folder or .zip with hosp/
"""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit.data.outcomes_csv import Sieve, as_ids, dates, numbers, order_of
from ecgkit.data.place import open_place
from ecgkit.data.sources import tables
from ecgkit.types import DataError

HF_CODES = {9: "428", 10: "I50"}  # ICD version -> how its codes of heart failure begin
SAME_STAY = pd.Timedelta(days=1)
LAST_CONTACT = pd.Timedelta(days=365)
_CHUNK = 500_000  # lines of diagnoses_icd (6 million) held at once


def read_mimic(path: Path, cohort) -> Sieve:
    """One row per ECG of `cohort` (MIMIC-IV-ECG), those that cannot be followed left out.

    Raises DataError where a table or a column is missing, or no ECG has a date.
    """
    place = open_place(path, what="MIMIC-IV with its hosp tables")
    people = _table(place, "patients", ("subject_id", "gender", "anchor_age", "anchor_year", "dod"))
    stays = _table(place, "admissions",
                   ("subject_id", "hadm_id", "admittime", "dischtime", "deathtime"))  # fmt: skip
    failing = _table(place, "diagnoses_icd", ("subject_id", "hadm_id", "icd_code", "icd_version"),
                     only=_is_heart_failure)  # fmt: skip
    ids = cohort.table["patient_id"]
    for table in (people, stays, failing):
        table["patient_id"] = as_ids(table["subject_id"], ids)
    sieve = Sieve(
        _ecgs(place, cohort), f"the ECGs of MIMIC-IV in {place.label}", outcome="heart failure"
    )
    sieve.notes.append(
        "heart failure: first stay with ICD-9 428* or ICD-10 I50*, more than a day after the ECG; "
        "censored 365 days after the last contact"
    )
    _leave_out_unfollowed(sieve, people, stays, failing)
    _follow(sieve, people, _dated(stays), failing)
    return sieve


# --- tables ---------------------------------------------------------------------------------------


def _table(place, stem: str, columns: tuple[str, ...], only=None) -> pd.DataFrame:
    """`columns` of hosp/<stem>.csv or .csv.gz as text; `only` keeps lines, chunk by chunk."""
    for name in (f"{stem}.csv", f"{stem}.csv.gz"):
        root = place.find(name)
        if root is not None:
            break
    else:
        raise DataError(
            f"{place.label} holds no {stem}.csv (.gz); OUTCOMES takes MIMIC-IV with its hosp."
        )
    raw = io.BytesIO(tables.read_bytes(place, root + name))
    parts = []
    try:
        opened = gzip.open(raw) if name.endswith(".gz") else raw
        for chunk in pd.read_csv(opened, dtype=str, chunksize=_CHUNK, encoding_errors="replace",
                                 usecols=lambda c: c in columns, on_bad_lines="warn"):  # fmt: skip
            tables.require(chunk, columns, name, place.label, "MIMIC-IV")
            parts.append(chunk if only is None else chunk[only(chunk)])
    except (OSError, EOFError, ValueError) as error:
        raise DataError(
            f"{name} of {place.label} cannot be read ({error}); fetch it again."
        ) from error
    return pd.concat(parts, ignore_index=True)


def _is_heart_failure(diagnoses: pd.DataFrame) -> np.ndarray:
    code = diagnoses["icd_code"].str.lstrip().str.upper()
    found = np.zeros(len(diagnoses), bool)
    for number, begin in HF_CODES.items():
        begins = code.str.startswith(begin, na=False).to_numpy()
        found[begins] |= numbers(diagnoses["icd_version"][begins]).to_numpy() == number
    return found


def _ecgs(place, cohort) -> pd.DataFrame:
    """patient_id, ecg_id, when (NaT where unknown) of the cohort's ECGs."""
    table = cohort.table.assign(_row=np.arange(1, len(cohort.table) + 1))
    table = table.sort_values(order_of(table))[["patient_id", "ecg_id", "_row"]]
    if "recording_date" in cohort.table:
        return table.assign(when=dates(cohort.table["recording_date"]))
    listed = _table(place, "record_list", ("study_id", "ecg_time"))
    listed["study_id"] = as_ids(listed["study_id"], cohort.table["ecg_id"])
    times = listed.drop_duplicates("study_id").set_index("study_id")["ecg_time"]
    return table.assign(when=dates(table["ecg_id"].map(times)))


def _dated(stays: pd.DataFrame) -> pd.DataFrame:
    told = {name: dates(stays[name]) for name in ("admittime", "dischtime", "deathtime")}
    return stays.assign(**told)


# --- who is followed ------------------------------------------------------------------------------


def _leave_out_unfollowed(sieve: Sieve, people, stays, failing) -> None:
    """ECGs without a date, of patients without tables, or with heart failure at no known time."""
    sieve.leave_out(sieve.table["when"].isna(), "bad_time", "the time of the ECG is not known")
    unknown = ~sieve.table["patient_id"].isin(people["patient_id"])
    sieve.leave_out(unknown, "unknown_patient", "patients.csv does not hold this patient")
    begun = stays.drop_duplicates("hadm_id").set_index("hadm_id")["admittime"]
    failing["admitted"] = dates(failing["hadm_id"].map(begun))
    undated = failing["patient_id"][failing["admitted"].isna()]
    why = "heart failure is coded in a stay whose admission is not known"
    sieve.leave_out(sieve.table["patient_id"].isin(undated), "undated_event", why)


def _follow(sieve: Sieve, people, stays, failing) -> None:
    """time_days and event of each ECG, prevalent cases and later ECGs left out on the way."""
    first = failing.groupby("patient_id")["admitted"].min()
    # Judged at the first ECG: who falls ill between two ECGs is incident at the first.
    start = sieve.table.groupby("patient_id")["when"].transform("min")
    prevalent = sieve.table["patient_id"].map(first) <= start + SAME_STAY
    why = "heart failure was coded before, during or within a day of the ECG (prevalent)"
    last_seen = sieve.table.groupby("patient_id")["when"].max()
    sieve.leave_out(prevalent, "prevalent", why)
    later = sieve.table.duplicated("patient_id")
    sieve.leave_out(later, "later_ecg", "the first ECG of this patient is the index ECG")
    table = sieve.table
    who = table["patient_id"]
    contact = pd.concat([stays.groupby("patient_id")["dischtime"].max(), last_seen], axis=1)
    ends = {
        "hf": who.map(first),
        "death": who.map(_deaths(people, stays)),
        "end": who.map(contact.max(axis=1)) + LAST_CONTACT,
    }
    when = pd.DataFrame(ends).astype("datetime64[ns]")
    which = when.fillna(pd.Timestamp.max).to_numpy().argmin(axis=1)
    table["event"] = np.array([1.0, 2.0, 0.0])[which]
    table["time_days"] = (when.min(axis=1) - table["when"]).dt.total_seconds() / 86_400
    _ages(table, people)
    sieve.table = table.drop(columns="when")


def _deaths(people: pd.DataFrame, stays: pd.DataFrame) -> pd.Series:
    """patient -> time of death: in hospital to the minute, else the end of the day of `dod`."""
    day = dates(people["dod"]).dt.normalize() + pd.Timedelta(hours=23, minutes=59)
    day = pd.Series(day.to_numpy(), index=people["patient_id"])
    day = day[~day.index.duplicated()]
    inside = stays.groupby("patient_id")["deathtime"].min().reindex(day.index)
    return inside.fillna(day)


def _ages(table: pd.DataFrame, people: pd.DataFrame) -> None:
    """age (in the anchor year, plus the years since) and sex at the ECG."""
    of = people.drop_duplicates("patient_id").set_index("patient_id").reindex(table["patient_id"])
    since = table["when"].dt.year.to_numpy() - numbers(of["anchor_year"]).to_numpy()
    table["age"] = tables.years(numbers(of["anchor_age"]).reset_index(drop=True) + since)
    table["sex"] = tables.sexes(of["gender"].reset_index(drop=True), "m", "f")
