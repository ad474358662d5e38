"""Study 03 on the tiny simulated cohort: tokeniser, batches, search, decoding, bounds, figures."""

import dataclasses
import types

import numpy as np
import pandas as pd
import pytest
import torch

from ecgkit.config import BaselinesConfig
from ecgkit.config.baselines import QA_MODELS
from ecgkit.models.losses_qa import answer_bce
from ecgkit.reports import baseline_figures
from ecgkit.tasks import answers_qa, baselines_qa, qa_data, qa_models, upperbound
from ecgkit.text.question_tokenizer import encode_questions, load_tokenizer, train_tokenizer
from ecgkit.types import ConfigError, ModelError

TEXTS = ["Is atrial fibrillation present?", "Which leads show it?", "Is noise present?"]


@pytest.fixture(scope="module")
def config():
    return BaselinesConfig.from_params({"preset": "tiny", "lr_grid": "1e-3 3e-3"})


@pytest.fixture(scope="module")
def questions(config, tiny_cohort):
    from ecgkit.data.ecgqa import open_questions

    return open_questions(config, tiny_cohort, quiet=True)


@pytest.fixture(scope="module")
def data(config, tiny_cohort, questions):
    return baselines_qa.prepare(config, tiny_cohort, questions)


# --- tokeniser ------------------------------------------------------------------------------------


def test_trained_tokeniser_is_real_and_repeatable(tmp_path):
    tokenizer = train_tokenizer(TEXTS, 120)
    again = train_tokenizer(list(reversed(TEXTS)), 120)
    ids, padding = encode_questions(tokenizer, TEXTS)
    assert (ids == encode_questions(again, TEXTS)[0]).all()
    assert (ids[:, 0] == tokenizer.cls_token_id).all()
    assert (padding == (ids == tokenizer.pad_token_id)).all() and padding.any()
    text = tokenizer.decode(ids[0], skip_special_tokens=True)
    assert text == "is atrial fibrillation present?"
    tokenizer.save_pretrained(tmp_path)
    reread = load_tokenizer(str(tmp_path))
    assert (encode_questions(reread, TEXTS)[0] == ids).all()


def test_questions_are_cut_at_the_limit():
    ids, padding = encode_questions(train_tokenizer(TEXTS, 120), TEXTS, max_tokens=5)
    assert ids.shape == (3, 5) and not padding.any()


def test_a_hub_id_without_network_is_one_sentence(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="neither a tokenizer folder nor in the local cache"):
        load_tokenizer("nobody/no-such-tokenizer")


# --- batches --------------------------------------------------------------------------------------


def test_batches_hold_what_the_models_read(data, questions):
    positions = np.concatenate([questions.index("train", single_only=True)[:2],
                                np.flatnonzero(questions.table["row2"] >= 0)[:2]])
    batch = data.batch(positions)
    assert batch["ecg"].shape == batch["ecg_2"].shape == (4, 12, 1000)
    assert batch["ecg_2_padding_mask"].all(1).tolist() == [True, True, False, False]
    assert batch["labels"].shape == batch["valid"].shape == (4, len(questions.classes))
    assert "ecg" not in data.batch(positions, with_ecg=False)
    asked = questions.table["question"].to_numpy()[positions]
    ids, padding = encode_questions(data.tokenizer, asked)
    assert (batch["text"].numpy() == ids).all()
    assert (batch["text_padding_mask"].numpy() == padding).all()
    assert "ecg_2" not in data.batch(positions[:2])


def test_one_batch_one_arity(config, data, questions):
    train = questions.index("train")
    order = qa_data.grouped_batches(config, data, train, n_steps=30)
    seen = [data.row2[train[order(step)]] >= 0 for step in range(30)]
    assert all(len(set(pairs)) == 1 for pairs in seen) and {p[0] for p in seen} == {False, True}
    given = dataclasses.replace(config, pair_share=0.0)
    order = qa_data.grouped_batches(given, data, train, n_steps=30)
    assert not any((data.row2[train[order(step)]] >= 0).any() for step in range(30))


def test_predictions_do_not_depend_on_order_or_batch(config, data, questions):
    torch.manual_seed(0)
    model = baselines_qa.build_qa(config, data, "fusion").eval()
    positions = questions.index("test")[:12]
    together = baselines_qa.predict(model, data, positions)
    one_by_one = baselines_qa.predict(model, data, positions[::-1], batch=1)[::-1]
    np.testing.assert_allclose(together, one_by_one, atol=1e-5)


@pytest.mark.parametrize("kind", QA_MODELS)
def test_overfits_one_batch(config, data, questions, kind):
    torch.manual_seed(0)
    model = baselines_qa.build_qa(config, data, kind)
    _, first = np.unique(data.questions.table["template_id"], return_index=True)
    _, first = np.unique(data.row1[first[:16]], return_index=True)  # deaf: an ECG, one answer
    batch = data.batch(first[:8], with_ecg=qa_models.reads_ecg(model))
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(80):
        logits = baselines_qa.answer(model, batch)["logits"]
        loss = answer_bce(logits, batch["labels"], batch["valid"])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.05


# --- training -------------------------------------------------------------------------------------


