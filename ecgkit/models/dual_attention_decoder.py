"""Decoder of the dual-attention autoencoder: code (B, Z) -> ECG (B, C, T) of zero mean and unit
variance per lead."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ecgkit.models.cpu_layers import norm_leaky


class UpBlock(nn.Module):
    """Residual block of the decoder: (B, F, C, T) -> (B, F', C, 2T), or the same T when `double` is
    False.

    When it doubles, both paths start from one upsampled and remixed map; the last block's main path
    reads its input."""

    def __init__(self, n_in: int, n_out: int, double: bool = True):
        super().__init__()
        self.up = (
            nn.ConvTranspose2d(n_in, n_in, (1, 4), stride=(1, 2), padding=(0, 1))
            if double
            else None
        )
        self.skip = nn.Conv2d(n_in, n_out, 1, bias=not double)
        self.conv1 = nn.Conv2d(n_out if double else n_in, n_out, (1, 5), padding=(0, 2), bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, (1, 5), padding=(0, 2), bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.up is not None:
            x = skip = self._upsampled(x)
        else:
            skip = self.skip(x)
        h = norm_leaky(self.conv1(x), self.bn1)
        h = norm_leaky(self.conv2(h), self.bn2)
        return F.gelu(h + skip)

    def _upsampled(self, x: torch.Tensor) -> torch.Tensor:
        """skip(up(x)) in one convolution, for the second mixes channels alone."""
        mix = self.skip.weight[:, :, 0, 0]  # (F', F)
        weight = (self.up.weight.permute(0, 2, 3, 1) @ mix.T).permute(0, 3, 1, 2)
        return F.conv_transpose2d(
            x, weight, mix @ self.up.bias, stride=self.up.stride, padding=self.up.padding
        )


class Decoder(nn.Module):
    """z (B, Z) -> {"recon" (B, C, T)}. Two linears with nothing between, upsampling blocks, one
    scale per lead, and an instance norm: the output cannot carry amplitude, only shape, like its
    z-scored target."""

    def __init__(self, n_leads: int, base: int, code_width: int, n_tokens: int, n_up: int):
        super().__init__()
        self.shape = (base, n_leads, n_tokens)
        self.linear = nn.Sequential(
            nn.Linear(code_width, base * n_tokens),
            nn.Linear(base * n_tokens, base * n_leads * n_tokens),
        )
        self.blocks = nn.ModuleList(
            [UpBlock(base, base) for _ in range(n_up)] + [UpBlock(base, 1, double=False)]
        )
        self.scale = nn.Conv1d(n_leads, n_leads, 1, groups=n_leads)
        self.blocks.to(memory_format=torch.channels_last)

    def forward(self, z: torch.Tensor, return_stages: bool = False) -> dict:
        flat = self.linear(z)
        h = flat.unflatten(1, self.shape).contiguous(
            memory_format=torch.channels_last
        )  # (B, base, C, N)
        for block in self.blocks:
            h = block(h)
        recon = F.instance_norm(self.scale(h[:, 0].contiguous()))
        return {"recon": recon} | (
            {"decoder_linear": flat, "decoder_conv": h} if return_stages else {}
        )
