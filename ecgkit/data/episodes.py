"""N-way K-shot episodes over ECG-QA questions, drawn lazily.

Two protocols (Tang et al., CHIL 2025):
- "sound": attributes of test episodes never stand in a training episode (by name: near-synonyms
  such as first degree block and a long PR interval may); an episode draws without replacement, and
  each of its questions is about another patient. With `same_question` its classes are answers to
  one question (verify: yes against no), so that the question alone gives nothing away;
- "reference": the published classes and minima over all splits, with the faults of the released
  loader as `quirks`: "with_replacement" (a question can be support and query at once),
  "shared_classes" (training and test share them), "episodes_twice" (2i and 2i + 1 are the same).
Conflicting templates are left out of both.

Usage:

    sampler = EpisodeSampler(questions, "single-verify", n_way=2, k_shot=5, n_query=5, part="test",
                             same_question=True)
    episode = sampler[0]          # seeded by its number: the same episode on every call and machine
    episode.support, episode.query           # positions in questions.table, (N * K,) and (N * Q,)
    sampler.ceiling(range(100))              # what the question alone gets right: 0.5
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ecgkit.data.episode_ceiling import QuestionView
from ecgkit.data.episode_classes import CONFLICTING, ClassKey, reference_keys, sound_keys
from ecgkit.data.episode_draws import Group
from ecgkit.data.episode_pools import TOO_FEW, Shape, find_pools
from ecgkit.data.episode_split import EpisodeSplit, divide
from ecgkit.types import ConfigError, DataError

__all__ = ["CONFLICTING", "Episode", "EpisodeSampler", "reference_keys", "sound_keys"]

EPISODE_QUIRKS = frozenset({"with_replacement", "shared_classes", "episodes_twice"})
_PARTS = ("train", "test", "seen")
_TRIES = 50


@dataclass(frozen=True)
class Episode:
    """One task. support (N*K,) and query (N*Q,) are positions in the question table, by class;
    support_class, query_class give the class 0..N-1 of each; names the N classes in words. With
    `repeats` the support of a class stands there r + 1 times: (N*K*(r+1),).
    """

    support: np.ndarray
    query: np.ndarray
    support_class: np.ndarray
    query_class: np.ndarray
    names: tuple[str, ...]


class EpisodeSampler:
    """Draws episodes lazily; `sampler[i]` depends on the arguments and `i` alone.

    question_type: one kind, or "all": each episode is of one of the three (reference without
    same_question: classes of all kinds mix, as published). part: "train", "test", or "seen", other
    episodes of training's classes. split: a division made before; else this sampler divides by
    split_by "attribute" (sound default) | "class" | "none" (reference default). splits, rows (N,)
    bool: which questions to draw from. min_samples: patients (reference: questions) a class must
    have, default k_shot + n_query (the published minima). mix_questions=False: support and query of
    a class are of one question_id. quirks: default all three under reference, none under sound.
    divided=False: everything, to make a division from.
    `skipped` lists what has too few. Raises ConfigError for settings that contradict each other,
    DataError when too few classes are left.
    """

    def __init__(
        self, questions, question_type: str = "single-verify", n_way: int = 5, k_shot: int = 5,
        n_query: int = 5, split_seed: int = 222, part: str = "train", protocol: str = "sound", *,
        split_by: str | None = None, same_question: bool = False, train_fraction: float = 0.8,
        min_samples: int | None = None, splits: tuple[str, ...] = ("train", "valid", "test"),
        rows: np.ndarray | None = None, split: EpisodeSplit | None = None, divided: bool = True,
        quirks: frozenset[str] | None = None, mix_questions: bool = True,
        keep_conflicting: bool = False, repeats: int = 0,
    ):  # fmt: skip
        sound = protocol == "sound"
        if quirks is None:
            quirks = frozenset() if sound else EPISODE_QUIRKS
        free = "none" if "shared_classes" in quirks else "class"
        split_by = split_by or ("attribute" if sound else free)
        _check(part, protocol, split_by, repeats, quirks)
        self.question_type, self.part, self.protocol = question_type, part, protocol
        self.n_way, self.k_shot, self.n_query, self.repeats = n_way, k_shot, n_query, repeats
        self.quirks, self._seed = quirks, (split_seed, _PARTS.index(part))
        self.shape = Shape(
            question_type, n_way, k_shot, n_query, sound, "with_replacement" not in quirks,
            same_question, split_by == "class", min_samples, mix_questions,
        )  # fmt: skip
        self.shape.check()
        self._table, self._view = questions.table, None
        self._patient = pd.factorize(self._table["patient1"])[0]
        keep = self._table["split"].isin(splits).to_numpy()
        keep = keep if rows is None else keep & rows
        keep &= self._table["question_type"].isin(self.shape.kinds).to_numpy()
        conflicting = self._table["template_id"].isin(CONFLICTING).to_numpy()
        self.n_conflicting, self._keeps = int((keep & conflicting).sum()), keep_conflicting
        keep = keep if keep_conflicting else keep & ~conflicting
        self.pools, self._groups, self.skipped = find_pools(
            self._table, keep, self._patient, self.shape
        )
        if divided and (split is not None or split_by != "none"):
            sides = (split.seen, split.unseen) if split else self._divide(train_fraction)
            mine = set(sides[part == "test"])
            self.pools = [pool.within(mine) for pool in self.pools]
        self._keep_askable()

    # --- classes ----------------------------------------------------------------------------------

    def _divide(self, train_fraction: float) -> tuple[set[str], set[str]]:
        pools = [pool for pool in self.pools if pool.enough]
        if not pools:
            self._refuse()
        return divide(pools, pools, train_fraction, self._seed[0])

    def _keep_askable(self) -> None:
        """Lets go of kinds without a single episode, and of classes no episode can meet."""
        lost = [(p.kind, len(p.bases), p.n_bases, "questions") for p in self.pools if not p.enough]
        self.pools = [pool for pool in self.pools if pool.enough]
        keys = sorted({key for pool in self.pools for base in pool.bases for key in base})
        if not keys:
            self._refuse()
        lost = pd.DataFrame(lost, columns=TOO_FEW)
        self.skipped = pd.concat([self.skipped, lost], ignore_index=True)
        self._groups = {key: self._groups[key] for key in keys}
        self.classes = {
            key: np.sort(np.concatenate([g.positions for g in groups]))
            for key, groups in self._groups.items()
        }
        self.units = {unit for key in keys for unit in key.units}

    def _refuse(self) -> None:
        shape = self.shape
        if not self._table["question_type"].isin(shape.kinds).any():
            raise DataError(f"There is no {' or '.join(shape.kinds)} question among these.")
        least = min(shape.minimum(kind) for kind in shape.kinds)
        need = f"{least[1]} patients" if shape.sound else f"{least[0]} or more questions"
        alike = "answers to one question" if shape.same_question else "classes"
        raise DataError(
            f"{self.question_type} ({self.part}) has too few {alike} of {need} each for a "
            f"{self.n_way}-way episode ({len(self.skipped)} classes have fewer): lower N_WAY, "
            f"K_SHOT or N_QUERY{'' if shape.sound else ' or MIN_SAMPLES'}, or give more questions."
            + self._conflicting_in_words()
        )

    # --- episodes ---------------------------------------------------------------------------------

    def __getitem__(self, number: int) -> Episode:
        """Episode `number` (0, 1, ...; there is no last one)."""
        if number < 0:
            raise IndexError(number)
        if "episodes_twice" in self.quirks:
            number -= number % 2
        rng = np.random.default_rng((*self._seed, number))
        for _ in range(_TRIES):
            keys = self._draw_classes(rng)
            groups = [self._draw_group(self._groups[key], rng) for key in keys]
            draw = self._draw_apart if self.shape.apart else self._draw_again
            drawn = draw(groups, rng)
            if drawn is not None:
                return self._episode(keys, drawn)
        raise DataError(
            f"No {self.n_way}-way episode with {self.shape.size} patients for each of "
            f"its classes came up in {_TRIES} tries; lower N_WAY, K_SHOT or N_QUERY."
        )

    def episodes(self, n: int, start: int = 0) -> Iterator[Episode]:
        return (self[number] for number in range(start, start + n))

    def _draw_classes(self, rng) -> list[ClassKey]:
        pool = self.pools[rng.integers(len(self.pools))]
        bases = rng.permutation(len(pool.bases))[: pool.n_bases]
        groups = [pool.bases[b] for b in bases]
        return [keys[i] for keys in groups for i in rng.permutation(len(keys))[: pool.per_base]]

    def _draw_group(self, groups: list[Group], rng) -> Group:
        return groups[rng.integers(len(groups))] if len(groups) > 1 else groups[0]

    def _draw_apart(self, groups: list[Group], rng) -> np.ndarray | None:
        """(N, K + Q) positions, every one of another patient; None where the patients run out."""
        size = self.shape.size
        drawn, taken = np.empty((len(groups), size), dtype=np.int64), np.empty(0, dtype=np.int64)
        # The scarcest class draws first, or the others would take its patients.
        for i in sorted(range(len(groups)), key=lambda i: len(groups[i].patients)):
            found = groups[i].draw(size, taken, rng)
            if found is None:
                return None
            drawn[i] = found[0]
            taken = np.concatenate([taken, found[1]])
        return drawn

    def _draw_again(self, groups: list[Group], rng) -> np.ndarray:
        return np.stack([group.draw_again(self.shape.size, rng) for group in groups])

    def _episode(self, keys, drawn: np.ndarray) -> Episode:
        support, query = drawn[:, : self.k_shot], drawn[:, self.k_shot :]
        support, ids = np.tile(support, self.repeats + 1), np.arange(self.n_way)
        return Episode(
            support.ravel(), query.ravel(), ids.repeat(support.shape[1]), ids.repeat(self.n_query),
            tuple(key.name for key in keys),
        )  # fmt: skip

    # --- looking ----------------------------------------------------------------------------------

    def ceiling(self, numbers: Iterable[int]) -> float:
        """What the question alone gets right, mean over these episodes (see `episode_ceiling`)."""
        return float(self.ceilings(numbers)["question"].mean())

    def ceilings(self, numbers: Iterable[int]) -> pd.DataFrame:
        """The same per episode: episode, question, wording (to one who sees the exact words)."""
        self._view = self._view or QuestionView(self._table)
        levels = ("question", "wording")
        rows = [(i, *(self._view.ceiling(self[i], level) for level in levels)) for i in numbers]
        return pd.DataFrame(rows, columns=["episode", *levels])

    def describe(self) -> pd.DataFrame:
        """One row per class of this part: name, unit it was split by, questions, ECG patients."""
        rows = [
            (key.name, key.unit, len(v), len(np.unique(self._patient[v])))
            for key, v in self.classes.items()
        ]
        return pd.DataFrame(rows, columns=["name", "unit", "questions", "patients"])

    def summary(self) -> str:
        """One line: what there is to draw from, and what was left out for want of questions."""
        n_questions = sum(map(len, self.classes.values()))
        line = (
            f"{self.question_type} ({self.part}): {len(self.classes)} classes about "
            f"{len(self.units)} attributes, {n_questions:,} questions"
        )
        if len(self.skipped):
            first = self.skipped.head(3).itertuples(index=False)
            named = "; ".join(f"{r.name} ({r.have} of {r.need} {r.of})" for r in first)
            line += f" · {len(self.skipped)} skipped, too few: {named}"
            line += " ..." if len(self.skipped) > 3 else ""
        return line + self._conflicting_in_words()

    def _conflicting_in_words(self) -> str:
        if not self.n_conflicting:
            return ""
        how = "kept" if self._keeps else "left out (KEEP_CONFLICTING=True keeps them)"
        return f" · {self.n_conflicting:,} questions of conflicting templates are {how}"


def _check(part: str, protocol: str, split_by: str, repeats: int, quirks: frozenset) -> None:
    if protocol not in ("sound", "reference"):
        raise ConfigError(f"PROTOCOL is {protocol!r}; choose sound or reference.")
    if part not in _PARTS or split_by not in ("attribute", "class", "none"):
        raise ConfigError("part is train, test or seen; split_by is attribute, class or none.")
    if repeats < 0 or quirks - EPISODE_QUIRKS:
        named = ", ".join(sorted(EPISODE_QUIRKS))
        raise ConfigError(f"REPEATS counts from 0, and an episode's quirks are {named}.")
    if quirks and protocol == "sound":
        raise ConfigError("The sound protocol has no QUIRKS; they are of PROTOCOL=reference.")
