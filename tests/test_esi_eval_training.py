"""Encoders trained on labels and without: fine-tuning, the baselines by name, LEAVES."""

import dataclasses

import numpy as np
import pytest
import torch

from ecgkit.config import EsiEvalConfig
from ecgkit.models.convnext import ConvNeXt1D, ConvNeXtConfig
from ecgkit.tasks import ecg_baselines, embeddings, eval_tables, finetune, label_sets
from ecgkit.types import ConfigError

SIZES = ConvNeXtConfig(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32), init_std=0.1, norm="channel")


@pytest.fixture(scope="module")
def config():
    return EsiEvalConfig.from_params({"preset": "tiny", "device": "cpu", "finetune_steps": 2,
                                      "baseline_steps": 2})


@pytest.fixture(scope="module")
def labels(tiny_cohort):
    return label_sets.label_set(tiny_cohort, "superdiagnostic")


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return embeddings.EcgEncoder("random", ConvNeXt1D(SIZES))


# --- fine-tuning ----------------------------------------------------------------------------------


def test_finetuning_trains_a_copy_and_resumes(encoder, tiny_cohort, labels, config, tmp_path):
    before = {k: v.clone() for k, v in encoder.module.state_dict().items()}
    tuned = finetune.finetune(encoder, tiny_cohort, labels, config, tmp_path)
    assert all(torch.equal(v, before[k]) for k, v in encoder.module.state_dict().items())
    assert any(not torch.equal(v, before[k]) for k, v in tuned.encoder.module.state_dict().items())
    assert tuned.scores.shape == labels.labels.shape and np.isfinite(tuned.scores).all()
    assert tuned.log.best is not None and "eval_score" in tuned.log.table
    again = finetune.finetune(encoder, tiny_cohort, labels, config, tmp_path)
    assert again.log.reused and np.allclose(again.scores, tuned.scores)
    other = finetune.finetune(encoder, tiny_cohort, labels, config, tmp_path,
                              part=labels.index("train")[:20])
    assert not other.log.reused


def test_finetuning_overfits_a_few_ecgs(encoder, tiny_cohort, labels, config, tmp_path):
    few = labels.take(labels.index("train")[:6])
    tuned = finetune.finetune(encoder, tiny_cohort, few, config, tmp_path, n_steps=60, lr=3e-3)
    assert np.abs(tuned.scores - few.labels).mean() < 0.1
    assert tuned.log.best is None  # nothing to choose by without validation ECGs


def test_finetuning_from_a_saved_folder(tiny_cohort, labels, config, encoder, tmp_path):
    from ecgkit.models.ecg_encoders import save_encoder

    save_encoder(encoder.module, tmp_path / "encoder", input="esi_preprocess")
    loaded = embeddings.from_folder("saved", tmp_path / "encoder")
    rows = np.arange(3)
    assert np.allclose(loaded.features(tiny_cohort.store, rows),
                       encoder.features(tiny_cohort.store, rows), atol=1e-5)
    config = dataclasses.replace(config, n_seeds=2)
    table = finetune.finetune_table("tuned", loaded, tiny_cohort, labels, config, tmp_path)
    assert table["metric"].tolist() == ["macro AUC", "macro F1"] and table["sd"].notna().all()
    assert (tmp_path / "seed1").is_dir()


# --- baselines ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["xresnet", "resnet50", "lstm", "convnext"])
def test_supervised_baselines_by_name(name, tiny_cohort, labels, config, tmp_path):
    one = ecg_baselines.run_baseline(name, config, tiny_cohort, labels, tmp_path)
    assert one.table["model"].iloc[0] == f"{name}, from scratch"
    assert one.table["value"].notna().all()
    assert " parameters." in one.table["note"].iloc[0]
    assert one.encoder.features(tiny_cohort.store, np.arange(2)).ndim == 2


@pytest.mark.parametrize("name", ["simclr", "byol", "cmsc", "leaves"])
def test_self_supervised_baselines_by_name(name, tiny_cohort, labels, config, tmp_path):
    one = ecg_baselines.run_baseline(name, config, tiny_cohort, labels, tmp_path)
    models = one.table["model"].unique().tolist()
    assert models == [f"{name}, linear probe", f"{name}, fine-tuned"]
    assert one.table["value"].notna().all() and list(one.table) == eval_tables.COLUMNS


def test_unknown_baseline_is_refused():
    with pytest.raises(ConfigError, match="cmsc"):
        ecg_baselines.baseline_names("xresnet merl")


# --- LEAVES ---------------------------------------------------------------------------------------


def test_leaves_learns_views_against_the_encoder():
    from ecgkit.models.leaves import Leaves
    from ecgkit.models.ssl_heads import SimCLR
    from ecgkit.tasks.leaves import leaves_loss

    torch.manual_seed(0)
    signal = torch.randn(8, 12, 128)
    gradients = {}
    for adversarial in (True, False):
        torch.manual_seed(1)
        module = Leaves(SimCLR(ConvNeXt1D(SIZES), 32, 16, 8), adversarial)
        torch.manual_seed(2)
        leaves_loss(0.1)(module, {"signal": signal})["loss"].backward()
        gradients[adversarial] = module.views.raw.grad.clone()
    assert (gradients[False].abs() > 0).all()  # every strength is reached
    assert torch.allclose(gradients[True], -gradients[False], rtol=1e-4, atol=1e-9)


def test_views_without_strength_are_the_signal():
    from ecgkit.models.leaves import LearnedViews

    views, signal = LearnedViews(), torch.randn(3, 12, 50)
    with torch.no_grad():
        views.raw.fill_(-30.0)
    assert torch.allclose(views(signal), signal, atol=1e-4)
    with torch.no_grad():
        views.raw.fill_(0.0)
    assert not torch.allclose(views(signal), signal, atol=0.05)
