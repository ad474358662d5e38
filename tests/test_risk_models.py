"""The dual-attention network, its losses, and their agreement with the published code."""

import math

import numpy as np
import pytest
import torch

from ecgkit.features.risk_input import (
    beats_of,
    clean_beats,
    has_no_input,
    pad_centre,
    padded_length,
    risk_input,
    zscore_leads,
)
from ecgkit.models.dual_attention import (
    DualAttentionAutoencoder,
    DualAttentionConfig,
    RiskHead,
    projector,
    projector_sizes,
)
from ecgkit.models.losses_risk import (
    alignment_cosine,
    alignment_report,
    cox_loss,
    cox_loss_reference,
    finetune_loss,
    info_nce,
)
from ecgkit.parity.risk import CASES
from ecgkit.tasks.survival_metrics import tied_share
from ecgkit.types import DataError, ModelError

FIXTURES = ("risk_ae_small", "risk_ae_small_nolead", "risk_ae_small_notime", "risk_cox",
            "risk_preproc")  # fmt: skip
SMALL = {"n_samples": 64, "base": 2, "code_width": 16, "n_down": 3}


def count(module) -> int:
    return sum(p.numel() for p in module.parameters())


def small(**changes) -> DualAttentionAutoencoder:
    torch.manual_seed(0)
    return DualAttentionAutoencoder(DualAttentionConfig(**(SMALL | changes))).eval()


@pytest.mark.parametrize("name", FIXTURES)
def test_parity_with_the_published_code(shared, name):
    arrays = dict(np.load(shared / "golden" / f"{name}.npz"))
    [case] = [case for case in CASES if case.recognises(name, arrays)]
    checks = case.compare(arrays, torch.device("cpu"))
    assert checks and not [check for check in checks if not check.passed]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_parity_on_cuda_within_a_thousandth(shared):
    arrays = dict(np.load(shared / "golden" / "risk_ae_small.npz"))
    checks = CASES[0].compare(arrays, torch.device("cuda"))
    outputs = [check for check in checks if check.name.startswith("out/")]
    assert max(check.difference for check in outputs) < 1e-3


@pytest.mark.parametrize(
    "n_samples, whole, no_lead, no_time, neither",
    [(608, 1_385_106, 272_770, 1_345_746, 233_410), (1024, 3_579_142, 427_782, 3_539_782, 388_422)],
)
def test_published_parameter_counts(n_samples, whole, no_lead, no_time, neither):
    def size(**changes):
        return count(DualAttentionAutoencoder(DualAttentionConfig(n_samples, **changes)))

    assert size() == whole
    assert size(lead_attention=False) == no_lead
    assert size(time_attention=False) == no_time
    assert size(lead_attention=False, time_attention=False) == neither


def test_published_counts_of_heads_and_eight_leads():
    assert count(RiskHead(512)) == 2573
    assert count(projector(512, *projector_sizes(512))) == 164_224
    assert count(projector(768, *projector_sizes(512))) == 229_760
    assert count(DualAttentionAutoencoder(DualAttentionConfig(1024, n_leads=8))) == 3_460_622


@pytest.mark.parametrize("stem, alone", [("per_lead", True), ("mixed", False)])
def test_stem_keeps_leads_apart_only_when_told_to(stem, alone):
    model = small(stem=stem)
    x = torch.randn(2, 12, 64)
    changed = x.clone()
    changed[:, 3] += torch.randn(2, 64)
    with torch.no_grad():
        a, b = (model.encode(v, return_stages=True)["resnet"] for v in (x, changed))
    rows = (a - b).abs().amax(dim=(0, 1, 3))  # (C,) how much each lead's row moved
    others = torch.cat([rows[:3], rows[4:]])
    assert rows[3] > 1e-3
    assert bool((others == 0).all()) is alone
    assert bool((others > 1e-4).all()) is not alone


