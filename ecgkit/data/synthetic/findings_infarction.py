"""SCP findings of infarction and its stages: one function per code, each with its criterion.

Each takes (hearts, rows (n,) int, u (n,) severity 0 mild .. 1 marked, rng) and changes those rows
of the hearts in place; `findings` holds the table of all codes and their order.
"""

from __future__ import annotations

import numpy as np

from ecgkit.data.synthetic.hearts import R1, R2, Hearts, J, Q, T, X

_MAIN = [R1, R2]


# What a fresh infarct does to ST and a healing one to T, in mV at middling severity.
#           I      II     V1     V2     V3     V4     V5     V6
_ST_T = {
    "IMI": (
        [-0.06, 0.16, 0.00, -0.06, -0.05, 0.00, 0.00, 0.02],
        [0.05, -0.38, 0.00, 0.00, 0.00, 0.00, -0.03, -0.06],
    ),
    "AMI": (
        [0.02, -0.02, 0.05, 0.16, 0.24, 0.20, 0.10, 0.04],
        [-0.03, 0.00, -0.05, -0.35, -0.62, -0.65, -0.40, -0.15],
    ),
    "ASMI": (
        [0.00, -0.02, 0.12, 0.22, 0.20, 0.08, 0.00, 0.00],
        [0.00, 0.00, -0.10, -0.45, -0.60, -0.30, -0.05, 0.00],
    ),
}


def _stage(h: Hearts, rows, u, code: str, rng) -> None:
    """Draws the infarct's stage: 1 recent (ST up), 2 healing (T deeply inverted), 3 old."""
    st_local, t_local = _ST_T[code]
    age = rng.random(len(rows))
    h.mi_stage[rows] = np.select([age < 0.3, age < 0.6], [1, 2], 3)
    st = np.select([age < 0.3, age < 0.6], [1.0, 0.3], 0.08) * (0.5 + u)
    t = np.select([age < 0.3, age < 0.6], [0.5, 1.0], 0.35) * (0.5 + u)
    h.local[rows, J] += st[:, None] * np.asarray(st_local)
    h.local[rows, T] += t[:, None] * np.asarray(t_local)


def inferior_infarction(h: Hearts, rows, u, rng):
    """IMI: Q of 30 ms and a quarter of R in II, III, aVF; ST up and T inverted while recent."""
    depth = (0.32 + 0.45 * u)[:, None]
    h.dipole[rows, X] += depth * np.array([0.10, -1.0, 0.05])
    h.centre[rows, X], h.rise[rows, X], h.fall[rows, X] = -0.020, 0.013, 0.012
    h.dipole[np.ix_(rows, _MAIN, [1])] *= (0.75 - 0.35 * u)[:, None, None]
    _stage(h, rows, u, "IMI", rng)


def anterior_infarction(h: Hearts, rows, u, rng):
    """AMI: Q or QS and lost R in V2-V5; ST up and T inverted there while recent."""
    lost = (0.55 + 0.45 * u)[:, None]
    h.local[rows, X] += lost * np.array([-0.06, 0, -0.10, -0.42, -0.75, -0.85, -0.50, -0.18])
    h.centre[rows, X], h.rise[rows, X], h.fall[rows, X] = -0.018, 0.013, 0.013
    weaker = lost * np.array([0, 0, -0.1, -0.25, -0.38, -0.45, -0.25, -0.05])
    h.local[np.ix_(rows, _MAIN)] += weaker[:, None]
    _stage(h, rows, u, "AMI", rng)


def anteroseptal_infarction(h: Hearts, rows, u, rng):
    """ASMI: QS in V1-V3 (the septal r is gone); ST up and T inverted there while recent."""
    lost = (0.65 + 0.45 * u)[:, None]
    h.dipole[rows, Q] *= 0.15
    h.local[rows, X] += lost * np.array([0, 0, -0.28, -0.62, -0.66, -0.26, 0, 0])
    h.centre[rows, X], h.rise[rows, X], h.fall[rows, X] = -0.017, 0.013, 0.013
    weaker = lost * np.array([0, 0, -0.08, -0.28, -0.42, -0.20, 0, 0])
    h.local[np.ix_(rows, _MAIN)] += weaker[:, None]
    _stage(h, rows, u, "ASMI", rng)


def inferolateral_infarction(h: Hearts, rows, u, rng):
    """ILMI: IMI with Q, lost R and inverted T in I, aVL, V5, V6 as well."""
    inferior_infarction(h, rows, u, rng)
    _lateral_part(h, rows, u)


def anterolateral_infarction(h: Hearts, rows, u, rng):
    """ALMI: AMI with Q, lost R and inverted T in I, aVL, V5, V6 as well."""
    anterior_infarction(h, rows, u, rng)
    _lateral_part(h, rows, u)


def _lateral_part(h: Hearts, rows, u) -> None:
    depth = (0.6 + 0.3 * u)[:, None]
    h.local[rows, X] += depth * np.array([-0.32, -0.05, 0, 0, 0, -0.15, -0.45, -0.50])
    h.local[rows, T] += depth * np.array([-0.25, -0.08, 0, 0, 0, -0.15, -0.35, -0.30])
