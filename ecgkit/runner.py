"""Runs notebooks headless: order, several at a time, skipping what has not changed, a budget of
minutes, run.json and the HTML page.

Threads wait for kernels; this one starts them, tells every ten seconds where they stand, and alone
writes run.json. Ctrl-C (or SIGTERM) ends the kernels and everything they started.

Usage:

    run_notebooks(["03_baselines"], {"PRESET": "tiny"})       # returns the exit code
    run_notebooks([], {"PRESET": "demo"}, jobs=2, budget_min=60)
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from ecgkit import runner_export, runner_files, runner_lock, runs, runtime
from ecgkit.config import RUNNABLE, KitConfig, short_hash
from ecgkit.runner_files import code_hash, entry, fingerprint, good
from ecgkit.runner_notebook import Job, execute
from ecgkit.runner_order import ONE_PROCESS, STORE, choose, needs, waits_for
from ecgkit.types import ConfigError

DONE, FAILED, BUDGET = 0, 1, 3  # exit codes; 2 is an input that cannot be used, 130 Ctrl-C
EVERY_S = 10.0
STARTED = "started, not finished"


def run_notebooks(
    names: Sequence[str], params: Mapping[str, object], force: bool = False, jobs: int = 1,
    budget_min: float | None = None,
) -> int:
    """Executes `names` (all when empty) with `params`, `jobs` at a time, sharing the cores.

    Once `budget_min` minutes are used no notebook starts, and a training stops where it can go on;
    the same call then goes on. Returns 0; 1 when a cell failed; 3 when all that is missing was left
    out for the budget. Raises ConfigError or DataError before anything runs: unknown notebook or
    parameter, unusable data, a run folder that another process is writing to.
    """
    if jobs < 1:
        raise ConfigError(f"--jobs is {jobs}; run at least one notebook at a time.")
    if budget_min is not None and budget_min <= 0:
        raise ConfigError(f"--budget is {budget_min:g}; give the minutes the run may take.")
    names = choose(names)
    configs = resolve(names, params)
    folder = runs.run_folder(configs[names[0]])
    with runner_lock.holding(folder), _signals():
        batch = _Batch(names, configs, params, folder, force, jobs, budget_min)
        batch.open()
        batch.run()
        return batch.close()


# --- before anything runs -------------------------------------------------------------------------


def resolve(names: Sequence[str], params: Mapping[str, object]) -> dict[str, KitConfig]:
    """One config per notebook. A parameter counts for the notebooks that have it; one that none has
    is an error.
    """
    fields = {n: {f.name for f in dataclasses.fields(RUNNABLE[n])} for n in names}
    for name in params:
        if not any(name.lower() in known for known in fields.values()):
            # The notebook with the most settings gives the best "did you mean".
            widest = max(names, key=lambda n: len(fields[n]))
            RUNNABLE[widest].from_params({name: params[name]})
    return {
        n: RUNNABLE[n].from_params({k: v for k, v in params.items() if k.lower() in fields[n]})
        for n in names
    }


def check_inputs(config: KitConfig) -> str:
    """Opens real data once, so that a wrong path or a broken file is a sentence before the first
    notebook runs.

    Returns the data's fingerprint ('' for the simulated cohort, which code and config already
    determine).
    """
    return "" if config.simulated and not config.ecgqa else _open(config)[0]


def _open(config: KitConfig) -> tuple[str, bool]:
    """Fills the store where it is not yet; the data's fingerprint, and is it credentialed."""
    from ecgkit.data.cohort import open_cohort
    from ecgkit.data.ecgqa import open_questions

    cohort = open_cohort(config)
    questions = open_questions(config, cohort)
    size = len(questions.table), len(questions.dropped)
    return short_hash([cohort.fingerprint, size, questions.classes]), cohort.credentialed


def _more_is_credentialed(config: KitConfig) -> bool:
    """Whether a further source of notebook 04 (MORE_DATA) is MIMIC's own."""
    if config.simulated or not getattr(config, "more_data", ""):
        return False
    from ecgkit.data import sources
    from ecgkit.data.cohort import resolve_path

    parts = [part.strip() for part in config.more_data.split(",") if part.strip()]
    return any(sources.open_source(resolve_path(p))[0].startswith("mimic") for p in parts)


