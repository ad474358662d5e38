"""ECG-QA as columns: read from JSON once, then opened from the cache, memory-mapped where large.

Each distinct wording, list of answers and attribute is kept once; a question is a row of small
integers, about 25 bytes. A *kind* is one combination of template, types, answers and attribute.

Letters: N questions, M kinds.

Usage:

    table = open_table(open_shelf("ecg-qa.zip"), "paraphrased")
    table.ecg_id                                              # (N, 2), second -1 = about one ECG
    table.answers[table.kinds[table.kind[0], ANSWER]]         # answers of the first question
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit import runtime
from ecgkit.config.base import short_hash
from ecgkit.data.qa_reading import ATTRIBUTE_TYPES, QUESTION_TYPES, Shelf
from ecgkit.data.qa_shards import COLUMNS, DROPPED, FILES, ShardReader, small

VERSION = 1
TEMPLATE, TYPE, ATTRIBUTE_TYPE, ANSWER, ATTRIBUTE = range(5)  # columns of `QATable.kinds`
_ARRAYS = (*COLUMNS, "kinds")
_STRINGS = ("texts", "answers", "attributes")
_MAPPED_BYTES = 1 << 24  # larger columns stay on disk


@dataclass(frozen=True)
class QATable:
    """The usable questions of one flavour in file order, split by split.

    sample_id, question_id, split (position in SPLITS), kind, text (N,) integers; ecg_id (N, 2), the
    second -1 in questions about one ECG. kinds (M, 5): template_id, positions in QUESTION_TYPES and
    ATTRIBUTE_TYPES, positions in `answers` and `attributes`.
    dropped: one row per unusable question (DROPPED; -1 and '' where it does not say). files: one
    row per shard (FILES); a broken one has questions -1, as nobody knows how many it held.
    key: names files and flavour.
    """

    key: str
    sample_id: np.ndarray
    question_id: np.ndarray
    split: np.ndarray
    kind: np.ndarray
    text: np.ndarray
    ecg_id: np.ndarray
    kinds: np.ndarray
    texts: list[str]
    answers: list[list[str]]
    attributes: list[list[str] | None]
    dropped: pd.DataFrame
    files: pd.DataFrame

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def n_in(self) -> int:
        """Questions in all shards that could be read, = usable + dropped."""
        return len(self) + len(self.dropped)


def open_table(shelf: Shelf, flavour: str) -> QATable:
    """The table of one flavour, from the cache where these very files were read before.

    Raises DataError where there is no shard, no readable one, or no usable question in any.
    """
    stamps = shelf.place.stamps([shelf.root + name for name, _ in shelf.shards(flavour)])
    tables = [flavour, shelf.answers, sorted(shelf.valid.items())]
    key = short_hash([VERSION, shelf.place.path, shelf.label, *tables, list(stamps.items())])
    folder = runtime.cache_dir() / f"questions-{key}"
    runtime.write_once(folder, lambda scratch: write_table(scratch, read_table(shelf, flavour)))
    return load_table(folder, key)


def read_table(shelf: Shelf, flavour: str, key: str = "") -> QATable:
    """The table read from JSON, shard by shard, past the cache. Raises as `open_table` does."""
    reader = ShardReader(shelf)
    for name, split in shelf.shards(flavour):
        reader.add(name, split)
    columns, dropped, files = reader.finish(flavour)
    answers, attributes, kinds = {}, {}, []
    for template, question_type, attribute_type, answer, attribute, _ in reader.kinds:
        types = QUESTION_TYPES.index(question_type), ATTRIBUTE_TYPES.index(attribute_type)
        names = answers.setdefault(answer, len(answers))
        kinds.append((template, *types, names, attributes.setdefault(attribute, len(attributes))))
    lists = [[None if names is None else list(names) for names in d] for d in (answers, attributes)]
    kinds = small(np.array(kinds, dtype=np.int64))
    return QATable(key, **columns, kinds=kinds, texts=list(reader.texts), answers=lists[0],
                   attributes=lists[1], dropped=dropped, files=files)  # fmt: skip


def write_table(folder: Path, table: QATable) -> None:
    """Writes the arrays as .npy and all text as one compressed JSON file."""
    for name in _ARRAYS:
        np.save(folder / f"{name}.npy", getattr(table, name))
    text = {name: getattr(table, name) for name in _STRINGS}
    text |= {name: getattr(table, name).to_numpy().tolist() for name in ("dropped", "files")}
    raw = json.dumps(text, separators=(",", ":")).encode()
    (folder / "text.json.gz").write_bytes(gzip.compress(raw, compresslevel=5, mtime=0))


def load_table(folder: Path, key: str) -> QATable:
    """What `write_table` wrote; columns above 16 MiB stay on disk until they are used."""
    with runtime.reading_cached(folder):
        text = json.loads(gzip.decompress((folder / "text.json.gz").read_bytes()))
        arrays = {name: _open_array(folder / f"{name}.npy") for name in _ARRAYS}
    return QATable(key, **arrays, **{name: text[name] for name in _STRINGS},
                   dropped=pd.DataFrame(text["dropped"], columns=list(DROPPED)),
                   files=pd.DataFrame(text["files"], columns=list(FILES)))  # fmt: skip


def _open_array(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r" if path.stat().st_size > _MAPPED_BYTES else None)
