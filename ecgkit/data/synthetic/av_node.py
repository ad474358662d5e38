"""Which atrial beats reach the ventricles, and who beats when none does.

Each function changes the beats of some `rows` (m,) in place; a beat that does not come has the time
NEVER.

Usage:

    conduct(hearts, beats, rng)
"""

from __future__ import annotations

import numpy as np

from ecgkit.data.synthetic import beats as kinds
from ecgkit.data.synthetic import clocks
from ecgkit.data.synthetic.beats import NEVER, Beats
from ecgkit.data.synthetic.hearts import Hearts


def conduct(hearts: Hearts, beats: Beats, rng: np.random.Generator) -> None:
    """Replaces plain one-to-one conduction where a heart has something else."""
    _delay_premature(hearts, beats, rng)
    drop = (hearts.av_block == kinds.WENCKEBACH) | (hearts.av_block == kinds.MOBITZ)
    for apply, which in (
        (_second_degree, drop),
        (_dissociate, hearts.av_block >= kinds.COMPLETE),
        (_reenter, hearts.reentry > 0),
        (_fibrillate, hearts.f_waves > 0),
        (_flutter, hearts.flutter > 0),
        (_pace, hearts.paced > 0),
    ):
        rows = np.flatnonzero(which)
        if len(rows):
            apply(hearts, beats, rows, rng)


def _delay_premature(hearts: Hearts, beats: Beats, rng) -> None:
    """The earlier an atrial beat, the longer its PR; about one in four of the early ones meets a
    refractory bundle branch (aberrant), and the earliest are not conducted at all.
    """
    rows, b = np.nonzero(beats.kind == kinds.ATRIAL)
    coupling = beats.atrial[rows, b] - beats.atrial[rows, b - 1]
    beats.time[rows, b] += np.clip(0.06 * (1.0 - coupling), 0.005, 0.05)
    aberrant = (coupling < 0.55) & (rng.random(len(rows)) < 0.25)
    beats.shape[rows[aberrant], b[aberrant]] = kinds.ABERRANT
    blocked = coupling < clocks.REFRACTORY * 60 / clocks.sinus_rate(hearts)[rows]
    beats.time[rows[blocked], b[blocked]] = NEVER


def _places(lengths: np.ndarray) -> np.ndarray:
    """(m, B) place of each beat in its group, for groups of `lengths` (m, B) one after another."""
    m, columns = lengths.shape
    ends = np.cumsum(lengths, axis=1)
    group = np.stack([np.searchsorted(end, np.arange(columns), side="right") for end in ends])
    first = np.take_along_axis(ends - lengths, group, axis=1)
    return np.arange(columns) - first


def _second_degree(h: Hearts, beats: Beats, rows, rng) -> None:
    """Drops the last beat of each group of P waves. Wenckebach: PR grows within the group, most at
    first, so that RR gets shorter towards the pause. Mobitz II and 2:1: PR stays.
    """
    m, columns = len(rows), beats.time.shape[1]
    cycle = h.av_cycle[rows, None].astype(int)
    wenckebach = (h.av_block[rows] == kinds.WENCKEBACH)[:, None]
    vary = wenckebach & (rng.random((m, columns)) < 0.25)
    lengths = cycle + vary
    lengths[:, 0] = 1 + rng.integers(0, cycle[:, 0])
    place = _places(lengths)
    last = np.diff(place, axis=1, append=0) <= 0
    grow = rng.uniform(0.05, 0.09, (m, 1)) * (1 - 0.6**place) / 0.4
    beats.time[rows] += np.where(wenckebach, grow, 0)
    time = beats.time[rows]
    time[last] = NEVER
    beats.time[rows] = time


def _dissociate(h: Hearts, beats: Beats, rows, rng) -> None:
    """Complete block: an escape focus below beats evenly at `rate`; the P waves go on alone."""
    rr = clocks.steady_intervals(h.rate[rows], 0.008, beats.time.shape[1], rng)
    wide = h.av_block[rows] == kinds.COMPLETE_WIDE
    _own_clock(beats, rows, clocks.times(rr, rng))
    beats.kind[rows] = np.where(wide, kinds.ESCAPE, kinds.JUNCTIONAL)[:, None]


def _own_clock(beats: Beats, rows, time: np.ndarray) -> None:
    """Ventricular beats at `time` (m, B) that follow no atrial beat."""
    beats.time[rows], beats.parent[rows] = time, -1
    beats.kind[rows], beats.shape[rows] = kinds.SINUS, kinds.OWN


