"""The lookup reader: what a perfect reader of the prompt could answer, without a language model.

It understands each question without fail, as it takes what is asked about from ECG-QA's own columns
(attribute; for two ECGs the template's meaning and the names in the question), and then only looks
up whether the classifier's findings in the blocks hold it. So it is the ceiling of what the blocks
hold, not a model: a language model is far from it where it misreads, and may pass it where it knows
how findings go together.

Not in the blocks, and so not answered well: "not sure", where an infarction lies, a stage.

Usage:

    answer = look_up(question, views, findings)          # frozenset of options
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from ecgkit.data import qa_vocabulary as words
from ecgkit.data.grounding_leads import NORMAL_RANGE, attribute_name
from ecgkit.data.qa_templates import FIRST_ID
from ecgkit.data.qa_templates_pairs import RELATIONS
from ecgkit.tasks.llm_qa_findings import Findings
from ecgkit.tasks.llm_qa_views import View, asks_for_leads
from ecgkit.types import LEADS

NAME = "lookup reader (no LLM)"


class Question(NamedTuple):
    """What is known of one question; `attribute` () for one about two ECGs."""

    question_type: str
    template_id: int
    text: str
    options: tuple[str, ...]
    attribute: tuple[str, ...] = ()

    @property
    def form(self) -> str:
        return self.question_type.rsplit("-", 1)[1]


def look_up(question: Question, views: Sequence[View], findings: Findings) -> frozenset[str]:
    """The options the findings in the blocks speak for; empty = none."""
    there = [findings.positive(view) for view in views]
    if question.question_type.startswith("comparison"):
        return _compare(question, there, findings.classifier.classes)
    if not question.attribute:
        return frozenset({"no"}) if question.form == "verify" else frozenset()
    if question.form == "verify":
        return frozenset({"yes" if _has(there[0], question.attribute[0]) else "no"})
    if asks_for_leads(question.options):
        asked = question.attribute[0]
        return frozenset(f"lead {lead}" for lead, one in zip(LEADS, there) if _has(one, asked))
    found = (a for a in question.attribute if _has(there[0], a) and a == attribute_name(a))
    return frozenset(_option(name, question.options) for name in found)


def _has(positive: frozenset[str], attribute: str) -> bool:
    return attribute_name(attribute) in positive or attribute in positive


def _option(attribute: str, options: Sequence[str]) -> str:
    """A measure's "<range> of <measure>" is answered by its range or its name."""
    if NORMAL_RANGE not in attribute:
        return attribute
    place, measure = attribute.split(" of ", 1)
    return place if place in options else measure


# --- two ECGs -------------------------------------------------------------------------------------


def _compare(question: Question, there: list[frozenset[str]], classes) -> frozenset[str]:
    kind, states = _meaning().get(question.template_id, ("scp_code", None))
    numeric = kind == "numeric_feature"
    before, now = there[0], there[-1]

    def holds(name: str) -> bool:
        return states == (_state(before, name, numeric), _state(now, name, numeric))

    if question.form == "query":
        return frozenset(name for name in question.options if holds(name))
    name = named_in(question.text, tuple(classes), numeric)
    return frozenset({"yes" if name and holds(name) else "no"})


def _state(positive: frozenset[str], name: str, numeric: bool) -> int:
    """1 = there; of a measure: out of its normal range."""
    if numeric:
        return int(any(f"{side} the normal range of {name}" in positive
                       for side in ("above", "below")))  # fmt: skip
    return int(name in positive)


@lru_cache
def _meaning() -> dict[int, tuple[str, tuple[int, int]]]:
    """template_id -> (attribute type, (before, now)) of each template about two ECGs."""
    found = {}
    for (_, kind, form), first in FIRST_ID.items():
        asked = [r for r in RELATIONS[kind].values() if form == "verify" or r.query]
        found |= {first + i: (kind, relation.states) for i, relation in enumerate(asked)}
    return found


def named_in(text: str, classes: tuple[str, ...], numeric: bool = False) -> str:
    """The class (numeric: the measure) that a question's words name, the longest; "" for none."""
    names, pattern = _names(classes, numeric)
    found = pattern.search(text.lower())
    return names[found.group()] if found else ""


@lru_cache
def _names(classes: tuple[str, ...], numeric: bool):
    known = words.MEASURES if numeric else classes
    names = {words.spoken(name).lower(): name for name in known}
    names |= {name.lower(): name for name in known}
    longest_first = sorted(names, key=len, reverse=True)
    options = "|".join(map(re.escape, longest_first))
    return names, re.compile(rf"(?<!\w)(?:{options})(?!\w)")
