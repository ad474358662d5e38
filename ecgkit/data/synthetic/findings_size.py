"""SCP findings of size: hypertrophy, atrial enlargement, voltage: one function per code, each with
its criterion.

Criteria after the AHA/ACCF/HRS 2009 recommendations, part V: chamber hypertrophy (Hancock et al.,
J Am Coll Cardiol 53:992) and the papers named there. Each function takes (hearts, rows (n,) int, u
(n,) severity 0 mild .. 1 marked, rng) and changes those rows of the hearts in place; `findings`
holds the table of all codes and their order.
"""

from __future__ import annotations

import numpy as np

from ecgkit.data.synthetic.hearts import (
    LEADS8,
    N1,
    N2,
    P1,
    P2,
    P_WAVES,
    R1,
    R2,
    Hearts,
    J,
    L,
    Q,
    S,
    T,
)
from ecgkit.data.synthetic.shaping import (
    LEAD,
    P_BEFORE,
    calm_v2,
    cornell,
    drawn,
    fan,
    main_vector,
    net_axis,
    no_late_r,
    p_span,
    pr_interval,
    qrs_beat,
    qrs_width,
    scale_chest,
    set_pr,
    sizes,
    sokolow,
    spread,
    turn_axis,
    widen_qrs,
)

LIMB, CHEST = slice(0, 6), slice(6, 12)
_V1 = LEADS8.index("V1")
SOKOLOW, CORNELL, AVL = 3.5, 2.8, 1.1  # mV; Cornell's for men, 2.0 for women


# --- ordinary hearts ------------------------------------------------------------------------------


def keep_ordinary(h: Hearts, rows) -> None:
    """What nobody would remark on, in hearts whose voltage is not (`rows`): S V1 + R V5 or V6 of
    1.3 to 3.2 mV, R aVL + S V3 and R in aVL short of hypertrophy's. In all: hardly an r' in V1, a
    shallow end of P there.
    """
    beat = qrs_beat(h, rows)
    index = _lvh_ratios(beat)
    largest = np.maximum(index[1:].max(axis=0) * 1.12, index[0] * SOKOLOW / 3.2)
    wanted = np.maximum(largest, 1.3 / 3.2)
    wanted -= 0.7 * (wanted - 0.9).clip(0, None)  # past 0.9 there are few, not none
    h.scale_qrs(rows, wanted / largest)
    no_late_r(h, np.arange(len(h)))
    end = sizes(h, slice(None), (P2,))[:, 0, _V1]
    h.local[:, P2, _V1] += 0.8 * (_P_END - end).clip(0, None)


_P_END = -0.055  # mV of the left atrium in V1


def _lvh_ratios(beat: np.ndarray) -> np.ndarray:
    """(3, n) Sokolow-Lyon, Cornell and R in aVL of beats (n, 12, T), 1 where LVH begins."""
    avl = beat[:, LEAD["aVL"]].max(axis=1)
    return np.stack([sokolow(beat) / SOKOLOW, cornell(beat) / CORNELL, avl / AVL])


# --- left ventricle -------------------------------------------------------------------------------


def high_voltage_of_lvh(h: Hearts, rows, u, rng):
    """VCLVH: the voltage of LVH alone: S V1 + R V5 or V6 above 3.5 mV (Sokolow and Lyon 1949),
    R aVL + S V3 above 2.8 mV (Cornell, Casale 1985) or R in aVL above 1.1 mV.

    Whichever the heart is nearest to, with some chance, is met; the other two as it falls out.
    """
    ratios = _lvh_ratios(qrs_beat(h, rows))
    liking = np.log(ratios.clip(0.05)) + rng.normal([[0.1], [0.0], [-0.1]], 0.13, ratios.shape)
    near = np.argmax(liking, axis=0)
    ratio = ratios[near, np.arange(len(rows))]
    wanted = 0.93 + 0.36 * u + 0.16 * u * rng.exponential(1, len(rows)).clip(0, 3)
    factor = (wanted / ratio).clip(0.7, 4.0)
    near_chest = np.where(near == 0, 0.5, 0.0)  # a large heart also comes nearer the chest wall
    h.scale_qrs(rows, factor ** (1 - near_chest))
    h.local[np.ix_(rows, (N1, N2))] /= factor[:, None, None]  # notches do not grow with it
    h.field[rows, 2:] *= (factor**near_chest)[:, None, None]
    calm_v2(h, rows, 2.2)


