"""ECG classifiers: built by name, trained on any set of labelled ECGs, read out for any of them.

One training for all uses: SCP codes, the grounding tuples of ECG-QA's upper bounds, the PTB-XL
benchmark's tasks. What differs stands in `Items`: which ECG, which of its leads may be seen (the
others are zeros on the 12-lead canvas, as published), which classes were asked about, the labels.
The loss is the published one: BCE averaged within each class of the batch, then over classes.

Letters: n items, K classes, B batch, C leads, T samples.

Usage:

    items = Items(rows, labels, codes)
    train, test = cohort.rows("train"), cohort.rows("test")
    model, log = train_classifier(config, cohort.store, items, train, "se_wrn", folder)
    scores = predict_items(model, cohort.store, items, test)                # (m, K) probabilities
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ecgkit.config import short_hash
from ecgkit.config.classifiers import ClassifierSettings
from ecgkit.features.augment import shift_time
from ecgkit.models.ecg_transformer import ECGTransformerClassifier, ECGTransformerConfig
from ecgkit.models.losses_qa import attribute_macro_bce
from ecgkit.models.resnet_attention import ResNetAttention
from ecgkit.models.se_wrn import SEWideResNet
from ecgkit.models.transfer import copy_fitting, ecg_weights
from ecgkit.tasks.ecg_features import encoder_hash
from ecgkit.tasks.engine import TrainLog, TrainSettings, fit
from ecgkit.types import ConfigError, DataError, ModelError


@dataclass(frozen=True)
class Items:
    """n labelled ECGs. rows (n,) in the store; labels (n, K) 0/1; asked (n, K) bool, None = all;
    leads (n, C) bool, the leads that may be seen, None = all. importance (K,) multiplies the losses
    of classes, None = all alike. Raises DataError where sizes differ.
    """

    rows: np.ndarray
    labels: np.ndarray
    classes: list[str]
    asked: np.ndarray | None = None
    leads: np.ndarray | None = None
    importance: np.ndarray | None = None

    def __post_init__(self):
        n, k = len(self.rows), len(self.classes)
        parts = {"labels": self.labels, "asked": self.asked}
        for name, part in parts.items():
            if part is not None and part.shape != (n, k):
                raise DataError(f"{name} is {part.shape} for {n} ECGs and {k} classes.")
        if self.leads is not None and len(self.leads) != n:
            raise DataError(f"leads has {len(self.leads)} rows for {n} ECGs.")
        if n and np.min(self.rows) < 0:
            raise DataError(
                f"{int((np.asarray(self.rows) < 0).sum())} of {n} ECGs are not in the store; leave "
                "them out before training."
            )

    def signal(self, store, index: np.ndarray, rng=None) -> torch.Tensor:
        """(B, C, T) mV; leads that may not be seen are zeros; a generator shifts each in time."""
        signal = store.read(self.rows[index])
        if rng is not None:
            signal = shift_time(signal, rng)
        if self.leads is not None:
            signal *= self.leads[index][:, :, None]
        return torch.from_numpy(signal)

    def batch(self, store, index: np.ndarray, rng=None) -> dict[str, torch.Tensor]:
        """ecg (B, C, T), labels (B, K) and, unless all are asked, asked (B, K)."""
        batch = {"ecg": self.signal(store, index, rng),
                 "labels": torch.from_numpy(self.labels[index].astype(np.float32))}
        if self.asked is not None:
            batch["asked"] = torch.from_numpy(self.asked[index])
        return batch

    def rates(self, index: np.ndarray) -> np.ndarray:
        """(K,) share of positives among what was asked; 0 where nothing was."""
        labels = self.labels[index] > 0.5
        asked = np.ones_like(labels) if self.asked is None else self.asked[index]
        return (labels & asked).sum(0) / np.maximum(asked.sum(0), 1)

    def key(self) -> str:
        """Hash of all that training reads but the signals."""
        parts = [np.ascontiguousarray(part).tobytes() for part in
                 (self.rows, self.labels, self.asked, self.leads, self.importance)
                 if part is not None]
        return short_hash([self.classes, [_digest(part) for part in parts]])


def _digest(raw: bytes) -> str:
    import hashlib

    return hashlib.sha256(raw).hexdigest()


# --- models ---------------------------------------------------------------------------------------


def transformer_config(config, cls=ECGTransformerConfig, **more):
    """The transformers' sizes as this study's settings give them; `more` overrides or adds."""
    sizes = dict(
        conv_layers=((config.conv_channels, config.conv_kernel, 2),) * config.n_convs,
        dim=config.dim, ffn_dim=config.ffn_dim,
        n_layers=config.n_layers, n_heads=config.n_heads, pos_kernel=config.pos_kernel,
        pos_groups=config.pos_groups, dropout=config.dropout, attention_dropout=config.dropout,
        activation_dropout=config.activation_dropout, protocol=config.protocol,
        roughness_mv=ClassifierSettings.of(config).roughness_mv)
    return cls(**{**sizes, **more})


def build_classifier(config, name: str, n_labels: int, **more) -> torch.nn.Module:
    """`name`: ecg_transformer | se_wrn | resnet_attention; `more` goes to the transformer's config.

    Raises ConfigError for any other name.
    """
    builders = {"ecg_transformer": _transformer, "se_wrn": _se_wrn, "resnet_attention": _resnet}
    if name not in builders:
        raise ConfigError(f"{name!r} is no classifier; choose one of {', '.join(builders)}.")
    return builders[name](config, ClassifierSettings.of(config), n_labels, **more)


def _transformer(config, settings, n_labels, **more):
    sizes = transformer_config(config, **{"n_layers": settings.pretrain_layers, **more})
    return ECGTransformerClassifier(sizes, n_labels)


def _se_wrn(config, settings, n_labels):
    width, blocks = settings.size_of("se_wrn")
    model = SEWideResNet(n_labels, widths=(width, width, 2 * width, 4 * width, 8 * width),
                         n_blocks=blocks, kernel=settings.upper_kernel,
                         dropout=settings.dropout_of("se_wrn"))
    # A longer first step costs no parameter and halves all work behind it (published: 1).
    model.encoder.conv.stride = (settings.upper_stem_stride,)
    return model


def _resnet(config, settings, n_labels):
    width, blocks = settings.size_of("resnet_attention")
    return ResNetAttention(n_labels, width=width, n_blocks=blocks,
                           n_heads=min(8, width), dropout=settings.dropout_of("resnet_attention"),
                           protocol=getattr(config, "protocol", "paper"))


def set_prior(head: torch.nn.Linear, rates: np.ndarray) -> None:
    """Starts a sigmoid head at the labels' base rates (K,), so no step goes into learning them."""
    rates = np.clip(rates, 1e-3, 1 - 1e-3)
    head.bias.data.copy_(torch.from_numpy(np.log(rates / (1 - rates))))


