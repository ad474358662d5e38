"""The run's one HTML page: what was replicated, the ledgers, notebooks, figures, versions.

No script, no network; drawn from the run folder's files alone, which the tables beside it repeat.

Usage:

    build_index(Path("runs/demo"), entries)      # returns runs/demo/index.html
"""

from __future__ import annotations

from html import escape
from pathlib import Path

from ecgkit import runtime
from ecgkit.reports import page_html, page_ledger, page_parts
from ecgkit.reports.ledger_check import CERTIFICATE
from ecgkit.reports.ledger_files import read_json, read_run
from ecgkit.reports.report_files import PAPER, figure_captions, write_tables
from ecgkit.types import NOT_FOR_DIAGNOSIS


def build_index(run_folder: Path, entries: list[dict]) -> Path:
    """Writes `run_folder/index.html`, and the tables it shows beside it, from the run's files.

    Each of `entries` (as in run.json): name, status, seconds, html (path relative to the run
    folder, or ""), cell (the failing cell, or ""). A notebook without metrics.json is listed with
    its status alone.
    """
    run = read_run(run_folder)
    tables = write_tables(run)
    sections = [
        page_parts.head(run), page_ledger.headline(tables["ledger"]),
        page_parts.notebooks(run, entries), page_parts.failures(entries),
        page_parts.headlines(run),
        page_parts.paper_figures(run, PAPER, figure_captions(run)),
        page_ledger.measured_section(tables["ledger"]),
        page_ledger.ledger_section(tables["ledger"]),
        page_ledger.discrepancy_section(tables["discrepancies"]),
        page_ledger.parity_section(read_json(Path(run.folder) / CERTIFICATE)),
        page_ledger.times_section(tables["run_times"]),
        page_parts.figures(run), page_parts.about(run),
        f"<footer><p>{escape(NOT_FOR_DIAGNOSIS)}</p></footer>",
    ]  # fmt: skip
    path = Path(run_folder) / "index.html"
    body = "\n".join(part for part in sections if part)
    with runtime.replacing(path) as scratch:
        scratch.write_text(page_html.document(page_parts.title(run), body), "utf-8")
    return path
