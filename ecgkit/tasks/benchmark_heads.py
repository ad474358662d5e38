"""The PTB-XL benchmark's tasks, the heads the field quotes: all, diagnostic, subdiagnostic,
superdiagnostic, form, rhythm; folds 1 to 8 train, 9 valid, 10 test; macro AUROC and F-max.

Source: Strodthoff et al. 2021 (IEEE JBHI 25(5)). Labels and who is kept: `data.labels`.

Usage:

    head = train_benchmark_head(config, cohort, "superdiagnostic", "se_wrn", run.folder / "super")
    head.macro_auroc, head.f_max, head.table            # (value, low, high), float, per class
    benchmark_table([head, ...])                        # task, model, K, n, AUROC, F-max
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ecgkit.data.labels import benchmark_labels
from ecgkit.tasks.classifiers import Items, predict_items, train_classifier
from ecgkit.tasks.engine import TrainLog
from ecgkit.tasks.metrics_multilabel import (
    Interval,
    class_table,
    f_max,
    macro_auc_interval,
    macro_f_max,
)
from ecgkit.types import DataError


@dataclass(frozen=True)
class BenchmarkHead:
    """One classifier of one task; `scores` (m, K) of the test fold's `rows` (m,) of the store."""

    task: str
    name: str
    model: torch.nn.Module
    log: TrainLog
    rows: np.ndarray
    scores: np.ndarray
    table: pd.DataFrame  # class, n, positives, auroc, low, high, ap, f1
    macro_auroc: Interval  # over the classes with both labels in the test fold
    f_max: float  # sample-centric, as in the benchmark
    macro_f_max: float  # each class at its own best threshold


def train_benchmark_head(
    config, cohort, task: str, name: str, folder: Path, start_from=None
) -> BenchmarkHead:
    """Trains one classifier on one task's training folds and scores it on the test fold.

    Raises DataError where a fold has no ECG with a label of the task.
    """
    labels, classes, rows = benchmark_labels(cohort, task)
    items = Items(rows, labels, classes)
    train, test = (np.flatnonzero(np.isin(rows, cohort.rows(s))) for s in ("train", "test"))
    for split, index in (("training", train), ("test", test)):
        if not len(index):
            raise DataError(f"No {split} ECG has a label of the task {task!r}; give more ECGs.")
    model, log = train_classifier(config, cohort.store, items, train, name, folder, start_from,
                                  f"{cohort.fingerprint}-{task}")
    scores, truth = predict_items(model, cohort.store, items, test), labels[test]
    patients = cohort.table["patient_id"].to_numpy()[rows[test]]
    return BenchmarkHead(
        task, name, model, log, rows[test], scores, class_table(truth, scores, classes, patients),
        macro_auc_interval(truth, scores, patients), f_max(truth, scores),
        macro_f_max(truth, scores),
    )  # fmt: skip


def benchmark_table(heads: list[BenchmarkHead]) -> pd.DataFrame:
    """One row a head: task, model, classes, scored (with both labels), n, auroc, low, high, f_max.
    """
    rows = []
    for head in heads:
        value, low, high = head.macro_auroc
        rows.append({"task": head.task, "model": head.name, "classes": len(head.table),
                     "scored": int(head.table["auroc"].notna().sum()), "n": len(head.rows),
                     "auroc": value, "low": low, "high": high, "f_max": head.f_max})  # fmt: skip
    return pd.DataFrame(rows)
