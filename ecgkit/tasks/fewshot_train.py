"""Meta-trains the mapper between a frozen encoder and a frozen language model.

A mapper turns an ECG embedding into soft tokens the language model reads. First-order MAML finds
mapper weights from which a few gradient steps on a handful of examples answer questions about an
attribute that never stood in meta-training.
Source: Tang et al., CHIL 2025; Finn et al., ICML 2017.

Usage:
    mapper, log = meta_train(task, parts.train, config, folder, fingerprint)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ecgkit.models.prefix_mapper import build_mapper
from ecgkit.tasks import maml
from ecgkit.tasks.engine import TrainLog, TrainSettings, fit
from ecgkit.tasks.fewshot_task import FewShotTask


def meta_loss(
    task: FewShotTask, mapper: nn.Module, positions: dict[str, Tensor], config
) -> dict[str, Tensor]:
    """The outer loss with its first-order gradient attached, and the query score after the last
    inner step.
    """
    batch = task.batch(positions["support"], positions["query"])
    at = maml.outer_steps(config.inner_steps)
    done = maml.inner_loop(
        mapper,
        *task.embeddings(batch),
        task.open_reader(batch),
        config.inner_steps,
        config.inner_lr,
        outer_at=at,
    )
    value = torch.stack([done.query[step]["loss"].mean() for step in sorted(at)]).mean()
    gradient = {name: g.mean(0) for name, g in done.outer_gradient.items()}
    last = done.query[config.inner_steps]
    score = "tokens" if task.protocol == "reference" else "exact"
    return {
        "loss": maml.carry_gradient(value, mapper, gradient),
        score: last[score].float().mean(),
        "support_loss": done.support[config.inner_steps - 1]["loss"].mean(),
    }


def meta_train(
    task: FewShotTask, sampler, config, folder, fingerprint: str = "", n_steps: int | None = None
) -> tuple[nn.Module, TrainLog]:
    """Returns the meta-trained mapper and its log; every outer step meets fresh episodes."""
    n_steps = n_steps or config.meta_steps
    released = task.protocol == "reference"
    torch.manual_seed(config.seed)
    dropout = 0.5 if released else config.mapper_dropout
    mapper = build_mapper(
        config.mapper,
        task.features.shape[1],
        task.reader.width,
        config.n_prefix,
        config.mapper_heads,
        dropout,
        always_drop=released,
    )
    settings = TrainSettings(
        n_steps=n_steps,
        batch_size=config.tasks_per_step,
        lr=config.outer_lr,
        schedule="constant",
        warmup_fraction=0.0,
        log_every=max(1, n_steps // 40),
        seed=config.seed,
        device=config.device,
        precision=config.precision,
    )

    def make_batch(indices, rng):
        return task.positions([sampler[int(i)] for i in indices])

    def loss_fn(model, batch):
        return meta_loss(task, getattr(model, "module", model), batch, config)

    log = fit(
        mapper,
        n_steps * config.tasks_per_step,
        make_batch,
        loss_fn,
        settings,
        folder,
        fingerprint=f"{fingerprint} {task.protocol}",
    )
    return mapper.eval(), log
