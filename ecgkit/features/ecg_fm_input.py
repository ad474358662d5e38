"""What ECG-FM reads: 5-second segments at 500 Hz of recordings z-scored lead by lead.

Letters: B batch, C leads, T samples, S segments, W samples of a segment.
Source: ECG-FM (McKeen et al. 2024, arXiv 2408.05178) and its preprocessing (fact sheet 3.4): each
lead over the *whole* recording, before it is cut; a constant lead becomes 0, which is also what
random lead masking writes; samples after the last whole segment are dropped.

Usage:

    x = ecg_fm_input(store.read(rows), fs=store.fs)          # (B, C, T) mV -> (B, S, C, 2500)
"""

from __future__ import annotations

import numpy as np

from ecgkit.features.risk_input import zscore_leads
from ecgkit.types import DataError

FS, SEGMENT_S = 500, 5
SEGMENT = FS * SEGMENT_S


def ecg_fm_input(signals: np.ndarray, fs: float) -> np.ndarray:
    """Signals (B, C, T) in mV, 12 leads in the standard order -> (B, S, C, 2500) float32, no unit.

    A lead with a missing sample becomes 0 as a whole. Raises DataError at another rate, with other
    than 12 leads, or when T is shorter than one segment.
    """
    signals = np.asarray(signals)
    if signals.ndim != 3 or signals.shape[1] != 12:
        raise DataError(
            f"ECG-FM reads (B, 12, T), the leads in the order I ... V6; this is {signals.shape}."
        )
    if fs != FS:
        raise DataError(
            f"ECG-FM reads {FS} Hz and this is {fs:g} Hz; open the cohort at {FS} Hz (FS={FS}), or "
            "resample with ecgkit.signal.resample first."
        )
    n_segments = signals.shape[2] // SEGMENT
    if not n_segments:
        raise DataError(
            f"A segment of ECG-FM has {SEGMENT} samples ({SEGMENT_S} s) and this has only "
            f"{signals.shape[2]}; give longer recordings."
        )
    scored = zscore_leads(signals)[..., : n_segments * SEGMENT]
    cut = scored.reshape(*scored.shape[:2], n_segments, SEGMENT)  # (B, C, T) -> (B, C, S, W)
    return np.ascontiguousarray(cut.transpose(0, 2, 1, 3))
