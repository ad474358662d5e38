"""Upper bounds: what an ECG classifier knows of the statements that questions are about.

Each model sees the ECG alone and is trained on the SCP codes of the training folds with the
published per-attribute BCE. Source: Oh et al. 2023, section on upper bounds.

Letters: B batch, C leads, T samples, K codes.

Usage:
    targets = code_targets(cohort, config.min_code_count)
    upper = train_upper_bound(config, cohort, targets, "se_wrn", run.folder / "upper_bound")
    upper.table                                    # code, n_test, auroc, low, high
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ecgkit.data.labels import code_labels
from ecgkit.models.ecg_transformer import ECGTransformerClassifier, ECGTransformerConfig
from ecgkit.models.losses_qa import attribute_macro_bce
from ecgkit.models.resnet_attention import ResNetAttention
from ecgkit.models.se_wrn import SEWideResNet
from ecgkit.tasks import metrics
from ecgkit.tasks.engine import TrainLog, TrainSettings, fit
from ecgkit.types import DataError


@dataclass(frozen=True)
class Targets:
    """labels (n, K) float32, one row per stored ECG; `codes` names the columns."""

    labels: np.ndarray
    codes: list[str]


@dataclass(frozen=True)
class UpperBound:
    """A trained classifier, its log, and its scores (m, K) on the test rows."""

    name: str
    model: torch.nn.Module
    log: TrainLog
    rows: np.ndarray
    scores: np.ndarray
    table: pd.DataFrame  # code, positives, auroc
    macro: tuple[float, float, float]  # value, low, high over patients


def code_targets(cohort, min_count: int) -> Targets:
    """SCP codes on at least `min_count` *training* ECGs. Raises DataError when there is none."""
    labels, codes = code_labels(cohort, 1)
    enough = labels[cohort.rows("train")].sum(0) >= min_count
    if not enough.any():
        raise DataError(f"No SCP code stands on {min_count} training ECGs; lower MIN_CODE_COUNT.")
    return Targets(labels[:, enough], [c for c, keep in zip(codes, enough) if keep])


def transformer_config(config, cls=ECGTransformerConfig, **more):
    """The transformers' sizes as this study's settings give them; `more` overrides or adds."""
    sizes = dict(
        conv_layers=((config.conv_channels, config.conv_kernel, 2),) * config.n_convs,
        dim=config.dim, ffn_dim=config.ffn_dim,
        n_layers=config.n_layers, n_heads=config.n_heads, pos_kernel=config.pos_kernel,
        pos_groups=config.pos_groups, dropout=config.dropout, attention_dropout=config.dropout,
        activation_dropout=config.activation_dropout, protocol=config.protocol)
    return cls(**{**sizes, **more})


def build_classifier(config, name: str, n_labels: int) -> torch.nn.Module:
    """`name`: ecg_transformer | se_wrn | resnet_attention."""
    width, blocks = config.upper_width, config.upper_blocks
    if name == "ecg_transformer":
        sizes = transformer_config(config, n_layers=config.pretrain_layers)
        return ECGTransformerClassifier(sizes, n_labels)
    if name == "se_wrn":
        widths = (width, width, 2 * width, 4 * width, 8 * width)
        return SEWideResNet(n_labels, widths=widths, n_blocks=blocks)
    return ResNetAttention(n_labels, width=width, n_blocks=blocks, n_heads=min(8, width),
                           protocol=config.protocol)


def set_prior(head: torch.nn.Linear, rates: np.ndarray) -> None:
    """Starts a sigmoid head at the labels' base rates (K,), so no step goes into learning them."""
    rates = np.clip(rates, 1e-3, 1 - 1e-3)
    head.bias.data.copy_(torch.from_numpy(np.log(rates / (1 - rates))))


def train_upper_bound(config, cohort, targets: Targets, name: str, folder: Path) -> UpperBound:
    """Trains one classifier on the training folds and scores it on the test fold."""
    torch.manual_seed(config.seed)
    model = build_classifier(config, name, len(targets.codes))
    rows = cohort.rows("train")
    set_prior(model.proj, targets.labels[rows].mean(0))
    pretrains = name == "ecg_transformer"
    settings = TrainSettings(
        n_steps=max(1, config.pretrain_steps if pretrains else config.upper_steps),
        batch_size=config.upper_batch, lr=config.pretrain_lr if pretrains else config.upper_lr,
        weight_decay=1e-4, schedule=config.schedule, seed=config.seed, device=config.device,
        precision=config.precision)

    def make_batch(indices, rng):
        picked = rows[indices]
        return {"ecg": torch.from_numpy(cohort.store.read(picked)),
                "labels": torch.from_numpy(targets.labels[picked])}

    log = fit(model, len(rows), make_batch, classifier_loss, settings, folder,
              fingerprint=f"{cohort.fingerprint}-{name}-{','.join(targets.codes)}")
    return score_upper_bound(model, log, cohort, targets, name)


def classifier_loss(model, batch) -> dict[str, torch.Tensor]:
    logits = model(batch["ecg"])["logits"]
    return {"loss": attribute_macro_bce(logits, batch["labels"])}


def score_upper_bound(model, log, cohort, targets: Targets, name: str) -> UpperBound:
    """AUROC on the test fold, by code and macro-averaged, with a patient bootstrap."""
    rows = cohort.rows("test")
    scores, labels = predict_codes(model, cohort.store, rows), targets.labels[rows]
    table = pd.DataFrame({"code": targets.codes, "positives": labels.sum(0).astype(int),
                          "auroc": metrics.class_aucs(labels, scores)})
    macro = metrics.bootstrap_statistic(
        lambda i: metrics.macro_auc(labels[i], scores[i]), len(rows),
        groups=cohort.table["patient_id"].to_numpy()[rows], n_boot=100)
    return UpperBound(name, model, log, rows, scores, table, macro)


@torch.no_grad()
def predict_codes(model, store, rows, batch: int = 128) -> np.ndarray:
    """Probabilities (m, K) of the stored ECGs `rows`."""
    model.eval()
    device = next(model.parameters()).device
    parts = [
        torch.sigmoid(model(torch.from_numpy(store.read(rows[i : i + batch])).to(device))["logits"])
        for i in range(0, len(rows), batch)
    ]
    return torch.cat(parts).float().cpu().numpy()
