"""The benchmark of ESI's training step: its baseline is the published model, number for number, and
so is what makes ours quicker and smaller.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ecgkit.models import convnext, esi_decoder
from ecgkit.models.esi import from_published
from ecgkit.models.esi_decoder import Decoder, Packing, packed_states, packs
from ecgkit.parity import esi as parity
from ecgkit.text.encoders import small_bert

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import esi_step  # noqa: E402
from published_esi import PublishedESI  # noqa: E402

SMOKE = ["--size", "smoke", "--samples", "320", "--captions", "6", "--batch", "3", "--threads",
         "1", "--repeats", "1"]  # fmt: skip


# --- the baseline ---


def test_baseline_gives_the_published_numbers(shared):
    golden = dict(np.load(shared / "golden" / "esi_model_small.npz"))
    state = parity._esi_state(golden, "cpu")
    ids, mask, signals = (torch.as_tensor(golden[k]) for k in ("ids", "mask", "signals"))
    ours = parity._fitting_model(state, golden, ids[:, :-1], mask[:, :-1], "cpu")
    published = PublishedESI(ours.img_encoder.config, ours.unimodal_layers, ours.config).eval()
    published.load_state_dict(state)
    out = published(signals, ids, mask)
    for name, key in (("loss", "total"), ("caption", "caption"), ("contrastive", "contrastive"),
                      ("logits", "logits"), ("text_embedding", "text_embeds"),
                      ("ecg_embedding", "image_embeds")):  # fmt: skip
        found = out[name].detach().numpy()
        np.testing.assert_allclose(found, golden[key], atol=1e-4, err_msg=name)
    out["loss"].backward()
    norms = {k: p.grad.norm() for k, p in published.named_parameters() if p.grad is not None}
    expected = dict(zip(golden["gradnorm_keys"].tolist(), golden["gradnorms"].tolist()))
    expected = from_published(expected)
    assert set(norms) == set(expected)
    for name, norm in expected.items():
        assert abs(float(norms[name]) - norm) < 1e-4 + 1e-4 * norm, name


def some_sides(n_samples=320):
    """Both sides, with weights of their own so that gradients can be told apart."""
    args = smoke_args(n_samples)
    return esi_step.make_sides(args), esi_step.make_batches(args, 6, 3)


def smoke_args(n_samples=320):
    class Args:
        size, device, samples, threads, batch = "smoke", "cpu", n_samples, 1, 3

    return Args


@pytest.mark.parametrize("large", [2**20, 0])
def test_ours_and_baseline_have_the_same_loss_and_gradients(monkeypatch, large):
    """Also where nothing element-wise is kept for the backward pass."""
    monkeypatch.setattr(convnext, "LARGE", large)
    sides, batches = some_sides()
    for batch in batches:
        gradients = {}
        for name in (esi_step.PUBLISHED, esi_step.OURS):
            sides[name].model.zero_grad(set_to_none=True)
            loss = sides[name].loss(*batch)
            loss.backward()
            found = sides[name].model.named_parameters()
            gradients[name] = {k: p.grad.clone() for k, p in found if p.grad is not None}
            gradients[name]["loss"] = loss.detach()
        for name, theirs in gradients[esi_step.PUBLISHED].items():
            ours = gradients[esi_step.OURS].get(name)
            if ours is None:  # what the published code computes for nothing
                assert theirs.abs().max() < 1e-6 and "multimodal_layers" in name, name
            else:
                assert torch.allclose(ours, theirs, atol=1e-5, rtol=1e-4), name


def test_losses_that_differ_end_the_benchmark():
    sides, batches = some_sides()
    esi_step.compare_losses(sides, batches)
    other = sides[esi_step.PUBLISHED].model.to_logits[1]  # its own from here on
    other.weight = torch.nn.Parameter(2 * other.weight.detach())
    with pytest.raises(SystemExit, match="not compute the same"):
        esi_step.compare_losses(sides, batches)


# --- packed captions ---


def captions(lengths=(5, 9, 1, 7), longest=9):
    torch.manual_seed(0)
    mask = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
    return torch.randint(5, 40, mask.shape) * mask, mask


@pytest.mark.parametrize("n_tokens", [1, 4])
def test_decoder_says_the_same_without_padding(n_tokens):
    _, mask = captions()
    decoder, packing = Decoder(32, 2, head_dim=8, n_heads=2, ff_mult=2), Packing(mask)
    text, ecg = torch.randn(4, 9, 32), torch.randn(4, n_tokens, 32)
    padded = packing.pack(decoder(text, ecg))
    assert torch.allclose(decoder(packing.pack(text), ecg, packing), padded, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_text_encoder_says_the_same_without_padding(causal):
    ids, mask = captions()
    bert, packing = small_bert(40, 32, 2, 16).eval(), Packing(mask)
    assert packs(bert)
    usual = bert.config._attn_implementation
    seen = mask[:, None, None].bool() & torch.ones(9, 9).tril().bool() if causal else mask
    padded = bert(input_ids=ids, attention_mask=seen).last_hidden_state
    found = packed_states(bert, ids, packing, causal)
    assert torch.allclose(found, packing.pack(padded), atol=1e-5)
    assert bert.config._attn_implementation == usual


@pytest.mark.parametrize("causal", [False, True])
def test_attention_padded_or_caption_by_caption(causal):
    packing = Packing(captions()[1])
    q, k, v = (torch.randn(2, 22, 8, requires_grad=True) for _ in range(3))
    one = esi_decoder._attend_each(q, k, v, causal, packing)
    other = esi_decoder._attend_padded(q, k, v, causal, packing)
    assert one.shape == (22, 16) and torch.allclose(one, other, atol=1e-5)
    upstream = torch.randn_like(one)
    for a, b in zip(*(torch.autograd.grad(out, (q, k, v), upstream) for out in (one, other))):
        assert torch.allclose(a, b, atol=1e-5)


def test_a_caption_without_words_is_no_hindrance():
    _, mask = captions((5, 0, 3), 5)
    decoder, packing = Decoder(32, 1, head_dim=8, n_heads=2, ff_mult=2), Packing(mask)
    text = torch.randn(3, 5, 32, requires_grad=True)
    out = decoder(packing.pack(text), torch.randn(3, 1, 32), packing)
    out.square().sum().backward()
    assert out.shape == (8, 32) and out.isfinite().all() and text.grad.isfinite().all()
    assert packing.pad(out)[1].abs().max() == 0


# --- the benchmark ---


def test_it_ends_with_one_json_line(capsys):
    """Speed itself is no matter of a test."""
    n_threads = torch.get_num_threads()
    esi_step.main([*SMOKE, "--throughput", "--compiler", ""])
    torch.set_num_threads(n_threads)
    lines = capsys.readouterr().out.strip().splitlines()
    found = json.loads(lines[-1])
    assert set(found) == {"exact_ratio", "bf16_ratio", "memory_ratio"}
    assert found["exact_ratio"] > 0 and 0 < found["memory_ratio"] < 1
    assert sum("660,000 pairs x 30 epochs" in line for line in lines) == 1


def test_blocks_can_be_compiled():
    """With PyTorch's tracer alone, for its code generator takes minutes on a CPU."""
    args, sums = smoke_args(), []
    batches = esi_step.make_batches(args, 4, 2)
    for compiled in (False, True):
        model = esi_step.make_model("smoke", "cpu")
        if compiled:
            esi_step.compile_blocks(model, "eager")
        loss = sum(esi_step.our_loss(model, *batch) for batch in batches)
        loss.backward()
        norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
        sums.append(torch.stack([loss.detach(), *norms]))
    assert torch.allclose(*sums, atol=1e-5, rtol=1e-4)


