"""Does every claim of a report have a run behind it? One sentence per fault, none if all is well.

`ledger.csv` is read back as a stranger would: each number in it must stand in the run file it
names, each result needs its interval and the fingerprint of its data, nothing simulated may be
called a match, and every row of the published table must be there once.

Usage:

    faults = check_report("runs/demo", shared_dir())
    print("\\n".join(faults) or "all claims have a run behind them")
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pandas as pd

from ecgkit.reports.ablation_numbers import check_ablations
from ecgkit.reports.discrepancies_table import HERE, discrepancy_table
from ecgkit.reports.ledger import COLUMNS, LEDGER, ledger_table
from ecgkit.reports.ledger_files import FILES, RunFiles, read_json, read_run
from ecgkit.reports.ledger_rows import read_published
from ecgkit.reports.ledger_status import MATCHED, kind_of, made_up
from ecgkit.reports.ledger_targets import TARGETS, UNPUBLISHED

CERTIFICATE = "parity_certificate.json"
DISCREPANCIES = "discrepancies.csv"
_SAME = ("published", "sd", "ours", "low", "high", "n", "data", "fingerprint", "simulated", "kind",
         "file", "metric", "status")  # fmt: skip


def check_report(folder: str | Path, shared: Path | None = None) -> list[str]:
    """Faults of the report in `folder`, as sentences that name the row or the file."""
    folder = Path(folder)
    path = folder / LEDGER
    if not path.exists():
        return [f"There is no {LEDGER} in {folder.name}; make it with `ecgkit report {folder}`."]
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:
        return [f"{LEDGER} cannot be read ({error}); make it anew with `ecgkit report {folder}`."]
    absent = [name for name in COLUMNS if name not in table]
    if absent:
        return [f"{LEDGER} lacks the columns {', '.join(absent)}; make it anew."]
    run, rows = read_run(folder), table.to_dict("records")
    faults = [fault for row in rows for fault in row_faults(row, run)]
    faults += count_faults(rows, shared)
    if not faults:  # a number that was changed has been named above
        faults += difference_faults(rows, run, shared)
    return faults + effect_faults(run) + certificate_faults(run) + check_ablations(folder)


# --- one row --------------------------------------------------------------------------------------


def row_faults(row: dict[str, str], run: RunFiles) -> list[str]:
    """What is wrong with one row of ledger.csv, looked up in the run files it names."""
    name = _name(row)
    try:
        kind = kind_of(row["status"])
    except ValueError as error:
        return [f"{name}: {error}."]
    if row["status"].rstrip().endswith(("because", "needs")):
        return [f"{name}: the status gives no reason."]
    if not row["ours"]:
        return [f"{name} is called matched without a number of ours."] if kind == MATCHED else []
    unbacked = _unbacked(row, run)
    faults = [unbacked] if unbacked else []
    made = next((made_up(target, run) for target in _targets(row)), "its source is unknown")
    if kind == MATCHED and made:
        faults.append(f"{name} is called matched, but it stands on {made}.")
    if row["kind"] == "result" and not _is_count(row):
        if not row["low"] or not row["high"]:
            faults.append(f"{name} shows a number without an interval.")
        if not row["fingerprint"]:
            faults.append(f"{name} shows a number without the fingerprint of its data.")
    return faults


def _name(row: dict[str, str]) -> str:
    where = f"row {row['row']}" if row["row"] not in ("", "0") else "own row"
    return f"{LEDGER}, {where} ({row['system']}: {row['quantity']})"


def _source(row: dict[str, str]) -> str:
    named = next((source for source, file in FILES.items() if file == row["file"]), "")
    return named or row["file"].partition("/")[0]


def _targets(row: dict[str, str]) -> list:
    return [t for t in (*TARGETS, *UNPUBLISHED)
            if t.source == _source(row) and t.metric == row["metric"]]  # fmt: skip


def _is_count(row: dict[str, str]) -> bool:
    return any(target.counts_data for target in _targets(row))


def _unbacked(row: dict[str, str], run: RunFiles) -> str:
    """"" where the run files hold this number, with its bounds; else what is amiss."""
    found = run.find(_source(row), row["metric"]) if row["metric"] else None
    if found is None:
        where = f"{row['file'] or 'no file'} does not hold {row['metric'] or 'a metric'}"
        return f"{_name(row)} shows {row['ours']}, but {where}: no run stands behind it."
    for target in _targets(row):
        expected = [found.get(target.field)]
        if target.field == "value":
            expected += [found.get("low"), found.get("high")]
        pairs = zip(("ours", "low", "high"), expected)
        if all(_same(row[c], None if e is None else e * target.scale) for c, e in pairs):
            return ""
    return (f"{_name(row)} shows {row['ours']} [{row['low']}, {row['high']}], but {row['file']} "
            f"holds {found['value']:g} for {row['metric']}.")  # fmt: skip


def _same(text, number) -> bool:
    """Equal as text, or as numbers to nine digits; "" and a missing number are equal."""
    number = "" if number is None or number != number else number
    if str(text) == str(number):
        return True
    try:
        return math.isclose(float(text), float(number), rel_tol=1e-9, abs_tol=1e-12)
    except ValueError:
        return False


# --- the whole ------------------------------------------------------------------------------------


def count_faults(rows: list[dict[str, str]], shared: Path | None) -> list[str]:
    """Every row of the published table, once. Without the table there is nothing to count."""
    published = read_published(shared)
    seen = Counter(row["row"] for row in rows if row["row"] not in ("", "0"))
    twice = [number for number, n in seen.items() if n > 1]
    faults = [f"{LEDGER} holds row {number} more than once." for number in twice]
    if published:
        wanted = {str(row.index) for row in published}
        absent, extra = sorted(wanted - set(seen), key=int), sorted(set(seen) - wanted)
        if absent or extra:
            some = ", ".join([*absent, *extra][:5])
            faults.append(f"{LEDGER} accounts for {len(seen)} rows, the published table has "
                          f"{len(published)}: rows {some} are missing or unknown.")  # fmt: skip
    return faults


def difference_faults(rows: list[dict[str, str]], run: RunFiles, shared: Path | None) -> list[str]:
    """The ledger made anew from the run files must say the same, statuses included."""
    if not read_published(shared) and any(row["row"] not in ("", "0") for row in rows):
        return []  # made where the published table was at hand; its rows were looked at one by one
    fresh = ledger_table(run, shared).to_dict("records")
    if len(fresh) != len(rows):
        return [f"{LEDGER} has {len(rows)} rows, the run files give {len(fresh)}; make it anew."]
    faults = []
    for row, new in zip(rows, fresh, strict=True):
        other = [name for name in _SAME if not _same(row[name], new[name])]
        if other:
            first = other[0]
            faults.append(f"{_name(row)}: {first} is {row[first]!r}, the run files give "
                          f"{new[first]!r}.")  # fmt: skip
    return faults


def effect_faults(run: RunFiles) -> list[str]:
    """An effect said to be measured in this run must stand in a metrics.json of it."""
    path = Path(run.folder) / DISCREPANCIES
    if not path.exists():
        return [f"There is no {DISCREPANCIES} in {Path(run.folder).name}; run `ecgkit report`."]
    said = pd.read_csv(path, dtype=str, keep_default_na=False)
    fresh = discrepancy_table(run).set_index("ID")["Effect"]
    return [
        f"{DISCREPANCIES}: the effect of {row['ID']} is said to be measured in this run, and no "
        "metrics.json says so."
        for row in said.to_dict("records")
        if row["Known"] == HERE and fresh.get(row["ID"]) != row["Effect"]
    ]


def certificate_faults(run: RunFiles) -> list[str]:
    """A certificate that passes must hold fixtures, each within its tolerance."""
    found = read_json(Path(run.folder) / CERTIFICATE)
    if not found.get("passed"):
        return []
    missed = [one["fixture"] for one in found.get("fixtures", []) if not one.get("passed")]
    if missed or not found.get("fixtures"):
        which = ", ".join(missed) or "no fixture at all"
        return [f"{CERTIFICATE} says passed, but it holds {which} as not met."]
    return []