def left_hypertrophy(h: Hearts, rows, u, rng):
    """LVH: voltage as in VCLVH, with it more or less of the rest: QRS up to 115 ms, septal q and r
    in V2-V3 smaller, strain (ST sagging, T inverted against a tall R, I, aVL, V5, V6).

    One in six lies across, with its voltage in I and aVL.
    """
    n = len(rows)
    across = (rng.random(n) < 0.17) & (net_axis(qrs_beat(h, rows)) > -20)
    turn_axis(h, rows[across], rng.uniform(-35, 5, across.sum()), (R1, R2, S, L))
    scale_chest(h, rows, Q, rng.uniform(0.35, 1.25, n))
    _less_r(h, rows, rng.uniform(0.0, 0.8, n))
    high_voltage_of_lvh(h, rows, u, rng)
    width = qrs_width(h, rows)
    widen_qrs(
        h, rows, np.maximum(width, (width * (1 + 0.13 * u * rng.random(n))).clip(None, 0.115))
    )
    strain(h, rows, ((u - 0.20) * 1.1 + 0.35 * rng.standard_normal(n)).clip(0, 1.1), rng)


def _less_r(h: Hearts, rows, share) -> None:
    """Takes `share` (n,) of R away in V2 and V3, less in V1 and V4: r grows late over the chest."""
    taken = share[:, None] * np.array([0, 0, 0.3, 1, 0.8, 0.3, 0, 0])
    for wave in (Q, R1, R2):
        h.local[rows, wave] -= taken * sizes(h, rows, (wave,))[:, 0].clip(0, None)


def strain(h: Hearts, rows, size, rng) -> None:
    """Left ventricular strain of `size` (n,), 0 none: ST sags and T turns away from the QRS."""
    main = main_vector(h, rows) * spread(rng, len(rows), 0.2)[:, None]
    size = size[:, None]
    h.dipole[rows, T] *= 1 - 0.75 * size.clip(0, 1)
    h.dipole[rows, J] -= 0.085 * size * main
    h.dipole[rows, T] -= 0.26 * size * main
    h.rise[rows, T] *= 1 + 0.12 * size[:, 0]


def septal_hypertrophy(h: Hearts, rows, u, rng):
    """SEHYP: q above 0.3 mV yet narrower than 40 ms in two of I, aVL, V5, V6, II, III, aVF, tall R
    in V1-V2, as in hypertrophic cardiomyopathy (Maron et al. 1983; Hancock 2009).
    """
    n = len(rows)
    down = rng.uniform(-0.7, 0.1, n)  # q in the inferior leads too, or lateral alone
    way = np.stack([np.full(n, -1.0), down, rng.uniform(-1.3, -0.7, n)], axis=1)
    h.dipole[rows, Q] = way / np.linalg.norm(way, axis=1)[:, None]
    h.rise[rows, Q] = h.fall[rows, Q] = rng.uniform(0.0072, 0.0088, n)
    h.centre[rows, Q] = -0.025
    wanted = 0.25 + 0.50 * u * spread(rng, n, 0.3)
    h.dipole[rows, Q] *= wanted[:, None]
    for _ in range(4):  # R overlaps q and takes some of it away
        beat = qrs_beat(h, rows)[:, _LATERAL]
        before_r = np.arange(beat.shape[2]) < beat.argmax(axis=2)[..., None]
        depth = -np.sort(np.where(before_r, beat, 0).min(axis=2), axis=1)[:, 1]
        h.dipole[rows, Q] *= (wanted / depth.clip(0.05)).clip(0.6, 1.8)[:, None]
    strain(h, rows, (rng.normal(0.1, 0.45, n) + 0.3 * u).clip(0, 1), rng)


_LATERAL = [LEAD[name] for name in ("I", "aVL", "V5", "V6")]


# --- right ventricle ------------------------------------------------------------------------------


def right_hypertrophy(h: Hearts, rows, u, rng):
    """RVH: R above S in V1 or R V1 + S V5 or V6 above 1.05 mV (Sokolow and Lyon 1949), axis above
    +90 degrees, S in V5-V6, T inverted in V1-V3 as it grows (Hancock 2009).

    Four in five have a tall R in V1, one an rS with S to V6 (the lung's hyperinflation).
    """
    n = len(rows)
    size = np.linalg.norm(main_vector(h, rows), axis=1).clip(0.55, 1.4) * spread(rng, n, 0.15)
    tall = rng.random(n) < 0.82
    forward = np.where(tall, 0.34 + 0.26 * u, -0.30) * rng.uniform(0.55, 1.45, n)
    across = np.where(tall, 0.30 + 0.2 * u, 0.60 + 0.25 * u) * rng.uniform(0.6, 1.3, n)
    zero, left = np.zeros(n), rng.uniform(0.25, 0.80, n)
    h.dipole[rows, Q] *= rng.uniform(0.2, 1.0, (n, 1))
    h.dipole[rows, R1] = size[:, None] * np.stack([left, zero + 0.65, -0.8 * forward], axis=1)
    h.dipole[rows, R2] = size[:, None] * np.stack([-across, zero + 0.45, -forward], axis=1)
    back = np.where(tall, 0.25, 0.35) * rng.uniform(-0.6, 1, n)
    h.dipole[rows, S] = size[:, None] * np.stack([-across, zero, back], axis=1)
    h.rise[rows, S] *= 1.2
    widen_qrs(h, rows, qrs_width(h, rows) * (1 + 0.15 * u * rng.random(n)))
    h.dipole[rows, L] *= 0.4
    fan(h, rows, (Q, R1, R2, S, L), (-60, 85, 112, 155, 180), (0.2, 0.9, 0.9, 0.4, 0.1), rng)
    turn_axis(h, rows, 94 + 24 * u + rng.gamma(1.2, 6, n).clip(0, 45), (R1, R2, S, L))
    t = (0.04 + 0.36 * u * tall) * rng.uniform(0.3, 1.2, n)
    h.dipole[rows, T] += t[:, None] * np.array([0.15, -0.15, 1.0])
    h.dipole[rows, J] += 0.15 * t[:, None] * np.array([0.1, -0.1, 1.0])


