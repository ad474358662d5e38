"""Tidy tables of an evaluation: one number a line, with its interval, its spread and what to know.

A number over several seeds is their mean, `sd` their sample deviation (NaN for one seed), and the
interval that of the mean over the same draws of patients: it holds the patients' luck, not the
seeds'. Undefined numbers are NaN with a sentence in `note`, never an error.

Letters: n ECGs, K classes, R draws.

Usage:

    lines = [auc_line("ESI, linear probe", "superdiagnostic", labels, [scores], classes, patients)]
    table = tidy(lines)            # model, task, metric, value, low, high, sd, n, note
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ecgkit.tasks.metrics_multilabel import bootstrap_weights, interval, macro, weighted_aucs

COLUMNS = ["model", "task", "metric", "value", "low", "high", "sd", "n", "note"]
N_BOOT = 300


def tidy(lines: Sequence[dict]) -> pd.DataFrame:
    """Lines -> DataFrame with COLUMNS, in that order."""
    return pd.DataFrame(list(lines), columns=COLUMNS)


def line(
    model: str, task: str, metric: str, value: float, low: float = np.nan, high: float = np.nan,
    sd: float = np.nan, n: int = 0, note: str = "",
) -> dict:  # fmt: skip
    """One line; what is not known stays NaN."""
    values = (model, task, metric, float(value), float(low), float(high), float(sd), int(n), note)
    return dict(zip(COLUMNS, values))


def auc_line(
    model: str, task: str, labels, scores: Sequence[np.ndarray], classes: list[str],
    patients: np.ndarray, n_boot: int = N_BOOT, seed: int = 0, note: str = "",
    min_positive: int = 1,
) -> dict:  # fmt: skip
    """Macro AUC of (n, K) `labels` under each seed's (n, K) `scores`, over the `scored` classes."""
    mask = scored(labels, min_positive)
    truth, weights = labels[:, mask], bootstrap_weights(len(labels), patients, n_boot, seed)
    once, parts = np.ones((1, len(labels))), [s[:, mask] for s in scores]
    each = np.array([macro(weighted_aucs(truth, s, once))[0] for s in parts])
    draws = np.mean([macro(weighted_aucs(truth, s, weights)) for s in parts], axis=0)
    value, low, high = interval(each.mean(), draws)
    said = join(note, left_out_note(labels, classes, min_positive))
    return line(model, task, "macro AUC", value, low, high, spread(each), len(labels), said)


def scored(labels: np.ndarray, min_positive: int = 1) -> np.ndarray:
    """(K,) bool: classes with at least `min_positive` ECGs with and without them, and one at least.

    1 is the benchmark's way. A class of one or two ECGs is absent from many bootstrap draws, whose
    macro value then is that of other classes: with 5 or more the interval means what it says.
    """
    n_positive, least = (np.asarray(labels) > 0.5).sum(0), max(1, min_positive)
    return (n_positive >= least) & (len(labels) - n_positive >= least)


def left_out_note(labels: np.ndarray, classes: list[str], min_positive: int = 1) -> str:
    """A sentence naming the classes that are not scored; "" where there is none."""
    mask = scored(labels, min_positive)
    absent = [c for c, fine in zip(classes, mask) if not fine]
    if not absent:
        return ""
    rest = f"{mask.sum()} of {len(classes)} classes scored"
    rest = rest if mask.any() else "no class is left, AUC undefined"
    if min_positive <= 1:
        return f"AUC undefined for {names(absent)}: only one label in {len(labels)} ECGs; {rest}."
    few = f"fewer than {min_positive} of {len(labels)} ECGs have it, or lack it"
    return f"Not scored: {names(absent)} ({few}); {rest}."


def join(*sentences: str) -> str:
    """Sentences with a space between; empty ones fall away."""
    return " ".join(sentence for sentence in sentences if sentence)


def spread(values: np.ndarray) -> float:
    """Sample standard deviation over seeds; NaN for a single one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def names(items: Sequence[str], most: int = 6) -> str:
    """`A, B and 3 more`."""
    shown = ", ".join(map(str, items[:most]))
    return shown if len(items) <= most else f"{shown} and {len(items) - most} more"
