"""SCP findings of premature beats: one function per code, each with its criterion.

Criteria after Surawicz and Knilans, Chou's Electrocardiography (6th edition); the look of each
origin after Park et al. 2012 (Heart Rhythm 9:1465) and Josephson's Clinical Cardiac
Electrophysiology. Each function takes (hearts, rows (n,) int, u (n,) severity 0 mild .. 1 marked,
rng) and changes those rows in place; `findings` holds the table of all codes and their order.
"""

from __future__ import annotations

import numpy as np

from ecgkit.data.synthetic.beats import DEMAND
from ecgkit.data.synthetic.findings_rhythm import draw_focus
from ecgkit.data.synthetic.hearts import AB, ECTOPIC_WAVES, SECOND_WAVES, Hearts

# Where a ventricular beat starts -> where its QRS points (X left, Y foot, Z back).
ORIGINS = {
    "right outflow tract": (0.25, 0.85, 0.45),  # like LBBB, tall in II, III, aVF
    "right apex": (0.70, -0.50, 0.50),  # like LBBB, negative in II, III, aVF
    "left inferior": (0.15, -0.75, -0.65),  # like RBBB, axis up
    "left lateral": (-0.75, 0.20, -0.60),  # like RBBB, negative in I, V5, V6
    "left outflow tract": (-0.10, 0.80, -0.60),  # upright in V1 and in II, III, aVF
}
_OFTEN = (0.35, 0.15, 0.20, 0.15, 0.15)


def draw_wide(h: Hearts, rows, waves, towards, size, width, rng) -> None:
    """Draws a beat that spreads outside the bundles: two broad lobes (`waves` 0 and 1) towards
    `towards` (n, 3), together `size` (n,) mV and `width` (n,) s, then a T wave the other way.
    """
    first, second, t = waves
    n = len(rows)
    bend = 0.35 * rng.standard_normal((2, n, 3))
    share = rng.uniform(0.35, 0.65, n)
    for k, turn, part in ((first, bend[0], share), (second, bend[1], 1 - share)):
        aim = np.asarray(towards) + turn
        aim = aim / np.linalg.norm(aim, axis=1, keepdims=True)
        h.dipole[rows, k] = (1.5 * size * part)[:, None] * aim
    h.centre[rows, first], h.centre[rows, second] = -0.13 * width, 0.17 * width
    h.rise[rows, first] = h.fall[rows, first] = 0.15 * width
    h.rise[rows, second] = h.fall[rows, second] = 0.17 * width
    main = h.dipole[rows, first] + h.dipole[rows, second]
    h.dipole[rows, t] = -rng.uniform(0.22, 0.36, (n, 1)) * main
    h.centre[rows, t] = 0.5 * width + 0.19 * (60 / h.rate[rows]).clip(0.5, 1.2) ** 0.5
    h.rise[rows, t], h.fall[rows, t] = 0.070, 0.045


def _origins(n: int, rng) -> np.ndarray:
    """(n, 3) directions of random origins, no two quite the same."""
    aims = np.array(list(ORIGINS.values()))[rng.choice(len(ORIGINS), n, p=_OFTEN)]
    return aims + 0.15 * rng.standard_normal((n, 3))


def ventricular_beats(h: Hearts, rows, u, rng):
    """PVC: early wide QRS (>= 120 ms) without a P of its own, T against the QRS, compensatory
    pause; one to four in the strip, one in four records with a second shape.
    """
    n = len(rows)
    h.n_pvc[rows] = 1 + np.floor(3.6 * u**1.5 * rng.random(n) ** 0.7).astype(int)
    demand = h.paced[rows] == DEMAND  # there the E waves are the pacemaker's
    for waves, who in ((ECTOPIC_WAVES, rows[~demand]), (SECOND_WAVES, rows)):
        m = len(who)
        size = np.clip(1.45 * np.exp(rng.normal(0, 0.22, m)), 0.9, 2.3)
        draw_wide(h, who, waves, _origins(m, rng), size, rng.uniform(0.122, 0.164, m), rng)
    h.second[rows] = np.where(demand, 1.0, np.where(rng.random(n) < 0.25, 0.4, 0.0))


def atrial_beats(h: Hearts, rows, u, rng):
    """PAC: a beat 15 % or more too early, with a P of another shape, QRS as the others (seldom
    aberrant, as a rule like RBBB), and a pause that is not compensatory; one to four in the strip.
    """
    n = len(rows)
    h.n_pac[rows] = 1 + np.floor(3.6 * u**1.5 * rng.random(n) ** 0.7).astype(int)
    h.rr_breath[rows] *= 0.6  # early must be seen to be early
    h.rr_slow[rows] *= 0.6
    draw_focus(h, rows, rng)
    h.dipole[rows, AB] = rng.uniform(0.5, 0.9, (n, 1)) * np.array([-0.7, 0.0, -0.7])
    h.centre[rows, AB], h.rise[rows, AB], h.fall[rows, AB] = 0.060, 0.016, 0.018


def premature_beats(h: Hearts, rows, u, rng):
    """PRC(S): premature beats, of either kind, where neither PVC nor PAC says which."""
    _choose(h, rows, u, rng, 0.5)


def _choose(h: Hearts, rows, u, rng, share: float) -> None:
    """Ventricular premature beats for a `share` of the hearts that have none, atrial for others."""
    unsaid = (h.n_pvc[rows] + h.n_pac[rows]) == 0
    below = (rng.random(len(rows)) < share) | (h.f_waves[rows] > 0) | (h.flutter[rows] > 0)
    for effect, which in ((ventricular_beats, below), (atrial_beats, ~below)):
        some = unsaid & which
        effect(h, rows[some], u[some], rng)


def bigeminy(h: Hearts, rows, u, rng):
    """BIGU: every second beat is premature (ventricular more often than atrial)."""
    _in_turn(h, rows, u, rng, 2)


def trigeminy(h: Hearts, rows, u, rng):
    """TRIGU: every third beat is premature."""
    _in_turn(h, rows, u, rng, 3)


def _in_turn(h: Hearts, rows, u, rng, every: int) -> None:
    """Each `every`-th beat is premature, of one kind and one shape, throughout the strip."""
    _choose(h, rows, u, rng, 0.75)
    both = rows[(h.n_pvc[rows] > 0) & (h.n_pac[rows] > 0)]
    h.n_pac[both] = 0
    h.every[rows] = every
    h.rate[rows] = np.clip(h.rate[rows], 55, 95)
    h.rr_breath[rows] *= 0.5
    h.rr_slow[rows] *= 0.5
