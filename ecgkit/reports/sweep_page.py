"""A sweep's one HTML page, `OUT/index.html`: its points, headline metrics, figures, orderings.

Drawn from the run folders, `sweep.json` and `figures/` alone. No script, no network.

Usage:

    build_page(Path("runs/esi_demo"), {"fig5_amount": "Linear probe by ..."}, ordering_table)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path

import pandas as pd

from ecgkit import runtime
from ecgkit.reports import page_html as html
from ecgkit.reports.ledger_files import read_run
from ecgkit.reports.page_parts import NOT_FOR_SHARING
from ecgkit.reports.run_tables import metrics_table
from ecgkit.types import NOT_FOR_DIAGNOSIS


def build_page(
    folder: Path, captions: Mapping[str, str] | None = None, ordering: pd.DataFrame | None = None
) -> Path:
    """Writes `folder`/index.html. `captions`: name of a figure in `folder`/figures -> caption;
    `ordering`: the table of `esi_ordering`, for sweeps that have one.
    """
    folder = Path(folder)
    record = json.loads((folder / "sweep.json").read_text())
    sections = [
        _head(folder, record), _points(folder, record), _failures(record),
        _figures(captions or {}), _ordering(ordering),
        f"<footer><p>{escape(NOT_FOR_DIAGNOSIS)}</p></footer>",
    ]  # fmt: skip
    body = "\n".join(filter(None, sections))
    path = folder / "index.html"
    with runtime.replacing(path) as scratch:
        scratch.write_text(html.document(_title(record), body), "utf-8")
    return path


def _title(record: dict) -> str:
    return f"ecgkit sweep {record['sweep']}"


def _head(folder: Path, record: dict) -> str:
    runs = [read_run(folder / entry["name"]) for entry in record["points"]]
    bodies = [body for run in runs for body in run.notebooks.values()]
    banner = (
        '<p class="warn"><strong>Simulated data.</strong> What is below shows that the kit works. '
        "None of it replicates a published result.</p>"
        if any(body.get("data", {}).get("simulated") for body in bodies) else ""
    )  # fmt: skip
    banner += NOT_FOR_SHARING if any(run.credentialed for run in runs) else ""
    facts = f"{', '.join(record['notebooks'])} · {record['machine']} · {record['started']}"
    return (
        f"<header><h1>{escape(_title(record))}</h1><p class='lead'>{escape(facts)}</p>"
        f"<p><strong>{escape(NOT_FOR_DIAGNOSIS)}</strong></p>{banner}</header>"
    )


def _points(folder: Path, record: dict) -> str:
    """One row per point: what it changes, status, seconds, its headline metrics."""
    names = [entry["name"] for entry in record["points"]]
    tables = {name: metrics_table(read_run(folder / name), headline_only=True) for name in names}
    shown = list(dict.fromkeys(name for table in tables.values() for name in table["Metric"]))[:4]
    rows = []
    for entry in record["points"]:
        name, good = entry["name"], entry["status"] in ("ok", "unchanged")
        there = (folder / name / "index.html").exists()
        changes = ", ".join(f"{k}={v}" for k, v in entry["own"].items()) or "as the base"
        found = dict(zip(tables[name]["Metric"], tables[name]["Value"]))
        rows.append([
            html.link(f"{name}/index.html" if there else "", name), changes,
            ("ok" if good else "bad", entry["status"]), f"{entry.get('seconds', 0):.0f}",
            *(found.get(metric, "–") for metric in shown),
        ])  # fmt: skip
    words = [metric.replace("_", " ") for metric in shown]
    whole = html.link("table.csv", "table.csv") if (folder / "table.csv").exists() else ""
    below = f"<p>Every metric of every point: {whole}</p>" if whole else ""
    table = html.table(["Point", "Changes", "Status", "Seconds", *words], rows)
    return f"<h2>Points</h2>{table}{below}"


def _failures(record: dict) -> str:
    failed = [e for e in record["points"] if e["status"] == "failed"]
    blocks = [f"<h3>{escape(e['name'])}</h3><pre>{escape(e['error'])}</pre>" for e in failed]
    return "<h2>What failed</h2>" + "".join(blocks) if blocks else ""


def _figures(captions: Mapping[str, str]) -> str:
    cards = [
        f"<figure><a href='figures/{name}.png'><img src='figures/{name}.png' loading='lazy' "
        f"alt='{escape(text, quote=True)}'></a><figcaption>{escape(text)}</figcaption></figure>"
        for name, text in captions.items()
    ]
    return f"<h2>Figures</h2><div class='figures'>{''.join(cards)}</div>" if cards else ""


def _ordering(table: pd.DataFrame | None) -> str:
    if table is None:
        return ""
    note = (
        "Shows: the difference has the paper's sign and is longer than its noise, the two half "
        "intervals taken together."
    )
    rows = table.astype(str).values.tolist()
    return "<h2>Does the paper's order show?</h2>" + html.table(list(table.columns), rows, note)
