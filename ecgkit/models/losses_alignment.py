"""Alignment of ECG embeddings with report embeddings that do not move. A pure function.

Usage:

    loss = similar_reports(ecg, text, temperature=0.1, text_temperature=0.1)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def similar_reports(
    ecg: torch.Tensor, text: torch.Tensor, temperature: float = 0.1, text_temperature: float = 0.1
) -> torch.Tensor:
    """Cross-entropy of each ECG's likeness to the batch's reports with its own report's likeness.

    ecg, text (B, D). Row i of the target is softmax(cos(text_i, text_j) / text_temperature) over j,
    so that a report which shares a finding is half right instead of wrong, as in `info_nce`, where
    two reports that differ in one word are negatives. `text` gets no gradient. All ECGs alike is no
    solution as long as reports differ.
    """
    unit = F.normalize(text.detach(), dim=1)
    target = torch.softmax(unit @ unit.T / text_temperature, dim=1)  # (B, B)
    return F.cross_entropy(F.normalize(ecg, dim=1) @ unit.T / temperature, target)
