"""Decision curve: would acting on the predicted risk do more good than acting on all or on none?

Net benefit at threshold p = true positives - false positives * p / (1 - p), per patient. Who would
have had the event by the horizon is estimated by Kaplan-Meier among those above the threshold, so
patients censored before it count as well.

Letters: n patients, B resamples, P thresholds.

Sources: Vickers and Elkin 2006, Medical Decision Making 26; Vickers et al. 2008, BMC Medical
Informatics and Decision Making 8 (censoring).

Usage:

    net_benefit(years, event, baseline.risk(risk, 5), at=5)
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ecgkit.tasks.survival_followup import (
    follow_up,
    interval,
    resamples,
    step_at,
    survival_curve,
    why_not,
)
from ecgkit.types import DataError

COLUMNS = ["threshold", "model", "low", "high", "all", "none", "share_treated", "note"]


def net_benefit(
    time, event, predicted: np.ndarray, at: float, thresholds=None, n_boot: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """One row per threshold: threshold, model, low, high (95 % over resampled patients), all,
    none (0), share_treated, note.

    `predicted` (n,) risk by `at`; `thresholds` in (0, 1), None = 40 even ones up to the risk that
    one patient in fifty exceeds. NaN with a note where nobody was followed to `at`, or for NaN
    predictions. Raises DataError as `follow_up` does, and for thresholds outside (0, 1).
    """
    time, seen = follow_up(time, event)
    reason = why_not(seen, predicted)
    if not reason and time.max() < at:
        reason = f"nobody was followed to {at:g} years"
    chosen = _thresholds(thresholds, predicted)
    if reason:
        rows = [(p, *[np.nan] * 4, 0.0, np.nan, reason) for p in chosen]
        return pd.DataFrame(rows, columns=COLUMNS)
    predicted = np.asarray(predicted, dtype=float)
    weights = resamples(len(time), n_boot, seed)
    everybody = _benefits(time, seen, np.ones(len(time), bool), weights, at)
    rows = []
    for p in chosen:
        treated = predicted >= p
        odds = p / (1 - p)
        true, false = _benefits(time, seen, treated, weights, at)
        found = interval(true - odds * false)
        to_all = everybody[0][0] - odds * everybody[1][0]
        rows.append((p, *found, to_all, 0.0, treated.mean(), ""))
    return pd.DataFrame(rows, columns=COLUMNS)


def _benefits(time, event, treated, weights, at: float) -> tuple[np.ndarray, np.ndarray]:
    """(1 + B,) true and false positives per patient if `treated` (n,) bool are acted on."""
    share = weights[:, treated].sum(1) / weights.sum(1)
    if not treated.any():
        return share, share
    times, free = survival_curve(time[treated], event[treated], weights[:, treated])
    free = step_at(times, free, [at])[:, 0]
    return share * (1 - free), share * free


def _thresholds(thresholds, predicted) -> np.ndarray:
    if thresholds is None:
        risk = np.asarray(predicted, dtype=float)
        risk = risk[np.isfinite(risk)]
        top = np.quantile(risk, 0.98) if len(risk) else 0.5
        return np.linspace(0.01, float(np.clip(top, 0.05, 0.95)), 40)
    chosen = np.asarray(thresholds, dtype=float)
    if not ((chosen > 0) & (chosen < 1)).all():
        raise DataError("Thresholds are risks between 0 and 1, both left out, e.g. 0.05 to 0.5.")
    return chosen