def test_three_units_tie_the_scores_of_everybody_whose_units_are_off():
    z = torch.randn(200, 16) * torch.linspace(0, 5, 200)[:, None]
    ties = []
    for hidden in (3, 64):
        torch.manual_seed(1)
        with torch.no_grad():
            score = RiskHead(16, hidden).eval()(z)["log_risk"].numpy()
        ties.append(tied_share(score))
    assert ties[0] > 0.02 and ties[1] == 0


def test_outputs_and_attention_shapes():
    model = small()
    out = model(torch.randn(3, 12, 64), return_attention=True)
    assert out["z"].shape == (3, 16) and out["recon"].shape == (3, 12, 64)
    assert out["lead_attention"].shape == (3, 12, 12)
    assert out["time_attention"].shape == (3, 12, 8, 8)
    for name in ("lead_attention", "time_attention"):
        assert torch.allclose(out[name].sum(-1), torch.ones(()), atol=1e-5)
    assert torch.allclose(out["recon"].mean(-1), torch.zeros(()), atol=1e-4)


def test_attention_on_request_does_not_change_the_code():
    model, x = small(), torch.randn(2, 12, 64)
    with torch.no_grad():
        assert torch.allclose(model(x)["z"], model(x, return_attention=True)["z"], atol=1e-5)


@pytest.mark.parametrize(
    "changes", [{"n_samples": 60}, {"base": 3}, {"stem": "other"}], ids=lambda c: str(c)
)
def test_impossible_sizes_are_refused(changes):
    with pytest.raises(ModelError):
        DualAttentionConfig(**(SMALL | changes))


# --- losses ---------------------------------------------------------------------------------------


def brute_breslow(theta, time, event):
    terms = [
        np.log(np.exp(theta[time >= time[i]]).sum()) - theta[i] for i in np.flatnonzero(event)
    ]
    return np.mean(terms)


def test_cox_equals_brute_force_with_and_without_ties():
    rng = np.random.default_rng(0)
    theta, event = rng.normal(size=60), rng.random(60) < 0.4
    for time in (rng.random(60), rng.integers(1, 9, 60).astype(float)):
        value = cox_loss(*(torch.tensor(v) for v in (theta, time, event)))
        assert value.item() == pytest.approx(brute_breslow(theta, time, event), abs=1e-9)


def test_efron_of_two_tied_events_by_hand():
    theta, time = torch.tensor([0.3, -0.2, 1.0]), torch.tensor([1.0, 1.0, 2.0])
    event = torch.tensor([1, 1, 0])
    e = theta.exp().tolist()
    by_hand = (math.log(sum(e)) + math.log(sum(e) - 0.5 * (e[0] + e[1])) - 0.1) / 2
    assert cox_loss(theta, time, event, "efron").item() == pytest.approx(by_hand, abs=1e-6)


def test_cox_is_stable_and_ignores_who_has_left():
    """Someone censored first with a score of 1000 changes nothing; the published formula breaks."""
    theta = torch.tensor([1000.0, 0.0, 0.0, 0.0], requires_grad=True)
    time, event = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([0, 1, 1, 0])
    loss = cox_loss(theta, time, event)
    loss.backward()
    assert loss.item() == pytest.approx((math.log(3) + math.log(2)) / 2, abs=1e-6)
    assert theta.grad[0] == 0 and torch.isfinite(theta.grad).all()
    assert cox_loss_reference(theta.detach(), time, event) > 100


def test_cox_without_events_is_zero_with_a_gradient():
    theta = torch.randn(5, requires_grad=True)
    loss = cox_loss(theta, torch.rand(5), torch.zeros(5))
    loss.backward()
    assert loss.item() == 0 and torch.equal(theta.grad, torch.zeros(5))


def test_cox_refuses_shapes_that_would_broadcast():
    with pytest.raises(DataError, match="one length"):
        cox_loss(torch.randn(4, 1), torch.rand(4), torch.ones(4))


