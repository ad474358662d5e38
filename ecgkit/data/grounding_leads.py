"""What one template question says about which leads: (attribute, leads, yes or no), or nothing.

The rules of the upper-bound experiments (Oh et al. 2023; ecgqa.md 2.2). They depend on the question
alone, never on the ECG, so each distinct question is read once, however many ECGs it is put to.
Published wordings are told by their text, the kit's own by their template's answers.

reference: as the published script. Posterior leads alone are V4-V6, but V1-V3 where they stand in
inferoposterior and inferoposterolateral; the text of a verify question is searched for nine groups;
MIMIC's "Myocardial infarction in X leads" becomes lower-case.
paper: posterior leads are V1-V3 everywhere (they mirror the posterior wall); the text is searched
for all groups; an attribute keeps its capital.

Usage:

    asked = Asked("single-verify", "Does this ECG show static noise in lead II?", ("static noise",),
                  ("yes",))
    read_question(asked)            # [Piece("static noise", (1,), 1)], or a Skip
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ecgkit.types import LEADS, ConfigError

PROTOCOLS = ("reference", "paper")
ENTIRE = tuple(range(len(LEADS)))
LIMB, CHEST = tuple(range(6)), tuple(range(6, 12))
# Yes and no about the same leads of the same ECG: "no" wins for these (a location is asked with its
# likelihood, the attribute as a whole without).
MAY_CONTRADICT = ("myocardial infarction", "Myocardial infarction", "ischemic ST-T changes")
NORMAL_RANGE = " the normal range of "

_UNDATED = ("unknown stage of myocardial infarction", "none of myocardial infarction")
_EXCLUDING, _INCLUDING = "excluding uncertain symptoms", "including uncertain symptoms"
# Voltage criteria are met by the limb or the chest leads together, never by one lead.
_BY_GROUP = (
    "voltage criteria (qrs) for left ventricular hypertrophy",
    "low qrs voltages in the frontal and horizontal leads",
    "high qrs voltage",
)
_LEAD = r"lead (?:" + "|".join(sorted(LEADS, key=len, reverse=True)) + r")\b"
_NAMED = re.compile(rf"\b{_LEAD}|(?<= in )(?:limb|chest) leads")
_SITED = re.compile(
    r"([Mm]yocardial infarction|subendocardial injury|ischemic ST-T changes|ischemic) in .*leads"
)
_SITE = re.compile(r"\bin (.*leads)")
_SEARCHED = (
    "anterior", "inferior", "frontal and horizontal", "septal", "lateral", "posterior", "frontal",
    "horizontal", "diffuse",
)  # fmt: skip


class Asked(NamedTuple):
    """One question without its ECG. `by_lead`: its template's answers are the twelve leads."""

    question_type: str
    question: str
    attribute: tuple[str, ...] | None
    answer: tuple[str, ...]
    test: bool = False
    by_lead: bool = False


class Piece(NamedTuple):
    """`attribute` is seen (1) or not (0) in `leads`, positions in LEADS."""

    attribute: str
    leads: tuple[int, ...]
    label: int


class Skip(NamedTuple):
    """Why a question says nothing of the kind."""

    reason: str
    sentence: str


