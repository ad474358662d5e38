"""Models of the ECG-QA baselines: published sizes, parity, padding invariance, masks, losses."""

import dataclasses

import numpy as np
import pytest
import torch

from ecgkit.models import losses_qa
from ecgkit.models.ecg_transformer import (
    ECGTransformer,
    ECGTransformerClassifier,
    ECGTransformerConfig,
    pool_tokens,
    roughness,
    token_padding_mask,
)
from ecgkit.models.fusion_qa import BlindQA, FusionConfig, FusionQA
from ecgkit.models.resnet_attention import ResNetAttention
from ecgkit.models.se_wrn import SEWideResNet
from ecgkit.models.wav2vec import Wav2Vec2CMSC, Wav2VecConfig, draw_negatives, span_mask
from ecgkit.types import ConfigError, ModelError

SMALL = {"conv_layers": ((16, 2, 2),) * 4, "dim": 32, "ffn_dim": 48, "n_layers": 2, "n_heads": 4,
         "pos_kernel": 16, "pos_groups": 4}
FUSION = FusionConfig(**SMALL, vocab_size=50, max_text=20, sep_id=3)


def n_parameters(model) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.fixture(scope="module")
def fusion():
    torch.manual_seed(0)
    return FusionQA(FUSION, 7).eval()


@pytest.fixture(scope="module")
def batch():
    torch.manual_seed(1)
    text = torch.randint(5, 50, (3, 8))
    mask = torch.zeros(3, 8, dtype=torch.bool)
    mask[1, 5:] = True
    return {"ecg": torch.randn(3, 12, 200), "ecg_2": torch.randn(3, 12, 200), "text": text,
            "mask": mask}


@pytest.mark.parametrize("build, published", [
    (lambda: FusionQA(FusionConfig(), 103), 114_447_847),
    (lambda: FusionQA(FusionConfig(), 187), 114_641_467),
    (lambda: FusionQA(FusionConfig(n_layers=8), 103), 86_096_359),
    (lambda: BlindQA(FusionConfig(), 103), 108_972_391),
    (lambda: ECGTransformerClassifier(ECGTransformerConfig(), 83), 90_437_075),
    (lambda: ResNetAttention(83), 6_563_127),
    (lambda: ResNetAttention(164), 6_584_916),
    (lambda: SEWideResNet(83), 1_361_757),
    (lambda: SEWideResNet(164), 1_372_206),
    (lambda: Wav2Vec2CMSC(Wav2VecConfig()), 90_883_072),
])
def test_published_parameter_counts(build, published):
    with torch.device("meta"):
        assert n_parameters(build()) == published


def test_pretraining_keys_are_those_of_the_published_checkpoint(shared):
    lines = (shared / "references" / "ecgfm_state_dict.tsv").read_text().splitlines()[1:]
    published = {line.split("\t")[0]: line.split("\t")[1] for line in lines}
    with torch.device("meta"):
        ours = Wav2Vec2CMSC(Wav2VecConfig()).state_dict()
    assert {name: str(tuple(value.shape)) for name, value in ours.items()} == published


def test_older_weight_norm_names_load():
    torch.manual_seed(0)
    model, other = (ECGTransformer(ECGTransformerConfig(**SMALL)).eval() for _ in range(2))
    renamed = {k.replace("parametrizations.weight.original0", "weight_g")
               .replace("parametrizations.weight.original1", "weight_v"): v
               for k, v in model.state_dict().items()}
    other.load_state_dict(renamed)
    signal = torch.randn(2, 12, 200)
    torch.testing.assert_close(other(signal)["x"], model(signal)["x"])


def test_parity_with_every_fairseq_fixture(shared):
    from ecgkit.parity.fairseq import CASES

    files = sorted((shared / "golden").glob("fairseq_*.npz"))
    assert len(files) >= 6
    for file in files:
        arrays = dict(np.load(file))
        case = next(c for c in CASES if c.recognises(file.stem, arrays))
        missed = [c for c in case.compare(arrays, torch.device("cpu")) if not c.passed]
        assert not missed, f"{file.name}: {missed}"


def test_a_wrong_weight_is_noticed(shared):
    from ecgkit.parity.fairseq import compare_se_wrn

    arrays = dict(np.load(shared / "golden" / "fairseq_se_wrn_small.npz"))
    arrays["sd:encoder.conv.weight"] = arrays["sd:encoder.conv.weight"] * 1.01
    with torch.no_grad():
        assert not all(c.passed for c in compare_se_wrn(arrays, torch.device("cpu")))


# --- padding --------------------------------------------------------------------------------------


def test_paper_protocol_does_not_depend_on_question_padding(fusion, batch):
    with torch.no_grad():
        together = fusion(batch["ecg"], batch["text"], text_padding_mask=batch["mask"])["logits"]
        alone = fusion(batch["ecg"][1:2], batch["text"][1:2, :5])["logits"]
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=0)


