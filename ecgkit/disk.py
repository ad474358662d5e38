"""Files that are whole or not there, whoever kills the writer, and sentences where a disk refuses.

Usage:

    with replacing(folder / "metrics.json") as scratch:       # one file
        scratch.write_text(text)
    with replacing_folder(folder / "model") as scratch:       # a folder, in place of an older one
        model.save_pretrained(scratch)
    write_once(folder, lambda scratch: ...)                   # a folder that never changes
    with one_at_a_time(folder, "training the small language model"):
        ...                                                   # a second process waits for its turn
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

from ecgkit.types import DataError, KitError

ADVICE = (
    "make room there or write elsewhere (OUT for a run, ECGKIT_CACHE for what is kept between "
    "runs), and run again: what is finished is kept"
)
LEFT_BEHIND_S = 24 * 3600  # a half-written file this old belongs to a process that was killed
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# What reading a file raises that is cut short or garbage.
_DAMAGED = (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error, UnpicklingError)
_FORBIDDEN = (errno.EACCES, errno.EPERM)
# How libraries written in other languages say that a disk is full.
_SAID = {
    "No space left on device": ("No space left", "os error 28", "disk is full", "code: 28"),
    "File too large": ("File too large", "os error 27", "code: 27"),
    "Read-only file system": ("Read-only file system", "os error 30", "code: 30"),
    "the disk took only part of it": (  # numpy; torch, three times; SQLite
        "requested and", "file write failed", "iostream error", "unexpected pos", "disk I/O error",
    ),
}  # fmt: skip


# --- whole files and folders ----------------------------------------------------------------------


@contextmanager
def replacing(path: Path, advice: str = ADVICE) -> Iterator[Path]:
    """A new file beside `path` that takes its place at the end: nobody ever meets half a file.

    Raises DataError, ending in `advice`, where the disk is full or may not be written to.
    """
    scratch = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        with writing(path, advice):
            yield scratch
            os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def write_once(folder: Path, write: Callable[[Path], object]) -> Path:
    """Returns `folder`, letting `write(scratch)` fill it first where it does not exist yet.

    It appears whole or not at all, whether this process is killed or another is quicker.
    """
    if folder.exists():
        return folder
    scratch = None
    try:
        with writing(folder):
            scratch = _scratch_for(folder)
            write(scratch)
            os.rename(scratch, folder)
    except OSError:
        if not folder.exists():  # else another process was quicker: take its folder
            raise
    finally:
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)
    return folder


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A new folder that takes the place of `folder` at the end; between two renames there is none.

    For folders that one process writes and others read later.
    """
    scratch = old = None
    try:
        with writing(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            scratch = _scratch_for(folder)
            yield scratch
            old = scratch.with_name(f"{scratch.name}.old.part")
            if folder.exists():
                os.rename(folder, old)
            os.rename(scratch, folder)
    finally:
        for left in filter(None, (scratch, old)):
            shutil.rmtree(left, ignore_errors=True)


def _scratch_for(folder: Path) -> Path:
    """A new folder beside `folder`; what killed processes left of earlier ones goes."""
    for left in folder.parent.glob(f"{folder.name}-*.part"):
        if time.time() - left.stat().st_mtime > LEFT_BEHIND_S:
            shutil.rmtree(left, ignore_errors=True)
    made = tempfile.mkdtemp(prefix=f"{folder.name}-", suffix=".part", dir=folder.parent)
    os.chmod(made, 0o755)  # mkdtemp makes it private
    return Path(made)


@contextmanager
def one_at_a_time(folder: Path, doing: str) -> Iterator[None]:
    """Lets one process at a time into `folder`, which is made where it is missing; others wait.

    The lock is the operating system's: it ends with the process, however that ends.
    """
    import fcntl

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".lock", "a")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Another process is {doing}; waiting for it.", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks (some network drives): the user's own care
        yield


def append(path: Path, text: str) -> None:
    """Adds `text` to a file in one write, so that several processes and threads may share it.

    Raises DataError where it does not get there whole.
    """
    content = text.encode()
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab", buffering=0) as file:
            if file.write(content) < len(content):  # what a nearly full disk does without a word
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# --- what a disk refuses --------------------------------------------------------------------------


@contextmanager
def writing(path: Path, advice: str = ADVICE) -> Iterator[None]:
    """Raises DataError where `path` cannot be written: disk full, read-only, not permitted."""
    try:
        yield
    except KitError:
        raise
    except Exception as error:
        reason = refusal(error)
        if not reason or _is_elsewhere(error, path):
            raise
        raise DataError(
            f"{path.name} cannot be written to {path.parent} ({reason}); {advice}."
        ) from error


def _is_elsewhere(error: Exception, path: Path) -> bool:
    """Whether what is not permitted is another file than `path` or one below or beside it."""
    named = getattr(error, "filename", None)
    forbidden = isinstance(error, OSError) and error.errno in _FORBIDDEN
    return bool(forbidden and named) and path.parent not in (Path(named), *Path(named).parents)


def refusal(error: BaseException) -> str:
    """Why the disk refused to be written to, where that is what `error` says; else ''."""
    if isinstance(error, OSError) and error.errno in (*_FULL, *_FORBIDDEN):
        return error.strerror or str(error)
    if isinstance(error, OSError) and error.errno is not None:
        return ""
    said = str(error)
    return next((why for why, words in _SAID.items() if any(w in said for w in words)), "")


@contextmanager
def reading_cached(path: Path) -> Iterator[None]:
    """Raises DataError where what the kit once wrote at `path` is damaged or half deleted."""
    try:
        yield
    except _DAMAGED as error:
        raise DataError(
            f"{path.name} in {path.parent} cannot be read ({error}); delete it and run again to "
            "have it rebuilt."
        ) from error


def require_room(folder: Path, n_bytes: float, what: str, advice: str, spare: int = 0) -> None:
    """Raises DataError where `folder` has less than `n_bytes` + `spare` free for `what`."""
    free = max(shutil.disk_usage(folder).free - spare, 0)
    if n_bytes > free:
        raise DataError(
            f"{what} takes about {n_bytes / 1e9:.1f} GB, but {folder} has {free / 1e9:.1f} GB to "
            f"spare; {advice}."
        )
