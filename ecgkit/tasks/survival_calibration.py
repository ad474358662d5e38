"""Is a predicted risk of 20 % a risk of 20 %? Calibration by risk group, slope and intercept.

Predictions are cause-specific (1 - exp(-H)): what the risk would be if nobody died of anything
else, and so is the Kaplan-Meier estimate beside them.

Letters: n patients, G risk groups.

Sources: Crowson, Atkinson and Therneau 2016, Statistical Methods in Medical Research 25 (slope,
intercept, observed over expected); Kalbfleisch and Prentice 2002 (log-log limits).

Usage:

    calibration_groups(years, event, baseline.risk(risk, 5), at=5)
    calibration_summary(years, event, baseline, risk, at=(1, 3, 5))
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ecgkit.tasks.cox_regression import cox_newton
from ecgkit.tasks.survival_brier import Baseline
from ecgkit.tasks.survival_followup import follow_up, survival_at, why_not

Z95 = 1.959964
LEAST_SPREAD = 1e-12


def calibration_groups(
    time, event, predicted: np.ndarray, at: float, n_groups: int = 5
) -> pd.DataFrame:
    """Predicted against observed risk by `at`, in groups of equal size: group, n, events,
    predicted (mean), observed (1 - Kaplan-Meier), low, high (95 %), note.

    `predicted` (n,) risk by `at`. Equal predictions stay together, so there may be fewer groups.
    Observed is NaN where nobody of the group was followed as long as `at`.
    """
    time, seen = follow_up(time, event)
    columns = ["group", "n", "events", "predicted", "observed", "low", "high", "note"]
    reason = why_not(seen, predicted)
    if reason and "score" in reason:
        return pd.DataFrame([(0, len(time), int(seen.sum()), *[np.nan] * 4, reason)],
                            columns=columns)  # fmt: skip
    predicted = np.asarray(predicted, dtype=float)
    cuts = np.unique(np.quantile(predicted, np.linspace(0, 1, n_groups + 1)[1:-1]))
    group = np.unique(np.searchsorted(cuts, predicted, side="left"), return_inverse=True)[1]
    rows = []
    for g in range(group.max() + 1):
        mine = group == g
        free, low, high = (values[0] for values in survival_at(time[mine], seen[mine], [at]))
        n_events = int((seen[mine] & (time[mine] <= at)).sum())
        note = "" if np.isfinite(free) else f"nobody of this group was followed to {at:g} years"
        rows.append((g, int(mine.sum()), n_events, predicted[mine].mean(), 1 - free, 1 - high,
                     1 - low, note))  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def calibration_summary(
    time, event, baseline: Baseline, log_risk: np.ndarray, at: Sequence[float] = (1, 3, 5)
) -> pd.DataFrame:
    """One row per horizon of `at`, follow-up cut there: years, events, expected, ratio (observed
    over expected events), ratio_low, ratio_high, intercept (log of the ratio), intercept_low,
    intercept_high, slope, slope_low, slope_high, predicted, observed (mean risk, 1 - KM), note.

    Perfect: ratio 1, intercept 0, slope 1. A slope below 1: high risks predicted too high, low ones
    too low (overfitting). Expected events: the sum of predicted cumulative hazards over the time
    each patient was really observed; the slope is the Cox coefficient of the log risk.
    """
    time, seen = follow_up(time, event)
    reason = why_not(seen, log_risk)
    if reason:
        return pd.DataFrame([_no_summary(t, reason) for t in at], columns=_SUMMARY)
    log_risk = np.asarray(log_risk, dtype=float)
    rows = [_at_horizon(time, seen, baseline, log_risk, float(t)) for t in at]
    return pd.DataFrame(rows, columns=_SUMMARY)


_SUMMARY = [
    "years", "events", "expected", "ratio", "ratio_low", "ratio_high", "intercept",
    "intercept_low", "intercept_high", "slope", "slope_low", "slope_high", "predicted", "observed",
    "note",
]  # fmt: skip


def _at_horizon(time, seen, baseline, log_risk, t: float) -> tuple:
    cut, happened = np.minimum(time, t), seen & (time <= t)
    events = int(happened.sum())
    if not events:
        return _no_summary(t, f"no event by {t:g} years")
    expected = float(baseline.hazard_each(log_risk, cut).sum())
    # An observed count is Poisson given the expected one: the log of it has variance 1 / events.
    middle = np.log(events / expected) if expected > 0 else np.nan
    reach = Z95 / np.sqrt(events)
    limits = (middle, middle - reach, middle + reach)
    slope = _slope(cut, happened, log_risk)
    free = survival_at(time, seen, [t])[0][0]
    note = "" if np.isfinite(slope[0]) else "all patients have one predicted risk: no slope"
    return (t, events, expected, *np.exp(limits), *limits, *slope,
            float(baseline.risk(log_risk, t).mean()), 1 - free, note)  # fmt: skip


def _slope(time, event, log_risk) -> tuple[float, float, float]:
    if np.std(log_risk) < LEAST_SPREAD:
        return (np.nan,) * 3
    fit = cox_newton(log_risk[:, None], time, event)
    beta, se = float(fit.beta[0]), float(fit.se[0])
    return beta, beta - Z95 * se, beta + Z95 * se


def _no_summary(t: float, reason: str) -> tuple:
    return (float(t), 0, *[np.nan] * (len(_SUMMARY) - 3), reason)
