"""Mappers: an ECG embedding -> a few soft tokens a frozen language model reads as if they were
words.

The attention mapper is the one of Tang et al., CHIL 2025 ("Electrocardiogram-language model for
few-shot question answering with meta learning"): a Set-Transformer attention block (Lee et al.,
ICML 2019, eq. 6-7) over [learned tokens ; ECG token], of which the first `n_prefix` outputs are
kept. `perceiver` is the resampler of Flamingo (Alayrac et al., NeurIPS 2022, section 2.2 and
appendix A.1.1). `linear` and `mlp` are plain baselines.

Letters: B rows, F = feature_dim, N ECG tokens of one recording (published: one), P = n_prefix,
D = llm_dim, H heads. Features are (B, F), or (B, N, F) tokens.

Usage:

    mapper = build_mapper("attention", feature_dim=768, llm_dim=4096)        # 26,250,240 parameters
    mapper(features, return_attention=True)    # (B, F) -> "prefix" (B, P, D), "attention"
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecgkit.config.fewshot import MAPPERS
from ecgkit.types import ConfigError


def _tokens(features: Tensor) -> Tensor:
    """(B, F) or (B, N, F) -> (B, N, F)."""
    return features.unsqueeze(1) if features.ndim == 2 else features


def _heads(x: Tensor, n_heads: int) -> Tensor:
    return x.unflatten(-1, (n_heads, -1)).transpose(-3, -2)  # (B, N, D) -> (B, H, N, D/H)


class AttentionMapper(nn.Module):
    """`n_prefix` learned tokens attend to themselves and to the ECG.

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
        self.sizes = {
            "feature_dim": feature_dim, "llm_dim": llm_dim, "n_prefix": n_prefix,
            "n_heads": n_heads, "dropout": dropout, "always_drop": always_drop,
        }  # fmt: skip
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

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, training=self.training or self.always_drop)

    def _beside(self, part: nn.Linear, x: Tensor) -> Tensor:
        """`part` of [learned tokens ; x]: x (B, N, F) -> (B, P+N, D)."""
        return torch.cat([part(self.tokens).expand(x.shape[0], -1, -1), part(x)], dim=1)

    def forward(self, features: Tensor, return_attention: bool = False) -> dict[str, Tensor]:
        """features (B, F) or (B, N, F) -> prefix (B, P, D); attention (B, H, P, P+N), its last N
        columns (published: one) are the ECG tokens.
        """
        x = _tokens(features)
        # The learned tokens are the same in every row, so they are projected once; what would come
        # out at the ECG tokens is thrown away, so they need no query.
        q = _heads(self.query(self.tokens), self.n_heads)  # (H, P, D/H)
        k, v = (_heads(self._beside(part, x), self.n_heads) for part in (self.key, self.value))
        scale = 1 / math.sqrt(self.out.in_features)
        attention = (q @ k.transpose(-2, -1) * scale).softmax(-1)  # (B, H, P, P+N)
        h = (q + attention @ v).transpose(-3, -2).flatten(-2)  # (B, P, D)
        h = self.norm1(self._drop(h))
        h = self.norm2(self._drop(h + F.leaky_relu(self.out(h))))
        return {"prefix": h, "attention": attention} if return_attention else {"prefix": h}


