"""Scores of LLM modelling: exact match by question type, overall and balanced, two matchings beside
each other on the same replies, and what each fault of the published one is worth.

Letters: n questions, R bootstrap draws.

Usage:

    table = score_table(rows, {"small-llama": rows["right"], ...})
    unreachable(rows)           # by question type: answers the published matching can never score
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ecgkit.tasks.metrics import all_alike
from ecgkit.tasks.metrics_multilabel import bootstrap_weights, interval, weighted_mean
from ecgkit.tasks.metrics_qa import type_name
from ecgkit.text.answer_parser import reachable_by_reference

OVERALL, BALANCED = "all questions", "balanced over question types"
COLUMNS = ["reader", "level", "type", "n", "exact_match", "low", "high", "unparsed", "unanswered"]


def score_table(
    rows: pd.DataFrame, right: Mapping[str, np.ndarray], n_boot: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """COLUMNS: one line per reader and question type of levels 1 to 3, one for all, one balanced.

    rows: type1, type2, type3, patient, answered, unparsed. right: reader -> (n,) bool. Exact match
    is over the answered questions (n); unparsed replies among them are wrong; unanswered ones are
    counted beside. balanced: the mean over the seven question types. Intervals draw patients.
    """
    asked = rows["answered"].to_numpy(bool)
    weights = _weights(rows["patient"].to_numpy()[asked], n_boot, seed)
    lines = []
    for reader, hits in right.items():
        hits = np.asarray(hits, dtype=float)[asked]
        for level, name, chosen in _parts(rows):
            counts = _counts(rows, chosen)
            value, low, high = _mean(hits, weights, chosen[asked],
                                     rows["patient"].to_numpy()[asked])
            lines.append((reader, level, name, counts[0], value, low, high, *counts[1:]))
        value, low, high = _balanced(hits, weights, rows["type2"].to_numpy()[asked],
                                     rows["patient"].to_numpy()[asked])
        counts = _counts(rows, np.ones(len(rows), bool))
        lines.append((reader, 0, BALANCED, counts[0], value, low, high, *counts[1:]))
    return pd.DataFrame(lines, columns=COLUMNS)


def unreachable(rows: pd.DataFrame) -> pd.DataFrame:
    """Per question type: n, and how many gold answers the published matching can never score,
    whatever the reply: all, those that hold "not sure", those with capitals.

    rows: question_type, options, gold (tuples of names; gold () = none).
    """
    found = pd.DataFrame({
        "question_type": rows["question_type"].to_numpy(),
        "unreachable": [not reachable_by_reference(o, g, kind.rsplit("-", 1)[1]) for o, g, kind in
                        zip(rows["options"], rows["gold"], rows["question_type"])],
        "not sure": ["not sure" in gold for gold in rows["gold"]],
        "capitals": [any(name != name.lower() for name in gold) for gold in rows["gold"]],
    })  # fmt: skip
    grouped = found.groupby("question_type")
    table = grouped[["unreachable", "not sure", "capitals"]].sum()
    table.insert(0, "n", grouped.size())
    table.loc[OVERALL] = table.sum()
    return table.assign(share=table["unreachable"] / table["n"]).reset_index()


# --- pieces ---------------------------------------------------------------------------------------


def _weights(patients: np.ndarray, n_boot: int, seed: int) -> np.ndarray:
    if not len(patients):
        return np.zeros((n_boot, 0))
    return bootstrap_weights(len(patients), patients, n_boot, seed)


def _parts(rows: pd.DataFrame):
    """(level, name, (n,) bool) of all questions and of each type that occurs."""
    yield 0, OVERALL, np.ones(len(rows), bool)
    for level in (1, 2, 3):
        ids = rows[f"type{level}"].to_numpy()
        for i in np.unique(ids):
            yield level, type_name(int(i), level), ids == i


def _counts(rows: pd.DataFrame, chosen: np.ndarray) -> tuple[int, int, int]:
    """(answered, unparsed among them, unanswered)."""
    answered = rows["answered"].to_numpy(bool) & chosen
    unparsed = rows["unparsed"].to_numpy(bool) & answered
    return int(answered.sum()), int(unparsed.sum()), int(chosen.sum() - answered.sum())


def _mean(hits, weights, chosen, patients):
    if not chosen.any():
        return (float("nan"),) * 3
    value, own = hits[chosen].mean(), weights[:, chosen]
    if value in (0.0, 1.0):  # every draw is alike
        return float(value), *all_alike(value, len(np.unique(patients[chosen])))
    return interval(value, weighted_mean(hits[chosen], own))


def _balanced(hits, weights, types, patients):
    """Mean over the types; a draw without any question of a type averages the others."""
    if not len(hits):
        return (float("nan"),) * 3
    if hits.min() == hits.max():
        return float(hits[0]), *all_alike(float(hits[0]), len(np.unique(patients)))
    values, draws = [], []
    for kind in np.unique(types):
        own = types == kind
        values.append(hits[own].mean())
        draws.append(weighted_mean(hits[own], weights[:, own]))
    draws = np.nanmean(np.stack(draws), axis=0)
    return interval(float(np.mean(values)), draws[np.isfinite(draws)])
