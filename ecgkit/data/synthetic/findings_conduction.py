"""SCP findings of conduction: one function per code, each with its criterion.

Criteria after the AHA/ACCF/HRS 2009 recommendations, part III: intraventricular conduction
disturbances (Surawicz et al., J Am Coll Cardiol 53:976); PR after the Minnesota code. A block is
drawn onto the patient's own heart, so that size, axis and position stay the patient's; its shape
varies from one patient to the next. Each function takes (hearts, rows (n,) int, u (n,) severity 0
mild .. 1 marked, rng) and changes those rows of the hearts in place; `findings` holds the table of
all codes and their order.
"""

from __future__ import annotations

import numpy as np

from ecgkit.data.synthetic.hearts import LEADS8, N1, N2, QRS_WAVES, R1, R2, Hearts, J, L, Q, S, T
from ecgkit.data.synthetic.shaping import (
    BEFORE,
    FS,
    LEAD,
    calm_v2,
    direction,
    fan,
    limb_size,
    main_vector,
    no_late_r,
    p_span,
    pr_interval,
    qrs_beat,
    qrs_width,
    scale_chest,
    set_limb,
    set_pr,
    show_first,
    sizes,
    spread,
    turn_axis,
    vector,
    widen_qrs,
)

_V1 = LEADS8.index("V1")


# --- from atria to ventricles ---------------------------------------------------------------------


def first_degree_block(h: Hearts, rows, u, rng):
    """1AVB: PR above 200 ms (Minnesota 6-3 takes 220); most 205-250, the longest 340."""
    longer = rng.gamma(1.2, 0.016, len(rows)).clip(0, 0.10)
    set_pr(h, rows, 0.188 + 0.065 * u + longer)


def long_pr(h: Hearts, rows, u, rng):
    """LPR: PR just above 200 ms, the wording for what is not yet called a block."""
    set_pr(
        h,
        rows,
        np.maximum(pr_interval(h, rows), 0.190 + 0.042 * u + rng.gamma(1, 0.008, len(rows))),
    )


# --- bundle branches ------------------------------------------------------------------------------


# The late right ventricle in V1-V6, as shares of V1: the smallest and the largest.
_RIGHT = np.array([[1, 0.4, -0.1, -0.45, -0.55, -0.55], [1, 1.6, 0.9, 0.15, -0.10, -0.20]])


def complete_rbbb(h: Hearts, rows, u, rng):
    """CRBBB: QRS >= 120 ms, R' in V1-V2 taller than r, S in I and V6 longer than R or 40 ms; ST-T
    against R' in V1-V2 (AHA 2009 III).

    The first 60-80 ms are the patient's own. One in six loses S in V1 (a notched R), in others it
    stays deep.
    """
    n = len(rows)
    scale_chest(h, rows, S, rng.uniform(0.1, 0.9, n))
    notched = np.flatnonzero(rng.random(n) < 0.17)
    h.local[rows[notched], R2, _V1 : _V1 + 2] += rng.uniform(0.3, 0.9, (len(notched), 1))
    h.centre[rows, L] = 0.054 + 0.012 * u + rng.normal(0, 0.003, n)
    h.rise[rows, L] = 0.0135 + 0.003 * u + rng.uniform(0, 0.002, n)
    h.fall[rows, L] = 0.0150 + 0.006 * u + rng.uniform(0, 0.003, n)
    _late_right(h, rows, (0.30 + 0.45 * u) * spread(rng, n, 0.4), rng)
    right = (0.19 + 0.22 * u) * spread(rng, n, 0.33)  # S in I
    set_limb(h, rows, (L,), (right[:, None] * direction(180 + rng.normal(0, 28, n)))[:, None])
    width = 0.115 + 0.037 * u + rng.gamma(1.3, 0.006, n).clip(0, 0.03)
    widen_qrs(h, rows, np.maximum(width, qrs_width(h, rows)))
    late = h.local[rows, L]
    h.local[rows, J] -= rng.uniform(0.02, 0.09, (n, 1)) * late
    h.local[rows, T] -= rng.uniform(0.15, 0.60, (n, 1)) * late


