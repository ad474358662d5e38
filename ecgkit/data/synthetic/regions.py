"""Regions of the left ventricle: in which leads damage shows, and how much of it a lead must get.

A region is a pattern over the eight independent leads: what its *loss* adds to them. The limb leads
follow one frontal vector that points away from the damaged wall, so II, III, aVF (or I, aVL) agree
as they do in life; each chest lead has its own share. No two patients share a pattern: the frontal
vector turns, the damage lies a little further to the left or right, single leads are louder.

Shape letters: n chosen hearts, C8 independent leads, C12 leads, T samples.

Usage:

    loss = draw_pattern("inferior", n, rng)     # (n, C8), about -1 where the region is seen best
    lower_st(hearts, rows, loss, "inferior", 0.1)       # ST at J + 60 ms: -0.1 mV in two leads
    lower_t(hearts, rows, loss, "inferior", 0.2)        # T: -0.2 mV in two leads
"""

from __future__ import annotations

import numpy as np

from ecgkit.data.synthetic.hearts import R1, R2, SINUS_WAVES, Hearts, J, T, place_t_wave, qrs_edges
from ecgkit.data.synthetic.render import twelve_leads
from ecgkit.data.synthetic.shaping import LEAD, spread, subset

# Region -> direction away from it in the frontal plane (degrees, 90 is down), size in the limb
# leads, size in V1-V6; then the leads in which it is read.
_PATTERNS = {
    "inferior": (-72, 1.00, (0.06, 0.10, 0.06, 0.00, -0.10, -0.15)),
    "lateral": (140, 0.55, (0.08, 0.08, 0.00, -0.35, -0.90, -1.00)),
    "high lateral": (150, 0.80, (0.00, 0.00, 0.00, -0.10, -0.35, -0.50)),
    "anterolateral": (148, 0.45, (0.00, -0.30, -0.85, -1.00, -0.90, -0.60)),
    "anterior": (150, 0.10, (-0.20, -0.75, -1.00, -0.90, -0.45, -0.10)),
    "anteroseptal": (150, 0.03, (-0.55, -1.00, -0.90, -0.45, -0.08, 0.00)),
    "inferolateral": (-98, 0.90, (0.12, 0.15, 0.05, -0.25, -0.80, -1.00)),
    "posterior": (-90, 0.05, (0.60, 1.00, 0.85, 0.40, 0.00, -0.15)),
    "diffuse": (-125, 0.70, (0.10, -0.05, -0.45, -0.90, -1.00, -0.85)),
}
_READ_IN = {
    "inferior": "II III aVF",
    "lateral": "I aVL V5 V6",
    "high lateral": "I aVL",
    "anterolateral": "I aVL V3 V4 V5 V6",
    "anterior": "V2 V3 V4",
    "anteroseptal": "V1 V2 V3",
    "inferolateral": "II III aVF V5 V6",
    "posterior": "V1 V2 V3",
    "diffuse": "I II V4 V5 V6",
}
READ_IN = {name: [LEAD[lead] for lead in leads.split()] for name, leads in _READ_IN.items()}
# T waves and ST are smaller in the limb leads and grow less there.
LIMB_ONLY = ("inferior", "high lateral")
# Leads that lie side by side, the limb leads in Cabrera's order (Wagner et al. 2009).
_SIDE_BY_SIDE = "aVL-I I-II II-aVF aVF-III V1-V2 V2-V3 V3-V4 V4-V5 V5-V6"
PAIRS = [tuple(LEAD[lead] for lead in pair.split("-")) for pair in _SIDE_BY_SIDE.split()]
_AUDIBLE = 0.25  # a lead that gets less than this share of the loudest one is not counted on
J_PLUS = 0.060  # s


def draw_pattern(region: str, n: int, rng) -> np.ndarray:
    """(n, C8): what the loss of the region adds to each lead, each patient with a pattern of
    their own.
    """
    angle, limb, chest = _PATTERNS[region]
    angle = np.deg2rad(angle + 14 * rng.standard_normal(n).clip(-2, 2))
    size = limb * spread(rng, n, 0.25)
    chest = _shifted(np.array(chest), rng.uniform(-0.6, 0.6, n)) * spread(rng, 6 * n, 0.2).reshape(
        n, 6
    )
    pattern = np.empty((n, 8))
    pattern[:, 0], pattern[:, 1] = size * np.cos(angle), size * np.cos(angle - np.pi / 3)
    pattern[:, 2:] = chest
    return pattern


