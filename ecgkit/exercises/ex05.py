"""Exercises of notebook 05: a macro AUC from its parts, the worth of calling everything, and how
many labels a sentence is worth.
"""

from __future__ import annotations

import numpy as np

from ecgkit.exercises.base import NotHere, exercise


@exercise(
    "05.1",
    "the macro AUC of zero-shot reading, from the table of classes",
    tolerance=0.002,
    unit="a share from 0 to 1",
    why="Macro gives each class one vote, however many ECGs it has: the rarest class moves the "
    "number as much as the commonest.",
    hints=(
        "Macro: every class counts the same. Which columns do you need, and which not?",
        "The plain mean of the column auc.",
    ),
    slips={
        "You weighed the classes by their ECGs; macro gives each one vote.": lambda classes: (
            np.average(classes["auc"], weights=classes["n_positive"])
        ),
    },
)
def macro_auc(classes):
    return float(classes["auc"].mean())


@exercise(
    "05.2",
    "the macro F1 of a reader that finds every class in every ECG",
    tolerance=0.005,
    unit="a share from 0 to 1",
    why="Recall is 1 and precision the class's share p, so that F1 = 2p / (1 + p). An F1 near this "
    "number has shown nothing, while such a reader's AUC is 0.5 whatever the shares: read an F1 "
    "beside the prevalence.",
    hints=(
        "What are recall and precision of a class if every ECG is said to have it?",
        "With p = n_positive / n: recall 1, precision p, F1 = 2p / (1 + p); then the mean "
        "over the classes.",
    ),
    slips={
        "That is the mean precision; F1 is the harmonic mean of precision and recall.": (
            lambda classes: float((classes["n_positive"] / classes["n"]).mean())
        ),
        "F1 of the mean share is not the mean of the F1s; compute it class by class.": (
            lambda classes: _f1_of_all(float((classes["n_positive"] / classes["n"]).mean()))
        ),
    },
)
def f1_of_calling_all(classes):
    return float(_f1_of_all(classes["n_positive"] / classes["n"]).mean())


def _f1_of_all(share):
    return 2 * share / (1 + share)


@exercise(
    "05.3",
    "the smallest share of the labels, among those tried, at which the pretrained encoder's probe "
    "reads better than the sentences",
    unit="a share from 0 to 1",
    why="Below it, describing a class in words was worth more than the labels there were. It says "
    "so of this encoder, these prompts and these classes, no more.",
    hints=(
        "Compare the points of the pretrained encoder's curve with the dashed line, from the left.",
        'In `sweep`, the lines whose model is "ESI, linear probe": the first fraction whose value '
        "is above zero_shot.",
    ),
    slips={
        "There the UNTRAINED encoder's probe gets past the line.": lambda sweep, zero_shot: (
            _first_above(sweep, "untrained", zero_shot)
        ),
    },
)
def labels_a_sentence_is_worth(sweep, zero_shot):
    share = _first_above(sweep, "ESI", zero_shot)
    if not np.isfinite(share):
        raise NotHere("In this run the probe stays below zero-shot reading with all labels too.")
    return share


def _first_above(sweep, model: str, level: float) -> float:
    lines = sweep[sweep["model"].str.startswith(model) & (sweep["value"] > level)]
    return float(lines["fraction"].min()) if len(lines) else float("nan")
