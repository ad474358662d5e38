"""SCP findings of size: hypertrophy, voltage: one function per code, each with its criterion.

Each takes (hearts, rows (n,) int, u (n,) severity 0 mild .. 1 marked, rng) and changes those rows
of the hearts in place; `findings` holds the table of all codes and their order.
"""

from __future__ import annotations

import numpy as np

from ecgkit.data.synthetic.hearts import P1, P2, R1, R2, Hearts, J, T, one_beat

CHEST = slice(2, 8)
LEAD_I, LEAD_II, V1, V2, V3, V4, V5, V6 = range(8)


def sokolow(h: Hearts, rows) -> np.ndarray:
    """(n,) mV: S in V1 + the larger R of V5 and V6."""
    beat = one_beat(_subset(h, rows))
    return -beat[:, V1].min(axis=1) + beat[:, [V5, V6]].max(axis=(1, 2))


def _subset(h: Hearts, rows) -> Hearts:
    return Hearts(**{name: getattr(h, name)[rows] for name in h.__dataclass_fields__})


def high_voltage(h: Hearts, rows, u, rng):
    """VCLVH, part of LVH: Sokolow-Lyon index (S V1 + R V5 or V6) above 3.5 mV; here 3.6-5.0."""
    h.scale_qrs(rows, (3.6 + 1.4 * u) / sokolow(h, rows))


def ventricular_hypertrophy(h: Hearts, rows, u, rng):
    """LVH: Sokolow-Lyon above 3.5 mV; as it grows strain: ST sags, T turns in I, aVL, V5, V6."""
    high_voltage(h, rows, u, rng)
    strain = (0.35 + 0.9 * u)[:, None]
    h.dipole[rows, T] *= 0.55
    h.dipole[rows, J] += strain * np.array([-0.09, -0.02, -0.04])
    h.dipole[rows, T] += strain * np.array([-0.40, -0.18, -0.08])


def low_voltage(h: Hearts, rows, u, rng):
    """LVOLT: QRS below 0.5 mV peak to peak in every limb lead and below 1 mV in the chest leads."""
    beat = one_beat(_subset(h, rows))
    one, two = beat[:, LEAD_I], beat[:, LEAD_II]
    limb = np.stack([np.ptp(x, axis=1) for x in (one, two, two - one)]).max(axis=0)
    chest = np.ptp(beat[:, CHEST], axis=2).max(axis=1)
    goal = 1.02 - 0.30 * u
    h.scale_qrs(rows, np.minimum(goal * 0.48 / limb, goal * 0.97 / chest))


def right_hypertrophy(h: Hearts, rows, u, rng):
    """RVH: R above S in V1, deep S in V5-V6, axis to the right, T inverted in V1-V3."""
    h.dipole[rows, R1] = np.array([-0.10, 0.65, -0.45]) * (0.9 + 0.4 * u)[:, None]
    h.dipole[rows, R2] = np.array([-0.50, 0.40, -0.35]) * (0.9 + 0.4 * u)[:, None]
    h.dipole[rows, T] += np.array([0.05, 0.05, 0.26])


def left_atrium(h: Hearts, rows, u, rng):
    """LAO/LAE: P above 120 ms, notched in II, deep negative end in V1."""
    h.centre[rows, P1] -= 0.028 + 0.008 * u
    h.dipole[rows, P2] = np.array([0.10, 0.07, 0.10]) * (0.9 + 0.5 * u)[:, None]
