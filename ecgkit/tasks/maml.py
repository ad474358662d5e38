"""First-order MAML (Finn et al., ICML 2017) for a mapper in front of an expensive frozen reader,
many tasks at once.

Inner loop: plain SGD on the support loss. Outer gradient: the mean over the inner steps of the
query loss's gradient at the adapted weights, taken as if the adapted weights moved one for one with
the initial ones (first order). As published, the steps that count are theta_2 .. theta_K (with K =
1, where the published code gives NaN, theta_1).

The reader is run once per inner step on support and query together, and its gradient is taken at
the soft tokens only; two small backward passes through the mapper then split it. Memory does not
grow with K; the result is exact.

Letters: T tasks, S support rows, Q query rows per task, F feature width, P soft tokens, D width of
the reader.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

Params = dict[str, Tensor]
# read(prefix (T, N, P, D), part) with part "support" | "query" | "both" -> row scores (T, N), among
# them "loss"
Reader = Callable[[Tensor, str], dict[str, Tensor]]


@dataclasses.dataclass
class Adaptation:
    """What the inner loop leaves: weights after the last step, the outer gradient (or None), and
    scores by step.
    """

    params: Params  # each (T, ...)
    outer_gradient: Params | None  # each (T, ...), not yet averaged over tasks
    support: dict[int, dict[str, Tensor]]  # inner step -> row scores (T, S)
    query: dict[int, dict[str, Tensor]]  # inner step -> row scores (T, Q)


def stacked_parameters(mapper: nn.Module, n_tasks: int) -> Params:
    """Every parameter of the mapper, repeated for each task: name -> (T, ...). Shares memory until
    a step changes it.
    """
    return {name: p.detach().expand(n_tasks, *p.shape) for name, p in mapper.named_parameters()}


def map_tasks(mapper: nn.Module, params: Params, features: Tensor) -> Tensor:
    """Soft tokens of each task under its own weights: features (T, N, F) -> (T, N, P, D)."""

    def one_task(weights: Params, rows: Tensor) -> Tensor:
        return functional_call(mapper, weights, (rows,))["prefix"]

    return vmap(one_task, randomness="different")(params, features)


def outer_steps(n_steps: int, first: int = 2) -> set[int]:
    """The inner steps whose query loss is minimised: theta_first .. theta_K, at least theta_K."""
    return set(range(min(first, n_steps), n_steps + 1))


def inner_loop(
    mapper: nn.Module,
    support: Tensor,
    query: Tensor,
    read: Reader,
    n_steps: int,
    lr: float,
    outer_at: set[int] = frozenset(),
    score_at: set[int] = frozenset(),
) -> Adaptation:
    """Adapts a copy of the mapper to each task by `n_steps` of SGD on its support rows.

    support (T, S, F), query (T, Q, F). The query is read only at the steps in `outer_at` (whose
    gradient is added up) or `score_at` (scores only), step 0 being the unadapted mapper.
    """
    n_support = support.shape[1]
    params = stacked_parameters(mapper, len(support))
    outer = {name: torch.zeros_like(p) for name, p in params.items()} if outer_at else None
    result = Adaptation(params, outer, {}, {})
    for step in range(n_steps + 1):
        learn, ask = step < n_steps, step in outer_at or step in score_at
        if not (learn or ask):
            continue
        weights = {name: p.detach().requires_grad_() for name, p in result.params.items()}
        with torch.enable_grad():
            parts = [
                map_tasks(mapper, weights, x)
                for x, used in ((support, learn), (query, ask))
                if used
            ]
            prefix = (
                torch.cat(parts, dim=1).detach().requires_grad_()
            )  # the seam between mapper and reader
            rows = read(prefix, "both" if learn and ask else "support" if learn else "query")
            total = _sum_of_means(rows["loss"], n_support if learn else 0)
            gradient = torch.autograd.grad(total, prefix)[0] if learn or step in outer_at else None
        cut = n_support if learn else 0
        scores = {name: value.detach() for name, value in rows.items()}
        if ask:
            result.query[step] = {name: value[:, cut:] for name, value in scores.items()}
        if step in outer_at:
            _pull_back(parts[-1], weights, gradient[:, cut:], outer, 1 / len(outer_at))
        if learn:
            result.support[step] = {name: value[:, :cut] for name, value in scores.items()}
            descent = {name: p.detach().clone() for name, p in result.params.items()}
            _pull_back(parts[0], weights, gradient[:, :cut], descent, -lr)
            result.params = descent
    return result


def _sum_of_means(loss: Tensor, cut: int) -> Tensor:
    """Support and query losses are means over a task's rows; their sum has both gradients, each on
    its own rows.
    """
    parts = [part.mean(1).sum() for part in (loss[:, :cut], loss[:, cut:]) if part.shape[1]]
    return torch.stack(parts).sum()


def _pull_back(
    prefix: Tensor, weights: Params, gradient: Tensor, into: Params, factor: float
) -> None:
    """Adds factor * (d prefix / d weights)^T gradient to `into`."""
    found = torch.autograd.grad(prefix, list(weights.values()), gradient, allow_unused=True)
    for name, g in zip(weights, found, strict=True):
        if g is not None:
            into[name].add_(g, alpha=factor)


def carry_gradient(value: Tensor, mapper: nn.Module, gradient: Params) -> Tensor:
    """A scalar equal to `value` whose backward pass puts `gradient` on the mapper's parameters.

    So a gradient worked out by hand goes through the engine's usual loop (clipping, loss scaling,
    many processes).
    """
    terms = [(p * gradient[name].detach()).sum() for name, p in mapper.named_parameters()]
    carried = torch.stack(terms).sum()
    return value.detach() + carried - carried.detach()