def incomplete_rbbb(h: Hearts, rows, u, rng):
    """IRBBB: rSr' in V1 or V2 with QRS below 120 ms; r' from a tip to R' above r (AHA 2009 III)."""
    n = len(rows)
    h.centre[rows, L] = 0.041 + 0.003 * u + rng.normal(0, 0.002, n)
    h.rise[rows, L] = h.fall[rows, L] = 0.0088 + 0.0015 * rng.random(n)
    scale_chest(h, rows, S, rng.uniform(0.4, 0.9, n))
    tip = (0.07 + 0.34 * u) * spread(rng, n, 0.4)
    _late_right(h, rows, np.maximum(tip, np.where(u >= 0.35, 0.12, 0.0)), rng)
    h.local[rows, L, _V1 + 3 :] *= rng.uniform(1.0, 2.1, (n, 1))
    right = (0.10 + 0.20 * u) * spread(rng, n, 0.4)
    set_limb(h, rows, (L,), (right[:, None] * direction(180 + rng.normal(0, 45, n)))[:, None])
    widen_qrs(h, rows, qrs_width(h, rows).clip(0.096, 0.113 + 0.004 * u))
    h.local[rows, T] -= rng.uniform(0.0, 0.45, (n, 1)) * h.local[rows, L]


def _late_right(h: Hearts, rows, height, rng) -> None:
    """Redraws the late wave L as the right ventricle's: forward, so that V1 stands at `height` (n,)
    mV at its peak whatever else is drawn there, less so or backward in V3-V6.
    """
    n = len(rows)
    beat = qrs_beat(h, rows, waves=[k for k in QRS_WAVES if k != L])
    at = np.round((h.centre[rows, L] + BEFORE) * FS).astype(int)
    there = beat[np.arange(n), LEAD["V1"], at]
    least, most = _RIGHT
    h.dipole[rows, L] = h.local[rows, L] = 0
    shares = least + (most - least) * rng.random((n, 1)) + rng.normal(0, 0.06, (n, 6))
    h.local[rows, L, 2:] = (height - there).clip(0.05, None)[:, None] * shares
    h.local[rows, L, _V1] = (height - there).clip(0.05, None)


def _against(h: Hearts, rows, main, st, t) -> None:
    """Secondary ST-T: adds to J and T `st`, `t` (n,) times the vector `main` (n, 3), reversed."""
    h.dipole[rows, J] -= st[:, None] * main
    h.dipole[rows, T] -= t[:, None] * main


def complete_lbbb(h: Hearts, rows, u, rng):
    """CLBBB: QRS >= 120 ms, broad notched or slurred R in I, aVL, V5 and V6 without q, R peak
    after 60 ms in V5-V6, rS or QS in V1-V3, ST-T against the QRS (AHA 2009 III).
    """
    width = 0.116 + 0.046 * u + rng.gamma(1.5, 0.006, len(rows)).clip(0, 0.03)
    _draw_lbbb(h, rows, rng, np.ones(len(rows)))
    widen_qrs(h, rows, width)
    h.qtc[rows] += 0.35 * (width - 0.09)


def incomplete_lbbb(h: Hearts, rows, u, rng):
    """ILBBB: the shape of LBBB, R slurred and no q in V5-V6, at a QRS of 110-119 ms (AHA 2009
    III).
    """
    _draw_lbbb(h, rows, rng, 0.35 + 0.3 * u)
    widen_qrs(h, rows, 0.1115 + 0.005 * u + 0.001 * rng.random(len(rows)))


