"""ESI as its authors train it: the baseline of `esi_step.py`, and only that.

It has the weights, names and results of `ESI(protocol="reference")`, and the published cost: layout
changes around every block of the ECG encoder, response norm in five passes, attention written out,
the ECG's one vector repeated for every word, padding carried through every layer, logits for every
position, and an optimiser that goes through the parameters one by one.

Letters: B batch, C leads, T samples, P positions of an ECG, L tokens, D width, H heads, d head
width, V vocabulary.
Source: facts about the published code (Yu, Guo & Sano 2024), written anew; the parity fixture
`esi_model_small` holds it to the original's numbers (tests/test_esi_step.py).

Usage:
    model = PublishedESI(ConvNeXtConfig.preset("tiny"), text_encoder, ESIConfig(28_895))
    out = model(signals, ids, mask)          # (B, T, C), (B, L), (B, L) -> losses and logits
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ecgkit.models.convnext import ConvNeXtConfig
from ecgkit.models.esi import ESIConfig

# --- the ECG encoder ------------------------------------------------------------------------------


class TimeNorm(nn.Module):
    """(B, D, P), each channel by its own mean and deviation over time."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, width, 1))
        self.bias = nn.Parameter(torch.zeros(1, width, 1))

    def forward(self, x):
        mean, deviation = x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
        return self.weight * ((x - mean) / (deviation + 1e-6)) + self.bias


class ResponseNorm(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, width))
        self.beta = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, x):  # (B, P, D)
        energy = torch.norm(x, p=2, dim=1, keepdim=True)
        share = energy / (energy.mean(dim=-1, keepdim=True) + 1e-6)
        return self.gamma * (x * share) + self.beta + x


class Block(nn.Module):
    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.dwconv = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.act = nn.GELU()
        self.grn = ResponseNorm(4 * width)
        self.pwconv2 = nn.Linear(4 * width, width)

    def forward(self, x):  # (B, D, P)
        y = self.norm(self.dwconv(x).permute(0, 2, 1))
        return x + self.pwconv2(self.grn(self.act(self.pwconv1(y)))).permute(0, 2, 1)


class ConvNeXt(nn.Module):
    """(B, T, C) -> (B, D)"""

    def __init__(self, config: ConvNeXtConfig):
        super().__init__()
        dims, n_classes = config.dims, config.n_classes
        stem = nn.Conv1d(config.n_leads, dims[0], config.stem, config.stem)
        downs = [nn.Sequential(stem, TimeNorm(dims[0]))]
        for before, after in zip(dims[:-1], dims[1:]):
            down = nn.Conv1d(before, after, config.stride, config.stride)
            downs.append(nn.Sequential(TimeNorm(before), down))
        self.downsample_layers = nn.ModuleList(downs)
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(width, config.kernel) for _ in range(depth)))
            for depth, width in zip(config.depths, dims)
        )
        self.norm = nn.LayerNorm(dims[-1], eps=1e-6)
        self.head = nn.Linear(dims[-1], n_classes) if n_classes else None  # never called

    def forward(self, x):
        x = x.permute(0, 2, 1)
        for down, stage in zip(self.downsample_layers, self.stages):
            x = stage(down(x))
        return self.norm(x.mean(-1))


# --- the decoder ----------------------------------------------------------------------------------


class ScaleNorm(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))
        self.register_buffer("beta", torch.zeros(width))

    def forward(self, x):
        return F.layer_norm(x, x.shape[-1:], self.gamma, self.beta)


class SwiGLU(nn.Module):
    def forward(self, x):
        value, gate = x.chunk(2, dim=-1)
        return F.silu(gate) * value


class Residual(nn.Module):
    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, *args):
        return self.fn(*args) + args[0]