# --- the run --------------------------------------------------------------------------------------


class _Batch:
    """Notebooks of one call in one run folder. Only the thread that calls `run` changes anything
    here and on disk; the pool's threads do nothing but `execute`.
    """

    def __init__(self, names, configs, params, folder: Path, force, jobs: int, budget_min):
        self.names, self.configs, self.params = names, configs, params
        self.folder, self.force, self.jobs = folder, force, jobs
        self.budget_min = budget_min
        self.budget = runtime.Budget(None if budget_min is None else budget_min * 60)
        self.running: dict[Future, Job] = {}
        self.waiting = list(names)

    def open(self) -> None:
        """Checks inputs, opens the record and says what will run."""
        first = self.configs[self.names[0]]
        self.data, credentialed = "", False
        if not first.simulated or first.ecgqa:
            self.data, credentialed = _open(first)
        elif self.jobs > 1 and STORE not in self.names and len(self.names) > 1:
            _open(first)  # else several notebooks would fill the store side by side
        self.record = runner_files.open_record(self.folder, first, self.params)
        more = any(_more_is_credentialed(config) for config in self.configs.values())
        self.record["credentialed"] = credentialed or more
        self.entries, self.code = self.record["notebooks"], code_hash()
        print(
            f"{len(self.names)} notebooks · preset {first.preset} · data {first.data} · "
            f"to {self.folder}", flush=True,
        )  # fmt: skip

    def run(self) -> None:
        told = time.monotonic()
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                while self.waiting or self.running:
                    self._start_what_can(pool)
                    if not self.running:
                        continue
                    left = max(0.0, told + EVERY_S - time.monotonic())
                    ended, _ = wait(self.running, left, FIRST_COMPLETED)
                    for future in ended:
                        self._ended(self.running.pop(future), future.result())
                    if time.monotonic() >= told + EVERY_S:
                        told = time.monotonic()
                        for job in self.running.values():
                            print(job.line(), flush=True)
            except BaseException:
                self._stop()
                raise

    def _start_what_can(self, pool: ThreadPoolExecutor) -> None:
        """Goes through those that wait for nothing any more, once."""
        unfinished = {*self.waiting, *(job.name for job in self.running.values())}
        for name in list(self.waiting):
            if len(self.running) >= self.jobs:
                return
            if not waits_for(name, self.names) & unfinished:
                self.waiting.remove(name)
                self._start(name, pool)
                if name not in {job.name for job in self.running.values()}:
                    unfinished.discard(name)  # it is unchanged, or will not run

    def _start(self, name: str, pool: ThreadPoolExecutor) -> None:
        before = self.entries.get(name, {})
        blocked = [n for n in needs(name, self.configs[name]) if not self._usable(n)]
        used = self.budget.left() <= 0
        if blocked and not (used and self._for_budget(blocked)):
            self._note(name, f"not run: needs {', '.join(blocked)}")
            return
        found = fingerprint(name, self.configs[name], self.data, self.entries, self.code)
        page = self.folder / name / "executed.html"
        same = before.get("fingerprint") == found and good(before) and page.exists()
        if same and not blocked and not self.force:
            self.entries[name] = before | {"status": "skipped (unchanged)"}
            print(f"{name}: unchanged, skipped", flush=True)
            return
        if used:
            self._note(name, self._budget_words())
            return
        self.entries[name] = entry(STARTED) | {"fingerprint": found}
        runner_files.save_record(self.folder, self.record)
        job = Job(name)
        here = self.configs[name], self.params, self.folder / name
        self.running[pool.submit(execute, name, *here, job, self._env(name))] = job

    def _ended(self, job: Job, error: str) -> None:
        """Notes what became of a notebook; makes its page, whatever became of it."""
        name, seconds, folder = job.name, job.seconds(), self.folder / job.name
        head = error.splitlines()[0] if error else ""
        status = self._budget_words() if job.outcome == "budget" else job.outcome
        html = ""
        if (folder / "executed.ipynb").exists():
            measured = self._measured(name, seconds) if job.outcome == "ok" else {}
            line = runner_export.measured_line(measured) if measured else ""
            secret = self.record["credentialed"] or runner_export.is_credentialed(folder)
            runner_export.stamp(folder, line, secret)
            html = runner_export.to_html(folder)
        found = {"fingerprint": self.entries[name]["fingerprint"]}
        if job.outcome == "ok":
            found |= {"measured": measured}
        self.entries[name] = entry(status, seconds, html, head) | found
        more = "; its training goes on next time" if job.outcome == "budget" else ""
        print(f"{name}: {status}{more} ({seconds:.0f} s)" if more else
              f"{name}: {status} in {seconds:.0f} s", flush=True)
        if job.outcome == "failed":
            print("\n".join(f"  {line}" for line in error.splitlines()), flush=True)
        self._save()

    def close(self) -> int:
        """The page, the last lines, the exit code."""
        self._save()
        page = runner_files.write_page(self.folder, self.record)
        missing = [n for n in self.names if not good(self.entries[n])]
        left_out = [n for n in missing if self.entries[n]["status"] == self._budget_words()]
        print(
            f"{len(self.names) - len(missing)} of {len(self.names)} notebooks ok in "
            f"{self.record['seconds']:.0f} s"
        )
        if left_out:
            print(f"{self._budget_words()}; run the same command again to go on.")
        print(page)
        if missing == left_out:
            return BUDGET if missing else DONE
        return FAILED

    # --- parts ------------------------------------------------------------------------------------

    def _usable(self, name: str) -> bool:
        """True when `name` succeeded in this run folder, now or in an earlier sitting."""
        written = (self.folder / name / "metrics.json").exists()
        return good(self.entries.get(name)) and written

    def _for_budget(self, names: Sequence[str]) -> bool:
        return all(self.entries.get(n, {}).get("status") == self._budget_words() for n in names)

    def _budget_words(self) -> str:
        minutes = f"{self.budget_min:g}" if self.budget_min is not None else "0"
        return f"not run: budget of {minutes} min used"

    def _note(self, name: str, status: str) -> None:
        self.entries[name] = entry(status)
        print(f"{name}: {status}", flush=True)

    def _measured(self, name: str, seconds: float) -> dict[str, object]:
        gpu = runner_export.gpu_of(self.folder / name)
        return {
            "seconds": round(seconds, 1),
            "machine": ", ".join(filter(None, [runner_files.machine(), gpu])),
            "date": datetime.date.today().isoformat(),
            "preset": self.record["preset"],
            "data": "synthetic" if self.record["data"] == "synthetic" else "real",
            "jobs": self.jobs,
        }

    def _env(self, name: str) -> dict[str, str]:
        """Of a kernel: its share of the cores, when trainings have to stop, in how many processes
        they run.
        """
        env = {"ECGKIT_PROCESSES": "1"} if name in ONE_PROCESS else {}
        if self.jobs > 1:
            cores = runtime.n_cores()
            env["OMP_NUM_THREADS"] = os.environ.get(
                "OMP_NUM_THREADS", str(max(1, cores // self.jobs))
            )
        if self.budget_min is not None:
            env[runs.STOP_AT] = str(time.time() + self.budget.left())
        return env

    def _save(self) -> None:
        self.record["seconds"] = round(self.budget.used(), 1)
        runner_files.save_record(self.folder, self.record)

    def _stop(self) -> None:
        """Ends what runs, and says so in run.json, for the next sitting to go on."""
        for job in self.running.values():
            job.stop()
        wait(self.running)
        for job in self.running.values():
            self.entries[job.name] = entry("not run: stopped")
        with contextlib.suppress(OSError):
            self._save()


@contextlib.contextmanager
def _signals():
    """A closed terminal or a scheduler's SIGTERM ends the run as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number, frame):
        raise KeyboardInterrupt

    before = {s: signal.signal(s, stop) for s in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