def test_paper_protocol_one_ecg_alone_equals_one_ecg_beside_pairs(fusion, batch):
    absent = torch.zeros(3, 200, dtype=torch.bool)
    absent[1] = True
    with torch.no_grad():
        mixed = fusion(batch["ecg"], batch["text"], batch["ecg_2"], ecg_2_padding_mask=absent)
        alone = fusion(batch["ecg"][1:2], batch["text"][1:2])
        pairs = fusion(batch["ecg"][[0]], batch["text"][[0]], batch["ecg_2"][[0]])
    torch.testing.assert_close(mixed["logits"][1:2], alone["logits"], atol=1e-5, rtol=0)
    torch.testing.assert_close(mixed["logits"][:1], pairs["logits"], atol=1e-5, rtol=0)


def test_reference_protocol_does_depend_on_question_padding(fusion, batch):
    config = dataclasses.replace(FUSION, protocol="reference")
    reference = FusionQA(config, 7).eval()
    reference.load_state_dict(fusion.state_dict())
    with torch.no_grad():
        together = reference(batch["ecg"], batch["text"], text_padding_mask=batch["mask"])
        alone = reference(batch["ecg"][1:2], batch["text"][1:2, :5])
    assert (together["logits"][1] - alone["logits"][0]).abs().max() > 1e-3


def test_blind_model_does_not_depend_on_padding(batch):
    torch.manual_seed(0)
    model = BlindQA(FUSION, 7).eval()
    with torch.no_grad():
        together = model(batch["text"], batch["mask"])["logits"]
        alone = model(batch["text"][1:2, :5])["logits"]
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=0)


def test_token_mask_follows_the_length_rule():
    config = ECGTransformerConfig(**SMALL)
    padded = torch.zeros(2, 12, 200, dtype=torch.bool)
    padded[1, :, 100:] = True
    mask = token_padding_mask(padded, config, config.n_tokens(200))
    assert config.n_tokens(5000) == 312 and config.n_tokens(2500) == 156
    assert mask.sum(1).tolist() == [0, config.n_tokens(200) - config.n_tokens(100)]


def test_pooling_by_length_and_by_non_zero_entries():
    x = torch.tensor([[[2.0, 0.0], [4.0, 3.0], [9.0, 9.0]]])
    mask = torch.tensor([[False, False, True]])
    assert pool_tokens(x, mask).tolist() == [[3.0, 1.5]]
    assert pool_tokens(x, mask, "reference").tolist() == [[3.0, 3.0]]


# --- attention, starting points, pretraining ------------------------------------------------------


def test_attention_rows_sum_to_one_and_skip_padding(fusion, batch):
    with torch.no_grad():
        out = fusion(batch["ecg"], batch["text"], batch["ecg_2"], text_padding_mask=batch["mask"],
                     return_attention=True)
        plain = fusion(batch["ecg"], batch["text"], batch["ecg_2"],
                       text_padding_mask=batch["mask"])
    torch.testing.assert_close(out["logits"], plain["logits"], atol=1e-5, rtol=0)
    weights = out["attention"][-1]
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    assert weights.masked_select(out["padding_mask"][:, None, None, :]).abs().sum() == 0


def test_fusion_takes_an_ecg_classifier_as_starting_point():
    torch.manual_seed(0)
    classifier = ECGTransformerClassifier(ECGTransformerConfig(**SMALL), 5)
    model = FusionQA(FUSION, 7)
    copied = model.load_ecg_side(classifier)
    assert copied == len(classifier.encoder.state_dict())
    torch.testing.assert_close(model.encoder.feats_layer_norm.weight,
                               classifier.encoder.layer_norm.weight)


def test_pretraining_runs_and_masks_rows_alike():
    rng = np.random.default_rng(0)
    mask = span_mask(4, 31, rng, span=5)
    assert len(set(mask.sum(1))) == 1 and 0 < mask.sum() < mask.size
    torch.manual_seed(0)
    config = Wav2VecConfig(**SMALL, final_dim=16, n_codes=8, code_dim=16, n_negatives=5)
    model = Wav2Vec2CMSC(config).train()
    out = model(torch.randn(4, 12, 500), mask_indices=torch.from_numpy(mask))
    assert out["logits"].shape == (6, 4, mask[0].sum())
    loss = losses_qa.wav2vec_loss(out["logits"], out["quantised"]["prob_perplexity"], 16,
                                  out["features"])
    loss.backward()
    assert torch.isfinite(loss) and model.quantizer.vars.grad.abs().sum() > 0


