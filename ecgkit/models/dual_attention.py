"""Dual-attention ECG autoencoder with a Cox risk head (Jin et al., IEEE Trans. Big Data 2025), in
its published layout.

A convolutional stem and residual stack shrink time 32-fold; one branch attends over time inside
each lead, a parallel one attends over leads; their sum is pooled to the code z. The decoder is in
`dual_attention_decoder.py`. Shape letters: B batch, C leads, T samples, D features per token, N
time tokens (T / 2^n_down), Z code width, H heads.

Usage:

    model = DualAttentionAutoencoder(DualAttentionConfig(n_samples=608)) out = model(x,
    return_attention=True)   # x (B, C, T) z-scored; out["z"] (B, Z), out["recon"] (B, C, T), ...
    risk = RiskHead(512)(out["z"])          # {"log_risk": (B,), "hidden": (B, 3)}"""

from __future__ import annotations

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import nn

from ecgkit.models.cpu_layers import dropout, halve, norm_leaky
from ecgkit.models.dual_attention_decoder import Decoder
from ecgkit.types import ModelError


@dataclasses.dataclass(frozen=True)
class DualAttentionConfig:
    """Sizes; the defaults are the published ones for median beats of 600 samples padded to 608."""

    n_samples: int = 608
    n_leads: int = 12
    base: int = 4  # features per lead after the stem
    code_width: int = 512  # Z
    n_down: int = 5  # halvings of time
    n_heads: int = 8
    lead_attention: bool = True
    time_attention: bool = True
    stem: str = "mixed"  # mixed: as published, leads mix; per_lead: row c sees lead c only
    dropout: float = 0.2

    def __post_init__(self):
        if self.n_samples % 2**self.n_down:
            raise ModelError(
                f"{self.n_samples} samples cannot be halved {self.n_down} times; pad to a multiple "
                f"of {2**self.n_down}."
            )
        if self.time_attention and self.width % self.n_heads:
            raise ModelError(
                f"{self.width} features per token do not split into {self.n_heads} heads; use an "
                "even base."
            )
        if self.lead_attention and self.lead_width % self.n_heads:
            raise ModelError(
                f"Lead tokens of {self.lead_width} features do not split into {self.n_heads} heads."
            )
        if self.stem not in ("mixed", "per_lead"):
            raise ModelError(f"stem is {self.stem!r}; choose mixed (as published) or per_lead.")

    @property
    def width(self) -> int:
        """D, features of one time token."""
        return 4 * self.base

    @property
    def n_tokens(self) -> int:
        """N, time tokens per lead."""
        return self.n_samples // 2**self.n_down

    @property
    def lead_width(self) -> int:
        """Features of one lead token: all its time tokens, laid end to end."""
        return self.width * self.n_tokens


def sincos_positions(n: int, width: int) -> torch.Tensor:
    """(n, width) positions with sine on even and cosine on odd features."""
    angle = torch.arange(n)[:, None] * torch.exp(
        torch.arange(0, width, 2) * (-math.log(10_000.0) / width)
    )
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


