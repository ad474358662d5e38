"""M3AE on ECGs: a BERT and an ECG transformer, joined by layers that look at each other.

Pretrained by masked words, hidden ECG patches and matching pairs; fine-tuned to answer questions.
Source: Chen et al. 2022 (M3AE, arXiv 2209.07098) section 2; Oh et al. 2023 (ECG-QA) section 5.

Letters: B batch, C leads, T samples, P tokens of one ECG, S all ECG tokens, L words, D width,
K answers, V vocabulary.

Parameters at the published sizes, D = 768 (answering 317,573,863 with K = 103; pretraining
346,585,724); both share
    BERT-base without pooler 108,891,648; ECG transformer 90,373,248; class vector D
    one Linear(D, D) a stream 1,181,184; modality vectors 2 x D; one pooler a stream 1,181,184
    2 x 6 co-attention layers of 9,451,776 (4 + 4 Linear(D, D), feed-forward 3072, 3 norms)
  answering: separator D; Linear(2D, 2D), norm, GELU, Linear(2D, K): 2,522,215
  pretraining: words Linear(D, D), norm, Linear(D, 30522): 24,063,546; matching Linear(2D, 2): 3,074
    patch decoder 7,468,224: Linear(D, 384), hidden-token vector, 4 blocks, norm, Linear(384, 192)

`protocol="reference"`: the position code of visible ECG tokens reads the hidden ones, whose content
so reaches the encoder, and padded tokens; `"paper"` (default) mends both.

Usage:

    config = M3AEConfig(dim=96, n_layers=2, vocab_size=800)
    out = M3AEPretraining(config)(ecg, masked_text, text_padding_mask, ecg_mask=hidden)
    M3AEQA(config, n_answers=103)(ecg, text, ecg_2=None)["logits"]               # (B, 103)
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from ecgkit.models.ecg_transformer import ECGTransformer, ECGTransformerConfig
from ecgkit.models.m3ae_blocks import (
    CoAttentionLayer,
    PatchDecoder,
    Pooler,
    WordHead,
    keep_visible,
)
from ecgkit.models.transfer import copy_fitting, ecg_weights
from ecgkit.models.transformer import init_like_bert, init_std
from ecgkit.types import ModelError


@dataclass(frozen=True)
class M3AEConfig(ECGTransformerConfig):
    """Sizes. The text tower and the joint layers are as wide as the ECG transformer; a depth or
    width left at 0 follows from it by the published proportions (12 layers, 768 wide: 12 text
    layers, 6 joint ones, patches read off after 3; decoder of 4 layers, 384 wide, 6 heads).
    """

    vocab_size: int = 30522
    max_text: int = 512
    pad_id: int = 0
    sep_id: int = 102  # of the tokenizer; the separator between two ECGs is a learned vector here
    text_layers: int = 0
    n_co_layers: int = 0
    mim_layer: int = 0  # co-attention layers an ECG has passed when its patches are predicted
    decoder_dim: int = 0
    decoder_layers: int = 0
    decoder_heads: int = 0
    text_dropout: float = 0.1  # of the text tower and the co-attention layers

    @property
    def patch(self) -> int:
        """Samples from one ECG token to the next: those one token has to reconstruct."""
        return math.prod(stride for _, _, stride in self.conv_layers)

    @property
    def depths(self) -> dict[str, int]:
        """text, co, mim and decoder layers, as given or in proportion to n_layers; at least 1."""
        co = self.n_co_layers or max(1, self.n_layers // 2)
        return {"text": self.text_layers or self.n_layers, "co": co,
                "mim": min(co, self.mim_layer or max(1, co // 2)),
                "decoder": self.decoder_layers or max(1, self.n_layers // 3)}


class M3AETrunk(nn.Module):
    """Everything below the heads: two towers and the co-attention layers of both streams."""

    def __init__(self, config: M3AEConfig, text_encoder: nn.Module | None = None):
        super().__init__()
        self.config = config
        self.ecg_encoder = ECGTransformer(config)
        self.class_embedding = nn.Parameter(torch.rand(config.dim))
        self.language_encoder = text_encoder or bert_tower(config)
        self.language_proj = nn.Linear(self.language_encoder.config.hidden_size, config.dim)
        self.ecg_proj = nn.Linear(config.dim, config.dim)
        self.modality_embedding = nn.Embedding(2, config.dim)  # 0 text, 1 ECG
        sizes = (config.dim, config.n_heads, config.ffn_dim, config.text_dropout)
        n_co = config.depths["co"]
        self.language_layers = nn.ModuleList(CoAttentionLayer(*sizes) for _ in range(n_co))
        self.ecg_layers = nn.ModuleList(CoAttentionLayer(*sizes) for _ in range(n_co))
        self.language_pooler, self.ecg_pooler = Pooler(config.dim), Pooler(config.dim)
        for part in (self.language_proj, self.ecg_proj, self.modality_embedding,
                     self.language_layers, self.ecg_layers, self.language_pooler, self.ecg_pooler):
            initialise(part, config)

    def forward(self, ecg_tokens, ecg_mask, text, text_padding_mask=None,
                return_attention: bool = False) -> dict:
        """ecg_tokens (B, S, D) with position code, ecg_mask (B, S); text (B, L) ids, mask or None.

        Returns words (B, L, D), ecg (B, 1 + S, D), the class token first, ecg_for_patches (the same
        earlier on), pooled (B, 2D) text then ECG, both masks, attention: see `joint_attention`.
        """
        if text_padding_mask is None:
            text_padding_mask = torch.zeros_like(text, dtype=torch.bool)
        words = self.language_encoder(input_ids=text, attention_mask=~text_padding_mask)
        words = self.language_proj(words.last_hidden_state) + self.modality_embedding.weight[0]
        ecg, ecg_mask = self._read_ecg(ecg_tokens, ecg_mask)
        maps, middle = [], ecg
        for i, (text_layer, ecg_layer) in enumerate(zip(self.language_layers, self.ecg_layers)):
            pairs = ((text_layer, words, ecg, text_padding_mask, ecg_mask),
                     (ecg_layer, ecg, words, ecg_mask, text_padding_mask))
            (words, to_ecg), (ecg, to_text) = (p[0](*p[1:], return_attention) for p in pairs)
            maps += [joint_attention(to_text, to_ecg)] if return_attention else []
            middle = ecg if i + 1 == self.config.depths["mim"] else middle
        pooled = torch.cat([self.language_pooler(words), self.ecg_pooler(ecg)], dim=-1)
        return {"words": words, "ecg": ecg, "ecg_for_patches": middle, "pooled": pooled,
                "text_padding_mask": text_padding_mask, "ecg_padding_mask": ecg_mask,
                "attention": maps}

    def _read_ecg(self, tokens, mask):
        """Class vector + tokens through the ECG encoder: (B, 1 + S, D), and their mask."""
        first = self.class_embedding.to(tokens).expand(len(tokens), 1, -1)
        mask = F.pad(mask, (1, 0), value=False)
        x, _ = self.ecg_encoder.encoder(torch.cat([first, tokens], dim=1), mask)
        return self.ecg_proj(x) + self.modality_embedding.weight[1], mask


class M3AEQA(nn.Module):
    """Answers from the pooled question and the pooled ECG stream (one or two ECGs)."""

    reads = ("ecg", "text")

    def __init__(self, config: M3AEConfig, n_answers: int, text_encoder: nn.Module | None = None):
        """`text_encoder`: a Hugging Face BERT of any width, e.g. of `text.encoders`; None builds
        one anew."""
        super().__init__()
        self.encoder = M3AETrunk(config, text_encoder)
        self.sep_embedding = nn.Parameter(torch.rand(config.dim))
        self.head = nn.Sequential(
            nn.Linear(2 * config.dim, 2 * config.dim), nn.LayerNorm(2 * config.dim), nn.GELU(),
            nn.Linear(2 * config.dim, n_answers),
        )  # fmt: skip
        initialise(self.head, config)

    def forward(self, ecg, text, ecg_2=None, ecg_padding_mask=None, ecg_2_padding_mask=None,
                text_padding_mask=None, return_attention: bool = False) -> dict:
        """ecg, ecg_2 (B, C, T) mV; text (B, L) ids; masks True = padding or absent.

        Returns logits (B, K); x (B, 1 + S + L, D), the class token, ECG tokens and words;
        padding_mask; parts: where `first`, `second` (None without one) and `text` lie in x;
        attention as `joint_attention` has it, a map per co-attention layer or [].
        """
        tokens, mask = self.encoder.ecg_encoder.embed(ecg, ecg_padding_mask)
        n = tokens.shape[1]
        parts = {"first": slice(1, 1 + n), "second": None}
        if ecg_2 is not None:
            second, second_mask = self.encoder.ecg_encoder.embed(ecg_2, ecg_2_padding_mask)
            sep = self.sep_embedding.to(tokens).expand(len(ecg), 1, -1)
            absent = second_mask.all(1, keepdim=True)  # the separator goes with its ECG
            tokens = torch.cat([tokens, sep, second], dim=1)
            mask = torch.cat([mask, absent, second_mask], dim=1)
            parts["second"] = slice(2 + n, 2 + n + second.shape[1])
        out = self.encoder(tokens, mask, text, text_padding_mask, return_attention)
        n_ecg = out["ecg"].shape[1]
        parts["text"] = slice(n_ecg, n_ecg + text.shape[1])
        masks = [out["ecg_padding_mask"], out["text_padding_mask"]]
        return {"logits": self.head(out["pooled"]), "x": torch.cat([out["ecg"], out["words"]], 1),
                "padding_mask": torch.cat(masks, 1), "parts": parts, "attention": out["attention"]}

    def load_pretrained(self, pretrained: M3AEPretraining) -> int:
        """Copies all that lies below the heads; returns the number of tensors copied."""
        if not isinstance(pretrained, M3AEPretraining):
            kind = type(pretrained).__name__
            raise ModelError(f"load_pretrained takes an M3AEPretraining, not a {kind}; for an ECG "
                             "model alone call load_ecg_side.")
        return copy_fitting(self.encoder, pretrained.encoder.state_dict())

    def load_ecg_side(self, source: nn.Module) -> int:
        """Copies the ECG transformer of a classifier or of wav2vec; returns tensors copied."""
        return copy_fitting(self.encoder.ecg_encoder, ecg_weights(source))


class M3AEPretraining(nn.Module):
    """Masked words, hidden ECG patches, and whether ECG and report belong together."""

    def __init__(self, config: M3AEConfig, text_encoder: nn.Module | None = None):
        super().__init__()
        self.config = config
        self.encoder = M3AETrunk(config, text_encoder)
        vocabulary = self.encoder.language_encoder.config.vocab_size
        self.mlm_head = WordHead(config.dim, vocabulary)
        self.itm_head = nn.Linear(2 * config.dim, 2)
        self.mim_head = PatchDecoder(
            config.dim, config.decoder_dim or config.dim // 2, config.depths["decoder"],
            config.decoder_heads or max(1, config.n_heads // 2), config.patch * config.n_leads,
        )  # fmt: skip
        for head in (self.mlm_head, self.itm_head, self.mim_head):
            initialise(head, config)

    def forward(self, ecg, text, text_padding_mask=None, ecg_padding_mask=None, ecg_mask=None,
                return_attention: bool = False) -> dict:
        """ecg (B, C, T) mV; text (B, L) ids, some masked; ecg_mask (B, P) bool, True = hidden.

        Hidden ECG tokens are left out of the encoder and of co-attention. Returns mlm_logits
        (B, L, V), mim_prediction (B, P, C * patch) of each lead's samples in turn, itm_logits
        (B, 2), and what the trunk returns.
        """
        hidden = ecg_mask
        tokens, padding = self.encoder.ecg_encoder.embed(ecg, ecg_padding_mask, hidden)
        gone = padding if hidden is None else padding | hidden
        visible, order, empty = keep_visible(tokens, gone)
        out = self.encoder(visible, empty, text, text_padding_mask, return_attention)
        return {
            "mlm_logits": self.mlm_head(out["words"]),
            "mim_prediction": self.mim_head(out["ecg_for_patches"], order, empty, padding),
            "itm_logits": self.itm_head(out["pooled"]), **out,
        }  # fmt: skip

    def load_ecg_side(self, source: nn.Module) -> int:
        """Copies the ECG transformer of a classifier or of wav2vec; returns tensors copied."""
        return copy_fitting(self.encoder.ecg_encoder, ecg_weights(source))


def joint_attention(to_text, to_ecg):
    """Cross-attention of both streams as one map over the joined sequence (ECG, then words).

    to_text (B, H, E, L), to_ecg (B, H, L, E) -> (B, H, E + L, E + L). Each row is one token's
    attention on the *other* stream and sums to 1; attention within a stream is not shown.
    """
    return torch.cat([F.pad(to_text, (to_text.shape[2], 0)), F.pad(to_ecg, (0, to_ecg.shape[2]))],
                     dim=2)


def bert_tower(config: M3AEConfig) -> nn.Module:
    """BERT without pooler, of the ECG transformer's width; at the default size BERT-base."""
    from transformers import BertConfig, BertModel

    return BertModel(BertConfig(
        vocab_size=config.vocab_size, hidden_size=config.dim, intermediate_size=config.ffn_dim,
        num_hidden_layers=config.depths["text"], num_attention_heads=config.n_heads,
        max_position_embeddings=config.max_text, pad_token_id=config.pad_id,
        hidden_dropout_prob=config.text_dropout, attention_probs_dropout_prob=config.text_dropout,
        initializer_range=init_std(config.dim),
    ), add_pooling_layer=False)  # fmt: skip


def initialise(module: nn.Module, config: M3AEConfig) -> None:
    """BERT's start, for all Linear and Embedding layers in `module`."""
    module.apply(functools.partial(init_like_bert, std=init_std(config.dim)))