def _draw_lbbb(h: Hearts, rows, rng, share) -> None:
    """Redraws the QRS as spreading from right to left: two or three lobes left and back, the
    second later, so that R is notched; V3-V4 may stay negative. `share` (n,): of the secondary
    ST-T.
    """
    n = len(rows)
    own = main_vector(h, rows)
    size = 1.65 * np.linalg.norm(own, axis=1) ** 0.6 * spread(rng, n, 0.18)
    axis = 0.7 * np.rad2deg(np.arctan2(own[:, 1], own[:, 0])).clip(-60, 85) - 16
    axis = (axis + rng.normal(0, 16, n)).clip(-65, 75)
    back = (48 + rng.normal(0, 10, n)).clip(22, 66)
    gap = rng.uniform(0.033, 0.045, n)  # the wider, the deeper the notch
    lobes = (
        (R1, 0.0, 0.0150, rng.uniform(0.46, 0.80, n), -11),
        (R2, gap, rng.uniform(0.0155, 0.0205, n), rng.uniform(0.88, 1.18, n), 3),
        (L, gap + 0.030, 0.0145, rng.uniform(0.10, 0.45, n), 6),
    )
    late = (size * rng.uniform(-0.1, 1.0, n).clip(0, None))[:, None]  # S reaches V4, V5
    late = late * np.array([0, 0, 0, -0.25, -0.70, -0.70, -0.35, -0.10])
    for wave, centre, sd, part, more_back in lobes:
        turned = axis + rng.normal(0, 9, n)
        h.dipole[rows, wave] = vector(size * part, turned, back + more_back + rng.normal(0, 6, n))
        h.local[rows, wave] = part[:, None] * late
        set_limb(h, rows, (wave,), h.dipole[rows, wave][:, None, :2])
        h.centre[rows, wave] = centre
        h.rise[rows, wave] = h.fall[rows, wave] = sd
    _first_septum(h, rows, rng)
    _late_peak(h, rows, rng.uniform(0.50, 0.82, n) * (0.8 + 0.2 * share))
    h.centre[rows, J], h.rise[rows, J] = gap + 0.078, 0.018
    st, t = share * rng.uniform(0.05, 0.18, n), share * rng.uniform(0.16, 0.44, n)
    h.dipole[rows, T] *= 1 - share[:, None] * rng.uniform(0.4, 1.0, (n, 1))
    main = vector(size, axis + rng.normal(0, 18, n), back + rng.normal(0, 12, n))
    _against(h, rows, main, st, t)
    for wave, ratio in ((J, st), (T, t)):
        h.local[rows, wave] -= ratio[:, None] * late
    calm_v2(h, rows, 2.1)


def _first_septum(h: Hearts, rows, rng) -> None:
    """The septum from right to left: no q in I and V6; r in V1-V3, or none (QS)."""
    n = len(rows)
    forward = np.where(rng.random(n) < 0.65, rng.uniform(-0.34, -0.06, n), 0.06)
    h.dipole[rows, Q] = np.stack(
        [rng.uniform(0.06, 0.20, n), rng.normal(0.05, 0.08, n), forward], axis=1
    )
    h.local[rows, Q] = 0
    h.centre[rows, Q], h.rise[rows, Q], h.fall[rows, Q] = -0.027, 0.0095, 0.0095
    h.dipole[rows, S] = 0
    h.local[rows, S] = 0
    h.centre[np.ix_(rows, (N1, N2))] += 0.034  # what notches there are, notch the plateau


def _late_peak(h: Hearts, rows, ratio) -> None:
    """Keeps the first lobe below `ratio` (n,) of the second in V5 and V6, or nearly so: R peaks
    late.
    """
    least = 0.25 * np.linalg.norm(h.dipole[rows, R2], axis=1)
    for lead in (LEADS8.index("V5"), LEADS8.index("V6")):
        first, second = sizes(h, rows, (R1, R2))[:, :, lead].T
        taller = np.maximum(second, least)
        h.local[rows, R2, lead] += taller - second
        more = (first - ratio * taller).clip(0, None)
        h.local[rows, R1, lead] -= 0.8 * more
        h.local[rows, R2, lead] += 0.3 * more


