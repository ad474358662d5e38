"""The one training loop of the kit, on Hugging Face Accelerate.

A study brings its model, `make_batch` and `loss_fn`; the engine owns order, device, precision,
schedule, micro-batches, logging, best weights, early stop, resume and the time budget. A run killed
at any moment continues where its last checkpoint stood, with the same numbers: the item order and
the augmentation generator depend on (seed, step) alone, everything else is in the checkpoint.

One update's items are cut into `processes x accumulate` slots of (nearly) equal size; each slot's
loss weighs as many items as it has. A loss that is a mean over items therefore has the same
gradient in one process, in several (`accelerate launch`), and in micro-batches; one that compares
the items of a batch (contrastive) sees its slot's items only.

Usage:

    settings = TrainSettings(n_steps=200, batch_size=64, lr=1e-3)
    log = fit(model, n_items, make_batch, loss_fn, settings, folder, evaluate=validate,
              fingerprint=cohort.fingerprint)
    log.table[["step", "loss"]]
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_model

from ecgkit import runs, runtime
from ecgkit.tasks import launching, training_files
from ecgkit.tasks.batching import batch_indices
from ecgkit.tasks.schedule import lr_factor
from ecgkit.tasks.training_parts import (
    TrainLog,
    TrainSettings,
    is_out_of_memory,
    make_accelerator,
    make_optimiser,
    make_writer,
    out_of_memory,
)
from ecgkit.types import ModelError

__all__ = ["TrainLog", "TrainSettings", "fit"]

Batch = dict[str, torch.Tensor]
MakeBatch = Callable[[np.ndarray, np.random.Generator], Batch]
LossFn = Callable[[torch.nn.Module, Batch], dict[str, torch.Tensor]]


def fit(
    model: torch.nn.Module,
    n_items: int,
    make_batch: MakeBatch,
    loss_fn: LossFn,
    settings: TrainSettings,
    folder: str | Path,
    evaluate: Callable[[torch.nn.Module], dict[str, float]] | None = None,
    fingerprint: str = "",
    batches: Callable[[int], np.ndarray] | None = None,
    names: Callable[[np.ndarray], list] | None = None,
) -> TrainLog:
    """Trains `model` in place and returns its log; resumes from `folder`, or loads what is already
    finished there.

    `make_batch(indices (B,), rng)` returns CPU tensors; `loss_fn(model, batch)` returns scalars, of
    which "loss" is minimised; `evaluate(model)` returns numbers, logged as `eval_<name>`;
    `batches(step)` chooses the items of a step (default: a fresh permutation each epoch);
    `names(indices)` says what to call items when a batch has to be written down.
    `fingerprint` names the data and whatever else decides the result; a checkpoint with another one
    is not resumed. Writes the files `training_files` lists. ECGKIT_PROCESSES says in how many
    processes to train (`launching`).
    Raises ModelError on a loss that is not finite, after writing the batch's items to
    bad_batch.json, and when memory runs out, naming the knobs.
    """
    if n_items < 1:
        raise ModelError(
            f"There is nothing to train on: {Path(folder).name} was given no items; check the "
            "split it takes."
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    key = training_files.training_key(model, n_items, settings, fingerprint)
    finished = training_files.load_finished(model, folder, key)
    if finished is not None:
        model.to(runtime.pick_device(settings.device)).eval()
        return finished
    if (n := launching.n_processes()) > 1:
        call = {"n_items": n_items, "make_batch": make_batch, "loss_fn": loss_fn,
                "settings": settings, "evaluate": evaluate, "fingerprint": fingerprint,
                "batches": batches, "names": names}  # fmt: skip
        return launching.fit_launched(n, model, folder, call)
    loop = _Loop(model, make_batch, loss_fn, settings, folder, key)
    loop.evaluate, loop.names = evaluate, names or (lambda indices: indices.tolist())
    loop.batches = batches or (
        lambda step: batch_indices(
            step, n_items, settings.batch_size, settings.seed, settings.drop_last
        )
    )
    return loop.run()


class _Loop:
    """State of one training: what a checkpoint must hold is exactly what stands here."""

    def __init__(self, model, make_batch, loss_fn, settings, folder, key):
        self.settings, self.key, self.folder = settings, key, folder
        self.make_batch, self.loss_fn = make_batch, loss_fn
        device = runtime.pick_device(settings.device)
        self.accelerator = make_accelerator(
            device, runtime.pick_precision(settings.precision, device)
        )
        optimiser = make_optimiser(model, settings)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, self._lr_factor)
        self.bare_model = model
        # The schedule is stepped by us once per update, whatever the number of processes, so it is
        # not prepared.
        self.model, self.optimiser = self.accelerator.prepare(model, optimiser)
        self.schedule = schedule
        self.step, self.spent, self.rows = 0, 0.0, []
        self.sums, self.n_summed = {}, 0  # losses since the last logged row
        self.best, self.waited = None, 0  # {"step", "value"}; evaluations since then
        # Dropout and other noise, another one in each process; a checkpoint brings its own state.
        torch.manual_seed(settings.seed + self.accelerator.process_index)
        self.writer = make_writer(folder) if self.accelerator.is_main_process else None

    def run(self) -> TrainLog:
        self._resume()
        settings, before = self.settings, self.spent
        budget = runtime.Budget(settings.time_budget_s)
        self.model.train()
        name = "" if self.folder.name == "training" else f" {self.folder.name}"
        steps = runtime.progress(range(self.step, settings.n_steps), f"training{name}")
        for step in steps:
            if self._stops_early():
                break
            losses = self._update(step)
            self.sums = {k: self.sums.get(k, 0) + v for k, v in losses.items()}
            self.n_summed += 1
            self.step, self.spent = step + 1, before + budget.used()
            last = self.step == settings.n_steps
            if self.step % settings.log_every == 0 or last:
                self._log()
            if self.evaluate and (
                last or (settings.eval_every and self.step % settings.eval_every == 0)
            ):
                self._evaluate()
            if self._any(budget.left() <= 0) and not last:
                self._save_state()
                return self._result(finished=False)
            if self._any(runs.seconds_left() <= 0) and not last:
                self._save_state()
                raise runs.BudgetUsed(
                    f"The run's budget is used; {self.folder.name} stopped after step {self.step} "
                    f"of {settings.n_steps}. Run the same command again to go on."
                )
            if self.step % settings.checkpoint_every == 0 and not last:
                self._save_state()
        return self._finish()

    def _lr_factor(self, step: int) -> float:
        settings = self.settings
        return lr_factor(step, settings.n_steps, settings.schedule, settings.warmup_fraction)

    def _stops_early(self) -> bool:
        return bool(self.settings.patience) and self.waited >= self.settings.patience

    # --- one update -------------------------------------------------------------------------------

    def _update(self, step: int) -> dict[str, torch.Tensor]:
        """One optimiser step; returns this process's share of each loss (shares add up)."""
        settings, world = self.settings, self.accelerator.num_processes
        indices = self.batches(step)
        if len(indices) < world:
            raise ModelError(
                f"Step {step} of {self.folder.name} has {len(indices)} items, {world} processes; "
                "raise BATCH_SIZE, or start fewer processes."
            )
        n_slots = min(world * settings.accumulate, len(indices))
        slots = range(self.accelerator.process_index, n_slots, world)
        total = {}
        for slot in slots:
            mine = indices[slot::n_slots]
            part = self._forward_backward(step, slot, n_slots, mine, len(mine) / len(indices),
                                          sync=slot + world >= n_slots)
            total = {k: total.get(k, 0) + v for k, v in part.items()}
        if self._any(not torch.isfinite(total["loss"])):
            self._refuse(step, indices, total)
        if settings.clip_norm:
            self.accelerator.clip_grad_norm_(self.model.parameters(), settings.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.schedule.step()
        return total

    def _forward_backward(self, step, slot, n_slots, mine, share, sync) -> dict[str, torch.Tensor]:
        """Losses of one slot times its share of the batch; its gradient is added to the others'."""
        seed = self.settings.seed
        rng = np.random.default_rng([seed, 2, step, slot] if n_slots > 1 else [seed, 2, step])
        hold = contextlib.nullcontext() if sync else self.accelerator.no_sync(self.model)
        try:
            batch = self.make_batch(mine, rng)
            batch = {
                k: v.to(self.accelerator.device, non_blocking=True) for k, v in batch.items()
            }
            with hold:
                with self.accelerator.autocast():
                    losses = self.loss_fn(self.model, batch)
                # Gradients are averaged over the processes, so a process's share is scaled back up.
                scale = share * self.accelerator.num_processes
                self.accelerator.backward(losses["loss"] * scale if n_slots > 1 else losses["loss"])
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise out_of_memory(self.folder.name, step, self.settings, len(mine)) from error
        return {k: v.detach().float() * share for k, v in losses.items()}

    def _any(self, flag) -> bool:
        """Whether `flag` holds in any process: what one decides, all do."""
        if self.accelerator.num_processes == 1:
            return bool(flag)
        raised = torch.tensor(float(flag), device=self.accelerator.device)
        return float(self.accelerator.reduce(raised, "sum")) > 0

    def _refuse(self, step: int, indices: np.ndarray, losses: dict[str, torch.Tensor]) -> None:
        path = self.folder / "bad_batch.json"
        values = {k: str(float(v)) for k, v in losses.items()}
        if self.accelerator.is_main_process:
            written = {"step": step, "items": self.names(indices), "losses": values}
            path.write_text(json.dumps(written, indent=2, default=str))
        raise ModelError(
            f"The loss is not finite at step {step} of {self.folder.name} ({values}); the batch's "
            f"items are in {path.name}. Lower the learning rate or look at those recordings."
        )

    # --- log --------------------------------------------------------------------------------------

    def _log(self) -> None:
        """Mean losses since the last row, over all processes."""
        sums = self.sums
        if self.accelerator.num_processes > 1:
            sums = {k: self.accelerator.reduce(v, "sum") for k, v in sorted(sums.items())}
        row = {k: float(v) / self.n_summed for k, v in sums.items()}
        self.sums, self.n_summed = {}, 0
        lr = self.schedule.get_last_lr()[0]
        self._append({"step": self.step, **row, "lr": lr, "seconds": round(self.spent, 3)})

    def _evaluate(self) -> None:
        self.model.eval()
        with torch.no_grad():
            values = self.evaluate(self.bare_model)
        self.model.train()
        row = {f"eval_{k}": float(v) for k, v in values.items()}
        # One row per step: the evaluation joins the losses.
        if self.rows and self.rows[-1]["step"] == self.step:
            row = {**self.rows.pop(), **row}
        self._append({"step": self.step, **row})
        if self.settings.best_metric:
            self._compare(row)

    def _compare(self, row: dict[str, float]) -> None:
        """Keeps the weights when `best_metric` is better than ever."""
        name = f"eval_{self.settings.best_metric}"
        if name not in row:
            raise ModelError(
                f"best_metric is {self.settings.best_metric!r}, but the evaluation of "
                f"{self.folder.name} gives {', '.join(k[5:] for k in row if k[:5] == 'eval_')}."
            )
        sign = 1 if self.settings.best_mode == "max" else -1
        if self.best is None or sign * row[name] > sign * self.best["value"]:
            self.best, self.waited = {"step": self.step, "value": row[name]}, 0
            if self.accelerator.is_main_process:
                training_files.save_weights(self.bare_model, self.folder / training_files.BEST)
        else:
            self.waited += 1

    def _append(self, row: dict[str, float]) -> None:
        self.rows.append(row)
        if not self.accelerator.is_main_process:
            return
        runtime.append(self.folder / "log.jsonl", json.dumps(row) + "\n")
        if self.writer:
            for name, value in row.items():
                self.writer.add_scalar(name, value, self.step)

    # --- checkpoints ------------------------------------------------------------------------------

    def _save_state(self) -> None:
        # Each process holds its share of the sums; the checkpoint keeps the whole of them.
        whole = {k: float(self.accelerator.reduce(v, "sum")) for k, v in sorted(self.sums.items())}
        progress = {
            "key": self.key, "step": self.step, "spent": self.spent, "rows": self.rows,
            "sums": whole, "n_summed": self.n_summed, "best": self.best, "waited": self.waited,
        }
        training_files.save_state(self.accelerator, self.folder, self.schedule, progress)

    def _resume(self) -> None:
        """Goes on from state/ when it belongs to this training; else starts with an empty log."""
        saved = training_files.load_state(self.accelerator, self.folder, self.schedule, self.key)
        if saved:
            self.step, self.spent, self.rows = saved["step"], saved["spent"], saved["rows"]
            self.n_summed, self.best, self.waited = (
                saved["n_summed"], saved["best"], saved["waited"]
            )
            if self.accelerator.is_main_process:
                device = self.accelerator.device
                self.sums = {k: torch.tensor(v, device=device) for k, v in saved["sums"].items()}
            else:
                self.sums = {k: torch.zeros((), device=self.accelerator.device)
                             for k in saved["sums"]}
        if self.accelerator.is_main_process:
            lines = [json.dumps(row) + "\n" for row in self.rows]
            with runtime.replacing(self.folder / "log.jsonl") as scratch:
                scratch.write_text("".join(lines))

    def _finish(self) -> TrainLog:
        if self.settings.keep == "best" and self.best:
            self.accelerator.wait_for_everyone()
            load_model(self.bare_model, str(self.folder / training_files.BEST))
        result = self._result(finished=True)
        if self.accelerator.is_main_process:
            record = {"key": self.key, "steps": self.step, "seconds": self.spent, "best": self.best}
            training_files.save_finished(self.bare_model, self.folder, record)
        self.accelerator.wait_for_everyone()
        return result

    def _result(self, finished: bool) -> TrainLog:
        # Under mixed precision Accelerate wraps `forward`; the caller gets the model back bare.
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        self.bare_model.eval()
        table = pd.DataFrame(self.rows)
        if self.accelerator.is_main_process:
            with runtime.replacing(self.folder / "log.csv") as scratch:
                table.to_csv(scratch, index=False)
        if self.writer:
            self.writer.close()
        return TrainLog(table, finished, self.spent, best=self.best)
