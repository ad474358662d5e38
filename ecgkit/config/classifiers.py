"""Settings of ECG classifiers: upper bounds, benchmark heads, what the fusion model starts from.

`upper_*` are those of SE-WRN and ResNet + attention, `pretrain_*` those of the ECG transformer.
The paper column is that of ECG-QA's upper bounds (Oh et al. 2023; fact sheet ecgqa 3.2).

Usage:

    settings = ClassifierSettings.of(config)         # of any study; the preset's where it has none
    settings.training("se_wrn")                      # n_steps, batch_size, lr, ...
"""

from __future__ import annotations

import dataclasses

from ecgkit.config.base import KitConfig, setting
from ecgkit.types import ConfigError

CLASSIFIERS = ("ecg_transformer", "se_wrn", "resnet_attention")
PUBLISHED_SIZE = {"se_wrn": (16, 3), "resnet_attention": (256, 5)}  # first width, blocks
PUBLISHED_DROPOUT = {"se_wrn": 0.3, "resnet_attention": 0.5}
PUBLISHED_DECAY = {"ecg_transformer": 1e-4, "se_wrn": 5e-4, "resnet_attention": 1e-4}
AS_PUBLISHED = -1.0


@dataclasses.dataclass(frozen=True)
class ClassifierSettings(KitConfig):
    """How ECG classifiers are built and trained; the transformer's sizes are the study's own."""

    pretrain_steps: int = setting(
        "steps of the ECG transformer that the fusion model starts from; "
        "0 = start from random weights, or from CHECKPOINT as it is",
        tiny=4,
        demo=600,
        paper=100_000,
    )
    pretrain_layers: int = setting(
        "its transformer layers; the fusion model's further ones start "
        "random and bind words to ECG",
        tiny=1,
        demo=1,
        paper=12,
    )
    pretrain_lr: float = setting("its learning rate", tiny=1e-3, demo=5e-3, paper=5e-5)
    pretrain_batch: int = setting("ECGs a step of it", tiny=16, demo=64, paper=64)
    finetune_grad_mult: float = setting(
        "factor on the gradient into its convolutions where it starts from pretrained weights", 0.1
    )
    time_shift: bool = setting(
        "transformers train on ECGs that start anywhere, beginning joined to end (not published)",
        tiny=True,
        demo=True,
        paper=False,
    )
    roughness_mv: float = setting(
        "> 0: the transformers' convolutions also see how rough each lead is, arsinh(|second "
        "difference| / ROUGHNESS_MV), which shows noise; 0 = the leads alone (published)",
        0.0,
    )
    noise_importance: float = setting(
        "weight of PTB-XL's noise annotations in the loss of the ECG transformer that the fusion "
        "model starts from; the other labels weigh 1",
        1.0,
    )
    upper_model: str = setting("upper-bound classifier", "se_wrn", choices=CLASSIFIERS)
    upper_width: int = setting(
        "its first width; 0 = as published (SE-WRN 16, ResNet + attention 256)",
        tiny=8,
        demo=8,
        paper=0,
    )
    upper_blocks: int = setting(
        "blocks a group of SE-WRN, or of the ResNet; 0 = as published (3, 5)",
        tiny=1,
        demo=1,
        paper=0,
    )
    upper_stem_stride: int = setting(
        "stride of SE-WRN's first convolution (published 1)", tiny=2, demo=2, paper=1
    )
    upper_kernel: int = setting(
        "samples SE-WRN's convolutions see, an odd number (published 11)", tiny=7, demo=7, paper=11
    )
    upper_dropout: float = setting(
        "its dropout; -1 = as published (SE-WRN 0.3, ResNet + attention 0.5)",
        tiny=0.1,
        demo=0.1,
        paper=AS_PUBLISHED,
    )
    upper_steps: int = setting("its steps", tiny=4, demo=400, paper=100_000)
    upper_lr: float = setting("its learning rate", tiny=1e-3, demo=1e-2, paper=1e-4)
    upper_batch: int = setting("ECGs a step of it", tiny=16, demo=64, paper=128)
    upper_decay: float = setting(
        "weight decay of the classifiers; -1 = as published (SE-WRN 5e-4, else 1e-4)", AS_PUBLISHED
    )
    upper_beta2: float = setting(
        "Adam's second beta of all classifiers (published 0.98)",
        tiny=0.999,
        demo=0.999,
        paper=0.98,
    )
    grounding_steps: int = setting(
        "steps of a classifier on the grounding tuples", tiny=4, demo=150, paper=100_000
    )
    grounding_lr_factor: float = setting(
        "its learning rate there, as a multiple of its own (a demo starts from the SCP codes')",
        tiny=1.0,
        demo=0.5,
        paper=1.0,
    )
    min_code_count: int = setting(
        "SCP codes on fewer training ECGs are left out", tiny=3, demo=20, paper=20
    )

    @classmethod
    def of(cls, config: KitConfig) -> ClassifierSettings:
        """The classifiers' settings within `config`; what it does not have is its preset's."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls.from_params({n: getattr(config, n) for n in names if hasattr(config, n)})

    def training(self, name: str, grounding: bool = False) -> dict:
        """n_steps, batch_size, lr, weight_decay and betas of one classifier, for TrainSettings.

        `grounding`: on the grounding tuples instead of on one label set a recording.

        Raises ConfigError for a name that is none of them.
        """
        if name not in CLASSIFIERS:
            raise ConfigError(f"{name!r} is no classifier; choose one of {', '.join(CLASSIFIERS)}.")
        decay = PUBLISHED_DECAY[name] if self.upper_decay == AS_PUBLISHED else self.upper_decay
        kind = "pretrain" if name == "ecg_transformer" else "upper"
        steps, batch, lr = (getattr(self, f"{kind}_{what}") for what in ("steps", "batch", "lr"))
        if grounding:
            steps, lr = self.grounding_steps, lr * self.grounding_lr_factor
        return {"n_steps": max(1, steps), "batch_size": batch, "lr": lr, "weight_decay": decay,
                "betas": (0.9, self.upper_beta2)}  # fmt: skip

    def size_of(self, name: str) -> tuple[int, int]:
        """First width and number of blocks of SE-WRN or ResNet + attention."""
        width, blocks = PUBLISHED_SIZE[name]
        return self.upper_width or width, self.upper_blocks or blocks

    def dropout_of(self, name: str) -> float:
        """Dropout of SE-WRN or ResNet + attention."""
        given = self.upper_dropout
        return PUBLISHED_DROPOUT[name] if given == AS_PUBLISHED else given

    def check(self) -> None:
        super().check()
        at_least_1 = (
            "pretrain_batch", "upper_stem_stride", "upper_steps", "upper_batch", "grounding_steps",
            "min_code_count",
        )  # fmt: skip
        for name in at_least_1:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name.upper()} is {getattr(self, name)}; it starts at 1.")
        if self.upper_width < 0 or self.upper_blocks < 0:
            raise ConfigError(
                f"UPPER_WIDTH is {self.upper_width} and UPPER_BLOCKS {self.upper_blocks}; give "
                "sizes, or 0 for the published ones."
            )
        if self.upper_kernel < 1 or self.upper_kernel % 2 == 0:
            raise ConfigError(
                f"UPPER_KERNEL is {self.upper_kernel}; an odd number keeps blocks and skips alike."
            )
        if self.upper_dropout != AS_PUBLISHED and not 0 <= self.upper_dropout < 1:
            raise ConfigError(
                f"UPPER_DROPOUT is {self.upper_dropout}; give 0 to below 1, or -1 for the "
                "published one."
            )
        if self.upper_decay != AS_PUBLISHED and self.upper_decay < 0:
            raise ConfigError(
                f"UPPER_DECAY is {self.upper_decay}; give 0 or more, or -1 for the published one."
            )
        if self.grounding_lr_factor <= 0:
            raise ConfigError(
                f"GROUNDING_LR_FACTOR is {self.grounding_lr_factor}; it must be positive."
            )
        if not 0 <= self.upper_beta2 < 1:
            raise ConfigError(f"UPPER_BETA2 is {self.upper_beta2}; it lies from 0 to below 1.")
        if self.roughness_mv < 0:
            raise ConfigError(f"ROUGHNESS_MV is {self.roughness_mv}; give 0 (none) or more.")
        if self.noise_importance < 0:
            raise ConfigError(f"NOISE_IMPORTANCE is {self.noise_importance}; give 0 or more.")
        if not 0 <= self.finetune_grad_mult <= 1:
            raise ConfigError(
                f"FINETUNE_GRAD_MULT is {self.finetune_grad_mult}; it lies in 0 to 1."
            )
