"""A post-norm transformer encoder, as BERT and fairseq have it; ECG and text models share it.

Letters: B batch, L tokens that ask, M tokens that are looked at, D width, H heads.
Module names are those of the published checkpoints.
Source: Vaswani et al. 2017; Devlin et al. 2019 (post-norm, GELU).

Usage:

    encoder = TransformerEncoder(config)      # dim, ffn_dim, n_heads, n_layers, three dropouts
    x, maps = encoder(tokens, padding_mask, return_attention=True)
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from ecgkit.models.ecg_transformer import ECGTransformerConfig


class MultiHeadAttention(nn.Module):
    """Multi-head attention with separate projections; barred keys get no weight."""

    def __init__(self, dim: int, n_heads: int, dropout: float):
        super().__init__()
        self.n_heads, self.dropout = n_heads, dropout
        self.k_proj, self.v_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.q_proj, self.out_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, x, padding_mask=None, return_weights: bool = False, attention_mask=None,
                context=None):
        """x (B, L, D) attends to itself, or to `context` (B, M, D) -> (B, L, D), weights or None.

        padding_mask (B, M): keys to ignore. attention_mask (L, M) or (B, L, M): keys that a query
        may not look at. True bars in both; weights are (B, H, L, M).
        """
        source = x if context is None else context
        q = self._heads(self.q_proj(x))
        k, v = self._heads(self.k_proj(source)), self._heads(self.v_proj(source))
        keep = allowed_keys(padding_mask, attention_mask)
        weights = None
        if return_weights:
            scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
            if keep is not None:
                scores = scores.masked_fill(~keep, float("-inf"))
            weights = scores.softmax(-1)
            mixed = F.dropout(weights, self.dropout, self.training) @ v
        else:
            p = self.dropout if self.training else 0.0
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=keep, dropout_p=p)
        return self.out_proj(mixed.transpose(1, 2).flatten(2)), weights

    def _heads(self, x):
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, L, D) -> (B, H, L, D / H)


def allowed_keys(padding_mask, attention_mask):
    """Both masks of MultiHeadAttention as one that is True where a query may look, or None."""
    barred = None if padding_mask is None else padding_mask[:, None, None, :]
    if attention_mask is not None:
        extra = attention_mask if attention_mask.dim() == 2 else attention_mask[:, None]
        barred = extra if barred is None else barred | extra
    return None if barred is None else ~barred  # broadcasts to (B, H, L, M)


class EncoderLayer(nn.Module):
    """Post-norm transformer layer: attention, add, norm, GELU feed-forward, add, norm."""

    def __init__(self, config: ECGTransformerConfig):
        super().__init__()
        dim = config.dim
        self.self_attn = MultiHeadAttention(dim, config.n_heads, config.attention_dropout)
        self.self_attn_layer_norm = nn.LayerNorm(dim)
        self.fc1, self.fc2 = nn.Linear(dim, config.ffn_dim), nn.Linear(config.ffn_dim, dim)
        self.final_layer_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(config.dropout)
        self.activation_dropout = nn.Dropout(config.activation_dropout)

    def forward(self, x, padding_mask=None, return_weights: bool = False, attention_mask=None):
        mixed, weights = self.self_attn(x, padding_mask, return_weights, attention_mask)
        x = self.self_attn_layer_norm(x + self.dropout(mixed))
        inner = self.activation_dropout(F.gelu(self.fc1(x)))
        return self.final_layer_norm(x + self.dropout(self.fc2(inner))), weights


class TransformerEncoder(nn.Module):
    """Post-norm encoder; `layer_norm` normalises the *input*, as published for post-norm."""

    def __init__(self, config: ECGTransformerConfig):
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.n_layers))
        self.layer_norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.layers.apply(functools.partial(init_like_bert, std=init_std(config.dim)))

    def forward(self, x, padding_mask=None, return_attention: bool = False, attention_mask=None):
        """x (B, L, D), padding_mask (B, L) -> (B, L, D), list of (B, H, L, L) if asked, else [].

        attention_mask (L, L) or (B, L, L), True = this row may not look at this column.
        """
        if padding_mask is not None and not bool(padding_mask.any()):
            padding_mask = None  # attention is quicker without a mask
        if padding_mask is not None:
            x = x.masked_fill(padding_mask[..., None], 0.0)
        x, maps = self.dropout(self.layer_norm(x)), []
        for layer in self.layers:
            x, weights = layer(x, padding_mask, return_attention, attention_mask)
            maps += [weights] if return_attention else []
        return x, maps


def init_std(dim: int) -> float:
    """BERT's 0.02 at its width of 768, scaled by 1 / sqrt(width): a small model would otherwise
    start with activations so small that neither attention nor GELU bend anything."""
    return 0.02 * math.sqrt(768 / dim)


def init_like_bert(module: nn.Module, std: float = 0.02) -> None:
    """Weights N(0, std), biases 0; to be given to `Module.apply`."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=std)
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)
