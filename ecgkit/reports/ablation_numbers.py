"""The ablations of a sweep as one file of a run folder, `ablations.json`, for the ledger to read.

Published ablations (ESI, Tables 5 and 6) compare runs, which one run folder cannot hold. A sweep's
points hold them; what they say is written here with its interval, its data and its points, and
`check_ablations` asks whether the points still say so.

Usage:

    write_ablations(Path("runs/paper"), Path("runs/esi_paper"))
"""

from __future__ import annotations

import math
import os
from pathlib import Path

from ecgkit import runs
from ecgkit.reports.esi_ablations import IDENTITY, PARTS, PROBE, ZERO_SHOT, sources, study_of
from ecgkit.reports.ledger_files import ABLATIONS, read_json
from ecgkit.reports.sweep_points import Number, Study, SweepPoint, number, read_points
from ecgkit.types import DataError

METRICS = {"probe": PROBE, "identification": IDENTITY, "zero_shot": ZERO_SHOT}
# Table 5b: the kit's encoders that are of the published kind and size, and no stand-in for them.
ENCODERS = ("tiny", "base", "vit", "xresnet1d101")
N_PRETRAIN = "n_pretrain_ecgs"
ALL, MIMIC_ONLY, DIFFERENCE = "all_sources", "mimic_only", "mimic_only_minus_all_sources"


def write_ablations(run: Path, sweep: Path) -> Path:
    """Writes `run`/ablations.json from the points of `sweep`; returns its path.

    Raises DataError where the folder holds no sweep, or its points no ablation that is published.
    """
    path = Path(run) / ABLATIONS
    runs.write_json(path, read_ablations(sweep) | {"sweep": os.path.relpath(sweep, run)})
    return path


def read_ablations(sweep: Path) -> dict:
    """`metrics`: name -> value, low, high, n_seeds, points; `data` and `preset` that all points
    share. Raises DataError as `write_ablations`, and where points are of different cohorts or
    presets.
    """
    study = study_of(read_points(sweep))
    groups = point_groups(study)
    metrics = {
        f"{name}_{short}": _row(number(points, metric), points)
        for name, points in groups.items()
        for short, metric in METRICS.items()
    }
    metrics |= {
        f"{DIFFERENCE}_{short}": _difference(groups[MIMIC_ONLY], groups[ALL], metric)
        for short, metric in METRICS.items()
        if groups.get(MIMIC_ONLY) and groups.get(ALL)
    }
    whole = groups.get(ALL) or groups.get("full", [])
    metrics[N_PRETRAIN] = _row(number(whole, N_PRETRAIN), whole)
    metrics = {name: row for name, row in metrics.items() if row["value"] is not None}
    if not metrics:
        raise DataError(
            f"{sweep} holds none of the published ablations; sweeps/esi_demo.yaml makes them "
            "(ecgkit run 04 05 --sweep sweeps/esi_demo.yaml)."
        )
    return {"preset": _one_preset(study, sweep), "metrics": metrics, "data": _data(study, sweep)}


def point_groups(study: Study) -> dict[str, list[SweepPoint]]:
    """Name of a published ablation -> its points, one a seed; without those that never ran."""
    groups = {name.replace(" ", "_"): study.pick(**changed) for name, changed in PARTS.items()}
    groups |= {f"encoder_{n}": study.pick(encoder=n) for n in ENCODERS}
    for label, points in sources(study).items():
        if label.startswith("all:"):
            groups[ALL] = points
        elif label.startswith("mimic"):
            groups[MIMIC_ONLY] = points
    return {name: points for name, points in groups.items() if points}


def check_ablations(run: Path) -> list[str]:
    """Faults, as sentences: numbers in ablations.json that its sweep does not hold, or no longer.

    [] where there is no such file.
    """
    said = read_json(Path(run) / ABLATIONS)
    if not said:
        return []
    sweep = Path(run) / said.get("sweep", "")
    try:
        fresh = read_ablations(sweep)["metrics"]
    except DataError as error:
        return [f"{ABLATIONS}: the sweep it is read from cannot be looked at. {error}"]
    return [
        f"{ABLATIONS} holds {row['value']:g} for {name}, and the runs of its sweep do not; make it "
        "anew with `ecgkit report RUN --sweep SWEEP`."
        for name, row in said.get("metrics", {}).items()
        if row != fresh.get(name)
    ]


def _row(found: Number, points: list[SweepPoint]) -> dict:
    return {"value": _plain(found.value), "low": _plain(found.low), "high": _plain(found.high),
            "n_seeds": found.n_seeds, "points": [p.name for p in points]}  # fmt: skip


def _difference(less: list[SweepPoint], more: list[SweepPoint], metric: str) -> dict:
    """`less` minus `more`; its half interval is the root of both halves' summed squares, NaN where
    one of the two has none.
    """
    one, other = number(less, metric), number(more, metric)
    value = one.value - other.value
    half = math.hypot(one.high - one.low, other.high - other.low) / 2
    seeds = min(one.n_seeds, other.n_seeds)
    return _row(Number(value, value - half, value + half, seeds), [*less, *more])


def _one_preset(study: Study, sweep: Path) -> str:
    """Raises DataError where points are of several: none may be taken for another's size."""
    found = {str(p.config.get("preset", "")) for p in study.points}
    if len(found) > 1:
        raise DataError(f"The points of {sweep} are of the presets {', '.join(sorted(found))}.")
    return next(iter(found))


def _data(study: Study, sweep: Path) -> dict:
    """The cohort of the points that have one. Raises DataError where they are of several."""
    found = {p.data.get("fingerprint"): p.data for p in study.points if p.data}
    if len(found) > 1:
        raise DataError(f"The points of {sweep} are of {len(found)} cohorts; sweep one at a time.")
    return next(iter(found.values()), {})


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
