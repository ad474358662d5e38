"""SCP findings of the muscle: voltage, infarction, ST segment and T wave, one function per code.

Each takes (hearts, rows (n,) int, u (n,) severity 0 mild .. 1 marked, rng) and changes those rows
of the hearts in place; the criterion stands in its docstring. `findings` holds rhythm and
conduction and the table of all codes.
"""

from __future__ import annotations

import numpy as np

from ecgkit.data.beats import P1, P2, R1, R2, Hearts, J, Q, T, X, one_beat

CHEST = slice(2, 8)
LEAD_I, LEAD_II, V1, V2, V3, V4, V5, V6 = range(8)
_MAIN = [R1, R2]

# --- size -----------------------------------------------------------------------------------------


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


# --- infarction -----------------------------------------------------------------------------------


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


# --- ST and T -------------------------------------------------------------------------------------


def ischaemia(h: Hearts, rows, u, rng):
    """ISC_: level ST depression of 0.1 mV or more in I, II, V4-V6 and symmetric T inversion."""
    size = (0.6 + 0.8 * u)[:, None]
    h.dipole[rows, T] *= 0.5
    h.local[rows, J] += size * np.array([-0.07, -0.09, 0.02, -0.05, -0.11, -0.16, -0.15, -0.11])
    h.local[rows, T] += size * np.array([-0.22, -0.30, 0.02, -0.12, -0.35, -0.48, -0.42, -0.28])


def st_nonspecific(h: Hearts, rows, u, rng):
    """NST_: ST depression of 0.05-0.1 mV, T lower but upright."""
    size = (0.7 + 0.6 * u)[:, None]
    h.local[rows, J] += size * np.array([-0.05, -0.06, 0, -0.02, -0.06, -0.08, -0.08, -0.06])
    h.dipole[rows, T] *= 0.72


def st_depression(h: Hearts, rows, u, rng):
    """STD_: ST depression of 0.1 mV or more in two neighbouring leads, T upright."""
    size = (0.8 + 0.7 * u)[:, None]
    h.local[rows, J] += size * np.array([-0.08, -0.11, 0.03, -0.04, -0.11, -0.15, -0.15, -0.11])


def st_elevation(h: Hearts, rows, u, rng):
    """STE_: ST elevation of 0.1 mV or more in V2-V4."""
    size = (0.7 + 0.6 * u)[:, None]
    h.local[rows, J] += size * np.array([0.04, 0.06, 0.05, 0.16, 0.20, 0.15, 0.08, 0.04])


def t_flat(h: Hearts, rows, u, rng):
    """NDT, LOWT: T flat, or barely inverted, in I, II, V4-V6 (below a tenth of R)."""
    h.dipole[rows, T] *= (0.22 - 0.25 * u)[:, None]


def t_inverted(h: Hearts, rows, u, rng):
    """INVT: T inverted by 0.1 mV or more in I, II, V3-V6, ST level."""
    size = (0.45 + 0.55 * u)[:, None]
    h.dipole[rows, T] = -size * h.dipole[rows, T] * 1.1


def long_qt(h: Hearts, rows, u, rng):
    """LNGQT: QTc above 470 ms; here 485-560."""
    h.qtc[rows] = 0.485 + 0.075 * u
    h.rise[rows, T] *= 1.15
