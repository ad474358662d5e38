"""The files of a report: made from a run folder's JSON and tables alone, without its notebooks.

    ledger.csv, discrepancies.csv   every published number beside ours; paper beside code
    run_times.csv                   measured, with machine and date
    paper/*.png                     figures in the papers' form
    index.html                      all of it on one page

Usage:

    write_report(Path("runs/demo"))       # everything, as `ecgkit report` does
    write_tables(run)                     # the tables alone, as after every run
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from ecgkit import runs, runtime
from ecgkit.config import short_hash
from ecgkit.reports.ablation_numbers import write_ablations
from ecgkit.reports.discrepancies_table import discrepancy_table
from ecgkit.reports.ledger import ledger_table, write_ledger
from ecgkit.reports.ledger_files import REPORT, SWEEP, RunFiles, read_json, read_run
from ecgkit.reports.ledger_status import CONTEXT, DIFFERS, MATCHED, NOT_RUN, kind_of
from ecgkit.reports.paper_figures import paper_figures
from ecgkit.reports.run_tables import run_times
from ecgkit.types import DataError

PAPER = "paper"  # folder of the figures in the papers' form
CAPTIONS = "figures.json"


def write_report(folder: str | Path, sweep: Path | None = None) -> Path:
    """Makes tables, figures and index.html anew; returns the page's path.

    `sweep`: a sweep's folder, whose ablations join the ledger. They stay in the run folder, so
    they are given once. Raises DataError for a folder that holds no run, or no published ablation.
    """
    run = read_run(folder)
    if not run.record and not run.notebooks:
        raise DataError(
            f"{Path(folder).name} holds no run: neither run.json nor a notebook's metrics.json. "
            "Give a folder that `ecgkit run` wrote, e.g. runs/demo."
        )
    if sweep:
        write_ablations(run.folder, sweep)
        run = read_run(folder)
    save_figures(run, paper_figures(run, ledger_table(run, runtime.shared_dir())))
    return write_page(folder)


def write_page(folder: str | Path) -> Path:
    """Makes the tables and index.html anew, with the figures that are there; returns its path."""
    from ecgkit.reports.page import build_index

    return build_index(Path(folder), read_json(Path(folder) / "run.json").get("notebooks", []))


def write_tables(run: RunFiles) -> dict[str, pd.DataFrame]:
    """Writes ledger.csv, discrepancies.csv and run_times.csv; returns them by stem."""
    tables = {
        "ledger": ledger_table(run, runtime.shared_dir()),
        "discrepancies": discrepancy_table(run), "run_times": run_times(run),
    }  # fmt: skip
    write_ledger(run, tables["ledger"])
    for name in ("discrepancies", "run_times"):
        with runtime.replacing(Path(run.folder) / f"{name}.csv") as scratch:
            tables[name].to_csv(scratch, index=False)
    return tables


def summary_words(ledger: Path) -> str:
    """One sentence on a written ledger.csv: how many rows, and how many of each status."""
    table = pd.read_csv(ledger, keep_default_na=False)
    published = table[table["row"].astype(int) > 0]
    if published.empty:
        return "The published table is not here; the ledger holds this run's own numbers alone."
    counts = published["status"].map(kind_of).value_counts()
    words = ", ".join(f"{counts.get(s, 0)} {w}" for s, w in (
        (MATCHED, "matched"), (DIFFERS, "measured and differ"), (NOT_RUN, "not run here"),
        (CONTEXT, "context")))  # fmt: skip
    results = published[(published["status"] == MATCHED) & (published["kind"] == "result")]
    return (f"{len(published)} published numbers: {words}. Of those matched, {len(results)} are "
            "results; the others are sizes, counts and settings.")  # fmt: skip


def save_figures(
    run: RunFiles, drawn: Mapping[str, tuple[Figure, str]], made: Path | None = None
) -> dict[str, str]:
    """Puts what `paper_figures` drew into `paper/`, in place of earlier ones; name -> caption.

    `made`: a folder that holds them as PNG already, from which they are copied.
    """
    place = Path(run.folder) / PAPER
    place.mkdir(exist_ok=True)
    for name, (figure, _) in drawn.items():
        with runtime.replacing(place / f"{name}.png") as scratch:
            if made is not None:
                shutil.copyfile(made / f"{name}.png", scratch)
            else:
                figure.savefig(scratch, format="png", dpi=100, bbox_inches="tight")
    captions = {name: caption for name, (_, caption) in drawn.items()}
    runs.write_json(place / CAPTIONS, {"of": run_hash(run), "captions": captions})
    for path in place.glob("*.png"):
        if path.stem not in captions:
            path.unlink()
    return captions


def figure_captions(run: RunFiles) -> dict[str, str]:
    """Captions of the figures in `paper/`; {} where they were drawn from other numbers."""
    found = read_json(Path(run.folder) / PAPER / CAPTIONS)
    return found.get("captions", {}) if found.get("of") == run_hash(run) else {}


def run_hash(run: RunFiles) -> str:
    """Hash of all metrics but the report's own: figures drawn from others are not shown."""
    bodies = run.notebooks | {SWEEP: run.ablations}
    bodies = {name: body.get("metrics", {}) for name, body in bodies.items()}
    return short_hash({name: body for name, body in bodies.items() if name != REPORT})
