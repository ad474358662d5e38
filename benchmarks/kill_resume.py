"""Kill -9 a run at random moments, start it again, and compare with a run nobody disturbed.

Each round has a cache and a run folder of its own. The command is started, killed at a moment drawn
uniformly over the time an undisturbed run took, and started again to its end. Three things are
checked: after the kill nothing a reader would open is half-written; after the rerun every file of
every store has the bytes of the undisturbed run; and every metric is within 1e-6 of it (times and
memory aside). Every second round kills `ecgkit run` alone, as `kill -9 PID` does, and leaves the
notebook's process behind; the others kill all of its processes at once, as a power cut does.

The undisturbed run is kept in `--work`, so that `--rounds 3 --seed 5` can be had in pieces. Results
depend on the number of threads: OMP_NUM_THREADS is handed on, and is part of what is kept.

Prints one line a round; the last line is JSON: rounds, completed, stores_identical,
metrics_identical, largest_difference, half_written, seconds.
Usage: python benchmarks/kill_resume.py [03 07] [--rounds 10] [--seed 0] [--work FOLDER]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
from safetensors import safe_open

from ecgkit import runtime
from ecgkit.config import short_hash
from ecgkit.runner_files import code_hash

TOLERANCE = 1e-6
NOT_COMPARED = re.compile(r"faster|seconds|per_s\b|_ms\b|memory")  # names of measured times
Metrics = dict[str, float | None]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("notebooks", nargs="*", help="e.g. 03 07 (none = all)")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of killing")
    parser.add_argument("--work", default="", help="folder to work in (default: a temporary one)")
    parser.add_argument("--keep", action="store_true", help="keep the folders of rounds that fail")
    args = parser.parse_args()
    print(runtime.environment_report(), flush=True)
    if args.work:
        return rounds(Path(args.work), args)
    with tempfile.TemporaryDirectory(prefix="kill-resume-") as work:
        return rounds(Path(work), args)


def rounds(work: Path, args) -> int:
    """All rounds of this sitting; returns 1 where one of them failed."""
    started = time.monotonic()
    whole = undisturbed(work, args.notebooks)
    print(
        f"undisturbed: {whole['seconds']:.0f} s, {len(whole['stores'])} stores, "
        f"{len(whole['metrics'])} metrics",
        flush=True,
    )
    found = []
    for i in range(args.rounds):
        moment = np.random.default_rng([args.seed, i]).uniform(0, whole["seconds"])
        folder = work / f"round-{args.seed}-{i}"
        result = one_round(folder, args.notebooks, moment, whole, alone=i % 2 == 1)
        found.append(result)
        print(f"round {i}: {describe(result)}", flush=True)
        if passed(result) or not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(summary(found) | {"seconds": round(time.monotonic() - started)}))
    return 0 if all(map(passed, found)) else 1


def undisturbed(work: Path, notebooks: Sequence[str]) -> dict:
    """What a run leaves that nobody disturbs: seconds, digests of its stores, metrics."""
    key = short_hash([code_hash(), list(notebooks), os.environ.get("OMP_NUM_THREADS", "")])
    kept = work / f"undisturbed-{key}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    folder = work / f"undisturbed-{key}"
    shutil.rmtree(folder, ignore_errors=True)
    started = time.monotonic()
    code = start(folder, notebooks).wait()
    if code:
        sys.exit(f"The undisturbed run failed:\n{tail(folder)}")
    whole = {"seconds": time.monotonic() - started, **state(folder)}
    with runtime.replacing(kept) as scratch:
        scratch.write_text(json.dumps(whole))
    return whole


def one_round(
    folder: Path, notebooks: Sequence[str], moment: float, whole: dict, alone: bool
) -> dict:
    """Kills a fresh run `moment` seconds after its start, runs it again, compares it."""
    shutil.rmtree(folder, ignore_errors=True)
    process = start(folder, notebooks)
    kill(process, moment, alone)
    broken = unreadable(folder)
    at = last_line(folder)
    began = time.monotonic()
    code = start(folder, notebooks).wait()
    now = state(folder)
    shared = sorted(whole["metrics"].keys() | now["metrics"].keys())
    apart = {name: distance(whole["metrics"], now["metrics"], name) for name in shared}
    return {
        "killed": "runner" if alone else "all",
        "after_s": round(moment, 1),
        "at": at,
        "half_written": broken,
        "completed": code == 0,
        "rerun_s": round(time.monotonic() - began, 1),
        "stores_identical": now["stores"] == whole["stores"],
        "largest_difference": max(apart.values(), default=0.0),
        "differing": [name for name, d in apart.items() if not d <= TOLERANCE],
        "error": "" if code == 0 else tail(folder),
    }


# --- starting and killing -------------------------------------------------------------------------


def start(folder: Path, notebooks: Sequence[str]) -> subprocess.Popen:
    """`ecgkit run --preset tiny` with a cache, a run folder and a log in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "ecgkit", "run", *notebooks, "--preset", "tiny"]
    command += ["--out", str(folder / "run")]
    environment = os.environ | {"ECGKIT_CACHE": str(folder / "cache"), "PYTHONUNBUFFERED": "1"}
    with open(folder / "log.txt", "a") as log:
        return subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )


