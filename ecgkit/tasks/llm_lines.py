"""Lines of text for the small Llama: questions answered from a findings sentence, and notes.

    <s>Question: Is atrial flutter seen? ECG: q waves, atrial flutter. Answer: yes</s>
    <s>Question: What is the rhythm? ECG: q waves, atrial flutter. Answer: atrial flutter</s>
    <s>Atrial flutter: Saw-tooth waves replace the P waves.</s>

The findings sentence is written from the record's own codes and stands where the soft tokens will
stand, so the answer must be read from the context: "yes" by comparing, a name by choosing among the
findings the one that is of the asked kind. What the model gets to know: the words of all attributes
(as any real language model does), never a signal.

Usage:

    lines, held_out, terms = question_lines(questions, cohort, "all", n_lines=15_000)
    notes = note_lines()
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from ecgkit.data.qa_facts import PRESENT, read_facts
from ecgkit.models.prefix_llm import ANSWER, BRIDGE, QUESTION, normalise
from ecgkit.text.passages import read_folder, sentences
from ecgkit.types import DataError

# Share of the lines: to compare (yes or no) is learnt slowest.
LINE_TYPES = {"single-verify": 0.5, "single-choose": 0.2, "single-query": 0.3}
MOST_NAMES = 3  # of an answer; lists of six leads cost a small model more than they teach
NOTHING = "nothing to report."
N_FINDINGS = (1, 1, 2)  # of a sentence, as often for "no" as for "yes": gives nothing away
SEVERAL = 3.0  # how often answers of several names come, against each single answer of a question


@dataclasses.dataclass(frozen=True)
class Line:
    """One question with its findings sentence and answer; `kind` is its question type."""

    question: str
    findings: str
    answer: str
    kind: str = ""

    def parts(self) -> tuple[str, ...]:
        """Texts to be tokenised each by itself, the answer last; joined, they are the line."""
        answer = ANSWER.format(normalise(self.answer))
        return QUESTION.format(self.question), " " + self.findings, BRIDGE, answer


@dataclasses.dataclass(frozen=True)
class Note:
    """One sentence of plain text, without an answer."""

    text: str

    def parts(self) -> tuple[str, ...]:
        return (self.text, "")


def note_lines() -> list[Note]:
    """The kit's knowledge notes by sentence, each after the title of its note."""
    return [
        Note(f"{note.title}: {sentence}")
        for note in read_folder().passages
        for sentence in sentences(note.text)
    ]


