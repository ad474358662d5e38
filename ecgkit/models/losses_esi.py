"""Losses of ESI as pure functions: ECG-text contrast and captioning (TMLR paper, section 3.3).

Where the paper and its published code differ, `protocol` selects: see each function. Several
processes: each works on its own b of the B pairs, and every function returns the process's share
such that the mean over processes, weighted by their b, is the loss of one process with all B pairs
(what `tasks.engine` and DistributedDataParallel compute), for gradients too.

Letters: B pairs of all processes, b of this one, D width, L words, V vocabulary, N labelled words.

Usage:

    ids, mask, labels = shift_captions(ids, mask, protocol)
    out = model(signals, ids, mask, labels)
    ecg, text = gather_rows(out["ecg_latents"], out["text_latents"])        # alone: as they are
    contrast = contrastive_loss(out["ecg_latents"], out["text_latents"], out["temperature"],
                                protocol, all_ecg=ecg, all_text=text)
    caption = caption_loss(out["caption_logits"], out["caption_labels"], n_captions=len(ids),
                           words_per_caption=mean_words(labels))
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F

from ecgkit.types import ModelError


def contrastive_loss(ecg_latents, text_latents, temperature, protocol: str = "reference",
                     all_ecg=None, all_text=None):  # fmt: skip
    """Symmetric cross entropy between each ECG and its own text, among all B.

    `ecg_latents`, `text_latents` (b, D) of unit length; `temperature` () or (1,): the learnt
    logarithm of the scale; `all_ecg`, `all_text`: what `gather_rows` returned for the two, where
    negatives come from other processes too. reference: the MEAN of the two directions; paper: their
    SUM (twice as large). The paper divides by sigma; with sigma = exp(-temperature) both say the
    same. Returns a scalar tensor, in float32 under autocast too: the scale magnifies what bf16
    rounds off.
    """
    (all_ecg, first), (all_text, _) = (
        other or (own, 0) for other, own in ((all_ecg, ecg_latents), (all_text, text_latents))
    )
    with torch.autocast(ecg_latents.device.type, enabled=False):
        scale = temperature.float().exp()
        texts_see = text_latents.float() @ all_ecg.float().T * scale  # (b, B)
        ecgs_see = ecg_latents.float() @ all_text.float().T * scale
        own = first + torch.arange(len(ecg_latents), device=ecg_latents.device)
        both = F.cross_entropy(texts_see, own) + F.cross_entropy(ecgs_see, own)
    return both if protocol == "paper" else both / 2


def caption_loss(logits, labels, pad_id: int = 0, reduction: str = "mean",
                 n_captions: int | None = None, words_per_caption=None):  # fmt: skip
    """Cross entropy of the next word; positions labelled `pad_id` do not count.

    `logits` (b, L, V) and `labels` (b, L), or (N, V) and (N,) of the counted positions alone, with
    `n_captions` = b. reduction "mean": over all counted words of the batch (published code); "sum":
    summed over the words of a caption, then averaged over captions (paper). For the mean over the
    words of all processes give `words_per_caption`, what `mean_words(labels)` returned. A batch
    without any counted word gives zero, not NaN. Raises ModelError where n_captions is needed.
    """
    if labels.ndim == 2:
        n_captions = len(labels)
    total = F.cross_entropy(
        logits.flatten(0, -2).float(), labels.flatten(), ignore_index=pad_id, reduction="sum"
    )
    if reduction == "mean" and words_per_caption is None:
        return total / (labels != pad_id).sum().clamp(min=1)
    if n_captions is None:
        raise ModelError(
            "caption_loss is given labelled positions only; say how many captions they come from "
            "(n_captions=len(ids))."
        )
    return total / (n_captions * (1 if reduction == "sum" else words_per_caption))


def caption_reduction(protocol: str) -> str:
    """`reduction` of caption_loss as printed in the paper, or as in the published code."""
    return "sum" if protocol == "paper" else "mean"


def shift_captions(ids, mask, protocol: str = "paper"):
    """Splits token ids (B, L) and mask (B, L) into what the model reads and what it must say.

    Returns (ids, mask, labels), labels 0 where there is no word. Paper: ids as given, so that the
    contrast sees whole texts, and labels (B, L-1) = ids[:, 1:], so that [CLS] says the first word.
    Reference: ids and mask without their last column, labels (B, L-2) = ids[:, 2:]: the published
    code cuts [SEP] off the longest caption of a batch and off no other, takes [CLS] out of the
    sequence for the contrast and never learns to say the first word.
    """
    labels = ids * mask  # the padding of RoBERTa and its kin is not 0
    if protocol == "paper":
        return ids, mask, labels[:, 1:]
    return ids[:, :-1], mask[:, :-1], labels[:, 2:]


# --- several processes ---


class _Gather(torch.autograd.Function):
    """Rows of all processes, (b, D) -> (sum of b, D); backward adds up what each of them wants of a
    row, for each process's loss depends on every other's rows.
    """

    @staticmethod
    def forward(ctx, x, sizes: list[int], rank: int):
        ctx.sizes, ctx.rank = sizes, rank
        padded = x.new_zeros(max(sizes), *x.shape[1:])  # a collective wants equal shapes
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes)])

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient.split(ctx.sizes)[ctx.rank], None, None


def gather_rows(*tensors):
    """Each (b, ...) -> ((B, ...), index of this process's first row), b may differ by process.

    Differentiable. Every process must call it equally often. Without a process group, or alone in
    it, the tensors come back as they are, with 0.
    """
    if not _is_parallel():
        return tuple((x, 0) for x in tensors)
    n = torch.tensor([len(tensors[0])], device=tensors[0].device)
    counts = [torch.empty_like(n) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, n)
    sizes, rank = [int(c) for c in counts], dist.get_rank()
    return tuple((_Gather.apply(x, sizes, rank), sum(sizes[:rank])) for x in tensors)


def mean_words(labels, pad_id: int = 0):
    """Words to say per caption, over all captions of all processes: a scalar tensor, above 0."""
    counts = torch.stack([(labels != pad_id).sum(), torch.tensor(len(labels)).to(labels.device)])
    counts = counts.float()
    if _is_parallel():
        dist.all_reduce(counts)
    return counts[0].clamp(min=1) / counts[1].clamp(min=1)


def _is_parallel() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
