"""The training loop: exact resume, reuse, budget, bad losses, schedules, precision."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from ecgkit.runtime import pick_precision
from ecgkit.tasks.engine import TrainSettings, fit
from ecgkit.tasks.schedule import SCHEDULES, batch_indices, lr_factor
from ecgkit.types import ModelError

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
