"""Questions with the paths of their recordings: the JSON files of the published mapping scripts.

    <out>/{template,paraphrased}/{train,valid,test}/*.json    samples as they were, plus `ecg_path`
          answers.csv, answers_for_each_template.csv, *_ecgs.tsv     copied
          dropped.csv, files.csv                                     what was not mapped, and why

For people who go on with the published preprocessing; the kit itself needs no mapped files. Where
no recording is missing the samples agree with the published ones field by field; where one is, they
stop and this lists the questions that need it. in = mapped + dropped, asserted.
Source: ECG-QA v1.0.2, mapping scripts (ecgqa.md 1.5).

Usage:

    mapped = write_mapped("ecg-qa.zip", "ptb-xl", "mapped")            # or an open cohort
    print(mapped.summary())
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ecgkit import runtime
from ecgkit.data import qa_subset, sources
from ecgkit.data.place import Zip
from ecgkit.data.qa_reading import (
    FLAVOURS,
    SPLITS,
    BrokenShard,
    Shelf,
    load_shard,
    open_shelf,
    problem,
    variant_of,
)
from ecgkit.data.qa_shards import DROPPED, FILES, identity
from ecgkit.data.qa_table import open_table
from ecgkit.data.sources import challenge, mimic, tables
from ecgkit.types import DataError

_COPIED = ("answers.csv", "answers_for_each_template.csv", *(f"{s}_ecgs.tsv" for s in SPLITS))


@dataclass(frozen=True)
class Mapped:
    """What was written: n_in = n_mapped + len(dropped). `files`: one row per shard."""

    folder: Path
    n_mapped: int
    dropped: pd.DataFrame
    files: pd.DataFrame
    root: str

    @property
    def n_in(self) -> int:
        return self.n_mapped + len(self.dropped)

    def summary(self) -> str:
        """One line: how many questions were mapped, to where, and why others were not."""
        reasons = self.dropped["reason"].value_counts()
        why = ", ".join(f"{n} {reason}" for reason, n in reasons.items()) or "none"
        broken = self.files.loc[self.files["reason"] != "", "file"].tolist()
        also = f" · files not usable: {', '.join(broken)}" if broken else ""
        return (
            f"{self.folder.name}: {self.n_mapped} of {self.n_in} questions mapped to recordings in "
            f"{self.root} · dropped: {why}{also}"
        )


def write_mapped(
    source: str | Path, data, out: str | Path, flavour: str | None = None, *,
    root: str | Path | None = None, config=None,
) -> Mapped:  # fmt: skip
    """Maps one flavour of ECG-QA, or both, to the recordings of `data` that are there.

    source: folder or .zip with ECG-QA. data: an open cohort (then only its stored ECGs count), or
    the folder or .zip of PTB-XL or MIMIC-IV-ECG. root: the folder that `ecg_path` starts with; None
    = where the recordings lie, and for a .zip the folder of its name beside it. A config with
    SAMPLE or FRACTION keeps that choice of a cohort.
    `out` appears whole or not at all. Raises DataError where `out` exists, where a source cannot be
    opened, and where not one question can be mapped.
    """
    out = Path(out)
    if out.exists():
        raise DataError(f"{out} is there already; give a new folder for the mapped questions.")
    recordings = _Recordings(data, root)
    shelf = open_shelf(source, variant_of(recordings.name))
    found: list[Mapped] = []
    out.parent.mkdir(parents=True, exist_ok=True)

    def write(scratch: Path) -> None:
        found.append(_write_all(scratch, shelf, recordings, flavour, config))

    runtime.write_once(out, write)
    done = found[0]
    return Mapped(out, done.n_mapped, done.dropped, done.files, recordings.root)


# --- where recordings lie -------------------------------------------------------------------------


class _Recordings:
    """ECG id -> path of its recording, or why there is none; each looked for once."""

    def __init__(self, data, root: str | Path | None):
        cohort = None if isinstance(data, (str, Path)) else data
        if cohort is None:
            self.name, self.place = sources.open_source(data)
        else:
            self.name, self.place = cohort.name, cohort.place
        if sources.adapter(self.name) is challenge:
            raise DataError(
                f"{self.place.label} holds {self.name}, whose ECGs have names; the files of ECG-QA "
                "refer to ECGs by number. Give PTB-XL or MIMIC-IV-ECG as DATA."
            )
        self.cohort = cohort
        self.root = str(_root_of(self.place) if root is None else root).rstrip("/")
        self._stored = None if cohort is None else set(cohort.table["ecg_id"].tolist())
        listed = sources.adapter(self.name) is mimic
        self._listed = _record_list(self.place) if listed else None
        self._found: dict[int, tuple[str, str]] = {}

    def find(self, ecg_id: int) -> tuple[str, str]:
        """(path, '') or ('', sentence)."""
        if ecg_id not in self._found:
            self._found[ecg_id] = self._look(ecg_id)
        return self._found[ecg_id]

    def _look(self, ecg_id: int) -> tuple[str, str]:
        if self._stored is not None and ecg_id not in self._stored:
            return "", f"ECG {ecg_id} is not among the {len(self._stored)} stored."
        if self._listed is None:
            name = ptbxl_name(ecg_id)
        elif ecg_id in self._listed:
            name = self._listed[ecg_id]
        else:
            return "", f"ECG {ecg_id} is not in record_list.csv of {self.place.label}."
        if not self.place.exists(f"{name}.dat"):
            return "", f"{self.place.label} has no {name}.dat, the recording of ECG {ecg_id}."
        return f"{self.root}/{name}", ""


def ptbxl_name(ecg_id: int) -> str:
    """The 500 Hz recording of a PTB-XL id, below its root, without extension."""
    return f"records500/{ecg_id // 1000 * 1000:05d}/{ecg_id:05d}_hr"


def _record_list(place) -> dict[int, str]:
    """study_id -> path, as record_list.csv of MIMIC-IV-ECG says; the first line of an id counts."""
    raw = tables.read_bytes(place, mimic.RECORDS)
    listed, _ = tables.read_csv(raw, mimic.RECORDS, place.label, dtype={"path": str})
    tables.require(listed, ("study_id", "path"), mimic.RECORDS, place.label, "MIMIC-IV-ECG")
    listed = listed.assign(study_id=tables.whole(listed["study_id"]))
    listed = listed.dropna(subset=["study_id", "path"]).drop_duplicates("study_id")
    paths = listed["path"].str.strip().str.removesuffix(".hea")
    return dict(zip(listed["study_id"].astype("int64").tolist(), paths.tolist()))


def _root_of(place) -> Path:
    if isinstance(place, Zip):
        return place.origin.with_suffix("") / place.root.rstrip("/")
    return place.root


# --- writing --------------------------------------------------------------------------------------


def _write_all(folder: Path, shelf: Shelf, recordings, flavour: str | None, config) -> Mapped:
    mapper = _Mapper(shelf, recordings)
    for name in (flavour,) if flavour else FLAVOURS:
        left_out = _left_out(config, recordings.cohort, shelf, name)
        for file, split in shelf.shards(name):
            mapper.add(folder, file, split, left_out.get(split, frozenset()))
    mapped = mapper.finish(folder)
    for name in _COPIED:
        if name in shelf.files:
            (folder / name).write_bytes(shelf.place.read(shelf.root + name))
    mapped.dropped.to_csv(folder / "dropped.csv", index=False)
    mapped.files.to_csv(folder / "files.csv", index=False)
    return mapped


def _left_out(config, cohort, shelf: Shelf, flavour: str) -> dict[str, frozenset[int]]:
    """split -> sample_ids that SAMPLE or FRACTION leave out."""
    if config is None or cohort is None or not qa_subset.is_asked(config):
        return {}
    table = open_table(shelf, flavour)
    out = qa_subset.left_out(config, cohort, table)
    return {
        split: frozenset(table.sample_id[out & (table.split == number)].tolist())
        for number, split in enumerate(SPLITS)
    }


class _Mapper:
    """Shards written so far, and the questions that were not."""

    def __init__(self, shelf: Shelf, recordings: _Recordings):
        self.shelf, self.recordings = shelf, recordings
        self._dropped: list[tuple] = []
        self._files: list[tuple] = []

    def add(self, folder: Path, file: str, split: str, left_out: frozenset[int]) -> None:
        try:
            samples = load_shard(self.shelf, file)
        except BrokenShard as broken:
            self._files.append((file, split, -1, 0, 0, broken.reason, str(broken)))
            return
        kept = []
        for i, sample in enumerate(samples):
            wrong = problem(sample, self.shelf, f"{file}, sample {i}")
            wrong = wrong or self._map(sample, left_out)
            if wrong:
                self._dropped.append((file, split, *identity(sample), *wrong))
            else:
                kept.append(sample)
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        with open(folder / file, "w", encoding="utf-8") as stream:
            json.dump(kept, stream, indent=4)
        self._files.append((file, split, len(samples), len(kept), len(samples) - len(kept), "", ""))

    def _map(self, sample: dict, left_out: frozenset[int]) -> tuple[str, str] | None:
        """Adds `ecg_path`, or gives (reason, sentence)."""
        if sample["sample_id"] in left_out:
            return "not_sampled", "Not among the questions SAMPLE or FRACTION keep."
        found = [self.recordings.find(ecg_id) for ecg_id in sample["ecg_id"]]
        for _, sentence in found:
            if sentence:
                return "recording_missing", sentence
        sample["ecg_path"] = [path for path, _ in found]
        return None

    def finish(self, folder: Path) -> Mapped:
        """Raises DataError where not one question was mapped."""
        files = pd.DataFrame(self._files, columns=list(FILES))
        dropped = pd.DataFrame(self._dropped, columns=["file", *DROPPED])
        n_mapped = int(files["kept"].sum())
        assert files["questions"].clip(lower=0).sum() == n_mapped + len(dropped)
        if not n_mapped:
            why = [*dropped["sentence"].head(1), *files["sentence"][files["reason"] != ""]]
            raise DataError(
                f"Not one of the {len(dropped)} questions in {self.shelf.label} could be mapped"
                + (f"; the first: {why[0]}" if why else ".")
            )
        return Mapped(folder, n_mapped, dropped, files, "")
