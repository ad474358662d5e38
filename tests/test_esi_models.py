"""ESI models: parity with the published code, published sizes, masks, and the leak of the
reference.
"""

import numpy as np
import pytest
import torch
import transformers

from ecgkit.config.esi import ENCODERS
from ecgkit.features.esi_input import esi_preprocess
from ecgkit.models import convnext, esi, vit1d, xresnet
from ecgkit.models.causal_text import require_causal
from ecgkit.models.ecg_encoders import encoder_for, load_encoder, save_encoder
from ecgkit.models.ecg_encoders import names as encoder_names
from ecgkit.models.esi_attention import look
from ecgkit.models.losses_esi import caption_loss, contrastive_loss, shift_captions
from ecgkit.parity.esi import CASES
from ecgkit.text.encoders import small_bert
from ecgkit.types import ModelError

FIXTURES = [
    "esi_convnextv2_small", "esi_convnextv2_ops", "esi_xresnet1d_small", "esi_model_small",
    "esi_losses", "esi_preproc",
]  # fmt: skip
SMALL = convnext.ConvNeXtConfig(depths=(1, 1, 1, 1), dims=(8, 12, 16, 24))


def small_esi(protocol="paper", vocab=40, width=32, text=None, **more):
    torch.manual_seed(0)
    sizes = esi.ESIConfig(vocab, n_layers=1, n_heads=2, head_dim=8, ff_mult=2, n_queries=3,
                          protocol=protocol, **more)  # fmt: skip
    text = text or small_bert(vocab, width, 2, 32)
    return esi.ESI(convnext.ConvNeXt1D(SMALL), text, sizes).eval()


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


def test_parameter_counts_of_the_paper():
    with torch.device("meta"):
        for size, count in (("tiny", 26_814_144), ("base", 85_558_528)):
            assert _count(convnext.ConvNeXt1D(convnext.ConvNeXtConfig.preset(size))) == count
        assert _count(xresnet.XResNet1D(xresnet.XResNetConfig())) == 1_804_672
        assert _count(vit1d.ViT1D(vit1d.ViTConfig())) == 85_517_568  # ours: the paper's is not told


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
    save_encoder(model, tmp_path / "encoder", fs=100)
    again, x = load_encoder(tmp_path / "encoder"), torch.randn(1, 12, 320)
    assert again.notes == {"fs": 100}
    assert torch.equal(model(x)["embedding"], again(x)["embedding"])
    with pytest.raises(ModelError, match="run notebook 04"):
        load_encoder(tmp_path)


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
    assert torch.equal(inputs, ids) and torch.equal(mask, (ids != 0).long())  # whole, for [CLS]
    assert labels.tolist() == [[10, 11, 12, 3], [10, 3, 0, 0]]
    inputs, mask, labels = shift_captions(ids, (ids != 0).long(), "reference")
    assert inputs.tolist() == [[2, 10, 11, 12], [2, 10, 3, 0]] and mask.shape == inputs.shape
    assert labels.tolist() == [[11, 12, 3], [3, 0, 0]]


def test_padding_of_another_id_is_no_label():
    ids = torch.tensor([[0, 10, 11, 2], [0, 10, 2, 1]])  # RoBERTa: starts with 0, pads with 1
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    assert shift_captions(ids, mask, "paper")[2].tolist() == [[10, 11, 2], [10, 2, 0]]


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
    assert torch.allclose(long["logits"][1, :6], short["logits"][0], atol=1e-4)


def test_cls_sees_every_word_and_no_padding():
    """The masks that CoCa's implementations had off by one (open_clip #797, CoCa-pytorch #19)."""
    signals, ids, mask = some_batch()
    model = small_esi()
    with torch.no_grad():
        before = model(signals, ids, mask)["text_latents"]
        for column in range(ids.shape[1]):
            changed = ids.clone()
            changed[:, column] = torch.where(ids[:, column] == 20, 21, 20)
            after = model(signals, changed, mask)["text_latents"]
            moved = (before - after).abs().amax(1) > 1e-5
            assert torch.equal(moved, mask[:, column] == 1), column