def test_search_and_training_run_alike_for_both(config, data, tiny_cohort, tmp_path):
    targets = upperbound.code_targets(tiny_cohort, config.min_code_count)
    start = upperbound.train_upper_bound(config, tiny_cohort, targets, "ecg_transformer",
                                         tmp_path / "ecg")
    assert start.scores.shape == (len(tiny_cohort.rows("test")), len(targets.codes))
    fused = baselines_qa.train_qa(config, data, "fusion", tmp_path / "fusion", start.model)
    blind = baselines_qa.train_qa(config, data, "blind", tmp_path / "blind")
    for trained in (fused, blind):
        assert trained.search["lr"].tolist() == [1e-3, 3e-3] and trained.lr in (1e-3, 3e-3)
        assert trained.log.table["step"].iloc[-1] == config.n_steps
        assert np.isfinite(trained.log.table["loss"]).all()
    again = baselines_qa.train_qa(config, data, "blind", tmp_path / "blind")
    assert again.log.reused


@pytest.mark.parametrize("name", ["se_wrn", "resnet_attention"])
def test_upper_bounds_run(config, tiny_cohort, tmp_path, name):
    targets = upperbound.code_targets(tiny_cohort, config.min_code_count)
    upper = upperbound.train_upper_bound(config, tiny_cohort, targets, name, tmp_path)
    assert list(upper.table["code"]) == targets.codes and np.isfinite(upper.scores).all()


# --- answers --------------------------------------------------------------------------------------


@pytest.fixture
def toy():
    """Two templates over three classes; template 1 mostly says class 0, template 2 mostly none."""
    table = pd.DataFrame({
        "template_id": [1, 1, 1, 2, 2, 2, 1, 2, 9],
        "attribute": [["a"], ["a"], ["b"], None, None, None, ["b"], None, ["c"]],
        "question_type": ["single-verify"] * 3 + ["single-query"] * 3
                         + ["single-verify", "single-query", "single-verify"],
    })
    answers = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0], [0, 1, 1],
                        [0, 1, 0], [0, 1, 1], [1, 0, 0]], dtype=np.float32)
    valid = np.array([[True, True, False]] * 9)
    valid[table["template_id"] == 2] = True
    return types.SimpleNamespace(
        table=table, classes=["no", "yes", "x"], labels=lambda i: answers[i],
        valid_mask=lambda i: valid[i])


def test_majorities(toy):
    sets = answers_qa.AnswerSets(toy, np.arange(6))
    assert sets.majority(np.arange(6, 9)).tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    by_attribute = sets.majority(np.arange(6, 9), by_attribute=True)
    assert by_attribute.tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_decoding_picks_known_sets_and_infinite_weight_is_the_majority(toy):
    sets, last = answers_qa.AnswerSets(toy, np.arange(6)), np.arange(6, 9)
    scores = np.array([[0.30, 0.40, 0.99], [0.1, 0.7, 0.6], [0.7, 0.2, 0.9]])
    # Below 0.5 both, yet one of template 1's two answers must hold; class x is not valid there.
    assert sets.decode(scores, last).tolist() == [[0, 1, 0], [0, 1, 1], [1, 0, 0]]
    assert (sets.decode(scores, last, float("inf")) == sets.majority(last)).all()


def test_weight_rule_trusts_a_model_that_knows_and_not_one_that_guesses(toy):
    sets, seen = answers_qa.AnswerSets(toy, np.arange(6)), np.arange(6)
    assert np.isfinite(sets.choose_weight(toy.labels(seen) * 0.98 + 0.01, seen))
    assert np.isinf(sets.choose_weight(np.full((6, 3), 0.5), seen))


def test_score_table_and_paired_difference(toy):
    everyone, patients = np.arange(9), np.arange(9)
    right, wrong = toy.labels(everyone), 1 - toy.labels(everyone)
    table = answers_qa.score_table(toy, everyone, {"right": right, "wrong": wrong}, patients)
    assert table.loc[table["model"] == "right", "value"].eq(1).all()
    assert table.loc[table["question_type"] == answers_qa.ALL, "n"].eq(9).all()
    assert answers_qa.difference(toy, everyone, right, wrong, patients)[0] == 1
    assert answers_qa.answer_names(toy.classes, right[[0, 3, 5]]) == [["no"], ["none"],
                                                                      ["yes", "x"]]
    figure = baseline_figures.plot_by_type(table, simulated=True)
    assert "simulated" in figure.axes[0].get_title(loc="left")


def test_figures_draw():
    assert len(baseline_figures.plot_inputs().axes) == 1
    log = pd.DataFrame({"step": [1, 2], "loss": [0.5, 0.4]})
    assert baseline_figures.plot_trainings({"fusion": log, "text only": log}).axes[0].lines
    table = pd.DataFrame({"code": ["AFIB", "LVH"], "positives": [3, 0], "auroc": [0.9, np.nan]})
    assert baseline_figures.plot_auroc(table, "Upper bound").axes


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("given, names", [
    ({"dim": 30}, "N_HEADS"), ({"lr_grid": "fast"}, "LR_GRID"),
    ({"n_steps": 10, "search_steps": 20}, "SEARCH_STEPS"), ({"dim": 36}, "POS_GROUPS"),
])
def test_contradictions_name_their_fields(given, names):
    with pytest.raises(ConfigError, match=names):
        BaselinesConfig.from_params({"preset": "demo", **given})


def test_without_pretraining_the_start_is_random(tiny_cohort, data, tmp_path):
    given = {"preset": "tiny", "pretrain_steps": 0, "n_steps": 2, "lr_grid": "1e-3"}
    config = BaselinesConfig.from_params(given)
    targets = upperbound.code_targets(tiny_cohort, config.min_code_count)
    start = upperbound.build_classifier(config, "ecg_transformer", len(targets.codes))
    with_start = baselines_qa.train_qa(config, data, "fusion", tmp_path / "a", start)
    without = baselines_qa.train_qa(config, data, "fusion", tmp_path / "b")
    assert with_start.log.table["loss"].tolist() == without.log.table["loss"].tolist()
