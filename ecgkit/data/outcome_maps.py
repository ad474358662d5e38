"""Follow-up of known sources in their own columns: CODE-15 %, MIMIC-IV, UK Biobank.

Each map turns the source's files into rows of (patient_id, ecg_id, time_days, event, covariates),
which `outcomes_csv` then checks and joins. OUTCOMES names the file or folder, OUTCOME_MAP the map:

    code-15     exams.csv, or the folder with it. The outcome is DEATH OF ANY CAUSE, not heart
                failure: `death` and `timey` (years), which stand on each patient's first exam only.
    mimic-iv    the folder or .zip of MIMIC-IV (hosp/patients, admissions, diagnoses_icd, .csv or
                .csv.gz). Heart failure: the first admission with ICD-9 428* or ICD-10 I50* after
                the ECG; see `outcome_mimic` for what is excluded and censored.
    uk-biobank  eid, status, days (CSV, or the (n, 3) .npy of status, days, eid), or a table with
                the dates of the fields below.

Usage:

    sieve = read_mapped("exams.csv", "code-15", cohort)
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit import runtime
from ecgkit.data.outcome_mimic import read_mimic
from ecgkit.data.outcomes_csv import (
    DAYS_PER_YEAR,
    Sieve,
    as_ids,
    dates,
    numbers,
    order_of,
    read_csv,
    text_table,
    with_crowded,
)
from ecgkit.data.sources import tables
from ecgkit.types import ConfigError, DataError


def read_mapped(path: str | Path, source_map: str, cohort) -> Sieve:
    """Rows of follow-up by the map of that name; '' = the kit's own CSV.

    Raises ConfigError for a map that is not known, DataError for files and columns that miss.
    """
    if source_map == "":
        return read_csv(path)
    if source_map not in MAPS:
        raise ConfigError(f"OUTCOME_MAP is {source_map!r}; choose one of {', '.join(MAPS)}.")
    found = runtime.find_path(path)
    if found is None:
        raise DataError(f"OUTCOMES names {str(path)!r}, but there is no such file or folder.")
    return MAPS[source_map](found, cohort)


def _need(table: pd.DataFrame, columns, name: str, like: str) -> None:
    missing = [column for column in columns if column not in table]
    if missing:
        raise DataError(
            f"{name} has no column {', '.join(missing)}; take the table as {like} has it."
        )


# --- CODE-15 % ------------------------------------------------------------------------------------

_CODE15_FLAGS = ("1dAVb", "RBBB", "LBBB", "SB", "AF", "ST", "normal_ecg")


def read_code15(path: Path, cohort) -> Sieve:
    """exams.csv of CODE-15 % (Zenodo 4916206; Ribeiro et al. 2020, Lima et al. 2021).

    exam_id, patient_id, age (years), is_male, death, timey (years from the exam), and the six
    findings and normal_ecg as covariates. Exams without `timey` are later ones of a patient.
    """
    given, crowded, name = text_table(path / "exams.csv" if path.is_dir() else path)
    _need(given, ("exam_id", "patient_id", "age", "is_male", "death", "timey"), name, "CODE-15 %")
    table = {
        "patient_id": given["patient_id"],
        "ecg_id": given["exam_id"],
        "time_days": numbers(given["timey"]) * DAYS_PER_YEAR,
        "event": numbers(given["death"]),
        "age": tables.years(numbers(given["age"])),
        "sex": 1 - numbers(given["is_male"]),
    } | {flag: numbers(given[flag]) for flag in _CODE15_FLAGS if flag in given}
    sieve = Sieve(pd.DataFrame(table), name, outcome="death of any cause")
    with_crowded(sieve, crowded)
    sieve.notes.append("CODE-15 %: the outcome is death of any cause, not heart failure")
    later = sieve.table[["time_days", "event"]].isna().all(axis=1)
    sieve.leave_out(later, "no_first_exam", "it has no follow-up (only first exams have)")
    # 2 would be a competing event, of which all-cause death has none.
    sieve.leave_out(~sieve.table["event"].isin([0, 1]), "bad_event", "death must be true or false")
    return sieve


# --- UK Biobank -----------------------------------------------------------------------------------

# What a column is called: our name, then the field as exported (classic, research platform).
UKB_FIELDS = {
    "date_ecg": ("53-2.0", "p53_i2"),  # imaging visit, at which the 12-lead ECG was taken
    "date_hf": ("131354-0.0", "p131354"),  # first occurrence of I50
    "date_death": ("40000-0.0", "p40000_i0"),
    "date_lost": ("191-0.0", "p191"),  # lost to follow-up
    "date_end": (),  # end of the linkage, if the table says so per participant
    "age": ("21003-2.0", "p21003_i2"),
    "sex": ("31-0.0", "p31"),  # 0 female, 1 male
}
# Coding 819: dates that stand for something else (unknown, before or at birth, in the future).
UKB_NO_DATES = pd.to_datetime(
    ["1900-01-01", "1901-01-01", "1902-02-02", "1903-03-03", "1909-09-09", "2037-07-07"]
)


def read_ukb(path: Path, cohort) -> Sieve:
    """UK Biobank: status and days per eid, or dates. A participant's ECG is the cohort's first.

    status: 1 heart failure, 0 censored, 2 died before; days from the ECG. With dates, heart failure
    at or before the ECG is prevalent, a date that stands for "unknown" leaves the participant out,
    and who is neither ill nor dead is censored when lost, else at `date_end`, else at the last date
    the table records of anybody.
    """
    given, crowded, name = _ukb_table(path)
    given = given.rename(columns=lambda c: c.removeprefix("participant."))
    for ours, theirs in UKB_FIELDS.items():
        given = given.rename(columns={c: ours for c in theirs if c in given and ours not in given})
    _need(given, ("eid",), name, "UK Biobank")
    given = given.rename(columns={"eid": "patient_id"})
    if "sex" in given:
        given["sex"] = tables.sexes(given["sex"], ("1", "1.0", "male"), ("0", "0.0", "female"))
    if "age" in given:
        given["age"] = tables.years(numbers(given["age"]))
    sieve = with_crowded(Sieve(given, name, outcome="heart failure"), crowded)
    if {"status", "days"} <= set(given):
        sieve.table["event"] = numbers(sieve.table["status"])
        sieve.table["time_days"] = numbers(sieve.table["days"])
    else:
        _need(given, ("date_ecg", "date_hf"), name, "UK Biobank (or give status and days)")
        _from_dates(sieve)
    _index_ecg(sieve, cohort)
    keep = ["patient_id", "ecg_id", "time_days", "event", "age", "sex", "_row"]
    sieve.table = sieve.table[[column for column in keep if column in sieve.table]]
    return sieve


def _ukb_table(path: Path) -> tuple[pd.DataFrame, list[dict], str]:
    if path.suffix != ".npy":
        return text_table(path)
    try:
        values = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(f"{path.name} is no .npy of numbers ({error}); save it again.") from error
    if values.ndim != 2 or values.shape[1] != 3:
        raise DataError(
            f"{path.name} has the shape {values.shape}; status, days and eid are (n, 3)."
        )
    return pd.DataFrame(values, columns=["status", "days", "eid"]).astype(str), [], path.name


def _from_dates(sieve: Sieve) -> None:
    """time_days and event from the dates of an ECG, heart failure, death and loss."""
    for name in UKB_FIELDS:
        if name.startswith("date_"):
            given = sieve.table.get(name, pd.Series(np.nan, sieve.table.index))
            sieve.table[name] = dates(given)
            torn = given.notna() & sieve.table[name].isna()
            sieve.leave_out(torn, "bad_time", f"{name} is no date of the form 2021-03-31")
    sieve.leave_out(sieve.table["date_ecg"].isna(), "bad_time", "the date of its ECG is missing")
    undated = sieve.table["date_hf"].isin(UKB_NO_DATES)
    why = "it has heart failure at a date that is not known"
    sieve.leave_out(undated, "undated_event", why)
    table = sieve.table
    last = table[["date_hf", "date_death", "date_lost"]].max().max()
    given = table["date_end"].notna().any()
    sieve.notes.append(f"follow-up ends {'as date_end says' if given else f'on {last:%Y-%m-%d}'}")
    end = table["date_end"].fillna(table["date_end"].max() if given else last)
    lost = table["date_lost"].fillna(end).clip(upper=end)
    when = table[["date_hf", "date_death"]].assign(end=lost)
    # At a tie heart failure comes first (found on the day of death), the end of follow-up last.
    which = when.fillna(pd.Timestamp.max).to_numpy().argmin(axis=1)
    table["event"] = np.array([1.0, 2.0, 0.0])[which]
    table["time_days"] = (when.min(axis=1) - table["date_ecg"]).dt.total_seconds() / 86_400


def _index_ecg(sieve: Sieve, cohort) -> None:
    """Gives each participant the cohort's first ECG of theirs."""
    sieve.table["patient_id"] = as_ids(sieve.table["patient_id"], cohort.table["patient_id"])
    first = cohort.table.sort_values(order_of(cohort.table)).drop_duplicates("patient_id")
    ecg = first.set_index("patient_id")["ecg_id"]
    sieve.table["ecg_id"] = sieve.table["patient_id"].map(ecg)
    missing = sieve.table["ecg_id"].isna() & sieve.table["patient_id"].notna()
    sieve.leave_out(missing, "not_in_cohort", "the cohort holds no ECG of this participant")


MAPS = {"code-15": read_code15, "mimic-iv": read_mimic, "uk-biobank": read_ukb}
