"""What the ledger reads: `run.json`, each notebook's `metrics.json`, and the kit's counts.

Nothing a notebook keeps in memory reaches the report: a number is shown because a file of the run
folder holds it.

Usage:

    run = read_run("runs/demo")
    run.notebooks["05_esi_evaluation"]["metrics"]["zero_shot_macro_auc"]["value"]
    run.status("05_esi_evaluation"), run.missing, run.table("06_few_shot_qa", "accuracy_grid.csv")
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from ecgkit.config import CONFIGS
from ecgkit.types import DataError

REPORT = "08_replication_report"
FACTS = "kit_counts.json"  # sizes and settings that need no data: see `ledger_facts`
NOTEBOOKS = tuple(name for name in CONFIGS if name[:2].isdigit())  # the solutions measure nothing
ABLATIONS = "ablations.json"  # what a sweep says of published ablations: see `ablation_numbers`
COUNTS = "kit counts"  # the names under which the ledger finds these two
SWEEP = "sweep"
FILES = {COUNTS: FACTS, SWEEP: ABLATIONS}


@dataclass(frozen=True)
class RunFiles:
    """One run folder: `record` is run.json ({} if absent), `notebooks` its metrics files, `facts`
    the kit's own counts ({} before notebook 08 has made them), `ablations` what a sweep adds.
    """

    folder: Path
    record: dict = field(default_factory=dict)
    notebooks: dict[str, dict] = field(default_factory=dict)
    facts: dict = field(default_factory=dict)
    ablations: dict = field(default_factory=dict)
    tables: dict = field(default_factory=dict, repr=False, compare=False)  # read once each

    def status(self, name: str) -> str:
        """What run.json says of a notebook, else whether it left metrics."""
        entry = self.entry(name)
        if entry:
            return entry["status"]
        return "ok" if name in self.notebooks else "not run in this folder"

    def entry(self, name: str) -> dict:
        """What run.json says of a notebook; {} where it is not listed."""
        listed = self.record.get("notebooks", [])
        return next((entry for entry in listed if entry["name"] == name), {})

    @property
    def missing(self) -> list[str]:
        """Notebooks of the kit that left no metrics here (the report itself aside)."""
        return [n for n in NOTEBOOKS if n not in self.notebooks and n != REPORT]

    @property
    def credentialed(self) -> bool:
        """True where any notebook read records that may not be passed on."""
        bodies = (*self.notebooks.values(), self.ablations)
        bodies = (self.record, *(body.get("data", {}) for body in bodies))
        return any(body.get("credentialed") for body in bodies)

    def body(self, source: str) -> dict:
        """The file in which a ledger row's number stands: a notebook's metrics, or one of FILES."""
        if source in FILES:
            return self.facts if source == COUNTS else self.ablations
        return self.notebooks.get(source, {})

    def setting(self, notebook: str, name: str) -> str:
        """A setting of a notebook of this run, from its config.json, as text; "" if unknown."""
        value = read_json(Path(self.folder) / notebook / "config.json").get(name, "")
        return "" if value is None else str(value)

    def find(self, source: str, metric: str) -> dict | None:
        """One number with its interval: `metric` of the file of `source`, or `FILE.csv:A|B|C`, the
        line of a tidy table with that model, task and metric. None where it was not measured.
        """
        if ".csv:" not in metric:
            row = self.body(source).get("metrics", {}).get(metric)
            return row if row and row.get("value") is not None else None
        name, _, words = metric.partition(":")
        table = self.table(source, name)
        keys = dict(zip(("model", "task", "metric"), words.split("|")))
        if table is None or not set(keys) <= set(table.columns):
            return None
        for key, word in keys.items():
            table = table[table[key] == word]
        row = table.iloc[0].to_dict() if len(table) else {}
        known = {k: None if pd.isna(row.get(k)) else row[k] for k in ("value", "low", "high", "n")}
        return known if known["value"] is not None else None

    def table(self, notebook: str, name: str) -> pd.DataFrame | None:
        """A .csv that a notebook with metrics left in its folder; None where it has none."""
        path = Path(self.folder) / notebook / name
        if path in self.tables:
            return self.tables[path]
        if notebook not in self.notebooks or not path.exists():
            return None
        try:
            return self.tables.setdefault(path, pd.read_csv(path))
        except ValueError as error:
            raise DataError(
                f"{notebook}/{name} is no readable table ({error}); run that notebook again."
            ) from None


def read_run(folder: str | Path) -> RunFiles:
    """Reads the JSON files of a run folder. Raises DataError naming a file that is not JSON."""
    folder = Path(folder)
    record = read_json(folder / "run.json")
    # A notebook that failed or was held back may have left the metrics of an earlier sitting.
    stale = {e["name"] for e in record.get("notebooks", []) if not succeeded(e["status"])}
    paths = {n: folder / n / "metrics.json" for n in NOTEBOOKS if n not in stale}
    notebooks = {n: read_json(p) for n, p in paths.items() if p.exists()}
    return RunFiles(folder, record, notebooks, read_json(folder / FACTS),
                    read_json(folder / ABLATIONS))


def succeeded(status: str) -> bool:
    return status.startswith(("ok", "skipped"))


def is_simulated(body: dict) -> bool:
    """Data that does not say what it is counts as simulated."""
    return bool(body.get("data", {}).get("simulated", True))


def describe_data(body: dict) -> str:
    """`synthetic (simulated), 2400 ECGs, fingerprint ...`; says so when a notebook used no data."""
    data = body.get("data") or {}
    if not data:
        return "no cohort"
    kind = " (simulated)" if data.get("simulated", True) else ""
    kind += " (not for sharing)" if data.get("credentialed") else ""
    return f"{data.get('name')}{kind}, {data.get('n_ecgs')} ECGs, {data.get('fingerprint')}"


def read_json(path: Path) -> dict:
    """{} where there is no such file. Raises DataError where it is not a JSON object."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise DataError(_broken(path, error)) from None
    if not isinstance(content, dict):
        raise DataError(_broken(path, "it holds no object"))
    return content


def _broken(path: Path, why) -> str:
    return f"{path.parent.name}/{path.name} is not JSON ({why}); run that notebook again."
