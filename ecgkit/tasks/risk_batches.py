"""Batches of a Cox loss: each holds about the cohort's share of events, and at least one.

A batch without an event teaches nothing (its loss is 0), so `EventBatches` deals events and the
others to the batches of an epoch separately. `PublishedBatches` is the published sampler: the test
halves of StratifiedKFold with n // batch_size folds. Its faults, kept: the real batch is
n / (n // batch_size), up to twice what was asked for; a cohort below two batches is one batch of
everybody; a cohort below one batch is an AssertionError (here a ConfigError that says so); with
fewer events than batches some have none.

Usage:

    batches = EventBatches(event[train], batch_size=64, seed=0)
    batches(step)                               # (64,) positions, depends on (seed, step) alone
    fit(..., batches=batches)
"""

from __future__ import annotations

import warnings

import numpy as np

from ecgkit.types import ConfigError, DataError


def event_batches(event: np.ndarray, batch_size: int, seed: int, protocol: str = "paper"):
    """The sampler of `protocol`: EventBatches (paper) or PublishedBatches (reference)."""
    kind = PublishedBatches if protocol == "reference" else EventBatches
    return kind(event, batch_size, seed)


class EventBatches:
    """step -> (B,) positions in `event` (n,). B = batch_size, or n where the cohort is smaller.

    An epoch is n // B batches. Events are dealt in turn: each batch gets the share of the cohort,
    rounded down or up; where there are fewer events than batches, every batch gets one, drawn again
    once all were used. Raises DataError when nobody has the event.
    """

    def __init__(self, event: np.ndarray, batch_size: int, seed: int):
        event = np.asarray(event) > 0
        self.events, self.others = np.flatnonzero(event), np.flatnonzero(~event)
        if not len(self.events):
            raise DataError(
                f"None of the {len(event)} patients to train on has the event; a Cox loss compares "
                "those who had it with those still at risk."
            )
        self.size, self.seed = min(batch_size, len(event)), seed
        self.per_epoch = len(event) // self.size
        self._epoch = (-1, [])

    def __call__(self, step: int) -> np.ndarray:
        epoch, position = divmod(step, self.per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._deal(epoch))
        return self._epoch[1][position]

    def _deal(self, epoch: int) -> list[np.ndarray]:
        rng = np.random.default_rng([self.seed, 5, epoch])
        n = self.per_epoch
        share = len(self.events) / (len(self.events) + len(self.others)) * self.size
        # Batch i gets the whole events that the running total i * share passes.
        edges = np.floor(share * np.arange(n + 1) + rng.random()).astype(int)
        wanted = np.clip(np.diff(edges), 1, min(self.size, len(self.events)))
        events = _endless(self.events, wanted.sum(), rng)
        others = rng.permutation(self.others)
        batches, taken, rest = [], 0, 0
        for k in rng.permutation(wanted):
            fill = others[rest : rest + self.size - k]
            batch = np.concatenate([events[taken : taken + k], fill])
            batches.append(rng.permutation(batch))
            taken, rest = taken + k, rest + len(fill)
        return batches


def _endless(items: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """(n,) items in shuffled rounds: nobody comes again before all have come."""
    rounds = [rng.permutation(items) for _ in range(-(-int(n) // len(items)))]
    return np.concatenate(rounds)[:n]


class PublishedBatches:
    """step -> positions, by StratifiedKFold with n // batch_size folds (see the module).

    Raises ConfigError where the published code fails its assertion (fewer people than a batch).
    """

    def __init__(self, event: np.ndarray, batch_size: int, seed: int):
        event = (np.asarray(event) > 0).astype(int)
        n_folds = len(event) // batch_size
        if n_folds < 1:
            raise ConfigError(
                f"FINETUNE_BATCH is {batch_size} but {len(event)} patients train; the published "
                "sampler asserts that a batch fits. Lower FINETUNE_BATCH or take PROTOCOL = paper."
            )
        self.batches = stratified_folds(event, n_folds, seed)
        self.per_epoch = n_folds

    def __call__(self, step: int) -> np.ndarray:
        return self.batches[step % self.per_epoch]


def stratified_folds(event: np.ndarray, n_folds: int, seed: int) -> list[np.ndarray]:
    """The test parts of scikit-learn's shuffled StratifiedKFold: sorted positions, one per fold.

    With fewer events than folds some parts have none (scikit-learn's warning is not repeated).
    """
    from sklearn.model_selection import StratifiedKFold

    event = np.asarray(event).astype(int)
    if n_folds == 1:
        return [np.arange(len(event))]
    if n_folds > len(event):
        raise ConfigError(f"{len(event)} patients cannot fill {n_folds} folds; take fewer.")
    if np.bincount(event).max() < n_folds:
        raise ConfigError(f"{n_folds} folds are more than the patients with or without the event.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
        return [test for _, test in folds.split(np.zeros(len(event)), event)]
