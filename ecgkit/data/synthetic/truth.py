"""The truth beside each simulated ECG: intervals, axes, sizes of what was drawn.

Usage:
    truth = ground_truth(hearts, beats, seconds=10)     # one row per record
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ecgkit.data.synthetic import findings_size as size_of
from ecgkit.data.synthetic import hearts as waves
from ecgkit.data.synthetic.hearts import Hearts
from ecgkit.data.synthetic.rhythm import ATRIAL, VENTRICULAR, Beats


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
    table["sokolow_mv"] = size_of.sokolow(hearts, slice(None))
    table["n_beats"] = n_beats
    table["n_pvc"] = ((beats.kind == VENTRICULAR) & inside).sum(axis=1)
    table["n_pac"] = ((beats.kind == ATRIAL) & inside).sum(axis=1)
    table["mi_stage"] = hearts.mi_stage
    return table.round(2)
