"""SCP findings of rhythm above the AV node: one function per code, each with its criterion.

Rates and shapes after Surawicz and Knilans, Chou's Electrocardiography in Clinical Practice (6th
edition), and the ACC/AHA/HRS terminology of 2006 (Buxton et al., Circulation 114:2534). Each
function takes (hearts, rows (n,) int, u (n,) severity 0 mild .. 1 marked, rng) and changes those
rows of the hearts in place; `findings` holds the table of all codes and their order. Premature
beats: `findings_ectopy`. Blocks and pacemakers: `findings_av`.
"""

from __future__ import annotations

import numpy as np

from ecgkit.data.synthetic.hearts import A1, A2, FOCUS_WAVES, P_WAVES, Hearts, J

# --- sinus rhythm ---------------------------------------------------------------------------------


def sinus(h: Hearts, rows, u, rng):
    """SR: an upright P before each QRS, 60-100/min. Median 71 as in PTB-XL."""
    rate = 71 * np.exp(0.17 * rng.standard_normal(len(rows)))
    h.rate[rows] = np.clip(np.where(rate < 60, 120 - rate, rate), 60, 99)
    _swing(h, rows, rng)


def sinus_bradycardia(h: Hearts, rows, u, rng):
    """SBRAD: sinus rhythm below 60/min; here 40-58."""
    h.rate[rows] = 58 - 18 * (0.15 + 0.85 * u) * rng.uniform(0.05, 1, len(rows))
    _swing(h, rows, rng)


def sinus_tachycardia(h: Hearts, rows, u, rng):
    """STACH: sinus rhythm above 100/min; here 102-150, RR stiff."""
    h.rate[rows] = 102 + 48 * (0.1 + 0.9 * u) * rng.beta(1.2, 2, len(rows))
    _swing(h, rows, rng)


def _swing(h: Hearts, rows, rng) -> None:
    """Sets how RR moves in sinus rhythm: less at a fast rate, and very different between people;
    half of the variance goes with the breath, a third with the slow wave.
    """
    factor = 0.75 * (70 / h.rate[rows]) ** 1.2 * np.exp(rng.normal(0, 0.35, len(rows)))
    h.rr_breath[rows] = np.clip(h.rr_breath[rows] * factor, 0.002, 0.075)
    h.rr_slow[rows] = 0.8 * h.rr_breath[rows]
    h.rr_spread[rows] = 0.003 + 0.35 * h.rr_breath[rows]


def sinus_arrhythmia(h: Hearts, rows, u, rng):
    """SARRH: sinus P waves, RR differ by more than 120 ms, in step with breathing."""
    n = len(rows)
    slow = np.clip(h.rate[rows], 44, 58)  # beside SBRAD
    h.rate[rows] = np.where(h.rate[rows] < 60, slow, np.clip(rng.normal(64, 7, n), 52, 84))
    size = (0.075 + 0.08 * u) * np.exp(rng.normal(0, 0.18, n))
    h.rr_breath[rows] = size * (h.rate[rows] / 62) ** 0.5
    h.rr_slow[rows], h.rr_spread[rows] = 0.04, 0.02


# --- other drivers --------------------------------------------------------------------------------


def without_p(h: Hearts, rows) -> None:
    """Takes the sinus P waves away."""
    h.dipole[np.ix_(rows, P_WAVES)] = 0
    h.local[np.ix_(rows, P_WAVES)] = 0


def atrial_fibrillation(h: Hearts, rows, u, rng):
    """AFIB: no P waves, irregularly irregular RR (sd about 0.15-0.27 of the mean), fibrillation
    waves of 0.03-0.18 mV, largest in V1; ventricles 50-160/min.
    """
    n = len(rows)
    h.rate[rows] = np.clip(86 * np.exp(rng.normal(0, 0.27, n)), 50, 160)
    h.rr_spread[rows] = 0.15 + 0.06 * u + rng.uniform(0, 0.06, n)
    without_p(h, rows)
    h.f_waves[rows] = np.clip(0.065 * np.exp(rng.normal(0, 0.45, n)), 0.025, 0.18)


