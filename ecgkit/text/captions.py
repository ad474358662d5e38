"""Captions for pretraining: who the patient is, what the ECG shows, and how that looks.

`write_captions` turns a cohort's table into several wordings per record; `text/prompts.py` holds
the wordings kept back for zero-shot evaluation.

Usage:
    captions = write_captions(cohort.table, cohort.statements, Notes(), seed=0)
    captions.full[0]         # the paper's three-part prompt of row 0
    captions.variants[0]     # list of wordings of row 0, the full one first
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ecgkit.text.cqa import Notes

# Other names a reader of ECGs would use; the description of the SCP table is always one more.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "NORM": ("normal electrocardiogram", "within normal limits", "no abnormality"),
    "SR": ("sinus rhythm", "regular sinus rhythm"),
    "AFIB": ("atrial fibrillation", "irregular rhythm without P waves, fibrillation"),
    "AFLT": ("atrial flutter", "flutter with saw-tooth waves"),
    "STACH": ("sinus tachycardia", "fast sinus rhythm", "rapid heart rate"),
    "SBRAD": ("sinus bradycardia", "slow sinus rhythm", "low heart rate"),
    "SARRH": ("sinus arrhythmia", "rate varies with breathing"),
    "PVC": ("ventricular premature complex", "premature ventricular beats", "ventricular ectopy"),
    "PAC": ("atrial premature complex", "premature atrial beats"),
    "PACE": ("functioning artificial pacemaker", "paced rhythm"),
    "1AVB": ("first degree AV block", "prolonged PR interval", "delayed AV conduction"),
    "CRBBB": ("complete right bundle branch block", "RBBB, wide QRS"),
    "IRBBB": ("incomplete right bundle branch block", "partial RBBB"),
    "CLBBB": ("complete left bundle branch block", "LBBB, wide QRS"),
    "LAFB": ("left anterior fascicular block", "left anterior hemiblock, left axis"),
    "LPFB": ("left posterior fascicular block", "left posterior hemiblock, right axis"),
    "IMI": ("inferior myocardial infarction", "old inferior infarct", "inferior scar"),
    "AMI": ("anterior myocardial infarction", "old anterior infarct", "anterior scar"),
    "ASMI": ("anteroseptal myocardial infarction", "septal infarct", "anteroseptal scar"),
    "ILMI": ("inferolateral myocardial infarction", "infarct, inferolateral"),
    "ALMI": ("anterolateral myocardial infarction", "infarct, anterolateral"),
    "LVH": ("left ventricular hypertrophy", "LVH, high voltage", "thick left ventricle"),
    "RVH": ("right ventricular hypertrophy", "RVH, thick right ventricle"),
    "LAO/LAE": ("left atrial enlargement", "enlarged left atrium"),
    "RAO/RAE": ("right atrial enlargement", "enlarged right atrium"),
    "ISC_": ("ischemic ST-T changes", "ischemia of the myocardium"),
    "NST_": ("non-specific ST changes", "minor ST change"),
    "NDT": ("non-diagnostic T abnormalities", "flat or minor T wave change"),
    "STD_": ("ST depression", "depressed ST segment"),
    "STE_": ("ST elevation", "elevated ST segment"),
    "INVT": ("inverted T waves", "T wave inversion"),
    "LNGQT": ("long QT interval", "prolonged QT, late repolarization"),
    "LVOLT": ("low QRS voltages", "small QRS complexes"),
}
# Words for the five classes a diagnostic statement belongs to, said beside some captions.
CLASS_WORDS: dict[str, tuple[str, ...]] = {
    "NORM": ("normal heart", "healthy tracing"),
    "MI": ("infarction, myocardial scar", "infarct, Q waves"),
    "STTC": ("repolarization change", "ST-T changes of repolarization"),
    "CD": ("conduction disturbance", "abnormal conduction, block"),
    "HYP": ("hypertrophy", "enlarged heart chamber"),
}
OPENINGS = (
    "ECG findings: {}.", "This ECG shows {}.", "{}.", "Interpretation: {}.",
    "The tracing was read as {}.",
)


@dataclass(frozen=True)
class Captions:
    """`full` (n) the paper's form; `variants` (n, W) wordings, index 0 the full one, then short
    ones.
    """

    full: list[str]
    variants: list[list[str]]

    def all_texts(self, rows=None) -> list[str]:
        """Every wording of `rows` (default: all) in one list."""
        chosen = self.variants if rows is None else [self.variants[r] for r in rows]
        return [text for wordings in chosen for text in wordings]


def write_captions(
    table: pd.DataFrame, statements: pd.DataFrame, notes: Notes, seed: int = 0, n_short: int = 4
) -> Captions:
    """One full caption and `n_short` shorter wordings per row of `table`.

    Every SCP code of a record is named, also those of likelihood 0 (PTB-XL writes 0 where none was
    given, as for all rhythm codes). Needs columns age, sex, scp_codes; deterministic in `seed`.
    """
    full, variants = [], []
    statements = _as_dicts(statements)
    columns = (table["ecg_id"], table["age"], table["sex"], table["scp_codes"])
    for ecg_id, age, sex, codes in zip(*columns):
        # Challenge sources name their ECGs in letters.
        number = zlib.crc32(ecg_id.encode()) if isinstance(ecg_id, str) else int(ecg_id)
        rng = np.random.default_rng([seed, number])
        names = [describe(code, statements) for code in codes]
        seen = [notes.answer(name, code) for name, code in zip(names, codes)]
        full.append(three_parts(demographics(age, sex), names, seen))
        short = [short_wording(codes, seen, statements, rng) for _ in range(n_short)]
        variants.append([full[-1], *short])
    return Captions(full, variants)


def demographics(age: float, sex: float) -> str:
    """`47-year-old male patient`; an unknown age is left out, ages of 90 mean 90 or more."""
    person = {0: "male", 1: "female"}.get(sex, "adult")  # 0.0 is 0; NaN is neither
    if not np.isfinite(age):
        return f"This patient is a {person} of unknown age."
    years = "an over 89" if age >= 90 else f"a {int(age)}"
    return f"This patient is {years} year-old {person}."


def three_parts(person: str, findings: list[str], seen: list[str]) -> str:
    """Demographics, findings, waveform text: the three parts of the paper's Fig. 2."""
    said = ", ".join(findings) if findings else "no statement"
    waves = " ".join(dict.fromkeys(text for text in seen if text))
    waveform = f"\nPotential ECG waveforms: {waves}" if waves else ""
    return f"{person} ECG Findings: {said}.{waveform}"