def question_lines(
    questions, cohort, question_types: str | Sequence[str] = "all", n_lines: int = 15_000,
    seed: int = 0, n_held_out: int = 256,
) -> tuple[list[Line], list[Line], list[str]]:  # fmt: skip
    """Returns (lines, held-out lines, terms) made of the training split's questions about one ECG.

    question_types: one, several, or "all" (verify, choose and query). Inside a type questions and
    their answers are drawn evenly; a wording is one the split has for that question; the findings
    are what the record's own table row or answers state, the answer among them, and no other that
    could answer the same question. Answers of more than `MOST_NAMES` names are left out. Held-out
    lines (`n_held_out` of each type) are about other records. terms: names that may stand in a
    findings sentence. Raises DataError when the split has no such question.
    """
    asked = _asked(questions, _types(question_types))
    terms = sorted({name for names in asked["positive"] for name in names})
    found = _findings(asked, cohort, terms)
    rng = np.random.default_rng(seed)
    records = asked["row1"].unique()
    apart = set(rng.permutation(records)[: max(1, len(records) // 20)].tolist())
    asked["apart"] = asked["row1"].isin(apart)
    lines, held_out = [], []
    total = sum(LINE_TYPES[kind] for kind in asked["kind"].unique())
    for kind, of_type in asked.groupby("kind"):
        for rows, n, into in (
            (of_type[~of_type["apart"]], round(n_lines * LINE_TYPES[kind] / total), lines),
            (of_type[of_type["apart"]], n_held_out, held_out),
        ):
            for row in _evenly(rows, n, rng).itertuples():
                sentence = _sentence(row, found[row.row1], rng)
                into.append(Line(row.question, sentence, row.said, row.kind))
    return [lines[i] for i in rng.permutation(len(lines))], held_out, terms


def _types(question_types: str | Sequence[str]) -> tuple[str, ...]:
    if question_types == "all":
        return tuple(LINE_TYPES)
    return (question_types,) if isinstance(question_types, str) else tuple(question_types)


def single_names(terms: Sequence[str]) -> list[str]:
    """The names that deserve a token: of "q waves in lead V1" the finding and the lead."""
    parts = (re.split(r" in (?=lead )", term) for term in terms)
    return sorted({name for pieces in parts for name in pieces})


# --- what is asked, and what is there -------------------------------------------------------------


def _asked(questions, types: tuple[str, ...]) -> pd.DataFrame:
    """Training questions about one ECG: row1, question, kind (type), key (template and attributes),
    said, positive (names found) and rivals (names that would change the answer).
    """
    rows = [questions.index("train", kind, single_only=True) for kind in types]
    table = questions.table.loc[np.concatenate(rows)]
    fits = table["answer"].map(lambda answer: answer != ["not sure"] and len(answer) <= MOST_NAMES)
    table = table[fits]
    if table.empty:
        raise DataError(
            f"The training split has no {' or '.join(types)} question to make the language model's "
            "text from; give more of ECG-QA or choose another QUESTION_TYPE."
        )
    columns = ["question_type", "attribute", "question", "answer"]
    positive = [_found(*row) for row in table[columns].itertuples(index=False)]
    asked = pd.DataFrame({
        "row1": table["row1"], "question": table["question"], "kind": table["question_type"],
        "key": table["template_id"].astype(str) + " " + table["attribute"].map(str),
        "said": table["answer"].map(", ".join), "positive": positive,
    })  # fmt: skip
    n_said = asked.groupby("key")["said"].transform("nunique")
    if (n_said > 1).any():
        asked = asked[n_said > 1]  # a question with one answer teaches nothing
    # A verify question names its rival itself; others have the names that ever answered them.
    rivals = asked.groupby("key")["positive"].agg(_union)
    return asked.assign(rivals=asked["key"].map(rivals)).reset_index(drop=True)


def _union(column) -> set[str]:
    return {name for names in column for name in names}


def _found(kind: str, attribute, question: str, answer: list[str]) -> tuple[str, ...]:
    """What a question and its answer say is there: the asked attribute if "yes", else the answers
    themselves.
    """
    if kind.endswith("verify"):
        names = [", ".join(attribute or [])] if answer == ["yes"] else []
    else:
        names = [name for name in answer if name != "none"]
    lead = re.search(r"\blead (aV[RLF]|V[1-6]|I{1,3})\b", question, re.IGNORECASE)
    return tuple(
        f"{name} in {lead.group(0)}" if lead and "lead" not in name else name for name in names
    )


def _findings(asked: pd.DataFrame, cohort, terms: list[str]) -> dict[int, list[str]]:
    """Record -> what its table row (codes, notes) and its answers say it has, as far as some
    question is about it.
    """
    answered = asked.groupby("row1")["positive"].agg(_union)
    facts = read_facts(cohort.table, cohort.truth)
    states = {name: facts.state[name] for name in terms if name in facts.state}
    return {
        row: sorted(said | {name for name, state in states.items() if state[row] == PRESENT})
        for row, said in answered.items()
    }


# --- drawing --------------------------------------------------------------------------------------


def _evenly(rows: pd.DataFrame, n: int, rng: np.random.Generator) -> pd.DataFrame:
    """n rows, with replacement. A template comes as often as it is asked; inside it each question's
    single answers come equally often, those of several names together as often as `SEVERAL` single.
    """
    if rows.empty:
        return rows
    several = rows["positive"].map(len).gt(1) & rows["kind"].str.endswith("query")
    said = rows["said"].where(~several, "several")
    group, names = pd.factorize(rows["key"] + " = " + said)
    weight = np.where(pd.Series(names).str.endswith(" = several"), SEVERAL, 1.0)
    each = weight[group] / np.bincount(group)[group]
    template = rows["key"].str.split(" ", n=1).str[0]
    of_template = pd.Series(each, index=rows.index).groupby(template).transform("sum")
    each = each / of_template.to_numpy() * template.map(template.value_counts()).to_numpy()
    return rows.iloc[rng.choice(len(rows), n, p=each / each.sum())]


def _sentence(row, found: list[str], rng: np.random.Generator) -> str:
    """The names of the answer, in its order, among other findings of the record."""
    others = [name for name in found if name not in row.rivals]
    n_others = max(0, rng.choice(N_FINDINGS) - len(row.positive))
    others = rng.permutation(others)[:n_others].tolist()
    names, left = [], list(row.positive)
    for own in rng.permutation([True] * len(left) + [False] * len(others)):
        names.append((left if own else others).pop(0))
    return ", ".join(names) + "." if names else NOTHING
