"""The benchmark of the risk study's cost: its baseline is the published network, number for number,
and so are the layers that make ours quicker.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ecgkit.models.cpu_layers import dropout, halve, norm_leaky
from ecgkit.models.losses_risk import cox_loss
from ecgkit.parity import risk as parity

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import published_risk  # noqa: E402
import risk_step  # noqa: E402

# --- the baseline ---


@pytest.mark.parametrize("name", ["risk_ae_small", "risk_ae_small_nolead", "risk_ae_small_notime"])
def test_baseline_gives_the_published_numbers(shared, name):
    golden = dict(np.load(shared / "golden" / f"{name}.npz"))
    a = {k: torch.as_tensor(v) for k, v in golden.items()}
    state = {k.removeprefix("sd/ae/"): v for k, v in a.items() if k.startswith("sd/ae/")}
    config = parity.infer_config(state, *a["in/x"].shape[1:])
    model = published_risk.PublishedAutoencoder(config).eval()
    model.load_state_dict(state)
    head = published_risk.PublishedHead(config.code_width).eval()
    head.load_state_dict(
        {k.removeprefix("sd/risk/"): v for k, v in a.items() if k.startswith("sd/risk/")}
    )
    out = model(a["in/x"])
    risk, hidden = head(out["z"])
    maps = out["time_attention"]
    found = out | {"log_risk": risk, "hidden3": hidden,
                   "time_attention": torch.stack(maps, 1) if maps else None}  # fmt: skip
    for key, tolerance in parity._ATOL.items():
        if found.get(key) is not None:
            gap = (found[key] - a[f"out/{key}"]).abs().max()
            assert gap < tolerance, key
    cox = published_risk.published_cox(risk, a["in/time"], a["in/event"])
    assert abs(cox - a["loss/cox"]) < 1e-5
    total = 0.5 * cox + 0.5 * F.mse_loss(out["recon"], a["in/x"])
    assert abs(total - a["loss/finetune_alpha0.5"]) < 1e-5
    total.backward()
    gradient = model.encoder.input_conv[0].weight.grad
    assert torch.allclose(gradient, a["grad/encoder.input_conv.0.weight"], rtol=1e-3, atol=1e-5)


def test_baseline_scores_pads_and_ranks_as_published(shared):
    preprocessing = np.load(shared / "golden" / "risk_preproc.npz")
    found = [published_risk.padded(published_risk.scored(x), 1024) for x in preprocessing["in/x"]]
    np.testing.assert_allclose(found, preprocessing["out/z_pad1024"], atol=1e-5)
    cases = np.load(shared / "golden" / "risk_cox.npz")
    for name in {key.split("/")[0] for key in cases}:
        theta, time, event = (torch.as_tensor(cases[f"{name}/{k}"])
                              for k in ("theta", "time", "event"))  # fmt: skip
        loss = published_risk.published_cox(theta.double()[:, None], time, event.bool())
        assert loss.item() == pytest.approx(float(cases[f"{name}/ref_loss"]), abs=1e-5), name


@pytest.mark.parametrize("task", risk_step.TASKS)
def test_all_sides_have_the_published_loss_and_gradients(task):
    [config] = risk_step.SMALL.values()
    risk_step.compare(config, task, risk_step.make_batch(config, 6), bf16=False)


def test_losses_that_differ_end_the_benchmark(monkeypatch):
    [config] = risk_step.SMALL.values()
    monkeypatch.setattr(risk_step, "alignment_cosine", lambda ecg, text: ecg.sum())
    with pytest.raises(SystemExit, match="not compute the same"):
        risk_step.compare(config, "pretrain", risk_step.make_batch(config, 6), bf16=False)


def test_it_ends_with_one_json_line(capsys):
    """Speed itself is no matter of a test."""
    pytest.importorskip("neurokit2", reason="the published loader cleans with neurokit2")
    n_threads = torch.get_num_threads()
    risk_step.main(["--quick", "--threads", "1"])
    torch.set_num_threads(n_threads)
    found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert set(found) == {"exact_ratio", "fast_ratio", "loader_ratio", "cox_ms_100k"}
    assert all(value > 0 for value in found.values())


# --- what makes it quick ---




@pytest.mark.parametrize("shape", [(3, 1, 12, 7), (2, 2, 12, 16), (2, 4, 5, 9), (4, 8, 12, 8)])
def test_norm_leaky_is_batch_norm_and_leaky_relu(shape):
    torch.manual_seed(0)
    norms = [torch.nn.BatchNorm2d(shape[1]) for _ in range(2)]
    with torch.no_grad():
        norms[0].weight.uniform_(-2, 2)
        norms[0].bias.normal_()
    norms[1].load_state_dict(norms[0].state_dict())
    x = (3 + torch.randn(shape)).contiguous(memory_format=torch.channels_last)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    wanted, found = F.leaky_relu(norms[0](a)), norm_leaky(b, norms[1])
    assert torch.allclose(found, wanted, atol=1e-5)
    upstream = torch.randn(shape) * (wanted.detach().abs() > 1e-3)
    wanted.backward(upstream)
    found.backward(upstream)
    assert torch.allclose(a.grad, b.grad, atol=1e-4)
    for name, value in norms[0].state_dict().items():
        assert torch.allclose(norms[1].state_dict()[name].float(), value.float(), atol=1e-5), name
    for mine, theirs in zip(norms[1].parameters(), norms[0].parameters()):
        assert torch.allclose(mine.grad, theirs.grad, atol=1e-3)
    norms[0].eval(), norms[1].eval()
    assert torch.equal(norm_leaky(x, norms[1]).isfinite(), torch.ones(shape, dtype=torch.bool))
    assert torch.allclose(norm_leaky(x, norms[1]), F.leaky_relu(norms[0](x)), atol=1e-5)


def test_halving_is_max_pooling_also_where_neighbours_are_equal():
    x = torch.randint(0, 3, (2, 4, 3, 10)).float().contiguous(memory_format=torch.channels_last)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    wanted, found = F.max_pool2d(a, (1, 2)), halve(b)
    assert torch.equal(wanted, found)
    upstream = torch.randn_like(wanted)
    wanted.backward(upstream), found.backward(upstream)
    assert torch.equal(a.grad, b.grad)
    odd = torch.randn(1, 2, 3, 9, requires_grad=True)
    assert torch.equal(halve(odd), F.max_pool2d(odd, (1, 2)))


def test_dropout_drops_a_fifth_and_keeps_the_mean():
    torch.manual_seed(0)
    x = torch.ones(3, 101, 1001, requires_grad=True)
    y = dropout(x, 0.2, training=True)
    zero = y == 0
    assert zero.float().mean() == pytest.approx(0.2, abs=0.003)
    assert y.detach().mean() == pytest.approx(1, abs=0.004) and y[~zero].unique().numel() == 1
    y.sum().backward()
    assert torch.equal(x.grad == 0, zero)
    assert torch.equal(dropout(x, 0.2, training=False), x) and dropout(x, 0.0, True) is not None
    assert not dropout(x, 1.0, training=True).any()


@pytest.mark.parametrize("ties", ["breslow", "efron"])
def test_cox_is_the_same_where_exponentials_would_not_fit(ties):
    """Scores of +-50 in float32, and scores so far apart that sums go over to logarithms."""
    rng = np.random.default_rng(0)
    time, event = torch.tensor(rng.integers(1, 9, 80)).float(), torch.tensor(rng.random(80) < 0.5)
    for spread in (50.0, 2000.0):
        theta = torch.tensor(rng.uniform(-spread, spread, 80), dtype=torch.float32)
        theta.requires_grad_()
        loss = cox_loss(theta, time, event, ties)
        loss.backward()
        assert torch.isfinite(loss) and torch.isfinite(theta.grad).all()
        assert theta.grad.sum() == pytest.approx(0, abs=1e-4)  # a shift of all changes nothing
        if ties == "breslow":
            at_risk = torch.where(time[None] >= time[:, None], theta.detach().double(), -np.inf)
            exact = (at_risk.logsumexp(1) - theta.detach().double())[event].mean()
            assert loss.item() == pytest.approx(exact.item(), rel=1e-6)


def test_cox_when_everybody_ties_and_everybody_has_the_event():
    theta = torch.randn(20, dtype=torch.float64, requires_grad=True)
    time, event = torch.ones(20), torch.ones(20)
    e = theta.detach().exp()
    left = torch.tensor([float(e.sum() * (1 - i / 20)) for i in range(20)], dtype=torch.float64)
    by_hand = (left.log().sum() - theta.detach().sum()) / 20
    assert cox_loss(theta, time, event, "efron").item() == pytest.approx(by_hand.item())
    assert torch.autograd.gradcheck(lambda t: cox_loss(t, time, event, "efron"), theta)
