"""The store: every record once, as int16 in memory-mapped shards with its gains in an index table.

    <folder>/store.json         fs, seconds, leads, counts, key
             shard-00000.npy    (n, C, T) int16
             index.csv          row, ecg_id, shard, position, gain, n_missing, n_source
             quarantine.csv     ecg_id, reason, sentence, source
             parts/             what each finished shard adds to both tables; where a build resumes

mV = int16 / gain. PTB-XL's own digital values are kept as they are, so nothing is lost; only a
record that had to be resampled, or whose values leave int16, is rounded again (with a gain that
uses the full range).

Usage:
    store = build_store(folder, jobs, place, fs=100, seconds=10.0, key="...")
    store = Store(folder)                   # once it exists
    batch = store.read([3, 5, 8])           # (3, C, T) float32 mV
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit import runtime
from ecgkit.data.records import RecordError, read_raw
from ecgkit.signal import resample
from ecgkit.types import LEADS, DataError

VERSION = 1
SHARD_SIZE = 1024
MISSING = -32768
INDEX_COLUMNS = ["ecg_id", "shard", "position", "gain", "n_missing", "n_source"]
QUARANTINE_COLUMNS = ["ecg_id", "reason", "sentence", "source"]


@dataclass(frozen=True)
class Packed:
    """One record as it goes into a shard: `values` (C, T) int16 and `gain` (C,) per mV."""

    values: np.ndarray
    gain: np.ndarray
    n_missing: int
    n_source: int


class Store:
    """A finished store: `fs` Hz, `seconds`, `leads`, `n_samples` (T), `index`, `quarantine`."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        try:
            about = json.loads((self.folder / "store.json").read_text())
            self.index = pd.read_csv(self.folder / "index.csv", dtype={"gain": str})
            self.quarantine = pd.read_csv(self.folder / "quarantine.csv", keep_default_na=False)
        except (OSError, ValueError) as error:
            raise DataError(
                f"The store in {self.folder.name} cannot be read ({error}); delete that folder and "
                "run again to have it rebuilt."
            ) from error
        self.fs, self.seconds, self.key = about["fs"], about["seconds"], about["key"]
        self.n_in = about["n_in"]
        self.leads, self.n_samples = tuple(about["leads"]), about["n_samples"]
        self._shard = self.index["shard"].to_numpy(np.int64)
        self._position = self.index["position"].to_numpy(np.int64)
        self._gain = _unpack_gains(self.index["gain"], len(self.leads))
        self._has_gaps = self.index["n_missing"].to_numpy() > 0
        self._maps: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.index)

    def read(self, rows, fill: bool = True) -> np.ndarray:
        """Rows (B,) -> (B, C, T) float32 mV; gaps become their lead's mean, NaN with `fill=False`.

        Raises DataError for a row outside the store.
        """
        rows = self._checked(rows)
        values = self._digital(rows)
        signal = values.astype(np.float32)
        signal /= self._gain[rows][:, :, None]
        gaps = np.flatnonzero(self._has_gaps[rows])
        for b in gaps:  # rare: PTB-XL has none
            signal[b][values[b] == MISSING] = np.nan
            if fill:
                mean = np.nan_to_num(_nanmean(signal[b]))
                signal[b] = np.where(np.isnan(signal[b]), mean[:, None], signal[b])
        return signal

    def _checked(self, rows) -> np.ndarray:
        rows = np.atleast_1d(np.asarray(rows, dtype=np.int64))
        if rows.size and (rows.min() < 0 or rows.max() >= len(self)):
            raise DataError(
                f"Row {rows.max() if rows.max() >= len(self) else rows.min()} is outside the store "
                f"of {len(self)} ECGs."
            )
        return rows

    def _digital(self, rows: np.ndarray) -> np.ndarray:
        """(B,) -> (B, C, T) int16, one gather per shard touched."""
        shards = self._shard[rows]
        touched = np.unique(shards)
        if len(touched) == 1:
            return self._map(touched[0])[self._position[rows]]
        out = np.empty((len(rows), len(self.leads), self.n_samples), np.int16)
        for shard in touched:
            here = shards == shard
            out[here] = self._map(shard)[self._position[rows[here]]]
        return out

    def _map(self, shard: int) -> np.ndarray:
        if shard not in self._maps:
            path = self.folder / f"shard-{shard:05d}.npy"
            try:
                self._maps[shard] = np.load(path, mmap_mode="r")
            except (OSError, ValueError) as error:
                raise DataError(
                    f"{path.name} of the store {self.folder.name} cannot be read ({error}); delete "
                    "that folder and run again to have it rebuilt."
                ) from error
        return self._maps[shard]


