"""How long the notebooks take: measured by a demo run, kept in `run_times.csv`, and said by the
notebooks' "It takes" lines and the kit's map.

`ecgkit times runs/demo --write` copies a run's measurements here; nobody types them.

Usage:

    measured()["03_baselines"].seconds
    about(174)                                   # about 3 minutes
    write(Path("runs/demo"))                     # run_times.csv and the notebooks' lines
"""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ecgkit import runtime
from ecgkit.config import CONFIGS
from ecgkit.types import DataError

TABLE = Path(__file__).with_name("run_times.csv")
_LINE = re.compile(r"(\*\*It takes\*\* )[^.;\n]*(?:\.\d[^.;\n]*)*")


@dataclass(frozen=True)
class Measured:
    """Wall-clock of one notebook's demo on the simulated cohort, as the runner timed it."""

    notebook: str
    seconds: float
    machine: str
    date: str


def measured(path: Path = TABLE) -> dict[str, Measured]:
    """The table by notebook; {} where no run has been copied yet."""
    if not path.exists():
        return {}
    rows = csv.DictReader(io.StringIO(path.read_text("utf-8")))
    found = [Measured(**row | {"seconds": float(row["seconds"])}) for row in rows]
    return {row.notebook: row for row in found}


def about(seconds: float) -> str:
    """`about 25 seconds`, `about a minute`, `about 2.5 minutes`."""
    if seconds < 52.5:
        return f"about {max(5, 5 * round(seconds / 5))} seconds"
    halves = round(seconds / 30)
    return "about a minute" if halves <= 2 else f"about {halves / 2:g} minutes"


def of_run(run_folder: Path) -> list[Measured]:
    """What `run_folder` measured. Raises DataError where it is no demo run on simulated data, and
    where notebooks ran beside each other, which makes each slower.
    """
    path = Path(run_folder) / "run.json"
    if not path.exists():
        raise DataError(f"{run_folder} holds no run.json; give the folder of a demo run.")
    record = json.loads(path.read_text())
    if record["preset"] != "demo" or record["data"] != "synthetic":
        raise DataError(
            f"{run_folder} is a run of preset {record['preset']} on {Path(record['data']).name}; "
            "the table is of the demo on simulated data (ecgkit demo)."
        )
    rows = []
    for entry in record["notebooks"]:
        how = entry.get("measured", {})
        if how.get("jobs", 1) > 1:
            raise DataError(f"{entry['name']} ran beside others; measure with --jobs 1 --force.")
        if entry["status"].startswith(("ok", "skipped")) and entry["name"] in CONFIGS:
            machine = how.get("machine", record["machine"])
            date = how.get("date", record["started"][:10])
            rows.append(Measured(entry["name"], entry["seconds"], machine, date))
    return rows


def write(run_folder: Path) -> list[Path]:
    """Copies the run's times into the table and the notebooks' lines; returns the files changed."""
    known = measured() | {row.notebook: row for row in of_run(run_folder)}
    buffer = io.StringIO()
    table = csv.DictWriter(buffer, [f.name for f in fields(Measured)], lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(known[name]) for name in CONFIGS if name in known)
    changed = [_rewrite(TABLE, buffer.getvalue())]
    for name, row in known.items():
        path = runtime.project_root() / "notebooks" / f"{name}.ipynb"
        if path.exists():
            changed.append(_rewrite(path, with_line(path.read_text("utf-8"), row)))
    return [path for path in changed if path]


def with_line(notebook: str, row: Measured) -> str:
    """The notebook's text with its first "It takes" saying what was measured."""
    n_cores = re.search(r"(\d+) cores", row.machine)
    cores = f" on {n_cores[1]} cores" if n_cores else ""
    return _LINE.sub(rf"\g<1>{about(row.seconds)}{cores}", notebook, count=1)


def _rewrite(path: Path, text: str) -> Path | None:
    if path.exists() and path.read_text("utf-8") == text:
        return None
    with runtime.replacing(path) as scratch:
        scratch.write_text(text, "utf-8")
    return path
