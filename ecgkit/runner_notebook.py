"""One notebook, executed headless by papermill: executed.ipynb, or a few lines on what failed.

It runs in a thread of the runner; the kernel is a process of its own, with its own environment.
`Job` is what other threads may ask meanwhile, and how they end it.

Usage:

    job = Job("03_baselines")
    error = execute("03_baselines", config, params, Path("runs/demo/03_baselines"), job)
    job.line()         # 03_baselines: cell 12 of 49 (4. Training) · 35 s · 1.2 GB
    job.stop()         # from another thread: ends the kernel and all it started
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ecgkit import runs, runtime
from ecgkit.config import KitConfig

EXECUTED, PART = "executed.ipynb", "executed.part.ipynb"
TAIL = 15  # lines shown of what a failing cell printed
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


@dataclass
class Job:
    """A notebook under way. `outcome`: ok | failed | budget (a training stopped) | stopped."""

    name: str
    cell: int = 0
    n_cells: int = 0
    heading: str = ""
    outcome: str = ""
    began: float = field(default_factory=time.monotonic)
    client: object = None
    stopped: bool = False

    def line(self) -> str:
        """Where it stands, for the runner's one line per ten seconds."""
        heading = f" ({self.heading})" if self.heading else ""
        where = f"cell {self.cell + 1} of {self.n_cells}{heading}" if self.n_cells else "starting"
        memory = sum(_memory(process) for process in self._processes())
        return f"{self.name}: {where} · {self.seconds():.0f} s · {memory / 1e9:.1f} GB"

    def seconds(self) -> float:
        return time.monotonic() - self.began

    def stop(self) -> None:
        """Ends the kernel and every process it started; `execute` returns soon after."""
        import psutil

        self.stopped = True
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                process.kill()

    def _processes(self) -> list:
        import psutil

        manager = getattr(self.client, "km", None)
        pid = getattr(getattr(manager, "provisioner", None), "pid", None)
        try:
            kernel = psutil.Process(pid) if pid else None
            return [*kernel.children(recursive=True), kernel] if kernel else []
        except psutil.Error:
            return []


def execute(
    name: str, config: KitConfig, params: Mapping[str, object], folder: Path,
    job: Job | None = None, env: Mapping[str, str] | None = None,
) -> str:
    """Runs one notebook into `folder`/executed.ipynb; returns '' or, of a failure, a line that
    names cell and error, with the last lines of what the cell printed below it.

    `params` are the settings given for the run, of which those of this notebook's `config` reach
    it; `env` stands in for variables of this process. What is executed is written beside and moved
    into place at the end.
    """
    from papermill.exceptions import PapermillExecutionError

    job = job or Job(name)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / PART
    try:
        _papermill(name, config, params, part, job, env or {})
    except PapermillExecutionError as error:
        job.outcome = "budget" if error.ename == runs.BudgetUsed.__name__ else "failed"
        message = _failure(name, error, _cells(part))
    except OSError as error:  # a full disk, say
        job.outcome = "failed"
        part.unlink(missing_ok=True)
        return f"{name}: {error}; mend that and run the same command again"
    except Exception as error:
        if not job.stopped and not _is_dead_kernel(error):
            raise
        job.outcome = "stopped" if job.stopped else "failed"
        message = "" if job.stopped else _died(job)
    else:
        job.outcome, message = "ok", ""
    if job.outcome != "stopped" and part.exists():
        _without_paths(part)
        os.replace(part, folder / EXECUTED)
    part.unlink(missing_ok=True)
    return message


# --- papermill ------------------------------------------------------------------------------------


def _papermill(name: str, config, params, part: Path, job: Job, env: Mapping[str, str]) -> None:
    """The kernel's folder and environment are its own: threads share this process's."""
    import papermill

    source = runtime.project_root() / "notebooks" / f"{name}.ipynb"
    known = {f.name for f in dataclasses.fields(config)}
    given = {k.upper(): getattr(config, k.lower()) for k in params if k.lower() in known}
    # Papermill warns of names absent from the parameters cell; `resolve` has checked them all.
    logging.getLogger("papermill").setLevel(logging.ERROR)
    papermill.execute_notebook(
        source,
        part,
        parameters=given,
        engine_name=_engine(),
        kernel_name="python3",
        progress_bar=False,
        job=job,
        kernel_cwd=str(source.parent),
        kernel_env=os.environ | {"ECGKIT_BATCH": "1"} | dict(env),
        # The kernel's own notes (TCP without encryption, interrupts at shutdown) are not the
        # reader's concern: loopback only, and a failing cell is reported below.
        extra_arguments=["--IPKernelApp.log_level=50"],
    )


