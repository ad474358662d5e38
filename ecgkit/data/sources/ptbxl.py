"""PTB-XL 1.0.1, 1.0.2 and 1.0.3: its table and its statements.

The versions differ in their number of lines (1.0.3 dropped duplicates), in whole numbers written as
floats (patient 15709.0) and in ages above 89, which the later ones write as 300; the columns read
here are in all of them. Source: Wagner et al. 2020, PTB-XL.

Usage:

    table, refused = read_table(place, rate=500)      # place rooted where ptbxl_database.csv lies
    statements = read_statements(place)
"""

from __future__ import annotations

import ast
import json
import math

import numpy as np
import pandas as pd

from ecgkit.data.scp_table import COLUMNS as SCP_COLUMNS
from ecgkit.data.sources import tables
from ecgkit.types import DataError

TABLE = "ptbxl_database.csv"
STATEMENTS = "scp_statements.csv"
TABLES = (TABLE, STATEMENTS)
SUFFIXES = (".hea", ".dat")
# Without these a record can be neither found, labelled nor put into a split.
REQUIRED = ("ecg_id", "patient_id", "age", "sex", "report", "scp_codes", "strat_fold")
TEXT = (
    "heart_axis",
    "infarction_stadium1",
    "infarction_stadium2",
    "baseline_drift",
    "static_noise",
    "burst_noise",
    "electrodes_problems",
    "extra_beats",
    "pacemaker",
    "report",
    "device",
    "recording_date",
    "scp_codes",
)
# The rest of scp_statements.csv are codes of other systems, which nothing here reads.
STATEMENT_COLUMNS = tuple(SCP_COLUMNS[:8])


def base_rate(fs: int) -> int:
    """The rate on disk that `fs` is read from: 100 Hz as published, anything else from 500 Hz."""
    return 100 if fs == 100 else 500


def raw_tables(place) -> list[bytes]:
    """What the fingerprint is taken of, beside the recordings."""
    return [tables.read_bytes(place, name) for name in TABLES]


def rates(offered: tuple[int, ...], base: int) -> tuple[int, ...]:
    """Rates a record may have: files under records100/ at 500 Hz would be mislabelled."""
    return (base,)


def read_table(place, rate: int) -> tuple[pd.DataFrame, list[dict]]:
    """ptbxl_database.csv -> (usable lines, quarantine rows for the others).

    Adds `fold` (int) and `source_name` (the record at `rate` Hz); parses `scp_codes`. Raises
    DataError for missing columns, an empty table or repeated ids.
    """
    raw = tables.read_bytes(place, TABLE)
    filename = "filename_lr" if rate == 100 else "filename_hr"
    text = {name: str for name in (*TEXT, filename)}
    table, crowded = tables.read_csv(raw, TABLE, place.label, dtype=text)
    tables.require(table, (*REQUIRED, filename), TABLE, place.label, "PTB-XL 1.0.3")
    whole = ["ecg_id", "patient_id", "strat_fold"]
    numbers = table[whole].apply(tables.whole)
    _refuse_repeated(numbers["ecg_id"], place.label)
    table = table.reindex(columns=[*table.columns, *(c for c in TEXT if c not in table)])
    table["source_name"] = table[filename].astype(object).str.removesuffix(".hea")
    table["source_name"] = table["source_name"].str.replace("\\", "/")
    table["scp_codes"] = parse_codes(table["scp_codes"])
    bad = numbers.isna().any(axis=1) | ~numbers["strat_fold"].between(1, 10)
    bad |= table["source_name"].isna() | table["scp_codes"].isna()
    why = "its line lacks an id, a patient, fold 1-10, file name or readable scp_codes"
    refused = crowded + tables.refuse(table["ecg_id"][bad], TABLE, why)
    table = table[~bad].reset_index(drop=True)
    table[whole] = numbers[~bad].astype(np.int64).to_numpy()
    table["report"] = table["report"].fillna("")
    table["age"] = tables.years(table["age"])
    table["sex"] = tables.sexes(table["sex"], ("0", "0.0"), ("1", "1.0"))
    table["fold"] = table["strat_fold"]
    return table, refused


def read_statements(place) -> pd.DataFrame:
    """scp_statements.csv -> table indexed by SCP code. Raises DataError for missing columns."""
    raw = tables.read_bytes(place, STATEMENTS)
    table, _ = tables.read_csv(raw, STATEMENTS, place.label, index_col=0)
    tables.require(table, STATEMENT_COLUMNS, STATEMENTS, place.label, "PTB-XL 1.0.3")
    table.index.name = "code"
    return table


def _refuse_repeated(ids: pd.Series, where: str) -> None:
    twice = ids[ids.duplicated() & ids.notna()]
    if len(twice):
        raise DataError(
            f"ecg_id {twice.iloc[0]:.0f} stands twice in {TABLE} of {where}; each ECG needs its "
            "own."
        )


def parse_codes(column: pd.Series) -> list[dict[str, float] | None]:
    """Python dict literals -> dicts; None where one cannot be read."""
    # All at once as JSON where that works: 30 times faster than one by one.
    texts = column.fillna("").tolist()
    try:
        parsed = json.loads("[" + ",".join(texts).replace("'", '"') + "]")
        if len(parsed) == len(texts):
            return [_as_codes(p) for p in parsed]
    except (ValueError, RecursionError):
        pass
    return [_parse_one(text) for text in texts]


def _parse_one(text: str) -> dict[str, float] | None:
    try:
        return _as_codes(ast.literal_eval(text))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _as_codes(parsed) -> dict[str, float] | None:
    try:
        codes = {str(code): float(likelihood) for code, likelihood in parsed.items()}
    except (AttributeError, TypeError, ValueError, OverflowError):
        return None  # no dict, no numbers in it, or one beyond what a float holds
    return codes if all(map(math.isfinite, codes.values())) else None
