"""Figures and pages of notebooks 04 and 05, on made-up numbers; and the calls behind them."""

import numpy as np
import pandas as pd
import pytest

from ecgkit.config import EsiConfig, EsiEvalConfig
from ecgkit.reports import attention_figures, caption_page, esi_eval_figures, esi_figures
from ecgkit.tasks import caption_attention, esi_eval_study, esi_files, esi_look, esi_study
from ecgkit.types import ModelError


@pytest.fixture(scope="module")
def study(tiny_cohort):
    config = EsiConfig.from_params({"preset": "tiny", "n_steps": 1})
    return esi_study.prepare(config, tiny_cohort)


@pytest.fixture(scope="module")
def evaluation(study, tiny_cohort):
    config = EsiEvalConfig.from_params({"preset": "tiny"})
    return esi_eval_study.open_evaluation(
        config, tiny_cohort, study.model, study.tokenizer, study.config)  # fmt: skip


# --- pages and figures ----------------------------------------------------------------------------


def test_the_page_marks_what_the_caption_took_and_escapes_the_rest():
    found = pd.DataFrame([
        ("low <voltage>", "QRS is small.", "Low voltage", "v.md", 0.5,
         "QRS is small. Rare & mild."),
        ("low <voltage>", "QRS is small.", "Other", "w.md", 0.2, "Nothing of it."),
    ], columns=["finding", "said", "note", "file", "score", "text"])  # fmt: skip
    page = caption_page.caption_page("Findings: low.\nWaves: QRS is small.", found, "ECG 1").data
    assert page.count("<mark>QRS is small</mark>") == 2  # in the passage and in the caption
    assert "low &lt;voltage&gt;" in page and "Rare &amp; mild" in page and "score 0.20" in page
    assert page.count("class='ask'") == 1 and page.count("class='passage'") == 2


def test_similarity_has_one_panel_a_step_on_one_scale():
    rng = np.random.default_rng(0)
    steps = {f"step {i}": rng.normal(size=(6, 6)) for i in range(3)}
    images = [ax.images[0] for ax in esi_figures.plot_similarity(steps).axes if ax.images]
    assert len(images) == 3 and len({image.get_clim() for image in images}) == 1


def test_steps_shown_end_with_the_last(tmp_path):
    np.savez(tmp_path / esi_look.SIMILARITY, **{str(s): np.eye(2) for s in range(50, 401, 50)})
    assert list(esi_look.shown_steps(tmp_path)) == ["step 150", "step 250", "step 400"]
    assert esi_look.shown_steps(tmp_path / "none") == {}


def test_fractions_and_levels():
    table = pd.DataFrame({"model": ["a", "a", "b", "b"], "fraction": [0.01, 1, 0.01, 1],
                          "value": [0.6, 0.8, 0.5, 0.7], "low": 0.4, "high": 0.9})  # fmt: skip
    (ax,) = esi_eval_figures.plot_fractions(table, {"zero-shot": 0.75}).axes
    assert [t.get_text() for t in ax.get_xticklabels()] == ["1%", "100%"]
    assert [t.get_text() for t in ax.get_legend().texts] == ["a", "b", "zero-shot (0.750)"]


def test_match_curve_starts_at_the_top_1_accuracy_and_ends_at_1():
    (ax,) = esi_eval_figures.plot_match_curve({"cosine": np.array([1, 1, 3, 4])}, n=4).axes
    y = ax.lines[0].get_ydata()
    assert y.tolist() == [0.5, 0.5, 0.75, 1.0]


def test_scores_keep_stated_findings_that_scored_low(study):
    scores = np.arange(20, 0, -1.0)
    figure = esi_eval_figures.plot_scores(
        study.cohort.record(0), scores, [f"f{i}" for i in range(20)], true=[19], most=5)
    names = [t.get_text() for t in figure.axes[-1].get_yticklabels()]
    assert names == ["f0", "f1", "f2", "f3", "f19"]


def test_caption_scores_and_maps_draw():
    table = pd.DataFrame({"metric": ["F1", "F1"], "model": ["generated", "shuffled"],
                          "value": [0.6, 0.4], "low": [0.5, 0.3], "high": [0.7, 0.5]})  # fmt: skip
    (ax,) = esi_eval_figures.plot_caption_scores(table).axes
    assert len(ax.patches) == 2
    rng = np.random.default_rng(0)
    labels = np.eye(3)[rng.integers(0, 3, 40)]
    maps = esi_eval_figures.plot_maps(rng.normal(size=(40, 8)), labels, ["A", "B", "C"])
    assert [ax.get_title(loc="left") for ax in maps.axes][0] == "principal components"


