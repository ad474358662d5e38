"""What the risk network reads: z-scored strips or median beats, padded in the centre to a length
its stem can halve.

Published preprocessing (risk.md 2): per-lead z-score over the whole strip before padding; what
cannot be scored is 0.

Usage:
    x = risk_input(store.read(rows), fs=100, n_samples=128, kind="beat")    # (B, C, n_samples)
    float32"""

from __future__ import annotations

import numpy as np

from ecgkit.features.rhythm import find_beats, median_beats
from ecgkit.types import DataError

BEFORE_S, AFTER_S = 0.4, 0.8  # 1.2 s around R: 600 samples at 500 Hz, as the published beats
BEAT_SECONDS = BEFORE_S + AFTER_S


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


def risk_input(signals: np.ndarray, fs: float, n_samples: int, kind: str = "beat") -> np.ndarray:
    """Signals (B, C, T) in mV at fs Hz -> (B, C, n_samples) float32. `kind`: beat (median beat of
    1.2 s) | strip."""
    if kind == "beat":
        signals = beats_of(signals, fs)
    elif kind != "strip":
        raise DataError(f"kind is {kind!r}; choose beat or strip.")
    return pad_centre(zscore_leads(signals), n_samples)
