"""The QA study on the real subset: 400 PTB-XL recordings and the published questions about them.

So few questions say nothing about a model. What is tested is that the study runs, goes on after
a kill, and says how little it knows. The questions happen to be of two types: noise in single ECGs
(training only) and numeric comparisons of two.
"""

import dataclasses
import functools

import numpy as np
import pytest
import torch

from ecgkit.config import BaselinesConfig
from ecgkit.data.cohort import open_cohort
from ecgkit.data.ecgqa import GENERATED, open_questions
from ecgkit.data.grounding import read_grounding
from ecgkit.tasks import baselines_qa, classifiers, metrics_qa, qa_models, upperbound
from ecgkit.tasks.training_parts import TrainSettings
from ecgkit.types import DataError

N_STEPS = 6
# A checkpoint every second step and each step in the log, so that a kill falls between the two.
OFTEN = functools.partial(TrainSettings, checkpoint_every=2, log_every=1)


@pytest.fixture(scope="module")
def config(shared):
    paths = {name: shared / "data" / file for name, file in
             (("data", "ptbxl-subset-400.zip"), ("ecgqa", "ecgqa-subset.zip"))}
    for path in paths.values():
        if not path.exists():
            pytest.skip(f"{path.name} is not in the shared folder")
    return BaselinesConfig.from_params({
        "preset": "tiny", "device": "cpu", "precision": "fp32", "jobs": 1, "n_steps": N_STEPS,
        "upper_steps": N_STEPS, "activation_dropout": 0.1, "search_steps": 2,
        **{name: str(path) for name, path in paths.items()}})


@pytest.fixture(scope="module")
def cohort(config):
    return open_cohort(config, quiet=True)


@pytest.fixture(scope="module")
def questions(config, cohort):
    return open_questions(config, cohort, quiet=True)


@pytest.fixture(scope="module")
def data(config, cohort, questions):
    return baselines_qa.prepare(config, cohort, questions)


@pytest.fixture(scope="module")
def targets(config, cohort):
    return upperbound.code_targets(cohort, config.min_code_count)


@pytest.fixture
def train(config, cohort, data, targets, monkeypatch):
    """train(name, folder, **settings) -> (model, log) of an answering model or an upper bound."""

    def run(name, folder, **settings):
        for module in (baselines_qa, classifiers):
            monkeypatch.setattr(module, "TrainSettings", functools.partial(OFTEN, **settings))
        torch.manual_seed(int(folder.name == "again"))  # what went before must not matter
        if name == "se_wrn":
            found = upperbound.train_upper_bound(config, cohort, targets, name, folder)
        else:
            found = baselines_qa.train_qa(config, data, name, folder)
        return found.model, found.log

    return run


# --- what is asked --------------------------------------------------------------------------------


def test_questions_in_are_kept_or_dropped(questions, cohort):
    assert (questions.n_in, len(questions), len(questions.dropped)) == (24_348, 489, 23_859)
    assert set(questions.dropped["reason"]) == {"ecg_not_stored"}
    assert "489 of 24348 kept · dropped: 23859 ecg_not_stored" in questions.summary()
    assert {s: len(questions.index(s)) for s in ("train", "valid", "test")} == {
        "train": 457, "valid": 24, "test": 8}
    assert len(cohort) == 400 and len(questions.classes) == 103
    assert not len(metrics_qa.unanswerable(questions, np.arange(len(questions))))


def test_no_patient_is_trained_on_and_scored(questions):
    shared_people = questions.shared_patients()
    assert (shared_people[["patients in both", "ECGs in both"]] == 0).all(None)


def test_batches_are_of_the_asked_recordings(cohort, data, questions):
    positions = np.r_[questions.index("train")[:3], questions.index("valid")[:3]]
    batch = data.batch(positions)
    for i, ecgs in enumerate(questions.table["ecg_id"].iloc[positions]):
        rows = [int(np.flatnonzero(cohort.table["ecg_id"] == ecg)[0]) for ecg in ecgs]
        for name, row in zip(("ecg", "ecg_2"), rows, strict=False):
            np.testing.assert_array_equal(batch[name][i], cohort.store.read([row])[0])
    assert torch.isfinite(batch["ecg"]).all() and batch["ecg"].abs().max() < 20  # mV


