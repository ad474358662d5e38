"""A cohort: table, statements, store and splits of one source, simulated or real alike.

Usage:
    cohort = open_cohort(config)                     # builds what is missing, once, then reuses it
    signal = cohort.store.read(cohort.rows("train")[:8])     # (8, C, T) float32 mV
    record = cohort.record(0)                        # ECGRecord
"""

from __future__ import annotations

import hashlib
import importlib
import io
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit import runtime
from ecgkit.config import KitConfig, short_hash
from ecgkit.data import sources, splits, store
from ecgkit.data.place import Folder, Zip
from ecgkit.data.sources import tables
from ecgkit.types import DataError, ECGRecord


@dataclass(frozen=True)
class Cohort:
    """Rows of `table`, `truth` and `store` correspond; `source` has licence and layout."""

    name: str
    simulated: bool
    fingerprint: str
    table: pd.DataFrame
    statements: pd.DataFrame
    store: store.Store
    quarantine: pd.DataFrame
    truth: pd.DataFrame | None = field(default=None, repr=False)
    place: Folder | Zip | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.table)

    def rows(self, split: str) -> np.ndarray:
        """Rows of "train" (folds 1-8), "valid" (9) or "test" (10)."""
        return splits.rows_of_split(self.table, split)

    def record(self, row: int) -> ECGRecord:
        """The ECG in `row` in mV, its table row as `meta`. Raises DataError outside the store."""
        signal = self.store.read([row])[0]
        line = self.table.iloc[row].to_dict()
        line["simulated"] = self.simulated
        return ECGRecord(signal, self.store.fs, self.store.leads, int(line["ecg_id"]), line)

    @property
    def source(self) -> sources.Source:
        return sources.source(self.name)

    def summary(self) -> str:
        """One line: what is stored, what is not, and why."""
        reasons = self.quarantine["reason"].value_counts()
        why = (
            ": " + ", ".join(f"{n} {reason}" for reason, n in reasons.items())
            if len(reasons)
            else ""
        )
        return (
            f"{self.name} {self.fingerprint} · {len(self.table)} of {self.store.n_in} ECGs stored "
            f"at {self.store.fs} Hz, {len(self.quarantine)} quarantined{why}"
        )


def open_cohort(config: KitConfig, quiet: bool = False) -> Cohort:
    """Opens `config.data`: 'synthetic' (written on first use), or PTB-XL in a folder or .zip.

    Builds the store under `runtime.cache_dir()` once. Raises DataError with one sentence for a
    wrong path, a .zip without PTB-XL inside, a damaged .zip, a missing column, and when not one
    record can be stored.
    """
    path = _simulated_folder(config) if config.simulated else resolve_path(config.data)
    name, place = sources.open_source(path)
    name = sources.SYNTHETIC if config.simulated else name
    reader = sources.adapter(name)
    listing = place.listing()
    recipe = path.name if config.simulated else ""
    raws = [tables.read_bytes(place, name) for name in reader.TABLES]
    fingerprint = _fingerprint(raws, listing, recipe)
    table, refused = reader.read_table(place, _rate(config.fs))
    splits.assert_no_leak(table)
    opened = _open_store(config, place, table, refused, listing, fingerprint)
    table = _stored_rows(table, opened)
    cohort = Cohort(
        name,
        config.simulated,
        fingerprint,
        table,
        reader.read_statements(place),
        opened,
        opened.quarantine,
        _truth(place, table),
        place,
    )
    assert opened.n_in == len(cohort.table) + len(cohort.quarantine)
    if not quiet:
        print(cohort.summary())
    return cohort


def resolve_path(data: str) -> Path:
    """A path relative to the current folder, else to the project's. Raises DataError if absent."""
    path = Path(data).expanduser()
    for candidate in (path, runtime.project_root() / path):
        if candidate.exists():
            return candidate.resolve()
    raise DataError(
        f"DATA is {data!r}, but there is no such file or folder; give 'synthetic', or the folder "
        "or .zip that holds PTB-XL."
    )


# --- tables ---------------------------------------------------------------------------------------


def _truth(place, table: pd.DataFrame) -> pd.DataFrame | None:
    """truth.csv, aligned with `table`; None where there is none (any real source)."""
    if not place.exists("truth.csv"):
        return None
    truth = pd.read_csv(io.BytesIO(place.read("truth.csv"))).set_index("ecg_id")
    return truth.reindex(table["ecg_id"]).reset_index()


# --- the store behind it --------------------------------------------------------------------------


def _rate(fs: int) -> int:
    """The rate on disk that `fs` is read from: 100 Hz as published, anything else from 500 Hz."""
    return 100 if fs == 100 else 500


def _open_store(config: KitConfig, place, table, refused, listing, fingerprint: str) -> store.Store:
    """The store of this data, rate, length and store version: opened when finished, else built."""
    # The listing's stamps (change time, CRC) are in the key, so that an edited recording is never
    # served stale.
    key = short_hash(
        [fingerprint, config.fs, config.seconds, store.VERSION, sorted(listing.items())]
    )
    folder = runtime.cache_dir() / f"store-{key}"
    if (folder / "store.json").exists():
        return store.Store(folder)
    jobs = list(zip(table["ecg_id"].tolist(), table["source_name"].tolist()))
    return store.build_store(folder, jobs, place, config.fs, config.seconds, key, refused)


def _stored_rows(table: pd.DataFrame, opened: store.Store) -> pd.DataFrame:
    if len(table) == len(opened):
        return table
    return table.set_index("ecg_id", drop=False).loc[opened.index["ecg_id"]].reset_index(drop=True)


def _fingerprint(raws: list[bytes], listing: dict, recipe: str) -> str:
    """Twelve hex digits of the tables, the names and sizes of all recordings, and the recipe."""
    tables = [hashlib.sha256(raw).hexdigest() for raw in raws]
    sizes = sorted(
        (name, size)
        for name, (size, _) in listing.items()
        if name.endswith((".hea", ".dat", ".mat"))
    )
    return short_hash([tables, sizes, recipe])


def _simulated_folder(config: KitConfig) -> Path:
    """The folder of the simulated cohort this config asks for, written now if it is not there."""
    rates = (_rate(config.fs),)
    code = [path.read_text() for path in _simulator_files()]
    recipe = short_hash([config.cohort_size, config.cohort_seed, rates, code])
    synthetic = importlib.import_module("ecgkit.data.synthetic")
    return runtime.write_once(
        runtime.cache_dir() / f"synthetic-{recipe}",
        lambda scratch: synthetic.write_cohort(
            scratch, n_ecgs=config.cohort_size, seed=config.cohort_seed, rates=rates
        ),
    )


def _simulator_files() -> list[Path]:
    """The simulator's source and what it imports from this room: new code, another cohort."""
    here, found, todo = Path(__file__).parent, set(), ["synthetic"]
    while todo:
        path = here / f"{todo.pop()}.py"
        if path.exists() and path not in found:
            found.add(path)
            text = path.read_text()
            todo += re.findall(r"ecgkit\.data\.(\w+)", text)
            todo += re.findall(r"\w+", " ".join(re.findall(r"from ecgkit\.data import (.+)", text)))
    return sorted(found)
