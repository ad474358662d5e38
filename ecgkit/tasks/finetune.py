"""All weights of an ECG encoder trained on labels, from a pretrained start or from scratch.

The encoder that is given stays as it is; a copy is trained, with a linear head that starts at the
labels' base rates. The weights of the best macro AUC on the validation split are kept, so the test
split chooses nothing. The paper states neither steps nor rate of its fine-tuning.

Letters: n ECGs, B batch, C leads, T samples, K classes.

Usage:

    encoder = EcgEncoder("ESI", model.img_encoder)               # or from_folder("ESI", folder)
    tuned = finetune(encoder, cohort, labels, config, folder)    # tuned.scores (n, K)
    table = finetune_table("ESI, fine-tuned", encoder, cohort, labels, config, folder)
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from ecgkit.config import short_hash
from ecgkit.models.encoder_head import EncoderHead
from ecgkit.models.ssl_heads import embedding_width
from ecgkit.tasks.classifiers import set_prior
from ecgkit.tasks.ecg_features import encoder_hash
from ecgkit.tasks.embeddings import EcgEncoder
from ecgkit.tasks.engine import TrainLog, TrainSettings, fit
from ecgkit.tasks.eval_tables import auc_line, tidy
from ecgkit.tasks.label_sets import LabelSet
from ecgkit.tasks.metrics import macro_auc
from ecgkit.tasks.thresholds import best_thresholds, f1_line
from ecgkit.types import DataError


@dataclass(frozen=True)
class FineTuned:
    """The trained copy, its log, and probabilities (n, K) of every ECG of the set."""

    encoder: EcgEncoder
    model: EncoderHead
    log: TrainLog
    scores: np.ndarray


def finetune(
    encoder: EcgEncoder, cohort, labels: LabelSet, config, folder: str | Path, seed: int = 0,
    n_steps: int | None = None, lr: float | None = None, part: np.ndarray | None = None,
) -> FineTuned:  # fmt: skip
    """Trains a copy of `encoder` with a head on the training split of `labels`; resumes as `fit`.

    `n_steps`, `lr` default to `config.finetune_*`; `part` takes these positions of the set instead
    of its whole training split (a share of the labels). Raises DataError without training ECGs.
    """
    train = labels.index("train") if part is None else np.asarray(part)
    if not len(train):
        raise DataError(f"No training ECG has a label of {labels.task!r}; give more ECGs.")
    model = headed(encoder, cohort.store, len(labels.classes), seed)
    set_prior(model.proj, labels.labels[train].mean(0))
    judged = "score" if len(labels.index("valid")) else ""
    settings = train_settings(config, len(train), n_steps or config.finetune_steps,
                              lr or config.finetune_lr, seed, judged)  # fmt: skip
    copied = dataclasses.replace(encoder, module=model.encoder)

    def make_batch(index, rng):
        picked = train[index]
        return {"ecg": encoder.signal(cohort.store.read(labels.rows[picked])),
                "labels": torch.from_numpy(labels.labels[picked].astype(np.float32))}  # fmt: skip

    log = fit(model, len(train), make_batch, label_loss, settings, folder,
              validator(copied, cohort.store, labels), fingerprint(encoder, cohort, labels, train))
    scores = predict(model, copied, cohort.store, labels.rows)
    return FineTuned(copied, model, log, scores)


def finetune_table(
    name: str, encoder: EcgEncoder, cohort, labels: LabelSet, config, folder: str | Path,
    note: str = "", **how,
) -> pd.DataFrame:  # fmt: skip
    """Macro AUC and macro F1 of the test split over `config.n_seeds` fine-tunings.

    `how` goes to `finetune`. Raises DataError without test ECGs.
    """
    test, valid = labels.index("test"), labels.index("valid")
    if not len(test):
        raise DataError(f"No test ECG has a label of {labels.task!r}; give more ECGs.")
    scores = [finetune(encoder, cohort, labels, config, Path(folder) / f"seed{config.seed + s}",
                       config.seed + s, **how).scores for s in range(config.n_seeds)]  # fmt: skip
    common = dict(classes=labels.classes, patients=labels.patients[test], n_boot=config.n_boot,
                  seed=config.seed, note=note, min_positive=config.min_positive)  # fmt: skip
    truth, on_test = labels.labels, [s[test] for s in scores]
    at = [best_thresholds(truth[valid], s[valid]) for s in scores]
    return tidy([auc_line(name, labels.task, truth[test], on_test, **common),
                 f1_line(name, labels.task, truth[test], on_test, at, **common)])  # fmt: skip


# --- parts ----------------------------------------------------------------------------------------


def headed(encoder: EcgEncoder, store, n_classes: int, seed: int, n_samples: int = 0):
    """A copy of the encoder below a seeded linear head; `n_samples` 0 = the store's."""
    module = copy.deepcopy(encoder.module)
    shape = (len(store.leads), n_samples or store.n_samples)
    torch.manual_seed(seed)
    return EncoderHead(module, embedding_width(module, encoder.embed, shape), n_classes,
                       encoder.embed)  # fmt: skip


def train_settings(
    config, n_items: int, n_steps: int, lr: float, seed: int, best_metric: str = ""
) -> TrainSettings:
    """AdamW, cosine; with `best_metric` the best of ten evaluations is kept."""
    how = {"best_metric": best_metric, "keep": "best"} if best_metric else {}
    return TrainSettings(
        n_steps=n_steps, batch_size=min(config.finetune_batch, n_items), lr=lr, seed=seed,
        device=config.device, precision=config.precision, eval_every=max(1, n_steps // 10),
        log_every=max(1, n_steps // 40), checkpoint_every=max(100, n_steps // 4), **how,
    )  # fmt: skip


def label_loss(model, batch) -> dict[str, torch.Tensor]:
    logits = model(batch["ecg"])["logits"].float()
    return {"loss": F.binary_cross_entropy_with_logits(logits, batch["labels"])}


def validator(encoder: EcgEncoder, store, labels: LabelSet):
    """evaluate(model) -> "score": the validation split's macro AUC, or, where that is undefined,
    minus its loss. None without validation ECGs: then the last weights are kept.
    """
    valid = labels.index("valid")
    truth = labels.labels[valid]
    if not len(valid):
        return None

    def evaluate(model) -> dict[str, float]:
        scores = predict(model, encoder, store, labels.rows[valid])
        p = np.clip(scores, 1e-7, 1 - 1e-7)
        loss = -float(np.mean(truth * np.log(p) + (1 - truth) * np.log(1 - p)))
        auc = macro_auc(truth, scores)
        return {"score": auc if np.isfinite(auc) else -loss, "loss": loss}

    return evaluate


@torch.no_grad()
def predict(model: EncoderHead, encoder: EcgEncoder, store, rows, batch: int = 128) -> np.ndarray:
    """Probabilities (n, K) of `rows` of a store, in evaluation mode."""
    model.eval()
    device = next(model.parameters()).device
    parts = []
    for i in range(0, len(rows), batch):
        signal = encoder.signal(store.read(rows[i : i + batch])).to(device)
        parts.append(torch.sigmoid(model(signal)["logits"].float()).cpu().numpy())
    return np.concatenate(parts)


def fingerprint(encoder: EcgEncoder, cohort, labels: LabelSet, train: np.ndarray) -> str:
    """Names whatever decides the result beside the settings."""
    how = [encoder.prepare.__name__, encoder_hash(encoder.module), str(encoder.module)]
    data = [labels.task, labels.classes, labels.rows[train].tolist(),
            labels.labels[train].astype(int).tolist()]  # fmt: skip
    return short_hash([cohort.fingerprint, how, data])
