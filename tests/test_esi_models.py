"""ESI models: parity with the published code, published sizes, masks, and the leak of the
reference.
"""

import csv

import numpy as np
import pytest
import torch

from ecgkit.features.esi_input import esi_preprocess
from ecgkit.models import convnext, esi, xresnet
from ecgkit.models.losses_esi import caption_loss, contrastive_loss, shift_captions
from ecgkit.parity.esi import CASES
from ecgkit.text.encoders import small_bert
from ecgkit.types import ModelError

FIXTURES = [
    "esi_convnextv2_small", "esi_convnextv2_ops", "esi_xresnet1d_small", "esi_model_small",
    "esi_losses", "esi_preproc",
]  # fmt: skip
SMALL = convnext.ConvNeXtConfig(depths=(1, 1, 1, 1), dims=(8, 12, 16, 24))


def small_esi(protocol="paper", vocab=40, width=32):
    torch.manual_seed(0)
    sizes = esi.ESIConfig(vocab, n_layers=1, n_heads=2, head_dim=8, ff_mult=2, n_queries=3,
                          protocol=protocol)  # fmt: skip
    return esi.ESI(convnext.ConvNeXt1D(SMALL), small_bert(vocab, width, 2, 32), sizes).eval()


def some_batch(n=4, length=10, vocab=40, seed=0):
    rng = np.random.default_rng(seed)
    ids = torch.from_numpy(rng.integers(4, vocab, (n, length)))
    ids[:, 0] = 2
    ids[1, 6], ids[1, 7:] = 3, 0
    return torch.randn(n, 12, 320), ids, (ids != 0).long()


# --- parity ---


def _check_fixture(shared, name, device, scale=1.0):
    with np.load(shared / "golden" / f"{name}.npz") as file:
        arrays = dict(file)
    case = [c for c in CASES if c.recognises(name, arrays)]
    assert len(case) == 1, f"{name} is recognised by {[c.name for c in case]}"
    checks = case[0].compare(arrays, torch.device(device))
    assert checks
    return [c for c in checks if not (c.passed or c.difference <= scale * c.tolerance)]


@pytest.mark.parametrize("name", FIXTURES)
def test_parity(shared, name):
    assert _check_fixture(shared, name, "cpu") == []


@pytest.mark.cuda
@pytest.mark.parametrize("name", FIXTURES)
def test_parity_cuda(shared, name, monkeypatch):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # golden values are float32
    assert _check_fixture(shared, name, "cuda", scale=10) == []


def test_no_other_fixture_is_taken_for_ours(shared):
    for path in (shared / "golden").glob("*.npz"):
        if not path.stem.startswith("esi_"):
            with np.load(path, allow_pickle=True) as file:
                arrays = dict(file)
            assert not [c.name for c in CASES if c.recognises(path.stem, arrays)], path.stem


# --- published sizes ---


def _count(module):
    return sum(p.numel() for p in module.parameters())


def _published_keys(shared, name):
    with open(shared / "references" / f"esi_state_dict_{name}.tsv") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return {r["key"]: tuple(int(n) for n in r["shape"].split(",") if n) for r in rows}


def test_parameter_counts_of_the_paper():
    with torch.device("meta"):
        for size, count in (("tiny", 26_814_144), ("base", 85_558_528)):
            assert _count(convnext.ConvNeXt1D(convnext.ConvNeXtConfig.preset(size))) == count
        assert _count(xresnet.XResNet1D(xresnet.XResNetConfig())) == 1_804_672


def test_whole_model_has_the_published_keys_and_count(shared):
    from transformers import BertConfig, BertModel

    with torch.device("meta"):
        encoder = convnext.ConvNeXt1D(convnext.ConvNeXtConfig.preset("tiny", n_classes=5))
        model = esi.ESI(encoder, BertModel(BertConfig(vocab_size=28_895)), esi.ESIConfig(28_895))
    assert _count(model) == 255_461_574
    ours = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    assert ours == esi.from_published(_published_keys(shared, "full_tiny"))


def test_xresnet_keys(shared):
    with torch.device("meta"):
        model = xresnet.XResNet1D(xresnet.XResNetConfig())
    ours = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    assert ours == xresnet.from_published(_published_keys(shared, "encoder_xresnet1d101"))


# --- encoder ---


def test_encoder_shapes_and_errors():
    model = convnext.ConvNeXt1D(SMALL)
    out = model(torch.randn(2, 12, 1000))
    assert out["embedding"].shape == (2, 24) and out["tokens"].shape == (2, 31, 24)
    assert model(torch.randn(1, 12, model.min_samples))["embedding"].isfinite().all()
    for shape in ((2, 1000, 12), (2, 12, 31)):
        with pytest.raises(ModelError, match="samples or more"):
            model(torch.zeros(shape))


def test_encoder_ignores_gain_and_offset_of_the_whole_record():
    model, x = convnext.ConvNeXt1D(SMALL).eval(), torch.randn(1, 12, 640)
    here, there = model(x)["embedding"], model(10 * x + 2)["embedding"]
    assert torch.allclose(here, there, atol=1e-4)


