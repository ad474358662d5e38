"""The inner loop and its outer gradients against plain autograd, task by task; bad tasks; the
benchmark.
"""

import json
import math
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ecgkit.models.prefix_llm import PrefixLLM, token_scores
from ecgkit.models.prefix_mapper import build_mapper
from ecgkit.models.small_llm import build_small_llm, train_tokenizer
from ecgkit.tasks import maml
from ecgkit.types import ConfigError

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import fewshot as benchmark  # noqa: E402
import published_fewshot as published  # noqa: E402

N_TASKS, N_SUPPORT, N_QUERY, FEATURES, WIDTH, N_PREFIX, HEADS, LR = 3, 2, 4, 6, 32, 2, 4, 0.02
QUESTIONS = ["Is atrial fibrillation present?", "Would you report noise in lead V1?"]
ANSWERS = ["yes", "no", "no", "yes", "yes", "no"]


@pytest.fixture(scope="module")
def reader() -> PrefixLLM:
    torch.manual_seed(0)
    texts = [f"Question: {q} ECG: Answer: yes no" for q in QUESTIONS] * 2
    tokenizer = train_tokenizer(texts, 300)
    return PrefixLLM(build_small_llm(len(tokenizer), WIDTH, n_layers=2, n_heads=4), tokenizer)


@pytest.fixture
def mapper() -> nn.Module:
    torch.manual_seed(2)
    return build_mapper("attention", FEATURES, WIDTH, N_PREFIX, HEADS, dropout=0.0)


@pytest.fixture
def rows() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    both = torch.randn(N_TASKS, N_SUPPORT + N_QUERY, FEATURES, generator=generator)
    return both[:, :N_SUPPORT], both[:, N_SUPPORT:]


class Layout:
    """Each task's answers, as the kit reads them (`read`, batched) and plainly (`plain_loss`)."""

    cut = {"support": slice(0, N_SUPPORT), "query": slice(N_SUPPORT, None), "both": slice(None)}

    def __init__(self, reader: PrefixLLM):
        self.reader = reader
        per_task = [ANSWERS[i:] + ANSWERS[:i] for i in range(N_TASKS)]
        asked = [QUESTIONS[(i + j) % 2] for i in range(N_TASKS) for j in range(len(ANSWERS))]
        self.ids, targets = reader.encode_reference(asked, sum(per_task, []))
        self.ids = self.ids.unflatten(0, (N_TASKS, -1))
        self.targets = targets.unflatten(0, (N_TASKS, -1))  # (T, S + Q, A)

    def read(self, prefix, part):
        ids, targets = (x[:, self.cut[part]].flatten(0, 1) for x in (self.ids, self.targets))
        logits = self.reader.reference_logits(prefix.flatten(0, 1), ids, targets.shape[1])
        scores = token_scores(logits, targets)
        return {name: value.unflatten(0, prefix.shape[:2]) for name, value in scores.items()}

    def plain_loss(self, weights, features, task: int, part: str):
        """Whole sequence, whole vocabulary at every position."""
        ids, targets = self.ids[task, self.cut[part]], self.targets[task, self.cut[part]]
        prefix = plain_mapper(weights, features)
        words = self.reader.llm.get_input_embeddings()(ids)
        logits = self.reader.llm(inputs_embeds=torch.cat([prefix, words], 1)).logits
        said = logits[:, N_PREFIX - 1 : N_PREFIX - 1 + targets.shape[1]]
        losses = [F.cross_entropy(x, y) for x, y in zip(said, targets, strict=True)]
        return torch.stack(losses).mean()  # a row counts once, however many tokens it has


def plain_mapper(w, features):
    """Set-Transformer block over [learned tokens ; ECG], written out, all tokens to the end."""
    x = torch.stack([torch.cat([w["tokens"], row[None]]) for row in features])  # (B, P + 1, F)
    q, k, v = (x @ w[f"{n}.weight"].T + w[f"{n}.bias"] for n in ("query", "key", "value"))
    heads, size = [], WIDTH // HEADS
    for h in range(HEADS):
        own = slice(h * size, (h + 1) * size)
        scores = q[..., own] @ k[..., own].mT / math.sqrt(WIDTH)
        heads.append(q[..., own] + scores.softmax(-1) @ v[..., own])
    o = plain_norm(torch.cat(heads, -1), w, "norm1")
    o = plain_norm(o + F.leaky_relu(o @ w["out.weight"].T + w["out.bias"]), w, "norm2")
    return o[:, :N_PREFIX]