def started_classifier(config, name: str, n_labels: int, start_from=None) -> torch.nn.Module:
    """A classifier with seeded random weights, or with those of `start_from` below the head.

    start_from: for ecg_transformer any pretrained module that holds one; its convolutions then
    learn at `finetune_grad_mult` of the rate, as published for W2V+CMSC+RLM. For the others a
    classifier of the same kind, trained on other labels. Raises ModelError where nothing fits.
    """
    torch.manual_seed(config.seed)
    if start_from is None:
        return build_classifier(config, name, n_labels)
    if name == "ecg_transformer":
        factor = ClassifierSettings.of(config).finetune_grad_mult
        model = build_classifier(config, name, n_labels, feature_grad_mult=factor)
        copy_fitting(model.encoder, ecg_weights(start_from))
        return model
    model = build_classifier(config, name, n_labels)
    if type(start_from) is not type(model):
        raise ModelError(
            f"{name} cannot start from a {type(start_from).__name__}; give a {name} trained on "
            "other labels, or none."
        )
    below = {k: v for k, v in start_from.state_dict().items() if not k.startswith("proj.")}
    copy_fitting(model, below)
    return model


# --- training and reading out ---------------------------------------------------------------------


def train_classifier(
    config, store, items: Items, train: np.ndarray, name: str, folder: Path, start_from=None,
    fingerprint: str = "", grounding: bool = False,
) -> tuple[torch.nn.Module, TrainLog]:  # fmt: skip
    """Trains one classifier on the items `train`; resumes from `folder` as `fit` does.

    `fingerprint` names the recordings; `grounding` takes the steps and rate of grounding tuples.
    Raises DataError without any training item.
    """
    if not len(train):
        raise DataError(
            f"There is no training ECG for {name}; give more ECGs, or other classes."
        )
    train = np.asarray(train)
    model = started_classifier(config, name, len(items.classes), start_from)
    set_prior(model.proj, items.rates(train))
    settings = TrainSettings(
        **ClassifierSettings.of(config).training(name, grounding),
        schedule=getattr(config, "schedule", "cosine"), seed=config.seed, device=config.device,
        precision=config.precision)
    started = "random" if start_from is None else encoder_hash(model.encoder)
    # Strides, dropout and protocol leave no trace in the weights' shapes, which `fit` compares.
    built = [str(model), repr(getattr(model.encoder, "config", "")),
             getattr(model, "protocol", "")]
    key = f"{fingerprint}-{name}-{items.key()}-{short_hash([train.tolist(), built])}-{started}"
    # The residual networks pool over time, so that a shift would only cost them training time.
    shifts = ClassifierSettings.of(config).time_shift and name == "ecg_transformer"
    key += "-shifted" if shifts else ""

    def make_batch(index, rng):
        return items.batch(store, train[index], rng if shifts else None)

    weights = None
    if items.importance is not None:
        weights = torch.from_numpy(np.asarray(items.importance, np.float32))

    def loss(model, batch):
        return classifier_loss(
            model, batch, None if weights is None else weights.to(batch["labels"].device))

    log = fit(model, len(train), make_batch, loss, settings, Path(folder), fingerprint=key)
    return model, log


def classifier_loss(model, batch, importance=None) -> dict[str, torch.Tensor]:
    """`importance` (K,): as in Items."""
    logits = model(batch["ecg"])["logits"]
    return {"loss": attribute_macro_bce(logits, batch["labels"], batch.get("asked"), importance)}


@torch.no_grad()
def predict_items(model, store, items: Items, index: np.ndarray, batch: int = 128) -> np.ndarray:
    """Probabilities (m, K) of the items at `index` (m,)."""
    model.eval()
    device, index = next(model.parameters()).device, np.asarray(index)
    scores = np.empty((len(index), len(items.classes)), dtype=np.float32)
    for i in range(0, len(index), batch):
        signal = items.signal(store, index[i : i + batch]).to(device)
        scores[i : i + batch] = torch.sigmoid(model(signal)["logits"]).float().cpu().numpy()
    return scores
