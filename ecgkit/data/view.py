"""A view: the recordings of a store at another rate, length, filter, scale or lead set, computed as
they are read, so that one store serves every study.

Order, as in `signal.preprocess`: leads, gaps filled, resample, filter the whole record, crop or pad
or segment, normalise. Padding is put around what is finished: it is 0, has no share in a filter's
edge or a z-score, and `mask` says where it is.

Usage:

    view = View(store, fs=250, seconds=5, length="segment", leads=("II", "V5"), filter="highpass")
    view.read([0, 1]), view.mask([0, 1])         # (2, 2, 1250) float32, (2, 1250) bool
    view.record_of                               # (n,) the store's row of each window
    fast = view.cached()                         # the same as a store on disk, see view_cache
"""

from __future__ import annotations

from functools import cached_property, partial

import numpy as np
import pandas as pd

from ecgkit.config.base import short_hash
from ecgkit.data.shards import Store, check_buffer, checked_rows
from ecgkit.data.view_cache import write_view
from ecgkit.signal import FILTERS, NORMALISE, condition, normalise_signal
from ecgkit.types import DataError

LENGTHS = ("crop", "pad", "segment")
SCORED = "standard deviations"
BLOCK = 16  # records worked on at once: larger blocks leave the processor's cache
VERSION = 1  # of what a recipe gives; part of the key
_PLACES = ("row", "shard", "start", "gain")  # index columns that say where the base keeps a record


