"""Survival outcomes beside ECGs: simulated from a known hazard, or read from the user's CSV.

PTB-XL has no follow-up, so by default the outcome (time to heart failure) is SIMULATED: patients
with certain findings, older or male, fail sooner, by the hazard ratios of `hazards.yaml`; some die
before. The true log hazard and the true risks are kept, so that a study can say how much of them a
model found. `outcomes_factors` reads the ratios, `outcomes_hazard` draws, `outcomes_csv` and
`outcome_maps` read real follow-up.

Usage:

    outcomes = open_outcomes(config, cohort)
    print(outcomes.describe())          # n, events, deaths, oracle C; "SIMULATED" where it is
    outcomes.table[["ecg_id", "time_days", "event", "cause"]], outcomes.simulated, outcomes.hazard
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit.config import short_hash
from ecgkit.data import outcome_maps, outcomes_csv, outcomes_factors, outcomes_hazard
from ecgkit.data.concordance import concordance
from ecgkit.data.outcomes_csv import Sieve
from ecgkit.data.outcomes_factors import ecg_factors
from ecgkit.types import DataError

__all__ = [
    "DAYS_PER_YEAR",
    "Outcomes",
    "ecg_factors",
    "index_ecgs",
    "open_outcomes",
    "read_outcomes",
    "simulate_outcomes",
]

DAYS_PER_YEAR = outcomes_csv.DAYS_PER_YEAR
COLUMNS = ["row", "ecg_id", "patient_id", "age", "sex", "fold"]


@dataclass(frozen=True)
class Outcomes:
    """One row per patient, its index ECG, and what happened.

    `table`: row (in the store), ecg_id, patient_id, age, sex, fold, time_days from the ECG, cause
    (0 censored, 1 the event, 2 another event that ended follow-up: a competing death), event
    (1 where cause is 1; what Cox models and C-indices take, a competing death censors), simulated.
    Simulated ones add eta (true log hazard), true_risk_5y (cumulative incidence of the event, with
    death about), true_net_risk_5y (if nobody died of anything else), true_death_5y,
    true_event_free_5y, and one column per factor. `hazard`: log hazard ratio per factor, {} when
    not simulated. `left_out`: what did not come in, one sentence each; in = out + left out.
    """

    table: pd.DataFrame
    simulated: bool
    source: str
    hazard: dict[str, float]
    outcome: str = "heart failure"
    left_out: pd.DataFrame = field(default_factory=outcomes_csv.nobody, repr=False)
    notes: tuple[str, ...] = ()
    known: outcomes_hazard.KnownHazard | None = field(default=None, repr=False)

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

    @functools.cached_property
    def oracle_c(self) -> tuple[float, float, float]:
        """(C, low, high) of the true log hazard, with a 95 % bootstrap interval: the ceiling.

        NaN where the truth is not known (real follow-up).
        """
        if not self.simulated or "eta" not in self.table:
            return (np.nan,) * 3
        return concordance(self.years, self.event, self.table["eta"])

    def split(self, test_folds: int) -> tuple[np.ndarray, np.ndarray]:
        """(train, test) positions in `table`: the last `test_folds` of the ten folds are test."""
        held_out = self.table["fold"].to_numpy() > 10 - test_folds
        return np.flatnonzero(~held_out), np.flatnonzero(held_out)

    def describe(self) -> str:
        """A few lines: who, how many events of each kind, what was left out, the oracle's C."""
        what = f"SIMULATED {self.outcome}" if self.simulated else self.outcome
        n_of = np.bincount(self.table["cause"], minlength=3)
        lines = [
            f"{what}: {len(self):,} patients, {n_of[1]:,} events, {n_of[2]:,} competing deaths, "
            f"{n_of[0]:,} censored; median {np.median(self.years):.1f} years under observation",
            f"from {self.source}",
            *self.notes,
            *_counted(len(self), self.left_out),
        ]
        c, low, high = self.oracle_c
        if np.isfinite(c):
            lines.append(f"oracle C-index {c:.3f} [{low:.3f}, {high:.3f}] (Harrell, SIMULATED)")
        return "\n".join(lines)

    def write(self, folder: str | Path) -> Path:
        """The table as a CSV in `folder`; a simulated one is called outcomes_simulated.csv."""
        path = Path(folder) / ("outcomes_simulated.csv" if self.simulated else "outcomes.csv")
        self.table.assign(event=self.table["cause"]).drop(columns=["row", "cause"]).to_csv(
            path, index=False
        )
        return path


def _counted(n: int, left_out: pd.DataFrame) -> list[str]:
    if not len(left_out):
        return []
    why = ", ".join(f"{k:,} {reason}" for reason, k in left_out["reason"].value_counts().items())
    return [f"in = out + left out: {n + len(left_out):,} = {n:,} + {len(left_out):,} ({why})"]


def open_outcomes(config, cohort) -> Outcomes:
    """Outcomes of `config.outcomes` (a CSV, or the files of `config.outcome_map`), or simulated
    ones with the config's hazard. Raises DataError or ConfigError with one sentence."""
    if config.outcomes:
        return read_outcomes(config.outcomes, cohort, config.outcome_map)
    return simulate_outcomes(
        cohort, config.outcome_seed, event_risk=config.event_risk, hr_age=config.hr_age,
        hr_male=config.hr_male, effect_scale=config.effect_scale, baseline=config.baseline,
        death_scale=config.death_scale, measured=config.measured, hazards=config.hazards,
    )  # fmt: skip


