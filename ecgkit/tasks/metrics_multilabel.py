"""Metrics of many classes at once: AUROC with fast patient intervals, average precision, F-max.

AUROC, average precision and F1 agree with scikit-learn. A bootstrap draw of patients is a weight
per item (how often its patient was drawn), so each class is sorted once for all draws instead of
once a draw; the result is exactly that of `metrics.bootstrap_statistic`.
F-max is the PTB-XL benchmark's (Strodthoff et al. 2021): precision averaged over the
samples with any prediction, recall over the samples with any label, the best threshold of all.
`asked` (n, K) bool leaves (item, class) pairs out that nobody labelled.

Letters: n items, K classes, R bootstrap draws.

Usage:

    table = class_table(labels, scores, codes, patients)     # class, n, positives, auroc, low, ...
    value, low, high = macro_auc_interval(labels, scores, patients)
    f_max(labels, scores)
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ecgkit.tasks.metrics import auc
from ecgkit.types import DataError

Interval = tuple[float, float, float]  # value, low, high (95 % percentiles)
N_BOOT = 300


def checked(labels, scores, asked=None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """labels (n, K) bool, scores (n, K) float64, asked (n, K) bool (None = every pair).

    Raises DataError where shapes differ or a score that is asked about is not finite.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    asked = np.ones(labels.shape, bool) if asked is None else np.asarray(asked, dtype=bool)
    for name, array in (("scores", scores), ("asked", asked)):
        if labels.ndim != 2 or array.shape != labels.shape:
            raise DataError(
                f"The labels are {labels.shape} and the {name} {array.shape}; both must be "
                "(n items, K classes): was the model trained on other classes?"
            )
    if not np.isfinite(scores[asked]).all():
        bad = int((~np.isfinite(scores) & asked).any(1).sum())
        raise DataError(
            f"The scores of {bad} of {len(scores)} items are not finite; look for NaN in their "
            "signals or in the model's weights."
        )
    return labels > 0.5, scores, asked


# --- draws ----------------------------------------------------------------------------------------


def bootstrap_weights(
    n_items: int, groups: np.ndarray | None = None, n_boot: int = N_BOOT, seed: int = 0
) -> np.ndarray:
    """(R, n) how often each item's group (patient) is drawn, the draws of `bootstrap_statistic`."""
    _, codes = np.unique(np.arange(n_items) if groups is None else groups, return_inverse=True)
    n_groups = int(codes.max(initial=-1)) + 1
    rng = np.random.default_rng(seed)
    draws = [rng.integers(n_groups, size=n_groups) for _ in range(n_boot)]
    counts = np.array([np.bincount(d, minlength=n_groups) for d in draws], dtype=np.float64)
    return counts.reshape(n_boot, n_groups)[:, codes]


def interval(value: float, draws: np.ndarray) -> Interval:
    """(value, low, high) from the draws' 2.5 and 97.5 percentiles; undefined draws are left out."""
    draws = draws[np.isfinite(draws)]
    low, high = np.percentile(draws, [2.5, 97.5]) if len(draws) else (np.nan, np.nan)
    return float(value), float(low), float(high)


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(R,) means of (n,) values under (R, n) weights; NaN where all weights are 0."""
    total = weights.sum(1)
    return np.where(total > 0, weights @ values / np.where(total > 0, total, 1), np.nan)


# --- AUROC ----------------------------------------------------------------------------------------


def weighted_aucs(labels, scores, weights, asked=None) -> np.ndarray:
    """(R, K) AUROC of each class under (R, n) item weights, ties half; NaN with one label only."""
    labels, scores, asked = checked(labels, scores, asked)
    columns = []
    for k in range(labels.shape[1]):
        keep = asked[:, k]
        columns.append(_weighted_auc(labels[keep, k], scores[keep, k], weights[:, keep]))
    return np.stack(columns, 1) if columns else np.empty((len(weights), 0))


def _weighted_auc(labels, scores, weights) -> np.ndarray:
    """(n,) labels and scores, (R, n) weights -> (R,): share of pairs in the right order."""
    if not len(scores):
        return np.full(len(weights), np.nan)
    order = np.argsort(scores, kind="stable")
    scores, labels, weights = scores[order], labels[order], weights[:, order]
    starts = np.flatnonzero(np.r_[True, np.diff(scores) > 0])  # equal scores are one group
    negative = np.add.reduceat(weights * ~labels, starts, axis=1)
    positive = np.add.reduceat(weights * labels, starts, axis=1)
    below = np.cumsum(negative, 1) - 0.5 * negative
    pairs = positive.sum(1) * negative.sum(1)
    right = (positive * below).sum(1)
    return np.where(pairs > 0, right / np.where(pairs > 0, pairs, 1), np.nan)


def macro(values: np.ndarray) -> np.ndarray:
    """(..., K) -> (...): mean over the classes that are defined (have both labels), else NaN."""
    known = np.isfinite(values)
    count = known.sum(-1)
    return np.where(count, np.where(known, values, 0).sum(-1) / np.maximum(count, 1), np.nan)


def macro_auc_interval(
    labels, scores, groups=None, n_boot: int = N_BOOT, seed: int = 0, asked=None
) -> Interval:
    """Macro AUROC over the classes with both labels, with a bootstrap over `groups`."""
    once = np.ones((1, len(labels)))
    value = macro(weighted_aucs(labels, scores, once, asked))[0]
    weights = bootstrap_weights(len(labels), groups, n_boot, seed)
    return interval(value, macro(weighted_aucs(labels, scores, weights, asked)))


# --- average precision and F ----------------------------------------------------------------------


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Sum of precision times the gain in recall, from high to low scores; NaN without a positive.

    Differs from the area under the interpolated curve; equals scikit-learn's.
    """
    labels, hits, called = _sweep(labels, scores)
    if not labels.any():
        return float("nan")
    return float(np.sum(np.diff(hits, prepend=0) / labels.sum() * hits / called))


