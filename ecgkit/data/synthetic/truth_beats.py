"""One noise-free beat per heart, measured as the eye would on paper.

Where the waves begin and end, on all leads together (the earliest onset, the latest end):

    P           where P, drawn alone, first and last reaches a tenth of its height in its tallest
                lead; a P below 0.03 mV everywhere is none
    QRS         where it, drawn alone, is first and last 0.05 mV (half a small square) from the
                baseline in some of the twelve leads
    T end       where the tangent at the steepest part behind the T peak meets the baseline
                (Lepeschkin & Surawicz 1952), in the lead with the tallest T
    J           QRS end;  baseline: the level at QRS onset (the PR segment)
    ST level    at J + 60 ms, above the baseline
    q, r, s     of the QRS without what ST adds to it: q the deepest point before the first r, r
                the tallest, s the deepest after the first r (of a QS: all of it, with r = q = 0);
                r2 the tallest behind the s. A deflection below 0.025 mV (Minnesota code) is none
    T           the largest deflection near the T wave's centre, signed

Single ones: p_II, p_V1 (mV above the baseline), ptf_V1 (mV ms: depth times length of P's negative
end, Morris 1964), rd_V1, rd_V2, sd_I, sd_V6 (ms that r, s last), peak_V6 (ms from QRS onset to the
top of R), n_notched (leads of one wall with a notch in R or S, or an R' outside V1-V2, the wall
with most of them: Das et al. 2006), t_width (ms at half height, tallest lead), pvc_ms (QRS of the
ectopic beat; NaN without one).

Shape letters: N hearts, C12 leads, T samples.

Usage:

    marks, sizes = measure(hearts)      # DataFrames: seconds from the R peak; mV per lead
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ecgkit.data.synthetic import hearts as waves
from ecgkit.data.synthetic.hearts import Hearts, one_beat
from ecgkit.data.synthetic.render import twelve_leads
from ecgkit.types import LEADS

FS = 500
ST_WAVES = (waves.J, waves.T)
LEAST_P, SEEN_QRS, DEFLECTION = 0.03, 0.05, 0.025  # mV
J_PLUS = 0.060  # s
# Stretch looked at, s before and after the R peak.
_P_SPAN, _QRS_SPAN, _T_SPAN = (0.60, 0.06), (0.16, 0.28), (0.00, 0.90)
_LEAD = {name: c for c, name in enumerate(LEADS)}
_WALLS = [
    [_LEAD[name] for name in wall.split()]
    for wall in ("II III aVF", "I aVL V5 V6", "V1 V2 V3 V4 V5")
]
NOTCH = 0.075  # mV a notch is deep at least, or an R' high


def measure(hearts: Hearts) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`marks` (N rows): p_on, p_off, qrs_on, qrs_off, t_end in s from the R peak, NaN where there
    is no such wave; `sizes` (N rows): st_*, r_*, s_*, q_*, r2_*, t_* mV and qd_* (ms of q) for each
    of the twelve leads, and the single ones above.
    """
    p = _drawn(hearts, waves.P_WAVES, _P_SPAN)
    height = np.abs(p).max(axis=(1, 2))
    p_on, p_off = _edges(p, _P_SPAN, np.where(height > LEAST_P, 0.1 * height, np.inf))
    qrs = _drawn(hearts, waves.QRS_WAVES, _QRS_SPAN)
    on, off = _edges(qrs, _QRS_SPAN, np.full(len(qrs), SEEN_QRS))
    t_size, t_end, t_width = _t_wave(hearts)
    marks = {"p_on": p_on, "p_off": p_off, "qrs_on": on, "qrs_off": off, "t_end": t_end}
    base = _level(hearts, (*waves.P_WAVES, *ST_WAVES), on)
    st = _level(hearts, waves.SINUS_WAVES, off + J_PLUS) - base
    waves_of, lengths = _deflections(qrs)
    columns = {
        f"{name}_{lead}": values[:, c].astype(float)
        for name, values in ({"st": st} | waves_of | {"t": t_size}).items()
        for c, lead in enumerate(LEADS)
    }
    peak = qrs[:, _LEAD["V6"]].argmax(axis=1) / FS - _QRS_SPAN[0] - on
    single = _p_sizes(p) | lengths | {"peak_V6": 1000 * peak}
    single |= {"n_notched": _n_notched(qrs, waves_of), "t_width": t_width}
    single["pvc_ms"] = 1000 * np.subtract(*_ectopic_edges(hearts)[::-1])
    return pd.DataFrame(marks), pd.DataFrame(columns | single)


def _drawn(hearts: Hearts, which, span: tuple[float, float]) -> np.ndarray:
    """(N, C12, T) mV: these waves alone."""
    return twelve_leads(one_beat(hearts, FS, which, *span))


