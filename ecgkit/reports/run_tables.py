"""Tables of one run folder: its metrics, its run times, and a figure of the headline metrics.

Usage:

    run = read_run("runs/demo")
    metrics_table(run, headline_only=True), run_times(run), plot_headlines(run)
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from ecgkit.reports.curves import metric_words, plot_bars
from ecgkit.reports.ledger_files import (
    NOTEBOOKS,
    REPORT,
    RunFiles,
    describe_data,
    is_simulated,
)
from ecgkit.reports.tables import with_interval
from ecgkit.runs import BUDGET_S


def metrics_table(run: RunFiles, headline_only: bool = False) -> pd.DataFrame:
    """Every metric in the run files: notebook, metric, value [interval], n, data, note."""
    rows = []
    for notebook, body in run.notebooks.items():
        for name, row in body.get("metrics", {}).items():
            if row.get("headline") or not headline_only:
                n = "" if row.get("n") is None else str(row["n"])
                value, note = with_interval(row), row.get("note", "")
                rows.append((notebook, name, value, n, describe_data(body), note))
    return pd.DataFrame(rows, columns=["Notebook", "Metric", "Value", "n", "Data", "Note"])


def plot_headlines(run: RunFiles) -> Figure:
    """Bars of every headline metric on the 0..1 scale, with intervals; simulated ones say so."""
    found = [
        (f"{notebook[:2]} · {metric_words(name)}", row, body)
        for notebook, body in run.notebooks.items()
        for name, row in body.get("metrics", {}).items()
        if row.get("headline") and not row.get("unit") and 0 <= (row.get("value") or 0) <= 1
    ]
    simulated = any(is_simulated(body) for _, _, body in found)
    names = [name for name, _, _ in found] or ["no headline metric yet"]
    bounds = {k: [row.get(k) for _, row, _ in found] or [None] for k in ("value", "low", "high")}
    return plot_bars(names, bounds["value"], bounds["low"], bounds["high"], "Headline metrics",
                     simulated=simulated)


def run_times(run: RunFiles) -> pd.DataFrame:
    """One row per notebook: status, seconds used and allowed, memory, checks, machine and date.

    The report itself is left out: while it runs, its files are those of the time before.
    """
    rows = []
    for name in NOTEBOOKS:
        if name == REPORT:
            continue
        body = run.notebooks.get(name, {})
        checks = body.get("checks", [])
        used, allowed = body.get("seconds"), body.get("allowed_s")
        rows.append({
            "Notebook": name, "Status": run.status(name),
            "Used, s": "–" if used is None else f"{used:.0f}",
            "Allowed, s": f"{allowed}" if allowed else f"– (demo: {BUDGET_S[name]})",
            "Peak memory": f"{body['peak_memory_gb']:.1f} GB" if body else "–",
            "Checks held": f"{sum(c['holds'] for c in checks)} of {len(checks)}" if checks else "–",
            "Machine": _machine(run, name, body), "Measured on": _measured_on(run, name, body),
        })
    return pd.DataFrame(rows)


def _machine(run: RunFiles, name: str, body: dict) -> str:
    """Where it was measured, as the runner noted it; else the notebook's machine, with the run's
    cores where that is the same.
    """
    noted = run.entry(name).get("measured", {}).get("machine")
    own, whole = str(body.get("machine", "")), str(run.record.get("machine", ""))
    return noted or (whole if own and whole.startswith(own) else own) or "–"


def _measured_on(run: RunFiles, name: str, body: dict) -> str:
    """The day a notebook was run; of an older file that does not say, the day the run started."""
    noted = run.entry(name).get("measured", {}).get("date") or body.get("finished")
    return str(noted or (run.record.get("started") if body else "") or "–")[:10]
