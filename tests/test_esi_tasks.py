"""ESI studies: captions reach the model whole, one batch is overfitted, training resumes,
scores.
"""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from ecgkit.config import EsiConfig, EsiEvalConfig
from ecgkit.reports import esi_figures
from ecgkit.tasks import (
    esi_batches,
    esi_eval,
    esi_files,
    esi_look,
    esi_pretrain,
    esi_study,
)
from ecgkit.tasks.schedule import lr_factor
from ecgkit.text.prompts import superclass_prompts
from ecgkit.types import ConfigError, ModelError


@pytest.fixture(scope="module")
def config():
    return EsiConfig.from_params({"preset": "tiny", "n_steps": 4})


@pytest.fixture(scope="module")
def study(config, tiny_cohort):
    return esi_study.prepare(config, tiny_cohort)


@pytest.fixture(scope="module")
def trained(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("esi")
    log = esi_pretrain.pretrain(study, folder / "training")
    return esi_files.save_study(study, folder), log


def test_settings_that_contradict_are_refused():
    with pytest.raises(ConfigError, match="FULL_SHARE"):
        EsiConfig.from_params({"full_share": 2})
    with pytest.raises(ConfigError, match="N_SHORT"):
        EsiConfig.from_params({"n_short": 0})
    assert EsiEvalConfig.from_params({"preset": "tiny"}).n_boot == 50


def test_tokenizer_knows_training_captions_only(study):
    train = set(study.cohort.rows("train").tolist())
    assert len(study.training_texts()) == len(train) * study.tokens.n_wordings
    batch = study.tokens.read(np.arange(len(study.mixture)), wording=1)
    assert (batch["ids"][batch["mask"] == 0] == 0).all() and (batch["ids"][:, 0] == 2).all()
    known = set(" ".join(study.training_texts()).lower().split())
    assert not [t for t in study.tokenizer.get_vocab() if len(t) > 12 and t not in str(known)]


def test_preparing_twice_gives_the_same_study(study, config, tiny_cohort):
    again = esi_study.prepare(config, tiny_cohort)
    rows = np.arange(len(tiny_cohort))
    assert torch.equal(again.tokens.read(rows)["ids"], study.tokens.read(rows)["ids"])
    first = esi_study.prepare(config, tiny_cohort).model.state_dict()
    assert all(torch.equal(first[k], v) for k, v in again.model.state_dict().items())
    assert esi_pretrain.fingerprint(again) == esi_pretrain.fingerprint(study)


@pytest.mark.parametrize("protocol", ["paper", "reference"])
def test_one_batch_is_overfitted(study, tiny_cohort, protocol):
    config = EsiConfig.from_params(
        {"preset": "tiny", "protocol": protocol, "text_gradient": 1.0}
    )
    torch.manual_seed(0)
    small = esi_study.prepare(config, tiny_cohort)
    rows = _distinct_rows(small, 5)
    batch, loss_fn = esi_batches.fixed_batch(small, rows), esi_pretrain.loss_function(config)
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
    rows = study.cohort.rows("train")
    ids = study.tokens.read(rows)["ids"][:, 12:]  # behind age and sex
    first = {tuple(row_ids): row for row_ids, row in zip(ids.tolist(), rows)}
    return np.array(list(first.values())[:n])


def test_files_and_reading_back(trained, study):
    folder, log = trained
    assert log.finished and {"contrastive", "caption", "retrieved"} <= set(log.table)
    assert np.isfinite(log.last["eval_caption"])
    model, tokenizer, config, texts = esi_files.load_trained(folder)
    assert config == study.config and len(tokenizer) == len(study.tokenizer)
    assert set(texts) == set(study.training_texts())
    rows = study.cohort.rows("test")[:3]
    ours = esi_eval.embed(study.model, study.cohort, rows)["latents"]
    assert np.allclose(ours, esi_eval.embed(model, study.cohort, rows)["latents"], atol=1e-5)
    with pytest.raises(ModelError, match="run notebook 04"):
        esi_files.load_trained(folder / "encoder")


def test_finished_training_is_not_repeated(trained, study):
    folder, _ = trained
    assert esi_pretrain.pretrain(study, folder / "training").reused


def test_generated_captions_are_text(trained, study):
    said = esi_look.generated_captions(study, study.cohort.rows("test")[:2], max_tokens=5)
    assert len(said) == 2 and all(isinstance(text, str) for text in said)


def test_what_it_says_while_it_trains(trained, study):
    folder, log = trained
    said = pd.read_csv(folder / "training" / "captions.csv", keep_default_na=False)
    assert said.columns.tolist() == ["step", "ecg_id", "said", "true"]
    assert said["step"].tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    valid = study.cohort.rows("valid")
    assert said["ecg_id"].isin(study.cohort.table["ecg_id"].iloc[valid]).all()
    assert said["true"].isin([study.captions.full[row] for row in valid]).all()
    seen = esi_look.similarities(folder / "training")
    now = esi_look.similarity(study, valid[:24])
    assert list(seen) == [1, 2, 3, 4] and np.allclose(seen[4], now, atol=2e-3)
    assert not np.allclose(seen[1], now, atol=2e-3)
    assert log.table["eval_retrieved"].notna().all()


def test_a_stopped_training_goes_on_as_if_it_had_not(trained, config, tiny_cohort, tmp_path):
    folder, log = trained
    cut = dataclasses.replace(config, time_budget=1e-9)
    first = esi_study.prepare(cut, tiny_cohort)
    assert not esi_pretrain.pretrain(first, tmp_path).finished
    for _ in range(10):
        again = esi_study.prepare(cut, tiny_cohort)
        if (resumed := esi_pretrain.pretrain(again, tmp_path)).finished:
            break
    assert resumed.finished and len(resumed.table) == 4
    whole = load_file(folder / "training" / "model.safetensors")
    assert all(torch.equal(v, whole[k])
               for k, v in load_file(tmp_path / "model.safetensors").items())
    said = [pd.read_csv(f / "captions.csv") for f in (folder / "training", tmp_path)]
    assert said[0].equals(said[1])


@pytest.mark.parametrize("change", [
    {"precision": "bf16"}, {"caption_weight": 0.0}, {"contrastive_weight": 0.0},
    {"encoder": "small_xresnet"}, {"encoder": "small_vit", "contrast_pool": "query"},
    {"n_short": 0, "full_share": 1.0, "protocol": "reference", "time_shift": False},
])  # fmt: skip
def test_every_setting_trains(change, tiny_cohort, tmp_path):
    given = {"preset": "tiny", "n_steps": 2, "batch_size": 6, **change}
    study = esi_study.prepare(EsiConfig.from_params(given), tiny_cohort)
    log = esi_pretrain.pretrain(study, tmp_path)
    assert log.finished and np.isfinite(log.table.drop(columns="lr").to_numpy(float)).all()
    assert ("caption" in log.table) == (study.config.caption_weight > 0)
    assert log.last["eval_caption"] > 0  # said of validation ECGs whether or not it is trained
    spoken = (tmp_path / "captions.csv").exists()
    assert spoken == (study.config.caption_weight > 0)
    folder = esi_files.save_study(study, tmp_path / "saved")
    model, *_ = esi_files.load_trained(folder)
    rows = study.cohort.rows("test")[:2]
    batch = esi_batches.fixed_batch(study, rows)["signals"]
    both = [m.eval().encode_ecg(batch)["ecg_latents"] for m in (study.model, model)]
    assert torch.allclose(*both, atol=1e-5)


def test_the_papers_loss_counts_captions_and_the_codes_words(study, config):
    batch = esi_batches.fixed_batch(study, study.cohort.rows("valid")[:4])
    words = float((batch["mask"].sum(1) - 1).float().mean())
    paper = esi_pretrain.loss_function(config)(study.model, batch)
    whole = paper["contrastive"] + config.caption_weight * words * paper["caption"]
    assert paper["loss"].item() == pytest.approx(whole.item(), rel=1e-5)
    assert paper["caption"].item() < 2 * np.log(len(study.tokenizer))  # nats per word


# --- learning rates ---


def test_learning_rates_of_the_paper():
    """30 epochs, 5 of warm-up, a tenth of it every 10."""
    rates = [lr_factor(epoch, 30, "step", 1 / 6) for epoch in range(30)]
    assert rates == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1, 1, 1, 1,
                                   *[0.1] * 10, *[0.01] * 10], rel=1e-12)  # fmt: skip


