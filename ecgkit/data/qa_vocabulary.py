"""The answer vocabulary of ECG-QA, and which SCP code of PTB-XL stands for which answer.

103 answer classes and `none` in the order of the published `answers.csv` (Oh et al. 2023, PTB-XL
version), so that a model trained on generated questions has the same output units as one trained
on the published ones. 59 of PTB-XL's 71 statements are classes; a normal ECG and the other 11
(RVH, WPW, ...) are asked about with yes or no and are never an answer.

Usage:

    answer_classes()              # 104 names, `none` among them
    DIAGNOSTIC["LVH"]             # "left ventricular hypertrophy"
"""

from __future__ import annotations

VERIFY = ("no", "not sure", "yes")
CATEGORIES = {
    "CD": "conduction disturbance",
    "HYP": "hypertrophy",
    "MI": "myocardial infarction",
    "STTC": "st/t change",
}
_SITES = {
    "AN": "anterior",
    "AL": "anterolateral",
    "AS": "anteroseptal",
    "IN": "inferior",
    "IL": "inferolateral",
    "LA": "lateral",
}

# SCP code -> answer class.
DIAGNOSTIC = {
    "CLBBB": "complete left bundle branch block",
    "CRBBB": "complete right bundle branch block",
    "DIG": "digitalis effect",
    "1AVB": "first degree av block",
    "ILBBB": "incomplete left bundle branch block",
    "IRBBB": "incomplete right bundle branch block",
    **{f"ISC{code}": f"ischemic in {site} leads" for code, site in _SITES.items()},
    "LAFB": "left anterior fascicular block",
    "LAO/LAE": "left atrial overload/enlargement",
    "LPFB": "left posterior fascicular block",
    "LVH": "left ventricular hypertrophy",
    "LNGQT": "long qt-interval",
    "AMI": "myocardial infarction in anterior leads",
    "ALMI": "myocardial infarction in anterolateral leads",
    "ASMI": "myocardial infarction in anteroseptal leads",
    "IMI": "myocardial infarction in inferior leads",
    "ILMI": "myocardial infarction in inferolateral leads",
    "IPMI": "myocardial infarction in inferoposterior leads",
    "IPLMI": "myocardial infarction in inferoposterolateral leads",
    "LMI": "myocardial infarction in lateral leads",
    "PMI": "myocardial infarction in posterior leads",
    "NDT": "non-diagnostic t abnormalities",
    "IVCD": "non-specific intraventricular conduction disturbance (block)",
    "ISC_": "non-specific ischemic",
    "NST_": "non-specific st changes",
    "RAO/RAE": "right atrial overload/enlargement",
    **{
        f"INJ{code}": f"subendocardial injury in {_SITES[code]} leads"
        for code in ("AL", "AS", "IN", "IL", "LA")
    },
}
FORM = {
    "ABQRS": "abnormal qrs",
    "PAC": "atrial premature complex",
    "HVOLT": "high qrs voltage",
    "INVT": "inverted t-waves",
    "LOWT": "low amplitude t-wave",
    "LVOLT": "low qrs voltages in the frontal and horizontal leads",
    "STD_": "non-specific st depression",
    "STE_": "non-specific st elevation",
    "NT_": "non-specific t-wave changes",
    "LPR": "prolonged pr interval",
    "QWAVE": "q waves present",
    "TAB_": "t-wave abnormality",
    "PVC": "ventricular premature complex",
    "VCLVH": "voltage criteria (qrs) for left ventricular hypertrophy",
}
# PTB-XL lists these as diagnosis and as form; they may answer a question about form too.
BOTH = ("DIG", "LNGQT", "NDT", "NST_")
RHYTHM = {
    "AFIB": "atrial fibrillation",
    "AFLT": "atrial flutter",
    "BIGU": "bigeminal pattern (unknown origin, supraventricular, or ventricular)",
    "PACE": "normal functioning artificial pacemaker",
    "SARRH": "sinus arrhythmia",
    "SBRAD": "sinus bradycardia",
    "SR": "sinus rhythm",
    "STACH": "sinus tachycardia",
    "SVTAC": "supraventricular tachycardia",
}
# SCP code -> name in a question. These have no answer class: "which ...?" cannot be answered for an
# ECG that has one of them, "is there ...?" can.
UNLISTED_DIAGNOSTIC = {
    "2AVB": "second degree av block",
    "3AVB": "third degree av block",
    "WPW": "wolff-parkinson-white pattern",
    "RVH": "right ventricular hypertrophy",
    "SEHYP": "septal hypertrophy",
    "ANEUR": "st/t changes of a ventricular aneurysm",
    "EL": "electrolyte or drug effect",
}
UNLISTED_FORM = {"PRC(S)": "premature complexes"}
UNLISTED_RHYTHM = {
    "PSVT": "paroxysmal supraventricular tachycardia",
    "SVARR": "supraventricular arrhythmia",
    "TRIGU": "trigeminal pattern",
}
# Diagnostic group (superclass) of each diagnostic code, those without an own class included.
_GROUPS = {
    "CD": "CLBBB CRBBB 1AVB 2AVB 3AVB ILBBB IRBBB LAFB LPFB IVCD WPW",
    "HYP": "LVH RVH LAO/LAE RAO/RAE SEHYP",
    "MI": "AMI ALMI ASMI IMI ILMI IPMI IPLMI LMI PMI INJAL INJAS INJIN INJIL INJLA",
    "STTC": "DIG LNGQT NDT NST_ ISC_ ISCAN ISCAL ISCAS ISCIN ISCIL ISCLA ANEUR EL",
}
GROUP_OF = {code: group for group, codes in _GROUPS.items() for code in codes.split()}
NORMAL = "normal ecg"  # asked about, never an answer class
# Names of what the templates about "any ..." ask for; the published attributes.
ANY_FINDING, ANY_DIAGNOSIS = "any kind of abnormal symptoms", "any diagnostic symptoms"
ANY_FORM, ANY_RHYTHM = "any form-related symptoms", "any rhythm-related symptoms"
ANY_NOISE, ANY_EXTRA = "any kind of noises", "any kind of extra systoles"
LEAD_ANSWERS = tuple(
    f"lead {name}"
    for name in ("I", "II", "III", "V1", "V2", "V3", "V4", "V5", "V6", "aVF", "aVL", "aVR")
)
AXES = (
    "extreme axis deviation",
    "left axis deviation",
    "normal heart axis",
    "right axis deviation",
)
STAGES = (
    "early stage of myocardial infarction",
    "old stage of myocardial infarction",
    "middle stage of myocardial infarction",
)
NO_STAGE, UNKNOWN_STAGE = "none of myocardial infarction", "unknown stage of myocardial infarction"
ALL_STAGES = (*STAGES, NO_STAGE, UNKNOWN_STAGE)
NOISES = ("baseline drift", "burst noise", "electrodes problems", "static noise")
EXTRA_BEATS = ("extrasystoles", "supraventricular extrasystoles", "ventricular extrasystoles")
RANGES = ("above the normal range", "below the normal range", "within the normal range")
MEASURES = (
    "p duration",
    "pr interval",
    "qrs duration",
    "qt corrected",
    "qt interval",
    "rr interval",
)
# SCP code -> name, all 71.
NAME_OF = {
    **DIAGNOSTIC, **FORM, **RHYTHM, **UNLISTED_DIAGNOSTIC, **UNLISTED_FORM, **UNLISTED_RHYTHM,
    "NORM": NORMAL,
}  # fmt: skip
STATEMENTS = tuple(sorted({*DIAGNOSTIC.values(), *FORM.values(), *RHYTHM.values()}))
FORMS = tuple(sorted([*FORM.values(), *(DIAGNOSTIC[code] for code in BOTH)]))
# Statements of form that a report gives to single leads, or (of voltage) to the six limb or the six
# chest leads together.
BY_GROUP = tuple(FORM[code] for code in ("VCLVH", "LVOLT", "HVOLT"))
BY_LEAD = (
    *(FORM[code] for code in ("STD_", "STE_", "QWAVE", "LOWT", "INVT", "NT_", "TAB_")),
    *(DIAGNOSTIC[code] for code in ("NDT", "NST_", "DIG")),
)
FORMS_WITH_LEADS = tuple(sorted((*BY_GROUP, *BY_LEAD)))
LEAD_GROUPS = {"limb leads": tuple(range(6)), "chest leads": tuple(range(6, 12))}


