"""MedViLL on ECGs: pretraining of the fusion encoder by masked words and by matching pairs.

One ECG and its report go through the encoder of `fusion_qa.py`. One head names the masked words,
one says whether ECG and report belong together. The answering model is FusionQA itself, started
from these weights by `load_medvill`.
Source: Moon et al. 2022 (MedViLL, arXiv 2105.11333) section III; Oh et al. 2023 (ECG-QA).

Letters: B batch, C leads, T samples, P ECG tokens, L report tokens, D width, V vocabulary.

`attention="bi_ar"`: ECG tokens see everything, words see all ECG tokens and the words up to their
own. As ECG tokens see all words, later words do reach earlier ones through the ECG from the second
layer on; that is as published. "bidirectional": everything sees everything.

137,684,155 parameters: fusion encoder 114,210,432; the vector of masked words 768; words
Linear(768, 30522); matching Linear(1536, 1) over the means of ECG and report.

Usage:

    model = MedViLLPretraining(FusionConfig(dim=96, n_layers=2, vocab_size=800))
    out = model(ecg, text, text_padding_mask, text_mask=hidden)
    load_medvill(FusionQA(config, n_answers), model)
"""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from ecgkit.models.ecg_transformer import pool_tokens
from ecgkit.models.fusion_qa import FusionConfig, FusionEncoder, FusionQA
from ecgkit.models.transfer import copy_fitting
from ecgkit.types import ConfigError

ATTENTION = ("bi_ar", "bidirectional")


def bi_ar_mask(n_ecg: int, n_words: int, device=None) -> torch.Tensor:
    """(S, S) bool with S = n_ecg + n_words, True = row may not look at column."""
    mask = torch.zeros(n_ecg + n_words, n_ecg + n_words, dtype=torch.bool, device=device)
    mask[n_ecg:, n_ecg:] = torch.ones(n_words, n_words, dtype=torch.bool, device=device).triu(1)
    return mask


class MedViLLPretraining(nn.Module):
    """Fusion encoder with a masked-word head and a matching head."""

    def __init__(self, config: FusionConfig, attention: str = "bi_ar"):
        super().__init__()
        if attention not in ATTENTION:
            raise ConfigError(f"attention is {attention!r}; choose {' or '.join(ATTENTION)}.")
        # The published code loses the mask of the text only while answering, not here.
        self.config = dataclasses.replace(config, text_mask="kept")
        self.attention = attention
        self.encoder = FusionEncoder(self.config)
        self.mask_emb = nn.Parameter(torch.rand(config.dim))
        self.mlm_proj = nn.Linear(config.dim, config.vocab_size)
        self.align_proj = nn.Linear(2 * config.dim, 1)

    def forward(self, ecg, text, text_padding_mask=None, ecg_padding_mask=None, text_mask=None,
                return_attention: bool = False) -> dict:
        """ecg (B, C, T) mV; text (B, L) ids, masked ones already replaced; masks True = padding.

        `text_mask` (B, L) bool: words that show the learnt mask vector whatever their id, as
        published (80 % of the chosen words); without it [MASK] must stand among the ids.
        Returns mlm_logits (B, L, V), alignment_logits (B,), x (B, S, D), padding_mask (B, S), parts
        and attention as the fusion encoder does.
        """
        instead = None if text_mask is None else (text_mask, self.mask_emb)
        tokens, mask, parts = self.encoder.embed(
            ecg, text, ecg_padding_mask=ecg_padding_mask, text_padding_mask=text_padding_mask,
            instead=instead,
        )  # fmt: skip
        barred = None
        if self.attention == "bi_ar":
            barred = bi_ar_mask(parts["text"].start, text.shape[1], tokens.device)
        x, maps = self.encoder.encoder(tokens, mask, return_attention, barred)
        pooled = [pool_tokens(x[:, parts[name]], mask[:, parts[name]], self.config.protocol)
                  for name in ("first", "text")]
        return {
            "mlm_logits": self.mlm_proj(x[:, parts["text"]]),
            "alignment_logits": self.align_proj(torch.cat(pooled, dim=-1)).squeeze(-1),
            "x": x, "padding_mask": mask, "parts": parts, "attention": maps,
        }  # fmt: skip

    def load_ecg_side(self, source: nn.Module) -> int:
        """Copies an ECG classifier's or wav2vec's ECG path and layers; returns tensors copied."""
        return self.encoder.load_ecg_side(source)


def load_medvill(fusion_qa: FusionQA, pretrained: MedViLLPretraining) -> int:
    """Starts an answering model from pretraining (all but the heads); returns tensors copied.

    Raises ModelError when no tensor fits.
    """
    return copy_fitting(fusion_qa.encoder, pretrained.encoder.state_dict())