def atrial_flutter(h: Hearts, rows, u, rng):
    """AFLT: even atrial waves of 250-330/min without a level line between them in II, III, aVF
    (typical: negative there, upright in V1), conducted 2:1, 3:1, 4:1 or by turns.
    """
    n = len(rows)
    h.atrial_rate[rows] = np.clip(rng.normal(290, 18, n), 250, 330)
    ratio = rng.choice([2, 3, 4], n, p=[0.35, 0.2, 0.45])
    h.rate[rows] = h.atrial_rate[rows] / ratio
    h.rr_spread[rows] = np.where((rng.random(n) < 0.35) & (ratio > 2), 0.2, 0.0)
    without_p(h, rows)
    h.flutter[rows] = (0.11 + 0.10 * u) * np.exp(rng.normal(0, 0.25, n))
    h.flutter_turn[rows] = np.where(rng.random(n) < 0.8, 1.0, -0.8)


def supraventricular_tachycardia(h: Hearts, rows, u, rng):
    """SVTAC: even narrow beats of 150-220/min; P hidden in the QRS, or retrograde (negative in II,
    III, aVF) within 0.16 s behind it; ST often sags with the rate.
    """
    n = len(rows)
    h.rate[rows] = np.clip(rng.normal(172, 15, n) + 12 * u, 152, 218)
    nodal = rng.random(n) < 0.65  # AV nodal re-entry: P at the end of QRS; else a bypass tract's
    h.reentry[rows] = np.where(nodal, rng.uniform(0.055, 0.075, n), rng.uniform(0.10, 0.15, n))
    size = np.where(rng.random(n) < 0.2, 0.1, rng.uniform(0.6, 1.1, n))[:, None]
    h.dipole[rows, A1] = size * np.array([0.00, -0.10, -0.05])
    h.dipole[rows, A2] = size * np.array([-0.03, -0.06, -0.06])
    h.centre[rows, A1], h.centre[rows, A2] = -0.008, 0.010
    h.rise[np.ix_(rows, FOCUS_WAVES)] = h.fall[np.ix_(rows, FOCUS_WAVES)] = 0.013
    sag = rng.uniform(0, 0.10, (n, 1))
    h.dipole[rows, J] += sag * np.array([-0.8, -0.8, -0.2])


def paroxysmal_tachycardia(h: Hearts, rows, u, rng):
    """PSVT: as SVTAC; four in ten stop within the strip, a pause follows, then sinus rhythm."""
    supraventricular_tachycardia(h, rows, u, rng)
    stops = rng.random(len(rows)) < 0.4
    h.onset[rows] = np.where(stops, rng.uniform(4, 8.5, len(rows)), 0)


def supraventricular_arrhythmia(h: Hearts, rows, u, rng):
    """SVARR: uneven narrow beats with P waves of two or more shapes (wandering pacemaker, frequent
    atrial premature beats).
    """
    n = len(rows)
    h.rate[rows] = np.clip(rng.normal(76, 11, n), 56, 105)
    h.rr_spread[rows] = 0.09 + 0.05 * u
    h.rr_slow[rows] = 0.05
    h.wander[rows] = rng.uniform(0.2, 0.5, n)
    h.n_pac[rows] = 1 + np.floor(2.5 * u).astype(int)
    draw_focus(h, rows, rng)


def draw_focus(h: Hearts, rows, rng) -> None:
    """Gives the hearts the P wave of another focus: low in the right atrium (negative in II), in
    the left one (negative in I), or not far from the sinus node.
    """
    n = len(rows)
    size = np.linalg.norm(h.dipole[np.ix_(rows, P_WAVES)], axis=2).mean(axis=1)
    size = np.maximum(size, 0.07) * rng.uniform(0.8, 1.15, n)
    where = rng.choice(3, n, p=[0.4, 0.3, 0.3])
    aim = np.array([[0.45, -0.75, 0.1], [-0.6, 0.6, -0.3], [0.35, 0.85, -0.3]])[where]
    for k, own in zip(FOCUS_WAVES, P_WAVES):
        towards = aim + 0.2 * rng.standard_normal((n, 3))
        towards /= np.linalg.norm(towards, axis=1, keepdims=True)
        h.dipole[rows, k] = size[:, None] * towards
        h.centre[rows, k] = h.centre[rows, own] + 0.006 * (own == P_WAVES[0])
        h.rise[rows, k], h.fall[rows, k] = h.rise[rows, own], h.fall[rows, own]
