"""ECG-only ("deaf") question answering: what can be answered without reading the question.

ECG 1 [+ learned separator + ECG 2] go through one encoder; the head reads the mean of ECG 1 and
the mean of separator + ECG 2 (zeros where there is none). Each ECG gets its own position code.
Module names are the published ones. Source: Oh et al. 2023 (ECG-QA) section 5.

Letters: B batch, C leads, T samples, P tokens of one ECG, D width, K answers.

`protocol="reference"` repeats the published code: tokens of an absent or padded ECG are pooled (so
a single ECG has other logits beside pairs than alone), means run over non-zero entries, and the
window of a padded first ECG goes through the length rule twice. `"paper"` (default) mends these.

Usage:

    model = DeafQA(ECGTransformerConfig(dim=96, n_layers=2), n_answers=103)
    model(ecg, ecg_2=None)["logits"]                       # ecg (B, 12, T) mV -> (B, 103)
"""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from ecgkit.models.ecg_transformer import ECGTransformer, ECGTransformerConfig, pool_tokens
from ecgkit.models.fusion_qa import answer_head
from ecgkit.models.transfer import copy_fitting, ecg_weights
from ecgkit.types import ConfigError, ModelError


class DeafQA(ECGTransformer):
    """ECG transformer with a separator vector and an answer head over one or two pooled ECGs.

    With `num_ecgs=1` there is neither separator nor second half of the head.
    """

    reads = ("ecg",)
    takes_ecg_of = True  # an ECG that several questions are about comes once

    def __init__(self, config: ECGTransformerConfig, n_answers: int, num_ecgs: int = 2):
        sizes = (field.name for field in dataclasses.fields(ECGTransformerConfig))
        # A config that also has text sizes is welcome; they are no part of this model.
        super().__init__(ECGTransformerConfig(**{name: getattr(config, name) for name in sizes}))
        if num_ecgs not in (1, 2):
            raise ConfigError(f"num_ecgs is {num_ecgs}; a question is about 1 or 2 ECGs.")
        self.num_ecgs = num_ecgs
        if num_ecgs == 2:
            self.sep_embedding = nn.Parameter(torch.rand(config.dim))
        self.proj = answer_head(num_ecgs * config.dim, n_answers)

    def forward(self, ecg, ecg_2=None, ecg_padding_mask=None, ecg_2_padding_mask=None,
                return_attention: bool = False, ecg_of=None) -> dict:
        """ecg, ecg_2 (B, C, T) mV; masks (B, T) or (B, C, T), True = padding or absent.

        With `ecg_of` (B,) the first ECGs are (U, C, T), and each question names its own; without
        second ones all but the logits then stays (U, ...): it is the same for all who share it.
        Returns logits (B, K), x (B, S, D), padding_mask (B, S), parts: where `first` and `second`
        (its separator included; None without one) lie in x, attention: maps (B, H, S, S) or [].
        """
        if ecg_2 is not None and self.num_ecgs == 1:
            raise ModelError("This model was built with num_ecgs=1; build it with 2, or leave out "
                             "the second ECG.")
        tokens, mask = self.embed(ecg, ecg_padding_mask)
        parts = {"first": slice(0, self._n_first(mask)), "second": None}
        if ecg_2 is not None:
            if ecg_of is not None:
                tokens, mask, ecg_of = tokens[ecg_of], mask[ecg_of], None
            second, second_mask = self.embed(ecg_2, ecg_2_padding_mask)
            sep = self.sep_embedding.to(tokens).expand(len(tokens), 1, -1)
            absent = second_mask.all(1, keepdim=True)  # the separator goes with its ECG
            tokens = torch.cat([tokens, sep, second], dim=1)
            mask = torch.cat([mask, absent, second_mask], dim=1)
            parts["second"] = slice(parts["first"].stop, tokens.shape[1])
        x, maps = self.encoder(tokens, mask, return_attention)
        logits = self.proj(torch.cat(self._pooled(x, mask, parts), dim=-1))
        logits = logits if ecg_of is None else logits[ecg_of]
        return {"logits": logits, "x": x, "padding_mask": mask, "parts": parts, "attention": maps}

    def load_ecg_side(self, source: nn.Module) -> int:
        """Copies the ECG transformer of a classifier or of wav2vec; returns tensors copied."""
        return copy_fitting(self, ecg_weights(source))

    def _n_first(self, mask) -> int:
        """Where the window of the first ECG ends; the published one shrinks if any is padded."""
        if self.config.protocol == "reference" and bool(mask.any()):
            return self.config.n_tokens(int((~mask).sum(1).max()))
        return mask.shape[1]

    def _pooled(self, x, mask, parts) -> list:
        """One (B, D) per ECG the head reads."""
        seen = None if self.config.protocol == "reference" else mask  # published: padding too
        return [
            x.new_zeros(len(x), x.shape[-1]) if part is None
            else pool_tokens(x[:, part], None if seen is None else seen[:, part],
                             self.config.protocol)
            for part in list(parts.values())[: self.num_ecgs]
        ]
