"""The truth beside each simulated ECG: what was drawn, measured on its noise-free beats.

Columns, one row per record (`truth_rhythm`, `truth_beats` say how each is measured):

    heart_rate, atrial_rate             per minute; the atria's is NaN where they fibrillate
    rr_ms, rr_sd_ms, rr_min_ms, ...     mean, deviation, least and most of RR in the strip
    p_ms, pr_ms, qrs_ms, qt_ms          of the usual beats; P and PR are NaN where there is none
    qtc_ms, qtcf_ms                     QT / RR^(1/2) (Bazett), QT / RR^(1/3) (Fridericia), RR in s
    pr_sd_ms                            of PR from beat to beat
    n_beats, n_pvc, n_pac, n_paced      counts inside the strip
    n_p, n_blocked                      P waves, those without a QRS of their own
    axis_deg, p_axis_deg, t_axis_deg    frontal, in (-180, 180], 90 straight down
    mi_stage                            0 no infarct, 1 recent, 2 healing, 3 old
    st_*, q_*, r_*, s_*, r2_*, t_*      mV in each of the twelve leads; qd_* ms of q
    sokolow_mv, cornell_mv              S V1 + R of V5 or V6; R aVL + S V3
    beat_ms, beat_label                 times and MIT-BIH labels of the beats

Usage:

    truth = ground_truth(hearts, beats, seconds=10)     # one row per record
    write_beats(folder, truth, ecg_id)                  # truth_beats.csv
    events = read_beats(folder)                         # ecg_id, time_s, label, one row per beat
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit.data.synthetic import hearts as waves
from ecgkit.data.synthetic.beats import Beats
from ecgkit.data.synthetic.hearts import Hearts
from ecgkit.data.synthetic.truth_beats import measure
from ecgkit.data.synthetic.truth_rhythm import events, rhythm_truth
from ecgkit.types import DataError

BEATS_FILE, BEAT_COLUMNS = "truth_beats.csv", ("beat_ms", "beat_label")
_AVF = 2 / np.sqrt(3)  # aVF is drawn sqrt(3)/2 too small beside I


def ground_truth(hearts: Hearts, beats: Beats, seconds: float) -> pd.DataFrame:
    """One row per record, the columns above; `seconds` is the strip's length."""
    table = rhythm_truth(hearts, beats, seconds)
    marks, sizes = measure(hearts)
    longer = table.pop("longer_s")
    rr, qt = table["rr_ms"] / 1000, marks["t_end"] - marks["qrs_on"]
    seconds_of = {
        "p_ms": (marks["p_off"] - marks["p_on"]).where(table["n_p"] > 0),
        "pr_ms": marks["qrs_on"] - marks["p_on"] + longer,
        "qrs_ms": marks["qrs_off"] - marks["qrs_on"],
        "qt_ms": qt,
        "qtc_ms": qt / np.sqrt(rr),
        "qtcf_ms": qt / np.cbrt(rr),
    }
    table = table.assign(**{name: 1000 * value for name, value in seconds_of.items()})
    table["axis_deg"] = net_axis(hearts)
    table = table.join(wave_axes(hearts)).round(2)
    sizes["sokolow_mv"] = sizes["s_V1"] + sizes[["r_V5", "r_V6"]].max(axis=1)
    sizes["cornell_mv"] = sizes["r_aVL"] + sizes["s_V3"]
    table["mi_stage"] = hearts.mi_stage
    return table.join(sizes.round(3)).join(events(hearts, beats, seconds))


# --- axes -----------------------------------------------------------------------------------------


def net_axis(hearts: Hearts) -> np.ndarray:
    """(N,) degrees in (-180, 180]: direction of the net QRS (R minus S) in I and aVF, without its
    late part: in RBBB the axis is that of the first part.
    """
    early = [k for k in waves.QRS_WAVES if k != waves.L]
    beat = waves.one_beat(hearts, waves=early)
    one, avf = beat[:, 0], beat[:, 1] - beat[:, 0] / 2
    net = [lead.max(axis=1) + lead.min(axis=1) for lead in (one, avf)]
    return np.rad2deg(np.arctan2(net[1] * _AVF, net[0]))


def wave_axes(hearts: Hearts) -> pd.DataFrame:
    """`p_axis_deg`, `t_axis_deg` in (-180, 180]: frontal directions of the P and the T wave, from
    their areas in I and aVF; NaN without P waves.
    """
    width = (hearts.rise + hearts.fall)[:, :, None]
    size = hearts.amplitudes()[:, :, :2] * width  # (N, K, [I, II])
    axes = {}
    for name, waves_of in (("p_axis_deg", list(waves.P_WAVES)), ("t_axis_deg", [waves.T])):
        one, two = size[:, waves_of].sum(axis=1).T
        degrees = np.rad2deg(np.arctan2((two - one / 2) * _AVF, one))
        seen = np.abs(hearts.dipole[:, waves_of]).max(axis=(1, 2)) > 0.01
        axes[name] = np.where(seen, degrees, np.nan)
    return pd.DataFrame(axes)


# --- beats ----------------------------------------------------------------------------------------


def write_beats(folder, truth: pd.DataFrame, ecg_id) -> None:
    """Writes `truth_beats.csv`: per record the times of its beats (ms) and their labels."""
    table = truth[list(BEAT_COLUMNS)].copy()
    table.insert(0, "ecg_id", ecg_id)
    table.to_csv(Path(folder) / BEATS_FILE, index=False, lineterminator="\n")


def read_beats(folder) -> pd.DataFrame:
    """Beats of a simulated cohort's folder, one row each: ecg_id, time_s from the strip's start,
    label (MIT-BIH: N, V, A, J, E, / ...; p the peak of a P wave).

    Raises DataError where the folder holds no `truth_beats.csv`.
    """
    path = Path(folder) / BEATS_FILE
    if not path.exists():
        raise DataError(f"{path} is not there; only cohorts that this kit has simulated hold it.")
    table = pd.read_csv(path, dtype={name: str for name in BEAT_COLUMNS}, keep_default_na=False)
    return spread_beats(table)


def record_truth(truth: pd.DataFrame, row: int) -> dict:
    """One row of `ground_truth` as a dict, its beats in `beats`: lists time_s and label."""
    beats = spread_beats(truth.iloc[[row]].assign(ecg_id=0)).drop(columns="ecg_id")
    drawn = truth.iloc[row].drop(list(BEAT_COLUMNS)).to_dict()
    return drawn | {"beats": beats.to_dict("list")}


def spread_beats(table: pd.DataFrame) -> pd.DataFrame:
    """(ecg_id, beat_ms, beat_label) -> one row per beat: ecg_id, time_s, label."""
    times = [text.split() for text in table["beat_ms"]]
    return pd.DataFrame(
        {
            "ecg_id": np.repeat(table["ecg_id"].to_numpy(), [len(t) for t in times]),
            "time_s": np.array([t for row in times for t in row], dtype=float) / 1000,
            "label": list("".join(table["beat_label"])),
        }
    )
