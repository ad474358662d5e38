"""wav2vec 2.0 + CMSC pretraining on ECGs: masked tokens must be told from distractors, and two
segments of one patient must look alike. ECG-FM is this model at its default size.

Letters: B batch, P tokens, F conv channels, D width, G codebooks, V codes a book, M masked tokens,
N negatives, Q target width.
Source: Baevski et al. 2020 sections 2-3; Oh et al. 2022 (arXiv 2203.06889) section 3.
The losses are in `losses_qa.py`.

Usage:

    model = Wav2Vec2CMSC(Wav2VecConfig())
    out = model(signal, mask_indices=span_mask(B, P, rng))   # out["logits"] (1 + N, B, M)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ecgkit.models.ecg_transformer import (
    ECGTransformer,
    ECGTransformerConfig,
    pool_tokens,
    silence,
    token_padding_mask,
)


@dataclass(frozen=True)
class Wav2VecConfig(ECGTransformerConfig):
    """Published pretraining sizes on top of the transformer's."""

    feature_grad_mult: float = 0.1
    feature_dropout: float = 0.1  # on the normed features that become targets
    final_dim: int = 256
    n_codebooks: int = 2
    n_codes: int = 320
    code_dim: int = 256  # width of the joined code vectors, D_vq
    n_negatives: int = 100
    logit_temperature: float = 0.1
    code_temperature: tuple[float, float, float] = (2.0, 0.5, 0.999995)  # start, floor, decay


