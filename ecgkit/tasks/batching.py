"""Which items a training step sees: plain epochs, or batches of like with like.

Both depend on (seed, step) alone, so that a resumed run sees what an uninterrupted one would.

Usage:

    batch_indices(step, n_items=1000, batch_size=32, seed=0)                 # (32,)
    order = GroupedBatches(group=n_ecgs, length=n_tokens, batch_size=32, n_steps=600, seed=0)
    fit(..., batches=order)
"""

from __future__ import annotations

import math

import numpy as np

from ecgkit.types import ConfigError


def batch_indices(
    step: int, n_items: int, batch_size: int, seed: int, drop_last: bool = True
) -> np.ndarray:
    """The items of `step` (from 0): each epoch is a fresh permutation that depends on (seed, epoch)
    alone.
    """
    batch_size = min(batch_size, n_items)
    per_epoch = n_items // batch_size if drop_last else math.ceil(n_items / batch_size)
    epoch, position = divmod(step, per_epoch)
    order = np.random.default_rng([seed, 1, epoch]).permutation(n_items)
    return order[position * batch_size : (position + 1) * batch_size]


class GroupedBatches:
    """Batches whose items share a group and are of nearly one length: `order(step)` -> (B,).

    group (N,): e.g. the number of ECGs a question is about. length (N,): its tokens; 0 everywhere
    switches sorting off. Each step's group is drawn by `shares` {group: share}, by default the
    groups' sizes; inside a group items come in epochs, each item once. An epoch is shuffled, sorted
    by length inside windows of `window` batches, cut, and the batches shuffled. A group's last,
    incomplete batch is left out of the epoch; one smaller than a batch is drawn whole.
    `together` (N,), `run`: items of one `together` come `run` at a time, side by side (as far as
    `window` lets them), e.g. questions about one ECG, which is then encoded once.
    """

    def __init__(self, group, length, batch_size: int, n_steps: int, seed: int,
                 shares: dict | None = None, window: int = 32, together=None, run: int = 1):
        self.batch_size, self.seed, self.window = batch_size, seed, window
        self.length = np.asarray(length)
        self.together, self.run = None if together is None else np.asarray(together), run
        self.names, codes = np.unique(np.asarray(group), return_inverse=True)
        self.members = [np.flatnonzero(codes == g) for g in range(len(self.names))]
        weights = self._weights(shares)
        drawn = np.random.default_rng([seed, 3]).random(n_steps)
        self.group_of_step = np.searchsorted(np.cumsum(weights)[:-1], drawn, side="right")
        self._epochs = {}  # group -> (epoch, batches): the epoch that group is in

    def _weights(self, shares: dict | None) -> np.ndarray:
        sizes = np.array([len(m) for m in self.members], dtype=float)
        if shares is None:
            return sizes / sizes.sum()
        weights = np.array([float(shares.get(name, 0.0)) for name in self.names.tolist()])
        if weights.min() < 0 or weights.sum() <= 0:
            raise ConfigError(
                f"Shares of batches are {shares}; none may be negative, and one of the groups "
                f"{self.names.tolist()} must get some."
            )
        return weights / weights.sum()

    def __call__(self, step: int) -> np.ndarray:
        """The items of `step`, counted from 0; steps beyond `n_steps` start over."""
        step %= len(self.group_of_step)
        g = int(self.group_of_step[step])
        turn = int((self.group_of_step[:step] == g).sum())  # batches this group had before
        per_epoch = max(1, len(self.members[g]) // self.batch_size)
        epoch, position = divmod(turn, per_epoch)
        if self._epochs.get(g, (None,))[0] != epoch:
            self._epochs[g] = (epoch, self._cut(g, epoch))
        return self._epochs[g][1][position]

    def _cut(self, g: int, epoch: int) -> list[np.ndarray]:
        rng = np.random.default_rng([self.seed, 4, g, epoch])
        items = rng.permutation(self.members[g])
        if self.together is not None and self.run > 1:
            items = in_runs(items, self.together[items], self.run, rng)
        size = min(self.batch_size, len(items))
        items = items[: len(items) // size * size]
        reach = self.window * size
        items = np.concatenate([
            part[np.argsort(self.length[part], kind="stable")]
            for part in np.split(items, range(reach, len(items), reach))
        ])  # fmt: skip
        parts = items.reshape(-1, size)
        return list(parts[rng.permutation(len(parts))])


def in_runs(items: np.ndarray, of: np.ndarray, run: int, rng: np.random.Generator) -> np.ndarray:
    """`items` (n,) so that those of one `of` (n,) stand side by side, `run` at a time (or what is
    left of them), and the runs in a random order."""
    order = np.argsort(of, kind="stable")
    items, of = items[order], of[order]
    first = np.r_[True, of[1:] != of[:-1]]
    begins = np.flatnonzero(first)
    place = np.arange(len(items)) - np.repeat(begins, np.diff(np.r_[begins, len(items)]))
    which = np.cumsum(place % run == 0) - 1
    return items[np.argsort(rng.permutation(which[-1] + 1)[which], kind="stable")]
