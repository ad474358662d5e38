"""ECG-only, ResNet-LSTM, M3AE and MedViLL: published sizes, batch mates, masks, starting points."""

import dataclasses

import pytest
import torch

from ecgkit.models.deaf_qa import DeafQA
from ecgkit.models.ecg_transformer import ECGTransformerClassifier, ECGTransformerConfig
from ecgkit.models.fusion_qa import BlindQA, FusionConfig, FusionQA
from ecgkit.models.m3ae import M3AEQA, M3AEConfig, M3AEPretraining
from ecgkit.models.m3ae_blocks import keep_visible, sinusoids
from ecgkit.models.medvill import MedViLLPretraining, bi_ar_mask, load_medvill
from ecgkit.models.resnet1d import ResNet1D
from ecgkit.models.resnet_lstm import ResNetLSTM, ResNetLSTMConfig
from ecgkit.models.wav2vec import Wav2Vec2CMSC, Wav2VecConfig
from ecgkit.tasks.qa_models import answer
from ecgkit.types import ConfigError, ModelError

SMALL = {"conv_layers": ((16, 2, 2),) * 4, "dim": 32, "ffn_dim": 48, "n_layers": 2, "n_heads": 4,
         "pos_kernel": 16, "pos_groups": 4}
FUSION = FusionConfig(**SMALL, vocab_size=50, max_text=20, sep_id=3)
M3AE = M3AEConfig(**SMALL, vocab_size=50, max_text=20, n_co_layers=2)
LSTM = ResNetLSTMConfig(resnet_blocks=(1, 1, 1, 1), resnet_width=4, vocab_size=50, word_dim=8,
                        lstm_dim=6, dim=12)
P = FUSION.n_tokens(200)
BUILD = {  # small models under either protocol, all with 7 answers
    "fusion": lambda protocol="paper": FusionQA(under(FUSION, protocol), 7),
    "deaf": lambda protocol="paper": DeafQA(under(FUSION, protocol), 7),
    "resnet_lstm": lambda protocol="paper": ResNetLSTM(LSTM, 7),
    "m3ae": lambda protocol="paper": M3AEQA(under(M3AE, protocol), 7),
}


def under(config, protocol: str):
    return dataclasses.replace(config, protocol=protocol)


def build(name: str, protocol: str = "paper") -> torch.nn.Module:
    torch.manual_seed(0)
    model = BUILD[name](protocol)
    for parameter in model.parameters():  # away from biases of 0, which would hide faults
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model.eval()


def ask(model, batch: dict, rows, pairs: bool = True, **how) -> dict:
    """Runs a QA model on some rows of the batch, giving it only what it reads."""
    given = {"ecg": batch["ecg"][rows]}
    if pairs:
        given |= {k: batch[k][rows] for k in ("ecg_2", "ecg_2_padding_mask")}
    if "text" in model.reads:
        given |= {k: batch[k][rows] for k in ("text", "text_padding_mask")}
    with torch.no_grad():
        return model(**given, **how)


@pytest.fixture(scope="module")
def batch():
    """Three questions of 8, 5 and 8 words; the second is about one ECG, the others about two."""
    torch.manual_seed(1)
    padding, absent = torch.zeros(3, 8, dtype=torch.bool), torch.zeros(3, 200, dtype=torch.bool)
    padding[1, 5:], absent[1] = True, True
    ecg_2 = torch.randn(3, 12, 200)
    ecg_2[1] = 0.0
    return {"ecg": torch.randn(3, 12, 200), "ecg_2": ecg_2, "ecg_2_padding_mask": absent,
            "text": torch.randint(5, 50, (3, 8)), "text_padding_mask": padding}