def test_learning_rates_of_the_published_code():
    """Warm-up over a tenth of the steps, then a straight line to 0."""
    rates = [lr_factor(step, 20, "linear", 0.1) for step in range(20)]
    falling = [18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1]
    assert rates == pytest.approx([1 / 3, 2 / 3, *[n / 18 for n in falling]], rel=1e-12)


@pytest.mark.parametrize("protocol, schedule, factors", [
    ("paper", "protocol", [1, 0.1, 0.1, 0.01, 0.01, 0.001]),
    ("reference", "protocol", [0.926, 0.741, 0.556, 0.370, 0.185, 0]),
    ("paper", "linear", [0.926, 0.741, 0.556, 0.370, 0.185, 0]),
])  # fmt: skip
def test_the_schedule_is_the_protocols_or_the_one_asked_for(
    protocol, schedule, factors, tiny_cohort, tmp_path
):
    given = {"protocol": protocol, "schedule": schedule, "n_steps": 6, "lr": 1e-3, "n_sampled": 0}
    study = esi_study.prepare(EsiConfig.from_params({"preset": "tiny", **given}), tiny_cohort)
    log = esi_pretrain.pretrain(study, tmp_path)  # lr: that of the step to come, at last of none
    assert log.table["lr"].tolist() == pytest.approx([1e-3 * f for f in factors], abs=1e-6)


