"""Exercises of notebook 01: a baseline by hand, a leak between splits, leads by position."""

from __future__ import annotations

import numpy as np

from ecgkit.exercises.base import NotHere, exercise
from ecgkit.types import LEADS, canonical_lead


def _verify_answers(questions) -> list[list[str]]:
    table = questions.table
    answers = table["answer"][table["question_type"] == "single-verify"].tolist()
    if not answers:
        raise NotHere("These questions hold no yes-or-no question about one ECG.")
    return answers


def _share_of(questions, answer: str) -> float:
    answers = _verify_answers(questions)
    return sum(said == [answer] for said in answers) / len(answers)


@exercise(
    "01.1",
    "the share of all single-verify questions that a model gets right which always says no",
    tolerance=0.005,
    unit="a share from 0 to 1",
    why="A model that has never seen an ECG reaches this; the commonest answer of each template, "
    "in section 5, does at least as well. A score without such a number beside it says nothing.",
    hints=(
        'Take the rows of `questions.table` whose `question_type` is "single-verify". What share '
        'of their answers is `["no"]`?',
        "`answer` is a list in each row: compare it with a list of one word, then take the mean.",
    ),
    slips={
        "That is the share of yes.": lambda questions: _share_of(questions, "yes"),
        'Those are all questions of every type; keep the "single-verify" ones.': lambda questions: (
            np.mean([said == ["no"] for said in questions.table["answer"]])
        ),
    },
)
def share_of_no(questions):
    return _share_of(questions, "no")


@exercise(
    "01.2",
    "the share of held-out ECGs whose patient also has an ECG in the training part",
    tolerance=0.005,
    unit="a share from 0 to 1",
    why="A model can know these patients by their hearts instead of their diseases, and its test "
    "score flatters it. That is why folds are drawn by patient.",
    hints=(
        "Make the set of `patient_id` in the training part, and ask of each held-out ECG whether "
        "its patient is in it.",
        "`np.isin(ids[held_out], ids[rest]).mean()`, where `rest` is every row that is not held "
        "out.",
    ),
    slips={
        "That counts patients; count ECGs.": lambda ids, held_out: np.isin(
            np.unique(ids[held_out]), np.delete(ids, held_out)
        ).mean(),
        "That is the other way round: training ECGs of a held-out patient.": lambda ids, held_out: (
            np.isin(np.delete(ids, held_out), ids[held_out]).mean()
        ),
    },
)
def leaked_share(ids, held_out):
    leaked = np.isin(ids[held_out], np.delete(ids, held_out))
    if not leaked.any():
        raise NotHere("In these data no held-out patient has a second ECG.")
    return leaked.mean()


@exercise(
    "01.3",
    "the leads that a program gets wrong which takes MIMIC-IV-ECG's files by position",
    why="Nothing crashes, every shape fits, and two leads of 800,000 recordings are swapped. Names "
    "are the only protection.",
    hints=(
        "Lay the two orders beside each other, name by name. Where do they differ?",
        "Look at the third panel of the first figure, at the two orange names.",
    ),
)
def swapped_leads(theirs):
    return {canonical_lead(a) for a, b in zip(theirs, LEADS) if canonical_lead(a) != b}
