"""The replication ledger: what was published, what this run measured, and on which data.

It reads `run.json` and `<notebook>/metrics.json` of one run folder, and nothing that a notebook
keeps in memory. Published numbers come from the shared folder (`NUMBERS` below); without it
the ledger shows our figures alone. Nothing simulated is ever called a replication.

Usage:
    run = read_run("runs/demo")
    replication_table(run, shared_dir())        # published beside ours
    metrics_table(run), run_times(run), discrepancy_table(run)
"""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from ecgkit.config import CONFIGS
from ecgkit.reports.curves import metric_words, plot_bars
from ecgkit.reports.discrepancies import DISCREPANCIES
from ecgkit.reports.tables import with_interval
from ecgkit.runs import BUDGET_S
from ecgkit.types import DataError

REPORT = "08_replication_report"
PTBXL_ECGS = 21_799  # records in PTB-XL 1.0.3
NUMBERS = "references/published_numbers.csv"


@dataclass(frozen=True)
class RunFiles:
    """One run folder: `record` is run.json ({} if absent), `notebooks` its metrics files."""

    folder: Path
    record: dict = field(default_factory=dict)
    notebooks: dict[str, dict] = field(default_factory=dict)

    def status(self, name: str) -> str:
        """What run.json says of a notebook, else whether it left metrics."""
        for entry in self.record.get("notebooks", []):
            if entry["name"] == name:
                return entry["status"]
        return "ok" if name in self.notebooks else "not run in this folder"

    @property
    def missing(self) -> list[str]:
        """Notebooks of the kit that left no metrics here (the report itself aside)."""
        return [n for n in CONFIGS if n not in self.notebooks and n != REPORT]


@dataclass(frozen=True)
class Target:
    """One published headline number and the metric of ours that stands for the same quantity.

    `where` picks the row of the published table by column; `metric` is a pattern over the metric's
    name in `notebook`; `note` says what stands between any run of ours and a replication; `labels`
    says what the kit makes up itself even on real ECGs ("questions" unless ECGQA is given).
    """

    system: str
    quantity: str
    notebook: str
    metric: str
    where: dict[str, str] | None
    note: str = ""
    labels: str = ""
    unit: str = ""


ESI = {"system": "ESI", "dataset": "PTB-XL", "method": "ESI", "metric": "AUC"}
FEW = {"system": "FSL-ECG-QA", "table": "abstract"}
RISK = {"system": "HF-dual-attention", "metric": "C-index", "table": "README / abstract"}
MIMIC = "a replication needs MIMIC-IV-ECG (credentialed)"
BANK = "a replication needs UK Biobank (credentialed)"
LLAMA = "a replication needs all of ECG-QA and Llama-3.1-8B (gated)"
TARGETS = (
    Target("ECG-QA", "exact match, fusion transformer", "03_baselines",
           r"exact_match.*fus|fus.*exact_match", None, "no published score could be read",
           "questions"),
    Target("ESI", "zero-shot macro AUC", "05_esi_evaluation", r"zero.?shot.*auc|auc.*zero.?shot",
           ESI | {"table": "Table 3", "setting": "zero-shot"}, MIMIC),
    Target("ESI", "linear-probe macro AUC", "05_esi_evaluation", r"prob(e|ing).*auc|auc.*prob",
           ESI | {"table": "Table 2", "setting": "linear probing"}, MIMIC),
    Target("Few-shot QA", "single-verify accuracy, 5-way 5-shot", "06_few_shot_qa",
           r"^(?!.*(unadapted|before|choose|query)).*(adapted|after)",
           FEW | {"task": "ECG question answering: single-verify"}, LLAMA, "questions", " %"),
    Target("Few-shot QA", "single-choose accuracy, 5-way 5-shot", "06_few_shot_qa",
           r"^(?!.*(unadapted|before)).*choose",
           FEW | {"task": "ECG question answering: single-choose"}, LLAMA, "questions", " %"),
    Target("Few-shot QA", "single-query accuracy, 5-way 5-shot", "06_few_shot_qa",
           r"^(?!.*(unadapted|before)).*query",
           FEW | {"task": "ECG question answering: single-query"}, LLAMA, "questions", " %"),
    Target("HF risk", "C-index, hypertension cohort", "07_risk_finetuning",
           r"^(?!.*(age|shuffl|control|random|oracle|gain)).*c_?index",
           RISK | {"dataset": "UKB-HYP"}, BANK, "outcomes"),
    Target("HF risk", "C-index, infarction cohort", "07_risk_finetuning", r"$^",
           RISK | {"dataset": "UKB-MI"}, BANK + "; about 32 events stand behind it: no verdict",
           "outcomes"),
)


# --- reading --------------------------------------------------------------------------------------


def read_run(folder: str | Path) -> RunFiles:
    """Reads the JSON files of a run folder. Raises DataError naming a file that is not JSON."""
    folder = Path(folder)
    record = _read_json(folder / "run.json") if (folder / "run.json").exists() else {}
    # A notebook that failed or was held back may have left the metrics of an earlier sitting.
    stale = {e["name"] for e in record.get("notebooks", []) if not _succeeded(e["status"])}
    paths = {n: folder / n / "metrics.json" for n in CONFIGS if n not in stale}
    return RunFiles(folder, record, {n: _read_json(p) for n, p in paths.items() if p.exists()})


