"""Atria that do not beat: fibrillation's small waves and flutter's saw-tooth.

Shape letters: m records, F sources, C8 independent leads, T samples.

Usage:
    add_fibrillation(signal, hearts, fs, rng)       # signal (N, C8, T), in place
"""

from __future__ import annotations

import numpy as np

from ecgkit.data.synthetic.beats import Beats
from ecgkit.data.synthetic.hearts import Hearts

_SOURCES = 3
# How strongly each lead sees the waves: the right atrium lies under V1; II, III, aVF come next.
_FIBRILLATION = np.array([0.25, 0.55, 1.0, 0.60, 0.30, 0.22, 0.18, 0.15])
# Flutter's slow descent and sharp turn as II, III, aVF see it, and the upright wave in V1.
_SAW = np.array([0.05, 1.0, -0.10, 0.05, 0.10, 0.10, 0.10, 0.10])
_WAVE = np.array([0.0, 0.05, 0.75, 0.40, 0.15, 0.0, -0.08, -0.12])


def add_fibrillation(signal: np.ndarray, hearts: Hearts, fs: int, rng) -> None:
    """Waves of 4.5-9 Hz (350-540/min) that drift in rate and size, with harmonics, largest in V1.

    A sum of saw-tooths of modulated frequency in the manner of Stridh and Soernmo 2001 (IEEE TBME
    48:105): the main source with two that are near it, each seen otherwise by each lead.
    """
    rows = np.flatnonzero(hearts.f_waves > 0)
    if not len(rows):
        return
    m, t = len(rows), np.arange(signal.shape[2], dtype=np.float32) / fs
    main = rng.normal(6.3, 0.8, (m, 1)).clip(4.6, 8.6)
    freq = main + np.concatenate([np.zeros((m, 1)), rng.normal(0, 0.5, (m, _SOURCES - 1))], axis=1)
    angle = 2 * np.pi * freq[..., None] * t + rng.uniform(0, 2 * np.pi, (m, _SOURCES, 1))
    for low, high, depth in ((0.08, 0.25, 2.0), (0.5, 1.2, 0.7)):  # the rate drifts
        slow = rng.uniform(low, high, (m, _SOURCES, 1))
        angle += depth * np.sin(2 * np.pi * slow * t + rng.uniform(0, 6.28, slow.shape))
    angle = angle.astype(np.float32)
    coarse = np.clip(hearts.f_waves[rows] / 0.10, 0.3, 1.2)[:, None, None]
    wave = np.sin(angle) + (0.35 * coarse) * np.sin(2 * angle + 0.5)
    wave += (0.15 * coarse) * np.sin(3 * angle + 1.0)  # coarse waves are peaked
    beat = 2 * np.pi * rng.uniform(0.1, 0.5, (m, _SOURCES, 1)) * t
    wave *= 1 + 0.4 * np.sin(beat + rng.uniform(0, 6.28, (m, _SOURCES, 1)))
    share = np.array([1.0, 0.6, 0.5])[:, None]
    weight = share * _FIBRILLATION * np.exp(0.3 * rng.standard_normal((m, _SOURCES, 8)))
    # The main source under V1 and the limb leads' own sources are not in phase.
    weight[:, 1:, 0:2] *= rng.choice([-1.5, 1.5], (m, _SOURCES - 1, 1))
    weight *= hearts.f_waves[rows, None, None] * 0.75
    signal[rows] += np.matmul(weight.transpose(0, 2, 1), wave).astype(np.float32)


def add_flutter(signal: np.ndarray, hearts: Hearts, beats: Beats, fs: int, rng) -> None:
    """A saw-tooth on the atrial clock: typical flutter falls slowly in II, III, aVF, turns sharply
    and shows an upright wave in V1; reverse flutter is the other way up.
    """
    rows = np.flatnonzero(hearts.flutter > 0)
    t = np.arange(signal.shape[2]) / fs
    for row in rows.tolist():
        number = np.arange(beats.atrial.shape[1])
        phase = np.interp(t, beats.atrial[row], number) % 1
        size, turn = hearts.flutter[row], hearts.flutter_turn[row] or 1.0
        saw = _periodic(phase, (0.0, 0.50, 0.68, 0.88, 1.0), (0.25, -0.35, -1.0, 0.45, 0.25))
        wave = _periodic(phase, (0.0, 0.35, 0.55, 0.75, 1.0), (-0.15, -0.10, 1.0, -0.05, -0.15))
        leads = np.exp(0.15 * rng.standard_normal((2, 8)))
        drawn = np.outer(_SAW * leads[0], saw) + np.outer(_WAVE * leads[1], wave)
        signal[row] += (size * turn * drawn).astype(np.float32)


def _periodic(phase: np.ndarray, knots: tuple, values: tuple) -> np.ndarray:
    """A closed curve through (knots, values), smooth, by phase in 0..1."""
    from scipy.interpolate import PchipInterpolator

    return PchipInterpolator(knots, values)(phase)
