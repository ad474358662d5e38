"""What is done to a signal before a model sees it; every function takes (..., C, T) and is
vectorised.

The order used across the kit: fill gaps, resample, filter the whole record, crop or pad, normalise.

Usage:

    x = preprocess(store.read(rows), fs=100, filter="bandpass", normalise="per_lead")   # (B, C, T)
    clean = filter_record(record, "highpass")          # ECGRecord, with what was done in its meta
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import gcd

import numpy as np

from ecgkit.types import DataError, ECGRecord

FILTERS = ("none", "highpass", "bandpass", "powerline")
NORMALISE = ("none", "per_lead", "global")


def preprocess(
    signal: np.ndarray,
    fs: float,
    *,
    fs_out: float | None = None,
    filter: str = "none",
    n_samples: int | None = None,
    normalise: str = "none",
) -> np.ndarray:
    """(..., C, T) mV at `fs` Hz -> (..., C, T') float32: fill, resample, filter, crop or pad,
    normalise.

    Normalising comes after cropping, so that what the model sees has mean 0 and deviation 1.
    Raises DataError for an unknown filter or normalisation and for rates that do not fit.
    """
    signal = condition(fill_nan(signal), fs, fs_out or fs, filter)
    if n_samples is not None:
        signal = crop_pad(signal, n_samples)
    return normalise_signal(signal, normalise).astype(np.float32, copy=False)


def condition(
    signal: np.ndarray, fs: float, fs_out: float, filter: str, mains: float = 50.0
) -> np.ndarray:
    """(..., C, T) without gaps at `fs` Hz -> (..., C, T') at `fs_out`: resample, then filter.

    On the way down the powerline notch comes first: 50 Hz hum in a 500 Hz record stands at half the
    rate of a 100 Hz one, where no notch can take it out any more.
    """
    if filter == "powerline" and fs_out < fs:
        return resample(filter_signal(signal, fs, filter, mains=mains), fs, fs_out)
    return filter_signal(resample(signal, fs, fs_out), fs_out, filter, mains=mains)


def fill_nan(signal: np.ndarray) -> np.ndarray:
    """(..., C, T): NaN becomes the mean of what its lead has; a lead without any sample becomes
    0.
    """
    gaps = np.isnan(signal)
    if not gaps.any():
        return signal
    there = np.where(gaps, 0, signal)
    mean = there.sum(axis=-1, keepdims=True) / np.maximum((~gaps).sum(axis=-1, keepdims=True), 1)
    return np.where(gaps, mean, signal).astype(signal.dtype)


def resample(signal: np.ndarray, fs_in: float, fs_out: float) -> np.ndarray:
    """(..., T) at `fs_in` Hz -> (..., T * fs_out / fs_in) at `fs_out`; polyphase, anti-aliased.

    The line from first to last sample is taken off meanwhile, so that no step to zero rings at the
    ends. NaN spreads: fill it first. Raises DataError for a rate <= 0.
    """
    if fs_in <= 0 or fs_out <= 0:
        raise DataError(f"A sampling rate must be positive; got {fs_in:g} and {fs_out:g} Hz.")
    up, down = round(fs_out * 1000), round(fs_in * 1000)
    if up == down:
        return signal
    from scipy.signal import resample_poly

    common = gcd(up, down)
    out = resample_poly(
        signal.astype(np.float64), up // common, down // common, axis=-1, padtype="line"
    )
    return out[..., : round(signal.shape[-1] * fs_out / fs_in)].astype(signal.dtype)


def crop_pad(signal: np.ndarray, n_samples: int) -> np.ndarray:
    """(..., T) -> (..., n_samples): the middle of a longer signal, or a shorter one between zeros.

    An odd spare sample goes behind, so the length always comes out right.
    """
    spare = n_samples - signal.shape[-1]
    if spare <= 0:
        start = -spare // 2
        return signal[..., start : start + n_samples]
    widths = [(0, 0)] * (signal.ndim - 1) + [(spare // 2, spare - spare // 2)]
    return np.pad(signal, widths)


def normalise_signal(signal: np.ndarray, how: str) -> np.ndarray:
    """(..., C, T) -> same shape, z-scored `per_lead` or over all leads and samples (`global`).

    A constant lead becomes 0, as does (per_lead) a lead with a NaN: fill those first. `global`
    keeps how tall the leads are against each other; it takes the sample deviation (n - 1) and adds
    1e-6, like the ESI reference; `per_lead` takes the population deviation, like scipy's zscore.
    """
    if how not in NORMALISE:
        raise DataError(f"There is no normalisation {how!r}; choose one of {', '.join(NORMALISE)}.")
    if how == "none":
        return signal
    x = signal.astype(np.float64)
    if how == "global":
        centred = x - x.mean(axis=(-2, -1), keepdims=True)
        return (centred / (x.std(axis=(-2, -1), ddof=1, keepdims=True) + 1e-6)).astype(signal.dtype)
    centred = x - x.mean(axis=-1, keepdims=True)
    std = np.sqrt((centred**2).mean(axis=-1, keepdims=True))
    flat = ~(std > 1e-9)  # also true for NaN
    return np.where(flat, 0, centred / np.where(flat, 1, std)).astype(signal.dtype)


# --- filters --------------------------------------------------------------------------------------


def filter_signal(
    signal: np.ndarray,
    fs: float,
    kind: str = "bandpass",
    low: float = 0.5,
    high: float = 40.0,
    mains: float = 50.0,
) -> np.ndarray:
    """(..., T) -> same shape, zero phase (run forwards and back), so no wave is shifted in time.

    highpass: above `low` Hz, order 2 (baseline drift). bandpass: `low` to `high` Hz, order 2 each.
    powerline: a notch 2 Hz wide at `mains` and its multiples below half the rate. Gaps stay NaN.
    A record at 100 Hz has no notch for 50 Hz hum, which lies at half its rate: powerline changes
    nothing there (see `condition` for records on their way down to it).
    """
    if kind not in FILTERS:
        raise DataError(f"There is no filter {kind!r}; choose one of {', '.join(FILTERS)}.")
    sections = _sections(fs, kind, low, high, mains)
    if not sections:
        return signal
    from scipy.signal import sosfiltfilt

    gaps = np.isnan(signal)
    out = fill_nan(signal).astype(np.float64)
    sos = np.concatenate(sections)
    # Three periods of the slowest corner is where its ringing has died away.
    pad = min(signal.shape[-1] - 1, round(3 * fs / (low if kind != "powerline" else 2)))
    out = sosfiltfilt(sos, out, axis=-1, padlen=pad).astype(signal.dtype)
    if gaps.any():
        out[gaps] = np.nan
    return out


@lru_cache(maxsize=32)  # a filter takes as long to design as to run over one ECG of 100 Hz
def _sections(fs: float, kind: str, low: float, high: float, mains: float) -> list[np.ndarray]:
    """Second-order sections (n, 6) of one filter; [] when it has nothing to do at this rate."""
    from scipy.signal import butter, iirnotch, tf2sos

    if kind == "none":
        return []
    if kind == "powerline":
        hums = [h for h in np.arange(mains, fs / 2 - 1, mains) if h > 0]
        return [tf2sos(*iirnotch(hum, hum / 2, fs)) for hum in hums]
    if not 0 < low < fs / 2:
        raise DataError(f"A high-pass corner of {low:g} Hz does not fit a rate of {fs:g} Hz.")
    sections = [butter(2, low, "highpass", fs=fs, output="sos")]
    if kind == "bandpass" and high < fs / 2:
        if high <= low:
            raise DataError(f"The band {low:g} to {high:g} Hz is empty; give low < high.")
        sections.append(butter(2, high, "lowpass", fs=fs, output="sos"))
    return sections


def filter_words(kind: str, low: float = 0.5, high: float = 40.0, mains: float = 50.0) -> str:
    """What a caption says about a filter."""
    return {
        "none": "no filter",
        "highpass": f"high-pass {low:g} Hz",
        "bandpass": f"band-pass {low:g}-{high:g} Hz",
        "powerline": f"notch {mains:g} Hz",
    }[kind]


def filter_record(record: ECGRecord, kind: str = "bandpass", **corners: float) -> ECGRecord:
    """The record filtered, with the filter in `meta["filter"]` for captions."""
    signal = filter_signal(record.signal, record.fs, kind, **corners)
    return replace(
        record, signal=signal, meta=record.meta | {"filter": filter_words(kind, **corners)}
    )
