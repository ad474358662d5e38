"""The replication ledger: every published number, what this run measured, and what that is worth.

It reads the files of one run folder (`ledger_files`) and the published table of the shared folder
(`ledger_rows`). Every row of that table is in the ledger, in its order; without the table, the
kit's own list of headline quantities stands there with the published column empty. Nothing
simulated is ever called a match (`ledger_status`, `ledger_check`).

Usage:

    run = read_run("runs/demo")
    table = ledger_table(run, shared_dir())      # 737 rows and the unpublished quantities
    write_ledger(run, table)                     # runs/demo/ledger.csv
    summary_table(table)                         # system by status, counted
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ecgkit import runtime
from ecgkit.reports.ledger_files import COUNTS, FILES, RunFiles, read_run
from ecgkit.reports.ledger_rows import SYSTEMS, Published, read_published, why_context
from ecgkit.reports.ledger_status import (
    CONTEXT,
    DIFFERS,
    MATCHED,
    NO_VALUE,
    NOT_RUN,
    kind_of,
    made_up,
    status_of,
    unpublished_status,
)
from ecgkit.reports.ledger_targets import HEADLINES, UNPUBLISHED, Target, target_of

LEDGER = "ledger.csv"
COLUMNS = (
    "row", "system", "table", "quantity", "published", "sd", "ours", "low", "high", "n", "data",
    "fingerprint", "simulated", "kind", "file", "metric", "status", "source", "note",
)  # fmt: skip
NO_TABLE = "no published table here: set ECGKIT_SHARED to the folder that holds it"
__all__ = ["LEDGER", "headline_table", "ledger_table", "read_run", "summary_table", "write_ledger"]


def ledger_table(run: RunFiles, shared: Path | None = None) -> pd.DataFrame:
    """One row per published number (COLUMNS), then the quantities without a published value.

    `row` counts from 1 in the published table, 0 of a row that is not from it. `ours`, `low` and
    `high` are in the published unit, NaN where nothing was measured; `file` and `metric` say where
    they stand in the run folder, `simulated` what of it is made up ("no": nothing).
    """
    rows = [_published_row(row, run) for row in read_published(shared)]
    own = UNPUBLISHED if rows else (*HEADLINES, *UNPUBLISHED)
    rows += [_own_row(target, run, bool(rows)) for target in own]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def write_ledger(run: RunFiles, table: pd.DataFrame) -> Path:
    """Writes `ledger.csv` into the run folder; returns its path."""
    path = Path(run.folder) / LEDGER
    with runtime.replacing(path) as scratch:
        table.to_csv(scratch, index=False)
    return path


def _published_row(row: Published, run: RunFiles) -> dict:
    target = target_of(row)
    found = _found(target, run)
    return _ours(target, found, run) | {
        "row": row.index, "system": row.system, "table": row.table, "quantity": row.words,
        "published": row.value, "sd": row.sd, "source": row.source, "note": row.note,
        "status": status_of(row, target, found, run),
        "kind": "context" if why_context(row) else target.kind if target else "result",
    }  # fmt: skip


def _own_row(target: Target, run: RunFiles, listed: bool) -> dict:
    """A quantity of the kit's own list. `listed`: the published table was there to look in."""
    found = _found(target, run)
    status = unpublished_status(target, found, run)
    if not listed and target in HEADLINES:
        status = f"{NO_VALUE}: {NO_TABLE}"
    return _ours(target, found, run) | {
        "row": 0, "system": target.system, "table": "", "quantity": target.quantity,
        "published": "", "sd": "", "source": "", "note": "", "status": status,
        "kind": target.kind,
    }  # fmt: skip


def _found(target: Target | None, run: RunFiles) -> dict | None:
    """Our number for `target`. Of counts of a data set, only that data set's counts."""
    if target is None:
        return None
    found = run.find(target.source, target.metric)
    name = str(run.body(target.source).get("data", {}).get("name", ""))
    if found is None or found.get(target.field) is None:
        return None
    if target.counts_data and target.data not in name:
        return None
    return found


