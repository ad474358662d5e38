"""The ECG transformer as a frozen encoder: a record is cut into segments of the length it was
pretrained on, and their pooled tokens are averaged.

Letters: B batch, C leads, T samples, S segments, W samples of a segment, P tokens, D width.
Source: ECG-FM and W2V+CMSC+RLM read 5 s at 500 Hz (2500 samples). How the few-shot authors pooled
its tokens is not in their code; the mean over time is the kit's reading (fact sheet 1).

Usage:

    encoder = SegmentEncoder(SegmentConfig(dim=96, n_layers=2))
    encoder(signal)["embedding"]                     # (B, 12, 5000) -> (B, 96)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ecgkit.models.ecg_transformer import ECGTransformer, ECGTransformerConfig
from ecgkit.types import DataError


@dataclass(frozen=True)
class SegmentConfig(ECGTransformerConfig):
    """The transformer's sizes, and W samples of a segment."""

    segment: int = 2500


class SegmentEncoder(nn.Module):
    """(B, C, T) as prepared -> {"embedding" (B, D), "tokens" (B, S * P, D)}."""

    def __init__(self, config: SegmentConfig):
        super().__init__()
        self.config = config
        self.encoder = ECGTransformer(config)
        self.width = self.token_width = config.dim

    def forward(self, signal: torch.Tensor) -> dict:
        """Samples after the last whole segment are dropped. Raises DataError for T < W."""
        batch, n_leads, n_samples = signal.shape
        size = self.config.segment
        count = n_samples // size
        if not count:
            raise DataError(
                f"The encoder reads segments of {size} samples and this ECG has {n_samples}; open "
                "the cohort at the encoder's rate (FS) with longer recordings (SECONDS)."
            )
        cut = signal[..., : count * size].reshape(batch, n_leads, count, size)
        cut = cut.transpose(1, 2).reshape(batch * count, n_leads, size)  # -> (B * S, C, W)
        out = self.encoder(cut)
        return {
            "embedding": out["pooled"].reshape(batch, count, -1).mean(1),
            "tokens": out["x"].reshape(batch, -1, out["x"].shape[-1]),
        }
