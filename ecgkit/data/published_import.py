"""Reads the published training code's folders (`published_layout`) back into tables.

A file that is missing, broken or not of the format is left out and listed with a reason:
in = read + left out. ECG ids are taken from the recordings' paths.

Usage:

    found = import_questions("qa_files", answers="qa_files/answers.csv")
    found.table, found.left_out
    import_grounding("grounding_files").table
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit.data.mat_files import read_mat
from ecgkit.data.qa_reading import ATTRIBUTE_TYPES, FORMS, PAIRINGS, SPLITS
from ecgkit.types import LEADS, DataError

_LEFT_OUT = ["split", "file", "reason", "sentence"]
_QUESTION_FIELDS = (
    "ecg_path", "question", "answer", "valid_classes", "question_type1", "question_type2",
    "question_type3", "attribute_id",
)  # fmt: skip
_GROUNDING_FIELDS = ("ecg_path", "lead", "target_idx", "label")
_QUESTION_COLUMNS = [
    "split", "file", "question_type", "attribute_type", "question", "answer", "valid", "ecg_id",
    "ecg_path", "type1", "type2", "type3", "attribute_id", "n_samples", "n_tokens",
]  # fmt: skip
_GROUNDING_COLUMNS = ["split", "file", "ecg_id", "ecg_path", "leads", "attribute", "label",
                      "n_samples"]  # fmt: skip


@dataclass(frozen=True)
class Imported:
    """table: what was read. left_out: split, file, reason, sentence. n_in: files in the manifests.

    n_read: files read; n_in = n_read + left out.
    """

    table: pd.DataFrame
    left_out: pd.DataFrame
    classes: list[str]
    n_in: int
    n_read: int

    def summary(self) -> str:
        """One line: files read, and why others were not."""
        reasons = self.left_out["reason"].value_counts()
        why = ", ".join(f"{n} {reason}" for reason, n in reasons.items()) or "none"
        return f"{self.n_read} of {self.n_in} files read · left out: {why}"


class _Unusable(Exception):
    """A file that cannot be used, as (reason, sentence)."""


def import_questions(
    folder: str | Path, answers: str | Path | Sequence[str] | None = None
) -> Imported:
    """One row per question file: split, file, question_type, attribute_type, question, answer (list
    of names, ["none"] for the empty set), valid (names it is judged on), ecg_id and ecg_path
    (lists), type1..3, attribute_id, n_samples (list), n_tokens.

    answers: answers.csv of ECG-QA or the classes in its order (`none` counts for nothing); None =
    the answers.csv in `folder`. Raises DataError for a folder without manifest or answers.
    """
    folder = Path(folder)
    classes = _classes(folder / "answers.csv" if answers is None else answers)

    def read(split, line, path):
        return [_question(split, line, _fields(path, _QUESTION_FIELDS), classes)]

    return _read_all(folder, classes, _QUESTION_COLUMNS, read)


def import_grounding(
    folder: str | Path, classes: str | Path | Sequence[str] | None = None
) -> Imported:
    """One row per tuple of each file: split, file, ecg_id, ecg_path, leads (tuple of positions),
    attribute, label (0 or 1), n_samples. Raises DataError as `import_questions`.
    """
    folder = Path(folder)
    classes = _classes(folder / "grounding_class.csv" if classes is None else classes)

    def read(split, line, path):
        return _tuples(split, line, _fields(path, _GROUNDING_FIELDS), classes)

    return _read_all(folder, classes, _GROUNDING_COLUMNS, read)


def _read_all(folder: Path, classes: list[str], columns: list[str], read: Callable) -> Imported:
    """Every file the manifests name, in their order."""
    rows, left_out, n_in, n_read = [], [], 0, 0
    for split, root, lines in _manifests(folder):
        for line in lines:
            n_in += 1
            name = line.split("\t")[0]
            try:
                rows += read(split, _manifest_line(line), root / name)
                n_read += 1
            except _Unusable as why:
                left_out.append((split, name, *why.args))
    assert n_in == n_read + len(left_out), "a file was lost between manifest and table"
    tables = pd.DataFrame(rows, columns=columns), pd.DataFrame(left_out, columns=_LEFT_OUT)
    return Imported(*tables, classes, n_in, n_read)


# --- one file -------------------------------------------------------------------------------------


def _question(split: str, line: tuple, fields: dict, classes: list[str]) -> list:
    name, counts = line
    paths, text = _texts(fields["ecg_path"]), _texts(fields["question"])
    answer, valid = (_numbers(fields[key], key) for key in ("answer", "valid_classes"))
    type1, type2, type3, attribute_id = (_number(fields, key) for key in _QUESTION_FIELDS[4:])
    pairing, form, kind = type1, type2 - 3 * type1, type3 - 6 * type2
    if not (0 <= pairing < 3 and 0 <= form < 3 and 0 <= kind < 6):
        raise _Unusable("ill_typed", f"{name}: type ids {type1}, {type2}, {type3} do not agree.")
    if len(answer) != len(classes):
        raise _Unusable(
            "other_answers",
            f"{name}: {len(answer)} answers, the list has {len(classes)}; give its answers.csv.",
        )
    if len(text) != 1 or len(paths) != 1 + (pairing > 0) or len(counts) != len(paths) + 1:
        raise _Unusable("ill_typed", f"{name}: {len(paths)} recordings, {len(counts)} lengths.")
    if valid.size and not 0 <= valid.min() <= valid.max() < len(classes):
        raise _Unusable("ill_typed", f"{name}: valid_classes has a number without an answer.")
    return [
        split, name, f"{PAIRINGS[pairing]}-{FORMS[form]}", ATTRIBUTE_TYPES[kind], text[0],
        [classes[k] for k in np.flatnonzero(answer)] or ["none"], [classes[k] for k in valid],
        [_ecg_id(path, name) for path in paths], paths, type1, type2, type3, attribute_id,
        counts[:-1], counts[-1],
    ]  # fmt: skip


def _tuples(split: str, line: tuple, fields: dict, classes: list[str]) -> list[list]:
    name, counts = line
    paths = _texts(fields["ecg_path"])
    lead, target, label = (_numbers(fields[key], key) for key in _GROUNDING_FIELDS[1:])
    if len(paths) != 1 or len(counts) != 1 or not len(target) == len(label) > 0:
        raise _Unusable("ill_typed", f"{name}: {len(target)} attributes but {len(label)} labels.")
    if not set(lead.tolist()) <= set(range(len(LEADS))) or not set(label.tolist()) <= {0, 1}:
        raise _Unusable("ill_typed", f"{name}: leads are 0 to 11, labels 0 or 1.")
    if not 0 <= target.min() <= target.max() < len(classes):
        raise _Unusable("other_answers", f"{name}: an attribute beyond the {len(classes)} listed.")
    shared = split, name, _ecg_id(paths[0], name), paths[0], tuple(sorted(lead.tolist()))
    return [
        [*shared, classes[k], yes, counts[0]] for k, yes in zip(target.tolist(), label.tolist())
    ]


def _fields(path: Path, names: tuple[str, ...]) -> dict:
    """The named arrays of one .mat file."""
    if not path.is_file():
        raise _Unusable(
            "missing_file", f"{path.name} stands in the manifest, but not in the folder."
        )
    try:
        found = read_mat(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _Unusable("broken_file", f"{path.name} is no readable .mat file: {error}.") from error
    missing = [name for name in names if name not in found]
    if missing:
        raise _Unusable("missing_field", f"{path.name} has no field {', '.join(missing)}.")
    return found


def _texts(array: np.ndarray) -> list[str]:
    """MATLAB pads the shorter of two strings with blanks."""
    return [str(text).rstrip(" ") for text in array.ravel()]


def _numbers(array: np.ndarray, key: str) -> np.ndarray:
    if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise _Unusable("ill_typed", f"{key} is not numeric.")
    return array.ravel().astype(np.int64)


def _number(fields: dict, key: str) -> int:
    values = _numbers(fields[key], key)
    if len(values) != 1:
        raise _Unusable("ill_typed", f"{key} holds {len(values)} numbers, not one.")
    return int(values[0])


def _ecg_id(path: str, name: str) -> int:
    """`.../00017_hr` and `.../s40689238/40689238` -> 17 and 40689238, the digits it ends with."""
    stem = re.split(r"[/\\]", path)[-1]
    match = re.search(r"(\d+)(?:_[hl]r)?$", stem)
    if match is None:
        raise _Unusable("no_ecg_id", f"{name}: {stem!r} ends with no number of an ECG.")
    return int(match.group(1))


# --- manifests and lists --------------------------------------------------------------------------


def _manifests(folder: Path) -> list[tuple[str, Path, list[str]]]:
    """[(split, folder of its files, lines)] of the manifests there are."""
    found = []
    for split in SPLITS:
        path = folder / f"{split}.tsv"
        if path.is_file():
            root, *lines = path.read_text("utf-8", errors="replace").splitlines() or [""]
            # The root is absolute as written; a folder that was moved has its files beside it.
            here = folder / split
            found.append((split, here if here.is_dir() else Path(root), [n for n in lines if n]))
    if not found:
        raise DataError(
            f"There is no train.tsv, valid.tsv or test.tsv in {folder}; give the folder the "
            "published preprocessing wrote to."
        )
    return found


def _manifest_line(line: str) -> tuple[str, list[int]]:
    """`i.mat TAB n TAB n ...` -> (name, numbers)."""
    name, *counts = line.split("\t")
    if not counts or not all(re.fullmatch(r"\s*[0-9]{1,9}\s*", count) for count in counts):
        raise _Unusable("bad_line", f"{name}: its line of the manifest lacks a length.")
    if re.search(r"[/\\]|^\.\.$", name):
        raise _Unusable("bad_line", f"{name}: its name leads out of the folder.")
    return name, [int(count) for count in counts]


def _classes(source: str | Path | Sequence[str]) -> list[str]:
    """Names without `none`, from a list or an index,class table."""
    if not isinstance(source, (str, Path)):
        return [name for name in source if name != "none"]
    try:
        with open(source, newline="", encoding="utf-8") as file:
            return [row["class"] for row in csv.DictReader(file) if row["class"] != "none"]
    except (OSError, KeyError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{source} is no readable index,class table ({error}); give the answers.csv of ECG-QA "
            "or the list of its answers."
        ) from error