# --- fascicles ------------------------------------------------------------------------------------


def left_anterior_block(h: Hearts, rows, u, rng):
    """LAFB: axis -45 to -90 degrees, qR in aVL, rS in II, III, aVF, QRS below 120 ms (AHA 2009
    III); mild ones only -30 to -45. S reaches V5 and V6.
    """
    n = len(rows)
    fan(h, rows, (Q, R1, R2, S, L), (122, -14, -52, -75, -90), (0.4, 1.1, 0.95, 0.4, 0.12), rng)
    sure = np.clip(u / 0.35, 0, 1)
    axis = -32 - 17 * sure - 16 * (u - 0.35).clip(0, 1) - rng.gamma(1.4, 3.0, n).clip(0, 20)
    _finish_fascicle(h, rows, axis, ({"aVL": -1},), rng)
    lateral = np.array([0, 0, 0, 0, -0.1, -0.4, -0.8, -0.8])
    side = rng.uniform(0.2, 1.2, (n, 1)) * limb_size(h, rows)[:, None]
    h.local[rows, S] += side * lateral
    h.local[np.ix_(rows, (R1, R2))] += 0.22 * (side * lateral)[:, None]
    h.local[rows, S, _V1] += 0.2 * side[:, 0]


def left_posterior_block(h: Hearts, rows, u, rng):
    """LPFB: axis +90 to +180 degrees, rS in I and aVL, qR in III and aVF, QRS below 120 ms (AHA
    2009 III).
    """
    fan(h, rows, (Q, R1, R2, S, L), (-52, 80, 112, 150, 160), (0.4, 0.9, 1.0, 0.35, 0.1), rng)
    axis = 86 + 28 * u + rng.gamma(1.3, 5, len(rows)).clip(0, 35)
    _finish_fascicle(h, rows, axis, ({"III": -1, "aVF": -1}, {"I": 1, "aVL": 1}), rng)


def _finish_fascicle(h: Hearts, rows, axis, first: tuple[dict, ...], rng) -> None:
    """The late fascicle takes 5-15 ms more; the axis is what the block makes it, the `first` waves
    show.
    """
    later = rng.uniform(0.001, 0.004, (len(rows), 1))
    h.centre[np.ix_(rows, (R1, R2, S, L))] += later * np.array([0.7, 1.0, 1.5, 2.0])
    width = qrs_width(h, rows) * rng.uniform(1.02, 1.16, len(rows))
    widen_qrs(h, rows, width.clip(None, 0.115))
    for _ in range(2):
        turn_axis(h, rows, axis, (R1, R2, S, L))
        for leads in first:
            show_first(h, rows, leads)
    turn_axis(h, rows, axis, (R1, R2, S, L))


# --- elsewhere ------------------------------------------------------------------------------------


def ventricular_delay(h: Hearts, rows, u, rng):
    """IVCD: QRS above 110 ms with the pattern of neither bundle branch (AHA 2009 III): broad and
    notched, some with a late S to the right.
    """
    n = len(rows)
    apart = rng.uniform(0.0, 0.007, n)
    h.centre[rows, R1] -= apart
    h.centre[rows, R2] += apart
    h.local[np.ix_(rows, (N1, N2))] *= rng.uniform(1, 3, (n, 1, 1)) * (np.arange(8) != _V1)
    h.dipole[rows, S] += h.dipole[rows, L]
    h.rise[rows, L] = h.fall[rows, L] = rng.uniform(0.010, 0.013, n)
    right = rng.random(n) < 0.8  # a late S to the right; the others slur R and keep a septal q
    h.centre[rows, L] = np.where(right, rng.uniform(0.042, 0.060, n), rng.uniform(0.028, 0.040, n))
    size = rng.uniform(0.24, 0.5, n) * np.linalg.norm(main_vector(h, rows), axis=1).clip(0.5, 1.5)
    late = np.where(right[:, None], np.array([-0.9, 0.0, 0.75]), np.array([0.6, 0.2, 0.4]))
    h.dipole[rows, L] = size[:, None] * late + rng.normal(0, 0.06, (n, 3))
    shallow = sizes(h, rows, (L,))[:, 0, 7] + 0.7 * size
    h.local[rows, L, 7] -= np.where(right, shallow.clip(0, None), 0)  # S in V6
    no_late_r(h, rows)
    slurred = rows[~right]
    septal = limb_size(h, slurred) * rng.uniform(0.15, 0.35, (~right).sum())
    set_limb(h, slurred, (Q,), (septal[:, None] * np.array([-1.0, -0.2]))[:, None])
    show_first(h, slurred, {"I": -1})
    h.local[slurred, Q, 6:] -= septal[:, None]
    widen_qrs(h, rows, 0.107 + 0.028 * u + rng.gamma(1.3, 0.006, n).clip(0, 0.03))
    _against(h, rows, main_vector(h, rows), 0.05 * u, 0.25 * u * rng.random(n))


