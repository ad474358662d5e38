"""One run at a time in a run folder.

The lock is the operating system's, on the file `.lock`: it ends with the process that holds it,
however that ends, so none is ever left behind. The file names the process for the one who is
refused.

Usage:

    with holding(Path("runs/demo")):
        ...                            # a second process gets a sentence here
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ecgkit.types import ConfigError


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Holds `folder`, which is made where it is not there; raises ConfigError where another process
    does.
    """
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ConfigError(
                f"Another ecgkit (process {file.read().strip() or 'unknown'}) is writing to "
                f"{folder}; wait until it is done, or give this run another folder with --out."
            ) from None
        except OSError:
            pass  # a file system without locks (some network drives): the user's own care
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        try:
            yield
        finally:
            file.seek(0)
            file.truncate()
