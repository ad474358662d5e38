"""Free-text reports for simulated ECGs, in the kit's own words, German-like or English-like as
PTB-XL mixes them.

Usage:

    report_text({"AFIB": 0.0, "CLBBB": 100.0}, axis="LAD", rng=rng)
    report_text(codes, "MID", rng, stage="Stadium III", severity={"LVH": 0.9}, beats={"PVC": 2},
                leads={"STD_": ["V5", "V6"]})
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence

import numpy as np

from ecgkit.data.scp_table import scp_statements
from ecgkit.data.synthetic import report_words_english, report_words_german
from ecgkit.data.synthetic.prevalence import GROUPS

GERMAN_SHARE = 0.6
_RHYTHMS = ("SR", *GROUPS["RHYTHM"])
# What a reader may pass over, and how often; what comes in degrees.
_MINOR = {
    **dict.fromkeys(("ABQRS", "QWAVE", "LPR", "NT_", "LOWT", "TAB_", "NST_", "LVOLT"), 0.12),
    **dict.fromkeys(("PVC", "PAC", "PRC(S)", "VCLVH", "HVOLT", "IRBBB"), 0.05),
}
_GRADED = {*GROUPS["ISC"], "LVH", "RVH", "STD_", "STE_", "NST_", "NDT", "NT_", "LOWT", "LVOLT",
           "LNGQT", "LAO/LAE", "RAO/RAE", "SBRAD", "STACH", "SARRH", "HVOLT", "IVCD"}  # fmt: skip
# Quiet company of a normal ECG: with these alone the report still ends in "normal".
_QUIET = {"SR", "NORM"}
_CLASS = scp_statements()["diagnostic_class"].dropna().drop("NORM").to_dict()


def report_text(
    codes: dict[str, float],
    axis: str,
    rng: np.random.Generator,
    stage: str = "",
    severity: Mapping[str, float] = types.MappingProxyType({}),
    beats: Mapping[str, int] = types.MappingProxyType({}),
    leads: Mapping[str, Sequence[str]] = types.MappingProxyType({}),
) -> str:
    """One report: rhythm, axis, the findings, and an ending; likelihoods of 15 to 50 are hedged,
    minor findings now and then passed over.

    `axis` PTB-XL's heart_axis ("" = not told), `stage` its infarction stage, `severity` code -> 0
    mild .. 1 marked, `beats` code -> number in the strip, `leads` code -> where it is seen.
    """
    german = rng.random() < GERMAN_SHARE
    words = report_words_german if german else report_words_english
    rhythm = [_said(c, codes, words, rng, stage, severity, beats, leads) for c in _in(codes)]
    turned = axis in words.AXIS and rng.random() < (0.3 if axis == "MID" else 0.7)
    findings = [
        _said(code, codes, words, rng, stage, severity, beats, leads)
        for code in codes
        if code not in (*_RHYTHMS, "NORM") and rng.random() >= _MINOR.get(code, 0)
    ]
    parts = rhythm + ([_one(words.AXIS[axis], rng)] if turned else []) + findings
    text = _joined(parts + _ending(codes, words, rng), german, rng)
    return text if german else text + "."


def _in(codes: dict) -> list[str]:
    return [code for code in _RHYTHMS if code in codes]


def _said(code: str, codes: dict, words, rng, stage, severity, beats, leads) -> str:
    """One finding in words, with its age or degree, place and doubt as far as they are known."""
    text = _one(words.WORDS[code], rng)
    doubt = words.DOUBT.get(int(codes[code]))
    if beats.get(code, 0) and rng.random() < 0.4:
        text = words.BEATS[code].format(beats[code])
    if code in GROUPS["MI"] and stage and not (doubt and stage == "unknown"):
        text = _one(words.AGES[stage], rng).format(text)
    if code in _GRADED and code in severity and rng.random() < 0.5:
        text = _graded(text, severity[code], words, rng)
    if leads.get(code) and rng.random() < 0.6:
        text += words.IN_LEADS.format(", ".join(leads[code]).lower())
    return _one(doubt, rng).format(text) if doubt else text


def _graded(text: str, severity: float, words, rng) -> str:
    """Slight below a third, marked above two thirds of the way."""
    level = 0 if severity < 0.45 else 2 if severity < 0.8 else 4
    return words.DEGREE[level + int(rng.integers(2))].format(text)


def _ending(codes: dict[str, float], words, rng) -> list[str]:
    if "NORM" in codes:
        if set(codes) <= _QUIET and (codes["NORM"] == 100 or rng.random() < 0.5):
            return [_one(words.WORDS["NORM"], rng)]
        return [_one(words.OTHERWISE, rng)]
    pick = rng.random()
    classes = _classes(codes)
    if pick < 0.15 and classes:
        return [words.IMPRESSION.format(", ".join(_one(words.CLASSES[c], rng) for c in classes))]
    return [_one(words.ABNORMAL, rng)] if pick > 0.9 else []


def _classes(codes: dict[str, float]) -> list[str]:
    """Superclasses of the diagnoses that are not in doubt, in order."""
    found = [_CLASS[code] for code, p in codes.items() if code in _CLASS and not 0 < p <= 50]
    return list(dict.fromkeys(found))


def _joined(parts: list[str], german: bool, rng) -> str:
    """German carts run their phrases together, English readers write sentences."""
    if german:
        return (" " if rng.random() < 0.5 else ", ").join(parts)
    return ". ".join(parts)


def _one(options: Sequence[str], rng) -> str:
    return options[int(rng.integers(len(options)))]
