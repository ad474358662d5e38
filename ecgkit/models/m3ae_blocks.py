"""Parts of M3AE: co-attention layers, poolers, the heads of its pretraining.

Letters: B batch, L tokens that ask, M tokens of the other stream, P tokens of one ECG, V of them
visible, D width, E decoder width, H heads.
Source: Chen et al. 2022 (M3AE, arXiv 2209.07098) section 2; He et al. 2022 (MAE) for the decoder.

Usage:

    layer = CoAttentionLayer(dim=768, n_heads=12, ffn_dim=3072, dropout=0.1)
    words, (own, cross) = layer(words, ecg_tokens, word_padding, ecg_padding)
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from ecgkit.models.transformer import MultiHeadAttention


class CoAttentionLayer(nn.Module):
    """Post-norm: attend to one's own stream, to the other stream, then a GELU feed-forward."""

    def __init__(self, dim: int, n_heads: int, ffn_dim: int, dropout: float):
        super().__init__()
        self.self_attn = MultiHeadAttention(dim, n_heads, dropout)
        self.cross_attn = MultiHeadAttention(dim, n_heads, dropout)
        self.fc1, self.fc2 = nn.Linear(dim, ffn_dim), nn.Linear(ffn_dim, dim)
        self.self_attn_layer_norm = nn.LayerNorm(dim)
        self.cross_attn_layer_norm = nn.LayerNorm(dim)
        self.final_layer_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, other, padding_mask, other_padding_mask, return_weights: bool = False):
        """x (B, L, D), other (B, M, D), masks True = ignore -> (B, L, D), cross weights.

        The weights (B, H, L, M) say where x looks in the other stream; None unless asked for.
        """
        mixed, _ = self.self_attn(x, padding_mask)
        x = self.self_attn_layer_norm(x + self.dropout(mixed))
        mixed, weights = self.cross_attn(x, other_padding_mask, return_weights, context=other)
        x = self.cross_attn_layer_norm(x + self.dropout(mixed))
        inner = self.fc2(F.gelu(self.fc1(x)))
        return self.final_layer_norm(x + self.dropout(inner)), weights


class Pooler(nn.Module):
    """tanh(Linear(first token)): (B, L, D) -> (B, D)."""

    def __init__(self, dim: int):
        super().__init__()
        self.dense = nn.Linear(dim, dim)

    def forward(self, x):
        return self.dense(x[:, 0]).tanh()


class WordHead(nn.Module):
    """BERT's masked-word head with a word matrix of its own: (B, L, D) -> (B, L, vocabulary)."""

    def __init__(self, dim: int, vocab_size: int):
        super().__init__()
        self.dense, self.layer_norm = nn.Linear(dim, dim), nn.LayerNorm(dim)
        self.decoder = nn.Linear(dim, vocab_size)

    def forward(self, x):
        return self.decoder(self.layer_norm(F.gelu(self.dense(x))))


class PreNormBlock(nn.Module):
    """Transformer block of the decoder: norm first, feed-forward four times as wide."""

    def __init__(self, dim: int, n_heads: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = MultiHeadAttention(dim, n_heads, 0.0)
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x, padding_mask):
        x = x + self.attn(self.norm1(x), padding_mask)[0]
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class PatchDecoder(nn.Module):
    """Visible ECG tokens -> what every patch of the ECG looks like.

    Hidden tokens enter as one learned vector; sinusoids say where each token lies.
    """

    def __init__(self, dim: int, width: int, n_layers: int, n_heads: int, patch_values: int):
        super().__init__()
        self.embed = nn.Linear(dim, width)
        self.mask_token = nn.Parameter(torch.randn(width) * 0.02)
        self.blocks = nn.ModuleList(PreNormBlock(width, n_heads) for _ in range(n_layers))
        self.norm = nn.LayerNorm(width)
        self.predict = nn.Linear(width, patch_values)

    def forward(self, tokens, order, empty, padding_mask):
        """tokens (B, 1 + V, D), the class token first; order, empty as of `keep_visible`;
        padding_mask (B, P), True = no such token -> (B, P, patch values)."""
        x = self.embed(tokens)
        first, visible = x[:, :1], x[:, 1:]
        unknown = self.mask_token.to(x)
        visible = torch.where(empty[..., None], unknown, visible)
        places = order[..., None].expand(-1, -1, x.shape[-1])
        full = unknown.expand(*padding_mask.shape, -1).scatter(1, places, visible)  # (B, P, E)
        x = torch.cat([first, full], dim=1)
        x = x + sinusoids(x.shape[1], x.shape[-1]).to(x)
        mask = F.pad(padding_mask, (1, 0), value=False)
        for block in self.blocks:
            x = block(x, mask)
        return self.predict(self.norm(x))[:, 1:]


def keep_visible(tokens, hidden):
    """Takes the hidden tokens out, as an MAE encoder never reads them; hidden (B, P) bool.

    tokens (B, P, D) -> visible ones (B, V, D) in their order, the places they had, order (B, V),
    and `empty` (B, V), True where a row has fewer visible tokens than the fullest.
    """
    n_visible = int((~hidden).sum(1).max())
    order = hidden.to(torch.int8).argsort(dim=1, stable=True)[:, :n_visible]
    visible = tokens.gather(1, order[..., None].expand(-1, -1, tokens.shape[-1]))
    return visible, order, hidden.gather(1, order)


def sinusoids(n: int, dim: int) -> torch.Tensor:
    """Position codes (n, dim) of Vaswani et al. 2017, section 3.5: sines and cosines in turn."""
    rates = torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
    angles = torch.arange(n)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :dim]
