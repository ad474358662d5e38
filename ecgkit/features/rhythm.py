"""R peaks, heart rate and the median beat, for a whole batch at once.

Shape letters: B records, C leads, T samples, N beats (of all records), L samples of one beat.

The detector: band-pass 6-20 Hz, energy over all leads, smoothed over 120 ms, then one peak search
over all records laid end to end. A beat reaches 36 % of its record's typical peak; of two peaks
less than 400 ms apart the lower goes if it is under 70 % of the other (a T wave, the far end of a
broad QRS). It finds beats, it does not tell their kind. The idea is Pan & Tompkins' (1985), here
over all leads and without adaptive state.

Usage:

    beats = find_beats(signal, fs=100)                  # Beats: record (N,), sample (N,)
    rate = heart_rate(beats)                            # (B,) beats per minute, NaN below 2 beats
    beat = median_beats(signal, beats)                  # (B, C, L)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PART = 128
REFRACTORY_S, CLOSE_S = 0.25, 0.4
LEAST_PEAK, LEAST_OF_NEIGHBOUR = 0.36, 0.7  # chosen on simulated beats and their truth
BEFORE_S, AFTER_S = 0.3, 0.5


@dataclass(frozen=True)
class Beats:
    """R peaks of B records: `record` (N,) which record, `sample` (N,) where in it, both sorted."""

    record: np.ndarray
    sample: np.ndarray
    n_records: int
    fs: float

    def of(self, record: int) -> np.ndarray:
        """(n,) samples of one record's R peaks."""
        return self.sample[self.record == record]

    def counts(self) -> np.ndarray:
        """(B,) beats found in each record."""
        return np.bincount(self.record, minlength=self.n_records)

    def intervals(self) -> tuple[np.ndarray, np.ndarray]:
        """(M,) record and (M,) seconds of each R-R interval."""
        same = self.record[1:] == self.record[:-1]
        return self.record[1:][same], np.diff(self.sample)[same] / self.fs


def find_beats(signal: np.ndarray, fs: float) -> Beats:
    """(B, C, T) or (C, T) mV -> Beats. A flat or empty record has none; NaN counts as no signal."""
    from scipy.signal import find_peaks

    signal = signal[None] if signal.ndim == 2 else signal
    n_records, _, n_samples = signal.shape
    # A part of the batch at a time: the filter needs several times the memory of what it filters.
    parts = [_qrs_energy(signal[i : i + PART], fs) for i in range(0, max(n_records, 1), PART)]
    size, height = (np.concatenate(arrays) for arrays in zip(*parts))
    # Records end to end, with silence between, so that one search serves the whole batch.
    gap = round(REFRACTORY_S * fs) + 1
    lane = np.pad(height, ((0, 0), (gap, gap))).ravel()  # (B, T) -> (B * (T + 2 gap),)
    peaks, _ = find_peaks(lane, height=LEAST_PEAK, distance=round(REFRACTORY_S * fs))
    record, sample = np.divmod(peaks, n_samples + 2 * gap)
    sample = np.clip(sample - gap, 0, n_samples - 1)
    for _ in range(2):  # a second look, for what the first one left side by side
        keep = ~_overshadowed(record, sample, height[record, sample], fs)
        record, sample = record[keep], sample[keep]
    return Beats(record, _sharpen(size, record, sample, fs), n_records, fs)


def heart_rate(beats: Beats) -> np.ndarray:
    """(B,) beats per minute from the median R-R interval; NaN for fewer than two beats."""
    return 60 / _by_record(np.median, *beats.intervals(), beats.n_records)


def rr_spread(beats: Beats) -> np.ndarray:
    """(B,) standard deviation of the R-R intervals over their mean; NaN below three beats."""

    def spread(values: np.ndarray) -> float:
        return values.std() / values.mean() if len(values) > 1 else np.nan

    return _by_record(spread, *beats.intervals(), beats.n_records)


