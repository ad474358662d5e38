"""Summary features of 12-lead ECGs, the same for real and simulated records.

Shape letters: N records, C12 leads, T samples at 100 Hz, L samples of the median beat.

Usage:
    table = summary_features(signal)     # (N, 12, 1000) mV at 100 Hz -> (N rows, one column each)
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ecgkit.features.rhythm import find_beats, heart_rate, median_beats, rr_spread
from ecgkit.types import LEADS

FS, BEFORE, AFTER = 100, 0.32, 0.46
LIMB, CHEST, FREE = slice(0, 6), slice(6, 12), [0, 1, 6, 7, 8, 9, 10, 11]
BANDS = ((0.5, 1), (1, 5), (5, 15), (15, 30), (30, 45))


def summary_features(signal: np.ndarray) -> pd.DataFrame:
    """(N, 12, T) mV at 100 Hz -> (N, F) features; NaN where one cannot be taken (no beat)."""
    signal = np.asarray(signal, np.float32)
    beats = find_beats(signal, FS)
    beat = median_beats(signal, beats, BEFORE, AFTER)
    level = beat[..., _at(-0.085) : _at(-0.045)]
    beat = beat - np.median(level, axis=-1, keepdims=True)  # PR segment is zero
    columns = {
        "heart_rate": heart_rate(beats), "rr_spread": rr_spread(beats),
        **_amplitudes(beat), **_intervals(beat), **_axes(beat), **_shape(beat),
        **_noise(signal), **_residual(signal, beats, beat), **_spectrum(signal),
        **_roughness(signal),
    }  # fmt: skip
    return pd.DataFrame(columns).astype(np.float64)


def _at(seconds: float) -> int:
    """Index into the median beat; 0 s is the R peak."""
    return round((BEFORE + seconds) * FS)


def _amplitudes(beat: np.ndarray) -> dict:
    """mV per lead: R, S (the deepest after or before), ST level 60 ms after J, T, P."""
    qrs, t = beat[..., _at(-0.06) : _at(0.08)], beat[..., _at(0.16) : _at(0.42)]
    p = beat[..., _at(-0.28) : _at(-0.07)]
    st = beat[..., _at(0.10) : _at(0.13)].mean(axis=-1)
    high, low = t.max(axis=-1), t.min(axis=-1)
    t_size = np.where(np.abs(high) > np.abs(low), high, low)
    found = {}
    for c in (0, 1, 4, 5, 6, 7, 8, 9, 10, 11):
        found[f"R_{LEADS[c]}"], found[f"S_{LEADS[c]}"] = qrs[:, c].max(-1), qrs[:, c].min(-1)
        found[f"T_{LEADS[c]}"] = t_size[:, c]
    for c in (1, 4, 6, 7, 8, 10):
        found[f"ST_{LEADS[c]}"] = st[:, c]
    for c in (0, 1, 6, 7):
        found[f"P_{LEADS[c]}"] = p[:, c].max(-1)
    found["P_low_V1"] = p[:, 6].min(-1)
    found["T_over_R_V5"] = t_size[:, 10] / np.maximum(qrs[:, 10].max(-1), 0.1)
    return found


def _intervals(beat: np.ndarray) -> dict:
    """ms, at 100 Hz and therefore coarse: QRS width, R peak to T peak and to T end, P peak to R."""
    size = np.sqrt((beat[:, FREE] ** 2).sum(axis=1))  # (N, L)
    slope = np.sqrt((np.gradient(beat[:, FREE], axis=-1) ** 2).sum(axis=1))
    top = slope[:, _at(-0.1) : _at(0.12)]
    busy = top > 0.12 * top.max(axis=1, keepdims=True)
    first, last = busy.argmax(axis=1), busy.shape[1] - busy[:, ::-1].argmax(axis=1)
    t = size[:, _at(0.14) :]
    peak = t.argmax(axis=1)
    after = np.arange(t.shape[1]) > peak[:, None]
    ended = after & (t < 0.25 * t.max(axis=1, keepdims=True))
    end = np.where(ended.any(axis=1), ended.argmax(axis=1), t.shape[1])
    early = (np.arange(t.shape[1]) < peak[:, None]) & (t < 0.5 * t.max(axis=1, keepdims=True))
    half_up = peak - np.where(early.any(axis=1), t.shape[1] - 1 - early[:, ::-1].argmax(axis=1), 0)
    late = after & (t < 0.5 * t.max(axis=1, keepdims=True))
    half_down = np.where(late.any(axis=1), late.argmax(axis=1), t.shape[1]) - peak
    p = size[:, _at(-0.28) : _at(-0.08)]
    return {
        "qrs_ms": 10 * (last - first), "t_peak_ms": 140 + 10 * peak, "t_end_ms": 140 + 10 * end,
        "t_half_rise_ms": 10 * half_up, "t_half_fall_ms": 10 * half_down,
        "p_peak_ms": 280 - 10 * p.argmax(axis=1),
        "p_width_ms": 10 * (p > 0.5 * p.max(axis=1, keepdims=True)).sum(axis=1),
    }  # fmt: skip


def _axes(beat: np.ndarray) -> dict:
    """Frontal axes as sine and cosine (degrees wrap), and the angle between QRS and T."""
    found, area = {}, {}
    for name, (a, b) in {"qrs": (-0.06, 0.08), "t": (0.16, 0.42), "p": (-0.28, -0.07)}.items():
        area[name] = beat[..., _at(a) : _at(b)].sum(axis=-1)
        one, avf = area[name][:, 0], area[name][:, 5] * 2 / np.sqrt(3)
        angle = np.arctan2(avf, one)
        found[f"{name}_axis_cos"], found[f"{name}_axis_sin"] = np.cos(angle), np.sin(angle)
    q, t = area["qrs"][:, FREE], area["t"][:, FREE]
    found["qrs_t_cos"] = (q * t).sum(1) / (np.linalg.norm(q, axis=1) * np.linalg.norm(t, axis=1))
    return found


def _shape(beat: np.ndarray) -> dict:
    """How many independent pictures the leads show, how notched and how sharp the QRS is."""
    qrs, st_t = beat[:, FREE, _at(-0.06) : _at(0.08)], beat[:, FREE, _at(0.1) : _at(0.42)]
    found = {}
    for name, part in (("qrs", qrs), ("t", st_t)):
        energy = np.linalg.svd(np.nan_to_num(part), compute_uv=False) ** 2
        share = energy / np.maximum(energy.sum(axis=1, keepdims=True), 1e-9)
        found[f"{name}_dim1"] = share[:, 0]
        found[f"{name}_beyond2"] = np.log10(share[:, 2:].sum(axis=1) + 1e-6)
        found[f"{name}_beyond3"] = np.log10(share[:, 3:].sum(axis=1) + 1e-6)
    d = np.diff(qrs, axis=-1)
    turns = (d[..., 1:] * d[..., :-1] < 0) & (np.abs(d[..., 1:] - d[..., :-1]) > 0.03)
    found["qrs_turns"] = turns.sum(axis=-1).mean(axis=1)
    size = np.ptp(qrs, axis=-1)
    found["qrs_sharpness"] = (np.abs(np.diff(d, axis=-1)).max(-1) / np.maximum(size, 0.05)).mean(1)
    found["qrs_size"] = size.mean(axis=1)
    flat = beat[:, FREE, _at(0.1) : _at(0.42)]
    found["st_t_bends"] = np.log10(np.abs(np.diff(flat, n=2, axis=-1)).mean(axis=(1, 2)) + 1e-5)
    late = beat[:, FREE, _at(0.40) :]
    found["after_t_size"] = np.abs(late.mean(axis=-1)).mean(axis=1)
    return found


def _noise(signal: np.ndarray) -> dict:
    """Baseline below 0.5 Hz (median and worst lead, mV) and the quiet stretches' fine grain."""
    f = np.fft.rfftfreq(signal.shape[-1], 1 / FS)
    spectrum = np.fft.rfft(signal, axis=-1)
    slow = np.fft.irfft(np.where((f > 0) & (f < 0.5), spectrum, 0), signal.shape[-1], axis=-1)
    wander = slow.std(axis=-1)
    found = {"offset": np.abs(np.median(signal, axis=-1)).mean(axis=1)}
    found["wander_limb"] = np.log10(np.median(wander[:, LIMB], axis=1) + 1e-4)
    found["wander_chest"] = np.log10(np.median(wander[:, CHEST], axis=1) + 1e-4)
    found["wander_worst"] = np.log10(wander.max(axis=1) + 1e-4)
    fine = np.fft.irfft(np.where(f > 20, spectrum, 0), signal.shape[-1], axis=-1)
    tiles = fine[..., : signal.shape[-1] // 10 * 10].reshape(*fine.shape[:2], -1, 10).std(axis=-1)
    quiet, busy = np.quantile(tiles, [0.2, 0.5], axis=-1)
    for name, leads in (("limb", LIMB), ("chest", CHEST)):
        found[f"grain_{name}"] = np.log10(np.median(quiet[:, leads], axis=1) + 1e-4)
    found["grain_worst"] = np.log10(quiet.max(axis=1) + 1e-4)
    found["grain_uneven"] = np.log10((busy / (quiet + 1e-4)).mean(axis=1) + 1e-4)
    return found


def _residual(signal: np.ndarray, beats, beat: np.ndarray) -> dict:
    """How much single beats differ from the median beat, in QRS and T, over the QRS size (log)."""
    lead_in, length = round(BEFORE * FS), beat.shape[-1]
    start = beats.sample - lead_in
    whole = (start >= 0) & (start + length <= signal.shape[-1])
    record, start = beats.record[whole], start[whole]
    at = start[:, None] + np.arange(length)
    single = signal[record[:, None, None], np.array(FREE)[None, :, None], at[:, None]]
    single = single - single[..., _at(-0.085) : _at(-0.045)].mean(axis=-1, keepdims=True)
    apart = np.abs(single - beat[record][:, FREE])  # (beats, 8, L)
    size = np.ptp(beat[:, FREE], axis=-1).mean(axis=1)
    count = np.maximum(np.bincount(record, minlength=len(signal)), 1)
    found = {}
    for name, (a, b) in {"qrs": (-0.05, 0.06), "t": (0.16, 0.4), "tp": (-0.3, -0.2)}.items():
        total = np.bincount(record, apart[..., _at(a) : _at(b)].mean(axis=(1, 2)), len(signal))
        found[f"beats_differ_{name}"] = np.log10(total / count / np.maximum(size, 0.05) + 1e-4)
    return found


def _spectrum(signal: np.ndarray) -> dict:
    """log10 of the power in each band, limb and chest leads, mV^2."""
    window = np.hanning(signal.shape[-1]).astype(np.float32)
    x = (signal - signal.mean(axis=-1, keepdims=True)) * window
    power = np.abs(np.fft.rfft(x, axis=-1)) ** 2 / signal.shape[-1] ** 2
    f, found = np.fft.rfftfreq(signal.shape[-1], 1 / FS), {}
    for low, high in BANDS:
        inside = power[..., (f >= low) & (f < high)].sum(axis=-1)
        found[f"band_{low}-{high}_limb"] = np.log10(inside[:, LIMB].mean(axis=1) + 1e-9)
        found[f"band_{low}-{high}_chest"] = np.log10(inside[:, CHEST].mean(axis=1) + 1e-9)
    return found


def _roughness(signal: np.ndarray) -> dict:
    """Entropy-like: share of unchanged samples, order patterns, Hjorth's mobility, tails."""
    d = np.diff(signal, axis=-1)
    turns = (d[..., 1:] * d[..., :-1] < 0).mean(axis=-1)
    sd = d.std(axis=-1) + 1e-6
    found = {"unchanged": (d == 0).mean(axis=(1, 2)), "turning": turns.mean(axis=1)}
    found["mobility"] = np.log10(sd / (signal.std(axis=-1) + 1e-6)).mean(axis=1)
    found["complexity"] = np.log10(np.diff(d, axis=-1).std(axis=-1) / sd + 1e-4).mean(axis=1)
    found["quiet_step"] = np.log10(np.median(np.abs(d), axis=-1).mean(axis=1) + 1e-4)
    found["turning_uneven"] = turns.std(axis=1)
    return found