def test_a_text_has_one_embedding_whatever_batch_it_is_in():
    """As the longest of its batch or not, and as a prompt: the published code cuts the last word
    off the longest.
    """
    signals, ids, mask = some_batch()
    model = small_esi()
    with torch.no_grad():
        together = model(signals, *shift_captions(ids, mask, "paper")[:2])["text_latents"]
        alone = model.encode_text(ids[1:2, :7], mask[1:2, :7])["text_latents"]
        longest = model.encode_text(ids[:1], mask[:1])["text_latents"]
    assert torch.allclose(together[1], alone[0], atol=1e-5)
    assert torch.allclose(together[0], longest[0], atol=1e-5)


def test_each_word_is_said_from_those_before_it_and_from_the_one_just_before():
    signals, ids, mask = some_batch()
    model = small_esi()
    with torch.no_grad():
        before = model(signals, ids, mask)["logits"][0]
        for t in range(ids.shape[1] - 1):
            changed = ids.clone()
            changed[0, t] = 20 if ids[0, t] != 20 else 21
            moved = (model(signals, changed, mask)["logits"][0] - before).abs().amax(1) > 1e-6
            assert not moved[:t].any() and moved[t], t


TEXT = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64}  # fmt: skip


def text_encoder(kind: str):
    sizes = {"dim": 32, "n_layers": 2, "n_heads": 4} if kind == "DistilBert" else TEXT
    if kind == "ModernBert":
        sizes = TEXT | {k: 2 for k in ("pad_token_id", "bos_token_id", "eos_token_id",
                                       "cls_token_id", "sep_token_id")}  # fmt: skip
    config = getattr(transformers, f"{kind}Config")(**{"vocab_size": 40} | sizes)
    return transformers.AutoModel.from_config(config).eval()


@pytest.mark.parametrize("kind", ["Bert", "Roberta", "DistilBert", "Electra", "ModernBert"])
def test_text_encoders_that_can_be_read_from_left_to_right(kind):
    encoder = text_encoder(kind).train()
    require_causal(encoder)
    assert encoder.training


@pytest.mark.parametrize("kind", ["MPNet", "MegatronBert", "DebertaV2"])
def test_text_encoders_that_look_ahead_are_refused(kind):
    with pytest.raises(ModelError, match=f"{kind}Model does not keep to a causal mask"):
        small_esi(text=text_encoder(kind))
    small_esi("reference", text=text_encoder(kind))


@pytest.mark.parametrize("protocol", ["paper", "reference"])
@pytest.mark.parametrize("kind", ["Bert", "Roberta"])
def test_logits_at_labelled_words_are_those_of_all_positions(protocol, kind):
    """Whether the text encoder can leave the padding out (BERT) or not."""
    signals, ids, mask = some_batch()
    ids[2, 1:], ids[3, 1:] = torch.tensor([3] + [0] * 8), 0  # no words, and not even an end
    mask = (ids != 0).long()
    model = small_esi(protocol, text=text_encoder(kind))
    inputs, seen, labels = shift_captions(ids, mask, protocol)
    grads, losses = [], []
    for given in (None, labels):
        out = model(signals, inputs, seen, given)
        if given is None:
            losses.append(caption_loss(out["logits"], labels))
            chosen = out["logits"][labels != 0]
        else:
            losses.append(caption_loss(out["caption_logits"], out["caption_labels"]))
            assert torch.allclose(out["caption_logits"], chosen, atol=1e-5)
            assert torch.equal(out["caption_labels"], labels[labels != 0])
        model.zero_grad()
        losses[-1].backward()
        grads.append({k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None})
    assert torch.allclose(*losses, atol=1e-6) and grads[0].keys() == grads[1].keys()
    for key, gradient in grads[0].items():
        assert torch.allclose(gradient, grads[1][key], atol=1e-5), key
    with pytest.raises(ModelError, match="shift_captions"):
        model(signals, ids, mask, ids)


