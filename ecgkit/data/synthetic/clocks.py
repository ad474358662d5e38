"""Interval series: how long each beat waits for the next, under each kind of driver.

Shape letters: N records, m some of them, B beats.

Usage:

    rr = sinus_intervals(hearts, breath_hz, breath_phase, columns, rng)     # (N, B) s
"""

from __future__ import annotations

import numpy as np

from ecgkit.data.synthetic.hearts import Hearts

LEAD_IN, LEAD_OUT = 2.4, 1.6  # s drawn before and after the strip
_FASTEST_RR = 0.27
REFRACTORY = 0.52  # of the usual RR: atrial beats earlier than that are blocked


def n_columns(hearts: Hearts, seconds: float) -> int:
    """Enough beats for the fastest atria or ventricles of these hearts."""
    fastest = max(hearts.rate.max(), hearts.atrial_rate.max(), 60 * (hearts.paced > 0).max())
    return int((seconds + 2 * LEAD_IN + LEAD_OUT) * 1.5 * min(fastest, 340) / 60) + 10


def sinus_intervals(hearts: Hearts, breath_hz, breath_phase, columns: int, rng) -> np.ndarray:
    """(N, B) RR in s of the sinus node: breathing, a slow wave near 0.1 Hz (Mayer), and chance.

    The slow wave and the two powers: Task Force of ESC and NASPE 1996 (Circulation 93:1043).
    """
    n = len(hearts)
    mean = (60 / sinus_rate(hearts))[:, None]
    time = mean * np.arange(columns)
    slow_hz, slow_phase = rng.uniform(0.07, 0.12, (n, 1)), rng.uniform(0, 2 * np.pi, (n, 1))
    swing = hearts.rr_breath[:, None] * np.sin(
        2 * np.pi * breath_hz[:, None] * time + breath_phase[:, None]
    )
    swing += hearts.rr_slow[:, None] * np.sin(2 * np.pi * slow_hz * time + slow_phase)
    swing += hearts.rr_spread[:, None] * rng.standard_normal((n, columns))
    return np.maximum(mean * np.clip(1 + swing, 0.5, 1.8), _FASTEST_RR)


def sinus_rate(hearts: Hearts) -> np.ndarray:
    """(N,) atrial beats/min: more than the ventricles' where beats are dropped."""
    cycle = np.maximum(hearts.av_cycle, 2)
    dropping = (hearts.av_block > 0) & (hearts.av_block < 3)
    rate = np.where(dropping, hearts.rate * cycle / (cycle - 1), hearts.rate)
    own = (hearts.atrial_rate > 0) & (hearts.flutter == 0)
    return np.where(own, hearts.atrial_rate, rate)


def hasten(rr: np.ndarray, after: np.ndarray, rng, blockable: np.ndarray) -> np.ndarray:
    """Makes the beat after each marked one premature by 22-42 %, in place; the pause behind it is
    incomplete: the sinus node is reset. In `blockable` (N,) records some come so early (REFRACTORY)
    that the AV node blocks them. Returns (N, B) bool, the premature beats.
    """
    rows, b = np.nonzero(after[:, :-1])
    own = rng.uniform(0.60, 0.76, len(rr))[rows]  # one focus, one coupling
    share = own + 0.02 * rng.standard_normal(len(rows))
    least = np.where(blockable[rows] & (rng.random(len(rows)) < 0.12), 0, REFRACTORY + 0.02)
    share = np.where(least == 0, rng.uniform(0.40, REFRACTORY - 0.03, len(rows)), share)
    rr[rows, b] = np.maximum(rr[rows, b] * np.maximum(share, least), 0.30)
    rr[rows, b + 1] *= rng.uniform(1.02, 1.18, len(rr))[rows]
    premature = np.zeros(rr.shape, bool)
    premature[rows, b + 1] = True
    return premature


def fibrillation_intervals(rate: np.ndarray, spread: np.ndarray, columns: int, rng) -> np.ndarray:
    """(m, B) RR in s without order: the AV node's refractory time plus a gamma-distributed wait.

    `spread` (m,) is the wanted sd / mean. RR in fibrillation are close to uncorrelated (Bootsma et
    al. 1970, Circulation 41:783).
    """
    mean = 60 / rate
    floor = np.minimum(0.60 * mean, 0.42)
    shape = ((mean - floor) / (spread * mean)) ** 2
    wait = rng.gamma(np.tile(shape[:, None], columns)) / shape[:, None]
    return np.maximum(floor[:, None] + (mean - floor)[:, None] * wait, _FASTEST_RR)


def steady_intervals(rate: np.ndarray, spread, columns: int, rng) -> np.ndarray:
    """(m, B) RR in s of an escape focus, a re-entry or a pacemaker: even but for `spread`."""
    chance = np.reshape(spread, (-1, 1)) * rng.standard_normal((len(rate), columns))
    return (60 / rate)[:, None] * (1 + np.clip(chance, -0.3, 0.3))


def times(rr: np.ndarray, rng) -> np.ndarray:
    """(m, B) beat times; rr[:, b] is the wait from beat b to b + 1, beat 0 lies LEAD_IN or a little
    more before the strip.
    """
    return np.cumsum(rr, axis=1) - rr - LEAD_IN - rr[:, :1] * rng.random((len(rr), 1))
