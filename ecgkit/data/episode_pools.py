"""Which classes have enough questions for an episode, and which may meet in one.

Usage:

    shape = Shape("single-verify", n_way=2, k_shot=5, n_query=5, same_question=True)
    pools, groups, short = find_pools(questions.table, rows, patient, shape)
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ecgkit.data.episode_classes import (
    KINDS,
    REFERENCE_MINIMUM,
    ClassKey,
    find_classes,
    reference_keys,
    sound_keys,
)
from ecgkit.data.episode_draws import Group
from ecgkit.data.episode_split import Pool
from ecgkit.types import ConfigError

_REFERENCE_GROUP = 10  # questions of one question_id that the release asks for with dif_exp=0
TOO_FEW = ("name", "have", "need", "of")


@dataclass(frozen=True)
class Shape:
    """What an episode is, whatever it is about; the fields are those of `EpisodeSampler`."""

    question_type: str
    n_way: int
    k_shot: int
    n_query: int
    sound: bool = True
    apart: bool = True
    same_question: bool = False
    by_class: bool = False
    min_samples: int | None = None
    mix_questions: bool = True

    @property
    def size(self) -> int:
        return self.k_shot + self.n_query

    @property
    def kinds(self) -> tuple[str, ...]:
        return KINDS if self.question_type == "all" else (self.question_type,)

    def check(self) -> None:
        if self.question_type not in (*KINDS, "all"):
            kinds = ", ".join((*KINDS, "all"))
            raise ConfigError(f"QUESTION_TYPE is {self.question_type!r}; episodes take {kinds}.")
        if min(self.n_way, self.k_shot, self.n_query) < 1:
            raise ConfigError("N_WAY, K_SHOT and N_QUERY must be at least 1.")
        if self.same_question and KINDS[0] in self.kinds and self.n_way % 2:
            raise ConfigError(f"N_WAY is {self.n_way}; same_question needs it even (yes, no).")

    def minimum(self, kind: str) -> tuple[int, int]:
        """(questions, patients) a class of this kind must have."""
        if self.sound:
            return 1, max(self.min_samples or 0, self.size)
        questions = REFERENCE_MINIMUM[kind] if self.min_samples is None else self.min_samples
        return questions, self.size if self.apart else 1


def find_pools(
    table: pd.DataFrame, keep: np.ndarray, patient: np.ndarray, shape: Shape
) -> tuple[list[Pool], dict[ClassKey, list[Group]], pd.DataFrame]:
    """What each kind of question offers, how to draw from each class, and what has too few.

    keep (N,) bool: the questions to look at; patient (N,) codes. Classes of all kinds lie in one
    pool where the publication mixes them. The last, one row per class or question: name, have, need
    and of what.
    """
    kind_of, pools, groups, short = table["question_type"].to_numpy(), {}, {}, []
    for kind in shape.kinds:
        rows = np.flatnonzero(keep & (kind_of == kind))
        classes = find_classes(table, rows, sound_keys if shape.sound else reference_keys)
        ids = table["question_id"].to_numpy()
        usable, few = _usable(classes, kind, ids, patient, shape)
        groups |= usable
        short += few
        pools[kind] = sorted(usable)
    if not (shape.sound or shape.same_question):
        pools = {shape.question_type: sorted(groups)}
    found = []
    for kind, keys in pools.items():
        pool, few = _pool(kind, keys, shape)
        found.append(pool)
        short += few
    return found, groups, pd.DataFrame(short, columns=TOO_FEW)


def _usable(classes: dict, kind: str, ids, patient, shape: Shape) -> tuple[dict, list[tuple]]:
    """Class -> groups of questions an episode may mix; and the classes with too few."""
    usable, few = {}, []
    n_questions, n_patients = shape.minimum(kind)
    for key, positions in classes.items():
        key = key.alone() if shape.by_class else key
        groups = _groups(positions, ids, patient, shape)
        patients = max((len(g.patients) for g in groups), default=0)
        if len(positions) < n_questions:
            few.append((key.name, len(positions), n_questions, "questions"))
        elif not groups:
            few.append((key.name, 0, _REFERENCE_GROUP, "questions of one question_id"))
        elif patients < n_patients:
            few.append((key.name, patients, n_patients, "patients"))
        else:
            usable[key] = [g for g in groups if len(g.patients) >= n_patients]
    return usable, few


def _groups(positions: np.ndarray, ids: np.ndarray, patient, shape: Shape) -> list[Group]:
    if shape.mix_questions:
        return [Group(positions, patient)]
    own = ids[positions]
    parts = [positions[own == one] for one in np.unique(own)]
    least = 1 if shape.sound else _REFERENCE_GROUP
    return [Group(part, patient) for part in parts if len(part) >= least]


def _pool(kind: str, keys: list[ClassKey], shape: Shape) -> tuple[Pool, list[tuple]]:
    """Free draws take every class of one base; else a base is a question with enough answers."""
    if not shape.same_question:
        return Pool(kind, [keys] if len(keys) >= shape.n_way else [], shape.n_way, 1), []
    bases = defaultdict(list)
    for key in keys:
        bases[key.base].append(key)
    per_base = 2 if kind == "single-verify" else shape.n_way
    few = [(b, len(k), per_base, "answers") for b, k in bases.items() if len(k) < per_base]
    whole = [k for k in bases.values() if len(k) >= per_base]
    return Pool(kind, whole, per_base, shape.n_way // per_base), few
