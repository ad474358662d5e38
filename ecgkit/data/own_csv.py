"""A CSV as people have it -> names, numbers, and what the file itself says of units and rate.

Spreadsheets and devices write semicolons or tabs, decimal commas, thousands separators, a time or
index column, units behind names or in a line of their own, lines of notes on top, one lead a row.
All of that is read; what could mean two things is asked about. No value is guessed.

Usage:

    found = read_table("mine.csv")
    found.names, found.values                # ("I", "II", ...) or None, (T, C) float64
    found.units, found.rates                 # "uV" or None; (500.0, 0.5) Hz if its times are s, ms
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit.data.wfdb_header import MV_PER_UNIT
from ecgkit.types import DataError, canonical_lead

MISSING = ["", "-", "--", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "#N/A", "None", "?"]
_TIME = re.compile(
    r"(unnamed.*|index|idx|no\.?|nr\.?|#|samples?\b.*|time\b.*|time_.*|t|t ?[\[(].*|timestamp.*|"
    r"date.*|clock.*|sec|seconds?.*|ms|zeit.*|elapsed.*|)", re.IGNORECASE)  # fmt: skip
_BESIDE = re.compile(
    r"(resp.*|pleth.*|spo2.*|abp.*|art|marker.*|event.*|annot.*|label.*|beat.*|quality.*|pace.*|"
    r"trigger.*|note.*|comment.*)", re.IGNORECASE)  # fmt: skip
_UNIT = re.compile(r"[\s_]*[\[(/]\s*([^\])]+?)\s*[\])]?\s*$")
_CHEST = {f"C{i}": f"V{i}" for i in range(1, 7)}  # as IEC 60601 names the chest electrodes
_THOUSANDS = {mark: re.compile(rf"-?[1-9]\d{{0,2}}(\{mark}\d{{3}})+") for mark in ".,"}
_LOOKED_AT = 20_000  # lines, from which marks are told


@dataclass(frozen=True)
class Table:
    """`names` of the columns of `values` (T, C), None where the file has none; `units` and `rates`
    (Hz, if its times are in s, in ms) as far as the file says; `left_out` columns.
    """

    names: tuple[str, ...] | None
    values: np.ndarray
    units: str | None = None
    rates: tuple[float, ...] = ()
    left_out: tuple[str, ...] = ()


def read_table(path: str | Path) -> Table:
    """Raises DataError in a sentence where there are no numbers, or they could mean two things."""
    path = Path(path)
    lines = [line for line in _text(path).splitlines()
             if line.strip(" ,;\t") and not line.lstrip().startswith(("#", "%"))]  # fmt: skip
    split = _separator(lines)
    rows = [_cells(line, split) for line in lines[:_LOOKED_AT]]
    mark, thousands = _marks(path, [cell for row in rows for cell in row])
    width = Counter(map(len, rows[-50:])).most_common(1)[0][0] if rows else 0
    first = next((i for i, row in enumerate(rows)
                  if len(row) == width and _numbers(row, mark, thousands) * 2 > width), None)
    if first is None:
        raise DataError(f"{path.name} is not a table of numbers; give one column per lead.")
    frame = _frame(path, lines[first:], split, mark, thousands)
    head = [row for row in rows[:first] if width - 1 <= len(row) <= width and len(row) > 0]
    units = next((row for row in head if _all_units(row)), None)
    head = [row for row in head if row is not units]
    if not head:
        return _by_rows(path, frame)
    names = head[-1]
    if len(names) < width:  # a comma too many at the end, or R's unnamed column of row numbers
        names = [*names, ""] if frame.iloc[:, -1].isna().all() else ["", *names]
    return _by_names(path, names, frame, units)


# --- what is written how --------------------------------------------------------------------------


def _text(path: Path) -> str:
    raw = path.read_bytes()
    if raw[:4] in (b"PK\x03\x04", b"\xd0\xcf\x11\xe0"):
        raise DataError(f"{path.name} is a spreadsheet's own file; save it as CSV first.")
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _separator(lines: list[str]) -> str:
    """What stands in nearly every one of the last lines; a comma last, which may be a decimal."""
    last = lines[-50:]
    for mark in (";", "\t", ","):
        if last and sum(mark in line for line in last) >= 0.9 * len(last):
            return mark
    return " "


def _cells(line: str, split: str) -> list[str]:
    if split == " ":
        return line.split()
    return [cell.strip() for cell in next(csv.reader([line], delimiter=split))]


def _marks(path: Path, cells: list[str]) -> tuple[str, str | None]:
    """(decimal mark, thousands separator or None): the later one is the decimal where a number has
    both; a mark that comes twice in a number is no decimal. Raises DataError where a mark could be
    either, as in a column of 1,234 and 567.
    """
    numbers = [cell for cell in cells if re.fullmatch(r"[-+]?[\d.,]+([eE][-+]?\d+)?", cell)]
    points, commas = ([c for c in numbers if mark in c] for mark in ".,")
    both = [cell for cell in points if "," in cell]
    if both:
        mark = max(".,", key=both[0].rindex)
        return mark, "." if mark == "," else ","
    if points and commas:
        for mark, other, marked in ((".", ",", commas), (",", ".", points)):
            if all(_THOUSANDS[other].fullmatch(cell) for cell in marked):
                return mark, other
    for mark, other, marked in ((".", ",", points), (",", ".", commas)):
        if any(cell.count(mark) > 1 for cell in marked):
            return other, mark
        if marked and all(_THOUSANDS[mark].fullmatch(cell) for cell in marked):
            raise DataError(
                f"{path.name}: {marked[0]} could be {marked[0].replace(mark, '')} or a decimal "
                "number; save the file without thousands separators."
            )
    return ("," if commas else "."), None


def _numbers(row: list[str], mark: str, thousands: str | None) -> int:
    """How many cells are numbers, or gaps after a number."""
    found = 0
    for cell in row:
        plain = (cell.replace(thousands, "") if thousands else cell).replace(mark, ".")
        try:
            float(plain)
            found += 1
        except ValueError:
            found += cell in MISSING and found > 0
    return found


def _all_units(row: list[str]) -> bool:
    words = [cell.strip("[]() ").lower() for cell in row if cell]
    known = {*MV_PER_UNIT, "s", "ms", "sec", "seconds", "samples", "hz"}
    return bool(words) and all(word in known for word in words)


def _frame(path: Path, lines: list[str], split: str, mark: str, thousands) -> pd.DataFrame:
    try:
        return pd.read_csv(
            io.StringIO("\n".join(lines)), sep=r"\s+" if split == " " else split, header=None,
            decimal=mark, thousands=thousands, na_values=MISSING,
            keep_default_na=False, skipinitialspace=True,
        )  # fmt: skip
    except (ValueError, TypeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise DataError(
            f"{path.name} is not a table of numbers ({reason}); give one column per lead."
        ) from error


# --- which column is what -------------------------------------------------------------------------


def _by_names(path: Path, head: list[str], frame: pd.DataFrame, units_row) -> Table:
    """Columns under a line of names."""
    names, units, rates, left_out, columns = [], set(), (), [], []
    frame = frame.iloc[:, : max(len(head), 1)]
    for i, name in enumerate(head):
        column = frame.iloc[:, i]
        if _TIME.fullmatch(name.strip('" ')):
            rates = rates or _rates(column)
            continue
        if _BESIDE.fullmatch(name) or column.isna().all():
            left_out.append(name)
            continue
        unit = _UNIT.search(name)
        if unit and unit[1].lower() in MV_PER_UNIT:
            units.add(unit[1])
            name = name[: unit.start()]
        if units_row and units_row[i].strip("[]() ").lower() in MV_PER_UNIT:
            units.add(units_row[i].strip("[]() "))
        names.append(name.strip())
        columns.append(column)
    if len({MV_PER_UNIT[unit.lower()] for unit in units}) > 1:
        found = ", ".join(sorted(units))
        raise DataError(f"{path.name} gives leads in {found}; bring them to one unit.")
    values = _as_numbers(path, columns, names)
    return Table(tuple(names), values, min(units, default=None), rates, tuple(left_out))


def _by_rows(path: Path, frame: pd.DataFrame) -> Table:
    """No line of names: one lead a row behind its name, or bare numbers."""
    if isinstance(frame.iloc[0, 0], float) and isinstance(frame.iloc[-1, 0], str):
        frame = frame.iloc[1:]  # numbers of the samples, above leads in rows
    first = frame.iloc[:, 0]
    if first.dtype == object and all(isinstance(name, str) for name in first):
        rows = [frame.iloc[i, 1:] for i in range(len(frame))]
        names = [name.strip() for name in first]
        return Table(tuple(names), _as_numbers(path, rows, names))
    columns = [frame.iloc[:, i] for i in range(frame.shape[1]) if not frame.iloc[:, i].isna().all()]
    values = _as_numbers(path, columns, [f"column {i + 1}" for i in range(len(columns))])
    return Table(None, values, rates=_rates(values[:, 0]) if values.shape[1] > 1 else ())


def _as_numbers(path: Path, columns: list, names: list[str]) -> np.ndarray:
    """(T, C); a column with words in it is named."""
    numbers = []
    for name, column in zip(names, columns, strict=True):
        try:
            numbers.append(np.asarray(column, dtype=np.float64))
        except (ValueError, TypeError):
            raise DataError(
                f"{path.name} is not a table of numbers: {name!r} holds words; leave that out."
            ) from None
    if not numbers:
        raise DataError(f"{path.name} has no column with a lead's name; name them in line 1.")
    return np.stack(numbers, axis=1)


def _rates(column) -> tuple[float, ...]:
    """Hz, if a column rises evenly and is in s, or in ms; () for one that does not, such as a count
    of samples.
    """
    try:
        steps = np.diff(np.asarray(column, dtype=np.float64))
    except (ValueError, TypeError):
        return ()
    if len(steps) < 2 or not np.isfinite(steps).all() or np.median(steps) <= 0:
        return ()
    step = float(np.mean(steps))
    even = np.abs(steps - step).max() < 0.6 * step
    return (1 / step, 1000 / step) if even and not np.allclose(steps, 1) else ()


def lead_of(name: str) -> tuple[str, int]:
    """(the kit's name, sign): `C1` is V1, `ECG_II` is II, `-aVR` is aVR upside down. Raises
    DataError for another.
    """
    key = re.sub(r"^(ecg|ekg|lead|ableitung)[\s_:.-]+", "", name.strip(), flags=re.IGNORECASE)
    sign = -1 if key.startswith(("-", "−")) else 1
    key = key.lstrip("-− ")
    return canonical_lead(_CHEST.get(key.upper(), key)), sign
