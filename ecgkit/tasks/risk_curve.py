"""From a log risk to a survival curve: Breslow's baseline hazard of the training patients.

Shape letters: n patients, M distinct event times, Y years of a grid.

Usage:
    curve = fit_baseline(log_risk_train, years_train, event_train)
    curve.survival(log_risk, grid)          # (n, Y)
    curve.thirds(grid)                      # (3, Y) mean curve of each third of the training scores
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ecgkit.types import DataError

LEAST_AT_RISK = 10  # beyond, a step of the curve rests on too few people to be drawn


@dataclasses.dataclass(frozen=True)
class RiskCurve:
    """`times` (M,) years of events, `hazard` (M,) cumulative baseline hazard of a patient whose log
    risk is `centre`, `scores` (n,) sorted training log risks, `horizon` in years."""

    times: np.ndarray
    hazard: np.ndarray
    centre: float
    scores: np.ndarray
    horizon: float

    def grid(self, n: int = 101) -> np.ndarray:
        """(n,) years from 0 to the horizon."""
        return np.linspace(0, self.horizon, n)

    def survival(self, log_risk: float | np.ndarray, years: np.ndarray) -> np.ndarray:
        """(...,) log risks, (Y,) years -> (..., Y) probability of no event until then."""
        steps = np.concatenate([[0.0], self.hazard])
        base = steps[np.searchsorted(self.times, years, side="right")]
        with np.errstate(over="ignore", invalid="ignore"):
            factor = np.exp(np.asarray(log_risk, dtype=float)[..., None] - self.centre)
            return np.exp(-np.where(base > 0, base * factor, 0.0))

    def percentile(self, log_risk: float) -> float:
        """Share of training patients with a lower log risk, in per cent; ties count half."""
        below, upto = (np.searchsorted(self.scores, log_risk, side=s) for s in ("left", "right"))
        return float(50 * (below + upto) / len(self.scores))

    def thirds(self, years: np.ndarray) -> np.ndarray:
        """(3, Y) mean predicted curve of the training patients, lowest third of log risk first."""
        parts = np.array_split(self.scores, 3)
        return np.stack([self.survival(part, years).mean(0) for part in parts])


def fit_baseline(log_risk: np.ndarray, years: np.ndarray, event: np.ndarray) -> RiskCurve:
    """(n,) each -> `RiskCurve`; at each event time the hazard steps by events over the summed
    exp(log risk) of those at risk.

    Source: Breslow 1972, in the discussion of Cox. The scores of people a network was trained on
    are spread wider than those of new ones, so the curves are too. Raises DataError for lists that
    do not fit, values that are not finite, fewer than three patients, or no event.
    """
    log_risk, years = np.asarray(log_risk, dtype=float), np.asarray(years, dtype=float)
    event = np.asarray(event).astype(bool)
    if not len(log_risk) == len(years) == len(event) >= 3 or not event.any():
        raise DataError(
            "A survival curve needs one log risk, time and event flag for each of at least three "
            f"patients, and an event; got {len(log_risk)}, {len(years)}, {int(event.sum())} events."
        )
    if not (np.isfinite(log_risk).all() and np.isfinite(years).all()):
        raise DataError("A log risk or a time is not finite; leave those patients out.")
    centre = float(log_risk.max())  # no overflow, whatever the scale of the scores
    order = np.argsort(years)
    years, event, log_risk = years[order], event[order], log_risk[order]
    at_risk = np.cumsum(np.exp(log_risk - centre)[::-1])[::-1]
    times, n_events = np.unique(years[event], return_counts=True)
    first = np.searchsorted(years, times)  # all from here on are at risk, ties included
    hazard = np.cumsum(n_events / at_risk[first])
    seen = times[len(years) - first >= LEAST_AT_RISK]
    horizon = float(seen[-1] if len(seen) else times[0])
    shift = float(np.median(log_risk))
    return RiskCurve(times, hazard * np.exp(shift - centre), shift, np.sort(log_risk), horizon)
