"""What the risk network reads: z-scored strips or median beats, padded in the centre to a length
its stem can halve.

Published preprocessing (risk.md 2): per-lead z-score over the whole strip before padding; what
cannot be scored is 0. The published median beats came from the recorder; `clean_beats` makes them:
R peaks, each beat shifted to where it fits the median, beats unlike the median left out, median.

Letters: B records, C leads, T samples, N beats (of all records), L samples of one beat.

Usage:

    x = risk_input(store.read(rows), fs=100, n_samples=128, kind="beat")    # (B, C, n_samples)
    float32
    found = clean_beats(signals, fs=500)          # .beats (B, C, 600) mV, .found, .used (B,)
    x = pad_centre(zscore_leads(found.beats), 608)
    has_no_input(x)                               # (B,) bool: nothing to read, all 0
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ecgkit.features.rhythm import Beats, find_beats, median_beats
from ecgkit.types import DataError

BEFORE_S, AFTER_S = 0.4, 0.8  # 1.2 s around R: 600 samples at 500 Hz, as the published beats
BEAT_SECONDS = BEFORE_S + AFTER_S
LEAST_LIKENESS = 0.8  # correlation with the record's median beat, over all leads
REACH_S, QRS_S = 0.02, 0.06  # how far a beat may be shifted, and what is compared around R


@dataclass(frozen=True)
class MedianBeats:
    """`beats` (B, C, L) mV, NaN where `found` is 0; `found` (B,) whole beats; `used` (B,) of them
    that are like the median. Where none is, the median over all stands, and `used` is 0."""

    beats: np.ndarray
    found: np.ndarray
    used: np.ndarray

    @property
    def flagged(self) -> np.ndarray:
        """(B,) bool: no beat found, or beats of which none is like the median."""
        return self.used == 0


def zscore_leads(signals: np.ndarray) -> np.ndarray:
    """(..., C, T) -> float32 of zero mean and unit (population) deviation per lead.

    Flat and constant leads become 0; one missing sample makes its whole lead 0 (as published).
    """
    wide = np.asarray(signals, dtype=np.float64)
    constant = (wide == wide[..., :1]).all(-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        scored = (wide - wide.mean(-1, keepdims=True)) / wide.std(-1, keepdims=True)
    return np.where(constant | ~np.isfinite(scored), 0.0, scored).astype(np.float32)


def pad_centre(signals: np.ndarray, n_samples: int) -> np.ndarray:
    """Zero-pads (..., T) to n_samples, as much on the left as on the right (an odd gap puts one
    more on the right).

    Raises DataError when the signal is longer.
    """
    gap = n_samples - signals.shape[-1]
    if gap < 0:
        raise DataError(
            f"Signals of {signals.shape[-1]} samples do not fit into {n_samples}; take a longer "
            "input."
        )
    widths = [(0, 0)] * (signals.ndim - 1) + [(gap // 2, gap - gap // 2)]
    return np.pad(signals, widths)


def padded_length(n_samples: int, n_down: int) -> int:
    """The smallest length that holds n_samples and can be halved n_down times (600 -> 608, 1000 ->
    1024 for 5)."""
    step = 2**n_down
    return -(-n_samples // step) * step


def beats_of(signals: np.ndarray, fs: float) -> np.ndarray:
    """(B, C, T) mV -> (B, C, 1.2 s) median beats in mV; NaN where no whole beat was found."""
    return median_beats(signals, find_beats(signals, fs), BEFORE_S, AFTER_S)


def clean_beats(
    signals: np.ndarray, fs: float, least_likeness: float = LEAST_LIKENESS
) -> MedianBeats:
    """(B, C, T) mV -> median beats of 1.2 s from the beats that fit, and how many did.

    A beat whose correlation with its record's first median (all leads, each without its mean) is
    below `least_likeness` is left out: an extrasystole, an artefact, a false peak.
    """
    beats = _whole(find_beats(signals, fs), signals.shape[-1])
    found = beats.counts()
    first = median_beats(signals, beats, BEFORE_S, AFTER_S)
    beats = _aligned(signals, beats, first)
    like = _likeness(signals, beats, first) >= least_likeness
    used = np.bincount(beats.record[like], minlength=len(signals))
    keep = like | (used == 0)[beats.record]
    kept = Beats(beats.record[keep], beats.sample[keep], len(signals), fs)
    return MedianBeats(median_beats(signals, kept, BEFORE_S, AFTER_S), found, used)


def risk_input(
    signals: np.ndarray, fs: float, n_samples: int, kind: str = "beat", least_likeness: float = 0.0
) -> np.ndarray:
    """Signals (B, C, T) in mV at fs Hz -> (B, C, n_samples) float32. `kind`: beat (median beat of
    1.2 s) | strip.

    `least_likeness` above 0 takes the beats of `clean_beats`, else the median is over all. Records
    without a beat keep their row, all 0: `has_no_input` finds them.
    """
    if kind == "beat" and least_likeness > 0:
        signals = clean_beats(signals, fs, least_likeness).beats
    elif kind == "beat":
        signals = beats_of(signals, fs)
    elif kind != "strip":
        raise DataError(f"kind is {kind!r}; choose beat or strip.")
    return pad_centre(zscore_leads(signals), n_samples)


def has_no_input(x: np.ndarray) -> np.ndarray:
    """(B, C, T) -> (B,) bool: no lead could be scored (no beat, flat, or a missing sample in each).

    Such a record should be counted and named, for a network gives it the score of an empty ECG.
    """
    return ~np.asarray(x).any(axis=(1, 2))


# --- pieces of a clean beat -----------------------------------------------------------------------


def _whole(beats: Beats, n_samples: int) -> Beats:
    """The beats that no end of the record cuts off, wherever they may be shifted."""
    reach, before, after = (round(s * beats.fs) for s in (REACH_S, BEFORE_S, BEAT_SECONDS))
    start = beats.sample - before
    keep = (start >= reach) & (start + after + reach <= n_samples)
    return Beats(beats.record[keep], beats.sample[keep], beats.n_records, beats.fs)


def _aligned(signals: np.ndarray, beats: Beats, median: np.ndarray) -> Beats:
    """Each beat moved, by REACH_S at most, to where its QRS fits the median's best."""
    reach, half = round(REACH_S * beats.fs), round(QRS_S * beats.fs)
    r = round(BEFORE_S * beats.fs)
    template = median[..., r - half : r + half + 1][beats.record]  # (N, C, W)
    width = 2 * half + 1
    wide = _around(signals, beats, -half - reach, width + 2 * reach)
    fit = [_correlation(wide[..., i : i + width], template) for i in range(2 * reach + 1)]
    best = np.nan_to_num(np.stack(fit), nan=-1.0).argmax(axis=0) - reach  # (N,)
    return Beats(beats.record, beats.sample + best, beats.n_records, beats.fs)


def _likeness(signals: np.ndarray, beats: Beats, median: np.ndarray) -> np.ndarray:
    """(N,) correlation of each beat with its record's median; NaN where either is flat."""
    start = -round(BEFORE_S * beats.fs)
    return _correlation(_around(signals, beats, start, median.shape[-1]), median[beats.record])


def _around(signals: np.ndarray, beats: Beats, start: int, length: int) -> np.ndarray:
    """(N, C, length) stretches that begin `start` samples from each R peak."""
    at = (beats.sample + start)[:, None] + np.arange(length)  # (N, length)
    return signals[beats.record[:, None], :, at].transpose(0, 2, 1)


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, C, W) twice -> (N,) over leads and samples, each lead without its mean; a lead with a
    missing sample does not count."""
    a, b = (np.nan_to_num(x - x.mean(axis=-1, keepdims=True)) for x in (a, b))
    product, *energies = (np.einsum("ncw,ncw->n", *pair) for pair in ((a, b), (a, a), (b, b)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return product / np.sqrt(energies[0] * energies[1])
