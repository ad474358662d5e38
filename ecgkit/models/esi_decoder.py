"""The multimodal decoder of ESI: parallel attention + feed-forward layers that look at the ECG,
after CoCa and PaLM.

Every normalisation is bias-free (`beta` is a buffer of zeros), attention is multi-query (one key
and value head), and parameter names equal the published ones.

Usage:
    decoder = Decoder(width=768, n_layers=6)
    states = decoder(text_tokens, ecg_tokens)             # (B, L, D), (B, P, D) -> (B, L, D)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class ScaleNorm(nn.Module):
    """LayerNorm with a learnt scale and no learnt bias."""

    def __init__(self, width: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))
        self.register_buffer("beta", torch.zeros(width))

    def forward(self, x):
        return F.layer_norm(x, x.shape[-1:], self.gamma, self.beta)


class SwiGLU(nn.Module):
    """First half of the channels, times silu of the second."""

    def forward(self, x):
        value, gate = x.chunk(2, dim=-1)
        return F.silu(gate) * value


class Residual(nn.Module):
    def __init__(self, fn: nn.Module):
        super().__init__()
        self.fn = fn

    def forward(self, x, *args):
        return self.fn(x, *args) + x


class Rotary(nn.Module):
    """Rotary position embedding over the whole head (base 10000, half-split rotation)."""

    def __init__(self, head_dim: int):
        super().__init__()
        self.register_buffer(
            "inv_freq", 10000.0 ** (-torch.arange(0, head_dim, 2).float() / head_dim)
        )

    def forward(self, x):  # (B, H, L, d) -> (B, H, L, d)
        position = torch.arange(x.shape[-2], device=x.device, dtype=torch.float32)
        angle = torch.outer(position, self.inv_freq.float()).repeat(1, 2)  # (L, d)
        left, right = x.chunk(2, dim=-1)
        return x * angle.cos().to(x.dtype) + torch.cat([-right, left], dim=-1) * angle.sin().to(
            x.dtype
        )


def _multi_query(q, k, v, causal: bool = False):
    """q (B, H, L, d), k and v (B, P, d) shared by all heads -> (B, L, H * d)."""
    n_heads = q.shape[1]
    k, v = (t.unsqueeze(1).expand(-1, n_heads, -1, -1) for t in (k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2)


class ParallelBlock(nn.Module):
    """Causal self-attention and feed-forward, both read from one normalised input through one
    projection.
    """

    def __init__(self, width: int, head_dim: int = 64, n_heads: int = 8, ff_mult: int = 4):
        super().__init__()
        self.sizes = (n_heads * head_dim, head_dim, head_dim, 2 * ff_mult * width)
        self.n_heads = n_heads
        self.norm = ScaleNorm(width)
        self.rotary_emb = Rotary(head_dim)
        self.fused_attn_ff_proj = nn.Linear(width, sum(self.sizes), bias=False)
        self.attn_out = nn.Linear(n_heads * head_dim, width, bias=False)
        self.ff_out = nn.Sequential(SwiGLU(), nn.Linear(ff_mult * width, width, bias=False))

    def forward(self, x):  # (B, L, D) -> (B, L, D)
        q, k, v, ff = self.fused_attn_ff_proj(self.norm(x)).split(self.sizes, dim=-1)
        q = self.rotary_emb(q.unflatten(-1, (self.n_heads, -1)).transpose(1, 2))
        k = self.rotary_emb(k.unsqueeze(1)).squeeze(1)
        return self.attn_out(_multi_query(q, k, v, causal=True)) + self.ff_out(ff)


class CrossAttention(nn.Module):
    """Queries `x` (B, L, D) attend to `context` (B, P, D_c); one key and value head, no positions.

    `ff_mult` > 0 adds a feed-forward in parallel. With P = 1 the softmax is 1 whatever the query
    says, so the result is one vector for all positions: the published model is always in this case.
    """

    def __init__(
        self,
        width: int,
        context_width: int | None = None,
        head_dim: int = 64,
        n_heads: int = 8,
        ff_mult: int = 0,
        norm_context: bool = False,
    ):
        super().__init__()
        context_width = context_width or width
        self.n_heads = n_heads
        self.norm = ScaleNorm(width)
        self.context_norm = ScaleNorm(context_width) if norm_context else nn.Identity()
        self.to_q = nn.Linear(width, n_heads * head_dim, bias=False)
        self.to_kv = nn.Linear(context_width, 2 * head_dim, bias=False)
        self.to_out = nn.Linear(n_heads * head_dim, width, bias=False)
        self.ff = None
        if ff_mult:
            self.ff = nn.Sequential(
                nn.Linear(width, 2 * ff_mult * width, bias=False),
                SwiGLU(),
                nn.Linear(ff_mult * width, width, bias=False),
            )

    def forward(self, x, context):  # (B, L, D), (B, P, D_c) -> (B, L, D)
        x = self.norm(x)
        k, v = self.to_kv(self.context_norm(context)).chunk(2, dim=-1)  # (B, P, d) each
        if context.shape[1] == 1:
            out = self.to_out(v.repeat(1, 1, self.n_heads))  # exact: softmax over one key
        else:
            out = self.to_out(
                _multi_query(self.to_q(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2), k, v)
            )
        return out + self.ff(x) if self.ff is not None else out


class Decoder(nn.ModuleList):
    """`n_layers` x [causal parallel block, cross-attention to the ECG]."""

    def __init__(
        self, width: int, n_layers: int = 6, head_dim: int = 64, n_heads: int = 8, ff_mult: int = 4
    ):
        super().__init__(
            nn.ModuleList(
                [
                    Residual(ParallelBlock(width, head_dim, n_heads, ff_mult)),
                    Residual(
                        CrossAttention(width, head_dim=head_dim, n_heads=n_heads, ff_mult=ff_mult)
                    ),
                ]
            )
            for _ in range(n_layers)
        )

    def forward(self, text, ecg):  # (B, L, D), (B, P, D) -> (B, L, D)
        for block, cross in self:
            text = cross(block(text), ecg)
        return text
