"""What the risk study reports first: C-index with its interval, a small Cox regression, tertiles.

More of it: `survival_concordance` (Uno's C, gaps, many scores at once), `survival_auc`,
`survival_brier`, `survival_calibration`, `survival_decision`, `survival_tests` (lifelines).

Usage:

    beta = fit_cox(covariates, years, event)             # (F,) log hazard ratios
    row = c_index("age + sex", covariates_test @ beta, years_test, event_test)
"""

from __future__ import annotations

import re

import numpy as np

from ecgkit.tasks.cox_regression import cox_newton
from ecgkit.tasks.survival_concordance import c_gaps, c_table


def fit_cox(
    covariates: np.ndarray, time: np.ndarray, event: np.ndarray, ridge: float = 1e-3
) -> np.ndarray:
    """(n, F) -> (F,) log hazard ratios of the Cox model (Efron ties); 0 without any event.

    `ridge` weighs the squared coefficients of standardised covariates, so a finding nobody has
    gets 0 instead of infinity. `cox_regression.cox_newton` gives standard errors too.
    """
    return cox_newton(covariates, time, event, ridge).beta


def c_index(name: str, risk: np.ndarray, time: np.ndarray, event: np.ndarray, n_boot: int = 300):
    """{"name", "c", "low", "high", "n", "events"}: Harrell's C with a 95 % bootstrap interval.

    One score, without Uno's C: `survival_concordance.c_table` gives both for many scores."""
    row = c_table(time, event, {name: risk}, n_boot=n_boot).iloc[0]
    return {
        "name": name, "c": float(row["harrell"]), "low": float(row["low"]),
        "high": float(row["high"]), "n": int(row["n"]), "events": int(row["events"]),
    }  # fmt: skip


def c_index_gap(
    risk: np.ndarray, other: np.ndarray, time: np.ndarray, event: np.ndarray, n_boot: int = 300
) -> tuple[float, float, float]:
    """(gap, low, high) of C(risk) - C(other) on the same resampled patients."""
    scores = {"risk": risk, "other": other}
    row = c_gaps(time, event, scores, [("risk", "other")], n_boot=n_boot).iloc[0]
    return float(row["gap"]), float(row["low"]), float(row["high"])


def tertiles(risk: np.ndarray, cuts_from: np.ndarray) -> np.ndarray:
    """(n,) 0, 1, 2 by the tertiles of `cuts_from` (training scores, so test people set no cut)."""
    return np.searchsorted(np.quantile(cuts_from, [1 / 3, 2 / 3]), risk)


def tied_share(risk: np.ndarray) -> float:
    """Share of people whose score somebody else has too; a score should tell people apart."""
    _, inverse, counts = np.unique(risk, return_inverse=True, return_counts=True)
    return float((counts[inverse] > 1).mean())


def metric_name(prefix: str, score: str) -> str:
    """("c_index", "age + sex") -> "c_index_age_sex"."""
    return "_".join([prefix, *re.findall(r"[a-z0-9]+", score.lower())])
