"""The run folder: what a notebook writes, where, and how it says what it wrote.

`runs/<run>/<notebook>/{config.json, metrics.json, figures/, ...}`; `reports/ledger.py` reads only
these files.

Usage, in a notebook's set-up cell:

    run = runs.start("03_baselines", globals())     # config, folder, seed, versions, clock
    run.figure(fig, "training_curves", "Loss by step")
    run.metric("exact_match_fused", 0.71, low=0.66, high=0.75, n=412, headline=True)
    run.check("fusion beats text-only", fused > blind)
    run.finish()
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import os
import sys
import time
from collections.abc import Mapping
from html import escape
from pathlib import Path

from ecgkit import __version__, runtime
from ecgkit.config import RUNNABLE, KitConfig
from ecgkit.types import NOT_FOR_DIAGNOSIS, ConfigError, DataError, KitError

# Seconds allowed on 2 CPU cores with PRESET=demo DATA=synthetic, imports included.
BUDGET_S = {
    "00_start_here": 20,
    "01_data_mapping": 30,
    "02_preprocessing": 40,
    "03_baselines": 120,
    "04_esi_pretraining": 95,
    "05_esi_evaluation": 55,
    "06_few_shot_qa": 130,
    "07_risk_finetuning": 80,
    "08_replication_report": 30,
}


# Set by `ecgkit run --budget`: the time (seconds since the epoch) at which trainings stop.
STOP_AT = "ECGKIT_STOP_AT"


class BudgetUsed(KitError):
    """The minutes of `ecgkit run --budget` are used; what was trained so far is kept."""


def seconds_left() -> float:
    """Seconds until the run's budget is used; infinite without one."""
    stop_at = os.environ.get(STOP_AT)
    return float(stop_at) - time.time() if stop_at else float("inf")


def start(notebook: str, names: Mapping[str, object]) -> Run:
    """Begins a notebook's run from its `globals()`: every all-capitals name there must be a
    parameter.

    Prints the resolved config and where output goes. Raises ConfigError for a name that is no field
    (a typo).
    """
    params = {k: v for k, v in names.items() if k.isupper() and not k.startswith("_")}
    config = RUNNABLE[notebook].from_params(params)
    run = Run(notebook, config)
    runtime.set_seed(config.seed)
    _show_settings(config)
    found = runtime.versions()
    print(f"\necgkit {__version__} · torch {found['torch']} · transformers {found['transformers']}")
    print(f"Writing to {_shown(run.folder)} · seed {config.seed} · {NOT_FOR_DIAGNOSIS}")
    return run


def _show_settings(config: KitConfig) -> None:
    """Every setting with its meaning; folded in a notebook, where there may be over a hundred."""
    text = config.describe()
    if "ipykernel" not in sys.modules:
        print(text)
        return
    from IPython.display import display

    head = f"All {len(dataclasses.fields(config))} settings of this run"
    folded = f"<details><summary>{head}</summary><pre>{escape(text)}</pre></details>"
    display({"text/html": folded, "text/plain": text}, raw=True)


def run_folder(config: KitConfig) -> Path:
    """`OUT`, relative to the project's folder, or runs/<preset>."""
    return runtime.project_root() / (config.out or f"runs/{config.preset}")


