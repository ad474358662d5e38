"""ECG-QA on disk: its root in a folder or .zip, answer tables, shards, and what makes a sample bad.

Layout (v1.0.2): `.../ecgqa/<variant>/{template,paraphrased}/{train,valid,test}/*.json`, with
`answers.csv`, `answers_for_each_template.csv`, `{train,valid,test}_ecgs.tsv` beside the flavours.

Answer tables that cannot be used raise one DataError; a shard raises BrokenShard, which its reader
lists; a sample has a `problem` or none. Keys beyond KEYS do no harm.

Usage:

    shelf = open_shelf("ecg-qa.zip", "ptbxl")
    for name, split in shelf.shards("paraphrased"):
        samples = load_shard(shelf, name)
        wrong = [problem(sample, shelf, f"{name}, sample {i}") for i, sample in enumerate(samples)]
"""

from __future__ import annotations

import ast
import csv
import io
import json
import re
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ecgkit import runtime
from ecgkit.data.place import open_place
from ecgkit.types import DataError

SPLITS = ("train", "valid", "test")
FLAVOURS = ("template", "paraphrased")
KEYS = (
    "template_id", "question_id", "sample_id", "question_type", "attribute_type", "question",
    "answer", "ecg_id", "attribute",
)  # fmt: skip
# Which id a name has: ecgqa.md 1.2 (question_type1 = the position in PAIRINGS, and so on).
PAIRINGS = ("single", "comparison_consecutive", "comparison_irrelevant")
FORMS = ("verify", "choose", "query")
QUESTION_TYPES = tuple(
    f"{pairing}-{form}"
    for pairing in PAIRINGS
    for form in FORMS
    if form != "choose" or pairing == "single"
)
ATTRIBUTE_TYPES = (
    "scp_code", "noise", "stage_of_infarction", "extra_systole", "heart_axis", "numeric_feature",
)  # fmt: skip
_HALF = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Shelf:
    """One variant of ECG-QA on disk: where it lies, its answers, those each template allows."""

    place: object
    root: str
    files: tuple[str, ...]
    answers: tuple[str, ...]
    valid: dict[int, list[str]]

    @property
    def label(self) -> str:
        return f"{self.place.label}/{self.root}".rstrip("/")

    @cached_property
    def known(self) -> frozenset[str]:
        return frozenset(self.answers)

    def shards(self, flavour: str) -> list[tuple[str, str]]:
        """[(file, split)] of one flavour, split by split, files in the order of their names."""
        folders = [(f"{flavour}/{split}/", split) for split in SPLITS]
        return [
            (name, split)
            for folder, split in folders
            for name in self.files
            if name.startswith(folder) and name.endswith(".json")
        ]


class BrokenShard(DataError):
    """A shard that cannot be used as a whole; `reason` is its code."""

    def __init__(self, reason: str, sentence: str):
        super().__init__(sentence)
        self.reason = reason


# --- finding --------------------------------------------------------------------------------------


def variant_of(cohort_name: str) -> str:
    """Which ECG-QA asks about a source: mimic-iv-ecg, or ptbxl, which the kit writes itself too."""
    return "mimic-iv-ecg" if cohort_name.startswith("mimic") else "ptbxl"


def open_shelf(source: str | Path, variant: str = "ptbxl") -> Shelf:
    """Finds ECG-QA anywhere inside a folder or .zip. `variant`: ptbxl | mimic-iv-ecg.

    Raises DataError for a wrong path, a source without ECG-QA, or broken answer tables.
    """
    place = open_place(_resolve(source), what="ECG-QA")
    names = [n for n in place.listing() if not n.rsplit("/", 1)[-1].startswith(".")]
    pattern = re.compile(r"^(.*/)?(template|paraphrased)/(train|valid|test)/[^/]+\.json$")
    roots = {match.group(1) or "" for name in names if (match := pattern.match(name))}
    # One of the name asked for counts even without its answers: that is to be said of it.
    known = {name.removesuffix("answers.csv") for name in names if name.endswith("answers.csv")}
    roots = sorted(root for root in roots if root in known or _is_called(root, variant))
    if not roots:
        raise DataError(
            f"There is no ECG-QA in {place.label}: answers.csv beside template/ and paraphrased/ "
            "folders of question files was looked for; give the folder or .zip of its repository."
        )
    root = _pick(roots, variant, place.label)
    files = tuple(sorted(name[len(root) :] for name in names if name.startswith(root)))
    return Shelf(place, root, files, _answers(place, root), _valid(place, root))


