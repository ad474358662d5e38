"""Free-text reports for simulated ECGs, in the kit's own words, German-like or English-like as
PTB-XL mixes them.

Usage:
    report_text({"AFIB": 0.0, "CLBBB": 100.0}, axis="LAD", rng=rng)
"""

from __future__ import annotations

import numpy as np

ENGLISH = {
    "NORM": "tracing within normal limits",
    "SR": "sinus rhythm",
    "SBRAD": "slow sinus rhythm, bradycardia",
    "STACH": "fast sinus rhythm, tachycardia",
    "SARRH": "sinus rhythm varying with respiration",
    "AFIB": "atrial fibrillation, irregular ventricular response",
    "AFLT": "atrial flutter",
    "PACE": "paced ventricular rhythm",
    "CRBBB": "right bundle branch block, complete",
    "CLBBB": "left bundle branch block, complete",
    "LAFB": "left anterior hemiblock",
    "LPFB": "left posterior hemiblock",
    "IRBBB": "right bundle branch block, incomplete",
    "1AVB": "pr interval prolonged, av block grade 1",
    "LVH": "left ventricular hypertrophy",
    "VCLVH": "high voltage, left ventricular",
    "RVH": "right ventricular hypertrophy",
    "LVOLT": "low qrs voltage",
    "IMI": "inferior infarct",
    "AMI": "anterior infarct",
    "ASMI": "anteroseptal infarct",
    "ILMI": "inferolateral infarct",
    "ALMI": "anterolateral infarct",
    "ISC_": "st-t pattern of ischaemia",
    "NST_": "slight non-specific st change",
    "STD_": "st segments depressed",
    "STE_": "st segments raised",
    "NDT": "t waves flat, not diagnostic",
    "LOWT": "t waves of low amplitude",
    "INVT": "t waves inverted",
    "LNGQT": "qt interval prolonged",
    "PVC": "ventricular extrasystoles",
    "PAC": "supraventricular extrasystoles",
    "LAO/LAE": "left atrium enlarged",
    "ABQRS": "qrs abnormal",
    "QWAVE": "q waves noted",
    "LPR": "long pr",
}
GERMAN = {
    "NORM": "unauffaelliges ekg",
    "SR": "sinusrhythmus",
    "SBRAD": "bradykarder sinusrhythmus",
    "STACH": "tachykarder sinusrhythmus",
    "SARRH": "sinusrhythmus mit respiratorischer schwankung",
    "AFIB": "vorhofflimmern, absolute arrhythmie",
    "AFLT": "vorhofflattern",
    "PACE": "schrittmacherrhythmus",
    "CRBBB": "rechtsschenkelblock, komplett",
    "CLBBB": "linksschenkelblock, komplett",
    "LAFB": "linksanteriorer hemiblock",
    "LPFB": "linksposteriorer hemiblock",
    "IRBBB": "rechtsschenkelblock, inkomplett",
    "1AVB": "pq verlaengert, av-block grad 1",
    "LVH": "hypertrophie des linken ventrikels",
    "VCLVH": "hohe voltage links",
    "RVH": "hypertrophie des rechten ventrikels",
    "LVOLT": "niedervoltage",
    "IMI": "hinterwandinfarkt",
    "AMI": "vorderwandinfarkt",
    "ASMI": "anteroseptaler infarkt",
    "ILMI": "inferolateraler infarkt",
    "ALMI": "anterolateraler infarkt",
    "ISC_": "st-t wie bei ischaemie",
    "NST_": "geringe unspezifische st-veraenderung",
    "STD_": "st-strecken gesenkt",
    "STE_": "st-strecken gehoben",
    "NDT": "t-wellen flach",
    "LOWT": "t-wellen niedrig",
    "INVT": "t-wellen negativ",
    "LNGQT": "qt verlaengert",
    "PVC": "ventrikulaere extrasystolen",
    "PAC": "supraventrikulaere extrasystolen",
    "LAO/LAE": "linker vorhof vergroessert",
    "ABQRS": "qrs auffaellig",
    "QWAVE": "q-zacken",
    "LPR": "pq lang",
}
_AXIS = {
    "MID": ("normal axis", "indifferenztyp"),
    "LAD": ("axis to the left", "linkstyp"),
    "ALAD": ("axis far left", "ueberdrehter linkstyp"),
    "RAD": ("axis to the right", "rechtstyp"),
    "ARAD": ("axis far right", "ueberdrehter rechtstyp"),
    "AXR": ("vertical axis", "steiltyp"),
}
_DOUBT = ("possibly ", "moeglicherweise ")
_RHYTHM_FIRST = ("SR", "SBRAD", "STACH", "SARRH", "AFIB", "AFLT", "PACE")


def report_text(codes: dict[str, float], axis: str, rng: np.random.Generator) -> str:
    """One report: rhythm, axis, then the other findings; uncertain ones (likelihood 15-50) are
    hedged.
    """
    german = int(rng.random() < 0.6)
    words = (ENGLISH, GERMAN)[german]
    rhythm = [words[c] for c in _RHYTHM_FIRST if c in codes]
    middle = [_AXIS[axis][german]] if axis in _AXIS and rng.random() < 0.6 else []
    rest = [
        (_DOUBT[german] if 0 < likelihood <= 50 else "") + words[code]
        for code, likelihood in codes.items()
        if code not in _RHYTHM_FIRST and code in words
    ]
    text = (". ", ", ")[german].join(rhythm + middle + rest)
    return text if german else text + "."
