"""When a heart beats: atria and ventricles on clocks of their own, and what ties them together.

The atria are driven by the sinus node, another focus, a pacemaker, or flutter; the ventricles
follow them (with block, where there is one), or an escape of their own, or the irregular drum of
fibrillation; premature beats break in. `clocks` holds the interval series, `av_node` what reaches
the ventricles, this module the premature beats and the whole.

Shape letters: N records, B beats.

Usage:

    beats = draw_beats(hearts, seconds=10, rng=rng)     # Beats
"""

from __future__ import annotations

import numpy as np

from ecgkit.data.synthetic import av_node, clocks
from ecgkit.data.synthetic.beats import (
    ATRIAL,
    FIRST,
    NEVER,
    OWN,
    PACED,
    SECOND,
    SINUS,
    VENTRICULAR,
    Beats,
)
from ecgkit.data.synthetic.hearts import Hearts

__all__ = ["ATRIAL", "PACED", "SINUS", "VENTRICULAR", "Beats", "draw_beats"]


def draw_beats(hearts: Hearts, seconds: float, rng: np.random.Generator) -> Beats:
    """Draws the atrial and ventricular beats of every record from its rhythm fields."""
    n, columns = len(hearts), clocks.n_columns(hearts, seconds)
    breath_hz, phase = rng.uniform(0.18, 0.30, n), rng.uniform(0, 2 * np.pi, n)
    rr = clocks.sinus_intervals(hearts, breath_hz, phase, columns, rng)
    start = clocks.LEAD_IN + rr[:, :1] * rng.random((n, 1))
    after = _spots(hearts, np.cumsum(rr, axis=1) - rr - start, hearts.n_pac, seconds, rng)
    blockable = (hearts.n_pac > 1) & (hearts.every == 0)
    focal = clocks.hasten(rr, after, rng, blockable) | _wander(hearts, columns, rng)
    atrial = np.cumsum(rr, axis=1) - rr - start
    kind = np.where(focal, ATRIAL, SINUS).astype(np.int8)
    beats = Beats(
        time=atrial + 0.002 * rng.standard_normal((n, columns)),
        kind=kind,
        shape=np.full((n, columns), OWN, dtype=np.int8),
        parent=np.tile(np.arange(columns), (n, 1)),
        atrial=atrial,
        atrial_kind=kind.copy(),
        breath_hz=breath_hz,
        breath_phase=phase,
    )
    av_node.conduct(hearts, beats, rng)
    if hearts.n_pvc.any():
        beats.sort()
        _add_ventricular(hearts, beats, seconds, rng)
    beats.trim(seconds + clocks.LEAD_OUT)
    return beats


def _spots(hearts: Hearts, time: np.ndarray, wanted: np.ndarray, seconds: float, rng):
    """(N, B) bool: after which beats a premature one comes: `wanted` (N,) of them at random, never
    after two in a row, or after each 2nd or 3rd beat throughout (bigeminy, trigeminy).
    """
    if not wanted.any():
        return np.zeros(time.shape, bool)
    place = np.arange(time.shape[1]) + rng.integers(0, 6, (len(time), 1))
    next_ = time + (60 / hearts.rate)[:, None]
    room = (time > 0) & (next_ < seconds) & (place % 2 == 0)
    chance = np.where(room, rng.random(time.shape), 2.0)
    spots = room & (chance.argsort(axis=1).argsort(axis=1) < wanted[:, None])
    rows = np.flatnonzero((hearts.every > 0) & (wanted > 0))
    spots[rows] = place[rows] % hearts.every[rows, None].astype(int) == 0
    return spots


def _wander(hearts: Hearts, columns: int, rng) -> np.ndarray:
    """(N, B) bool: beats of another atrial focus, in runs (wandering pacemaker)."""
    focal = np.zeros((len(hearts), columns), bool)
    rows = np.flatnonzero(hearts.wander > 0)
    pace = rng.uniform(0.15, 0.5, (len(rows), 1)) * np.arange(columns)
    level = np.sin(pace + rng.uniform(0, 2 * np.pi, (len(rows), 1)))
    level += 0.7 * rng.standard_normal(level.shape)
    ranks = level.argsort(axis=1).argsort(axis=1) / columns
    focal[rows] = ranks < hearts.wander[rows, None]
    return focal


def _add_ventricular(hearts: Hearts, beats: Beats, seconds: float, rng) -> None:
    """Ventricular premature beats, in place. Each takes the place of the next beat, whose P wave
    stays, blocked: the pause is compensatory. Few are interpolated (the next beat comes all the
    same, a little later) or followed by a second one (couplet).
    """
    rows, b = np.nonzero(_spots(hearts, beats.time, hearts.n_pvc, seconds, rng)[:, :-2])
    real = np.isfinite(beats.time[rows, b])
    rows, b = rows[real], b[real]
    m, usual = len(rows), 60 / hearts.rate[rows]
    before = beats.time[rows, b]
    gap = np.minimum(beats.time[rows, b + 1] - before, 1.15 * usual)
    own = rng.uniform(0.55, 0.72, len(hearts))[rows]  # one focus, one coupling
    early = before + np.maximum(gap * own + 0.008 * rng.standard_normal(m), 0.30)
    single = hearts.every[rows] > 0
    shape = np.where(~single & (rng.random(m) < hearts.second[rows]), SECOND, FIRST)
    luck = np.where(single, 0.5, rng.random(m))
    between = (luck < 0.08) & (gap > 0.85) & (early - before < 0.62 * gap)
    couplet = (luck > 0.93) & (hearts.n_pvc[rows] > 1)
    beats.time[rows, b + 1] = np.where(between, beats.time[rows, b + 1] + 0.06, early)
    second = early + rng.uniform(0.38, 0.48, m)
    lost = couplet & (beats.time[rows, b + 2] < second + 0.3)
    beats.time[rows[lost], b[lost] + 2] = NEVER
    new = ~between
    beats.kind[rows[new], b[new] + 1] = VENTRICULAR
    beats.shape[rows[new], b[new] + 1] = shape[new]
    beats.parent[rows[new], b[new] + 1] = -1
    _insert(beats, rows[between], early[between], shape[between])
    _insert(beats, rows[couplet], second[couplet], shape[couplet])


def _insert(beats: Beats, rows: np.ndarray, time: np.ndarray, shape: np.ndarray) -> None:
    """Adds ventricular beats in columns of their own, at most one per row and column."""
    nth = np.arange(len(rows)) - np.searchsorted(rows, rows)  # `rows` ascends
    new = np.full((len(beats.time), nth.max(initial=-1) + 1), NEVER)
    shapes, kind = np.zeros(new.shape, np.int8), np.full(new.shape, VENTRICULAR, np.int8)
    new[rows, nth], shapes[rows, nth] = time, shape
    parent = np.full(new.shape, -1)
    for name, more in (("time", new), ("kind", kind), ("shape", shapes), ("parent", parent)):
        setattr(beats, name, np.concatenate([getattr(beats, name), more], axis=1))
