"""Questions and grounding table -> the files of the published training code (ecgqa.md 2.1, 2.2).

    <folder>/train.tsv, valid.tsv, test.tsv    manifests: a root line, then one line per file
             train/0.mat, 1.mat, ...           one question each, MATLAB v5, uncompressed
             train/17_entire.mat, 17_0_1.mat   or one ECG and lead set each (the grounding table)
             answers.csv / grounding_class.csv what the numbers stand for

For people who still train with the older code; the kit itself reads none of this but to import it
(`published_import`). No signal is written: each file holds the path of its recordings.
A question whose recording cannot be used is left out and listed: in = written + left out.

Usage:

    export = export_questions(questions, cohort, "qa_files", count_tokens=tokens_of)
    export.summary(), export.left_out
    export_grounding(grounding, cohort, "grounding_files")
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.io import savemat

from ecgkit.data.grounding import Grounding
from ecgkit.data.grounding_leads import attribute_name
from ecgkit.data.place import Folder
from ecgkit.data.qa_reading import SPLITS
from ecgkit.types import LEADS, DataError

_BLOCK = 4096  # a file of less takes this much on most disks
_LEFT_OUT = ["split", "ecg_id", "reason", "sentence"]


@dataclass(frozen=True)
class Export:
    """What an export wrote: n_in = written + left_out; `files`: split, files, bytes, disk_bytes."""

    folder: Path
    n_in: int
    files: pd.DataFrame
    left_out: pd.DataFrame

    @property
    def n_written(self) -> int:
        return int(self.files["files"].sum())

    def summary(self) -> str:
        """One line: files, their size, and why others were not written."""
        reasons = self.left_out["reason"].value_counts()
        why = ", ".join(f"{n} {reason}" for reason, n in reasons.items()) or "none"
        size, disk = self.files["bytes"].sum() / 1e6, self.files["disk_bytes"].sum() / 1e6
        return (
            f"{self.folder.name}: {self.n_written} of {self.n_in} written as .mat, {size:.1f} MB "
            f"({disk:.1f} MB in blocks of 4 kB) · left out: {why}"
        )


class LeftOut(Exception):
    """A recording that the published code could not read, as (reason, sentence)."""


def count_words(text: str) -> int:
    """Words + 2, a stand-in for a tokenizer's count with its first and last token."""
    return len(text.split()) + 2


def record_paths(cohort, root: str | Path | None = None) -> list[str]:
    """The WFDB path (absolute, no extension) of each stored recording, in the store's row order.

    root: the folder the source's own tree lies in; None = the folder the cohort was opened from.
    Raises DataError where that is a .zip, into which no path leads, and for a root without them.
    """
    if root is None:
        if not isinstance(cohort.place, Folder):
            raise DataError(
                f"The recordings lie inside {cohort.place.label}, where the published code cannot "
                "read them; unpack it and give that folder as root."
            )
        root = cohort.place.root
    root = Path(root).absolute()
    names = cohort.table["source_name"]
    if not Path(f"{root / names.iloc[0]}.hea").exists():
        raise DataError(
            f"There is no {names.iloc[0]}.hea in {root}; give the folder that the unpacked "
            "recordings lie in as root."
        )
    return [str(root / name) for name in names]


# --- questions ------------------------------------------------------------------------------------


