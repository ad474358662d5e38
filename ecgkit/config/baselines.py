"""Settings of notebook 03: the answering models. Classifiers, self-supervised and ECG-report
pretraining have files of their own, which `BaselinesConfig` joins.
"""

from __future__ import annotations

import dataclasses

from ecgkit.config.base import setting
from ecgkit.config.classifiers import ClassifierSettings
from ecgkit.config.ssl_pretraining import SslSettings
from ecgkit.config.vl_pretraining import VlSettings
from ecgkit.types import ConfigError

SCHEDULES = ("cosine", "linear", "constant", "tri_stage")
QA_MODELS = ("fusion", "blind", "deaf", "resnet_lstm", "m3ae", "medvill")
UPPER_BOUNDS = ("se_wrn", "resnet_attention", "ecg_transformer")
BENCHMARKS = ("all", "diagnostic", "subdiagnostic", "superdiagnostic", "form", "rhythm")
DEMO_ROW = ("fusion", "blind", "deaf", "se_wrn")

# Where answering models were published with other values than the fusion transformer's
# (ecgqa.md 3.2): the paper preset takes these unless the parameter is given.
PUBLISHED = {
    "resnet_lstm": {"lr_grid": "5e-5", "weight_decay": 1e-4, "schedule": "constant",
                    "batch_size": 64},
    "m3ae": {"lr_grid": "5e-5", "feature_grad_mult": 0.1},
    "medvill": {"feature_grad_mult": 0.1},
}


