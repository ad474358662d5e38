"""Harrell's and Uno's C of several scores, with intervals, on the same resampled patients.

Harrell's C depends on who was censored when; Uno's weighs each event by 1 / P(still observed)^2 and
counts events before `tau` only, so it estimates the same number whatever the censoring.

Letters: n patients, E events, S scores, B resamples. A resample is a weight per patient, so every
pair is compared once for all resamples: a matrix product instead of a loop.

Sources: Harrell et al. 1996, Statistics in Medicine 15; Uno et al. 2011, Statistics in Medicine 30.

Usage:

    c_table(years, event, {"network": risk, "age + sex": other}, tau=5)
    c_gaps(years, event, scores, [("network", "age + sex")])
    null_sd(years, event)                     # how far C of pure noise scatters around 0.5
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
from ecgkit.types import DataError

BLOCK = 256  # events whose pairs are looked at together


def default_tau(time) -> float:
    """The time at which a tenth of the patients is still under observation, so that no event
    weighs more than a hundredfold."""
    return float(np.quantile(np.asarray(time, float), 0.9))


def c_table(
    time, event, scores: Mapping[str, np.ndarray], tau: float | None = None, n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """One row per score: name, harrell, low, high, uno, uno_low, uno_high, tau, n, events, note.

    `scores` (n,) each, higher = earlier; `tau` in the unit of `time`, None = `default_tau`. Limits
    are 95 % percentiles over `n_boot` resampled patients, the weights of censoring estimated anew
    in each. What cannot be given is NaN, and `note` says why. Raises DataError as `follow_up` does.
    """
    time, seen = follow_up(time, event)
    tau = default_tau(time) if tau is None else float(tau)
    reasons = {name: why_not(seen, score) for name, score in scores.items()}
    usable = [name for name in scores if not reasons[name]]
    harrell, uno = concordance_draws(time, seen, [scores[k] for k in usable], tau, n_boot, seed)
    rows = []
    for name in scores:
        at = usable.index(name) if name in usable else None
        found = [(np.nan,) * 3] * 2 if at is None else [interval(harrell[at]), interval(uno[at])]
        note = reasons[name] or _no_pairs(found)
        rows.append((name, *found[0], *found[1], tau, len(time), int(seen.sum()), note))
    columns = ("name", "harrell", "low", "high", "uno", "uno_low", "uno_high", "tau", "n",
               "events", "note")  # fmt: skip
    return pd.DataFrame(rows, columns=list(columns))


def _no_pairs(found) -> str:
    if not np.isfinite(found[0][0]):
        return "no pair can be compared: nobody outlived an event"
    return "" if np.isfinite(found[1][0]) else "no event before tau that anybody outlived"


def c_gaps(
    time, event, scores: Mapping[str, np.ndarray], pairs: Sequence[tuple[str, str]],
    tau: float | None = None, n_boot: int = 1000, seed: int = 0,
) -> pd.DataFrame:
    """C of one score minus C of another on the same resamples: upper, lower, gap, low, high (of
    Harrell's), uno_gap, uno_low, uno_high. NaN where a score is unusable (see `c_table`'s note)."""
    time, seen = follow_up(time, event)
    tau = default_tau(time) if tau is None else float(tau)
    wanted = list(dict.fromkeys(name for pair in pairs for name in pair))
    for name in wanted:
        if name not in scores:
            raise DataError(f"There is no score {name!r}; there are {', '.join(scores)}.")
    usable = [name for name in wanted if not why_not(seen, scores[name])]
    draws = concordance_draws(time, seen, [scores[k] for k in usable], tau, n_boot, seed)
    rows = []
    for upper, lower in pairs:
        row = [upper, lower]
        for c in draws:
            known = upper in usable and lower in usable
            row += interval(c[usable.index(upper)] - c[usable.index(lower)]) if known else (
                [np.nan] * 3
            )  # fmt: skip
        rows.append(row)
    columns = ["upper", "lower", "gap", "low", "high", "uno_gap", "uno_low", "uno_high"]
    return pd.DataFrame(rows, columns=columns)


def concordance_draws(
    time: np.ndarray, event: np.ndarray, scores: Sequence[np.ndarray], tau: float, n_boot: int,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """(S, 1 + B) Harrell's and Uno's C; column 0 of the patients as they are. `event` (n,) bool.

    A pair counts where one patient had the event and the other was still observed later, or was
    censored at that very moment (as in lifelines and torchsurv); tied scores count half.
    """
    scores = [np.asarray(score, dtype=float) for score in scores]
    weights = resamples(len(time), n_boot, seed)
    times, observed = censoring_curve(time, event, weights)
    pairs, hits = np.zeros((2, 1 + n_boot)), np.zeros((2, len(scores), 1 + n_boot))
    rows = np.flatnonzero(event)
    for first in np.array_split(rows, max(1, -(-len(rows) // BLOCK))):
        later = (time > time[first, None]) | ((time == time[first, None]) & ~event)  # (E, n)
        # An event is seen where censoring comes no earlier: P(C >= T), the curve just before T.
        ipcw = inverse(step_at(times, observed, time[first], before=True)) ** 2
        of_event = weights[:, first] * np.stack([np.ones_like(ipcw), ipcw * (time[first] < tau)])
        pairs += (of_event * (weights @ later.T.astype(np.float32))).sum(2)
        for s, score in enumerate(scores):
            ahead = later * (np.sign(score[first, None] - score) + 1) / 2
            hits[:, s] += (of_event * (weights @ ahead.T.astype(np.float32))).sum(2)
    with np.errstate(invalid="ignore", divide="ignore"):
        harrell, uno = np.where(pairs[:, None] > 0, hits / pairs[:, None], np.nan)
    return harrell, uno


def null_sd(time, event) -> float:
    """Standard deviation of Harrell's C of a score that is pure noise, on these patients.

    Exact: scores are independent and untied, so two pairs agree or disagree by chance alone unless
    they share a patient (covariance 1/12 in the same place, -1/12 in the other). A single C within
    two of these of 0.5 cannot be told from noise. NaN without pairs.
    """
    time, seen = follow_up(time, event)
    leave, happen = np.sort(time), np.sort(time[seen])
    censored_then = _count(np.sort(time[~seen]), time, "right") - _count(
        np.sort(time[~seen]), time, "left"
    )
    as_first = seen * (len(time) - _count(leave, time, "right") + censored_then)
    as_later = np.where(seen, _count(happen, time, "left"), _count(happen, time, "right"))
    n_pairs = as_first.sum()
    if not n_pairs:
        return float("nan")
    alike = (as_first * (as_first - 1.0)).sum() + (as_later * (as_later - 1.0)).sum()
    crossed = (as_first * 1.0 * as_later).sum()
    return float(np.sqrt(n_pairs / 4 + (alike - 2 * crossed) / 12) / n_pairs)


def _count(values: np.ndarray, at: np.ndarray, side: str) -> np.ndarray:
    return np.searchsorted(values, at, side=side)
