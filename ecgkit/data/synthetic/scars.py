"""Scars: the activation that is missing where heart muscle died, as Q waves and lost R.

A dead wall's loss (a pattern of `regions`) is added to the wave X and taken from the free walls' R,
as much as it takes until a criterion is met, as measured on the QRS with all drawn before.

Shape letters: n chosen hearts, C8 independent leads, T samples at 500 Hz.

Usage:

    place_x(hearts, rows, rng)
    draw_q(hearts, rows, loss, r_loss, pathologic_q(leads, width_ms, depth_mv))
    front_scar(hearts, rows, u, loss, rng)
"""

from __future__ import annotations

import numpy as np

from ecgkit.data.synthetic.hearts import N1, N2, R1, R2, Hearts, Q, S, X
from ecgkit.data.synthetic.shaping import LEAD, qrs_beat, spread, subset

STEPS = np.r_[np.linspace(0, 1.0, 11), np.geomspace(1.15, 3, 7)]
_R_FIRST = 2.0  # R is all lost at half a step of X
_SEEN, _MS = 0.025, 2.0  # mV of a deflection (Minnesota code); ms per sample of `qrs_beat`


# --- measuring and drawing Q ----------------------------------------------------------------------


def q_waves(beat: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth mV, width ms of the initial negative wave and height mV of R, each (..., 12), of a QRS
    (..., 12, T). A QS is all Q.
    """
    up = beat > _SEEN
    before = ~np.logical_or.accumulate(up, axis=-1)
    depth = -np.where(before, beat, 0).min(axis=-1)
    width = _MS * (before & (beat < -_SEEN)).sum(axis=-1)
    return depth, width, np.maximum(beat.max(axis=-1), 0)


def first_step(reach: np.ndarray) -> np.ndarray:
    """(n,) the index of the first step at which `reach` (n, steps) gets to 1; the best if none."""
    return np.where((reach >= 1).any(axis=1), (reach >= 1).argmax(axis=1), reach.argmax(axis=1))


def _parts(h: Hearts, rows, loss, r_loss, x_share: float, s_share: float) -> tuple[dict, dict]:
    """{wave: (n, C8)}: what one step of loss adds to X and S, and what R loses at most.

    The first half of R goes first: it is what the dead wall would have begun with.
    """
    hit = (-loss).clip(0, 1)
    early, late = hit * np.minimum(0.1 + 1.3 * r_loss, 1)[:, None], hit * r_loss[:, None]
    some = np.maximum(h.amplitudes()[rows], 0)
    taken = {k: -early * some[:, k] for k in (Q, R1, N1)}
    return {X: 0.5 * x_share * loss, S: s_share * loss}, taken | {
        k: -late * some[:, k] for k in (R2, N2, S)
    }


def alone(h: Hearts, rows, local: dict) -> np.ndarray:
    """(n, 12, T): QRS waves with these local amplitudes (n, C8) and nothing else."""
    some = subset(h, rows)
    some.dipole[:], some.local[:] = 0, 0
    for k, amplitude in local.items():
        some.local[:, k] = amplitude
    return qrs_beat(some, slice(None))


def draw_q(
    h: Hearts, rows, loss, r_loss, reached, x_share: float = 1.0, s_share: float = 0.0
) -> None:
    """Takes R away where `loss` (n, C8) points down, `r_loss` (n,) of it at most, and adds
    `x_share` * `loss` to X and `s_share` * `loss` to S, which nothing opposes now, step by step
    until `reached(beat)` (n,) is 1.
    """
    given, taken = _parts(h, rows, loss, r_loss, x_share, s_share)
    base, plus, minus = qrs_beat(h, rows), alone(h, rows, given), alone(h, rows, taken)
    ways = [reached(base + s * plus + min(_R_FIRST * s, 1) * minus) for s in STEPS]
    step = STEPS[first_step(np.stack(ways, axis=1))][:, None]
    for k, amplitude in given.items():
        h.local[rows, k] += step * amplitude
    for k, amplitude in taken.items():
        h.local[rows, k] += np.minimum(_R_FIRST * step, 1) * amplitude


def place_x(h: Hearts, rows, rng, width_ms=30.0) -> None:
    """When the missing activation would have been: early, for about as long as a Q lasts. Where an
    older scar has placed it, it stays.
    """
    free = np.abs(h.local[rows, X]).max(axis=1) < 0.01
    width_ms, rows = np.broadcast_to(width_ms, len(rows))[free], rows[free]
    n = len(rows)
    h.centre[rows, X] = h.centre[rows, Q] - 0.003 + 0.003 * rng.standard_normal(n).clip(-1.5, 1.5)
    h.rise[rows, X] = 0.0110 * spread(rng, n, 0.10)
    h.fall[rows, X] = (0.0060 + 0.0002 * width_ms) * spread(rng, n, 0.10)


def pathologic_q(leads, width_ms, depth, count: int = 2):
    """-> reached(beat): how far `count` of `leads` have a Q that wide and that deep; QS counts."""

    def reached(beat):
        deep, wide, _ = q_waves(beat[:, leads])
        share = np.minimum(deep / depth[:, None], wide / width_ms[:, None])
        return np.sort(share, axis=1)[:, -count]

    return reached


def lost_r(leads, height):
    """-> reached(beat): 1 once R is at most `height` (n, leads) mV in each lead."""

    def reached(beat):
        return (height / np.maximum(beat[:, leads].max(axis=2), 1e-3)).min(axis=1)

    return reached


# --- the front wall -------------------------------------------------------------------------------


def front_scar(h: Hearts, rows, u, loss, rng, most_poor: float = 1.0) -> None:
    """Two faces of one scar: QS or Q > 20 ms in V2 or V3, or R lost from V1 to V3 (V4).

    The lesser scar shows as poor R progression, R of 0.3 mV or less in V3 (Zema & Kligfield 1982)
    and still smaller before it; `most_poor` is the largest share of that face.
    """
    place_x(h, rows, rng, 40)
    poor = rng.random(len(rows)) < np.minimum(0.9 - 0.8 * u, most_poor)
    if poor.any():
        lose_r(h, rows[poor], u[poor], loss[poor], rng)
    deep = np.flatnonzero(~poor)
    if len(deep):
        width = 14 + 24 * u[deep] + 14 * u[deep] * rng.random(len(deep))
        depth = (0.06 + 0.3 * u[deep]) * spread(rng, len(deep), 0.2)
        reached = pathologic_q([LEAD["V2"], LEAD["V3"]], width, depth, 1)
        draw_q(h, rows[deep], loss[deep], 0.75 + 0.25 * rng.random(len(deep)), reached, s_share=0.5)


def lose_r(h: Hearts, rows, u, loss, rng) -> None:
    """R of 0.1-0.3 mV in V3, less in V2; no Q."""
    goal = (0.48 - 0.75 * u).clip(0.07, 1) * spread(rng, len(rows), 0.15)
    reached = lost_r([LEAD["V2"], LEAD["V3"]], goal[:, None] * np.array([0.85, 1.0]))
    weak = loss * np.array([0.3, 0.3, 1, 1, 1, 1, 1, 1])
    draw_q(h, rows, weak, np.ones(len(rows)), reached, x_share=0.25, s_share=0.3)