def plain_norm(x, w, name):
    x = x - x.mean(-1, keepdim=True)
    x = x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    return x * w[f"{name}.weight"] + w[f"{name}.bias"]


def plain_maml(mapper, rows, layout, n_steps, second_order=False, only=None, first=2):
    """Task by task, every graph kept: final weights, support and query losses, outer gradient."""
    start = {name: p.detach().clone().requires_grad_() for name, p in mapper.named_parameters()}
    total, finals, support_losses, query_losses = 0.0, [], [], []
    for task in range(N_TASKS):
        weights, s_losses, q_losses = dict(start), [], []
        for step in range(n_steps + 1):
            q_losses.append(layout.plain_loss(weights, rows[1][task], task, "query"))
            if step == n_steps:
                break
            loss = layout.plain_loss(weights, rows[0][task], task, "support")
            s_losses.append(loss.item())
            names = [n for n in weights if only is None or n in only]
            slopes = torch.autograd.grad(
                loss, [weights[n] for n in names], create_graph=second_order
            )
            weights = weights | {n: weights[n] - LR * g for n, g in zip(names, slopes, strict=True)}
        total = total + torch.stack(q_losses[min(first, n_steps) :]).mean() / N_TASKS
        finals.append(weights)
        support_losses.append(s_losses)
        query_losses.append([x.item() for x in q_losses])
    found = torch.autograd.grad(total, list(start.values()))
    gradient = dict(zip(start, found, strict=True))
    return finals, torch.tensor(support_losses), torch.tensor(query_losses), gradient


def assert_same_gradient(ours, plain):
    scale = max(g.norm() for g in plain.values())
    for name, theirs in plain.items():
        if name == "key.bias":  # softmax does not feel it: its true gradient is 0
            assert ours[name].norm() < 1e-6 * scale
        else:
            assert (ours[name] - theirs).norm() <= 1e-5 * theirs.norm(), name


@pytest.fixture
def layout(reader) -> Layout:
    return Layout(reader)


# --- parity ---------------------------------------------------------------------------------------


def test_the_mapper_is_the_written_out_block(mapper, rows):
    torch.testing.assert_close(
        mapper(rows[0][0])["prefix"],
        plain_mapper(dict(mapper.named_parameters()), rows[0][0]),
        atol=1e-5, rtol=1e-5,
    )  # fmt: skip


@pytest.mark.parametrize("second_order", [False, True])
@pytest.mark.parametrize("only", [None, ("out.weight", "out.bias")])
@pytest.mark.parametrize("n_steps", [1, 4])
def test_losses_weights_and_outer_gradient_are_those_of_plain_autograd(
    mapper, rows, layout, n_steps, only, second_order
):
    """K = 1: the published outer loss is a mean over nothing (NaN); ours is that of theta_1."""
    with sdpa_kernel(SDPBackend.MATH):  # the other kernels have no second derivative
        finals, support, query, gradient = plain_maml(
            mapper, rows, layout, n_steps, second_order, only
        )
    done = maml.inner_loop(
        mapper, *rows, layout.read, n_steps, LR, outer_from=2, score_at=range(n_steps + 1),
        second_order=second_order, only=only,
    )  # fmt: skip
    ours = torch.stack([done.support[k]["loss"].mean(1) for k in range(n_steps)], 1)
    torch.testing.assert_close(ours, support, atol=1e-5, rtol=0)
    ours = torch.stack([done.query[k]["loss"].mean(1) for k in range(n_steps + 1)], 1)
    torch.testing.assert_close(ours, query, atol=1e-5, rtol=0)
    for task, weights in enumerate(finals):
        for name, value in weights.items():
            torch.testing.assert_close(done.params[name][task], value, atol=1e-6, rtol=1e-5)
    assert done.finite.all()
    assert_same_gradient(done.mean_gradient(), gradient)


