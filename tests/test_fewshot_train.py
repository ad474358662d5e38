"""Meta-training: what each method does to the mapper, resume, episodes that are not finite, memory,
and the published flags.
"""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from few_shot_stand_in import Sampler, make_config, make_task
from launching import launched
from torch import nn
from torch.func import functional_call
from torch.profiler import ProfilerActivity, profile

from ecgkit.config import FewShotConfig
from ecgkit.config.fewshot import METHODS
from ecgkit.data.ecgqa import open_questions
from ecgkit.tasks import (
    fewshot_flags,
    fewshot_setup,
    fewshot_task,
    fewshot_train,
    maml,
    meta_memory,
    meta_methods,
)
from ecgkit.types import ConfigError, ModelError


@pytest.fixture(scope="module")
def task() -> fewshot_task.FewShotTask:
    return make_task()


@pytest.fixture
def batch(task) -> dict[str, torch.Tensor]:
    sampler = Sampler()
    return task.positions([sampler[0], sampler[1], sampler[2]])


def gradients(task, mapper, batch, config) -> dict[str, torch.Tensor]:
    mapper.zero_grad(set_to_none=True)
    out = fewshot_train.meta_loss(task, mapper, batch, config)
    out["loss"].backward()
    return {name: p.grad.clone() for name, p in mapper.named_parameters()}


def weights(mapper: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in mapper.named_parameters()}


def assert_same(ours, theirs, **tolerance):
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], msg=name, **tolerance)


# --- methods --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cohort_study(tiny_cohort):
    config = FewShotConfig.from_params({"preset": "tiny"})
    questions = fewshot_setup.focus(open_questions(config, tiny_cohort, quiet=True), config)
    features = np.random.default_rng(0).standard_normal((len(tiny_cohort), 16))
    task = fewshot_task.FewShotTask(questions, features, make_task().reader, "sound", "cpu")
    return task, fewshot_setup.open_parts(questions, config).train, config


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_on_the_tiny_cohort(cohort_study, method, tmp_path, capsys):
    task, sampler, config = cohort_study
    config = dataclasses.replace(config, method=method)
    start = weights(fewshot_train.new_mapper(task, config))
    mapper, log = fewshot_train.meta_train(task, sampler, config, tmp_path)
    moved = [not torch.equal(start[name], p) for name, p in weights(mapper).items()]
    assert not mapper.training and log.finished
    assert {"step", "loss", "support_loss", "exact", "flagged"} <= set(log.table.columns)
    if method == "none":
        assert not any(moved) and log.table.empty and log.last == {}
        return
    assert any(moved) and log.table["step"].tolist() == [1, 2, 3, 4]
    assert np.isfinite(log.table).all().all() and (log.table["flagged"] == 0).all()
    assert "A step of meta-training takes about" in capsys.readouterr().out


@pytest.mark.parametrize("method,n_steps", [("maml", 70), ("supervised", 120)])
def test_overfits_one_episode(task, method, n_steps, tmp_path):
    config = make_config(
        method=method, meta_steps=n_steps, tasks_per_step=1, outer_lr=2e-2, inner_lr=0.02,
        inner_steps=2,
    )  # fmt: skip
    one = [Sampler(k_shot=1)[3]] * n_steps
    _, log = fewshot_train.meta_train(task, one, config, tmp_path)
    best = log.table.loc[log.table["loss"].idxmin()]
    assert best["loss"] < 0.05 * log.table["loss"].iloc[0] and best["exact"] == 1


def test_reptile_goes_from_theta_towards_theta_k(task, batch):
    config = make_config(method="reptile", inner_steps=3)
    mapper = fewshot_train.new_mapper(task, config)
    found = gradients(task, mapper, batch, config)
    total = {name: torch.zeros_like(p) for name, p in mapper.named_parameters()}
    for i in range(3):
        adapted = plain_sgd(task, mapper, {k: v[i : i + 1] for k, v in batch.items()}, config)
        for name, p in mapper.named_parameters():
            total[name] += (p - adapted[name]).detach() / 3
    assert_same(found, total, atol=1e-6, rtol=1e-4)


