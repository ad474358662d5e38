"""Exercises of notebook 07: a C-index by hand, what the zero rule drops, which weight is whose."""

from __future__ import annotations

import numpy as np

from ecgkit.exercises.base import NotHere, exercise


def _c(people, comparable, tie: float = 0.5) -> float:
    """Share of `comparable` pairs (i fell ill first) in which i has the higher score."""
    years, risk = people["years"].to_numpy(), people["risk"].to_numpy()
    pairs = [
        (i, j)
        for i in range(len(people))
        for j in range(len(people))
        if years[i] < years[j] and comparable(i, j)
    ]
    return float(np.mean([tie if risk[i] == risk[j] else risk[i] > risk[j] for i, j in pairs]))


def _fell_ill(people):
    seen = people["event"].to_numpy() == 1
    return lambda i, j: seen[i]


@exercise(
    "07.1",
    "Harrell's C of the five patients",
    tolerance=0.005,
    unit="a share from 0 to 1",
    why="Only who falls ill starts a pair: of somebody censored early nobody knows whether the "
    "other one outlived him. Few events make few pairs, and a C that hangs on each of them.",
    hints=(
        "List the pairs in which the earlier of the two had the event; the later one may be "
        "censored. How many are there?",
        "In each of these pairs: 1 if the one who fell ill first has the higher score, 1/2 if the "
        "scores are equal, else 0. The mean is C.",
    ),
    slips={
        "Of a patient who is censored first nobody knows whether the other outlived him: such a "
        "pair does not count.": lambda people: _c(people, lambda i, j: True),
        "A patient who is censored later still outlived the event: that pair counts too.": (
            lambda people: _c(people, lambda i, j: (people["event"].to_numpy()[[i, j]] == 1).all())
        ),
        "Equal scores count half.": lambda people: _c(people, _fell_ill(people), tie=0),
        "Equal scores count half, not as a hit.": lambda people: _c(
            people, _fell_ill(people), tie=1
        ),
    },
)
def c_of_five(people):
    return _c(people, _fell_ill(people))


@exercise(
    "07.2",
    "the SCP codes of this ECG that the published rule drops",
    why="Of a likelihood of 0 PTB-XL says that none was given; taken for 'absent', it removes what "
    "the reader stated without a number: nearly every statement of rhythm and form.",
    hints=(
        "`codes` maps each code to its likelihood. Which likelihood does the rule take for absent?",
        "Compare the two reports of section 1: the lines of the second that the first lacks.",
    ),
    slips={
        "These are the codes that stay.": lambda codes: {c for c, value in codes.items() if value},
    },
)
def dropped_codes(codes):
    dropped = {code for code, likelihood in codes.items() if likelihood == 0}
    if not dropped:
        raise NotHere("The ECG of section 1 has a likelihood for each of its codes.")
    return dropped


@exercise(
    "07.3",
    "the weight of the reconstruction in the loss that was logged",
    tolerance=0.01,
    unit="a share from 0 to 1",
    why="One equation, one unknown: loss = w rec + (1 - w) outcome. The published code puts alpha "
    "on the outcome (its Cox loss), the formula on the reconstruction; at 0.5 nobody notices, and "
    "at 0.9 the two train for opposite things.",
    hints=(
        "Write the loss of section 5 down with the three numbers of the row. What is unknown?",
        "w = (loss - outcome) / (reconstruction - outcome).",
    ),
    slips={
        "That is the weight of the outcome; the reconstruction has the rest.": lambda row: (
            1 - _weight(row)
        ),
    },
)
def weight_of_reconstruction(row):
    return _weight(row)


def _weight(row) -> float:
    return float((row["loss"] - row["outcome"]) / (row["reconstruction"] - row["outcome"]))
