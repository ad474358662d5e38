"""The parts of the run page about the run itself: head, notebooks, failures, figures, versions.

Usage:

    head(run), notebooks(run, entries), figures(run)         # strings of HTML
"""

from __future__ import annotations

from html import escape
from pathlib import Path

from ecgkit.reports import page_html as html
from ecgkit.reports.ledger_files import RunFiles, describe_data, succeeded
from ecgkit.reports.run_tables import metrics_table
from ecgkit.types import NOT_FOR_DIAGNOSIS

TITLES = {
    "00_start_here": "Start here", "01_data_mapping": "Data and mapping",
    "02_preprocessing": "Preprocessing", "03_baselines": "Question-answering baselines",
    "04_esi_pretraining": "ESI pretraining", "05_esi_evaluation": "ESI evaluation",
    "06_few_shot_qa": "Few-shot question answering", "07_risk_finetuning": "Heart-failure risk",
    "08_replication_report": "Replication report",
}  # fmt: skip
NOT_FOR_SHARING = (
    "<p class='warn'><strong>Made from credentialed data: not for sharing.</strong> Keep "
    "this page, its figures and its notebooks where your data use agreement allows.</p>"
)
SIMULATED = (
    '<p class="warn"><strong>Simulated data.</strong> Every figure and metric below that names '
    "the synthetic cohort shows that the kit works. None of them replicates a published result."
    "</p>"
)


def title(run: RunFiles) -> str:
    return f"ecgkit run {run.record.get('run') or Path(run.folder).resolve().name}"


def head(run: RunFiles) -> str:
    """Title, what ran on which data, the banners, and the sentence every page carries."""
    record = run.record
    cohorts = list(dict.fromkeys(describe_data(b) for b in run.notebooks.values() if b.get("data")))
    facts = [f"preset {record['preset']}"] if record.get("preset") else []
    facts += [f"data: {c}" for c in cohorts] or ["no notebook has used a cohort yet"]
    if record.get("ecgqa"):
        facts.append(f"questions: {Path(str(record['ecgqa'])).name}")
    simulated = any(b.get("data", {}).get("simulated") for b in run.notebooks.values())
    banners = (NOT_FOR_SHARING if run.credentialed else "") + (SIMULATED if simulated else "")
    return (
        f"<header><h1>{escape(title(run))}</h1><p class='muted'>{escape(' · '.join(facts))}</p>"
        f"<p><strong>{escape(NOT_FOR_DIAGNOSIS)}</strong></p>{banners}</header>"
    )


def notebooks(run: RunFiles, entries: list[dict]) -> str:
    rows = []
    for entry in entries:
        body = run.notebooks.get(entry["name"], {})
        status = str(entry["status"])
        good = succeeded(status)
        checks = body.get("checks", []) if good else []
        held = f"{sum(bool(c['holds']) for c in checks)} of {len(checks)}" if checks else "–"
        rows.append([
            html.link(entry.get("html", ""), name_of(entry["name"])),
            ("ok" if good else "bad", status), _seconds(entry, body), held,
        ])  # fmt: skip
    columns = ["Notebook", "Status", "Seconds used / allowed", "Checks held"]
    total = run.record.get("seconds")
    note = f"{total:.0f} s in this sitting" if total else ""
    return "<h2>Notebooks</h2>" + html.table(columns, rows, note)


def _seconds(entry: dict, body: dict) -> str:
    """Wall-clock of the whole notebook as the runner timed it; the allowance is the demo's."""
    used = entry.get("seconds") or body.get("seconds")
    allowed = body.get("allowed_s")
    over = " (over)" if used and allowed and used > allowed else ""
    return (f"{used:.0f}" if used else "–") + (f" / {allowed}{over}" if allowed else "")


def failures(entries: list[dict]) -> str:
    failed = [e for e in entries if e.get("cell")]
    blocks = [f"<h3>{escape(e['name'])}</h3><pre>{escape(str(e['cell']))}</pre>" for e in failed]
    return "<h2>What failed</h2>" + "".join(blocks) if blocks else ""


def headlines(run: RunFiles) -> str:
    """Headline metrics only; the executed notebooks and metrics.json have the others."""
    table = metrics_table(run, headline_only=True)
    if table.empty:
        return "<h2>Headline metrics</h2><p class='muted'>No notebook has recorded one yet.</p>"
    note = "Intervals in brackets; every metric stands in its notebook's metrics.json."
    return "<h2>Headline metrics</h2>" + html.table(
        list(table.columns), table.values.tolist(), note, stacked=True
    )


def paper_figures(run: RunFiles, folder: str, captions: dict[str, str]) -> str:
    """The figures in the papers' form that `save_figures` left."""
    cards = [html.figure(run.folder, f"{folder}/{n}.png", text) for n, text in captions.items()]
    cards = [card for card in cards if card]
    if not cards:
        return ""
    return f"<h2>Figures in the papers' form</h2><div class='figures large'>{''.join(cards)}</div>"


def figures(run: RunFiles) -> str:
    """Every figure of every notebook, closed by notebook."""
    blocks = []
    for name, body in run.notebooks.items():
        captions = body.get("captions", {})
        cards = [html.figure(run.folder, f"{name}/figures/{f}.png", text or f)
                 for f, text in captions.items()]  # fmt: skip
        cards = [card for card in cards if card]
        if cards:
            grid = f"<div class='figures'>{''.join(cards)}</div>"
            blocks.append(html.details(f"{name_of(name)}: {len(cards)} figures", grid))
    return "<h2>All figures</h2>" + "".join(blocks) if blocks else ""


def about(run: RunFiles) -> str:
    """Machine, code and package versions, seeds: what a reader needs to run it again."""
    record = run.record
    git, machine = record.get("git", {}), record.get("machine", "")
    changed = " with uncommitted changes" if git.get("dirty") else ""
    if isinstance(machine, dict):
        machine = ", ".join(f"{k} {v}" for k, v in machine.items())
    memory = f"{record['peak_memory_gb']:.1f} GB" if record.get("peak_memory_gb") else "–"
    rows = [
        ["Started", record.get("started", "–")], ["Machine", machine or "–"],
        ["Peak memory", memory], ["Commit", str(git.get("commit", "unknown")) + changed],
        ["Seeds", ", ".join(f"{k} {v}" for k, v in record.get("seeds", {}).items()) or "–"],
        ["Versions", ", ".join(f"{k} {v}" for k, v in record.get("versions", {}).items()) or "–"],
    ]  # fmt: skip
    return "<h2>About this run</h2>" + html.table([], rows)


def name_of(notebook: str) -> str:
    return f"{notebook[:2]} · {TITLES[notebook]}" if notebook in TITLES else notebook