def test_stated_findings_are_told_apart_without_colour(study):
    scores = np.arange(5, 0, -1.0)
    figure = esi_eval_figures.plot_scores(
        study.cohort.record(0), scores, list("abcde"), true=[1], most=4)
    assert [bar.get_hatch() or "" for bar in figure.axes[-1].patches] == ["", "//", "", ""]


# --- the calls a notebook shows -------------------------------------------------------------------


def test_every_test_ecg_is_scored_or_set_aside(evaluation):
    assert evaluation.n_scored + evaluation.n_aside == evaluation.n_test > 0
    assert "test ECGs have a label" in evaluation.summary()


def test_the_control_is_another_model_than_the_trained_one(evaluation):
    read = evaluation.zero_shot()
    value = esi_eval_study.value_of(read.table, "macro AUC")
    assert set(value) == {"value", "low", "high", "n"}
    twin = evaluation._twin_ecg["embedding"]
    assert twin.shape == evaluation.ecg["embedding"].shape
    assert not np.allclose(twin, evaluation.ecg["embedding"])


def test_identification_counts_every_subject_once(evaluation):
    who = evaluation.identify()
    assert len(who.places["nearest neighbour"]) == who.n
    assert set(who.metrics) == {"identification_top1", "identification_auc"}
    assert who.above_chance == pytest.approx(who.metrics["identification_top1"]["low"] * who.n)


def test_captions_are_scored_beside_their_control_or_not_at_all(evaluation):
    metrics = esi_eval_study.caption_metrics(evaluation.speak())
    assert set(metrics) == {f"caption_{m}{a}" for m in ("f1", "rouge_l", "bleu4")
                            for a in ("", "_above")}  # fmt: skip
    silent = esi_eval_study.open_evaluation(
        evaluation.config, evaluation.cohort, evaluation.model, evaluation.tokenizer,
        EsiConfig.from_params({"preset": "tiny", "caption_weight": 0}))  # fmt: skip
    assert silent.speak() is None


def test_a_saved_model_evaluates_like_the_one_in_memory(study, evaluation, tmp_path):
    esi_files.save_study(study, tmp_path)
    model, tokenizer, trained_with, _ = esi_files.load_trained(tmp_path)
    again = esi_eval_study.open_evaluation(evaluation.config, study.cohort, model, tokenizer,
                                           trained_with)  # fmt: skip
    np.testing.assert_allclose(again.ecg["latents"], evaluation.ecg["latents"], atol=1e-5)


# --- where words look -----------------------------------------------------------------------------


def test_words_are_whole_and_their_weights_sum_to_1(study):
    record = study.cohort.record(0)
    seen = caption_attention.look_at_words(study.model, study.tokenizer, record)
    assert seen.rows.shape == (len(seen.words), len(seen.centres))
    if seen.words != ["(nothing)"]:
        np.testing.assert_allclose(seen.rows.sum(1), 1, atol=1e-4)
    assert not any(word.startswith("##") for word in seen.words)
    assert attention_figures.plot_words(record, seen).axes


def test_pieces_of_a_word_are_averaged():
    words, rows = caption_attention._whole_words(
        ["block", "##s", ".", "[SEP]"], np.array([[1.0, 0], [0, 1], [1, 1], [1, 1]]))
    assert words == ["blocks"] and rows.tolist() == [[0.5, 0.5]]


def test_the_reference_cannot_choose_where_to_look(tiny_cohort):
    config = EsiConfig.from_params({"preset": "tiny", "protocol": "reference"})
    study = esi_study.prepare(config, tiny_cohort)
    with pytest.raises(ModelError, match="one vector"):
        caption_attention.look_at_words(study.model, study.tokenizer, tiny_cohort.record(0))


def test_receptive_field_of_a_convnext_grows_with_its_blocks(study):
    encoder = study.model.img_encoder  # micro: one block a stage, stem 4
    stages = [4 + 6 * 4, 4 + 6 * 8, 8 + 6 * 16, 16 + 6 * 32]  # downsampling by 2, then kernel 7
    assert caption_attention.receptive_field(encoder) == sum(stages)
