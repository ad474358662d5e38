"""Settings of notebook 05 (ESI evaluation) and of the training in notebook 04; what its captions
are made of is in `config/cqa.py`.
"""

from __future__ import annotations

import dataclasses

from ecgkit.config.base import KitConfig, setting
from ecgkit.config.cqa import CqaSettings
from ecgkit.types import ConfigError

CONVNEXTS = ("micro", "small", "atto", "femto", "pico", "nano", "tiny", "base", "large", "huge")
ENCODERS = (*CONVNEXTS, "small_xresnet", "xresnet1d101", "small_vit", "vit")


@dataclasses.dataclass(frozen=True)
class EsiConfig(CqaSettings):
    """Settings of notebook 04."""

    protocol: str = setting(
        "paper: pooled ECG tokens, causal captions | reference: as the published code",
        "paper", choices=("paper", "reference"),
    )  # fmt: skip
    # what it is trained on
    more_data: str = setting(
        "further sources to pretrain on, comma-separated folders or .zip files; simulated: names "
        "of layouts, e.g. chapman,mimic", "",
    )  # fmt: skip
    only_source: str = setting("pretrain on this source alone, e.g. mimic; '' = on all", "")
    n_pretrain: int = setting("pretrain on so many ECGs drawn at random; 0 = all", 0)
    shuffled_share: float = setting(
        "share of the pairs whose captions are dealt out among them anew (the paper's Fig. 7)", 0.0
    )
    # the model
    encoder: str = setting(
        "ConvNeXt: micro | small (the kit's) | atto ... huge; small_xresnet | xresnet1d101; "
        "small_vit | vit", tiny="micro", demo="small_xresnet", paper="base", choices=ENCODERS,
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
    contrast_pool: str = setting(
        "what the contrast sees of the ECG: query = a query of its own (CoCa) | mean = the "
        "encoder's mean (as published)", "mean", paper="query", choices=("query", "mean"),
    )  # fmt: skip
    text_pool: str = setting(
        "what the contrast sees of a text: cls = its first state (as published; wants a pretrained "
        "text encoder) | mean = of its words", "mean", paper="cls", choices=("cls", "mean"),
    )  # fmt: skip
    # what it reads
    crop_s: float = setting("seconds of each ECG that a step sees; 0 = all", 0.0, demo=5.0)
    max_tokens: int = setting("longest caption in tokens", tiny=48, demo=72, paper=500)
    short_tokens: int = setting("longest short wording in tokens", tiny=32, demo=36, paper=100)
    n_short: int = setting("short wordings per ECG, beside the full caption", tiny=2, demo=4)
    full_share: float = setting("share of steps that read the full captions", 0.1, paper=1.0)
    # training
    n_steps: int = setting("training steps", tiny=12, demo=400, paper=100_000)
    batch_size: int = setting("ECGs per step", tiny=16, demo=64, paper=192)
    lr: float = setting("peak learning rate", tiny=2e-3, demo=3e-3, paper=5e-5)
    schedule: str = setting(
        "protocol = as `protocol` says | step: warm-up over a sixth, a tenth every third (paper) | "
        "linear: warm-up over a tenth, then down to 0 (published code)",
        "linear", paper="protocol", choices=("protocol", "step", "linear"),
    )  # fmt: skip
    weight_decay: float = setting("AdamW weight decay (the reference leaves torch's)", 0.01)
    contrastive_weight: float = setting("weight of the contrastive loss", 1.0)
    caption_weight: float = setting(
        "weight of the captioning loss; the paper's counts all words of a caption, some 20 here",
        0.05, paper=1.0,
    )  # fmt: skip
    text_gradient: float = setting(
        "share of the contrastive gradient that reaches the text encoder", 1.0
    )
    temperature: float = setting("starting logarithm of the similarity scale", 2.66, paper=1.0)
    time_shift: bool = setting("move each ECG in time at random while training", True, paper=False)
    n_sampled: int = setting("captions sampled while it trains, to look at; 0 = none", 2)
    time_budget: float = setting("seconds after which training stops; 0 = never", 0.0)

    def check(self) -> None:
        super().check()
        for name in ("full_share", "shuffled_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"{name.upper()} is {getattr(self, name)}; it is a share from 0 to 1."
                )
        if self.n_short == 0 and self.full_share < 1:
            raise ConfigError("N_SHORT is 0 but FULL_SHARE is below 1; set FULL_SHARE to 1.")
        if self.contrastive_weight < 0 or self.caption_weight < 0:
            raise ConfigError("CONTRASTIVE_WEIGHT and CAPTION_WEIGHT must not be negative.")
        if self.n_pretrain < 0:
            raise ConfigError("N_PRETRAIN must not be negative; 0 means all ECGs.")


@dataclasses.dataclass(frozen=True)
class EsiEvalConfig(KitConfig):
    """Settings of notebook 05; the model and its own settings come from notebook 04 of the run."""

    n_boot: int = setting("bootstrap draws per interval", tiny=50, demo=300, paper=1000)
    min_positive: int = setting("fewest test ECGs of a finding to score it", tiny=2, demo=5)
    tasks: str = setting(
        "labels of the probe: superdiagnostic, subdiagnostic, all ... by name, with spaces",
        "superdiagnostic", paper="superdiagnostic subdiagnostic all",
    )  # fmt: skip
    probe_c: float = setting(
        "inverse strength of the linear probe's L2 penalty; 0 = chosen on the validation split", 0.1
    )
    n_seeds: int = setting("heads and fine-tunings per number (mean and sd)", 1, paper=5)
    fractions: str = setting(
        "shares of the training labels a probe gets, with spaces",
        tiny="0.5 1", demo="0.01 0.05 0.1 0.25 0.5 1", paper="0.01 0.05 0.1 0.25 0.5 1",
    )  # fmt: skip
    finetune_steps: int = setting(
        "steps of fine-tuning all weights; 0 = leave it out", tiny=4, demo=0, paper=10_000
    )
    finetune_lr: float = setting("its peak learning rate", 1e-3, paper=5e-5)
    finetune_batch: int = setting("ECGs a step of it", tiny=8, demo=64, paper=64)
    baselines: str = setting(
        "supervised and self-supervised encoders beside ESI: xresnet resnet50 lstm convnext simclr "
        "byol cmsc leaves, with spaces; '' = none", "",
        paper="xresnet resnet50 lstm convnext simclr byol cmsc leaves",
    )  # fmt: skip
    baseline_steps: int = setting("training steps of each baseline", tiny=4, demo=300, paper=20_000)
    n_subjects: int = setting("subjects to tell apart, one ECG each; 0 = all of the test split", 0)
    n_captions: int = setting("test ECGs to caption and score", tiny=4, demo=400, paper=1000)
    n_beams: int = setting("beams of the caption search; 1 = greedy", 1, paper=4)
