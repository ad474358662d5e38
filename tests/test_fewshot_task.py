"""The few-shot study on the tiny cohort: language model cache, overfitting, adaptation, faults of
drawing.
"""

import dataclasses

import numpy as np
import pytest
import torch

from ecgkit.config import FewShotConfig
from ecgkit.data.ecgqa import open_questions
from ecgkit.models.prefix_llm import PrefixLLM
from ecgkit.models.prefix_mapper import build_mapper
from ecgkit.models.small_llm import build_small_llm, train_tokenizer
from ecgkit.tasks import (
    ecg_features,
    fewshot_eval,
    fewshot_quirks,
    fewshot_setup,
    fewshot_task,
    fewshot_train,
    maml,
)
from ecgkit.types import ConfigError, ModelError


@pytest.fixture(scope="module")
def config() -> FewShotConfig:
    return FewShotConfig.from_params({"preset": "tiny"})


@pytest.fixture(scope="module")
def questions(config, tiny_cohort):
    return fewshot_setup.focus(open_questions(config, tiny_cohort, quiet=True), config)


@pytest.fixture(scope="module")
def parts(questions, config):
    return fewshot_setup.open_parts(questions, config)


@pytest.fixture(scope="module")
def reader(questions) -> PrefixLLM:
    torch.manual_seed(0)
    texts = [f"Question: {q} ECG: Answer: yes no" for q in questions.table["question"].unique()]
    tokenizer = train_tokenizer(texts, 400)
    llm = build_small_llm(len(tokenizer), width=32, n_layers=2, n_heads=4)
    llm.model.norm.weight.data *= 8  # random words lie close together; so that one can win
    return PrefixLLM(llm, tokenizer)


def make_task(questions, reader, n_ecgs: int, protocol: str = "sound", width: int = 16):
    features = np.random.default_rng(0).standard_normal((n_ecgs, width)).astype(np.float32)
    return fewshot_task.FewShotTask(questions, features, reader, protocol, "cpu")


# --- reader ---------------------------------------------------------------------------------------


def test_the_small_llama_is_trained_once_and_then_loaded(questions, tiny_cohort, config):
    quick = dataclasses.replace(config, llm_steps=3, llm_batch=8, llm_width=32)
    first, log = fewshot_setup.open_reader(questions, tiny_cohort, quick)
    again, other = fewshot_setup.open_reader(questions, tiny_cohort, quick)
    assert not log.reused and other.reused
    assert first.tokenizer.get_vocab() == again.tokenizer.get_vocab()
    for a, b in zip(first.llm.parameters(), again.llm.parameters(), strict=True):
        assert torch.equal(a, b)
    _, third = fewshot_setup.open_reader(
        questions, tiny_cohort, dataclasses.replace(quick, llm_steps=4)
    )
    assert not third.reused


# --- task -----------------------------------------------------------------------------------------


def test_overfits_one_episode(parts, questions, reader, tiny_cohort, config):
    """The outer loop drives the query loss of one fixed episode down; decoding then writes the
    answers.
    """
    quick = dataclasses.replace(config, inner_steps=2, inner_lr=0.05)
    task = make_task(questions, reader, len(tiny_cohort), width=64)
    torch.manual_seed(0)
    mapper = build_mapper("attention", 64, reader.width, n_heads=4, dropout=0.0)
    positions = task.positions([parts.train[0]])
    optimiser, first = torch.optim.AdamW(mapper.parameters(), lr=1e-2), None
    for _ in range(300):  # ends when it is learnt: the path hangs on the last digit
        out = fewshot_train.meta_loss(task, mapper, positions, quick)
        first = first or out["loss"].item()
        if out["loss"] < 0.1 * first and out["exact"] == 1:
            break
        optimiser.zero_grad()
        out["loss"].backward()
        optimiser.step()
    assert out["loss"] < 0.1 * first and out["exact"] == 1
    answers, attention = fewshot_eval.adapt_one(task, mapper, parts.train[0], quick)
    assert (answers["after"] == answers["true"]).all()
    assert attention["after"].shape == (4, 5)


def test_scores_by_step_and_the_question_only_control(
    parts, questions, reader, tiny_cohort, config
):
    task = make_task(questions, reader, len(tiny_cohort))
    mapper = build_mapper("attention", 16, reader.width, n_heads=4, dropout=0.0).eval()
    table = fewshot_eval.evaluate_episodes(
        task, mapper, parts.unseen, range(3), config, tasks_at_once=2
    )
    assert len(table) == 3 * (config.inner_steps + 1)
    assert table[["exact", "loss"]].notna().all().all()
    assert table["candidate"].notna().sum() == 2 * 3  # before and after
    blind = fewshot_eval.evaluate_episodes(task, mapper, parts.unseen, range(3), config, "mean")
    assert not np.allclose(blind["loss"], table["loss"])
    gain = fewshot_eval.paired_gain(table, "candidate")
    assert gain["n"] == 3 and gain["low"] <= gain["gain"] <= gain["high"]
    one_by_one = fewshot_eval.evaluate_episodes(
        task, mapper, parts.unseen, range(3), config, tasks_at_once=1
    )
    np.testing.assert_allclose(one_by_one["loss"], table["loss"], rtol=1e-4)


