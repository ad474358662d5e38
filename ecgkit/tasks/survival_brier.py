"""From a log risk to a predicted survival (Breslow), and how wrong it is (Brier score).

The Brier score at t is the mean squared distance of the predicted survival from what happened, with
those censored before t stood for by others (inverse probability of censoring weights). Lower is
better; always compare with a model that gives everybody the Kaplan-Meier curve.

Letters: n patients, B resamples, T times.

Sources: Breslow 1972 (discussion of Cox); Graf et al. 1999, Statistics in Medicine 18.

Usage:

    baseline = breslow(risk_train, years_train, event_train)     # from TRAINING patients
    survival = baseline.survival(risk_test, [1, 3, 5])           # (n, 3)
    brier_over_time(years, event, survival, [1, 3, 5])
    integrated_brier(years, event, baseline, risk_test)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ecgkit.tasks.survival_followup import (
    censoring_curve,
    follow_up,
    interval,
    inverse,
    resamples,
    step_at,
    survival_curve,
    why_not,
)
from ecgkit.types import DataError


@dataclass(frozen=True)
class Baseline:
    """Cumulative baseline hazard (U,) after each of `times` (U,) of a patient of log risk 0."""

    times: np.ndarray
    log_hazard: np.ndarray

    def hazard(self, log_risk, years) -> np.ndarray:
        """(n, T) cumulative hazard at `years` (T,); constant after the last training event."""
        return self.hazard_each(np.asarray(log_risk, float)[:, None], np.asarray(years, float))

    def hazard_each(self, log_risk, years) -> np.ndarray:
        """(n,) cumulative hazard of each patient by a time of its own, `years` (n,)."""
        padded = np.concatenate([[-np.inf], self.log_hazard])
        now = padded[np.searchsorted(self.times, np.asarray(years, float), side="right")]
        return np.exp(np.minimum(np.asarray(log_risk, float) + now, 700.0))

    def survival(self, log_risk, years) -> np.ndarray:
        """(n, T) predicted probability of being free of the event at `years`."""
        return np.exp(-self.hazard(log_risk, years))

    def risk(self, log_risk, years: float) -> np.ndarray:
        """(n,) predicted risk of the event by `years`, if nobody died of anything else."""
        return -np.expm1(-self.hazard(log_risk, [years])[:, 0])


def breslow(log_risk, time, event) -> Baseline:
    """Breslow's estimate from log risks (n,) of the TRAINING patients.

    Raises DataError where there is no event, or a score is not finite.
    """
    time, seen = follow_up(time, event)
    reason = why_not(seen, log_risk)
    if reason and "only" not in reason:
        raise DataError(f"No baseline hazard can be estimated: {reason}. Use other patients.")
    log_risk = np.asarray(log_risk, dtype=float)
    order = np.argsort(-time, kind="stable")
    log_at_risk = np.logaddexp.accumulate(log_risk[order])[::-1]  # of those from each rank on
    times, counts = np.unique(time[seen], return_counts=True)
    first = np.searchsorted(np.sort(time), times, side="left")
    steps = np.log(counts) - log_at_risk[first]
    return Baseline(times, np.logaddexp.accumulate(steps))


def average_survival(time, event, years: Sequence[float]) -> np.ndarray:
    """(T,) the Kaplan-Meier curve at `years`: the prediction of a model that knows nobody."""
    time, seen = follow_up(time, event)
    return step_at(*survival_curve(time, seen), years)[0]


# --- scores ---------------------------------------------------------------------------------------


def brier_over_time(
    time, event, survival: np.ndarray, at: Sequence[float], average: np.ndarray | None = None,
    n_boot: int = 500, seed: int = 0,
) -> pd.DataFrame:
    """One row per time of `at`: years, brier, low, high, average (Brier of the curve that is the
    same for everybody), skill (1 - brier / average), note.

    `survival` (n, T) predicted; `average` (T,) that curve (best: of the training patients), None =
    the Kaplan-Meier of these. NaN beyond the last time under observation, or for NaN predictions.
    """
    time, seen = follow_up(time, event)
    survival = _matching(survival, len(time), at)
    curve = average_survival(time, seen, at) if average is None else np.asarray(average, float)
    draws = brier_draws(time, seen, survival, at, n_boot, seed)
    same = brier_draws(time, seen, np.tile(curve, (len(time), 1)), at, 0)[0]
    rows = []
    for column, t in enumerate(at):
        value, low, high = interval(draws[:, column])
        skill = 1 - value / same[column] if same[column] else np.nan
        note = "" if np.isfinite(value) else _why_no_brier(time, survival[:, column], t)
        rows.append((float(t), value, low, high, same[column], skill, note))
    columns = ["years", "brier", "low", "high", "average", "skill", "note"]
    return pd.DataFrame(rows, columns=columns)


def integrated_brier(
    time, event, baseline: Baseline, log_risk, until: float | None = None, average=None,
    n_boot: int = 500, seed: int = 0, n_times: int = 40,
) -> dict:
    """{"ibs", "low", "high", "average", "skill", "until", "n", "events", "note"}: mean Brier score
    from the first tenth of `until` to `until` (trapezium over `n_times` even times).

    `until` None = the time at which a tenth is still observed. `average`: a function years -> (T,)
    survival of the model that knows nobody; None = the Kaplan-Meier of these patients.
    """
    time, seen = follow_up(time, event)
    until = float(np.quantile(time, 0.9) if until is None else until)
    at = np.linspace(until / 10, until, n_times)
    reason = why_not(seen, log_risk)
    out = {"until": until, "n": len(time), "events": int(seen.sum()), "note": reason}
    if reason:
        return dict.fromkeys(("ibs", "low", "high", "average", "skill"), np.nan) | out
    mean = _mean_over(at)
    draws = brier_draws(time, seen, baseline.survival(log_risk, at), at, n_boot, seed) @ mean
    curve = average_survival(time, seen, at) if average is None else average(at)
    same = float((brier_draws(time, seen, np.tile(curve, (len(time), 1)), at, 0) @ mean)[0])
    value, low, high = interval(draws)
    note = "" if np.isfinite(value) else f"nobody was observed beyond {until:g} years"
    skill = 1 - value / same if same else np.nan
    scores = {"ibs": value, "low": low, "high": high, "average": same, "skill": skill}
    return scores | out | {"note": note}


def brier_draws(time, event, survival, at, n_boot: int, seed: int = 0) -> np.ndarray:
    """(1 + B, T) Brier scores of the patients as they are (row 0) and of each resample."""
    weights = resamples(len(time), n_boot, seed).astype(float)
    times, observed = censoring_curve(time, event, weights)
    of_case = weights * inverse(step_at(times, observed, time, before=True)) * event
    now = step_at(times, observed, at)  # (1 + B, T)
    when = np.asarray(at, float)
    missed = of_case @ np.where(time[:, None] <= when, survival**2, 0.0)
    over = weights @ np.where(time[:, None] > when, (1 - survival) ** 2, 0.0) * inverse(now)
    score = (missed + over) / weights.sum(1, keepdims=True)
    return np.where(when <= time.max(), score, np.nan)


def _mean_over(at: np.ndarray) -> np.ndarray:
    """(T,) weights of the trapezium rule, divided by the range."""
    steps = np.diff(at)
    return (np.append(steps, 0) + np.append(0, steps)) / 2 / (at[-1] - at[0])


def _matching(survival, n: int, at) -> np.ndarray:
    survival = np.asarray(survival, dtype=float)
    if survival.shape != (n, len(at)):
        raise DataError(
            f"Predicted survival has shape {survival.shape}; give (patients, times) = "
            f"({n}, {len(at)})."
        )
    return survival


def _why_no_brier(time, survival, t: float) -> str:
    missing = int((~np.isfinite(survival)).sum())
    if missing:
        return f"{missing} of {len(survival)} predictions are NaN"
    return f"nobody was observed as long as {t:g} years (last: {time.max():.2f})"
