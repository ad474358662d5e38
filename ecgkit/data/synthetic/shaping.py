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
    LEADS8,
    N1,
    N2,
    P_WAVES,
    QRS_WAVES,
    Hearts,
    J,
    L,
    Q,
    S,
)
from ecgkit.data.synthetic.render import twelve_leads
from ecgkit.types import LEADS

_V1, _V2 = LEADS8.index("V1"), LEADS8.index("V2")
LEAD = {name: i for i, name in enumerate(LEADS)}
BEFORE, AFTER, FS = 0.16, 0.24, 500  # s of a measured beat before and after the R peak; Hz
P_BEFORE = 0.6
_CORE = (0.09, 0.15)  # s before and after the R peak: enough of the QRS for its sizes
SEEN = 0.05  # mV from the baseline, half a small square: where the QRS begins and ends


def subset(h: Hearts, rows) -> Hearts:
    """A copy of the hearts in `rows`."""
    return Hearts(**{name: getattr(h, name)[rows] for name in h.__dataclass_fields__})


def _at(h: Hearts, rows, waves):
    """Index of `waves` of `rows` (numbers, or a slice of all) in the arrays of `h`."""
    return np.ix_(np.arange(len(h))[rows], waves)


def shapes(h: Hearts, rows, waves, before: float, after: float, fs: int = FS) -> np.ndarray:
    """(n, W, T) float32: `waves` of `rows` in time, each 1 high, the R peak at `before` s."""
    t = np.arange(-before, after, 1 / fs, dtype=np.float32)
    at = _at(h, rows, waves)
    centre, rise, fall = (x[at].astype(np.float32)[..., None] for x in (h.centre, h.rise, h.fall))
    d = t - centre
    d *= np.where(d < 0, 1 / rise, 1 / fall)
    d *= d
    d *= -0.5
    return np.exp(d, out=d)


def sizes(h: Hearts, rows, waves) -> np.ndarray:
    """(n, W, 8) mV: how large `waves` of `rows` are in each independent lead."""
    at = _at(h, rows, waves)
    return h.dipole[at] @ h.field[rows].transpose(0, 2, 1) + h.local[at]


def drawn(h: Hearts, rows, waves, before: float, after: float) -> np.ndarray:
    """(n, 12, T) float32 mV at 500 Hz: these waves alone."""
    size = sizes(h, rows, waves).astype(np.float32)
    return twelve_leads(size.transpose(0, 2, 1) @ shapes(h, rows, waves, before, after))


def qrs_beat(h: Hearts, rows, waves=QRS_WAVES) -> np.ndarray:
    """(n, 12, T) mV at 500 Hz: the QRS of `rows` as drawn so far, from 0.16 s before the R peak to
    0.24 s after it.
    """
    return drawn(h, rows, waves, BEFORE, AFTER)


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
    beat = sizes(h, rows, QRS_WAVES).transpose(0, 2, 1) @ shapes(h, rows, QRS_WAVES, *_CORE, 250)
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
    beat = np.abs(drawn(h, rows, P_WAVES, P_BEFORE, 0.06))
    return _span(beat, 0.1 * beat.max(axis=(1, 2)), P_BEFORE)


def pr_interval(h: Hearts, rows) -> np.ndarray:
    """(n,) s from P onset to QRS onset."""
    return qrs_span(h, rows)[0] - p_span(h, rows)[0]


def set_pr(h: Hearts, rows, seconds) -> None:
    """Moves the P wave so that PR lasts `seconds` (n,)."""
    h.centre[np.ix_(rows, P_WAVES)] += (pr_interval(h, rows) - seconds)[:, None]


def no_late_r(h: Hearts, rows, least: float = 0.04) -> None:
    """Takes four fifths of an r' above `least` mV out of V1."""
    wave = qrs_beat(h, rows)[:, LEAD["V1"]]
    behind = np.arange(wave.shape[1]) > wave.argmin(axis=1)[:, None]
    late = rows[np.where(behind, wave, 0).max(axis=1) > least]
    for k in (S, L, N1, N2):
        h.local[late, k, _V1] -= 0.8 * sizes(h, late, (k,))[:, 0, _V1].clip(0, None)


def calm_v2(h: Hearts, rows, most: float) -> None:
    """Shrinks V2, which lies nearest to the heart, where its QRS is larger than `most` mV."""
    tall = np.abs(qrs_beat(h, rows)[:, LEAD["V2"]]).max(axis=1)
    less = (most / tall).clip(None, 1.0)[:, None] ** 0.6
    h.field[rows, _V2] *= less
    h.local[rows, :, _V2] *= less


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