# Where the extra pathway enters, the delta wave points away from: (axis, azimuth back), chance.
PATHWAYS = {
    "left lateral": ((115, -40), 0.45),  # delta negative in I, aVL; R in V1
    "posteroseptal": ((-55, -30), 0.27),  # negative in II, III, aVF; R from V2 on
    "right lateral": ((-15, 42), 0.16),  # like LBBB
    "anteroseptal": ((60, 35), 0.12),
}


def pre_excitation(h: Hearts, rows, u, rng):
    """WPW: PR below 120 ms, delta wave, QRS above 110 ms, ST-T against the delta wave (AHA 2009
    III; pathways after Arruda et al. 1998).
    """
    n = len(rows)
    ways, chances = zip(*PATHWAYS.values())
    way = np.array(ways)[rng.choice(len(ways), n, p=chances)]
    angles = way + rng.normal(0, 13, (n, 2))
    size = np.linalg.norm(main_vector(h, rows), axis=1).clip(0.5, 1.6)
    share = (0.20 + 0.45 * u)[:, None]  # how much of the ventricles the pathway takes
    for wave, part in ((R1, 1.0), (R2, 0.6), (S, 0.4), (L, 0.0)):
        drawn = vector(size, angles[:, 0], angles[:, 1])
        h.dipole[rows, wave] += share * (part * drawn - h.dipole[rows, wave])
    delta = vector(size * (0.24 + 0.16 * u) * spread(rng, n, 0.2), *angles.T)
    h.dipole[rows, Q] = delta
    h.local[np.ix_(rows, (Q, N1))] = 0
    set_limb(h, rows, (Q,), delta[:, None, :2])
    h.centre[rows, Q] = -0.032 - 0.006 * u
    h.rise[rows, Q], h.fall[rows, Q] = 0.0150 + 0.003 * u, 0.027
    widen_qrs(h, rows, 0.1135 + 0.028 * u + rng.gamma(1.3, 0.004, n).clip(0, 0.02))
    set_pr(h, rows, (0.116 - 0.022 * u - rng.gamma(1.5, 0.004, n)).clip(0.075, None))
    _shorten_p(h, rows)
    main = vector(size, angles[:, 0], angles[:, 1])
    _against(h, rows, main, 0.10 * share[:, 0], share[:, 0] * rng.uniform(0.15, 0.55, n))


def _shorten_p(h: Hearts, rows) -> None:
    """The P wave ends where the delta wave begins or soon after: PR is P then."""
    start, end = p_span(h, rows)
    fits = ((pr_interval(h, rows) + 0.010) / (end - start)).clip(None, 1.0)[:, None]
    at = np.ix_(rows, (0, 1))
    h.centre[at] = start[:, None] + (h.centre[at] - start[:, None]) * fits
    h.rise[at] *= fits
    h.fall[at] *= fits
