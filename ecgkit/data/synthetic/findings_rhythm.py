"""SCP findings of rhythm: one function per code, each with its criterion.

Each takes (hearts, rows (n,) int, u (n,) severity 0 mild .. 1 marked, rng) and changes those rows
of the hearts in place; `findings` holds the table of all codes and their order.
"""

from __future__ import annotations

import numpy as np

from ecgkit.data.synthetic.findings_conduction import complete_lbbb
from ecgkit.data.synthetic.hearts import (
    E1,
    E2,
    ET,
    P_WAVES,
    R1,
    R2,
    SPIKE,
    Hearts,
)

_MAIN = [R1, R2]


def sinus(h: Hearts, rows, u, rng):
    """SR: P before each QRS, 60-100/min."""
    h.rate[rows] = np.clip(rng.normal(75, 9, len(rows)), 62, 96)


def sinus_bradycardia(h: Hearts, rows, u, rng):
    """SBRAD: sinus rhythm below 60/min; here 41-56."""
    h.rate[rows] = 56 - 15 * u * rng.uniform(0.4, 1, len(rows))


def sinus_tachycardia(h: Hearts, rows, u, rng):
    """STACH: sinus rhythm above 100/min; here 103-145."""
    h.rate[rows] = 103 + 40 * u * rng.uniform(0.3, 1, len(rows))
    h.rr_breath[rows] *= 0.4


def sinus_arrhythmia(h: Hearts, rows, u, rng):
    """SARRH: sinus P waves, RR swings with breathing by more than 120 ms (about 12 %)."""
    h.rate[rows] = rng.uniform(58, 82, len(rows))
    h.rr_breath[rows] = 0.12 + 0.08 * u


def atrial_fibrillation(h: Hearts, rows, u, rng):
    """AFIB: no P waves, irregularly irregular RR, fibrillation waves of 0.03-0.12 mV, largest in
    V1.
    """
    h.rate[rows] = rng.uniform(58, 135, len(rows))
    h.rr_spread[rows], h.rr_breath[rows] = 0.16 + 0.10 * u, 0
    h.dipole[np.ix_(rows, P_WAVES)] = 0
    h.f_waves[rows] = 0.03 + 0.08 * u


def atrial_flutter(h: Hearts, rows, u, rng):
    """AFLT: no P waves, saw-tooth near 300/min in II, III, aVF, conducted about 4:1 to 3:1."""
    h.rate[rows] = rng.uniform(66, 82, len(rows))
    h.rr_spread[rows], h.rr_breath[rows] = 0.01, 0
    h.dipole[np.ix_(rows, P_WAVES)] = 0
    h.flutter[rows] = 0.09 + 0.09 * u


def pacemaker(h: Hearts, rows, u, rng):
    """PACE: a spike right before each wide QRS; captured from the right ventricular apex: LBBB-
    like, axis upwards.
    """
    complete_lbbb(h, rows, u, rng)
    h.dipole[np.ix_(rows, _MAIN, [1])] = -0.55
    h.local[rows, SPIKE] = (
        np.array([0.3, 0.9, -0.4, 0.3, 0.5, 0.6, 0.6, 0.5]) * (0.6 + 0.6 * u)[:, None]
    )
    h.dipole[np.ix_(rows, P_WAVES)] *= 0.1
    h.rate[rows] = rng.uniform(60, 75, len(rows))
    h.rr_spread[rows], h.rr_breath[rows] = 0.003, 0


def _count(u: np.ndarray) -> np.ndarray:
    """One to three premature beats."""
    return 1 + np.floor(2.99 * np.clip((u - 0.35) / 0.65, 0, 1)).astype(int)


def ventricular_beats(h: Hearts, rows, u, rng):
    """PVC: early wide QRS (> 120 ms) without P wave, T against QRS, compensatory pause."""
    n = len(rows)
    main = rng.standard_normal((n, 3)) * 0.35 + np.array([0.5, 0.5, 0.5]) * rng.choice(
        [-1, 1], (n, 1)
    )
    main *= rng.uniform(1.2, 1.8, (n, 1)) / np.linalg.norm(main, axis=1, keepdims=True)
    h.dipole[rows, E1] = main * 0.9 + 0.15 * rng.standard_normal((n, 3))
    h.dipole[rows, E2] = main * 0.6 + 0.15 * rng.standard_normal((n, 3))
    h.dipole[rows, ET] = -0.45 * main
    h.n_pvc[rows] = _count(u)


def atrial_beats(h: Hearts, rows, u, rng):
    """PAC: an early beat with P wave and narrow QRS, followed by an incomplete pause."""
    h.n_pac[rows] = _count(u)
