"""The rhythm of each simulated strip as drawn: rates, intervals, counts, the label of each beat.

Shape letters: N records, B ventricular beats, A atrial beats.

Usage:

    table = rhythm_truth(hearts, beats, seconds=10)     # one row per record
    table = events(hearts, beats, seconds=10)           # beat_ms, beat_label
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ecgkit.data.synthetic import beats as kinds
from ecgkit.data.synthetic import hearts as waves
from ecgkit.data.synthetic.beats import Beats
from ecgkit.data.synthetic.hearts import Hearts

# MIT-BIH's annotation codes: what a beat of each kind is called, ATRIAL ones aside (`_labels`).
LABELS = {
    kinds.SINUS: "N",
    kinds.VENTRICULAR: "V",
    kinds.JUNCTIONAL: "j",
    kinds.ESCAPE: "E",
    kinds.PACED: "/",
}
P_LABEL = "p"
_PREMATURE = 0.85  # an atrial beat that waits less than this share of the usual RR is premature
_P_KINDS = (kinds.SINUS, kinds.ATRIAL, kinds.PACED)


def rhythm_truth(hearts: Hearts, beats: Beats, seconds: float) -> pd.DataFrame:
    """One row per record; intervals between beats inside the strip.

    heart_rate, atrial_rate (NaN: fibrillation), rr_ms, rr_sd_ms, rr_min_ms, rr_max_ms, pr_sd_ms
    (from beat to beat), n_p P waves, n_blocked of them without a QRS of their own (beside a
    ventricular beat not counted), n_focal of them from another atrial focus, n_beats, n_pvc, n_pac,
    n_paced (atrium or ventricle). `longer_s` is how much the usual
    PR exceeds the heart's own; NaN where no beat follows a P wave.
    """
    inside = beats.inside(seconds)
    rr = _differences(beats.time, inside)
    atrial = (beats.atrial >= 0) & (beats.atrial < seconds)
    p_wave = np.isin(beats.atrial_kind, _P_KINDS)
    own = np.take_along_axis(p_wave, np.maximum(beats.parent, 0), axis=1)
    longer = np.where(inside & own, beats.time - beats.followed(), np.nan)
    label = labels(hearts, beats)
    with np.errstate(invalid="ignore"):
        mean = np.where(np.isfinite(rr).any(axis=1), _over(np.nanmean, rr), 60 / hearts.rate)
        table = {
            "heart_rate": 60 / mean,
            "atrial_rate": 60 / _over(np.nanmean, _differences(beats.atrial, atrial)),
            "rr_ms": 1000 * mean,
            "rr_sd_ms": 1000 * np.nan_to_num(_over(np.nanstd, rr)),
            "rr_min_ms": 1000 * _over(np.nanmin, rr),
            "rr_max_ms": 1000 * _over(np.nanmax, rr),
            "pr_sd_ms": 1000 * _over(np.nanstd, longer),
            "longer_s": _over(np.nanmedian, longer),
        }
    counts = {
        "n_p": (atrial & (p_wave | (beats.atrial_kind == kinds.RETROGRADE))).sum(axis=1),
        "n_blocked": (_blocked(beats) & atrial & p_wave).sum(axis=1),
        "n_beats": inside.sum(axis=1),
        "n_pvc": (inside & (label == "V")).sum(axis=1),
        "n_pac": (inside & np.isin(label, ["A", "a"])).sum(axis=1),
        "n_focal": (atrial & (beats.atrial_kind == kinds.ATRIAL)).sum(axis=1),
        "n_paced": (inside & _paced(beats)).sum(axis=1),
    }
    return pd.DataFrame(table).round(4).assign(**counts)


def _paced(beats: Beats) -> np.ndarray:
    """(N, B) bool: beats that a pacemaker drives, from the ventricle or the atrium."""
    atrium = np.take_along_axis(beats.atrial_kind, np.maximum(beats.parent, 0), axis=1)
    return (beats.kind == kinds.PACED) | ((beats.parent >= 0) & (atrium == kinds.PACED))


def _differences(time: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(N, B - 1) s between neighbours that are both inside the strip, else NaN."""
    return np.where(inside[:, 1:] & inside[:, :-1], np.diff(time, axis=1), np.nan)