def test_the_orders_differ_where_it_matters(mapper, rows, layout):
    """So that the test above cannot pass by both being first order."""
    gradients = [
        maml.inner_loop(mapper, *rows, layout.read, 4, LR, outer_from=2, second_order=second)
        .mean_gradient()["value.weight"]
        for second in (False, True)
    ]  # fmt: skip
    assert (gradients[0] - gradients[1]).norm() > 1e-3 * gradients[0].norm()


def test_second_order_sees_the_dropout_that_the_inner_step_drew(rows, layout):
    """With live dropout, the sweep back repeats each step's own masks: its losses are the same."""
    torch.manual_seed(4)
    dropping = build_mapper("attention", FEATURES, WIDTH, N_PREFIX, HEADS, 0.5, always_drop=True)
    seen = []

    def read(prefix, part):
        out = layout.read(prefix, part)
        seen.append(out["loss"][:, :N_SUPPORT].detach().clone())
        return out

    maml.inner_loop(dropping, *rows, read, 3, LR, outer_at={3}, second_order=True)
    forward, back = seen[:3], seen[4:]  # seen[3] is the query
    assert len(back) == 3
    for one, again in zip(forward, reversed(back), strict=True):
        torch.testing.assert_close(one, again)


def test_only_the_named_parameters_adapt(mapper, rows, layout):
    only = ("norm2.weight", "norm2.bias")
    done = maml.inner_loop(mapper, *rows, layout.read, 2, LR, only=only)
    for name, p in mapper.named_parameters():
        moved = not torch.equal(done.params[name], p.expand(N_TASKS, *p.shape))
        assert moved is (name in only)
    with pytest.raises(ConfigError, match="no parameter head"):
        maml.inner_loop(mapper, *rows, layout.read, 2, LR, only=("head",))


def test_outer_steps_are_those_published_and_one_for_a_single_step():
    assert maml.outer_steps(5) == {2, 3, 4, 5} and maml.outer_steps(1) == {1}
    assert maml.outer_steps(3, first=3) == {3} and maml.outer_steps(2, first=0) == {0, 1, 2}


def test_the_query_is_read_only_where_asked(mapper, rows, layout):
    parts = []

    def read(prefix, part):
        parts.append((part, prefix.requires_grad))
        return layout.read(prefix, part)

    done = maml.inner_loop(mapper, *rows, read, 3, LR, score_at={3})
    assert parts == [("support", True)] * 3 + [("query", False)]
    assert set(done.query) == {3} and done.outer_gradient is None


# --- a task that fails ----------------------------------------------------------------------------


def breaking(layout, task: int, at: int, how: str):
    """The layout's reader, whose `at`-th reading (0-based) spoils one task's support."""
    calls = []

    def read(prefix, part):
        calls.append(part)
        if how == "gradient" and len(calls) - 1 == at:
            spoil = torch.zeros(prefix.shape[:2])
            spoil[task, 0] = 1.0
            prefix.register_hook(
                lambda g: torch.where(spoil[..., None, None] > 0, g / 0.0, g)
            )
        out = layout.read(prefix, part)
        if how == "loss" and len(calls) - 1 == at:
            factor = torch.ones(prefix.shape[:2])
            factor[task, 0] = float("nan")
            out = out | {"loss": out["loss"] * factor}
        return out

    return read


@pytest.mark.parametrize("how", ["loss", "gradient"])
@pytest.mark.parametrize("second_order", [False, True])
def test_a_task_that_is_not_finite_is_frozen_flagged_and_not_averaged_in(
    mapper, rows, layout, how, second_order
):
    read = breaking(layout, task=1, at=2, how=how)
    done = maml.inner_loop(
        mapper, *rows, read, 4, LR, outer_from=2, second_order=second_order
    )
    good = maml.inner_loop(
        mapper, *rows, layout.read, 4, LR, outer_from=2, second_order=second_order
    )
    two = maml.inner_loop(mapper, *rows, layout.read, 2, LR)
    assert done.finite.tolist() == [True, False, True]
    for name, params in done.params.items():
        torch.testing.assert_close(params[1], two.params[name][1])  # its last finite weights
        torch.testing.assert_close(params[[0, 2]], good.params[name][[0, 2]])
        expected = good.outer_gradient[name][[0, 2]].mean(0)
        torch.testing.assert_close(done.mean_gradient()[name], expected)
    assert done.mean(done.query[4]["loss"]).isfinite()


