"""Draws questions of one class, every one about another patient.

Letters: n questions of the class, P patients it has.

Usage:

    group = Group(positions, patient)               # patient: code of each row of the whole table
    drawn = group.draw(10, taken, rng)              # (positions, patients), or None: too few left
"""

from __future__ import annotations

import numpy as np


class Group:
    """The questions of a class, patient by patient."""

    def __init__(self, positions: np.ndarray, patient: np.ndarray):
        order = np.argsort(patient[positions], kind="stable")
        self.positions = positions[order]  # (n,)
        self.patients, self.starts, self.counts = np.unique(
            patient[self.positions], return_index=True, return_counts=True
        )  # (P,) each

    def __len__(self) -> int:
        return len(self.positions)

    def draw(self, size: int, taken: np.ndarray, rng) -> tuple[np.ndarray, np.ndarray] | None:
        """(size,) positions and their patients, none of whom is in `taken`; each patient is as
        likely, then each of their questions. None where fewer than `size` patients are left.
        """
        n = min(len(self.patients), size + len(taken))  # so many hold `size` that are not taken
        chosen = rng.choice(len(self.patients), n, replace=False)
        met = (self.patients[chosen][:, None] == taken).any(1)  # few: faster than np.isin
        chosen = chosen[~met][:size]
        if len(chosen) < size:
            return None
        at = self.starts[chosen] + (rng.random(size) * self.counts[chosen]).astype(np.int64)
        return self.positions[at], self.patients[chosen]

    def draw_again(self, size: int, rng) -> np.ndarray:
        """(size,) positions with replacement, as released."""
        return self.positions[rng.integers(len(self.positions), size=size)]