def test_cox_gradient_against_finite_differences():
    time = torch.tensor([1.0, 1.0, 1.0, 2.0, 2.0, 3.0], dtype=torch.float64)
    event = torch.tensor([1, 1, 0, 1, 1, 1])
    theta = torch.randn(6, dtype=torch.float64, requires_grad=True)
    for ties in ("breslow", "efron"):
        assert torch.autograd.gradcheck(lambda t, k=ties: cox_loss(t, time, event, k), theta)


def test_alpha_weighs_the_reconstruction_and_the_reference_reverses_it():
    mse, cox = torch.tensor(2.0), torch.tensor(10.0)
    assert finetune_loss(mse, cox, 0.25) == pytest.approx(8.0)
    assert finetune_loss(mse, cox, 0.25, "reference") == pytest.approx(4.0)
    assert finetune_loss(mse, cox, 0.5) == finetune_loss(mse, cox, 0.5, "reference")


def test_collapse_satisfies_the_cosine_loss_but_not_the_report():
    same = torch.ones(40, 8) + 1e-3 * torch.randn(40, 8)
    group = torch.arange(40) % 20
    assert alignment_cosine(same, same) < 1e-5
    collapsed = alignment_report(same, torch.ones(40, 8), group)
    assert collapsed["mismatched_cos"] > 0.99 and collapsed["spread"] < 0.01
    text = torch.nn.functional.one_hot(group).float()
    aligned = alignment_report(text, text, group)
    assert aligned["mismatched_cos"] == pytest.approx(0, abs=1e-6) and aligned["recall@5"] == 1
    assert info_nce(same, torch.ones(40, 8)) > info_nce(text, text, same=group)


# --- input ----------------------------------------------------------------------------------------


def test_flat_constant_and_missing_leads_become_zero():
    x = np.random.default_rng(0).normal(size=(2, 3, 100))
    x[0, 0], x[0, 1], x[1, 2, 7] = 0, 0.1, np.nan
    z = zscore_leads(x)
    assert not z[0, :2].any() and not z[1, 2].any()
    assert z[0, 2].mean() == pytest.approx(0, abs=1e-6)
    assert z[0, 2].std() == pytest.approx(1, abs=1e-5)


def test_padding_is_centred_and_refuses_to_cut():
    assert pad_centre(np.ones((1, 3)), 6).tolist() == [[0, 1, 1, 1, 0, 0]]
    assert (padded_length(600, 5), padded_length(1000, 5)) == (608, 1024)
    assert padded_length(120, 3) == 120
    with pytest.raises(DataError, match="do not fit"):
        pad_centre(np.ones((1, 7)), 6)


def test_risk_input_of_beats_and_of_noise_without_beats(tiny_cohort):
    signals = tiny_cohort.store.read(range(4)).copy()
    signals[0] = 0
    x = risk_input(signals, tiny_cohort.store.fs, 128)
    assert x.shape == (4, 12, 128) and x.dtype == np.float32 and np.isfinite(x).all()
    assert not x[0].any() and x[1:].any(axis=(1, 2)).all()
    strip = risk_input(signals, tiny_cohort.store.fs, 1024, "strip")
    assert strip.shape == (4, 12, 1024)
    with pytest.raises(DataError, match="beat or strip"):
        risk_input(signals, 100, 128, "beats")


def strip_of_beats(fs, at_s, ectopic=(), seconds=10.0):
    """(12, T) mV: narrow beats at the given seconds, broad inverted ones where `ectopic`."""
    t = np.arange(round(seconds * fs)) / fs
    lead = np.zeros(len(t))
    for i, r in enumerate(at_s):
        sign, width = (-1.5, 0.05) if i in ectopic else (1.0, 0.015)
        lead += sign * np.exp(-0.5 * ((t - r) / width) ** 2)
        lead += 0.3 * np.exp(-0.5 * ((t - r - 0.3) / 0.05) ** 2)
    return np.linspace(0.5, 1.5, 12)[:, None] * lead


