"""Google Colab: what the kit needs there beside what Colab brings, and the data on your Drive.

The first cell of every notebook clones the kit and calls `prepare`; elsewhere it does nothing.
torch, numpy and whatever else Colab has loaded stay as they are: only missing or too old packages
are installed, and every other version is held by a constraints file.

Usage, on Colab:

    colab.prepare(mount_drive=True)
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

from ecgkit.types import ConfigError

CLONE = Path(__file__).resolve().parents[1]
DRIVE = Path("/content/drive")
# Colab's own builds and its own widget server: never replaced, whatever the kit asks.
COLABS_OWN = ("torch", "numpy", "ipywidgets", "jupyterlab")
# Parameter -> what its zip is called where it is published, and with the browser's " (1)".
ZIPS = {
    "DATA": ("ptb-xl*.zip", "ptbxl*.zip", "mimic-iv-ecg*.zip", "*chapman-shaoxing*.zip",
             "*ecg-arrhythmia*.zip", "*cpsc*2018*.zip"),
    "ECGQA": ("ecg-qa*.zip", "ecgqa*.zip", "ecg_qa*.zip"),
}  # fmt: skip


def prepare(mount_drive: bool = False) -> dict[str, list[Path]]:
    """Installs what is missing; with `mount_drive` also mounts Drive and looks for data.

    Returns the zips found, by the parameter they are for, and prints the lines to put into the
    parameters cell: it sets nothing, so that a run's own parameters always count.
    Raises ConfigError where the installation failed.
    """
    install()
    if not mount_drive:
        return {}
    from google.colab import drive

    drive.mount(str(DRIVE))
    found = find_data(DRIVE)
    print(_sentence(found))
    return found


def install() -> None:
    """Installs the kit (its command too) without dependencies, then those that are missing."""
    _pip("--no-deps", "--editable", str(CLONE))
    wanted, left = needed(_project()["dependencies"])
    if left:
        print(f"Left as Colab has them: {', '.join(left)}.")
    if wanted:
        with tempfile.TemporaryDirectory() as folder:
            held = Path(folder) / "constraints.txt"
            held.write_text("\n".join(_installed_but(wanted)) + "\n")
            _pip("--constraint", str(held), *wanted)
    print(f"ecgkit is ready; installed beside it: {', '.join(wanted) or 'nothing'}.")
    loaded = [name for name in map(_module, wanted) if name in sys.modules]
    if loaded:
        print(f"{', '.join(loaded)} had been loaded before: choose Runtime > Restart session, then "
              "run this cell once more.")  # fmt: skip


def needed(requirements: Iterable[str]) -> tuple[list[str], list[str]]:
    """(requirements to install, requirements that Colab's own version does not meet but keeps)."""
    from packaging.requirements import Requirement

    wanted, left = [], []
    for text in requirements:
        one = Requirement(text)
        version = _version(one.name)
        if version and one.specifier.contains(version, prereleases=True):
            continue
        if one.name in COLABS_OWN:
            left.append(f"{one.name} {version or '(absent)'}, the kit asks {one.specifier}")
        else:
            wanted.append(text)
    return wanted, left


def find_data(folder: Path, depth: int = 3) -> dict[str, list[Path]]:
    """Zips of ECGs (`DATA`) and of questions (`ECGQA`) by name, at most `depth` folders down."""
    found: dict[str, list[Path]] = {"DATA": [], "ECGQA": []}
    levels = ["*/" * level for level in range(depth + 1)]
    for parameter, patterns in ZIPS.items():
        hits = {p for level in levels for name in patterns for p in folder.glob(level + name)}
        found[parameter] = sorted(hits)
    return found


def _sentence(found: dict[str, list[Path]]) -> str:
    lines = [
        f'{parameter}: str = "{path}"  # {path.stat().st_size / 1e9:.1f} GB'
        for parameter, paths in found.items()
        for path in paths
    ]
    if not lines:
        return (
            "No zip of a known source lies on the Drive (three folders deep); the notebook runs on "
            "simulated ECGs. Copy ptb-xl-....zip there, or write its path into DATA."
        )
    return "On your Drive; to use them, write into the parameters cell:\n" + "\n".join(lines)


def _installed_but(wanted: Iterable[str]) -> list[str]:
    """`name==version` of everything installed, without what is about to be replaced."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    replaced = {canonicalize_name(Requirement(text).name) for text in wanted}
    every = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    return sorted(
        f"{name}=={version}"
        for name, version in every.items()
        if name and canonicalize_name(name) not in replaced | {"ecgkit"}
    )


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _module(requirement: str) -> str:
    """What a package is imported as, where that is its own name."""
    from packaging.requirements import Requirement

    return Requirement(requirement).name.replace("-", "_").lower()


def _project() -> dict:
    return tomllib.loads((CLONE / "pyproject.toml").read_text())["project"]


def _pip(*args: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", *args], capture_output=True, text=True
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ConfigError(
            f"pip could not install what the kit needs ({last}). Choose Runtime > Disconnect and "
            "delete runtime, then run this cell again."
        )
