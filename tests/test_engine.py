"""The training loop: exact resume, reuse, budget, bad losses, schedules, precision."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from launching import launched

from ecgkit.runtime import pick_precision
from ecgkit.tasks.batching import GroupedBatches, batch_indices, in_runs
from ecgkit.tasks.engine import TrainSettings, fit
from ecgkit.tasks.schedule import SCHEDULES, lr_factor
from ecgkit.types import ConfigError, ModelError

N_ITEMS = 40
X = torch.randn(N_ITEMS, 6, generator=torch.Generator().manual_seed(0))
Y = (X[:, :1] > 0).float()
SETTINGS = TrainSettings(
    n_steps=30, batch_size=8, lr=1e-2, checkpoint_every=7, log_every=5, device="cpu"
)


def net() -> torch.nn.Module:
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1))


def make_batch(indices, rng):
    noise = torch.from_numpy(rng.normal(0, 0.1, (len(indices), 6)).astype("float32"))
    return {"x": X[indices] + noise, "y": Y[indices]}


def loss_fn(model, batch):
    loss = torch.nn.functional.binary_cross_entropy_with_logits(model(batch["x"]), batch["y"])
    return {"loss": loss, "twice": 2 * loss}


def train(folder, settings=SETTINGS, loss=loss_fn, **kwargs):
    model = net()
    return model, fit(model, N_ITEMS, make_batch, loss, settings, folder, **kwargs)


def test_learns_and_writes_its_files(tmp_path):
    _, log = train(
        tmp_path, dataclasses.replace(SETTINGS, n_steps=150), evaluate=lambda m: {"a": 1.0}
    )
    assert log.finished and log.table.loss.iloc[-1] < 0.6 * log.table.loss.iloc[0]
    assert log.last["eval_a"] == 1.0 and log.table.step.is_unique
    assert {p.name for p in tmp_path.iterdir()} >= {
        "log.csv",
        "log.jsonl",
        "model.safetensors",
        "done.json",
    }
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("stop_at", [3, 7, 8, 20])
def test_a_killed_run_resumes_to_the_same_weights(tmp_path, stop_at):
    whole, log = train(tmp_path / "whole")
    calls = {"n": 0}

    def killed(model, batch):
        calls["n"] += 1
        if calls["n"] > stop_at:
            raise KeyboardInterrupt
        return loss_fn(model, batch)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", loss=killed)
    torch.manual_seed(99)  # whatever state the new process has must not matter
    resumed, log2 = train(tmp_path / "killed")
    for ours, theirs in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    np.testing.assert_array_equal(log.table.loss, log2.table.loss)
    assert log2.table.step.tolist() == log.table.step.tolist()


def test_a_finished_training_is_loaded_not_repeated(tmp_path):
    first, _ = train(tmp_path, fingerprint="a")
    second, log = train(tmp_path, fingerprint="a", loss=None)  # a step would crash
    assert log.reused and torch.equal(first[0].weight, second[0].weight)
    _, log = train(tmp_path, fingerprint="other data")
    assert not log.reused


def test_the_time_budget_stops_cleanly_and_the_next_call_goes_on(tmp_path):
    whole, _ = train(tmp_path / "whole")
    _, log = train(tmp_path / "cut", dataclasses.replace(SETTINGS, time_budget_s=0.0))
    assert not log.finished and (tmp_path / "cut" / "state").exists()
    resumed, log = train(tmp_path / "cut")
    assert log.finished and torch.equal(whole[0].weight, resumed[0].weight)


def test_a_loss_that_is_not_finite_names_its_batch(tmp_path):
    with pytest.raises(ModelError, match="not finite at step 0"):
        train(tmp_path, loss=lambda m, b: {"loss": m(b["x"]).sum() * float("nan")})
    assert len(json.loads((tmp_path / "bad_batch.json").read_text())["items"]) == 8


def test_nothing_to_train_is_said(tmp_path):
    with pytest.raises(ModelError, match="no items"):
        fit(net(), 0, make_batch, loss_fn, SETTINGS, tmp_path)


def test_every_item_once_per_epoch():
    epoch = np.concatenate([batch_indices(s, 40, 8, seed=3) for s in range(5)])
    assert sorted(epoch) == list(range(40))
    assert not np.array_equal(
        epoch, np.concatenate([batch_indices(s, 40, 8, 3) for s in range(5, 10)])
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_stay_between_zero_and_one(schedule):
    factors = [lr_factor(s, 100, schedule) for s in range(101)]
    assert all(0 <= f <= 1 for f in factors) and max(factors) > 0.95


def test_tri_stage_ends_at_five_percent():
    assert lr_factor(0, 1000, "tri_stage") == pytest.approx(0.01)
    assert lr_factor(300, 1000, "tri_stage") == 1.0
    assert lr_factor(1000, 1000, "tri_stage") == pytest.approx(0.05)


def test_precision_follows_the_device(monkeypatch):
    assert pick_precision("auto", torch.device("cpu")) == "fp32"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert pick_precision("auto", torch.device("cuda")) == "fp16"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert pick_precision("auto", torch.device("cuda")) == "bf16"


def test_bf16_on_cpu_trains_and_fp32_after_it_is_fp32(tmp_path):
    model, log = train(tmp_path / "bf16", dataclasses.replace(SETTINGS, precision="bf16"))
    assert np.isfinite(log.table.loss).all()
    assert not hasattr(model.forward, "__wrapped__")  # no autocast left behind
    dtypes = []

    def spy(model, batch):
        dtypes.append(model(batch["x"]).dtype)
        return loss_fn(model, batch)

    train(tmp_path / "fp32", loss=spy)
    assert set(dtypes) == {torch.float32}


def test_tensorboard_log_where_installed(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    monkeypatch.setenv("ECGKIT_TENSORBOARD", "1")
    train(tmp_path)
    assert list((tmp_path / "tensorboard").glob("events*"))


# --- micro-batches, processes ---------------------------------------------------------------------


def plain_batch(indices, rng):
    return {"x": X[indices], "y": Y[indices]}


def plain_net() -> torch.nn.Module:
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))


@pytest.mark.parametrize("accumulate", [2, 3, 8])
def test_micro_batches_are_the_same_updates(tmp_path, accumulate):
    tables = []
    for parts in (1, accumulate):
        settings = dataclasses.replace(SETTINGS, accumulate=parts)
        log = fit(plain_net(), N_ITEMS, plain_batch, loss_fn, settings, tmp_path / str(parts))
        tables.append(log.table)
    np.testing.assert_allclose(tables[0].loss, tables[1].loss, rtol=2e-5)
    np.testing.assert_allclose(tables[1].twice, 2 * tables[1].loss, rtol=1e-5)


def launch(folder, n_processes: int, n_steps: int = 30, budget: float = -1.0):
    """The log of tests/distributed_fit.py in so many gloo processes on the CPU."""
    launched("distributed_fit.py", (folder, n_steps, budget), n_processes)
    lines = (folder / "log.jsonl").read_text().splitlines()
    rows = pd.DataFrame([json.loads(line) for line in lines])
    return rows if rows.empty else rows.drop_duplicates("step", keep="last")


def test_two_processes_give_the_loss_curve_of_one_and_resume(tmp_path):
    one = launch(tmp_path / "one", 1)
    two = launch(tmp_path / "two", 2)
    assert len(one) == 6
    np.testing.assert_allclose(one.loss, two.loss, rtol=1e-5)
    np.testing.assert_allclose(one.eval_norm, two.eval_norm, rtol=1e-5)
    launch(tmp_path / "cut", 2, budget=0.0)
    assert (tmp_path / "cut" / "state" / "progress.json").exists()
    np.testing.assert_allclose(launch(tmp_path / "cut", 2).loss, two.loss, rtol=1e-5)


def test_out_of_memory_names_the_knobs(tmp_path):
    def hungry(model, batch):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with pytest.raises(ModelError, match="8 items.*ACCUMULATE above 1.*BATCH_SIZE below 8"):
        train(tmp_path, loss=hungry)
    with pytest.raises(RuntimeError, match="shape"):  # another error stays what it is

        def wrong(model, batch):
            raise RuntimeError("shape mismatch")

        train(tmp_path, loss=wrong)


def test_a_bad_batch_is_written_in_the_callers_words(tmp_path):
    with pytest.raises(ModelError):
        train(tmp_path, loss=lambda m, b: {"loss": m(b["x"]).sum() * float("inf")},
              names=lambda indices: [f"ecg {i}" for i in indices])
    written = json.loads((tmp_path / "bad_batch.json").read_text())["items"]
    assert len(written) == 8 and written[0].startswith("ecg ")


# --- best weights, early stop ---------------------------------------------------------------------


def scripted(values):
    """An evaluation that returns `values` one after the other."""
    left = iter(values)
    return lambda model: {"score": next(left)}


BEST = dataclasses.replace(SETTINGS, eval_every=5, best_metric="score")


def test_the_best_weights_are_kept_and_handed_back(tmp_path):
    at_best = {}

    def spy(model):
        score = [0.1, 0.9, 0.3, 0.2, 0.4, 0.5][spy.n]
        if spy.n == 1:
            at_best.update({k: v.clone() for k, v in model.state_dict().items()})
        spy.n += 1
        return {"score": score}

    spy.n = 0
    model, log = train(tmp_path, dataclasses.replace(BEST, keep="best"), evaluate=spy)
    assert log.best == {"step": 10, "value": 0.9} and log.table.step.iloc[-1] == 30
    assert all(torch.equal(v, at_best[k]) for k, v in model.state_dict().items())
    reread, log = train(tmp_path, dataclasses.replace(BEST, keep="best"), evaluate=spy)
    assert log.reused and log.best["step"] == 10
    assert all(torch.equal(v, at_best[k]) for k, v in reread.state_dict().items())


def test_the_last_weights_are_handed_back_unless_asked(tmp_path):
    plain, _ = train(tmp_path / "plain")
    model, log = train(tmp_path / "best", BEST, evaluate=scripted([3, 2, 1, 1, 1, 1]))
    assert log.best["step"] == 5 and (tmp_path / "best" / "best.safetensors").exists()
    assert torch.equal(model[0].weight, plain[0].weight)


def test_patience_ends_the_training(tmp_path):
    settings = dataclasses.replace(BEST, patience=2, best_mode="min")
    _, log = train(tmp_path, settings, evaluate=scripted([0.5, 0.4, 0.6, 0.4, 0.1, 0.1]))
    assert log.finished and log.table.step.max() == 20 and log.best == {"step": 10, "value": 0.4}


def test_early_stopping_survives_a_kill(tmp_path):
    settings = dataclasses.replace(BEST, patience=2, checkpoint_every=5)
    values = [0.5, 0.4, 0.3]
    with pytest.raises(StopIteration):  # killed in its fourth evaluation
        train(tmp_path, dataclasses.replace(settings, patience=3), evaluate=scripted(values))
    _, log = train(tmp_path, dataclasses.replace(settings, patience=3), evaluate=scripted([0.2]))
    assert log.table.step.max() == 20 and log.best == {"step": 5, "value": 0.5}


def test_contradictory_settings_are_sentences(tmp_path):
    with pytest.raises(ConfigError, match="best_metric is empty"):
        dataclasses.replace(SETTINGS, patience=2)
    with pytest.raises(ConfigError, match="micro-batch"):
        dataclasses.replace(SETTINGS, accumulate=9)
    with pytest.raises(ModelError, match="best_metric is 'auc'.*gives score"):
        train(tmp_path, dataclasses.replace(BEST, best_metric="auc"), evaluate=scripted([1]))


# --- order ----------------------------------------------------------------------------------------


def test_grouped_batches_are_of_one_kind_and_cover_each_epoch():
    group, length = np.arange(100) % 4 == 0, np.arange(100) % 17
    order = GroupedBatches(group, length, batch_size=5, n_steps=400, seed=3)
    again = GroupedBatches(group, length, batch_size=5, n_steps=400, seed=3)
    steps = [order(s) for s in range(400)]
    assert all(len(set(group[b])) == 1 for b in steps)
    np.testing.assert_array_equal(again(321), steps[321])  # needs no history
    singles = np.concatenate([b for b in steps if not group[b[0]]])
    for epoch in np.split(singles[: len(singles) // 75 * 75], len(singles) // 75):
        assert sorted(epoch) == np.flatnonzero(~group).tolist()
    share = np.mean([group[b[0]] for b in steps])
    assert 0.18 < share < 0.32  # a quarter of all items
    spread = np.mean([np.ptp(length[b]) for b in steps])
    shuffled = GroupedBatches(group, np.zeros(100), 5, 400, 3)
    assert spread < 0.5 * np.mean([np.ptp(length[shuffled(s)]) for s in range(400)])


def test_what_belongs_together_comes_in_runs_and_each_item_once_an_epoch():
    rng = np.random.default_rng(0)
    ecg = rng.integers(0, 30, 400)
    order = GroupedBatches(np.zeros(400), np.zeros(400), 40, 20, 0, window=1, together=ecg, run=4)
    batches = [order(s) for s in range(20)]
    for epoch in (batches[:10], batches[10:]):
        assert sorted(np.concatenate(epoch)) == list(range(400))
    n_ecgs = np.mean([len(np.unique(ecg[b])) for b in batches])
    apart = GroupedBatches(np.zeros(400), np.zeros(400), 40, 20, 0, window=1)
    assert n_ecgs < 13 < 0.7 * np.mean([len(np.unique(ecg[apart(s)])) for s in range(20)])
    runs = in_runs(np.arange(400), ecg, 4, rng)
    starts = np.flatnonzero(np.diff(ecg[runs])) + 1
    assert np.diff(np.r_[0, starts, 400]).max() >= 4 and not np.array_equal(batches[0], batches[10])


def test_shares_of_grouped_batches():
    group = np.arange(100) % 4
    order = GroupedBatches(group, np.zeros(100), 5, 500, 0, shares={0: 0.9, 1: 0.1})
    kinds = np.array([group[order(s)[0]] for s in range(500)])
    assert set(kinds) == {0, 1} and 0.85 < np.mean(kinds == 0) < 0.95
    with pytest.raises(ConfigError, match="one of the groups"):
        GroupedBatches(group, np.zeros(100), 5, 500, 0, shares={7: 1.0})
    small = GroupedBatches([0, 0, 1], [1, 2, 3], batch_size=8, n_steps=20, seed=0)
    assert {len(small(s)) for s in range(20)} == {1, 2}
