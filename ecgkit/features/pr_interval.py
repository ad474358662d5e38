"""PR interval off the median beat, by a plain rule without training.

The P wave is the highest bump between the end of the T wave before and the QRS, in the size of the
12-lead signal above its own level just before the QRS; its onset is where the tangent of its
steepest rise meets the level before it. Where the bump does not stand out of the noise around it
(atrial fibrillation, P inside the T wave), there is no PR interval.

Shape letters: B records, T samples, L samples of one beat.

Usage:

    pr_ms = pr_interval(signal, fs=100)              # (B, 12, T) mV -> (B,), NaN without a P wave
"""

from __future__ import annotations

import numpy as np

from ecgkit.features.measures import _qrs
from ecgkit.features.rhythm import Beats, find_beats, heart_rate, median_beats

BEFORE_S, AFTER_S, LEVEL_S = 0.40, 0.20, 0.02
LONGEST_S, SHORTEST_S = 0.34, 0.04  # from P wave to QRS
LONGEST_SHARE = 0.45  # of the time from beat to beat: earlier lies the T wave
LEAST_BUMP_MV = 0.08  # over all leads


def pr_interval(signal: np.ndarray, fs: float, beats: Beats | None = None) -> np.ndarray:
    """(B, 12, T) mV -> (B,) milliseconds from P onset to QRS onset; `beats` as in `measure`."""
    beats = beats or find_beats(signal, fs)
    beat = median_beats(signal, beats, BEFORE_S, AFTER_S)
    rr = 60 / heart_rate(beats)
    return np.array([_of_beat(one, fs, seconds) for one, seconds in zip(beat, rr)], dtype=float)


def _of_beat(beat: np.ndarray, fs: float, rr_s: float) -> float:
    """(12, L) median beat, seconds from beat to beat -> PR in ms."""
    if not np.isfinite(beat).all() or not beat.any():
        return np.nan
    start, _ = _qrs(beat, round(BEFORE_S * fs), fs)
    level = beat[:, max(start - round(LEVEL_S * fs), 0) : start + 1].mean(axis=1, keepdims=True)
    size = np.sqrt(((beat - level) ** 2).sum(axis=0))  # (L,)
    first = max(start - round(min(LONGEST_S, LONGEST_SHARE * rr_s) * fs), 1)
    last = start - round(SHORTEST_S * fs)
    if last - first < 3:
        return np.nan
    peak = first + int(size[first:last].argmax())
    if peak in (first, last - 1):  # the flank of a T wave or of the QRS, no bump of its own
        return np.nan
    foot = first + int(size[first:peak].argmin())
    rise = np.diff(size[foot : peak + 1])
    height = size[peak] - size[foot]
    if height < LEAST_BUMP_MV:
        return np.nan
    steep = int(rise.argmax())
    onset = foot + steep - (size[foot + steep] - size[foot]) / rise[steep]
    return float(1000 * (start - onset) / fs)
