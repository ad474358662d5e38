"""A place that holds files: a folder, or a .zip whose members are read without unpacking it.

Usage:
    place = open_place("ptb-xl.zip", holding="ptbxl_database.csv")    # rooted at that table
    place.read("records100/00000/00001_lr.dat")                         # bytes
    place.listing()                                                     # {name: (size, stamp)}
"""

from __future__ import annotations

import os
import threading
import zipfile
import zlib
from pathlib import Path

from ecgkit.types import DataError


class Folder:
    """Files below `root`; names are given relative to it, with forward slashes."""

    def __init__(self, root: Path):
        self.root = Path(root)
        self.label = self.root.name or str(self.root)

    def read(self, name: str) -> bytes:
        """The bytes of one file. Raises FileNotFoundError where it is absent."""
        with open(self.root / name, "rb", buffering=0) as file:
            return file.read()

    def exists(self, name: str) -> bool:
        return (self.root / name).is_file()

    def listing(self) -> dict[str, tuple[int, int]]:
        """Name -> (size in bytes, time of change in ns) of every file below the root."""
        found: dict[str, tuple[int, int]] = {}
        _walk(str(self.root), "", found)
        return found


class Zip:
    """Members of a .zip below `root` inside it, read in place; threads may share it."""

    def __init__(self, path: Path, root: str = ""):
        self.path, self.root = Path(path), root
        self.label = self.path.name
        self._members = {i.filename: i for i in _open_zip(self.path).infolist() if not i.is_dir()}
        self._local = threading.local()

    def read(self, name: str) -> bytes:
        """The bytes of one member. Raises FileNotFoundError, or OSError if damaged."""
        member = self._members.get(self.root + name)
        if member is None:
            raise FileNotFoundError(name)
        try:
            return self._archive().read(member)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            # RuntimeError: a password is needed, or a compression this Python was built without.
            raise OSError(f"damaged or locked inside {self.label}: {error}") from error

    def exists(self, name: str) -> bool:
        return self.root + name in self._members

    def listing(self) -> dict[str, tuple[int, int]]:
        """Name -> (size in bytes, CRC-32) of every member below the root."""
        n = len(self.root)
        return {
            name[n:]: (i.file_size, i.CRC)
            for name, i in self._members.items()
            if name.startswith(self.root)
        }

    def _archive(self) -> zipfile.ZipFile:
        # One open handle per thread: a shared one would make readers wait for each other's seeks.
        if not hasattr(self._local, "archive"):
            self._local.archive = _open_zip(self.path)
        return self._local.archive


def open_place(path: str | Path, holding: str = "", what: str = "the file") -> Folder | Zip:
    """Opens a folder or .zip, rooted where the topmost file named `holding` lies ('' = the top).

    `what` names the thing sought in errors ("PTB-XL"). Raises DataError when the path does not
    exist, is neither folder nor .zip, is a damaged .zip, or holds no such file.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist; give the folder or .zip that holds {what}.")
    if path.is_dir():
        return Folder(_folder_root(path, holding, what))
    if not zipfile.is_zipfile(path):
        raise DataError(
            f"{path} is neither a folder nor a readable .zip; give the folder or .zip that holds "
            f"{what} (a download cut short shows up like this: fetch it again)."
        )
    archive = Zip(path)
    if holding:
        archive.root = _zip_root(archive._members, path, holding, what)
    return archive


def _folder_root(path: Path, holding: str, what: str) -> Path:
    """`path` itself or the nearest folder up to two levels below it that has the file `holding`."""
    if not holding:
        return path
    for pattern in (holding, f"*/{holding}", f"*/*/{holding}"):
        hits = sorted(path.glob(pattern))
        if hits:
            return hits[0].parent
    zips = sorted(p.name for p in path.glob("*.zip"))
    hint = f"; it holds {zips[0]}: give the path of that .zip instead" if zips else ""
    raise DataError(
        f"There is no {holding} in {path}, so it does not hold {what}{hint or '; check the path'}."
    )


def _zip_root(members: dict, path: Path, holding: str, what: str) -> str:
    hits = [
        name
        for name in members
        if name.rsplit("/", 1)[-1] == holding and not name.startswith("__MACOSX")
    ]
    if not hits:
        raise DataError(
            f"There is no {holding} inside {path}, so it does not hold {what}; check that this is "
            "the right .zip."
        )
    nearest = min(hits, key=lambda name: (name.count("/"), name))
    return nearest[: -len(holding)]


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} is a damaged .zip ({error}); fetch it again.") from error


def _walk(folder: str, prefix: str, found: dict) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                _walk(entry.path, f"{prefix}{entry.name}/", found)
            elif entry.is_file():
                stat = entry.stat()
                found[prefix + entry.name] = (stat.st_size, stat.st_mtime_ns)
