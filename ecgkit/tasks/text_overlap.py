"""How much two texts overlap: BLEU-1 to 4 and ROUGE-L, from counts that add up over texts.

Corpus BLEU (Papineni et al. 2002) without smoothing: clipped n-gram matches and n-grams said are
summed over all texts first, then the geometric mean of the precisions, times the brevity penalty.
ROUGE-L (Lin 2004) is the F1 of the longest common subsequence, averaged over texts. Words are
lower-case runs of letters and digits.

Letters: n pairs of texts, R draws.

Usage:

    counts = overlap_counts(said, true)             # (n, COUNTS)
    overlap_scores(counts.sum(0))                   # {"BLEU-1": ..., "BLEU-4": ..., "ROUGE-L": ...}
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

N_GRAMS = 4
# Per pair: matches of 1 to 4 words, n-grams said of 1 to 4 words, words said, words true, ROUGE-L
# and one, so that a weighted sum of rows is all a corpus score needs.
N_COUNTS = 2 * N_GRAMS + 4


def words(text: str) -> list[str]:
    """Lower-case runs of letters and digits."""
    return re.findall(r"[a-z0-9]+", text.lower())


def overlap_counts(said: Sequence[str], true: Sequence[str]) -> np.ndarray:
    """(n, N_COUNTS) counts of each pair of texts."""
    return np.array([_counts(words(a), words(b)) for a, b in zip(said, true)]).reshape(-1, N_COUNTS)


def _counts(said: list[str], true: list[str]) -> list[float]:
    matches, totals = [], []
    for n in range(1, N_GRAMS + 1):
        mine, theirs = _ngrams(said, n), _ngrams(true, n)
        matches.append(sum((mine & theirs).values()))
        totals.append(sum(mine.values()))
    return [*matches, *totals, len(said), len(true), rouge_l(said, true), 1.0]


def _ngrams(text: list[str], n: int) -> Counter:
    return Counter(zip(*(text[i:] for i in range(n))))


def rouge_l(said: list[str], true: list[str]) -> float:
    """F1 of the longest common subsequence of two lists of words; 0 where either is empty."""
    if not said or not true:
        return 0.0
    row = [0] * (len(true) + 1)
    for word in said:
        before = row
        row = [0]
        for j, other in enumerate(true):
            row.append(before[j] + 1 if word == other else max(before[j + 1], row[j]))
    return 2 * row[-1] / (len(said) + len(true))


def overlap_scores(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of summed counts (..., N_COUNTS or more), each (...); BLEU-n is 0 where no n-gram
    matched.
    """
    matches, totals = sums[..., :N_GRAMS], sums[..., N_GRAMS : 2 * N_GRAMS]
    n_said, n_true, rouge, n = np.moveaxis(sums[..., 2 * N_GRAMS : N_COUNTS], -1, 0)
    precision = np.where(totals > 0, matches / np.where(totals > 0, totals, 1), 0)
    with np.errstate(divide="ignore"):
        logs = np.log(precision)  # -inf where nothing matched: BLEU is 0 then
    ratio = n_true / np.maximum(n_said, 1e-12)
    brevity = np.exp(np.minimum(0, 1 - ratio))
    scores = {f"BLEU-{k}": brevity * np.exp(logs[..., :k].mean(-1))
              for k in range(1, N_GRAMS + 1)}  # fmt: skip
    return scores | {"ROUGE-L": rouge / np.maximum(n, 1e-12)}
