"""The one training loop of the kit, on Hugging Face Accelerate.

A study brings its model, `make_batch` and `loss_fn`; the engine owns order, device, precision,
schedule, logging, resume and the time budget. A run killed at any moment continues where its last
checkpoint stood, with the same numbers: the item order and the augmentation generator depend on
(seed, step) alone, everything else is in the checkpoint.

Usage:
    settings = TrainSettings(n_steps=200, batch_size=64, lr=1e-3)
    log = fit(model, n_items, make_batch, loss_fn, settings, folder, evaluate=validate,
    fingerprint=cohort.fingerprint) log.table[["step", "loss"]]
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_model, save_model

from ecgkit import runtime
from ecgkit.config import short_hash
from ecgkit.tasks.schedule import SCHEDULES, batch_indices, lr_factor
from ecgkit.types import ConfigError, ModelError

Batch = dict[str, torch.Tensor]
MakeBatch = Callable[[np.ndarray, np.random.Generator], Batch]
LossFn = Callable[[torch.nn.Module, Batch], dict[str, torch.Tensor]]


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """How to train: AdamW on every parameter that requires a gradient (no decay on vectors), one
    learning-rate schedule.
    """

    n_steps: int
    batch_size: int
    lr: float
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_fraction: float = 0.1
    schedule: str = "cosine"
    clip_norm: float = 1.0
    log_every: int = 10
    eval_every: int = 0  # 0: at the end only
    checkpoint_every: int = 100
    time_budget_s: float | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    drop_last: bool = True

    def __post_init__(self):
        if self.schedule not in SCHEDULES:
            raise ConfigError(
                f"schedule is {self.schedule!r}; choose one of {', '.join(SCHEDULES)}."
            )
        if self.n_steps < 1 or self.batch_size < 1:
            raise ConfigError(
                f"n_steps ({self.n_steps}) and batch_size ({self.batch_size}) must be at least 1."
            )


@dataclasses.dataclass
class TrainLog:
    """What training left behind. `finished` is False when the time budget stopped it; call `fit`
    again to go on.
    """

    table: pd.DataFrame  # step, loss, ..., lr, seconds, eval_...
    finished: bool
    seconds: float
    reused: bool = False  # a finished training with the same settings and data was loaded instead

    @property
    def last(self) -> dict[str, float]:
        """The latest known value of every logged column."""
        return {
            c: float(self.table[c].dropna().iloc[-1])
            for c in self.table
            if self.table[c].notna().any()
        }


# --- the loop -------------------------------------------------------------------------------------


def fit(
    model: torch.nn.Module,
    n_items: int,
    make_batch: MakeBatch,
    loss_fn: LossFn,
    settings: TrainSettings,
    folder: str | Path,
    evaluate: Callable[[torch.nn.Module], dict[str, float]] | None = None,
    fingerprint: str = "",
) -> TrainLog:
    """Trains `model` in place and returns its log; resumes from `folder`, or loads what is already
    finished there.

    `make_batch(indices (B,), rng)` returns CPU tensors; `loss_fn(model, batch)` returns scalars, of
    which "loss" is minimised; `evaluate(model)` returns numbers, logged as `eval_<name>`.
    `fingerprint` names the data and whatever else decides the result; a checkpoint with another one
    is not resumed. Writes log.jsonl, log.csv, model.safetensors and, while unfinished, state/.
    Raises ModelError on a loss that is not finite, after writing the batch's items to
    bad_batch.json.
    """
    if n_items < 1:
        raise ModelError(
            f"There is nothing to train on: {Path(folder).name} was given no items; check the "
            "split it takes."
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    key = _key(model, n_items, settings, fingerprint)
    finished = _load_finished(model, folder, key)
    if finished is not None:
        model.to(runtime.pick_device(settings.device)).eval()
        return finished
    return _Loop(model, n_items, make_batch, loss_fn, settings, folder, evaluate, key).run()


class _Loop:
    """State of one training: what a checkpoint must hold is exactly what stands here."""

    def __init__(self, model, n_items, make_batch, loss_fn, settings, folder, evaluate, key):
        self.settings, self.n_items, self.key = settings, n_items, key
        self.make_batch, self.loss_fn, self.evaluate = make_batch, loss_fn, evaluate
        self.folder, self.state = folder, folder / "state"
        device = runtime.pick_device(settings.device)
        self.accelerator = _accelerator(device, runtime.pick_precision(settings.precision, device))
        optimiser = torch.optim.AdamW(
            _parameter_groups(model, settings.weight_decay), lr=settings.lr, betas=settings.betas
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, self._lr_factor)
        self.bare_model = model
        # The schedule is stepped by us once per update, whatever the number of processes, so it is
        # not prepared.
        self.model, self.optimiser = self.accelerator.prepare(model, optimiser)
        self.schedule = schedule
        self.step, self.spent, self.rows = 0, 0.0, []
        self.sums, self.n_summed = {}, 0  # losses since the last logged row
        torch.manual_seed(settings.seed)  # dropout; a checkpoint brings its own state
        self.writer = _tensorboard(folder)

    def run(self) -> TrainLog:
        self._resume()
        settings, budget, before = (
            self.settings,
            runtime.Budget(self.settings.time_budget_s),
            self.spent,
        )
        self.model.train()
        steps = runtime.progress(range(self.step, settings.n_steps), f"training {self.folder.name}")
        for step in steps:
            losses = self._update(step)
            self.sums = {k: self.sums.get(k, 0) + v.detach().float() for k, v in losses.items()}
            self.n_summed += 1
            self.step, self.spent = step + 1, before + budget.used()
            last = self.step == settings.n_steps
            if self.step % settings.log_every == 0 or last:
                self._log({k: float(v) / self.n_summed for k, v in self.sums.items()})
                self.sums, self.n_summed = {}, 0
            if self.evaluate and (
                last or (settings.eval_every and self.step % settings.eval_every == 0)
            ):
                self._evaluate()
            if budget.left() <= 0 and not last:
                self._save_state()
                return self._result(finished=False)
            if self.step % settings.checkpoint_every == 0 and not last:
                self._save_state()
        return self._finish()

    def _lr_factor(self, step: int) -> float:
        settings = self.settings
        return lr_factor(step, settings.n_steps, settings.schedule, settings.warmup_fraction)

    def _update(self, step: int) -> dict[str, torch.Tensor]:
        settings = self.settings
        rng = np.random.default_rng([settings.seed, 2, step])
        indices = batch_indices(
            step, self.n_items, settings.batch_size, settings.seed, settings.drop_last
        )
        mine = indices[self.accelerator.process_index :: self.accelerator.num_processes]
        batch = {
            k: v.to(self.accelerator.device, non_blocking=True)
            for k, v in self.make_batch(mine, rng).items()
        }
        with self.accelerator.autocast():
            losses = self.loss_fn(self.model, batch)
        if not torch.isfinite(losses["loss"]):
            self._refuse(step, indices, losses)
        self.accelerator.backward(losses["loss"])
        if settings.clip_norm:
            self.accelerator.clip_grad_norm_(self.model.parameters(), settings.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.schedule.step()
        return losses

    def _refuse(self, step: int, indices: np.ndarray, losses: dict[str, torch.Tensor]) -> None:
        path = self.folder / "bad_batch.json"
        values = {k: str(v.item()) for k, v in losses.items()}
        path.write_text(
            json.dumps({"step": step, "items": indices.tolist(), "losses": values}, indent=2)
        )
        raise ModelError(
            f"The loss is not finite at step {step} of {self.folder.name} ({values}); the batch's "
            "items are in "
            f"{path.name}. Lower the learning rate or look at those recordings."
        )

    # --- log --------------------------------------------------------------------------------------

    def _log(self, values: dict[str, float]) -> None:
        row = {
            "step": self.step,
            **values,
            "lr": self.schedule.get_last_lr()[0],
            "seconds": round(self.spent, 3),
        }
        self._append(row)

    def _evaluate(self) -> None:
        self.model.eval()
        with torch.no_grad():
            values = self.evaluate(self.bare_model)
        self.model.train()
        row = {f"eval_{k}": float(v) for k, v in values.items()}
        if (
            self.rows and self.rows[-1]["step"] == self.step
        ):  # one row per step: the evaluation joins the losses
            row = {**self.rows.pop(), **row}
        self._append({"step": self.step, **row})

    def _append(self, row: dict[str, float]) -> None:
        self.rows.append(row)
        if not self.accelerator.is_main_process:
            return
        with open(self.folder / "log.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")
        if self.writer:
            for name, value in row.items():
                self.writer.add_scalar(name, value, self.step)

    # --- checkpoints ------------------------------------------------------------------------------

    def _save_state(self) -> None:
        """Writes the checkpoint beside the old one, then swaps them, so that a kill leaves one of
        the two whole.
        """
        fresh = self.folder / "state.part"
        shutil.rmtree(fresh, ignore_errors=True)
        self.accelerator.save_state(str(fresh))
        torch.save(self.schedule.state_dict(), fresh / "schedule.pt")
        progress = {
            "key": self.key,
            "step": self.step,
            "spent": self.spent,
            "rows": self.rows,
            "sums": {k: float(v) for k, v in self.sums.items()},
            "n_summed": self.n_summed,
        }
        (fresh / "progress.json").write_text(json.dumps(progress))
        old = self.folder / "state.old"
        shutil.rmtree(old, ignore_errors=True)
        if self.state.exists():
            os.replace(self.state, old)
        os.replace(fresh, self.state)
        shutil.rmtree(old, ignore_errors=True)

    def _resume(self) -> None:
        """Goes on from state/ when it belongs to this training; else starts with an empty log."""
        for state in (
            self.state,
            self.folder / "state.old",
        ):  # .old: killed between the two renames of a swap
            if not (state / "progress.json").exists():
                continue
            progress = json.loads((state / "progress.json").read_text())
            if progress["key"] != self.key:
                continue
            self.accelerator.load_state(str(state))
            self.schedule.load_state_dict(torch.load(state / "schedule.pt", weights_only=True))
            self.step, self.spent, self.rows = progress["step"], progress["spent"], progress["rows"]
            self.sums, self.n_summed = progress["sums"], progress["n_summed"]
            break
        lines = [json.dumps(row) + "\n" for row in self.rows]
        (self.folder / "log.jsonl").write_text("".join(lines))

    def _finish(self) -> TrainLog:
        if self.accelerator.is_main_process:
            save_model(self.bare_model, str(self.folder / "model.safetensors"))
            result = self._result(finished=True)
            done = {"key": self.key, "steps": self.step, "seconds": self.spent}
            (self.folder / "done.json").write_text(json.dumps(done))
            for name in ("state", "state.old", "state.part"):
                shutil.rmtree(self.folder / name, ignore_errors=True)
            return result
        return self._result(finished=True)

    def _result(self, finished: bool) -> TrainLog:
        # Under mixed precision Accelerate wraps `forward`; the caller gets the model back bare.
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        self.bare_model.eval()
        table = pd.DataFrame(self.rows)
        table.to_csv(self.folder / "log.csv", index=False)
        if self.writer:
            self.writer.close()
        return TrainLog(table, finished, self.spent)


def _key(model, n_items: int, settings: TrainSettings, fingerprint: str) -> str:
    """What a checkpoint must agree on to be resumed; the time budget may differ between
    sittings.
    """
    ignored = ("time_budget_s", "checkpoint_every", "device")
    chosen = {k: v for k, v in dataclasses.asdict(settings).items() if k not in ignored}
    shapes = {k: list(v.shape) for k, v in model.state_dict().items()}
    return short_hash([chosen, n_items, fingerprint, shapes])


def _load_finished(model, folder: Path, key: str) -> TrainLog | None:
    done = folder / "done.json"
    if not done.exists():
        return None
    record = json.loads(done.read_text())
    if record["key"] != key:
        done.unlink()  # another training stood here; it is being replaced
        return None
    load_model(model, str(folder / "model.safetensors"))
    return TrainLog(pd.read_csv(folder / "log.csv"), True, record["seconds"], reused=True)


def _parameter_groups(model, weight_decay: float) -> list[dict]:
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise ModelError("No parameter of this model is trainable; unfreeze what should learn.")
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


def _accelerator(device: torch.device, precision: str):
    """An Accelerator on `device`. Accelerate keeps one state per process, so a change of device or
    precision resets it.
    """
    from accelerate import Accelerator
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
        AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(**wanted)


def _tensorboard(folder: Path):
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