def short_wording(codes: Mapping[str, float], seen: list[str], statements, rng) -> str:
    """Some of the findings in random order and wording; now and then with their class, or one note.

    Half of the wordings name every finding, the others one or two: a text encoder that only ever
    meets whole lists cannot tell what a single finding means (without "sinus rhythm" beside it,
    "infarction" would read as a rhythm that is not sinus).
    """
    names, keys = [], list(codes)
    order = rng.permutation(len(codes))
    if rng.random() < 0.5:
        common_last = sorted(order, key=lambda i: keys[i] == "SR")  # said of most, it says least
        order = common_last[: rng.integers(1, 3)]
    for i in order:
        choices = (describe(keys[i], statements), *SYNONYMS.get(keys[i], ()))
        names.append(choices[rng.integers(len(choices))])
    classes = dict.fromkeys(class_of(keys[i], statements) for i in order)
    words = [CLASS_WORDS[c] for c in classes if c in CLASS_WORDS]
    if words and rng.random() < 0.5:  # the class beside the findings, or in their place
        names = [] if rng.random() < 0.3 else names
        chosen = words[rng.integers(len(words))]
        names.append(chosen[rng.integers(len(chosen))])
    text = OPENINGS[rng.integers(len(OPENINGS))].format(", ".join(names) or "no statement")
    waves = [seen[i] for i in order if seen[i] and keys[i] not in ("SR", "NORM")]
    return f"{text} {waves[0]}" if waves and rng.random() < 0.25 else text


def describe(code: str, statements: pd.DataFrame | dict) -> str:
    """The English description of an SCP code, or the code itself where the table lacks it."""
    return _as_dicts(statements)["description"].get(code) or code


def class_of(code: str, statements: pd.DataFrame | dict) -> str:
    """The diagnostic superclass of a code ("" for form and rhythm codes)."""
    return _as_dicts(statements)["diagnostic_class"].get(code) or ""


def _as_dicts(statements) -> dict[str, dict[str, str]]:
    """The two columns used here as dicts; looking codes up in a DataFrame is a hundred times
    slower.
    """
    if isinstance(statements, dict):
        return statements
    names = ("description", "diagnostic_class")
    return {n: {k: v for k, v in statements[n].items() if isinstance(v, str)} for n in names}
