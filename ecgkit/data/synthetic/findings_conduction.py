"""SCP findings of conduction: one function per code, each with its criterion.

Each takes (hearts, rows (n,) int, u (n,) severity 0 mild .. 1 marked, rng) and changes those rows
of the hearts in place; `findings` holds the table of all codes and their order.
"""

from __future__ import annotations

import numpy as np

from ecgkit.data.synthetic.hearts import (
    P1,
    P_WAVES,
    QRS_WAVES,
    R1,
    R2,
    Hearts,
    J,
    L,
    Q,
    S,
    T,
    rotate,
)

_MAIN = [R1, R2]


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
