"""A finished store: every record once in memory-mapped shards, what is known of it in a table.

    <folder>/store.json         key, fs, seconds, leads, counts
             shard-00000.npy    (n,) int16: records one after another, each (C, T) in C order
             index.csv          row, ecg_id, shard, start, n_samples, gain + quality.COLUMNS
             quarantine.csv     ecg_id, reason, sentence, source
             parts/             what each finished shard adds to both tables; where a build resumes

mV = int16 / gain in float32, to the last bit what WFDB's own quotient gives; a product with
1 / gain would be a fifth faster and one rounding step off.

Usage:

    store = Store(folder)
    batch = store.read([3, 5, 8])                       # (3, C, T) float32 mV
    store.read(rows, out=buffer)                        # without new memory, for loops
    padding = store.mask([3, 5, 8])                     # (3, T) bool
"""

from __future__ import annotations

import json
import resource
import threading
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals

from ecgkit import runtime
from ecgkit.data.packing import MISSING, read_gains
from ecgkit.signal import fill_nan
from ecgkit.types import DataError

FLOAT32 = np.dtype(np.float32)
# What must not be guessed from the first rows: a digest of digits alone is no number.
INDEX_TYPES = {
    "shard": np.int32,
    "start": np.int64,
    "n_samples": np.int32,
    "gain": "category",
    "lead_order": "category",
    "n_missing": np.int32,
    "digest": str,
}
QUARANTINE_COLUMNS = ("ecg_id", "reason", "sentence", "source")
# What reading needs; the other columns are read when they are asked for.
PLACES = ["shard", "start", "n_samples", "gain", "n_missing"]


