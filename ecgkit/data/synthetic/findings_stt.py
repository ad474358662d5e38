"""SCP findings of the ST segment and the T wave: one function per code, each with its criterion.

Each takes (hearts, rows (n,) int, u (n,) severity 0 mild .. 1 marked, rng) and changes those rows
of the hearts in place; `findings` holds the table of all codes and their order.
"""

from __future__ import annotations

import numpy as np

from ecgkit.data.synthetic.hearts import Hearts, J, T


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
