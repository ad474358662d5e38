"""The sweep file: which parameters the same notebooks are run with, one set per run.

YAML. `base` holds parameters of every run, `runs` a name and its own parameters, `grid` lists of
values: each run is made once per combination of them.

    base: {PRESET: demo, N_STEPS: 300}
    runs:
      full:
      no_captions: {CAPTION_WEIGHT: 0}
    grid:
      SEED: [0, 1]                     # full-seed_0, full-seed_1, no_captions-seed_0, ...

Parameters of the command line stand in for those of `base`; a run's own win. A null takes the
preset's value.

Usage:

    points = read_sweep("sweeps/esi_demo.yaml", {"N_STEPS": 100})
    points[1].name, points[1].own, points[1].params
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ecgkit import runtime
from ecgkit.types import ConfigError

PARTS = ("base", "runs", "grid")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}")
TAKEN = ("figures",)  # the sweep's own folder, beside those of the points


@dataclass(frozen=True)
class Point:
    """One run of a sweep: `own` is what the file says of it alone, `params` all it is run with."""

    name: str
    own: dict[str, object]
    params: dict[str, object]


def read_sweep(file: str | Path, given: Mapping[str, object] | None = None) -> list[Point]:
    """The points of a sweep file, in its order.

    Raises ConfigError: no such file, not YAML, a key or a name that stands twice, a name that is
    no folder's, a list where one value belongs. Parameters are checked by `runner.resolve`.
    """
    path = runtime.find_path(file)
    if path is None or not path.is_file():
        raise ConfigError(
            f"There is no sweep file {str(file)!r}; see sweeps/ for some to start from."
        )
    parts = _parts(path)
    given = {k.upper(): v for k, v in (given or {}).items()}
    varied = [name for name in parts["grid"] if name in given]
    if varied:
        raise ConfigError(
            f"{path.name}: {varied[0]} is varied by the grid, so it cannot be given beside it; "
            "change the file."
        )
    base = parts["base"] | given
    points = []
    for (run, own), values in itertools.product(parts["runs"].items(), _grid(parts["grid"])):
        twice = set(own) & set(values)
        if twice:
            raise ConfigError(
                f"{path.name}: run {run!r} sets {min(twice)}, and so does the grid; leave it to "
                "one of them."
            )
        tags = [_tag(name, value) for name, value in values.items()]
        own = own | values
        params = {k: v for k, v in (base | own).items() if v is not None}
        points.append(Point("-".join(filter(None, [run, *tags])), own, params))
    _check_names(points, path.name)
    return points


def _parts(path: Path) -> dict[str, dict]:
    """{"base": {NAME: value}, "runs": {run: {NAME: value}}, "grid": {NAME: [values]}}."""
    body = _yaml(path)
    for key in body:
        if key not in PARTS:
            close = difflib.get_close_matches(str(key), PARTS, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise ConfigError(f"{path.name}: {key!r} is none of {', '.join(PARTS)}.{hint}")
    runs_, grid = _mapping(body, "runs", path.name), _mapping(body, "grid", path.name)
    if not runs_ and not grid:
        raise ConfigError(f"{path.name} names no runs; give `runs:`, `grid:` or both.")
    for name, values in grid.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(
                f"{path.name}: {name} in the grid is {values!r}; give a list, e.g. [0, 1]."
            )
    return {
        "base": _params(_mapping(body, "base", path.name), f"{path.name}, base"),
        "runs": {
            str(run): _params(_mapping(runs_, run, path.name), f"{path.name}, run {str(run)!r}")
            for run in runs_
        } or {"": {}},
        "grid": _params(grid, f"{path.name}, grid", lists=True),
    }  # fmt: skip


def _yaml(path: Path) -> dict:
    """The file as a mapping; a key given twice is an error, where YAML would take the last."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    def mapping(loader, node):
        keys = [str(key.value) for key, _ in node.value]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            line = node.start_mark.line + 1
            raise ConfigError(f"{path.name}: {twice[0]!r} stands twice in the part at line {line}.")
        return loader.construct_mapping(node, deep=True)

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    try:
        body = yaml.load(path.read_text("utf-8"), Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{path.name} is not YAML{where}: {what}.") from None
    if not isinstance(body, dict):
        raise ConfigError(f"{path.name} is no sweep: it needs `runs:` with a name for each run.")
    return body


def _mapping(body: Mapping, key, file: str) -> dict:
    found = body.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigError(f"{file}: {key} is {found!r}; it takes NAME: value pairs.")
    return found


def _params(found: Mapping, where: str, lists: bool = False) -> dict[str, object]:
    """Names in capitals; values plain. OUT is the sweep's own."""
    params = {}
    for name, value in found.items():
        upper = str(name).upper()
        if upper == "OUT":
            raise ConfigError(f"{where}: OUT is the sweep's folder; give it as --out.")
        if upper in params:
            raise ConfigError(f"{where}: {upper} stands there twice.")
        for item in value if lists else [value]:
            if not isinstance(item, str | int | float | bool | None):
                raise ConfigError(f"{where}: {upper} is {item!r}; give one value, not several.")
        params[upper] = value
    return params


def _grid(grid: Mapping[str, list]) -> list[dict[str, object]]:
    return [dict(zip(grid, values)) for values in itertools.product(*grid.values())]


def _tag(name: str, value: object) -> str:
    """`SEED`, 1 -> seed_1; a value's odd characters become underscores."""
    return f"{name.lower()}_{re.sub(r'[^A-Za-z0-9.+]+', '_', str(value)).strip('_') or 'empty'}"


def _check_names(points: Sequence[Point], file: str) -> None:
    seen = set()
    for point in points:
        if not NAME.fullmatch(point.name) or point.name.lower() in TAKEN:
            raise ConfigError(
                f"{file}: {point.name!r} cannot name a run; each names a folder: letters, digits, "
                f"_ . + - and not {' or '.join(TAKEN)}."
            )
        if point.name.casefold() in seen:  # folders of some systems do not tell A from a
            raise ConfigError(
                f"{file}: two runs would write to the folder {point.name!r}; rename one."
            )
        seen.add(point.name.casefold())
