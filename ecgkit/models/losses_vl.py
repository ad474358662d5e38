"""Losses of vision-language pretraining on ECG-report pairs (M3AE, MedViLL), as pure functions.

Letters: B batch, C leads, T samples, P ECG tokens, S samples of a patch, L text tokens,
V vocabulary.
Sources: M3AE (arXiv 2209.07098) section 2 and its ECG form in Oh et al. 2023 (ECG-QA); MedViLL
(arXiv 2105.11333) section III. Where nothing is counted (no hidden token, no row) a loss is 0, with
a gradient of 0.

Usage:

    loss = mlm_loss(out["mlm_logits"], targets)
    loss += mim_loss(out["mim_prediction"], ecg, hidden)
    loss += itm_loss(out["itm_logits"], matched)
"""

from __future__ import annotations

import torch.nn.functional as F

IGNORED = -100
VARIANCE_FLOOR = 1e-6


def mlm_loss(logits, targets, reduction: str = "mean"):
    """Cross-entropy of the hidden words: logits (B, L, V), targets (B, L), IGNORED elsewhere.

    `reduction`: mean over hidden words (M3AE) | sum (MedViLL).
    """
    total = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(),
                            ignore_index=IGNORED, reduction="sum")
    return total if reduction == "sum" else total / n_hidden_words(targets)


def n_hidden_words(targets):
    """Hidden words of targets (B, L), a tensor; 1 where there is none, so that it may divide."""
    return (targets != IGNORED).sum().clamp(min=1)


def itm_loss(logits, matched):
    """Cross-entropy of "is this the ECG's own report": logits (B, 2), matched (B,) bool."""
    return F.cross_entropy(logits.float(), matched.long())


def alignment_loss(logits, matched, n_words=1):
    """MedViLL's form of the same: binary cross-entropy of logits (B,), times #words / #pairs.

    Its sum over pairs is scaled so that it weighs as much as the *summed* mlm_loss of `n_words`;
    with n_words=1 it is the mean over pairs.
    """
    total = F.binary_cross_entropy_with_logits(logits.float(), matched.float(), reduction="sum")
    return total * n_words / len(logits)


def mim_loss(prediction, ecg, counted):
    """Mean squared error of the ECG's hidden patches, each lead normalised.

    prediction (B, P, C * S), ecg (B, C, T) mV, counted (B, P) bool: the hidden tokens that count.
    S is the product of the convolutions' strides (16 as published).
    """
    patch = prediction.shape[2] // ecg.shape[1]
    error = (prediction.float() - patch_targets(ecg, prediction.shape[1], patch)).pow(2).mean(-1)
    weight = counted.to(error.dtype)
    return (error * weight).sum() / weight.sum().clamp(min=1.0)


def patch_targets(ecg, n_tokens: int, patch: int):
    """ecg (B, C, T) -> (B, P, C * S): patch p holds samples p * S up to (p + 1) * S of every lead.

    Lead by lead within a patch (value c * S + s is sample s of lead c), as published. Each lead of
    each ECG is normalised to mean 0, variance 1 over the samples that any patch holds; the samples
    after the last patch take no part. A flat lead gives zeros.
    """
    signal = ecg[..., : n_tokens * patch].float()
    centred = signal - signal.mean(-1, keepdim=True)
    signal = centred / (signal.var(-1, keepdim=True) + VARIANCE_FLOOR).sqrt()
    return signal.unflatten(-1, (n_tokens, patch)).transpose(1, 2).flatten(2)