def read_outcomes(path: str | Path, cohort, source_map: str = "") -> Outcomes:
    """Real follow-up: a CSV with patient_id, ecg_id, time_days, event (see `outcomes_csv`), or the
    files of a known source (see `outcome_maps`).

    What cannot be used is left out and listed in `left_out`. A CSV that `Outcomes.write` wrote of
    simulated outcomes stays marked simulated. Raises DataError for a missing file or column, and
    where nothing is left.
    """
    sieve = outcome_maps.read_mapped(path, source_map, cohort)
    table = outcomes_csv.joined(sieve, cohort)
    simulated = bool(table.get("simulated", pd.Series(False)).any())
    source = f"{sieve.label} (simulated)" if simulated else sieve.label
    table["simulated"] = simulated
    notes = tuple(sieve.notes)
    return Outcomes(table, simulated, source, {}, sieve.outcome, sieve.left_out(), notes)


# --- simulated ------------------------------------------------------------------------------------


def simulate_outcomes(
    cohort,
    seed: int,
    event_risk: float = 0.08,
    hr_age: float = 0,
    hr_male: float = 0,
    effect_scale: float = 1.0,
    baseline: str = "weibull",
    death_scale: float = 1.0,
    measured: str = "codes",
    hazards: str = "",
) -> Outcomes:
    """Draws times to heart failure with log hazard eta = age + sex + ECG findings, beside deaths.

    The base rate is set so that the mean true 5-year risk (cumulative incidence) is `event_risk`.
    A statement of likelihood 0 ("not given") counts as present. Patients without a known age are
    left out. `measured`: "codes" reads SCP statements alone, on any data; "truth" adds heart rate
    and QRS duration as the simulator drew them, where there is a simulator's truth. `hazards`: a
    YAML in the form of `hazards.yaml`, '' = that one; `hr_age`, `hr_male`: 0 = as it says.
    """
    ratios = outcomes_factors.read_hazards(hazards).with_person(hr_age, hr_male)
    table, left_out = _known_age(cohort)
    truth = cohort.truth if measured == "truth" else None
    truth = None if truth is None else truth.iloc[table["row"]].reset_index(drop=True)
    x, hazard = outcomes_factors.linear_terms(ratios, table, cohort.statements, truth, effect_scale)
    eta = x.to_numpy() @ np.array([hazard[name] for name in x])
    known = outcomes_hazard.calibrated(
        eta,
        outcomes_hazard.clock_of(ratios, baseline),
        outcomes_hazard.death_rate(ratios, table["age"], table["sex"], death_scale),
        outcomes_hazard.Clock("gompertz", ratios.death_slope),
        event_risk,
    )
    rng = np.random.default_rng([seed, len(table)])
    years, cause = known.draw(rng, ratios.administrative_years, ratios.drop_out)
    table = table[COLUMNS].assign(**_happened(years, cause), **_truth(eta, known))
    persons = [f.name for f in ratios.factors if f.person]  # age and sex stand there as they are
    table = table.join(x.drop(columns=persons))
    notes = _told(ratios, hazard, baseline, effect_scale, truth is not None, table)
    return Outcomes(
        table, True, "a known hazard (simulated)", hazard, ratios.outcome, left_out, notes, known
    )


def _happened(years: np.ndarray, cause: np.ndarray) -> dict:
    return {
        "time_days": np.maximum(years * DAYS_PER_YEAR, 1.0),
        "event": (cause == outcomes_hazard.FAILURE).astype(int),
        "cause": cause,
        "simulated": True,
    }


def _truth(eta: np.ndarray, known: outcomes_hazard.KnownHazard) -> dict:
    return {
        "eta": eta,
        "true_risk_5y": known.risk(5.0),
        "true_net_risk_5y": known.net_risk(5.0),
        "true_death_5y": known.death_risk(5.0),
        "true_event_free_5y": known.event_free(5.0),
    }


def _told(ratios, hazard, baseline, effect_scale, measured, table) -> tuple[str, ...]:
    risks = table[["true_risk_5y", "true_net_risk_5y"]].mean()
    listed = ", ".join(f"{name} {np.exp(beta):.2f}" for name, beta in hazard.items())
    return (
        f"{baseline} baseline; hazard ratios of {ratios.label}, log ratios of ECG factors times "
        f"{effect_scale:g}, from SCP statements{' and measured truth' if measured else ' alone'}",
        f"hazard ratios in force: {listed}",
        f"mean true 5-year risk {risks.iloc[0]:.3f} beside death, {risks.iloc[1]:.3f} without",
    )


def index_ecgs(table: pd.DataFrame) -> pd.DataFrame:
    """One ECG per patient of known age: the first by date, else the lowest ecg_id. Adds `row`."""
    table = table.assign(row=np.arange(len(table)))
    known = table[table["age"].between(0, 120)].sort_values(outcomes_csv.order_of(table))
    first = known.drop_duplicates("patient_id")[[*COLUMNS, "scp_codes"]]
    return first.sort_values("row").reset_index(drop=True)


def _known_age(cohort) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(index ECGs, what is left out): patients of whom no ECG has a known age are listed."""
    table = index_ecgs(cohort.table)
    if not len(table):
        raise DataError(
            f"{cohort.name} gives nobody's age, so no risk of heart failure can be simulated; "
            "put its table of patients beside it (see its data card), or give OUTCOMES."
        )
    rest = cohort.table.assign(_row=np.arange(1, len(cohort.table) + 1))
    rest = rest[~rest["patient_id"].isin(table["patient_id"])].drop_duplicates("patient_id")
    sieve = Sieve(rest[["patient_id", "ecg_id", "_row"]], "the cohort")
    sieve.leave_out(np.ones(len(sieve.table), bool), "unknown_age", "the age is not known")
    return table, sieve.left_out()
