"""The machine the kit runs on: folders, seeds, device, precision, progress, time budget,
environment report.

Nothing here imports torch until a function needs it, so that `import ecgkit` stays cheap.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import random
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ecgkit.disk import (  # noqa: F401  part of what a machine is; the other rooms ask here
    append,
    one_at_a_time,
    reading_cached,
    refusal,
    replacing,
    replacing_folder,
    require_room,
    write_once,
    writing,
)
from ecgkit.types import ConfigError

PACKAGES = (
    "torch",
    "transformers",
    "accelerate",
    "numpy",
    "scipy",
    "pandas",
    "scikit-learn",
    "matplotlib",
    "wfdb",
    "neurokit2",
    "papermill",
    "jupyterlab",
)

# --- folders --------------------------------------------------------------------------------------


def project_root() -> Path:
    """The clone's folder when run inside one (or beside it, in notebooks/), else the current folder
    (pip install, Colab).
    """
    for start in (Path.cwd(), Path(__file__).resolve().parent):
        for folder in (start, *start.parents):
            if (folder / "ecgkit" / "__init__.py").exists() and (folder / "notebooks").is_dir():
                return folder
    return Path.cwd()


def find_path(name: str | Path) -> Path | None:
    """A path relative to the current folder, else to the project's; None where neither exists."""
    path = Path(os.path.expanduser(name))
    found = (p.resolve() for p in (path, project_root() / path) if p.exists())
    return next(found, None)


def cache_dir() -> Path:
    """Where simulated cohorts, stores and small trained language models are kept between runs.

    `ECGKIT_CACHE` overrides the default, the git-ignored part of the project's `data/`.
    """
    folder = Path(os.environ.get("ECGKIT_CACHE") or project_root() / "data" / "cache")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"The cache folder {folder} cannot be made ({error}); set ECGKIT_CACHE to a folder "
            "that you may write to."
        ) from error
    return folder


def shared_dir() -> Path | None:
    """The folder of parity fixtures and real test data (`ECGKIT_SHARED`, else `../shared` beside
    the clone), or None.
    """
    folder = Path(os.environ.get("ECGKIT_SHARED") or project_root().parent / "shared")
    return folder if folder.is_dir() else None


# --- randomness and device ------------------------------------------------------------------------


def set_seed(seed: int) -> None:
    """Seeds Python, numpy and torch."""
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def pick_device(name: str = "auto"):
    """Returns the torch.device `name` stands for; `auto` takes cuda, then mps, then cpu. Raises
    ConfigError if absent.
    """
    import torch

    have = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if have[kind])
    if not have.get(name, False):
        raise ConfigError(
            f"DEVICE is {name!r}, but this machine offers "
            f"{', '.join(k for k, v in have.items() if v)}."
        )
    return torch.device(name)


def pick_precision(name: str, device) -> str:
    """Returns fp32 | fp16 | bf16. `auto`: bf16 where the GPU has it natively, fp16 (with loss
    scaling) on older GPUs such as a T4, fp32 elsewhere (CPU runs stay exactly reproducible)."""
    import torch

    if name != "auto":
        return name
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.get_device_capability(device)[0] >= 8 else "fp16"


# --- progress -------------------------------------------------------------------------------------


def is_batch() -> bool:
    """True under `ecgkit run`, papermill and pytest: no live widgets, one plain line per ten
    seconds instead.
    """
    return (
        bool(os.environ.get("ECGKIT_BATCH"))
        or not sys.stderr.isatty()
        and "ipykernel" not in sys.modules
    )


def progress(
    items: Iterable, label: str, total: int | None = None, every_s: float = 10.0
) -> Iterator:
    """Yields `items`, showing a tqdm bar in a live kernel and one text line per `every_s` seconds
    in a batch run.
    """
    if total is None and hasattr(items, "__len__"):
        total = len(items)
    if not is_batch():
        from tqdm.auto import tqdm

        yield from tqdm(items, desc=label, total=total, leave=False)
        return
    start = last = time.monotonic()
    for n, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= every_s:
            last = now
            print(
                f"{label}: {n}{f'/{total}' if total else ''} after {now - start:.0f} s", flush=True
            )


class Budget:
    """A wall-clock allowance: `while budget.left() > 0`. `seconds=None` never runs out."""

    def __init__(self, seconds: float | None):
        self.seconds = seconds
        self.start = time.monotonic()

    def used(self) -> float:
        return time.monotonic() - self.start

    def left(self) -> float:
        return float("inf") if self.seconds is None else self.seconds - self.used()


# --- what is told of an error ---------------------------------------------------------------------


def first_line(error: BaseException, length: int = 120) -> str:
    """The first line of what a library says, without secrets; its kind where it says nothing."""
    lines = without_secrets(str(error)).strip().splitlines() or [type(error).__name__]
    return lines[0][:length]


def without_secrets(text: str) -> str:
    """`text` with `***` for every key, token or password of the environment, and for what stands
    before an @ in an address. A value of under eight characters is a dummy and stays.
    """
    for name, value in os.environ.items():
        if len(value) >= 8 and re.search(r"KEY|TOKEN|SECRET|PASSWORD", name, re.I):
            text = text.replace(value, "***")
    return re.sub(r"(\w://)[^/@\s]+@", r"\1***@", text)


# --- reports on the machine and the code ----------------------------------------------------------


def peak_memory_gb() -> float:
    """Peak resident memory of this process in GB."""
    # Linux hands ru_maxrss down from the process that started this one; VmHWM is its own.
    status = Path("/proc/self/status")
    if status.exists():
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e9
    scale = 1 if sys.platform == "darwin" else 1024  # macOS counts in bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e9


def n_cores() -> int:
    """Cores this process may use (its affinity and, in a container, its share)."""
    import joblib

    return joblib.cpu_count()


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Version of each package the kit stands on; 'absent' where one is not installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def git_state() -> dict[str, object]:
    """Commit and whether the tree had uncommitted changes; {'commit': 'not a git checkout'}
    elsewhere.
    """

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", "-C", str(project_root()), *args],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": "not a git checkout", "dirty": False}


def environment_report() -> str:
    """A paste-ready block for bug reports: kit, Python, system, CPU, memory, GPU, packages."""
    import torch

    from ecgkit import __version__

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    lines = [
        f"ecgkit {__version__} · Python {platform.python_version()} · {platform.system()} "
        f"{platform.machine()}",
        f"cpu: {cpu_model()}, {os.cpu_count()} cores, torch threads {torch.get_num_threads()} · "
        f"gpu: {gpu}",
        " · ".join(f"{k} {v}" for k, v in versions().items()),
    ]
    return "\n".join(lines)