def export_questions(
    questions,
    cohort,
    folder: str | Path,
    *,
    count_tokens: Callable[[str], int] = count_words,
    root: str | Path | None = None,
    attributes: list[str] | None = None,
    per_question_wfdb: bool = False,
) -> Export:
    """Writes one .mat per question and a manifest per split into `folder`.

    count_tokens: question -> its length in tokens (the published code: bert-base-uncased with both
    special tokens; default `count_words`). attributes: the list `attribute_id` counts in; None = as
    published, the sorted attributes of that split's verify questions, so ids shift between subsets.
    per_question_wfdb=True reads every recording of every question with `wfdb`, as published, for
    its length and its missing samples; else both are taken from the store.
    Raises DataError for recordings inside a .zip without `root`, for a `root` without them, and for
    a folder that holds a manifest.
    """
    folder = _empty(folder)
    table = questions.table
    recordings = _Wfdb(cohort, root) if per_question_wfdb else _Stored(cohort, root)
    _write_csv(folder / "answers.csv", ("index", "class"), enumerate([*questions.classes, "none"]))
    class_of = {name: k for k, name in enumerate(questions.classes)}
    valid = {
        template: np.array([class_of[a] for a in names if a in class_of], dtype=np.int64)
        for template, names in questions.valid.items()
    }
    written, left_out = [], []
    for split in SPLITS:
        index = questions.index(split)
        ids = _attribute_ids(table.iloc[index], attributes)
        samples = _samples(questions, index, ids, valid, recordings, left_out)
        written.append(_write_split(folder, split, samples, count_tokens))
    return _export(folder, len(questions), written, left_out)


def _samples(questions, index, attribute_ids, valid, recordings, left_out):
    """Yields (name, fields, samples per ECG, question) of one split, numbered as they come."""
    table = questions.table.iloc[index]
    columns = ("question", "template_id", "type1", "type2", "type3", "row1", "row2")
    lines = zip(*(table[name].tolist() for name in columns))
    number = 0
    for at, (line, attribute_id) in enumerate(zip(lines, attribute_ids.tolist())):
        text, template, type1, type2, type3, *rows = line
        if at % _BLOCK == 0:
            block = index[at : at + _BLOCK]
            labels = questions.labels(block).astype(np.int64)
            judged = questions.valid_mask(block)
        try:
            found = [recordings.find(row) for row in rows if row >= 0]
        except LeftOut as why:
            one = table.iloc[at]
            left_out.append((one["split"], one["ecg_id"], *why.args))
            continue
        choose = type2 == 1
        fields = {
            "ecg_path": [path for path, _ in found],
            "question": text,
            "answer": labels[at % _BLOCK],
            "valid_classes": np.flatnonzero(judged[at % _BLOCK]) if choose else valid[template],
            "question_type1": type1,
            "question_type2": type2,
            "question_type3": type3,
            "attribute_id": attribute_id,
        }
        yield f"{number}.mat", fields, [n for _, n in found], text
        number += 1


def _attribute_ids(table: pd.DataFrame, attributes: list[str] | None) -> np.ndarray:
    """(n,) int64 ids of single-verify attributes without their place; -1 else, and if not sure."""
    verify = (table["question_type"] == "single-verify").to_numpy()
    names = [
        # The question script keeps the capital of MIMIC's infarction, the grounding script not.
        attribute_name(listed[0], "paper") if is_verify and listed else None
        for is_verify, listed in zip(verify, table["attribute"].tolist())
    ]
    if attributes is None:
        attributes = sorted({name for name in names if name is not None})
    id_of = {name: i for i, name in enumerate(attributes)}
    unsure = [answer[0] == "not sure" for answer in table["answer"].tolist()]
    ids = [-1 if no else id_of.get(name, -1) for name, no in zip(names, unsure)]
    return np.array(ids, dtype=np.int64)


# --- grounding table ------------------------------------------------------------------------------


def export_grounding(
    grounding: Grounding,
    cohort,
    folder: str | Path,
    *,
    root: str | Path | None = None,
    per_question_wfdb: bool = False,
) -> Export:
    """Writes one .mat per ECG and lead set, a manifest per split and grounding_class.csv.

    The grounding table must be joined to this cohort. Raises DataError as `export_questions`.
    """
    folder = _empty(folder)
    recordings = _Wfdb(cohort, root) if per_question_wfdb else _Stored(cohort, root)
    _write_csv(folder / "grounding_class.csv", ("index", "class"), enumerate(grounding.classes))
    written, left_out = [], []
    for split in SPLITS:
        samples = _grounding_samples(grounding, grounding.index(split), recordings, left_out)
        written.append(_write_split(folder, split, samples, None))
    return _export(folder, len(grounding), written, left_out)


