"""What each SCP statement says of an ECG's measurements: one small textbook criterion per code.

A criterion is a test of `truth.ground_truth`'s columns, written from the books named with it and
not from how the simulator draws: a heart drawn as certain has to meet it when measured. They are
necessary, not sufficient; a normal ECG meets few of them.

Usage:

    met = CRITERIA["LAFB"].test(truth)      # (N,) bool
    table = rates(truth, codes)             # share of records that meet each criterion
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ecgkit.data.synthetic import criteria_words as w
from ecgkit.data.synthetic.criteria_words import (
    ANTERIOR,
    ANTEROLATERAL,
    CHEST,
    INFERIOR,
    LATERAL,
    LIMB,
    SEPTAL,
    has_p,
    neighbours,
    of,
    q_wave,
    some,
)

AHA3 = "AHA/ACCF/HRS 2009 part III (Surawicz et al.)"
AHA4 = "AHA/ACCF/HRS 2009 part IV (Rautaharju et al.)"
AHA5 = "AHA/ACCF/HRS 2009 part V (Hancock et al.)"
AHA6 = "AHA/ACCF/HRS 2009 part VI (Wagner et al.)"
UDMI = "Fourth Universal Definition of Myocardial Infarction 2018, tables 2 and 3"
CHOU = "Surawicz & Knilans, Chou's Electrocardiography"


@dataclass(frozen=True)
class Criterion:
    """`text` what has to hold, `source` where it is written, `test` truth table -> (N,) bool."""

    text: str
    source: str
    test: Callable[[pd.DataFrame], np.ndarray]


CRITERIA: dict[str, Criterion] = {}


def _is(codes: str, text: str, source: str, test: Callable) -> None:
    for code in codes.split():
        CRITERIA[code] = Criterion(text, source, lambda t: np.asarray(test(t), dtype=bool))


def _in_regions(kind: str, text: str, source: str, test: Callable, regions: dict) -> None:
    """One criterion per region: code `kind` + key, `test(leads)` gives the test."""
    for short, leads in regions.items():
        _is(kind + short, f"{text} in two of {', '.join(leads)}", source, test(leads))


_is(
    "NORM",
    "sinus rhythm, PR 110-205 ms, QRS < 115 ms, QTc < 465 ms, axis -30 to 100 degrees, no Q waves, "
    "ST not 0.1 mV down; its rate is told by SR, SBRAD or STACH",
    CHOU,
    w.ordinary,
)

# --- rhythm ---------------------------------------------------------------------------------------

_is(
    "SR",
    "a P wave before each QRS, 60-100/min",
    CHOU,
    lambda t: has_p(t) & t["heart_rate"].between(59, 101),
)
_is("SBRAD", "P before QRS, below 60/min", CHOU, lambda t: has_p(t) & (t["heart_rate"] < 60))
_is("STACH", "P before QRS, above 100/min", CHOU, lambda t: has_p(t) & (t["heart_rate"] > 100))
_is(
    "SARRH",
    "P before QRS, longest RR more than 120 ms above the shortest",
    CHOU,
    lambda t: has_p(t) & (t["rr_max_ms"] - t["rr_min_ms"] > 120),
)
_is(
    "AFIB",
    "no P waves, RR irregular (sd above 8 % of the mean)",
    CHOU,
    lambda t: (t["n_p"] == 0) & t["atrial_rate"].isna() & (t["rr_sd_ms"] > 0.08 * t["rr_ms"]),
)
_is(
    "AFLT",
    "flutter waves at 220-350/min instead of P waves",
    CHOU,
    lambda t: (t["n_p"] == 0) & t["atrial_rate"].between(220, 350),
)
_is(
    "SVTAC",
    "above 100/min, QRS below 120 ms, no P wave before QRS",
    "ACC/AHA/HRS 2015 guideline on supraventricular tachycardia",
    lambda t: ~has_p(t) & (t["heart_rate"] > 100) & (t["qrs_ms"] < 120),
)
_is(
    "PSVT",
    "RR even and below 430 ms (140/min) for some beats, QRS below 120 ms",
    "ACC/AHA/HRS 2015 guideline on supraventricular tachycardia",
    lambda t: (t["rr_min_ms"] < 430) & (t["n_pvc"] == 0) & (t["qrs_ms"] < 120),
)
_is(
    "SVARR",
    "P waves from more than one place, RR irregular (sd above 5 % of the mean)",
    CHOU,
    lambda t: (t["n_focal"] >= 2) & (t["rr_sd_ms"] > 0.05 * t["rr_ms"]),
)
_is("PACE", "at least two paced beats", CHOU, lambda t: t["n_paced"] >= 2)
_is("PVC", "an early beat of 120 ms or more without P", CHOU, w.wide_premature)
_is("PAC", "an early beat with a P wave of its own", CHOU, lambda t: t["n_pac"] > 0)
_is("PRC(S)", "a premature beat", CHOU, lambda t: t["n_pac"] + t["n_pvc"] > 0)
_is("BIGU", "each second beat premature, three times", CHOU, w.rhythm_like("(?:NV){3}"))
_is("TRIGU", "each third beat premature, twice", CHOU, w.rhythm_like("(?:NNV){2}"))

# --- conduction -----------------------------------------------------------------------------------

_is("1AVB LPR", "PR above 200 ms", CHOU, lambda t: t["pr_ms"] > 200)
_is(
    "2AVB",
    "some P waves are followed by a QRS, some are not",
    CHOU,
    lambda t: has_p(t) & (t["n_blocked"] >= 1),
)
_is(
    "3AVB",
    "P waves and QRS independent, atria faster, ventricles even and at most 60/min",
    CHOU,
    lambda t: t["pr_ms"].isna() & (t["n_p"] > t["n_beats"]) & (t["heart_rate"] <= 60),
)
_is(
    "CLBBB",
    "QRS >= 120 ms, R without q in I and V6, V1 negative",
    AHA3,
    lambda t: (t["qrs_ms"] >= 120) & w.left_pattern(t),
)
_is(
    "ILBBB",
    "QRS 110-119 ms, R without q in I and V6, V1 negative",
    AHA3,
    lambda t: t["qrs_ms"].between(109, 120) & w.left_pattern(t),
)
_is(
    "CRBBB",
    "QRS >= 120 ms, R' or a broad R in V1 or V2, S of 40 ms in I or V6",
    AHA3,
    w.right_block,
)
_is(
    "IRBBB",
    "QRS below 120 ms, r' in V1 or V2",
    AHA3,
    lambda t: (t["qrs_ms"] < 120) & (of(t, "r2", ("V1", "V2")) > 0).any(axis=1),
)
_is(
    "LAFB",
    "axis -45 to -90 degrees, R in aVL, rS in II, III, aVF, QRS below 120 ms unless RBBB widens it",
    AHA3,
    lambda t: (
        t["axis_deg"].between(-90, -44)
        & (of(t, "s", INFERIOR) > of(t, "r", INFERIOR)).all(axis=1)
        & (t["r_aVL"] > t["s_aVL"])
        & w.narrow_but_for_rbbb(t)
    ),
)
_is(
    "LPFB",
    "axis 90 to 180 degrees, rS in I and aVL, qR in III and aVF, QRS below 120 ms unless RBBB "
    "widens it",
    AHA3,
    lambda t: (
        t["axis_deg"].between(90, 180)
        & (of(t, "s", ("I", "aVL")) > of(t, "r", ("I", "aVL"))).all(axis=1)
        & (of(t, "q", ("III", "aVF")) > 0).all(axis=1)
        & w.narrow_but_for_rbbb(t)
    ),
)
_is(
    "IVCD",
    "QRS above 110 ms without the pattern of either bundle branch block",
    AHA3,
    lambda t: (t["qrs_ms"] > 110) & ~(t["r2_V1"] > 0.1),
)
_is(
    "WPW",
    "PR below 120 ms, QRS above 110 ms",
    AHA3,
    lambda t: (t["pr_ms"] < 120) & (t["qrs_ms"] > 110),
)

# --- size -----------------------------------------------------------------------------------------

_is(
    "LVH VCLVH",
    "S V1 + R V5 or V6 >= 3.5 mV (Sokolow), R aVL + S V3 >= 2.8 mV (Cornell) or R aVL >= 1.1 mV",
    AHA5,
    w.large_left,
)
_is(
    "HVOLT",
    "R or S >= 2.0 mV in a limb lead or >= 3.0 mV in a chest lead",
    "Romhilt & Estes 1968",
    lambda t: (w.tallest(t, LIMB) >= 2.0) | (w.tallest(t, CHEST) >= 3.0),
)
_is(
    "LVOLT",
    "QRS below 0.5 mV from top to bottom in all limb leads or below 1 mV in all chest leads",
    "Madias 2008",
    lambda t: (w.span(t, LIMB) < 0.5) | (w.span(t, CHEST) < 1.0),
)
_is(
    "RVH",
    "axis above 90 degrees and R >= S in V1, R V1 + S V5 or V6 above 1.05 mV, or S V6 above 0.3 mV",
    AHA5,
    lambda t: (
        ~t["axis_deg"].between(-90, 88)
        & (
            (t["r_V1"] >= t["s_V1"])
            | (t["r_V1"] + of(t, "s", ("V5", "V6")).max(axis=1) > 1.05)
            | (t["s_V6"] > 0.3)
        )
    ),
)
_is(
    "SEHYP",
    "q of 0.3 mV or more in two of I, aVL, V5, V6, II, III, aVF, 40 ms at most",
    "Maron et al. 1983",
    lambda t: some(
        (of(t, "q", LATERAL + INFERIOR) >= 0.3) & (of(t, "qd", LATERAL + INFERIOR) <= 40)
    ),
)
_is(
    "LAO/LAE",
    "P >= 120 ms, and its negative end in V1 >= 0.1 mV x 30 ms",
    f"{AHA5}; Morris et al. 1964",
    lambda t: (t["p_ms"] >= 120) & (t["ptf_V1"] >= 3.0),
)
_is(
    "RAO/RAE",
    "P >= 0.25 mV in II or >= 0.15 mV in V1",
    AHA5,
    lambda t: (t["p_II"] >= 0.25) | (t["p_V1"] >= 0.15),
)

# --- infarction -----------------------------------------------------------------------------------

_is("IMI", "Q >= 30 ms and 0.1 mV in two of II, III, aVF", UDMI, w.q_in(INFERIOR))
_is("LMI", "Q >= 30 ms and 0.1 mV in two of I, aVL, V5, V6", UDMI, w.q_in(LATERAL))
_is(
    "ASMI AMI",
    "Q above 20 ms or QS in V2 or V3, or R in V3 <= 0.3 mV",
    f"{UDMI}; Zema & Kligfield 1982",
    w.front_scar,
)
_is(
    "ALMI",
    "Q >= 30 ms and 0.1 mV, or QS, in two of I, aVL, V3-V6",
    UDMI,
    w.q_in(ANTEROLATERAL),
)
_is(
    "ILMI",
    "Q >= 30 ms and 0.1 mV in two of II, III, aVF and in one of I, aVL, V5, V6",
    UDMI,
    lambda t: w.q_in(INFERIOR)(t) & some(q_wave(t, LATERAL), 1),
)
_is("PMI", "R >= 40 ms and R >= S in V1 or V2, T upright there", UDMI, w.back_scar)
_is("IPMI", "IMI and PMI", UDMI, lambda t: w.q_in(INFERIOR)(t) & w.back_scar(t))
_is(
    "IPLMI",
    "ILMI and PMI",
    UDMI,
    lambda t: w.q_in(INFERIOR)(t) & some(q_wave(t, LATERAL), 1) & w.back_scar(t),
)
_in_regions(
    "INJ",
    "ST <= -0.1 mV",
    AHA6,
    w.injured,
    {"AS": SEPTAL, "AL": ANTEROLATERAL, "IN": INFERIOR, "LA": LATERAL}
    | {"IL": (*INFERIOR, "V5", "V6")},
)
_is(
    "QWAVE",
    "Q >= 30 ms and 0.1 mV in two neighbouring leads",
    UDMI,
    lambda t: neighbours(t, q_wave, w.OF_Q),
)
_is(
    "ABQRS",
    "QRS above 110 ms, Q waves, poor R progression, or notches in two leads of a wall",
    AHA3,
    lambda t: (
        (t["qrs_ms"] > 110)
        | neighbours(t, q_wave, w.OF_Q)
        | w.front_scar(t)
        | (t["n_notched"] >= 2)
    ),
)

# --- ST and T -------------------------------------------------------------------------------------

_is(
    "ISC_",
    "ST <= -0.05 mV or T <= -0.1 mV in two neighbouring leads",
    UDMI,
    lambda t: neighbours(t, w.st_down(0.05)) | neighbours(t, w.t_down),
)
_in_regions(
    "ISC",
    "ST <= -0.05 mV or T <= -0.1 mV",
    UDMI,
    w.ischaemic,
    {"AL": ANTEROLATERAL, "IN": INFERIOR, "IL": (*INFERIOR, "V5", "V6")}
    | {"AS": SEPTAL, "LA": LATERAL, "AN": ANTERIOR},
)
_is(
    "STD_",
    "ST <= -0.05 mV in two neighbouring leads",
    AHA4,
    lambda t: neighbours(t, w.st_down(0.05)),
)
_is(
    "NST_",
    "ST <= -0.03 mV in two neighbouring leads, nowhere -0.2 mV",
    "Minnesota code 4-2, 4-3",
    lambda t: neighbours(t, w.st_down(0.03)) & ~neighbours(t, w.st_down(0.2)),
)
_is(
    "STE_",
    "ST >= 0.1 mV (V2-V3 0.2 mV) in two neighbouring leads",
    UDMI,
    lambda t: neighbours(t, w.st_up),
)
_is(
    "NDT NT_",
    "T below a tenth of R or 0.1 mV where QRS is upright, or inverted, in two neighbouring leads",
    AHA4,
    lambda t: neighbours(t, w.t_low),
)
_is(
    "LOWT",
    "T below a tenth of R or 0.1 mV in three of I, II, V4-V6",
    AHA4,
    lambda t: some(w.t_low(t, ("I", "II", "V4", "V5", "V6")), 3),
)
_is("INVT", "T <= -0.1 mV in two neighbouring leads", AHA4, lambda t: neighbours(t, w.t_down))
_is(
    "TAB_",
    "T low, flat or inverted in two neighbouring leads",
    AHA4,
    lambda t: neighbours(t, w.t_low) | neighbours(t, w.t_down),
)
_is("LNGQT", "QTc (Bazett) above 460 ms", AHA4, lambda t: t["qtc_ms"] > 460)
_is(
    "DIG",
    "ST <= -0.05 mV in two neighbouring leads, QTc below 440 ms",
    CHOU,
    lambda t: neighbours(t, w.st_down(0.05)) & (t["qtc_ms"] < 440),
)
_is(
    "EL",
    "T >= 0.6 mV in two of V2-V4 and below 90 ms wide at half height, or T low and ST <= -0.05 mV",
    CHOU,
    w.electrolytes,
)
_is(
    "ANEUR",
    "Q or QS, ST >= 0.1 mV in two of V2-V4, T together below 0.36 of QRS",
    f"{CHOU}; Smith et al. 2005",
    w.aneurysm,
)


# --- tables ---------------------------------------------------------------------------------------


def rates(truth: pd.DataFrame, codes: Iterable[str] = CRITERIA) -> pd.Series:
    """Share of the table's records that meet the criterion of each code."""
    return pd.Series({code: float(CRITERIA[code].test(truth).mean()) for code in codes})