class GumbelQuantiser(nn.Module):
    """Replaces each feature vector by one code from each of G codebooks.

    Training draws a hard Gumbel-softmax sample at `temperature`; evaluation takes the arg max.
    """

    def __init__(self, config: Wav2VecConfig):
        super().__init__()
        self.n_codebooks, self.n_codes = config.n_codebooks, config.n_codes
        total = config.n_codebooks * config.n_codes
        self.vars = nn.Parameter(torch.rand(1, total, config.code_dim // config.n_codebooks))
        self.weight_proj = nn.Linear(config.conv_dim, total)
        nn.init.normal_(self.weight_proj.weight, std=1.0)
        nn.init.zeros_(self.weight_proj.bias)

    def forward(self, features, temperature: float = 1.0) -> dict:
        """features (B, P, F) -> x (B, P, D_vq), codes (B, P, G), prob_perplexity, code_perplexity
        (sums over codebooks of exp(entropy) of the mean softmax, and of the mean arg max)."""
        logits = self.weight_proj(features).unflatten(-1, (self.n_codebooks, self.n_codes)).float()
        codes = logits.argmax(-1)  # (B, P, G)
        hard = F.one_hot(codes, self.n_codes).to(logits)
        chosen = F.gumbel_softmax(logits, tau=temperature, hard=True) if self.training else hard
        books = self.vars.view(self.n_codebooks, self.n_codes, -1).to(chosen)
        x = torch.einsum("bpgv,gvd->bpgd", chosen, books).flatten(-2)
        return {
            "x": x.to(features),
            "codes": codes,
            "prob_perplexity": perplexity(logits.softmax(-1).mean((0, 1))),
            "code_perplexity": perplexity(hard.mean((0, 1))),
        }


def perplexity(probabilities):
    """Sum over codebooks of exp(entropy); probabilities (G, V)."""
    return torch.exp(-(probabilities * (probabilities + 1e-7).log()).sum(-1)).sum()


class Wav2Vec2CMSC(ECGTransformer):
    """The ECG transformer with a mask vector, a quantiser and two projections."""

    def __init__(self, config: Wav2VecConfig):
        super().__init__(config)
        self.mask_emb = nn.Parameter(torch.rand(config.dim))
        self.dropout_features = nn.Dropout(config.feature_dropout)
        self.quantizer = GumbelQuantiser(config)
        self.project_q = nn.Linear(config.code_dim, config.final_dim)
        self.final_proj = nn.Linear(config.dim, config.final_dim)

    def temperature(self, step: int) -> float:
        """Gumbel temperature at an optimiser step."""
        start, floor, decay = self.config.code_temperature
        return max(start * decay**step, floor)

    def forward(self, signal, padding_mask=None, mask_indices=None, negatives=None, step: int = 0,
                return_attention: bool = False) -> dict:
        """signal (B, C, T); mask_indices (B, P) bool, the same count M in each row, or None.

        `negatives` (B, M * N) are flat indices into the (B * M) masked targets; None draws them.
        Returns x (B, P, D), pooled (B, D) for CMSC, features (raw, B P F), padding_mask and, with
        mask_indices, logits (1 + N, B, M), the positive first, and `quantised`: GumbelQuantiser's.
        """
        raw, normed = self.features(silence(signal, padding_mask))
        mask = token_padding_mask(padding_mask, self.config, normed.shape[1])
        tokens = self.dropout_input(self.post_extract_proj(normed))
        if mask_indices is not None:
            tokens = torch.where(mask_indices[..., None], self.mask_emb.to(tokens), tokens)
        x, maps = self.contextualise(tokens, mask, return_attention)
        pooled = pool_tokens(x, mask, self.config.protocol)
        out = {"x": x, "padding_mask": mask, "pooled": pooled, "features": raw, "attention": maps}
        if mask_indices is None:
            return out
        n_rows = len(x)
        context = self.final_proj(x[mask_indices].view(n_rows, -1, x.shape[-1]))  # (B, M, Q)
        masked = self.dropout_features(normed)[mask_indices]
        masked = masked.view(n_rows, -1, normed.shape[-1])  # (B, M, F)
        quantised = self.quantizer(masked, self.temperature(step))
        targets = self.project_q(quantised["x"])  # (B, M, Q)
        if negatives is None:
            negatives = draw_negatives(n_rows, targets.shape[1], self.config.n_negatives, x.device)
        return {**out, "quantised": quantised, "logits": self._logits(context, targets, negatives)}

    def _logits(self, context, targets, negatives):
        """Cosine of each context to its target and its negatives, over the temperature."""
        n_rows, n_masked, width = targets.shape
        others = targets.reshape(-1, width)[negatives.reshape(-1)]
        others = others.view(n_rows, n_masked, -1, width).permute(2, 0, 1, 3)  # (N, B, M, Q)
        same = (others == targets).all(-1)
        choices = torch.cat([targets[None], others])
        cosine = F.cosine_similarity(context[None].float(), choices.float(), dim=-1)
        logits = cosine / self.config.logit_temperature
        # A distractor quantised to the very same codes is not wrong, so it takes no part.
        barred = torch.cat([torch.zeros_like(same[:1]), same])
        return logits.masked_fill(barred, float("-inf"))


def draw_negatives(n_rows: int, n_masked: int, n_negatives: int, device) -> torch.Tensor:
    """Flat indices (B, M * N): other masked steps of the row, uniform, never the step itself."""
    draw = torch.randint(0, max(n_masked - 1, 1), (n_rows, n_masked, n_negatives), device=device)
    own = torch.arange(n_masked, device=device)[None, :, None]
    draw = (draw + (draw >= own).long()) % n_masked
    offset = torch.arange(n_rows, device=device)[:, None, None] * n_masked
    return (draw + offset).flatten(1)


def span_mask(n_rows: int, n_tokens: int, rng: np.random.Generator, share: float = 0.65,
              span: int = 10, min_spans: int = 2) -> np.ndarray:
    """Span mask (B, P) bool with the same count in each row, as batches need it.

    `share * P / span` starts a row (randomly rounded, at least `min_spans`); spans may overlap;
    rows with more masked tokens than the smallest row give some back.
    """
    span = min(span, n_tokens)
    n_spans = max(min_spans, int(share * n_tokens / span + rng.random()))
    n_spans = min(n_spans, n_tokens - span + 1)
    starts = np.stack([rng.permutation(n_tokens - span + 1)[:n_spans] for _ in range(n_rows)])
    mask = np.zeros((n_rows, n_tokens), dtype=bool)
    covered = (starts[:, :, None] + np.arange(span)).reshape(n_rows, -1)
    np.put_along_axis(mask, covered, True, axis=1)
    fewest = mask.sum(1).min()
    for row in np.flatnonzero(mask.sum(1) > fewest):
        chosen = np.flatnonzero(mask[row])
        mask[row, rng.choice(chosen, len(chosen) - fewest, replace=False)] = False
    return mask
