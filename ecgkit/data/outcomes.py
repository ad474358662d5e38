"""Survival outcomes beside ECGs: simulated from a known hazard, or read from the user's CSV.

PTB-XL has no follow-up, so by default the outcome (time to heart failure) is SIMULATED: patients
with certain findings, older or male, fail sooner, by hazard ratios that stand in this file. The
true log hazard is kept, so that a study can say how much of it a model found.

Usage:
    outcomes = open_outcomes(config, cohort)
    outcomes.table[["ecg_id", "time_days", "event"]], outcomes.simulated, outcomes.hazard
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit import runtime
from ecgkit.config import short_hash
from ecgkit.types import DataError

DAYS_PER_YEAR = 365.25

# factor: (hazard ratio for new heart failure, SCP codes). The literature's sizes, rounded and in
# part chosen lower for ECG-only findings (risk.md 7): Levy 1996 (LVH, MI), Dhingra 2006 (BBB),
# Odutayo 2016 (AF), Magnani 2013 (PR), ARIC / MESA (ST-T), CHS (PVC), Framingham (heart rate).
FACTORS: dict[str, tuple[float, tuple[str, ...]]] = {
    "lvh": (2.0, ("LVH",)),
    "lbbb": (2.2, ("CLBBB",)),
    "rbbb": (1.3, ("CRBBB",)),
    "af": (2.5, ("AFIB", "AFLT")),
    "tachycardia": (1.4, ("STACH",)),
    "pr_long": (1.3, ("1AVB",)),
    "pvc": (1.3, ("PVC",)),
    "mi": (2.5, ()),  # every statement of diagnostic class MI
    "st_t": (1.5, ()),  # every statement of diagnostic class STTC
}
SHAPE = 1.2  # Weibull: the hazard rises slowly with time
FOLLOW_UP_YEARS = (3.0, 8.0)  # administrative censoring, uniform
DROP_OUT = 0.02  # per year


@dataclass(frozen=True)
class Outcomes:
    """One row per patient, its index ECG, and what happened.

    `table`: row (in the store), ecg_id, patient_id, age, sex, fold, time_days, event (1 seen, 0
    censored); simulated ones add eta (true log hazard), risk_5y (true) and one 0/1 column per
    factor. `hazard`: log hazard ratio per factor, {} when not simulated.
    """

    table: pd.DataFrame
    simulated: bool
    source: str
    hazard: dict[str, float]

    def __len__(self) -> int:
        return len(self.table)

    @property
    def years(self) -> np.ndarray:
        return self.table["time_days"].to_numpy() / DAYS_PER_YEAR

    @property
    def event(self) -> np.ndarray:
        return self.table["event"].to_numpy()

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits of who, when and what."""
        return short_hash(self.table[["ecg_id", "time_days", "event"]].to_numpy().tolist())

    def split(self, test_folds: int) -> tuple[np.ndarray, np.ndarray]:
        """(train, test) positions in `table`: the last `test_folds` of the ten folds are test."""
        held_out = self.table["fold"].to_numpy() > 10 - test_folds
        return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def open_outcomes(config, cohort) -> Outcomes:
    """Outcomes of `config.outcomes` (a CSV), or simulated ones with the config's hazard."""
    if config.outcomes:
        return read_outcomes(config.outcomes, cohort)
    return simulate_outcomes(
        cohort, config.outcome_seed, event_risk=config.event_risk, hr_age=config.hr_age,
        hr_male=config.hr_male, effect_scale=config.effect_scale,
    )


# --- simulated ------------------------------------------------------------------------------------


def simulate_outcomes(
    cohort, seed: int, event_risk: float = 0.08, hr_age: float = 1.9, hr_male: float = 1.4,
    effect_scale: float = 1.0,
) -> Outcomes:
    """Draws Weibull times to heart failure with log hazard eta = age + sex + ECG findings.

    The baseline is set so that the mean true 5-year risk is `event_risk`. A statement of likelihood
    0 ("not given") counts as present. Patients without a known age are left out.
    """
    table = index_ecgs(cohort.table)
    factors = ecg_factors(table["scp_codes"], cohort.statements)
    hazard = {name: effect_scale * float(np.log(FACTORS[name][0])) for name in factors}
    hazard |= {"age_decade": float(np.log(hr_age)), "male": float(np.log(hr_male))}
    covariates = factors.assign(
        age_decade=(table["age"].to_numpy() - 60) / 10, male=(table["sex"].to_numpy() == 0) * 1.0
    )
    eta = covariates.to_numpy() @ np.array([hazard[name] for name in covariates])
    base = _baseline(eta, event_risk)
    years, event = _draw(base + eta, np.random.default_rng([seed, len(table)]))
    table = table.assign(
        time_days=np.maximum(years * DAYS_PER_YEAR, 1.0), event=event.astype(int), eta=eta,
        risk_5y=_risk(base + eta, 5.0),
    )
    table = pd.concat([table, factors.astype(int)], axis=1).drop(columns="scp_codes")
    return Outcomes(table, True, "simulated from a known hazard", hazard)