class View:
    """`store` (a Store or another View) as read through one recipe; same reading protocol.

    fs: Hz, None = the store's. seconds: None = as long as the store gives them. length: `crop` (the
    middle of a longer record, a shorter one centred between zeros), `pad` (the start of a longer
    one, zeros behind a shorter one) or `segment` (consecutive windows of a record; its last one is
    padded where at least half of it is there, else left out). filter, normalise: see `signal`;
    `global` runs over the leads chosen. leads: a subset, in any order. mains: 50 or 60 Hz, for
    `powerline`.
    Raises DataError for a setting that does not exist or fit.
    """

    def __init__(
        self,
        store,
        fs: float | None = None,
        seconds: float | None = None,
        length: str = "crop",
        filter: str = "none",
        normalise: str = "none",
        leads: tuple[str, ...] | None = None,
        mains: float = 50.0,
    ):
        self.store, self.fs, self.leads = store, fs or store.fs, tuple(leads or store.leads)
        if seconds is None and length != "segment":  # keep what the store does
            seconds, length = store.seconds, "crop" if store.align == "centre" else "pad"
        self.seconds, self.align = seconds, "centre" if length == "crop" and seconds else "start"
        self.recipe = {
            "fs": self.fs,
            "seconds": seconds,
            "length": length,
            "filter": filter,
            "normalise": normalise,
            "leads": self.leads,
            "mains": mains,
        }
        _check(store, self.recipe)
        self.key = short_hash([VERSION, store.key, self.recipe])
        self.unit = store.unit if normalise == "none" else SCORED
        whole = self.leads == tuple(store.leads)
        self._columns = slice(None) if whole else [store.leads.index(lead) for lead in self.leads]
        self._own = np.rint(store.lengths * self.fs / store.fs).astype(np.int64)
        T = None if seconds is None else round(self.fs * seconds)
        # Row i is the samples start .. start + lengths of record_of[i]; they begin at `at` in what
        # is read. These four hold every way of cutting.
        self.record_of, self._start, self.lengths, self._at = _cuts(self._own, T, length)
        self.n_samples = T or int(self._own.max(initial=0))
        self._gaps = store.index["n_missing"].to_numpy() > 0
        self._plain = self._changes_nothing()

    def __reduce__(self):
        return partial(View, **self.recipe), (self.store,)

    def __len__(self) -> int:
        return len(self.record_of)

    # --- reading ----------------------------------------------------------------------------------

    def read(self, rows, fill: bool = True, out: np.ndarray | None = None) -> np.ndarray:
        """Rows (B,) -> (B, C, T) float32 in `unit`, into `out` where given; T as in `Store.read`.

        Gaps are filled before anything is computed; `fill=False` marks them NaN again at the end.
        Raises DataError for a row outside the view.
        """
        if self._plain:
            return self.store.read(rows, fill=fill, out=out)
        rows = self._checked(rows)
        out = self._buffer(rows, out)
        lengths = self._own[self.record_of[rows]]
        for length in np.unique(lengths):
            here = np.flatnonzero(lengths == length)
            records, which = np.unique(self.record_of[rows[here]], return_inverse=True)
            for first in range(0, len(records), BLOCK):
                block = (which >= first) & (which < first + BLOCK)
                signal, gaps = self._whole(records[first : first + BLOCK], fill)
                self._cut(signal, gaps, which[block] - first, rows[here[block]], here[block], out)
        return out

    def mask(self, rows) -> np.ndarray:
        """Rows (B,) -> (B, T) bool, True = padding; T as in `read`."""
        if self._plain:
            return self.store.mask(rows)
        rows = self._checked(rows)
        t = np.arange(self._width(rows))
        start = self._at[rows][:, None]
        return (t < start) | (t >= start + self.lengths[rows][:, None])

    def packed(self, row: int) -> tuple[np.ndarray, np.ndarray] | None:
        """One row's digital values (C, n) and gains (C,) where the view keeps them, else None."""
        how, record = self.recipe, self.record_of[row]
        kept = self.fs == self.store.fs and (how["filter"], how["normalise"]) == ("none", "none")
        stored = self.store.packed(record) if kept else None
        if stored is None or stored[0].dtype != np.int16:
            return None
        start = self._start[row]
        values = stored[0][self._columns, start : start + self.lengths[row]]
        return values, stored[1][self._columns]

    def _whole(self, records: np.ndarray, fill: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Records of one length -> (U, C, L) at the view's rate, filtered, not yet cut, and where
        their gaps are when these are asked for (`fill=False`).
        """
        how = self.recipe
        signal = self._stored(records, True)
        signal = condition(signal, self.store.fs, self.fs, how["filter"], how["mains"])
        if fill or not self._gaps[records].any():
            return signal, None
        gaps = np.isnan(self._stored(records, False))
        nearest = np.rint(np.arange(signal.shape[-1]) * self.store.fs / self.fs).astype(int)
        return signal, gaps[..., np.minimum(nearest, gaps.shape[-1] - 1)]

    def _stored(self, records: np.ndarray, fill: bool) -> np.ndarray:
        """Records of one length as the store has them, (U, C, L) mV, without its padding."""
        n = self.store.lengths[records[0]]
        signal = self.store.read(records, fill=fill)[:, self._columns]
        if signal.shape[-1] > n:
            start = np.argmin(self.store.mask(records[:1])[0])
            signal = signal[..., start : start + n]
        return signal

    def _cut(self, signal, gaps, which, rows, places, out) -> None:
        """Puts the rows' cuts of whole records (U, C, L) at `places` of `out`, normalised."""
        cuts = np.stack([self._start[rows], self.lengths[rows], self._at[rows]], axis=1)
        for start, n, at in np.unique(cuts, axis=0):
            same = np.flatnonzero((cuts == (start, n, at)).all(axis=1))
            taken = which[same], slice(None), slice(start, start + n)
            piece = normalise_signal(signal[taken], self.recipe["normalise"])
            out[places[same], :, at : at + n] = (
                piece if gaps is None else np.where(gaps[taken], np.nan, piece)
            )

    def _buffer(self, rows: np.ndarray, out: np.ndarray | None) -> np.ndarray:
        """(B, C, T) zeros; T is the common length, else the longest of the batch."""
        shape = (len(rows), len(self.leads), self._width(rows))
        if out is None:
            return np.zeros(shape, np.float32)
        check_buffer(out, shape, ragged=not self.seconds)
        out[:] = 0
        return out

    def _width(self, rows: np.ndarray) -> int:
        return self.n_samples if self.seconds else int(self.lengths[rows].max(initial=0))

    def _checked(self, rows) -> np.ndarray:
        return np.array(checked_rows(rows, len(self), "view"), np.int64)

    def _changes_nothing(self) -> bool:
        """Whether reading through the view is reading the store."""
        how, store = self.recipe, self.store
        as_stored = (self.fs, self.leads) == (store.fs, tuple(store.leads))
        same_length = np.array_equal(self.lengths, store.lengths) and (
            (self.seconds, self.align) == (store.seconds, store.align)
            or (self.lengths == self.n_samples).all()
        )
        return as_stored and same_length and (how["filter"], how["normalise"]) == ("none", "none")

    # --- what is in it ----------------------------------------------------------------------------

    @cached_property
    def index(self) -> pd.DataFrame:
        """The store's index, one row per row of the view, with `record` and (segment) `window`."""
        base = self.store.index
        index = base.drop(columns=[c for c in _PLACES if c in base]).iloc[self.record_of]
        index = index.reset_index(drop=True).assign(n_samples=self.lengths)
        index.insert(0, "row", np.arange(len(self)))
        if self.recipe["length"] == "segment":
            first = np.searchsorted(self.record_of, self.record_of)
            index = index.assign(record=self.record_of, window=np.arange(len(self)) - first)
        return index

    @cached_property
    def quarantine(self) -> pd.DataFrame:
        """The store's, and records that are too short to give one window."""
        gone = np.setdiff1d(np.arange(len(self.store)), self.record_of)
        if not len(gone):
            return self.store.quarantine
        ids = self.store.index["ecg_id"].to_numpy()[gone]
        rows = [
            {
                "ecg_id": ecg_id,
                "reason": "too_short",
                "sentence": f"Record {ecg_id} is left out: its {own / self.fs:.1f} s do not fill "
                f"half of a window of {self.seconds:g} s.",
                "source": "view",
            }
            for ecg_id, own in zip(ids, self._own[gone])
        ]
        # An empty first table would only lend its column types.
        tables = [t for t in (self.store.quarantine, pd.DataFrame(rows)) if len(t)]
        return pd.concat(tables, ignore_index=True)

    @property
    def n_in(self) -> int:
        """Rows in = rows of the view + quarantined, as for a store; windows count in `segment`."""
        return len(self) + len(self.quarantine)

    def describe(self) -> str:
        """What a read gives, in one line."""
        how = self.recipe
        length = f"{self.seconds:g} s" if self.seconds else "their own length"
        return (
            f"{len(self)} {'windows' if how['length'] == 'segment' else 'ECGs'} of {length} "
            f"({how['length']}) at {self.fs:g} Hz in {self.unit}, leads {' '.join(self.leads)}; "
            f"filter {how['filter']}, normalise {how['normalise']}; "
            f"{len(self.quarantine)} in quarantine"
        )

    def cached(self, folder=None, workers=None) -> Store:
        """The view written once as a Store on disk; see `view_cache.write_view`."""
        return write_view(self, folder, workers)


# --- pieces ---------------------------------------------------------------------------------------


def _check(store, how: dict) -> None:
    """Raises DataError for a recipe that does not exist or does not fit the store."""
    for name, choices in (("length", LENGTHS), ("filter", FILTERS), ("normalise", NORMALISE)):
        if how[name] not in choices:
            raise DataError(
                f"A view has no {name} {how[name]!r}; choose one of {', '.join(choices)}."
            )
    if how["fs"] <= 0 or (how["seconds"] is not None and how["fs"] * how["seconds"] < 1):
        raise DataError(
            f"A view of {how['seconds']} s at {how['fs']:g} Hz holds no sample; give a positive "
            "rate and length."
        )
    if how["length"] == "segment" and how["seconds"] is None:
        raise DataError("length='segment' needs seconds: how long a window is.")
    absent = [lead for lead in how["leads"] if lead not in store.leads]
    if absent or len(set(how["leads"])) != len(how["leads"]):
        raise DataError(
            f"A view of leads {' '.join(how['leads'])} cannot be made: "
            + (f"the store has no {', '.join(absent)}" if absent else "a lead is named twice")
            + f"; it holds {' '.join(store.leads)}."
        )


def _cuts(own: np.ndarray, T: int | None, length: str) -> tuple[np.ndarray, ...]:
    """Record lengths (n,) -> record, start, number of samples and place of each row, all (m,)."""
    record = np.arange(len(own))
    nothing = np.zeros(len(own), np.int64)
    if T is None:
        return record, nothing, own, nothing
    n = np.minimum(own, T)
    if length == "pad":
        return record, nothing, n, nothing
    if length == "crop":
        return record, np.maximum(own - T, 0) // 2, n, (T - n) // 2
    windows = own // T + (2 * (own % T) >= T)
    record = np.repeat(record, windows)
    nth = np.arange(len(record)) - np.repeat(np.cumsum(windows) - windows, windows)
    return record, nth * T, np.minimum(own[record] - nth * T, T), np.zeros(len(record), np.int64)
