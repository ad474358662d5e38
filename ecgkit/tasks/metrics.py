"""Numbers a study reports, each a pure function of arrays, and their bootstrap intervals over
patients or episodes.

Many classes at once (tables, F-max, fast intervals) are in `metrics_multilabel`, the answers of
ECG-QA in `metrics_qa`, survival in `survival_metrics`.

Letters: n items, K classes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve of (n,) 0/1 `labels`, ties counted half; NaN when only one label
    occurs.
    """
    labels = np.asarray(labels) > 0.5
    n_positive, n_negative = int(labels.sum()), int((~labels).sum())
    if n_positive == 0 or n_negative == 0:
        return float("nan")
    from scipy.stats import rankdata

    ranks = rankdata(scores)
    return float(
        (ranks[labels].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)
    )


def class_aucs(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(K,) AUCs of (n, K) labels and scores, all columns ranked at once; NaN for a class with one
    label only.
    """
    from scipy.stats import rankdata

    labels = np.asarray(labels) > 0.5
    n_positive = labels.sum(0)
    n_negative = len(labels) - n_positive
    ranks = rankdata(np.asarray(scores), axis=0) if labels.size else np.zeros(labels.shape)
    above = np.where(labels, ranks, 0.0).sum(0) - n_positive * (n_positive + 1) / 2
    known = (n_positive > 0) & (n_negative > 0)
    pairs = np.where(known, n_positive * n_negative, 1)
    return np.where(known, above / pairs, np.nan)


def macro_auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Mean AUC over the classes that have both labels; NaN when none has."""
    values = class_aucs(labels, scores)
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def exact_match(
    labels: np.ndarray, scores: np.ndarray, valid: np.ndarray, threshold: float = 0.5
) -> np.ndarray:
    """(n,) True where every valid class of a question is predicted right (ECG-QA's exact match).

    labels (n, K) 0/1, scores (n, K) probabilities, valid (n, K) bool: the classes the question's
    template allows.
    """
    right = (np.asarray(scores) > threshold) == (np.asarray(labels) > 0.5)
    return (right | ~np.asarray(valid, dtype=bool)).all(axis=1)


def harrell_c(time: np.ndarray, event: np.ndarray, risk: np.ndarray) -> float:
    """Harrell's concordance: over pairs whose shorter time is an event, the share in which the
    higher risk failed first.

    Tied risks count half; pairs tied in time count only as event against censored, as in lifelines.
    NaN without pairs.
    """
    time, event, risk = (np.asarray(a, dtype=float) for a in (time, event, risk))
    first = event > 0.5
    # (E, n): row i is comparable to j when j outlived the event i, or was censored at that same
    # moment.
    comparable = (time[None, :] > time[first, None]) | (
        (time[None, :] == time[first, None]) & ~first[None, :]
    )
    gap = risk[first, None] - risk[None, :]
    n_pairs = comparable.sum()
    if n_pairs == 0:
        return float("nan")
    return float(((gap > 0) & comparable).sum() + 0.5 * ((gap == 0) & comparable).sum()) / float(
        n_pairs
    )


# --- intervals ------------------------------------------------------------------------------------


def bootstrap_mean(
    values: np.ndarray, groups: np.ndarray | None = None, n_boot: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """(mean, low, high): 95 % percentile interval; resamples whole `groups` (patients) where
    given.
    """
    values = np.asarray(values, dtype=float)
    if not len(values):
        return float("nan"), float("nan"), float("nan")
    _, codes = np.unique(np.arange(len(values)) if groups is None else groups, return_inverse=True)
    sums, counts = np.bincount(codes, values), np.bincount(codes)
    picks = np.random.default_rng(seed).integers(len(sums), size=(n_boot, len(sums)))
    means = sums[picks].sum(1) / counts[picks].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


def bootstrap_share(values: np.ndarray, groups: np.ndarray, n_boot: int = 1000):
    """`bootstrap_mean` of 0/1 values: where all are alike, every draw is too, and the limit is
    Clopper and Pearson's over the groups instead."""
    value, low, high = bootstrap_mean(values, groups, n_boot)
    if value in (0.0, 1.0):
        return value, *all_alike(value, len(np.unique(groups)))
    return value, low, high


def all_alike(value: float, n_groups: int) -> tuple[float, float]:
    """Clopper-Pearson's 95 % limits of a share that is 0 or 1 in all of `n_groups`."""
    reach = 1 - 0.025 ** (1 / n_groups)
    return (0.0, reach) if value == 0 else (1 - reach, 1.0)


def bootstrap_statistic(
    statistic: Callable[[np.ndarray], float],
    n_items: int,
    groups: np.ndarray | None = None,
    n_boot: int = 300,
    seed: int = 0,
) -> tuple[float, float, float]:
    """(value, low, high) of `statistic(indices)`: 95 % percentile interval over resampled items or
    groups.

    Draws on which the statistic is undefined (NaN: a class vanished) are left out.
    """
    everyone = np.arange(n_items)
    _, codes = np.unique(everyone if groups is None else groups, return_inverse=True)
    members = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(n_boot):
        picked = rng.integers(len(members), size=len(members))
        draws.append(statistic(np.concatenate([members[g] for g in picked])))
    draws = np.array(draws)[np.isfinite(draws)]
    low, high = np.percentile(draws, [2.5, 97.5]) if len(draws) else (np.nan, np.nan)
    return float(statistic(everyone)), float(low), float(high)
