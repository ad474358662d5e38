"""A place that holds files: a folder, or a .zip whose members are read without unpacking it.

Both can be pickled, so that worker processes read from them too. Names that would leave the place
(absolute ones, or with `..`) are never followed.

Usage:

    place = open_place("ptb-xl.zip", holding="ptbxl_database.csv")    # rooted at that table
    place.read("records100/00000/00001_lr.dat")                         # bytes
    place.listing()                                                     # {name: (size, stamp)}
    place.stamps(["a.hea", "a.dat"])                                    # the same of a few, quickly
"""

from __future__ import annotations

import functools
import os
import threading
import zipfile
from pathlib import Path

import numpy as np

from ecgkit.data import local_copy
from ecgkit.data.zip_directory import Members, leaves, read_member
from ecgkit.types import DataError


class Folder:
    """Files below `root`; names are given relative to it, with forward slashes."""

    refused: tuple[str, ...] = ()

    def __init__(self, root: Path):
        self.path = self.root = Path(root)
        self.label = self.root.name or str(self.root)

    def read(self, name: str) -> bytes:
        """The bytes of one file. Raises FileNotFoundError where it is absent, or not below root."""
        if leaves(name):
            raise FileNotFoundError(name)
        with open(self.root / name, "rb", buffering=0) as file:
            return file.read()

    def exists(self, name: str) -> bool:
        return not leaves(name) and (self.root / name).is_file()

    @functools.cached_property
    def _walked(self) -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = {}
        try:
            _walk(str(self.root), "", found, frozenset())
        except OSError as error:
            raise DataError(
                f"{self.label} cannot be looked through ({error}); make that folder readable."
            ) from error
        return found

    def listing(self) -> dict[str, tuple[int, int]]:
        """Name -> (size in bytes, time of change in ns) of every file; walked once per place."""
        return self._walked

    def names(self, suffix: str) -> list[str]:
        """The names that end in `suffix`, sorted; hidden files and __MACOSX left out."""
        return _visible(self._walked, suffix)

    def stamps(self, names) -> dict[str, tuple[int, int]]:
        """What `listing` says of those of `names` that are there, without walking the folder."""
        found, root = {}, f"{self.root}{os.sep}"
        for name in names:
            try:
                stat = os.stat(root + name)
            except (OSError, ValueError):  # ValueError: a NUL in the name
                continue
            found[name] = (stat.st_size, stat.st_mtime_ns)
        return found

    def digest(self) -> str:
        """Tells whether any file changed, where that is known without looking at all: not here."""
        return ""

    def find(self, name: str) -> str | None:
        """The sub-folder with the file `name`, '' or up to two levels down ('a/b/'), or None."""
        for pattern in (name, f"*/{name}", f"*/*/{name}"):
            hits = sorted(p for p in self.root.glob(pattern) if "__MACOSX" not in p.parts)
            if hits:
                below = hits[0].parent.relative_to(self.root).as_posix()
                return "" if below == "." else f"{below}/"
        return None

    def below(self, root: str) -> Folder:
        return Folder(self.root / root) if root else self

    def hint(self) -> str:
        """What else might have been meant: a .zip that lies in the folder."""
        zips = sorted(p.name for p in self.root.glob("*.zip"))
        return f"; it holds {zips[0]}: give the path of that .zip instead" if zips else ""

    def __getstate__(self) -> dict:
        return {k: v for k, v in self.__dict__.items() if k != "_walked"}