def kill(process: subprocess.Popen, moment: float, alone: bool) -> None:
    """SIGKILL after `moment` seconds: to `process` alone, or to all it started as well."""
    try:
        process.wait(moment)
        return  # it was quicker this time; the rerun then has nothing to do
    except subprocess.TimeoutExpired:
        pass
    family = [psutil.Process(process.pid)]
    # Notebooks run in a session of their own, so the process group is not all of it.
    family += [] if alone else family[0].children(recursive=True)
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()
    psutil.wait_procs(family, timeout=10)


# --- what is on disk ------------------------------------------------------------------------------


def unreadable(folder: Path) -> list[str]:
    """Files that have a final name and cannot be opened, relative to `folder`."""
    found = []
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix not in OPENERS or any(".part" in part for part in Path(name).parts):
            continue
        try:
            OPENERS[path.suffix](path)
        except FileNotFoundError:
            continue  # a process left behind took it away meanwhile
        except Exception as error:
            found.append(f"{name} ({type(error).__name__})")
    return found


def _open_weights(path: Path) -> None:
    with safe_open(path, "numpy") as file:
        file.keys()


def _open_arrays(path: Path) -> None:
    with np.load(path, allow_pickle=False) as arrays:
        [arrays[name] for name in arrays.files]


def _open_json(path: Path) -> None:
    json.loads(path.read_text())


def _open_png(path: Path) -> None:
    from PIL import Image

    Image.open(path).load()


OPENERS = {
    ".json": _open_json,
    ".ipynb": _open_json,
    ".npy": lambda path: np.load(path, mmap_mode="r", allow_pickle=False),
    ".npz": _open_arrays,
    ".safetensors": _open_weights,
    ".png": _open_png,
}


def state(folder: Path) -> dict:
    """A digest of every store in the cache, in no order of time, and every metric of the run."""
    stores = [path.parent for path in (folder / "cache").glob("*/store.json")]
    return {"stores": sorted(map(store_digest, stores)), "metrics": read_metrics(folder / "run")}


def store_digest(store: Path) -> str:
    """Shards, index, quarantine and description; not the key, which holds the time at which the
    recordings were written, and with a cache of its own each round writes them anew.
    """
    about = json.loads((store / "store.json").read_text())
    digest = hashlib.sha256(json.dumps({**about, "key": ""}, sort_keys=True).encode())
    for path in sorted([*store.glob("*.npy"), *store.glob("*.csv")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def read_metrics(run: Path) -> Metrics:
    """`notebook/metric` -> value, and the two ends of its interval."""
    found = {}
    for path in sorted(run.glob("*/metrics.json")):
        for name, row in json.loads(path.read_text())["metrics"].items():
            if not NOT_COMPARED.search(name) and row["unit"] not in ("s", "ms", "GB", "MB"):
                for end in ("value", "low", "high"):
                    found[f"{path.parent.name}/{name}.{end}"] = row[end]
    return found


def distance(left: Metrics, right: Metrics, name: str) -> float:
    """|left - right|; 0 where neither could be computed, infinite where only one was."""
    a, b = left.get(name, "absent"), right.get(name, "absent")
    if a == b:
        return 0.0
    return abs(a - b) if isinstance(a, float) and isinstance(b, float) else float("inf")


# --- in words -------------------------------------------------------------------------------------


def passed(result: dict) -> bool:
    clean = not result["half_written"] and not result["differing"]
    return clean and result["completed"] and result["stores_identical"]


def describe(result: dict) -> str:
    line = (
        f"{'ok' if passed(result) else 'FAILED'} · {result['killed']} killed after "
        f"{result['after_s']:.1f} s ({result['at']}) · rerun "
        f"{'completed' if result['completed'] else 'failed'} in {result['rerun_s']:.0f} s · stores "
        f"{'identical' if result['stores_identical'] else 'DIFFER'} · largest difference "
        f"{result['largest_difference']:.1e}"
    )
    for name in ("half_written", "differing"):
        line += f" · {name}: {', '.join(result[name][:5])}" if result[name] else ""
    return line + (f"\n{result['error']}" if result["error"] else "")


def summary(found: Sequence[dict]) -> dict:
    return {
        "rounds": len(found),
        "completed": sum(r["completed"] for r in found),
        "stores_identical": sum(r["stores_identical"] for r in found),
        "metrics_identical": sum(not r["differing"] for r in found),
        "largest_difference": max((r["largest_difference"] for r in found), default=0.0),
        "half_written": sum(len(r["half_written"]) for r in found),
    }


def last_line(folder: Path) -> str:
    lines = (folder / "log.txt").read_text().splitlines()
    return lines[-1].strip() if lines else "before its first line"


def tail(folder: Path, n: int = 12) -> str:
    return "\n".join((folder / "log.txt").read_text().splitlines()[-n:])


if __name__ == "__main__":
    sys.exit(main())
