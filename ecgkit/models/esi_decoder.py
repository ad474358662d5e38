"""The multimodal decoder of ESI: parallel attention + feed-forward layers that look at the ECG,
after CoCa and PaLM.

Every normalisation is bias-free (`beta` is a buffer of zeros), attention is multi-query (one key
and value head), and parameter names equal the published ones.

A batch may also come packed, as the N words of its captions in one row without the padding: all
that looks at one word at a time then works on words alone, and each caption attends to itself. The
numbers are the same; captions of 115 to 310 words save two fifths of the work.

Letters: B captions, L words of the longest, N words of all, P ECG tokens, D width, H heads, d width
of a head.
Source: CoCa (Yu et al. 2022), PaLM (Chowdhery et al. 2022) for the parallel block.

Usage:

    decoder = Decoder(width=768, n_layers=6)
    states = decoder(text_tokens, ecg_tokens)             # (B, L, D), (B, P, D) -> (B, L, D)
    packing = Packing(mask)                               # (B, L), 1 where there is a word
    states = decoder(packing.pack(text_tokens), ecg_tokens, packing)       # (N, D)
    states = packed_states(bert, ids, packing)            # (B, L) -> (N, D), no padding either
"""

from __future__ import annotations

from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn

from ecgkit.models.convnext import recomputed


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

    def forward(self, x, position=None):
        """x (..., L, d) at `position` (L,), default 0, 1, ... -> (..., L, d)."""
        if position is None:
            position = torch.arange(x.shape[-2], device=x.device)
        angle = torch.outer(position.float(), self.inv_freq.float()).repeat(1, 2)  # (L, d)
        left, right = x.chunk(2, dim=-1)
        return x * angle.cos().to(x.dtype) + torch.cat([-right, left], dim=-1) * angle.sin().to(
            x.dtype
        )


# --- attention, padded and packed ---


class Packing:
    """Where the words of B right-padded captions are: `mask` (B, L), not 0 where there is one.

    Works for what has lost its last columns too: `Packing(mask)` of the shape at hand.
    """

    def __init__(self, mask):
        self.shape = mask.shape
        self.where = mask.flatten().nonzero().squeeze(1)  # (N,) of B * L
        self.row = self.where // mask.shape[1]  # (N,) whose word it is
        self.position = self.where % mask.shape[1]  # (N,) its place in the caption
        self.lengths = (mask != 0).sum(1).tolist()

    def pack(self, x):  # (B, L, ...) -> (N, ...)
        return x.flatten(0, 1)[self.where]

    def pad(self, x):  # (N, ...) -> (B, L, ...), zeros where there is no word
        n_rows, longest = self.shape
        out = x.new_zeros(n_rows * longest, *x.shape[1:])
        return out.index_copy(0, self.where, x).unflatten(0, self.shape)


def attend(q, k, v, causal: bool = False, packing: Packing | None = None, **options):
    """q, k, v (B, H, L, d), or packed (H, N, d) -> (B, L, H * d), or (N, H * d).

    `options` of PyTorch's scaled_dot_product_attention.
    """
    if packing is not None:  # on a GPU one kernel over padded captions beats many small ones
        return (_attend_padded if q.is_cuda else _attend_each)(q, k, v, causal, packing, **options)
    out = F.scaled_dot_product_attention(q, k, v, is_causal=causal, **options)
    return out.transpose(1, 2).flatten(2)


def _attend_each(q, k, v, causal: bool, packing: Packing, **options):
    """One caption after another."""
    each = zip(*(t.unsqueeze(0).split(packing.lengths, dim=2) for t in (q, k, v)))
    out = [F.scaled_dot_product_attention(*qkv, is_causal=causal, **options) for qkv in each]
    return torch.cat(out, dim=2).squeeze(0).transpose(0, 1).flatten(1)


