"""Which ECGs a question can be put to, and how many of each answer it gets.

Text alone must neither give the answer away nor be worthless. A question's answers are drawn by
their frequency in the split to the power IMBALANCE (0: as often as each other; 1: as in the
cohort), and no answer makes up more than MOST of a question: a rare finding is answered "no" more
often than a common one, and a model without the ECG can learn so much. The published training
shard at hand holds 28, 31 and 35 % "yes" (templates 26-28); half of its 43 questions have exactly
two "no" for a "yes", the others 0 to 75 % "yes".

Usage:

    ask = verify(1, ["atrial fibrillation"], {"a": "atrial fibrillation"}, yes=rows, no=others)
    for ask, n in zip(asks, share_out([a.capacity for a in asks], weights, total)): ask.draw(n, rng)
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ecgkit.data.qa_leads import ABSENT, PRESENT, UNSURE

IMBALANCE, MOST = 0.3, 0.70
MIN_YES = 2  # an answer found in fewer ECGs of a split is not asked about there
MAX_LABELS = 6  # the longest answer ECG-QA has


@dataclass
class Ask:
    """One question (a template with its attribute) and the ECGs it can be put to, sorted by answer.

    groups: (answer, rows (m, 1) or (m, 2)). caps: how many of each group may be drawn. shares: in
    which proportion they are.
    """

    template_id: int
    attribute: list[str] | None
    slots: dict[str, str]
    groups: list[tuple[tuple[str, ...], np.ndarray]]
    caps: np.ndarray
    shares: np.ndarray
    key: tuple = field(init=False)

    def __post_init__(self):
        self.key = (self.template_id, *(self.attribute or ()), *self.slots.values())

    @property
    def capacity(self) -> int:
        return int(self.caps.sum())

    def draw(self, n: int, rng: np.random.Generator) -> list[tuple[tuple[str, ...], list[int]]]:
        """`n` (answer, rows) in random order, spread over the answers by their shares."""
        order = rng.permutation(len(self.caps))  # so that an odd one out falls to any answer
        counts = share_out(self.caps[order], self.shares[order], n)[np.argsort(order)]
        drawn = []
        for (answer, rows), count in zip(self.groups, counts):
            if count:
                chosen = rows[rng.choice(len(rows), count, replace=False)].tolist()
                drawn += [(answer, row) for row in chosen]
        return [drawn[i] for i in rng.permutation(len(drawn))]


def share_out(capacity, weights, total: int) -> np.ndarray:
    """(n,) int: how many each may take so that the sum is at most `total`, filled like water.

    Those with little give all they have; the rest share what is left by weight.
    """
    capacity, weights = np.asarray(capacity, float), np.asarray(weights, float)
    if capacity.sum() <= total:
        return capacity.astype(int)
    low, high = 0.0, float((capacity / weights).max())
    for _ in range(50):
        level = (low + high) / 2
        filled = np.minimum(capacity, level * weights).sum()
        low, high = (level, high) if filled < total else (low, level)
    counts = np.floor(np.minimum(capacity, high * weights) + 1e-6).astype(int)
    spare = np.flatnonzero(counts < capacity)[: max(total - counts.sum(), 0)]
    counts[spare] += 1
    return counts


def shares_of(sizes: np.ndarray, imbalance: float = IMBALANCE) -> np.ndarray:
    """(g,) proportions of answers found `sizes` times, the commonest at most MOST of all."""
    return _at_most(np.asarray(sizes, float) ** imbalance * (np.asarray(sizes) > 0))


def _at_most(amounts: np.ndarray) -> np.ndarray:
    """The largest of `amounts` cut down to the share MOST, unless it is the only one."""
    amounts = amounts.copy()
    top = amounts.argmax()
    others = amounts.sum() - amounts[top]
    if others:
        amounts[top] = min(amounts[top], MOST / (1 - MOST) * others)
    return amounts


# --- shapes of questions --------------------------------------------------------------------------


def verify(template_id: int, attribute, slots, yes, no, unsure=None, elsewhere=None) -> list[Ask]:
    """[Ask] that never gets more of an answer than goes with the scarcer of yes and no; [] where
    either is missing. elsewhere: more rows for a no, half of all where there are enough.
    """
    if len(yes) < MIN_YES or len(no) < MIN_YES:
        return []
    sizes = np.array([len(yes), len(no), 0 if unsure is None else len(unsure)])
    shares = shares_of(sizes)
    caps = np.ceil(shares * (sizes[:2] / shares[:2]).min())
    caps = np.minimum(_at_most(np.minimum(caps, sizes)), sizes)
    groups = [(("yes",), yes), (("no",), no), (("not sure",), unsure)]
    if elsewhere is not None and len(elsewhere):
        groups.append((("no",), elsewhere))
        half = min(caps[1] // 2, len(elsewhere))
        shares = np.append(shares, shares[1] * half / caps[1])
        caps = np.append(caps, half)
        shares[1], caps[1] = shares[1] - shares[3], caps[1] - half
    return _ask(template_id, attribute, slots, groups, caps, shares)


def _ask(template_id, attribute, slots, groups, caps, shares) -> list[Ask]:
    """[Ask] of the groups that may be drawn from, [] without."""
    kept = np.flatnonzero(np.floor(caps) > 0)
    groups = [groups[i] for i in kept]
    caps = np.floor(caps[kept]).astype(int)
    return [Ask(template_id, attribute, slots, groups, caps, shares[kept])] if len(kept) else []


def verify_state(template_id, rows, state, attribute, slots) -> list[Ask]:
    """Verify from (N,) states of `rows`."""
    yes, no, unsure = (rows[state[rows] == value][:, None] for value in (PRESENT, ABSENT, UNSURE))
    return verify(template_id, attribute, slots, yes, no, unsure)


def choose(template_id: int, rows, a: np.ndarray, b: np.ndarray, names, slots, answers=None):
    """[Ask] which of two is present: a, b (n,) states of `rows`. [] where one never is alone."""
    known = (a >= 0) & (b >= 0)
    one, two = answers or names
    cells = {(one,): (1, 0), (two,): (0, 1), (one, two): (1, 1), ("none",): (0, 0)}
    groups = [(w, rows[known & (a == i) & (b == j)][:, None]) for w, (i, j) in cells.items()]
    sizes = np.array([len(found) for _, found in groups])
    if min(sizes[:2]) < MIN_YES:
        return []
    sizes = np.minimum(sizes, max(sizes[:2]))  # or most would be none
    caps = _at_most(sizes.astype(float))
    return _ask(template_id, list(names), slots, groups, caps, shares_of(sizes))


def query(template_id: int, attribute, slots, rows, found, names) -> list[Ask]:
    """[Ask] for all that is present: found (n, K) bool per row of `rows` (n, 1 or 2); none = no
    name. [] where there is but one answer.
    """
    short = found.sum(axis=1) <= MAX_LABELS
    rows, found = rows[short], found[short]
    if not len(rows):
        return []
    patterns, which = np.unique(np.packbits(found, axis=1), axis=0, return_inverse=True)
    patterns = np.unpackbits(patterns, axis=1, count=found.shape[1])
    which = which.ravel()
    sizes = np.bincount(which)
    if len(sizes) < 2:
        return []
    parts = np.split(np.argsort(which, kind="stable"), np.cumsum(sizes)[:-1])
    groups = [
        (tuple(names[k] for k in np.flatnonzero(pattern)) or ("none",), rows[part])
        for pattern, part in zip(patterns, parts)
    ]
    caps = _at_most(sizes.astype(float))
    return _ask(template_id, attribute, slots, groups, caps, shares_of(sizes))
