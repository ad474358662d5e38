"""The training step's benchmark: its baseline is the published model, number for number, and so is
what makes ours quicker.
"""

import json
import multiprocessing.dummy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ecgkit.models.fusion_qa import FusionConfig, FusionQA
from ecgkit.models.long_conv import long_conv
from ecgkit.parity.fairseq import transformer_sizes, weights

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import train_step  # noqa: E402
from published_fusion import PublishedFusion, as_published  # noqa: E402


@pytest.fixture(scope="module")
def golden(shared):
    return dict(np.load(shared / "golden" / "fairseq_ecg_qa_transformer_small.npz"))


@pytest.fixture(scope="module")
def config(golden):
    n_tokens = golden["out:encoder_out_single"].shape[1] - golden["in:text"].shape[1]
    sizes = transformer_sizes(golden, "encoder.", golden["in:ecg"].shape[-1], n_tokens)
    sizes |= {"n_heads": 4, "sep_id": int(golden["in:text"][0, -1]),
              "vocab_size": len(golden["sd:encoder.language_embedding.weight"]),
              "max_text": len(golden["sd:encoder.position_embedding.weight"])}
    return FusionConfig(**sizes)


def load(model, golden):
    model.load_state_dict(weights(golden))
    return model.eval()


def batches(golden):
    """Inputs by the name of the fixture's output that belongs to them."""
    take = {k[3:]: torch.as_tensor(v) for k, v in golden.items() if k.startswith("in:")}
    single = {"ecg": take["ecg"], "text": take["text"]}
    mask = take["ecg_2_mixed_padding_mask"]
    return {"logits_single": single,
            "logits_two": {**single, "ecg_2": take["ecg_2"]},
            "logits_mixed_asref": {
                "ecg": take["ecg"], "text": take["text_mixed"], "ecg_2": take["ecg_2_mixed"],
                "ecg_2_padding_mask": mask[:, 0] if mask.dim() == 3 else mask}}


def test_baseline_gives_the_published_logits(golden, config):
    model = load(PublishedFusion(config, len(golden["sd:proj.bias"])), golden)
    for name, batch in batches(golden).items():
        with torch.no_grad():
            logits = model(**as_published(batch))
        np.testing.assert_allclose(logits.numpy(), golden[f"out:{name}"], atol=1e-4, err_msg=name)


def test_ours_and_baseline_agree(golden, config):
    n_answers = len(golden["sd:proj.bias"])
    published = load(PublishedFusion(config, n_answers), golden)
    ours = load(FusionQA(config, n_answers), golden)
    for name, batch in batches(golden).items():
        with torch.no_grad():
            theirs = published(**as_published(batch))
            logits = ours(**batch)["logits"]
        assert torch.allclose(logits, theirs, atol=1e-5), name


@pytest.mark.parametrize("n_steps, kernel", [(100, 32), (71, 33), (32, 32)])
def test_long_convolution_equals_the_direct_one(n_steps, kernel):
    torch.manual_seed(0)
    conv = torch.nn.Conv1d(12, 12, kernel, padding=kernel // 2, groups=3)
    x = torch.randn(2, n_steps, 12, requires_grad=True)
    direct = conv(x.transpose(1, 2))[..., :n_steps].transpose(1, 2)
    ours = long_conv(x, conv.weight, conv.bias, conv.groups)
    upstream, wanted = torch.randn_like(direct), (x, conv.weight, conv.bias)
    assert torch.allclose(ours, direct, atol=1e-5)
    for a, b in zip(torch.autograd.grad(ours, wanted, upstream),
                    torch.autograd.grad(direct, wanted, upstream)):
        assert torch.allclose(a, b, atol=1e-4)


def test_ours_and_baseline_have_the_same_gradients():
    """With a position code long enough for the Fourier transform, which no fixture has."""
    torch.manual_seed(0)
    config = FusionConfig(conv_layers=((16, 2, 2),) * 3, dim=32, ffn_dim=64, n_layers=2, n_heads=2,
                          pos_kernel=32, pos_groups=4, vocab_size=50, max_text=9, sep_id=2,
                          dropout=0.0, attention_dropout=0.0, protocol="reference")
    ours, published = FusionQA(config, 5), PublishedFusion(config, 5)
    published.load_state_dict(ours.state_dict())
    batch = {"ecg": torch.randn(3, 12, 400), "ecg_2": torch.randn(3, 12, 400),
             "text": torch.randint(3, 50, (3, 9))}
    ours(**batch)["logits"].square().sum().backward()
    published(**as_published(batch)).square().sum().backward()
    theirs = dict(published.named_parameters())
    for name, parameter in ours.named_parameters():
        assert torch.allclose(parameter.grad, theirs[name].grad, atol=1e-4, rtol=1e-3), name


def test_the_benchmark_ends_with_one_json_line(capsys):
    """Its tiny size, the sides in threads; speed itself is no matter of a test."""
    n_threads = torch.get_num_threads()
    train_step.main(["--size", "tiny", "--threads", "1", "--samples", "500", "--repeats", "1"],
                    context=multiprocessing.dummy)
    torch.set_num_threads(n_threads)
    found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert set(found) == {"fp32_ratio", "bf16_ratio", "memory_ratio"}
    assert found["fp32_ratio"] > 0 and found["memory_ratio"] > 0


def test_both_sides_get_the_same_questions():
    work = train_step.Questions(16, 500, "tiny")
    ours, published = work.grouped_epoch(4, seed=1), work.published_epoch(4, seed=1)
    assert len(ours) == len(published) == 4

    def rows(epoch):
        return sorted(tuple(row) for batch in epoch for row in batch["labels"].tolist())

    assert rows(ours) == rows(published)
    assert sum("ecg_2" in batch for batch in ours) == 2
    assert not any("ecg_2_padding_mask" in batch for batch in ours)
    assert all("ecg_2_padding_mask" in batch for batch in published)


def test_needed_operations_by_hand():
    config = FusionConfig(n_leads=2, conv_layers=((4, 2, 2),), dim=8, ffn_dim=16, n_layers=3,
                          n_heads=2, pos_kernel=4, pos_groups=2, vocab_size=9)
    convolution = 5 * 4 * 2 * 2 + 5 * 4 * 8  # 5 tokens: convolution, then projection
    position = 5 * 8 * 4 * 4
    layer = 7 * (4 * 64 + 2 * 8 * 16) + 2 * 7 * 7 * 8  # 5 tokens + 2 words
    found = train_step.needed_flops(config, n_ecgs=1, n_words=2, n_samples=10)
    assert found == 6 * (convolution + position + 3 * layer)