# --- one record -----------------------------------------------------------------------------------


def pack(raw, fs: int, n_samples: int, leads: tuple[str, ...] = LEADS) -> Packed:
    """RawRecord -> int16 (C, T) at `fs`, cropped or padded around its centre.

    Raises RecordError: missing_leads, no_signal (every lead missing or constant).
    """
    raw = raw.select(leads)
    digital = raw.digital.astype(np.int32) - raw.baseline[:, None]
    missing = raw.missing
    if missing is not None and missing.all():
        raise RecordError("no_signal", "every sample of every lead is marked as missing")
    low, high = (
        (digital, digital)
        if missing is None
        else (
            np.where(missing, np.iinfo(np.int32).max, digital),
            np.where(missing, np.iinfo(np.int32).min, digital),
        )
    )
    if (high.max(axis=1) <= low.min(axis=1)).all():
        raise RecordError("no_signal", "every lead is constant")
    n_source = digital.shape[1]
    if raw.fs != fs or np.abs(digital).max() > 32767:
        values, gain = _requantise(raw.millivolts(), raw.fs, fs)
    else:
        values, gain = digital.astype(np.int16), raw.gain
        if missing is not None:
            values[missing] = MISSING
    values = _centre(values, n_samples)
    return Packed(values, gain, int((values == MISSING).sum()), n_source)