def test_the_contrast_alone_leaves_the_decoder_out():
    signals, ids, mask = some_batch()
    model = small_esi()
    with torch.no_grad():
        whole, part = model(signals, ids, mask), model(signals, ids, mask, captions=False)
    assert not {"logits", "caption_logits", "ecg_tokens"} & set(part)
    assert torch.equal(whole["text_latents"], part["text_latents"])


def test_a_batch_of_empty_captions_is_harmless():
    signals, ids = torch.randn(4, 12, 320), torch.tensor([[2, 0]] * 4)
    model = small_esi()
    inputs, mask, labels = shift_captions(ids, (ids != 0).long(), "paper")
    out = model(signals, inputs, mask, labels)
    loss = caption_loss(out["caption_logits"], out["caption_labels"])
    loss.backward()
    assert loss == 0 and model.temperature.grad is None


def test_paper_decoder_attends_but_reference_adds_one_vector():
    signals, ids, mask = some_batch()
    for protocol, n_tokens in (("paper", 3), ("reference", 1)):
        model = small_esi(protocol).train()
        out = model(signals, ids, mask)
        assert out["ecg_tokens"].shape == (4, n_tokens, 32)
        out["logits"].square().mean().backward()
        gradient = model.multimodal_layers[0][1].fn.to_q.weight.grad
        assert (gradient is not None and gradient.abs().max() > 0) == (protocol == "paper")


def test_the_contrast_has_a_query_of_its_own_on_request():
    signals, ids, mask = some_batch()
    mean, query = small_esi(), small_esi(contrast_pool="query")
    assert mean.img_queries.shape == (3, 32) and query.img_queries.shape == (4, 32)
    out = query(signals, ids, mask)
    assert out["ecg_tokens"].shape == (4, 3, 32)
    (out["logits"].square().mean()).backward(retain_graph=True)
    gradient = query.img_queries.grad
    assert gradient[:3].abs().amin(0).max() > 0 and (gradient[3] == 0).all()
    query.zero_grad()
    contrastive_loss(out["ecg_latents"], out["text_latents"], out["temperature"]).backward()
    gradient = query.img_queries.grad
    assert (gradient[:3] == 0).all() and gradient[3].abs().max() > 0
    # Every weight is used: nothing lies idle in the optimiser or in a parallel run.
    query.zero_grad()
    out = query(signals, ids, mask)
    (out["logits"].square().mean() + contrastive_loss(
        out["ecg_latents"], out["text_latents"], out["temperature"])).backward()
    idle = [k for k, p in query.named_parameters() if p.grad is None]
    assert idle == ["img_encoder.norm.weight", "img_encoder.norm.bias"]
    # DistributedDataParallel stops where an output hangs on a weight that gets no gradient.
    out, idle = query(signals, ids, mask), [query.get_parameter(k) for k in idle]
    for name, value in out.items():
        if value.requires_grad:
            found = torch.autograd.grad(value.sum(), idle, retain_graph=True, allow_unused=True)
            assert found == (None, None), name
    for wrong in ({"contrast_pool": "max"}, {"protocol": "published"}):
        with pytest.raises(ModelError, match="choose"):
            esi.ESIConfig(40, **wrong)


