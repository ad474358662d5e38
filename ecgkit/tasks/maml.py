"""MAML (Finn et al., ICML 2017) for a mapper in front of an expensive frozen reader, many tasks at
once; first order, second order and ANIL.

Inner loop: plain SGD on the support loss, theta_k+1 = theta_k - lr dL/dtheta. Outer gradient: the
mean over the counted inner steps of the query loss's gradient with regard to theta_0.

- First order: as if theta_k moved one for one with theta_0. As published, the steps that count are
  theta_2 .. theta_K (with K = 1, where the published code gives NaN, theta_1).
- Second order: through the inner steps, by the chain rule backwards from theta_K:
  v_k = v_k+1 - lr H_k v_k+1 + g_k, with H_k the Hessian of the support loss and g_k the query
  gradient at theta_k. Each step is run once more, so that only one step's graph is ever held.
- ANIL (Raghu et al., ICLR 2020): only some parameters adapt, all are meta-learned.

The reader is run once per inner step on support and query together, and its gradient is taken at
the soft tokens only; two small backward passes through the mapper then split it. First order needs
memory that does not grow with K; second order keeps the weights of each step beside. Both are
exact.

Letters: T tasks, S support rows, Q query rows per task, F feature width, P soft tokens, D width of
the reader, K inner steps.

Usage:

    done = inner_loop(mapper, support, query, read, n_steps=15, lr=0.05, outer_from=2)
    loss = carry_gradient(value, mapper, done.mean_gradient())
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from ecgkit.types import ConfigError

Params = dict[str, Tensor]
# read(prefix (T, N, P, D), part) with part "support" | "query" | "both" -> row scores (T, N), among
# them "loss"
Reader = Callable[[Tensor, str], dict[str, Tensor]]


@dataclasses.dataclass
class Adaptation:
    """What the inner loop leaves: weights after the last step, the outer gradient (or None), and
    scores by step.

    A task whose loss or gradient was not finite is False in `finite`: its weights are the last
    finite ones, its outer gradient is zero, and its scores are as they came. Whoever averages over
    tasks leaves it out and says so.
    """

    params: Params  # each (T, ...)
    outer_gradient: Params | None  # each (T, ...), not yet averaged over tasks
    support: dict[int, dict[str, Tensor]]  # inner step -> row scores (T, S)
    query: dict[int, dict[str, Tensor]]  # inner step -> row scores (T, Q)
    finite: Tensor  # (T,) bool

    def mean_gradient(self) -> Params:
        """The outer gradient averaged over the finite tasks; zeros where there is none."""
        n_finite = max(int(self.finite.sum()), 1)
        return {name: g.sum(0) / n_finite for name, g in self.outer_gradient.items()}

    def mean(self, rows: Tensor) -> Tensor:
        """Row scores (T, N) averaged over the finite tasks; NaN where there is none."""
        return rows[self.finite].float().mean()


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
    outer_at: Collection[int] = frozenset(),
    score_at: Collection[int] = frozenset(),
    *,
    outer_from: int | None = None,
    second_order: bool = False,
    only: Collection[str] | None = None,
) -> Adaptation:
    """Adapts a copy of the mapper to each task by `n_steps` of SGD on its support rows.

    support (T, S, F), query (T, Q, F). The query is read only at the steps in `outer_at` (whose
    gradient is added up; `outer_from=2` stands for theta_2 .. theta_K) or `score_at` (scores only),
    step 0 being the unadapted mapper. `only` names the parameters that adapt (None: all); the outer
    gradient is that of all. `second_order` about doubles the time and keeps K copies of the
    adapting weights; its double backward pass holds about three times the graph of one reading.
    Raises ConfigError when `only` names a parameter that the mapper lacks.
    """
    if outer_from is not None:
        outer_at = outer_steps(n_steps, outer_from)
    loop = _Loop(mapper, support, query, read, lr, _adapting(mapper, only))
    trail = []  # per step: weights, state of the random numbers, query gradient
    for step in range(n_steps + 1):
        learn, counts = step < n_steps, step in outer_at
        before = (loop.done.params, _random_state(support)) if second_order else None
        gradient = loop.step(step, learn, counts, counts or step in score_at)
        if second_order:
            trail.append((*before, gradient))
        elif gradient is not None:
            loop.add_outer(gradient, 1 / len(outer_at))
        del gradient  # else it would stand beside the next step's
    if second_order and outer_at:
        loop.sweep_back(trail, 1 / len(outer_at))
    loop.leave_out_failed()
    return loop.done


class _Loop:
    """One inner loop under way: what does not change from step to step, and what is found."""

    def __init__(self, mapper, support, query, read, lr: float, names: list[str]):
        self.mapper, self.support, self.query, self.read = mapper, support, query, read
        self.lr, self.names = lr, names
        params = stacked_parameters(mapper, len(support))
        finite = torch.ones(len(support), dtype=torch.bool, device=support.device)
        self.done = Adaptation(params, None, {}, {}, finite)

    def step(self, step: int, learn: bool, counts: bool, ask: bool) -> Params | None:
        """One reading: scores, the move to the next weights, and the query's gradient if it
        counts.
        """
        weights = _leaves(self.done.params)
        gradient = None
        if learn or counts:
            mapped = self._map(weights, learn, counts)
            prefix = torch.cat(list(mapped.values()), dim=1).detach().requires_grad_()
            rows, at_prefix = self._read_with_gradient(prefix, mapped)
            cut = self.support.shape[1] if learn else 0
            self._note(step, rows, cut, learn, counts)
            if counts:
                gradient = _pull_back(mapped["query"], weights, at_prefix[:, cut:])
            if learn:
                own = {name: weights[name] for name in self.names}
                self._descend(_pull_back(mapped["support"], own, at_prefix[:, :cut]))
        if ask and not counts:  # no gradient is wanted, so the reader is spared its backward pass
            with torch.no_grad():
                rows = self.read(map_tasks(self.mapper, weights, self.query), "query")
            self._note(step, rows, 0, False, True)
        return gradient

    def _map(self, weights: Params, learn: bool, counts: bool) -> dict[str, Tensor]:
        parts = (("support", self.support, learn), ("query", self.query, counts))
        with torch.enable_grad():
            return {name: map_tasks(self.mapper, weights, x) for name, x, used in parts if used}

    def _read_with_gradient(self, prefix: Tensor, mapped: dict[str, Tensor]):
        """Row scores, and d (mean support loss + mean query loss of each task) / d prefix."""
        with torch.enable_grad():
            rows = self.read(prefix, "both" if len(mapped) == 2 else next(iter(mapped)))
            ends = [part.shape[1] for part in mapped.values()]
            total = torch.stack([x.mean(1).sum() for x in rows["loss"].split(ends, 1)]).sum()
        return rows, torch.autograd.grad(total, prefix)[0]

    def _note(self, step: int, rows: dict[str, Tensor], cut: int, learn: bool, ask: bool) -> None:
        rows = {name: value.detach() for name, value in rows.items()}
        if learn:
            self.done.support[step] = {name: value[:, :cut] for name, value in rows.items()}
        if ask:
            self.done.query[step] = {name: value[:, cut:] for name, value in rows.items()}
        self.done.finite = self.done.finite & rows["loss"].isfinite().all(1)

    def _descend(self, gradient: Params) -> None:
        """theta - lr gradient; a task that is not finite, or would no longer be, stays."""
        old = self.done.params
        new = {name: torch.add(old[name], g, alpha=-self.lr) for name, g in gradient.items()}
        self.done.finite = self.done.finite & _all_finite(new)
        if not self.done.finite.all():
            new = {n: torch.where(_per_task(self.done.finite, p), p, old[n]) for n, p in
                   new.items()}  # fmt: skip
        self.done.params = old | new

    # --- outer gradient ---------------------------------------------------------------------------

    def add_outer(self, gradient: Params, factor: float) -> None:
        if self.done.outer_gradient is None:
            self.done.outer_gradient = {n: torch.zeros_like(g) for n, g in gradient.items()}
        for name, g in gradient.items():
            self.done.outer_gradient[name].add_(g, alpha=factor)

    def sweep_back(self, trail: list, factor: float) -> None:
        """Second order: from theta_K to theta_0, through each inner step."""
        for step, (params, random, gradient) in reversed(list(enumerate(trail))):
            if self.done.outer_gradient is not None and step < len(trail) - 1:
                self.add_outer(self._curvature(params, random), -self.lr)
            if gradient is not None:
                self.add_outer(gradient, factor)

    def _curvature(self, params: Params, random) -> Params:
        """H v: the derivative of (support gradient . v), with v the outer gradient so far.

        The fused attention kernels have no second derivative, so the plain one is asked for; the
        random numbers are those of the step, so that dropout is the same.
        """
        weights = _leaves(params)
        with _random_numbers(random), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            prefix = map_tasks(self.mapper, weights, self.support)
            loss = self.read(prefix, "support")["loss"].mean(1).sum()
            own = [weights[name] for name in self.names]
            slopes = torch.autograd.grad(loss, own, create_graph=True)
            v = self.done.outer_gradient
            along = [(g * v[n]).sum() for n, g in zip(self.names, slopes, strict=True)]
            found = torch.autograd.grad(
                torch.stack(along).sum(), list(weights.values()), materialize_grads=True
            )
        return dict(zip(weights, found, strict=True))

    def leave_out_failed(self) -> None:
        """A task that failed has no say in the outer gradient."""
        for g in (self.done.outer_gradient or {}).values():
            g.masked_fill_(~_per_task(self.done.finite, g), 0.0)


# --- parameters of many tasks ---------------------------------------------------------------------


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


def _adapting(mapper: nn.Module, only: Collection[str] | None) -> list[str]:
    known = [name for name, _ in mapper.named_parameters()]
    wrong = sorted(set(only or ()) - set(known))
    if wrong or only is not None and not only:
        raise ConfigError(
            f"The mapper has no parameter {', '.join(wrong) or 'to adapt'}; name some of "
            f"{', '.join(known)}."
        )
    return [name for name in known if only is None or name in only]


def _leaves(params: Params) -> Params:
    return {name: p.detach().requires_grad_() for name, p in params.items()}


def _pull_back(prefix: Tensor, weights: Params, gradient: Tensor) -> Params:
    """(d prefix / d weights)^T gradient."""
    leaves = list(weights.values())
    found = torch.autograd.grad(prefix, leaves, gradient, materialize_grads=True)
    return dict(zip(weights, found, strict=True))


def _all_finite(params: Params) -> Tensor:
    """(T,): a sum is finite when every term is (and none is astronomically large)."""
    sums = [p.flatten(1).sum(1) for p in params.values()]
    return torch.stack(sums).isfinite().all(0)


def _per_task(flag: Tensor, like: Tensor) -> Tensor:
    return flag.view(-1, *(1,) * (like.dim() - 1))


def _random_state(like: Tensor):
    if like.is_cuda:
        return torch.cuda.get_rng_state(like.device), like.device
    return torch.get_rng_state(), None


@contextlib.contextmanager
def _random_numbers(state):
    """Within it, random numbers follow `state`; afterwards they go on as if nothing was drawn."""
    value, device = state
    with torch.random.fork_rng([device] if device is not None else []):
        if device is None:
            torch.set_rng_state(value)
        else:
            torch.cuda.set_rng_state(value, device)
        yield


def carry_gradient(value: Tensor, mapper: nn.Module, gradient: Params) -> Tensor:
    """A scalar equal to `value` whose backward pass puts `gradient` on the mapper's parameters.

    So a gradient worked out by hand goes through the engine's usual loop (clipping, loss scaling,
    many processes).
    """
    terms = [(p * gradient[name].detach()).sum() for name, p in mapper.named_parameters()]
    carried = torch.stack(terms).sum()
    return value.detach() + carried - carried.detach()
