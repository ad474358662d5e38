"""A sweep as one table, `OUT/table.csv`: a row a point, its settings, and every metric of it.

Usage:

    write_table(Path("runs/esi_demo"))          # runs/esi_demo/table.csv
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from ecgkit import runtime
from ecgkit.reports.sweep_points import read_points

NAME = "table.csv"


def sweep_table(folder: Path) -> pd.DataFrame:
    """Columns: point, status, seconds, what the point sets (capitals), then value, `_low` and
    `_high` of each metric of its notebooks; empty where a point has none.
    """
    entries = {e["name"]: e for e in json.loads((folder / "sweep.json").read_text())["points"]}
    rows = []
    for point in read_points(folder):
        entry = entries[point.name]
        row = {"point": point.name, "status": entry["status"], "seconds": entry.get("seconds")}
        row |= entry.get("own", {})
        for name, metric in point.metrics.items():
            row[name] = metric.get("value")
            for end in ("low", "high"):
                if metric.get(end) is not None:
                    row[f"{name}_{end}"] = metric[end]
        rows.append(row)
    return pd.DataFrame(rows)


def write_table(folder: Path) -> Path:
    """Writes `folder`/table.csv from `sweep.json` and the points' metrics.json alone."""
    path = Path(folder) / NAME
    with runtime.replacing(path) as scratch:
        sweep_table(Path(folder)).to_csv(scratch, index=False)
    return path