def f1(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Harmonic mean of precision and recall of (n,) bool; NaN where neither holds a positive."""
    total = labels.sum() + predicted.sum()
    return float(2 * (labels & predicted).sum() / total) if total else float("nan")


def class_f_max(labels: np.ndarray, scores: np.ndarray) -> float:
    """Best F1 of one class (n,) over all thresholds; NaN without a positive."""
    labels, hits, called = _sweep(labels, scores)
    return float((2 * hits / (labels.sum() + called)).max()) if labels.any() else float("nan")


def _sweep(labels, scores):
    """labels (n,) bool; hits and calls at each distinct threshold, highest first (score >= t)."""
    labels, scores = np.asarray(labels) > 0.5, np.asarray(scores, dtype=np.float64)
    order = np.argsort(-scores, kind="stable")
    last = _last_of_ties(scores[order])
    return labels, np.cumsum(labels[order])[last].astype(float), last + 1.0


def _last_of_ties(values: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.r_[np.diff(values) != 0, True]) if len(values) else np.empty(0, int)


def f_max(labels, scores, asked=None) -> float:
    """Sample-centric F-max of (n, K) over all thresholds; NaN where no sample has a label.

    Samples without any label count among the predictions (precision), not in the recall. Exact: one
    sweep over all n K scores adds each prediction's change to its sample's precision and recall.
    """
    labels, scores, asked = checked(labels, scores, asked)
    labels, scores = labels & asked, np.where(asked, scores, -np.inf)
    n_labelled = int(labels.any(1).sum())
    if not n_labelled:
        return float("nan")
    order = np.argsort(-scores, axis=1, kind="stable")
    scores, hit = np.take_along_axis(scores, order, 1), np.take_along_axis(labels, order, 1)
    found = np.cumsum(hit, 1)
    precision = found / np.arange(1, scores.shape[1] + 1)
    recall = found / np.maximum(labels.sum(1, keepdims=True), 1)
    first = np.zeros(scores.shape)
    first[:, 0] = 1  # the sample's first prediction
    steps = [first] + [np.diff(a, axis=1, prepend=0) for a in (precision, recall)]
    order = np.argsort(-scores, axis=None, kind="stable")
    order = order[np.isfinite(scores.ravel()[order])]
    last = _last_of_ties(scores.ravel()[order])
    called, precision, recall = (np.cumsum(step.ravel()[order])[last] for step in steps)
    precision, recall = precision / called, recall / n_labelled
    return float((2 * precision * recall / np.maximum(precision + recall, 1e-300)).max())


def macro_f_max(labels, scores, asked=None) -> float:
    """Each class at its own best threshold, averaged over the classes that have a positive."""
    labels, scores, asked = checked(labels, scores, asked)
    columns = range(labels.shape[1])
    each = [class_f_max(labels[asked[:, k], k], scores[asked[:, k], k]) for k in columns]
    return float(macro(np.array(each)))


# --- tables ---------------------------------------------------------------------------------------


def class_table(
    labels, scores, classes: list[str], groups=None, named: str = "class", asked=None,
    n_boot: int = N_BOOT, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """One row a class: `named`, n, positives, auroc, low, high, ap, f1 (at 0.5).

    Raises DataError where the number of class names is not K.
    """
    labels, scores, asked = checked(labels, scores, asked)
    if len(classes) != labels.shape[1]:
        raise DataError(
            f"There are {len(classes)} class names for {labels.shape[1]} columns of scores; give "
            "one name a column."
        )
    draws = weighted_aucs(
        labels, scores, bootstrap_weights(len(labels), groups, n_boot, seed), asked
    )
    rows = []
    for k, name in enumerate(classes):
        y, p = labels[asked[:, k], k], scores[asked[:, k], k]
        value, low, high = interval(auc(y, p), draws[:, k])
        rows.append((name, len(y), int(y.sum()), value, low, high,
                     average_precision(y, p), f1(y, p > 0.5)))  # fmt: skip
    columns = [named, "n", "positives", "auroc", "low", "high", "ap", "f1"]
    return pd.DataFrame(rows, columns=columns)


def row_of(table: pd.DataFrame, name: str) -> pd.Series:
    """The row of one class. Raises DataError naming the classes there are."""
    known = table.iloc[:, 0].tolist()
    if name not in known:
        shown = ", ".join(map(str, known[:8])) + (", ..." if len(known) > 8 else "")
        raise DataError(
            f"{name!r} is not among the {len(known)} {table.columns[0]}s of this table: {shown}"
        )
    return table.iloc[known.index(name)]
