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
) -> dict:  # fmt: skip
    """Macro AUC of (n, K) `labels` under each seed's (n, K) `scores`, over classes with both
    labels.
    """
    scores, once = list(scores), np.ones((1, len(labels)))
    each = np.array([macro(weighted_aucs(labels, s, once))[0] for s in scores])
    weights = bootstrap_weights(len(labels), patients, n_boot, seed)
    draws = np.mean([macro(weighted_aucs(labels, s, weights)) for s in scores], axis=0)
    value, low, high = interval(each.mean(), draws)
    said = " ".join(part for part in (note, one_label_note(labels, classes)) if part)
    return line(model, task, "macro AUC", value, low, high, spread(each), len(labels), said)


def spread(values: np.ndarray) -> float:
    """Sample standard deviation over seeds; NaN for a single one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def one_label_note(labels: np.ndarray, classes: list[str]) -> str:
    """A sentence naming the classes whose AUC is undefined here; "" where there is none."""
    n_positive = (np.asarray(labels) > 0.5).sum(0)
    absent = [c for c, n in zip(classes, n_positive) if n in (0, len(labels))]
    if not absent:
        return ""
    left_out = "no class is left" if len(absent) == len(classes) else "they are left out"
    return f"AUC undefined for {names(absent)}: only one label in {len(labels)} ECGs; {left_out}."


def names(items: Sequence[str], most: int = 6) -> str:
    """`A, B and 3 more`."""
    shown = ", ".join(map(str, items[:most]))
    return shown if len(items) <= most else f"{shown} and {len(items) - most} more"
