"""Builds for test_scale to start in processes of their own: slow enough to be killed in the middle,
or as quick as can be with their peak memory printed.

Usage: python -c "import slow_builds; slow_builds.main()" SOURCE FOLDER N_JOBS WORKERS PAUSE_S
"""

import resource
import sys
import time

from ecgkit.data import store
from ecgkit.data.parallel import Workers
from ecgkit.data.place import Folder

SHARD_RECORDS = 4


class Slow(Folder):
    """A folder that takes `pause` seconds to give a file."""

    pause = 0.0

    def read(self, name):
        time.sleep(self.pause)
        return super().read(name)


def jobs(n: int) -> list[tuple[int, str]]:
    """Every sixth file is not there."""
    return [(i, f"r{i % 6}") for i in range(n)]


def main() -> None:
    source, folder, n_jobs, workers, pause = sys.argv[1:]
    place = Slow(source)
    place.pause = float(pause)
    if place.pause:
        store.SHARD_RECORDS = SHARD_RECORDS
    print("started", flush=True)
    store.build_store(
        folder, jobs(int(n_jobs)), place, key="k", fs=100, workers=Workers(int(workers))
    )
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