def median_beats(
    signal: np.ndarray, beats: Beats, before: float = BEFORE_S, after: float = AFTER_S
) -> np.ndarray:
    """(B, C, T) and its beats -> (B, C, L) sample-wise median, R at `before` seconds.

    Beats cut off by the ends are left out; a record without a whole beat gives NaN.
    """
    signal = signal[None] if signal.ndim == 2 else signal
    lead_in, length = round(before * beats.fs), round((before + after) * beats.fs)
    start = beats.sample - lead_in
    whole = (start >= 0) & (start + length <= signal.shape[-1])
    record, start = beats.record[whole], start[whole]
    out = np.full((len(signal), signal.shape[1], length), np.nan, np.float32)
    span = np.arange(length)
    for b, first, last in _groups(record):
        at = start[first:last, None] + span  # (n, L)
        out[b] = np.median(signal[b][:, at], axis=1)  # (C, n, L) -> (C, L)
    return out


# --- pieces ---------------------------------------------------------------------------------------


def _qrs_energy(signal: np.ndarray, fs: float) -> tuple[np.ndarray, np.ndarray]:
    """(B, C, T) -> QRS band over all leads (B, T) in mV, and smoothed: 1 at a typical peak."""
    from scipy.ndimage import uniform_filter1d

    size = np.sqrt((_qrs_band(signal, fs) ** 2).sum(axis=1))  # (B, C, T) -> (B, T)
    smooth = np.sqrt(uniform_filter1d(size**2, max(round(0.12 * fs), 1), axis=-1))
    # The highest value in each 1.5 s holds a beat at 40 per minute and above; their median is
    # blind to one artefact or one large ventricular beat.
    width = min(round(1.5 * fs), smooth.shape[-1])
    n = smooth.shape[-1] // width
    windows = smooth[:, : n * width].reshape(len(smooth), n, width)
    highest = windows.max(axis=-1)
    # A tenth of the maximum is the floor for a record with hardly a beat in it.
    typical = np.maximum(np.median(highest, axis=-1), 0.1 * highest.max(axis=-1))
    return size, smooth / np.maximum(typical, 1e-6)[:, None]


def _qrs_band(signal: np.ndarray, fs: float, low: float = 6, high: float = 20) -> np.ndarray:
    """(B, C, T) -> same shape, 6-20 Hz with zero phase (Butterworth, order 3, by FFT: ten times
    faster here than running a filter both ways).
    """
    from scipy import fft

    x = np.nan_to_num(signal).astype(np.float32)
    n = x.shape[-1]
    ramp = np.linspace(0, 1, n, dtype=np.float32)
    x = x - x[..., :1] - (x[..., -1:] - x[..., :1]) * ramp  # so that the ends meet
    f = fft.rfftfreq(n, 1 / fs)
    gain = (f / low) ** 3 / np.sqrt((1 + (f / low) ** 6) * (1 + (f / high) ** 6))
    return fft.irfft(fft.rfft(x, axis=-1) * gain.astype(np.float32), n, axis=-1)


def _overshadowed(record, sample, height, fs: float) -> np.ndarray:
    """(N,) bool: peaks with a neighbour of the same record close by that is much higher."""
    near = (record[1:] == record[:-1]) & (np.diff(sample) < CLOSE_S * fs)
    lower = np.zeros(len(sample), bool)
    lower[1:] |= near & (height[1:] < LEAST_OF_NEIGHBOUR * height[:-1])
    lower[:-1] |= near & (height[:-1] < LEAST_OF_NEIGHBOUR * height[1:])
    return lower


def _sharpen(size: np.ndarray, record: np.ndarray, sample: np.ndarray, fs: float) -> np.ndarray:
    """Moves each peak to where the QRS band is widest over all leads, within 80 ms."""
    reach = round(0.08 * fs)
    at = np.clip(sample[:, None] + np.arange(-reach, reach + 1), 0, size.shape[-1] - 1)  # (N, W)
    best = size[record[:, None], at].argmax(axis=1)
    return at[np.arange(len(at)), best]


def _groups(record: np.ndarray):
    """Sorted (N,) -> (value, first, last) of each run."""
    values, first = np.unique(record, return_index=True)
    return zip(values.tolist(), first.tolist(), [*first[1:].tolist(), len(record)])


def _by_record(statistic, record: np.ndarray, values: np.ndarray, n_records: int) -> np.ndarray:
    out = np.full(n_records, np.nan)
    for b, first, last in _groups(record):
        out[b] = statistic(values[first:last])
    return out