def test_a_query_that_is_not_finite_flags_its_task(mapper, rows, layout):
    query = rows[1].clone()
    query[2, 0, 0] = float("inf")
    done = maml.inner_loop(mapper, rows[0], query, layout.read, 2, LR, outer_from=2)
    assert done.finite.tolist() == [True, True, False]
    assert all(g.isfinite().all() for g in done.mean_gradient().values())


def test_nothing_is_learnt_where_no_task_is_finite(mapper, rows, layout):
    done = maml.inner_loop(
        mapper, rows[0] * float("nan"), rows[1], layout.read, 2, LR, outer_from=2
    )
    assert not done.finite.any() and done.mean(done.query[2]["loss"]).isnan()
    assert all((g == 0).all() for g in done.mean_gradient().values())


# --- memory ---------------------------------------------------------------------------------------


def test_what_is_kept_for_the_backward_pass_does_not_grow_with_the_steps(mapper, rows, layout):
    """Tensors saved by autograd and alive at once, at most."""

    def peak(n_steps):
        alive, most = [0], [0]

        class Saved:
            def __init__(self, x):
                self.x = x
                alive[0] += x.numel()
                most[0] = max(most[0], alive[0])

            def __del__(self):
                alive[0] -= self.x.numel()

        with torch.autograd.graph.saved_tensors_hooks(Saved, lambda kept: kept.x):
            maml.inner_loop(mapper, *rows, layout.read, n_steps, LR, outer_from=2)
        return most[0]

    assert peak(9) <= 1.02 * peak(3)


def test_a_carried_gradient_arrives_unchanged():
    mapper = build_mapper("linear", 4, 8)
    gradient = {name: torch.randn_like(p) for name, p in mapper.named_parameters()}
    loss = maml.carry_gradient(torch.tensor(1.5), mapper, gradient)
    loss.backward()
    assert loss.item() == pytest.approx(1.5)
    for name, p in mapper.named_parameters():
        torch.testing.assert_close(p.grad, gradient[name])


# --- the benchmark --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    args = benchmark.parse(["--quick", "--threads", "1"])
    return benchmark.Work(args, tmp_path_factory.mktemp("benchmark"))


def test_the_benchmark_runs_and_ends_with_its_figures(capsys):
    """It stops by itself where the two sides do not have the same losses and gradients."""
    n_threads = torch.get_num_threads()
    benchmark.main(["--quick", "--smoke", "--threads", "1"])
    torch.set_num_threads(n_threads)
    said = capsys.readouterr().out
    assert "FLOP" in said and "h for 10,000 episodes" in said
    figures = json.loads(said.strip().splitlines()[-1])
    assert list(figures) == ["train_ratio", "test_ratio", "encoder_ratio", "memory_ratio"]
    assert all(value > 0 for value in figures.values())


def test_sides_that_do_not_compute_the_same_are_not_timed(work, monkeypatch):
    monkeypatch.setattr(benchmark, "meta_loss", lambda model, tasks, n_steps, lr, first: (
        1.001 * published.meta_loss(model, tasks, n_steps, lr, first)))  # fmt: skip
    with pytest.raises(SystemExit, match="say nothing"):
        benchmark.compare(work, work.args)


def test_the_baseline_calls_the_language_model_as_often_as_the_published_code(work):
    """15 steps: 15 support, 16 query and 16 x 25 single passes; here 2 steps."""
    model = work.published()
    published.meta_loss(model, work.published_tasks(1, 0), 2, benchmark.LR)
    assert model.n_passes == 2 + 3 + 3 * 25


def test_ours_multiplies_little_more_than_the_floor(work):
    """Counted operations of an outer step, the mapper's own left out by a reader of zero work."""
    task, steps = work.task, work.args.steps

    def count(task_reads):
        with FlopCounterMode(display=False) as counter:
            batch = task.batch(**work.positions(1, 0))
            read = task.open_reader(batch) if task_reads else lambda prefix, part: {
                "loss": prefix.sum((-1, -2))}  # fmt: skip
            maml.inner_loop(work.mapper, *task.embeddings(batch), read, steps, 0.1, outer_from=2)
        return counter.get_total_flops()

    needed = benchmark.episode_flops(work, steps - 1, 0)
    assert 0.9 * needed <= count(True) - count(False) <= 1.15 * needed
