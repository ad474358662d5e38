"""Metrics of ECG-QA answers: exact match, AUROC and accuracy, by type, by attribute, as published.

Exact match: every class the question's template allows is right at 0.5. AUROC: (score, label)
pairs of valid classes only, pooled over the questions by class, macro over the classes that have
both labels. Accuracy: the share of (question, valid class) pairs that are right.
`published_table` has the columns of Oh et al. 2023 (S-Verify ... CI-Query, All). The published
logs have one line per `question_type3_<id>`; a column pools its questions over attribute types.

A question without any valid class would match whatever is predicted; such questions are left out,
listed (`unanswerable`), and their number is in every table's `left_out`.

Intervals draw patients. A question about two ECGs goes with the first one's patient
(`resample="first"`); questions that share only their second patient then count as independent.
`resample="both"` weighs a question by the draws of both patients (Owen 2007, pigeonhole bootstrap;
one draw where both are the same person). It is an upper bound: where pairs share nobody, it is
sqrt(3) times too wide.

Letters: n questions, K answers, R bootstrap draws.

Usage:

    table = published_table(questions, positions, {"fusion": scores}, patients)
    printable(table)                                    # one cell a model and column
    by_type(questions, positions, scores, level=3); by_attribute(questions, positions, scores)
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ecgkit.data.grounding_leads import attribute_name
from ecgkit.data.qa_reading import ATTRIBUTE_TYPES, FORMS, PAIRINGS
from ecgkit.tasks import metrics
from ecgkit.tasks.metrics_multilabel import (
    N_BOOT,
    Interval,
    bootstrap_weights,
    class_table,
    interval,
    macro,
    weighted_aucs,
    weighted_mean,
)
from ecgkit.types import ConfigError, DataError

# Columns of the paper's table, in its order; All pools every question.
COLUMNS = {
    "S-Verify": "single-verify",
    "S-Choose": "single-choose",
    "S-Query": "single-query",
    "CC-Verify": "comparison_consecutive-verify",
    "CC-Query": "comparison_consecutive-query",
    "CI-Verify": "comparison_irrelevant-verify",
    "CI-Query": "comparison_irrelevant-query",
}
ALL = "All"
_CELL = ("n", "value", "low", "high")


# --- what can be judged ---------------------------------------------------------------------------


def unanswerable(questions, positions: np.ndarray) -> pd.DataFrame:
    """Questions without any valid class: position, sample_id, template_id, sentence."""
    positions = np.asarray(positions)
    bad = positions[~questions.valid_mask(positions).any(1)]
    rows = questions.table.iloc[bad]
    found = {
        "position": bad,
        "sample_id": rows["sample_id"].to_numpy() if "sample_id" in rows else np.full(len(bad), -1),
        "template_id": rows["template_id"].to_numpy(),
    }
    sentence = "Template {} allows none of the {} answer classes, so nothing can be wrong."
    words = [sentence.format(t, len(questions.classes)) for t in found["template_id"]]
    return pd.DataFrame({**found, "sentence": words})


def judgeable(questions, positions: np.ndarray) -> np.ndarray:
    """(n,) bool: questions with at least one valid class."""
    return questions.valid_mask(np.asarray(positions)).any(1)


def checked_scores(questions, positions: np.ndarray, scores, name: str = "The model") -> np.ndarray:
    """scores (n, K) as float64. Raises DataError for another n or K, or a score that is NaN."""
    scores, n, k = np.asarray(scores, dtype=np.float64), len(positions), len(questions.classes)
    if scores.ndim != 2 or scores.shape[1] != k:
        raise DataError(
            f"{name} has scores of shape {scores.shape} but these questions have {k} answer "
            "classes, (n, K); was it trained on another version of ECG-QA (PTB-XL has 103 answers, "
            "MIMIC-IV-ECG 187)?"
        )
    if len(scores) != n:
        raise DataError(
            f"{name} has scores of {len(scores)} questions but {n} positions are given; score and "
            "judge the same ones."
        )
    if not np.isfinite(scores).all():
        raise DataError(
            f"{name} has scores that are not finite for {(~np.isfinite(scores)).any(1).sum()} of "
            f"{n} questions; look at their ECGs."
        )
    return scores


def draws(questions, positions, patients=None, resample="first", n_boot=N_BOOT, seed=0):
    """(R, n) bootstrap weights of the questions. patients: (n,) of the first ECGs; None = those of
    the table. Raises ConfigError for an unknown `resample`."""
    table = questions.table.iloc[positions]
    first = table["patient1"].to_numpy() if patients is None else np.asarray(patients)
    if resample == "first":
        return bootstrap_weights(len(first), first, n_boot, seed)
    if resample != "both":
        raise ConfigError(f"resample is {resample!r}; choose first or both.")
    second = table["patient2"].to_numpy()
    pair = (table["row2"].to_numpy() >= 0) & (second != first)
    people, codes = np.unique(np.r_[first, second[pair]], return_inverse=True)
    drawn = bootstrap_weights(len(people), None, n_boot, seed)  # (R, patients)
    weights = drawn[:, codes[: len(first)]]
    weights[:, pair] *= drawn[:, codes[len(first) :]]
    return weights


# --- the published table --------------------------------------------------------------------------


def published_table(
    questions, positions, scores: dict[str, np.ndarray], patients=None, resample: str = "first",
    n_boot: int = N_BOOT, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Exact match, one row a model; columns (S-Verify ... CI-Query, All) x (n, value, low, high).

    scores: name -> (n, K) probabilities or 0/1 answers. A column without questions has n 0 and
    NaN. The last column, `left_out`, counts questions without a valid class. Raises DataError as
    `checked_scores` does.
    """
    positions = np.asarray(positions)
    scores = {name: checked_scores(questions, positions, s, name) for name, s in scores.items()}
    kept = judgeable(questions, positions)
    weights = draws(questions, positions, patients, resample, n_boot, seed)
    people = _patients(questions, positions, patients)
    kinds = questions.table["question_type"].to_numpy()[positions]
    columns = {name: kept & (kinds == kind) for name, kind in COLUMNS.items()} | {ALL: kept}
    cells = {}
    for model, probabilities in scores.items():
        hits = metrics.exact_match(
            questions.labels(positions), probabilities, questions.valid_mask(positions)
        ).astype(float)
        row = {}
        for name, chosen in columns.items():
            values = (int(chosen.sum()), *_mean(hits[chosen], weights[:, chosen], people[chosen]))
            row |= {(name, part): value for part, value in zip(_CELL, values)}
        cells[model] = row | {("left_out", "n"): int((~kept).sum())}
    table = pd.DataFrame.from_dict(cells, orient="index")
    counts = {column: int for column in table.columns if column[1] == "n"}
    table.columns = pd.MultiIndex.from_tuples(table.columns)
    return table.astype(counts).rename_axis("model")


