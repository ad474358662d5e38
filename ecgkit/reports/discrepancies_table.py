"""The discrepancy ledger as a table: paper beside code, with the effect where one was measured.

A notebook measures the effect of row `id` by recording the metric `effect_<id>`; that number then
stands before what was known of it. What takes a minute at most is measured by
`benchmarks/discrepancy_effects.py`, whose words the rows repeat.

Usage:

    table = discrepancy_table(read_run("runs/demo"))
    effect_counts(table)       # system -> rows, measured in this run, known from elsewhere, not yet
"""

from __future__ import annotations

import pandas as pd

from ecgkit.reports.discrepancies import DISCREPANCIES
from ecgkit.reports.discrepancies_base import UNMEASURED
from ecgkit.reports.ledger_files import RunFiles, is_simulated
from ecgkit.reports.tables import with_interval

HERE, BEFORE, NOT_YET = "measured in this run", "known from tests or benchmarks", UNMEASURED


def discrepancy_table(run: RunFiles | None = None) -> pd.DataFrame:
    """One row each: ID, System, Topic, both sides, Our switch, Effect, `Known` (HERE | BEFORE |
    NOT_YET), and Source.
    """
    measured = measured_effects(run) if run else {}
    rows = [{
        "ID": d.id, "System": d.system, "Topic": d.topic, "The paper says": d.paper,
        "The code does": d.code, "Our switch": d.switch or "none yet",
        "Effect": measured.get(d.id, d.effect),
        "Known": HERE if d.id in measured else NOT_YET if d.effect == UNMEASURED else BEFORE,
        "Source": d.source,
    } for d in DISCREPANCIES]  # fmt: skip
    return pd.DataFrame(rows)


def measured_effects(run: RunFiles) -> dict[str, str]:
    """id -> the effect in words, from every metric `effect_<id>` of the run files."""
    found = {}
    for notebook, body in run.notebooks.items():
        for name, row in body.get("metrics", {}).items():
            if name.startswith("effect_"):
                where = f"{notebook}, {'simulated' if is_simulated(body) else 'real'} data"
                words = ": ".join(w for w in (row.get("note"), with_interval(row)) if w)
                found[name.removeprefix("effect_")] = f"{words} ({where})"
    return found


def effect_counts(table: pd.DataFrame) -> pd.DataFrame:
    """System by how its effects are known, with a line for all."""
    counted = pd.crosstab(table["System"], table["Known"])
    counted = counted.reindex(columns=[HERE, BEFORE, NOT_YET], fill_value=0)
    counted = counted.reindex(list(dict.fromkeys(table["System"])))
    counted.insert(0, "Rows", counted.sum(axis=1))
    counted.loc["All"] = counted.sum()
    counted.columns.name = None
    return counted.rename_axis("System").reset_index()
