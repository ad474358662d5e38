"""From hearts and their beats to signals: wave trains, atrial waves, the twelve leads.

Shape letters: N records, K waves, B beats, C8 independent leads, T samples.

Usage:
    signal = render(hearts, beats, fs=100, n_samples=1000, rng=rng)     # (N, C8, T)
    signal = twelve_leads(signal)     # (N, 12, T) float32 mV
"""

from __future__ import annotations

import numpy as np

from ecgkit.data.synthetic import hearts as waves
from ecgkit.data.synthetic.hearts import Hearts
from ecgkit.data.synthetic.rhythm import VENTRICULAR, Beats


def render(
    hearts: Hearts, beats: Beats, fs: int, n_samples: int, rng: np.random.Generator
) -> np.ndarray:
    """(N, C8, T) float32 mV without noise."""
    n, t = len(hearts), np.arange(n_samples, dtype=np.float32) / fs
    sinus, ectopic = beats.kind != VENTRICULAR, beats.kind == VENTRICULAR
    amplitude = hearts.amplitudes().astype(np.float32)
    used = np.flatnonzero(np.abs(amplitude).max(axis=(0, 2)) > 1e-4)
    trains = np.empty((n, len(used), n_samples), dtype=np.float32)
    for slot, k in enumerate(used):
        shown = ectopic if k in waves.ECTOPIC_WAVES else sinus
        _wave_train(trains[:, slot], beats.time, shown, hearts, k, t, fs)
    breath = np.sin(2 * np.pi * beats.breath_hz[:, None] * t + rng.uniform(0, 6.28, (n, 1)))
    trains *= (1 + 0.03 * breath[:, None]).astype(
        np.float32
    )  # the heart turns a little with each breath
    signal = np.matmul(amplitude[:, used].transpose(0, 2, 1), trains)  # (N, C8, K) @ (N, K, T)
    _add_atrial_waves(signal, hearts, t, rng)
    return signal


def _wave_train(
    out: np.ndarray,
    time: np.ndarray,
    shown: np.ndarray,
    hearts: Hearts,
    k: int,
    t: np.ndarray,
    fs: int,
) -> None:
    """Writes wave `k` of every beat into `out` (N, T): each sample sees the nearest beat only."""
    n_samples = out.shape[1]
    centre = time + hearts.centre[:, k : k + 1]  # (N, B), ascending as the beats are
    middle = np.clip(np.ceil((centre[:, 1:] + centre[:, :-1]) * (fs / 2)), 0, n_samples)
    # How many samples each beat has to itself: (N, B), n_samples in each row.
    share = np.diff(middle.astype(np.int64), axis=1, prepend=0, append=n_samples).ravel()
    d = t - np.repeat(centre.astype(np.float32).ravel(), share).reshape(out.shape)
    early, late = ((1 / sd[:, k, None]).astype(np.float32) for sd in (hearts.rise, hearts.fall))
    d *= np.where(d < 0, early, late)
    np.multiply(d, np.float32(-0.5), out=out)
    out *= d
    np.exp(out, out=out)
    if not shown.all():
        out *= np.repeat(shown.ravel(), share).reshape(out.shape)


def _add_atrial_waves(
    signal: np.ndarray, hearts: Hearts, t: np.ndarray, rng: np.random.Generator
) -> None:
    """Fibrillation (5-8 Hz, wandering, largest in V1) and flutter (saw-tooth, about 5 Hz, largest
    in II, III, aVF).
    """
    rows = np.flatnonzero(hearts.f_waves > 0)
    if len(rows):
        m = len(rows)
        freq, phase = rng.uniform(4.8, 7.5, (m, 2, 1)), rng.uniform(0, 6.28, (m, 2, 1))
        wander = np.sin(2 * np.pi * rng.uniform(0.1, 0.5, (m, 2, 1)) * t + phase) * rng.uniform(
            1, 4, (m, 2, 1)
        )
        wave = np.sin(2 * np.pi * freq * t + wander + phase).sum(axis=1)  # (m, T)
        wave *= 1 + 0.4 * np.sin(2 * np.pi * rng.uniform(0.2, 0.6, (m, 1)) * t)
        leads = np.array([0.15, 0.5, 1.0, 0.6, 0.3, 0.2, 0.15, 0.12]) * np.exp(
            0.2 * rng.standard_normal((m, 8))
        )
        signal[rows] += (
            0.6 * hearts.f_waves[rows, None, None] * leads[..., None] * wave[:, None]
        ).astype(np.float32)
    rows = np.flatnonzero(hearts.flutter > 0)
    if len(rows):
        phase = t * (hearts.rate[rows, None] * 4 / 60) + rng.random(
            (len(rows), 1)
        )  # 4 flutter waves per mean beat
        saw = 1 - 2 * np.abs((phase % 1) ** 0.6 - 0.5) * 2
        leads = np.array([0.1, -1.0, 0.5, 0.2, 0.0, -0.1, -0.2, -0.3])
        signal[rows] += (hearts.flutter[rows, None, None] * leads[:, None] * saw[:, None]).astype(
            np.float32
        )


def twelve_leads(signal8: np.ndarray) -> np.ndarray:
    """(N, C8, T) -> (N, 12, T): III = II - I, aVR = -(I + II)/2, aVL = I - II/2, aVF = II - I/2."""
    one, two = signal8[:, 0], signal8[:, 1]
    limb = np.stack([one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2], axis=1)
    return np.concatenate([limb, signal8[:, 2:]], axis=1)