# --- atria ----------------------------------------------------------------------------------------


def left_atrium(h: Hearts, rows, u, rng):
    """LAO/LAE: P of 120 ms or more, notched in II (peaks 40 ms apart), or its negative end in V1
    above 40 ms x 0.1 mV (Morris et al. 1964; Hancock 2009).
    """
    n = len(rows)
    pr = pr_interval(h, rows)
    start, end = p_span(h, rows)
    longer = (0.114 + 0.034 * u * rng.uniform(0.8, 1.3, n) - (end - start)).clip(0.006, None)
    h.centre[rows, P1] -= longer
    left = np.array([0.080, 0.090, 0.08]) * (0.9 + 0.5 * u)[:, None] * spread(rng, n, 0.25)[:, None]
    h.dipole[rows, P2] = left + rng.normal(0, 0.012, (n, 3))
    h.local[rows, P2] *= 0.3
    h.fall[rows, P2] *= 1.08
    set_pr(h, rows, np.maximum(pr + 0.3 * longer, 0.15))


def right_atrium(h: Hearts, rows, u, rng):
    """RAO/RAE: P above 0.25 mV and peaked in II, or its first part above 0.15 mV in V1 (Hancock
    2009).
    """
    n = len(rows)
    h.centre[np.ix_(rows, P_WAVES)] += np.array([0.007, -0.003])  # the two fuse to one peak
    forward = rng.uniform(0.04, 0.14, n)
    h.dipole[rows, P1] = np.stack([np.full(n, 0.04), np.full(n, 0.20), -forward], axis=1)
    h.local[rows, P1] *= 0.3
    beat = drawn(h, rows, P_WAVES, P_BEFORE, 0.06)
    tallest = beat[:, 1].max(axis=1)
    wanted = 0.232 + 0.085 * u + 0.07 * u * rng.random(n)
    at = np.ix_(rows, P_WAVES)
    h.dipole[at] *= (wanted / tallest)[:, None, None]
    h.local[at] *= (wanted / tallest)[:, None, None]


# --- voltage --------------------------------------------------------------------------------------


def low_voltage(h: Hearts, rows, u, rng):
    """LVOLT: QRS below 0.5 mV peak to peak in every limb lead; in half of the patients also below
    1 mV in every chest lead (Madias 2008).
    """
    beat = qrs_beat(h, rows)
    limb, chest = (np.ptp(beat[:, part], axis=2).max(axis=1) for part in (LIMB, CHEST))
    goal = (1.10 - 0.32 * u) * (1 - 0.3 * u * rng.random(len(rows)))
    both = rng.random(len(rows)) < 0.5
    less_limb = np.minimum(goal * 0.48 / limb, 1.0)
    less_chest = np.where(both, np.minimum(goal * 0.96 / chest, 1.0), less_limb**0.35)
    # The lead field shrinks, not the heart: what later findings add is small as well, as is P.
    h.field[rows, :2] *= less_limb[:, None, None]
    h.field[rows, 2:] *= less_chest[:, None, None]
    h.local[rows, :, :2] *= less_limb[:, None, None]
    h.local[rows, :, 2:] *= less_chest[:, None, None]


def high_voltage(h: Hearts, rows, u, rng):
    """HVOLT: R or S above 2.0 mV in a limb lead or 3.0 mV in a chest lead (the voltages of Romhilt
    and Estes 1968), ST-T as they were.
    """
    size = np.abs(qrs_beat(h, rows)).max(axis=2)
    ratio = np.maximum(size[:, LIMB].max(axis=1) / 2.0, size[:, CHEST].max(axis=1) / 3.0)
    h.scale_qrs(rows, (0.93 + 0.3 * u + 0.1 * rng.random(len(rows))) / ratio)