class Stem(nn.Module):
    """(B, C, T) -> (B, base, C, T).

    `mixed` keeps two published properties: the second convolution sees all leads, and its
    lead-major channels are read feature-major, so no row belongs to one lead. `per_lead` groups the
    second convolution and reads lead-major."""

    def __init__(self, config: DualAttentionConfig):
        super().__init__()
        n_leads, channels = config.n_leads, config.n_leads * config.base
        self.n_leads, self.per_lead = n_leads, config.stem == "per_lead"
        self.layers = nn.Sequential(
            nn.Conv1d(n_leads, channels, 5, padding=2, groups=n_leads),
            nn.GroupNorm(n_leads, channels),
            nn.GELU(),
            nn.Conv1d(channels, channels, 5, padding=2, groups=n_leads if self.per_lead else 1),
            nn.GroupNorm(n_leads, channels),
            nn.GELU(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.layers(x)
        if self.per_lead:
            return h.unflatten(1, (self.n_leads, -1)).transpose(
                1, 2
            )  # (B, C*base, T) -> (B, base, C, T)
        return h.unflatten(1, (-1, self.n_leads))


class DownBlock(nn.Module):
    """Residual block that halves time: (B, F, C, T) -> (B, F', C, T/2); kernels run along time
    only."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, (1, 5), stride=(1, 2), padding=(0, 2), bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, (1, 5), padding=(0, 2), bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.skip = nn.Conv2d(n_in, n_out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = norm_leaky(self.conv1(x), self.bn1)
        h = norm_leaky(self.conv2(h), self.bn2)
        return F.gelu(self.skip(halve(x)).add_(h))


class TokenBlock(nn.Module):
    """G independent pre-norm attention blocks in one, each with its own weights: (G, B, N, D).

    Groups come first, so that each layer is one batched matrix product. The temporal branch uses
    one group per lead, the lead branch a single group. Positions are added first and stay in the
    residual stream. Returns the tokens, and the head-averaged attention (G, B, N, N) when asked.
    """

    def __init__(self, groups: int, n_tokens: int, width: int, n_heads: int, dropout: float):
        super().__init__()
        self.n_heads, self.dropout = n_heads, dropout
        self.register_buffer("positions", sincos_positions(n_tokens, width), persistent=False)
        self.norm1, self.norm1_bias = _filled(1, groups, width), _filled(0, groups, width)
        self.norm2, self.norm2_bias = _filled(1, groups, width), _filled(0, groups, width)
        self.qkv, self.qkv_bias = _xavier(groups, 3 * width, width), _filled(0, groups, 3 * width)
        self.out, self.out_bias = _uniform(groups, width, width), _filled(0, groups, width)
        self.fc1, self.fc1_bias = _uniform(groups, 4 * width, width), _filled(0, groups, 4 * width)
        self.fc2, self.fc2_bias = _uniform(groups, width, 4 * width), _filled(0, groups, width)

    def forward(self, x: torch.Tensor, return_attention: bool = False):
        x = x + self.positions
        h, attention = self._attend(_norm(x, self.norm1, self.norm1_bias), return_attention)
        x = x + self._drop(h)
        h = F.gelu(_linear(_norm(x, self.norm2, self.norm2_bias), self.fc1, self.fc1_bias))
        return x + self._drop(_linear(self._drop(h), self.fc2, self.fc2_bias)), attention

    def _attend(self, x: torch.Tensor, return_attention: bool):
        groups = x.shape[:2]
        qkv = _linear(x, self.qkv, self.qkv_bias).flatten(0, 1)  # (G * B, N, 3 * D)
        qkv = qkv.unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)  # each (G * B, H, N, D / H)
        weights, p = None, self.dropout if self.training else 0.0
        if return_attention or (p and x.device.type == "cpu"):
            full = torch.softmax(q / math.sqrt(q.shape[-1]) @ k.transpose(-1, -2), dim=-1)
            h = self._drop(full) @ v
            weights = full.mean(1).unflatten(0, groups) if return_attention else None
        else:
            h = F.scaled_dot_product_attention(q, k, v, dropout_p=p)
        h = h.transpose(1, 2).flatten(2).unflatten(0, groups)  # (G, B, N, D)
        return _linear(h, self.out, self.out_bias), weights

    def _drop(self, x: torch.Tensor) -> torch.Tensor:
        return dropout(x, self.dropout, self.training)


class DualAttention(nn.Module):
    """(B, D, C, N) -> code (B, Z): temporal branch + lead branch, summed, then a mean-pooled and a
    max-pooled 1x1 map.

    As published, both branches read the same features; a branch left out passes on what would have
    entered the sum before it (no time attention: the features; no lead attention: the temporal
    output, which then counts twice). `idle_norm` is the published network's unused layer norm of
    the missing lead branch: it keeps parameter counts equal."""

    def __init__(self, config: DualAttentionConfig):
        super().__init__()
        c = config
        self.time = self.lead = self.idle_norm = None
        if c.time_attention:
            self.time = TokenBlock(c.n_leads, c.n_tokens, c.width, c.n_heads, c.dropout)
        if c.lead_attention:
            self.lead = TokenBlock(1, c.n_leads, c.lead_width, c.n_heads, c.dropout)
        else:
            self.idle_norm = nn.LayerNorm(c.lead_width)
        self.mean_pool = nn.Conv1d(c.n_leads * c.width, c.code_width // 2, 1)
        self.max_pool = nn.Conv1d(c.n_leads * c.width, c.code_width // 2, 1)

    def forward(self, x: torch.Tensor, return_attention: bool = False):
        total, maps = x, {}
        if self.time is not None:
            tokens, attention = self.time(x.permute(2, 0, 3, 1), return_attention)  # (C, B, N, D)
            total = tokens.permute(1, 3, 0, 2)
            maps["time_attention"] = None if attention is None else attention.transpose(0, 1)
        if self.lead is not None:
            flat = x.transpose(1, 2).flatten(2)[None]  # (1, B, C, D * N): one token per lead
            tokens, attention = self.lead(flat, return_attention)
            total = total + tokens[0].unflatten(-1, x.shape[1::2]).transpose(1, 2)
            maps["lead_attention"] = None if attention is None else attention[0]
        else:
            total = 2 * total
        h = total.flatten(1, 2)  # (B, D*C, N)
        # The mean of a linear map is the map of the mean.
        mean = F.linear(h.mean(-1), self.mean_pool.weight[..., 0], self.mean_pool.bias)
        return torch.cat([mean, self.max_pool(h).amax(-1)], dim=1), maps


class DualAttentionAutoencoder(nn.Module):
    """x (B, C, T) -> {"z" (B, Z), "recon" (B, C, T)}; with `return_attention` also "lead_attention"
    (B, C, C) and "time_attention" (B, C, N, N), head-averaged, rows sum to 1. `return_stages` adds
    the inner activations."""

    def __init__(self, config: DualAttentionConfig):
        super().__init__()
        self.config = config
        widths = [config.base, 2 * config.base] + [config.width] * (config.n_down - 1)
        self.stem = Stem(config)
        self.blocks = nn.ModuleList(
            DownBlock(a, b) for a, b in zip(widths, widths[1:], strict=False)
        )
        self.attention = DualAttention(config)
        self.decoder = Decoder(
            config.n_leads, config.base, config.code_width, config.n_tokens, config.n_down
        )
        # Measured on CPU: (1, 5) kernels run about a third faster with channels last.
        self.blocks.to(memory_format=torch.channels_last)

    def encode(
        self, x: torch.Tensor, return_attention: bool = False, return_stages: bool = False
    ) -> dict:
        stages = {"input_conv": self.stem(x)}
        h = stages["input_conv"].contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            h = block(h)
        stages["resnet"] = h
        z, maps = self.attention(h, return_attention)
        return {"z": z} | (maps if return_attention else {}) | (stages if return_stages else {})

    def forward(
        self, x: torch.Tensor, return_attention: bool = False, return_stages: bool = False
    ) -> dict:
        out = self.encode(x, return_attention, return_stages)
        return out | self.decoder(out["z"], return_stages)


class RiskHead(nn.Module):
    """z (B, Z) -> {"log_risk" (B,), "hidden" (B, hidden)}: the published head, three units wide.

    Behind so few ReLUs everybody whose units are all off gets one and the same score (measured on
    the simulated cohort: 38 % of people tied); more units mend it.
    """

    def __init__(self, code_width: int, hidden: int = 3, dropout: float = 0.25):
        super().__init__()
        self.hidden = nn.Sequential(
            nn.BatchNorm1d(code_width),
            nn.Dropout(dropout),
            nn.Linear(code_width, hidden),
            nn.ReLU(),
            nn.BatchNorm1d(hidden),
        )
        self.out = nn.Linear(hidden, 1)

    def forward(self, z: torch.Tensor) -> dict:
        hidden = self.hidden(z)
        return {"log_risk": self.out(hidden)[:, 0], "hidden": hidden}


def projector(n_in: int, hidden: int, n_out: int) -> nn.Sequential:
    """Two-layer map into the space where ECG and text are aligned; published 512-256-128 and
    768-256-128."""
    return nn.Sequential(nn.Linear(n_in, hidden), nn.ReLU(), nn.Linear(hidden, n_out))


def projector_sizes(code_width: int) -> tuple[int, int]:
    """(hidden, out) as published: 256, 128 for a code of 512, else half the code for both."""
    return (256, 128) if code_width == 512 else (code_width // 2, code_width // 2)


# --- grouped layers: one weight per group, applied in one matrix product --------------------------


def _linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """x (G, B, N, I), weight (G, O, I), bias (G, O) -> (G, B, N, O)."""
    if len(weight) == 1:
        return F.linear(x, weight[0], bias[0])
    out = torch.baddbmm(bias[:, None], x.flatten(1, 2), weight.transpose(1, 2))
    return out.unflatten(1, x.shape[1:3])


def _norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    if len(weight) == 1:
        return F.layer_norm(x, x.shape[-1:], weight[0], bias[0])
    return torch.addcmul(bias[:, None, None], F.layer_norm(x, x.shape[-1:]), weight[:, None, None])


def _filled(value: float, *shape: int) -> nn.Parameter:
    return nn.Parameter(torch.full(shape, float(value)))


def _xavier(groups: int, n_out: int, n_in: int) -> nn.Parameter:
    bound = math.sqrt(6 / (n_in + n_out))
    return nn.Parameter(torch.empty(groups, n_out, n_in).uniform_(-bound, bound))


def _uniform(groups: int, n_out: int, n_in: int) -> nn.Parameter:
    """torch's own scale for a linear layer, 1/sqrt(n_in)."""
    bound = 1 / math.sqrt(n_in)
    return nn.Parameter(torch.empty(groups, n_out, n_in).uniform_(-bound, bound))
