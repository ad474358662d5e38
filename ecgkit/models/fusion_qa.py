"""ECG + question in one transformer, and the text-only ("blind") transformer it must beat.

ECG tokens [+ SEP + second ECG's tokens] + question tokens go through one post-norm encoder; the
answer head reads the means of the three parts. Source: Oh et al. 2023 (ECG-QA) section 5.

Letters: B batch, C leads, T samples, P tokens of one ECG, L question tokens, D width, K answers.

`protocol="reference"` repeats the published code: question padding is attended to and pooled (so a
question's logits depend on its batch mates), the second ECG's pooling window takes the separator in
and leaves the last token out, means run over non-zero entries, and the position code of the first
ECG feels an absent second one. `"paper"` (default) mends all of these.

Usage:

    model = FusionQA(FusionConfig(dim=96, n_layers=2, vocab_size=800), n_answers=103)
    model(ecg, text, ecg_2=None, text_padding_mask=None)["logits"]            # (B, K)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ecgkit.models.ecg_transformer import (
    ConvFeatureExtractor,
    ConvPositionalEncoding,
    ECGTransformerConfig,
    pool_tokens,
    scale_gradient,
    silence,
    token_padding_mask,
)
from ecgkit.models.transfer import copy_fitting, ecg_weights
from ecgkit.models.transformer import TransformerEncoder, init_like_bert


@dataclass(frozen=True)
class FusionConfig(ECGTransformerConfig):
    """The ECG transformer's sizes plus the question's; defaults are BERT's vocabulary."""

    vocab_size: int = 30522
    max_text: int = 512
    sep_id: int = 102
    text_mask: str = "auto"  # kept | lost; auto = what the protocol does with question padding

    @property
    def keeps_text_mask(self) -> bool:
        return self.text_mask == "kept" or self.text_mask == "auto" and self.protocol == "paper"


class FusionEncoder(nn.Module):
    """Joint encoder of one or two ECGs and a question."""

    def __init__(self, config: FusionConfig):
        super().__init__()
        self.config = config
        self.feature_extractor = ConvFeatureExtractor(config)
        self.feats_layer_norm = nn.LayerNorm(config.conv_dim)
        self.post_extract_proj = nn.Linear(config.conv_dim, config.dim)
        self.conv_pos = ConvPositionalEncoding(config.dim, config.pos_kernel, config.pos_groups)
        self.language_embedding = nn.Embedding(config.vocab_size, config.dim)
        self.position_embedding = nn.Embedding(config.max_text, config.dim)
        self.token_type_embedding = nn.Embedding(2, config.dim)
        self.layer_norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = TransformerEncoder(config)
        for table in (self.language_embedding, self.position_embedding, self.token_type_embedding):
            init_like_bert(table)

    def forward(self, ecg, text, ecg_2=None, ecg_padding_mask=None, ecg_2_padding_mask=None,
                text_padding_mask=None, return_attention: bool = False, ecg_of=None) -> dict:
        """ecg, ecg_2 (B, C, T) mV; text (B, L) token ids; masks True = padding or absent.

        With `ecg_of` (B,) the first ECGs are (U, C, T), and each question names its own: an ECG
        that several questions are about passes the convolutions once.
        Returns x (B, S, D) over the joined sequence, padding_mask (B, S), parts: the slices of
        `first`, `second` (None without one) and `text` in it, attention as in the encoder.
        """
        tokens, mask, parts = self.embed(ecg, text, ecg_2, ecg_padding_mask, ecg_2_padding_mask,
                                         text_padding_mask, ecg_of=ecg_of)
        x, maps = self.encoder(tokens, mask, return_attention)
        return {"x": x, "padding_mask": mask, "parts": parts, "attention": maps}

    def embed(self, ecg, text, ecg_2=None, ecg_padding_mask=None, ecg_2_padding_mask=None,
              text_padding_mask=None, instead=None, ecg_of=None):
        """What the transformer layers read: tokens (B, S, D), mask (B, S), parts as in forward.

        `instead` = (which (B, L) bool, vector (D,)): words whose vector is replaced by another.
        """
        ecg_tokens, ecg_mask, window = self._ecg_tokens(ecg, ecg_2, ecg_padding_mask,
                                                        ecg_2_padding_mask, ecg_of)
        words, word_mask = self._words(text, instead), text_padding_mask
        if word_mask is None or not self.config.keeps_text_mask:
            word_mask = torch.zeros_like(text, dtype=torch.bool)
        n_ecg = ecg_tokens.shape[1]
        parts = {**window, "text": slice(n_ecg, n_ecg + text.shape[1])}
        tokens = torch.cat([ecg_tokens, words], dim=1)
        return tokens, torch.cat([ecg_mask, word_mask], dim=1), parts

    def _ecg_tokens(self, ecg, ecg_2, mask, mask_2, ecg_of=None):
        """One or two ECGs -> tokens (B, S, D) with position code, mask, where each ECG lies."""
        first, first_mask = self._one_ecg(ecg, mask)
        if ecg_of is not None:
            first, first_mask = first[ecg_of], first_mask[ecg_of]
        n = first.shape[1]
        tokens, token_mask, window = first, first_mask, {"first": slice(0, n), "second": None}
        if ecg_2 is not None:
            second, second_mask = self._one_ecg(ecg_2, mask_2)
            sep_id = torch.full((len(first), 1), self.config.sep_id, device=ecg.device)
            sep = self.language_embedding(sep_id)
            sep_mask = second_mask.all(1, keepdim=True)  # the separator goes with its ECG
            tokens = torch.cat([first, sep, second], dim=1)
            token_mask = torch.cat([first_mask, sep_mask, second_mask], dim=1)
            # Published window: from the separator, leaving the last token out.
            start = n if self.config.protocol == "reference" else n + 1
            window["second"] = slice(start, start + second.shape[1])
        if self.config.protocol == "paper":
            tokens = tokens.masked_fill(token_mask[..., None], 0.0)
        tokens = tokens + self.conv_pos(tokens)
        return tokens + self.token_type_embedding.weight[0], token_mask, window

    def _one_ecg(self, ecg, padding_mask):
        with torch.set_grad_enabled(self.config.feature_grad_mult > 0 and torch.is_grad_enabled()):
            raw = self.feature_extractor(silence(ecg, padding_mask)).transpose(1, 2)  # (B, P, F)
        raw = scale_gradient(raw, self.config.feature_grad_mult)
        tokens = self.dropout(self.post_extract_proj(self.feats_layer_norm(raw)))
        mask = token_padding_mask(padding_mask, self.config, tokens.shape[1])
        if mask is None:
            mask = torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return tokens, mask

    def _words(self, text, instead=None):
        """(B, L) ids -> (B, L, D): normed word vectors + position + token type 1."""
        places = torch.arange(text.shape[1], device=text.device)
        words = self.dropout(self.layer_norm(self.language_embedding(text)))
        if instead is not None:
            which, vector = instead
            words = torch.where(which[..., None], vector.to(words), words)
        return words + self.position_embedding(places) + self.token_type_embedding.weight[1]

    def load_ecg_side(self, source: nn.Module) -> int:
        """Copies the ECG path and encoder layers of an ECG classifier or of wav2vec pretraining.

        Returns the number of tensors copied; raises ModelError when the sizes differ.
        """
        renamed = {k.replace("layer_norm.", "feats_layer_norm.", 1) if k.startswith("layer_norm.")
                   else k: v for k, v in ecg_weights(source).items()}
        return copy_fitting(self, renamed)