# --- training -------------------------------------------------------------------------------------


def same(first, second):
    (model, log), (other, again) = first, second
    for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    tables = [one.table.drop(columns="seconds") for one in (log, again)]
    assert tables[0].equals(tables[1])
    assert tables[0]["step"].tolist() == [*range(1, N_STEPS + 1)]
    assert np.isfinite(tables[0]["loss"]).all()


@pytest.mark.parametrize("name", ["fusion", "blind", "se_wrn"])
def test_a_killed_training_goes_on_to_the_same_result(train, tmp_path, monkeypatch, name):
    whole = train(name, tmp_path / "whole")
    where = (classifiers, "classifier_loss") if name == "se_wrn" else (baselines_qa, "answer_bce")
    loss, calls = getattr(*where), []

    def killed(*args):
        calls.append(1)
        if len(calls) == 4:  # one step after the checkpoint of step 2
            raise KeyboardInterrupt
        return loss(*args)

    monkeypatch.setattr(*where, killed)
    with pytest.raises(KeyboardInterrupt):
        train(name, tmp_path / "again")
    assert (tmp_path / "again" / "state").exists()
    assert not (tmp_path / "again" / "done.json").exists()
    same(whole, train(name, tmp_path / "again"))
    assert len(calls) == 4 + N_STEPS - 2  # steps 1 and 2 were not done again
    assert train(name, tmp_path / "again")[1].reused


def test_a_training_out_of_time_goes_on_to_the_same_result(train, tmp_path):
    whole = train("fusion", tmp_path / "whole")
    _, first = train("fusion", tmp_path / "again", time_budget_s=0.0)
    _, second = train("fusion", tmp_path / "again", time_budget_s=0.0)
    assert not first.finished and not second.finished
    assert (first.table["step"].max(), second.table["step"].max()) == (1, 2)
    same(whole, train("fusion", tmp_path / "again"))


# --- reports --------------------------------------------------------------------------------------


@pytest.mark.parametrize("split, n", [("valid", 24), ("test", 8)])
def test_a_report_says_what_it_has_and_what_it_has_not(train, data, tmp_path, split, n):
    """Both splits hold questions of one type alone."""
    questions, at = data.questions, data.questions.index(split)
    models = {name: train(name, tmp_path / name)[0] for name in ("fusion", "blind")}
    scores = {name: baselines_qa.predict(model, data, at) for name, model in models.items()}
    table = metrics_qa.published_table(questions, at, scores)
    for column in metrics_qa.COLUMNS:
        cell = table[column]
        if column == "CI-Query":
            assert (cell["n"] == n).all()
            assert ((cell["low"] <= cell["value"]) & (cell["value"] <= cell["high"])).all()
        else:
            assert (cell["n"] == 0).all() and cell[["value", "low", "high"]].isna().all(None)
    assert table["All"].equals(table["CI-Query"]) and (table[("left_out", "n")] == 0).all()
    shown = metrics_qa.printable(table)
    assert (shown["S-Verify (n=0)"] == "no questions").all()
    assert shown[f"CI-Query (n={n})"].notna().all()
    for level in (1, 2, 3):
        lines = metrics_qa.by_type(questions, at, scores["fusion"], level=level)
        assert lines["n"].sum() == n and lines[["exact_match", "accuracy"]].notna().all(None)
    assert not len(metrics_qa.by_attribute(questions, at, scores["blind"]))


@pytest.mark.parametrize("split, least", [("valid", 0.3), ("test", 0.5)])
def test_intervals_of_few_questions_are_wide(questions, split, least):
    """Of a made-up model that gets every second question right."""
    at = questions.index(split)
    scores = questions.labels(at)
    scores[::2] = 1 - scores[::2]
    table = metrics_qa.published_table(questions, at, {"half": scores})
    cell = table.loc["half", "CI-Query"]
    assert cell["value"] == 0.5 and cell["low"] < 0.5 < cell["high"]
    assert cell["high"] - cell["low"] > least
    both = metrics_qa.published_table(questions, at, {"half": scores}, resample="both")
    assert both.loc["half", ("CI-Query", "low")] <= 0.5 <= both.loc["half", ("CI-Query", "high")]


