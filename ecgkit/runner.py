"""Runs notebooks headless through papermill: order, skipping what has not changed, resume,
run.json, the HTML page.

Usage:
    run_notebooks(["03_baselines"], {"PRESET": "tiny"})       # returns the exit code
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import logging
import os
import platform
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ecgkit import __version__, runs, runtime
from ecgkit.config import CONFIGS, KitConfig, short_hash
from ecgkit.types import ConfigError

# A notebook runs only when those it needs have succeeded; 08 reads whatever run files there are.
NEEDS = {
    "05_esi_evaluation": ("04_esi_pretraining",),
    "06_few_shot_qa": ("04_esi_pretraining",),
}
REPORT = "08_replication_report"
PACKAGE = Path(__file__).resolve().parent


def run_notebooks(names: Sequence[str], params: Mapping[str, object], force: bool = False) -> int:
    """Executes `names` (all when empty) with `params`; returns 0, or 1 when a cell failed.

    Raises ConfigError or DataError before anything runs: unknown notebook or parameter, unusable
    data.
    """
    names = choose(names)
    configs = resolve(names, params)
    first = configs[names[0]]
    data = check_inputs(first)
    folder = runs.run_folder(first)
    folder.mkdir(parents=True, exist_ok=True)
    record = _open_record(folder, first, params)
    print(f"{len(names)} notebooks · preset {first.preset} · data {first.data} · to {folder}")
    for name in names:
        _run_one(name, configs[name], params, folder, record, data, force)
        _save_record(folder, record)
    page = _write_page(folder, record)
    failed = [
        n for n in names if record["notebooks"][n]["status"].startswith(("failed", "not run"))
    ]
    print(f"{len(names) - len(failed)} of {len(names)} notebooks ok in {record['seconds']:.0f} s")
    print(page)
    return 1 if failed else 0


# --- before anything runs -------------------------------------------------------------------------


def choose(names: Sequence[str]) -> list[str]:
    """Full notebook names in order; accepts `03`, `03_baselines` or
    `notebooks/03_baselines.ipynb`.
    """
    chosen = set()
    for name in names or CONFIGS:
        stem = Path(name).stem
        found = [known for known in CONFIGS if known == stem or known.split("_")[0] == stem]
        if not found:
            raise ConfigError(f"There is no notebook {name!r}; choose from {', '.join(CONFIGS)}.")
        chosen.add(found[0])
    return [name for name in CONFIGS if name in chosen]


def resolve(names: Sequence[str], params: Mapping[str, object]) -> dict[str, KitConfig]:
    """One config per notebook. A parameter counts for the notebooks that have it; one that none has
    is an error.
    """
    fields = {n: {f.name for f in dataclasses.fields(CONFIGS[n])} for n in names}
    for name in params:
        if not any(name.lower() in known for known in fields.values()):
            # The notebook with the most settings gives the best "did you mean".
            widest = max(names, key=lambda n: len(fields[n]))
            CONFIGS[widest].from_params({name: params[name]})
    return {n: CONFIGS[n].from_params(_own(params, fields[n])) for n in names}


def check_inputs(config: KitConfig) -> str:
    """Opens real data once, so that a wrong path or a broken file is a sentence before the first
    notebook runs.

    Returns the data's fingerprint ('' for the simulated cohort, which code and config already
    determine).
    """
    if config.simulated and not config.ecgqa:
        return ""
    from ecgkit.data.cohort import open_cohort
    from ecgkit.data.ecgqa import open_questions

    cohort = open_cohort(config)
    questions = open_questions(config, cohort)
    size = len(questions.table), len(questions.dropped)
    return short_hash([cohort.fingerprint, size, questions.classes])


def _own(params: Mapping[str, object], fields: set[str]) -> dict[str, object]:
    return {k: v for k, v in params.items() if k.lower() in fields}


# --- one notebook ---------------------------------------------------------------------------------


def _run_one(name, config, params, folder, record, data, force) -> None:
    entries = record["notebooks"]
    blocked = [n for n in NEEDS.get(name, ()) if not _usable(n, folder, entries)]
    if blocked:
        entries[name] = _entry(f"not run: needs {', '.join(blocked)}")
        print(f"{name}: not run, it needs {', '.join(blocked)}")
        return
    fingerprint = _fingerprint(name, config, data, entries)
    before = entries.get(name, {})
    unchanged = before.get("fingerprint") == fingerprint and before.get("status", "").startswith(
        ("ok", "skipped")
    )
    if unchanged and not force and (folder / name / "executed.html").exists():
        entries[name] = before | {"status": "skipped (unchanged)"}
        print(f"{name}: unchanged, skipped")
        return
    started = time.monotonic()
    error = execute(name, config, params, folder / name)
    seconds = time.monotonic() - started
    html = _to_html(folder / name)
    status = "failed" if error else "ok"
    entries[name] = _entry(status, seconds, html, error) | {"fingerprint": fingerprint}
    record["seconds"] += seconds
    print(f"{name}: {status} in {seconds:.0f} s" + (f"\n  {error}" if error else ""), flush=True)


def execute(name: str, config: KitConfig, params: Mapping[str, object], folder: Path) -> str:
    """Runs one notebook into `folder/executed.ipynb`; returns '' or a line naming the failing cell
    and its error.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    folder.mkdir(parents=True, exist_ok=True)
    source = runtime.project_root() / "notebooks" / f"{name}.ipynb"
    fields = {f.name for f in dataclasses.fields(config)}
    given = {k.upper(): getattr(config, k.lower()) for k in _own(params, fields)}
    os.environ["ECGKIT_BATCH"] = "1"
    # Papermill warns of names absent from the parameters cell; `resolve` has checked them all.
    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        papermill.execute_notebook(
            source,
            folder / "executed.ipynb",
            parameters=given,
            cwd=source.parent,
            kernel_name="python3",
            progress_bar=False,
            # The kernel's own notes (TCP without encryption, interrupts at shutdown) are not the
            # reader's concern: loopback only, and a failing cell is reported below.
            extra_arguments=["--IPKernelApp.log_level=50"],
        )
    except PapermillExecutionError as error:
        heading = _cell_name(folder / "executed.ipynb", error.cell_index)
        return f"{name}, cell {error.cell_index} ({heading}): {error.ename}: {error.evalue}"
    except DeadKernelError as error:
        return f"{name}: its process ended before its last cell, often for lack of memory ({error})"
    return ""


