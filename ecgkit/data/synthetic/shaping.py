"""Tools with which findings shape a beat: measure the QRS that is drawn, widen it, turn its axis,
move the P wave.

Shape letters: n chosen hearts, K waves, T samples.

Usage:
    widen_qrs(hearts, rows, seconds)        # rows (n,), seconds (n,)
    turn_axis(hearts, rows, degrees, (R1, R2, S))
    index = sokolow(qrs_beat(hearts, rows))
"""

from __future__ import annotations

import numpy as np

from ecgkit.data.synthetic.hearts import (
    P_WAVES,
    QRS_WAVES,
    R1,
    R2,
    Hearts,
    J,
    one_beat,
    rotate,
)
from ecgkit.data.synthetic.render import twelve_leads
from ecgkit.types import LEADS

LEAD = {name: i for i, name in enumerate(LEADS)}
BEFORE, AFTER, FS = 0.16, 0.28, 500  # s of a measured beat before and after the R peak; Hz
P_EDGE = 2.1  # standard deviations of a P wave from its centre to its edge
SEEN = 0.05  # mV from the baseline, half a small square: where the QRS begins and ends


def subset(h: Hearts, rows) -> Hearts:
    """A copy of the hearts in `rows`."""
    return Hearts(**{name: getattr(h, name)[rows] for name in h.__dataclass_fields__})


def qrs_beat(h: Hearts, rows, waves=QRS_WAVES) -> np.ndarray:
    """(n, 12, T) mV at 500 Hz: the QRS of `rows` as drawn so far, from 0.16 s before the R peak to
    0.28 s after it.
    """
    return twelve_leads(one_beat(subset(h, rows), FS, waves, BEFORE, AFTER))


def net_axis(beat: np.ndarray) -> np.ndarray:
    """(n,) degrees: direction of R minus S in I and aVF of a beat (n, 12, T); 90 is straight down.

    aVF is drawn sqrt(3)/2 too small beside I.
    """
    net = beat.max(axis=2) + beat.min(axis=2)
    return np.rad2deg(np.arctan2(net[:, LEAD["aVF"]] * 2 / np.sqrt(3), net[:, LEAD["I"]]))


def sokolow(beat: np.ndarray) -> np.ndarray:
    """(n,) mV: S in V1 + the larger R of V5 and V6 (Sokolow and Lyon 1949)."""
    lateral = beat[:, [LEAD["V5"], LEAD["V6"]]].max(axis=(1, 2))
    return lateral - beat[:, LEAD["V1"]].min(axis=1)


def cornell(beat: np.ndarray) -> np.ndarray:
    """(n,) mV: R in aVL + S in V3 (Casale et al. 1985)."""
    return beat[:, LEAD["aVL"]].max(axis=1) - beat[:, LEAD["V3"]].min(axis=1)


def main_vector(h: Hearts, rows) -> np.ndarray:
    """(n, 3) mV: the QRS's main vector, the mean of the free walls' two waves."""
    return h.dipole[np.ix_(rows, (R1, R2))].mean(axis=1)


def vector(size, axis, azimuth) -> np.ndarray:
    """(n, 3) mV: `size` long, `axis` degrees in the frontal plane (90 down), `azimuth` degrees
    backward (90 straight back).
    """
    axis, azimuth = np.deg2rad(axis), np.deg2rad(azimuth)
    flat = np.cos(azimuth)
    parts = np.broadcast_arrays(flat * np.cos(axis), flat * np.sin(axis), np.sin(azimuth))
    return np.asarray(size)[:, None] * np.stack(parts, axis=1)


def spread(rng, n: int, sd: float) -> np.ndarray:
    """(n,) factors around 1: log-normal with `sd`, no further than two and a half of them."""
    return np.exp(sd * rng.standard_normal(n).clip(-2.5, 2.5))


def qrs_span(h: Hearts, rows) -> tuple[np.ndarray, np.ndarray]:
    """QRS onset and end (n,), (n,) in s from the R peak, as seen: first and last 0.05 mV of it in
    any of the twelve leads.
    """
    seen = np.abs(qrs_beat(h, rows)).max(axis=1) > SEEN
    first, last = seen.argmax(axis=1), seen.shape[1] - 1 - seen[:, ::-1].argmax(axis=1)
    return first / FS - BEFORE, last / FS - BEFORE


def qrs_width(h: Hearts, rows) -> np.ndarray:
    """(n,) s from QRS onset to QRS end."""
    onset, offset = qrs_span(h, rows)
    return offset - onset


def widen_qrs(h: Hearts, rows, seconds) -> None:
    """Stretches the QRS in time to last `seconds` (n,); PR stays, ST moves with the QRS's end."""
    onset, offset = qrs_span(h, rows)
    factor = seconds / (offset - onset)
    at = np.ix_(rows, QRS_WAVES)
    for times in (h.centre, h.rise, h.fall):
        times[at] *= factor[:, None]
    h.centre[np.ix_(rows, P_WAVES)] += (onset * (factor - 1))[:, None]
    h.centre[rows, J] += offset * (factor - 1)


def p_span(h: Hearts, rows) -> tuple[np.ndarray, np.ndarray]:
    """P onset and end (n,), (n,) in s from the R peak: a tenth of its height, where it is two equal
    waves.
    """
    at = np.ix_(rows, P_WAVES)
    start, end = h.centre[at] - P_EDGE * h.rise[at], h.centre[at] + P_EDGE * h.fall[at]
    return start.min(axis=1), end.max(axis=1)


def pr_interval(h: Hearts, rows) -> np.ndarray:
    """(n,) s from P onset to QRS onset."""
    return qrs_span(h, rows)[0] - p_span(h, rows)[0]


def set_pr(h: Hearts, rows, seconds) -> None:
    """Moves the P wave so that PR lasts `seconds` (n,)."""
    h.centre[np.ix_(rows, P_WAVES)] += (pr_interval(h, rows) - seconds)[:, None]


def turn_axis(h: Hearts, rows, degrees, waves) -> None:
    """Turns `waves` in the frontal plane until the QRS axis is `degrees` (n,), as measured.

    R minus S does not turn evenly with the vector, hence three small corrections.
    """
    at = np.ix_(rows, waves)
    for _ in range(3):
        off = (degrees - net_axis(qrs_beat(h, rows)) + 180) % 360 - 180
        part = h.dipole[at]
        rotate(part, off, (0, 1))
        h.dipole[at] = part
