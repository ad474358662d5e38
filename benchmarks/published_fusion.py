"""The fusion transformer as its authors run it: the baseline of `train_step.py`, and only that.

It has the weights, names and results of `FusionQA(protocol="reference")`, and the published cost:
sequence-first layout, four separate projections, attention weights written out and averaged over
heads, a mask of the size of the signal for every ECG, an absent second ECG computed as zeros, and
question padding attended to.

Letters: B batch, C leads, T samples, P tokens of one ECG, L question tokens, S all of them, D
width, H heads, K answers.
Source: facts about fairseq-signals (Oh et al. 2023), written anew; the parity fixture
`fairseq_ecg_qa_transformer_small` holds it to the original's numbers (tests/test_train_step.py).

Usage:
    model = PublishedFusion(FusionConfig(), n_answers=103)
    model(**as_published(batch))                                             # (B, K)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from ecgkit.models.fusion_qa import FusionConfig


def as_published(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor | None]:
    """The kit's batch as the published collator lays it out: masks (B, C, T) for both ECGs."""
    ecg, ecg_2 = batch["ecg"], batch.get("ecg_2")
    out = {"ecg": ecg, "text": batch["text"], "mask": torch.zeros_like(ecg, dtype=torch.bool)}
    if ecg_2 is None:
        return out
    absent = batch.get("ecg_2_padding_mask")  # (B, T)
    absent = torch.zeros_like(ecg_2[:, 0], dtype=torch.bool) if absent is None else absent
    return {**out, "ecg_2": ecg_2, "mask_2": absent[:, None].expand_as(ecg_2).contiguous()}


class Attention(nn.Module):
    """(S, B, D) -> (S, B, D) and the weights (B, S, S), averaged over heads."""

    def __init__(self, dim: int, n_heads: int, dropout: float):
        super().__init__()
        self.n_heads, self.dropout = n_heads, dropout
        self.k_proj, self.v_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.q_proj, self.out_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, x, mask):
        n, n_rows, dim = x.shape
        width = dim // self.n_heads
        q = self._heads(self.q_proj(x) * width**-0.5)
        k, v = self._heads(self.k_proj(x)), self._heads(self.v_proj(x))
        scores = torch.bmm(q, k.transpose(1, 2)).view(n_rows, self.n_heads, n, n)
        scores = scores.masked_fill(mask[:, None, None], float("-inf"))
        weights = F.softmax(scores.view(-1, n, n), dim=-1)
        mixed = torch.bmm(F.dropout(weights, self.dropout, self.training), v)
        mixed = mixed.transpose(0, 1).contiguous().view(n, n_rows, dim)
        return self.out_proj(mixed), weights.view(n_rows, self.n_heads, n, n).mean(1)

    def _heads(self, x):
        n, n_rows, dim = x.shape  # (S, B, D) -> (B * H, S, D / H)
        return x.contiguous().view(n, n_rows * self.n_heads, dim // self.n_heads).transpose(0, 1)


class Layer(nn.Module):
    """Post-norm transformer layer on (S, B, D)."""

    def __init__(self, config: FusionConfig):
        super().__init__()
        self.config = config
        self.self_attn = Attention(config.dim, config.n_heads, config.attention_dropout)
        self.self_attn_layer_norm = nn.LayerNorm(config.dim)
        self.fc1 = nn.Linear(config.dim, config.ffn_dim)
        self.fc2 = nn.Linear(config.ffn_dim, config.dim)
        self.final_layer_norm = nn.LayerNorm(config.dim)

    def forward(self, x, mask):
        config = self.config
        mixed, _ = self.self_attn(x, mask)
        x = self.self_attn_layer_norm(x + F.dropout(mixed, config.dropout, self.training))
        inner = F.dropout(F.gelu(self.fc1(x)), config.activation_dropout, self.training)
        inner = F.dropout(self.fc2(inner), config.dropout, self.training)
        return self.final_layer_norm(x + inner)


class Transformer(nn.Module):
    """(B, S, D) and mask (B, S) -> (B, S, D); runs sequence first inside."""

    def __init__(self, config: FusionConfig):
        super().__init__()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layers))
        self.layer_norm = nn.LayerNorm(config.dim)
        self.dropout = config.dropout

    def forward(self, x, mask):
        x = x.clone()
        x[mask] = 0
        x = F.dropout(self.layer_norm(x), self.dropout, self.training).transpose(0, 1)
        for layer in self.layers:
            x = layer(x, mask)
        return x.transpose(0, 1)


