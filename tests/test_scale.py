"""The store at scale: killed, built twice at once, on processes or on Dask, the same bytes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import slow_builds
import wfdb

from ecgkit.data import parallel
from ecgkit.data import store as stores
from ecgkit.data.parallel import Workers
from ecgkit.data.place import Folder, open_place
from ecgkit.data.store import Store, build_store
from ecgkit.types import LEADS, ConfigError, DataError

N_JOBS, N_FILES = 60, 5


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Five readable records; r5 is not there."""
    folder, rng = tmp_path_factory.mktemp("source"), np.random.default_rng(0)
    for number in range(N_FILES):
        one, two = 2 * rng.integers(-400, 400, (2, 1000))
        limb = [one, two, two - one, -(one + two) // 2, one - two // 2, two - one // 2]
        values = np.stack([*limb, *rng.integers(-900, 900, (6, 1000))], axis=1)
        wfdb.wrsamp(
            f"r{number}",
            100,
            ["mV"] * 12,
            list(LEADS),
            d_signal=values,
            fmt=["16"] * 12,
            adc_gain=[1000.0] * 12,
            baseline=[0] * 12,
            write_dir=str(folder),
        )
    return folder


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory) -> dict:
    """The bytes of an uninterrupted build in one process."""
    return contents(build(source, tmp_path_factory.mktemp("whole"), Workers(1)))


def build(source, folder, workers) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stores, "SHARD_RECORDS", slow_builds.SHARD_RECORDS)
        jobs = slow_builds.jobs(N_JOBS)
        built = build_store(folder, jobs, open_place(source), key="k", fs=100, workers=workers)
    assert len(built) == 50 and list(built.quarantine["reason"].unique()) == ["missing_file"]
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def start(source, folder, n_jobs=N_JOBS, workers=1, pause=0.0) -> subprocess.Popen:
    """A build of slow_builds, its imports done."""
    command = [sys.executable, "-c", "import slow_builds; slow_builds.main()"]
    command += [str(word) for word in (source, folder, n_jobs, workers, pause)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
    )
    process.stdout.readline()
    return process


def finished(folder: Path) -> dict[str, tuple]:
    """Values file of each finished shard: inode and time of change."""
    parts = sorted((folder / "parts").glob("*.txt"))
    files = [folder / f"shard-{part.stem}.npy" for part in parts]
    return {f.name: (f.stat().st_ino, f.stat().st_mtime_ns) for f in files}


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_any_moment_and_run_again_gives_the_same_bytes(source, whole, tmp_path, workers):
    rng, folder, kept = np.random.default_rng(workers), tmp_path / "store", {}
    for _ in range(3):
        process = start(source, folder, workers=workers, pause=0.01)
        goal = len(kept) + int(rng.integers(1, 4))
        while process.poll() is None and len(finished(folder)) < goal:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.05))
        os.killpg(process.pid, signal.SIGKILL)  # its workers as well
        assert process.wait() == -signal.SIGKILL and not (folder / "store.json").exists()
        assert kept.items() <= finished(folder).items()
        kept = finished(folder)
    assert len(kept) >= 3
    build(source, folder, Workers(1))
    assert kept.items() <= finished(folder).items(), "a finished shard was written again"
    assert contents(folder) == whole


def test_two_processes_building_the_same_store_end_with_a_right_one(source, whole, tmp_path):
    both = [start(source, tmp_path / "store", pause=0.003) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert contents(tmp_path / "store") == whole


def test_a_finished_shard_that_was_damaged_is_written_again(source, whole, tmp_path):
    build(source, tmp_path, Workers(1))
    shard = tmp_path / "shard-00003.npy"
    shard.write_bytes(shard.read_bytes()[:-100])
    (tmp_path / "parts" / "00005.txt").write_text("{")
    assert contents(build(source, tmp_path, Workers(1))) == whole


def test_another_key_takes_nothing_over(source, whole, tmp_path):
    jobs = [(n, f"r{n % 3}") for n in range(N_JOBS)]
    build_store(tmp_path, jobs, Folder(source), key="other", fs=100, workers=Workers(1))
    again = build(source, tmp_path, Workers(1))
    assert Store(again).key == "k" and contents(again).items() >= whole.items()


def test_processes_and_dask_write_the_same_bytes(source, whole, tmp_path):
    distributed = pytest.importorskip("dask.distributed", reason="the extra [cluster] is absent")
    packed = shutil.make_archive(str(tmp_path / "source"), "zip", source)
    assert contents(build(Path(packed), tmp_path / "processes", Workers(2))) == whole
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        by_address = Workers(backend="dask", scheduler=cluster.scheduler_address)
        assert contents(build(source, tmp_path / "dask", by_address)) == whole


def test_a_cluster_is_started_where_none_is_named(source, whole, tmp_path):
    pytest.importorskip("dask.distributed", reason="the extra [cluster] is absent")
    assert contents(build(source, tmp_path / "own", Workers(1, backend="dask"))) == whole


def test_without_dask_or_its_scheduler_the_next_step_is_named(monkeypatch):
    monkeypatch.setattr(parallel, "CONNECT_S", 0.3)
    with pytest.raises(ConfigError, match="No dask scheduler answers at tcp://127.0.0.1:9"):
        Workers(backend="dask", scheduler="tcp://127.0.0.1:9").map(abs, [1, 2])
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    with pytest.raises(ConfigError, match=r'pip install "ecgkit\[cluster\]"'):
        Workers(backend="dask").map(abs, [1, 2])


def test_workers_keep_the_order_and_stay_at_home_for_little():
    assert Workers(2).map(abs, range(-9, 0)) == list(range(9, 0, -1))
    here = []
    assert Workers().map(here.append, range(5)) == [None] * 5 and here == list(range(5))
    assert Workers(4).map(here.append, [5]) == [None] and here[-1] == 5
    assert Workers(1).map(here.append, []) == []


def die(item):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_a_sentence():
    with pytest.raises(DataError, match="was killed.*JOBS = 1"):
        Workers(2).map(die, range(3))


def test_a_cluster_without_workers_or_whose_workers_die_is_a_sentence(monkeypatch):
    distributed = pytest.importorskip("dask.distributed", reason="the extra [cluster] is absent")
    monkeypatch.setattr(parallel, "NO_WORKER_S", 0.5)
    with distributed.LocalCluster(n_workers=0, dashboard_address=None) as cluster:
        workers = Workers(backend="dask", scheduler=cluster.scheduler_address)
        with pytest.raises(DataError, match="no worker for 0.5 s.*dask worker ADDRESS"):
            workers.map(abs, range(3))
        monkeypatch.setattr(parallel, "NO_WORKER_S", 20)
        cluster.scale(1)
        assert workers.map(abs, range(-9, 0)) == list(range(9, 0, -1))
        with pytest.raises(DataError, match="killed over the same piece of work.*more memory"):
            workers.map(die, range(2))


def test_memory_does_not_grow_with_the_records(source, tmp_path):
    peaks = []
    for n in (300, 3000):
        process = start(source, tmp_path / str(n), n_jobs=n)
        peaks.append(int(process.communicate()[0]))
    assert json.loads((tmp_path / "3000" / "store.json").read_text())["n_stored"] == 2500
    assert peaks[1] < 1.1 * peaks[0], peaks
