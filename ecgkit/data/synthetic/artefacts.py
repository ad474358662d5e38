"""What the electrode and the room add: drift, muscle, mains, loose electrodes. Noise lives on
electrodes, not on leads.

A disturbed arm electrode therefore shows in the limb leads it feeds (and slightly in the chest
leads through Wilson's terminal), a disturbed chest electrode in one lead only, as on paper. Sizes
and spectra follow PTB-XL's folds 1-4: what stays between beats at 1-150 Hz, and below 1 Hz.

Drift and fine noise are cut at random from two long stretches per call (`_stretch`), shaped by
their spectrum once: that costs a tenth of drawing every sample anew.

Shape letters: N records, E electrodes (RA LA LL V1-V6), C8 independent leads, T samples.

Usage:

    art = draw_artefacts(n, rng)     # Artefacts: sizes (N, E) mV, PTB-XL's column texts
    disturb(signal, art, rows, fs, rng)     # (n, C8, T) mV, in place
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

ELECTRODES = ("RA", "LA", "LL", "V1", "V2", "V3", "V4", "V5", "V6")
KINDS = ("baseline_drift", "static_noise", "burst_noise", "electrodes_problems")
# PTB-XL names 7-15 % of its records for drift, 15-20 % for static noise, about 3 % for bursts and
# below 1 % for electrodes (Wagner et al. 2020, table of signal quality).
RATES = (0.10, 0.16, 0.035, 0.010)
# PTB-XL's way to name the leads one electrode disturbs; the lists end where a range would.
_LEADS_OF = {"RA": "I,II,AVR", "LA": "I,III,AVL", "LL": "II,III,AVF"} | {
    v: v for v in ELECTRODES[3:]
}
# How it names the limb leads together, with or without neighbours on the chest; how many of those.
_LIMB_TEXTS = (("I-AVF", 0, 0.40), ("I-AVR", 0, 0.36), ("I-V1", 1, 0.14), ("I-V2", 2, 0.10))
_ALL = "alles"
_BLOCK = 16  # records at a time stay in the processor's cache
_NOISY_MAINS = 0.12


def electrode_to_leads() -> np.ndarray:
    """(C8, E): I = LA - RA, II = LL - RA, Vi = Vi - (RA + LA + LL) / 3."""
    matrix = np.zeros((8, 9))
    matrix[0, [1, 0]] = 1, -1
    matrix[1, [2, 0]] = 1, -1
    matrix[2:, 3:] = np.eye(6)
    matrix[2:, :3] = -1 / 3
    return matrix


@dataclass
class Artefacts:
    """Size of each disturbance on each electrode, (N, E) mV; `text` holds PTB-XL's column strings
    ('' = none).

    drift: below 1 Hz; fine: amplifier and skin; static: muscle, all the time; burst: muscle, for a
    second or two; loose: jumps, or lost contact; mains: 50 Hz.
    """

    drift: np.ndarray
    fine: np.ndarray
    static: np.ndarray
    burst: np.ndarray
    loose: np.ndarray
    mains: np.ndarray
    text: dict[str, list[str]]


def draw_artefacts(n: int, rng: np.random.Generator, rates=RATES) -> Artefacts:
    """Chooses which records are disturbed (`rates` per kind, in the order of KINDS), where, and
    how strongly.
    """

    def uneven(middle: float, between: float, within: float) -> np.ndarray:
        """(N, E) log-normal: records differ by `between`, electrodes of one by `within`."""
        return (
            middle
            * np.exp(between * rng.standard_normal((n, 1)))
            * np.exp(within * rng.standard_normal((n, 9)))
        )

    sizes = {
        "baseline_drift": uneven(0.023, 0.50, 0.50),
        "static_noise": np.zeros((n, 9)),
        "burst_noise": np.zeros((n, 9)),
        "electrodes_problems": np.zeros((n, 9)),
    }
    fine, mains = uneven(0.0074, 0.28, 0.45), uneven(0.004, 0.6, 0.4)
    mains *= rng.random((n, 1)) < _NOISY_MAINS
    middles = {  # median and log sd
        "baseline_drift": (0.13, 0.5),
        "static_noise": (0.016, 0.4),
        "burst_noise": (0.10, 0.5),
        "electrodes_problems": (0.5, 0.5),
    }
    text = {}
    for kind, rate in zip(KINDS, rates):
        hit = rng.random(n) < rate
        middle, spread = middles[kind]
        size, place = middle * np.exp(spread * rng.standard_normal(n)), rng.random((n, 2))
        pick = rng.integers(0, 9, n)
        if kind == "electrodes_problems":  # loose electrodes are seen on the chest
            pick, place = 3 + pick % 6, np.zeros((n, 2))
        if kind == "static_noise":  # muscle noise comes from the arms
            place[:, 0] = 0.3 + 0.7 * place[:, 0]
        text[kind] = [
            _place(sizes[kind][i], size[i], place[i], pick[i], kind) if hit[i] else ""
            for i in range(n)
        ]
    drift, static, burst, loose = sizes.values()
    return Artefacts(drift, fine, static, burst, loose, mains, text)


def _place(row: np.ndarray, size: float, place: np.ndarray, pick: int, kind: str) -> str:
    """Raises `row` (E,) at the disturbed electrodes to `size` and returns the column's text for
    them.
    """
    if place[0] < 0.6:
        row[pick], leads = size, _LEADS_OF[ELECTRODES[pick]]
    elif place[0] < 0.93:
        leads, chest, _ = _LIMB_TEXTS[np.searchsorted(_LIMB_SHARES, place[1])]
        row[: 3 + chest] = size
    else:
        row[:], leads = size, _ALL
    return {"static_noise": f" , {leads},  ", "baseline_drift": f" , {leads}"}.get(kind, leads)


_LIMB_SHARES = np.cumsum([share for _, _, share in _LIMB_TEXTS])[:-1]


# --- on the signal --------------------------------------------------------------------------------


def disturb(signal: np.ndarray, art: Artefacts, rows, fs: int, rng: np.random.Generator) -> None:
    """Adds the disturbances of the records in `rows` to `signal` (n, C8, T) float32 mV, in place;
    where an electrode of the chest loses contact, its lead is gone for a while.
    """
    signal += draw_noise(art, rows, fs, signal.shape[-1], rng)
    for i, e in zip(*np.nonzero(art.loose[rows])):
        if rng.random() < 0.4:
            _lose_contact(signal[i, e - 1], art.loose[rows][i, e], fs, rng)


def draw_noise(
    art: Artefacts, rows: slice, fs: int, n_samples: int, rng: np.random.Generator
) -> np.ndarray:
    """(N, C8, T) float32 mV of disturbance in the independent leads for the records in `rows`."""
    t = np.arange(n_samples, dtype=np.float32) / fs
    to_leads = electrode_to_leads()
    drift, fine = art.drift[rows], art.fine[rows]
    n = len(drift)
    drifts, fines = (
        _stretch(n, fs, n_samples, _drift_power, rng),
        _stretch(n, fs, n_samples, _fine_power, rng),
    )
    mix = (to_leads * (drift * _DRIFT)[:, None]) @ _NEIGHBOURS, to_leads * (fine * _FINE)[:, None]
    mix = np.concatenate(mix, axis=2).astype(np.float32)  # (N, C8, 2 E)
    cut = rng.integers(0, len(fines) - n_samples, (n, 18))
    out = np.empty((n, 8, n_samples), dtype=np.float32)
    sources = np.empty((18, n_samples), dtype=np.float32)
    for i in range(n):
        for e in range(9):
            sources[e] = drifts[cut[i, e] : cut[i, e] + n_samples]
            sources[9 + e] = fines[cut[i, 9 + e] : cut[i, 9 + e] + n_samples]
        np.matmul(mix[i], sources, out=out[i])
    _add_muscle(out, art, rows, t, fs, rng)
    _add_mains(out, art.mains[rows], t, fs, rng)
    _add_loose(out, art.loose[rows], t, rng)
    return out


# Chest electrodes drift together with their neighbours, limb electrodes each for themselves.
_DRIFT, _FINE = np.repeat([[1.0, 1.6], [1.35, 0.9]], [3, 6], axis=1)
_NEIGHBOURS = np.eye(9)
_NEIGHBOURS[3:, 3:] = np.exp(-0.5 * (np.subtract.outer(np.arange(6), np.arange(6)) / 0.75) ** 2)
_NEIGHBOURS /= np.linalg.norm(_NEIGHBOURS, axis=1, keepdims=True)


def _drift_power(f: np.ndarray) -> np.ndarray:
    """Slower is larger, with breathing's bump near 0.25 Hz; recorders stop at 0.05 Hz."""
    high_pass = (f / 0.05) ** 2 / (1 + (f / 0.05) ** 2)
    return high_pass * (
        1 / (1 + (f / 0.12) ** 2.6) + 0.12 * np.exp(-0.5 * ((f - 0.26) / 0.06) ** 2)
    )


