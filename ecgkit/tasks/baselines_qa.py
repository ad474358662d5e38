"""Training and scoring of the ECG-QA baselines.

All models get the same steps, the same batches, and the same learning-rate search on the valid
split; the test split is scored once, at the end. A question is right only if every answer its
template allows is predicted right (exact match). Source: Oh et al. 2023 (ECG-QA) section 5.

Letters: B batch, C leads, T samples, L tokens, N questions, K answers.

Usage:

    data = prepare(config, cohort, questions)
    fused = train_qa(config, data, "fusion", run.folder / "fusion", start_from=ecg_classifier)
    blind = train_qa(config, data, "blind", run.folder / "blind")
    scores = predict(fused.model, data, questions.index("test"))             # (n, K) probabilities
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ecgkit.models import registry
from ecgkit.models.losses_qa import answer_bce
from ecgkit.tasks import metrics
from ecgkit.tasks.classifiers import set_prior
from ecgkit.tasks.ecg_features import encoder_hash
from ecgkit.tasks.engine import TrainLog, TrainSettings, fit
from ecgkit.tasks.metrics_qa import judgeable
from ecgkit.tasks.qa_data import QAData, grouped_batches, prepare, thinned
from ecgkit.tasks.qa_models import FROM_ECG, answer, build_qa, reads_ecg, start_qa
from ecgkit.types import DataError

__all__ = ["QAData", "TrainedQA", "answer", "build_qa", "predict", "prepare", "train_qa",
           "validate"]


@dataclass(frozen=True)
class TrainedQA:
    """A trained model, its log, and what the search saw: lr, loss and exact match on valid."""

    kind: str
    model: torch.nn.Module
    log: TrainLog
    search: pd.DataFrame
    lr: float

    @property
    def n_parameters(self) -> int:
        return sum(p.numel() for p in self.model.parameters())


def train_qa(config, data: QAData, kind: str, folder: Path, start_from=None) -> TrainedQA:
    """Searches the learning rate on the valid split, then trains from scratch with the best one.

    `start_from`: what the model takes weights from (`qa_models.starting_points`), or None; an ECG
    classifier counts for nothing where config.pretrain_steps is 0 and there is no checkpoint.
    The paper preset takes what was published for `kind` (config.of_model). Questions whose list of
    valid answers is empty are not trained on. Raises DataError when none is left.
    """
    config = config.of_model(kind)
    if kind in FROM_ECG and not config.pretrain_steps and not config.checkpoint:
        start_from = None
    rates, search = config.learning_rates(), pd.DataFrame(columns=["lr", "loss", "exact_match"])
    if len(rates) > 1:
        rows = []
        for lr in rates:
            trial = _fit(config, data, kind, lr, config.search_steps, folder / f"lr_{lr:g}",
                         start_from)[1]
            rows.append({"lr": lr, "loss": trial.last.get("eval_loss", np.nan),
                         "exact_match": trial.last.get("eval_exact_match", np.nan)})
        search = pd.DataFrame(rows)
    known = search.dropna()  # empty where the valid split holds no question
    best = rates[0] if known.empty else float(known.loc[known["loss"].idxmin(), "lr"])
    model, log = _fit(config, data, kind, best, config.n_steps, folder, start_from)
    return TrainedQA(kind, model, log, search, best)


def _fit(config, data: QAData, kind: str, lr: float, n_steps: int, folder: Path, start_from):
    torch.manual_seed(config.seed)
    model = build_qa(config, data, kind, start_from)
    train, valid = (usable(data, split) for split in ("train", "valid"))
    if not len(train):
        raise DataError(
            "No training question has a list of valid answers; see metrics_qa.unanswerable."
        )
    head = model.get_submodule(registry.find(type(model).__name__).head)
    set_prior(head, data.questions.labels(train).mean(0))
    start_qa(model, start_from)
    with_ecg = reads_ecg(model)

    def make_batch(indices, rng):
        return data.batch(train[indices], with_ecg, rng if config.time_shift else None, shared=True)

    def loss_fn(model, batch):
        valid_only = batch["valid"] if config.loss_over == "valid" else None
        return {"loss": answer_bce(answer(model, batch)["logits"], batch["labels"], valid_only)}

    looked_at = thinned(valid, config.eval_questions)
    watched = len(looked_at) > 0
    settings = TrainSettings(
        n_steps=n_steps, batch_size=config.batch_size, accumulate=config.accumulate, lr=lr,
        weight_decay=config.weight_decay, betas=(0.9, 0.98), schedule=config.schedule,
        eval_every=config.eval_every, best_metric="exact_match" if watched else "",
        keep=config.keep if watched else "last", patience=config.patience if watched else 0,
        seed=config.seed, device=config.device, precision=config.precision)
    key = "-".join(map(str, (data.fingerprint, kind, config.loss_over, config.pair_share,
                             config.length_window, config.questions_per_ecg,
                             config.feature_grad_mult, config.time_shift,
                             config.eval_questions, registry.settings_of(model),
                             encoder_hash(start_from) if start_from else "random")))
    log = fit(model, len(train), make_batch, loss_fn, settings, folder,
              evaluate=lambda m: validate(m, data, looked_at), fingerprint=key,
              batches=grouped_batches(config, data, train, n_steps),
              names=lambda indices: data.names(train[indices]))
    return model, log


def usable(data: QAData, split: str) -> np.ndarray:
    """Positions of a split whose template has valid answers: an empty list makes anything right."""
    positions = data.questions.index(split)
    return positions[judgeable(data.questions, positions)]


def validate(model, data: QAData, positions: np.ndarray) -> dict[str, float]:
    """Mean BCE over valid answers, and exact match; NaN where there are no questions."""
    if not len(positions):
        return {"loss": float("nan"), "exact_match": float("nan")}
    scores = predict(model, data, positions)
    labels, valid = data.questions.labels(positions), data.questions.valid_mask(positions)
    clipped = scores.clip(1e-6, 1 - 1e-6)
    bce = -np.where(labels > 0.5, np.log(clipped), np.log(1 - clipped))
    matched = metrics.exact_match(labels, scores, valid)
    return {"loss": float(bce[valid].mean()), "exact_match": float(matched.mean())}


@torch.no_grad()
def predict(model, data: QAData, positions: np.ndarray, batch: int = 128) -> np.ndarray:
    """Answer probabilities (n, K), in the order of `positions`."""
    model.eval()
    device = next(model.parameters()).device
    # Questions about one ECG side by side, so that it is encoded once; pairs by themselves.
    order = np.lexsort((data.row1[positions], data.row2[positions] >= 0))
    scores = np.empty((len(positions), registry.n_labels_of(model)), dtype=np.float32)
    for i in range(0, len(order), batch):
        part = order[i : i + batch]
        tensors = data.batch(positions[part], with_ecg=reads_ecg(model), shared=True)
        tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
        scores[part] = torch.sigmoid(answer(model, tensors)["logits"]).float().cpu().numpy()
    return scores
