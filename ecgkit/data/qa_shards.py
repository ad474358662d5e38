"""The JSON shards of ECG-QA -> columns of small integers, each question checked.

Millions of questions repeat a few thousand wordings and *kinds*: combinations of template, question
type, attribute type, answers, attribute and number of ECGs. A shard is checked by the kinds and
wordings it holds that were never met before; only a shard with something wrong is gone through
sample by sample. Broken shards are listed and passed over.

Usage:

    reader = ShardReader(shelf)
    for name, split in shelf.shards("paraphrased"):
        reader.add(name, split)
    columns, dropped, files = reader.finish("paraphrased")
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from operator import itemgetter

import numpy as np
import pandas as pd

from ecgkit.data.qa_reading import (
    KEYS,
    QUESTION_TYPES,
    SPLITS,
    BrokenShard,
    Shelf,
    is_wording,
    load_shard,
    problem,
)
from ecgkit.types import DataError

DROPPED = ("split", "sample_id", "question_type", "template_id", "reason", "sentence")
FILES = ("file", "split", "questions", "kept", "dropped", "reason", "sentence")
COLUMNS = ("sample_id", "question_id", "split", "kind", "text", "ecg_id")
# JSON types of the values of KEYS.
_TYPES = ({int}, {int}, {int}, {str}, {str}, {str}, {list}, {list}, {list, type(None)})


class ShardReader:
    """Columns of the shards read so far.

    texts: wording -> its number; kinds: (template_id, question_type, attribute_type, answers,
    attribute or None, number of ECGs) -> its number.
    """

    def __init__(self, shelf: Shelf):
        self.shelf = shelf
        self.texts: dict[str, int] = {}
        self.kinds: dict[tuple, int] = {}
        self._parts: list[dict[str, np.ndarray]] = []
        self._dropped: list[tuple] = []
        self._files: list[tuple] = []

    def add(self, name: str, split: str) -> None:
        """Reads one shard; one that cannot be used only adds a line to the files."""
        with no_collection():
            try:
                samples = load_shard(self.shelf, name)
            except BrokenShard as broken:
                self._files.append((name, split, -1, 0, 0, broken.reason, str(broken)))
                return
            part = self._columns(samples)
            if part is None:
                part = self._columns(self._sift(samples, name, split))
        kept = len(part["kind"])
        part["split"] = np.full(kept, SPLITS.index(split))
        self._parts.append({column: small(part[column]) for column in COLUMNS})
        self._files.append((name, split, len(samples), kept, len(samples) - kept, "", ""))

    def finish(self, flavour: str) -> tuple[dict, pd.DataFrame, pd.DataFrame]:
        """(COLUMNS -> arrays (N, ...), dropped questions, files); kept + dropped = read, asserted.

        Raises DataError where no question of any shard can be used.
        """
        files = pd.DataFrame(self._files, columns=list(FILES))
        if not files["kept"].sum():
            raise DataError(self._why_nothing(flavour))
        columns = {c: np.concatenate([part[c] for part in self._parts]) for c in COLUMNS}
        columns, repeats = self._without_repeats(columns, files)
        dropped = pd.DataFrame(self._dropped + repeats, columns=list(DROPPED))
        n_read = files["questions"].clip(lower=0).sum()
        assert n_read == len(columns["kind"]) + len(dropped), "a question was lost in reading"
        assert n_read == files["kept"].sum() + files["dropped"].sum(), "files do not add up"
        return columns, dropped, files

    # --- one shard --------------------------------------------------------------------------------

    def _sift(self, samples: list, name: str, split: str) -> list[dict]:
        """The usable samples; the others are listed."""
        kept = []
        for i, sample in enumerate(samples):
            wrong = problem(sample, self.shelf, f"{name}, sample {i}")
            if wrong is None:
                kept.append(sample)
            else:
                self._dropped.append((split, *identity(sample), *wrong))
        return kept

    def _columns(self, samples: list) -> dict[str, np.ndarray] | None:
        """Columns of the samples, or None if any of them cannot be used."""
        try:
            columns = list(zip(*map(itemgetter(*KEYS), samples))) or [()] * len(KEYS)
            if not all(set(map(type, c)) <= right for c, right in zip(columns, _TYPES)):
                return None
            return self._as_numbers(columns, samples)
        except (KeyError, TypeError, OverflowError):
            return None  # no such key; no dict, or a list inside a list; beyond 64 bits

    def _as_numbers(self, columns: list[tuple], samples: list) -> dict[str, np.ndarray] | None:
        template, question_id, sample_id, kind, about, text, answer, ecgs, attribute = columns
        n, n_ecgs = len(samples), list(map(len, ecgs))
        attribute = [names if names is None else tuple(names) for names in attribute]
        keys = list(zip(template, kind, about, map(tuple, answer), attribute, n_ecgs))
        flat = list(chain.from_iterable(ecgs))
        if not set(map(type, flat)) <= {int}:
            return None
        if not (self._know(keys, samples) and self._can_read(text)):
            return None
        return {
            "sample_id": np.fromiter(sample_id, np.int64, n),
            "question_id": np.fromiter(question_id, np.int64, n),
            "kind": np.fromiter(map(self.kinds.__getitem__, keys), np.int64, n),
            "text": np.fromiter(map(self.texts.__getitem__, text), np.int64, n),
            "ecg_id": _pairs(np.fromiter(flat, np.int64, len(flat)), np.array(n_ecgs, dtype=int)),
        }

    def _know(self, keys: list[tuple], samples: list[dict]) -> bool:
        """Whether all kinds are usable; new ones are checked, one sample each, and remembered."""
        new = {key: i for i, key in enumerate(keys) if key not in self.kinds}
        if any(problem(samples[i], self.shelf, "") for i in new.values()):
            return False
        self.kinds |= {key: number for number, key in enumerate(new, len(self.kinds))}
        return True

    def _can_read(self, texts: tuple[str, ...]) -> bool:
        """Whether all wordings are text; new ones are remembered."""
        new = [text for text in dict.fromkeys(texts) if text not in self.texts]
        if not all(map(is_wording, new)):
            return False
        self.texts |= {text: number for number, text in enumerate(new, len(self.texts))}
        return True

    # --- all shards -------------------------------------------------------------------------------

    def _without_repeats(self, columns: dict, files: pd.DataFrame) -> tuple[dict, list[tuple]]:
        """Drops all but the first question of each sample_id in a split, and corrects `files`."""
        ids = pd.DataFrame({c: columns[c] for c in ("split", "sample_id")})
        again = ids.duplicated().to_numpy()
        if not again.any():
            return columns, []
        of_file = np.repeat(np.arange(len(files)), files["kept"])[again]
        lost = np.bincount(of_file, minlength=len(files))
        files["kept"] -= lost
        files["dropped"] += lost
        kinds, repeats = list(self.kinds), []
        for file, split, number, kind in zip(
            files["file"].to_numpy()[of_file],
            *(columns[c][again].tolist() for c in ("split", "sample_id", "kind")),
        ):
            sentence = f"{file}: sample_id {number} stands before in this split; the first is kept."
            about = (SPLITS[split], number, kinds[kind][1], kinds[kind][0])
            repeats.append((*about, "duplicate_sample_id", sentence))
        return {c: array[~again] for c, array in columns.items()}, repeats

    def _why_nothing(self, flavour: str) -> str:
        label = self.shelf.label
        if self._dropped:
            n, first = len(self._dropped), self._dropped[0][-1]
            return f"{label}: none of its {n} questions can be used; the first: {first}"
        broken = [row[-1] for row in self._files if row[-1]]
        if broken:
            n = len(self._files)
            return f"{label}: none of its {n} {flavour} files can be used; the first: {broken[0]}"
        return f"{label} has no {flavour} questions; try the other FLAVOUR."


def small(array: np.ndarray) -> np.ndarray:
    """The same whole numbers in the smallest signed type that holds them."""
    if not array.size:
        return array.astype(np.int8)
    low, high = int(array.min()), int(array.max())
    kinds = (np.int8, np.int16, np.int32, np.int64)
    return array.astype(next(k for k in kinds if np.iinfo(k).min <= low <= high <= np.iinfo(k).max))


def _pairs(ids: np.ndarray, n_ecgs: np.ndarray) -> np.ndarray:
    """Ids one after another, 1 or 2 a question -> (n, 2), an absent second one -1."""
    first = np.cumsum(n_ecgs) - n_ecgs
    pairs = np.full((len(n_ecgs), 2), -1, dtype=np.int64)
    pairs[:, 0] = ids[first]
    pairs[n_ecgs == 2, 1] = ids[first[n_ecgs == 2] + 1]
    return pairs


def identity(sample) -> tuple[int, str, int]:
    """sample_id, question_type, template_id as far as the sample says them, else -1 and ''."""
    said = sample if isinstance(sample, dict) else {}
    numbers = [said.get(key) for key in ("sample_id", "template_id")]
    numbers = [v if type(v) is int and abs(v) < 2**63 else -1 for v in numbers]
    kind = said.get("question_type")
    return numbers[0], kind if kind in QUESTION_TYPES else "", numbers[1]


@contextmanager
def no_collection() -> Iterator[None]:
    """Where only objects that live on are made, looking for garbage among them doubles the time."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()
