"""From hearts to recordings: beat times, wave trains, fibrillation waves, noise, and the ground
truth of each ECG.

Shape letters: N records, K waves, B beats, C leads, C8 independent leads, T samples.

Usage:
    beats = draw_beats(hearts, seconds=10, rng=rng)
    signal = render(hearts, beats, fs=100, n_samples=1000, rng=rng)     # (N, C8, T)
    signal = twelve_leads(signal)     # (N, 12, T) float32 mV
    truth = ground_truth(hearts, beats, seconds=10)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ecgkit.data import beats as waves
from ecgkit.data import findings_muscle as muscle
from ecgkit.data.beats import Hearts

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


def render(
    hearts: Hearts, beats: Beats, fs: int, n_samples: int, rng: np.random.Generator
) -> np.ndarray:
    """(N, C8, T) float32 mV without noise."""
    n, t = len(hearts), np.arange(n_samples, dtype=np.float32) / fs
    sinus, ectopic = beats.kind != VENTRICULAR, beats.kind == VENTRICULAR
    amplitude = hearts.amplitudes().astype(np.float32)
    used = np.flatnonzero(np.abs(amplitude).max(axis=(0, 2)) > 1e-4)
    trains = np.empty((n, len(used), n_samples), dtype=np.float32)
    for slot, k in enumerate(used):
        shown = ectopic if k in waves.ECTOPIC_WAVES else sinus
        _wave_train(trains[:, slot], beats.time, shown, hearts, k, t, fs)
    breath = np.sin(2 * np.pi * beats.breath_hz[:, None] * t + rng.uniform(0, 6.28, (n, 1)))
    trains *= (1 + 0.03 * breath[:, None]).astype(
        np.float32
    )  # the heart turns a little with each breath
    signal = np.matmul(amplitude[:, used].transpose(0, 2, 1), trains)  # (N, C8, K) @ (N, K, T)
    _add_atrial_waves(signal, hearts, t, rng)
    return signal


def _wave_train(
    out: np.ndarray,
    time: np.ndarray,
    shown: np.ndarray,
    hearts: Hearts,
    k: int,
    t: np.ndarray,
    fs: int,
) -> None:
    """Writes wave `k` of every beat into `out` (N, T): each sample sees the nearest beat only."""
    n_samples = out.shape[1]
    centre = time + hearts.centre[:, k : k + 1]  # (N, B), ascending as the beats are
    middle = np.clip(np.ceil((centre[:, 1:] + centre[:, :-1]) * (fs / 2)), 0, n_samples)
    # How many samples each beat has to itself: (N, B), n_samples in each row.
    share = np.diff(middle.astype(np.int64), axis=1, prepend=0, append=n_samples).ravel()
    d = t - np.repeat(centre.astype(np.float32).ravel(), share).reshape(out.shape)
    early, late = ((1 / sd[:, k, None]).astype(np.float32) for sd in (hearts.rise, hearts.fall))
    d *= np.where(d < 0, early, late)
    np.multiply(d, np.float32(-0.5), out=out)
    out *= d
    np.exp(out, out=out)
    if not shown.all():
        out *= np.repeat(shown.ravel(), share).reshape(out.shape)


def _add_atrial_waves(
    signal: np.ndarray, hearts: Hearts, t: np.ndarray, rng: np.random.Generator
) -> None:
    """Fibrillation (5-8 Hz, wandering, largest in V1) and flutter (saw-tooth, about 5 Hz, largest
    in II, III, aVF).
    """
    rows = np.flatnonzero(hearts.f_waves > 0)
    if len(rows):
        m = len(rows)
        freq, phase = rng.uniform(4.8, 7.5, (m, 2, 1)), rng.uniform(0, 6.28, (m, 2, 1))
        wander = np.sin(2 * np.pi * rng.uniform(0.1, 0.5, (m, 2, 1)) * t + phase) * rng.uniform(
            1, 4, (m, 2, 1)
        )
        wave = np.sin(2 * np.pi * freq * t + wander + phase).sum(axis=1)  # (m, T)
        wave *= 1 + 0.4 * np.sin(2 * np.pi * rng.uniform(0.2, 0.6, (m, 1)) * t)
        leads = np.array([0.15, 0.5, 1.0, 0.6, 0.3, 0.2, 0.15, 0.12]) * np.exp(
            0.2 * rng.standard_normal((m, 8))
        )
        signal[rows] += (
            0.6 * hearts.f_waves[rows, None, None] * leads[..., None] * wave[:, None]
        ).astype(np.float32)
    rows = np.flatnonzero(hearts.flutter > 0)
    if len(rows):
        phase = t * (hearts.rate[rows, None] * 4 / 60) + rng.random(
            (len(rows), 1)
        )  # 4 flutter waves per mean beat
        saw = 1 - 2 * np.abs((phase % 1) ** 0.6 - 0.5) * 2
        leads = np.array([0.1, -1.0, 0.5, 0.2, 0.0, -0.1, -0.2, -0.3])
        signal[rows] += (hearts.flutter[rows, None, None] * leads[:, None] * saw[:, None]).astype(
            np.float32
        )


def twelve_leads(signal8: np.ndarray) -> np.ndarray:
    """(N, C8, T) -> (N, 12, T): III = II - I, aVR = -(I + II)/2, aVL = I - II/2, aVF = II - I/2."""
    one, two = signal8[:, 0], signal8[:, 1]
    limb = np.stack([one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2], axis=1)
    return np.concatenate([limb, signal8[:, 2:]], axis=1)


def net_axis(hearts: Hearts) -> np.ndarray:
    """(N,) degrees in (-180, 180]: direction of the net QRS (R minus S) in I and aVF; 90 is
    straight down.
    """
    early = [
        k for k in waves.QRS_WAVES if k != waves.L
    ]  # in RBBB the axis is that of the first part
    beat = waves.one_beat(hearts, waves=early)
    one, avf = beat[:, 0], beat[:, 1] - beat[:, 0] / 2
    net = [lead.max(axis=1) + lead.min(axis=1) for lead in (one, avf)]
    return np.rad2deg(
        np.arctan2(net[1] * 2 / np.sqrt(3), net[0])
    )  # aVF is drawn sqrt(3)/2 too small


def wave_axes(hearts: Hearts) -> pd.DataFrame:
    """`p_axis_deg`, `t_axis_deg` in (-180, 180]: frontal directions of the P and the T wave, from
    their areas in I and aVF; NaN without P waves.
    """
    size = (
        hearts.amplitudes()[:, :, :2] * (hearts.rise + hearts.fall)[:, :, None]
    )  # (N, K, [I, II])
    axes = {}
    for name, waves_of in (("p_axis_deg", list(waves.P_WAVES)), ("t_axis_deg", [waves.T])):
        one, two = size[:, waves_of].sum(axis=1).T
        degrees = np.rad2deg(np.arctan2((two - one / 2) * 2 / np.sqrt(3), one))
        seen = np.abs(hearts.dipole[:, waves_of]).max(axis=(1, 2)) > 0.01
        axes[name] = np.where(seen, degrees, np.nan)
    return pd.DataFrame(axes).round(2)


def ground_truth(hearts: Hearts, beats: Beats, seconds: float) -> pd.DataFrame:
    """One row per record: what was drawn, in ms and beats/min. Beats inside the strip count; PR, P
    are NaN without P waves.

    QTc is Bazett's: QT / sqrt(RR in s). Intervals are those of the sinus beats.
    """
    inside = (beats.time >= 0) & (beats.time < seconds)
    n_beats = inside.sum(axis=1)
    first = np.where(inside, beats.time, np.inf).min(axis=1)
    last = np.where(inside, beats.time, -np.inf).max(axis=1)
    rr = np.where(n_beats > 1, (last - first) / np.maximum(n_beats - 1, 1), 60 / hearts.rate)
    onset, offset = waves.qrs_edges(hearts)
    p = list(waves.P_WAVES)
    has_p = np.abs(hearts.dipole[:, p]).max(axis=(1, 2)) > 0.01
    p_on = (hearts.centre[:, p] - waves.EDGE * hearts.rise[:, p]).min(axis=1)
    p_off = (hearts.centre[:, p] + waves.EDGE * hearts.fall[:, p]).max(axis=1)
    qt = hearts.centre[:, waves.T] + waves.EDGE * hearts.fall[:, waves.T] - onset
    ms = {
        "rr_ms": rr,
        "p_ms": np.where(has_p, p_off - p_on, np.nan),
        "pr_ms": np.where(has_p, onset - p_on, np.nan),
        "qrs_ms": offset - onset,
        "qt_ms": qt,
        "qtc_ms": qt / np.sqrt(rr),
    }
    table = pd.DataFrame(
        {"heart_rate": 60 / rr} | {name: 1000 * value for name, value in ms.items()}
    )
    table["axis_deg"] = net_axis(hearts)
    table["sokolow_mv"] = muscle.sokolow(hearts, slice(None))
    table["n_beats"] = n_beats
    table["n_pvc"] = ((beats.kind == VENTRICULAR) & inside).sum(axis=1)
    table["n_pac"] = ((beats.kind == ATRIAL) & inside).sum(axis=1)
    table["mi_stage"] = hearts.mi_stage
    return table.round(2)
