"""A .zip on a slow mount (Google Drive, a network disk), copied once to the local disk.

Reading thousands of small members through such a mount takes hours; one long copy takes minutes.

Usage:

    path = local("/content/drive/MyDrive/ptb-xl.zip")     # the copy; the path itself if it is fast
"""

from __future__ import annotations

import hashlib
import shutil
import time
from pathlib import Path

from ecgkit import runtime
from ecgkit.types import DataError

_SLOW = ("nfs", "cifs", "smb", "afp", "davfs", "fuse", "sshfs", "9p", "drvfs", "glusterfs", "ceph")
_CHUNK = 16 << 20
_SPARE = 256 << 20  # what a copy leaves free for the store that follows


def local(path: Path) -> Path:
    """`path`, or its copy under `runtime.cache_dir()/local` where it lies on a slow mount.

    A copy serves as long as size and time of change of the original stay what they were. Raises
    DataError where it does not fit.
    """
    if not on_slow_mount(path):
        return path
    stat = path.stat()
    state = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}"
    folder = runtime.cache_dir() / "local"
    copy = folder / f"{path.stem}-{hashlib.sha256(state.encode()).hexdigest()[:12]}.zip"
    if not copy.exists():
        folder.mkdir(exist_ok=True)
        _clear_halves(folder)
        advice = "make room, or set ECGKIT_CACHE to a folder on a larger local disk"
        runtime.require_room(folder, stat.st_size, f"A copy of {path.name}", advice, _SPARE)
        print(f"{path.name} lies on a slow mount; copying {stat.st_size / 1e9:.2f} GB to {folder}")
        _copy(path, copy, stat.st_size)
    return copy


def on_slow_mount(path: Path) -> bool:
    """Whether `path` is on a network or FUSE mount, and the cache on another one."""
    mount, kind = _mount_of(path)
    return kind.startswith(_SLOW) and mount != _mount_of(runtime.cache_dir())[0]


def _mount_of(path: Path) -> tuple[str, str]:
    """(mount point, file system) of a path; ('', '') where the system does not tell."""
    try:
        lines = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return "", ""
    real, best = str(path.resolve()), ("", "")
    for _, mount, kind, *_ in map(str.split, lines):
        mount = mount.replace("\\040", " ")
        inside = real == mount or real.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best[0]):
            best = mount, kind
    return best


def _copy(path: Path, copy: Path, size: int) -> None:
    try:
        with runtime.replacing(copy) as half:
            with open(path, "rb") as source, open(half, "wb") as target:
                shutil.copyfileobj(source, target, _CHUNK)
            if half.stat().st_size != size:
                raise OSError("the copy is shorter than the original")
    except OSError as error:
        raise DataError(
            f"{path.name} could not be copied to {copy.parent} ({error}); check the mount and run "
            "again."
        ) from error


def _clear_halves(folder: Path, age_s: float = 3600) -> None:
    """Removes what a killed copy left; one that still grows is somebody else's."""
    for half in folder.glob("*.part"):
        if time.time() - half.stat().st_mtime > age_s:
            half.unlink(missing_ok=True)
