"""A cohort: table, statements, store and splits of one source, simulated or real alike.

Columns of the table, whatever the source: ecg_id, patient_id, age (years, NaN unknown, 90 means 90
or older), sex (0 male, 1 female, NaN unknown), report, scp_codes (code -> likelihood), fold (1 to
10), source_name (the record in its place); then the source's own.

Usage:

    cohort = open_cohort(config)                     # builds what is missing, once, then reuses it
    signal = cohort.store.read(cohort.rows("train")[:8])     # (8, C, T) float32 mV
    record = cohort.record(0)                        # ECGRecord
    cohort.view(fs=250, filter="bandpass")           # the same recordings, prepared otherwise
"""

from __future__ import annotations

import hashlib
import importlib
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit import runtime
from ecgkit.config import KitConfig, short_hash
from ecgkit.data import qa_subset, quality, records, sources, splits, store
from ecgkit.data.parallel import Workers
from ecgkit.data.place import Folder, Zip
from ecgkit.data.sources import tables
from ecgkit.data.view import View
from ecgkit.types import LEADS, DataError, ECGRecord

# Of more records than this in a folder, every k-th is looked at to see whether anything changed.
LOOKED_AT = 50_000
TRUTH = "truth.csv"  # beside the table of whatever the kit simulated, in any layout


@dataclass(frozen=True)
class Cohort:
    """Rows of `table`, `truth`, `store` and `base` correspond; `source` has licence and layout.

    `base` holds the recordings at a rate the source offers and in their own lengths, `store` at the
    config's `fs` and `seconds` (one and the same where these agree). `n_listed`: ECGs the source
    lists, of which a subset may have been chosen. `simulated`: written by this kit, also where DATA
    names its folder; `truth` is then what was drawn.
    """

    name: str
    simulated: bool
    fingerprint: str
    table: pd.DataFrame
    statements: pd.DataFrame
    store: store.Store
    base: store.Store
    quarantine: pd.DataFrame
    place: Folder | Zip
    n_listed: int
    truth: pd.DataFrame | None = field(repr=False)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def credentialed(self) -> bool:
        """Whether text about its ECGs must stay on this machine: that of MIMIC's real records."""
        return self.name.startswith("mimic") and not self.simulated

    def rows(self, split: str) -> np.ndarray:
        """Rows of "train" (folds 1-8), "valid" (9) or "test" (10)."""
        return splits.rows_of_split(self.table, split)

    def record(self, row: int) -> ECGRecord:
        """The ECG in `row` in mV, its table row as `meta`. Raises DataError outside the store."""
        signal = self.store.read([row])[0]
        line = self.table.iloc[row].to_dict()
        line["simulated"] = self.simulated
        ecg_id = line["ecg_id"] if isinstance(line["ecg_id"], str) else int(line["ecg_id"])
        return ECGRecord(signal, self.store.fs, self.store.leads, ecg_id, line)

    def view(self, **how) -> View:
        """The recordings otherwise: fs, seconds, length, filter, normalise, leads, as in `View`."""
        return View(self.base, **how)

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
        n_in = self.store.n_in
        chosen = f" · {n_in} of {self.n_listed} ECGs chosen" if n_in < self.n_listed else ""
        return (
            f"{self.name} {self.fingerprint} · {len(self.table)} of {n_in} ECGs stored "
            f"at {self.store.fs} Hz, {len(self.quarantine)} quarantined{why}{chosen}"
        )


def open_cohort(config: KitConfig, quiet: bool = False) -> Cohort:
    """Opens `config.data`: 'synthetic' (written on first use), or a source in a folder or .zip.

    Builds the store under `runtime.cache_dir()` once. Raises DataError with one sentence for a
    wrong path, a place without any source inside, a damaged .zip, a missing column, and when not
    one record can be stored.
    """
    path = _simulated_folder(config) if config.simulated else resolve_path(config.data)
    name, place = sources.open_source(path)
    name = sources.SYNTHETIC if config.simulated else name
    reader = sources.adapter(name)
    table, refused = reader.read_table(place, reader.base_rate(config.fs))
    splits.assert_no_leak(table)
    stamps = _stamps(reader, place, table)
    fingerprint = _fingerprint(reader, place, stamps, path.name if config.simulated else "")
    n_listed = len(table) + len(refused)
    if qa_subset.is_asked(config):
        rows = qa_subset.wanted(config, table, name)
        table, refused = table.iloc[rows].reset_index(drop=True), []
        stamps = _stamps(reader, place, table)
    base = _base_store(config, name, place, table, refused, [fingerprint, stamps])
    table = _stored_rows(table, base)
    cohort = Cohort(
        name,
        config.simulated or place.exists(TRUTH),
        fingerprint,
        table,
        reader.read_statements(place),
        _as_asked(config, base),
        base,
        base.quarantine,
        place,
        n_listed,
        _truth(place, table),
    )
    assert base.n_in == len(cohort.table) + len(cohort.quarantine)
    if not quiet:
        print("\n".join([*place.refused[:3], cohort.summary()]))
    return cohort


def resolve_path(data: str) -> Path:
    """A path relative to the current folder, else to the project's. Raises DataError if absent."""
    path = runtime.find_path(data)
    if path is None:
        raise DataError(
            f"DATA is {data!r}, but there is no such file or folder; give 'synthetic', or the "
            "folder or .zip that holds PTB-XL, MIMIC-IV-ECG or a source in challenge form."
        )
    return path


# --- what is read ---------------------------------------------------------------------------------


