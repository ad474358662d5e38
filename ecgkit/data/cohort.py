"""A cohort: table, statements, store and splits of one source, simulated or real alike.

Usage:
    cohort = open_cohort(config)                     # builds what is missing, once, then reuses it
    signal = cohort.store.read(cohort.rows("train")[:8])     # (8, C, T) float32 mV
    record = cohort.record(0)                        # ECGRecord
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import io
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit import runtime
from ecgkit.config import KitConfig, short_hash
from ecgkit.data import sources, splits, store
from ecgkit.data.place import Folder, Zip, open_place
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
    name = "synthetic" if config.simulated else "ptbxl"
    path = _simulated_folder(config) if config.simulated else resolve_path(config.data)
    place = open_place(path, sources.PTBXL_TABLE, "PTB-XL")
    raw_table = _table_bytes(place, sources.PTBXL_TABLE)
    raw_statements = _table_bytes(place, sources.PTBXL_STATEMENTS)
    listing = place.listing()
    recipe = path.name if config.simulated else ""
    fingerprint = _fingerprint(raw_table, raw_statements, listing, recipe)
    table, refused = read_table(raw_table, place.label, _rate(config.fs))
    splits.assert_no_leak(table)
    opened = _open_store(config, place, table, refused, listing, fingerprint)
    table = _stored_rows(table, opened)
    cohort = Cohort(
        name,
        config.simulated,
        fingerprint,
        table,
        read_statements(raw_statements, place.label),
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


def read_table(raw: bytes, where: str, rate: int) -> tuple[pd.DataFrame, list[dict]]:
    """Bytes of ptbxl_database.csv -> (usable lines, quarantine rows for the others).

    Adds `fold` (int) and `source_name` (the record at `rate` Hz); parses `scp_codes`. Ages above
    89, which PTB-XL writes as 300, become 90. Raises DataError for missing columns, an empty table
    or repeated ids.
    """
    table = _read_csv(
        raw, sources.PTBXL_TABLE, where, dtype={name: str for name in sources.PTBXL_TEXT}
    )
    filename = "filename_lr" if rate == 100 else "filename_hr"
    _require(table, (*sources.PTBXL_REQUIRED, filename), sources.PTBXL_TABLE, where)
    if table["ecg_id"].duplicated().any():
        raise DataError(
            f"ecg_id {table['ecg_id'][table['ecg_id'].duplicated()].iloc[0]} stands twice in "
            f"{sources.PTBXL_TABLE} of {where}; each ECG needs its own."
        )
    table = table.reindex(
        columns=[*table.columns, *(c for c in sources.PTBXL_TEXT if c not in table)]
    )
    table["source_name"] = table[filename].str.removesuffix(".hea").str.replace("\\", "/")
    codes = _parse_codes(table["scp_codes"])
    numbers = table[["patient_id", "strat_fold", "sex"]].apply(pd.to_numeric, errors="coerce")
    bad = (
        numbers.isna().any(axis=1)
        | ~numbers["strat_fold"].between(1, 10)
        | table["source_name"].isna()
    )
    bad |= np.array([c is None for c in codes], dtype=bool)
    table["scp_codes"] = codes
    table["report"] = table["report"].fillna("")
    table["age"] = pd.to_numeric(table["age"], errors="coerce").clip(upper=90).astype(float)
    refused = [
        {
            "ecg_id": row.ecg_id,
            "reason": "bad_row",
            "source": sources.PTBXL_TABLE,
            "sentence": f"Record {row.ecg_id} is left out: its line lacks a patient, fold 1-10, "
            "sex, file name or readable scp_codes.",
        }
        for row in table[bad].itertuples()
    ]
    kept, numbers = table[~bad].reset_index(drop=True), numbers[~bad].astype(int)
    for column in numbers:
        kept[column] = numbers[column].to_numpy()
    kept["fold"] = kept["strat_fold"]
    return kept, refused


def read_statements(raw: bytes, where: str) -> pd.DataFrame:
    """scp_statements.csv -> table indexed by SCP code. Raises DataError for missing columns."""
    table = _read_csv(raw, sources.PTBXL_STATEMENTS, where, index_col=0)
    _require(table, sources.STATEMENT_COLUMNS, sources.PTBXL_STATEMENTS, where)
    table.index.name = "code"
    return table


def _parse_codes(column: pd.Series) -> list[dict[str, float] | None]:
    """Python dict literals -> dicts; None where one cannot be read."""
    # All at once as JSON where that works: 30 times faster than one by one.
    texts = column.fillna("").tolist()
    try:
        parsed = json.loads("[" + ",".join(texts).replace("'", '"') + "]")
        if len(parsed) == len(texts):
            return [_as_codes(p) for p in parsed]
    except ValueError:
        pass
    return [_parse_one(text) for text in texts]


def _parse_one(text: str) -> dict[str, float] | None:
    try:
        return _as_codes(ast.literal_eval(text))
    except (ValueError, SyntaxError):
        return None


def _as_codes(parsed) -> dict[str, float] | None:
    if not isinstance(parsed, dict) or not all(
        isinstance(v, (int, float)) for v in parsed.values()
    ):
        return None
    return {str(code): float(likelihood) for code, likelihood in parsed.items()}


def _read_csv(raw: bytes, name: str, where: str, **how) -> pd.DataFrame:
    try:
        table = pd.read_csv(io.BytesIO(raw), **how)
    except (ValueError, UnicodeDecodeError) as error:  # pandas' parser errors are ValueErrors
        raise DataError(
            f"{name} of {where} is not a readable table ({error}); fetch it again."
        ) from error
    if table.empty:
        raise DataError(f"{name} of {where} has no rows; fetch it again.")
    return table


def _require(table: pd.DataFrame, columns: tuple[str, ...], name: str, where: str) -> None:
    missing = [column for column in columns if column not in table]
    if missing:
        raise DataError(
            f"{name} of {where} has no column {', '.join(missing)}; take the table of PTB-XL 1.0.3 "
            "as published."
        )


def _table_bytes(place, name: str) -> bytes:
    try:
        return place.read(name)
    except FileNotFoundError:
        raise DataError(
            f"{place.label} has no {name} beside {sources.PTBXL_TABLE}; take both from PTB-XL."
        ) from None
    except OSError as error:
        raise DataError(
            f"{name} of {place.label} cannot be read ({error}); fetch it again."
        ) from error


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


def _fingerprint(table: bytes, statements: bytes, listing: dict, recipe: str) -> str:
    """Twelve hex digits of the tables, the names and sizes of all recordings, and the recipe."""
    tables = [hashlib.sha256(raw).hexdigest() for raw in (table, statements)]
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
