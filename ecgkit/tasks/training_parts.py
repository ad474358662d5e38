"""What the training loop is put together from: settings, log, optimiser, accelerator, errors.

Usage: see `tasks/engine.py`, which is what a study calls.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pandas as pd
import torch

from ecgkit.tasks.schedule import SCHEDULES
from ecgkit.types import ConfigError, ModelError


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """How to train: AdamW on every parameter that requires a gradient (no decay on vectors), one
    learning-rate schedule.

    `batch_size` counts the items of one update, over all processes and micro-batches; `accumulate`
    says into how many micro-batches each process cuts its part. An evaluated number named
    `best_metric` (one of what `evaluate` returns) decides what "best" is; `patience` evaluations
    without a better one end the training.
    """

    n_steps: int
    batch_size: int
    lr: float
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    warmup_fraction: float = 0.1
    schedule: str = "cosine"
    clip_norm: float = 1.0
    accumulate: int = 1
    log_every: int = 10
    eval_every: int = 0  # 0: at the end only
    best_metric: str = ""  # "": the last weights are the best there are
    best_mode: str = "max"  # max | min
    keep: str = "last"  # last | best: the weights the caller gets back
    patience: int = 0  # 0: never stop early
    checkpoint_every: int = 100
    time_budget_s: float | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    drop_last: bool = True

    def __post_init__(self):
        for name, choices in (("schedule", SCHEDULES), ("best_mode", ("max", "min")),
                              ("keep", ("last", "best"))):
            if getattr(self, name) not in choices:
                raise ConfigError(
                    f"{name} is {getattr(self, name)!r}; choose one of {', '.join(choices)}."
                )
        for name in ("n_steps", "batch_size", "accumulate"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.accumulate > self.batch_size:
            raise ConfigError(
                f"accumulate is {self.accumulate} and batch_size {self.batch_size}: a micro-batch "
                "would hold no item."
            )
        if (self.patience or self.keep == "best") and not self.best_metric:
            raise ConfigError(
                f"patience is {self.patience} and keep {self.keep!r}, but best_metric is empty: "
                "name the evaluated number that decides."
            )


@dataclasses.dataclass
class TrainLog:
    """What training left behind. `finished` is False when the time budget stopped it; call `fit`
    again to go on. `best`: step and value of `best_metric`, where one was named.
    """

    table: pd.DataFrame  # step, loss, ..., lr, seconds, eval_...
    finished: bool
    seconds: float
    reused: bool = False  # a finished training with the same settings and data was loaded instead
    best: dict | None = None

    @property
    def last(self) -> dict[str, float]:
        """The latest known value of every logged column."""
        return {
            c: float(self.table[c].dropna().iloc[-1])
            for c in self.table
            if self.table[c].notna().any()
        }


def make_optimiser(model, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW with decoupled decay on matrices only. Raises ModelError where all is frozen."""
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise ModelError("No parameter of this model is trainable; unfreeze what should learn.")
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    # One pass over the weights: on a CPU a third of the time of the loop.
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps,
                             fused=True)


def make_accelerator(device: torch.device, precision: str):
    """An Accelerator on `device`. Accelerate keeps one state per process, so a change of device or
    precision resets it (but for a process started by `accelerate launch` beside others).
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState

    wanted = {
        "cpu": device.type == "cpu",
        "mixed_precision": "no" if precision == "fp32" else precision,
    }
    shared = AcceleratorState._shared_state
    stale = shared and (
        shared.get("_mixed_precision") != wanted["mixed_precision"]
        or shared.get("device", device).type != device.type
    )
    if stale:
        # The process group of a distributed run is kept: it can be joined only once.
        AcceleratorState._reset_state(reset_partial_state=int(os.environ.get("WORLD_SIZE", 1)) == 1)
    # A batch without any second ECG leaves that part's weights without a gradient.
    ddp = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(**wanted, kwargs_handlers=[ddp])


def make_writer(folder: Path):
    """A TensorBoard writer where TensorBoard is installed (ECGKIT_TENSORBOARD=0 turns it off), else
    None.
    """
    if os.environ.get("ECGKIT_TENSORBOARD") == "0":
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether PyTorch could not get memory, on a GPU or on the CPU."""
    words = str(error)
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError)
        and ("not enough memory" in words or "can't allocate memory" in words)
    )


def out_of_memory(name: str, step: int, settings: TrainSettings, n_items: int) -> ModelError:
    return ModelError(
        f"Out of memory at step {step} of {name}: {n_items} items went through the model at once. "
        f"Raise ACCUMULATE above {settings.accumulate} (the same updates in smaller portions), "
        f"lower BATCH_SIZE below {settings.batch_size}, or give PRECISION=bf16 or shorter ECGs "
        "(SECONDS, FS)."
    )
