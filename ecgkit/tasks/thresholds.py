"""Macro F1 with thresholds that the validation split chose; the test split only meets them.

The ESI paper prints a macro F1 without saying where its thresholds come from. Chosen on the test
split (F-max) they flatter; here each class's threshold is the one of the highest F1 on the
validation split (fold 9). A class without a positive validation ECG has none, and is left out.

Letters: n ECGs, K classes, R draws.

Usage:

    at = best_thresholds(labels[valid], scores[valid])              # (K,), NaN = none
    macro_f1(labels[test], scores[test] >= at)
    f1_line("ESI, zero-shot", "superdiagnostic", labels[test], [scores[test]], [at], classes,
            patients)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ecgkit.tasks.eval_tables import N_BOOT, join, line, names, scored, spread
from ecgkit.tasks.metrics_multilabel import bootstrap_weights, interval, macro


def best_thresholds(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(K,) the score from which on calling a class gives the highest F1; the highest of equals.

    labels, scores (n, K). NaN for a class without a positive ECG.
    """
    labels, scores = np.asarray(labels) > 0.5, np.asarray(scores, dtype=float)
    found = np.full(labels.shape[1], np.nan)
    for k in np.flatnonzero(labels.any(0)) if len(labels) else ():
        order = np.argsort(-scores[:, k], kind="stable")
        s, hits = scores[order, k], np.cumsum(labels[order, k])
        last = np.flatnonzero(np.r_[np.diff(s) != 0, True])  # ties are called together
        f1 = 2 * hits[last] / (hits[-1] + last + 1)
        found[k] = s[last[np.argmax(f1)]]
    return found


def class_f1(labels, called, weights: np.ndarray | None = None) -> np.ndarray:
    """(R, K) F1 of each class under (R, n) weights (None: each ECG once); NaN without a positive
    ECG, of which F1 says nothing.
    """
    labels, called = (np.asarray(a, dtype=float) for a in (labels, called))
    weights = np.ones((1, len(labels))) if weights is None else weights
    hits, positive, total = (weights @ a for a in (labels * called, labels, labels + called))
    return np.where(positive > 0, 2 * hits / np.where(positive > 0, total, 1), np.nan)


def macro_f1(labels, called) -> float:
    """Mean F1 over the classes that occur; NaN where none does."""
    return float(macro(class_f1(labels, called))[0])


def f1_line(
    model: str, task: str, labels, scores: Sequence[np.ndarray], thresholds: Sequence[np.ndarray],
    classes: list[str], patients: np.ndarray, n_boot: int = N_BOOT, seed: int = 0, note: str = "",
    min_positive: int = 1,
) -> dict:  # fmt: skip
    """Macro F1 of the test split, each seed's scores at that seed's validation thresholds, over
    the classes that are `scored` and have a threshold.
    """
    weights = bootstrap_weights(len(labels), patients, n_boot, seed)
    known = np.isfinite(thresholds).all(0)
    mask = known & scored(labels, min_positive)
    values, draws = [], []
    for s, at in zip(scores, thresholds):
        called = s[:, mask] >= at[mask]
        values.append(macro(class_f1(labels[:, mask], called))[0])
        draws.append(macro(class_f1(labels[:, mask], called, weights)))
    value, low, high = interval(np.mean(values), np.mean(draws, axis=0))
    without = [c for c, fine in zip(classes, known) if not fine]
    said = join(
        note,
        "Thresholds of highest F1 on the validation split.",
        f"No validation ECG of {names(without)}: no threshold, left out." if without else "",
        "" if mask.all() else f"{mask.sum()} of {len(classes)} classes scored.",
        "" if mask.any() else "F1 undefined.",
    )
    sd = spread(np.array(values))
    return line(model, task, "macro F1", value, low, high, sd, len(labels), said)