@pytest.mark.parametrize("pool", ["mean", "query"])
def test_where_words_look(pool):
    """Weights that, applied by hand, give what the model itself computes."""
    signals, ids, _ = some_batch(2)
    model = small_esi(contrast_pool=pool)
    maps = look(model, signals, ids)
    assert maps["pool"].shape == (2, 2, 3, 10) and maps["words"].shape == (2, 1, 2, 10, 3)
    assert torch.allclose(maps["over_time"].sum(-1), torch.ones(2, 10), atol=1e-5)
    assert ("contrast" in maps) == (pool == "query")
    with torch.no_grad():
        tokens = model.img_encoder(signals)["tokens"]
        value = model.img_attn_pool.to_kv(model.img_attn_pool.context_norm(tokens))[..., 8:]
        mixed = (maps["pool"] @ value[:, None]).transpose(1, 2).flatten(2)
        pooled = model.img_attn_pool_norm(model.img_attn_pool.to_out(mixed))
        assert torch.allclose(pooled, model.encode_ecg(signals)["ecg_tokens"], atol=1e-5)
    with pytest.raises(ModelError, match="protocol paper"):
        look(small_esi("reference"), signals, ids)


# --- encoders ---


def test_vit_and_xresnet_keep_the_contract():
    for name, n_tokens, width in (("small_vit", 100, 64), ("small_xresnet", 32, 128),
                                  ("micro", 31, 32), ("small", 31, 128)):
        encoder = encoder_for(name).eval()
        x = torch.randn(2, 12, 1000)
        with torch.no_grad():
            out, shorter = encoder(x), encoder(x[..., :480])
        assert out["tokens"].shape == (2, n_tokens, width), name
        assert out["embedding"].shape == (2, encoder.width)
        assert shorter["embedding"].shape == (2, encoder.width)
        assert not torch.allclose(out["embedding"][0], out["embedding"][1], atol=1e-3)
        with pytest.raises(ModelError, match="transpose"):
            encoder(x.transpose(1, 2))
    with pytest.raises(ModelError, match="xresnet1d101"):
        encoder_for("resnet")


def test_vit_knows_where_a_patch_is_and_shows_its_attention():
    model = vit1d.ViT1D(vit1d.ViTConfig.preset("small_vit")).eval()
    beat = torch.randn(1, 12, 10)
    x = beat.repeat(1, 1, 6)
    with torch.no_grad():
        out, plain = model(x, return_attention=True), model(x)
    assert torch.allclose(out["tokens"], plain["tokens"], atol=1e-5)
    assert len(out["attention"]) == 4 and out["attention"][0].shape == (1, 4, 6, 6)
    assert torch.allclose(out["attention"][0].sum(-1), torch.ones(1, 4, 6), atol=1e-5)
    assert (out["tokens"][0, 0] - out["tokens"][0, 3]).abs().max() > 0.1
    at = vit1d.positions(50, 64)
    assert torch.equal(at[:20], vit1d.positions(20, 64))  # whatever the record's length
    with pytest.raises(ModelError, match="multiple of n_heads"):
        vit1d.ViTConfig(dim=50, n_heads=4)


def test_every_encoder_is_saved_and_read_back(tmp_path):
    torch.manual_seed(0)
    x = torch.randn(2, 12, 320)
    for name in ("micro", "small_xresnet", "small_vit"):
        encoder = encoder_for(name, norm="time").eval()
        again = load_encoder(save_encoder(encoder, tmp_path / name, fs=100))
        assert again.notes == {"fs": 100} and type(again) is type(encoder) and not again.training
        assert again.config == encoder.config
        assert torch.equal(again(x)["embedding"], encoder(x)["embedding"])
    with pytest.raises(ModelError, match="run notebook 04"):
        load_encoder(tmp_path)
    config = tmp_path / "small_vit" / "config.json"
    for old, new, words in (('"dim": 64', '"dim": 32', "does not fit"),
                            ('"vit1d"', '"x"', "names the encoder")):  # fmt: skip
        (tmp_path / "micro" / "config.json").write_text(config.read_text().replace(old, new))
        with pytest.raises(ModelError, match=words):
            load_encoder(tmp_path / "micro")
    with pytest.raises(ModelError, match="no ECG encoder of the kit"):
        save_encoder(torch.nn.Linear(2, 2), tmp_path)


def test_names_are_those_of_the_settings():
    assert set(encoder_names()) == set(ENCODERS)