class FusionQA(nn.Module):
    """Answer logits from the means of first ECG, second ECG (zeros if absent) and question."""

    reads = ("ecg", "text")
    takes_ecg_of = True  # an ECG that several questions are about comes once

    def __init__(self, config: FusionConfig, n_answers: int):
        super().__init__()
        self.encoder = FusionEncoder(config)
        self.proj = answer_head(3 * config.dim, n_answers)

    def forward(self, ecg, text, ecg_2=None, ecg_padding_mask=None, ecg_2_padding_mask=None,
                text_padding_mask=None, return_attention: bool = False, ecg_of=None) -> dict:
        """Returns logits (B, K) and all that the encoder returns; `ecg_of` as there."""
        out = self.encoder(ecg, text, ecg_2, ecg_padding_mask, ecg_2_padding_mask,
                           text_padding_mask, return_attention, ecg_of)
        x, mask, protocol = out["x"], out["padding_mask"], self.encoder.config.protocol
        pooled = [
            x.new_zeros(len(x), x.shape[-1]) if part is None
            else pool_tokens(x[:, part], mask[:, part], protocol)
            for part in out["parts"].values()
        ]
        return {"logits": self.proj(torch.cat(pooled, dim=-1)), **out}

    def load_ecg_side(self, source: nn.Module) -> int:
        """As FusionEncoder.load_ecg_side."""
        return self.encoder.load_ecg_side(source)


class BlindQA(nn.Module):
    """The same encoder without ECGs: what can be answered from the question's wording alone."""

    reads = ("text",)

    def __init__(self, config: FusionConfig, n_answers: int):
        super().__init__()
        self.config = config
        self.language_embedding = nn.Embedding(config.vocab_size, config.dim)
        self.position_embedding = nn.Embedding(config.max_text, config.dim)
        self.token_type_embedding = nn.Embedding(2, config.dim)
        self.layer_norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = TransformerEncoder(config)
        self.proj = answer_head(config.dim, n_answers)
        for table in (self.language_embedding, self.position_embedding, self.token_type_embedding):
            init_like_bert(table)

    def forward(self, text, text_padding_mask=None, return_attention: bool = False) -> dict:
        """text (B, L) -> logits (B, K), x (B, L, D), padding_mask, attention."""
        places = torch.arange(text.shape[1], device=text.device)
        words = self.dropout(self.layer_norm(self.language_embedding(text)))
        words = words + self.position_embedding(places) + self.token_type_embedding.weight[0]
        x, maps = self.encoder(words, text_padding_mask, return_attention)
        pooled = pool_tokens(x, text_padding_mask, self.config.protocol)
        logits = self.proj(pooled)
        return {"logits": logits, "x": x, "padding_mask": text_padding_mask, "attention": maps}


def answer_head(width: int, n_answers: int) -> nn.Linear:
    """Linear (B, width) -> (B, K), Xavier weights and no bias at the start."""
    head = nn.Linear(width, n_answers)
    nn.init.xavier_uniform_(head.weight)
    nn.init.zeros_(head.bias)
    return head