def _grounding_samples(grounding: Grounding, index, recordings, left_out):
    table = grounding.table.iloc[index]
    lines = zip(*(table[name].tolist() for name in ("split", "ecg_id", "row", "leads")))
    for at, (split, ecg_id, row, leads) in enumerate(lines):
        if at % _BLOCK == 0:
            labels = grounding.labels(index[at : at + _BLOCK])
        try:
            path, n_samples = recordings.find(row)
        except LeftOut as why:
            left_out.append((split, [ecg_id], *why.args))
            continue
        asked = labels[at % _BLOCK]
        classes = np.flatnonzero(asked >= 0)
        fields = {
            "ecg_path": path,
            "lead": list(leads),
            "target_idx": classes,
            "label": asked[classes].astype(np.int64),
            "attribute_id": classes,
        }
        named = "entire" if len(leads) == len(LEADS) else "_".join(map(str, leads))
        yield f"{ecg_id}_{named}.mat", fields, [n_samples], ""


# --- recordings -----------------------------------------------------------------------------------


class _Stored:
    """Length and gaps of recordings as the store knows them: no recording is opened."""

    def __init__(self, cohort, root):
        self.paths = record_paths(cohort, root)
        index = cohort.base.index  # as they are on file: `store` may be filled and cropped
        self.lengths = index["n_source"].to_numpy()
        self.gaps = index["n_missing"].to_numpy()

    def find(self, row: int) -> tuple[str, int]:
        """(path, samples). Raises LeftOut for missing samples, on which published code stops."""
        path = self.paths[row]
        if self.gaps[row]:
            raise LeftOut("missing_samples", f"{path} has {self.gaps[row]} missing samples.")
        return path, int(self.lengths[row])


class _Wfdb:
    """The published way: the whole recording is read by `wfdb` each time it is asked about."""

    def __init__(self, cohort, root):
        import wfdb

        self.paths, self.read = record_paths(cohort, root), wfdb.rdsamp

    def find(self, row: int) -> tuple[str, int]:
        """(path, samples). Raises LeftOut for missing samples and an unreadable recording."""
        path = self.paths[row]
        try:
            signal, _ = self.read(path)
        except Exception as error:  # wfdb raises whatever its parser meets in a broken file
            raise LeftOut("unreadable", f"{path} cannot be read ({error}).") from error
        if np.isnan(signal).any():
            raise LeftOut(
                "missing_samples", f"{path} has {np.isnan(signal).sum()} missing samples."
            )
        return path, len(signal)


# --- files ----------------------------------------------------------------------------------------


def _write_split(folder: Path, split: str, samples, count_tokens) -> tuple[str, int, int, int]:
    """Writes the .mat files of one split and then its manifest; (split, files, bytes, on disk)."""
    (folder / split).mkdir(exist_ok=True)
    lines, size, disk = [str(folder / split)], 0, 0
    for name, fields, lengths, text in samples:
        path = folder / split / name
        savemat(path, fields)
        counts = [*lengths] if count_tokens is None else [*lengths, count_tokens(text)]
        lines.append("\t".join([name, *map(str, counts)]))
        n_bytes = path.stat().st_size
        size, disk = size + n_bytes, disk + -(-n_bytes // _BLOCK) * _BLOCK
    # Last, so that an interrupted export is seen by its missing manifest.
    (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return split, len(lines) - 1, size, disk


def _export(folder: Path, n_in: int, written: list, left_out: list) -> Export:
    files = pd.DataFrame(written, columns=["split", "files", "bytes", "disk_bytes"])
    export = Export(folder, n_in, files, pd.DataFrame(left_out, columns=_LEFT_OUT))
    assert n_in == export.n_written + len(left_out), "a sample was lost between table and files"
    return export


def _empty(folder: str | Path) -> Path:
    folder = Path(folder).absolute()
    present = [split for split in SPLITS if (folder / f"{split}.tsv").exists()]
    if present:
        raise DataError(
            f"{folder} holds {present[0]}.tsv of an earlier export; give another folder or delete "
            "that one."
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write_csv(path: Path, head: tuple, rows) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])
