"""What a solution reads of the notebooks' run folder: their settings, their numbers, their tables.

Usage:

    settings = read.settings(run, "03_baselines")          # the config that notebook ran with
    read.metric(run, "03_baselines", "exact_match_fusion") # {"value": 0.71, "low": ..., ...}
"""

from __future__ import annotations

import json

from ecgkit.config import CONFIGS, KitConfig
from ecgkit.runs import Run
from ecgkit.types import DataError


def settings(run: Run, notebook: str) -> KitConfig:
    """The settings that `notebook` ran with. Raises DataError naming the notebook to run first."""
    saved = json.loads(run.sibling(notebook, "config.json").read_text())
    return CONFIGS[notebook].from_params(saved)


def metrics(run: Run, notebook: str) -> dict[str, dict]:
    """All numbers that `notebook` recorded, by name."""
    return json.loads(run.sibling(notebook, "metrics.json").read_text())["metrics"]


def metric(run: Run, notebook: str, name: str) -> dict:
    """One of them: value, low, high, n, unit, note. Raises DataError where it was not recorded."""
    found = metrics(run, notebook)
    if name not in found:
        raise DataError(
            f"Notebook {notebook} recorded no {name}; it has {', '.join(sorted(found)) or 'none'}."
        )
    return found[name]