def _fine_power(f: np.ndarray) -> np.ndarray:
    """Skin and amplifier: pink below 40 Hz, even above, gone beyond the recorder's 150 Hz."""
    pink = 1 / np.maximum(f, 0.7) ** 0.75 + 0.007
    return pink / (1 + (f / 150) ** 6)


def _muscle_power(f: np.ndarray) -> np.ndarray:
    """Muscle: from 15 Hz up, falling slowly."""
    return (f / 18) ** 4 / (1 + (f / 18) ** 4) / (1 + (f / 45) ** 1.6) / (1 + (f / 150) ** 6)


def _stretch(n: int, fs: int, n_samples: int, power, rng) -> np.ndarray:
    """(M,) float32 noise with the spectrum `power`, sd 1 over 0 to 250 Hz (less at a low `fs`):
    some minutes, from which the records cut theirs.
    """
    from scipy import fft

    m = fft.next_fast_len(int(np.clip(n, 4, 64)) * n_samples + n_samples, real=True)
    gain = _gain(m, fs, power)
    spectrum = np.empty(len(gain), dtype=np.complex64)
    spectrum.real = rng.standard_normal(len(gain), dtype=np.float32)
    spectrum.imag = rng.standard_normal(len(gain), dtype=np.float32)
    return fft.irfft(spectrum * gain, m)