def _fingerprint(reader, place, stamps: list, recipe: str) -> str:
    """Twelve hex digits of the tables, the names and sizes of the recordings, and the recipe."""
    raws = [hashlib.sha256(raw).hexdigest() for raw in reader.raw_tables(place)]
    return short_hash([raws, [(name, size) for name, (size, _) in stamps], recipe])


def _stamps(reader, place, table: pd.DataFrame) -> list[tuple[str, tuple[int, int]]]:
    """[(file, (size, stamp))] of the recordings of `table`, or of LOOKED_AT of them, evenly taken.

    An edited recording is noticed by its stamp (time of change, CRC-32) and never served stale. In
    a folder of more than LOOKED_AT recordings one that was passed over is not noticed: delete the
    store's folder after editing. A .zip tells of all its members at no cost (`place.digest`).
    """
    names = table["source_name"].iloc[:: -(-len(table) // LOOKED_AT) or 1]
    found = place.stamps(name + suffix for name in names for suffix in reader.SUFFIXES)
    return sorted(found.items())


def _truth(place, table: pd.DataFrame) -> pd.DataFrame | None:
    """truth.csv, aligned with `table`; None where there is none (any real source)."""
    if not place.exists(TRUTH):
        return None
    truth, _ = tables.read_csv(tables.read_bytes(place, TRUTH), TRUTH, place.label)
    tables.require(truth, ("ecg_id",), TRUTH, place.label, "a simulated source")
    truth = truth.drop_duplicates("ecg_id").set_index("ecg_id")
    return truth.reindex(table["ecg_id"]).reset_index()


# --- the store behind it --------------------------------------------------------------------------


def _base_store(config, name: str, place, table, refused: list, state: list) -> store.Store:
    """Each recording once, at the source's rate: opened when finished, else built."""
    reader = sources.adapter(name)
    rate, accept = reader.base_rate(config.fs), quality.accepted(config.accept)
    listed = hashlib.sha256("\n".join(table["source_name"]).encode()).hexdigest()
    key = short_hash([state, place.digest(), rate, store.VERSION, sorted(accept), listed])
    while ((folder := runtime.cache_dir() / f"store-{key}") / "store.json").exists():
        opened = store.Store(folder)
        if not _mended(place, opened):
            return opened
        key = short_hash([key, "mended"])
    _check_room(folder, len(table), rate)
    jobs = list(zip(table["ecg_id"].tolist(), table["source_name"].tolist()))
    return store.build_store(
        folder,
        jobs,
        place,
        key=key,
        fs=rate,
        quarantined=refused,
        rates=reader.rates(sources.source(name).fs, rate),
        accept=accept,
        workers=Workers.of(config),
    )


def _check_room(folder: Path, n_ecgs: int, rate: int) -> None:
    """Raises DataError where a store of so many ECGs of 10 s would not fit the disk."""
    need = n_ecgs * len(LEADS) * 10 * rate * 2
    have = sum(part.stat().st_size for part in folder.glob("shard-*.npy"))  # of a stopped build
    runtime.require_room(
        folder.parent,
        need - have,
        f"The store of {n_ecgs} ECGs at {rate} Hz",
        "make room, set ECGKIT_CACHE to a folder on a larger disk, or take a part with SAMPLE or "
        "FRACTION",
    )


def _mended(place, opened: store.Store, look_at: int = 20) -> bool:
    """Whether a .zip, fetched again, gives records that were damaged when the store was built.

    Its directory states the checksums its members should have, so it does not tell by itself.
    """
    damaged = opened.quarantine["source"][opened.quarantine["reason"] == "damaged"]
    for name in damaged.head(look_at) if isinstance(place, Zip) else ():
        try:
            records.read_raw(place, name)
        except records.RecordError:
            continue
        return True
    return False


def _as_asked(config: KitConfig, base: store.Store) -> store.Store:
    """The store at the config's rate and length: the base where they agree, else a cached view."""
    if base.fs == config.fs and (base.lengths == config.n_samples).all():
        return base
    return View(base, fs=config.fs, seconds=config.seconds, length="crop").cached(
        workers=Workers.of(config)
    )


def _stored_rows(table: pd.DataFrame, opened: store.Store) -> pd.DataFrame:
    if len(table) == len(opened):
        return table
    return table.set_index("ecg_id", drop=False).loc[opened.index["ecg_id"]].reset_index(drop=True)


def _simulated_folder(config: KitConfig) -> Path:
    """The folder of the simulated cohort this config asks for, written now if it is not there."""
    rates = (sources.adapter(sources.SYNTHETIC).base_rate(config.fs),)
    code = [path.read_text() for path in _simulator_files()]
    asked = {
        "n_ecgs": config.cohort_size,
        "seed": config.cohort_seed,
        "rates": rates,
        "prevalence": config.prevalence,
    }
    recipe = short_hash([asked, code])
    synthetic = importlib.import_module("ecgkit.data.synthetic")
    return runtime.write_once(
        runtime.cache_dir() / f"synthetic-{recipe}",
        lambda scratch: synthetic.write_cohort(scratch, **asked),
    )


def _simulator_files() -> list[Path]:
    """The simulator's source, its tables and what it imports from this room: new code, another
    cohort.
    """
    here = Path(__file__).parent
    own = sorted(p for p in (here / "synthetic").iterdir() if p.suffix in (".py", ".csv", ".yaml"))
    names = {name for path in own for name in re.findall(r"ecgkit\.data\.(\w+)", path.read_text())}
    return own + sorted(path for name in names if (path := here / f"{name}.py").exists())
