"""One training in several processes, from wherever `fit` is called: a notebook, a script.

With ECGKIT_PROCESSES=4 (which `ecgkit run --processes 4` sets) `engine.fit` hands its model and its
functions to four fresh processes of `accelerate launch`, waits, and loads the weights they wrote:
what the caller gets is the same model and the same log. Fresh, because a notebook's process may
hold a GPU already, and such a process cannot be forked. Functions travel by value (cloudpickle), so
they may be closures; what they write into the caller's objects while they train stays behind. Each
training pays some seconds for the start of its processes. Losses are those of one process but for
dropout and augmentation, which are drawn per process, and for losses that compare the items of a
batch (see `engine`).

Usage:

    ECGKIT_PROCESSES=4 python my_training.py        # my_training calls engine.fit as ever
"""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Mapping
from pathlib import Path

import cloudpickle
import pandas as pd
import torch
from safetensors.torch import load_model
from torch.nn.utils.parametrize import is_parametrized

from ecgkit import runs, runtime
from ecgkit.tasks import training_files
from ecgkit.tasks.training_parts import TrainLog
from ecgkit.types import ConfigError, DataError, KitError, ModelError

PROCESSES = "ECGKIT_PROCESSES"
_ERRORS = {e.__name__: e for e in (ConfigError, DataError, ModelError, runs.BudgetUsed)}


def n_processes() -> int:
    """How many processes a training is to start; 1 in one that was launched itself.

    Raises ConfigError where the variable is no number of processes.
    """
    asked = os.environ.get(PROCESSES) or "1"
    if not asked.isdigit() or int(asked) < 1:
        raise ConfigError(f"{PROCESSES} is {asked!r}; give a number of processes, 1 or more.")
    return 1 if "WORLD_SIZE" in os.environ else int(asked)


def fit_launched(n: int, model: torch.nn.Module, folder: Path, call: Mapping) -> TrainLog:
    """`fit(model, folder=folder, **call)` in `n` processes; `model` gets the weights.

    Raises what `fit` raises, and ModelError where a process dies or something cannot travel.
    """
    with tempfile.TemporaryDirectory(prefix="ecgkit-") as scratch:  # private to this user
        package, answer = Path(scratch, "training.pkl"), Path(scratch, "answer.json")
        package.write_bytes(_packed({"model": model, "folder": folder, **call}, folder.name))
        code, last = _launch(n, package, answer, call["settings"].device)
        found = json.loads(answer.read_text()) if answer.exists() else {}
    if "error" in found:
        raise _ERRORS.get(found["error"], ModelError)(found["message"])
    if code or not found:
        raise ModelError(f"Training {folder.name} in {n} processes failed: {' | '.join(last)}")
    weights = folder / training_files.MODEL
    if not found["finished"]:
        weights = next(folder.glob(f"state/{training_files.MODEL}"))
    load_model(model, str(weights))
    model.to(runtime.pick_device(call["settings"].device)).eval()
    table = pd.read_csv(folder / "log.csv")
    return TrainLog(table, found["finished"], found["seconds"], best=found["best"])


# --- to the processes -----------------------------------------------------------------------------


def _packed(content: dict, name: str) -> bytes:
    buffer = io.BytesIO()
    try:
        _Pickler(buffer).dump(content)
    except Exception as error:
        raise ModelError(
            f"Training {name} cannot be handed to other processes ({runtime.first_line(error)}); "
            "run it in one (without --processes)."
        ) from error
    return buffer.getvalue()


class _Pickler(cloudpickle.Pickler):
    """A tensor on a GPU goes by way of the CPU to the GPU of the process that unpacks it. A module
    with parametrised weights (weight norm) refuses to be pickled, for its class is made on the
    spot; that class travels by value.
    """

    def reducer_override(self, item):
        if isinstance(item, torch.nn.Module) and is_parametrized(item):
            return object.__new__, (type(item),), dict(item.__dict__), None, None, _set_state
        if isinstance(item, torch.Tensor) and item.is_cuda:
            kept = isinstance(item, torch.nn.Parameter)
            return _on_gpu, (item.detach().cpu(), item.requires_grad, kept)
        return super().reducer_override(item)


def _set_state(module: torch.nn.Module, state: dict) -> None:
    module.__dict__.update(state)


def _on_gpu(tensor: torch.Tensor, requires_grad: bool, is_parameter: bool) -> torch.Tensor:
    tensor = tensor.to("cuda")
    if is_parameter:
        return torch.nn.Parameter(tensor, requires_grad=requires_grad)
    return tensor.requires_grad_(requires_grad)


def _launch(n: int, package: Path, answer: Path, device: str) -> tuple[int, list[str]]:
    """Runs `accelerate launch`, its lines shown as they come; exit code and last lines."""
    env = dict(os.environ)
    if runtime.pick_device(device).type == "cpu":
        # `launch --cpu` alone starts one process; this is how it starts several, over gloo.
        env["ACCELERATE_USE_CPU"] = "true"
        env.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // n)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"),
        *("--num_machines", "1", "--num_processes", str(n), "--main_process_port", str(port)),
        *("--mixed_precision", "no", "--dynamo_backend", "no"),
        *("-m", "ecgkit.tasks.launching", str(package), str(answer)),
    ]
    last = deque(maxlen=5)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, text=True, errors="replace", env=env, **streams) as child:
        try:
            for line in child.stdout:
                last.append(line.strip())
                if line.startswith("training "):
                    print(line, end="", flush=True)
        except BaseException:  # interrupted: the launcher takes its processes along
            child.terminate()
            raise
    return child.returncode, list(last)


# --- one of the processes -------------------------------------------------------------------------


def _main(package: str, answer: str) -> None:
    from accelerate import PartialState

    from ecgkit.tasks.engine import fit

    on_cpu = os.environ.get("ACCELERATE_USE_CPU") == "true"
    state = PartialState(cpu=on_cpu)
    if not state.is_main_process:
        sys.stdout = open(os.devnull, "w")
    try:
        log = fit(**cloudpickle.loads(Path(package).read_bytes()))
        found = {"finished": log.finished, "seconds": log.seconds, "best": log.best}
    except KitError as error:
        found = {"error": type(error).__name__, "message": str(error)}
    if state.is_main_process:
        runs.write_json(Path(answer), found)
    state.destroy_process_group()  # its threads may outlive the interpreter and abort it


if __name__ == "__main__":
    _main(*sys.argv[1:])