def scale_chest(h: Hearts, rows, wave: int, factor) -> None:
    """Multiplies a wave by `factor` (n,) in the chest leads; the limb leads stay."""
    limb = limb_vectors(h, rows, (wave,))
    h.dipole[rows, wave] *= factor[:, None]
    h.local[rows, wave] *= factor[:, None]
    set_limb(h, rows, (wave,), limb)


_TILT = np.sqrt(3) / 2


def limb_loop(h: Hearts, rows, waves=QRS_WAVES) -> np.ndarray:
    """(n, 2, T) mV at 250 Hz: `waves` in the frontal plane, X and Y in time."""
    shape = shapes(h, rows, waves, *_CORE, 250)
    return limb_vectors(h, rows, waves).transpose(0, 2, 1) @ shape


def limb_size(h: Hearts, rows) -> np.ndarray:
    """(n,) mV: the QRS at its largest in the frontal plane, times 0.6 as in `main_vector`."""
    return 0.6 * np.linalg.norm(limb_loop(h, rows), axis=1).max(axis=1)


def direction(degrees) -> np.ndarray:
    """(..., 2) unit vectors of the frontal plane; 0 left, 90 down."""
    angle = np.deg2rad(degrees)
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def turn_axis(h: Hearts, rows, degrees, waves) -> None:
    """Turns `waves` in the limb leads until the QRS axis is `degrees` (n,), as measured.

    R minus S does not turn evenly with the vector, it may even leap: of many turns, the best.
    """
    others = [k for k in QRS_WAVES if k not in waves]
    rest, part = limb_loop(h, rows, others), limb_loop(h, rows, waves)

    def off(turn):
        return (degrees - _loop_axis(rest + _turned(part, turn)) + 180) % 360 - 180

    best = np.zeros(len(rows))
    for step in (30, 10, 3, 1):
        tries = [best + step * k for k in (range(-6, 6) if step == 30 else range(-2, 3))]
        nearest = np.abs([off(turn) for turn in tries]).argmin(axis=0)
        best = np.stack(tries)[nearest, np.arange(len(rows))]
    vectors = limb_vectors(h, rows, waves).transpose(0, 2, 1)
    set_limb(h, rows, waves, _turned(vectors, best).transpose(0, 2, 1))


def _loop_axis(loop: np.ndarray) -> np.ndarray:
    """(n,) degrees of R minus S of loops (n, 2, T)."""
    net = loop.max(axis=2) + loop.min(axis=2)
    return np.rad2deg(np.arctan2(net[:, 1], net[:, 0]))


def _turned(vectors: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """(n, 2, ...) vectors of the frontal plane, turned by `degrees` (n,)."""
    angle = np.deg2rad(degrees)[:, None]
    (x, y), cos, sin = vectors.transpose(1, 0, 2), np.cos(angle), np.sin(angle)
    return np.stack([x * cos - y * sin, x * sin + y * cos], axis=1)


def fan(h: Hearts, rows, waves, angles, sizes, rng) -> None:
    """Spreads `waves` over `angles` of the frontal plane, `sizes` times the heart's limb size."""
    n = len(rows)
    flat = limb_size(h, rows)[:, None].clip(0.25, None) * np.exp(0.15 * rng.standard_normal((n, 1)))
    sizes = flat * np.array(sizes) * np.exp(0.12 * rng.standard_normal((n, len(waves))))
    angles = np.array(angles) + rng.normal(0, 7, (n, len(waves)))
    set_limb(h, rows, waves, sizes[..., None] * direction(angles))


def show_first(h: Hearts, rows, leads, least: float = 0.05) -> None:
    """Enlarges Q in the limb leads until it shows by `least` mV before the main wave of `leads`
    (name -> 1 where Q is upright, -1 where it is a q).
    """
    look = np.array([sign * _LIMB_LEADS[name] for name, sign in leads.items()])  # (leads, 2)
    rest = look @ limb_loop(h, rows, [k for k in QRS_WAVES if k != Q])  # (n, leads, T)
    q, factor = look @ limb_loop(h, rows, (Q,)), np.ones(len(rows))
    for _ in range(6):
        beat = rest + factor[:, None, None] * q
        first = np.arange(beat.shape[2]) < beat.argmin(axis=2)[..., None]
        height = np.where(first, beat, 0).max(axis=2).min(axis=1)
        factor *= np.where(height < least, 1.35, 1.0)
    set_limb(h, rows, (Q,), limb_vectors(h, rows, (Q,)) * factor[:, None, None])


# What the leads see of a vector (X, Y) of the frontal plane.
_LIMB_LEADS = {
    "I": np.array([1, 0]),
    "III": np.array([-0.5, _TILT]),
    "aVL": np.array([0.75, -_TILT / 2]),
    "aVF": np.array([0, _TILT]),
}