def test_captions_are_as_long_as_the_published():
    lengths = esi_step.caption_lengths(4000)
    assert lengths.max() <= 500 and 205 < np.median(lengths) < 225
    assert np.array_equal(lengths[:16], esi_step.caption_lengths(4000)[:16])
    signals, ids = esi_step.make_batches(smoke_args(), 6, 3)[0]
    assert signals.shape == (3, 12, 320)
    assert np.array_equal((ids != 0).sum(1), esi_step.caption_lengths(6)[:3])


def test_peak_memory_by_hand():
    """1 MB that lives on, 2 MB for a moment beside it."""

    class Side:
        model, optimiser = torch.nn.Linear(1, 1), torch.optim.SGD([torch.zeros(1)])

        def loss(self, n):
            kept = torch.ones(n // 4)
            return sum(torch.ones(n // 2).sum() for _ in range(3)) * kept[0] * self.model.weight

    assert 3e6 <= esi_step.peak_memory(Side(), (1_000_000,), "cpu") < 3.1e6


def test_needed_operations():
    """Of the encoder against PyTorch's count, of the text by the weights each word meets."""
    model, lengths = esi_step.make_model("smoke", "cpu"), np.array([20, 33])
    with FlopCounterMode(display=False) as counter:
        model.img_encoder(torch.randn(2, 12, 640))
    bert = [p.numel() for p in model.unimodal_layers.encoder.parameters() if p.ndim == 2]
    said = [model.to_logits[1].weight.numel()]
    for block, cross in model.multimodal_layers:
        said += [p.numel() for p in block.parameters() if p.ndim == 2]
        said += [p.numel() for p in cross.fn.ff.parameters()]
    by_hand = lengths.sum() * sum(bert) + (lengths - 2).sum() * sum(said)
    by_hand += 2 * 2 * 32 * (lengths**2).sum() + 2 * 16 * ((lengths - 2) ** 2).sum()
    expected = 3 * (counter.get_total_flops() + 2 * by_hand)
    assert abs(esi_step.needed_flops(model, lengths, 640) - expected) < 1e-3 * expected