def _cell_name(path: Path, index: int) -> str:
    """The heading above a cell and its first line of code, so that a reader finds it without
    counting.
    """
    cells = [
        cell
        for cell in json.loads(path.read_text())["cells"]
        # Papermill puts banners of its own into a failed notebook; the index does not count them.
        if "papermill-error-cell-tag" not in cell["metadata"].get("tags", [])
    ]
    above = [
        line.lstrip("# ").strip()
        for cell in cells[:index]
        if cell["cell_type"] == "markdown"
        for line in "".join(cell["source"]).splitlines()
        if line.startswith("## ")
    ]
    code = "".join(cells[index]["source"]).strip().splitlines() if index < len(cells) else []
    return " · ".join([*above[-1:], *code[:1]])


def _to_html(folder: Path) -> str:
    """Renders executed.ipynb with its figures; returns the page's path relative to the run
    folder.
    """
    from nbconvert import HTMLExporter

    body, _ = HTMLExporter(embed_images=True).from_filename(str(folder / "executed.ipynb"))
    (folder / "executed.html").write_text(body)
    return f"{folder.name}/executed.html"


def _usable(name: str, folder: Path, entries: Mapping[str, Mapping]) -> bool:
    """True when `name` succeeded in this run folder, now or in an earlier sitting."""
    ok = entries.get(name, {}).get("status", "").startswith(("ok", "skipped"))
    return ok and (folder / name / "metrics.json").exists()


def _entry(status: str, seconds: float = 0.0, html: str = "", cell: str = "") -> dict[str, object]:
    return {"status": status, "seconds": round(seconds, 1), "html": html, "cell": cell}


# --- what a result depends on ---------------------------------------------------------------------


def _fingerprint(name: str, config: KitConfig, data: str, entries: Mapping[str, Mapping]) -> str:
    """Code, config, data and the notebooks this one reads: the same hash means the same result."""
    upstream = list(NEEDS.get(name, ())) if name != REPORT else [n for n in entries if n != REPORT]
    source = (runtime.project_root() / "notebooks" / f"{name}.ipynb").read_text()
    parts = [
        code_hash(),
        source,
        config.hash(),
        data,
        _named_files(config),
        runtime.versions(),
        platform.python_version(),
    ]
    return short_hash([*parts, [entries.get(n, {}).get("fingerprint") for n in upstream]])


def _named_files(config: KitConfig) -> list[tuple[str, int, int]]:
    """Name, size and time of change of the tables that settings name (follow-up, hazards)."""
    named = [getattr(config, name, "") for name in ("outcomes", "hazards")]
    found = [path for path in map(runtime.find_path, filter(None, named)) if path]
    for folder in [path for path in found if path.is_dir()]:
        found += sorted([*folder.glob("*.csv*"), *folder.glob("*/*.csv*")])
    return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in found]


def code_hash() -> str:
    """Hash over every file of the package (code, knowledge notes, style sheets)."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(str(path.relative_to(PACKAGE)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


# --- run.json and the page ------------------------------------------------------------------------


def _open_record(folder: Path, config: KitConfig, params: Mapping[str, object]) -> dict:
    """The run's record; notebooks of an earlier sitting in the same folder stay in it."""
    path = folder / "run.json"
    earlier = json.loads(path.read_text()) if path.exists() else {}
    return {
        "run": folder.name,
        "kit": __version__,
        "preset": config.preset,
        "data": config.data,
        "ecgqa": config.ecgqa,
        "params": {k.upper(): v for k, v in params.items()},
        "git": runtime.git_state(),
        "versions": runtime.versions() | {"python": platform.python_version()},
        "seeds": {"seed": config.seed, "cohort_seed": config.cohort_seed},
        "machine": f"{runtime.cpu_model()}, {os.cpu_count()} cores",
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": 0.0,
        "peak_memory_gb": earlier.get("peak_memory_gb", 0.0),
        "notebooks": {entry.pop("name"): entry for entry in earlier.get("notebooks", [])},
    }


def _save_record(folder: Path, record: dict) -> None:
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    scale = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kB on Linux
    record["peak_memory_gb"] = round(max(record["peak_memory_gb"], children * scale / 1e9), 2)
    runs.write_json(folder / "run.json", record | {"notebooks": _entries(record)})


def _entries(record: dict) -> list[dict]:
    return [{"name": n, **record["notebooks"][n]} for n in CONFIGS if n in record["notebooks"]]


def _write_page(folder: Path, record: dict) -> Path:
    from ecgkit.reports.page import build_index

    return build_index(folder, _entries(record))
