"""Time-dependent AUC, cumulative/dynamic: at each time t, does the score tell those who had the
event by t from those still free of it?

Cases are weighed by 1 / P(still observed just before their event), so those censored before t are
stood for by others. The weight of the controls is the same for all and drops out.

Letters: n patients, B resamples, T times.

Sources: Uno et al. 2007, JASA 102; Hung and Chiang 2010, Canadian Journal of Statistics 38.

Usage:

    auc_over_time(years, event, risk, at=[1, 3, 5])      # years, auc, low, high, cases, controls
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ecgkit.tasks.survival_followup import (
    censoring_curve,
    follow_up,
    interval,
    inverse,
    resamples,
    step_at,
    why_not,
)


def auc_over_time(
    time, event, risk: np.ndarray, at: Sequence[float], n_boot: int = 500, seed: int = 0
) -> pd.DataFrame:
    """One row per time of `at`: years, auc, low, high, cases, controls, note.

    `risk` (n,), higher = earlier; tied scores count half. Limits: 95 % percentiles over resampled
    patients. NaN with a `note` where there is no case or no control, or a score is NaN. Raises
    DataError as `follow_up` does.
    """
    time, seen = follow_up(time, event)
    reason = why_not(seen, risk)
    rows = []
    draws = None if reason else auc_draws(time, seen, risk, at, n_boot, seed)
    for column, t in enumerate(at):
        cases, controls = int((seen & (time <= t)).sum()), int((time > t).sum())
        known = draws is not None and cases and controls
        note = reason or _missing(cases, controls, t)
        found = interval(draws[:, column]) if known else (np.nan,) * 3
        rows.append((float(t), *found, cases, controls, note))
    columns = ["years", "auc", "low", "high", "cases", "controls", "note"]
    return pd.DataFrame(rows, columns=columns)


def _missing(cases: int, controls: int, t: float) -> str:
    if cases and controls:
        return ""
    return f"nobody {'had the event by' if not cases else 'was observed beyond'} {t:g} years"


def auc_draws(
    time: np.ndarray, event: np.ndarray, risk, at: Sequence[float], n_boot: int, seed: int = 0
) -> np.ndarray:
    """(1 + B, T) AUC of the patients as they are (row 0) and of each resample."""
    order = np.argsort(np.asarray(risk, float), kind="stable")
    time, event, risk = time[order], event[order], np.asarray(risk, float)[order]
    below = np.searchsorted(risk, risk, side="left")  # how many have a lower score
    upto = np.searchsorted(risk, risk, side="right")  # ... a lower or the same
    weights = resamples(len(time), n_boot, seed)[:, order].astype(float)
    times, observed = censoring_curve(time, event, weights)
    ipcw = inverse(step_at(times, observed, time, before=True))
    found = np.full((1 + n_boot, len(at)), np.nan)
    for column, t in enumerate(at):
        of_case = weights * ipcw * (event & (time <= t))
        passed = np.hstack([np.zeros((1 + n_boot, 1)), np.cumsum(weights * (time > t), axis=1)])
        hits = (of_case * (passed[:, below] + passed[:, upto]) / 2).sum(1)
        pairs = of_case.sum(1) * passed[:, -1]
        found[:, column] = np.divide(hits, pairs, out=np.full(len(hits), np.nan), where=pairs > 0)
    return found