def _succeeded(status: str) -> bool:
    return status.startswith(("ok", "skipped"))


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise DataError(
            f"{path.parent.name}/{path.name} is not JSON ({error}); run that notebook again."
        ) from None


def published_number(shared: Path | None, where: dict[str, str] | None) -> str:
    """The value of the one row that `where` picks, as printed; "" without the table or the row."""
    path = shared / NUMBERS if shared else None
    if where is None or path is None or not path.exists():
        return ""
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            if all(row.get(column) == value for column, value in where.items()):
                return row["value"] + (f" ± {row['sd']}" if row.get("sd") else "")
    return ""


# --- tables ---------------------------------------------------------------------------------------


def replication_table(run: RunFiles, shared: Path | None = None) -> pd.DataFrame:
    """One row per headline target: system, quantity, published, ours, data, status."""
    return pd.DataFrame([_ledger_row(run, target, shared) for target in TARGETS])


def _ledger_row(run: RunFiles, target: Target, shared: Path | None) -> dict[str, str]:
    body = run.notebooks.get(target.notebook, {})
    name, row = _find_metric(body.get("metrics", {}), target.metric)
    published = published_number(shared, target.where)
    count = f", n={row['n']}" if row and row.get("n") else ""
    status = replication_status(
        body if row else {}, target, run.status(target.notebook), run.record.get("ecgqa", "")
    )
    return {
        "System": target.system, "Quantity": target.quantity,
        "Published": published + target.unit if published else "–",
        "Ours": f"{with_interval(row)}{count} ({name})" if row else "–",
        "Data": describe_data(body) if row else "–", "Status": status,
    }


def _find_metric(metrics: dict[str, dict], pattern: str) -> tuple[str, dict | None]:
    """The first headline metric whose name matches, else the first that matches at all."""
    found = [name for name in metrics if re.search(pattern, name)]
    found.sort(key=lambda name: not metrics[name].get("headline"))
    return (found[0], metrics[found[0]]) if found else ("", None)


def replication_status(body: dict, target: Target, ran: str = "ok", ecgqa: str = "") -> str:
    """What our figure is worth beside the published one, in words; simulated data always wins.

    `body` is the notebook's metrics.json ({} when it has no such metric), `ran` its status,
    `ecgqa` the run's ECG-QA source ("" = the kit's own questions).
    """
    verdict, data = "", body.get("data", {})
    if not body:
        verdict = "not measured in this run" if _succeeded(ran) else ran
    elif data.get("simulated", True):
        verdict = "simulated: never a replication"
    elif target.labels == "outcomes" or target.labels and not ecgqa:
        verdict = f"real ECGs, simulated {target.labels}: never a replication"
    elif data.get("n_ecgs", 0) < PTBXL_ECGS:
        verdict = f"a subset of {data.get('n_ecgs', 0)} ECGs: not a replication"
    elif body.get("preset") != "paper":
        verdict = f"preset {body.get('preset')}: not the published sizes"
    elif target.note:
        verdict = "not the published protocol"
    return "; ".join(part for part in (verdict, target.note) if part) or "comparable"


def describe_data(body: dict) -> str:
    """`synthetic (simulated), 2400 ECGs, fingerprint ...`; says so when a notebook used no data."""
    data = body.get("data") or {}
    if not data:
        return "no cohort"
    kind = " (simulated)" if data.get("simulated", True) else ""
    return f"{data.get('name')}{kind}, {data.get('n_ecgs')} ECGs, {data.get('fingerprint')}"


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
    simulated = any(body.get("data", {}).get("simulated", True) for _, _, body in found)
    names = [name for name, _, _ in found] or ["no headline metric yet"]
    bounds = {k: [row.get(k) for _, row, _ in found] or [None] for k in ("value", "low", "high")}
    return plot_bars(names, bounds["value"], bounds["low"], bounds["high"], "Headline metrics",
                     simulated=simulated)


def run_times(run: RunFiles) -> pd.DataFrame:
    """One row per notebook: status, seconds used and allowed, peak memory, checks held.

    The report itself is left out: while it runs, its files are those of the time before.
    """
    rows = []
    for name in CONFIGS:
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
        })
    return pd.DataFrame(rows)


def discrepancy_table(run: RunFiles | None = None) -> pd.DataFrame:
    """Paper beside code, one row each; an effect that this run measured replaces the known one.

    A notebook measures the effect of row `id` by recording the metric `effect_<id>`.
    """
    measured = {}
    for notebook, body in (run.notebooks if run else {}).items():
        for name, row in body.get("metrics", {}).items():
            if name.startswith("effect_"):
                simulated = body.get("data", {}).get("simulated", True)
                where = f"{notebook}, {'simulated' if simulated else 'real'} data"
                words = ": ".join(w for w in (row.get("note"), with_interval(row)) if w)
                measured[name.removeprefix("effect_")] = f"{words} ({where})"
    rows = [{
        "System": d.system, "Topic": d.topic, "The paper says": d.paper, "The code does": d.code,
        "Our switch": d.switch or "none yet", "Effect": measured.get(d.id, d.effect),
    } for d in DISCREPANCIES]
    return pd.DataFrame(rows)
