"""From hearts and their beats to signals: each wave of each beat in its own short window.

A window ends four standard deviations from the outermost wave, where less than half a thousandth of
it is left. Breathing sways the heart by a few degrees; each beat differs a little from the last;
the T wave follows the RR interval before it.

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
        (waves.QRS_WAVES, beats.time, own, 0.015),
        (_ST_WAVES, beats.time, own, 0.035),
        (waves.ECTOPIC_WAVES, beats.time, beats.shape == kinds.FIRST, 0.03),
        (waves.SECOND_WAVES, beats.time, beats.shape == kinds.SECOND, 0.03),
        ((waves.AB,), beats.time, beats.shape == kinds.ABERRANT, 0.03),
        ((waves.SPIKE,), beats.time, paced, 0.02),
        ((waves.ASPIKE,), beats.atrial, beats.atrial_kind == kinds.PACED, 0.02),
    ):
        canvas.draw(group, canvas.events(group, time, shown, spread))
    signal = canvas.finished()
    atria.add_fibrillation(signal, hearts, fs, rng)
    atria.add_flutter(signal, hearts, beats, fs, rng)
    return signal


class _Canvas:
    """The signals being drawn, with a margin on both sides for windows that hang over."""

    def __init__(self, hearts: Hearts, beats: Beats, fs: int, n_samples: int, rng):
        self.hearts, self.beats, self.fs, self.n_samples, self.rng = (
            hearts,
            beats,
            fs,
            n_samples,
            rng,
        )
        self.size = hearts.amplitudes().astype(np.float32)  # (N, K, C8)
        # What a turn by one radian in the frontal plane adds.
        turned = hearts.dipole[..., [1, 0, 2]] * np.array([-1.0, 1.0, 0.0])
        self.sway = np.einsum("nkx,ncx->nkc", turned, hearts.field).astype(np.float32)
        self.swing = np.deg2rad(rng.uniform(1.0, 5.0, len(hearts)))
        self.pad = int(1.3 * fs)
        self.signal = np.zeros((len(hearts), 8, n_samples + 2 * self.pad), np.float32)

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
        """Adds the waves `group` of all events to the signals."""
        if not len(events.rows):
            return
        h, k = self.hearts, list(group)
        centre = h.centre[:, k]
        rise, fall = (np.maximum(sd[:, k], 1e-3) for sd in (h.rise, h.fall))
        size = self.size[:, k]
        if group[0] in _SPIKES:  # as an amplifier of this sampling rate would pass it
            wide = np.hypot(rise, 0.4 / self.fs)
            size, rise, fall = size * (rise / wide)[..., None].astype(np.float32), wide, wide
        seen = np.abs(size).max(axis=2) > 1e-4
        low = np.where(seen, centre - REACH * rise, np.inf).min(axis=1)
        high = np.where(seen, centre + REACH * fall, -np.inf).max(axis=1) + 0.06
        length = int(np.ceil((high - low)[events.rows].max() * self.fs)) + 1
        step = np.arange(length) / self.fs
        limit = self.signal.shape[2] - length
        for first in range(0, len(events.rows), _BLOCK):
            part = slice(first, first + _BLOCK)
            rows, time = events.rows[part], events.time[part]
            start = np.ceil((time + low[rows]) * self.fs).astype(int)
            middle = centre[rows]
            late = np.clip(middle - 0.1, 0, None)
            middle = middle + late * (events.stretch[part, None] - 1)
            d = (start / self.fs - time)[:, None] + step  # (E, M) s from the R peak
            d = (d[:, None] - middle[..., None]).astype(np.float32)  # (E, K, M)
            d *= np.where(
                d < 0,
                (1 / rise[rows]).astype(np.float32)[..., None],
                (1 / fall[rows]).astype(np.float32)[..., None],
            )
            np.multiply(d, d, out=d)
            d *= np.float32(-0.5)
            np.exp(d, out=d)
            drawn = np.matmul(self._sizes(size, k, rows, time, events.gain[part]), d)
            start = np.clip(start + self.pad, 0, limit)
            for row, at, wave in zip(rows.tolist(), start.tolist(), drawn):
                self.signal[row, :, at : at + length] += wave

    def _sizes(self, size, k, rows, time, gain) -> np.ndarray:
        """(E, C8, K) amplitudes of each event: the heart's, turned by the breath of its moment."""
        beats = self.beats
        phase = 2 * np.pi * beats.breath_hz[rows] * time + beats.breath_phase[rows]
        turn = (self.swing[rows] * np.sin(phase)).astype(np.float32)
        scale = (gain * (1 + 0.02 * np.cos(phase))).astype(np.float32)
        turned = size[rows] + turn[:, None, None] * self.sway[rows[:, None], k]
        return (turned * scale[:, None, None]).transpose(0, 2, 1)

    def finished(self) -> np.ndarray:
        """(N, C8, T): the signals without their margins."""
        return np.ascontiguousarray(self.signal[..., self.pad : self.pad + self.n_samples])


def twelve_leads(signal8: np.ndarray) -> np.ndarray:
    """(N, C8, T) -> (N, 12, T): III = II - I, aVR = -(I + II)/2, aVL = I - II/2, aVF = II - I/2."""
    one, two = signal8[:, 0], signal8[:, 1]
    limb = np.stack([one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2], axis=1)
    return np.concatenate([limb, signal8[:, 2:]], axis=1)
