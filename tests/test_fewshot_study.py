"""The few-shot study as notebook 06 calls it, on the tiny cohort and a random small Llama."""

import dataclasses

import numpy as np
import pytest
import torch

from ecgkit.config import FewShotConfig
from ecgkit.data.ecgqa import open_questions
from ecgkit.models.prefix_llm import PrefixLLM
from ecgkit.models.small_llm import build_small_llm, train_tokenizer
from ecgkit.tasks import ecg_features, fewshot_study, llm_qa_study
from ecgkit.tasks.fewshot_baselines import baseline_table
from ecgkit.tasks.fewshot_eval import accuracy_grid
from ecgkit.types import ConfigError, DataError


@pytest.fixture(scope="module")
def config() -> FewShotConfig:
    few = {"meta_steps": 2, "n_test_episodes": 3, "shots": "1 2 90"}
    return FewShotConfig.from_params({"preset": "tiny", **few})


@pytest.fixture(scope="module")
def questions(config, tiny_cohort):
    return open_questions(config, tiny_cohort, quiet=True)


@pytest.fixture(scope="module")
def kinds(config, tiny_cohort, questions):
    return fewshot_study.open_kinds(config, tiny_cohort, questions)


@pytest.fixture(scope="module")
def reader(questions) -> PrefixLLM:
    torch.manual_seed(0)
    tokenizer = train_tokenizer(list(questions.table["question"].unique()), 400)
    llm = build_small_llm(len(tokenizer), width=32, n_layers=1, n_heads=4, max_tokens=512)
    return PrefixLLM(llm, tokenizer)


@pytest.fixture(scope="module")
def features(tiny_cohort) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((len(tiny_cohort), 16)).astype(np.float32)


@pytest.fixture(scope="module")
def trained(kinds, reader, features, tmp_path_factory):
    kind = next(iter(kinds.values()))
    return fewshot_study.train(kind, reader, features, tmp_path_factory.mktemp("meta"), "k")


def test_verify_and_query_episodes_have_a_division_and_a_ceiling_each(kinds):
    assert list(kinds) == ["2-way verify", "2-way query"]
    for kind in kinds.values():
        assert not kind.parts.train.units & kind.parts.unseen.units
        assert kind.parts.unseen.ceiling(range(3)) == 0.5
    table = fewshot_study.parts_table(kinds)
    assert len(table) == 6 and table.columns[0] == "episodes"


def test_a_second_kind_that_cannot_be_filled_is_left_out_aloud(
    config, tiny_cohort, questions, capsys
):
    many = dataclasses.replace(config, query_way=40)
    assert list(fewshot_study.open_kinds(many, tiny_cohort, questions)) == ["2-way verify"]
    assert "40-way query episodes are left out" in capsys.readouterr().out
    with pytest.raises(DataError):
        fewshot_study.open_kinds(dataclasses.replace(config, k_shot=90), tiny_cohort, questions)


def test_scores_hold_every_step_of_the_adapted_mapper_and_each_baseline_once(trained):
    tables = fewshot_study.score(trained)
    assert tables["adapted"]["step"].unique().tolist() == [0, 1, 2]
    table = baseline_table(tables).set_index("name")
    assert {"adapted", "unadapted", "in-context", "shuffled ECGs", "ECG only"} <= set(table.index)
    assert (table.drop(["in-context", "question only"])["n"] == 3).all()
    assert table["value"].between(0, 1).all()
    own = tables["adapted"]
    last = own[own["step"] == trained.config.steps_at_test]["exact"].mean()
    assert table.loc["adapted", "value"] == pytest.approx(last)


def test_the_grid_has_a_row_for_each_k_that_fits_and_says_which_do_not(
    trained, features, capsys
):
    rows = fewshot_study.by_shots(trained, 2) + fewshot_study.seen_and_unseen(trained, 2)
    rows += fewshot_study.by_leads(trained, features * 0, 2, "I")
    grid = accuracy_grid(rows)
    assert "K = 90" in capsys.readouterr().out
    assert grid["k_shot"].tolist() == [1, 2, 2]  # SHOTS but K_SHOT and what cannot be filled
    assert grid["leads"].iloc[-1] == "I" and (grid["attributes"] == "seen").sum() == 1


def test_the_released_protocol_is_trained_on_the_same_episodes(
    trained, kinds, reader, features, tmp_path
):
    kind = trained.kind
    other = fewshot_study.train(
        kind, reader, features, tmp_path, "k", protocol="reference", n_steps=1
    )
    assert other.config.same_question and other.task.protocol == "reference"
    assert other.task.layout.blind and not trained.task.layout.blind
    with pytest.raises(ConfigError, match="live_dropout|dropout"):
        fewshot_study.train(kind, reader, features, tmp_path, "k", protocol="reference",
                            mapper="linear", quirks="live_dropout")  # fmt: skip


def test_hidden_leads_are_silent_and_unknown_ones_are_named(tiny_cohort):
    seen = ecg_features.seen_leads(tiny_cohort.store.leads, ["i", "V2"])
    assert seen.sum() == 2 and seen[tiny_cohort.store.leads.index("V2")] == 1
    with pytest.raises(ConfigError, match="V9"):
        ecg_features.seen_leads(tiny_cohort.store.leads, ["V9"])


def test_another_sources_embeddings_are_scaled_by_the_training_folds():
    x = np.array([[0.0, 5], [2, 5], [9, 5]], dtype=np.float32)
    other = ecg_features.standardise(x, np.array([0, 1]), np.array([[3.0, 7]]))
    assert other.tolist() == [[2.0, 0.0]]


def test_llm_modelling_without_notebook_03_says_what_to_run(config, tiny_cohort, tmp_path, capsys):
    assert llm_qa_study.find_classifier(tmp_path, config, tiny_cohort) is None
    assert "run notebook 03" in capsys.readouterr().out