def _mean(values: np.ndarray, weights: np.ndarray, people: np.ndarray) -> Interval:
    if not len(values):
        return float("nan"), float("nan"), float("nan")
    value, low, high = interval(values.mean(), weighted_mean(values, weights))
    if value in (0.0, 1.0):  # every draw is alike
        low, high = metrics.all_alike(value, len(np.unique(people)))
    return value, low, high


def printable(table: pd.DataFrame, digits: int = 1) -> pd.DataFrame:
    """A published table in per cent: "72.4 (70.1 to 74.9)" under "S-Verify (n=812)"."""
    shown = {}
    for name in (*COLUMNS, ALL):
        cell = table[name]
        n = int(cell["n"].iloc[0]) if len(cell) else 0
        shown[f"{name} (n={n})"] = [
            f"{100 * c.value:.{digits}f} ({100 * c.low:.{digits}f} to {100 * c.high:.{digits}f})"
            if c.n else "no questions"
            for c in cell.itertuples()
        ]  # fmt: skip
    return pd.DataFrame(shown, index=table.index)


# --- one model, three metrics ---------------------------------------------------------------------


def answer_table(
    questions, positions, scores, patients=None, n_boot: int = N_BOOT, seed: int = 0
) -> pd.DataFrame:
    """AUROC of each answer over the questions where it is valid: class, n, positives, auroc, low,
    high, ap, f1."""
    positions = np.asarray(positions)
    scores = checked_scores(questions, positions, scores)
    patients = _patients(questions, positions, patients)
    return class_table(questions.labels(positions), scores, questions.classes, patients,
                       asked=questions.valid_mask(positions), n_boot=n_boot, seed=seed)


def scored(
    questions, positions, scores, patients=None, n_boot: int = N_BOOT, seed: int = 0
) -> dict[str, object]:
    """n, left_out, n_classes (with both labels), and exact_match, accuracy and auroc as
    (value, low, high)."""
    positions = np.asarray(positions)
    scores = checked_scores(questions, positions, scores)
    labels, valid = questions.labels(positions), questions.valid_mask(positions)
    kept = valid.any(1)
    weights = draws(questions, positions, patients, "first", n_boot, seed)
    hits = metrics.exact_match(labels, scores, valid).astype(float)
    right = (((scores > 0.5) == (labels > 0.5)) & valid).sum(1) / np.maximum(valid.sum(1), 1)
    per_class = weighted_aucs(labels, scores, np.r_[np.ones((1, len(positions))), weights], valid)
    aucs = macro(per_class)
    pairs = weights * valid.sum(1)  # accuracy is over pairs: a question counts by its classes
    return {
        "n": int(kept.sum()),
        "left_out": int((~kept).sum()),
        "n_classes": int(np.isfinite(per_class[0]).sum()),
        "exact_match": _mean(hits[kept], weights[:, kept],
                             _patients(questions, positions, patients)[kept]),
        "accuracy": _pairs_mean(right, valid.sum(1), pairs),
        "auroc": interval(aucs[0], aucs[1:]),
    }


