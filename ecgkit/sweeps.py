"""Sweeps: the same notebooks at many points, each an ordinary run folder beside the others.

All points of the file (`sweep_file`) are checked before the first starts. Each is a process of its
own (`ecgkit run ... --out OUT/<name>`), so that one that is killed takes none along; a finished,
unchanged one is skipped by its fingerprints. `OUT/sweep.json` lists the points; the page and the
figures are drawn from the run folders alone.

Usage:

    run_sweep(["04", "05"], "sweeps/esi_demo.yaml", {})      # returns the exit code
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from ecgkit import __version__, runner, runner_lock, runs, runtime
from ecgkit.config import KitConfig
from ecgkit.sweep_file import Point, read_sweep
from ecgkit.types import ConfigError, KitError

RECORD = "sweep.json"
OUT_OF_TIME = "not run: budget used"
# Settings that decide which recordings are stored, under which key.
INPUTS = ("data", "ecgqa", "more_data", "fs", "seconds", "cohort_size", "cohort_seed", "prevalence")
INPUTS += ("sample", "fraction", "sample_seed", "accept")
EVALUATION = "05_esi_evaluation"


def run_sweep(
    names: Sequence[str], file: str | Path, given: Mapping[str, object], out: str = "",
    force: bool = False, jobs: int = 1, command: Callable | None = None,
    budget_min: float | None = None,
) -> int:
    """Runs notebooks `names` at every point of `file` into `out`/<point> ('' = runs/<file's stem>).

    `given` are the command line's parameters, `jobs` how many points run at a time, sharing the
    cores. `command(names, point, folder, force)` makes a point's command line (the default runs
    `ecgkit run`). Once `budget_min` minutes are used no point starts, and trainings stop where they
    can go on. Returns 0; 1 when a point failed (the others run all the same); 3 when points are
    left out for the budget alone.
    Raises ConfigError or DataError before anything runs: a file that cannot be read, an unknown
    parameter, two points of one name, a value of the wrong type, unusable data, a folder that
    another process is writing to.
    """
    if jobs < 1:
        raise ConfigError(f"--jobs is {jobs}; run at least one point at a time.")
    if not names:
        raise ConfigError("--sweep needs the notebooks to run: ecgkit run 04 05 --sweep FILE.")
    names = runner.choose(names)
    points = read_sweep(file, given)
    configs = check_points(points, names)
    folder = runtime.project_root() / (out or f"runs/{Path(file).stem}")
    budget = runtime.Budget(None if budget_min is None else 60 * budget_min)
    with runner_lock.holding(folder):
        record = _open_record(folder, file, names, points, jobs)
        print(f"{len(points)} points · {', '.join(names)} · {jobs} at a time · to {folder}",
              flush=True)
        command = command or point_command
        for batch, n in _batches(points, configs, jobs):
            _run_batch(batch, n, names, folder, force, command, record, budget)
        return _finish(folder, record, names)


# --- before anything runs -------------------------------------------------------------------------


def check_points(points: Sequence[Point], names: Sequence[str]) -> dict[str, KitConfig]:
    """The settings of each point's first notebook; opens each input that points name once.

    Raises ConfigError or DataError that begins with the point's name.
    """
    configs, opened = {}, set()
    for point in points:
        try:
            resolved = runner.resolve(names, point.params)
            configs[point.name] = resolved[names[0]]
            if (key := _inputs(configs[point.name])) not in opened:
                runner.check_inputs(configs[point.name])
                opened.add(key)
        except KitError as error:
            raise type(error)(f"Run {point.name!r} of the sweep: {error}") from None
    return configs


def _inputs(config: KitConfig) -> tuple:
    return tuple(getattr(config, name, None) for name in INPUTS)


def _batches(points, configs, jobs: int) -> list[tuple[list[Point], int]]:
    """(points, how many at a time): alone first the one that fills a cache which others read."""
    if jobs == 1:
        return [(list(points), 1)]
    first = {}
    for point in points:
        first.setdefault(_inputs(configs[point.name]), point)
    alone = list(first.values())
    return [(alone, 1), ([p for p in points if p not in alone], jobs)]


# --- running --------------------------------------------------------------------------------------


def _run_batch(points, jobs, names, folder, force, command, record, budget) -> None:
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {
            pool.submit(
                _run_point, command(names, p, folder / p.name, force), p.name, jobs, budget
            ): p
            for p in points
        }
        try:
            for future in as_completed(waiting):
                point = waiting[future]
                entry = _outcome(folder / point.name, names, *future.result())
                record["points"][point.name] |= entry
                _save_record(folder, record)
                done = sum("seconds" in e for e in record["points"].values())
                print(
                    f"[{done}/{len(record['points'])}] {point.name}: {entry['status']} in "
                    f"{entry['seconds']:.0f} s",
                    flush=True,
                )
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise


def point_command(names: Sequence[str], point: Point, folder: Path, force: bool) -> list[str]:
    """The command that runs one point by itself."""
    given = [f"--set={name}={value}" for name, value in point.params.items()]
    return [
        *(sys.executable, "-m", "ecgkit", "run", *names, "--out", str(folder), *given),
        *(["--force"] if force else []),
    ]


def _run_point(command: list[str], name: str, jobs: int, budget) -> tuple[int, float, str]:
    """Runs a point's command, its lines marked by its name; (exit code, seconds, last line)."""
    started, last = time.monotonic(), ""
    if budget.left() <= 0:
        return runner.BUDGET, 0.0, ""
    if budget.seconds is not None:
        command = [*command, f"--budget={budget.left() / 60:.3f}"]
    # A point departs from the study on purpose: its claims are printed, they do not stop it.
    env = os.environ | {"PYTHONUNBUFFERED": "1", "ECGKIT_CLAIMS": "print"}
    if jobs > 1:
        env.setdefault("OMP_NUM_THREADS", str(max(1, runtime.n_cores() // jobs)))
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, text=True, errors="replace", env=env, **streams) as child:
        for line in child.stdout:
            print(f"  {name} | {line}", end="", flush=True)
            last = line.strip() or last
    if child.returncode == 130:  # Ctrl-C reached the point before it reached us
        raise KeyboardInterrupt
    return child.returncode, time.monotonic() - started, last


def _outcome(folder: Path, names, code: int, seconds: float, last: str) -> dict[str, object]:
    """A point's status and, where it failed, the sentence that says why."""
    path = folder / "run.json"
    entries = json.loads(path.read_text())["notebooks"] if path.exists() else []
    entries = [entry for entry in entries if entry["name"] in names]
    if code == 0:
        same = all(entry["status"].startswith("skipped") for entry in entries)
        return {"status": "unchanged" if same else "ok", "seconds": round(seconds, 1), "error": ""}
    if code == runner.BUDGET:
        return {"status": OUT_OF_TIME, "seconds": round(seconds, 1), "error": ""}
    cells = [entry["cell"] for entry in entries if entry["cell"]] if code == 1 else []
    why = cells[0] if cells else last.removeprefix("ecgkit: ")
    if code < 0:
        why = f"the process was ended by signal {-code} (9: often for lack of memory)"
    return {"status": "failed", "seconds": round(seconds, 1), "error": why}


# --- sweep.json, figures, page --------------------------------------------------------------------


def _open_record(folder: Path, file, names, points, jobs: int) -> dict:
    record = {
        "sweep": Path(file).stem,
        "kit": __version__,
        "notebooks": list(names),
        "jobs": jobs,
        "git": runtime.git_state(),
        "machine": f"{runtime.cpu_model()}, {os.cpu_count()} cores",
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "points": {p.name: {"status": "not run", "own": p.own, "params": p.params} for p in points},
    }
    _save_record(folder, record)
    return record


def _save_record(folder: Path, record: dict) -> None:
    points = [{"name": name, **entry} for name, entry in record["points"].items()]
    runs.write_json(folder / RECORD, record | {"points": points})


def _finish(folder: Path, record: dict, names: Sequence[str]) -> int:
    """Draws what the run folders hold, prints what failed, returns the exit code."""
    from ecgkit.reports import sweep_page, sweep_table

    drawn, table = {}, None
    if EVALUATION in names:
        from ecgkit.reports import esi_ablations, esi_ordering

        drawn, table = esi_ablations.save_figures(folder), esi_ordering.ordering_of(folder)
    written = sweep_table.write_table(folder)
    page = sweep_page.build_page(folder, drawn, table)
    failed = {n: e["error"] for n, e in record["points"].items() if e["status"] == "failed"}
    seconds = sum(entry.get("seconds", 0) for entry in record["points"].values())
    n_points = len(record["points"])
    left_out = [n for n, e in record["points"].items() if e["status"] == OUT_OF_TIME]
    n_ok = n_points - len(failed) - len(left_out)
    print(f"{n_ok} of {n_points} points ok in {seconds:.0f} s of run time")
    for name, error in failed.items():
        print(f"failed: {name}: {error}")
    if left_out:
        print(f"{OUT_OF_TIME}: {', '.join(left_out)}; run the same command again to go on.")
    print(written)
    print(page)
    if failed:
        return runner.FAILED
    return runner.BUDGET if left_out else runner.DONE