def _over(statistic, values: np.ndarray) -> np.ndarray:
    """(N,) statistic of each row, NaN where the row holds none."""
    some = np.isfinite(values).any(axis=1)
    out = np.full(len(values), np.nan)
    if some.any():
        out[some] = statistic(values[some], axis=1)
    return out


def _blocked(beats: Beats) -> np.ndarray:
    """(N, A) bool: atrial beats that no ventricular beat follows, unless the last beat before them
    was a ventricular premature one, which makes them refractory.
    """
    follows = np.zeros(beats.atrial.shape, bool)
    rows, b = np.nonzero((beats.parent >= 0) & (beats.time < 100))
    follows[rows, beats.parent[rows, b]] = True
    last = (beats.time[:, None] < beats.atrial[:, :, None]).sum(axis=2) - 1  # (N, A, B) -> (N, A)
    kind = np.take_along_axis(beats.kind, np.maximum(last, 0), axis=1)
    return ~follows & (kind != kinds.VENTRICULAR)


# --- labels ---------------------------------------------------------------------------------------


def labels(hearts: Hearts, beats: Beats) -> np.ndarray:
    """(N, B) MIT-BIH's letter of each ventricular beat.

    Beats from another atrial focus are A where premature (a where aberrant too), S where not.
    """
    label = np.full(beats.kind.shape, "N")
    for kind, letter in LABELS.items():
        label[beats.kind == kind] = letter
    waited = np.diff(beats.time, axis=1, prepend=-100.0)
    early = waited < _PREMATURE * (60 / hearts.rate)[:, None]
    focal = beats.kind == kinds.ATRIAL
    label[focal] = np.where(early, np.where(beats.shape == kinds.ABERRANT, "a", "A"), "S")[focal]
    return label


def events(hearts: Hearts, beats: Beats, seconds: float) -> pd.DataFrame:
    """`beat_ms` ("82 240 ...", ascending) and `beat_label` ("pNpV...", a letter for each): the R
    peaks and the peaks of the P waves inside the strip.
    """
    p_time, letters = _p_times(hearts, beats), labels(hearts, beats)
    time = np.concatenate([beats.time, p_time], axis=1)
    letters = np.concatenate([letters, np.full(p_time.shape, P_LABEL)], axis=1)
    order = np.argsort(time, axis=1, kind="stable")
    ms = np.rint(1000 * np.take_along_axis(time, order, axis=1)).astype(int)
    letters = np.take_along_axis(letters, order, axis=1)
    first, last = ((ms < limit).sum(axis=1).tolist() for limit in (0, 1000 * seconds))
    spans = list(zip(first, last))
    return pd.DataFrame(
        {
            "beat_ms": [" ".join(map(str, row[a:b].tolist())) for row, (a, b) in zip(ms, spans)],
            "beat_label": ["".join(row[a:b].tolist()) for row, (a, b) in zip(letters, spans)],
        }
    )


def _p_times(hearts: Hearts, beats: Beats) -> np.ndarray:
    """(N, A) s of the middle of each P wave; far behind the end where the atria flutter or the
    heart has none.
    """
    own, focus = (
        hearts.centre[:, list(k)].mean(axis=1) for k in (waves.P_WAVES, waves.FOCUS_WAVES)
    )
    shift = np.where(beats.atrial_kind == kinds.ATRIAL, focus[:, None], own[:, None])
    shift = np.where(beats.atrial_kind == kinds.RETROGRADE, 0, shift)
    has_p = np.abs(hearts.amplitudes()[:, list(waves.P_WAVES)]).max(axis=(1, 2)) > 0.01
    seen = (beats.atrial_kind != kinds.FLUTTER) & (
        has_p[:, None] | (beats.atrial_kind == kinds.RETROGRADE)
    )
    return np.where(seen, beats.atrial + shift, 1e3)