@dataclasses.dataclass(frozen=True)
class BaselinesConfig(ClassifierSettings, SslSettings, VlSettings):
    """Settings of notebook 03: answering models on ECG-QA, their pretraining, upper bounds.

    The paper column is Oh et al. 2023: 12 layers of width 768, 50k updates of 256 questions.
    """

    models: str = setting(
        "which models, by name: '' = fusion, blind, deaf and se_wrn; all = every published one",
        "",
    )
    benchmark: str = setting(
        "tasks of the PTB-XL benchmark for UPPER_MODEL: all, form, rhythm, ...; '' = every task "
        "with MODELS=all, else none",
        "",
    )
    # the transformers, the same for all that answer
    dim: int = setting("width D of the transformers", tiny=32, demo=64, paper=768)
    ffn_dim: int = setting("width of the feed-forward part", tiny=64, demo=256, paper=3072)
    n_layers: int = setting("transformer layers", tiny=2, demo=2, paper=12)
    n_heads: int = setting("attention heads", tiny=2, demo=4, paper=12)
    n_convs: int = setting(
        "ECG convolutions, each of stride 2 (4 = a token per 16 samples)", tiny=4, demo=6, paper=4
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
        "dropout inside the feed-forward part", tiny=0.0, demo=0.0, paper=0.1
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
    lstm_width: int = setting("ResNet + LSTM: width of the LSTM", tiny=16, demo=64, paper=512)
    resnet_width: int = setting("ResNet + LSTM: stem channels", tiny=4, demo=8, paper=64)
    protocol: str = setting(
        "paper = masks and pooling as described; reference = as published code",
        "paper",
        choices=("paper", "reference"),
    )
    checkpoint: str = setting(
        "W2V+CMSC(+RLM) or ECG-FM weights the ECG side starts from: file, kit folder or hub id "
        "(PRETRAIN_STEPS=0: as they are; else trained on labels first); '' = pretrained here",
        "",
    )
    # training, the same for all that answer
    n_steps: int = setting("optimiser steps of each model", tiny=6, demo=500, paper=50_000)
    batch_size: int = setting("questions a step", tiny=8, demo=128, paper=256)
    accumulate: int = setting("micro-batches a step is cut into (memory)", 1)
    pair_share: float = setting(
        "share of training batches about two ECGs; -1 = as they occur",
        tiny=-1.0,
        demo=0.05,
        paper=-1.0,
    )
    length_window: int = setting(
        "batches among which questions are sorted by length; 1 = not sorted (less padding, but "
        "batches of like templates)",
        tiny=4,
        demo=2,
        paper=32,
    )
    questions_per_ecg: int = setting(
        "questions of a training batch that share an ECG, which is then encoded once; 1 = as they "
        "come (published)",
        tiny=2,
        demo=4,
        paper=1,
    )
    lr_grid: str = setting(
        "learning rates tried on the valid split, separated by spaces",
        tiny="1e-3",
        demo="2e-3 3e-3",
        paper="1e-4",
    )
    search_steps: int = setting("steps of each trial", tiny=2, demo=12, paper=2000)
    weight_decay: float = setting("weight decay", tiny=0.0, demo=0.0, paper=0.0)
    feature_grad_mult: float = setting(
        "gradient into the ECG convolutions while answering; 0 = frozen where they were pretrained",
        tiny=1.0,
        demo=0.0,
        paper=1.0,
    )
    schedule: str = setting(
        "learning-rate schedule", tiny="cosine", demo="cosine", paper="tri_stage", choices=SCHEDULES
    )
    eval_every: int = setting("steps between looks at the valid split; 0 = at the end",
                              tiny=0, demo=0, paper=1000)
    keep: str = setting("weights that are scored: the last, or the best on the valid split",
                        tiny="last", demo="last", paper="best", choices=("last", "best"))
    patience: int = setting("looks without a better one that end a training; 0 = never", 0)
    loss_over: str = setting(
        "answers in the loss: all (as published) or the template's valid ones",
        tiny="valid",
        demo="valid",
        paper="all",
        choices=("all", "valid"),
    )
    eval_questions: int = setting(
        "valid questions looked at by each trial", tiny=32, demo=400, paper=100_000
    )

    def check(self) -> None:
        super().check()
        for name in ("n_heads", "pos_groups"):
            if self.dim % getattr(self, name):
                raise ConfigError(
                    f"DIM is {self.dim} and {name.upper()} {getattr(self, name)}; DIM must be a "
                    "multiple."
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
        if self.questions_per_ecg < 1:
            raise ConfigError(f"QUESTIONS_PER_ECG is {self.questions_per_ecg}; it starts at 1.")
        if self.length_window < 1:
            raise ConfigError(f"LENGTH_WINDOW is {self.length_window}; it starts at 1, unsorted.")
        if self.accumulate > self.batch_size:
            raise ConfigError(
                f"ACCUMULATE is {self.accumulate} but BATCH_SIZE {self.batch_size}; a micro-batch "
                "would hold no question."
            )
        self.learning_rates()
        self.chosen_models()
        self.benchmark_tasks()

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

    def chosen_models(self) -> list[str]:
        """MODELS as names, in the order of the figures. Raises ConfigError for an unknown one."""
        known = (*QA_MODELS, *UPPER_BOUNDS)
        words = self.models.replace(",", " ").split() or list(DEMO_ROW)
        words = list(known) if words == ["all"] else words
        unknown = [word for word in words if word not in known]
        if unknown:
            raise ConfigError(
                f"MODELS names {', '.join(unknown)}; choose among {', '.join(known)}, or all."
            )
        return [name for name in known if name in words]

    def benchmark_tasks(self) -> list[str]:
        """BENCHMARK as names of tasks. Raises ConfigError for an unknown one."""
        words = self.benchmark.replace(",", " ").split()
        if not words:
            return list(BENCHMARKS) if self.models.split() == ["all"] else []
        unknown = [word for word in words if word not in BENCHMARKS]
        if unknown:
            raise ConfigError(
                f"BENCHMARK names {', '.join(unknown)}; choose among {', '.join(BENCHMARKS)}."
            )
        return words

    def of_model(self, kind: str) -> BaselinesConfig:
        """These settings with what was published for the answering model `kind`.

        Only the paper preset has such values; a parameter that differs from the preset's was given
        and stays.
        """
        if self.preset != "paper":
            return self
        presets = {f.name: f.metadata["presets"]["paper"] for f in dataclasses.fields(self)}
        own = {name: value for name, value in PUBLISHED.get(kind, {}).items()
               if getattr(self, name) == presets[name]}
        return dataclasses.replace(self, **own)