def test_what_a_caption_was_written_from(study):
    row = esi_look.richest_row(study, study.cohort.rows("valid"))
    table = esi_look.retrieved_notes(study, row)
    assert table.columns.tolist() == ["finding", "said", "note", "file", "score", "text"]
    assert len(table) and all(text in study.captions.full[row] for text in table["said"])


def test_pair_statistics():
    perfect = esi_look.pair_statistics(np.eye(4))
    assert perfect == {"gap": 1.0, "rank": 1.0, "n": 4}
    assert esi_look.pair_statistics(np.zeros((4, 4)))["rank"] == 0.5


def test_zero_shot_scores_and_intervals(trained, study):
    model, tokenizer, *_ = esi_files.load_trained(trained[0])
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
    model, tokenizer, *_ = esi_files.load_trained(trained[0])
    latent = esi_eval.prompt_latents(model, tokenizer, superclass_prompts(["MI"]))[0]
    weights = esi_eval.prompt_saliency(model, study.cohort.record(0).signal, latent)
    assert weights.shape == (1000,) and weights.min() >= 0 and weights.max() <= 1


def test_figures(trained, study):
    rows = study.cohort.rows("valid")[:6]
    matrix = esi_look.similarity(study, rows)
    assert esi_figures.plot_similarity({"before": matrix, "after": matrix}).axes
    row = esi_look.richest_row(study, rows)
    assert esi_figures.plot_captioned_ecg(study.cohort.record(row), study.captions.full[row]).texts
    labels = np.eye(3)[[0, 1, 2, 0, 1, 2]]
    table = esi_eval.auc_table(labels, labels.copy(), ["A", "B", "C"], np.arange(6), n_boot=10)
    assert esi_figures.plot_auc_bars({"a": table, "b": table}).axes