@pytest.mark.parametrize("build, published", [
    (lambda: DeafQA(ECGTransformerConfig(), 103), 90_532_327),
    (lambda: ResNet1D(), 15_959_168),
    (lambda: ResNetLSTM(ResNetLSTMConfig(), 103), 48_428_775),
    (lambda: ResNetLSTM(ResNetLSTMConfig(), 108), 48_433_900),
    (lambda: M3AEQA(M3AEConfig(), 103), 317_573_863),
    (lambda: M3AEPretraining(M3AEConfig()), 346_585_724),
    (lambda: MedViLLPretraining(FusionConfig()), 137_684_155),
])
def test_published_parameter_counts(build, published):
    with torch.device("meta"):
        model = build()
    assert sum(p.numel() for p in model.parameters()) == published


def test_every_qa_model_says_what_it_reads():
    assert [m.reads for m in (FusionQA, ResNetLSTM, M3AEQA)] == [("ecg", "text")] * 3
    assert (DeafQA.reads, BlindQA.reads) == (("ecg",), ("text",))


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("name", BUILD)
def test_questions_that_share_an_ecg_get_what_they_would_get_alone(name, batch, pairs):
    model = build(name)
    of = torch.tensor([1, 0, 1])
    shared = {k: v for k, v in batch.items() if pairs or not k.startswith("ecg_2")}
    apart = answer(model, shared | {"ecg": batch["ecg"][of]})
    once = answer(model, shared | {"ecg": batch["ecg"][:2], "ecg_of": of})
    torch.testing.assert_close(once["logits"], apart["logits"], atol=1e-5, rtol=0)
    wanted, found = (torch.autograd.grad(out["logits"].square().sum(), list(model.parameters()),
                                         allow_unused=True) for out in (apart, once))
    for a, b in zip(wanted, found):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)


