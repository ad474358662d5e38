"""A few measurements of an ECG in numbers a reader knows: rate, intervals, axis, voltage.

QRS and QT are read off the median beat: the QRS is where the 12-lead signal changes quickly, the T
wave ends where its tangent meets the baseline (Lepeschkin & Surawicz 1952). Plain rules without
any training; `tests/test_llm_qa_prompts.py` holds them against the simulator's truth.

Shape letters: B records, C leads, T samples, L samples of one beat.

Usage:

    found = measure(signal, fs=100)                 # (B, 12, T) mV -> columns heart_rate, rr_ms ...
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ecgkit.features.rhythm import Beats, find_beats, heart_rate, median_beats, rr_spread
from ecgkit.types import LEADS

BEFORE_S, AFTER_S = 0.3, 0.6
NEXT_P_S = 0.2  # how long before the next R its P wave may begin
COLUMNS = ("heart_rate", "rr_ms", "rr_spread", "qrs_ms", "qt_ms", "axis_deg", "sokolow_mv")


def measure(signal: np.ndarray, fs: float, beats: Beats | None = None) -> pd.DataFrame:
    """(B, 12, T) mV in the order of LEADS -> COLUMNS, one row a record; NaN where nothing is found.

    heart_rate per minute, rr_ms, rr_spread (standard deviation of RR over its mean), qrs_ms, qt_ms,
    axis_deg of the QRS in the frontal plane (-180 to 180), sokolow_mv (S in V1 + the larger R of V5
    and V6). `beats`: those of `signal`, where they are known already.
    """
    beats = beats or find_beats(signal, fs)
    beat = median_beats(signal, beats, BEFORE_S, AFTER_S)  # (B, 12, L)
    rate = heart_rate(beats)
    rows = [_of_beat(one, fs, 60 / per_minute) for one, per_minute in zip(beat, rate)]
    found = pd.DataFrame(rows, columns=list(COLUMNS[3:]))
    found.insert(0, "rr_spread", rr_spread(beats))
    found.insert(0, "rr_ms", 60_000 / rate)
    found.insert(0, "heart_rate", rate)
    return found


def _of_beat(beat: np.ndarray, fs: float, rr_s: float) -> tuple[float, float, float, float]:
    """(12, L) median beat, seconds to the next -> qrs_ms, qt_ms, axis_deg, sokolow_mv."""
    if not np.isfinite(beat).all() or not beat.any():
        return (np.nan,) * 4
    r = round(BEFORE_S * fs)
    # The next P wave is no part of this beat's T wave.
    beat = beat[:, : r + max(round((rr_s - NEXT_P_S) * fs), round(0.25 * fs))]
    start, end = _qrs(beat, r, fs)
    level = beat[:, max(start - round(0.02 * fs), 0) : start + 1].mean(axis=1, keepdims=True)
    beat = beat - level
    area = beat[:, start : end + 1].sum(axis=1)
    one, avf = area[LEADS.index("I")], area[LEADS.index("aVF")]
    axis = float(np.degrees(np.arctan2(2 * avf / np.sqrt(3), one))) if one or avf else np.nan
    qrs = beat[:, start : end + 1]
    high = max(qrs[LEADS.index("V5")].max(), qrs[LEADS.index("V6")].max())
    voltage = float(high - qrs[LEADS.index("V1")].min())
    return 1000 * (end - start) / fs, 1000 * (_t_end(beat, end, fs) - start) / fs, axis, voltage


def _qrs(beat: np.ndarray, r: int, fs: float) -> tuple[int, int]:
    """First and last sample of the QRS: its slope over all leads above a tenth of the steepest."""
    slope = np.sqrt((np.diff(beat, axis=1) ** 2).sum(axis=0))  # (L-1,)
    reach = round(0.12 * fs)
    near = slice(max(r - reach, 0), r + reach)
    quick = np.flatnonzero(slope[near] > 0.12 * slope[near].max()) + near.start
    return int(quick[0]), int(quick[-1]) + 1


def _t_end(beat: np.ndarray, qrs_end: int, fs: float) -> float:
    """Sample where the tangent of T's steepest descent meets the level before the QRS."""
    size = np.sqrt((beat**2).sum(axis=0))  # (L,)
    first = qrs_end + round(0.08 * fs)
    if first + 3 >= len(size):
        return np.nan
    floor = np.percentile(size[first:], 5)
    peak = first + int(size[first:].argmax())
    fall = np.diff(size[peak:])
    if not len(fall) or fall.min() >= 0:
        return np.nan
    steep = int(fall.argmin())
    return peak + steep + (size[peak + steep] - floor) / -fall[steep]
