"""Any ECG encoder with a linear head on its embedding: what is fine-tuned, or trained from scratch.

Letters: B batch, C leads, T samples, E width of the embedding, K classes.

Usage:

    model = EncoderHead(encoder, width=encoder.width, n_classes=5)
    model(signal)                  # (B, C, T) -> {"embedding": (B, E), "logits": (B, K)}
"""

from __future__ import annotations

import torch
from torch import nn

from ecgkit.models.ssl_heads import Embed, embed_pooled


class EncoderHead(nn.Module):
    """`embed(encoder, signal)` gives (B, E); by default what the encoder calls its embedding."""

    def __init__(
        self, encoder: nn.Module, width: int, n_classes: int, embed: Embed = embed_pooled
    ):
        super().__init__()
        self.encoder, self.embed = encoder, embed
        self.proj = nn.Linear(width, n_classes)

    def forward(self, signal: torch.Tensor) -> dict[str, torch.Tensor]:
        embedding = self.embed(self.encoder, signal)
        return {"embedding": embedding, "logits": self.proj(embedding)}
