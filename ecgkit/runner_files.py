"""What a run writes beside its notebooks, and how it knows that nothing changed: run.json,
fingerprints, the page.

Usage:

    record = open_record(folder, config, params)     # notebooks of earlier sittings stay in it
    record["notebooks"]["03_baselines"] = entry("ok", 12.3)
    save_record(folder, record)
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import resource
import sys
from collections.abc import Mapping
from pathlib import Path

from ecgkit import __version__, runs, runtime
from ecgkit.config import RUNNABLE, KitConfig, short_hash
from ecgkit.runner_order import upstream

PACKAGE = Path(__file__).resolve().parent
GOOD = ("ok", "skipped")
TIMES = "run_times.csv"

# --- run.json -------------------------------------------------------------------------------------


def open_record(folder: Path, config: KitConfig, params: Mapping[str, object]) -> dict:
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
        "machine": machine(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": 0.0,
        "peak_memory_gb": earlier.get("peak_memory_gb", 0.0),
        "credentialed": False,
        "notebooks": {item.pop("name"): item for item in earlier.get("notebooks", [])},
    }


def save_record(folder: Path, record: dict) -> None:
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    scale = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kB on Linux
    record["peak_memory_gb"] = round(max(record["peak_memory_gb"], children * scale / 1e9), 2)
    runs.write_json(folder / "run.json", record | {"notebooks": entries(record)})


def entries(record: dict) -> list[dict]:
    return [{"name": n, **record["notebooks"][n]} for n in RUNNABLE if n in record["notebooks"]]


def entry(status: str, seconds: float = 0.0, html: str = "", cell: str = "") -> dict[str, object]:
    return {"status": status, "seconds": round(seconds, 1), "html": html, "cell": cell}


def good(found: Mapping | None) -> bool:
    """Whether an entry says that its notebook succeeded, now or in an earlier sitting."""
    return (found or {}).get("status", "").startswith(GOOD)


def machine() -> str:
    return f"{runtime.cpu_model()}, {os.cpu_count()} cores"


def write_page(folder: Path, record: dict) -> Path:
    from ecgkit.reports.page import build_index

    return build_index(folder, entries(record))


# --- what a result depends on ---------------------------------------------------------------------


def fingerprint(
    name: str, config: KitConfig, data: str, found: Mapping[str, Mapping], code: str = ""
) -> str:
    """Code, config, data and the notebooks this one reads: the same hash means the same result.

    `found`: the entries of run.json by name; `code`: `code_hash()`, where it is known already.
    """
    source = (runtime.project_root() / "notebooks" / f"{name}.ipynb").read_text()
    parts = [
        code or code_hash(),
        source,
        config.hash(),
        data,
        _named_files(config),
        runtime.versions(),
        platform.python_version(),
    ]
    read = upstream(name, sorted(found))
    return short_hash([*parts, [found[n].get("fingerprint") for n in read]])


def _named_files(config: KitConfig) -> list[tuple[str, int, int]]:
    """Name, size and time of change of the tables that settings name (follow-up, hazards)."""
    named = [getattr(config, name, "") for name in ("outcomes", "hazards")]
    found = [path for path in map(runtime.find_path, filter(None, named)) if path]
    for folder in [path for path in found if path.is_dir()]:
        found += sorted([*folder.glob("*.csv*"), *folder.glob("*/*.csv*")])
    return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in found]


def code_hash() -> str:
    """Hash over every file of the package (code, knowledge notes, style sheets) but the measured
    run times, which decide no result.
    """
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and path.name != TIMES:
            digest.update(str(path.relative_to(PACKAGE)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
