"""Trying the reader on purpose: records damaged in known ways, and how long each way of reading
takes.

Usage:
    trial = damage_trial(cohort, row=0, folder=run.folder / "damaged_store")
    trial.quarantine
    reading_times(cohort, rows=range(100))
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit.data.place import Folder
from ecgkit.data.records import read_raw
from ecgkit.data.store import Store, build_store

DAMAGES = (
    "intact",
    "shuffled leads",
    "cut short",
    "header gone",
    "samples gone",
    "gain 0",
    "in mmHg",
    "lead renamed",
    "flat line",
    "four leads gone",
)


def damaged_copies(cohort, row: int, folder: str | Path) -> tuple[Folder, list[tuple[str, str]]]:
    """Copies one record of the cohort once per entry of DAMAGES and damages each copy accordingly.

    Returns the folder as a place and the jobs [(damage, record name)] for `store.build_store`. Only
    "intact" and "shuffled leads" are usable. Needs single-file records, as PTB-XL has.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    source = cohort.table["source_name"].iloc[row]
    header, samples = (cohort.place.read(source + suffix) for suffix in (".hea", ".dat"))
    old, jobs = source.rsplit("/", 1)[-1], []
    for number, damage in enumerate(DAMAGES):
        name = f"record_{number:02d}"
        text, data = _damage(header.decode().replace(old, name), samples, damage)
        (folder / f"{name}.hea").write_text(text)
        (folder / f"{name}.dat").write_bytes(data)
        for suffix in {"header gone": [".hea"], "samples gone": [".dat"]}.get(damage, []):
            (folder / (name + suffix)).unlink()
        jobs.append((damage, name))
    return Folder(folder), jobs


def damage_trial(cohort, row: int, folder: str | Path) -> Store:
    """Stores the damaged copies in `folder` and throws the copies away: no store needs them."""
    with tempfile.TemporaryDirectory() as copies:
        place, jobs = damaged_copies(cohort, row, copies)
        seconds = cohort.store.n_samples / cohort.store.fs
        key = f"{cohort.store.key} {row}"
        return build_store(folder, jobs, place, key=key, fs=cohort.store.fs, seconds=seconds)


def _damage(header: str, samples: bytes, damage: str) -> tuple[str, bytes]:
    first, *lines = header.splitlines()
    values = np.frombuffer(samples, "<i2").reshape(-1, 12)  # (T, C)
    if damage == "shuffled leads":
        order = np.random.default_rng(0).permutation(12)
        lines[:12], values = [lines[i] for i in order], values[:, order]
    elif damage == "cut short":
        values = values[: len(values) // 3]
    elif damage == "gain 0":
        lines[3] = lines[3].replace("1000", "0", 1)
    elif damage == "in mmHg":
        lines[0] = lines[0].replace("/mV", "/mmHg")
    elif damage == "lead renamed":
        lines[11] = " ".join([*lines[11].split()[:8], "EEG"])
    elif damage == "flat line":
        values = np.zeros_like(values)
    elif damage == "four leads gone":
        words = first.split()
        first = " ".join([words[0], "8", *words[2:]])
        lines, values = lines[:8] + lines[12:], values[:, :8]
    return "\n".join([first, *lines]) + "\n", np.ascontiguousarray(values).tobytes()


def reading_times(cohort, rows) -> pd.DataFrame:
    """Milliseconds of processor time per ECG: `wfdb`, the kit's WFDB reader, the store (in batches
    of 32).

    Also says how far each is from `wfdb` (largest difference in mV, where rate and length agree).
    """
    import wfdb

    rows = np.asarray(list(rows))
    names = cohort.table["source_name"].iloc[rows].tolist()
    with tempfile.TemporaryDirectory() as folder:
        local = Folder(Path(folder))
        for name in names:
            for suffix in (".hea", ".dat"):
                path = local.root / (name.replace("/", "_") + suffix)
                text = cohort.place.read(name + suffix)
                stem = name.rsplit("/", 1)[-1]
                path.write_bytes(
                    text.replace(stem.encode(), path.stem.encode()) if suffix == ".hea" else text
                )
        flat = [name.replace("/", "_") for name in names]
        theirs, t_wfdb = _timed(
            lambda: [
                wfdb.rdrecord(str(local.root / name)).p_signal.T.astype(np.float32) for name in flat
            ]
        )
        ours, t_ours = _timed(lambda: [read_raw(local, name).millivolts() for name in flat])
    stored, t_store = _timed(
        lambda: np.concatenate(
            [cohort.store.read(rows[i : i + 32]) for i in range(0, len(rows), 32)]
        )
    )
    table = pd.DataFrame(
        {
            "reader": ["wfdb", "ecgkit, from WFDB", "ecgkit, from the store"],
            "ms_per_ecg": 1000 * np.array([t_wfdb, t_ours, t_store]) / len(rows),
            "off_by_mV": [0.0, _worst(ours, theirs), _worst(stored, theirs)],
        }
    )
    table["times_faster"] = table["ms_per_ecg"].iloc[0] / table["ms_per_ecg"]
    return table


def _timed(read):
    start = time.process_time()
    result = read()
    return result, max(time.process_time() - start, 1e-6)


def _worst(ours, theirs) -> float:
    """Largest difference in mV; NaN where the store keeps another rate or length than the files."""
    if any(a.shape != b.shape for a, b in zip(ours, theirs)):
        return float("nan")
    return max(float(np.nanmax(np.abs(a - b))) for a, b in zip(ours, theirs))
