"""Both few-shot protocols and their evaluation, on a toy whose embedding is the answer."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from ecgkit.config import FewShotConfig
from ecgkit.config.fewshot import QUIRKS
from ecgkit.data.episodes import Episode
from ecgkit.models.prefix_llm import IGNORE, PrefixLLM, normalise
from ecgkit.models.prefix_mapper import build_mapper
from ecgkit.models.small_llm import build_small_llm, train_tokenizer
from ecgkit.tasks import (
    answer_scores,
    fewshot_baselines,
    fewshot_eval,
    fewshot_quirks,
    fewshot_task,
    in_context,
)
from ecgkit.tasks.fewshot_layout import check_quirks, mapper_kind
from ecgkit.tasks.fewshot_task import FewShotTask
from ecgkit.tasks.mapper_at_test import mapper_at_test
from ecgkit.types import ConfigError

TEXTS = ("Is atrial fibrillation present?", "Would you report noise?", "Is it a normal ECG?")
LONG = "a very long answer of many more words than the limit lets through today"
N_ECGS, WIDTH = 60, 8


@pytest.fixture(scope="module")
def reader() -> PrefixLLM:
    torch.manual_seed(0)
    lines = [f"Question: {q} ECG: Answer: yes no" for q in TEXTS] * 3
    tokenizer = train_tokenizer(lines, 300)
    llm = build_small_llm(len(tokenizer), width=32, n_layers=2, n_heads=4)
    llm.model.norm.weight.data *= 8  # random words lie close together; so that one can win
    return PrefixLLM(llm, tokenizer)


@pytest.fixture(scope="module")
def questions() -> SimpleNamespace:
    """Every ECG and every text; even ECGs say yes, odd ones no. ECG 0 has one long answer."""
    rows = [(text, ("yes", "no")[ecg % 2], ecg) for text in TEXTS for ecg in range(N_ECGS)]
    table = pd.DataFrame(rows, columns=["question", "said", "row1"])
    table.loc[0, "said"] = LONG
    return SimpleNamespace(table=table.assign(answer=[[a] for a in table.pop("said")]))


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    x = np.random.default_rng(0).normal(0, 0.1, (N_ECGS, WIDTH)).astype(np.float32)
    x[:, 0] += np.where(np.arange(N_ECGS) % 2, -1, 1)
    return x


class Sampler:
    """Two classes of one question, K support and Q query rows each; `first` ECG to draw from."""

    def __init__(self, k: int = 3, q: int = 4, first: int = 2):
        self.k, self.q, self.first = k, q, first

    def __getitem__(self, number: int) -> Episode:
        rng = np.random.default_rng([number, 5])
        text, size = number % len(TEXTS), self.k + self.q
        yes, no = (
            rng.permutation(np.arange(self.first + odd, N_ECGS, 2))[:size] + text * N_ECGS
            for odd in (0, 1)
        )
        support = np.concatenate([yes[: self.k], no[: self.k]])
        query = np.concatenate([yes[self.k :], no[self.k :]])
        classes = np.arange(2)
        return Episode(
            support, query, classes.repeat(self.k), classes.repeat(self.q), ("a = yes", "a = no")
        )


@pytest.fixture(scope="module")
def config() -> FewShotConfig:
    return FewShotConfig.from_params({"preset": "tiny", "INNER_LR": 0.5, "INNER_STEPS": 3})


def make_task(questions, features, reader, quirks=(), **more) -> FewShotTask:
    return FewShotTask(questions, features, reader, "sound", "cpu", quirks, **more)


def make_mapper(reader, kind: str = "attention", **more) -> torch.nn.Module:
    torch.manual_seed(1)
    return build_mapper(kind, WIDTH, reader.width, n_heads=4, dropout=0.0, **more).eval()


# --- what each quirk changes ----------------------------------------------------------------------


def test_no_quirk_under_sound_and_all_of_them_under_reference(questions, features, reader):
    assert FewShotTask(questions, features, reader, "sound", "cpu").quirks == frozenset()
    assert FewShotTask(questions, features, reader, "reference", "cpu").quirks == set(QUIRKS)
    assert FewShotTask(questions, features, reader, "reference", "cpu", ()).quirks == frozenset()
    with pytest.raises(ConfigError, match="oracle"):
        make_task(questions, features, reader, {"oracle"})


@pytest.mark.parametrize("blind", [(), ("question_blind",)])
@pytest.mark.parametrize(
    "quirks,expected",
    [((), "yes end"), (("oracle_length",), "yes"), (("bos_scored",), "start yes end"),
     (("oracle_length", "bos_scored"), "start yes")],
)  # fmt: skip
def test_start_and_end_are_scored_as_the_quirks_say(
    questions, features, reader, quirks, expected, blind
):
    task = make_task(questions, features, reader, {*quirks, *blind})
    row = [i for i in task.targets[list(task.answers).index("yes")].tolist() if i != IGNORE]
    tokenizer = reader.tokenizer
    has_start, has_end = row[0] == tokenizer.bos_token_id, row[-1] == tokenizer.eos_token_id
    middle = tokenizer.decode(row[has_start : len(row) - has_end]).strip()
    said = ["start"] * has_start + [middle] + ["end"] * has_end
    assert " ".join(said) == expected


def test_the_question_matters_unless_it_is_hidden(questions, features, reader):
    """Another question, the same ECGs and answers: exactly no change in the released layout."""
    for quirks, hidden in ((QUIRKS, True), ((), False), (("oracle_length", "bos_scored"), False)):
        task = make_task(questions, features, reader, quirks)
        batch = task.batch(**task.positions([Sampler()[0], Sampler()[3]]))
        other = dataclasses.replace(batch, text=(batch.text + 1) % len(TEXTS))
        prefix = torch.randn(*batch.text.shape, 4, reader.width)
        one, two = (task.open_reader(b)(prefix, "both") for b in (batch, other))
        change = (one["log_likelihood"] - two["log_likelihood"]).abs()
        assert change.max() == 0.0 if hidden else change.min() > 0
        right = [task.candidate_right(b, prefix[:, b.n_support :]) for b in (batch, other)]
        assert not hidden or torch.equal(*right)


def test_a_constant_start_token_is_half_of_a_yes_or_no():
    """p right of 100 answers: the released count says (1 + p) / 2, whether the start token is among
    the targets or only counted."""
    bos, eos, yes, no = 0, 1, 5, 6
    said = torch.where(torch.arange(100) < 62, yes, no)
    for targets, spoken in (
        ([bos, yes], [torch.full((100,), bos), said]),
        ([yes, eos], [said, torch.full((100,), eos)]),
    ):
        logits = torch.nn.functional.one_hot(torch.stack(spoken, 1), 8).float()
        scores = answer_scores.row_scores(logits, torch.tensor(targets).repeat(100, 1), eos, bos)
        means = {name: value.float().mean().item() for name, value in scores.items()}
        assert means["released"] == means["tokens"] == pytest.approx((1 + 0.62) / 2)
        assert means["spoken"] == means["exact"] == pytest.approx(0.62)
    without = answer_scores.row_scores(logits, torch.tensor(targets).repeat(100, 1), eos)
    assert without["released"].mean() == pytest.approx(0.62)  # this tokenizer has no start


@pytest.mark.parametrize("prefix_first", [False, True])
@pytest.mark.parametrize("quirks", [(), ("oracle_length",), ("question_blind",)])
def test_exact_match_is_what_decoding_would_write(
    questions, features, reader, prefix_first, quirks
):
    if prefix_first and "question_blind" in quirks:
        with pytest.raises(ConfigError, match="PREFIX_FIRST"):
            make_task(questions, features, PrefixLLM(reader.llm, reader.tokenizer,
                                                     prefix_first=True), quirks)  # fmt: skip
        return
    own = PrefixLLM(reader.llm, reader.tokenizer, prefix_first=prefix_first)
    task = make_task(questions, features, own, quirks, max_answer=6)
    batch = task.batch(**task.positions([Sampler()[0], Sampler()[1]]))
    read, answer = task.open_reader(batch), batch.answer[:, batch.part("query")]
    torch.manual_seed(0)
    prefix = torch.randn(*answer.shape, 4, reader.width, requires_grad=True)
    optimiser = torch.optim.Adam([prefix], lr=0.1)
    for _ in range(60):  # soft tokens under which the first episode is answered right
        optimiser.zero_grad()
        read(prefix, "query")["loss"][0].sum().backward()
        optimiser.step()
    exact = read(prefix.detach(), "query")["exact"].flatten().tolist()
    memory, answer = task.remember(batch, "query"), answer.flatten()
    said = task.answers_in_words(memory, prefix.detach().flatten(0, 1), answer)
    true = [normalise(task.answers[i]) for i in answer.tolist()]
    assert exact == [a == b for a, b in zip(said, true, strict=True)]
    assert set(exact) == {True, False}  # or the comparison would say nothing


def test_all_candidates_in_one_pass_are_as_one_by_one(questions, features, reader, monkeypatch):
    for quirks in ((), QUIRKS):
        task = make_task(questions, features, reader, quirks)
        batch = task.batch(**task.positions([Sampler(first=0)[0], Sampler()[1]]))
        n_query = batch.text.shape[1] - batch.n_support
        prefix = torch.randn(2 * n_query, 4, reader.width)
        options = torch.arange(len(task.answers)).expand(2 * n_query, -1)  # yes, no, the long one
        memory = task.remember(batch, "query")
        together = task.likelihoods(memory, prefix, options)
        monkeypatch.setattr(fewshot_task, "ROWS_AT_ONCE", 7)
        torch.testing.assert_close(task.likelihoods(memory, prefix, options), together)
        monkeypatch.undo()
        for k in range(options.shape[1]):
            alone = task.score(memory, prefix, options[:, k])["log_likelihood"]
            torch.testing.assert_close(alone, together[:, k], rtol=1e-4, atol=1e-4)


def test_contradictions_with_the_quirks_are_refused():
    def settings(**params):
        return FewShotConfig.from_params({"preset": "tiny", "PROTOCOL": "reference", **params})

    check_quirks(settings())
    check_quirks(settings(QUIRKS="none", MAPPER="linear"))
    for params, named in (
        ({"QUIRKS": "live_dropout", "MAPPER": "linear"}, "live_dropout"),
        ({"MAPPER_FROM": "somewhere"}, "MAPPER_FROM"),
        ({"METHOD": "in-context"}, "question_blind"),
        ({"SPLIT_BY": "class"}, "SPLIT_BY"),
    ):
        with pytest.raises(ConfigError, match=named):
            check_quirks(settings(**params))
    assert mapper_kind(settings(MAPPER="mlp")) == "attention"
    assert mapper_kind(settings(MAPPER="mlp", QUIRKS="bos_scored")) == "mlp"


# --- the mapper under test ------------------------------------------------------------------------


def test_dropout_is_live_only_where_the_quirk_says_so(reader):
    x = torch.randn(3, WIDTH)
    trained = make_mapper(reader, always_drop=True)
    calm, live = mapper_at_test(trained, ()), mapper_at_test(trained, {"live_dropout"})
    assert torch.equal(calm(x)["prefix"], calm(x)["prefix"])
    assert not torch.equal(live(x)["prefix"], live(x)["prefix"])
    assert trained.always_drop and trained.dropout == 0.0  # what was trained is left as it was
    plain = mapper_at_test(make_mapper(reader, "mlp"), {"live_dropout"})
    assert not torch.equal(plain(x)["prefix"], plain(x)["prefix"])


def test_the_untrained_mapper_is_a_random_one_of_the_same_shape(reader):
    trained = make_mapper(reader)
    one, two = (mapper_at_test(trained, {"untrained_mapper"}, seed=3) for _ in range(2))
    for a, b, c in zip(one.parameters(), two.parameters(), trained.parameters(), strict=True):
        assert torch.equal(a, b) and a.shape == c.shape
    assert not torch.equal(one.query.weight, trained.query.weight)
    assert not torch.equal(one.tokens, trained.tokens)


# --- evaluation -----------------------------------------------------------------------------------


def test_the_shuffled_control_deals_an_episodes_own_ecgs_anew(questions, features, reader):
    task = make_task(questions, features, reader)
    batch = task.batch(**task.positions([Sampler()[i] for i in (4, 5)]))
    how = (batch.answer, batch.n_support)
    dealt = fewshot_task.dealt_anew(batch.record, *how, [4, 5])
    assert not torch.equal(dealt, batch.record)
    for part in (batch.part("support"), batch.part("query")):
        assert torch.equal(dealt[:, part].sort(1).values, batch.record[:, part].sort(1).values)
    alone = fewshot_task.dealt_anew(batch.record[1:], batch.answer[1:], batch.n_support, [5])
    assert torch.equal(alone, dealt[1:])
    support, query = task.embeddings(batch, "shuffled", [4, 5])
    assert torch.equal(torch.cat([support, query], 1), task.features[dealt])
    assert not any(x.any() for x in task.embeddings(batch, "mean"))
    with pytest.raises(ConfigError, match="blind"):
        task.embeddings(batch, "blind")


@pytest.mark.parametrize(("n_answers", "k"), [(2, 5), (5, 5), (2, 4), (3, 4)])
def test_dealt_anew_an_answer_keeps_its_share_of_right_ecgs_and_no_more(n_answers, k):
    said = torch.arange(n_answers).repeat_interleave(k).repeat(200, 2)  # (T, S + Q)
    record = torch.arange(said.shape[1]).expand(200, -1)
    dealt = fewshot_task.dealt_anew(record, said, n_answers * k, range(200))
    right = (said.gather(1, dealt) == said).float()
    low, high = k // n_answers * n_answers, -(-k // n_answers) * n_answers
    for part in (right[:, : n_answers * k], right[:, n_answers * k :]):
        assert part.sum(1).min() >= low and part.sum(1).max() <= high
        assert abs(part.mean() - 1 / n_answers) < 0.03


def test_without_the_curve_the_last_step_has_the_same_scores(questions, features, reader, config):
    task, mapper = make_task(questions, features, reader), make_mapper(reader)
    whole = fewshot_eval.evaluate_episodes(task, mapper, Sampler(), range(5), config)
    fast = fewshot_eval.evaluate_episodes(
        task, mapper, Sampler(), range(5), config, curve=False, tasks_at_once=2
    )
    last = whole[whole["step"] == config.inner_steps].reset_index(drop=True)
    assert set(fast["step"]) == {config.inner_steps} and len(fast) == 5
    numbers = ["exact", "candidate", "balanced", "tokens", "spoken", "released", "loss"]
    np.testing.assert_allclose(fast[numbers], last[numbers], rtol=1e-4)
    more = dataclasses.replace(config, test_inner_steps=5)
    assert (
        fewshot_eval.evaluate_episodes(task, mapper, Sampler(), range(1), more)["step"].max() == 5
    )


def test_live_dropout_gives_the_same_scores_on_every_call(questions, features, reader, config):
    task, mapper = make_task(questions, features, reader, {"live_dropout"}), make_mapper(reader)
    one, two = (
        fewshot_eval.evaluate_episodes(task, mapper, Sampler(), range(3), config) for _ in range(2)
    )
    pd.testing.assert_frame_equal(one, two)


def test_long_answers_are_left_out_and_counted(questions, features, reader, config):
    task, mapper = make_task(questions, features, reader, max_answer=8), make_mapper(reader)
    assert task.left_out == 1
    sampler = Sampler(first=0)
    hit = next(i for i in range(0, 90, 3) if 0 in sampler[i].query)
    table = fewshot_eval.evaluate_episodes(task, mapper, sampler, [hit], config)
    assert (table["left_out"] == 1).all() and table["loss"].notna().all()
    strict = PrefixLLM(reader.llm, reader.tokenizer, max_answer=8)  # which refuses them itself
    again = fewshot_eval.evaluate_episodes(
        make_task(questions, features, strict, max_answer=8), mapper, sampler, [hit], config
    )
    np.testing.assert_allclose(again["loss"], table["loss"], rtol=1e-5)
    reached = next(i for i in range(0, 90, 3) if 0 in sampler[i].support)
    batch = task.batch(**task.positions([sampler[reached]]))
    prefix = torch.randn(1, batch.n_support, 4, reader.width)
    assert (task.open_reader(batch)(prefix, "support")["loss"] == 0).sum() == 1


def test_means_are_balanced_over_classes():
    rows = {"exact": np.array([[1, 1, 1, 0]]), "loss": np.array([[1.0, 2, 3, 9]])}
    kept, classes = np.array([[True, True, True, True]]), np.array([[0, 0, 0, 1]])
    means = fewshot_eval.episode_means(rows, kept, classes)
    assert means["exact"] == 0.75 and means["balanced"] == 0.5
    less = fewshot_eval.episode_means(rows, classes == 0, classes)
    assert less["balanced"] == 1 and less["left_out"] == 1 and less["loss"] == 2


def test_an_episode_that_is_not_finite_is_flagged_and_left_out(questions, features, reader, config):
    broken = features.copy()
    hit = questions.table["row1"][Sampler()[1].support[0]]
    broken[hit] = np.nan
    task, mapper = make_task(questions, broken, reader), make_mapper(reader)
    numbers = [i for i in range(12) if i == 1 or not _holds(questions, Sampler()[i], hit)][:4]
    table = fewshot_eval.evaluate_episodes(task, mapper, Sampler(), numbers, config)
    assert fewshot_eval.n_flagged(table) == 1
    assert set(table.loc[table["flagged"], "episode"]) == {1}
    gain = fewshot_eval.paired_gain(table)
    assert gain["n"] == 3 and np.isfinite(gain["gain"])
    assert np.isfinite(fewshot_eval.by_step(table, "loss")["mean"]).all()
    grid = fewshot_eval.accuracy_grid([({"N": 2}, table)])
    assert grid.loc[0, "n"] == 3 and grid.loc[0, "flagged"] == 1


def _holds(questions, episode, ecg: int) -> bool:
    rows = questions.table["row1"][np.concatenate([episode.support, episode.query])]
    return ecg in set(rows)


def test_a_grid_has_a_row_per_table_with_both_intervals():
    table = pd.DataFrame(
        [(e, s, (e % 2) * s, False) for e in range(10) for s in (0, 1)],
        columns=["episode", "step", "exact", "flagged"],
    )
    last = table[table["step"] == 1]
    grid = fewshot_eval.accuracy_grid([({"N": 2, "K": 5}, table), ({"N": 4, "K": 5}, last)])
    assert list(grid["N"]) == [2, 4] and list(grid["value"]) == [0.5, 0.5]
    assert grid.loc[0, "low"] < 0.5 < grid.loc[0, "high"] and grid.loc[0, "gain"] == 0.5
    assert np.isnan(grid.loc[1, "gain"]) and grid.loc[1, "n"] == 10


def test_under_anil_only_the_last_layer_adapts(questions, features, reader, config):
    task, mapper = make_task(questions, features, reader), make_mapper(reader)
    batch = task.batch(**task.positions([Sampler()[0]]))
    anil = dataclasses.replace(config, method="anil")
    done = fewshot_eval.adapt(task, mapper, batch, *task.embeddings(batch), anil)
    moved = {
        name for name, p in mapper.named_parameters() if not torch.equal(done.params[name][0], p)
    }
    assert moved == {"out.weight", "out.bias", "norm2.weight", "norm2.bias"}


# --- baselines ------------------------------------------------------------------------------------


def test_the_embeddings_alone_answer_the_toy_and_the_majority_does_not(
    questions, features, reader, config
):
    task, mapper = make_task(questions, features, reader), make_mapper(reader)
    tables = fewshot_baselines.baseline_episodes(
        task, mapper, Sampler(), range(4), config, supervised=make_mapper(reader, "linear")
    )
    found = fewshot_baselines.baseline_table(tables).set_index("name")
    assert found.loc["ECG only", "value"] == 1 and found.loc["majority", "value"] == 0.5
    assert {
        "adapted",
        "unadapted",
        "in-context",
        "supervised",
        "question only",
        "shuffled ECGs",
    } < {*found.index}
    gap = found.loc["adapted", "value"] - found["value"]
    np.testing.assert_allclose(found["gain"].drop("adapted"), gap.drop("adapted"))
    assert (found["gain low"].dropna() <= found["gain high"].dropna()).all()
    assert (found["n"] == 4).all()


def test_ties_of_the_majority_share_the_credit():
    ids = np.array([7, 7, 9])
    credit = fewshot_baselines.majority(ids, np.array([7, 9, 7]), None, None, None)
    np.testing.assert_array_equal(credit, [1, 0, 1])
    credit = fewshot_baselines.majority(np.array([7, 9]), np.array([7, 9, 8]), None, None, None)
    np.testing.assert_array_equal(credit, [0.5, 0.5, 0])


def test_in_context_answers_hang_on_the_examples_and_are_refused_where_there_is_no_room(
    questions, features, reader, config
):
    task, mapper = make_task(questions, features, reader), make_mapper(reader)
    table = in_context.in_context_episodes(task, mapper, Sampler(), range(3), config)
    assert table["loss"].notna().all() and (table["step"] == 0).all()
    other = in_context.in_context_episodes(task, mapper, Sampler(), range(3), config, "shuffled")
    assert not np.allclose(table["loss"], other["loss"])
    blind = make_task(questions, features, reader, QUIRKS)
    with pytest.raises(ConfigError, match="question_blind"):
        in_context.in_context_episodes(blind, mapper, Sampler(), range(1), config)


# --- quirks and words -----------------------------------------------------------------------------


def test_every_quirk_has_a_row_with_its_worth_or_with_what_is_missing(
    questions, features, reader, config
):
    mappers = {"sound": make_mapper(reader), "reference": make_mapper(reader)}
    setup = fewshot_quirks.QuirkSetup(
        questions, features, reader, Sampler(), mappers, {"with_replacement": Sampler(first=0)}
    )
    table = fewshot_quirks.quirk_table(setup, range(3), config)
    for start, rows in table.groupby("from"):
        expected = set(QUIRKS) - ({"untrained_mapper"} if start == "trained reference" else set())
        assert set(rows["name"]) == expected
    measured = table["value"].notna()
    assert (table.loc[~measured, "remark"] != "").all()
    np.testing.assert_allclose(
        table["value"][measured], (table["with it"] - table["without it"])[measured], atol=1e-12
    )
    done = set(table.loc[measured & (table["from"] == "sound"), "name"])
    assert done == {"oracle_length", "bos_scored", "live_dropout", "untrained_mapper",
                    "with_replacement"}  # fmt: skip
    with pytest.raises(ConfigError, match="meta-trained"):
        only = dataclasses.replace(setup, mappers={"sound": mappers["sound"]})
        fewshot_quirks.quirk_table(only, range(1), config)
    both = fewshot_quirks.side_by_side(setup, range(3), config)
    assert set(both["protocol"]) == {"sound", "reference", "trained reference"}


def test_answers_in_words_have_scores_up_to_their_own_length(questions, features, reader, config):
    said = ["sinus rhythm", "atrial fibrillation.", "st elevation"]
    true = ["sinus rhythm", "Atrial fibrillation", "st depression"]
    table = answer_scores.word_scores(said, true, np.array([0, 0, 1])).set_index("score")
    assert table.loc["exact match", "value"] == pytest.approx(2 / 3)
    assert table.loc["BLEU-1", "value"] == pytest.approx(5 / 6)
    assert "BLEU-2" in table.index and "BLEU-3" not in table.index
    assert table.loc["ROUGE-L", "value"] == pytest.approx(5 / 6)
    assert (table["low"] <= table["value"]).all() and (table["value"] <= table["high"]).all()

    class Bert:
        def score(self, said, true):
            return SimpleNamespace(f1=np.full(len(said), 0.9))

    more = answer_scores.word_scores(said, true, bert=Bert()).set_index("score")
    assert more.loc["BERTScore F1", "value"] == pytest.approx(0.9)
    task, mapper = make_task(questions, features, reader, max_answer=4), make_mapper(reader)
    written = fewshot_eval.written_answers(task, mapper, Sampler(), range(2), config)
    assert list(written.columns) == ["question", "true", "before", "after", "episode"]
    assert len(written) == 2 * 8
