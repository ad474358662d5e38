"""One small function per SCP code: what the finding does to a heart, with its textbook criterion.

Each takes (hearts, rows (n,) int, u (n,) severity 0 mild .. 1 marked, rng) and changes those rows
of the hearts in place. Uncertain statements (likelihood 15-50) come with small `u`: their
criterion is met barely or not quite.

Usage:
    apply_findings(hearts, has={"AFIB": bool (N,)}, severity={"AFIB": float (N,)}, rng=rng)
"""

from __future__ import annotations

import numpy as np

from ecgkit.data import findings_muscle as muscle
from ecgkit.data.beats import (
    E1,
    E2,
    ET,
    P1,
    P_WAVES,
    QRS_WAVES,
    R1,
    R2,
    SPIKE,
    Hearts,
    J,
    L,
    Q,
    S,
    T,
    place_t_wave,
    rotate,
)

_MAIN = [R1, R2]

# --- rhythm ---------------------------------------------------------------------------------------


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


# --- conduction -----------------------------------------------------------------------------------


def first_degree_block(h: Hearts, rows, u, rng):
    """1AVB: PR above 200 ms; here 215-310."""
    start = (h.centre[rows, P1] - 2.2 * h.rise[rows, P1])[:, None]
    onset = (h.centre[rows, Q] - 2.2 * h.rise[rows, Q])[:, None]
    wanted = (0.215 + 0.09 * u)[:, None]
    h.centre[np.ix_(rows, P_WAVES)] -= wanted - (onset - start)


def complete_rbbb(h: Hearts, rows, u, rng):
    """CRBBB: QRS >= 120 ms, late R' in V1 (rsR'), wide S in I and V6, T against it in V1-V2."""
    size = 0.8 + 0.5 * u * rng.uniform(0.6, 1.2, len(rows))
    h.dipole[rows, L] = size[:, None] * np.array([-0.50, 0.02, -0.48])
    h.centre[rows, L] = 0.054 + 0.014 * u
    h.rise[rows, L] = h.fall[rows, L] = 0.0150 + 0.004 * u
    h.dipole[rows, S] *= 0.5
    h.dipole[rows, T] += size[:, None] * np.array([0.06, 0.0, 0.17])


def incomplete_rbbb(h: Hearts, rows, u, rng):
    """IRBBB: rsr' in V1 with QRS below 120 ms."""
    size = 0.55 + 0.3 * u
    h.dipole[rows, L] = size[:, None] * np.array([-0.34, 0.0, -0.42])
    h.centre[rows, L] = 0.040 + 0.004 * u
    h.rise[rows, L] = h.fall[rows, L] = 0.010


def _turn(h: Hearts, rows, waves, frontal: float, horizontal: float) -> None:
    """Gives redrawn waves a share of the turn the patient's own heart had."""
    part = h.dipole[np.ix_(rows, waves)]
    rotate(part, frontal * h.turn[rows, 0], (0, 1))
    rotate(part, horizontal * h.turn[rows, 1], (0, 2))
    h.dipole[np.ix_(rows, waves)] = part


def complete_lbbb(h: Hearts, rows, u, rng):
    """CLBBB: QRS >= 120 ms, no septal q, broad notched R in I, V5, V6, deep S in V1-V3, ST-T
    against the QRS.
    """
    n = len(rows)
    grow = np.exp(0.15 * rng.standard_normal((n, 1)))
    h.dipole[rows, Q] = np.array([0.10, 0.10, -0.02])
    h.dipole[rows, R1] = grow * np.array([0.62, 0.22, 0.52])
    h.dipole[rows, R2] = grow * np.array([0.72, 0.18, 0.62])
    h.dipole[rows, S] = 0
    h.dipole[rows, L] = grow * np.array([0.25, 0.05, 0.20])
    h.centre[rows, R1], h.rise[rows, R1], h.fall[rows, R1] = 0.000, 0.015, 0.018
    h.centre[rows, R2] = 0.042 + 0.010 * u
    h.rise[rows, R2] = h.fall[rows, R2] = 0.017 + 0.003 * u
    h.centre[rows, L], h.rise[rows, L], h.fall[rows, L] = 0.070 + 0.012 * u, 0.013, 0.015
    h.centre[rows, J] = 0.115 + 0.015 * u
    h.dipole[rows, J] = grow * np.array([-0.07, -0.02, -0.13])
    h.dipole[rows, T] = grow * np.array([-0.20, -0.04, -0.30]) * (0.8 + 0.4 * u)[:, None]
    _turn(h, rows, [*QRS_WAVES, J, T], 0.9, 0.5)