def _engine() -> str:
    """The name of papermill's own engine with two changes: it tells `job` where it is, and hands
    the kernel its environment.
    """
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine, papermill_engines

    class Client(PapermillNotebookClient):
        def execute_cell(self, cell, index, **how):
            job = self.job
            if job.stopped:
                raise RuntimeError("stopped")
            job.cell, job.n_cells = index, len(self.nb.cells)
            job.heading = _heading(self.nb.cells[:index])
            return super().execute_cell(cell, index, **how)

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(
            cls, nb_man, kernel_name, job=None, kernel_cwd=None, kernel_env=None,
            extra_arguments=(), start_timeout=60, **_unused,
        ):
            client = Client(
                nb_man, kernel_name=kernel_name, startup_timeout=start_timeout, timeout=None,
                extra_arguments=list(extra_arguments),
            )
            client.job, job.client = job, client
            return client.execute(cwd=kernel_cwd, env=kernel_env)

    papermill_engines.register("ecgkit", Engine)
    return "ecgkit"


def _without_paths(part: Path) -> None:
    """Papermill notes where on this machine the notebook lay; nobody else needs to know."""
    body = json.loads(part.read_text("utf-8"))
    for key in ("input_path", "output_path"):
        body["metadata"].get("papermill", {}).pop(key, None)
    runs.write_json(part, body)


def _memory(process) -> int:
    import psutil

    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


# --- what failed ----------------------------------------------------------------------------------


def _failure(name: str, error, cells: list[dict]) -> str:
    """Cell, heading, line of code and error; below, the last lines of what the cell printed."""
    cell = cells[error.cell_index] if error.cell_index < len(cells) else {}
    source = "".join(cell.get("source", "")).strip().splitlines()
    trace = [_ANSI.sub("", line) for part in error.traceback for line in part.splitlines()]
    where = [_heading(cells[: error.cell_index]), _line_of(trace, source)]
    head = (
        f"{name}, cell {error.cell_index} ({' · '.join(filter(None, where))}): {error.ename}: "
        f"{_ANSI.sub('', str(error.evalue))}"
    )
    printed = [
        _ANSI.sub("", line)
        for output in cell.get("outputs", [])
        for line in "".join(output.get("text", "")).splitlines()
    ]
    tail = [line.rstrip() for line in [*printed, *trace] if line.strip()][-TAIL:]
    return runtime.without_secrets("\n".join([head, *(f"  | {line}" for line in tail)]))


def _line_of(trace: list[str], source: list[str]) -> str:
    """The cell's line that raised, as the traceback numbers it; else its first."""
    found = [re.match(r"(?:Cell )?In ?\[\d+\], line (\d+)", line.strip()) for line in trace]
    numbers = [int(match[1]) for match in found if match]
    if numbers and numbers[0] <= len(source):
        return source[numbers[0] - 1].strip()
    return source[0] if source else ""


def _heading(cells: list) -> str:
    """The nearest `## heading` above, so that a reader finds a cell without counting."""
    for cell in reversed(cells):
        lines = "".join(cell["source"]).splitlines() if cell["cell_type"] == "markdown" else []
        for line in reversed(lines):
            if line.startswith("## "):
                return line.lstrip("# ").strip()
    return ""


def _cells(path: Path) -> list[dict]:
    """Cells as papermill counts them: without the banners it puts into a failed notebook."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    banner = "papermill-error-cell-tag"
    return [cell for cell in cells if banner not in cell["metadata"].get("tags", [])]


def _is_dead_kernel(error: BaseException) -> bool:
    from nbclient.exceptions import DeadKernelError

    return isinstance(error, DeadKernelError) or "Kernel died" in str(error)


def _died(job: Job) -> str:
    heading = f" ({job.heading})" if job.heading else ""
    return (
        f"{job.name}, cell {job.cell}{heading}: its process ended before its last cell, most often "
        "for lack of memory; close other programs, give fewer --jobs or a smaller BATCH_SIZE, and "
        "run the same command again to go on"
    )
