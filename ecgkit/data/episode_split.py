"""Who is kept apart between meta-training and meta-test, frozen in a file.

The division is by name over all templates: an attribute of a verify or choose question, an answer
of a query. A class is of a side when all its names are; one that names both sides is left out.

Letters: a `Pool` is what one kind of question offers, a base the classes of one question.

Usage:

    seen, unseen = divide(train_pools, test_pools, train_fraction=0.8, seed=222)
    split.save(folder / "split.json")
    split = read_split(folder / "split.json", questions)
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np

from ecgkit.config.base import short_hash
from ecgkit.data.episode_classes import ClassKey
from ecgkit.data.episode_families import with_families
from ecgkit.types import DataError


@dataclasses.dataclass(frozen=True)
class Pool:
    """Questions of one kind. An episode takes `n_bases` of `bases` and `per_base` classes of each;
    a free draw takes all its classes of one base, which holds every class.
    """

    kind: str
    bases: list[list[ClassKey]]
    per_base: int
    n_bases: int

    @property
    def enough(self) -> bool:
        return len(self.bases) >= self.n_bases

    @property
    def units(self) -> set[str]:
        return {unit for keys in self.bases for key in keys for unit in key.units}

    def within(self, units: set[str]) -> Pool:
        """What is left when every class must be about `units` alone."""
        kept = [[key for key in keys if units.issuperset(key.units)] for keys in self.bases]
        return dataclasses.replace(self, bases=[k for k in kept if len(k) >= self.per_base])


# --- dividing -------------------------------------------------------------------------------------


def divide(
    train: list[Pool], test: list[Pool], train_fraction: float = 0.8, seed: int = 222,
    families: bool = False,
) -> tuple[set[str], set[str]]:  # fmt: skip
    """(seen, unseen): the names meta-training may use, and those kept for the test.

    train, test: what each part could ask about undivided, the same kinds in the same order. Unseen
    are about 1 - train_fraction of the names of training, drawn question by question so that the
    unseen part can ask: a question with enough answers for both sides keeps them on both.
    families: near-synonyms stay on one side (see `episode_families`). Raises DataError where one
    side would have no episode.
    """
    rng = np.random.default_rng(seed)
    known = set().union(*(pool.units for pool in train))
    test = [pool.within(known) for pool in test]
    n_unseen = len(known) - int(train_fraction * len(known))
    blocks = [
        (pool, [keys[i] for i in rng.permutation(len(keys))])
        for pool in test
        for keys in (pool.bases[b] for b in rng.permutation(len(pool.bases)))
    ]
    unseen: set[str] = set()
    widen = (lambda names: with_families(names, known)) if families else set
    while new := _next_names(blocks, unseen, known, n_unseen, train, test, widen):
        unseen |= new
    if not unseen or not all(pool.within(unseen).enough for pool in test):
        raise DataError(
            f"{len(known)} attributes are too few to keep some for the test alone; give more "
            "questions, or lower N_WAY, K_SHOT or N_QUERY."
        )
    return known - unseen, unseen


def _next_names(blocks, unseen, known, n_unseen, train, test, widen) -> set[str]:
    """The fewest further names that let the unseen part ask more; empty where it is large enough or
    the seen part would get too small. Kinds that cannot be asked yet come first.
    """
    lacking = [pool.kind for pool in test if not pool.within(unseen).enough]
    options = []
    for pool, keys in blocks:
        if lacking and pool.kind not in lacking:
            continue
        inside = [key for key in keys if unseen.issuperset(key.units)]
        outside = [key for key in keys if not unseen.issuperset(key.units)]
        more = outside[: max(1, pool.per_base - len(inside))]
        names = {unit for key in more for unit in key.units} - unseen
        new = widen(names) - unseen
        if new and (lacking or len(unseen | new) <= n_unseen):
            options.append((len(names), new))
    for _, new in sorted(options, key=lambda option: option[0]):
        if _leaves_enough(known - unseen - new, train, test):
            return new
    return set()


def _leaves_enough(seen: set[str], train: list[Pool], test: list[Pool]) -> bool:
    if not all(pool.within(seen).enough for pool in [*train, *test]):
        return False
    for pool in test:
        for keys in pool.bases:  # a question with enough answers for both sides keeps half of them
            left = sum(seen.issuperset(key.units) for key in keys)
            if len(keys) >= 2 * pool.per_base and left < len(keys) / 2:
                return False
    return True


# --- keeping --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class EpisodeSplit:
    """The names of both sides. records: who asks about which ECGs, `split` (ECG-QA's), `half`,
    `shared` or `other source`; questions: fingerprint of what was divided; how: in words.
    """

    seen: tuple[str, ...]
    unseen: tuple[str, ...]
    seed: int
    protocol: str
    split_by: str
    question_type: str
    records: str
    questions: str
    how: str

    def save(self, path: str | Path) -> Path:
        path = Path(path)
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False) + "\n")
        return path


def read_split(path: str | Path, *questions) -> EpisodeSplit:
    """A saved division of just these questions (training's, and the test's where they are others).

    Raises DataError: no such file, not a division, or one of another question set.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"There is no file {path}; give the split.json of an earlier run.")
    try:
        found = json.loads(path.read_text())
        sides = {name: tuple(found.pop(name)) for name in ("seen", "unseen")}
        split = EpisodeSplit(**sides, **found)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(
            f"{path} is not a division of attributes; give the split.json of an earlier run."
        ) from None
    if split.questions != fingerprint(*questions):
        raise DataError(
            f"{path} divides another set of questions ({split.question_type}, seed {split.seed}); "
            "give the same DATA, ECGQA and QUESTION_TYPE as that run, or let a new one be made."
        )
    return split


def fingerprint(*questions) -> str:
    """Twelve hex digits of which samples were asked; wording does not count."""
    parts = []
    for one in questions:
        columns = [one.table[c].astype(str) for c in ("split", "template_id", "question_id")]
        rows = columns[0].str.cat(columns[1:], sep=" ")
        rows = rows.str.cat(one.table["answer"].map(", ".join), sep=" ")
        parts.append(hashlib.sha256("\n".join(rows).encode()).hexdigest())
    return short_hash(parts)
