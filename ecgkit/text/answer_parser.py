"""From a chat model's reply to the options it names.

sound (`parse`), in this order:
1. what a model thinks aloud (<think> ... </think>) and everything up to the last "answer:" or
   "answer is" is passed over;
2. options are looked for as whole words, capitals or not, the longest first, so that "not sure" is
   never read as "no", nor "lead II" as "lead I"; "leads I, II and aVF" or "V1-V3" are three leads;
3. "none" stands for the empty set where no other option is named; beside one it is a word like any
   other ("none of the other leads");
4. of a yes-or-no question one answer is wanted: where several are named, the one the reply begins
   with, else none of them.
What names no option is UNPARSED, and counted. Negations are not read: "not lead I" names lead I.

reference (`parse_reference`): the published matching, faults included. The reply is lower-cased and
the class names are not; the names are tried in the order of the list, so "no" is found in "not
sure" and in "none". A reply without any name is the empty set, never unparsed.
Source: ECG-QA's llm_modeling (Oh et al. 2023), as read in the kit's notes on it.

Usage:

    parse("I am not sure.", ("no", "not sure", "yes"), "verify")            # {"not sure"}
    parse("Cannot say", ("no", "yes"), "verify") is UNPARSED                # True
    parse_reference("Not sure", ("no", "not sure", "yes"), "verify")        # {"no"}
    score(UNPARSED, {"yes"})                                                # False
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import lru_cache

from ecgkit.types import LEADS

UNPARSED = None
NONE = "none"
_THOUGHT = re.compile(r"<think(ing)?>.*?(</think(ing)?>|$)", re.S | re.I)
_ANSWER = re.compile(r"\banswers?\s*(?:\*\*)?(?::|\bis\b|\bare\b)", re.I)
_LEAD = "|".join(sorted(LEADS, key=len, reverse=True))
_CHEST = re.compile(r"\bV([1-6])\s*(?:-|–|to|through)\s*V?([1-6])\b", re.I)
_JOINED = re.compile(
    rf"\bleads?:?\s+(?:{_LEAD})\b(?:\s*(?:,|&|;|/|\band\b|\bor\b)+\s*(?:leads?\s+)?(?:{_LEAD})\b)+",
    re.I,
)
_BARE_LEADS = re.compile(rf"\W*(?:{_LEAD})\b(?:\W+(?:and\W+)?(?:{_LEAD})\b)*\W*", re.I)


def parse(reply: str, options: Sequence[str], form: str) -> frozenset[str] | None:
    """The options that `reply` names, as `options` writes them; empty for "none"; or UNPARSED.

    form: verify | choose | query; "none" counts where it is not verify.
    """
    text = _answer_part(reply)
    if options and all(option.startswith("lead ") for option in options):
        text = _leads_spelt_out(text)
    found = [match.group().lower() for match in _pattern(tuple(options), form).finditer(text)]
    named = {option.lower(): option for option in options}
    said = [named[word] for word in found if word in named]
    if form == "verify" and len(set(said)) > 1:
        return frozenset(said[:1]) if _begins_with(text, said[0]) else UNPARSED
    if said:
        return frozenset(said)
    return frozenset() if found else UNPARSED


def parse_reference(reply: str, options: Sequence[str], form: str) -> frozenset[str]:
    """What the published matching finds in `reply`; {"none"} is its empty set.

    options: in the order of the published class list.
    """
    names = [*options] if form == "verify" else [*options, NONE]
    # Only a name's first pair of parentheses is escaped, as published.
    patterns = [name.replace("(", r"\(", 1).replace(")", r"\)", 1) for name in names]
    return frozenset(m.group() for m in re.finditer("|".join(patterns), reply.lower()))


def score(parsed: frozenset[str] | None, gold: Collection[str]) -> bool:
    """Exact match of a sound reading; an unparsed reply is wrong. gold: empty = none."""
    return parsed is not UNPARSED and parsed == frozenset(gold) - {NONE}


def score_reference(found: frozenset[str], gold: Collection[str]) -> bool:
    """Exact match as published: the gold answers are lower-cased, the empty set is {"none"}."""
    return found == (frozenset(name.lower() for name in gold) or frozenset({NONE}))


def reachable_by_reference(options: Sequence[str], gold: Collection[str], form: str) -> bool:
    """Whether any reply can count as right under the published matching: each gold answer must be
    found when the reply is the gold answers themselves, and nothing else.
    """
    said = ", ".join(gold) or ("None" if form != "verify" else "")
    return score_reference(parse_reference(said, options, form), gold)


# --- pieces ---------------------------------------------------------------------------------------


def _answer_part(reply: str) -> str:
    text = _THOUGHT.sub(" ", reply).rsplit("</think>", 1)[-1]
    ends = [match.end() for match in _ANSWER.finditer(text)]
    after = text[ends[-1] :] if ends else ""
    return " ".join((after if after.strip(" .*\n") else text).split())


@lru_cache(maxsize=4096)
def _pattern(options: tuple[str, ...], form: str) -> re.Pattern:
    names = options if form == "verify" else (*options, NONE)
    longest_first = sorted(names, key=len, reverse=True)
    return re.compile("|".join(rf"(?<!\w){re.escape(n)}(?!\w)" for n in longest_first), re.I)


def _leads_spelt_out(text: str) -> str:
    """ "leads I, II and aVF", and a reply of lead names alone, with "lead" before each name."""
    text = _CHEST.sub(_chest_leads, text)
    if _BARE_LEADS.fullmatch(text):
        return _prefixed(text)
    return _JOINED.sub(lambda match: _prefixed(match.group()), text)


def _chest_leads(match: re.Match) -> str:
    first, last = int(match[1]), int(match[2])
    return ", ".join(f"V{i}" for i in range(first, last + 1)) or match.group()


def _prefixed(text: str) -> str:
    return ", ".join(f"lead {name}" for name in re.findall(rf"\b(?:{_LEAD})\b", text, re.I))


def _begins_with(text: str, option: str) -> bool:
    return re.match(rf"\W*{re.escape(option)}(?!\w)", text, re.I) is not None
