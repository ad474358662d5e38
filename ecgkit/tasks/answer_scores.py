"""Scores of short answers: by token and by row on the device, and of answers in words.

Letters: R rows, A tokens of an answer, V vocabulary.

Usage:

    row_scores(logits, targets, end=1, start=0)      # "exact", "tokens", "released", ... each (R,)
    word_scores(said, true, episode)                 # exact match, BLEU, ROUGE-L with intervals
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch.nn.functional as F
from torch import Tensor

from ecgkit.models.prefix_llm import IGNORE, normalise
from ecgkit.tasks.metrics_multilabel import bootstrap_weights, interval
from ecgkit.tasks.text_overlap import N_COUNTS, overlap_counts, overlap_scores, words


def row_scores(
    logits: Tensor, targets: Tensor, end: int, start: int | None = None
) -> dict[str, Tensor]:
    """Scores (R,) of each row; logits (R, A, V), targets (R, A) with IGNORE as padding; `end` and
    `start` are the tokenizer's tokens of that kind.

    loss            mean cross-entropy over the row's targets
    log_likelihood  minus its sum
    exact           every target is the likeliest token. With the end of text among the targets this
                    is 1 exactly when greedy decoding would write these tokens and stop, so nothing
                    has to be decoded
    tokens          share of right tokens among all targets
    spoken          the same, start and end of text not counted
    released        the same, the end not counted and the start counted, as the released code does.
                    A start that is not among the targets counts as right, since it never changes
    """
    real = targets != IGNORE
    nll = F.cross_entropy(
        logits.transpose(1, 2), targets, ignore_index=IGNORE, reduction="none"
    )  # (R, A)
    right = logits.argmax(-1) == targets
    is_start = real & (targets == (IGNORE if start is None else start))
    spoken = real & (targets != end) & ~is_start
    constant = ~is_start.any(1) & (start is not None)
    counted = spoken | is_start
    return {
        "loss": nll.sum(1) / real.sum(1).clamp(min=1),
        "log_likelihood": -nll.sum(1),
        "exact": (right | ~real).all(1),
        "tokens": _share(right, real),
        "spoken": _share(right, spoken),
        "released": _share(right, counted, constant),
    }


def _share(right: Tensor, counted: Tensor, constant: Tensor | int = 0) -> Tensor:
    """(R,) right tokens among those counted (R, A), and `constant` hits beside them."""
    n = (counted.sum(1) + constant).clamp(min=1)
    return ((right & counted).sum(1) + constant) / n


# --- answers in words -----------------------------------------------------------------------------


def word_scores(
    said: Sequence[str], true: Sequence[str], groups: np.ndarray | None = None, bert=None,
    n_boot: int = 1000, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Exact match of the normalised answer, BLEU-1 to 4, ROUGE-L: one row a score, with its 95 %
    interval over `groups` (n,) (episodes) as columns score, value, low, high, n.

    BLEU-n is given up to the longest true answer: of one-word answers BLEU-4 means nothing.
    `bert`, a `text.bertscore.BertScorer`, adds BERTScore F1.
    """
    said, true = ([normalise(text) for text in texts] for texts in (said, true))
    exact = np.array([a == b for a, b in zip(said, true, strict=True)], dtype=float)
    columns = [overlap_counts(said, true), exact[:, None]]
    if bert is not None:
        columns.append(bert.score(said, true).f1[:, None])
    counts = np.concatenate(columns, axis=1)
    weights = bootstrap_weights(len(said), groups, n_boot, seed)
    values, draws = _scores_of(counts.sum(0)), _scores_of(weights @ counts)
    longest = max((len(words(text)) for text in true), default=0)
    rows = [
        (name, *interval(values[name], draws[name]), len(said))
        for name in values
        if not name.startswith("BLEU") or int(name[-1]) <= longest
    ]
    return pd.DataFrame(rows, columns=["score", "value", "low", "high", "n"])


def _scores_of(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Summed columns (..., N_COUNTS + 1 or 2) -> every score (...)."""
    n, rest = sums[..., N_COUNTS - 1], sums[..., N_COUNTS:]
    means = {
        name: rest[..., i] / np.maximum(n, 1e-12)
        for i, name in enumerate(("exact match", "BERTScore F1")[: rest.shape[-1]])
    }
    return means | overlap_scores(sums)
