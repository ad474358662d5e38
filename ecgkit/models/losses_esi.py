"""Losses of ESI as pure functions: ECG-text contrast and captioning (TMLR paper, section 3.3).

Where the paper and its published code differ, `protocol` selects: see each function.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def contrastive_loss(ecg_latents, text_latents, temperature, protocol: str = "reference"):
    """Symmetric cross entropy between each ECG and its own text within a batch of B.

    `ecg_latents`, `text_latents` (B, D) of unit length; `temperature` () or (1,): the learnt
    logarithm of the scale. reference: the MEAN of the two directions; paper: their SUM (twice as
    large). The paper divides by sigma; with sigma = exp(-temperature) both say the same. Returns a
    scalar tensor.
    """
    similarity = text_latents @ ecg_latents.T * temperature.exp()  # (B, B), rows are texts
    target = torch.arange(len(similarity), device=similarity.device)
    both = F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target)
    return both if protocol == "paper" else both / 2


def caption_loss(logits, labels, pad_id: int = 0, reduction: str = "mean"):
    """Cross entropy of the next token; `logits` (B, L, V), `labels` (B, L), positions labelled
    `pad_id` do not count.

    reduction "mean": over all counted tokens of the batch (published code); "sum": summed over the
    tokens of a caption, then averaged over captions (paper). A batch without any counted token
    gives zero, not NaN.
    """
    total = F.cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), ignore_index=pad_id, reduction="sum"
    )
    if reduction == "sum":
        return total / len(labels)
    return total / (labels != pad_id).sum().clamp(min=1)


def shift_captions(ids, mask, protocol: str = "paper"):
    """Splits token ids (B, L) and mask (B, L) into what the model reads and what it must say.

    Returns (inputs (B, L-1), mask (B, L-1), labels). Paper: labels (B, L-1) = ids[:, 1:], so [CLS]
    says the first word. Reference: labels (B, L-2) = ids[:, 2:], because the published code takes
    [CLS] out of the sequence for the contrast and never learns to say the first word.
    """
    return ids[:, :-1], mask[:, :-1], ids[:, 1:] if protocol == "paper" else ids[:, 2:]
