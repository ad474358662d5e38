"""Finding the caption of an ECG, and the ECG of a caption: recall at k and the median place.

Many ECGs have the same caption word for word, so two ways are reported. `pairs`: each ECG has its
own caption, and the copies of it compete; a tie counts as what a random order of the tied would
give (half among two). `same text`: captions are the distinct texts, and an ECG of an identical
caption is as right as the other. The paper reports neither.

Letters: n ECGs, U distinct captions, Q queries, G candidates, D width.

Usage:

    texts = text_latents(model, tokenizer, captions, max_tokens=72)         # (n, D)
    table = retrieval_table("ESI", ecg_latents, texts, captions, patients, config)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from ecgkit.tasks.eval_tables import line, tidy
from ecgkit.tasks.metrics_multilabel import bootstrap_weights, interval, weighted_mean
from ecgkit.types import DataError

AT = (1, 5, 10)


@torch.no_grad()
def text_latents(
    model, tokenizer, texts: Sequence[str], max_tokens: int = 128, batch_size: int = 64
) -> np.ndarray:
    """(n, D) unit latents of `texts`; equal texts are encoded once, so that their ties are exact.
    """
    distinct = list(dict.fromkeys(texts))
    device, parts = next(model.parameters()).device, []
    model.eval()
    for i in range(0, len(distinct), batch_size):
        batch = tokenizer(distinct[i : i + batch_size], padding=True, truncation=True,
                          max_length=max_tokens, return_tensors="pt")  # fmt: skip
        ids, mask = batch["input_ids"].to(device), batch["attention_mask"].to(device)
        parts.append(model.encode_text(ids, mask)["text_latents"].float().cpu().numpy())
    at = {text: i for i, text in enumerate(distinct)}
    return np.concatenate(parts)[[at[text] for text in texts]]


def places(similarity: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(Q, G) scores, (Q, G) bool right answers -> (better, tied) (Q,): wrong candidates above the
    best right one, and those equal to it.

    Raises DataError where a query has no right answer.
    """
    if not right.any(1).all():
        raise DataError(f"{int((~right.any(1)).sum())} queries have no right answer.")
    best = np.where(right, similarity, -np.inf).max(1, keepdims=True)
    return ((similarity > best) & ~right).sum(1), ((similarity == best) & ~right).sum(1)


def hits_at(better: np.ndarray, tied: np.ndarray, k: int) -> np.ndarray:
    """(Q,) chance that the right answer is among the first k when ties are in random order."""
    return np.clip((k - better) / (tied + 1), 0, 1)


def chance_at(right: np.ndarray, k: int) -> float:
    """Recall at k of a random order, mean over queries (exact, hypergeometric)."""
    n, found = right.shape[1], right.sum(1)
    miss = np.ones(len(right))
    for i in range(min(k, n)):
        miss *= np.clip(n - found - i, 0, None) / (n - i)
    return float((1 - miss).mean())


def retrieval_table(
    name: str, ecg: np.ndarray, text: np.ndarray, captions: Sequence[str], patients: np.ndarray,
    config, note: str = "",
) -> pd.DataFrame:  # fmt: skip
    """Both directions, both ways: R@1, R@5, R@10, median place, each beside chance.

    ecg, text (n, D) unit latents of the same n ECGs; `captions` their texts. Intervals resample the
    queries' patients; the candidates stay. A distinct caption as a query counts as one patient's.
    """
    similarity = text @ ecg.T  # captions down, ECGs across
    _, first, group = np.unique(np.asarray(captions), return_index=True, return_inverse=True)
    own = np.eye(len(ecg), dtype=bool)
    of_text = group[None, :] == np.arange(len(first))[:, None]  # (U, n): ECGs of each text
    questions = {
        "ECG to text, pairs": (similarity.T, own, patients),
        "text to ECG, pairs": (similarity, own, patients),
        "ECG to text, same text": (similarity[first].T, of_text.T, patients),
        "text to ECG, same text": (similarity[first], of_text, None),
    }
    said = f"{len(ecg)} ECGs, {len(first)} distinct captions."
    lines = []
    for task, (scores, right, groups) in questions.items():
        lines += _lines(name, task, scores, right, groups, config, f"{note} {said}".strip())
    return tidy(lines)


def _lines(name, task, scores, right, groups, config, note) -> list[dict]:
    better, tied = places(scores, right)
    weights = bootstrap_weights(len(scores), groups, config.n_boot, config.seed)
    lines = []
    for k in AT:
        hits = hits_at(better, tied, k)
        value, low, high = interval(hits.mean(), weighted_mean(hits, weights))
        lines.append(line(name, task, f"R@{k}", value, low, high, n=len(hits), note=note))
        lines.append(line("chance", task, f"R@{k}", chance_at(right, k), n=len(hits)))
    place = 1 + better + tied / 2
    draws = np.array([_weighted_median(place, w) for w in weights])
    value, low, high = interval(np.median(place), draws)
    lines.append(line(name, task, "median place", value, low, high, n=len(place), note=note))
    return lines


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    return float(np.median(np.repeat(values, weights.astype(int)))) if weights.any() else np.nan
