"""A new patient's log risk beside those of the training patients: percentile and survival curve.

Shape letters: n patients, M distinct event times, Y years of a grid.

Usage:

    curve = training_curve(log_risk_train, years_train, event_train)
    curve.survival(log_risk, curve.grid()), curve.percentile(log_risk)
    curve.thirds(curve.grid())              # (3, Y) mean curve of each third of the training scores
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ecgkit.tasks.survival_brier import Baseline, breslow
from ecgkit.types import DataError

LEAST_AT_RISK = 10  # beyond, a step of the curve rests on too few people to be drawn


@dataclasses.dataclass(frozen=True)
class RiskCurve:
    """Breslow's `baseline`, the sorted `scores` (n,) of the training patients, and the `horizon` in
    years up to which curves are drawn."""

    baseline: Baseline
    scores: np.ndarray
    horizon: float

    def grid(self, n: int = 101) -> np.ndarray:
        """(n,) years from 0 to the horizon."""
        return np.linspace(0, self.horizon, n)

    def survival(self, log_risk: float, years: np.ndarray) -> np.ndarray:
        """(Y,) probability that a patient of this log risk has no event until each of `years`."""
        return self.baseline.survival(np.array([log_risk]), years)[0]

    def percentile(self, log_risk: float) -> float:
        """Share of training patients with a lower log risk, in per cent; ties count half."""
        below, upto = (np.searchsorted(self.scores, log_risk, side=s) for s in ("left", "right"))
        return float(50 * (below + upto) / len(self.scores))

    def thirds(self, years: np.ndarray) -> np.ndarray:
        """(3, Y) mean predicted curve of the training patients, lowest third of log risk first."""
        parts = np.array_split(self.scores, 3)
        return np.stack([self.baseline.survival(part, years).mean(0) for part in parts])


def training_curve(log_risk: np.ndarray, years: np.ndarray, event: np.ndarray) -> RiskCurve:
    """(n,) each, of the training patients -> `RiskCurve`.

    Scores of people a network was trained on are spread wider than those of new ones, so the curves
    are too. Raises DataError for fewer than three patients, and as `breslow` does.
    """
    log_risk, years = np.asarray(log_risk, dtype=float), np.asarray(years, dtype=float)
    if len(log_risk) < 3:
        raise DataError(f"{len(log_risk)} training patients make no thirds; take three or more.")
    baseline = breslow(log_risk, years, event)
    at_risk = len(years) - np.searchsorted(np.sort(years), baseline.times)
    seen = baseline.times[at_risk >= LEAST_AT_RISK]
    horizon = float(seen[-1] if len(seen) else baseline.times[0])
    return RiskCurve(baseline, np.sort(log_risk), horizon)