def plain_sgd(task, mapper, episode, config):
    """Adapted weights of one episode, support and query rows alike, by autograd."""
    batch = task.batch(**episode)
    rows = torch.cat(task.embeddings(batch), 1)[0]
    params = dict(mapper.named_parameters())
    for _ in range(config.inner_steps):
        prefix = functional_call(mapper, params, (rows,))["prefix"]
        loss = task.open_reader(batch)(prefix[None], "both")["loss"].mean()
        slopes = torch.autograd.grad(loss, list(params.values()))
        params = {
            name: (p - config.inner_lr * g).detach().requires_grad_()
            for (name, p), g in zip(params.items(), slopes, strict=True)
        }
    return params


def test_anil_adapts_the_last_layer_alone_and_learns_all(task, batch, monkeypatch):
    seen, inner_loop = [], maml.inner_loop
    monkeypatch.setattr(
        maml, "inner_loop", lambda *a, **k: seen.append(inner_loop(*a, **k)) or seen[-1]
    )
    config = make_config(method="anil")
    mapper = fewshot_train.new_mapper(task, config)
    start, found = weights(mapper), gradients(task, mapper, batch, config)
    for name, adapted in seen[0].params.items():
        same = torch.equal(adapted, start[name].expand_as(adapted))
        assert same is not name.startswith(("out.", "norm2.")), name
    assert all(found[name].abs().sum() > 0 for name in ("tokens", "query.weight", "value.weight"))


@pytest.mark.parametrize("kind", meta_methods.LAST_LAYER)
def test_the_last_layer_of_every_mapper_is_known_and_not_all_of_it(task, kind):
    mapper = fewshot_train.new_mapper(task, make_config(mapper=kind))
    names = meta_methods.last_layer(mapper, "whatever")
    starts = meta_methods.LAST_LAYER[kind]
    assert {start for start in starts for name in names if name.startswith(start)} == set(starts)
    assert len(names) < len(list(mapper.parameters()))
    mapper_output = [n for n, p in mapper.named_parameters() if p.shape[0] in (32, 4 * 32)]
    assert set(names) <= set(mapper_output)  # as wide as the language model


def test_a_mapper_without_a_known_last_layer_is_refused():
    with pytest.raises(ConfigError, match="METHOD is anil.*METHOD=maml"):
        meta_methods.last_layer(nn.Linear(2, 2), "attention")


def test_second_order_is_another_gradient_of_the_same_loss(task, batch):
    first = make_config(method="maml", inner_lr=0.5)
    second = dataclasses.replace(first, method="maml2")
    mapper = fewshot_train.new_mapper(task, first)
    losses = [fewshot_train.meta_loss(task, mapper, batch, c)["loss"] for c in (first, second)]
    assert losses[0].item() == pytest.approx(losses[1].item())
    ours, theirs = (gradients(task, mapper, batch, c)["value.weight"] for c in (first, second))
    assert (ours - theirs).norm() > 1e-3 * ours.norm()


def test_supervised_is_the_mean_over_all_rows_and_in_context_the_same(task, batch):
    config = make_config(method="supervised")
    mapper = fewshot_train.new_mapper(task, config)
    found = gradients(task, mapper, batch, config)
    twin = dataclasses.replace(config, method="in-context")
    assert_same(found, gradients(task, mapper, batch, twin))
    rows = task.batch(**batch)
    prefix = mapper(torch.cat(task.embeddings(rows), 1).flatten(0, 1))["prefix"]
    answer = rows.answer.flatten()
    loss = task.score(task.remember(rows), prefix, answer)["loss"].mean()
    theirs = torch.autograd.grad(loss, list(mapper.parameters()))
    assert_same(found, dict(zip(found, theirs, strict=True)), atol=1e-6, rtol=1e-4)