def _attend_padded(q, k, v, causal: bool, packing: Packing, **options):
    """All captions at once, each padded to the longest."""
    seen = torch.ones_like(packing.where, dtype=torch.bool)
    seen = None if causal else packing.pad(seen)[:, None, None]  # (B, 1, 1, L)
    q, k, v = (packing.pad(t.transpose(0, 1)).transpose(1, 2) for t in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, seen, is_causal=causal, **options)
    return packing.pack(out.transpose(1, 2)).flatten(1)


# --- the layers ---


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

    def forward(self, x, packing: Packing | None = None):  # (B, L, D) or (N, D) -> the same
        q, k, v, ff = self.fused_attn_ff_proj(self.norm(x)).split(self.sizes, dim=-1)
        position = None if packing is None else packing.position
        q = self.rotary_emb(_by_heads(q, self.n_heads), position)
        k, v = self.rotary_emb(_by_heads(k, 1), position), _by_heads(v, 1)
        k, v = k.expand_as(q), v.expand_as(q)
        seen = self.attn_out(attend(q, k, v, causal=True, packing=packing))
        return seen + recomputed(self.ff_out, ff)


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

    def forward(self, x, context, packing: Packing | None = None):
        """x (B, L, D) or packed (N, D), context (B, P, D_c) -> as x."""
        x = self.norm(x)
        k, v = self.to_kv(self.context_norm(context)).chunk(2, dim=-1)  # (B, P, d) each
        if context.shape[1] == 1:  # exact: softmax over one key
            out = self.to_out(v.repeat(1, 1, self.n_heads))  # (B, 1, D)
            out = out if packing is None else out[packing.row, 0]
        else:
            q = self.to_q(x)
            q = _by_heads(q if packing is None else packing.pad(q), self.n_heads)
            k, v = (t.unsqueeze(1).expand(-1, self.n_heads, -1, -1) for t in (k, v))
            out = attend(q, k, v)
            out = self.to_out(out if packing is None else packing.pack(out))
        return out if self.ff is None else out + recomputed(self.ff[1:], self.ff[0](x))


def _by_heads(x, n_heads: int):  # (B, L, H * d) -> (B, H, L, d), or (N, H * d) -> (H, N, d)
    return x.unflatten(-1, (n_heads, -1)).transpose(-3, -2)


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

    def forward(self, text, ecg, packing: Packing | None = None):
        """text (B, L, D) or packed (N, D), ecg (B, P, D) -> as text."""
        for block, cross in self:
            text = cross(block(text, packing), ecg, packing)
        return text


# --- a text encoder without padding ---

PACKED = "ecgkit_packed"  # what the attention below is called in transformers' list


def packs(text_encoder) -> bool:
    """Whether `packed_states` serves this encoder: BERT counts its positions from 0, not all do."""
    return text_encoder.config.model_type == "bert"


def packed_states(text_encoder, ids, packing: Packing, causal: bool = False):
    """Last states (N, D) of the words that `packing` finds in ids (B, L); each caption sees itself
    alone, and with `causal` each word only those before it.
    """
    with _packed_attention(text_encoder.config):
        out = text_encoder(
            input_ids=packing.pack(ids)[None], position_ids=packing.position[None],
            packing=packing, packed_causal=causal,
        )  # fmt: skip
    return out.last_hidden_state[0]


@contextmanager
def _packed_attention(config):
    """transformers looks its attention up by name at each call; ours stands in meanwhile."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(PACKED, _attend_packed)
    usual, config._attn_implementation = config._attn_implementation, PACKED
    try:
        yield
    finally:
        config._attn_implementation = usual


def _attend_packed(module, q, k, v, mask, packing, packed_causal, scaling=None, dropout=0.0, **_):
    """q, k, v (1, H, N, d) -> (1, N, H, d) and no weights, as transformers wants it."""
    options = {"scale": scaling, "dropout_p": dropout}
    out = attend(q[0], k[0], v[0], packed_causal, packing, **options)
    return out.unflatten(-1, (q.shape[1], -1))[None], None