def _ours(target: Target | None, found: dict | None, run: RunFiles) -> dict:
    """The columns that say what we measured and where it stands."""
    if found is None:
        return {"ours": None, "low": None, "high": None, "n": None, "data": "", "fingerprint": "",
                "simulated": "", "file": "", "metric": ""}  # fmt: skip
    body = run.body(target.source)
    data = found.get("data") or body.get("data") or {}
    low, high = (found.get(k) if target.field == "value" else None for k in ("low", "high"))
    counted = target.source == COUNTS
    return {
        "ours": found[target.field] * target.scale,
        "low": None if low is None else low * target.scale,
        "high": None if high is None else high * target.scale,
        "n": found.get("n"), "data": data.get("name") or ("none needed" if counted else "unnamed"),
        "fingerprint": data.get("fingerprint", ""),
        "simulated": made_up(target, run) or "no",
        "file": FILES.get(target.source, f"{target.source}/metrics.json"), "metric": target.metric,
    }  # fmt: skip


# --- views of it ----------------------------------------------------------------------------------


def summary_table(table: pd.DataFrame) -> pd.DataFrame:
    """System by status: results matched, sizes and settings matched, differs, not run, context."""
    kinds = table["status"].map(kind_of)
    exact = table["kind"].isin(["size", "count", "setting"])
    columns = {
        "Numbers": table["row"] > 0,
        "Results match": (kinds == MATCHED) & ~exact,
        "Sizes, counts match": (kinds == MATCHED) & table["kind"].isin(["size", "count"]),
        "Settings match": (kinds == MATCHED) & (table["kind"] == "setting"),
        "Differs": kinds == DIFFERS,
        "Not run here": kinds == NOT_RUN,
        "Context": kinds == CONTEXT,
    }
    flags = pd.DataFrame(columns).assign(System=table["system"])
    counted = flags[flags["Numbers"]].groupby("System").sum().astype(int)
    known = [s for s in SYSTEMS if s in counted.index]
    known += [s for s in counted.index if s not in known]
    counted = counted.reindex(known)
    counted.loc["All"] = counted.sum()
    return counted.rename_axis("System").reset_index()


def headline_table(table: pd.DataFrame) -> pd.DataFrame:
    """Results that this run measured: published beside ours, a number printed twice shown once."""
    some = table[table["ours"].notna() & (table["kind"] == "result")]
    some = some[(some["published"] == "") | ~some.duplicated(["system", "published", "ours"])]
    return pd.DataFrame({
        "System": some["system"], "Quantity": some["quantity"],
        "Published": [shown(p, s) for p, s in zip(some["published"], some["sd"])],
        "Ours": [number_words(r) for r in some.to_dict("records")],
        "Data": some["data"], "Status": some["status"],
    })  # fmt: skip


def shown(value: str, sd: str) -> str:
    return f"{value} ± {sd}" if sd else value or "–"


def number_words(row: dict) -> str:
    """`0.841 [0.821, 0.866], n=370`; "–" where nothing was measured. Exact numbers as they are."""
    if pd.isna(row["ours"]):
        return "–"
    if row["kind"] in ("size", "count", "setting"):
        places = len(str(row["published"]).partition(".")[2]) if row["kind"] == "size" else 0
        return f"{row['ours']:.{places}f}" if row["kind"] == "size" else f"{row['ours']:.6g}"
    if pd.isna(row["low"]) and float(row["ours"]).is_integer():
        return f"{row['ours']:.0f}"
    text = f"{row['ours']:.3f}" if abs(row["ours"]) < 10 else f"{row['ours']:.1f}"
    if not pd.isna(row["low"]):
        digits = 3 if abs(row["ours"]) < 10 else 1
        text += f" [{row['low']:.{digits}f}, {row['high']:.{digits}f}]"
    return text + ("" if pd.isna(row["n"]) else f", n={int(row['n'])}")