def index_ecgs(table: pd.DataFrame) -> pd.DataFrame:
    """One ECG per patient of known age: the first by date, else the lowest ecg_id. Adds `row`."""
    columns = ["row", "ecg_id", "patient_id", "age", "sex", "fold", "scp_codes"]
    table = table.assign(row=np.arange(len(table)))
    order = ["recording_date", "ecg_id"] if "recording_date" in table else ["ecg_id"]
    known = table[table["age"].between(0, 120)].sort_values(order)
    first = known.drop_duplicates("patient_id")[columns]
    return first.sort_values("row").reset_index(drop=True)


def ecg_factors(codes: pd.Series, statements: pd.DataFrame) -> pd.DataFrame:
    """(n, factors) 0/1: which risk factors of `FACTORS` each ECG's statements name."""
    classes = statements["diagnostic_class"]
    of = {name: set(listed) for name, (_, listed) in FACTORS.items()}
    of["mi"] |= set(classes.index[classes == "MI"])
    of["st_t"] |= set(classes.index[classes == "STTC"])
    rows = [[float(not named.isdisjoint(present)) for named in of.values()] for present in codes]
    return pd.DataFrame(rows, columns=list(of), dtype=float)


def _risk(log_rate: np.ndarray, years: float) -> np.ndarray:
    return 1 - np.exp(-np.exp(log_rate) * years**SHAPE)


def _baseline(eta: np.ndarray, event_risk: float) -> float:
    """Bisection for the log rate at which the mean true 5-year risk is `event_risk`."""
    low, high = -30.0, 30.0
    for _ in range(80):
        middle = (low + high) / 2
        too_low = _risk(middle + eta, 5.0).mean() < event_risk
        low, high = (middle, high) if too_low else (low, middle)
    return (low + high) / 2


def _draw(log_rate: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(n,) years under observation and (n,) True where heart failure ended them."""
    n = len(log_rate)
    failure = (rng.exponential(size=n) / np.exp(log_rate)) ** (1 / SHAPE)
    censored = np.minimum(rng.uniform(*FOLLOW_UP_YEARS, size=n), rng.exponential(1 / DROP_OUT, n))
    return np.minimum(failure, censored), failure <= censored


# --- the user's own -------------------------------------------------------------------------------

REQUIRED = ("patient_id", "ecg_id", "time_days", "event")


def read_outcomes(path: str | Path, cohort) -> Outcomes:
    """Reads a CSV with patient_id, ecg_id, time_days (> 0, from the ECG) and event.

    event: 1 heart failure, 0 censored, 2 another event that ended follow-up (counted as censored).
    Raises DataError for a missing file or column, a time that is not above 0, an unknown event
    code, an ECG the cohort does not hold, or a patient with more than one row.
    """
    path = Path(path).expanduser()
    path = path if path.is_file() else runtime.project_root() / path
    if not path.is_file():
        raise DataError(f"OUTCOMES names {path.name!r}, but there is no such file; give a CSV.")
    given = pd.read_csv(path)
    missing = [name for name in REQUIRED if name not in given]
    if missing:
        raise DataError(
            f"{path.name} has no column {', '.join(missing)}; it needs {', '.join(REQUIRED)}."
        )
    _validate(given, path.name, cohort)
    known = cohort.table.assign(row=np.arange(len(cohort.table)))
    known = known[["row", "ecg_id", "age", "sex", "fold"]]
    table = given[list(REQUIRED)].merge(known, on="ecg_id").sort_values("row")
    table["event"] = (table["event"] == 1).astype(int)
    return Outcomes(table.reset_index(drop=True), False, path.name, {})


def _validate(given: pd.DataFrame, name: str, cohort) -> None:
    if not len(given):
        raise DataError(f"{name} holds no rows; give one per patient.")
    time = pd.to_numeric(given["time_days"], errors="coerce")
    problems = {
        "time_days must be a number above 0": ~(np.isfinite(time) & (time > 0)),
        "event must be 0, 1 or 2": ~given["event"].isin([0, 1, 2]),
        "this ECG is not in the cohort": ~given["ecg_id"].isin(cohort.table["ecg_id"]),
        "this patient stands in more than one row; keep the index ECG": given[
            "patient_id"
        ].duplicated(),
    }
    for sentence, wrong in problems.items():
        if wrong.any():
            where = ", ".join(str(i + 2) for i in np.flatnonzero(wrong)[:5])
            raise DataError(f"{name}: {sentence} ({int(wrong.sum())} rows; lines {where}).")
    owner = cohort.table.set_index("ecg_id")["patient_id"]
    wrong = owner.loc[given["ecg_id"]].to_numpy() != given["patient_id"].to_numpy()
    if wrong.any():
        line = given.iloc[int(np.flatnonzero(wrong)[0])]
        raise DataError(
            f"{name}: ECG {line['ecg_id']} belongs to patient {owner.loc[line['ecg_id']]} in the "
            f"cohort, not to {line['patient_id']} ({int(wrong.sum())} rows); check the join."
        )
