"""A vision transformer for 12-lead ECGs: patches along time over all leads, pre-norm blocks.

The ESI paper reports a ViT-1D of 84.92 M parameters and its code has none; this one is ours, of the
usual base size (768 wide, 12 blocks of 12 heads): 85,517,568 parameters. Positions are sines and
cosines, so that a record of any length can be read.

Letters: B batch, C leads, T samples, P patches, D width, H heads.
Source: Dosovitskiy et al. 2021 (ViT); Vaswani et al. 2017 (positions).

Usage:

    encoder = ViT1D(ViTConfig())        # patches of 0.1 s at 500 Hz
    out = encoder(x)                    # (B, C, T) mV -> {"embedding": (B, D), "tokens": (B, P, D)}
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from ecgkit.types import ModelError


@dataclass(frozen=True)
class ViTConfig:
    """Sizes; a patch is `patch` samples of all leads. Raises ModelError if D is no multiple of H,
    or odd: sines and cosines share it.
    """

    n_leads: int = 12
    patch: int = 50
    dim: int = 768
    depth: int = 12
    n_heads: int = 12
    ff_mult: int = 4

    def __post_init__(self):
        if self.dim % self.n_heads or self.dim % 2:
            raise ModelError(
                f"ViT1D: dim {self.dim} must be even and a multiple of n_heads {self.n_heads}."
            )

    @classmethod
    def preset(cls, name: str, **changes) -> ViTConfig:
        """vit, or small_vit for 100 Hz. Raises ModelError for another name."""
        if name not in PRESETS:
            raise ModelError(f"ViT size {name!r} is unknown; choose {' or '.join(PRESETS)}.")
        return cls(**{**PRESETS[name], **changes})


PRESETS = {"small_vit": {"patch": 10, "dim": 64, "depth": 4, "n_heads": 4}, "vit": {}}


class Block(nn.Module):
    """Pre-norm transformer block: self-attention, then a GELU feed-forward, each on a residual."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        dim, inner = config.dim, config.ff_mult * config.dim
        self.n_heads = config.n_heads
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, inner), nn.GELU(), nn.Linear(inner, dim))

    def forward(self, x, return_weights: bool = False):
        """x (B, P, D) -> (B, P, D), weights (B, H, P, P) or None."""
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, self.n_heads, -1))  # (B, P, 3, H, D / H)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, H, P, D / H) each
        weights = None
        if return_weights:
            weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
            mixed = weights @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v)
        x = x + self.proj(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x)), weights


class ViT1D(nn.Module):
    """x (B, C, T) in mV -> {"embedding": (B, D), "tokens": (B, P, D)}, P = T / patch rounded down.

    The embedding is the mean of the tokens, which are normalised. With `return_attention` also
    "attention", a list of (B, H, P, P). Raises ModelError when T is shorter than one patch.
    """

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.config = config
        self.patch_embed = nn.Conv1d(config.n_leads, config.dim, config.patch, config.patch)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)
        self.apply(_initialise)

    @property
    def width(self) -> int:
        return self.config.dim

    @property
    def min_samples(self) -> int:
        return self.config.patch

    def forward(self, x, return_attention: bool = False):
        if x.ndim != 3 or x.shape[1] != self.config.n_leads or x.shape[2] < self.min_samples:
            raise ModelError(
                f"ViT1D takes (batch, {self.config.n_leads} leads, {self.min_samples} samples or "
                f"more), not {tuple(x.shape)}; transpose or lengthen the signal."
            )
        x = self.patch_embed(x).transpose(1, 2)  # (B, C, T) -> (B, P, D)
        x, maps = x + positions(x.shape[1], x.shape[2], x.device).to(x.dtype), []
        for block in self.blocks:
            x, weights = block(x, return_attention)
            maps.append(weights)
        tokens = self.norm(x)
        out = {"embedding": tokens.mean(dim=1), "tokens": tokens}
        return out | {"attention": maps} if return_attention else out


def positions(n: int, dim: int, device=None) -> torch.Tensor:
    """(n, dim): sines, then cosines, of wavelengths from 2 pi to 10,000 * 2 pi patches."""
    rate = 10000.0 ** (-torch.arange(dim // 2, device=device) / (dim // 2))
    angle = torch.outer(torch.arange(n, device=device, dtype=torch.float32), rate)
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def _initialise(module) -> None:
    """Xavier, so that the start does not depend on the width; the positions have a size of 0.7."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv1d):  # a patch is one long input, as to a linear layer
        nn.init.xavier_uniform_(module.weight.data.view(len(module.weight), -1))
        nn.init.zeros_(module.bias)