class FeedForwardMapper(nn.Module):
    """The plain alternatives: all soft tokens from one linear layer, or from two with a tanh
    between them. Of several ECG tokens they read the mean.
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
        self.sizes = {
            "feature_dim": feature_dim, "llm_dim": llm_dim, "n_prefix": n_prefix,
            "hidden": hidden, "dropout": dropout,
        }  # fmt: skip
        self.n_prefix = n_prefix
        body = [nn.Linear(feature_dim, hidden), nn.Tanh(), nn.Dropout(dropout)] if hidden else []
        self.body = nn.Sequential(*body, nn.Linear(hidden or feature_dim, n_prefix * llm_dim))
        self.norm = nn.LayerNorm(llm_dim)

    def forward(self, features: Tensor, return_attention: bool = False) -> dict[str, Tensor]:
        """features (B, F) or (B, N, F) -> prefix (B, P, D). There is no attention to return."""
        x = self.body(_tokens(features).mean(1))
        return {"prefix": self.norm(x.unflatten(-1, (self.n_prefix, -1)))}


class ResamplerLayer(nn.Module):
    """Latents look at the ECG and at themselves, then a feed-forward layer; both are residual."""

    def __init__(self, width: int, n_heads: int, dropout: float):
        super().__init__()
        self.n_heads = n_heads
        self.norm_latents, self.norm_ecg = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout),
            nn.Linear(4 * width, width),
        )  # fmt: skip

    def forward(self, latents: Tensor, ecg: Tensor) -> tuple[Tensor, Tensor]:
        """latents (B, P, F), ecg (B, N, F) -> latents, attention (B, H, P, P+N)."""
        x = self.norm_latents(latents)
        seen = torch.cat([x, self.norm_ecg(ecg)], dim=1)  # (B, P+N, F)
        q = _heads(self.query(x), self.n_heads)
        k, v = (_heads(part, self.n_heads) for part in self.key_value(seen).chunk(2, dim=-1))
        # Written out, because the fused kernel has no second derivative, which second-order MAML
        # takes.
        attention = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(-1)
        latents = latents + self.out((attention @ v).transpose(-3, -2).flatten(-2))
        return latents + self.feed_forward(latents), attention


class PerceiverMapper(nn.Module):
    """`n_prefix` learned latents read any number of ECG tokens through `n_layers` of attention, at
    the width of the ECG embedding, and are then projected to that of the language model.

    Raises ConfigError when the embedding's width is not a multiple of the number of heads.
    """

    def __init__(
        self,
        feature_dim: int,
        llm_dim: int,
        n_prefix: int = 4,
        n_heads: int = 8,
        dropout: float = 0.0,
        n_layers: int = 2,
    ):
        super().__init__()
        if feature_dim % n_heads:
            raise ConfigError(
                f"The ECG embedding is {feature_dim} wide, which {n_heads} heads of the perceiver "
                "cannot share equally; choose MAPPER_HEADS that divides it."
            )
        self.sizes = {
            "feature_dim": feature_dim, "llm_dim": llm_dim, "n_prefix": n_prefix,
            "n_heads": n_heads, "dropout": dropout, "n_layers": n_layers,
        }  # fmt: skip
        self.n_prefix = n_prefix
        self.latents = nn.Parameter(torch.randn(n_prefix, feature_dim))
        self.layers = nn.ModuleList(
            ResamplerLayer(feature_dim, n_heads, dropout) for _ in range(n_layers)
        )
        self.proj = nn.Linear(feature_dim, llm_dim)
        self.norm = nn.LayerNorm(llm_dim)

    def forward(self, features: Tensor, return_attention: bool = False) -> dict[str, Tensor]:
        """features (B, F) or (B, N, F) -> prefix (B, P, D); attention (B, H, P, P+N) of the last
        layer, its last N columns are the ECG tokens.
        """
        ecg = _tokens(features)
        latents = self.latents.expand(ecg.shape[0], -1, -1)
        for layer in self.layers:
            latents, attention = layer(latents, ecg)
        prefix = self.norm(self.proj(latents))
        out = {"prefix": prefix}
        return out | {"attention": attention} if return_attention else out


def build_mapper(
    kind: str,
    feature_dim: int,
    llm_dim: int,
    n_prefix: int = 4,
    n_heads: int = 8,
    dropout: float = 0.5,
    always_drop: bool = False,
) -> nn.Module:
    """Returns the mapper named `kind`: attention (published) | mlp | linear | perceiver. Raises
    ConfigError for another name.
    """
    if kind == "attention":
        return AttentionMapper(feature_dim, llm_dim, n_prefix, n_heads, dropout, always_drop)
    if kind == "perceiver":
        return PerceiverMapper(feature_dim, llm_dim, n_prefix, n_heads, dropout)
    if kind in MAPPERS:
        return FeedForwardMapper(
            feature_dim, llm_dim, n_prefix, llm_dim if kind == "mlp" else 0, dropout
        )
    raise ConfigError(f"MAPPER is {kind!r}; choose one of {', '.join(MAPPERS)}.")