def _shifted(chest: np.ndarray, leads: np.ndarray) -> np.ndarray:
    """(n, 6): the chest profile (6,) moved by `leads` (n,) in -1..1 towards V6."""
    right, left = np.r_[chest[0], chest[:-1]], np.r_[chest[1:], chest[-1]]
    moved = np.where(leads[:, None] > 0, right, left)
    return chest + np.abs(leads)[:, None] * (moved - chest)


def twelve(values8: np.ndarray) -> np.ndarray:
    """(n, C8) -> (n, C12) by Einthoven and Goldberger."""
    return twelve_leads(values8[..., None])[..., 0]


def placed(h: Hearts, rows) -> Hearts:
    """A copy of `rows` with T where it will stand once all findings are drawn."""
    some = subset(h, rows)
    place_t_wave(some)
    return some


def level(some: Hearts, at: np.ndarray) -> np.ndarray:
    """(n, C8) mV: the height of each lead `at` (n,) seconds after the R peak."""
    return np.einsum("nk,nkc->nc", _shape(some, at), some.amplitudes()[:, list(SINUS_WAVES)])


def _shape(some: Hearts, at: np.ndarray) -> np.ndarray:
    """(n, K): how high each sinus wave stands at that time, 1 at its centre."""
    k = list(SINUS_WAVES)
    d = at[:, None] - some.centre[:, k]
    return np.exp(-0.5 * (d / np.where(d < 0, some.rise[:, k], some.fall[:, k])) ** 2)


def st_level(some: Hearts) -> np.ndarray:
    """(n, C8) mV at J + 60 ms of placed hearts."""
    return level(some, qrs_edges(some)[1] + J_PLUS)


def st_share(some: Hearts) -> np.ndarray:
    """(n,) how much of the wave J stands at J + 60 ms."""
    return _shape(some, qrs_edges(some)[1] + J_PLUS)[:, SINUS_WAVES.index(J)]


def t_level(some: Hearts) -> np.ndarray:
    """(n, C8) mV at the centre of the T wave of placed hearts."""
    return level(some, some.centre[:, T])


def r_heights(some: Hearts) -> np.ndarray:
    """(n, C12) mV, about: the free walls' larger wave in each lead, 0 where both point down."""
    main = some.amplitudes()[:, [R1, R2]].sum(axis=1)
    return np.maximum(twelve(main) * 0.8, 0)


def factor_to(now, step, goal, leads, count: int = 2, counted=True, pairs=()) -> np.ndarray:
    """(n,) the factor f >= 0 at which `count` of `leads` have now + f * step <= goal, or where
    `pairs` of leads are given, both of one pair; 0 where no lead can get there.

    `now`, `step` (n, C12), `goal` (n,) or (n, C12), `counted` (n, C12) bool. Leads that hardly hear
    the step do not count.
    """
    goal = np.broadcast_to(goal if goal.ndim == 2 else goal[:, None], now.shape)
    heard = step < -_AUDIBLE * np.abs(step[:, leads]).max(axis=1, keepdims=True)
    heard = (heard & counted)[:, leads]
    wanted = (goal - now)[:, leads] / np.where(heard, step[:, leads], -1)
    wanted = np.where(heard, np.maximum(wanted, 0), np.inf)
    ranked = np.sort(wanted, axis=1)
    factor = ranked[np.arange(len(now)), heard.sum(axis=1).clip(1, count) - 1]
    at = {lead: i for i, lead in enumerate(leads)}
    both = [wanted[:, [at[a], at[b]]].max(axis=1) for a, b in pairs if a in at and b in at]
    if both:
        nearest = np.min(both, axis=0)
        factor = np.where(np.isfinite(nearest), nearest, factor)
    return np.where(np.isfinite(factor), factor, 0)


