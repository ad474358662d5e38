"""What the adapters share: tables out of a place, and the lines that cannot be used.

Usage:

    raw = read_bytes(place, "record_list.csv")
    table = read_csv(raw, "record_list.csv", place.label)
"""

from __future__ import annotations

import csv
import io

import numpy as np
import pandas as pd

from ecgkit.types import DataError

# Sources hide ages above 89, each in its own way (300 in PTB-XL): 90 stands for 90 or older.
OLDEST = 90


def read_bytes(place, name: str) -> bytes:
    """The bytes of a table. Raises DataError where it is absent, damaged or locked."""
    try:
        return place.read(name)
    except FileNotFoundError:
        raise DataError(
            f"{place.label} has no {name}; fetch the source again, with all its tables."
        ) from None
    except OSError as error:
        raise DataError(
            f"{name} of {place.label} cannot be read ({error}); fetch it again."
        ) from error


def read_csv(raw: bytes, name: str, where: str, **how) -> tuple[pd.DataFrame, list[dict]]:
    """Bytes of a table -> (its lines, quarantine rows of lines with more fields than the header).

    Raises DataError for what is no table, or one without rows.
    """
    crowded: list[str] = []
    try:
        try:
            table = _read_csv(raw, **how)
        except pd.errors.ParserError:
            raw, crowded = _without_crowded(raw)
            table = _read_csv(raw, **how)
    except (ValueError, pd.errors.ParserError, csv.Error) as error:
        raise DataError(
            f"{name} of {where} is not a readable table ({error}); fetch it again."
        ) from error
    if not len(table) and len(table.columns):
        longer = " that are not longer than its header" if crowded else ""
        raise DataError(f"{name} of {where} has no rows{longer}; fetch it again.")
    return table, refuse(crowded, name, "its line has more fields than the header")


def _read_csv(raw: bytes, **how) -> pd.DataFrame:
    table = pd.read_csv(io.BytesIO(raw), encoding_errors="replace", **how)
    if "index_col" not in how and not isinstance(table.index, pd.RangeIndex):
        # What pandas makes of a first line with more fields than the header: it shifts all others.
        raise pd.errors.ParserError("its first line has more fields than the header")
    return table


def _without_crowded(raw: bytes) -> tuple[bytes, list[str]]:
    """The table less its lines with more fields than the header, and how each of these begins.

    Raises csv.Error where quotes do not pair up: what follows one could be in any line.
    """
    text = io.StringIO(raw.decode("utf-8-sig", errors="replace"), newline="")
    lines = csv.reader(text, strict=True)
    head, kept, crowded = next(lines, []), io.StringIO(), []
    writer = csv.writer(kept)
    writer.writerow(head)
    for fields in lines:
        if len(fields) > len(head):
            crowded.append(fields[0])
        else:
            writer.writerow(fields)
    return kept.getvalue().encode(), crowded


def require(table: pd.DataFrame, columns, name: str, where: str, like: str) -> None:
    """Raises DataError naming the columns that are missing."""
    missing = [column for column in columns if column not in table]
    if missing:
        raise DataError(
            f"{name} of {where} has no column {', '.join(missing)}; take the table of {like} as "
            "published."
        )


def refuse(ids, file: str, why: str, reason: str = "bad_row") -> list[dict]:
    """Quarantine rows of table lines that cannot be used.

    `ids`: a list, or a column with the table's own index, so that a line without an id is named by
    its number (the header is line 1).
    """
    if isinstance(ids, pd.Series):
        ids = [_named(ecg_id, at + 2) for at, ecg_id in ids.items()]
    return [
        {
            "ecg_id": ecg_id,
            "reason": reason,
            "sentence": f"Record {ecg_id} is left out: {why}.",
            "source": file,
        }
        for ecg_id in ids
    ]


def _named(ecg_id, line: int):
    if pd.isna(ecg_id):
        return f"of line {line}"
    # A column with one gap or one word in it has its numbers as floats.
    return int(ecg_id) if isinstance(ecg_id, float) and ecg_id.is_integer() else ecg_id


def whole(column: pd.Series) -> pd.Series:
    """Ids as numbers: NaN for what is no whole number, or larger than a float holds exactly."""
    number = pd.to_numeric(column, errors="coerce")
    return number.where((number % 1 == 0) & number.between(-(2**53), 2**53))


def years(column: pd.Series) -> pd.Series:
    """Ages in years as float: unknown, negative or unreadable NaN, above 89 all alike 90."""
    age = pd.to_numeric(column, errors="coerce").astype(float)
    return age.where(age >= 0).clip(upper=OLDEST)


def sexes(column: pd.Series, male, female) -> pd.Series:
    """0 male, 1 female; NaN where it is unknown (whole numbers where none is)."""
    words = column.astype(str).str.strip().str.lower()
    known = words.map({**{w: 0 for w in male}, **{w: 1 for w in female}})
    return known.astype(np.int64) if known.notna().all() else known.astype(float)
