"""Settings of notebook 03."""

from __future__ import annotations

import dataclasses

from ecgkit.config.base import KitConfig, setting
from ecgkit.types import ConfigError

SCHEDULES = ("cosine", "linear", "constant", "tri_stage")


@dataclasses.dataclass(frozen=True)
class BaselinesConfig(KitConfig):
    """Settings of notebook 03: fusion and text-only transformers on ECG-QA, upper bounds.

    The paper column is Oh et al. 2023: 12 layers of width 768, 50k updates of 256 questions.
    """

    # the two question-answering transformers
    dim: int = setting("width D of the transformers", tiny=32, demo=96, paper=768)
    ffn_dim: int = setting("width of the feed-forward part", tiny=64, demo=384, paper=3072)
    n_layers: int = setting("transformer layers", tiny=2, demo=3, paper=12)
    n_heads: int = setting("attention heads", tiny=2, demo=4, paper=12)
    n_convs: int = setting(
        "ECG convolutions, each of stride 2 (4 = a token per 16 samples)", tiny=4, demo=5, paper=4
    )
    conv_channels: int = setting("their channels", tiny=16, demo=32, paper=256)
    conv_kernel: int = setting("samples each of them sees", tiny=5, demo=9, paper=2)
    pos_kernel: int = setting(
        "width in tokens of the convolutional position code", tiny=8, demo=16, paper=128
    )
    pos_groups: int = setting("groups of the position code", tiny=4, demo=8, paper=16)
    dropout: float = setting(
        "dropout in the transformers while answering", tiny=0.0, demo=0.0, paper=0.0
    )
    activation_dropout: float = setting(
        "dropout inside the feed-forward part", tiny=0.0, demo=0.1, paper=0.1
    )
    tokenizer: str = setting(
        "'' = WordPiece trained here on the training questions; else a "
        "Hugging Face tokenizer, hub id or folder",
        tiny="",
        demo="",
        paper="bert-base-uncased",
    )
    vocab_size: int = setting(
        "entries of the tokenizer trained here", tiny=400, demo=800, paper=30522
    )
    max_text: int = setting("longest question in tokens", tiny=64, demo=64, paper=512)
    protocol: str = setting(
        "paper = masks and pooling as described; reference = as published code",
        "paper",
        choices=("paper", "reference"),
    )
    # training, the same for both
    n_steps: int = setting("optimiser steps of each model", tiny=6, demo=600, paper=50_000)
    batch_size: int = setting("questions a step", tiny=8, demo=32, paper=256)
    pair_share: float = setting(
        "share of training batches about two ECGs; -1 = as they occur",
        tiny=-1.0,
        demo=0.1,
        paper=-1.0,
    )
    lr_grid: str = setting(
        "learning rates tried on the valid split, separated by spaces",
        tiny="1e-3",
        demo="7e-4 1e-3",
        paper="1e-4",
    )
    search_steps: int = setting("steps of each trial", tiny=2, demo=40, paper=2000)
    weight_decay: float = setting("weight decay", tiny=0.0, demo=0.0, paper=0.0)
    schedule: str = setting(
        "learning-rate schedule", tiny="cosine", demo="cosine", paper="tri_stage", choices=SCHEDULES
    )
    loss_over: str = setting(
        "answers in the loss: all (as published) or the template's valid ones",
        tiny="valid",
        demo="valid",
        paper="all",
        choices=("all", "valid"),
    )
    eval_questions: int = setting(
        "valid questions looked at by each trial", tiny=32, demo=600, paper=100_000
    )
    # ECG classifiers: the fusion model's starting point and the upper bounds
    pretrain_steps: int = setting(
        "steps of the ECG transformer that the fusion model starts from; "
        "0 = start from random weights",
        tiny=4,
        demo=240,
        paper=100_000,
    )
    pretrain_layers: int = setting(
        "its transformer layers; the fusion model's further ones start "
        "random and bind words to ECG",
        tiny=1,
        demo=1,
        paper=12,
    )
    pretrain_lr: float = setting("its learning rate", tiny=1e-3, demo=1e-3, paper=5e-5)
    upper_model: str = setting(
        "upper-bound classifier", "se_wrn", choices=("se_wrn", "resnet_attention")
    )
    upper_width: int = setting(
        "its first width (SE-WRN 16, ResNet + attention 256)", tiny=8, demo=8, paper=16
    )
    upper_blocks: int = setting("blocks a group, or blocks", tiny=1, demo=1, paper=3)
    upper_steps: int = setting("its steps", tiny=4, demo=100, paper=100_000)
    upper_lr: float = setting("its learning rate", tiny=1e-3, demo=5e-3, paper=1e-4)
    upper_batch: int = setting("ECGs a step of the classifiers", tiny=16, demo=32, paper=128)
    min_code_count: int = setting(
        "SCP codes on fewer training ECGs are left out", tiny=3, demo=20, paper=20
    )

    def check(self) -> None:
        super().check()
        if self.dim % self.n_heads:
            raise ConfigError(
                f"DIM is {self.dim} and N_HEADS {self.n_heads}; DIM must be a multiple."
            )
        if self.dim % self.pos_groups:
            raise ConfigError(
                f"DIM is {self.dim} and POS_GROUPS {self.pos_groups}; DIM must be a multiple."
            )
        if self.search_steps > self.n_steps:
            raise ConfigError(
                f"SEARCH_STEPS is {self.search_steps} but N_STEPS {self.n_steps}; a trial is "
                "shorter than the training it is for."
            )
        if self.pretrain_layers > self.n_layers:
            raise ConfigError(
                f"PRETRAIN_LAYERS is {self.pretrain_layers} but N_LAYERS {self.n_layers}; the "
                "fusion model cannot take more layers than it has."
            )
        self.learning_rates()

    def learning_rates(self) -> list[float]:
        """The grid as numbers. Raises ConfigError where one is not a positive number."""
        try:
            rates = [float(word) for word in self.lr_grid.replace(",", " ").split()]
        except ValueError:
            rates = []
        if not rates or min(rates) <= 0:
            raise ConfigError(
                f"LR_GRID is {self.lr_grid!r}; give positive numbers, like '1e-3 3e-3'."
            )
        return rates
