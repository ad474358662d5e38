"""Prompts for zero-shot reading, in wordings kept out of every training caption.

`assert_unseen` proves it: no prompt stands in a caption, and no run of RUN words of a prompt does.

Usage:

    prompts = superclass_prompts(["NORM", "MI"])       # {"NORM": [...], ...}
    report = assert_unseen(prompts, training_captions)
"""

from __future__ import annotations

import re

from ecgkit.types import DataError

RUN = 4  # words in a row that no prompt may share with a training caption
TEMPLATES = ("Tracing findings: {}.", "Read as {}.", "{}, seen in this ECG.")

CLASSES: dict[str, tuple[str, ...]] = {
    "NORM": (
        "electrocardiogram that is normal",
        "a heart that is healthy and normal, without abnormality",
    ),
    "MI": (
        "infarction of myocardium, infarct scar with Q waves",
        "infarct, scar of the myocardial wall after infarction",
    ),
    "STTC": (
        "repolarization changed, ST segment and T waves abnormal",
        "ischemic or non-specific change of ST and T waves",
    ),
    "CD": (
        "disturbance of conduction, bundle or AV or fascicular block",
        "block, conduction delayed or disturbed, QRS wide",
    ),
    "HYP": (
        "chamber hypertrophy, ventricle thick or atrium enlarged",
        "hypertrophy of a ventricle, large R and S voltages",
    ),
}
# One wording per SCP statement, by what it is about. Descriptive order is turned round ("block of
# the right bundle"), so that no prompt shares RUN words with a description or a note.
FINDINGS: dict[str, tuple[str, ...]] = {
    # rhythm and ectopy
    "AFIB": ("fibrillation of the atria, rhythm irregular, P waves absent",),
    "AFLT": ("flutter of the atria, saw-tooth pattern",),
    "STACH": ("tachycardia of sinus origin, heart rate fast",),
    "SBRAD": ("bradycardia of sinus origin, heart rate slow",),
    "SARRH": ("arrhythmia of the sinus with breathing",),
    "SR": ("rhythm from the sinus, regular",),
    "SVARR": ("arrhythmia that is supraventricular",),
    "SVTAC": ("tachycardia that is supraventricular, beats narrow and fast",),
    "PSVT": ("paroxysmal and supraventricular, tachycardia in runs",),
    "PVC": ("ectopy, beats premature and ventricular",),
    "PAC": ("beats premature and atrial",),
    "PRC(S)": ("complexes that are premature, beats early",),
    "BIGU": ("pattern bigeminal, beats in pairs",),
    "TRIGU": ("pattern trigeminal, groups of three beats",),
    "PACE": ("artificial pacemaker spikes, rhythm paced",),
    # conduction
    "1AVB": ("delay of AV conduction, PR prolonged, block of first degree",),
    "2AVB": ("block of second degree, AV, some P not followed",),
    "3AVB": ("block of third degree, AV, P and QRS apart",),
    "LPR": ("interval PR prolonged, long",),
    "CRBBB": ("block of the right bundle, complete, RBBB",),
    "IRBBB": ("block of the right bundle, incomplete, partial",),
    "CLBBB": ("block of the left bundle, complete, LBBB",),
    "ILBBB": ("block of the left bundle, incomplete",),
    "LAFB": ("hemiblock, left anterior, axis left",),
    "LPFB": ("hemiblock, left posterior, axis right",),
    "IVCD": ("disturbance, intraventricular, of conduction, QRS wide",),
    "WPW": ("syndrome of Wolff, Parkinson and White, delta wave, PR short",),
    # infarction and Q waves
    "IMI": ("infarction of the inferior wall, inferior infarct",),
    "AMI": ("infarction of the anterior wall, anterior infarct",),
    "ASMI": ("infarction of the septal wall, anteroseptal infarct",),
    "ALMI": ("infarction of the anterolateral wall",),
    "LMI": ("infarction of the lateral wall, lateral infarct",),
    "ILMI": ("infarction of the inferior wall with the lateral",),
    "IPMI": ("infarction of the inferior wall with the posterior",),
    "IPLMI": ("infarction of the inferior wall with the posterior, the lateral",),
    "PMI": ("infarction of the posterior wall, posterior infarct",),
    "QWAVE": ("waves Q broad and deep",),
    # ischemia and injury
    "ISC_": ("changes that are ischemic, ischemia",),
    "ISCAL": ("ischemia, leads anterolateral",),
    "ISCAS": ("ischemia, leads anteroseptal",),
    "ISCAN": ("ischemia, leads anterior",),
    "ISCIN": ("ischemia, leads inferior",),
    "ISCIL": ("ischemia, leads inferolateral",),
    "ISCLA": ("ischemia, leads lateral",),
    "INJAS": ("injury of the subendocardial wall, leads anteroseptal",),
    "INJAL": ("injury of the subendocardial wall, leads anterolateral",),
    "INJIN": ("injury of the subendocardial wall, leads inferior",),
    "INJLA": ("injury of the subendocardial wall, leads lateral",),
    "INJIL": ("injury of the subendocardial wall, leads inferolateral",),
    # ST, T and QT
    "NST_": ("ST changed a little, non-specific",),
    "STD_": ("segment ST depressed, depression",),
    "STE_": ("segment ST elevated, elevation",),
    "NDT": ("abnormalities of T, non-diagnostic, flat",),
    "NT_": ("change of T, non-specific",),
    "TAB_": ("abnormality of the T wave",),
    "INVT": ("waves T inverted, inversion",),
    "LOWT": ("waves T low, amplitude small",),
    "LNGQT": ("interval QT prolonged, long",),
    "DIG": ("effect of digitalis, ST sags",),
    "EL": ("disturbance electrolytic, potassium or calcium or drug",),
    "ANEUR": ("aneurysm of the ventricle, ST raised",),
    # size and voltage
    "LVH": ("hypertrophy of the left ventricle, voltage high",),
    "RVH": ("hypertrophy of the right ventricle",),
    "SEHYP": ("hypertrophy of the septum",),
    "VCLVH": ("criteria of voltage for hypertrophy, left",),
    "LAO/LAE": ("enlargement of the left atrium",),
    "RAO/RAE": ("enlargement of the right atrium",),
    "LVOLT": ("voltages of QRS small and low",),
    "HVOLT": ("voltages of QRS high and large",),
    "ABQRS": ("complex QRS of abnormal shape",),
}
NORM_ALIASES = {"NORM": CLASSES["NORM"]}


