"""What the run folders of a sweep hold: each point's settings and numbers, several seeds as one.

It reads `<point>/<notebook>/{config.json, metrics.json}` and, where it is there, `sweep.json` (the
order of the points, and those that never ran); nothing else.

Usage:

    points = read_points("runs/esi_demo")
    study = Study(points, FIELDS)                       # the settings that the sweep varies
    study.measure("linear_probe_macro_auc", cqa=False)  # Number(value, low, high, n_seeds)
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ecgkit.config import CONFIGS
from ecgkit.reports.ledger_files import read_run
from ecgkit.types import DataError

NAN = float("nan")


@dataclass(frozen=True)
class SweepPoint:
    """One point. `config`: settings of its first notebook ({} where unknown); `metrics`: the rows
    of all its notebooks that succeeded; `data`: the cohort they name.
    """

    name: str
    status: str
    config: dict = field(default_factory=dict)
    metrics: dict[str, dict] = field(default_factory=dict)
    data: dict = field(default_factory=dict)

    def value(self, metric: str) -> float:
        row = self.metrics.get(metric, {})
        return NAN if row.get("value") is None else float(row["value"])


@dataclass(frozen=True)
class Number:
    """A metric of one configuration. `low`, `high`: mean -/+ sd over seeds, of one seed its own
    95 % interval; NaN where there is none. `n_seeds` 0: no run has it.
    """

    value: float = NAN
    low: float = NAN
    high: float = NAN
    n_seeds: int = 0

    @property
    def known(self) -> bool:
        return math.isfinite(self.value)

    @property
    def half(self) -> float:
        """Half the length of the interval; 0 where there is none."""
        return (self.high - self.low) / 2 if math.isfinite(self.high - self.low) else 0.0


def read_points(folder: str | Path) -> list[SweepPoint]:
    """The points in `folder`. Raises DataError where there is none."""
    folder = Path(folder)
    listed = folder / "sweep.json"
    if listed.exists():
        record = json.loads(listed.read_text())
        points = [_read_point(folder / e["name"], e, record["notebooks"]) for e in record["points"]]
    else:
        points = [_read_point(path.parent, {}, []) for path in sorted(folder.glob("*/run.json"))]
    if not points:
        raise DataError(f"{folder} holds no run; give the folder that `ecgkit run --sweep` wrote.")
    return points


def _read_point(folder: Path, entry: dict, notebooks: list[str]) -> SweepPoint:
    """`entry`: the point's line in sweep.json, of which a point that never started is known."""
    run = read_run(folder)
    metrics, data = {}, {}
    for body in run.notebooks.values():
        metrics |= body.get("metrics", {})
        data = body.get("data") or data
    configs = sorted(folder.glob("*/config.json"))
    if configs:
        config = json.loads(configs[0].read_text())
    else:
        config = _config_of(entry.get("params", {}), notebooks)
    return SweepPoint(folder.name, entry.get("status", "ok"), config, metrics, data)


def _config_of(params: dict, notebooks: list[str]) -> dict:
    """The settings that the first of `notebooks` would have had with `params`."""
    if not notebooks:
        return {}
    kind = CONFIGS[min(notebooks)]
    known = {f.name for f in dataclasses.fields(kind)}
    return kind.from_params({k: v for k, v in params.items() if k.lower() in known}).to_dict()


class Study:
    """Points beside a reference: the commonest value of each of `fields`, the first of equals."""

    def __init__(self, points: Sequence[SweepPoint], fields: Sequence[str]):
        self.points = [p for p in points if p.config]
        self.fields = tuple(fields)
        self.reference = {
            name: Counter(p.config.get(name) for p in self.points).most_common(1)[0][0]
            for name in self.fields
            if self.points
        }
        self.missing = [p.name for p in points if not p.metrics]

    @property
    def simulated(self) -> bool:
        """True where any point's cohort was simulated, and where none has named its cohort."""
        said = [p.data.get("simulated", True) for p in self.points if p.data]
        return any(said) or not said

    @property
    def n_seeds(self) -> int:
        return len({p.config.get("seed") for p in self.points})

    def pick(self, **changed) -> list[SweepPoint]:
        """Points that differ from the reference in `changed` alone, in all of it; any seed."""
        wanted = self.reference | changed
        return [p for p in self.points if all(p.config.get(k) == v for k, v in wanted.items())]

    def values(self, name: str, **changed) -> list:
        """The values of `name` among points that are otherwise the reference with `changed`."""
        wanted = {k: v for k, v in (self.reference | changed).items() if k != name}
        found = [
            p.config.get(name)
            for p in self.points
            if all(p.config.get(k) == v for k, v in wanted.items())
        ]
        return sorted(set(found))

    def measure(self, metric: str, **changed) -> Number:
        return number(self.pick(**changed), metric)


def number(points: Sequence[SweepPoint], metric: str) -> Number:
    """One metric over points that differ in their seed alone."""
    having = [p for p in points if math.isfinite(p.value(metric))]
    if not having:
        return Number()
    values = np.array([p.value(metric) for p in having])
    if len(values) == 1:
        row = having[0].metrics[metric]
        low, high = (NAN if row.get(k) is None else float(row[k]) for k in ("low", "high"))
        return Number(float(values[0]), low, high, 1)
    mean, sd = float(values.mean()), float(values.std(ddof=1))
    return Number(mean, mean - sd, mean + sd, len(values))