def grown(u, criterion: float, most: float, region: str, rng) -> np.ndarray:
    """(n,) mV by severity: well below `criterion` at u = 0, just past it at 0.35 (where findings
    become certain), about `most` at 1; in regions seen by limb leads alone half as far past it.
    """
    past = ((u - 0.35).clip(0) / 0.65) ** 1.3 * spread(rng, len(u), 0.3)
    past *= (most - criterion) * (0.5 if region in LIMB_ONLY else 1.0)
    return criterion * (0.3 + 2.6 * np.minimum(u, 0.35)) * spread(rng, len(u), 0.06) + past


# --- ST segment -----------------------------------------------------------------------------------


def level_st(h: Hearts, rows, rng, slope: float | np.ndarray = 0.0) -> None:
    """Shapes what ST does after the QRS: `slope` (n,) -1 falling on, 0 level, 1 rising back."""
    n = len(rows)
    end = qrs_edges(subset(h, rows))[1]
    slope = np.broadcast_to(slope, n) + rng.uniform(-0.25, 0.25, n)
    down, up = np.clip(-slope, 0, 1.2), np.clip(slope, 0, 1.2)
    h.centre[rows, J] = end + 0.016 + 0.060 * down - 0.004 * up
    h.rise[rows, J] = 0.013 + 0.026 * down
    h.fall[rows, J] = (0.090 + 0.010 * down - 0.042 * up) * spread(rng, n, 0.12)


def lower_st(h: Hearts, rows, loss, region: str, depth, count: int = 2) -> None:
    """Adds `loss` to ST until J + 60 ms is at most -depth (n,) mV in `count` leads of the region.

    The heart's own ST in these leads goes along: a depressed ST does not start from a raised one.
    """
    some = placed(h, rows)
    at = qrs_edges(some)[1] + J_PLUS
    unit = _shape(some, at)[:, SINUS_WAVES.index(J)]
    step = loss * unit[:, None]
    f = factor_to(twelve(level(some, at)), twelve(step), -np.asarray(depth), READ_IN[region], count)
    h.local[rows, J] += f.clip(0, 1.5)[:, None] * loss


def raise_st(h: Hearts, rows, loss, region: str, height, count: int = 2) -> None:
    """Subtracts `loss` from ST until J + 60 ms is at least `height` in `count` leads."""
    some = placed(h, rows)
    at = qrs_edges(some)[1] + J_PLUS
    step = loss * _shape(some, at)[:, SINUS_WAVES.index(J)][:, None]
    f = factor_to(
        -twelve(level(some, at)), twelve(step), -np.asarray(height), READ_IN[region], count
    )
    h.local[rows, J] -= f.clip(0, 1.5)[:, None] * loss


def weaken_st(h: Hearts, rows, factor) -> None:
    """Multiplies the patient's own ST in every lead by `factor` (n,)."""
    factor = np.broadcast_to(factor, len(rows))[:, None]
    h.dipole[rows, J] *= factor
    h.local[rows, J] *= factor


# --- T wave ---------------------------------------------------------------------------------------


def weaken_t(h: Hearts, rows, factor) -> None:
    """Multiplies the patient's own T in every lead by `factor` (n,)."""
    factor = np.broadcast_to(factor, len(rows))[:, None]
    h.dipole[rows, T] *= factor
    h.local[rows, T] *= factor


def lower_t(h: Hearts, rows, loss, region: str, depth, count=2, counted=True, pairs=()) -> None:
    """Adds `loss` to T until it is at most -depth mV, (n,) or (n, C12), in `count` leads or in
    both of one of `pairs`.
    """
    now = twelve(t_level(placed(h, rows)))
    f = factor_to(now, twelve(loss), -np.asarray(depth), READ_IN[region], count, counted, pairs)
    h.local[rows, T] += f.clip(0, 2.0)[:, None] * loss


def raise_t(h: Hearts, rows, loss, region: str, height, count: int = 2) -> None:
    """Subtracts `loss` from T until it is at least `height` (n,) mV in `count` leads."""
    now = -twelve(t_level(placed(h, rows)))
    f = factor_to(now, twelve(loss), -np.asarray(height), READ_IN[region], count)
    h.local[rows, T] -= f.clip(0, 2.5)[:, None] * loss
