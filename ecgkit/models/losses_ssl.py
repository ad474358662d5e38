"""Losses of SimCLR and BYOL as pure functions (wav2vec's and CMSC's are in `losses_qa`).

Letters: N pairs, D width. Sources: Chen et al. 2020 (SimCLR) equation 1; Grill et al. 2020 (BYOL)
equation 2.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def nt_xent(first, second, temperature: float = 0.1):
    """Normalised-temperature cross entropy: among the other 2 N - 1 views of the batch, find one's
    own partner. first, second (N, D), row i of both from one ECG -> scalar, mean over 2 N views."""
    n = len(first)
    unit = F.normalize(torch.cat([first, second]).float(), dim=-1)
    scores = unit @ unit.t() / temperature  # (2 N, 2 N)
    itself = torch.eye(2 * n, dtype=torch.bool, device=scores.device)
    scores = scores.masked_fill(itself, -torch.inf)
    partner = torch.arange(2 * n, device=scores.device).roll(n)
    return F.cross_entropy(scores, partner)


def byol_loss(predicted_1, predicted_2, target_1, target_2):
    """Each view's prediction (N, D) against the *other* view's target: |p - t|^2 of unit vectors,
    2 - 2 cos, mean over pairs, summed over both directions. Targets pass no gradient on."""
    return _distance(predicted_1, target_2) + _distance(predicted_2, target_1)


def _distance(predicted, target):
    cosine = F.cosine_similarity(predicted.float(), target.detach().float(), dim=-1)
    return (2 - 2 * cosine).mean()
