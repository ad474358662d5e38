"""Reads ECG-QA from disk: finds its root in a folder or .zip, its answer tables, its shards.

Layout (v1.0.2): `.../ecgqa/<variant>/{template,paraphrased}/{train,valid,test}/*.json`, with
`answers.csv`, `answers_for_each_template.csv`, `{train,valid,test}_ecgs.tsv` beside the flavours.

A file that cannot be used raises one DataError; a sample that cannot be used is dropped and listed.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import re
import zipfile
from dataclasses import dataclass
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


# --- finding --------------------------------------------------------------------------------------


def open_shelf(source: str | Path, variant: str = "ptbxl") -> Shelf:
    """Finds ECG-QA anywhere inside a folder or .zip. `variant`: ptbxl | mimic-iv-ecg.

    Raises DataError for a wrong path, a source without ECG-QA, or broken answer tables.
    """
    place = open_place(_resolve(source), what="ECG-QA")
    names = [n for n in place.listing() if not n.rsplit("/", 1)[-1].startswith(".")]
    pattern = re.compile(r"^(.*/)?(template|paraphrased)/(train|valid|test)/[^/]+\.json$")
    roots = {match.group(1) or "" for name in names if (match := pattern.match(name))}
    roots = sorted(root for root in roots if root + "answers.csv" in set(names))
    if not roots:
        raise DataError(
            f"There is no ECG-QA in {place.label}: answers.csv beside template/ and paraphrased/ "
            "folders of question files was looked for; give the folder or .zip of its repository."
        )
    root = _pick(roots, variant, place.label)
    files = tuple(sorted(name[len(root) :] for name in names if name.startswith(root)))
    return Shelf(place, root, files, _answers(place, root), _valid(place, root))


def _resolve(source: str | Path) -> Path:
    path = Path(source).expanduser()
    for candidate in (path, runtime.project_root() / path):
        if candidate.exists():
            return candidate.resolve()
    raise DataError(
        f"ECGQA is {str(source)!r}, but there is no such file or folder; give the folder or .zip "
        "that holds ECG-QA, or '' for questions the kit writes itself."
    )


def _pick(roots: list[str], variant: str, label: str) -> str:
    named = [root for root in roots if root.rstrip("/").rsplit("/", 1)[-1] == variant]
    if named:
        return named[0]
    if len(roots) == 1:
        return roots[0]
    raise DataError(f"{label} holds ECG-QA in {', '.join(roots)}, none of them called {variant}.")


def _read(place, name: str) -> str:
    try:
        return place.read(name).decode("utf-8")
    except FileNotFoundError:
        raise DataError(f"{place.label} has no {name}; take ECG-QA as published.") from None
    except (UnicodeDecodeError, zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{name} of {place.label} is unreadable ({error}); refetch it.") from error


def _rows(place, name: str, columns: tuple[str, ...]) -> list[dict]:
    rows = list(csv.DictReader(io.StringIO(_read(place, name))))
    missing = [column for column in columns if not rows or rows[0].get(column) is None]
    if missing:
        raise DataError(f"{name} of {place.label} has no column {missing[0]}; fetch it again.")
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
        except (ValueError, SyntaxError, TypeError) as error:
            where = f"{name} of {place.label}, template {row['template_id']}"
            raise DataError(f"{where}: the list of answers is unreadable ({error}).") from error
    return valid


def read_ecg_ids(shelf: Shelf) -> dict[str, list[int]]:
    """split -> ECG ids listed in `<split>_ecgs.tsv`; a split without that file is left out."""
    found = {}
    for split in SPLITS:
        if f"{split}_ecgs.tsv" in shelf.files:
            lines = _read(shelf.place, f"{shelf.root}{split}_ecgs.tsv").split("\n")
            found[split] = [int(line.split("\t")[1]) for line in lines if line.strip()]
    return found


# --- samples --------------------------------------------------------------------------------------


def read_samples(shelf: Shelf, flavour: str) -> tuple[list[dict], list[dict]]:
    """Every sample of one flavour -> (usable ones, dropped ones); each sample gains `split`.

    Dropped rows hold split, sample_id, question_type, reason, sentence. Raises DataError for broken
    JSON, a sample that lacks a key, or a file none of whose samples can be used.
    """
    kept, dropped = [], []
    known = set(shelf.answers)
    for split in SPLITS:
        folder = f"{flavour}/{split}/"
        for name in (f for f in shelf.files if f.startswith(folder) and f.endswith(".json")):
            samples = _load(shelf, name)
            bad = 0
            for position, sample in enumerate(samples):
                problem = _problem(sample, shelf.valid, known, name, position)
                if problem is None:
                    sample["split"] = split
                    kept.append(sample)
                else:
                    bad += 1
                    dropped.append(drop(sample, split, *problem))
            _refuse_useless(samples, bad, dropped, shelf, name)
    if not kept and not dropped:
        raise DataError(f"{shelf.label} has no {flavour} questions; try the other FLAVOUR.")
    return kept, dropped


def drop(sample: dict, split: str, reason: str, sentence: str) -> dict:
    """One row of the table of dropped questions."""
    names = ("sample_id", "question_type", "template_id")
    return {"split": split, **{n: sample[n] for n in names}, "reason": reason, "sentence": sentence}


def _load(shelf: Shelf, name: str) -> list[dict]:
    text = _read(shelf.place, shelf.root + name)
    try:
        samples = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{name} of {shelf.label} is broken JSON ({error}); refetch.") from error
    if not isinstance(samples, list):
        raise DataError(f"{name} of {shelf.label} is no list of questions; take the published one.")
    for position, sample in enumerate(samples):
        missing = KEYS if not isinstance(sample, dict) else [k for k in KEYS if k not in sample]
        if missing:
            raise DataError(
                f"{name} of {shelf.label}: sample {position} has no key {', '.join(missing)}; "
                f"each question needs {', '.join(KEYS)}."
            )
    return samples


def _refuse_useless(samples, bad: int, dropped: list, shelf: Shelf, name: str) -> None:
    if samples and bad == len(samples):
        raise DataError(
            f"{name} of {shelf.label}: none of its {bad} questions can be used; the first: "
            f"{dropped[-bad]['sentence']}"
        )


def _problem(sample, valid: dict, known: set, name: str, position: int) -> tuple[str, str] | None:
    """(reason, sentence) if a sample cannot be used, else None."""
    where = f"{name}, sample {position}"
    wrong = _ill_typed(sample)
    if wrong:
        value = repr(sample[wrong])[:60]
        return "ill_typed", f"{where}: {wrong} is {value}, not what the format asks."
    if sample["template_id"] not in valid:
        return "unknown_template", f"{where}: template {sample['template_id']} has no answer list."
    unknown = [a for a in sample["answer"] if a not in known]
    if unknown:
        return "unknown_answer", f"{where}: answer {unknown[0]!r} is not in answers.csv."
    allowed = {*valid[sample["template_id"]], "none"}
    outside = [a for a in sample["answer"] if a not in allowed]
    if outside:
        number = sample["template_id"]
        return "answer_not_allowed", f"{where}: {outside[0]!r} is no answer of template {number}."
    options = option_names(sample)
    if options is not None and (len(options) != 2 or not known.issuperset(options)):
        return "unknown_option", f"{where}: the options {options} are not two answer classes."
    return None


def _ill_typed(sample: dict) -> str | None:
    """The first key whose value has the wrong type, or None."""
    for key in ("template_id", "question_id", "sample_id"):
        if type(sample[key]) is not int:
            return key
    if sample["question_type"] not in QUESTION_TYPES:
        return "question_type"
    if sample["attribute_type"] not in ATTRIBUTE_TYPES:
        return "attribute_type"
    if not isinstance(sample["question"], str) or not sample["question"].strip():
        return "question"
    if not _all(sample["answer"], str):
        return "answer"
    n_ecgs = 1 if sample["question_type"].startswith("single") else 2
    if not _all(sample["ecg_id"], int) or len(sample["ecg_id"]) != n_ecgs:
        return "ecg_id"
    attribute = sample["attribute"]
    needed = sample["question_type"] == "single-choose"
    if (attribute is not None or needed) and not _all(attribute, str):
        return "attribute"
    return None


def _all(values, kind: type) -> bool:
    return isinstance(values, list) and bool(values) and all(type(v) is kind for v in values)


def option_names(sample: dict) -> list[str] | None:
    """The two answers a choose question offers, of a numeric option the range; None for others."""
    if sample["question_type"] != "single-choose":
        return None
    if sample["attribute_type"] == "numeric_feature":
        return [name.split(" of ")[0] for name in sample["attribute"]]
    return list(sample["attribute"])
