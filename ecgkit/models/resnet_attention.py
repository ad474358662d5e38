"""ResNet with multi-head attention: an upper bound of ECG-QA, after Nejedly et al. 2021
(PhysioNet/CinC Challenge winner).

Letters: B batch, C leads, T samples, W filters, P steps after the convolutions.
`protocol="reference"`: pooling over non-zero entries, and a lead counts as present only if *none*
of its samples is zero (nearly never on real ECGs); `"paper"`: plain mean, present if any is not.

Usage: ResNetAttention(n_labels=83)(signal)["logits"]
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ecgkit.models.ecg_transformer import pool_tokens


class ResidualBlock(nn.Module):
    """Halves time: conv stride 2, BN, leaky ReLU, conv, BN, leaky ReLU, plus a pooled 1x1 skip."""

    def __init__(self, width: int, kernel: int = 9, dropout: float = 0.5):
        super().__init__()
        pad = kernel // 2
        self.conv1 = nn.Conv1d(width, width, kernel, stride=2, padding=pad, bias=False)
        self.bn1 = nn.BatchNorm1d(width)
        self.conv2 = nn.Conv1d(width, width, kernel, padding=pad, bias=False)
        self.bn2 = nn.BatchNorm1d(width)
        self.dropout = nn.Dropout(dropout)
        self.idfunc_0 = nn.AvgPool1d(2, 2, ceil_mode=True)
        self.idfunc_1 = nn.Conv1d(width, width, 1, bias=False)

    def forward(self, x):  # (B, W, T) -> (B, W, ceil(T / 2))
        skip = self.idfunc_1(self.idfunc_0(x))
        x = self.dropout(F.leaky_relu(self.bn1(self.conv1(x))))
        return F.leaky_relu(self.bn2(self.conv2(x))) + skip


class ResNetEncoder(nn.Module):
    """Stem (stride 2) and residual blocks: (B, C, T) -> (B, W, P)."""

    def __init__(self, n_leads: int, width: int, n_blocks: int, kernels: tuple[int, int], dropout):
        super().__init__()
        stem = kernels[0]
        self.conv = nn.Conv1d(n_leads, width, stem, stride=2, padding=stem // 2, bias=False)
        self.bn = nn.BatchNorm1d(width)
        blocks = [ResidualBlock(width, kernels[1], dropout) for _ in range(n_blocks)]
        self.blocks = nn.ModuleList(blocks)

    def forward(self, signal):
        x = F.leaky_relu(self.bn(self.conv(signal)))
        for block in self.blocks:
            x = block(x)
        return x


class ResNetAttention(nn.Module):
    """The whole classifier; defaults are the published size (6,563,127 parameters at 83 labels)."""

    def __init__(self, n_labels: int, n_leads: int = 12, width: int = 256, n_blocks: int = 5,
                 n_heads: int = 8, kernels: tuple[int, int] = (15, 9), dropout: float = 0.5,
                 protocol: str = "paper"):
        super().__init__()
        self.protocol = protocol
        self.sizes = {"n_leads": n_leads, "width": width, "n_blocks": n_blocks, "n_heads": n_heads,
                      "kernels": tuple(kernels), "dropout": dropout, "protocol": protocol}
        self.encoder = ResNetEncoder(n_leads, width, n_blocks, kernels, dropout)
        self.dropout = nn.Dropout(dropout)
        self.mha = nn.MultiheadAttention(width, n_heads, batch_first=True)
        self.proj = nn.Linear(width + n_leads, n_labels)

    def forward(self, signal, return_attention: bool = False) -> dict:
        """signal (B, C, T) mV -> logits (B, K), encoder_out (B, W, P), attention (B, P, P)."""
        encoded = self.encoder(signal)
        x = self.dropout(encoded.transpose(1, 2))  # (B, P, W)
        x, weights = self.mha(x, x, x, need_weights=return_attention)
        pooled = pool_tokens(x, None, self.protocol)
        flags = torch.cat([pooled, self.lead_flags(signal)], dim=-1)
        return {"logits": self.proj(flags), "encoder_out": encoded, "attention": weights}

    def lead_flags(self, signal):
        """(B, C, T) -> (B, C), 1 where a lead counts as present."""
        nonzero = signal != 0
        present = nonzero.all(-1) if self.protocol == "reference" else nonzero.any(-1)
        return present.to(signal.dtype)