class Run:
    """One notebook's output folder, with its metrics, figures, checks and clock."""

    def __init__(self, notebook: str, config: KitConfig):
        self.notebook, self.config = notebook, config
        self.folder = run_folder(config) / notebook
        self.figures = self.folder / "figures"
        self.figures.mkdir(parents=True, exist_ok=True)
        self.started = _process_start()
        self.metrics: dict[str, dict] = {}
        self.checks: list[dict] = []
        self.captions: dict[str, str] = {}
        self.data: dict[str, object] = {}
        timed = config.preset == "demo" and config.simulated
        self.budget_s = BUDGET_S.get(notebook) if timed else None
        config.save(self.folder / "config.json")

    # --- reading other notebooks ------------------------------------------------------------------

    def sibling(self, notebook: str, *parts: str) -> Path:
        """A file another notebook of the same run wrote. Raises DataError naming the notebook to
        run first.
        """
        path = self.folder.parent.joinpath(notebook, *parts)
        if not path.exists():
            raise DataError(
                f"{'/'.join((notebook, *parts))} is not in {_shown(self.folder.parent)}; run "
                f"notebook {notebook} first "
                f"(ecgkit run {notebook} --preset {self.config.preset} --data {self.config.data})."
            )
        return path

    # --- writing ----------------------------------------------------------------------------------

    def uses(self, cohort) -> None:
        """Notes which data every metric of this run came from (name, fingerprint, simulated or
        not).
        """
        self.data = {
            "name": cohort.name,
            "fingerprint": cohort.fingerprint,
            "simulated": cohort.simulated,
            "credentialed": cohort.credentialed,
            "n_ecgs": len(cohort.store),
        }

    def figure(self, figure, name: str, caption: str):
        """Saves `figures/<name>.png` with its caption and returns the figure, so that the cell
        shows it.
        """
        with runtime.replacing(self.figures / f"{name}.png") as scratch:
            figure.savefig(scratch, format="png", dpi=110, bbox_inches="tight")
            # Drawing takes a fifth of a second: `style.small_png` shows this picture, not another.
            figure.drawn_png = scratch.read_bytes()
        self.captions[name] = caption
        return figure

    def metric(
        self,
        name: str,
        value: float,
        *,
        low: float | None = None,
        high: float | None = None,
        n: int | None = None,
        unit: str = "",
        note: str = "",
        headline: bool = False,
    ) -> float:
        """Records one number with its interval (`low`, `high`), the count `n` it rests on, and a
        note. Returns it.
        """
        row = {
            "value": _plain(value),
            "low": _plain(low),
            "high": _plain(high),
            "n": None if n is None else int(n),
            "unit": unit,
            "note": note,
            "headline": headline,
        }
        self.metrics[name] = row
        interval = "" if low is None else f" [{low:.3f}, {high:.3f}]"
        count = "" if n is None else f" n={n}"
        shown = f"{value:.0f}" if float(value).is_integer() else f"{value:.3f}"
        print(
            f"{name} = {shown}{interval}{count} {unit}".rstrip() + (f"  ({note})" if note else "")
        )
        return value

    def check(self, claim: str, holds: bool) -> None:
        """A "Check yourself" line. Demo preset on the simulated cohort: the claim must hold.
        Elsewhere it is printed.
        """
        holds = bool(holds)
        binding = self.config.preset == "demo" and self.config.simulated
        # Of a sweep's ablations a claim may fail: that is what they are for.
        binding = binding and os.environ.get("ECGKIT_CLAIMS") != "print"
        self.checks.append({"claim": claim, "holds": holds, "binding": binding})
        print(
            ("holds: " if holds else "does not hold: ")
            + claim
            + ("" if binding else "  (not asserted here)")
        )
        if binding and not holds:
            raise AssertionError(f"Check yourself: {claim}: this does not hold.")

    def require(self, claim: str, holds: bool) -> None:
        """A check of shape or finiteness: must hold with every preset and all data."""
        if not holds:
            raise AssertionError(f"Check yourself: {claim}: this does not hold.")
        self.checks.append({"claim": claim, "holds": True, "binding": True})
        print("holds: " + claim)

    def seconds(self) -> float:
        """Wall-clock seconds since this kernel process started, imports included."""
        return time.time() - self.started

    def finish(self) -> None:
        """Writes metrics.json, then prints time used and allowed and every file this notebook left
        behind.
        """
        used = self.seconds()
        if not self.data and self.metrics:
            raise ConfigError(
                f"{self.notebook}: call run.uses(cohort) before run.finish(), so each metric "
                "names its data."
            )
        body = {
            "notebook": self.notebook,
            "preset": self.config.preset,
            "config_hash": self.config.hash(),
            "data": self.data,
            "metrics": self.metrics,
            "checks": self.checks,
            "captions": self.captions,
            "seconds": round(used, 1),
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "allowed_s": self.budget_s,
            "peak_memory_gb": runtime.peak_memory_gb(),
            "machine": runtime.cpu_model(),
            "gpu": _gpu(),
        }
        write_json(self.folder / "metrics.json", body)
        allowed = f" of {self.budget_s} s allowed" if self.budget_s else ""
        print(
            f"Used {used:.0f} s{allowed} · peak memory {body['peak_memory_gb']:.1f} GB · "
            f"{body['machine']}"
        )
        print(f"Files in {_shown(self.folder)}:")
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and not path.name.startswith("executed."):
                print(f"  {path.relative_to(self.folder)}  {path.stat().st_size / 1e3:.0f} kB")


def write_json(path: Path, content) -> None:
    """Writes JSON so that a reader never sees half a file."""
    with runtime.replacing(path) as scratch:
        scratch.write_text(json.dumps(content, indent=2, default=_default) + "\n")


def _default(value):
    if dataclasses.is_dataclass(value):
        return dataclasses.asdict(value)
    return value.item() if hasattr(value, "item") else str(value)


def _plain(value):
    """JSON has no NaN: a number that could not be computed is stored as null."""
    return None if value is None or not math.isfinite(value) else float(value)


def _shown(path: Path) -> str:
    """A path as a reader wants it: relative to the project, so that no machine's folders stand in a
    notebook.
    """
    try:
        return str(path.relative_to(runtime.project_root()))
    except ValueError:
        return path.name


def _gpu() -> str:
    """The GPU that torch sees; '' without one, and where nobody has imported torch."""
    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name(0) if torch and torch.cuda.is_available() else ""


def _process_start() -> float:
    import psutil

    return psutil.Process().create_time()
