"""The words criteria are made of: tests of the truth's columns in groups of leads.

Shape letters: N records, L leads. `t` is a table of `truth.ground_truth`.

Usage:

    some(st_down(0.1)(t, INFERIOR))     # (N,) ST depression of 0.1 mV in two of II, III, aVF
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

INFERIOR, LATERAL = ("II", "III", "aVF"), ("I", "aVL", "V5", "V6")
SEPTAL, ANTERIOR = ("V1", "V2", "V3"), ("V2", "V3", "V4")
ANTEROLATERAL, CHEST = ("I", "aVL", "V3", "V4", "V5", "V6"), tuple(f"V{i}" for i in range(1, 7))
LIMB = ("I", "II", "III", "aVR", "aVL", "aVF")
_CHAINS = (("aVL", "I"), ("II", "aVF", "III"), CHEST)
NEIGHBOURS = [pair for chain in _CHAINS for pair in zip(chain, chain[1:])]
# For Q any two of the inferior leads (Universal Definition 2018: "contiguous lead grouping").
OF_Q = [*NEIGHBOURS, ("II", "III")]
# For ST and T also I and II, between which -aVR lies in Cabrera's order (Wagner et al. 2009): it is
# their mean, so that what both show it shows.
_OF_ST_T = [*NEIGHBOURS, ("I", "II")]


def of(t: pd.DataFrame, name: str, leads: Sequence[str]) -> np.ndarray:
    """(N, len(leads)) of one measurement: st, q, qd, r, s, r2 or t."""
    return t[[f"{name}_{lead}" for lead in leads]].to_numpy(dtype=float)


def some(hits: np.ndarray, count: int = 2) -> np.ndarray:
    """(N, L) bool -> (N,): at least `count` leads."""
    return hits.sum(axis=1) >= count


def neighbours(t: pd.DataFrame, hit: Callable, pairs=_OF_ST_T) -> np.ndarray:
    """(N,) two neighbouring leads at once; `hit(t, leads)` gives (N, L) bool."""
    first, second = zip(*pairs)
    return (hit(t, first) & hit(t, second)).any(axis=1)


def st_down(depth: float) -> Callable:
    return lambda t, leads: of(t, "st", leads) <= -depth


def st_up(t, leads) -> np.ndarray:
    """ST >= 0.1 mV, in V2 and V3 >= 0.2 mV."""
    return of(t, "st", leads) >= np.array([0.2 if lead in ("V2", "V3") else 0.1 for lead in leads])


def t_down(t, leads) -> np.ndarray:
    """T <= -0.1 mV."""
    return of(t, "t", leads) <= -0.1


def t_low(t, leads) -> np.ndarray:
    """T below a tenth of R or 0.1 mV, with the R of an upright QRS, or inverted by 0.1 mV.

    Told by the leads whose T is upright in health: not by aVR, III and V1, by aVL only with an R
    of 0.3 mV; inverted by I, II and V3-V6 (Rautaharju 2009).
    """
    r, high = of(t, "r", leads), of(t, "t", leads)
    upright = r > of(t, "s", leads) + of(t, "q", leads)
    told = ~np.isin(leads, ("aVR", "III", "V1")) & ((np.asarray(leads) != "aVL") | (r > 0.3))
    low = told & upright & (high <= np.maximum(0.1 * r, 0.1))
    return low | (np.isin(leads, ("I", "II", "V3", "V4", "V5", "V6")) & (high <= -0.1))


def no_r(t, leads) -> np.ndarray:
    """QS."""
    return (of(t, "r", leads) == 0) & (of(t, "s", leads) > 0.1)


def q_wave(t, leads) -> np.ndarray:
    """Q of 30 ms and 0.1 mV, or QS."""
    return ((of(t, "qd", leads) >= 30) & (of(t, "q", leads) >= 0.1)) | no_r(t, leads)


def front_scar(t) -> np.ndarray:
    """Q above 20 ms or QS in V2 or V3, or R in V3 <= 0.3 mV (poor R progression)."""
    q = (of(t, "qd", ("V2", "V3")) > 20) | no_r(t, ("V2", "V3"))
    return q.any(axis=1) | (t["r_V3"] <= 0.3)


def back_scar(t) -> np.ndarray:
    """R >= 40 ms and R >= S in V1 or V2, T upright there."""
    long_r = np.stack([t["rd_V1"] >= 40, t["rd_V2"] >= 40], axis=1)
    leads = ("V1", "V2")
    return (long_r & (of(t, "r", leads) >= of(t, "s", leads)) & (of(t, "t", leads) > 0)).any(axis=1)


def has_p(t) -> np.ndarray:
    """P waves, and QRS that follow them."""
    return t["p_ms"].notna() & t["pr_ms"].notna()


def ischaemic(leads) -> Callable:
    return lambda t: some(st_down(0.05)(t, leads)) | some(t_down(t, leads))


def injured(leads) -> Callable:
    return lambda t: some(st_down(0.1)(t, leads))


def rhythm_like(pattern: str) -> Callable:
    """The labels of the ventricular beats, premature ones as V, others as N, match `pattern`."""

    def test(t):
        letters = t["beat_label"].str.replace("p", "").str.replace("[Aa]", "V", regex=True)
        return letters.str.replace("[^V]", "N", regex=True).str.contains(pattern)

    return test


def no_q_left(t) -> np.ndarray:
    return (of(t, "q", ("I", "V6")) < 0.05).all(axis=1)


def left_pattern(t) -> np.ndarray:
    """No q in I and V6, upright there, V1 negative."""
    upright = (of(t, "r", ("I", "V6")) > of(t, "s", ("I", "V6"))).all(axis=1)
    return no_q_left(t) & upright & (t["s_V1"] > t["r_V1"])


def right_pattern(t) -> np.ndarray:
    """R' in V1 or V2, or a broad R without S in V1."""
    return (of(t, "r2", ("V1", "V2")) > 0).any(axis=1) | ((t["s_V1"] < 0.1) & (t["rd_V1"] >= 50))


