"""What ESI does to a recording before its encoder: fill gaps, then one z-score for the whole
record.

One mean and one standard deviation over all leads and samples keep the ratio between leads and
remove absolute mV. (For the published code's ConvNeXt this is a no-op, because its stem normalises
each channel over time anyway; with a norm over channels, and for XResNet, it is not.)

Usage:

    x = esi_preprocess(store.read(rows))            # (B, C, T) mV -> (B, C, T) float32, no unit
"""

from __future__ import annotations

import warnings

import numpy as np


def esi_preprocess(signal: np.ndarray, eps: float = 1e-6) -> np.ndarray:
    """Fills NaN samples with their lead's mean, then (x - mean) / (std + eps) per record, std with
    n - 1.

    `signal` (..., C, T) in mV. A lead without any finite sample makes its whole record NaN, as
    published; quarantine such records first (`data.store` does). Source: published loader; the
    paper does not state it.
    """
    x = np.asarray(signal, dtype=np.float64)
    gaps = np.isnan(x)
    if gaps.any():
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", RuntimeWarning
            )  # mean of an empty lead is NaN, and stays so
            x = np.where(gaps, np.nanmean(x, axis=-1, keepdims=True), x)
    x = x.astype(np.float32)
    mean = x.mean(axis=(-2, -1), keepdims=True, dtype=np.float64)
    std = x.std(axis=(-2, -1), keepdims=True, ddof=1, dtype=np.float64)
    return ((x - mean) / (std + eps)).astype(np.float32)
