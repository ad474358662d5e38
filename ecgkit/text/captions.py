"""Captions for pretraining: who the patient is, what the ECG shows, and how that looks.

`write_captions` turns a cohort's table into several wordings per record, whatever its source says
(`text/findings.py`); `text/prompts.py` holds the wordings kept back for zero-shot evaluation.

Source: Yu et al., ESI (TMLR 2024), section 3.1 and Fig. 2: demographics, findings, waveform text.

Usage:

    captions = write_captions(cohort.table, cohort.statements, assistant, seed=0)
    captions.full[0]         # the paper's three-part prompt of row 0
    captions.variants[0]     # list of wordings of row 0, the full one first
    captions.report          # what got no waveform text, and why
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ecgkit.text.findings import (
    KNOWN,
    SUMMARY,
    TECHNICAL,
    UNKNOWN,
    Finding,
    Reader,
    descriptions,
)

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


WITHOUT_TEXT = ("no statement", TECHNICAL, SUMMARY, UNKNOWN, "no note")


@dataclass(frozen=True)
class Captions:
    """`full` (n) the paper's form; `variants` (n, W) wordings, index 0 the full one, then short
    ones; `report` what has no waveform text: index WITHOUT_TEXT, columns distinct, ecgs, example.
    """

    full: list[str]
    variants: list[list[str]]
    report: pd.DataFrame = field(default_factory=lambda: count_without_text([], {}))

    def all_texts(self, rows=None) -> list[str]:
        """Every wording of `rows` (default: all) in one list."""
        chosen = self.variants if rows is None else [self.variants[r] for r in rows]
        return [text for wordings in chosen for text in wordings]


def write_captions(
    table: pd.DataFrame, statements: pd.DataFrame, assistant, seed: int = 0, n_short: int = 4
) -> Captions:
    """One full caption and `n_short` shorter wordings per row of `table`: one ECG in, one out.

    `assistant` says how a finding looks (`.answers`, or `.answer` alone); None = no waveform text.
    Every SCP code of a record is named, also those of likelihood 0 (PTB-XL writes 0 where none was
    given, as for all rhythm codes). Statements about the recording and those the kit does not know
    are named as said, without waveform text. Needs columns ecg_id, age, sex, scp_codes;
    deterministic in `seed` and ecg_id. Raises what the assistant raises.
    """
    found = Reader(statements).read(table)
    seen = ask(assistant, {finding for findings in found for finding in findings})
    classes = _classes(statements)
    full, variants = [], []
    for ecg_id, age, sex, findings in zip(table["ecg_id"], table["age"], table["sex"], found):
        # Challenge sources name their ECGs in letters.
        number = zlib.crc32(ecg_id.encode()) if isinstance(ecg_id, str) else int(ecg_id)
        rng = np.random.default_rng([seed, number])
        texts = [seen[finding] for finding in findings]
        names = [finding.name for finding in findings]
        full.append(three_parts(demographics(age, sex), names, texts))
        short = [short_wording(findings, texts, classes, rng) for _ in range(n_short)]
        variants.append([full[-1], *short])
    counted = seen if assistant is not None else None
    return Captions(full, variants, count_without_text(found, counted))


def ask(assistant, findings: Iterable[Finding]) -> dict[Finding, str]:
    """Waveform text of each finding, "" where there is none; equal questions are asked once."""
    findings = list(findings)
    asks = sorted({pair for finding in findings for pair in finding.asks})
    if assistant is None or not asks:
        said = {}
    elif hasattr(assistant, "answers"):
        said = {pair: answer.text for pair, answer in assistant.answers(asks).items()}
    else:
        said = {pair: assistant.answer(*pair) for pair in asks}
    return {f: " ".join(text for pair in f.asks if (text := said.get(pair, ""))) for f in findings}


def count_without_text(found: Sequence[Sequence[Finding]], seen) -> pd.DataFrame:
    """Per reason in WITHOUT_TEXT the distinct statements, the ECGs that have one, and the commonest
    of them. `seen` finding -> text; None (no assistant was asked) counts nothing as "no note".
    """
    ecgs = dict.fromkeys(WITHOUT_TEXT, 0)
    times: dict[str, dict[str, int]] = {reason: {} for reason in WITHOUT_TEXT}
    for findings in found:
        reasons = set() if findings else {"no statement"}
        for finding in findings:
            kind = finding.kind
            if kind == KNOWN and (seen is None or seen[finding]):
                continue
            reason = "no note" if kind == KNOWN else kind
            reasons.add(reason)
            times[reason][finding.name] = times[reason].get(finding.name, 0) + 1
        for reason in reasons:
            ecgs[reason] += 1
    lines = [(len(n), ecgs[r], max(n, key=n.get) if n else "") for r, n in times.items()]
    index = pd.Index(WITHOUT_TEXT, name="reason")
    return pd.DataFrame(lines, index=index, columns=["distinct", "ecgs", "example"])


def demographics(age: float, sex: float) -> str:
    """`This patient is a 47 year-old male.`; ages of 90 mean 90 or more."""
    person = {0: "male", 1: "female"}.get(sex, "person")  # 0.0 is 0; NaN is neither
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


def short_wording(findings: Sequence[Finding], seen: list[str], classes, rng) -> str:
    """Some of the findings in random order and wording; now and then with their class, or one note.

    Half of the wordings name every finding, the others one or two: a text encoder that only ever
    meets whole lists cannot tell what a single finding means (without "sinus rhythm" beside it,
    "infarction" would read as a rhythm that is not sinus). `classes`: code -> superclass.
    """
    names, heart = [], [i for i, f in enumerate(findings) if f.kind != TECHNICAL]
    order = rng.permutation(heart or len(findings))
    if rng.random() < 0.5:
        common_last = sorted(order, key=lambda i: findings[i].is_background)  # it says least
        order = common_last[: rng.integers(1, 3)]
    for i in order:
        choices = _ways_to_say(findings[i])
        names.append(choices[rng.integers(len(choices))])
    of = dict.fromkeys(classes.get(code, "") for i in order for code in findings[i].codes)
    words = [CLASS_WORDS[c] for c in of if c in CLASS_WORDS]
    if words and rng.random() < 0.5:  # the class beside the findings, or in their place
        names = [] if rng.random() < 0.3 else names
        chosen = words[rng.integers(len(words))]
        names.append(chosen[rng.integers(len(chosen))])
    text = OPENINGS[rng.integers(len(OPENINGS))].format(", ".join(names) or "no statement")
    with_wave = rng.random() < 0.25  # drawn with or without an assistant: the words stay the same
    waves = [seen[i] for i in order if seen[i] and findings[i].codes not in (("SR",), ("NORM",))]
    return f"{text} {waves[0]}" if waves and with_wave else text


def _ways_to_say(finding: Finding) -> tuple[str, ...]:
    if not finding.firm:
        return (finding.name,)  # a synonym would drop its doubt
    return (finding.name, *SYNONYMS.get(finding.codes[0], ()))


def describe(code: str, statements) -> str:
    """The English description of an SCP code, or the code itself where the table lacks it."""
    return descriptions(statements).get(code) or code


def _classes(statements: pd.DataFrame) -> dict[str, str]:
    """code -> diagnostic superclass, for the codes that have one."""
    said = statements["diagnostic_class"].items()
    return {code: name for code, name in said if isinstance(name, str)}
