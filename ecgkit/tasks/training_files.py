"""Files of one training: checkpoints that survive a kill, the finished weights, the key of both.

    log.jsonl, log.csv          every logged row
    model.safetensors           the weights the caller got; best.safetensors beside it where the
                                settings name a best_metric
    state/                      while unfinished: model, optimiser, schedule, RNG, progress.json
    done.json                   key, steps, seconds, best
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import accelerate
import pandas as pd
import torch
from safetensors.torch import load_model, save_model

from ecgkit import runtime
from ecgkit.config import short_hash
from ecgkit.tasks.training_parts import TrainLog, TrainSettings
from ecgkit.types import DataError, ModelError

MODEL, BEST = "model.safetensors", "best.safetensors"
_NOT_RESULT = ("time_budget_s", "checkpoint_every", "device", "accumulate")


def training_key(model, n_items: int, settings: TrainSettings, fingerprint: str) -> str:
    """What a checkpoint must agree on to be resumed; time budget and micro-batches may differ."""
    chosen = {k: v for k, v in dataclasses.asdict(settings).items() if k not in _NOT_RESULT}
    shapes = {k: list(v.shape) for k, v in model.state_dict().items()}
    return short_hash([chosen, n_items, fingerprint, shapes])


def load_finished(model, folder: Path, key: str) -> TrainLog | None:
    """The finished training of this key, its weights loaded into `model`; None without one."""
    done = folder / "done.json"
    if not done.exists():
        return None
    with _sound(done):
        record = json.loads(done.read_text())
        found = record["key"]
    if found != key:
        done.unlink(missing_ok=True)  # another training stood here; it is being replaced
        return None
    with _sound(folder / MODEL):
        load_model(model, str(folder / MODEL))
    with _sound(folder / "log.csv"):
        table = pd.read_csv(folder / "log.csv")
    return TrainLog(table, True, record["seconds"], reused=True, best=record.get("best"))


def save_finished(model, folder: Path, record: dict) -> None:
    save_weights(model, folder / MODEL)
    with runtime.replacing(folder / "done.json") as scratch:
        scratch.write_text(json.dumps(record))
    for name in ("state", "state.old", "state.part"):
        shutil.rmtree(folder / name, ignore_errors=True)


def save_weights(model, path: Path) -> None:
    """`model` as safetensors; a kill or a full disk leaves the file that stood there, or none."""
    with runtime.replacing(path) as scratch:
        save_model(model, str(scratch))


def save_state(accelerator, folder: Path, schedule, progress: dict) -> None:
    """Writes the checkpoint beside the old one, then swaps them, so that a kill leaves one of the
    two whole. Every process calls it; the main one moves files.
    """
    fresh, state, old = (folder / name for name in ("state.part", "state", "state.old"))
    # It warns at every checkpoint that tied weights are stored once, which is what is wanted.
    logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)
    if accelerator.is_main_process:
        shutil.rmtree(fresh, ignore_errors=True)
    accelerator.wait_for_everyone()
    try:
        with runtime.writing(state):
            accelerator.save_state(str(fresh))
            if accelerator.is_main_process:
                torch.save(schedule.state_dict(), fresh / "schedule.pt")
                (fresh / "progress.json").write_text(json.dumps(progress))
    except DataError:  # the disk is full: not even this may stay
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        return
    shutil.rmtree(old, ignore_errors=True)
    if state.exists():
        os.replace(state, old)
    os.replace(fresh, state)
    shutil.rmtree(old, ignore_errors=True)


def load_state(accelerator, folder: Path, schedule, key: str) -> dict | None:
    """Restores what `save_state` wrote for this key and returns its progress; None without one."""
    for name in ("state", "state.old"):  # .old: killed between the two renames of a swap
        state = folder / name
        if not (state / "progress.json").exists():
            continue
        with _sound(state):
            progress = json.loads((state / "progress.json").read_text())
            if progress["key"] != key:
                continue
            _check_random_state(state / f"random_states_{accelerator.process_index}.pkl")
            accelerator.load_state(str(state))
            schedule.load_state_dict(torch.load(state / "schedule.pt", weights_only=True))
        return progress
    return None


def _check_random_state(path: Path) -> None:
    """Accelerate passes over one that it cannot read, and the training would not be the same."""
    if path.exists():  # there may be fewer processes in the checkpoint than now
        accelerate.utils.load(path)  # tensors and numbers alone: nothing in it is run


@contextmanager
def _sound(path: Path) -> Iterator[None]:
    """Raises ModelError where a file of a training is damaged; nothing in it is ever run."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  a broken or hostile file may raise anything
        reason = (str(error).splitlines() or [""])[0][:120]
        raise ModelError(
            f"{path.name} of the training {path.parent.name} cannot be read "
            f"({type(error).__name__}: {reason}); delete {path.parent} and run again to train anew."
        ) from error