def test_the_published_first_counted_step_is_a_setting(task, batch):
    losses = []
    for first in (0, 2):
        config = make_config(outer_from=first)
        mapper = fewshot_train.new_mapper(task, config)
        losses.append(fewshot_train.meta_loss(task, mapper, batch, config)["loss"].item())
    assert losses[0] > losses[1]  # with theta_0 and theta_1 among them it is higher


def test_quirks_choose_mapper_and_dropout():
    config = make_config(mapper="linear", mapper_dropout=0.1)
    released = fewshot_train.new_mapper(make_task("reference"), config)
    assert type(released).__name__ == "AttentionMapper"
    assert released.always_drop and released.dropout == 0.5
    some = fewshot_train.new_mapper(make_task("reference", quirks={"question_blind"}), config)
    assert type(some).__name__ == "FeedForwardMapper"


# --- the loop -------------------------------------------------------------------------------------


def test_an_interrupted_training_resumes_exactly_with_dropout(task, tmp_path):
    config = make_config(mapper_dropout=0.3, meta_steps=6)
    whole, log = fewshot_train.meta_train(task, Sampler(), config, tmp_path / "whole")
    for stop_at in (5, 9):  # episodes: within the third and the fifth step
        folder = tmp_path / f"killed_{stop_at}"
        with pytest.raises(KeyboardInterrupt):
            fewshot_train.meta_train(
                task, Sampler(stop_at), config, folder, checkpoint_every=2
            )
        assert (folder / "state").exists()
        torch.manual_seed(99)
        resumed, other = fewshot_train.meta_train(
            task, Sampler(), config, folder, checkpoint_every=2
        )
        assert_same(weights(resumed), weights(whole), atol=0, rtol=0)
        np.testing.assert_array_equal(log.table["loss"], other.table["loss"])


def test_the_time_budget_stops_and_the_next_call_goes_on(task, tmp_path):
    config = make_config(meta_steps=3)
    whole, _ = fewshot_train.meta_train(task, Sampler(), config, tmp_path / "whole")
    _, log = fewshot_train.meta_train(
        task, Sampler(), config, tmp_path / "cut", time_budget_s=0.0
    )
    assert not log.finished
    again, log = fewshot_train.meta_train(task, Sampler(), config, tmp_path / "cut")
    assert log.finished
    assert_same(weights(again), weights(whole), atol=0, rtol=0)


def test_another_method_in_the_same_folder_is_trained_anew(task, tmp_path):
    config = make_config(meta_steps=1)
    fewshot_train.meta_train(task, Sampler(), config, tmp_path, "x")
    assert fewshot_train.meta_train(task, Sampler(), config, tmp_path, "x")[1].reused
    other = dataclasses.replace(config, method="reptile")
    assert not fewshot_train.meta_train(task, Sampler(), other, tmp_path, "x")[1].reused


def test_two_processes_share_their_gradients(task, tmp_path):
    launched("distributed_meta.py", [tmp_path / "two"], 2)
    config = make_config(meta_steps=3, tasks_per_step=3)
    _, log = fewshot_train.meta_train(task, Sampler(), config, tmp_path / "one")
    two = pd.read_csv(tmp_path / "two" / "log.csv")
    np.testing.assert_allclose(two["loss"], log.table["loss"], rtol=1e-4)


# --- episodes that are not finite -----------------------------------------------------------------


@pytest.mark.parametrize("method", ["maml", "maml2", "anil", "reptile", "supervised"])
def test_an_episode_that_is_not_finite_is_left_out(method, batch):
    task, config = make_task(), make_config(method=method)
    mapper = fewshot_train.new_mapper(task, config)
    others = {name: value[[0, 2]] for name, value in batch.items()}
    alone = gradients(task, mapper, others, config)
    everywhere = torch.cat([batch["support"], batch["query"]], 1)
    spoil(task, next(i for i in batch["support"][1] if (everywhere == i).sum() == 1))
    out = fewshot_train.meta_loss(task, mapper, batch, config)
    assert out["finite"].tolist() == [True, False, True]
    assert out["loss"].isfinite() and out["exact"].isfinite() and out["support_loss"].isfinite()
    assert_same(gradients(task, mapper, batch, config), alone, atol=1e-6, rtol=1e-4)