def _edges(beat: np.ndarray, span, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last time (N,), (N,) s at which some lead is `seen` (N,) mV from 0; NaN for
    none.
    """
    out = np.abs(beat).max(axis=1) > seen[:, None]  # (N, T)
    first, last = out.argmax(axis=1), out.shape[1] - 1 - out[:, ::-1].argmax(axis=1)
    never = np.where(out.any(axis=1), 0.0, np.nan)
    return first / FS - span[0] + never, last / FS - span[0] + never


def _level(hearts: Hearts, which, at: np.ndarray) -> np.ndarray:
    """(N, C12) mV of the waves `which` at the times `at` (N,)."""
    k = list(which)
    d = at[:, None] - hearts.centre[:, k]
    shape = np.exp(-0.5 * (d / np.where(d < 0, hearts.rise[:, k], hearts.fall[:, k])) ** 2)
    level = np.einsum("nk,nkc->nc", shape, hearts.amplitudes()[:, k])
    return twelve_leads(level[..., None])[..., 0]


def _p_sizes(p: np.ndarray) -> dict[str, np.ndarray]:
    two, one = p[:, _LEAD["II"]], p[:, _LEAD["V1"]]
    below = (one < -0.1 * np.abs(one).max(axis=1, keepdims=True)).sum(axis=1) * 1000 / FS
    return {
        "p_II": two.max(axis=1),
        "p_V1": one.max(axis=1),
        "ptf_V1": -one.min(axis=1).clip(None, 0) * below,
    }


def _ectopic_edges(hearts: Hearts) -> tuple[np.ndarray, np.ndarray]:
    beat = _drawn(hearts, waves.ECTOPIC_WAVES[:2], _QRS_SPAN)
    return _edges(beat, _QRS_SPAN, np.full(len(beat), SEEN_QRS))


def _deflections(qrs: np.ndarray) -> tuple[dict, dict]:
    """q, r, s, r2 (N, C12) mV, all >= 0, with qd, the ms that q lasts; and the ms of r and s in
    single leads.
    """
    at = np.arange(qrs.shape[2])
    up, down = qrs > DEFLECTION, qrs < -DEFLECTION
    has_r = up.any(axis=2)
    before = at < np.where(has_r, up.argmax(axis=2), 0)[..., None]
    depth = -np.minimum(qrs, 0)
    behind = np.where(before, 0, depth)
    behind_s = at > behind.argmax(axis=2)[..., None]
    sizes = {
        "q": np.where(before, depth, 0).max(axis=2),
        "r": np.where(up, qrs, 0).max(axis=2),
        "s": behind.max(axis=2),
        "r2": np.where(behind_s & up, qrs, 0).max(axis=2),
    }
    sizes = {name: np.where(size > DEFLECTION, size, 0) for name, size in sizes.items()}
    sizes["r2"] = np.where(sizes["s"] > 0, sizes["r2"], 0)
    ms = 1000 / FS
    sizes["qd"] = (before & down).sum(axis=2) * ms
    r_long, s_long = up.sum(axis=2) * ms, (down & ~before).sum(axis=2) * ms
    lengths = {f"rd_{lead}": r_long[:, _LEAD[lead]] for lead in ("V1", "V2")}
    return sizes, lengths | {f"sd_{lead}": s_long[:, _LEAD[lead]] for lead in ("I", "V6")}


def _n_notched(qrs: np.ndarray, peaks: dict) -> np.ndarray:
    """(N,) leads of one wall whose QRS turns back towards the baseline by NOTCH and out again, or
    has an R' outside V1-V2: all ways outward together are then longer than to the tips of q, r, s
    and r2.
    """
    outward = np.diff(np.abs(qrs), axis=2).clip(0, None).sum(axis=2)
    notched = outward - sum(peaks[name] for name in ("q", "r", "s", "r2")) > NOTCH
    other = np.ones(len(LEADS), bool)
    other[[_LEAD["V1"], _LEAD["V2"]]] = False
    notched |= (peaks["r2"] > NOTCH) & other
    return np.max([notched[:, wall].sum(axis=1) for wall in _WALLS], axis=0)


def n_notched(qrs: np.ndarray) -> np.ndarray:
    """(N,) leads of one wall with a notch, of a QRS (N, C12, T); the wall with most of them."""
    return _n_notched(qrs, _deflections(qrs)[0])


def _t_wave(hearts: Hearts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """T amplitude (N, C12) mV, signed; the end of T (N,) s; its ms at half height (N,)."""
    beat = _drawn(hearts, ST_WAVES, _T_SPAN)
    time = np.arange(beat.shape[2]) / FS - _T_SPAN[0]
    since = time - hearts.centre[:, waves.T, None]  # (N, T)
    top = (since > -hearts.rise[:, waves.T, None]) & (since < hearts.fall[:, waves.T, None])
    seen = np.where(top[:, None], beat, 0)
    peak = np.abs(seen).argmax(axis=2)[..., None]
    size = np.take_along_axis(seen, peak, 2)[..., 0]
    every, lead = np.arange(len(beat)), np.abs(size).argmax(axis=1)
    height = np.abs(size[every, lead])
    tall = beat[every, lead] * np.sign(size[every, lead])[:, None]  # (N, T), upright
    falling = np.where(since > 0, -np.gradient(tall, 1 / FS, axis=1), 0)
    steepest = falling.argmax(axis=1)
    slope = np.maximum(falling[every, steepest], 1e-6)
    end = np.minimum(time[steepest] + tall[every, steepest] / slope, _T_SPAN[1])
    return size, end, (tall > height[:, None] / 2).sum(axis=1) * 1000 / FS
