"""The few-shot data set published with Tang et al., CHIL 2025 (`jialucode/FSL_ECG_QA_Dataset`).

A folder with question shards in ECG-QA's JSON and recordings as MATLAB files named by ECG id
(`00001_hr.mat`), anywhere below it. A recording is the matrix `feats`, (12, 2500): mV, 5 s at
500 Hz in the usual order of leads, as ECG-QA's own preprocessing writes it (the release does not
say). What is broken is listed with a reason: in = kept + left out.

Usage:

    data = read_published_fewshot("FSL_ECG_QA_Dataset")
    data.table                          # one row per question; "recording" = there is an ECG
    data.record(17)                     # ECGRecord
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit.data.mat_files import read_mat
from ecgkit.data.qa_reading import FLAVOURS, KEYS, SPLITS, is_string, is_wording
from ecgkit.types import LEADS, DataError, ECGRecord

FS, N_SAMPLES, SIGNAL_KEY = 500.0, 2500, "feats"
_STEM = re.compile(r"(\d+)(?:_hr|_lr)?")


@dataclass(frozen=True)
class PublishedFewShot:
    """table: the published keys, split, flavour ("" where the path does not say) and `recording`.

    left_out: file, sample, reason, sentence. n_in: questions listed, and broken shards, one each.
    """

    table: pd.DataFrame
    left_out: pd.DataFrame
    n_in: int
    recordings: dict[int, Path] = field(repr=False)

    def record(self, ecg_id: int) -> ECGRecord:
        """The ECG asked about. Raises DataError for one that is absent or not as published."""
        if ecg_id not in self.recordings:
            raise DataError(
                f"There is no recording of ECG {ecg_id} in this folder (looked for "
                f"{ecg_id:05d}_hr.mat); download the recordings beside the questions."
            )
        return read_recording(self.recordings[ecg_id], ecg_id)


def read_published_fewshot(folder: str | Path) -> PublishedFewShot:
    """Reads every shard below `folder`. Raises DataError where there is none."""
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; give the one the data set was downloaded to.")
    shards = sorted(folder.rglob("*.json"))
    rows, left_out, n_in = [], [], 0
    for path in shards:
        name = path.relative_to(folder).as_posix()
        samples, why = _samples(path)
        if why:
            n_in, left_out = n_in + 1, [*left_out, (name, -1, *why)]
            continue
        n_in += len(samples)
        where = {"split": _named(name, SPLITS), "flavour": _named(name, FLAVOURS)}
        for i, sample in enumerate(samples):
            problem = _problem(sample)
            if problem:
                left_out.append((name, i, problem[0], f"{name}, question {i}: {problem[1]}."))
            else:
                rows.append({key: sample[key] for key in KEYS} | where)
    if not rows:
        raise DataError(
            f"No question of ECG-QA's format was found in {folder} ({len(shards)} .json files); "
            f"{left_out[0][3] if left_out else 'give the folder that holds the question shards.'}"
        )
    assert n_in == len(rows) + len(left_out), "a question was lost between shard and table"
    recordings = {_ecg_id(p): p for p in sorted(folder.rglob("*.mat")) if _ecg_id(p) is not None}
    table = pd.DataFrame(rows)
    table["recording"] = [all(i in recordings for i in ids) for ids in table["ecg_id"]]
    listed = pd.DataFrame(left_out, columns=["file", "sample", "reason", "sentence"])
    return PublishedFewShot(table, listed, n_in, recordings)


def read_recording(path: str | Path, ecg_id: int = 0) -> ECGRecord:
    """One .mat file. Raises DataError for another layout, or numbers that are none."""
    path = Path(path)
    try:
        found = read_mat(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path.name} cannot be read ({error}); download it again.") from None
    signal = found.get(SIGNAL_KEY)
    if signal is None or signal.shape != (len(LEADS), N_SAMPLES) or signal.dtype.kind not in "fiu":
        what = f"{SIGNAL_KEY} of shape {signal.shape}" if signal is not None else list(found)
        raise DataError(
            f"{path.name} holds {what}; {SIGNAL_KEY} of shape {(len(LEADS), N_SAMPLES)} is what "
            "the published code reads."
        )
    if not np.isfinite(signal).all():
        raise DataError(f"{path.name} holds samples that are not finite; leave this ECG out.")
    return ECGRecord(signal.astype(np.float32), FS, LEADS, ecg_id, {"file": path.name})


# --- shards ---------------------------------------------------------------------------------------


def _samples(path: Path) -> tuple[list, tuple[str, str] | None]:
    """What a shard lists, or why it cannot be used."""
    try:
        samples = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        return [], ("broken_json", f"{path.name} is broken JSON ({error}); download it again.")
    if not isinstance(samples, list):
        return [], ("foreign_json", f"{path.name} is no list of questions.")
    return samples, None


def _problem(sample) -> tuple[str, str] | None:
    missing = KEYS if not isinstance(sample, dict) else [k for k in KEYS if k not in sample]
    if missing:
        return "missing_key", f"it has no key {', '.join(missing)}"
    answer, ids, attribute = sample["answer"], sample["ecg_id"], sample["attribute"]
    right = {
        "question": is_wording(sample["question"]),
        "question_type": is_string(sample["question_type"]),
        "answer": isinstance(answer, list) and bool(answer) and all(map(is_string, answer)),
        "ecg_id": isinstance(ids, list) and bool(ids) and all(type(i) is int for i in ids),
        "attribute": attribute is None or isinstance(attribute, list),
    }
    wrong = [key for key, well in right.items() if not well]
    return ("ill_typed", f"{wrong[0]} is {repr(sample[wrong[0]])[:60]}") if wrong else None


def _named(name: str, choices: tuple[str, ...]) -> str:
    return next((part for part in name.split("/") if part in choices), "")


def _ecg_id(path: Path) -> int | None:
    found = _STEM.fullmatch(path.stem)
    return int(found.group(1)) if found else None
