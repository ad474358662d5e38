"""What one outer step minimises: method -> loss function.

- maml: first-order MAML, as published; maml2: second order; anil: as maml, but only the mapper's
  last layer adapts (Raghu et al., ICLR 2020), all of it is meta-learned.
- reptile: theta - theta_K after K inner steps on all rows of a task (Nichol et al., 2018), handed
  to the optimiser as a gradient, neither divided by INNER_LR nor by K: AdamW takes no notice of
  scale. Reptile knows no query, so support and query rows are both learnt from.
- supervised: one mapper for all tasks, no inner loop, on the same ECGs of the same episodes.
  in-context is trained so too; it differs at test, where the support is read as context.

An episode whose loss is not finite is left out of loss, gradient and scores, and named in "finite".

Letters: T episodes, S support and Q query rows of each, N = S + Q, F width of an embedding.

Usage:

    out = METHODS["maml"](task, mapper, task.positions(episodes), config)
    out["loss"].backward()                            # also "exact", "support_loss", "finite" (T,)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ecgkit.tasks import maml
from ecgkit.types import ConfigError

# How the names of the parameters begin that ANIL adapts, by mapper; the first that has all of them.
LAST_LAYER = {
    "attention": ("out.", "norm2."),
    "perceiver": ("proj.", "norm."),
    "mlp": ("body.3.", "norm."),
    "linear": ("norm.",),  # its one layer is also its first: only the scale adapts
}
# With FROZEN_LM=False. The others would need derivatives through the language model's own weights.
METHODS_WITH_LORA = ("maml", "anil", "supervised", "in-context")

Scores = dict[str, Tensor]


def maml_loss(task, mapper: nn.Module, positions: Scores, config, **options) -> Scores:
    """Mean query loss after inner steps OUTER_FROM .. K; `options` go to `maml.inner_loop`."""
    batch = task.batch(positions["support"], positions["query"])
    at = maml.outer_steps(config.inner_steps, config.outer_from)
    done = maml.inner_loop(
        mapper, *task.embeddings(batch), task.open_reader(batch), config.inner_steps,
        config.inner_lr, outer_at=at, **options,
    )  # fmt: skip
    losses = torch.stack([done.query[step]["loss"] for step in sorted(at)]).mean(0)  # (T, Q)
    loss = maml.carry_gradient(done.mean(losses), mapper, done.mean_gradient())
    if not config.frozen_lm:
        loss = loss + _lora_term(task, mapper, batch, done)
    query, support = done.query[config.inner_steps], done.support[config.inner_steps - 1]
    return _report(task, loss, done.finite, query, support["loss"])


def second_order_loss(task, mapper: nn.Module, positions: Scores, config) -> Scores:
    """MAML with the derivative taken through the inner steps."""
    return maml_loss(task, mapper, positions, config, second_order=True)


def anil_loss(task, mapper: nn.Module, positions: Scores, config) -> Scores:
    """MAML whose inner steps move the last layer alone."""
    return maml_loss(task, mapper, positions, config, only=last_layer(mapper, config.mapper))


def reptile_loss(task, mapper: nn.Module, positions: Scores, config) -> Scores:
    """Carries theta - theta_K, averaged over tasks; its value is the loss before the last step."""
    batch = task.batch(positions["support"], positions["query"])
    rows = torch.cat(task.embeddings(batch), dim=1)  # (T, N, F)
    read = task.open_reader(batch)
    done = maml.inner_loop(
        mapper, rows, rows[:, :0], lambda prefix, part: read(prefix, "both"), config.inner_steps,
        config.inner_lr,
    )  # fmt: skip
    start = dict(mapper.named_parameters())
    direction = {
        name: (start[name].detach() - adapted)[done.finite].mean(0)
        for name, adapted in done.params.items()
    }
    scores = done.support[config.inner_steps - 1]
    loss = maml.carry_gradient(done.mean(scores["loss"]), mapper, direction)
    return _by_part(task, batch, loss, done.finite, scores)


def supervised_loss(task, mapper: nn.Module, positions: Scores, config) -> Scores:
    """Mean loss of the support and query rows of all episodes under one mapper."""
    batch = task.batch(positions["support"], positions["query"])
    rows = torch.cat(task.embeddings(batch), dim=1)  # (T, N, F)
    prefix = mapper(rows.flatten(0, 1))["prefix"].unflatten(0, rows.shape[:2])
    scores = task.open_reader(batch)(prefix, "both")
    losses = scores["loss"].mean(1)
    finite = losses.isfinite()
    if finite.all() or not finite.any():
        return _by_part(task, batch, losses.mean(), finite, scores)
    # A zero gradient times an infinite derivative is NaN, so the good episodes are read by
    # themselves.
    kept = {name: value[finite.cpu()] for name, value in positions.items()}
    return {**supervised_loss(task, mapper, kept, config), "finite": finite}


METHODS: dict[str, Callable[..., Scores]] = {
    "maml": maml_loss,
    "maml2": second_order_loss,
    "reptile": reptile_loss,
    "anil": anil_loss,
    "supervised": supervised_loss,
    "in-context": supervised_loss,
}


# --- parts of them --------------------------------------------------------------------------------


def last_layer(mapper: nn.Module, kind: str = "") -> list[str]:
    """Names of the parameters ANIL adapts, whatever MAPPER (`kind`) says. Raises ConfigError where
    the mapper is none of those known.
    """
    names = [name for name, _ in mapper.named_parameters()]
    for starts in LAST_LAYER.values():
        if all(any(name.startswith(start) for name in names) for start in starts):
            return [name for name in names if name.startswith(starts)]
    raise ConfigError(
        f"METHOD is anil, but this mapper (MAPPER={kind}; {', '.join(names)}) has no known last "
        f"layer; choose MAPPER {', '.join(LAST_LAYER)}, or METHOD=maml."
    )


def _lora_term(task, mapper, batch, done) -> Tensor | float:
    """Zero, whose gradient is that of the query loss at theta_K with respect to LoRA.

    First order again: the adapted mapper counts as a constant, although its inner steps went
    through LoRA too.
    """
    if not done.finite.all():
        return 0.0  # a NaN episode would spoil the shared weights: they wait for the next step
    with torch.no_grad():
        prefix = maml.map_tasks(mapper, done.params, task.embeddings(batch)[1])
    loss = task.open_reader(batch)(prefix, "query")["loss"].mean()
    return loss - loss.detach()


def _by_part(task, batch, loss: Tensor, finite: Tensor, scores: Scores) -> Scores:
    """The report of a method that scored support and query rows (T, N) in one go."""
    query = {name: value[:, batch.part("query")] for name, value in scores.items()}
    return _report(task, loss, finite, query, scores["loss"][:, batch.part("support")])


def _report(task, loss: Tensor, finite: Tensor, query: Scores, support_loss: Tensor) -> Scores:
    score = "tokens" if task.protocol == "reference" else "exact"
    return {
        "loss": loss,
        score: query[score][finite].float().mean(),
        "support_loss": support_loss[finite].mean(),
        "finite": finite,
    }
