"""From hearts and their beats to signals: each wave of each beat in its own short window.

A window ends four standard deviations from the outermost wave, where less than half a thousandth of
it is left. Breathing turns the heart by a few degrees, which leads see unequally; each beat differs
a little from the last; the T wave follows the RR interval before it.

Shape letters: N records, K waves, E events (waves of one beat), C8 independent leads, M samples of
a window, T samples.

Usage:

    signal = render(hearts, beats, fs=100, n_samples=1000, rng=rng)     # (N, C8, T)
    signal = twelve_leads(signal)     # (N, 12, T) float32 mV
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ecgkit.data.synthetic import atria
from ecgkit.data.synthetic import beats as kinds
from ecgkit.data.synthetic import hearts as waves
from ecgkit.data.synthetic.beats import Beats
from ecgkit.data.synthetic.hearts import Hearts

REACH = 4.0  # standard deviations
_ST_WAVES = tuple(k for k in waves.SINUS_WAVES if k not in waves.QRS_WAVES)
_SPIKES = (waves.SPIKE, waves.ASPIKE)
# How much QRS sizes vary within 10 s, sd / mean of I, II, V1-V6: medians of clean normal records in
# PTB-XL's folds 1-4, less what noise adds.
_BREATH = np.array([0.036, 0.017, 0.030, 0.030, 0.023, 0.023, 0.017, 0.018])
_BLOCK = 256  # events at once: their windows stay in the processor's cache


@dataclass
class Events:
    """E occurrences of a group of waves: in which record, when (s), how large, how wide."""

    rows: np.ndarray
    time: np.ndarray
    gain: np.ndarray
    stretch: np.ndarray  # times behind `waves.J` grow by this factor


def render(
    hearts: Hearts, beats: Beats, fs: int, n_samples: int, rng: np.random.Generator
) -> np.ndarray:
    """(N, C8, T) float32 mV without noise."""
    canvas = _Canvas(hearts, beats, fs, n_samples, rng)
    own = (beats.shape == kinds.OWN) | (beats.shape == kinds.ABERRANT)
    plain_p = (beats.atrial_kind == kinds.SINUS) | (beats.atrial_kind == kinds.PACED)
    other_p = (beats.atrial_kind == kinds.ATRIAL) | (beats.atrial_kind == kinds.RETROGRADE)
    paced = beats.kind == kinds.PACED
    for group, time, shown, spread in (
        (waves.P_WAVES, beats.atrial, plain_p, 0.06),
        (waves.FOCUS_WAVES, beats.atrial, other_p, 0.06),
        (waves.QRS_WAVES, beats.time, own, 0.008),
        (_ST_WAVES, beats.time, own, 0.05),
        (waves.ECTOPIC_WAVES, beats.time, beats.shape == kinds.FIRST, 0.03),
        (waves.SECOND_WAVES, beats.time, beats.shape == kinds.SECOND, 0.03),
        ((waves.AB,), beats.time, beats.shape == kinds.ABERRANT, 0.03),
        ((waves.SPIKE,), beats.time, paced, 0.02),
        ((waves.ASPIKE,), beats.atrial, beats.atrial_kind == kinds.PACED, 0.02),
    ):
        canvas.draw(group, canvas.events(group, time, shown, spread))
    atria.add_fibrillation(canvas.signal, hearts, fs, rng)
    atria.add_flutter(canvas.signal, hearts, beats, fs, rng)
    return canvas.signal


class _Canvas:
    """The signals being drawn, (N, C8, T), and what every wave needs to know."""

    def __init__(self, hearts: Hearts, beats: Beats, fs: int, n_samples: int, rng):
        self.hearts, self.beats, self.fs, self.n_samples, self.rng = (
            hearts,
            beats,
            fs,
            n_samples,
            rng,
        )
        self.size = hearts.amplitudes().astype(np.float32)  # (N, K, C8)
        n = len(hearts)
        depth = np.exp(rng.normal(0, 0.5, (n, 1)) + rng.normal(0, 0.25, (n, 8)))
        self.depth = np.sqrt(2) * _BREATH * depth  # (N, C8) part of the size that breathing takes
        self.lag = beats.breath_phase[:, None] + rng.normal(0, 0.6, (n, 8))
        self.signal = np.zeros((len(hearts), 8, n_samples), np.float32)

    def events(self, group, time: np.ndarray, shown: np.ndarray, spread: float) -> Events:
        """The beats `shown` (N, B) near the strip whose record has any of these waves."""
        hearts, rng = self.hearts, self.rng
        has = np.abs(self.size[:, list(group)]).max(axis=(1, 2)) > 1e-4
        near = (time > -1.1) & (time < self.n_samples / self.fs + 0.9)
        rows, b = np.nonzero(shown & near & has[:, None])
        gain = 1 + spread * rng.standard_normal(len(rows))
        stretch = np.ones(len(rows))
        if group == _ST_WAVES:
            before = time[rows, b] - time[rows, np.maximum(b - 1, 0)]
            relative = before * hearts.rate[rows] / 60
            stretch = np.where(b > 0, np.clip(relative, 0.3, 2) ** 0.18, 1)
        return Events(rows, time[rows, b], gain, stretch)

    def draw(self, group, events: Events) -> None:
        """Adds the waves `group` of all events to the signals, those of like width together."""
        if not len(events.rows):
            return
        k = list(group)
        centre, size = self.hearts.centre[:, k], self.size[:, k]
        rise, fall = (np.maximum(sd[:, k], 1e-3) for sd in (self.hearts.rise, self.hearts.fall))
        if group[0] in _SPIKES:  # as an amplifier of this sampling rate would pass it
            wide = np.hypot(rise, 0.4 / self.fs)
            size, rise, fall = size * (rise / wide)[..., None].astype(np.float32), wide, wide
        seen = np.abs(size).max(axis=2) > 1e-4
        low = np.where(seen, centre - REACH * rise, np.inf).min(axis=1)
        high = np.where(seen, centre + REACH * fall, -np.inf).max(axis=1) + 0.06
        order = np.argsort((high - low)[events.rows], kind="stable")
        for first in range(0, len(order), _BLOCK):
            part = order[first : first + _BLOCK]
            rows, time, used = events.rows[part], events.time[part], seen[events.rows[part]].any(0)
            start = np.ceil((time + low[rows]) * self.fs).astype(int)
            length = int(np.ceil((high - low)[rows].max() * self.fs)) + 1
            since = (start / self.fs - time)[:, None] + np.arange(length) / self.fs  # (E, M)
            middle = centre[rows][:, used]
            late = np.clip(middle - 0.1, 0, None)  # what lies behind the QRS moves with QT
            middle = middle + late * (events.stretch[part, None] - 1)
            shape = _bells(since, middle, rise[rows][:, used], fall[rows][:, used])
            sizes = self._sizes(size[:, used], rows, time, events.gain[part])
            self._add(rows, start, np.matmul(sizes, shape))

    def _add(self, rows, start, drawn) -> None:
        """Adds windows `drawn` (E, C8, M) that begin at the samples `start` (E,)."""
        n, length = self.signal.shape[2], drawn.shape[2]
        for row, at, wave in zip(rows.tolist(), start.tolist(), drawn):
            if -length < at < n:
                first = max(at, 0)
                self.signal[row, :, first : at + length] += wave[:, first - at : n - at]

    def _sizes(self, size, rows, time, gain) -> np.ndarray:
        """(E, C8, K) amplitudes of each event: the heart's, swayed by the breath of its moment."""
        phase = 2 * np.pi * (self.beats.breath_hz[rows] * time)[:, None] + self.lag[rows]
        scale = gain[:, None] * (1 + self.depth[rows] * np.sin(phase))  # (E, C8)
        return size[rows].transpose(0, 2, 1) * scale[..., None].astype(np.float32)


def _bells(since: np.ndarray, centre, rise, fall) -> np.ndarray:
    """(E, K, M) float32: Gaussians at `since` (E, M) s from the beat, all others (E, K) in s."""
    d = (since[:, None] - centre[..., None]).astype(np.float32)
    before, after = ((1 / sd).astype(np.float32)[..., None] for sd in (rise, fall))
    d *= np.where(d < 0, before, after)
    np.multiply(d, d, out=d)
    d *= np.float32(-0.5)
    return np.exp(d, out=d)


def twelve_leads(signal8: np.ndarray) -> np.ndarray:
    """(N, C8, T) -> (N, 12, T): III = II - I, aVR = -(I + II)/2, aVL = I - II/2, aVF = II - I/2."""
    one, two = signal8[:, 0], signal8[:, 1]
    out = np.empty((len(signal8), 12, *signal8.shape[2:]), signal8.dtype)
    out[:, :2], out[:, 6:] = signal8[:, :2], signal8[:, 2:]
    out[:, 2], out[:, 3] = two - one, -(one + two) / 2
    out[:, 4], out[:, 5] = one - two / 2, two - one / 2
    return out
