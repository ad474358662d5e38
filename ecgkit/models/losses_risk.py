"""Losses of the risk study: reconstruction, ECG-text alignment, and the Cox partial likelihood.
Pure functions.

The Cox loss here is exact (Breslow or Efron ties) and stable for any score. `cox_loss_reference`
keeps the published code's formula, which is stabilised by the largest score of the batch and
floored by 1e-8, so that a subject who has already left the risk set can distort it; it is there to
be compared with, not to train with."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from ecgkit.types import DataError


def reconstruction_mse(recon: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean square over everything, padding included (as published). recon, target (B, C, T)."""
    return F.mse_loss(recon, target)


def alignment_cosine(ecg: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """Mean of 1 - cos over matched pairs (B, D). No negatives: two trained projectors can satisfy
    it by a constant, so read it only beside `alignment_report`."""
    return (1 - F.cosine_similarity(ecg, text, dim=1)).mean()


def info_nce(
    ecg: torch.Tensor,
    text: torch.Tensor,
    temperature: float = 0.1,
    same: torch.Tensor | None = None,
):
    """Symmetric contrastive loss over the batch (B, D). `same` (B,) ids of equal texts: equal ids
    are no negatives."""
    logits = F.normalize(ecg, dim=1) @ F.normalize(text, dim=1).T / temperature  # (B, B)
    target = torch.eye(len(logits), device=logits.device)
    if same is not None:
        target = (same[:, None] == same[None]).to(logits.dtype)
    rows = F.cross_entropy(logits, target / target.sum(1, keepdim=True))
    return 0.5 * (rows + F.cross_entropy(logits.T, target.T / target.T.sum(1, keepdim=True)))


def cox_loss(
    log_risk: torch.Tensor, time: torch.Tensor, event: torch.Tensor, ties: str = "breslow"
) -> torch.Tensor:
    """Negative log partial likelihood, mean over events. All arguments (B,); event 1 = seen, 0 =
    censored.

    Ties: `breslow`, or `efron` (better when many subjects share a time). A batch without events
    gives a zero that still carries a (zero) gradient. Raises DataError for any other shape: silent
    broadcasting is how Cox losses go wrong."""
    theta, time, event = _checked(log_risk, time, event)
    if ties not in ("breslow", "efron"):
        raise DataError(f"ties is {ties!r}; choose breslow or efron.")
    if not event.any():
        return log_risk.sum() * 0.0
    order = torch.argsort(time, descending=True)
    theta, time, event = theta[order], time[order], event[order]
    _, group, size = torch.unique_consecutive(time, return_inverse=True, return_counts=True)
    last = size.cumsum(0) - 1  # row at which everyone with this time or later has entered
    seen, group = theta[event], group[event]  # what follows is about the events alone
    log_at_risk = _log_cumulated(theta, last)[group]  # log of the sum over time >= own time
    if ties == "efron":
        log_at_risk = log_at_risk + _efron_correction(seen, group, len(size), log_at_risk)
    return (log_at_risk - seen).mean().to(log_risk.dtype)


def _log_cumulated(theta: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """log(sum of exp(theta[: row + 1])) for each of the rows.

    Where the exponentials of all scores fit into a number together, they are summed as they are: a
    fifth of the time of a sum of logarithms.
    """
    top = theta.detach().max()
    if top - theta.detach().min() < 0.8 * math.log(torch.finfo(theta.dtype).max):
        return (theta - top).exp().cumsum(0)[rows].log() + top
    return torch.logcumsumexp(theta, 0)[rows]


def _efron_correction(theta, group, n_groups: int, log_at_risk):
    """log(1 - l/d * tied/at_risk) for the l-th of d events that share a time, l from 0. All (E,)
    over events in order of time; 0 where nothing is tied."""
    d = torch.bincount(group, minlength=n_groups)
    place = torch.arange(len(group), device=group.device) - (d.cumsum(0) - d)[group]
    share = torch.exp(theta - log_at_risk)  # each event's part of its risk set, never above 1
    tied = torch.zeros(n_groups, dtype=theta.dtype, device=theta.device).index_add(0, group, share)
    return torch.log1p(-(place / d[group] * tied[group]).clamp(max=1 - 1e-12))


def cox_loss_reference(
    log_risk: torch.Tensor, time: torch.Tensor, event: torch.Tensor
) -> torch.Tensor:
    """The published code's Breslow loss, floor and all (risk.md 5.3). Same arguments as
    `cox_loss`."""
    theta, time, event = _checked(log_risk, time, event)
    if not event.any():
        return log_risk.sum() * 0.0
    at_risk = (time[None] >= time[:, None]).to(
        theta.dtype
    )  # (B, B): row i, who is still under observation
    top = theta.max()
    log_sum = torch.log((torch.exp(theta - top)[None] * at_risk).sum(1) + 1e-8) + top
    return ((log_sum - theta)[event].sum() / event.sum()).to(log_risk.dtype)


def finetune_loss(
    recon_loss: torch.Tensor, cox: torch.Tensor, alpha: float, protocol: str = "paper"
) -> torch.Tensor:
    """alpha * reconstruction + (1 - alpha) * risk. The published code weighs them the other way
    round (`protocol="reference"`); at its default of 0.5 the two agree."""
    weight = alpha if protocol == "paper" else 1 - alpha
    return weight * recon_loss + (1 - weight) * cox


@torch.no_grad()
def alignment_report(
    ecg: torch.Tensor, text: torch.Tensor, group: torch.Tensor, k: int = 5
) -> dict[str, float]:
    """Tells alignment from collapse. ecg, text (n, D); group (n,) id of equal texts (a hit is any
    equal text).

    matched_cos and mismatched_cos (pairs of different texts) should differ; `spread` is the mean
    standard deviation of the unit ECG embeddings times sqrt(D): near 0 = all the same; recall@k
    over the distinct texts, and its chance level."""
    ecg, text = F.normalize(ecg.float(), dim=1), F.normalize(text.float(), dim=1)
    similarity = ecg @ text.T
    other = group[:, None] != group[None]
    names, first = torch.unique(group, return_inverse=True)
    chosen = torch.stack([(group == name).nonzero()[0, 0] for name in names])
    top = similarity[:, chosen].topk(min(k, len(names)), dim=1).indices  # (n, k) of distinct texts
    matched = F.cosine_similarity(ecg, text, dim=1).mean()
    mismatched = similarity[other].mean() if other.any() else torch.tensor(float("nan"))
    return {
        "matched_cos": matched.item(),
        "mismatched_cos": mismatched.item(),
        "spread": (ecg.std(0).mean() * ecg.shape[1] ** 0.5).item() if len(ecg) > 1 else 0.0,
        f"recall@{k}": (top == first[:, None]).any(1).float().mean().item(),
        f"chance@{k}": min(k, len(names)) / len(names),
    }


def _checked(log_risk, time, event):
    shapes = {tuple(log_risk.shape), tuple(time.shape), tuple(event.shape)}
    if len(shapes) != 1 or log_risk.ndim != 1:
        raise DataError(
            f"Cox loss takes three vectors of one length, got shapes {sorted(shapes)}; drop extra "
            "axes."
        )
    on_mps = log_risk.device.type == "mps"  # which has no float64
    wide = log_risk.float() if on_mps else log_risk.double()
    return wide, time, event.bool()
