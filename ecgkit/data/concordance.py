"""Harrell's C with its bootstrap interval, all resamples at once.

The metrics of a study stand in `tasks.metrics`; this one is here because the ceiling of simulated
outcomes (the C of their true hazard) is a property of the data. Both are the same number.

Usage:

    value, low, high = concordance(years, event, eta)
"""

from __future__ import annotations

import numpy as np

MOST = 20_000  # patients compared pair by pair; of more, this many are drawn


def concordance(time, event, risk, n_boot: int = 200, seed: int = 0) -> tuple[float, float, float]:
    """(C, low, high) of (n,) arrays: 95 % percentile interval over resampled patients.

    Over pairs whose shorter time is an event, the share in which the higher risk failed first;
    tied risks count half, pairs tied in time only as event against censored. NaN without pairs.
    A resample is a weight per patient, so every pair is looked at once for all of them.
    """
    rng = np.random.default_rng(seed)
    time, event, risk = np.asarray(time, float), np.asarray(event) > 0.5, np.asarray(risk, float)
    if len(time) > MOST:
        rows = rng.choice(len(time), MOST, replace=False)
        time, event, risk = time[rows], event[rows], risk[rows]
    n = len(time)
    weights = np.ones((1 + n_boot, n), np.float32)
    weights[1:] = rng.multinomial(n, np.full(n, 1 / n), size=n_boot) if n else 1
    right, pairs = np.zeros(1 + n_boot), np.zeros(1 + n_boot)
    for first in np.array_split(np.flatnonzero(event), max(1, int(event.sum()) // 256)):
        later = (time > time[first, None]) | ((time == time[first, None]) & ~event)
        ahead = later * (np.sign(risk[first, None] - risk) + 1) / 2
        pairs += (weights[:, first] * (weights @ later.T.astype(np.float32))).sum(1, dtype=float)
        right += (weights[:, first] * (weights @ ahead.T.astype(np.float32))).sum(1, dtype=float)
    with np.errstate(invalid="ignore"):
        c = right / pairs
    resampled = c[1:][np.isfinite(c[1:])]
    low, high = np.percentile(resampled, [2.5, 97.5]) if len(resampled) else (np.nan, np.nan)
    return float(c[0]), float(low), float(high)