def test_encoder_round_trip(tmp_path):
    model = convnext.ConvNeXt1D(SMALL).eval()
    convnext.save_encoder(model, tmp_path / "encoder", fs=100)
    again, x = convnext.load_encoder(tmp_path / "encoder"), torch.randn(1, 12, 320)
    assert again.notes == {"fs": 100}
    assert torch.equal(model(x)["embedding"], again(x)["embedding"])
    with pytest.raises(ModelError, match="run notebook 04"):
        convnext.load_encoder(tmp_path)


def test_preprocess_fills_gaps_and_scales():
    x = np.random.default_rng(0).normal(2, 3, (3, 12, 200)).astype(np.float32)
    x[1, 4, :50] = np.nan
    y = esi_preprocess(x)
    assert y.dtype == np.float32 and np.isfinite(y).all()
    assert np.allclose(y.mean((1, 2)), 0, atol=1e-4) and np.allclose(y.std((1, 2)), 1, atol=1e-3)
    x[2, 0] = np.nan
    assert np.isnan(esi_preprocess(x)[2]).all()


# --- losses and shifts ---


def test_contrastive_loss_by_hand():
    a = torch.eye(3)
    scale = torch.tensor(1.0).exp()
    expected = -torch.log(scale.exp() / (scale.exp() + 2))
    assert torch.isclose(contrastive_loss(a, a, torch.tensor([1.0])), expected)
    assert torch.isclose(contrastive_loss(a, a, torch.tensor([1.0]), "paper"), 2 * expected)


def test_caption_loss_counts_only_words():
    logits = torch.randn(2, 3, 7)
    labels = torch.tensor([[1, 2, 0], [3, 0, 0]])
    chosen = -logits.log_softmax(-1)
    by_hand = chosen[0, 0, 1] + chosen[0, 1, 2] + chosen[1, 0, 3]
    assert torch.isclose(caption_loss(logits, labels), by_hand / 3)
    assert torch.isclose(caption_loss(logits, labels, reduction="sum"), by_hand / 2)
    assert caption_loss(logits, torch.zeros_like(labels)) == 0


def test_label_shift():
    ids = torch.tensor([[2, 10, 11, 12, 3], [2, 10, 3, 0, 0]])
    inputs, mask, labels = shift_captions(ids, (ids != 0).long(), "paper")
    assert inputs.tolist() == [[2, 10, 11, 12], [2, 10, 3, 0]]
    assert labels.tolist() == [[10, 11, 12, 3], [10, 3, 0, 0]] and mask.shape == inputs.shape
    published = shift_captions(ids, (ids != 0).long(), "reference")[2]
    assert published.tolist() == [[11, 12, 3], [3, 0, 0]]


@pytest.mark.parametrize("protocol", ["paper", "reference"])
def test_logits_match_labels_and_are_finite(protocol):
    signals, ids, mask = some_batch()
    inputs, seen, labels = shift_captions(ids, mask, protocol)
    out = small_esi(protocol)(signals, inputs, seen)
    assert out["logits"].shape[:2] == labels.shape and out["logits"].isfinite().all()
    assert torch.allclose(out["ecg_latents"].norm(dim=1), torch.ones(4), atol=1e-5)


@pytest.mark.parametrize(("protocol", "leaks"), [("paper", False), ("reference", True)])
def test_only_the_reference_sees_the_word_it_must_say(protocol, leaks):
    """Changing token i must not change what is said before it: true for paper, false as
    published.
    """
    signals, ids, mask = some_batch()
    model = small_esi(protocol)
    with torch.no_grad():
        before = model(signals, ids, mask)["logits"]
        changed = ids.clone()
        changed[0, 5] = 39 if ids[0, 5] != 39 else 38
        after = model(signals, changed, mask)["logits"]
    first = 5 if protocol == "paper" else 4  # reference logits start at token 1
    moved = (before[0, :first] - after[0, :first]).abs().max()
    assert (moved > 1e-5) == leaks


def test_padding_changes_nothing():
    signals, ids, mask = some_batch()
    model = small_esi()
    with torch.no_grad():
        long = model(signals, ids, mask)
        short = model(signals[1:2], ids[1:2, :7], mask[1:2, :7])
    assert torch.allclose(long["text_latents"][1], short["text_latents"][0], atol=1e-5)
    assert torch.allclose(long["logits"][1, :7], short["logits"][0], atol=1e-4)


def test_paper_decoder_attends_but_reference_adds_one_vector():
    signals, ids, mask = some_batch()
    for protocol, n_tokens in (("paper", 3), ("reference", 1)):
        model = small_esi(protocol).train()
        out = model(signals, ids, mask)
        assert out["ecg_tokens"].shape == (4, n_tokens, 32)
        out["logits"].square().mean().backward()
        gradient = model.multimodal_layers[0][1].fn.to_q.weight.grad
        assert (gradient is not None and gradient.abs().max() > 0) == (protocol == "paper")


def test_generate_stops_at_the_end():
    model = small_esi()
    ids = model.generate(torch.randn(2, 12, 320), torch.full((2, 1), 2), end_id=3, max_tokens=6)
    assert ids.shape[0] == 2 and ids.shape[1] <= 7 and (ids[:, 0] == 2).all()
