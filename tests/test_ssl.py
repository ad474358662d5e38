"""Self-supervised pretraining: losses by definition, BYOL's target, exact resume, learning, and the
way into a classifier."""

import dataclasses

import numpy as np
import pytest
import torch

from ecgkit.config import BaselinesConfig
from ecgkit.config.ssl_pretraining import SSL_KINDS, SslSettings
from ecgkit.models.convnext import ConvNeXt1D, ConvNeXtConfig
from ecgkit.models.ecg_transformer import ECGTransformer
from ecgkit.models.fusion_qa import FusionConfig, FusionQA
from ecgkit.models.losses_ssl import byol_loss, nt_xent
from ecgkit.models.se_wrn import SEWideResNet
from ecgkit.models.ssl_heads import BYOL, SimCLR, Wav2VecPretraining, byol_decay, embed_pooled
from ecgkit.models.wav2vec import GumbelQuantiser, Wav2Vec2CMSC, Wav2VecConfig, span_mask
from ecgkit.models.xresnet import XResNet1D, XResNetConfig
from ecgkit.tasks import ssl_pretrain
from ecgkit.tasks.ssl_losses import collapse_monitors, loss_function, token_monitors
from ecgkit.tasks.upperbound import build_classifier, transformer_config
from ecgkit.types import ConfigError, DataError, ModelError


@dataclasses.dataclass(frozen=True)
class _Config(BaselinesConfig, SslSettings):
    """A study that answers questions and pretrains."""


TINY = {"preset": "tiny", "device": "cpu"}
SIZES = dict(conv_layers=((16, 2, 2),) * 4, dim=32, ffn_dim=64, n_layers=1, n_heads=2,
             pos_kernel=8, pos_groups=4, dropout=0.0, attention_dropout=0.0,
             feature_dropout=0.0, final_dim=16, n_codes=8, code_dim=16, n_negatives=7)


@pytest.fixture(scope="module")
def config():
    return _Config.from_params(TINY)


@pytest.fixture(scope="module")
def data(tiny_cohort):
    rows = tiny_cohort.rows("train")
    return tiny_cohort, rows, tiny_cohort.table["patient_id"].to_numpy()[rows]


def train(module, loss_fn, batch, n_steps, lr=3e-3):
    """Losses of the first and the last of `n_steps` on one batch."""
    torch.manual_seed(0)
    optimiser = torch.optim.Adam(module.train().parameters(), lr=lr)
    rows = []
    for _ in range(n_steps):
        losses = loss_fn(module, batch)
        optimiser.zero_grad()
        losses["loss"].backward()
        optimiser.step()
        rows.append({k: v.item() for k, v in losses.items()})
    return rows[0], rows[-1]


# --- losses ---------------------------------------------------------------------------------------


def test_nt_xent_is_its_definition():
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 5, 8)).astype(np.float32)
    unit = np.concatenate([first, second])
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    total = 0.0
    for i in range(10):
        others = [np.exp(unit[i] @ unit[k] / 0.2) for k in range(10) if k != i]
        total -= np.log(np.exp(unit[i] @ unit[(i + 5) % 10] / 0.2) / sum(others))
    ours = nt_xent(torch.from_numpy(first), torch.from_numpy(second), 0.2)
    assert ours.item() == pytest.approx(total / 10, rel=1e-5)


def test_nt_xent_of_views_all_alike_is_the_logarithm_of_the_others():
    same = torch.ones(4, 3)
    assert nt_xent(same, same).item() == pytest.approx(np.log(7), rel=1e-6)


def test_byol_loss_is_the_squared_distance_of_unit_vectors_both_ways():
    p, q, s, t = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0))
    unit = [v / v.norm(dim=1, keepdim=True) for v in (p, q, s, t)]
    pairs = ((unit[0], unit[3]), (unit[1], unit[2]))
    expected = sum(((a - b) ** 2).sum(1).mean() for a, b in pairs)
    assert byol_loss(p, q, s, t).item() == pytest.approx(expected.item(), rel=1e-5)
    assert byol_loss(p, q, q, p).item() == pytest.approx(0, abs=1e-6)