def fill(wordings: tuple[str, ...]) -> list[str]:
    """Each wording in each template: the ensemble whose latents are averaged."""
    return [template.format(words) for words in wordings for template in TEMPLATES]


def superclass_prompts(classes: list[str]) -> dict[str, list[str]]:
    """Prompt ensemble per superclass."""
    return {name: fill(CLASSES[name]) for name in classes}


def finding_prompts(codes: list[str]) -> dict[str, list[str]]:
    """Prompt ensemble per SCP code; codes without a wording kept back are left out.

    A subclass is asked for by the ensembles of all codes it is made of (`tasks/zero_shot.py`).
    """
    known = FINDINGS | NORM_ALIASES
    return {code: fill(known[code]) for code in codes if code in known}


def assert_unseen(prompts: dict[str, list[str]], captions: list[str], run: int = RUN) -> dict:
    """Checks that no prompt, and no `run` words in a row of one, stands in any caption.

    Compares lower-case words without punctuation. Returns {"n_prompts", "n_captions", "longest_run"
    (words the closest prompt shares), "example" (those words)}. Raises DataError naming the first
    prompt that was seen.
    """
    texts = [f" {plain(text)} " for text in dict.fromkeys(captions)]
    haystack = "|".join(texts)
    longest, example = 0, ""
    for prompt in (p for group in prompts.values() for p in group):
        n, shared = _longest_run(plain(prompt).split(), haystack)
        if n >= run or f" {plain(prompt)} " in haystack:
            raise DataError(
                f"The prompt {prompt!r} shares {shared!r} with a training caption, so it is not "
                "zero-shot; reword it in text/prompts.py."
            )
        if n > longest:
            longest, example = n, shared
    n_prompts = sum(len(group) for group in prompts.values())
    return {"n_prompts": n_prompts, "n_captions": len(texts), "longest_run": longest,
            "example": example}


def plain(text: str) -> str:
    """Lower-case words and numbers, single spaces."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def _longest_run(words: list[str], haystack: str) -> tuple[int, str]:
    """(n, text) of the longest run of `words` that stands in `haystack` between spaces."""
    best = (0, "")
    for start in range(len(words)):
        while start + best[0] < len(words):
            piece = " ".join(words[start : start + best[0] + 1])
            if f" {piece} " not in haystack:
                break
            best = (best[0] + 1, piece)
    return best