def right_block(t) -> np.ndarray:
    """QRS >= 120 ms, R' or a broad R in V1 or V2, S of 40 ms in I or V6."""
    return (t["qrs_ms"] >= 120) & right_pattern(t) & ((t["sd_I"] >= 40) | (t["sd_V6"] >= 40))


def narrow_but_for_rbbb(t) -> np.ndarray:
    """QRS below 120 ms, or the pattern of RBBB: with it a fascicle's block is bifascicular, and
    what widens the QRS is the other block (Surawicz 2009). The axis is that of the first part.
    """
    return (t["qrs_ms"] < 120) | right_block(t)


def large_left(t) -> np.ndarray:
    return (t["sokolow_mv"] >= 3.5) | (t["cornell_mv"] >= 2.8) | (t["r_aVL"] >= 1.1)


def ordinary(t) -> np.ndarray:
    """Intervals and axis within their limits, no infarct's Q, no ST-T of ischaemia.

    PTB-XL's readers write NORM beside SBRAD and STACH: it says that the form is normal.
    """
    calm = has_p(t) & t["pr_ms"].between(110, 205)
    shape = (t["qrs_ms"] < 115) & t["axis_deg"].between(-30, 100) & (t["qtc_ms"] < 465)
    scar = some(q_wave(t, INFERIOR)) | some(q_wave(t, LATERAL))
    return calm & shape & ~scar & ~neighbours(t, st_down(0.1))


def q_in(leads) -> Callable:
    return lambda t: some(q_wave(t, leads))


def tallest(t, leads) -> np.ndarray:
    """(N,) mV of the largest Q, R or S."""
    return np.concatenate([of(t, name, leads) for name in ("q", "r", "s")], axis=1).max(axis=1)


def span(t, leads) -> np.ndarray:
    """(N,) mV from top to bottom of the QRS, in the lead where that is most."""
    down = np.maximum(of(t, "q", leads), of(t, "s", leads))
    return (of(t, "r", leads) + down).max(axis=1)


def wide_premature(t) -> np.ndarray:
    return (t["n_pvc"] > 0) & (t["pvc_ms"] >= 120)


def electrolytes(t) -> np.ndarray:
    tall = some(of(t, "t", ("V2", "V3", "V4")) >= 0.6) & (t["t_width"] < 90)
    return tall | (neighbours(t, t_low) & neighbours(t, st_down(0.05)))


def aneurysm(t) -> np.ndarray:
    leads = ("V2", "V3", "V4")
    size = of(t, "r", leads) + np.maximum(of(t, "q", leads), of(t, "s", leads))
    flat = np.maximum(of(t, "t", leads), 0).sum(axis=1) < 0.36 * size.sum(axis=1)
    scar = some((of(t, "qd", leads) > 20) | no_r(t, leads), 1)
    return scar & some(of(t, "st", leads) >= 0.1) & flat
