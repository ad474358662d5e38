"""N-way K-shot episodes over ECG-QA questions: a class is a question with its answer fixed.

Two protocols (Tang et al., CHIL 2025):
- "sound": attributes of test episodes never stand in a training episode (by name: near-synonyms
  such as first degree block and a long PR interval may); an episode draws without replacement, and
  each of its questions is about another patient;
- "reference": as the released loader works: conflicting templates left out, classes shared by
  training and test, draws with replacement, so a question can be support and query at once.

Usage:
    sampler = EpisodeSampler(questions, "single-verify", n_way=2, k_shot=5, n_query=5, part="test")
    episode = sampler[0]          # seeded by its number: the same episode on every call and machine
    episode.support, episode.query           # positions in questions.table, (N * K,) and (N * Q,)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ecgkit.types import ConfigError, DataError

# Their class key does not tell questions apart (which lead, with or without uncertain findings).
CONFLICTING = (4, 14, 17, 26, 28, 31, 40)
REFERENCE_MINIMUM = {"single-verify": 140, "single-choose": 14, "single-query": 50}
_PARTS = ("train", "test")
_TRIES = 50


@dataclass(frozen=True)
class Episode:
    """One task. support (N*K,) and query (N*Q,) are positions in the question table, by class;
    support_class, query_class give the class 0..N-1 of each; names the N classes in words.
    """

    support: np.ndarray
    query: np.ndarray
    support_class: np.ndarray
    query_class: np.ndarray
    names: tuple[str, ...]


class EpisodeSampler:
    """Draws episodes lazily; `sampler[i]` depends on the arguments and `i` alone.

    split_by: "attribute" (sound default) | "class" | "none" (reference default) keeps test classes
    apart from training ones. same_attribute: the answers of an episode belong to the same question
    (verify: yes against no, n_way / 2 questions). splits: which splits of ECG-QA to draw from; the
    publication pools all three. min_samples: patients (reference: samples) a class must have;
    default n_query + k_shot, and the published minima for the reference protocol.
    `skipped` lists classes with too few. Raises DataError when too few classes are left.
    """

    def __init__(
        self, questions, question_type: str = "single-verify", n_way: int = 5, k_shot: int = 5,
        n_query: int = 5, split_seed: int = 222, part: str = "train", protocol: str = "sound", *,
        split_by: str | None = None, same_attribute: bool = False, train_fraction: float = 0.8,
        min_samples: int | None = None, splits: tuple[str, ...] = ("train", "valid", "test"),
    ):  # fmt: skip
        self.n_way, self.k_shot, self.n_query = n_way, k_shot, n_query
        self.question_type, self.part, self.protocol = question_type, part, protocol
        self.same_attribute = same_attribute
        self.split_by = split_by or ("attribute" if self.sound else "none")
        self._check()
        need = n_query + k_shot if self.sound else REFERENCE_MINIMUM[question_type]
        self._need = need if min_samples is None else min_samples
        self._seed = (split_seed, _PARTS.index(part))
        table = questions.table
        keep = (table["question_type"] == question_type) & table["split"].isin(splits)
        self._patient = table["patient1"].to_numpy()
        self.classes, self.skipped = self._usable(self._sort(table[keep]))
        if same_attribute:  # only questions with enough answers count, also for the split
            self.classes = {k: self.classes[k] for keys in self._by_base() for k in keys}
        self.units = self._of_part(split_seed, train_fraction)
        self.classes = {k: v for k, v in self.classes.items() if k.unit in self.units}
        self._keys, self._bases = sorted(self.classes), self._by_base()
        self._refuse_too_few()

    @property
    def sound(self) -> bool:
        return self.protocol == "sound"

    # --- classes ----------------------------------------------------------------------------------

    def _check(self) -> None:
        if self.protocol not in ("sound", "reference"):
            raise ConfigError(f"PROTOCOL is {self.protocol!r}; choose sound or reference.")
        if self.question_type not in REFERENCE_MINIMUM:
            kinds = ", ".join(REFERENCE_MINIMUM)
            raise ConfigError(f"QUESTION_TYPE is {self.question_type!r}; episodes take {kinds}.")
        if self.part not in _PARTS or self.split_by not in ("attribute", "class", "none"):
            raise ConfigError("part is train or test; split_by is attribute, class or none.")
        if min(self.n_way, self.k_shot, self.n_query) < 1:
            raise ConfigError("N_WAY, K_SHOT and N_QUERY must each be at least 1.")
        if self.same_attribute and self.question_type == "single-verify" and self.n_way % 2:
            raise ConfigError(f"N_WAY is {self.n_way}; same_attribute needs it even (yes, no).")

    def _sort(self, table: pd.DataFrame) -> dict[ClassKey, list[int]]:
        """Class -> positions of its questions, in table order."""
        found = defaultdict(list)
        columns = table[["template_id", "question_id", "attribute_type", "attribute", "answer"]]
        for position, row in zip(table.index.tolist(), columns.itertuples(index=False)):
            if not self.sound and row.template_id in CONFLICTING:
                continue
            keys = sound_keys(*row) if self.sound else reference_keys(*row)
            for key in keys:
                found[key].append(position)
        return found

    def _usable(self, classes: dict) -> tuple[dict, pd.DataFrame]:
        """Classes with enough to draw from, and a table (name, have, need) of the others."""
        kept, short = {}, []
        for key, positions in classes.items():
            positions = np.array(positions)
            have = len(np.unique(self._patient[positions])) if self.sound else len(positions)
            if have >= self._need:
                kept[key] = positions
            else:
                short.append((key.name, have, self._need))
        return kept, pd.DataFrame(short, columns=["name", "have", "need"])

    def _of_part(self, seed: int, train_fraction: float) -> set:
        """What this part may ask about: attributes or classes, 80 % for training as published."""
        if self.split_by == "class":
            self.classes = {k.alone(): v for k, v in self.classes.items()}
        units = sorted({key.unit for key in self.classes})
        if self.split_by == "none" or len(units) < 2:
            return set(units)
        n_train = min(max(int(train_fraction * len(units)), 1), len(units) - 1)
        order = np.random.default_rng(seed).permutation(len(units))
        chosen = order[:n_train] if self.part == "train" else order[n_train:]
        return {units[i] for i in chosen}

    def _by_base(self) -> list[list[ClassKey]]:
        """Classes of one question together, where enough of its answers can be drawn."""
        bases = defaultdict(list)
        for key in sorted(self.classes):
            bases[key.base].append(key)
        return [keys for keys in bases.values() if len(keys) >= self._per_base]

    @property
    def _per_base(self) -> int:
        """Classes of one question in an episode with same_attribute: yes and no, or all of them."""
        return 2 if self.question_type == "single-verify" else self.n_way

    def _refuse_too_few(self) -> None:
        have = len(self._bases) * self._per_base if self.same_attribute else len(self._keys)
        if have < self.n_way:
            raise DataError(
                f"{self.question_type} ({self.part}) has {have} classes of {self._need} or more; "
                f"N_WAY is {self.n_way} ({len(self.skipped)} classes have fewer): lower N_WAY, "
                "K_SHOT or N_QUERY, or give more questions."
            )

    # --- episodes ---------------------------------------------------------------------------------

    def __getitem__(self, number: int) -> Episode:
        """Episode `number` (0, 1, ...; there is no last one)."""
        if number < 0:
            raise IndexError(number)
        rng = np.random.default_rng((*self._seed, number))
        for _ in range(_TRIES):
            keys = self._draw_classes(rng)
            drawn = self._draw_apart(keys, rng) if self.sound else self._draw_again(keys, rng)
            if drawn is not None:
                return self._episode(keys, drawn)
        raise DataError(
            f"No {self.n_way}-way episode with {self.k_shot + self.n_query} patients for each of "
            f"its classes came up in {_TRIES} tries; lower N_WAY, K_SHOT or N_QUERY."
        )

    def episodes(self, n: int, start: int = 0) -> Iterator[Episode]:
        return (self[number] for number in range(start, start + n))

    def _draw_classes(self, rng) -> list[ClassKey]:
        if not self.same_attribute:
            return [self._keys[i] for i in rng.permutation(len(self._keys))[: self.n_way]]
        per = self._per_base
        bases = rng.permutation(len(self._bases))[: self.n_way // per]
        groups = [self._bases[b] for b in bases]
        return [group[i] for group in groups for i in rng.permutation(len(group))[:per]]

    def _draw_apart(self, keys, rng) -> np.ndarray | None:
        """(N, K + Q) positions, every one of another patient; None where the patients run out."""
        size, used, drawn = self.k_shot + self.n_query, set(), []
        # The scarcest class draws first, or the others would take its patients.
        for key in sorted(keys, key=lambda k: len(self.classes[k])):
            positions = self.classes[key]
            mine = []
            for position in positions[rng.permutation(len(positions))].tolist():
                if self._patient[position] not in used and len(mine) < size:
                    used.add(self._patient[position])
                    mine.append(position)
            if len(mine) < size:
                return None
            drawn.append((keys.index(key), mine))
        return np.array([mine for _, mine in sorted(drawn)])

    def _draw_again(self, keys, rng) -> np.ndarray:
        """(N, K + Q) positions with replacement, as released."""
        size = self.k_shot + self.n_query
        return np.stack([rng.choice(self.classes[key], size) for key in keys])

    def _episode(self, keys, drawn: np.ndarray) -> Episode:
        support, query = drawn[:, : self.k_shot], drawn[:, self.k_shot :]
        ids = np.arange(self.n_way)
        return Episode(
            support.ravel(), query.ravel(), ids.repeat(self.k_shot), ids.repeat(self.n_query),
            tuple(key.name for key in keys),
        )  # fmt: skip

    def describe(self) -> pd.DataFrame:
        """One row per class of this part: name, unit it was split by, questions, ECG patients."""
        rows = [
            (key.name, key.unit, len(v), len(np.unique(self._patient[v])))
            for key, v in sorted(self.classes.items())
        ]
        return pd.DataFrame(rows, columns=["name", "unit", "questions", "patients"])


# --- class keys -----------------------------------------------------------------------------------


@dataclass(frozen=True, order=True)
class ClassKey:
    """base: the question in words; answer: the fixed answer; unit: what the split keeps apart."""

    base: str
    answer: str
    unit: str

    @property
    def name(self) -> str:
        return f"{self.base} = {self.answer}"

    def alone(self) -> ClassKey:
        """The same class, split by itself."""
        return ClassKey(self.base, self.answer, self.name)


def sound_keys(template_id, question_id, attribute_type, attribute, answer) -> list[ClassKey]:
    """[the class of one question]; [] for "not sure" and for comparisons, which name no attribute.

    Split units: verify, the attribute (of a measurement all its ranges together); choose, the pair;
    query, the answer, since its candidates are always the same.
    """
    if answer == ["not sure"] or not attribute:
        return []
    given = ", ".join(sorted(answer))
    base = f"{template_id}: {' / '.join(attribute)}"
    if template_id in CONFLICTING:
        base += f" (question {question_id})"
    if len(attribute) == 1:
        numeric = attribute_type == "numeric_feature"
        unit = attribute[0].split(" of ")[-1] if numeric else attribute[0]
    elif len(attribute) == 2:
        unit = " / ".join(sorted(attribute))
    else:
        unit = given
    return [ClassKey(base, given, unit)]


def reference_keys(template_id, question_id, attribute_type, attribute, answer) -> list[ClassKey]:
    """The published keys: template + attribute(s) + answer. A choose question answered by neither
    option falls into one class per option; answered by one option, it forgets the other."""
    if answer == ["not sure"] or not attribute:
        return []
    if len(attribute) == 2 and answer == ["none"]:
        bases = [(name,) for name in attribute]
    elif len(attribute) == 2 and len(answer) == 1:
        bases = [tuple(answer)]
    else:
        bases = [tuple(attribute)]
    given = ", ".join(answer)
    keys = [ClassKey(f"{template_id}: {' / '.join(base)}", given, "") for base in bases]
    return [ClassKey(key.base, key.answer, key.base) for key in keys]