class Store:
    """`fs` Hz, `leads`, `seconds` (None: each record has its own length), `index`, `quarantine`.

    `lengths` (n,) are samples a record has, `n_samples` is T of a uniform store, else the longest.
    A batch is as long as `n_samples` in a uniform store (shorter records stand in the middle
    between zeros), else as its longest record (zeros behind the others). Copies in other processes
    open their own maps.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        with runtime.reading_cached(self.folder):
            about = json.loads((self.folder / "store.json").read_text())
            places = _read_places(self.folder / "index.csv")
            self.quarantine = pd.read_csv(
                self.folder / "quarantine.csv", keep_default_na=False, usecols=QUARANTINE_COLUMNS
            )
            self._take(about, places)
        self._maps = _Maps(self.folder)

    def _take(self, about: dict, places: pd.DataFrame) -> None:
        """Sets what reading needs. Raises ValueError where something is cut short."""
        self.fs, self.seconds, self.key = about["fs"], about["seconds"], about["key"]
        self.n_in, self.n_samples = about["n_in"], about["n_samples"]
        self.leads, self.dtype = tuple(about["leads"]), np.dtype(about["dtype"])
        self.align, self.unit = about["align"], about["unit"]
        self.lengths = places["n_samples"].to_numpy(np.int64)
        one_length = self.seconds is not None or (self.lengths == self.n_samples).all()
        self._common_width = self.n_samples if one_length else None
        self._shard = places["shard"].to_numpy(np.int64)
        self._start = places["start"].to_numpy(np.int64)
        self._code, self._gains = read_gains(places["gain"], len(self.leads))
        self._one_gain = (self._gains == self._gains[:, :1]).all(axis=1)
        self._digital = self.dtype != FLOAT32
        self._has_gaps = places["n_missing"].to_numpy() > 0
        if (len(self), len(self.quarantine)) != (about["n_stored"], about["n_quarantined"]):
            raise ValueError("a table is cut short")
        self._check_shards()

    @cached_property
    def index(self) -> pd.DataFrame:
        """One line per record: ecg_id, where it lies, gain, and what `quality` found."""
        with runtime.reading_cached(self.folder):
            return _read_index(self.folder / "index.csv")

    def __len__(self) -> int:
        return len(self.lengths)

    def __reduce__(self):
        # A copy is opened from the files, once per process: quicker than sending the tables along.
        return _reopened, (str(self.folder), self.key)

    def read(self, rows, fill: bool = True, out: np.ndarray | None = None) -> np.ndarray:
        """Rows (B,) -> (B, C, T) float32 mV; gaps become their lead's mean, NaN with `fill=False`.

        `out` is filled and returned when given; in a store of unlike lengths its T may be larger
        than the batch needs. Raises DataError for a row outside the store or an `out` that does not
        fit.
        """
        rows = self._checked(rows)
        out = self._buffer(rows, out)
        for b, row in enumerate(rows):
            self._read_one(row, fill, out[b])
        return out

    def packed(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """One record as stored: (C, T) int16 (or float32), read-only, and its gains (C,) per mV."""
        [row] = self._checked(row)
        return self._values(row), self._gains[self._code[row]]

    def mask(self, rows) -> np.ndarray:
        """Rows (B,) -> (B, T) bool, True where `read` of the same rows has padding."""
        rows = self._checked(rows)
        n = self.lengths[rows][:, None]
        width = self._width(rows)
        start = (width - n) // 2 if self.align == "centre" else 0
        at = np.arange(width) - start  # (B, T) or (T,): position within the record
        return (at < 0) | (at >= n)

    def describe(self) -> str:
        """What a batch is (shape, unit, fs, leads), how much there is, and what was left out."""
        shortest, longest = self.lengths.min() / self.fs, self.lengths.max() / self.fs
        length = f"{longest:g} s" if shortest == longest else f"{shortest:g} to {longest:g} s"
        width = self._common_width or "T"
        n_bytes = int(self.lengths.sum()) * len(self.leads) * self.dtype.itemsize
        reasons = self.quarantine["reason"].value_counts()
        why = "".join(f", {n} {reason}" for reason, n in reasons.items())
        return (
            f"{self.n_in} ECGs in = {len(self)} stored + {len(self.quarantine)} quarantined{why}\n"
            f"a batch: (B, {len(self.leads)}, {width}) float32 {self.unit} at {self.fs:g} Hz, "
            f"{length} each, leads {' '.join(self.leads)}\n"
            f"on disk: {self.dtype} in {self._shard.max() + 1} shards, {n_bytes / 1e6:,.1f} MB; "
            f"{int(self._has_gaps.sum())} ECGs have gaps"
        )

    def _check_shards(self) -> None:
        """Raises OSError or ValueError unless each shard is there, as long as its records are."""
        for row in np.flatnonzero(np.diff(self._shard, append=-1)).tolist():
            path = _shard_path(self.folder, self._shard.item(row))
            end = self._start.item(row) + len(self.leads) * self.lengths.item(row)
            if path.stat().st_size < end * self.dtype.itemsize:
                raise ValueError(f"{path.name} is cut short")

    def _read_one(self, row: int, fill: bool, out: np.ndarray) -> None:
        """Fills `out` (C, T): two passes over 240 kB that stay in the cache between them."""
        values, code = self._values(row), self._code.item(row)
        n, width = values.shape[1], out.shape[1]
        if n != width:
            start = (width - n) // 2 if self.align == "centre" else 0
            out[:, :start], out[:, start + n :] = 0, 0
            out = out[:, start : start + n]
        np.copyto(out, values)
        if self._digital:
            gain = self._gains[code]
            np.divide(out, gain[0] if self._one_gain.item(code) else gain[:, None], out=out)
        if self._has_gaps.item(row):
            if self._digital:
                out[values == MISSING] = np.nan
            if fill:
                out[:] = fill_nan(out)

    def _values(self, row: int) -> np.ndarray:
        """(C, T) as it lies in the map."""
        n, start = self.lengths.item(row), self._start.item(row)
        n_leads = len(self.leads)
        flat = self._maps[self._shard.item(row)]
        return flat[start : start + n_leads * n].reshape(n_leads, n)

    def _checked(self, rows) -> list[int]:
        return checked_rows(rows, len(self), "store")

    def _width(self, rows: list[int]) -> int:
        if self._common_width is not None or not rows:
            return self.n_samples
        return int(self.lengths[rows].max())

    def _buffer(self, rows: list[int], out: np.ndarray | None) -> np.ndarray:
        shape = (len(rows), len(self.leads), self._width(rows))
        if out is None:
            return np.empty(shape, np.float32)
        check_buffer(out, shape, ragged=self.seconds is None)
        return out


def checked_rows(rows, n: int, what: str) -> list[int]:
    """Rows of a `what` of n ECGs as a list. Raises DataError for one outside it."""
    rows = np.asarray(rows, np.int64).reshape(-1).tolist()
    if rows and (min(rows) < 0 or max(rows) >= n):
        bad = min(rows) if min(rows) < 0 else max(rows)
        raise DataError(f"Row {bad} is outside the {what} of {n} ECGs.")
    return rows


def check_buffer(out: np.ndarray, shape: tuple[int, int, int], ragged: bool) -> None:
    """Raises DataError where `out` is not float32 (B, C, T); a `ragged` one may be longer."""
    fits = out.shape == shape or (
        ragged and out.shape[:2] == shape[:2] and out.shape[2:] > shape[2:]
    )
    if not fits or out.dtype != FLOAT32:
        raise DataError(
            f"out is {out.dtype} of shape {out.shape}; these rows need float32 {shape}."
        )


@lru_cache(maxsize=8)
def _reopened(folder: str, key: str) -> Store:
    return Store(folder)


def _shard_path(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.npy"


def _read_places(path: Path) -> pd.DataFrame:
    """The columns in PLACES, in pieces: the parser takes ten times what they hold in the end."""
    pieces = list(pd.read_csv(path, dtype=INDEX_TYPES, usecols=PLACES, chunksize=2048))
    gain = union_categoricals([piece["gain"] for piece in pieces])
    numbers = pd.concat([piece.drop(columns="gain") for piece in pieces], ignore_index=True)
    return numbers.assign(gain=gain)


def _read_index(path: Path) -> pd.DataFrame:
    index = pd.read_csv(path, dtype=INDEX_TYPES)
    for column in index.columns[index.dtypes == "category"]:
        if index[column].isna().any():  # '' was written
            index[column] = index[column].cat.add_categories([""]).fillna("")
    return index


class _Maps:
    """Open shards by number, so many at most that other files can still be opened."""

    # Each map holds a file descriptor; a quarter of them leaves room for workers and sockets.
    LIMIT = max(8, min(1024, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4))

    def __init__(self, folder: Path):
        self.folder = folder
        self._open: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()

    def __getitem__(self, shard: int) -> np.ndarray:
        found = self._open.get(shard)
        return found if found is not None else self._map(shard)

    def _map(self, shard: int) -> np.ndarray:
        with runtime.reading_cached(self.folder):
            found = np.load(_shard_path(self.folder, shard), mmap_mode="r").view(np.ndarray)
        with self._lock:
            while len(self._open) >= self.LIMIT:
                self._open.pop(next(iter(self._open)))  # the one opened first
            self._open[shard] = found
        return found
