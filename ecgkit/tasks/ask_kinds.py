"""What can be asked with examples at hand: one kind per question and attribute, recognised by name.

A kind is a question with its attribute fixed ("template 1 about atrial fibrillation"), whatever its
wording. Its examples come from the training split alone, as many of each answer as the study's
K_SHOT, each of another patient; with them the mapper adapts before it answers.

Usage:

    kinds = collect_kinds(questions, config)
    kind, known = recognise("Is atrial fibrillation present?", kinds)    # None, False: nothing like
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from ecgkit.data.episodes import sound_keys
from ecgkit.data.qa_vocabulary import NAME_OF, spoken

MOST_ANSWERS = 10  # of one kind, commonest first, that get examples
ALIKE = 0.5  # share of common words at which a question that names nothing counts as a known one
_ASKS_YES_NO = "is are was does do did can could should would will has have may might any".split()
_SAY_LITTLE = frozenset(
    "a an the this that of on in for to and do does did is are was be i you it its there here see "
    "seen find found ecg recording tracing".split()
)


@dataclasses.dataclass(frozen=True)
class Kind:
    """One question with its attribute fixed. `rows` (S,) are rows of the store, `examples` the
    question and answer of each; `candidates` the answers it may be given.
    """

    name: str
    question_type: str
    attributes: tuple[str, ...]
    wordings: tuple[str, ...]
    candidates: tuple[str, ...]
    rows: tuple[int, ...]
    examples: tuple[tuple[str, str], ...]

    @property
    def in_words(self) -> str:
        """What the kind is about, for a sentence."""
        if len(self.attributes) <= 2:
            return " or ".join(self.attributes)
        return f'"{self.wordings[0]}"'


# --- from a table of questions --------------------------------------------------------------------


def collect_kinds(questions, config) -> list[Kind]:
    """Every kind of one-ECG question that meta-training's question type covers.

    Kinds whose training examples have one answer alone get no examples: they would teach that
    answer, whatever the ECG. A "not sure" is neither an example nor a candidate.
    """
    table = questions.table
    keep = (table["row2"] < 0).to_numpy()
    if config.question_type == "all":
        keep &= table["question_type"].str.startswith("single-").to_numpy()
    else:
        keep &= (table["question_type"] == config.question_type).to_numpy()
    places = np.flatnonzero(keep)
    columns = ["template_id", "question_id", "attribute_type", "attribute", "answer"]
    groups = defaultdict(list)
    for place, row in zip(
        places.tolist(), table.iloc[places][columns].itertuples(index=False), strict=True
    ):
        for key in sound_keys(*row):
            groups[key.base].append(place)
    of = {name: table[name].to_numpy() for name in table.columns}
    of["said"] = np.array([", ".join(answer) for answer in of["answer"]], dtype=object)
    rng = np.random.default_rng(config.seed)
    return [
        _kind(name, np.array(groups[name]), of, questions, config.k_shot, rng)
        for name in sorted(groups)
    ]


def _kind(name: str, places: np.ndarray, of: dict, questions, k_shot: int, rng) -> Kind:
    chosen = _examples(places[of["split"][places] == "train"], of, k_shot, rng)
    first = places[0]
    return Kind(
        name,
        of["question_type"][first],
        tuple(of["attribute"][first]),
        tuple(dict.fromkeys(of["question"][places])),
        _candidates(questions, first, of["template_id"][first], of["said"][chosen]),
        tuple(of["row1"][chosen].tolist()),
        tuple(zip(of["question"][chosen], of["said"][chosen], strict=True)),
    )


def _examples(places: np.ndarray, of: dict, k_shot: int, rng) -> list[int]:
    """Up to `k_shot` of `places` with each answer, no patient twice, the scarcest answer choosing
    first; [] where there is one answer only. Answers take turns, as context must not end on one.
    """
    said = of["said"][places]
    names, counts = np.unique(said.astype(str), return_counts=True)
    used, chosen, answers = set(), [], set()
    for answer in names[np.argsort(-counts, kind="stable")][:MOST_ANSWERS][::-1]:
        turn = 0
        for place in rng.permutation(places[said == answer]).tolist():
            patient = of["patient1"][place]
            if turn < k_shot and patient not in used:
                used.add(patient)
                answers.add(answer)
                chosen.append((turn, len(answers), place))
                turn += 1
    return [place for *_, place in sorted(chosen)] if len(answers) > 1 else []


def _candidates(questions, place: int, template: int, seen: Sequence[str]) -> tuple[str, ...]:
    """The answers a question is judged on, "none" where its template allows that, and the
    combinations that examples show.
    """
    single = np.array(questions.classes)[questions.valid_mask([place])[0]].tolist()
    allowed = questions.valid[int(template)]
    found = [*single, *(["none"] if "none" in allowed else []), *seen]
    return tuple(dict.fromkeys(answer for answer in found if answer != "not sure"))


# --- from a question in words ---------------------------------------------------------------------


def recognise(question: str, kinds: Sequence[Kind]) -> tuple[Kind | None, bool]:
    """The kind a question is of and whether its very wording is known; (None, False) for no kind.

    A wording that the data do not have is of the kind whose attributes it names (the longest name
    first: "atrial flutter with block" before "atrial flutter") and whose wordings share most words
    with it; a question about no named attribute needs half of its words in common.
    """
    text = _plain(question)
    for kind in kinds:
        if any(_plain(wording) == text for wording in kind.wordings):
            return kind, True
    words = _content(text)
    best, score = None, (0, ALIKE)
    for kind in kinds:
        named = len(kind.attributes) <= 2
        length = sum(_named(name, text) for name in kind.attributes) if named else 0
        if named and (not length or not all(_named(name, text) for name in kind.attributes)):
            continue
        shared = max(_overlap(words, wording) for wording in kind.wordings)
        if (length, shared) > score:
            best, score = kind, (length, shared)
    return best, False


def spell_out(question: str) -> str:
    """SCP codes in capitals as the names that the questions use: "Is LVH there?" asks about left
    ventricular hypertrophy. Codes of two letters stay: they may be leads or words.
    """
    return re.sub(r"\b[0-9A-Z]{3,}\b", lambda m: NAME_OF.get(m.group(), m.group()), question)


def similar_attributes(question: str, kinds: Sequence[Kind], n: int = 3) -> list[str]:
    """Attributes that share most words with a question of no known kind, for a hint."""
    words = _content(question)
    names = {a for kind in kinds for a in kind.attributes if len(kind.attributes) <= 2}
    shared = {name: len(words & _content(name)) for name in names}
    found = [name for name in names if shared[name]]
    return sorted(found, key=lambda name: (-shared[name], len(name), name))[:n]


def guessed_candidates(question: str) -> tuple[str, ...]:
    """Yes and no for a question that begins like one they answer; () for any other."""
    first = _plain(question).split()[:1]
    return ("yes", "no") if first and first[0] in _ASKS_YES_NO else ()


def _named(attribute: str, text: str) -> int:
    """Letters of the attribute's name if the text says it, else 0; "<range> of <measure>" counts
    when both are said.
    """
    names = {_plain(attribute), _plain(spoken(attribute))}
    for name in sorted(names, key=len, reverse=True):
        if _says(text, name):
            return len(name)
    parts = [_plain(part) for part in attribute.split(" of ")]
    split = "range of" in attribute and all(_says(text, part) for part in parts)
    return sum(map(len, parts)) if split else 0


def _says(text: str, name: str) -> bool:
    return f" {name} " in f" {text} "


def _overlap(words: frozenset, wording: str) -> float:
    other = _content(wording)
    return len(words & other) / max(1, len(words | other))


@functools.lru_cache(maxsize=100_000)
def _content(text: str) -> frozenset[str]:
    return frozenset(_plain(text).split()) - _SAY_LITTLE


@functools.lru_cache(maxsize=100_000)
def _plain(text: str) -> str:
    """Lower case, single blanks, no punctuation but what joins a word (st-t, p/q)."""
    return " ".join(re.sub(r"[^\w/+-]+", " ", text.lower()).split())
