"""Tools with which findings shape a beat: measure the QRS that is drawn, widen it, turn its axis,
move the P wave.

Shape letters: n chosen hearts, K waves, T samples.

Usage:
    widen_qrs(hearts, rows, seconds)        # rows (n,), seconds (n,)
    turn_axis(hearts, rows, degrees, (R1, R2, S, L))
    index = sokolow(qrs_beat(hearts, rows))
"""

from __future__ import annotations

import numpy as np

from ecgkit.data.synthetic.hearts import (
    DOWER,
    P_WAVES,
    QRS_WAVES,
    Hearts,
    J,
    Q,
    one_beat,
)
from ecgkit.data.synthetic.render import twelve_leads
from ecgkit.types import LEADS

LEAD = {name: i for i, name in enumerate(LEADS)}
BEFORE, AFTER, FS = 0.16, 0.28, 500  # s of a measured beat before and after the R peak; Hz
P_BEFORE = 0.6
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
    """(n, 3) mV: the QRS at its largest, as a vector of the Frank system, times 0.6: what each of
    two waves carries that overlap to a QRS of that size.
    """
    beat = one_beat(subset(h, rows), FS, QRS_WAVES, before=0.08, after=0.08)
    loop = np.linalg.pinv(DOWER) @ beat  # (n, 3, T)
    length = np.linalg.norm(loop, axis=1)
    near = length > 0.75 * length.max(axis=1, keepdims=True)
    mean = (loop * near[:, None]).sum(axis=2) / near.sum(axis=1)[:, None]
    return 0.6 * mean * (length.max(axis=1) / np.linalg.norm(mean, axis=1))[:, None]


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
    beat = np.abs(qrs_beat(h, rows))
    return _span(beat, np.full(len(beat), SEEN), BEFORE)


def _span(size: np.ndarray, least: np.ndarray, before: float) -> tuple[np.ndarray, np.ndarray]:
    """First and last time (n,), (n,) s at which some lead of `size` (n, 12, T) exceeds `least`."""
    seen = (size > least[:, None, None]).any(axis=1)
    first, last = seen.argmax(axis=1), seen.shape[1] - 1 - seen[:, ::-1].argmax(axis=1)
    return first / FS - before, last / FS - before


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
    """P onset and end (n,), (n,) in s from the R peak: first and last a tenth of its height in its
    tallest lead.
    """
    beat = np.abs(twelve_leads(one_beat(subset(h, rows), FS, P_WAVES, P_BEFORE, 0.06)))
    return _span(beat, 0.1 * beat.max(axis=(1, 2)), P_BEFORE)


def pr_interval(h: Hearts, rows) -> np.ndarray:
    """(n,) s from P onset to QRS onset."""
    return qrs_span(h, rows)[0] - p_span(h, rows)[0]


def set_pr(h: Hearts, rows, seconds) -> None:
    """Moves the P wave so that PR lasts `seconds` (n,)."""
    h.centre[np.ix_(rows, P_WAVES)] += (pr_interval(h, rows) - seconds)[:, None]


# --- the frontal plane ----------------------------------------------------------------------------
# Every chest projects the heart's vector on its leads in its own way. What a finding says of the
# limb leads is therefore drawn there, as a vector (X left, Y down) in Einthoven's triangle.


def limb_vectors(h: Hearts, rows, waves) -> np.ndarray:
    """(n, W, 2) mV: X and Y of each of `waves` in the frontal plane, from its size in I and II."""
    at = np.ix_(rows, waves)
    one, two = np.einsum("nwx,ncx->cnw", h.dipole[at], h.field[rows, :2])
    one, two = one + h.local[at][..., 0], two + h.local[at][..., 1]
    return np.stack([one, (two - one / 2) / _TILT], axis=-1)


def set_limb(h: Hearts, rows, waves, vectors) -> None:
    """Makes `vectors` (n, W, 2) mV of `waves` in the limb leads; the chest leads stay."""
    change = vectors - limb_vectors(h, rows, waves)
    h.local[np.ix_(rows, waves, (0,))] += change[..., :1]
    h.local[np.ix_(rows, waves, (1,))] += change[..., :1] / 2 + _TILT * change[..., 1:]


_TILT = np.sqrt(3) / 2


def limb_size(h: Hearts, rows) -> np.ndarray:
    """(n,) mV: the QRS at its largest in the frontal plane, times 0.6 as in `main_vector`."""
    beat = qrs_beat(h, rows)
    one, avf = beat[:, LEAD["I"]], beat[:, LEAD["aVF"]]
    return 0.6 * np.hypot(one, avf / _TILT).max(axis=1)


def direction(degrees) -> np.ndarray:
    """(..., 2) unit vectors of the frontal plane; 0 left, 90 down."""
    angle = np.deg2rad(degrees)
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def turn_axis(h: Hearts, rows, degrees, waves) -> None:
    """Turns `waves` in the limb leads until the QRS axis is `degrees` (n,), as measured.

    R minus S does not turn evenly with the vector, hence several small corrections.
    """
    for _ in range(5):
        off = np.deg2rad((degrees - net_axis(qrs_beat(h, rows)) + 180) % 360 - 180)[:, None]
        x, y = np.moveaxis(limb_vectors(h, rows, waves), -1, 0)
        turned = [x * np.cos(off) - y * np.sin(off), x * np.sin(off) + y * np.cos(off)]
        set_limb(h, rows, waves, np.stack(turned, axis=-1))


def fan(h: Hearts, rows, waves, angles, sizes, rng) -> None:
    """Spreads `waves` over `angles` of the frontal plane, `sizes` times the heart's limb size."""
    n = len(rows)
    flat = limb_size(h, rows)[:, None].clip(0.25, None) * np.exp(0.15 * rng.standard_normal((n, 1)))
    sizes = flat * np.array(sizes) * np.exp(0.12 * rng.standard_normal((n, len(waves))))
    angles = np.array(angles) + rng.normal(0, 7, (n, len(waves)))
    set_limb(h, rows, waves, sizes[..., None] * direction(angles))


def show_first(h: Hearts, rows, leads, up: bool, least: float = 0.05) -> None:
    """Enlarges Q in the limb leads until it shows, up or down, by `least` mV before the main wave
    of `leads`.
    """
    for _ in range(6):
        beat = (1 if up else -1) * qrs_beat(h, rows)[:, [LEAD[name] for name in leads]]
        main = beat.argmin(axis=2)[..., None]
        first = np.where(np.arange(beat.shape[2]) < main, beat, 0).max(axis=2).min(axis=1)
        q = limb_vectors(h, rows, (Q,))
        set_limb(h, rows, (Q,), q * np.where(first < least, 1.35, 1.0)[:, None, None])
