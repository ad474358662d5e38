"""Exercises of notebook 04: the learnt temperature, a contrastive loss by hand, a wrong passage."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from ecgkit.exercises.base import NotHere, exercise

STRANGERS = ("PACE", "AFIB", "WPW", "CLBBB", "3AVB", "LVH")  # their notes are unlike most others


def _loss(cosines, scale: float) -> float:
    """Cross entropy of the diagonal by rows plus by columns, of (B, B) cosines times `scale`."""
    logits = np.asarray(cosines, dtype=float) * scale
    own = np.diag(logits)
    return float(sum((np.log(np.exp(logits).sum(axis)) - own).mean() for axis in (0, 1)))


@exercise(
    "04.1",
    "the factor by which the trained model multiplies every cosine before the softmax",
    tolerance=0.05,
    why="The model learns its logarithm, so that no step can make the factor negative; the paper's "
    "sigma is one over it. Cosines lie between -1 and 1: without the factor, even a perfect match "
    "could not get most of the softmax.",
    hints=(
        "`study.model.temperature` is not the factor, but something a step may add to and "
        "subtract from. Look up in section 3 what becomes of it.",
        "1 / sigma = exp(temperature); `math.exp` and `.item()` will do.",
    ),
    slips={
        "That is the parameter itself, the logarithm of the factor.": lambda model: (
            model.temperature.item()
        ),
        "That is sigma, by which the paper divides; here the factor is asked for.": lambda model: (
            math.exp(-model.temperature.item())
        ),
    },
)
def learnt_scale(model):
    return math.exp(model.temperature.item())


@exercise(
    "04.2",
    "the contrastive loss of the three pairs shown, as the paper writes it",
    tolerance=0.03,
    why="Three pairs without any knowledge would cost 2 log 3 = 2.2. The loss looks at differences "
    "along a row and along a column only: adding 0.3 to every cosine would change nothing.",
    hints=(
        "Multiply by the scale first. Then each row gives log(sum of exp) minus its own entry, "
        "each column the same; what do you do with the six numbers?",
        "Mean over the three rows plus mean over the three columns.",
    ),
    slips={
        "Without the scale the softmax is nearly flat; multiply the cosines by it first.": (
            lambda cosines, scale: _loss(cosines, 1.0)
        ),
        "That is the mean of the two directions, as in the published code; the paper adds them.": (
            lambda cosines, scale: _loss(cosines, scale) / 2
        ),
        "You added up the pairs; the loss is a mean over them.": lambda cosines, scale: (
            3 * _loss(cosines, scale)
        ),
    },
)
def loss_of_three(cosines, scale):
    return _loss(cosines, scale)


def one_wrong_passage(found: pd.DataFrame) -> pd.DataFrame:
    """Columns finding, passage: what `esi_look.retrieved_notes` gave each finding, but the middle
    one has the passage of a statement that this ECG does not have. Empty without any passage.
    """
    from ecgkit.text.cqa import Notes

    shown = found.drop_duplicates("finding")[["finding", "said"]].reset_index(drop=True)
    shown.columns = ["finding", "passage"]
    if len(shown):
        notes = Notes()
        other = (notes.answer(code, code) for code in STRANGERS)
        wrong = next(text for text in other if text not in set(shown["passage"]))
        shown.loc[len(shown) // 2, "passage"] = wrong
    return shown


@exercise(
    "04.3",
    "the finding whose passage belongs to another finding",
    why="The published retrieval script can go wrong in this way: it collects answers in the order "
    "in which they come back and lays them beside the conditions as they were asked. Nothing in "
    "training notices; only a reader does.",
    hints=(
        "Read each passage as a claim about the ECG of section 1. Which one is not about its "
        "finding at all?",
        "One passage describes waves that its finding has nothing to do with; the page of section "
        "1 shows what was retrieved for each.",
    ),
)
def wrong_finding(found, shown):
    if not len(shown):
        raise NotHere("This run's captions hold no passages (CQA=False, or none was found).")
    own = found.drop_duplicates("finding").set_index("finding")["said"]
    return next(row.finding for row in shown.itertuples() if row.passage != own[row.finding])
