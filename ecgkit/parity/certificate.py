"""The parity certificate: which golden fixtures our models were compared with, and how it went.

Golden files hold inputs, weights and outputs of the published implementations. The certificate
says, per file: how many arrays were compared, the worst difference and its tolerance, and whether
all were met; and once: versions, machine, date. It is written into the run folder, from where the
report shows it without comparing again.

Usage:

    certificate = certify()                     # seconds; without fixtures it says so
    write_certificate(Path("runs/demo"), certificate)
"""

from __future__ import annotations

import csv
import datetime
import hashlib
import math
from pathlib import Path

from ecgkit import __version__, runs, runtime
from ecgkit.parity import compare_file, golden_files
from ecgkit.types import KitError

NAME = "parity_certificate.json"
SKIPPED = (
    "No golden file was found, so nothing was compared here: set ECGKIT_SHARED to the folder that "
    "holds golden/*.npz, and run notebook 08 or `ecgkit parity` again."
)


def certify(files: list[Path] | None = None, device: str = "cpu") -> dict:
    """Compares every fixture; `files` None = those of the shared folder.

    Returns {fixtures, passed, skipped, kit, versions, machine, device, finished}. A fixture that
    cannot be compared is a failed one with its sentence; nothing is raised for it.
    """
    files = golden_files() if files is None else files
    fixtures = [_certify_one(path, device) for path in files]
    return {
        "fixtures": fixtures,
        "passed": bool(fixtures) and all(one["passed"] for one in fixtures),
        "skipped": "" if fixtures else SKIPPED, "kit": __version__, "device": device,
        "versions": runtime.versions(), "machine": runtime.cpu_model(),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }  # fmt: skip


def _certify_one(path: Path, device: str) -> dict:
    """One line; `margin` is the worst difference over its tolerance: 1 is the limit."""
    about = {"fixture": path.stem, "sha256": _sha256(path)}
    try:
        checks = compare_file(path, device)
    except KitError as error:
        return about | {"arrays": 0, "difference": None, "tolerance": None, "margin": None,
                        "array": "", "passed": False, "result": str(error)}  # fmt: skip
    worst = max(checks, key=lambda c: c.difference / c.tolerance if c.tolerance else 0.0)
    missed = [c.name for c in checks if not c.passed]
    margin = _finite(worst.difference / worst.tolerance) if worst.tolerance else 0.0
    return about | {
        "arrays": len(checks), "difference": _finite(worst.difference),
        "tolerance": worst.tolerance, "margin": margin, "array": worst.name, "passed": not missed,
        "result": "all met" if not missed else f"missed: {', '.join(missed)}",
    }  # fmt: skip


def _finite(number: float) -> float | None:
    """JSON has no infinity: a difference that has no size is None."""
    return number if math.isfinite(number) else None


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def write_certificate(folder: Path, certificate: dict) -> Path:
    """Writes parity_certificate.json and .csv (one line a fixture); returns the .json's path."""
    path = Path(folder) / NAME
    runs.write_json(path, certificate)
    columns = ("fixture", "sha256", "arrays", "array", "difference", "tolerance", "margin",
               "passed", "result")  # fmt: skip
    with runtime.replacing(path.with_suffix(".csv")) as scratch:
        with open(scratch, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(certificate["fixtures"])
    return path