@lru_cache(maxsize=16)
def _gain(m: int, fs: int, power) -> np.ndarray:
    """(m // 2 + 1,) float32: what each frequency of a stretch of `m` samples is multiplied by."""
    from scipy import fft

    f = fft.rfftfreq(m, 1 / fs)
    whole = np.linspace(0.01, 250, 25_000)
    gain = np.sqrt(power(f) * (fs * m / 4) / (power(whole).mean() * 250))
    gain *= 1 / (1 + (f / (0.46 * fs)) ** 24)  # no recorder leaves power at the Nyquist frequency
    gain[0] = 0
    return gain.astype(np.float32)


def _add_muscle(out: np.ndarray, art: Artefacts, rows, t: np.ndarray, fs: int, rng) -> None:
    """Muscle noise, in place: all the time (static, its strength wandering) and in bursts."""
    static, burst = art.static[rows], art.burst[rows]
    hit = np.flatnonzero((static + burst).any(axis=1))
    if not len(hit):
        return
    muscle = _stretch(8, fs, len(t), _muscle_power, rng)
    to_leads = electrode_to_leads().astype(np.float32)
    for i in hit:
        wander = 1 + 0.5 * np.sin(2 * np.pi * (rng.uniform(0.05, 0.3) * t + rng.random()))
        start, width = rng.uniform(0.05, 0.75) * t[-1] + 0.6, rng.uniform(0.25, 0.8)
        window = np.exp(-0.5 * ((t - start) / width) ** 2)
        for e in np.flatnonzero(static[i] + burst[i]):
            first = rng.integers(0, len(muscle) - len(t))
            own = muscle[first : first + len(t)] * (static[i, e] * wander + burst[i, e] * window)
            out[i] += np.outer(to_leads[:, e], own)


def _add_mains(out: np.ndarray, mains: np.ndarray, t: np.ndarray, fs: int, rng) -> None:
    """50 Hz of wandering strength, in place. At 100 Hz it lies at the Nyquist frequency, where
    PTB-XL's own resampling has removed it."""
    if fs < 200:
        return
    for i in np.flatnonzero(mains.any(axis=1)):
        swing = 1 + 0.4 * np.sin(2 * np.pi * (rng.uniform(0.05, 0.4) * t + rng.random()))
        wave = swing * np.sin(2 * np.pi * (50 + rng.normal(0, 0.03)) * t + 6.28 * rng.random())
        # Its phase differs from electrode to electrode by little.
        out[i] += np.outer(electrode_to_leads() @ mains[i], wave).astype(np.float32)


def _add_loose(
    noise: np.ndarray, loose: np.ndarray, t: np.ndarray, rng: np.random.Generator
) -> None:
    """Electrode motion on the chest, in place: jumps that decay within half a second."""
    for i, e in zip(*np.nonzero(loose)):
        for start in rng.uniform(0, t[-1], rng.integers(2, 6)):
            after = np.clip(t - start, 0, None)
            jump = loose[i, e] * rng.uniform(0.4, 1.4) * rng.choice([-1, 1])
            decay = np.exp(-after / rng.uniform(0.15, 0.8))
            noise[i, e - 1] += np.where(t >= start, jump * decay, 0)


def _lose_contact(lead: np.ndarray, size: float, fs: int, rng: np.random.Generator) -> None:
    """One lead (T,) without contact for one to four seconds, in place: flat, or a slow saw-tooth
    while the amplifier seeks its zero."""
    n = len(lead)
    first, length = int(rng.uniform(0, 0.7) * n), int(rng.uniform(0.1, 0.4) * n)
    last = min(first + length, n)
    t = np.arange(last - first) / fs
    saw = size * ((t * rng.uniform(0.5, 2)) % 1 - 0.5) * (rng.random() < 0.5)
    lead[first:last] = rng.choice([-1, 1]) * size * rng.uniform(0, 1.5) + saw