class Encoder(nn.Module):
    """One or two ECGs and a question -> joint tokens (B, S, D), their mask, tokens of one ECG."""

    def __init__(self, config: FusionConfig):
        super().__init__()
        self.config, dim = config, config.dim
        self.feature_extractor = nn.Module()
        self.feature_extractor.conv_layers = nn.ModuleList(_convolutions(config))
        self.feats_layer_norm = nn.LayerNorm(config.conv_dim)
        self.post_extract_proj = nn.Linear(config.conv_dim, dim)
        conv = nn.Conv1d(dim, dim, config.pos_kernel, padding=config.pos_kernel // 2,
                         groups=config.pos_groups)
        self.conv_pos = nn.Module()
        self.conv_pos.pos_conv = nn.Sequential(weight_norm(conv, name="weight", dim=2))
        self.language_embedding = nn.Embedding(config.vocab_size, dim)
        self.position_embedding = nn.Embedding(config.max_text, dim)
        self.token_type_embedding = nn.Embedding(2, dim)
        self.layer_norm = nn.LayerNorm(dim)
        self.encoder = Transformer(config)

    def forward(self, ecg, text, mask, ecg_2, mask_2):
        tokens, token_mask = self._one_ecg(ecg, mask)
        n_tokens = tokens.shape[1]
        if ecg_2 is not None:
            second, second_mask = self._one_ecg(ecg_2, mask_2)
            sep = self.language_embedding(text.new_full((len(text), 1), self.config.sep_id))
            tokens = torch.cat([tokens, sep, second], dim=1)
            token_mask = torch.cat([token_mask, second_mask[:, :1], second_mask], dim=1)
        tokens = tokens + self._position_code(tokens)
        tokens = tokens + self.token_type_embedding(torch.zeros_like(token_mask, dtype=torch.long))
        words = F.dropout(self.layer_norm(self.language_embedding(text)), self.config.dropout,
                          self.training)
        places = torch.arange(text.shape[1], device=text.device).expand_as(text)
        words = words + self.position_embedding(places)
        words = words + self.token_type_embedding(torch.ones_like(text))
        x = torch.cat([tokens, words], dim=1)
        joint = torch.cat([token_mask, torch.zeros_like(text, dtype=torch.bool)], dim=1)
        return self.encoder(x, joint), joint, n_tokens

    def _one_ecg(self, ecg, mask):
        """(B, C, T), mask (B, C, T) -> (B, P, D), mask (B, P)."""
        for layer in self.feature_extractor.conv_layers:
            ecg = layer(ecg)
        tokens = self.post_extract_proj(self.feats_layer_norm(ecg.transpose(1, 2)))
        lengths = self.config.n_tokens((~mask).long().sum(-1)[:, 0]).clamp(min=0)
        places = torch.arange(tokens.shape[1], device=ecg.device)
        tokens = F.dropout(tokens, self.config.dropout, self.training)
        return tokens, places[None] >= lengths[:, None]

    def _position_code(self, tokens):
        code = self.conv_pos.pos_conv(tokens.transpose(1, 2))[..., : tokens.shape[1]]
        return F.gelu(code).transpose(1, 2)


class PublishedFusion(nn.Module):
    """Batch of `as_published` -> logits (B, K)."""

    def __init__(self, config: FusionConfig, n_answers: int):
        super().__init__()
        self.encoder = Encoder(config)
        self.proj = nn.Linear(3 * config.dim, n_answers)

    def forward(self, ecg, text, mask, ecg_2=None, mask_2=None) -> torch.Tensor:
        x, token_mask, n = self.encoder(ecg, text, mask, ecg_2, mask_2)
        x = x.masked_fill(token_mask[..., None], 0.0)
        n_ecg = x.shape[1] - text.shape[1]
        first, words = _pool(x[:, :n]), _pool(x[:, n_ecg:])
        # As published, the second window begins at the separator and leaves the last token out.
        second = torch.zeros_like(first) if ecg_2 is None else _pool(x[:, n : n_ecg - 1])
        return self.proj(torch.cat([first, second, words], dim=-1))


def _pool(x):
    return x.sum(1) / (x != 0).sum(1).clamp(min=1)


def _convolutions(config: FusionConfig):
    width = config.n_leads
    for i, (channels, kernel, stride) in enumerate(config.conv_layers):
        norm = [nn.GroupNorm(channels, channels)] if i == 0 else []
        conv = nn.Conv1d(width, channels, kernel, stride, bias=False)
        yield nn.Sequential(conv, nn.Dropout(0.0), *norm, nn.GELU())
        width = channels