def _reenter(h: Hearts, beats: Beats, rows, rng) -> None:
    """Even fast beats, each with its retrograde P `reentry` s behind R; a paroxysm that stops at
    `onset` s leaves a pause and then the sinus node, at 65-100/min.
    """
    m, columns = len(rows), beats.time.shape[1]
    rr = clocks.steady_intervals(h.rate[rows], 0.006, columns, rng)
    time = clocks.times(rr, rng)
    calm = (h.onset[rows, None] > 0) & (time > h.onset[rows, None])
    last = ~calm & np.roll(calm, -1, axis=1)
    slow = rng.uniform(0.60, 0.92, (m, 1)) * (1 + 0.02 * rng.standard_normal((m, columns)))
    rr = np.where(calm, slow, np.where(last, rng.uniform(1.0, 1.5, (m, 1)), rr))
    time = np.cumsum(rr, axis=1) - rr + time[:, :1]
    _own_clock(beats, rows, time)
    beats.atrial[rows] = time + np.where(calm, 0, h.reentry[rows, None])
    beats.atrial_kind[rows] = np.where(calm, kinds.SINUS, kinds.RETROGRADE)
    beats.parent[rows] = np.where(calm, np.arange(columns), -1)


def _fibrillate(h: Hearts, beats: Beats, rows, rng) -> None:
    """Irregularly irregular ventricles; no atrial beats to speak of."""
    if (h.av_block[rows] >= kinds.COMPLETE).any():  # fibrillation with an even escape
        beats.atrial[rows] = NEVER
        rows = rows[h.av_block[rows] < kinds.COMPLETE]
    rr = clocks.fibrillation_intervals(h.rate[rows], h.rr_spread[rows], beats.time.shape[1], rng)
    _own_clock(beats, rows, clocks.times(rr, rng))
    beats.atrial[rows] = NEVER


def _flutter(h: Hearts, beats: Beats, rows, rng) -> None:
    """Atria at `atrial_rate`; each 2nd, 3rd or 4th wave is conducted, the same always (rr_spread
    0) or varying.
    """
    m, columns = len(rows), beats.time.shape[1]
    ratio = np.clip(np.rint(h.atrial_rate[rows] / h.rate[rows]), 1, 8).astype(int)[:, None]
    rate = np.clip(h.rate[rows] * ratio[:, 0], 230, 340)
    atrial = clocks.times(clocks.steady_intervals(rate, 0.006, columns, rng), rng)
    step = rng.choice([-1, 0, 0, 1], (m, columns))
    vary = (h.rr_spread[rows] > 0)[:, None]
    place = _places(np.where(vary, np.maximum(ratio + step, 2), ratio))
    delay = rng.uniform(0.12, 0.22, (m, 1)) + 0.004 * rng.standard_normal((m, columns))
    _own_clock(beats, rows, np.where(place == 0, atrial + delay, NEVER))
    beats.atrial[rows], beats.atrial_kind[rows] = atrial, kinds.FLUTTER
    beats.parent[rows] = np.arange(columns)


# --- pacemakers -----------------------------------------------------------------------------------


def _pace(h: Hearts, beats: Beats, rows, rng) -> None:
    """ATRIUM: paced P, own QRS. DUAL: paced or sensed P, paced QRS. VENTRICLE: paced QRS at `rate`,
    P waves march on by themselves. DEMAND: a paced beat wherever the next own one is late.
    """
    mode = h.paced[rows]
    atrial = rows[(mode == kinds.ATRIUM) | ((mode == kinds.DUAL) & (rng.random(len(rows)) < 0.6))]
    time = clocks.times(clocks.steady_intervals(h.rate[atrial], 0, beats.time.shape[1], rng), rng)
    beats.atrial[atrial], beats.time[atrial] = time, time
    beats.atrial_kind[atrial], beats.kind[atrial] = kinds.PACED, kinds.SINUS
    dual = rows[mode == kinds.DUAL]
    beats.kind[dual] = kinds.PACED
    fixed = rows[mode == kinds.VENTRICLE]
    rr = clocks.steady_intervals(h.rate[fixed], 0, beats.time.shape[1], rng)
    _own_clock(beats, fixed, clocks.times(rr, rng))
    beats.kind[fixed] = kinds.PACED
    for row in rows[mode == kinds.DEMAND].tolist():
        _pace_on_demand(beats, row, 0.98 * 60 / h.rate[row])


def _pace_on_demand(beats: Beats, row: int, wait: float) -> None:
    """Walks along one record's own beats: where the next is more than `wait` s off, the pacemaker
    beats, and an own beat that comes within 0.3 s behind a paced one finds the ventricles
    refractory.
    """
    own, columns = np.sort(beats.time[row]), beats.time.shape[1]
    times, paced, now, i = [], [], own[0] - 0.01, 0
    while len(times) < columns and i < columns and own[i] < NEVER:
        if own[i] - now > wait:
            now = now + wait
            times.append(now)
            paced.append(True)
            i = int(np.searchsorted(own, now + 0.3))
        else:
            now = own[i]
            times.append(now)
            paced.append(False)
            i += 1
    marks = np.zeros(columns, bool)
    marks[: len(paced)] = paced
    parents = dict(zip(beats.time[row].tolist(), beats.parent[row].tolist()))
    beats.time[row, : len(times)], beats.time[row, len(times) :] = times, NEVER
    beats.parent[row] = [parents.get(t, -1) for t in beats.time[row].tolist()]
    beats.parent[row, marks] = -1
    beats.kind[row] = np.where(marks, kinds.PACED, kinds.SINUS)
    beats.shape[row] = np.where(marks, kinds.FIRST, kinds.OWN)
