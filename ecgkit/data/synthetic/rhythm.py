"""When a heart beats: RR intervals with breathing and chance, premature beats.

Shape letters: N records, B beats.

Usage:
    beats = draw_beats(hearts, seconds=10, rng=rng)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ecgkit.data.synthetic.hearts import Hearts

SINUS, VENTRICULAR, ATRIAL = 0, 1, 2
_FASTEST_RR = 0.30


@dataclass
class Beats:
    """R-peak times (N, B) s, ascending, reaching past both ends of the strip; `kind` (N, B) SINUS
    | VENTRICULAR | ATRIAL.
    """

    time: np.ndarray
    kind: np.ndarray
    breath_hz: np.ndarray  # (N,)


def draw_beats(hearts: Hearts, seconds: float, rng: np.random.Generator) -> Beats:
    """Beat times with respiratory swing and random spread, then premature beats where the heart
    has them.

    A ventricular beat takes the place of the sinus beat it forestalls (full compensatory pause);
    an atrial one resets the sinus node (incomplete pause).
    """
    n, n_beats = len(hearts), int((seconds + 4) / _FASTEST_RR) + 4
    mean = (60 / hearts.rate)[:, None]
    breath = rng.uniform(0.18, 0.30, n)
    swing = np.sin(
        2 * np.pi * breath[:, None] * mean * np.arange(n_beats) + rng.uniform(0, 2 * np.pi, (n, 1))
    )
    jitter = hearts.rr_spread[:, None] * rng.standard_normal((n, n_beats))
    rr = mean * np.clip(1 + hearts.rr_breath[:, None] * swing + jitter, 0.45, 1.9)
    rr = np.maximum(rr, _FASTEST_RR)
    time = np.cumsum(rr, axis=1) - rr[:, :1] * (1 + rng.random((n, 1)))
    kind = np.zeros((n, n_beats), dtype=np.int8)
    for i in np.flatnonzero(hearts.n_pvc + hearts.n_pac):
        _add_premature(time[i], kind[i], int(hearts.n_pvc[i]), int(hearts.n_pac[i]), seconds, rng)
    return Beats(time, kind, breath)


def _add_premature(
    time: np.ndarray, kind: np.ndarray, n_pvc: int, n_pac: int, seconds: float, rng
) -> None:
    """Turns some beats of one record (B,) into premature ones, in place; never two in a row."""
    spots = np.flatnonzero((time > 0.8) & (time < seconds - 0.9))[::2]
    spots = rng.permutation(spots)[: n_pvc + n_pac]
    kinds = [VENTRICULAR] * n_pvc + [ATRIAL] * n_pac
    for b, what in sorted(zip(spots.tolist(), kinds)):
        rr = time[b] - time[b - 1]
        early = rr * rng.uniform(0.30, 0.42)
        kind[b] = what
        if what == ATRIAL:
            time[b:] -= early
        else:
            time[b] -= early