def spoil(task, position) -> None:
    task.features[task.record[position]] = float("nan")


def test_episodes_left_out_are_counted_and_named(tmp_path):
    task, config = make_task(), make_config(meta_steps=4, tasks_per_step=2)
    asked = [np.concatenate([e.support, e.query]) for e in (Sampler()[i] for i in range(8))]
    rows, times = np.unique(np.concatenate(asked), return_counts=True)
    spoil(task, next(i for i in asked[5] if times[rows == i] == 1))
    mapper, log = fewshot_train.meta_train(task, Sampler(), config, tmp_path)
    assert log.table["flagged"].tolist().count(0.5) == 1 and log.table["flagged"].sum() == 0.5
    flagged = pd.read_csv(tmp_path / "flagged.csv")
    assert flagged["episode"].tolist() == [5] and flagged["training"].nunique() == 1
    assert all(p.isfinite().all() for p in mapper.parameters())


def test_a_flagged_episode_is_written_once(tmp_path):
    for training in ("a", "a", "b"):
        fewshot_train.FlaggedEpisodes(tmp_path, training).add([3, 4])
    table = pd.read_csv(tmp_path / "flagged.csv")
    assert table["training"].tolist() == ["a", "a", "b", "b"]
    assert table["episode"].tolist() == [3, 4, 3, 4]


@pytest.mark.parametrize("method", ["maml", "reptile", "supervised"])
def test_a_step_without_a_finite_episode_stops_in_a_sentence(method, tmp_path):
    task = make_task()
    task.features[:] = float("nan")
    with pytest.raises(ModelError, match="not finite at step 0"):
        fewshot_train.meta_train(task, Sampler(), make_config(method=method), tmp_path)
    assert len(pd.read_csv(tmp_path / "flagged.csv")) == 2
    assert "episode " in (tmp_path / "bad_batch.json").read_text()


# --- LoRA -----------------------------------------------------------------------------------------


class WithLora(nn.Module):
    """A linear layer with a trainable low-rank term beside it."""

    def __init__(self, base: nn.Linear):
        super().__init__()
        self.base = base
        self.lora_A = nn.Parameter(torch.randn(2, base.in_features) * 0.1)
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, 2))

    def forward(self, x):
        return self.base(x) + x @ self.lora_A.T @ self.lora_B.T


def lora_task():
    task = make_task()
    for layer in task.reader.llm.model.layers:
        layer.self_attn.q_proj = WithLora(layer.self_attn.q_proj)
    return task


@pytest.mark.parametrize("method", meta_methods.METHODS_WITH_LORA)
def test_lora_learns_beside_the_mapper_and_is_reloaded(method, tmp_path):
    config = make_config(method=method, frozen_lm=False, meta_steps=2)
    task = lora_task()
    before = weights(task.reader.llm)
    fewshot_train.meta_train(task, Sampler(), config, tmp_path)
    after = weights(task.reader.llm)
    for name in before:
        assert torch.equal(before[name], after[name]) is ("lora_" not in name), name
    again = lora_task()
    assert_same(weights(again.reader.llm), before, atol=0, rtol=0)
    _, log = fewshot_train.meta_train(again, Sampler(), config, tmp_path)
    assert log.reused
    assert_same(weights(again.reader.llm), after, atol=0, rtol=0)


def test_lora_starts_at_zero_whatever_was_trained_before(tmp_path):
    config = make_config(method="supervised", frozen_lm=False, meta_steps=2)
    task, logs = lora_task(), []
    for name in ("first", "second"):
        logs.append(fewshot_train.meta_train(task, Sampler(), config, tmp_path / name)[1])
    np.testing.assert_array_equal(*(log.table["loss"] for log in logs))


