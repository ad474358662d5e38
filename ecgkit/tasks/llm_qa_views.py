"""Which ECGs, seen through which leads, a question's prompt is about.

A question whose options are the twelve leads: twelve views, each of one lead (the other eleven are
zeros for the classifier). One that names a lead or a group of leads: these leads alone; a group
inside a diagnosis ("infarction in inferior leads") names no leads. All others: the whole ECG. Two
ECGs: the same for both, labelled by their order.

reference (`quirks=True`) repeats two faults of the published script: the twelve views are cut from
the same tensor in place, so that after lead I nothing is left of the others; and a question about
two ECGs that names leads is shown the first ECG alone. There "posterior leads" are V4-V6, as in
`grounding_leads`.

Source: Oh et al. 2023, llm_modeling, as read in the kit's notes on it.

Usage:

    views_of("single-verify", "Is there static noise in lead II?", ("no", "yes"), 7)
    # (View("Interpretation of the ECG, lead II only", 7, (1,)),)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from ecgkit.data.grounding_leads import ENTIRE, lead_groups
from ecgkit.text.llm_prompts import ORDER
from ecgkit.types import LEADS

# Groups of leads in these name a place in the heart, or are part of a statement's own name.
_IN_A_NAME = re.compile(
    r"(infarction|injury|isch[a]?emi[ac]|ischemic st-t changes|low qrs voltages?) in (the )?"
    r"(\w+( and \w+)? )leads", re.I,
)  # fmt: skip


class View(NamedTuple):
    """An ECG of the store (`row`) through `leads` (positions in LEADS, () = all are zeros)."""

    label: str
    row: int
    leads: tuple[int, ...]


def views_of(
    question_type: str, question: str, options: Sequence[str], row1: int, row2: int = -1,
    quirks: bool = False,
) -> tuple[View, ...]:  # fmt: skip
    """The views of one question, in the order of its prompt. row2: -1 = it is about one ECG."""
    protocol = "reference" if quirks else "paper"
    pairing = question_type.split("-")[0]
    ecgs = [("the ECG", row1)]
    if row2 >= 0:
        ecgs = list(zip((f"the {name}" for name in ORDER[pairing]), (row1, row2)))
    if asks_for_leads(options):
        return tuple(
            View(f"Interpretation of {ecg}, lead {lead} only", row, (i,) if not quirks or i == 0
                 else ())
            for ecg, row in (ecgs[:1] if quirks else ecgs) for i, lead in enumerate(LEADS)
        )  # fmt: skip
    name, leads = named_leads(question, protocol)
    if name and quirks:
        ecgs = ecgs[:1]
    only = f", {name} only" if name else ""
    return tuple(View(f"Interpretation of {ecg}{only}", row, leads) for ecg, row in ecgs)


def asks_for_leads(options: Sequence[str]) -> bool:
    """Whether the options are the twelve leads."""
    return set(options) == {f"lead {lead}" for lead in LEADS}


def named_leads(question: str, protocol: str = "paper") -> tuple[str, tuple[int, ...]]:
    """(names as in `lead_groups`, positions in LEADS) that a question names; ("", all) for none."""
    groups, pattern = _groups(protocol)
    text = _IN_A_NAME.sub(" ", question)
    found = list(dict.fromkeys(groups[m.group().lower()] for m in pattern.finditer(text)))
    if not found:
        return "", ENTIRE
    leads = tuple(sorted({lead for _, own in found for lead in own}))
    return " and ".join(name for name, _ in found), leads


@lru_cache
def _groups(protocol: str):
    groups = {name.lower(): (name, leads) for name, leads in lead_groups(protocol).items()}
    names = sorted(groups, key=len, reverse=True)
    return groups, re.compile(rf"\b(?:{'|'.join(map(re.escape, names))})\b", re.I)
