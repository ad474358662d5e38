"""Wide residual network with squeeze-and-excitation: the lighter upper bound of ECG-QA, after
Han et al. 2021.

Letters: B batch, C leads, T samples, W channels of the last stage.

Usage: SEWideResNet(n_labels=83)(signal)["logits"]
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class SEBlock(nn.Module):
    """Pre-activation residual block with channel gates; `first` marks the network's very first
    block, whose input is normalised already."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int, squeeze: int,
                 dropout: float, first: bool = False, projects: bool = False):
        super().__init__()
        pad = kernel // 2
        self.bn1 = None if first else nn.BatchNorm1d(n_in)
        self.conv1 = nn.Conv1d(n_in, n_out, kernel, stride=stride, padding=pad, bias=False)
        self.bn2 = nn.BatchNorm1d(n_out)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv1d(n_out, n_out, kernel, padding=pad, bias=False)
        self.fc1, self.fc2 = nn.Linear(n_out, squeeze), nn.Linear(squeeze, n_out)
        self.idfunc_0 = nn.AvgPool1d(2, 2, ceil_mode=True) if projects and stride == 2 else None
        self.idfunc_1 = nn.Conv1d(n_in, n_out, 1, bias=False) if projects else None

    def forward(self, x):  # (B, W_in, T) -> (B, W_out, T / stride)
        skip = x if self.idfunc_0 is None else self.idfunc_0(x)
        skip = skip if self.idfunc_1 is None else self.idfunc_1(skip)
        x = x if self.bn1 is None else F.relu(self.bn1(x))
        x = self.dropout(F.relu(self.bn2(self.conv1(x))))
        x = self.conv2(x)
        gate = torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean(-1)))))  # (B, W_out)
        return x * gate[..., None] + skip


class SEWideResNetEncoder(nn.Module):
    """Stem and groups of blocks: (B, C, T) -> (B, W, P); every group halves time once."""

    def __init__(self, n_leads: int, widths, n_blocks: int, kernel: int, squeezes, dropout: float):
        super().__init__()
        pad = kernel // 2
        self.conv = nn.Conv1d(n_leads, widths[0], kernel, padding=pad, bias=False)
        self.bn = nn.BatchNorm1d(widths[0])
        self.groups = nn.ModuleList()
        n_in = widths[0]
        counts = (n_blocks,) * len(squeezes) if isinstance(n_blocks, int) else n_blocks
        for g, (n_out, squeeze) in enumerate(zip(widths[1:], squeezes)):
            layers = nn.ModuleList()
            for b in range(counts[g]):
                layers.append(SEBlock(n_in, n_out, kernel, 2 if b == 0 else 1, squeeze, dropout,
                                      first=g == 0 and b == 0, projects=b == 0))
                n_in = n_out
            self.groups.append(nn.ModuleDict({"layers": layers}))

    def forward(self, signal):
        x = F.relu(self.bn(self.conv(signal)))
        for group in self.groups:
            for block in group["layers"]:
                x = block(x)
        return x


class SEWideResNet(nn.Module):
    """The whole classifier; defaults are the published size (1,361,757 parameters at 83 labels).

    `widths` = stem, then one per group; `squeezes` = width of each group's gate bottleneck;
    `n_blocks` a group, one number or one per group.
    """

    def __init__(self, n_labels: int, n_leads: int = 12, widths=(16, 16, 32, 64, 128),
                 n_blocks: int = 3, kernel: int = 11, squeezes=None, dropout: float = 0.3):
        super().__init__()
        squeezes = squeezes or tuple(max(1, w // 8) for w in widths[1:])
        self.sizes = {"n_leads": n_leads, "widths": tuple(widths), "n_blocks": n_blocks,
                      "kernel": kernel, "squeezes": tuple(squeezes), "dropout": dropout}
        self.encoder = SEWideResNetEncoder(n_leads, widths, n_blocks, kernel, squeezes, dropout)
        self.bn = nn.BatchNorm1d(widths[-1])
        self.dropout = nn.Dropout(dropout)
        self.proj = nn.Linear(widths[-1], n_labels)

    def forward(self, signal) -> dict:
        """signal (B, C, T) mV -> logits (B, K), encoder_out (B, W, P)."""
        encoded = self.encoder(signal)
        pooled = self.dropout(F.relu(self.bn(encoded))).amax(-1)
        return {"logits": self.proj(pooled), "encoder_out": encoded}