def test_the_candidate_score_agrees_with_scoring_each_answer_by_itself(
    parts, questions, reader, tiny_cohort
):
    task = make_task(questions, reader, len(tiny_cohort))
    batch = task.batch(**task.positions([parts.unseen[0]]))
    text, true = (x[0, batch.part("query")].tolist() for x in (batch.text, batch.answer))
    prefix = torch.randn(1, len(text), 4, reader.width)
    right = task.candidate_right(batch, prefix)
    for i in range(len(text)):
        memory = reader.read_questions([task.texts[text[i]]])
        likelihood = {}
        for answer in ("yes", "no"):
            targets = reader.encode_answers([answer])
            logp = reader(memory, prefix[:, i], targets).log_softmax(-1)[0]
            likelihood[answer] = logp.gather(1, targets[0][:, None]).sum().item()
        best = max(likelihood, key=likelihood.get)
        assert bool(right[0, i]) == (best == task.answers[true[i]])


def test_the_released_layout_runs_and_counts_the_start_token(
    parts, questions, reader, tiny_cohort, config, tmp_path
):
    task = make_task(questions, reader, len(tiny_cohort), "reference")
    mapper, log = fewshot_train.meta_train(task, parts.train, config, tmp_path, n_steps=2)
    assert mapper.always_drop and np.isfinite(log.table["loss"]).all()
    table = fewshot_eval.evaluate_episodes(task, mapper, parts.unseen, range(2), config)
    assert (table["tokens"] >= table["exact"]).all()
    batch = task.batch(**task.positions([parts.unseen[0]]))
    assert (task.targets[batch.answer][..., 0] == reader.tokenizer.bos_token_id).all()


def test_meta_training_goes_through_the_engine_and_is_not_repeated(
    parts, questions, reader, tiny_cohort, config, tmp_path
):
    task = make_task(questions, reader, len(tiny_cohort))
    before = build_mapper(
        config.mapper, 16, reader.width, config.n_prefix, config.mapper_heads, 0.0
    )
    mapper, log = fewshot_train.meta_train(task, parts.train, config, tmp_path, "x")
    assert len(log.table) == config.meta_steps and not log.reused
    again, other = fewshot_train.meta_train(task, parts.train, config, tmp_path, "x")
    assert other.reused and before.tokens.shape == mapper.tokens.shape
    assert all(
        torch.equal(a, b) for a, b in zip(mapper.parameters(), again.parameters(), strict=True)
    )


def test_outer_steps_are_those_published_and_one_for_a_single_step():
    assert maml.outer_steps(5) == {2, 3, 4, 5} and maml.outer_steps(1) == {1}


# --- features and settings ------------------------------------------------------------------


class Encoder(torch.nn.Module):
    """Counts its calls; an embedding is the mean of each lead times a weight."""

    def __init__(self, weight: float):
        super().__init__()
        self.weight, self.calls = torch.nn.Parameter(torch.tensor(weight)), 0

    def forward(self, x):
        self.calls += 1
        return {"embedding": x.mean(-1) * self.weight}


def test_each_record_is_encoded_once_per_encoder(tiny_cohort):
    encoder = Encoder(2.0)
    features = ecg_features.encoder_features(encoder, tiny_cohort, batch_size=50)
    calls = encoder.calls
    again = ecg_features.encoder_features(encoder, tiny_cohort, batch_size=50)
    assert calls == -(-len(tiny_cohort) // 50) == encoder.calls and np.array_equal(features, again)
    np.testing.assert_allclose(features[7], 2 * tiny_cohort.store.read([7])[0].mean(1), atol=1e-6)
    other = ecg_features.encoder_features(Encoder(3.0), tiny_cohort)
    np.testing.assert_allclose(other, features * 1.5, rtol=1e-4, atol=1e-6)
    with pytest.raises(ModelError, match="not finite"):
        ecg_features.encoder_features(Encoder(float("nan")), tiny_cohort)


def test_features_are_standardised_on_training_rows_alone():
    x = np.random.default_rng(0).normal(3, 2, (100, 4)).astype(np.float32)
    x[:, 3] = 1.0
    out = ecg_features.standardise(x, np.arange(50))
    np.testing.assert_allclose(out[:50, :3].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(out[:50, :3].std(0), 1, atol=1e-4)
    assert (out[:, 3] == 0).all()


def test_contradictions_name_both_settings():
    with pytest.raises(ConfigError, match="CONTRASTIVE"):
        FewShotConfig.from_params({"N_WAY": 3})
    with pytest.raises(ConfigError, match="LLM_HEADS"):
        FewShotConfig.from_params({"LLM_WIDTH": 130})


# --- faults of drawing ----------------------------------------------------------------------------


def test_a_fault_of_drawing_changes_the_ecgs_and_leaves_the_classes(parts):
    drawn = fewshot_quirks.quirk_samplers(parts.unseen, parts.seen)
    names = [[s[i].names for i in range(20)] for s in (parts.unseen, drawn["with_replacement"])]
    assert names[0] == names[1]
    repeats = [_repeats(s) for s in (parts.unseen, drawn["with_replacement"])]
    assert repeats[0] == 0 < repeats[1]
    twice = drawn["episodes_twice"]
    assert np.array_equal(twice[4].query, twice[5].query)
    assert not np.array_equal(parts.unseen[4].query, parts.unseen[5].query)


def _repeats(sampler) -> int:
    """Query questions of 20 episodes that stand in the support too."""
    return sum(len(set(e.query) & set(e.support)) for e in (sampler[i] for i in range(20)))
