"""The run's one HTML page: notebooks, headline metrics, figures, versions. No script, no network.

Usage:
    build_index(Path("runs/demo"), entries)      # returns runs/demo/index.html
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path
from urllib.parse import quote

from ecgkit import runtime
from ecgkit.reports.ledger import RunFiles, describe_data, metrics_table, read_run
from ecgkit.types import NOT_FOR_DIAGNOSIS

TITLES = {
    "00_start_here": "Start here", "01_data_mapping": "Data and mapping",
    "02_preprocessing": "Preprocessing", "03_baselines": "Question-answering baselines",
    "04_esi_pretraining": "ESI pretraining", "05_esi_evaluation": "ESI evaluation",
    "06_few_shot_qa": "Few-shot question answering", "07_risk_finetuning": "Heart-failure risk",
    "08_replication_report": "Replication report",
}


def build_index(run_folder: Path, entries: list[dict]) -> Path:
    """Writes `run_folder/index.html` from `entries` (as in run.json) and the run's files.

    Each entry: name, status, seconds, html (path relative to the run folder, or ""), cell (the
    failing cell, or ""). A notebook without metrics.json is listed with its status alone.
    """
    run = read_run(run_folder)
    sections = [
        _head(run), _notebooks(run, entries), _failures(entries), _headlines(run), _figures(run),
        _about(run), f"<footer><p>{escape(NOT_FOR_DIAGNOSIS)}</p></footer>",
    ]
    path = Path(run_folder) / "index.html"
    with runtime.replacing(path) as scratch:
        scratch.write_text(_document(_title(run), "\n".join(s for s in sections if s)), "utf-8")
    return path


# --- sections -------------------------------------------------------------------------------------


def _title(run: RunFiles) -> str:
    return f"ecgkit run {run.record.get('run') or Path(run.folder).resolve().name}"


def _head(run: RunFiles) -> str:
    """Title, what ran on which data, the simulated banner, and the sentence every page carries."""
    record = run.record
    cohorts = list(dict.fromkeys(describe_data(b) for b in run.notebooks.values() if b.get("data")))
    facts = [f"preset {record['preset']}"] if record.get("preset") else []
    facts += [f"data: {c}" for c in cohorts] or ["no notebook has used a cohort yet"]
    if record.get("ecgqa"):
        facts.append(f"questions: {Path(str(record['ecgqa'])).name}")
    simulated = any(b.get("data", {}).get("simulated") for b in run.notebooks.values())
    banner = (
        '<p class="warn"><strong>Simulated data.</strong> Every figure and metric below that names '
        "the synthetic cohort shows that the kit works. None of them replicates a published result."
        "</p>"
        if simulated else ""
    )
    return (
        f"<header><h1>{escape(_title(run))}</h1><p class='lead'>{escape(' · '.join(facts))}</p>"
        f"<p><strong>{escape(NOT_FOR_DIAGNOSIS)}</strong></p>{banner}</header>"
    )


def _notebooks(run: RunFiles, entries: list[dict]) -> str:
    rows = []
    for entry in entries:
        body = run.notebooks.get(entry["name"], {})
        status = str(entry["status"])
        good = status.startswith(("ok", "skipped"))
        checks = body.get("checks", []) if good else []
        held = f"{sum(bool(c['holds']) for c in checks)} of {len(checks)}" if checks else "–"
        rows.append([
            _link(entry.get("html", ""), _name(entry["name"])),
            ("ok" if good else "bad", status), _seconds(entry, body), held,
        ])
    head = ["Notebook", "Status", "Seconds used / allowed", "Checks held"]
    total = run.record.get("seconds")
    note = f"{total:.0f} s in this sitting" if total else ""
    return "<h2>Notebooks</h2>" + _table(head, rows, note)


def _seconds(entry: dict, body: dict) -> str:
    """Wall-clock of the whole notebook as the runner timed it; the allowance is the demo's."""
    used = entry.get("seconds") or body.get("seconds")
    allowed = body.get("allowed_s")
    over = " (over)" if used and allowed and used > allowed else ""
    return (f"{used:.0f}" if used else "–") + (f" / {allowed}{over}" if allowed else "")


def _failures(entries: list[dict]) -> str:
    failed = [e for e in entries if e.get("cell")]
    blocks = [f"<h3>{escape(e['name'])}</h3><pre>{escape(str(e['cell']))}</pre>" for e in failed]
    return "<h2>What failed</h2>" + "".join(blocks) if blocks else ""


def _headlines(run: RunFiles) -> str:
    """Headline metrics only; the executed notebooks and metrics.json have the others."""
    table = metrics_table(run, headline_only=True)
    if table.empty:
        return "<h2>Headline metrics</h2><p class='muted'>No notebook has recorded one yet.</p>"
    note = "Intervals in brackets; every metric stands in its notebook's metrics.json."
    return "<h2>Headline metrics</h2>" + _table(list(table.columns), table.values.tolist(), note)


def _figures(run: RunFiles) -> str:
    blocks = []
    for name, body in run.notebooks.items():
        cards = [_card(run.folder, name, figure, text) for figure, text in body["captions"].items()]
        cards = [card for card in cards if card]
        if cards:
            grid = f"<div class='figures'>{''.join(cards)}</div>"
            blocks.append(f"<h3>{escape(_name(name))}</h3>{grid}")
    return "<h2>Figures</h2>" + "".join(blocks) if blocks else ""


def _card(folder: Path, notebook: str, figure: str, caption: str) -> str:
    """A thumbnail that opens the PNG; "" when the file is gone."""
    relative = f"{notebook}/figures/{figure}.png"
    if not (Path(folder) / relative).exists():
        return ""
    target, text = quote(relative), escape(caption or figure, quote=True)
    return (
        f"<figure><a href='{target}'><img src='{target}' alt='{text}' loading='lazy'></a>"
        f"<figcaption>{text}</figcaption></figure>"
    )


def _about(run: RunFiles) -> str:
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
    ]
    return "<h2>About this run</h2>" + _table([], rows)


# --- HTML -----------------------------------------------------------------------------------------


def _name(notebook: str) -> str:
    return f"{notebook[:2]} · {TITLES[notebook]}" if notebook in TITLES else notebook


class _Html(str):
    """Text that is HTML already; everything else is escaped by `_table`."""


def _link(href: str, text: str) -> str:
    return _Html(f"<a href='{quote(href)}'>{escape(text)}</a>") if href else text


def _table(head: list[str], rows: Iterable[list], caption: str = "") -> str:
    """A table of escaped cells; a cell (class, text) gets that class."""
    top = "".join(f"<th scope='col'>{escape(h)}</th>" for h in head)
    body = "".join("<tr>" + "".join(_cell(c) for c in row) + "</tr>" for row in rows)
    below = f"<caption>{escape(caption)}</caption>" if caption else ""
    top = f"<thead><tr>{top}</tr></thead>" if top else ""
    return f"<div class='wide'><table>{below}{top}<tbody>{body}</tbody></table></div>"


def _cell(content) -> str:
    if isinstance(content, tuple):
        kind, content = content
        return f"<td class='{kind}'>{escape(str(content))}</td>"
    return f"<td>{content if isinstance(content, _Html) else escape(str(content))}</td>"


def _document(title: str, body: str) -> str:
    css = (Path(__file__).parent / "page.css").read_text("utf-8")
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>\n{css}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )
