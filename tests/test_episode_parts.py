"""The division of attributes and patients, its file, the question-only ceiling, other sources."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ecgkit.config import FewShotConfig
from ecgkit.data import layouts
from ecgkit.data.ecgqa import open_questions
from ecgkit.data.episode_ceiling import QuestionView
from ecgkit.data.episode_classes import ClassKey
from ecgkit.data.episode_split import Pool, divide, read_split
from ecgkit.data.episodes import Episode, EpisodeSampler
from ecgkit.tasks.fewshot_setup import focus, open_parts, open_test_side
from ecgkit.types import ConfigError, DataError


def config_of(**params) -> FewShotConfig:
    return FewShotConfig.from_params({"preset": "tiny", "device": "cpu"} | params)


@pytest.fixture(scope="module")
def all_questions(tiny_cohort):
    return open_questions(config_of(), tiny_cohort, quiet=True)


@pytest.fixture(scope="module")
def verify(all_questions):
    return focus(all_questions, config_of())


@pytest.fixture(scope="module")
def parts(verify):
    return open_parts(verify, config_of())


# --- dividing -------------------------------------------------------------------------------------


def query_pool(n_questions: int, n_answers: int, per_base: int = 5) -> Pool:
    """Questions whose answers are a0, a1 ..., so that a name is an answer to several of them."""
    bases = [
        [ClassKey(f"{q}", f"a{(q + i) % 20}", (f"a{(q + i) % 20}",)) for i in range(n_answers)]
        for q in range(n_questions)
    ]
    return Pool("single-query", bases, per_base, 1)


@pytest.mark.parametrize("seed", range(20))
def test_both_sides_of_a_query_can_be_asked(seed):
    pool = query_pool(1, 10)
    seen, unseen = divide([pool], [pool], 0.8, seed)
    assert len(seen) == len(unseen) == 5 and not seen & unseen
    wide = query_pool(3, 12)
    seen, unseen = divide([wide], [wide], 0.8, seed)
    assert wide.within(unseen).enough and len(wide.within(seen).bases) == 3
    with pytest.raises(DataError, match="9 attributes are too few"):
        divide([query_pool(1, 9)], [query_pool(1, 9)], 0.8, seed)


def test_pairs_are_unseen_when_both_options_are():
    names = [f"a{i}" for i in range(10)]
    bases = [
        [ClassKey(f"{x} or {y}", answer, (x, y)) for answer in (x, y)]
        for x in names for y in names if x < y
    ]  # fmt: skip
    pool = Pool("single-choose", bases, 2, 1)
    seen, unseen = divide([pool], [pool], 0.8, 1)
    assert len(unseen) == 2 and len(pool.within(unseen).bases) == 1
    assert len(pool.within(seen).bases) == 8 * 7 / 2


def test_a_fifth_of_the_attributes_is_unseen_at_random():
    bases = [[ClassKey(f"{i}", a, (f"{i}",)) for a in ("no", "yes")] for i in range(50)]
    pool = Pool("single-verify", bases, 2, 1)
    found = [divide([pool], [pool], 0.8, seed)[1] for seed in range(40)]
    assert {len(unseen) for unseen in found} == {10}
    often = pd.Series([unit for unseen in found for unit in unseen]).value_counts()
    assert len(often) == 50 and often.max() < 20


# --- parts ----------------------------------------------------------------------------------------


def test_no_attribute_and_no_patient_is_trained_on_and_tested(parts, verify):
    table = verify.table
    names = table["attribute"].str[0]
    assert parts.split.records == "split" and not parts.train.units & parts.unseen.units
    assert parts.train.units >= parts.seen.units
    met = {
        part: np.concatenate([np.r_[e.support, e.query] for e in sampler.episodes(100)])
        for part, sampler in parts._named()
    }
    train, seen, unseen = met.values()
    assert not set(names.iloc[train]) & set(names.iloc[unseen])
    for test in (seen, unseen):
        assert not set(table["patient1"].iloc[train]) & set(table["patient1"].iloc[test])


@pytest.mark.parametrize("kind", ["single-choose", "single-query"])
def test_names_stay_on_one_side_over_all_templates(all_questions, kind):
    config = config_of(QUESTION_TYPE=kind, K_SHOT=1, N_QUERY=1)
    parts = open_parts(focus(all_questions, config), config)
    train, unseen = parts.train, parts.unseen
    assert train.units and unseen.units and not train.units & unseen.units
    column = "answer" if kind == "single-query" else "attribute"
    said = [
        {
            name
            for episode in sampler.episodes(60)
            for names in all_questions.only(
                (all_questions.table["question_type"] == kind).to_numpy()
                & (all_questions.table["attribute_type"] == "scp_code").to_numpy()
            ).table[column].iloc[np.r_[episode.support, episode.query]]
            for name in names
        }
        for sampler in (train, unseen)
    ]  # fmt: skip
    assert not said[0] & said[1]


def test_parts_say_what_they_are(parts):
    table = parts.table(20)
    assert list(table["question-only ceiling"]) == ["0.500 [0.500, 0.500]"] * 3
    assert "kept for the test" in parts.how and "outside the training split" in parts.how
    assert "skipped, too few" in parts.summary() and parts.how in parts.summary()


def test_few_questions_keep_half_of_the_patients_apart(verify):
    """Without questions outside the training split, patients are halved; both sides stay apart."""
    only = verify.only((verify.table["split"] == "train").to_numpy())
    parts = open_parts(only, config_of())
    assert parts.split.records == "half" and "half of all patients" in parts.how
    patients = [
        {p for v in s.classes.values() for p in only.table["patient1"].iloc[v]}
        for s in (parts.train, parts.unseen)
    ]
    assert not patients[0] & patients[1]
    assert not parts.train.units & parts.unseen.units


def test_one_attribute_cannot_be_divided(verify):
    one = verify.only((verify.table["attribute"].str[0] == "sinus rhythm").to_numpy())
    parts = open_parts(one, config_of(K_SHOT=1, N_QUERY=1))
    assert "Too few attributes" in parts.how and "new episodes only" in parts.how
    assert parts.train.units == parts.unseen.units
    with pytest.raises(DataError, match="lower N_WAY, K_SHOT or N_QUERY"):
        open_parts(one, config_of(K_SHOT=50, N_QUERY=50))


def test_reference_parts_pool_everything_and_quirks_undo_it(verify):
    params = {"PROTOCOL": "reference", "MIN_SAMPLES": 8}
    as_released = open_parts(verify, config_of(**params))
    assert as_released.split.records == "pooled" and "not divided" in as_released.how
    assert set(as_released.train.classes) == set(as_released.unseen.classes)
    mended = open_parts(verify, config_of(**params, QUIRKS="none"))
    assert not set(mended.train.classes) & set(mended.unseen.classes)
    assert set(mended.train.classes) == set(mended.seen.classes)
    for episode in mended.train.episodes(20):
        assert not set(episode.support) & set(episode.query)
    free = open_parts(verify, config_of(CONTRASTIVE="off"))
    assert free.unseen.ceiling(range(40)) > 0.85


def test_absent_kinds_and_impossible_shapes_are_sentences(verify):
    with pytest.raises(DataError, match=r"no single-query question.*there is: single-verify"):
        focus(verify, config_of(QUESTION_TYPE="single-query"))
    with pytest.raises(ConfigError, match="four answers at most"):
        config_of(QUESTION_TYPE="single-choose", N_WAY=5)


# --- the file -------------------------------------------------------------------------------------


def test_a_division_is_read_back_and_refused_for_other_questions(
    parts, verify, all_questions, tmp_path
):
    path = parts.split.save(tmp_path / "split.json")
    content = json.loads(path.read_text())
    assert (content["seed"], content["protocol"]) == (222, "sound") and content["unseen"]
    assert read_split(path, verify) == parts.split
    again = open_parts(verify, config_of(SPLIT_SEED=5, SPLIT_FILE=str(path)))
    assert again.unseen.units == parts.unseen.units != open_parts(
        verify, config_of(SPLIT_SEED=5)
    ).unseen.units
    with pytest.raises(DataError, match="another set of questions"):
        read_split(path, all_questions)
    template = dataclasses.replace(verify, flavour="template")
    assert read_split(path, template) == parts.split  # wording does not count
    (tmp_path / "other.json").write_text('{"seen": 1}')
    with pytest.raises(DataError, match="not a division of attributes"):
        read_split(tmp_path / "other.json", verify)
    with pytest.raises(DataError, match="no file"):
        read_split(tmp_path / "none.json", verify)


# --- ceiling --------------------------------------------------------------------------------------


def ceiling_of(support: list, query: list, level: str = "question") -> float:
    """support, query: (template, question_id, wording, answer) of each row."""
    rows = [*support, *query]
    table = pd.DataFrame(rows, columns=["template_id", "question_id", "question", "answer"])
    table["answer"] = table["answer"].map(lambda a: [a])
    at, n = np.arange(len(rows)), len(support)
    episode = Episode(at[:n], at[n:], at[:n], at[n:], ())
    return QuestionView(table).ceiling(episode, level)


def test_ceilings_are_exact():
    yes, no, other = (1, 1, "a?", "yes"), (1, 1, "b?", "no"), (1, 2, "c?", "yes")
    assert ceiling_of([yes, no], [yes, no]) == 0.5
    assert ceiling_of([yes, no], [yes, no], "wording") == 1.0  # here the words give it away
    assert ceiling_of([no, other], [no, other]) == 1.0
    assert ceiling_of([yes, yes, no], [yes, yes, no]) == pytest.approx(2 / 3)
    five = [(1, 1, "q?", f"{i}") for i in range(5)]
    assert ceiling_of(five, five * 3) == pytest.approx(0.2)
    assert ceiling_of([no], [other]) == 0  # unknown question: its template's answer, which is wrong
    assert ceiling_of([no, (9, 9, "z?", "yes")], [(9, 3, "y?", "yes")]) == 1.0


@pytest.mark.parametrize("kind, n_way", [("single-verify", 2), ("single-verify", 4),
                                         ("single-choose", 3), ("single-query", 5)])  # fmt: skip
def test_contrastive_episodes_leave_the_question_nothing(all_questions, kind, n_way):
    sampler = EpisodeSampler(
        all_questions, kind, n_way, 1, 1, same_question=True, split_by="none"
    )
    expected = 1 / 2 if kind == "single-verify" else 1 / n_way
    ceilings = sampler.ceilings(range(30))
    np.testing.assert_allclose(ceilings["question"], expected)
    assert sampler.ceiling(range(30)) == pytest.approx(expected)
    assert ceilings["wording"].between(0, 1).all()


def test_free_draws_give_most_answers_away(all_questions):
    free = EpisodeSampler(all_questions, "single-verify", 5, 2, 2, split_by="none")
    assert free.ceiling(range(100)) > 0.9


# --- another source -------------------------------------------------------------------------------


def test_test_episodes_from_another_source(verify, tiny_cohort, tmp_path):
    other = tmp_path / "like-mimic"
    layouts.write_layout(other, "mimic-iv-ecg", n_ecgs=80, seed=11, jobs=1)
    config = config_of(TEST_DATA=str(other), K_SHOT=1, N_QUERY=1)
    cohort, questions = open_test_side(config, tiny_cohort, verify)
    assert cohort.name == "mimic-iv-ecg" and cohort is not tiny_cohort
    parts = open_parts(verify, config, questions)
    assert parts.split.records == "other source" and "another source" in parts.how
    assert not parts.train.units & parts.unseen.units
    for sampler, asked in ((parts.train, verify), (parts.unseen, questions)):
        for episode in sampler.episodes(20):
            at = np.r_[episode.support, episode.query]
            assert set(asked.table["attribute"].iloc[at].str[0]) <= sampler.units
    path = parts.split.save(tmp_path / "split.json")
    assert read_split(path, verify, questions) == parts.split
    with pytest.raises(DataError, match="another set of questions"):
        read_split(path, verify)
    same = open_test_side(config_of(), tiny_cohort, verify)
    assert same == (tiny_cohort, verify)


def test_known_to_one_source_alone_is_never_unseen(verify):
    keep = verify.table["attribute"].str[0] != "sinus rhythm"
    fewer = SimpleNamespace(table=verify.table[keep].reset_index(drop=True))
    config = config_of(K_SHOT=1, N_QUERY=1)
    for seed in range(5):
        parts = open_parts(fewer, dataclasses.replace(config, split_seed=seed), verify)
        assert "sinus rhythm" not in parts.unseen.units | parts.seen.units
