"""One function over many items: in this process, on all cores (joblib), or on a Dask cluster.

Each item should be worth some tenths of a second (a shard, not a record). Whoever does the work,
the results are the same and in the order of the items.

Usage:

    workers = Workers.of(config)                        # jobs, backend and scheduler of the config
    results = workers.map(write_shard, shards, "storing shards")
    Workers(backend="dask", scheduler="tcp://10.0.0.5:8786").map(...)
"""

from __future__ import annotations

import pickle
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import lru_cache

from ecgkit import runtime
from ecgkit.config import KitConfig
from ecgkit.types import ConfigError, DataError

# Starting processes and importing the kit in each takes 1-2 s: they must save more than this.
WORTH_S = 3.0
# Idle processes end soon, so that they do not hold memory while a model trains.
IDLE_S = 120
CONNECT_S = 10
# How long a cluster may have no worker: queues (Slurm) and watchers start them some time later.
NO_WORKER_S = 60


@dataclass(frozen=True)
class Workers:
    """`jobs` processes (0 = one per core once that is worth it, 1 = none but this one).

    backend "dask" sends the items to the cluster of `scheduler`, or to one started here for the
    time of the call when it is ''.
    """

    jobs: int = 0
    backend: str = "joblib"
    scheduler: str = ""

    @classmethod
    def of(cls, config: KitConfig) -> Workers:
        return cls(config.jobs, config.backend, config.scheduler)

    def map(self, function: Callable, items: Sequence, label: str = "working") -> list:
        """[function(item) for item in items], shared out; one item never leaves this process.

        `function` and items are pickled, `function` once; it is unpickled once per process. Raises
        what the function raises, ConfigError when there is no dask or no scheduler at the address,
        DataError when a process was killed or a cluster was lost.
        """
        results = self._results(function, list(items))
        return list(runtime.progress(results, label, total=len(items)))

    def _results(self, function: Callable, items: list) -> Iterator:
        if self.backend == "dask" and len(items) > 1:
            yield from _on_dask(function, items, self.jobs, self.scheduler)
            return
        n_here = 0
        for result in self._in_process(function, items):
            n_here += 1
            yield result
        if n_here < len(items):
            yield from _on_processes(function, items[n_here:], self.jobs or runtime.n_cores())

    def _in_process(self, function: Callable, items: list) -> Iterator:
        """Results of the first items, as many as are not worth starting processes for."""
        if self.jobs > 1 and len(items) > 1:
            return
        start = time.monotonic()
        for n, item in enumerate(items, 1):
            yield function(item)
            left_s = (time.monotonic() - start) / n * (len(items) - n)
            if self.jobs == 0 and len(items) > n and left_s * (1 - 1 / runtime.n_cores()) > WORTH_S:
                return


def _on_processes(function: Callable, items: list, jobs: int) -> Iterator:
    import joblib

    frozen = _Frozen(function)
    try:
        with joblib.parallel_config("loky", inner_max_num_threads=1, idle_worker_timeout=IDLE_S):
            pool = joblib.Parallel(n_jobs=jobs, batch_size=1, return_as="generator")
            yield from pool(joblib.delayed(frozen)(item) for item in items)
    except BrokenProcessPool as error:
        raise DataError(
            f"One of {jobs} processes was killed, most often for lack of memory; run again with "
            f"JOBS = {max(1, jobs // 2)} (what is finished is kept)."
        ) from error


def _on_dask(function: Callable, items: list, jobs: int, scheduler: str) -> Iterator:
    try:
        from dask.distributed import Client, LocalCluster
        from distributed.scheduler import KilledWorker
    except ImportError as error:
        raise ConfigError(
            'BACKEND is "dask", but dask is not installed; pip install "ecgkit[cluster]", or set '
            'BACKEND = "joblib".'
        ) from error
    workers = jobs or runtime.n_cores()
    own = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    with nullcontext(scheduler) if scheduler else LocalCluster(**own) as cluster:
        try:
            client = Client(cluster, timeout=CONNECT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"No dask scheduler answers at {scheduler}; start one with `dask scheduler`, or "
                "leave SCHEDULER empty for a cluster on this machine."
            ) from error
        try:
            with client:
                yield from _in_window(client, _Frozen(function), items)
        except KilledWorker as error:
            raise DataError(
                "Several dask workers were killed over the same piece of work, most often for lack "
                "of memory; give each more memory or fewer threads, and run again (what is "
                "finished is kept)."
            ) from error
        except CancelledError as error:
            raise DataError(
                f"The dask scheduler at {scheduler or 'this machine'} was lost; start it and run "
                "again (what is finished is kept)."
            ) from error


def _in_window(client, frozen: _Frozen, items: list) -> Iterator:
    """Results in order, with a few items per thread under way: the scheduler never holds all.

    Workers may come and go meanwhile.
    """
    pending = deque()
    for item in items:
        pending.append(client.submit(frozen, item, pure=False))
        if len(pending) >= 4 * max(1, _n_threads(client)):
            yield _result(client, pending.popleft())
    while pending:
        yield _result(client, pending.popleft())


def _n_threads(client) -> int:
    try:
        return sum(client.nthreads().values())
    except OSError as error:  # nobody answers
        raise CancelledError from error


def _result(client, future):
    """Waits for it as long as there is a worker. Raises DataError where none comes."""
    from dask.distributed import wait

    try:
        while not future.done():
            if not _n_threads(client):
                client.wait_for_workers(1, timeout=NO_WORKER_S)
            with client.as_current(), suppress(TimeoutError):
                wait(future, timeout=NO_WORKER_S)
    except TimeoutError as error:
        raise DataError(
            f"The dask scheduler has had no worker for {NO_WORKER_S} s; start some with `dask "
            "worker ADDRESS` and run again (what is finished is kept)."
        ) from error
    except OSError as error:  # nobody answers
        raise CancelledError from error
    return future.result()


class _Frozen:
    """A function pickled once: each process unpickles it (opens its .zip, ...) for its first item
    only.
    """

    def __init__(self, function: Callable):
        self.content = pickle.dumps(function)

    def __call__(self, item):
        return _thawed(self.content)(item)


@lru_cache(maxsize=4)
def _thawed(content: bytes) -> Callable:
    return pickle.loads(content)
