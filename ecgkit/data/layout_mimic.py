"""A simulated cohort as MIMIC-IV-ECG 1.0 lies on disk: its tables, folders, units and lead order.

Measurements come from the simulator's truth, statements from the drawn codes in the carts' words.
Identifiers are outside the real ranges (subjects 9..., studies 8...), so that no simulated ECG can
be taken for a real one; `study_ids` replaces the studies' where questions about real ones are to be
joined.

Usage:

    write(folder, draw_population(1000, seed=7), study_ids=None, jobs=2)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit.data import wfdb_write
from ecgkit.data.sources import machine_statements, mimic
from ecgkit.data.synthetic.population import Population, render

FIRST_SUBJECT, FIRST_STUDY = 90_000_001, 80_000_001
RECORD_COLUMNS = ("subject_id", "study_id", "file_name", "ecg_time", "path")
MACHINE_COLUMNS = (
    *("subject_id", "study_id", "cart_id", "ecg_time"),
    *mimic.REPORTS,
    *("bandwidth", "filtering"),
    *mimic.MEASURED,
)
NOTE_COLUMNS = tuple("subject_id study_id waveform_path note_id note_seq charttime".split())
PATIENT_COLUMNS = tuple("subject_id gender anchor_age anchor_year anchor_year_group dod".split())
_P_ONSET, _QRS_ONSET = 40, 200  # ms into the cart's median beat; the second without P waves


def write(folder: Path, people: Population, study_ids, jobs: int) -> tuple[pd.DataFrame, list]:
    """Writes record_list.csv, machine_measurements.csv, waveform_note_links.csv (its header only:
    there are no notes), patients.csv and files/. Returns the truth and each record's ecg_id.
    """
    table = people.visits.table
    study = np.arange(FIRST_STUDY, FIRST_STUDY + len(people)) if study_ids is None else study_ids
    subject = FIRST_SUBJECT + table["patient"].to_numpy()
    stamp = _times(people)
    records = pd.DataFrame(
        {
            "subject_id": subject,
            "study_id": study,
            "file_name": study,
            "ecg_time": stamp.strftime("%Y-%m-%d %H:%M:%S"),
            "path": [f"files/p{p // 10_000}/p{p}/s{s}/{s}" for p, s in zip(subject, study)],
        }
    )
    truth = render(
        people,
        folder,
        {500: records["path"].tolist()},
        wfdb_write.MIMIC,
        tails=stamp.strftime(" %H:%M:%S %d/%m/%Y").tolist(),
        comments=[(f"# <subject_id>: {p}", "# SIMULATED by ecgkit") for p in subject],
        jobs=jobs,
    )
    _save(records, RECORD_COLUMNS, folder / mimic.RECORDS)
    _save(_machine_table(records, people, truth), MACHINE_COLUMNS, folder / mimic.MACHINE)
    _save(pd.DataFrame(), NOTE_COLUMNS, folder / "waveform_note_links.csv")
    _save(_patients(subject, stamp, table), PATIENT_COLUMNS, folder / "patients.csv")
    return truth, records["study_id"].tolist()


def _save(table: pd.DataFrame, columns, path: Path) -> None:
    table.reindex(columns=list(columns)).to_csv(path, index=False, lineterminator="\n")


def _times(people: Population) -> pd.DatetimeIndex:
    """When each ECG was recorded, moved some decades ahead per patient as MIMIC's dates are."""
    table = people.visits.table
    rng = np.random.default_rng([people.seed, 4])
    years = rng.integers(0, 60, table["patient"].max() + 1)[table["patient"]]
    days = pd.to_timedelta(np.floor(table["day"].to_numpy() * 86400), unit="s")
    return pd.Timestamp("2120-01-01") + days + pd.to_timedelta(years * 365, unit="D")


def _machine_table(records: pd.DataFrame, people: Population, truth: pd.DataFrame) -> pd.DataFrame:
    """One line per study: statements and measurements (ms, degrees)."""
    rng = np.random.default_rng([people.seed, 2])
    said = [
        machine_statements.from_scp(codes, rng, axis)[: len(mimic.REPORTS)]
        for codes, axis in zip(people.visits.codes, truth["axis_deg"])
    ]
    reports = pd.DataFrame([lines + [""] * (len(mimic.REPORTS) - len(lines)) for lines in said])
    table = records[["subject_id", "study_id", "ecg_time"]].assign(
        cart_id=0, bandwidth="0.005-150 Hz", filtering="60 Hz notch Baseline filter"
    )
    return pd.concat([table, reports.add_prefix("report_"), _measurements(truth)], axis=1)


def _measurements(truth: pd.DataFrame) -> pd.DataFrame:
    """The simulator's truth as a cart measures it: times within the median beat, whole ms and
    degrees, `mimic.UNMEASURED` where there is no P wave that leads to a QRS.
    """
    led = truth["pr_ms"].notna()
    qrs = (_P_ONSET + truth["pr_ms"]).fillna(_QRS_ONSET)
    values = {
        "rr_interval": truth["rr_ms"],
        "p_onset": (_P_ONSET + 0 * truth["pr_ms"]),
        "p_end": (_P_ONSET + truth["p_ms"]).where(led),
        "qrs_onset": qrs,
        "qrs_end": qrs + truth["qrs_ms"],
        "t_end": qrs + truth["qt_ms"],
        "p_axis": truth["p_axis_deg"].where(led),
        "qrs_axis": truth["axis_deg"],
        "t_axis": truth["t_axis_deg"],
    }
    return pd.DataFrame(values).round().fillna(mimic.UNMEASURED).astype(int)


def _patients(subject: np.ndarray, stamp: pd.DatetimeIndex, table: pd.DataFrame) -> pd.DataFrame:
    """One line per subject, as MIMIC-IV's patients.csv: the age in the year of the first ECG; ages
    above 89 are given as 91.
    """
    first = np.flatnonzero(table["visit"] == 0)
    age = table["age"].to_numpy()[first].astype(int)
    return pd.DataFrame(
        {
            "subject_id": subject[first],
            "gender": np.where(table["sex"].to_numpy()[first] == 0, "M", "F"),
            "anchor_age": np.where(age > 89, 91, age),
            "anchor_year": stamp.year[first],
            "anchor_year_group": "2014 - 2016",
        }
    )
