"""ResNet-50 for 12-lead ECGs: the image network with its 3 x 3 convolutions made 3 long.

Letters: B batch, C leads, T samples, W width of the first stage, D = 32 W width of the output.
Source: He et al. 2016, table 1; stride in the middle convolution of a block, as torchvision has it.

Usage:

    net = ResNet1D()                            # 15,959,168 parameters
    net(signal)                                 # (B, 12, T) mV -> (B, 2048)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

EXPANSION = 4  # a block is four times as wide outside as inside


class Bottleneck(nn.Module):
    """1, 3 and 1 long convolutions with batch norms, added to the input (projected if it must)."""

    def __init__(self, n_in: int, width: int, stride: int):
        super().__init__()
        n_out = EXPANSION * width
        self.body = nn.Sequential(
            *conv_norm(n_in, width, 1), nn.ReLU(inplace=True),
            *conv_norm(width, width, 3, stride), nn.ReLU(inplace=True),
            *conv_norm(width, n_out, 1),
        )  # fmt: skip
        same = n_in == n_out and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(*conv_norm(n_in, n_out, 1, stride))

    def forward(self, x):  # (B, n_in, T) -> (B, 4 * width, T / stride)
        return F.relu(self.body(x) + self.shortcut(x))


class ResNet1D(nn.Module):
    """Stem (7 long, stride 2; max-pool 3, stride 2), four stages of bottlenecks, mean over time."""

    def __init__(self, n_leads: int = 12, blocks: tuple[int, ...] = (3, 4, 6, 3), width: int = 64):
        super().__init__()
        self.stem = nn.Sequential(*conv_norm(n_leads, width, 7, 2), nn.ReLU(inplace=True),
                                  nn.MaxPool1d(3, 2, padding=1))
        stages, n_in = [], width
        for i, depth in enumerate(blocks):
            inner = width * 2**i
            for j in range(depth):
                stages.append(Bottleneck(n_in, inner, 2 if j == 0 and i > 0 else 1))
                n_in = EXPANSION * inner
        self.stages, self.out_dim = nn.Sequential(*stages), n_in

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        """(B, C, T) mV -> (B, out_dim)."""
        return self.stages(self.stem(signal)).mean(-1)


def conv_norm(n_in: int, n_out: int, kernel: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    """A convolution without bias that keeps T at stride 1, and its batch norm."""
    conv = nn.Conv1d(n_in, n_out, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv, nn.BatchNorm1d(n_out)