# --- batch mates and padding ----------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILD)
def test_logits_do_not_depend_on_batch_mates(name, batch):
    model = build(name)
    together = ask(model, batch, slice(0, 3))["logits"]
    short = {k: v[:, :5] if k.startswith("text") else v for k, v in batch.items()}
    alone = ask(model, short, slice(1, 2), pairs=False)["logits"]
    pair = ask(model, batch, slice(0, 1))["logits"]
    assert together.shape == (3, 7) and together.std(0).min() > 1e-4  # rows do differ
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(together[:1], pair, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", BUILD)
def test_what_stands_in_the_padding_changes_nothing(name, batch):
    model = build(name)
    other = {k: v.clone() for k, v in batch.items()}
    other["ecg_2"][1] = 9.0
    other["text"][1, 5:] = 7
    torch.testing.assert_close(ask(model, batch, slice(0, 3))["logits"],
                               ask(model, other, slice(0, 3))["logits"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", BUILD)
def test_logits_depend_on_both_ecgs_and_on_the_question_where_it_is_read(name, batch):
    model = build(name)
    plain = ask(model, batch, slice(0, 1))["logits"]
    for key in ("ecg", "ecg_2"):
        changed = ask(model, batch | {key: batch[key] + torch.randn(3, 12, 200)}, slice(0, 1))
        assert (changed["logits"] - plain).abs().max() > 1e-4, key
    words = ask(model, batch | {"text": batch["text"].flip(1)}, slice(0, 1))["logits"]
    assert ((words - plain).abs().max() > 1e-4) == ("text" in model.reads)


def test_published_deaf_model_depends_on_batch_mates(batch):
    """Absent ECGs are pooled there: the published fault (1.36 at a logit scale of 0.50)."""
    reference = build("deaf", "reference")
    together = ask(reference, batch, slice(0, 3))["logits"]
    alone = ask(reference, batch, slice(1, 2), pairs=False)["logits"]
    assert (together[1] - alone[0]).abs().max() > 0.1
    torch.testing.assert_close(alone, ask(build("deaf"), batch, slice(1, 2), False)["logits"],
                               atol=1e-5, rtol=0)


def test_published_deaf_window_of_a_padded_first_ecg_shrinks(batch):
    padded = torch.zeros(3, 200, dtype=torch.bool)
    padded[0, 160:] = True
    windows = {protocol: ask(build("deaf", protocol), batch, slice(0, 3), pairs=False,
                             ecg_padding_mask=padded)["parts"]["first"].stop
               for protocol in ("paper", "reference")}
    assert windows == {"paper": P, "reference": FUSION.n_tokens(P)}


def test_deaf_model_of_one_ecg(batch):
    model = DeafQA(FUSION, 7, num_ecgs=1)
    assert ask(model, batch, slice(0, 3), pairs=False)["logits"].shape == (3, 7)
    assert model.proj.in_features == FUSION.dim and not hasattr(model, "sep_embedding")
    with pytest.raises(ModelError, match="num_ecgs"):
        ask(model, batch, slice(0, 3))
    with pytest.raises(ConfigError, match="1 or 2"):
        DeafQA(FUSION, 7, num_ecgs=3)


def test_absent_ecgs_do_not_reach_batch_statistics(batch):
    torch.manual_seed(0)
    model = ResNetLSTM(LSTM, 7).train()
    without = batch["ecg_2"][[0, 2]]
    state = {k: v.clone() for k, v in model.state_dict().items()}
    mixed = model._ecg_vector(batch["ecg_2"], batch["ecg_2_padding_mask"])
    model.load_state_dict(state)
    torch.testing.assert_close(mixed[[0, 2]], model._ecg_vector(without, None))
    assert mixed[1].abs().sum() == 0


# --- M3AE -----------------------------------------------------------------------------------------


def hidden_tokens() -> torch.Tensor:
    """(2, P): 8 of the first ECG's tokens, 5 of the second's."""
    hidden = torch.zeros(2, P, dtype=torch.bool)
    hidden[0, [0, 1, 3, 4, 6, 7, 9, 10]] = True
    hidden[1, 2:7] = True
    return hidden


def pretraining(protocol: str = "paper") -> M3AEPretraining:
    torch.manual_seed(0)
    return M3AEPretraining(under(M3AE, protocol)).eval()


def test_m3ae_pretraining_predicts_words_patches_and_matches(batch):
    out = pretraining()(batch["ecg"][:2], batch["text"][:2], batch["text_padding_mask"][:2],
                        ecg_mask=hidden_tokens())
    assert M3AE.patch == 16
    assert out["mlm_logits"].shape == (2, 8, 50) and out["itm_logits"].shape == (2, 2)
    assert out["mim_prediction"].shape == (2, P, 16 * 12)
    assert out["ecg"].shape[1] == 1 + P - 5  # class token and what the fuller row shows


@pytest.mark.parametrize("protocol, leaks", [("paper", False), ("reference", True)])
def test_hidden_patches_stay_hidden(batch, protocol, leaks):
    """Two hidden patches change places, which leaves all statistics over time as they are."""
    ecg, model = batch["ecg"][:2], pretraining(protocol)
    swapped = ecg.clone()
    swapped[0, :, 0:16], swapped[0, :, 48:64] = ecg[0, :, 48:64], ecg[0, :, 0:16]
    with torch.no_grad():
        a, b = (model(x, batch["text"][:2], ecg_mask=hidden_tokens()) for x in (ecg, swapped))
    change = max(float((a[k] - b[k]).abs().max())
                 for k in ("mlm_logits", "mim_prediction", "itm_logits"))
    assert change > 1e-4 if leaks else change < 1e-5


def test_m3ae_pretraining_does_not_depend_on_batch_mates(batch):
    model, hidden = pretraining(), hidden_tokens()
    with torch.no_grad():
        both = model(batch["ecg"][:2], batch["text"][:2], batch["text_padding_mask"][:2],
                     ecg_mask=hidden)
        first = model(batch["ecg"][:1], batch["text"][:1], ecg_mask=hidden[:1])
    for name in ("mlm_logits", "mim_prediction", "itm_logits"):
        torch.testing.assert_close(both[name][:1], first[name], atol=1e-5, rtol=0)


def test_every_weight_of_m3ae_pretraining_is_used(batch):
    model = pretraining().train()
    out = model(batch["ecg"][:2], batch["text"][:2], batch["text_padding_mask"][:2],
                ecg_mask=hidden_tokens())
    sum(out[k].pow(2).sum() for k in ("mlm_logits", "mim_prediction", "itm_logits")).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_visible_tokens_keep_their_order_and_places():
    tokens = torch.arange(2 * P).view(2, P, 1).float()
    visible, order, empty = keep_visible(tokens, hidden_tokens())
    assert order[0, ~empty[0]].tolist() == [2, 5, 8, 11]
    assert visible[1, :, 0].tolist() == [P + i for i in order[1].tolist()] and not empty[1].any()
    codes = sinusoids(5, 6)
    assert codes[0].tolist() == [0, 1] * 3 and codes[3, 0] == pytest.approx(0.14112, abs=1e-5)


def test_m3ae_attention_is_on_the_other_stream(batch):
    out = ask(build("m3ae"), batch, slice(0, 3), return_attention=True)
    weights, words = out["attention"][-1], out["parts"]["text"]
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    assert weights[..., words, words].abs().sum() == 0
    assert weights.masked_select(out["padding_mask"][:, None, None, :]).abs().sum() == 0
    assert len(out["attention"]) == 2 and out["x"].shape[1] == weights.shape[-1]
    second = out["parts"]["second"]
    assert second.stop - second.start == P
    plain = ask(build("m3ae"), batch, slice(0, 3))["logits"]
    torch.testing.assert_close(out["logits"], plain, atol=1e-5, rtol=0)


def test_m3ae_depths_follow_the_ecg_transformer():
    assert M3AEConfig().depths == {"text": 12, "co": 6, "mim": 3, "decoder": 4}
    assert M3AEConfig(n_layers=2).depths == {"text": 2, "co": 1, "mim": 1, "decoder": 1}
    assert M3AEConfig(n_layers=2, n_co_layers=4, mim_layer=9).depths["mim"] == 4


def test_m3ae_takes_a_text_encoder_of_another_width(batch):
    from ecgkit.text.encoders import small_bert

    model = M3AEQA(M3AE, 7, text_encoder=small_bert(50, width=64, n_layers=1)).eval()
    assert ask(model, batch, slice(0, 3))["logits"].shape == (3, 7)


# --- MedViLL --------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["bi_ar", "bidirectional"])
def test_medvill_words_and_matches_do_not_depend_on_padding(batch, attention):
    torch.manual_seed(0)
    model = MedViLLPretraining(FUSION, attention).eval()
    with torch.no_grad():
        both = model(batch["ecg"], batch["text"], batch["text_padding_mask"])
        one = model(batch["ecg"][1:2], batch["text"][1:2, :5])
    assert both["mlm_logits"].shape == (3, 8, 50) and both["alignment_logits"].shape == (3,)
    torch.testing.assert_close(both["mlm_logits"][1:2, :5], one["mlm_logits"], atol=1e-5, rtol=0)
    torch.testing.assert_close(both["alignment_logits"][1:2], one["alignment_logits"], atol=1e-5,
                               rtol=0)


def test_bi_ar_mask_bars_later_words_only():
    assert bi_ar_mask(2, 3).int().tolist() == [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 1, 1],
                                               [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]


@pytest.mark.parametrize("attention, n_layers, reached", [
    ("bi_ar", 1, False), ("bi_ar", 2, True), ("bidirectional", 1, True),
])
def test_whether_a_later_word_reaches_the_first(batch, attention, n_layers, reached):
    """With two layers it does under bi_ar too, through ECG tokens: as published."""
    torch.manual_seed(0)
    config = dataclasses.replace(FUSION, n_layers=n_layers)
    model = MedViLLPretraining(config, attention).eval()
    changed = batch["text"].clone()
    changed[:, 6] = 5 + (changed[:, 6] - 4) % 45
    with torch.no_grad():
        a, b = (model(batch["ecg"], t)["mlm_logits"][:, 0] for t in (batch["text"], changed))
    assert ((a - b).abs().max() > 1e-6) == reached


def test_masked_attention_maps_agree_with_the_fast_path(batch):
    torch.manual_seed(0)
    model = MedViLLPretraining(FUSION).eval()
    with torch.no_grad():
        slow = model(batch["ecg"], batch["text"], return_attention=True)
        fast = model(batch["ecg"], batch["text"])
    torch.testing.assert_close(slow["mlm_logits"], fast["mlm_logits"], atol=1e-5, rtol=0)
    barred = bi_ar_mask(P, 8)
    assert all(m.masked_select(barred).abs().sum() == 0 for m in slow["attention"])
    per_row = barred.expand(3, -1, -1)  # the same mask, one a row
    tokens = torch.randn(3, P + 8, FUSION.dim)
    layers = model.encoder.encoder
    torch.testing.assert_close(layers(tokens, attention_mask=per_row)[0],
                               layers(tokens, attention_mask=barred)[0])


def test_text_mask_shows_the_mask_vector_whatever_the_word(batch):
    torch.manual_seed(0)
    model = MedViLLPretraining(FUSION).eval()
    hidden = torch.zeros(3, 8, dtype=torch.bool)
    hidden[:, 3] = True
    changed = batch["text"].clone()
    changed[:, 3] = 9
    out = [model(batch["ecg"], t, text_mask=hidden)["mlm_logits"] for t in (batch["text"], changed)]
    torch.testing.assert_close(out[0], out[1])
    out[0].sum().backward()
    assert model.mask_emb.grad.abs().sum() > 0
    with pytest.raises(ConfigError, match="bi_ar"):
        MedViLLPretraining(FUSION, "causal")


# --- starting points ------------------------------------------------------------------------------


def test_answering_models_start_from_pretraining(batch):
    torch.manual_seed(0)
    longer = dataclasses.replace(M3AE, max_text=30)  # reports are longer than questions
    pretrained, model = M3AEPretraining(longer), M3AEQA(M3AE, 7)
    assert model.load_pretrained(pretrained) == len(model.encoder.state_dict())
    name = "language_encoder.embeddings.position_embeddings.weight"
    torch.testing.assert_close(model.encoder.state_dict()[name],
                               pretrained.encoder.state_dict()[name][:20])
    medvill, fusion = MedViLLPretraining(FUSION), FusionQA(FUSION, 7)
    assert load_medvill(fusion, medvill) == len(fusion.encoder.state_dict())
    torch.testing.assert_close(fusion.encoder.state_dict(), medvill.encoder.state_dict())
    with pytest.raises(ModelError, match="load_ecg_side"):
        model.load_pretrained(medvill)


@pytest.mark.parametrize("target", [
    lambda: DeafQA(FUSION, 7), lambda: FusionQA(FUSION, 7), lambda: M3AEQA(M3AE, 7),
    lambda: M3AEPretraining(M3AE), lambda: MedViLLPretraining(FUSION),
])
def test_ecg_side_comes_from_a_classifier_or_from_wav2vec(target):
    config = ECGTransformerConfig(**SMALL)
    small = Wav2VecConfig(**SMALL, final_dim=16, n_codes=8, code_dim=16)
    n = len(ECGTransformerClassifier(config, 5).encoder.state_dict())
    for source in (ECGTransformerClassifier(config, 5), Wav2Vec2CMSC(small)):
        model = target()
        assert model.load_ecg_side(source) == n
        given = source.state_dict()
        name = next(k for k in given if k.endswith("encoder.layers.1.fc1.weight"))
        own = next(v for k, v in model.state_dict().items()
                   if k.endswith("encoder.layers.1.fc1.weight"))
        torch.testing.assert_close(own, given[name])
    with pytest.raises(ModelError, match="no ECG transformer"):
        model.load_ecg_side(torch.nn.Linear(2, 2))


def test_weights_of_another_size_are_refused():
    other = ECGTransformerClassifier(ECGTransformerConfig(**SMALL | {"dim": 64}), 5)
    for model in (DeafQA(FUSION, 7), FusionQA(FUSION, 7), M3AEQA(M3AE, 7)):
        with pytest.raises(ModelError, match="same sizes"):
            model.load_ecg_side(other)
