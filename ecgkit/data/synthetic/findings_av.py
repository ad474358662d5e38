"""SCP findings of AV block and pacemakers: one function per code, each with its criterion.

Criteria after Surawicz and Knilans, Chou's Electrocardiography (6th edition), and the 2018
ACC/AHA/HRS guideline on bradycardia (Kusumoto et al., Circulation 140:e382). Each function takes
(hearts, rows (n,) int, u (n,) severity 0 mild .. 1 marked, rng) and changes those rows in place;
`findings` holds the table of all codes and their order.
"""

from __future__ import annotations

import numpy as np

from ecgkit.data.synthetic import beats as kinds
from ecgkit.data.synthetic.findings_ectopy import ORIGINS, draw_wide
from ecgkit.data.synthetic.findings_rhythm import without_p
from ecgkit.data.synthetic.hearts import (
    ASPIKE,
    ECTOPIC_WAVES,
    P1,
    QRS_WAVES,
    R1,
    R2,
    SPIKE,
    Hearts,
    J,
    T,
)

_SPIKE_LEADS = np.array([0.35, 0.9, -0.4, 0.3, 0.5, 0.6, 0.6, 0.5])


def second_degree_block(h: Hearts, rows, u, rng):
    """2AVB: single P waves are not conducted. Mobitz I (Wenckebach): PR grows until one is dropped,
    3:2 to 5:4; Mobitz II: PR stays, 3:2 or 4:3; or 2:1.
    """
    n = len(rows)
    kind = rng.choice(3, n, p=[0.50, 0.32, 0.18])
    h.av_block[rows] = np.where(kind == 0, kinds.WENCKEBACH, kinds.MOBITZ)
    longest = np.where(u > 0.5, 4, 5)
    h.av_cycle[rows] = np.select(
        [kind == 0, kind == 1], [rng.integers(3, longest + 1), 2], rng.integers(3, 5, n)
    )
    atrial = np.where(kind == 1, rng.uniform(72, 104, n), rng.uniform(66, 95, n))
    h.rate[rows] = atrial * (h.av_cycle[rows] - 1) / h.av_cycle[rows]
    h.rr_breath[rows] = np.minimum(h.rr_breath[rows], 0.02)
    h.rr_slow[rows], h.rr_spread[rows] = 0.01, 0.006


def third_degree_block(h: Hearts, rows, u, rng):
    """3AVB: P waves and QRS each keep their own time; the escape comes from the junction (narrow,
    40-60/min) or from a ventricle (wide, 25-45/min).
    """
    n = len(rows)
    wide = rng.random(n) < 0.5
    h.av_block[rows] = np.where(wide, kinds.COMPLETE_WIDE, kinds.COMPLETE)
    h.rate[rows] = np.where(wide, rng.uniform(28, 44, n), rng.uniform(41, 57, n))
    h.atrial_rate[rows] = rng.uniform(66, 104, n)
    h.rr_breath[rows], h.rr_slow[rows], h.rr_spread[rows] = 0.01, 0.01, 0.006
    some = rows[wide]
    m = len(some)
    aims = np.array(list(ORIGINS.values()))[1:4][rng.integers(0, 3, m)]
    _own_wide(h, some, aims, rng.uniform(0.130, 0.170, m), rng)


def _own_wide(h: Hearts, rows, towards, width, rng) -> None:
    """Replaces the heart's own QRS-T by a ventricular one of `width` (n,) s."""
    for k in (*QRS_WAVES, J):
        h.dipole[rows, k], h.local[rows, k] = 0, 0
    h.local[rows, T] = 0
    size = np.clip(1.35 * np.exp(rng.normal(0, 0.2, len(rows))), 0.9, 2.0)
    draw_wide(h, rows, (R1, R2, T), towards, size, width, rng)
    main = h.dipole[rows, R1] + h.dipole[rows, R2]
    h.dipole[rows, J] = -rng.uniform(0.04, 0.10, (len(rows), 1)) * main
    h.centre[rows, J] = 0.5 * width + 0.02
    h.qtc[rows] = np.maximum(h.qtc[rows], 0.405) + 0.5 * (width - 0.09)


def pacemaker(h: Hearts, rows, u, rng):
    """PACE: a spike before each paced beat: before P (atrial), before a wide QRS captured from the
    right ventricular apex (like LBBB, axis up), or both; or on demand, some beats only.

    Bipolar leads make spikes that a recorder of 150 Hz hardly passes; one in four is unipolar.
    """
    n = len(rows)
    modes = (kinds.ATRIUM, kinds.VENTRICLE, kinds.DUAL, kinds.DEMAND)
    mode = rng.choice(modes, n, p=[0.06, 0.38, 0.42, 0.14])
    h.paced[rows] = mode
    h.rate[rows] = np.where(rng.random(n) < 0.5, 60.0, rng.uniform(60, 82, n))
    h.rr_breath[rows] = np.where(mode == kinds.DEMAND, 0.04, 0.01)
    h.rr_spread[rows] = np.where(mode == kinds.DEMAND, 0.05, 0.003)
    width = rng.uniform(0.130, 0.168, n)
    apex = np.array([0.55, -0.60, 0.55]) + 0.18 * rng.standard_normal((n, 3))
    own = (mode == kinds.VENTRICLE) | (mode == kinds.DUAL)
    _own_wide(h, rows[own], apex[own], width[own], rng)
    demand = mode == kinds.DEMAND
    size = np.clip(1.3 * np.exp(rng.normal(0, 0.2, demand.sum())), 0.9, 2.0)
    draw_wide(h, rows[demand], ECTOPIC_WAVES, apex[demand], size, width[demand], rng)
    _draw_spikes(h, rows, width, rng)
    alone = rows[mode == kinds.VENTRICLE]
    h.atrial_rate[alone] = rng.uniform(58, 96, len(alone))
    fibrillating = alone[rng.random(len(alone)) < 0.6]  # the commonest reason for such a device
    without_p(h, fibrillating)
    h.f_waves[fibrillating] = rng.uniform(0.015, 0.06, len(fibrillating))


def _draw_spikes(h: Hearts, rows, width, rng) -> None:
    """Spikes right before the P wave and before a QRS of `width`, of very different size."""
    n = len(rows)
    unipolar = rng.random(n) < 0.25
    size = np.where(unipolar, rng.uniform(0.6, 1.8, n), 0.18 * np.exp(rng.normal(0, 0.6, n)))
    size = np.maximum(size, np.where(h.paced[rows] == kinds.ATRIUM, 0.3, 0.05))
    for k, part in ((SPIKE, 1.0), (ASPIKE, 0.7)):
        leads = _SPIKE_LEADS * (1 + 0.3 * rng.standard_normal((n, 8)))
        h.local[rows, k] = part * size[:, None] * leads
        h.rise[rows, k] = h.fall[rows, k] = 0.0012
    h.centre[rows, SPIKE] = -0.46 * width - 0.006
    h.centre[rows, ASPIKE] = h.centre[rows, P1] - 2.2 * h.rise[rows, P1] - 0.008