def left_anterior_block(h: Hearts, rows, u, rng):
    """LAFB: axis -45 to -90 degrees, qR in I and aVL, rS in II, III, aVF, QRS below 120 ms."""
    size = np.linalg.norm(h.dipole[rows][:, _MAIN], axis=2).mean(axis=1)[:, None]
    h.dipole[rows, Q, 1] = 0.20 + 0.08 * u
    h.dipole[rows, R1] = size * np.array([0.75, -0.35, 0.12])
    h.dipole[rows, R2] = size * (np.array([0.52, -0.62, 0.36]) + np.outer(u, [-0.05, -0.30, 0.0]))
    h.dipole[rows, S] = size * np.array([0.10, -0.32, 0.45])
    _turn(h, rows, QRS_WAVES, 0.25, 0.6)
    h.centre[rows, S] += 0.006


def left_posterior_block(h: Hearts, rows, u, rng):
    """LPFB: axis above +100 degrees, rS in I and aVL, qR in III and aVF."""
    size = np.linalg.norm(h.dipole[rows][:, _MAIN], axis=2).mean(axis=1)[:, None]
    h.dipole[rows, Q, :2] = 0.18, -0.18
    h.dipole[rows, R1] = size * np.array([0.15, 0.85, 0.15])
    h.dipole[rows, R2] = size * (np.array([-0.25, 0.75, 0.35]) - np.outer(0.25 * u, [1, 0, 0]))


# Order matters: anatomy of conduction first, then what rides on it; sizes before local damage; the
# T wave last.
EFFECTS = {
    "SR": sinus,
    "SBRAD": sinus_bradycardia,
    "STACH": sinus_tachycardia,
    "SARRH": sinus_arrhythmia,
    "LAFB": left_anterior_block,
    "LPFB": left_posterior_block,
    "RVH": muscle.right_hypertrophy,
    "CLBBB": complete_lbbb,
    "PACE": pacemaker,
    "AFIB": atrial_fibrillation,
    "AFLT": atrial_flutter,
    "LVH": muscle.ventricular_hypertrophy,
    "VCLVH": muscle.high_voltage,
    "LVOLT": muscle.low_voltage,
    "CRBBB": complete_rbbb,
    "IRBBB": incomplete_rbbb,
    "LAO/LAE": muscle.left_atrium,
    "1AVB": first_degree_block,
    "NDT": muscle.t_flat,
    "LOWT": muscle.t_flat,
    "INVT": muscle.t_inverted,
    "IMI": muscle.inferior_infarction,
    "AMI": muscle.anterior_infarction,
    "ASMI": muscle.anteroseptal_infarction,
    "ILMI": muscle.inferolateral_infarction,
    "ALMI": muscle.anterolateral_infarction,
    "ISC_": muscle.ischaemia,
    "NST_": muscle.st_nonspecific,
    "STD_": muscle.st_depression,
    "STE_": muscle.st_elevation,
    "LNGQT": muscle.long_qt,
    "PVC": ventricular_beats,
    "PAC": atrial_beats,
}
# Statements that only name what another one already drew.
DESCRIPTIVE = ("NORM", "ABQRS", "QWAVE", "LPR", "NT_", "TAB_", "PRC(S)")


def apply_findings(
    hearts: Hearts, has: dict, severity: dict, rng, heart_rate: float | None = None
) -> None:
    """Applies the findings in EFFECTS' order to the rows that have them; sizes and T waves follow.

    `has` code -> bool (N,), `severity` code -> (N,) in 0..1; `heart_rate` beats/min overrides the
    findings' rates.
    """
    absent = np.zeros(len(hearts), bool)
    has = {code: has.get(code, absent) for code in EFFECTS}
    has["VCLVH"] = has["VCLVH"] & ~has["LVH"]  # beside LVH it only names what LVH has drawn
    _keep_ordinary_size(hearts, np.flatnonzero(~(has["LVH"] | has["VCLVH"] | has["LVOLT"])))
    for code, effect in EFFECTS.items():
        rows = np.flatnonzero(has[code])
        if len(rows):
            effect(hearts, rows, severity[code][rows], rng)
    if heart_rate is not None:
        hearts.rate[:] = heart_rate
    place_t_wave(hearts)


def _keep_ordinary_size(hearts: Hearts, rows: np.ndarray) -> None:
    """Scales hearts without a voltage statement into Sokolow-Lyon's ordinary 1.3 to 3.2 mV."""
    index = muscle.sokolow(hearts, rows)
    hearts.scale_qrs(rows, np.clip(index, 1.3, 3.2) / index)
