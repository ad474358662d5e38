"""Mappers: one ECG embedding -> a few soft tokens a frozen language model reads as if they were
words.

The attention mapper is the one of Tang et al., CHIL 2025 ("Electrocardiogram-language model for
few-shot question answering with meta learning"): a Set-Transformer attention block (Lee et al.,
ICML 2019, eq. 6-7) over [learned tokens ; ECG token], of which the first `n_prefix` outputs are
kept. `linear` and `mlp` are plain baselines.

Usage:
    mapper = build_mapper("attention", feature_dim=768, llm_dim=4096)        # 26,250,240 parameters
    mapper(features, return_attention=True)    # (B, F) -> "prefix" (B, P, D), "attention"
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecgkit.types import ConfigError

MAPPERS = ("attention", "linear", "mlp")


class AttentionMapper(nn.Module):
    """`n_prefix` learned tokens attend to themselves and to the ECG; P = n_prefix, F = feature_dim,
    D = llm_dim.

    As published: scores are scaled by 1/sqrt(D), not by the head's width; the query is added to
    what it attends to head by head; one ReLU-type feed-forward layer (leaky) follows. The published
    code forgets `training=` in both dropout calls, so that dropout 0.5 stays on at test time:
    `always_drop=True` repeats that. Raises ConfigError when D is not a multiple of the number of
    heads.
    """

    def __init__(
        self,
        feature_dim: int,
        llm_dim: int,
        n_prefix: int = 4,
        n_heads: int = 8,
        dropout: float = 0.5,
        always_drop: bool = False,
    ):
        super().__init__()
        if llm_dim % n_heads:
            raise ConfigError(
                f"The language model is {llm_dim} wide, which {n_heads} mapper heads cannot "
                "share equally; "
                "choose MAPPER_HEADS that divides it."
            )
        self.n_prefix, self.n_heads, self.dropout, self.always_drop = (
            n_prefix,
            n_heads,
            dropout,
            always_drop,
        )
        self.tokens = nn.Parameter(torch.empty(n_prefix, feature_dim))
        nn.init.xavier_uniform_(self.tokens)
        self.query = nn.Linear(feature_dim, llm_dim)
        self.key = nn.Linear(feature_dim, llm_dim)
        self.value = nn.Linear(feature_dim, llm_dim)
        self.out = nn.Linear(llm_dim, llm_dim)
        self.norm1 = nn.LayerNorm(llm_dim)
        self.norm2 = nn.LayerNorm(llm_dim)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(-3, -2)  # (B, N, D) -> (B, H, N, D/H)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, training=self.training or self.always_drop)

    def forward(self, features: Tensor, return_attention: bool = False) -> dict[str, Tensor]:
        """features (B, F) -> prefix (B, P, D); attention (B, H, P, P+1), its last column is the ECG
        token.
        """
        tokens = self.tokens.expand(features.shape[0], -1, -1)  # (B, P, F)
        x = torch.cat([tokens, features.unsqueeze(1)], dim=1)  # (B, P+1, F)
        q, k, v = self._heads(self.query(x)), self._heads(self.key(x)), self._heads(self.value(x))
        q = q[
            ..., : self.n_prefix, :
        ]  # the ECG token's own output is thrown away, so it need not be computed
        scale = 1 / math.sqrt(self.out.in_features)
        attention = (q @ k.transpose(-2, -1) * scale).softmax(-1)  # (B, H, P, P+1)
        h = (q + attention @ v).transpose(-3, -2).flatten(-2)  # (B, P, D)
        h = self.norm1(self._drop(h))
        h = self.norm2(self._drop(h + F.leaky_relu(self.out(h))))
        return {"prefix": h, "attention": attention} if return_attention else {"prefix": h}


class FeedForwardMapper(nn.Module):
    """The plain alternatives: all soft tokens from one linear layer, or from two with a tanh
    between them.
    """

    def __init__(
        self,
        feature_dim: int,
        llm_dim: int,
        n_prefix: int = 4,
        hidden: int = 0,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.n_prefix = n_prefix
        body = [nn.Linear(feature_dim, hidden), nn.Tanh(), nn.Dropout(dropout)] if hidden else []
        self.body = nn.Sequential(*body, nn.Linear(hidden or feature_dim, n_prefix * llm_dim))
        self.norm = nn.LayerNorm(llm_dim)

    def forward(self, features: Tensor, return_attention: bool = False) -> dict[str, Tensor]:
        """features (B, F) -> prefix (B, P, D). There is no attention to return."""
        return {"prefix": self.norm(self.body(features).unflatten(-1, (self.n_prefix, -1)))}


def build_mapper(
    kind: str,
    feature_dim: int,
    llm_dim: int,
    n_prefix: int = 4,
    n_heads: int = 8,
    dropout: float = 0.5,
    always_drop: bool = False,
) -> nn.Module:
    """Returns the mapper named `kind`: attention (published) | linear | mlp. Raises ConfigError for
    another name.
    """
    if kind == "attention":
        return AttentionMapper(feature_dim, llm_dim, n_prefix, n_heads, dropout, always_drop)
    if kind in MAPPERS:
        return FeedForwardMapper(
            feature_dim, llm_dim, n_prefix, llm_dim if kind == "mlp" else 0, dropout
        )
    raise ConfigError(f"MAPPER is {kind!r}; choose one of {', '.join(MAPPERS)}.")
