"""The 70 question templates of ECG-QA: what each number means, the answers it allows, its wordings.

Numbers, meanings and answer lists are the published ones (PTB-XL version 1.0.2: its
answers_for_each_template.csv), so that a table or a model keyed by template_id holds for both; the
sentences are the kit's own (`qa_templates_single`, `_signal`, `_pairs`).

    1 statement (yes, no, not sure)     2 normal ECG       3 which of two diagnostic groups
    4, 5 which of two diagnoses, uncertain ones included, left out
    6, 7 which of two forms, rhythms    8, 9 all diagnoses, uncertain ones included, left out
    10, 11 all rhythms, forms           12-16 any finding; diagnosis (included, left out); form;
    rhythm    17 form in a lead    18 all forms in a lead    19 all leads with a form
    20-22 heart axis: is it, which of two, which    23-25 stage of infarction, likewise
    26, 27 a noise in a lead, anywhere  28, 29 any noise, likewise   30, 31 which of two noises,
    anywhere, in a lead    32, 33 all noises, likewise    34 all leads with a noise
    35 any extra beat    36-38 kind of extra beat: is it, which of two, all
    39-41 range of a measurement: is it, which of two, which    42 all measurements in a range
    43-46, 47-49 finding gone, new, kept, absent in both: is it, all   (two ECGs of one patient)
    50-53, 54-56 measurement normal now, abnormal now, abnormal still, normal still   (same)
    57-63, 64-70 the same about ECGs of two patients

Usage:

    TEMPLATES[1].wordings[0].format(a="atrial fibrillation")    # flavour `template`
    TEMPLATES[1].wordings[1:]                                    # flavour `paraphrased`
"""

from __future__ import annotations

from dataclasses import dataclass

from ecgkit.data import qa_vocabulary as words
from ecgkit.data.qa_templates_pairs import ORDER, RELATIONS
from ecgkit.data.qa_templates_signal import SIGNAL
from ecgkit.data.qa_templates_single import SINGLE

_NO_YES = ("no", "yes")


@dataclass(frozen=True)
class Template:
    """One question form: its ECG-QA types, the answers it allows, its wordings (slots {a}, {b})."""

    question_type: str
    attribute_type: str
    answers: tuple[str, ...]
    wordings: tuple[str, ...]


def _with_none(names) -> tuple[str, ...]:
    return tuple(sorted([*names, "none"]))


_DIAGNOSES = _with_none(words.DIAGNOSTIC.values())
_FORMS, _RHYTHMS = _with_none(words.FORMS), _with_none(words.RHYTHM.values())
_NOISES, _LEADS = _with_none(words.NOISES), _with_none(words.LEAD_ANSWERS)
# attribute type -> template number -> (verify, choose or query, answers).
_ONE_ECG = {
    "scp_code": {
        1: ("verify", words.VERIFY), 2: ("verify", _NO_YES),
        3: ("choose", _with_none(words.CATEGORIES.values())),
        4: ("choose", _DIAGNOSES), 5: ("choose", _DIAGNOSES),
        6: ("choose", _FORMS), 7: ("choose", _RHYTHMS),
        8: ("query", _DIAGNOSES), 9: ("query", _DIAGNOSES),
        10: ("query", _RHYTHMS), 11: ("query", _FORMS),
        **{number: ("verify", _NO_YES) for number in range(12, 18)},
        18: ("query", _with_none(words.FORMS_WITH_LEADS)), 19: ("query", _LEADS),
    },
    "heart_axis": {
        20: ("verify", _NO_YES), 21: ("choose", _with_none(words.AXES)), 22: ("query", words.AXES),
    },
    "stage_of_infarction": {
        23: ("verify", _NO_YES), 24: ("choose", _with_none(words.STAGES)),
        25: ("query", words.ALL_STAGES),
    },
    "noise": {
        **{number: ("verify", _NO_YES) for number in range(26, 30)},
        30: ("choose", _NOISES), 31: ("choose", _NOISES),
        32: ("query", _NOISES), 33: ("query", _NOISES), 34: ("query", _LEADS),
    },
    "extra_systole": {
        35: ("verify", _NO_YES), 36: ("verify", _NO_YES),
        37: ("choose", _with_none(words.EXTRA_BEATS)), 38: ("query", _with_none(words.EXTRA_BEATS)),
    },
    "numeric_feature": {
        39: ("verify", _NO_YES), 40: ("choose", _with_none(words.RANGES)),
        41: ("query", words.RANGES), 42: ("query", _with_none(words.MEASURES)),
    },
}  # fmt: skip
# The first number of each family about two ECGs; its relations follow one by one.
FIRST_ID = {
    ("consecutive", "scp_code", "verify"): 43,
    ("consecutive", "scp_code", "query"): 47,
    ("consecutive", "numeric_feature", "verify"): 50,
    ("consecutive", "numeric_feature", "query"): 54,
    ("irrelevant", "scp_code", "verify"): 57,
    ("irrelevant", "scp_code", "query"): 61,
    ("irrelevant", "numeric_feature", "verify"): 64,
    ("irrelevant", "numeric_feature", "query"): 68,
}
# The published lists hold what came up. Of two ECGs of one patient these never appeared (48) or
# stayed (49) there; pairs of which they would be an answer are not asked.
NEVER_ANSWERED = {
    48: {"high qrs voltage", "non-specific st elevation"},
    49: {
        words.RHYTHM["BIGU"], "high qrs voltage", "incomplete left bundle branch block",
        "myocardial infarction in inferoposterolateral leads",
        "myocardial infarction in posterior leads", "subendocardial injury in lateral leads",
        "supraventricular tachycardia",
    },
}  # fmt: skip


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())


def _one_ecg() -> dict[int, Template]:
    texts = SINGLE | SIGNAL
    return {
        number: Template(f"single-{form}", attribute_type, tuple(answers), _lines(texts[number]))
        for attribute_type, family in _ONE_ECG.items()
        for number, (form, answers) in family.items()
    }


def _two_ecgs() -> dict[int, Template]:
    found = {}
    for (pair, attribute_type, form), first in FIRST_ID.items():
        texts = [getattr(relation, form) for relation in RELATIONS[attribute_type].values()]
        for number, text in enumerate((t for t in texts if t), first):
            names = words.STATEMENTS if attribute_type == "scp_code" else words.MEASURES
            names = sorted(set(names) - NEVER_ANSWERED.get(number, set()))
            answers = _NO_YES if form == "verify" else _with_none(names)
            wordings = _lines(text.format(a="{a}", **ORDER[pair]))
            kind = f"comparison_{pair}-{form}"
            found[number] = Template(kind, attribute_type, answers, wordings)
    return found


TEMPLATES: dict[int, Template] = _one_ecg() | _two_ecgs()
