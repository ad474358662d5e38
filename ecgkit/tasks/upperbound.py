"""Upper bounds: what an ECG classifier knows of the statements and attributes questions are about.

Each model sees the ECG alone. `train_upper_bound` takes SCP codes; `train_on_grounding` the tuples
(ECG, leads, attribute) -> yes or no that single questions say, as in the paper: leads not asked
about are zeros, the loss and the metrics take the asked attributes only and count each attribute
once. Published models: the ECG transformer pretrained by W2V+CMSC+RLM (`start_from`),
ResNet + attention, SE-WRN. How far the question answerers stay behind is in `upperbound_gap`.
Source: Oh et al. 2023 (ECG-QA), upper-bound experiments.

Letters: n stored ECGs, N grounding rows, m test items, K codes or attributes, R draws.

Usage:

    targets = code_targets(cohort, config.min_code_count)
    upper = train_upper_bound(config, cohort, targets, "se_wrn", run.folder / "upper_bound")
    upper.table                                    # code, n, positives, auroc, low, high, ap, f1
    grounding = read_grounding(template_questions)
    bound = train_on_grounding(config, cohort, grounding, "se_wrn", run.folder / "grounding",
                               start_from=upper.model)
    bound.macro_auroc, bound.macro_accuracy        # value, low, high over patients
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ecgkit.data.labels import MARKED, annotation_labels, code_labels
from ecgkit.tasks.classifiers import (
    Items,
    build_classifier,
    classifier_loss,
    predict_items,
    set_prior,
    train_classifier,
    transformer_config,
)
from ecgkit.tasks.engine import TrainLog
from ecgkit.tasks.metrics_multilabel import (
    Interval,
    bootstrap_weights,
    class_table,
    interval,
    macro,
    macro_auc_interval,
)
from ecgkit.types import DataError

__all__ = [
    "GroundingBound", "Targets", "UpperBound", "build_classifier", "classifier_loss",
    "code_targets", "grounding_items", "predict_codes", "set_prior", "train_on_grounding",
    "train_upper_bound", "transformer_config",
]  # fmt: skip


@dataclass(frozen=True)
class Targets:
    """labels (n, K) float32, one row per stored ECG; `codes` names the columns; importance (K,) of
    their losses, None = all alike."""

    labels: np.ndarray
    codes: list[str]
    importance: np.ndarray | None = None


@dataclass(frozen=True)
class UpperBound:
    """A trained classifier, its log, and its scores (m, K) on the test rows."""

    name: str
    model: torch.nn.Module
    log: TrainLog
    rows: np.ndarray
    scores: np.ndarray
    table: pd.DataFrame  # code, n, positives, auroc, low, high, ap, f1
    macro: Interval  # AUROC, mean over the codes with both labels; low, high over patients


@dataclass(frozen=True)
class GroundingBound:
    """A classifier of the grounding tuples; `scores` (m, K) of the test rows at `index` (m,)."""

    name: str
    model: torch.nn.Module
    log: TrainLog
    grounding: object
    index: np.ndarray
    scores: np.ndarray
    table: pd.DataFrame  # attribute, n, positives, auroc, low, high, ap, f1, accuracy
    macro_auroc: Interval  # over attributes with both labels
    macro_accuracy: Interval  # over attributes asked about
    accuracy: float  # over tuples


# --- SCP codes ------------------------------------------------------------------------------------


def code_targets(cohort, min_count: int) -> Targets:
    """SCP codes on at least `min_count` *training* ECGs. Raises DataError when there is none."""
    labels, codes = code_labels(cohort, 1)
    enough = labels[cohort.rows("train")].sum(0) >= min_count
    if not enough.any():
        raise DataError(f"No SCP code stands on {min_count} training ECGs; lower MIN_CODE_COUNT.")
    return Targets(labels[:, enough], [c for c, keep in zip(codes, enough) if keep])


def start_targets(cohort, min_count: int, noise_importance: float = 1.0) -> Targets:
    """What the ECG side of answering models learns first: `code_targets` and PTB-XL's annotations
    (noise, axis, extra beats, stage of infarction), each on enough training ECGs. ECG-QA asks about
    all of them, and of noise out of proportion to its few labels: `noise_importance`.
    """
    codes = code_targets(cohort, min_count)
    labels, names = annotation_labels(cohort)
    enough = labels[cohort.rows("train")].sum(0) >= min_count
    named = [*codes.codes, *(n for n, keep in zip(names, enough) if keep)]
    importance = np.array([noise_importance if n in MARKED else 1.0 for n in named], np.float32)
    return Targets(np.concatenate([codes.labels, labels[:, enough]], 1), named,
                   None if noise_importance == 1.0 else importance)


def train_upper_bound(
    config, cohort, targets: Targets, name: str, folder: Path, start_from=None
) -> UpperBound:
    """Trains one classifier on the training folds and scores it on the test fold."""
    items = Items(np.arange(len(targets.labels)), targets.labels, targets.codes,
                  importance=targets.importance)
    model, log = train_classifier(config, cohort.store, items, cohort.rows("train"), name, folder,
                                  start_from, cohort.fingerprint)
    rows = cohort.rows("test")
    scores, labels = predict_items(model, cohort.store, items, rows), targets.labels[rows]
    patients = cohort.table["patient_id"].to_numpy()[rows]
    table = class_table(labels, scores, targets.codes, patients, named="code")
    return UpperBound(name, model, log, rows, scores, table,
                      macro_auc_interval(labels, scores, patients))


def predict_codes(model, store, rows: np.ndarray, batch: int = 128) -> np.ndarray:
    """Probabilities (m, K) of the stored ECGs `rows`, all leads seen."""
    classes = [str(k) for k in range(model.proj.out_features)]
    items = Items(np.asarray(rows), np.zeros((len(rows), len(classes)), np.float32), classes)
    return predict_items(model, store, items, np.arange(len(rows)), batch)


# --- grounding tuples -----------------------------------------------------------------------------


def grounding_items(grounding) -> Items:
    """All N rows as items; labels 0 where nothing was asked. Raises DataError for rows that are
    not in the store."""
    labels = grounding.labels(np.arange(len(grounding)))
    return Items(grounding.table["row"].to_numpy(), (labels == 1).astype(np.float32),
                 list(grounding.classes), asked=labels >= 0, leads=grounding.leads_mask)


def train_on_grounding(
    config, cohort, grounding, name: str, folder: Path, start_from=None
) -> GroundingBound:
    """Trains one classifier on the tuples of the training split, scores those of the test split.

    start_from: a pretrained ECG transformer, or a classifier of the same kind. The demo's
    steps and rate are meant for one trained on SCP codes (`train_upper_bound`).
    Raises DataError where a split has no tuple.
    """
    for split in ("train", "test"):
        if not len(grounding.index(split)):
            raise DataError(
                f"The grounding table has no tuple in the {split} split; give more questions "
                "(ECGQA) or more ECGs (DATA)."
            )
    items = grounding_items(grounding)
    model, log = train_classifier(config, cohort.store, items, grounding.index("train"), name,
                                  folder, start_from, cohort.fingerprint, grounding=True)
    index = grounding.index("test")
    scores = predict_items(model, cohort.store, items, index)
    patients = cohort.table["patient_id"].to_numpy()[items.rows[index]]
    table, auroc, accuracy = grounding_metrics(items, index, scores, patients)
    pooled = float(np.average(table["accuracy"].fillna(0), weights=table["n"]))
    return GroundingBound(name, model, log, grounding, index, scores, table, auroc, accuracy,
                          pooled)


def grounding_metrics(
    items: Items, index: np.ndarray, scores: np.ndarray, patients: np.ndarray
) -> tuple[pd.DataFrame, Interval, Interval]:
    """(table by attribute, macro AUROC, macro accuracy) over the asked tuples of `index`."""
    labels, asked = items.labels[index], items.asked[index]
    table = class_table(labels, scores, items.classes, patients, "attribute", asked)
    right = ((scores > 0.5) == (labels > 0.5)) & asked
    weights = np.r_[np.ones((1, len(index))), bootstrap_weights(len(index), patients)]
    count = weights @ asked  # (1 + R, K)
    share = np.where(count > 0, weights @ right / np.where(count > 0, count, 1), np.nan)
    draws = macro(share)
    auroc = macro_auc_interval(labels, scores, patients, asked=asked)
    return table.assign(accuracy=share[0]), auroc, interval(draws[0], draws[1:])