def _pairs_mean(right, n_pairs, weights) -> Interval:
    value = weighted_mean(right, n_pairs[None, :].astype(float))[0]
    return interval(value, weighted_mean(right, weights))


def by_type(
    questions, positions, scores, patients=None, level: int = 2, n_boot: int = N_BOOT, seed: int = 0
) -> pd.DataFrame:
    """One row a question_type{level} id that occurs: id, name, n, left_out, exact_match, low, high,
    accuracy, auroc, n_classes. Levels 1, 2, 3 are those of the ECG-QA preprocessor."""
    if level not in (1, 2, 3):
        raise ConfigError(f"level is {level}; question types have levels 1, 2 and 3.")
    ids = questions.table[f"type{level}"].to_numpy()[np.asarray(positions)]
    names = {i: type_name(int(i), level) for i in np.unique(ids)}
    return _by_part(questions, positions, scores, patients, ids, names, n_boot, seed)


def type_name(type_id: int, level: int) -> str:
    """id of question_type{level} -> "single", "single-verify" or "single-verify/scp_code"."""
    if level == 1:
        return PAIRINGS[type_id]
    if level == 2:
        return f"{PAIRINGS[type_id // len(FORMS)]}-{FORMS[type_id % len(FORMS)]}"
    parent, attribute = divmod(type_id, len(ATTRIBUTE_TYPES))
    return f"{type_name(parent, 2)}/{ATTRIBUTE_TYPES[attribute]}"


def by_attribute(
    questions, positions, scores, patients=None, classes: list[str] | None = None,
    n_boot: int = N_BOOT, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """As `by_type`, by the attribute of single-verify questions that are not answered "not sure".

    ids: positions in `classes`; by default the attributes of *all* splits, sorted, so that an id
    means the same in each (the published ones are numbered by what occurs in a split). Pass a
    Grounding's classes to share the upper bound's ids. Raises DataError for an unknown attribute.
    """
    names = attributes_of(questions, np.asarray(positions))
    if classes is None:
        everywhere = attributes_of(questions, np.arange(len(questions.table)))
        classes = sorted({name for name in everywhere if name})
    number = {name: i for i, name in enumerate(classes)}
    unknown = sorted({name for name in names if name and name not in number})
    if unknown:
        raise DataError(
            f"{len(unknown)} attributes are not among the {len(classes)} classes, {unknown[0]!r} "
            "for one; give classes=None or those of all splits."
        )
    ids = np.array([number.get(name, -1) for name in names], dtype=int)
    return _by_part(questions, positions, scores, patients, ids, dict(enumerate(classes)), n_boot,
                    seed)


def attributes_of(questions, positions: np.ndarray) -> list[str]:
    """The attribute of each single-verify question without its leads; "" where there is none."""
    rows = questions.table.iloc[positions]
    columns = zip(*(rows[c].tolist() for c in ("question_type", "attribute", "answer")))
    return [
        attribute_name(attribute[0])
        if kind == COLUMNS["S-Verify"] and attribute and list(answer) != ["not sure"] else ""
        for kind, attribute, answer in columns
    ]  # fmt: skip


def _by_part(questions, positions, scores, patients, ids, names, n_boot, seed) -> pd.DataFrame:
    """One `scored` line per id >= 0 that occurs."""
    positions = np.asarray(positions)
    scores = checked_scores(questions, positions, scores)
    patients = _patients(questions, positions, patients)
    rows = []
    for i in np.unique(ids[ids >= 0]):
        at = np.flatnonzero(ids == i)
        found = scored(questions, positions[at], scores[at], patients[at], n_boot, seed)
        value, low, high = found["exact_match"]
        rows.append({"id": int(i), "name": names[int(i)], "n": found["n"],
                     "left_out": found["left_out"], "exact_match": value, "low": low, "high": high,
                     "accuracy": found["accuracy"][0], "auroc": found["auroc"][0],
                     "n_classes": found["n_classes"]})  # fmt: skip
    columns = ["id", "name", "n", "left_out", "exact_match", "low", "high", "accuracy", "auroc",
               "n_classes"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def macro_over_attributes(table: pd.DataFrame) -> dict[str, float]:
    """Means over the rows of `by_attribute`: exact_match, accuracy, auroc; attributes alike."""
    return {name: float(table[name].mean()) for name in ("exact_match", "accuracy", "auroc")}


def _patients(questions, positions, patients) -> np.ndarray:
    if patients is None:
        return questions.table["patient1"].to_numpy()[positions]
    return np.asarray(patients)
