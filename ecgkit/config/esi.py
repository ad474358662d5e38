"""Settings of notebooks 04 (ESI pretraining) and 05 (ESI evaluation)."""

from __future__ import annotations

import dataclasses

from ecgkit.config.base import KitConfig, setting
from ecgkit.types import ConfigError

ENCODERS = ("micro", "small", "atto", "femto", "pico", "nano", "tiny", "base", "large", "huge")


@dataclasses.dataclass(frozen=True)
class EsiConfig(KitConfig):
    """Settings of notebook 04."""

    protocol: str = setting(
        "paper: pooled ECG tokens, causal captions | reference: as the published code",
        "paper", choices=("paper", "reference"),
    )  # fmt: skip
    encoder: str = setting(
        "ConvNeXt size: micro | small (the kit's) | atto ... huge (published)",
        tiny="micro", demo="small", paper="base", choices=ENCODERS,
    )  # fmt: skip
    text_encoder: str = setting(
        "Hugging Face hub id or folder; '' = a small BERT trained in place",
        tiny="", demo="", paper="michiyasunaga/BioLinkBERT-base",
    )  # fmt: skip
    text_width: int = setting("width of the small BERT", tiny=32, demo=64, paper=768)
    text_layers: int = setting("layers of the small BERT", tiny=1, demo=2, paper=12)
    vocab_size: int = setting("largest vocabulary of the small BERT", 2000)
    decoder_layers: int = setting("layers of the caption decoder", tiny=1, demo=1, paper=6)
    n_queries: int = setting("ECG tokens after attention pooling", tiny=4, demo=8, paper=256)
    max_tokens: int = setting("longest caption in tokens", tiny=48, demo=72, paper=500)
    short_tokens: int = setting("longest short wording in tokens", tiny=32, demo=36, paper=100)
    n_short: int = setting("short wordings per ECG, beside the full caption", tiny=2, demo=4)
    full_share: float = setting("share of steps that read the full captions", 0.1, paper=1.0)
    n_steps: int = setting("training steps", tiny=12, demo=600, paper=100_000)
    batch_size: int = setting("ECGs per step", tiny=16, demo=32, paper=192)
    lr: float = setting("peak learning rate", tiny=2e-3, demo=3e-3, paper=5e-5)
    weight_decay: float = setting("AdamW weight decay (the reference leaves torch's)", 0.01)
    contrastive_weight: float = setting("weight of the contrastive loss", 1.0)
    caption_weight: float = setting("weight of the captioning loss", 1.0)
    text_gradient: float = setting(
        "share of the contrastive gradient that reaches the text encoder", 0.05, paper=1.0
    )
    temperature: float = setting("starting logarithm of the similarity scale", 2.66, paper=1.0)
    time_budget: float = setting("seconds after which training stops; 0 = never", 0.0)

    def check(self) -> None:
        super().check()
        if not 0 <= self.full_share <= 1:
            raise ConfigError(f"FULL_SHARE is {self.full_share}; it is a share from 0 to 1.")
        if self.n_short == 0 and self.full_share < 1:
            raise ConfigError("N_SHORT is 0 but FULL_SHARE is below 1; set FULL_SHARE to 1.")
        if self.contrastive_weight < 0 or self.caption_weight < 0:
            raise ConfigError("CONTRASTIVE_WEIGHT and CAPTION_WEIGHT must not be negative.")


@dataclasses.dataclass(frozen=True)
class EsiEvalConfig(KitConfig):
    """Settings of notebook 05; the model and its own settings come from notebook 04 of the run."""

    n_boot: int = setting("bootstrap draws per interval", tiny=50, demo=300, paper=1000)
    min_positive: int = setting("fewest test ECGs of a finding to score it", tiny=2, demo=5)
    probe_c: float = setting("inverse strength of the linear probe's L2 penalty", 0.1)