# How a question names what reads badly as the object of a sentence; answers keep the class name.
_SPOKEN = {
    "q waves present": "q waves",
    "wolff-parkinson-white pattern": "a wolff-parkinson-white pattern",
    "trigeminal pattern": "a trigeminal pattern",
    "electrolyte or drug effect": "an electrolyte or drug effect",
    "abnormal qrs": "an abnormal qrs complex",
    "non-specific ischemic": "non-specific ischemia",
    "low amplitude t-wave": "low amplitude t-waves",
    "t-wave abnormality": "a t-wave abnormality",
    "prolonged pr interval": "a prolonged pr interval",
    "long qt-interval": "a long qt interval",
    NORMAL: "a normal ecg",
    **{f"ischemic in {site} leads": f"ischemia in {site} leads" for site in _SITES.values()},
}


def spoken(name: str) -> str:
    """A class name as it stands in a verify question."""
    return _SPOKEN.get(name, name)


def answer_classes() -> list[str]:
    """The 104 rows of `answers.csv`: 103 classes and `none` at row 6, in the published order."""
    categories = sorted([*CATEGORIES.values(), "none"])
    groups = (
        VERIFY,
        categories,
        sorted(DIAGNOSTIC.values()),
        sorted(FORM.values()),
        sorted(RHYTHM.values()),
        LEAD_ANSWERS,
        AXES,
        ALL_STAGES,
        NOISES,
        EXTRA_BEATS,
        RANGES,
        MEASURES,
    )
    return [name for group in groups for name in group]