@pytest.mark.parametrize("method", ["maml2", "reptile"])
def test_lora_is_refused_where_it_is_not_sound(method, tmp_path):
    config = make_config(method=method, frozen_lm=False)
    with pytest.raises(ConfigError, match=f"METHOD is {method} and FROZEN_LM"):
        fewshot_train.meta_train(lora_task(), Sampler(), config, tmp_path)


# --- memory ---------------------------------------------------------------------------------------


def peak_bytes(run) -> int:
    """Most bytes that torch held at once on the CPU while `run()` ran, beyond those before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        run()
    events = [e for e in found.profiler.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda e: e.start_ns())
    return int(np.cumsum([e.nbytes() for e in events]).max())


@pytest.mark.parametrize("method", ["maml", "maml2", "supervised"])
def test_the_estimate_is_near_the_measured_peak(method):
    task = make_task(width=128)
    config = make_config(method=method, tasks_per_step=6, k_shot=4, n_query=4, inner_steps=4)
    mapper, sampler = fewshot_train.new_mapper(task, config), Sampler(k_shot=4)
    batch = task.positions([sampler[i] for i in range(6)])
    peak = peak_bytes(lambda: gradients(task, mapper, batch, config))
    memory = meta_memory.estimate(task, mapper, config)
    assert 0.75 < (memory.total - memory.llm) / peak < 1.35


def test_first_order_does_not_grow_with_inner_steps_and_second_order_does(task):
    def total(**changed):
        config = make_config(outer_from=0, **changed)
        return meta_memory.estimate(task, fewshot_train.new_mapper(task, config), config).total

    assert total(inner_steps=3) == total(inner_steps=15)
    assert total(inner_steps=3, method="maml2") < total(inner_steps=15, method="maml2")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_out_of_memory_names_the_knobs_most_effective_first(error, tmp_path, monkeypatch):
    task = make_task()
    config = make_config(
        method="maml2", tasks_per_step=8, n_query=4, k_shot=4, llm="given", llm_dtype="float32"
    )

    def hungry(batch):
        raise error

    monkeypatch.setattr(task, "open_reader", hungry)
    with pytest.raises(ModelError) as found:
        fewshot_train.meta_train(task, Sampler(), config, tmp_path)
    message = str(found.value)
    assert "TASKS_PER_STEP=4" in message and "ACCUMULATE" not in message
    for knob in ("N_QUERY=2", "K_SHOT=2", "METHOD=maml ", "LLM_DTYPE=bfloat16", "LLM_4BIT"):
        assert knob in message, knob
    assert message.index("TASKS_PER_STEP") < message.index("N_QUERY=2")


def test_another_error_stays_what_it_is(tmp_path, monkeypatch):
    task = make_task()
    monkeypatch.setattr(task, "open_reader", lambda batch: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fewshot_train.meta_train(task, Sampler(), make_config(), tmp_path)


def test_sizes_are_read_off_other_models_too():
    from transformers import GPT2Config, GPT2LMHeadModel

    llm = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=100))
    sizes = meta_memory.sizes_of(llm)
    assert (sizes.width, sizes.feed_forward, sizes.keys, sizes.layers) == (32, 128, 32, 2)
    assert sizes.words == 100 and sizes.n_bytes == 4


# --- flags ----------------------------------------------------------------------------------------


def test_every_published_flag_stands_for_settings_that_exist():
    fields = {field.name for field in dataclasses.fields(FewShotConfig)}
    for flag, here in fewshot_flags.OLD_FLAGS.items():
        named = fewshot_flags.settings_named(here)
        assert set(named) <= fields, flag
        assert named or here.startswith("none"), flag
    assert fewshot_flags.OLD_FLAGS.keys() == fewshot_flags.PUBLISHED_DEFAULTS.keys()
    table = fewshot_flags.flags_table()
    assert len(table) == 29 and not table["here"].str.contains("`").any()
    assert table.set_index("published flag").loc["k_spt", "here"] == "K_SHOT"