def _resolve(source: str | Path) -> Path:
    path = runtime.find_path(source)
    if path is None:
        raise DataError(
            f"ECGQA is {str(source)!r}, but there is no such file or folder; give the folder or "
            ".zip that holds ECG-QA, or '' for questions the kit writes itself."
        )
    return path


def _is_called(root: str, variant: str) -> bool:
    return root.rstrip("/").rsplit("/", 1)[-1] == variant


def _pick(roots: list[str], variant: str, label: str) -> str:
    named = [root for root in roots if _is_called(root, variant)]
    if named:
        return named[0]
    if len(roots) == 1:
        return roots[0]
    raise DataError(f"{label} holds ECG-QA in {', '.join(roots)}, none of them called {variant}.")


def _read(place, name: str) -> str:
    try:
        return place.read(name).decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{place.label} has no {name}; take ECG-QA as published.") from None
    except (UnicodeDecodeError, zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{name} of {place.label} is unreadable ({error}); refetch it.") from error


def _rows(place, name: str, columns: tuple[str, ...]) -> list[dict]:
    try:
        rows = list(csv.DictReader(io.StringIO(_read(place, name))))
    except csv.Error as error:
        raise DataError(f"{name} of {place.label} is unreadable ({error}); refetch it.") from error
    missing = [column for column in columns if not rows or rows[0].get(column) is None]
    if missing:
        raise DataError(f"{name} of {place.label} has no column {missing[0]}; fetch it again.")
    if any(row[column] is None for row in rows for column in columns):
        raise DataError(f"{name} of {place.label} has a line that is cut short; fetch it again.")
    return rows


def _answers(place, root: str) -> tuple[str, ...]:
    answers = tuple(row["class"] for row in _rows(place, root + "answers.csv", ("index", "class")))
    if len(set(answers)) != len(answers):
        raise DataError(f"{root}answers.csv of {place.label} has an answer twice; fetch it again.")
    return answers


def _valid(place, root: str) -> dict[int, list[str]]:
    """template_id -> answers it allows. The lists stand as Python literals, read without eval."""
    name, valid = root + "answers_for_each_template.csv", {}
    for row in _rows(place, name, ("template_id", "classes")):
        try:
            valid[int(row["template_id"])] = [str(a) for a in ast.literal_eval(row["classes"])]
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
            where = f"{name} of {place.label}, template {row['template_id']}"
            raise DataError(f"{where}: the list of answers is unreadable ({error}).") from error
    return valid


def read_ecg_ids(shelf: Shelf) -> dict[str, list[int]]:
    """split -> ECG ids listed in `<split>_ecgs.tsv`; a split without that file is left out.

    Raises DataError for a file that is no such list.
    """
    found = {}
    for split in SPLITS:
        if f"{split}_ecgs.tsv" in shelf.files:
            name = f"{split}_ecgs.tsv"
            lines = _read(shelf.place, shelf.root + name).split("\n")
            try:
                found[split] = [int(line.split("\t")[1]) for line in lines if line.strip()]
            except (ValueError, IndexError) as error:
                raise DataError(
                    f"{name} of {shelf.label} is no list of ECG ids ({error}); refetch it."
                ) from error
    return found


# --- samples --------------------------------------------------------------------------------------


def load_shard(shelf: Shelf, name: str) -> list:
    """What one shard lists, unchecked. Raises BrokenShard: unreadable_file, broken_json or
    foreign_json.
    """
    try:
        samples = json.loads(_read(shelf.place, shelf.root + name))
    except DataError as error:
        raise BrokenShard("unreadable_file", str(error)) from error
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits
        why = str(error) or type(error).__name__
        raise BrokenShard(
            "broken_json", f"{name} of {shelf.label} is broken JSON ({why}); fetch it again."
        ) from error
    if not isinstance(samples, list):
        raise BrokenShard(
            "foreign_json",
            f"{name} of {shelf.label} is no list of questions; take the published one.",
        )
    return samples


def problem(sample, shelf: Shelf, where: str) -> tuple[str, str] | None:
    """(reason, sentence) if a sample cannot be used, else None. `where` opens the sentence."""
    missing = KEYS if not isinstance(sample, dict) else [k for k in KEYS if k not in sample]
    if missing:
        return (
            "missing_key",
            f"{where} has no key {', '.join(missing)}; each question needs {', '.join(KEYS)}.",
        )
    wrong = _ill_typed(sample)
    if wrong:
        value = repr(sample[wrong])[:60]
        return "ill_typed", f"{where}: {wrong} is {value}, not what the format asks."
    if sample["template_id"] not in shelf.valid:
        return "unknown_template", f"{where}: template {sample['template_id']} has no answer list."
    unknown = [a for a in sample["answer"] if a not in shelf.known]
    if unknown:
        return "unknown_answer", f"{where}: answer {unknown[0]!r} is not in answers.csv."
    allowed = {*shelf.valid[sample["template_id"]], "none"}
    outside = [a for a in sample["answer"] if a not in allowed]
    if outside:
        number = sample["template_id"]
        return "answer_not_allowed", f"{where}: {outside[0]!r} is no answer of template {number}."
    options = option_names(sample["question_type"], sample["attribute_type"], sample["attribute"])
    if options is not None and (len(options) != 2 or not shelf.known.issuperset(options)):
        return "unknown_option", f"{where}: the options {options} are not two answer classes."
    return None


def _ill_typed(sample: dict) -> str | None:
    """The first key whose value has the wrong type, or None."""
    for key in ("template_id", "question_id", "sample_id"):
        if not _is_id(sample[key]):
            return key
    if sample["question_type"] not in QUESTION_TYPES:
        return "question_type"
    if sample["attribute_type"] not in ATTRIBUTE_TYPES:
        return "attribute_type"
    if not is_wording(sample["question"]):
        return "question"
    if not _all(sample["answer"], is_string):
        return "answer"
    n_ecgs = 1 if sample["question_type"].startswith("single") else 2
    if not _all(sample["ecg_id"], _is_id) or len(sample["ecg_id"]) != n_ecgs:
        return "ecg_id"
    attribute = sample["attribute"]
    needed = sample["question_type"] == "single-choose"
    if (attribute is not None or needed) and not _all(attribute, is_string):
        return "attribute"
    return None


def _all(values, right) -> bool:
    return isinstance(values, list) and bool(values) and all(right(v) for v in values)


def _is_id(value) -> bool:
    """A whole number that 64 bits hold."""
    return type(value) is int and -(2**63) <= value < 2**63


def is_string(value) -> bool:
    """Text without halves of characters, which JSON may hold and no file can."""
    return isinstance(value, str) and not _HALF.search(value)


def is_wording(value) -> bool:
    return is_string(value) and bool(value.strip())


def option_names(question_type: str, attribute_type: str, attribute) -> list[str] | None:
    """The two answers a choose question offers, of a numeric option the range; None for others."""
    if question_type != "single-choose":
        return None
    if attribute_type == "numeric_feature":
        return [name.split(" of ")[0] for name in attribute]
    return list(attribute)