@pytest.mark.parametrize("value", [0, 1])
def test_eight_wrong_answers_do_not_prove_that_all_are(questions, value):
    at = questions.index("test")
    scores = questions.labels(at) if value else 1 - questions.labels(at)
    cell = metrics_qa.published_table(questions, at, {"m": scores}).loc["m", "CI-Query"]
    assert cell["value"] == value and cell["high"] - cell["low"] > 0.3


def test_an_upper_bound_reports_codes_that_cannot_be_judged(config, cohort, targets, tmp_path):
    bound = upperbound.train_upper_bound(config, cohort, targets, "se_wrn", tmp_path)
    table = bound.table.set_index("code")
    assert table.index.tolist() == targets.codes and (table["n"] == 54).all()
    both = (table["positives"] > 0) & (table["positives"] < table["n"])
    assert both.any() and not both.all()
    assert table.loc[both, ["auroc", "low", "high"]].notna().all(None)
    assert table.loc[~both, "auroc"].isna().all()
    assert ((table["low"] <= table["auroc"]) & (table["auroc"] <= table["high"]))[both].all()
    value, low, high = bound.macro
    assert low < value < high and high - low > 0.02


# --- grounding ------------------------------------------------------------------------------------


def test_grounding_of_the_subset(config, cohort, questions, tmp_path):
    template = open_questions(dataclasses.replace(config, flavour="template"), cohort, quiet=True)
    grounding = read_grounding(template)
    assert (grounding.n_in, grounding.n_used, len(grounding.dropped)) == (489, 343, 146)
    assert set(grounding.dropped["reason"]) == {"two_ecgs"}
    assert grounding.classes_from == "all splits" and len(grounding.classes) == 5
    assert "343 of 489 questions" in grounding.summary()
    sizes = [len(grounding.index(split)) for split in ("train", "valid", "test")]
    assert sizes == [len(grounding), 0, 0]
    with pytest.raises(DataError, match="no tuple in the test split; give more questions"):
        upperbound.train_on_grounding(config, cohort, grounding, "se_wrn", tmp_path)
    with pytest.raises(DataError, match="FLAVOUR=template"):
        read_grounding(questions)
    items, train = upperbound.grounding_items(grounding), grounding.index("train")
    model, log = classifiers.train_classifier(config, cohort.store, items, train, "se_wrn",
                                              tmp_path, grounding=True)
    assert log.finished and np.isfinite(log.table["loss"]).all()
    scores = classifiers.predict_items(model, cohort.store, items, train)
    assert scores.shape == (len(train), 5) and np.isfinite(scores).all()


# --- the kit's own questions ----------------------------------------------------------------------


def test_own_questions_about_real_ecgs_fill_every_column(config, cohort, tmp_path):
    own = dataclasses.replace(config, ecgqa="", n_steps=2)
    questions = open_questions(own, cohort, quiet=True)
    assert questions.source == GENERATED
    assert questions.n_in == len(questions) + len(questions.dropped)
    data = baselines_qa.prepare(own, cohort, questions)
    start = classifiers.build_classifier(own, "ecg_transformer", 5)
    trained = baselines_qa.train_qa(own, data, "fusion", tmp_path,
                                    qa_models.starting_points(start)["fusion"])
    test = questions.index("test")
    table = metrics_qa.published_table(
        questions, test, {"fusion": baselines_qa.predict(trained.model, data, test)}, n_boot=100)
    parts = table.drop(columns="left_out", level=0).loc["fusion"]
    assert (parts.xs("n", level=1) > 0).all() and parts.notna().all()
    n = parts.xs("n", level=1)
    assert n[[*metrics_qa.COLUMNS]].sum() == n["All"]
    assert n["All"] + table.loc["fusion", ("left_out", "n")] == len(test)