class Zip:
    """Members of a .zip below `root` inside it, read in place; threads and processes may share it.

    `refused` names the members that would lead out of the place; they are passed over. `origin` is
    where the .zip was given, `path` where it is read.
    """

    def __init__(self, path: Path, root: str = "", origin: Path | None = None):
        self.path, self.root, self.origin = Path(path), root, Path(origin or path)
        self.label = self.origin.name
        self._local = threading.local()
        self._members = _members_of(self.path)
        self.refused = self._members.refused

    def read(self, name: str) -> bytes:
        """The bytes of one member. Raises FileNotFoundError, or OSError if damaged or locked."""
        member = self._members.get(self.root + name)
        if member is None:
            raise FileNotFoundError(name)
        # One handle per thread: a shared one would make readers wait for each other's seeks.
        if not hasattr(self._local, "file"):
            self._local.file = open(self.path, "rb", buffering=0)
        return read_member(self._local.file, member, self.path, self.root + name)

    def exists(self, name: str) -> bool:
        return self.root + name in self._members.rows

    def listing(self) -> dict[str, tuple[int, int]]:
        """Name -> (size in bytes, CRC-32) of every member below the root."""
        n = len(self.root)
        return self.stamps(name[n:] for name in self._members.rows if name.startswith(self.root))

    def names(self, suffix: str) -> list[str]:
        """The names that end in `suffix`, sorted; hidden files and __MACOSX left out."""
        n = len(self.root)
        rows = self._members.rows
        return _visible((name[n:] for name in rows if name.startswith(self.root)), suffix)

    def stamps(self, names) -> dict[str, tuple[int, int]]:
        """What `listing` says of those of `names` that are there."""
        rows, table = self._members.rows, self._members.table
        known = [(name, rows[self.root + name]) for name in names if self.root + name in rows]
        at = np.array([row for _, row in known], np.int64)
        sizes, crcs = table["size"][at].tolist(), table["crc"][at].tolist()
        return {name: stamp for (name, _), stamp in zip(known, zip(sizes, crcs))}

    def digest(self) -> str:
        """Tells whether any member changed: a checksum of all sizes and checksums."""
        return self._members.digest

    def find(self, name: str) -> str | None:
        """The folder nearest the top with the file `name`, '' or however deep ('a/'), or None."""
        n = len(self.root)
        hits = [
            member[n:]
            for member in self._members.rows
            if member.endswith(name)
            and member.startswith(self.root)
            and member.rsplit("/", 1)[-1] == name
            and not member.startswith("__MACOSX")
        ]
        return min(hits, key=lambda m: (m.count("/"), m))[: -len(name)] if hits else None

    def below(self, root: str) -> Zip:
        return Zip(self.path, self.root + root, self.origin) if root else self

    def hint(self) -> str:
        inside = sorted(name for name in self._members.rows if name.endswith(".zip"))
        return f"; it holds {inside[0]}: unpack it and give that .zip" if inside else ""

    def __getstate__(self) -> dict:
        return {"path": self.path, "root": self.root, "origin": self.origin}

    def __setstate__(self, state: dict) -> None:
        self.__init__(**state)


def open_place(path: str | Path, holding: str = "", what: str = "the file") -> Folder | Zip:
    """Opens a folder or .zip, rooted where the topmost file named `holding` lies ('' = the top).

    A .zip on a slow mount (Google Drive, a network disk) is first copied to the local disk.
    `what` names the thing sought in errors ("PTB-XL"). Raises DataError when the path does not
    exist, is neither folder nor .zip, is a damaged .zip, or holds no such file.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist; give the folder or .zip that holds {what}.")
    place = Folder(path) if path.is_dir() else _open_zip(path, what)
    root = place.find(holding) if holding else ""
    if root is None:
        where = f"inside {path}" if isinstance(place, Zip) else f"in {path}"
        raise DataError(
            f"There is no {holding} {where}, so it does not hold {what}"
            f"{place.hint() or '; check the path'}."
        )
    return place.below(root)


def _open_zip(path: Path, what: str) -> Zip:
    if not path.is_file() or not zipfile.is_zipfile(path):  # a pipe would be waited for
        raise DataError(
            f"{path} is neither a folder nor a readable .zip; give the folder or .zip that holds "
            f"{what} (a download cut short shows up like this: fetch it again)."
        )
    return Zip(local_copy.local(path), origin=path)


def _members_of(path: Path) -> Members:
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}); check the path.") from error
    return _remembered(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _remembered(path: Path, size: int, changed: int) -> Members:
    """Read once per process, however often a place is pickled into it."""
    return Members(path)


# --- folders --------------------------------------------------------------------------------------


def _visible(names, suffix: str) -> list[str]:
    return sorted(
        name
        for name in names
        if name.endswith(suffix)
        and not name.rsplit("/", 1)[-1].startswith(".")
        and not name.startswith("__MACOSX/")
    )


def _walk(folder: str, prefix: str, found: dict, above: frozenset) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink() and not os.path.exists(entry.path):
                continue  # it leads nowhere, or to itself
            if entry.is_dir():
                inside = above
                if entry.is_symlink():  # a link to a folder above would lead round for ever
                    real = os.path.realpath(entry.path)
                    if real in above or f"{os.path.realpath(folder)}/".startswith(f"{real}/"):
                        continue
                    inside = above | {real}
                _walk(entry.path, f"{prefix}{entry.name}/", found, inside)
            elif entry.is_file():
                stat = entry.stat()
                found[prefix + entry.name] = (stat.st_size, stat.st_mtime_ns)