def test_negatives_come_from_the_same_row_and_are_never_the_step_itself():
    negatives = draw_negatives(3, 7, 50, "cpu").view(3, 7, 50)
    own = torch.arange(21).view(3, 7, 1)
    assert (negatives // 7 == torch.arange(3)[:, None, None]).all()
    assert (negatives != own).all()


# --- losses ---------------------------------------------------------------------------------------


def test_answer_bce_over_valid_classes_only():
    logits, labels = torch.tensor([[0.0, 5.0]]), torch.tensor([[1.0, 0.0]])
    valid = torch.tensor([[True, False]])
    assert losses_qa.answer_bce(logits, labels, valid).item() == pytest.approx(np.log(2), abs=1e-6)
    assert losses_qa.answer_bce(logits, labels, ~valid & valid).item() == 0


def test_attribute_macro_bce_weighs_attributes_alike():
    logits = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    logits[0, 1] = 2.0
    labels = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    targeted = torch.tensor([[True, True], [True, False]])
    expected = 0.5 * (np.log(2) + np.log1p(np.exp(2.0)))
    ours = losses_qa.attribute_macro_bce(logits, labels, targeted).item()
    assert ours == pytest.approx(expected, abs=1e-6)


def test_cmsc_prefers_pairs_of_one_patient_and_is_zero_without_pairs():
    features = torch.eye(4)[[0, 0, 1, 1]].requires_grad_()
    segment = torch.tensor([0, 1, 0, 1])
    matched = losses_qa.cmsc_loss(features, torch.tensor([1, 1, 2, 2]), segment)
    crossed = losses_qa.cmsc_loss(features, torch.tensor([1, 2, 2, 1]), segment)
    assert matched < crossed
    none = losses_qa.cmsc_loss(features, torch.arange(4), segment)
    none.backward()
    assert none.item() == 0 and torch.isfinite(features.grad).all()


@pytest.mark.parametrize("build", [
    lambda: ECGTransformerClassifier(ECGTransformerConfig(**SMALL, dropout=0.0), 3),
    lambda: SEWideResNet(3, widths=(8, 8, 16), n_blocks=1, dropout=0.0),
    lambda: ResNetAttention(3, width=16, n_blocks=2, n_heads=2, dropout=0.0),
])
def test_classifiers_overfit_one_batch(build):
    torch.manual_seed(0)
    model, signal = build(), torch.randn(8, 12, 200)
    labels = (torch.rand(8, 3) > 0.5).float()
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(60):
        loss = losses_qa.attribute_macro_bce(model(signal)["logits"], labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1


def test_roughness_shows_fine_noise_that_the_leads_hide_and_padding_stays_out():
    torch.manual_seed(2)
    beats = torch.zeros(2, 12, 400)
    beats[..., 20::100] = 1.0  # mV
    noise = 0.01 * torch.randn(2, 12, 400)
    quiet, noisy = (roughness(x, 0.01) for x in (beats, beats + noise))
    assert quiet.shape == beats.shape and (quiet[..., [0, -1]] == 0).all()
    between = torch.arange(400) % 100 > 40
    assert quiet[..., between].max() == 0 and noisy[..., between][..., 1:-1].mean() > 1
    mended = ECGTransformer(ECGTransformerConfig(**SMALL, roughness_mv=0.01)).eval()
    assert mended.feature_extractor.conv_layers[0][0].weight.shape[1] == 24
    padded = torch.cat([beats, 5 * torch.randn(2, 12, 80)], -1)
    mask = torch.arange(480)[None].expand(2, -1) >= 400
    with torch.no_grad():
        one, other = (mended(x, padding_mask=mask)["pooled"] for x in
                      (padded, torch.cat([beats, torch.zeros(2, 12, 80)], -1)))
    torch.testing.assert_close(one, other)


def test_convolutions_that_read_other_channels_are_not_passed_over():
    rough = ECGTransformerClassifier(ECGTransformerConfig(**SMALL, roughness_mv=0.01), 5)
    fused = FusionQA(dataclasses.replace(FUSION, roughness_mv=0.01), 7)
    assert fused.load_ecg_side(rough) > 20
    with pytest.raises(ModelError, match="24 channels.*12.*ROUGHNESS_MV"):
        FusionQA(FUSION, 7).load_ecg_side(rough)


def test_a_wrong_setting_is_one_sentence():
    with pytest.raises(ConfigError, match="roughness_mv"):
        ECGTransformerConfig(roughness_mv=-1)
    with pytest.raises(ConfigError, match="protocol"):
        ECGTransformerConfig(protocol="old")
    with pytest.raises(ConfigError, match="n_heads"):
        ECGTransformerConfig(dim=30, n_heads=4)


@pytest.mark.cuda
def test_parity_on_cuda(shared):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    from ecgkit.parity.fairseq import CASES

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    for file in sorted((shared / "golden").glob("fairseq_*.npz")):
        arrays = dict(np.load(file))
        case = next(c for c in CASES if c.recognises(file.stem, arrays))
        for check in case.compare(arrays, torch.device("cuda")):
            assert check.difference < 1e-3, f"{file.name}: {check}"
