"""Exercises of notebook 03: why accuracy flatters, who is right where two disagree, an interval."""

from __future__ import annotations

import numpy as np

from ecgkit.exercises.base import NotHere, exercise


@exercise(
    "03.1",
    "the share of single cells (question by answer class) that the majority gets right",
    tolerance=0.002,
    unit="a share from 0 to 1",
    why="Nearly all cells are a zero that is trivially right, so this number is close to 1 for any "
    "model. Exact match asks for the whole answer, and leaves out classes that cannot apply.",
    hints=(
        'Compare `results.answers["majority"]` with `labels` cell by cell: both are 0 or 1.',
        "The mean over all cells, rows and columns alike, of where they are equal.",
    ),
    slips={
        "That is exact match, whole rows; here each cell counts.": lambda labels, said: (
            (labels == said).all(axis=1).mean()
        ),
    },
)
def cell_accuracy(labels, said):
    return (np.asarray(labels) == np.asarray(said)).mean()


@exercise(
    "03.2",
    "of the test questions that exactly one of the two models gets right, the fusion model's share",
    tolerance=0.005,
    unit="a share from 0 to 1",
    why="Questions that both get right or both get wrong say nothing about the difference; this "
    "is what McNemar's test looks at, and why the paired interval is narrow.",
    hints=(
        "Take `answers_qa.matches` of both models. Where do the two differ?",
        "Of the questions where they differ: the mean of the fusion model's matches.",
    ),
    slips={
        "That is the fusion model's exact match over all questions.": lambda fusion, blind: np.mean(
            fusion
        ),
        "That is the gain over all questions.": lambda fusion, blind: (
            np.mean(fusion) - np.mean(blind)
        ),
    },
)
def share_of_the_telling(fusion, blind):
    differ = np.asarray(fusion) != np.asarray(blind)
    if not differ.any():
        raise NotHere("The two models are right on the very same questions here.")
    return np.asarray(fusion)[differ].mean()


@exercise(
    "03.3",
    "how many times wider the interval over patients is than one that takes every question for "
    "independent",
    tolerance=0.1,
    why="Questions about one ECG tend to stand or fall together, so patients count, not "
    "questions. An interval over questions would claim more than was seen.",
    hints=(
        "For n independent questions of which a share p is right, a 95 % interval is "
        "2 * 1.96 * sqrt(p * (1 - p) / n) wide. How wide is the one in `overall`?",
        "Divide `high - low` of the row of that model by the width you computed.",
    ),
    slips={
        "That divides by half of the interval: it reaches 1.96 standard errors to either side.": (
            lambda row: 2 * widening(row)
        ),
    },
)
def widening(row):
    p, n = float(row["value"]), float(row["n"])
    if not 0 < p < 1:
        raise NotHere("Every question is right, or none: there is no interval to compare with.")
    return (float(row["high"]) - float(row["low"])) / (2 * 1.96 * np.sqrt(p * (1 - p) / n))
