"""Atria that do not beat: fibrillation's small waves and flutter's saw-tooth.

Shape letters: m records, F sources, C8 independent leads, T samples.

Usage:

    add_fibrillation(signal, hearts, fs, rng)       # signal (N, C8, T), in place
"""

from __future__ import annotations

from functools import cache

import numpy as np

from ecgkit.data.synthetic.beats import Beats
from ecgkit.data.synthetic.hearts import Hearts

_SOURCES, _TURN = 3, np.float32(2 * np.pi)
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

    def per_source(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, (m, _SOURCES, 1)).astype(np.float32)

    hz = rng.normal(6.3, 0.8, (m, 1, 1)).clip(4.6, 8.6) + rng.normal(0, 0.5, (m, _SOURCES, 1))
    turns = hz.astype(np.float32) * t + per_source(0, 1)
    for low, high, depth in ((0.08, 0.25, 0.32), (0.5, 1.2, 0.11)):  # the rate drifts
        turns += depth * np.sin(_TURN * (per_source(low, high) * t + per_source(0, 1)))
    angle = _TURN * (turns % 1)
    coarse = np.clip(hearts.f_waves[rows] / 0.10, 0.3, 1.2).astype(np.float32)[:, None, None]
    wave = np.sin(angle) + (0.35 * coarse) * np.sin(2 * angle + np.float32(0.5))
    wave += (0.15 * coarse) * np.sin(3 * angle + np.float32(1.0))  # coarse waves are peaked
    swell = np.sin(_TURN * (per_source(0.1, 0.5) * t + per_source(0, 1)))
    wave *= 1 + np.float32(0.4) * swell
    share = np.array([1.0, 0.6, 0.5])[:, None]
    weight = share * _FIBRILLATION * np.exp(0.3 * rng.standard_normal((m, _SOURCES, 8)))
    # The main source under V1 and the limb leads' own sources are not in phase.
    weight[:, 1:, 0:2] *= rng.choice([-1.5, 1.5], (m, _SOURCES - 1, 1))
    weight *= hearts.f_waves[rows, None, None] * 0.75
    signal[rows] += np.matmul(weight.transpose(0, 2, 1).astype(np.float32), wave)


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
        saw, wave = (np.interp(phase, *curve) for curve in _flutter_curves())
        leads = np.exp(0.15 * rng.standard_normal((2, 8)))
        drawn = np.outer(_SAW * leads[0], saw) + np.outer(_WAVE * leads[1], wave)
        signal[row] += (size * turn * drawn).astype(np.float32)


@cache
def _flutter_curves() -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """(phase 0..1, height) of the saw-tooth and of the upright wave, smooth and closed."""
    from scipy.interpolate import PchipInterpolator

    saw = PchipInterpolator((0.0, 0.50, 0.68, 0.88, 1.0), (0.25, -0.35, -1.0, 0.45, 0.25))
    wave = PchipInterpolator((0.0, 0.35, 0.55, 0.75, 1.0), (-0.15, -0.10, 1.0, -0.05, -0.15))
    phase = np.linspace(0, 1, 400)
    return (phase, saw(phase)), (phase, wave(phase))
