"""Scores of answers whose tokens are known: the loss of few-shot answering, and what goes with it.

Letters: B rows, A answer tokens, V vocabulary.

Usage:

    scores = token_scores(reader(memory, prefix, targets), targets)
    scores["loss"].mean().backward()
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

IGNORE = -100  # a target that is padding


def token_scores(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Per row: `loss` mean cross-entropy over its targets, `log_likelihood` their sum, `exact` all
    of them the argmax, `tokens` the share of them that is.

    logits (B, A, V), targets (B, A) with IGNORE. With the end of text among the targets, `exact` is
    1 exactly when greedy decoding would write the answer and stop, so no decoding is needed to
    score it.
    """
    real = targets != IGNORE
    nll = F.cross_entropy(
        logits.transpose(1, 2), targets, ignore_index=IGNORE, reduction="none"
    )  # (B, A)
    right = (logits.argmax(-1) == targets) | ~real
    tokens = (right & real).sum(1) / real.sum(1)
    return {
        "loss": nll.sum(1) / real.sum(1),
        "log_likelihood": -nll.sum(1),
        "exact": right.all(1),
        "tokens": tokens,
    }
