"""ESI studies: captions reach the model whole, one batch is overfitted, training resumes,
scores.
"""

import numpy as np
import pytest
import torch

from ecgkit.config import EsiConfig, EsiEvalConfig
from ecgkit.reports import esi_figures
from ecgkit.tasks import esi_eval, esi_pretrain
from ecgkit.text.prompts import superclass_prompts
from ecgkit.types import ConfigError, ModelError


@pytest.fixture(scope="module")
def config():
    return EsiConfig.from_params({"preset": "tiny", "n_steps": 4})


@pytest.fixture(scope="module")
def study(config, tiny_cohort):
    return esi_pretrain.prepare(config, tiny_cohort)


@pytest.fixture(scope="module")
def trained(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("esi")
    log = esi_pretrain.pretrain(study, folder / "training")
    return esi_pretrain.save_study(study, folder), log


def test_settings_that_contradict_are_refused():
    with pytest.raises(ConfigError, match="FULL_SHARE"):
        EsiConfig.from_params({"full_share": 2})
    with pytest.raises(ConfigError, match="N_SHORT"):
        EsiConfig.from_params({"n_short": 0})
    assert EsiEvalConfig.from_params({"preset": "tiny"}).n_boot == 50


def test_tokenizer_knows_training_captions_only(study):
    train = set(study.cohort.rows("train").tolist())
    assert len(study.training_texts()) == len(train) * study.ids.shape[1]
    assert study.ids.shape == study.mask.shape
    assert (study.ids[study.mask == 0] == 0).all() and (study.ids[..., 0] == 2).all()


def test_preparing_twice_gives_the_same_tokens(study, config, tiny_cohort):
    again = esi_pretrain.prepare(config, tiny_cohort)
    assert np.array_equal(again.ids, study.ids)
    assert torch.equal(again.model.img_token_head.weight, study.model.img_token_head.weight)


def test_batches_depend_on_the_generator_alone(study):
    make = esi_pretrain.batch_maker(study, study.cohort.rows("train"))
    one, two = (make(np.arange(8), np.random.default_rng([0, 2, 5])) for _ in range(2))
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert one["signals"].shape == (8, 12, 1000) and one["ids"].dtype == torch.int64
    assert one["mask"].sum(1).max() == one["mask"].shape[1]


@pytest.mark.parametrize("protocol", ["paper", "reference"])
def test_one_batch_is_overfitted(study, tiny_cohort, protocol):
    config = EsiConfig.from_params(
        {"preset": "tiny", "protocol": protocol, "text_gradient": 1.0}
    )
    torch.manual_seed(0)
    small = esi_pretrain.prepare(config, tiny_cohort)
    rows = _distinct_rows(small, 6)
    batch, loss_fn = esi_pretrain.fixed_batch(small, rows), esi_pretrain.loss_function(config)
    batch["signals"] = batch["signals"][..., :400]  # four seconds tell six records apart
    optimiser = torch.optim.AdamW(small.model.parameters(), lr=2e-3)
    start = loss_fn(small.model, batch)
    for _ in range(150):
        out = loss_fn(small.model, batch)
        optimiser.zero_grad()
        out["loss"].backward()
        optimiser.step()
    assert out["contrastive"] < 0.35 * start["contrastive"] and out["retrieved"] == 1
    assert out["caption"] < 0.5 * start["caption"]


def _distinct_rows(study, n):
    """Rows whose full captions differ, for equal ones cannot be told apart."""
    first = {}
    for row in study.cohort.rows("train"):
        first.setdefault(study.captions.full[row].split("ECG Findings")[1], row)
    return np.array(list(first.values())[:n])


def test_files_and_reading_back(trained, study):
    folder, log = trained
    assert log.finished and {"contrastive", "caption", "retrieved"} <= set(log.table)
    assert np.isfinite(log.last["eval_caption"])
    model, tokenizer, config, texts = esi_pretrain.load_trained(folder)
    assert config == study.config and len(tokenizer) == len(study.tokenizer)
    assert set(texts) == set(study.training_texts())
    rows = study.cohort.rows("test")[:3]
    ours = esi_eval.embed(study.model, study.cohort, rows)["latents"]
    assert np.allclose(ours, esi_eval.embed(model, study.cohort, rows)["latents"], atol=1e-5)
    with pytest.raises(ModelError, match="run notebook 04"):
        esi_pretrain.load_trained(folder / "encoder")


def test_finished_training_is_not_repeated(trained, study):
    folder, _ = trained
    assert esi_pretrain.pretrain(study, folder / "training").reused


def test_generated_captions_are_text(trained, study):
    said = esi_pretrain.generated_captions(study, study.cohort.rows("test")[:2], max_tokens=5)
    assert len(said) == 2 and all(isinstance(text, str) for text in said)


def test_pair_statistics():
    perfect = esi_pretrain.pair_statistics(np.eye(4))
    assert perfect == {"gap": 1.0, "rank": 1.0, "n": 4}
    assert esi_pretrain.pair_statistics(np.zeros((4, 4)))["rank"] == 0.5


def test_zero_shot_scores_and_intervals(trained, study):
    model, tokenizer, *_ = esi_pretrain.load_trained(trained[0])
    asked = superclass_prompts(["NORM", "MI"])
    latents = esi_eval.prompt_latents(model, tokenizer, asked)
    assert latents.shape == (2, 32) and np.allclose(np.linalg.norm(latents, axis=1), 1, atol=1e-5)
    rows = study.cohort.rows("test")
    scores = esi_eval.zero_shot(esi_eval.embed(model, study.cohort, rows)["latents"], latents)
    assert scores.shape == (len(rows), 2) and (np.abs(scores) <= 1.001).all()


def test_a_class_with_one_label_is_left_out():
    labels = np.array([[1, 0], [0, 0], [1, 0], [0, 0]], dtype=float)
    table = esi_eval.auc_table(labels, labels.copy(), ["A", "B"], np.arange(4), n_boot=20)
    assert table["name"].tolist() == ["A"] and table["auc"].iloc[0] == 1


def test_probe_learns_a_linear_rule_and_survives_an_empty_class():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 5))
    labels = np.stack([x[:, 0] > 0, np.zeros(200)], axis=1).astype(float)
    scores = esi_eval.linear_probe(x[:150], labels[:150], x[150:])
    assert ((scores[:, 0] > 0.5) == (labels[150:, 0] > 0.5)).mean() > 0.9
    assert (scores[:, 1] == 0).all()


def test_saliency_has_one_weight_per_sample(trained, study):
    model, tokenizer, *_ = esi_pretrain.load_trained(trained[0])
    latent = esi_eval.prompt_latents(model, tokenizer, superclass_prompts(["MI"]))[0]
    weights = esi_eval.prompt_saliency(model, study.cohort.record(0).signal, latent)
    assert weights.shape == (1000,) and weights.min() >= 0 and weights.max() <= 1


def test_figures(trained, study):
    rows = study.cohort.rows("valid")[:6]
    matrix = esi_pretrain.similarity(study, rows)
    assert esi_figures.plot_similarity(matrix, matrix).axes
    row = esi_pretrain.richest_row(study, rows)
    assert esi_figures.plot_captioned_ecg(study.cohort.record(row), study.captions.full[row]).texts
    labels = np.eye(3)[[0, 1, 2, 0, 1, 2]]
    table = esi_eval.auc_table(labels, labels.copy(), ["A", "B", "C"], np.arange(6), n_boot=10)
    assert esi_figures.plot_auc_bars({"a": table, "b": table}).axes
    assert esi_figures.plot_embedding(np.random.rand(6, 4), labels, ["A", "B", "C"]).axes
