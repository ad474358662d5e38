"""Reading ECGs by sentences: each class is a few prompts, its score the likeness of the ECG to
them.

The paper prints neither prompts, nor how it scores, nor where the thresholds of its F1 come from.
Here prompts are wordings no training caption holds (`text/prompts.py`), the score is the cosine
with the mean latent of a class's prompts, and the thresholds are the validation split's.

Letters: n ECGs, K classes, D width of a latent.

Usage:

    latents = embed(model, cohort)["latents"]
    read = read_by_prompts(model, tokenizer, latents, label_set(cohort, "superdiagnostic"), config)
    read.table, read.by_class                   # macro AUC, macro F1; one line a class
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from ecgkit.tasks.embeddings import readable
from ecgkit.tasks.esi_study import build_model
from ecgkit.tasks.eval_tables import auc_line, join, names, tidy
from ecgkit.tasks.label_sets import LabelSet
from ecgkit.tasks.metrics_multilabel import class_table
from ecgkit.tasks.thresholds import best_thresholds, class_f1, f1_line
from ecgkit.text import prompts
from ecgkit.types import DataError

# --- scores ---------------------------------------------------------------------------------------


@torch.no_grad()
def prompt_latents(model, tokenizer, asked: dict[str, list[str]]) -> np.ndarray:
    """(K, D) unit vectors: the mean latent of each class's prompt ensemble."""
    device, flat = next(model.parameters()).device, [p for group in asked.values() for p in group]
    batch = tokenizer(flat, padding=True, truncation=True, max_length=64, return_tensors="pt")
    ids, mask = batch["input_ids"].to(device), batch["attention_mask"].to(device)
    latents = model.eval().encode_text(ids, mask)["text_latents"].float().cpu()
    parts = latents.split([len(group) for group in asked.values()])
    return torch.stack([F.normalize(part.mean(0), dim=0) for part in parts]).numpy()


def zero_shot(
    ecg_latents: np.ndarray, latents: np.ndarray, normal: int | None = None
) -> np.ndarray:
    """(n, D), (K, D) -> (n, K) cosine similarities, the score of each class.

    With `normal`, the row of the prompts for a normal ECG, each class is scored against it: cosine
    with the class minus cosine with normal; normal itself against the mean of the others. A text's
    common likeness to every ECG then drops out. (The paper does not state how it scores.)
    """
    scores = ecg_latents @ latents.T
    if normal is None or len(latents) < 2:
        return scores
    against = scores - scores[:, [normal]]
    against[:, normal] = scores[:, normal] - np.delete(scores, normal, axis=1).mean(1)
    return against


def untrained_twin(config, model, tokenizer):
    """A model like `model`, trained with `config`, before any training: the control."""
    from transformers import AutoModel

    torch.manual_seed(config.seed + 1)
    text_encoder = AutoModel.from_config(model.unimodal_layers.config, add_pooling_layer=False)
    return build_model(config, text_encoder, len(tokenizer)).eval()


# --- one set of labels ----------------------------------------------------------------------------


@dataclass(frozen=True)
class ReadByPrompts:
    """`scores` (n, K) of the classes that have prompts and test ECGs; `labels` restricted to them.
    """

    labels: LabelSet
    prompts: dict[str, list[str]]
    scores: np.ndarray
    thresholds: np.ndarray
    table: pd.DataFrame  # macro AUC and macro F1 of the test split
    by_class: pd.DataFrame  # class, n, positives, auroc, low, high, ap, f1 (at its threshold)


def read_by_prompts(
    model, tokenizer, latents: np.ndarray, labels: LabelSet, config, name: str = "ESI, zero-shot",
    note: str = "",
) -> ReadByPrompts:  # fmt: skip
    """Scores every ECG of a set of labels by prompts and evaluates the test split.

    `latents` (rows of the store, D). Classes without prompts, and ECGs without a finite latent, are
    left out and named in the table.
    Raises DataError where no class has any, or the test split is empty.
    """
    asked = task_prompts(labels)
    if not asked or not len(labels.index("test")):
        raise DataError(
            f"The task {labels.task!r} has {len(asked)} classes with prompts and "
            f"{len(labels.index('test'))} test ECGs; zero-shot reading needs both. Add wordings to "
            "text/prompts.py, or give more ECGs."
        )
    silent = [c for c in labels.classes if c not in asked]
    labels, unread = readable(labels.with_classes(list(asked)), latents)
    without = f"No prompts for {len(silent)} classes ({names(silent)})." if silent else ""
    scores = zero_shot(latents[labels.rows], prompt_latents(model, tokenizer, asked))
    valid = labels.index("valid")
    at = best_thresholds(labels.labels[valid], scores[valid])
    table, by_class = _test_tables(name, labels, scores, at, config, join(note, unread, without))
    return ReadByPrompts(labels, asked, scores, at, table, by_class)


def _test_tables(name, labels: LabelSet, scores, at, config, note: str):
    """Macro lines of the test split, and one line a class."""
    test = labels.index("test")
    truth, people, scores = labels.labels[test], labels.patients[test], scores[test]
    common = dict(classes=labels.classes, patients=people, n_boot=config.n_boot, seed=config.seed,
                  min_positive=config.min_positive, note=note)  # fmt: skip
    lines = [auc_line(name, labels.task, truth, [scores], **common),
             f1_line(name, labels.task, truth, [scores], [at], **common)]  # fmt: skip
    by_class = class_table(truth, scores, labels.classes, people, n_boot=config.n_boot)
    by_class["f1"] = _f1_at(truth, scores, at)
    return tidy(lines), by_class


def _f1_at(truth, scores, thresholds) -> np.ndarray:
    values = class_f1(truth, scores >= np.nan_to_num(thresholds, nan=np.inf))[0]
    return np.where(np.isfinite(thresholds), values, np.nan)


def task_prompts(labels: LabelSet) -> dict[str, list[str]]:
    """Class -> prompt ensemble: the superclasses' own, else all prompts of a class's SCP codes."""
    if labels.task == "superdiagnostic":
        return prompts.superclass_prompts(labels.classes)
    codes = [code for name in labels.classes for code in labels.members[name]]
    known = prompts.finding_prompts(list(dict.fromkeys(codes)))
    asked = {
        name: [p for code in labels.members[name] for p in known.get(code, ())]
        for name in labels.classes
    }
    return {name: group for name, group in asked.items() if group}


def scorable_codes(cohort, rows: np.ndarray, min_positive: int) -> list[str]:
    """SCP codes with a wording kept back and at least `min_positive` ECGs with and without it."""
    present = Counter(code for codes in cohort.table["scp_codes"].iloc[rows] for code in codes)
    fits = [c for c in prompts.finding_prompts(list(present)) if present[c] >= min_positive]
    return sorted(c for c in fits if len(rows) - present[c] >= min_positive)
