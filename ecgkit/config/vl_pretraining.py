"""Settings of vision-language pretraining (M3AE, MedViLL), for the baselines' config to inherit."""

from __future__ import annotations

import dataclasses

from ecgkit.config.base import KitConfig, setting
from ecgkit.types import ConfigError


@dataclasses.dataclass(frozen=True)
class VlSettings(KitConfig):
    """Pretraining on ECG-report pairs. The paper column is Oh et al. 2023: 256 pairs a step, M3AE
    60k updates in three stages, MedViLL 800 epochs at one learning rate.
    """

    vl_steps: int = setting(
        "optimiser steps of vision-language pretraining", tiny=6, demo=600, paper=60_000
    )
    vl_medvill_epochs: int = setting(
        "MedViLL's length in epochs instead; 0 = VL_STEPS", tiny=0, demo=0, paper=800
    )
    vl_batch: int = setting("ECG-report pairs a step", tiny=8, demo=32, paper=256)
    vl_lr: float = setting("its learning rate", tiny=1e-3, demo=1e-3, paper=5e-5)
    vl_weight_decay: float = setting("its weight decay", 0.01)
    vl_schedule: str = setting(
        "its schedule; published = three stages for M3AE, constant for MedViLL",
        tiny="cosine", demo="cosine", paper="published",
        choices=("published", "cosine", "linear", "constant", "tri_stage"),
    )  # fmt: skip
    vl_dropout: float = setting("dropout while pretraining", tiny=0.0, demo=0.0, paper=0.1)
    # what is hidden, and whose report an ECG is shown
    vl_mlm_share: float = setting("share of a report's words that are hidden", 0.25)
    vl_mim_share: float = setting("share of an ECG's tokens that M3AE hides", 0.75)
    vl_mismatch_share: float = setting("share of pairs shown the report of another ECG", 0.5)
    vl_negatives: str = setting(
        "mended = two ECGs exchange reports; reference = as the published code does",
        "mended",
        choices=("mended", "reference"),
    )
    # sizes
    vl_vocab_size: int = setting(
        "entries of the tokenizer trained on reports (and questions)",
        tiny=800, demo=1600, paper=30522,
    )  # fmt: skip
    vl_max_text: int = setting("longest report in tokens", tiny=64, demo=96, paper=512)
    vl_attention: str = setting(
        "MedViLL's attention: bi_ar (words see only earlier words) | bidirectional",
        "bi_ar",
        choices=("bi_ar", "bidirectional"),
    )
    vl_text_layers: int = setting("M3AE: layers that read the text", tiny=1, demo=1, paper=12)
    vl_co_layers: int = setting("M3AE: layers of co-attention", tiny=1, demo=1, paper=6)
    vl_mim_layer: int = setting(
        "M3AE: co-attention layers below the ECG decoder", tiny=1, demo=1, paper=3
    )
    vl_decoder_dim: int = setting("M3AE: width of the ECG decoder", tiny=32, demo=48, paper=384)
    vl_decoder_layers: int = setting("M3AE: its layers", tiny=1, demo=1, paper=4)
    vl_decoder_heads: int = setting("M3AE: its attention heads", tiny=2, demo=4, paper=6)

    def check(self) -> None:
        super().check()
        for name in ("vl_mlm_share", "vl_mim_share"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(
                    f"{name.upper()} is {getattr(self, name)}; a share lies between 0 and 1."
                )
        if not 0 <= self.vl_mismatch_share <= 1:
            raise ConfigError(
                f"VL_MISMATCH_SHARE is {self.vl_mismatch_share}; a share lies from 0 to 1."
            )
        if self.vl_decoder_dim % self.vl_decoder_heads:
            raise ConfigError(
                f"VL_DECODER_DIM is {self.vl_decoder_dim} and VL_DECODER_HEADS "
                f"{self.vl_decoder_heads}; VL_DECODER_DIM must be a multiple."
            )
        if not 1 <= self.vl_mim_layer <= self.vl_co_layers:
            raise ConfigError(
                f"VL_MIM_LAYER is {self.vl_mim_layer} and VL_CO_LAYERS {self.vl_co_layers}; the "
                "decoder reads one of those layers, counted from 1."
            )
