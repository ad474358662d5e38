"""Losses of the ECG-QA baselines and of their pretraining, as pure functions.

Letters: B batch, K answers or attributes, M masked tokens, N negatives, D width.
Sources: Oh et al. 2023 (ECG-QA); Oh et al. 2022 (W2V+CMSC); Kiyasseh et al. 2021 (CLOCS, CMSC).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def answer_bce(logits, labels, valid=None):
    """Mean binary cross-entropy over all answers, or for each question over its `valid` ones.

    logits, labels (B, K), valid (B, K) bool. The published loss covers all answers (valid=None)
    although only the valid ones are scored. With `valid` every question weighs the same, however
    many answers its template allows; one that allows none adds 0. Either way the loss is a mean
    over questions, so that micro-batches add up to the batch.
    """
    losses = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="none")
    if valid is None:
        return losses.mean()
    valid = valid.to(losses.dtype)
    return ((losses * valid).sum(1) / valid.sum(1).clamp(min=1.0)).mean()


def attribute_macro_bce(logits, labels, targeted=None, importance=None):
    """Upper-bound loss: BCE averaged within each attribute of the batch, then over those present.

    logits, labels (B, K); `targeted` (B, K) bool says which (ECG, attribute) pairs are asked about;
    None = all. Without any pair the loss is 0. `importance` (K,) multiplies attributes' losses.
    """
    losses = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="none")
    weight = torch.ones_like(losses) if targeted is None else targeted.to(losses.dtype)
    count = weight.sum(0)  # (K,)
    per_attribute = (losses * weight).sum(0) / count.clamp(min=1.0)
    if importance is not None:
        per_attribute = per_attribute * importance
    return per_attribute.sum() / (count > 0).sum().clamp(min=1)


def info_nce_sum(logits):
    """wav2vec 2.0 contrastive loss, summed over masked steps; logits (1 + N, B, M)."""
    flat = logits.flatten(1).t().float()  # (B * M, 1 + N)
    return F.cross_entropy(flat, flat.new_zeros(len(flat), dtype=torch.long), reduction="sum")


def code_use_penalty(prob_perplexity, n_total: int):
    """Share of the `n_total` = G * V codes left unused, (G * V - perplexity) / (G * V)."""
    return (n_total - prob_perplexity) / n_total


def feature_penalty(features):
    """Mean square of the raw conv features (B, P, F)."""
    return features.float().pow(2).mean()


def wav2vec_loss(logits, prob_perplexity, n_total: int, features, weights=(0.1, 10.0)):
    """InfoNCE + weighted code-use and feature penalties, each times the number of masked steps."""
    n_steps = logits.shape[1] * logits.shape[2]
    extra = weights[0] * code_use_penalty(prob_perplexity, n_total)
    extra = extra + weights[1] * feature_penalty(features)
    return info_nce_sum(logits) + extra * n_steps


def cmsc_loss(features, patient_id, segment, temperature: float = 0.1):
    """Contrastive multi-segment coding: segment 0 and segment 1 of a patient attract each other.

    features (B, D); patient_id, segment (B,) with segment 0 or 1. Every pair of one patient counts
    as positive. The loss is the mean over positives of both softmax directions, halved; it is 0
    (with a gradient of 0) where no pair exists.
    """
    unit = F.normalize(features.float(), dim=-1)
    a, b = unit[segment == 0], unit[segment == 1]
    same = patient_id[segment == 0][:, None] == patient_id[segment == 1][None, :]
    if not bool(same.any()):
        return features.sum() * 0.0
    scores = a @ b.t() / temperature  # (A, B)
    rows = -scores.log_softmax(1)[same].mean()
    columns = -scores.log_softmax(0)[same].mean()
    return 0.5 * (rows + columns)