class Rotary(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.register_buffer("inv_freq", 1.0 / 10000 ** (torch.arange(0, width, 2) / width))

    def forward(self, n: int):  # (L, d) angles
        angle = torch.outer(torch.arange(n, device=self.inv_freq.device).float(), self.inv_freq)
        return torch.cat((angle, angle), dim=-1)


def rotated(x, angle):
    left, right = x.chunk(2, dim=-1)
    return x * angle.cos() + torch.cat((-right, left), dim=-1) * angle.sin()


def attend(q, k, v, causal: bool):
    """q (B, H, L, d); k, v (B, P, d), shared by the heads -> (B, L, H * d)."""
    scores = torch.einsum("bhid,bjd->bhij", q, k)
    if causal:
        future = torch.ones(scores.shape[-2:], device=q.device, dtype=torch.bool).triu(1)
        scores = scores.masked_fill(future, -torch.finfo(scores.dtype).max)
    mixed = torch.einsum("bhij,bjd->bhid", scores.softmax(dim=-1), v)
    return mixed.permute(0, 2, 1, 3).reshape(len(q), q.shape[2], -1)


def by_heads(q, n_heads: int):
    """(B, L, H * d) -> (B, H, L, d)"""
    return q.reshape(*q.shape[:2], n_heads, -1).permute(0, 2, 1, 3)


class ParallelBlock(nn.Module):
    def __init__(self, width: int, config: ESIConfig):
        super().__init__()
        self.n_heads, self.head_dim = config.n_heads, config.head_dim
        inner, hidden = config.n_heads * config.head_dim, config.ff_mult * width
        self.sizes = (inner, config.head_dim, config.head_dim, 2 * hidden)
        self.norm = ScaleNorm(width)
        self.rotary_emb = Rotary(config.head_dim)
        self.fused_attn_ff_proj = nn.Linear(width, sum(self.sizes), bias=False)
        self.attn_out = nn.Linear(inner, width, bias=False)
        self.ff_out = nn.Sequential(SwiGLU(), nn.Linear(hidden, width, bias=False))

    def forward(self, x):  # (B, L, D)
        q, k, v, ff = self.fused_attn_ff_proj(self.norm(x)).split(self.sizes, dim=-1)
        angle = self.rotary_emb(x.shape[1])
        q = rotated(by_heads(q, self.n_heads), angle) * self.head_dim**-0.5
        return self.attn_out(attend(q, rotated(k, angle), v, causal=True)) + self.ff_out(ff)


class CrossAttention(nn.Module):
    def __init__(self, width: int, context_width: int, config: ESIConfig, feed_forward: bool):
        super().__init__()
        self.n_heads, self.head_dim = config.n_heads, config.head_dim
        inner, hidden = config.n_heads * config.head_dim, config.ff_mult * width
        self.norm = ScaleNorm(width)
        self.context_norm = nn.Identity() if feed_forward else ScaleNorm(context_width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(context_width, 2 * config.head_dim, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)
        self.ff = nn.Sequential(
            nn.Linear(width, 2 * hidden, bias=False), SwiGLU(), nn.Linear(hidden, width, bias=False)
        ) if feed_forward else None  # fmt: skip

    def forward(self, x, context):  # (B, L, D), (B, P, D)
        x = self.norm(x)
        q = by_heads(self.to_q(x), self.n_heads) * self.head_dim**-0.5
        k, v = self.to_kv(self.context_norm(context)).chunk(2, dim=-1)
        return self.to_out(attend(q, k, v, causal=False)) + self.ff(x)


# --- the whole ------------------------------------------------------------------------------------


class Latents(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.to_latents = nn.Linear(width, width, bias=False)

    def forward(self, x):
        return F.normalize(self.to_latents(x), dim=-1)


class PublishedESI(nn.Module):
    """Names as in `ecgkit.models.esi.ESI`; parts that are never called are kept for the weights."""

    def __init__(self, encoder: ConvNeXtConfig, text_encoder: nn.Module, config: ESIConfig):
        super().__init__()
        width, ecg_width = text_encoder.config.hidden_size, encoder.dims[-1]
        self.temperature = nn.Parameter(torch.ones(1))
        self.img_encoder = ConvNeXt(encoder)
        self.img_token_head = nn.Linear(ecg_width, width)
        self.img_attn_pool = CrossAttention(width, ecg_width, config, feed_forward=False)
        self.img_attn_pool_norm, self.text_cls_norm = ScaleNorm(width), ScaleNorm(width)
        self.img_to_latents, self.text_to_latents = Latents(width), Latents(width)
        self.unimodal_layers = text_encoder
        self.multimodal_layers = nn.ModuleList(
            nn.ModuleList([
                Residual(ParallelBlock(width, config)),
                Residual(CrossAttention(width, width, config, feed_forward=True)),
            ])
            for _ in range(config.n_layers)
        )  # fmt: skip
        vocabulary = nn.Linear(width, config.vocab_size, bias=False)
        self.to_logits = nn.Sequential(ScaleNorm(width), vocabulary)

    def forward(self, signals, ids, mask):
        """signals (B, T, C); ids, mask (B, L) with [CLS] first and 0 as padding."""
        text, labels = ids[:, :-1], ids[:, 2:]
        states = self.unimodal_layers(
            input_ids=text, attention_mask=mask[:, :-1]
        ).last_hidden_state
        text_embedding, words = states[:, 0], states[:, 1:]
        ecg_embedding = self.img_attn_pool_norm(self.img_token_head(self.img_encoder(signals)))
        context = ecg_embedding.unsqueeze(1).repeat(1, words.shape[1], 1)
        for block, cross in self.multimodal_layers:
            words = cross(block(words), context)
        logits = self.to_logits(words)
        caption = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=0)
        contrast = self.contrast(self.text_to_latents(text_embedding),
                                 self.img_to_latents(ecg_embedding))  # fmt: skip
        return {"loss": caption + contrast, "caption": caption, "contrastive": contrast,
                "logits": logits, "text_embedding": text_embedding,
                "ecg_embedding": ecg_embedding}  # fmt: skip

    def contrast(self, text, ecg):
        similarity = torch.einsum("td,id->ti", text, ecg) * self.temperature.exp()
        target = torch.arange(len(similarity), device=similarity.device)
        rows, columns = F.cross_entropy(similarity, target), F.cross_entropy(similarity.T, target)
        return (rows + columns) * 0.5