def test_monitors_tell_spread_from_collapse():
    g = torch.Generator().manual_seed(0)
    spread = collapse_monitors(torch.randn(2000, 16, generator=g))
    assert spread["embedding_std"].item() == pytest.approx(1, abs=0.03)
    assert abs(spread["cosine_others"].item()) < 0.01
    alike = collapse_monitors(torch.ones(20, 16) + 1e-4 * torch.randn(20, 16, generator=g))
    assert alike["embedding_std"] < 1e-3 and alike["cosine_others"] > 0.999
    pair = collapse_monitors(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    assert pair["cosine_others"].item() == pytest.approx(0, abs=1e-6)


def test_tokens_whose_distractors_are_all_the_same_code_do_not_count_as_right():
    logits = torch.tensor([[[1.0, 5.0, 1.0]], [[2.0, 1.0, -torch.inf]], [[0.0, 2.0, -torch.inf]]])
    quantised = {"prob_perplexity": torch.tensor(2.0), "code_perplexity": torch.tensor(2.0)}
    found = token_monitors(logits, quantised)
    assert found["accuracy"].item() == 0.5
    assert found["same_code"].item() == pytest.approx(2 / 6)


# --- modules --------------------------------------------------------------------------------------


def test_the_quantiser_passes_gradients_to_codes_and_to_their_choice():
    torch.manual_seed(0)
    quantiser = GumbelQuantiser(Wav2VecConfig(**SIZES)).train()
    features = torch.randn(3, 9, 16)
    out = quantiser(features, 1.0)
    (out["x"] * torch.randn_like(out["x"])).sum().backward()
    touched = quantiser.vars.grad[0].abs().sum(1) > 0
    assert 2 <= touched.sum() <= 16  # the drawn codes, no others
    assert quantiser.weight_proj.weight.grad.abs().sum() > 0
    books = quantiser.vars.detach().view(2, 8, -1)
    codes = quantiser.eval()(features)
    assert torch.equal(codes["x"][0, 0, :8], books[0, codes["codes"][0, 0, 0]])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_gumbel_temperature_follows_the_optimiser_step(accumulate):
    torch.manual_seed(0)
    sizes = Wav2VecConfig(**SIZES, code_temperature=(2.0, 0.5, 0.9))
    module = Wav2VecPretraining(Wav2Vec2CMSC(sizes), accumulate).train()
    mask = torch.from_numpy(span_mask(2, 6, np.random.default_rng(0), span=2))
    seen = [float(module(torch.randn(2, 12, 100), mask)["temperature"]) for _ in range(6)]
    assert seen == pytest.approx([max(2 * 0.9 ** (i // accumulate), 0.5) for i in range(6)])
    module.eval()(torch.randn(2, 12, 100), mask)
    assert int(module.micro_step) == 6  # evaluation does not count


@pytest.mark.parametrize("accumulate", [1, 3])
def test_byols_target_is_the_exact_average_of_updates(accumulate):
    torch.manual_seed(0)
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(24, 6))
    module = BYOL(encoder, 6, 8, 4, n_steps=5, decay=0.9, accumulate=accumulate).train()
    parts = lambda a, b: [*a.parameters(), *b.parameters()]  # noqa: E731
    online = parts(module.encoder, module.projector)
    target = parts(module.target_encoder, module.target_projector)
    expected = [p.detach().clone() for p in online]
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    for step in range(4):
        for part in range(accumulate):
            out = module(*torch.randn(2, 7, 2, 12))
            if part == 0 and step:
                decay = byol_decay(step - 1, 5, 0.9)
                expected = [decay * e + (1 - decay) * p.detach() for e, p in zip(expected, online)]
            for mine, theirs in zip(target, expected):
                torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)
            loss = byol_loss(*(out[f"{k}_{i}"] for k in ("predicted", "target") for i in (1, 2)))
            loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    assert all(p.grad is None and not p.requires_grad for p in target)
    assert not torch.equal(target[0], online[0])
    assert byol_decay(0, 100) == pytest.approx(0.996) and byol_decay(100, 100) == 1


def test_simclrs_and_byols_forward_take_both_views_through_one_encoder():
    torch.manual_seed(0)
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(24, 6))
    module = SimCLR(encoder, 6, 8, 4).eval()
    first, second = torch.randn(2, 3, 2, 12)
    out = module(first, second)
    torch.testing.assert_close(out["z_2"], module.projector(encoder(second)))
    assert torch.equal(out["embedding"], encoder(first))
    with pytest.raises(ModelError, match="embed="):
        embed_pooled(SEWideResNet(3, widths=(4, 4, 8), n_blocks=1), torch.randn(2, 12, 100))


# --- learning -------------------------------------------------------------------------------------


def test_wav2vec_overfits_one_batch():
    torch.manual_seed(0)
    module = Wav2VecPretraining(Wav2Vec2CMSC(Wav2VecConfig(**SIZES)))
    config = _Config.from_params({**TINY, "ssl_codes": 8, "ssl_kind": "w2v"})
    signal = torch.randn(4, 12, 500).cumsum(-1)
    signal = (signal - signal.mean(-1, keepdim=True)) / signal.std(-1, keepdim=True)
    mask = torch.from_numpy(span_mask(4, 31, np.random.default_rng(0), 0.5, 3))
    batch = {"signal": signal, "mask": mask, "patient": torch.arange(4),
             "segment": torch.tensor([0, 1, 0, 1])}
    first, last = train(module, loss_function(config, "w2v"), batch, 150, lr=5e-3)
    assert first["accuracy"] < 0.35 and last["accuracy"] > 0.7
    assert last["code_perplexity"] > 3


@pytest.mark.parametrize("kind", ["cmsc", "simclr", "byol"])
def test_contrast_pulls_pairs_together(kind, config, data):
    cohort, rows, patients = data
    config = dataclasses.replace(config, ssl_lead_mask=0.1)
    store = cohort.store
    settings = ssl_pretrain.train_settings(config, len(rows))
    module = ssl_pretrain.build_module(config, kind, store, None, embed_pooled, settings)
    people = ssl_pretrain.patient_numbers(patients)
    if kind == "cmsc":
        sizes = module.encoder.config
        make = ssl_pretrain.halves_maker(config, kind, store, rows, people, sizes)
    else:
        make = ssl_pretrain.views_maker(config, store, rows)
    batch = make(np.arange(16), np.random.default_rng(0))
    first, last = train(module, loss_function(config, kind), batch, 40)
    assert last["found_partner"] > 0.85 > first["found_partner"]
    assert last["loss"] < 0.6 * first["loss"] and last["embedding_std"] > 0.1


@pytest.mark.parametrize("kind", SSL_KINDS)
def test_each_kind_trains_and_resumes_to_the_same_weights(kind, config, data, tmp_path):
    whole = ssl_pretrain.pretrain(config, *data, kind, tmp_path / "whole")
    assert whole.log.finished and len(whole.log.table)
    assert np.isfinite([v for k, v in whole.log.last.items()]).all()
    for sitting in range(4):  # no time at all: one step a sitting
        parts = ssl_pretrain.pretrain(config, *data, kind, tmp_path / "parts", time_budget_s=0)
        assert parts.log.finished == (sitting == 3)
    ours, theirs = whole.module.state_dict(), parts.module.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    again = ssl_pretrain.pretrain(config, *data, kind, tmp_path / "whole")
    assert again.log.reused and torch.equal(
        next(again.encoder.parameters()), next(whole.encoder.parameters())
    )
    if kind == "byol":
        frozen = whole.module.target_encoder.state_dict()
        moved = [k for k, v in frozen.items() if not torch.equal(v, ours[f"encoder.{k}"])]
        assert moved and int(whole.module.micro_step) == 4


def test_accumulated_steps_move_the_target_once_each(config, data, tmp_path):
    config = dataclasses.replace(config, ssl_accumulate=2, ssl_steps=3)
    out = ssl_pretrain.pretrain(config, *data, "byol", tmp_path)
    assert int(out.module.micro_step) == 6 and out.log.finished


@pytest.mark.parametrize("encoder, embed", [
    (lambda: ConvNeXt1D(ConvNeXtConfig(depths=(1, 1), dims=(8, 16))), embed_pooled),
    (lambda: XResNet1D(XResNetConfig(stem=(4, 4, 8), layers=(1, 1), widths=(4, 4))), embed_pooled),
    (lambda: SEWideResNet(3, widths=(4, 4, 8), n_blocks=1),
     lambda model, signal: model(signal)["encoder_out"].mean(-1)),
], ids=["convnext", "xresnet", "se_wrn"])
@pytest.mark.parametrize("kind", ["simclr", "byol"])
def test_any_encoder_can_be_pretrained(kind, encoder, embed, config, data, tmp_path):
    config = dataclasses.replace(config, ssl_steps=2)
    given = encoder()
    before = {k: v.clone() for k, v in given.state_dict().items()}
    out = ssl_pretrain.pretrain(config, *data, kind, tmp_path, encoder=given, embed=embed)
    assert out.encoder is given and np.isfinite(out.log.last["loss"])
    assert any(not torch.equal(before[k], v) for k, v in given.state_dict().items())
    assert ssl_pretrain.encoder_for_classifier(out).keys() == before.keys()


# --- data and hand-over ---------------------------------------------------------------------------


def test_batches_hold_both_halves_of_each_ecg_and_its_patient(config, data):
    cohort, rows, patients = data
    sizes = ssl_pretrain.build_wav2vec(config).config
    people = ssl_pretrain.patient_numbers(patients)
    halves = {}
    for kind in ("w2v_cmsc", "w2v_cmsc_rlm", "cmsc"):
        make_batch = ssl_pretrain.halves_maker(config, kind, cohort.store, rows, people, sizes)
        halves[kind] = make_batch(np.array([5, 2, 9]), np.random.default_rng(0))
    batch, signal = halves["w2v_cmsc"], torch.from_numpy(cohort.store.read(rows[[5, 2, 9]]))
    assert torch.equal(batch["signal"][2], signal[1, :, :500])
    assert torch.equal(batch["signal"][3], signal[1, :, 500:])
    assert batch["segment"].tolist() == [0, 1, 0, 1, 0, 1]
    assert batch["patient"].tolist() == people[[5, 5, 2, 2, 9, 9]].tolist()
    assert batch["mask"].shape == (6, sizes.n_tokens(500)) and "mask" not in halves["cmsc"]
    silent = (halves["w2v_cmsc_rlm"]["signal"] == 0).all(-1)
    assert 0.2 < silent.float().mean() < 0.8 and not silent.all(1).any()


def test_unknown_patients_are_nobody_else():
    numbers = ssl_pretrain.patient_numbers(np.array([7.0, np.nan, 7.0, np.nan, 3.0]))
    assert numbers[0] == numbers[2] and len(set(numbers.tolist())) == 4
    assert ssl_pretrain.patient_numbers(np.array(["a", None, "a"], dtype=object))[2] == 0


@pytest.mark.parametrize("kind", ["w2v_cmsc_rlm", "simclr"])
def test_a_pretrained_encoder_starts_a_classifier_and_a_fusion_model(kind, config, data, tmp_path):
    cohort, rows, patients = data
    trained = ssl_pretrain.pretrain(config, cohort, rows, patients, kind, tmp_path)
    config = ssl_pretrain.encoder_settings(config)
    classifier = build_classifier(config, "ecg_transformer", 5).eval()
    signal = torch.from_numpy(cohort.store.read(rows[:3]))
    before = classifier(signal)["pooled"]
    n = ssl_pretrain.start_classifier(classifier, trained)
    pooled = classifier(signal)["pooled"]
    assert n == len(classifier.encoder.state_dict()) and not torch.allclose(before, pooled)
    torch.testing.assert_close(pooled, trained.encoder(signal)["pooled"], rtol=0, atol=1e-5)
    fusion = FusionQA(transformer_config(config, FusionConfig, vocab_size=50, max_text=16), 7)
    assert fusion.load_ecg_side(classifier) == n
    wider = build_classifier(dataclasses.replace(config, dim=64), "ecg_transformer", 5)
    with pytest.raises(ModelError, match="same DIM"):
        ssl_pretrain.start_classifier(wider, trained)


def test_a_store_will_do_and_wrong_input_is_a_sentence(config, data, tmp_path):
    cohort, rows, patients = data
    out = ssl_pretrain.pretrain(config, cohort.store, rows, patients, "cmsc", tmp_path)
    assert out.log.finished
    with pytest.raises(ConfigError, match="choose one of w2v"):
        ssl_pretrain.pretrain(config, *data, "moco", tmp_path)
    with pytest.raises(DataError, match="patient of each row"):
        ssl_pretrain.pretrain(config, cohort, rows, patients[1:], "cmsc", tmp_path)
    with pytest.raises(ModelError, match="simclr or byol"):
        plain = ECGTransformer(transformer_config(config))
        ssl_pretrain.pretrain(config, *data, "w2v", tmp_path, encoder=plain)
    with pytest.raises(DataError, match="SSL_ACCUMULATE"):
        few = dataclasses.replace(config, ssl_accumulate=3)
        ssl_pretrain.pretrain(few, cohort, rows[:4], patients[:4], "cmsc", tmp_path)
    with pytest.raises(DataError, match="SSL_N_CONVS"):
        deep = dataclasses.replace(config, ssl_n_convs=8)
        ssl_pretrain.pretrain(deep, *data, "w2v", tmp_path)


@pytest.mark.parametrize("wrong, words", [
    ({"ssl_batch": 1}, "SSL_BATCH"), ({"ssl_batch": 8, "ssl_accumulate": 5}, "SSL_ACCUMULATE"),
    ({"ssl_kind": "moco"}, "SSL_KIND"), ({"ssl_temperature": 0}, "SSL_TEMPERATURE"),
    ({"ssl_crop": 1.5}, "SSL_CROP"), ({"ssl_lead_mask": -1}, "SSL_LEAD_MASK"),
    ({"ssl_steps": -1}, "SSL_STEPS"), ({"ssl_code_dim": 15}, "SSL_CODEBOOKS"),
])
def test_settings_that_contradict_are_refused(wrong, words):
    with pytest.raises(ConfigError, match=words):
        _Config.from_params({**TINY, **wrong})


def test_every_preset_leaves_tokens_to_mask():
    for preset in ("tiny", "demo", "paper"):
        config = _Config.from_params({"preset": preset})
        with torch.device("meta"):
            sizes = ssl_pretrain.build_wav2vec(config).config
        n_tokens = sizes.n_tokens(config.n_samples // 2)
        mask = span_mask(4, n_tokens, np.random.default_rng(0), config.ssl_mask_share,
                         config.ssl_mask_span)
        assert n_tokens >= 20 and 0.3 < mask.mean() < 0.65
    assert sizes.n_tokens(2500) == 156  # published


def test_the_paper_preset_is_the_published_recipe():
    config = _Config.from_params({"preset": "paper"})
    assert (config.ssl_batch, config.ssl_lr, config.ssl_eps) == (512, 5e-5, 1e-6)
    assert config.ssl_updates(5120) == 200 * 10
    with torch.device("meta"):
        model = ssl_pretrain.build_wav2vec(config)
    assert sum(p.numel() for p in model.parameters()) == 90_883_072
    assert model.config == dataclasses.replace(Wav2VecConfig(), protocol=config.protocol)