@pytest.mark.parametrize("fs, n_samples", [(500, 608), (100, 128)])
def test_clean_beats_leave_out_what_is_unlike_and_count_it(fs, n_samples):
    rng = np.random.default_rng(0)
    at = np.arange(0.8, 9, 0.85)
    signals = np.stack([strip_of_beats(fs, at), strip_of_beats(fs, at, ectopic=(2, 5, 6)),
                        np.zeros((12, 10 * fs)), rng.normal(size=(12, 10 * fs))])  # fmt: skip
    signals[:2] += 0.01 * rng.normal(size=signals[:2].shape)
    signals[0, 4] = np.nan  # one lead is missing; the beats are those of the others
    found = clean_beats(signals, fs)
    assert found.used.tolist()[:3] == [len(at), len(at) - 3, 0] and found.found[0] == len(at)
    assert found.flagged.tolist() == [False, False, True, True] and found.found[2] == 0
    assert found.beats.shape == (4, 12, round(1.2 * fs))
    single = strip_of_beats(fs, [0.4], seconds=1.2)
    assert np.abs(found.beats[1] - single).max() < 0.15
    assert np.isnan(found.beats[2]).all() and np.isfinite(found.beats[3]).all()
    x = risk_input(signals, fs, n_samples, least_likeness=0.8)
    assert x.shape == (4, 12, n_samples) and not x[0, 4].any()
    assert has_no_input(x).tolist() == [False, False, True, False]


def test_alignment_sharpens_beats_found_a_little_beside_their_peak(monkeypatch):
    from ecgkit.features import risk_input as module

    fs, rng = 500, np.random.default_rng(0)
    signals = strip_of_beats(fs, np.arange(0.8, 9, 0.85))[None]
    exact = module.find_beats(signals, fs)
    moved = exact.sample + rng.integers(-8, 9, len(exact.sample))
    monkeypatch.setattr(module, "find_beats", lambda *_: module.Beats(exact.record, moved, 1, fs))
    apart, aligned = beats_of(signals, fs), clean_beats(signals, fs).beats
    assert aligned.max() > 1.49 > apart.max() + 0.005


def test_no_records_and_strips_too_short_for_a_beat_give_no_beats():
    short = clean_beats(np.random.default_rng(0).normal(size=(2, 12, 60)), 100)
    assert short.flagged.all() and np.isnan(short.beats).all()
    assert clean_beats(np.zeros((0, 12, 1000)), 100).beats.shape == (0, 12, 120)


def test_one_lead_moves_only_its_own_attention_over_time():
    """The per-lead stem: tokens of the other leads, and their attention maps, stay as they were."""
    model = small(stem="per_lead")
    x = torch.randn(2, 12, 64)
    changed = x.clone()
    changed[:, 7] += torch.randn(2, 64)
    with torch.no_grad():
        a, b = (model.encode(v, return_attention=True, return_stages=True) for v in (x, changed))
        tokens = [model.attention.time(v["resnet"].permute(2, 0, 3, 1))[0] for v in (a, b)]
    moved = (tokens[0] - tokens[1]).abs().amax(dim=(1, 2, 3))  # (C,)
    maps = (a["time_attention"] - b["time_attention"]).abs().amax(dim=(0, 2, 3))
    for by_lead in (moved, maps):
        assert by_lead[7] > 1e-4 and not np.delete(by_lead.numpy(), 7).any()
    assert not torch.equal(a["lead_attention"], b["lead_attention"])


def test_attention_can_be_asked_for_in_training_with_dropout():
    model = small(dropout=0.5).train()
    out = model(torch.randn(4, 12, 64), return_attention=True)
    for name in ("lead_attention", "time_attention"):  # the maps are those before dropout
        assert torch.allclose(out[name].sum(-1), torch.ones(()), atol=1e-5)
