"""Profiles: a preset with overrides for one kind of machine, and what a run on it is expected to
take.

A profile is a YAML file of `profiles/` (or any other, by its path):

    about: ECG-QA and PTB-XL on one T4
    preset: paper
    settings: {PRECISION: fp16, ACCUMULATE: 64}      # as after --set; options given beside it win
    processes: 1                                     # of each training, one per GPU
    machine: {gpu: T4, n_gpus: 1, memory_gb: 15, teraflops: 65, share: 0.25, how: ...}
    data: {source: ptbxl, n_ecgs: 21799, fs: 500, ecgqa: true}
    expected: {hours: 123, memory_gb: 12, disk_gb: 10, how: ...}

Usage:

    profile = read_profile("ptbxl-t4")
    profile.params_for(["03_baselines"], {"SEED": 1})
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ecgkit import runtime
from ecgkit.config import PRESETS, RUNNABLE
from ecgkit.types import ConfigError


@dataclass(frozen=True)
class Machine:
    """`teraflops`: the data sheet's peak of one GPU in `precision`; `share`: the part of it that a
    training is assumed to reach; `how`: where both come from.
    """

    gpu: str
    n_gpus: int = 1
    memory_gb: float = 0.0
    teraflops: float = 0.0
    share: float = 0.3
    how: str = ""


@dataclass(frozen=True)
class Data:
    """What the run reads: a source of `ecgkit data list`, its ECGs at `fs` Hz, with ECG-QA or
    without.
    """

    source: str
    n_ecgs: int
    fs: int = 500
    ecgqa: bool = False


@dataclass(frozen=True)
class Expected:
    """Of all notebooks together; `how` says how each number was got."""

    hours: float
    memory_gb: float
    disk_gb: float
    how: str


@dataclass(frozen=True)
class Profile:
    about: str
    machine: Machine
    data: Data
    expected: Expected
    name: str = ""
    preset: str = "paper"
    settings: dict = field(default_factory=dict)
    processes: int = 1

    def params_for(self, names: Sequence[str], given: Mapping[str, object]) -> dict[str, object]:
        """The profile's settings that any of the notebooks has, and what is `given`, which wins."""
        known = {f.name.upper() for n in names for f in dataclasses.fields(RUNNABLE[n])}
        own = {k: v for k, v in self.settings.items() if k in known}
        return {"PRESET": self.preset} | own | dict(given)


PARTS = {"machine": Machine, "data": Data, "expected": Expected}


def names() -> list[str]:
    return sorted(p.stem for p in (runtime.project_root() / "profiles").glob("*.yaml"))


def read_profile(name: str) -> Profile:
    """The profile `name` of the project's profiles/, or the file of that path.

    Raises ConfigError that names the file: there is none, it is not YAML, a key or a setting that
    nobody knows, one that is missing, or a value of the wrong kind.
    """
    path = runtime.project_root() / "profiles" / f"{name}.yaml"
    path = path if path.is_file() else runtime.find_path(name)
    if path is None or not path.is_file():
        raise ConfigError(
            f"There is no profile {name!r}; choose one of {', '.join(names())}, or give the path "
            "of a .yaml file."
        )
    body = _yaml(path)
    _refuse_unknown(body, Profile, path.name)
    parts = {key: _build(kind, body.pop(key, None), path, key) for key, kind in PARTS.items()}
    profile = _build(Profile, body | parts | {"name": path.stem}, path, "")
    if profile.preset not in PRESETS:
        raise ConfigError(
            f"{path.name}: preset is {profile.preset!r}; choose one of {', '.join(PRESETS)}."
        )
    return dataclasses.replace(profile, settings=_settings(profile.settings, path))


def _yaml(path: Path) -> dict:
    import yaml

    try:
        body = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path.name} is not YAML{where}; see profiles/ptbxl-t4.yaml.") from None
    if not isinstance(body, dict):
        raise ConfigError(f"{path.name} is no profile; see profiles/ptbxl-t4.yaml for its parts.")
    return body


def _build(kind: type, body, path: Path, part: str):
    where = f"{path.name}, {part}" if part else path.name
    if not isinstance(body, dict):
        raise ConfigError(f"{where}: it is {body!r}; it takes `key: value` lines.")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    _refuse_unknown(body, kind, where)
    for f in fields.values():
        bare = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if f.name not in body and bare:
            raise ConfigError(f"{where}: {f.name} is missing.")
    for key, value in body.items():
        wanted = {"int": int, "float": (int, float), "str": str, "bool": bool, "dict": dict}
        right = wanted.get(fields[key].type, object)
        if not isinstance(value, right) or (isinstance(value, bool) and right is not bool):
            raise ConfigError(f"{where}: {key} is {value!r}; it takes a {fields[key].type}.")
    return kind(**body)


def _refuse_unknown(body: Mapping, kind: type, where: str) -> None:
    known = [f.name for f in dataclasses.fields(kind)]
    for key in body:
        if key not in known:
            raise ConfigError(f"{where}: {key!r} is unknown.{_hint(str(key), known)}")


def _settings(settings: Mapping, path: Path) -> dict[str, object]:
    known = {f.name.upper() for kind in RUNNABLE.values() for f in dataclasses.fields(kind)}
    known -= {"PRESET", "OUT", "DATA", "ECGQA"}
    found = {str(name).upper(): value for name, value in settings.items()}
    for name in found:
        if name not in known:
            raise ConfigError(f"{path.name}, settings: {name} is unknown.{_hint(name, known)}")
    return found


def _hint(name: str, known) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]}?" if close else f" It takes: {', '.join(sorted(known))}."
