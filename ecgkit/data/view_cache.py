"""A view written once as a store of its own, for loops that read it many times.

Where the view leaves the samples as they are (leads, crop, pad, segment), the store's own digital
values are copied. Else each lead of each row is rounded to int16 with a gain chosen from its range:
what is read back is within max/64000 of the view, max being the largest value of that lead in that
row (20 microvolts of 1.3 V, or 1e-4 standard deviations of 6). Gaps stay gaps: a read fills them
with the mean of their lead, where the view fills them before it resamples and filters.

Usage:

    fast = write_view(View(store, fs=100, filter="bandpass"))     # <cache>/view-<key>
    fast.read(rows), fast.mask(rows)
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np

from ecgkit import runtime
from ecgkit.data.packing import MISSING, Packed
from ecgkit.data.shards import Store
from ecgkit.data.store import INDEX_COLUMNS, write_store
from ecgkit.types import DataError

# The largest value of a lead becomes 32700 at most and, with gains of four digits, 32667 at least.
LARGEST = 32700


def write_view(view, folder: str | Path | None = None, workers=None) -> Store:
    """The view as a Store in `folder` (None = the cache, named by the view's key).

    Killed, it goes on where it stopped; finished, it is opened. Columns of the index are the
    view's. Raises DataError for a view without rows.
    """
    folder = Path(folder or runtime.cache_dir() / f"view-{view.key}")
    found = _finished(folder, view.key)
    if found is not None:
        return found
    if not len(view):
        raise DataError(
            f"The view ({view.describe()}) has no rows, so there is nothing to cache; choose "
            "shorter windows."
        )
    pack = _ViewPacker(view)
    return write_store(
        folder,
        list(zip(view.index["ecg_id"].tolist(), ["view"] * len(view), range(len(view)))),
        pack,
        key=view.key,
        fs=view.fs,
        columns=tuple(pack.columns),
        seconds=view.seconds,
        leads=view.leads,
        align=view.align,
        unit=view.unit,
        quarantined=view.quarantine.to_dict("records"),
        workers=workers,
    )


def _finished(folder: Path, key: str) -> Store | None:
    """The store in `folder` if it is this view's; store.json is the last file to be written."""
    if not (folder / "store.json").exists():
        return None
    store = Store(folder)
    return store if store.key == key else None


class _ViewPacker:
    """job (ecg_id, source, row of the view) -> Packed; each process opens the store for itself."""

    def __init__(self, view):
        self.view = view
        self._held = (-1, 0, None)

    def __reduce__(self):
        return _ViewPacker, (self.view,)

    def __call__(self, job: tuple) -> Packed:
        row = job[2]
        columns = {name: values.item(row) for name, values in self.columns.items()}
        as_stored = self.view.packed(row)
        if as_stored is not None:
            return Packed(*as_stored, columns)
        return Packed(*quantise(self._signal(row)), columns)

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """What the index says of each row, besides what the store writes itself.

        Arrays, as lists of numbers would take four times as much memory in each process.
        """
        index = self.view.index
        return {
            name: index[name].to_numpy()
            for name in index.columns
            if name not in ("row", *INDEX_COLUMNS)
        }

    def _signal(self, row: int) -> np.ndarray:
        """(C, n) without padding; windows of one record are computed together."""
        record, first, signals = self._held
        if record != self.view.record_of[row]:
            record = self.view.record_of[row]
            first, end = np.searchsorted(self.view.record_of, [record, record + 1])
            signals = self.view.read(np.arange(first, end), fill=False)
            self._held = (record, first, signals)
        return signals[row - first][:, ~self.view.mask([row])[0]]


def quantise(signal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(C, T), NaN in gaps -> int16 (C, T) and the gain (C,) of each lead that uses its range.

    int16 / gain is within max/64000 of the signal, max being the lead's largest absolute value.
    """
    gaps = np.isnan(signal)
    filled = np.where(gaps, 0, signal)
    # Below 1e-6 of any unit there is nothing but rounding.
    gain = LARGEST / np.maximum(np.abs(filled).max(axis=1, initial=0), 1e-6).astype(np.float64)
    digit = 10.0 ** (np.floor(np.log10(gain)) - 3)
    gain = np.floor(gain / digit) * digit  # four digits: a short index
    values = np.rint(filled * gain[:, None]).astype(np.int16)
    values[gaps] = MISSING
    return values, gain
