"""Trying the reader on purpose: records damaged in known ways, and how long each way of reading
takes.

Usage:

    trial = damage_trial(cohort, row=0, folder=run.folder / "damaged_store")
    trial.quarantine
    for reason, sentence, record in quarantine_examples(cohort, 0, folder): ...
    reading_times(cohort, rows=range(100))
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit.data import sources
from ecgkit.data.damages import as_far_as_readable, damaged_copies
from ecgkit.data.place import Folder
from ecgkit.data.records import read_raw
from ecgkit.data.store import Store, build_store
from ecgkit.types import LEADS, ECGRecord, canonical_lead


def damage_trial(cohort, row: int, folder: str | Path) -> Store:
    """Stores the copies of one recording that `damages.DAMAGES` lists in `folder`.

    Those without a reason there are stored, equal to the original; each other one is in the
    quarantine with its reason. The copies themselves are thrown away: no store needs them.
    """
    with tempfile.TemporaryDirectory() as copies:
        return _trial(cohort, row, folder, copies)[0]


def quarantine_examples(
    cohort, row: int, folder: str | Path
) -> list[tuple[str, str, ECGRecord | None]]:
    """(reason, sentence, record) once per reason of the quarantine, from `damage_trial`.

    The record is what can be read with all checks off, in mV, for a figure (`meta["note"]` may say
    how it is drawn); None where nothing can be.
    """
    examples = {}
    with tempfile.TemporaryDirectory() as copies:
        trial, place = _trial(cohort, row, folder, copies)
        for line in trial.quarantine.itertuples():
            if line.reason not in examples:
                record = as_far_as_readable(place, line.source)
                record = record and replace(record, ecg_id=line.ecg_id)
                examples[line.reason] = (line.reason, line.sentence, record)
    return list(examples.values())


def _trial(cohort, row: int, folder, copies) -> tuple[Store, Folder]:
    raw = read_raw(cohort.place, cohort.table["source_name"].iloc[row])
    place, jobs = damaged_copies(raw, copies)
    key = f"{cohort.store.key} {row}"
    return build_store(folder, jobs, place, key=key, fs=raw.fs, rates=(raw.fs,)), place


def reading_times(cohort, rows) -> pd.DataFrame:
    """Milliseconds of processor time per ECG: `wfdb`, the kit's WFDB reader, the store (in batches
    of 32).

    Also says how far each is from `wfdb` (largest difference in mV, leads matched by name; NaN
    where the store keeps another rate or length than the files).
    """
    import wfdb

    rows = np.asarray(list(rows))
    names = cohort.table["source_name"].iloc[rows].tolist()
    with tempfile.TemporaryDirectory() as folder:
        local = Folder(Path(folder))
        flat = [_copied(cohort, name, local.root) for name in names]
        theirs, t_wfdb = _timed(lambda: [wfdb.rdrecord(str(local.root / name)) for name in flat])
        ours, t_ours = _timed(lambda: [read_raw(local, name).to_record() for name in flat])
    stored, t_store = _timed(
        lambda: np.concatenate(
            [cohort.store.read(rows[i : i + 32]) for i in range(0, len(rows), 32)]
        )
    )
    theirs = [
        ECGRecord(r.p_signal.T.astype(np.float32), r.fs, tuple(map(canonical_lead, r.sig_name)))
        for r in theirs
    ]
    theirs, ours = ([r.select(LEADS).signal for r in records] for records in (theirs, ours))
    table = pd.DataFrame(
        {
            "reader": ["wfdb", "ecgkit, from WFDB", "ecgkit, from the store"],
            "ms_per_ecg": 1000 * np.array([t_wfdb, t_ours, t_store]) / len(rows),
            "off_by_mV": [0.0, _worst(ours, theirs), _worst(stored, theirs)],
        }
    )
    table["times_faster"] = table["ms_per_ecg"].iloc[0] / table["ms_per_ecg"]
    return table


def _copied(cohort, name: str, folder: Path) -> str:
    """Copies one record's files into `folder`, under a name without folders, which it returns."""
    stem, flat = name.rsplit("/", 1)[-1], name.replace("/", "_")
    suffixes = sources.adapter(cohort.name).SUFFIXES
    for suffix in filter(lambda suffix: cohort.place.exists(name + suffix), suffixes):
        content = cohort.place.read(name + suffix)
        if suffix == ".hea":
            content = content.replace(stem.encode(), flat.encode())
        (folder / (flat + suffix)).write_bytes(content)
    return flat


def _timed(read):
    start = time.process_time()
    result = read()
    return result, max(time.process_time() - start, 1e-6)


def _worst(ours, theirs) -> float:
    """Largest difference in mV; NaN where lengths differ."""
    if any(a.shape != b.shape for a, b in zip(ours, theirs)):
        return float("nan")
    return max(float(np.nanmax(np.abs(a - b))) for a, b in zip(ours, theirs))
