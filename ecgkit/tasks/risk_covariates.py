"""What a plain model may know of a patient: age and sex, SCP findings, and measurements of the ECG.

Measurements come from the index ECG alone (`features.measures`); what could not be measured gets
the median of the TRAINING patients and a flag of its own, so nobody is left out.

Letters: n patients, F covariates.

Usage:

    sets = covariate_sets(cohort, outcomes, train)       # {"age + sex": (n, F) table, ...}
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ecgkit.data.outcomes import ecg_factors
from ecgkit.data.outcomes_factors import male
from ecgkit.features.measures import measure
from ecgkit.features.pr_interval import pr_interval
from ecgkit.features.rhythm import find_beats

CHUNK = 256
MEASURED = ("heart_rate", "rr_spread", "pr_ms", "qrs_ms", "qtc_ms", "axis_cos", "axis_sin",
            "sokolow_mv")  # fmt: skip


def covariate_sets(
    cohort, outcomes, train: np.ndarray, measured: bool = True
) -> dict[str, pd.DataFrame]:
    """{"age + sex", "findings", "findings + age + sex", "measured", "everything"} -> (n, F) tables
    without gaps, one row per row of `outcomes`. `measured` False leaves the last two out, which
    need the recordings. `train`: positions whose medians fill the gaps.
    """
    person = person_covariates(outcomes.table, train)
    rows = outcomes.table["row"].to_numpy()
    codes = cohort.table["scp_codes"].iloc[rows]
    findings = ecg_factors(codes, cohort.statements).reset_index(drop=True)
    sets = {
        "age + sex": person,
        "findings": findings,
        "findings + age + sex": findings.join(person),
    }
    if measured:
        sets["measured"] = impute(measured_covariates(cohort, rows), train)
        sets["everything"] = sets["findings + age + sex"].join(sets["measured"])
    return sets


def person_covariates(table: pd.DataFrame, train: np.ndarray) -> pd.DataFrame:
    """age_decade and male (0.5 where unknown), gaps in age filled and flagged."""
    person = pd.DataFrame({"age_decade": table["age"].to_numpy(float) / 10})
    return impute(person, train).assign(male=male(table["sex"]))


def measured_covariates(cohort, rows: np.ndarray) -> pd.DataFrame:
    """(n, len(MEASURED)) of the ECGs in the given store rows, NaN where nothing is found.

    The corrected QT is Fridericia's; the axis goes in as cosine and sine, since -180 and 180
    degrees are one direction.
    """
    fs = cohort.store.fs
    parts = [_measured(cohort.store.read(rows[i : i + CHUNK]), fs)
             for i in range(0, len(rows), CHUNK)]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def _measured(signal: np.ndarray, fs: float) -> pd.DataFrame:
    beats = find_beats(signal, fs)
    found = measure(signal, fs, beats)
    axis = np.radians(found["axis_deg"])
    return found.assign(
        pr_ms=pr_interval(signal, fs, beats),
        qtc_ms=found["qt_ms"] / np.cbrt(found["rr_ms"] / 1000),
        axis_cos=np.cos(axis), axis_sin=np.sin(axis),
    )[list(MEASURED)]  # fmt: skip


def impute(table: pd.DataFrame, train: np.ndarray) -> pd.DataFrame:
    """Gaps become the training median (0 where training has none); `<name>_missing` says where.

    No flag is added where nothing is missing.
    """
    table = table.reset_index(drop=True).replace([np.inf, -np.inf], np.nan)
    gaps = table.isna()
    filled = table.fillna(table.iloc[train].median()).fillna(0.0)
    flags = gaps.loc[:, gaps.any()].astype(float).add_suffix("_missing")
    return filled.join(flags)