def lead_groups(protocol: str = "reference") -> dict[str, tuple[int, ...]]:
    """Name ("lead II", "limb leads", "inferior leads", ...) -> positions in LEADS, ascending.

    Raises ConfigError for an unknown protocol.
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(f"PROTOCOL is {protocol!r}; choose one of {', '.join(PROTOCOLS)}.")
    inferior, anterior, septal, lateral = (1, 2, 5), (8, 9), (6, 7), (0, 4, 10, 11)
    posterior = (6, 7, 8)
    groups = {
        "inferior": inferior, "anterior": anterior, "septal": septal, "lateral": lateral,
        "posterior": posterior if protocol == "paper" else (9, 10, 11),
        "anteroseptal": anterior + septal, "anterolateral": anterior + lateral,
        "inferolateral": inferior + lateral, "inferoseptal": inferior + septal,
        "inferoposterior": inferior + posterior,
        "inferoposterolateral": inferior + posterior + lateral,
        "limb": LIMB, "frontal": LIMB, "chest": CHEST, "horizontal": CHEST,
        "diffuse": ENTIRE, "frontal and horizontal": ENTIRE, "the frontal and horizontal": ENTIRE,
    }  # fmt: skip
    named = {f"lead {name}": (i,) for i, name in enumerate(LEADS)}
    return named | {f"{name} leads": tuple(sorted(leads)) for name, leads in groups.items()}


def attribute_name(attribute: str, protocol: str = "reference") -> str:
    """An attribute without the place of an infarction, injury or ischemia."""
    match = _SITED.search(attribute)
    if match is None:
        return attribute
    name = match.group(1)
    return name.lower() if protocol == "reference" and name.startswith("M") else name


def read_question(asked: Asked, protocol: str = "reference") -> list[Piece] | Skip:
    """What the question and its answer say, piece by piece, or why they say nothing."""
    pairing, form = asked.question_type.split("-")
    if pairing != "single":
        return Skip("two_ecgs", "A comparison says nothing about one ECG alone.")
    if not asked.attribute:
        return Skip("no_attribute", f"{asked.question!r} does not name what it asks about.")
    if form != "verify" and asked.test:
        return Skip("not_verify", "Of the test split only verify questions are used.")
    groups = lead_groups(protocol)
    if form == "query" and (asked.by_lead or "What leads" in asked.question):
        return _which_leads(asked, groups, protocol)
    said = _verify(asked) if form == "verify" else _candidates(asked, form)
    if isinstance(said, Skip):
        return said
    if not said:
        return Skip("nothing_said", f"{asked.question!r} leaves no attribute that is sure.")
    pieces = []
    for attribute, label in said:
        leads = _leads(attribute, asked, form, groups, protocol)
        if leads is None:
            return Skip("unknown_leads", f"{attribute!r} names leads that are no known group.")
        pieces.append(Piece(attribute_name(attribute, protocol), leads, label))
    return pieces


# --- what is said ---------------------------------------------------------------------------------


def _verify(asked: Asked) -> list[tuple[str, int]] | Skip:
    """[(attribute, 1 or 0)]. "excluding uncertain" leaves a no open, "including" a yes."""
    verdict = asked.answer[0]
    if len(asked.attribute) != 1 or len(asked.answer) != 1:
        return Skip("ill_posed", "A verify question needs one attribute and one answer.")
    if verdict == "not sure":
        return Skip("not_sure", "The answer is 'not sure'.")
    open_to = {_EXCLUDING: "no", _INCLUDING: "yes"}
    for words, verdict_left_open in open_to.items():
        if words in asked.question and verdict == verdict_left_open:
            return Skip("uncertain", f"{verdict!r}, {words}: it may be there without being sure.")
    return [(asked.attribute[0], int(verdict == "yes"))]


def _candidates(asked: Asked, form: str) -> list[tuple[str, int]] | Skip:
    """[(attribute, 1 or 0)] of a choose question's options or a query's candidates, as listed."""
    answer, listed = set(asked.answer), asked.attribute
    if _EXCLUDING in asked.question:
        return [(name, 1) for name in sorted(answer - {"none"})]
    if _INCLUDING in asked.question:
        return [(name, 0) for name in listed if name not in answer]
    if form == "query":
        if asked.answer[0] in _UNDATED:
            return Skip("undated", f"{asked.answer[0]!r} is never asked by a verify question.")
        listed = tuple(name for name in listed if name not in _UNDATED)
    return [(name, int(_is_answered(name, answer))) for name in listed]


def _is_answered(attribute: str, answer: set[str]) -> bool:
    """A measure's "<range> of <measure>" is answered by its range (first five letters) or name."""
    if NORMAL_RANGE not in attribute:
        return attribute in answer
    measure = attribute.split(" of ", 1)[1]
    return measure in answer or attribute[:5] in {name[:5] for name in answer}


def _which_leads(asked: Asked, groups: dict, protocol: str) -> list[Piece]:
    """Twelve pieces, one per lead; two where only the limb or chest leads together count."""
    attribute, answer = asked.attribute[0], set(asked.answer)
    name = attribute_name(attribute, protocol)
    if attribute not in _BY_GROUP:
        return [Piece(name, (i,), int(f"lead {lead}" in answer)) for i, lead in enumerate(LEADS)]
    found = {i for i, lead in enumerate(LEADS) if f"lead {lead}" in answer}
    return [Piece(name, leads, int(found.issuperset(leads))) for leads in (LIMB, CHEST)]


# --- where ----------------------------------------------------------------------------------------


def _leads(attribute: str, asked: Asked, form: str, groups: dict, protocol: str):
    """Positions the piece is about: a lead or group the question names, else the attribute's own.

    All twelve where neither names any; None for a group nobody knows.
    """
    named = _NAMED.search(asked.question)
    if named:
        return groups[named.group()]
    if form == "verify":
        searched = [f"{name} leads" for name in _SEARCHED] if protocol == "reference" else groups
        words = "|".join(sorted(searched, key=len, reverse=True))
        after = re.search(rf"{re.escape(attribute)} in ({words})", asked.question)
        if after:
            return groups[after.group(1)]
    own = _SITE.search(attribute)
    return groups.get(own.group(1)) if own else ENTIRE
