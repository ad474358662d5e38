"""The encoders ESI stands beside in its tables, one call each by name.

Supervised, from scratch, all weights on the labels: xresnet, resnet50, lstm, convnext. Without
labels on the training split, then a linear probe and a fine-tuning: simclr, byol, leaves (on ESI's
ConvNeXt, as in the paper) and cmsc (on the kit's ECG transformer; the paper's CLOCS). Quoted in the
paper and not rerun here: MLBF-Net, MVMSN, MERL, CRT, METS.

Supervised ones read what ESI reads (one z-score a record); self-supervised ones mV, as
`ssl_pretrain` does. Scratch training takes SCRATCH_LR, for the paper's fine-tuning rate would leave
random weights where they are.

Usage:

    for name in baseline_names(config.baselines):
        one = run_baseline(name, config, cohort, labels, run.folder / name, backbone="atto")
        one.table, one.encoder                   # tidy lines; for identification
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from ecgkit.config import KitConfig
from ecgkit.config.baselines import BaselinesConfig
from ecgkit.features.encoder_input import as_recorded
from ecgkit.models.ecg_encoders import encoder_for
from ecgkit.models.lstm1d import LSTM1D
from ecgkit.models.resnet1d import ResNet1D
from ecgkit.tasks.embeddings import EcgEncoder, readable
from ecgkit.tasks.eval_tables import join, tidy
from ecgkit.tasks.finetune import finetune, finetune_table
from ecgkit.tasks.label_sets import LabelSet
from ecgkit.tasks.leaves import pretrain_leaves
from ecgkit.tasks.probes import probe_table
from ecgkit.tasks.ssl_pretrain import pretrain
from ecgkit.types import ConfigError

SUPERVISED = ("xresnet", "resnet50", "lstm", "convnext")
SELF_SUPERVISED = ("simclr", "byol", "cmsc", "leaves")
SCRATCH_LR = 1e-3  # where FINETUNE_LR is below it
BACKBONE = {"tiny": "micro", "demo": "atto", "paper": "base"}  # ESI's own, where none is named
SMALL_RESNET = {"tiny": ((1, 1, 1, 1), 8), "demo": ((1, 1, 1, 1), 16)}  # blocks, first width
LSTM_HIDDEN = {"tiny": 8, "demo": 48, "paper": 256}


@dataclass(frozen=True)
class Baseline:
    """`table`: tidy lines of one set of labels; `encoder`: the trained one, for other tasks."""

    name: str
    encoder: EcgEncoder
    table: pd.DataFrame


def baseline_names(text: str) -> list[str]:
    """Names separated by spaces or commas. Raises ConfigError for one that is none."""
    names = text.replace(",", " ").split()
    for name in names:
        if name not in SUPERVISED + SELF_SUPERVISED:
            raise ConfigError(
                f"BASELINES names {name!r}; choose some of "
                f"{', '.join(SUPERVISED + SELF_SUPERVISED)}."
            )
    return names


def run_baseline(
    name: str, config, cohort, labels: LabelSet, folder: str | Path, backbone: str = "",
) -> Baseline:  # fmt: skip
    """Trains one baseline and scores it on the test split; resumes from `folder`.

    `backbone` names the ConvNeXt (ESI's). Raises ConfigError for an unknown name.
    """
    baseline_names(name)
    backbone = backbone or BACKBONE[config.preset]
    if name in SUPERVISED:
        return _supervised(name, config, cohort, labels, Path(folder), backbone)
    return _self_supervised(name, config, cohort, labels, Path(folder), backbone)


def build(name: str, config, backbone: str) -> nn.Module:
    """An untrained encoder in the preset's size, seeded. SSL names share the backbone's."""
    torch.manual_seed(config.seed)
    if name == "xresnet":
        return encoder_for("xresnet1d101" if config.preset == "paper" else "small_xresnet")
    if name == "resnet50":
        small = SMALL_RESNET.get(config.preset)
        return ResNet1D(blocks=small[0], width=small[1]) if small else ResNet1D()
    if name == "lstm":
        return LSTM1D(hidden=LSTM_HIDDEN[config.preset])
    return encoder_for(backbone)


def size_note(encoder: nn.Module) -> str:
    """What its row says of its size: outside preset paper the names stand for small versions."""
    return f"{sum(p.numel() for p in encoder.parameters()):,} parameters."


def _supervised(name, config, cohort, labels, folder: Path, backbone: str) -> Baseline:
    encoder = EcgEncoder(name, build(name, config, backbone))
    how = {"n_steps": config.baseline_steps, "lr": max(SCRATCH_LR, config.finetune_lr)}
    table = finetune_table(f"{name}, from scratch", encoder, cohort, labels, config, folder,
                           size_note(encoder.module), **how)  # fmt: skip
    # The first seed's network again, from its files, for whatever else is asked of it.
    first = finetune(encoder, cohort, labels, config, folder / f"seed{config.seed}", config.seed,
                     **how)  # fmt: skip
    return Baseline(name, first.encoder, table)


def _self_supervised(name, config, cohort, labels, folder: Path, backbone: str) -> Baseline:
    encoder = pretrained_encoder(name, config, cohort, folder / "pretraining", backbone)
    features = encoder.features(cohort.store)
    size = size_note(encoder.module)
    tables = [probe_table(f"{name}, linear probe", features, labels, config, size)]
    if config.finetune_steps:
        kept, unread = readable(labels, features)
        tables.append(finetune_table(f"{name}, fine-tuned", encoder, cohort, kept, config,
                                     folder / "finetuning", join(size, unread)))  # fmt: skip
    return Baseline(name, encoder, tidy(pd.concat(tables).to_dict("records")))


def pretrained_encoder(name: str, config, cohort, folder: Path, backbone: str) -> EcgEncoder:
    """simclr | byol | cmsc | leaves, trained on the training split without its labels."""
    settings, rows = ssl_settings(config), cohort.rows("train")
    if name == "leaves":
        trained = pretrain_leaves(settings, cohort, rows, folder, build(name, config, backbone))
    else:
        patients = cohort.table["patient_id"].to_numpy()[rows]
        start = None if name == "cmsc" else build(name, config, backbone)
        trained = pretrain(settings, cohort, rows, patients, name, folder, encoder=start)
    return EcgEncoder(name, trained.encoder, as_recorded)


def ssl_settings(config) -> BaselinesConfig:
    """The self-supervised study's settings: the preset's, with this study's data and steps."""
    shared = [field.name for field in dataclasses.fields(KitConfig)]
    given = {name: getattr(config, name) for name in shared}
    return BaselinesConfig.from_params(given | {"ssl_steps": config.baseline_steps})