def _requantise(signal: np.ndarray, fs_in: float, fs_out: int) -> tuple[np.ndarray, np.ndarray]:
    """mV (C, T) -> int16 at the new rate with a gain that uses the range; gaps stay gaps."""
    gaps = np.isnan(signal)
    filled = np.where(gaps, np.nan_to_num(_nanmean(signal))[:, None], signal)
    filled = resample(filled, fs_in, fs_out)
    gain = np.float32(32000 // max(float(np.abs(filled).max()), 1e-3))
    values = np.rint(filled * gain).astype(np.int16)
    if gaps.any():
        at = np.minimum(
            (np.arange(values.shape[1]) * fs_in / fs_out).round().astype(int), gaps.shape[1] - 1
        )
        values[gaps[:, at]] = MISSING
    return values, np.full(len(signal), gain, np.float64)


def _centre(values: np.ndarray, n_samples: int) -> np.ndarray:
    """(C, T') -> (C, T): the middle of a longer record, or a shorter one between zeros."""
    spare = n_samples - values.shape[1]
    if spare <= 0:
        start = -spare // 2
        return values[:, start : start + n_samples]
    return np.pad(values, ((0, 0), (spare // 2, spare - spare // 2)))


def _nanmean(signal: np.ndarray) -> np.ndarray:
    """(C, T) -> (C,) mean of the samples that are there, NaN for a lead without any."""
    there = ~np.isnan(signal)
    with np.errstate(invalid="ignore"):
        return np.where(there, signal, 0).sum(axis=1) / there.sum(axis=1)


# --- all records ----------------------------------------------------------------------------------


def build_store(
    folder: str | Path,
    jobs: list[tuple[int | str, str]],
    place,
    fs: int,
    seconds: float,
    key: str,
    quarantined: list[dict] | None = None,
) -> Store:
    """Writes the store of `jobs` [(ecg_id, record name)], or goes on where a build stopped.

    `quarantined` are records refused before they could be read; they are counted in. A record that
    cannot be used goes to the quarantine and the rest goes on. Raises DataError when not one record
    could be stored.
    """
    folder = Path(folder)
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    n_samples = round(fs * seconds)
    starts = range(0, len(jobs), SHARD_SIZE)
    for shard, start in enumerate(runtime.progress(starts, "storing shards")):
        part = folder / "parts" / f"{shard:05d}.json"
        if not _finished(part, key):
            _write_shard(folder, shard, jobs[start : start + SHARD_SIZE], place, fs, n_samples, key)
    parts = [
        json.loads((folder / "parts" / f"{shard:05d}.json").read_text())
        for shard in range(len(starts))
    ]
    index = pd.DataFrame([row for p in parts for row in p["index"]], columns=INDEX_COLUMNS)
    bad = (quarantined or []) + [row for p in parts for row in p["quarantine"]]
    quarantine = pd.DataFrame(bad, columns=QUARANTINE_COLUMNS)
    n_in = len(jobs) + len(quarantined or [])
    assert n_in == len(index) + len(quarantine), (
        "each record is stored or quarantined, never both or neither"
    )
    if index.empty:
        raise DataError(
            f"None of {n_in} records could be stored; the first: {quarantine['sentence'].iloc[0]}"
            if n_in
            else "The table lists no record, so there is nothing to store."
        )
    _atomic(folder / "index.csv", lambda path: index.to_csv(path, index_label="row"))
    _atomic(folder / "quarantine.csv", lambda path: quarantine.to_csv(path, index=False))
    about = {
        "version": VERSION,
        "key": key,
        "fs": fs,
        "seconds": seconds,
        "leads": list(LEADS),
        "n_in": n_in,
        "n_samples": n_samples,
        "n_stored": len(index),
        "n_quarantined": len(quarantine),
    }
    _atomic(folder / "store.json", lambda path: path.write_text(json.dumps(about, indent=2) + "\n"))
    return Store(folder)


def _finished(part: Path, key: str) -> bool:
    """Whether a shard was written, for this very key (another's leftovers are written over)."""
    try:
        return json.loads(part.read_text())["key"] == key
    except (OSError, ValueError, KeyError):
        return False


def _write_shard(
    folder: Path, shard: int, jobs: list, place, fs: int, n_samples: int, key: str
) -> None:
    """Writes one shard, then its part file: the shard counts as finished once that is there."""
    # Reading and inflating release the GIL: the second thread helps where files are slow to come.
    with ThreadPoolExecutor(max_workers=2) as pool:
        outcomes = list(pool.map(lambda job: _try_record(place, job, fs, n_samples), jobs))
    index, quarantine, values = [], [], []
    for (ecg_id, name), outcome in zip(jobs, outcomes):
        if isinstance(outcome, RecordError):
            sentence = f"Record {ecg_id} is left out: {outcome}."
            quarantine.append(
                {"ecg_id": ecg_id, "reason": outcome.reason, "sentence": sentence, "source": name}
            )
            continue
        index.append(
            {
                "ecg_id": ecg_id,
                "shard": shard,
                "position": len(values),
                "gain": _pack_gain(outcome.gain),
                "n_missing": outcome.n_missing,
                "n_source": outcome.n_source,
            }
        )
        values.append(outcome.values)
    stacked = np.stack(values) if values else np.empty((0, len(LEADS), n_samples), np.int16)
    _atomic(folder / f"shard-{shard:05d}.npy", lambda path: _save(path, stacked))
    part = {"key": key, "index": index, "quarantine": quarantine}
    _atomic(folder / "parts" / f"{shard:05d}.json", lambda path: path.write_text(json.dumps(part)))


def _try_record(place, job: tuple, fs: int, n_samples: int) -> Packed | RecordError:
    try:
        return pack(read_raw(place, job[1]), fs, n_samples)
    except RecordError as error:
        return error


def _save(path: Path, values: np.ndarray) -> None:
    with open(path, "wb") as file:
        np.save(file, values)


def _atomic(path: Path, write) -> None:
    """Writes beside `path` and renames, so that a reader (or a kill) never meets half a file."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    write(temporary)
    os.replace(temporary, path)


def _pack_gain(gain: np.ndarray) -> str:
    """One number where all leads share it, else one per lead, split by blanks."""
    unique = np.unique(gain)
    return " ".join(f"{g:.10g}" for g in (unique if len(unique) == 1 else gain))


def _unpack_gains(column: pd.Series, n_leads: int) -> np.ndarray:
    """The gain column -> (n, C) float32."""
    table = {
        text: np.broadcast_to(np.array(text.split(), np.float32), n_leads)
        for text in column.unique()
    }
    return (
        np.stack([table[text] for text in column])
        if len(column)
        else np.empty((0, n_leads), np.float32)
    )
