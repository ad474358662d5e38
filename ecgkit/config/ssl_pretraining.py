"""Settings of self-supervised pretraining (`tasks.ssl_pretrain`), all prefixed `ssl_`.

The paper column is Oh et al. 2022 (W2V + CMSC + RLM) as published in fairseq-signals: 200 epochs,
steps of 2 x 64 pairs on each of 4 GPUs (give SSL_ACCUMULATE=2 there), Adam at a fixed 5e-5.
SimCLR's and BYOL's are those of Chen et al. 2020 and Grill et al. 2020 where they do not depend on
images.

Usage:

    @dataclass(frozen=True)
    class MyConfig(BaselinesConfig, SslSettings): ...        # sizes from the one, SSL_* from here
    MyConfig.from_params({"PRESET": "tiny", "SSL_KIND": "simclr"}).ssl_updates(n_items=1000)
"""

from __future__ import annotations

import dataclasses

from ecgkit.config.base import KitConfig, setting
from ecgkit.types import ConfigError

SSL_KINDS = ("w2v", "cmsc", "w2v_cmsc", "w2v_cmsc_rlm", "simclr", "byol")


@dataclasses.dataclass(frozen=True)
class SslSettings(KitConfig):
    """How an ECG encoder is pretrained without labels; its sizes come from the study's config."""

    ssl_kind: str = setting("what is learnt without labels", "w2v_cmsc_rlm", choices=SSL_KINDS)
    ssl_n_convs: int = setting(
        "convolutions of the encoder; 0 = N_CONVS. Half an ECG must give tokens enough to mask",
        tiny=0,
        demo=4,
        paper=0,
    )
    # training
    ssl_steps: int = setting(
        "optimiser steps; 0 = SSL_EPOCHS over the training ECGs", tiny=4, demo=300, paper=0
    )
    ssl_epochs: int = setting("epochs, where SSL_STEPS is 0", 200)
    ssl_batch: int = setting(
        "ECGs a step; each gives a pair of halves or views", tiny=8, demo=32, paper=512
    )
    ssl_accumulate: int = setting(
        "portions a step is computed in; a contrast stays within one (published: 64 pairs)",
        tiny=1,
        demo=1,
        paper=8,
    )
    ssl_lr: float = setting("learning rate", tiny=1e-3, demo=3e-3, paper=5e-5)
    ssl_eps: float = setting("Adam's epsilon", tiny=1e-8, demo=1e-8, paper=1e-6)
    ssl_weight_decay: float = setting("weight decay", 0.01)
    ssl_schedule: str = setting(
        "learning-rate schedule",
        tiny="cosine",
        demo="cosine",
        paper="constant",
        choices=("cosine", "linear", "constant", "tri_stage"),
    )
    ssl_warmup: float = setting("share of the steps that warm up", tiny=0.1, demo=0.1, paper=0.0)
    ssl_clip: float = setting("largest gradient norm; 0 = as it is", tiny=1.0, demo=1.0, paper=0.0)
    ssl_dropout: float = setting("dropout while pretraining", tiny=0.0, demo=0.1, paper=0.1)
    ssl_grad_mult: float = setting("factor on the gradient into the convolutions", 0.1)
    # wav2vec 2.0
    ssl_mask_share: float = setting("share of tokens aimed at by masked spans, which overlap", 0.65)
    ssl_mask_span: int = setting("tokens a span (10 of 32 ms published)", tiny=2, demo=2, paper=10)
    ssl_n_negatives: int = setting("distractors a masked token", tiny=5, demo=20, paper=100)
    ssl_codebooks: int = setting("codebooks", 2)
    ssl_codes: int = setting("codes a book", tiny=8, demo=40, paper=320)
    ssl_code_dim: int = setting("width of the joined codes", tiny=16, demo=64, paper=256)
    ssl_final_dim: int = setting(
        "width in which targets, or the two views, are compared", tiny=16, demo=64, paper=256
    )
    ssl_logit_temperature: float = setting("temperature of the masked tokens' contrast", 0.1)
    ssl_gumbel_start: float = setting("Gumbel temperature at step 0", 2.0)
    ssl_gumbel_floor: float = setting("its floor", 0.5)
    ssl_gumbel_decay: float = setting(
        "its factor a step", tiny=0.99, demo=0.995, paper=0.999995
    )
    ssl_code_weight: float = setting("weight of the penalty on unused codes", 0.1)
    ssl_feature_weight: float = setting("weight of the mean square of the conv features", 10.0)
    # contrast of two halves or views
    ssl_cmsc_temperature: float = setting("temperature of the contrast of two halves", 0.1)
    ssl_cmsc_weight: float = setting("weight of CMSC beside wav2vec, per masked token", 1.0)
    ssl_lead_mask: float = setting("chance of each lead to be zeroed (RLM, SimCLR, BYOL)", 0.5)
    ssl_temperature: float = setting("temperature of SimCLR's NT-Xent", 0.1)
    ssl_hidden: int = setting("width inside projector and predictor", tiny=32, demo=128, paper=4096)
    ssl_byol_decay: float = setting("BYOL's EMA at step 0; it ends at 1", 0.996)
    # views of SimCLR and BYOL, besides SSL_LEAD_MASK
    ssl_crop: float = setting("share of the recording in a view", 0.5)
    ssl_jitter_mv: float = setting("white noise, mV", 0.01)
    ssl_gain_sd: float = setting("spread of each lead's gain about 1", 0.1)
    ssl_wander_mv: float = setting("baseline wander, mV", 0.05)
    ssl_time_mask: float = setting("longest share of a view that is silenced", 0.2)

    def check(self) -> None:
        super().check()
        if self.ssl_accumulate < 1 or self.ssl_batch < 2 * self.ssl_accumulate:
            raise ConfigError(
                f"SSL_BATCH is {self.ssl_batch} and SSL_ACCUMULATE {self.ssl_accumulate}; a "
                "contrast needs at least 2 ECGs in each portion."
            )
        if self.ssl_steps < 0 or (self.ssl_steps == 0 and self.ssl_epochs < 1):
            raise ConfigError(
                f"SSL_STEPS is {self.ssl_steps} and SSL_EPOCHS {self.ssl_epochs}; give steps, or "
                "0 steps and at least one epoch."
            )
        if self.ssl_code_dim % self.ssl_codebooks:
            raise ConfigError(
                f"SSL_CODE_DIM is {self.ssl_code_dim} and SSL_CODEBOOKS {self.ssl_codebooks}; the "
                "width must be a multiple of the number of books."
            )
        for name in ("ssl_mask_share", "ssl_crop", "ssl_grad_mult"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(
                    f"{name.upper()} is {getattr(self, name)}; it lies above 0 and up to 1."
                )
        for name in ("ssl_lead_mask", "ssl_byol_decay", "ssl_time_mask"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name.upper()} is {getattr(self, name)}; it lies in 0 to 1.")
        for name in ("ssl_temperature", "ssl_cmsc_temperature", "ssl_logit_temperature"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name.upper()} is {getattr(self, name)}; it must be positive.")

    def ssl_updates(self, n_items: int) -> int:
        """Optimiser steps over `n_items` ECGs (full batches only, as the engine draws them)."""
        if self.ssl_steps:
            return self.ssl_steps
        return self.ssl_epochs * max(1, n_items // self.ssl_batch)
