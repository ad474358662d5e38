"""Episodes: what may meet in one, what is kept apart between training and test."""

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ecgkit.data import ecgqa
from ecgkit.data.episodes import (
    CONFLICTING,
    EPISODE_QUIRKS,
    EpisodeSampler,
    reference_keys,
    sound_keys,
)
from ecgkit.types import ConfigError, DataError

SHAPE = {"n_way": 2, "k_shot": 2, "n_query": 2}


@pytest.fixture(scope="module")
def questions(tiny_config, tiny_cohort):
    return ecgqa.open_questions(tiny_config, tiny_cohort)


@pytest.fixture(scope="module", params=["single-verify", "single-choose", "single-query"])
def pair(request, questions):
    """(train, test) samplers of one question type; choose has few samples per class in tiny."""
    shape = SHAPE | {"k_shot": 1, "n_query": 1} if request.param == "single-choose" else SHAPE
    make = [EpisodeSampler(questions, request.param, **shape, part=p) for p in ("train", "test")]
    return tuple(make)


def test_support_and_query_share_no_patient_or_ecg(pair, questions):
    patient, row = (questions.table[c].to_numpy() for c in ("patient1", "row1"))
    for episode in pair[0].episodes(50):
        both = np.r_[episode.support, episode.query]
        assert len(episode.support) == len(episode.query) == 2 * pair[0].k_shot
        for ids in (patient, row):
            assert not set(ids[episode.support]) & set(ids[episode.query])
        assert len(set(patient[both])) == len(both)


def test_training_and_test_share_no_class_or_unit(pair):
    train, test = pair
    assert not set(train.classes) & set(test.classes)
    assert not train.units & test.units
    seen = {name for episode in train.episodes(200) for name in episode.names}
    assert not seen & {name for episode in test.episodes(200) for name in episode.names}


def test_attributes_of_verify_are_unseen_at_test(questions):
    attribute = questions.table["attribute"].str[0]
    parts = []
    for part in ("train", "test"):
        sampler = EpisodeSampler(questions, **SHAPE, part=part)
        met = np.concatenate([np.r_[e.support, e.query] for e in sampler.episodes(200)])
        parts.append(set(attribute.iloc[met]))
    assert not parts[0] & parts[1]


def test_answers_follow_the_class(pair, questions):
    for episode in pair[1].episodes(20):
        for positions, ids in (
            (episode.support, episode.support_class),
            (episode.query, episode.query_class),
        ):
            for position, k in zip(positions, ids):
                answer = ", ".join(sorted(questions.table["answer"].iloc[position]))
                assert episode.names[k].endswith(f"= {answer}")


def test_an_episode_is_its_number(questions):
    one, two = (EpisodeSampler(questions, **SHAPE, split_seed=3) for _ in range(2))
    late = two[17]
    for number in (0, 17):
        np.testing.assert_array_equal(one[number].support, two[number].support)
    np.testing.assert_array_equal(one[17].query, late.query)
    other = EpisodeSampler(questions, **SHAPE, split_seed=4)
    assert any(not np.array_equal(one[i].support, other[i].support) for i in range(3))
    assert any(not np.array_equal(one[0].support, one[i].support) for i in range(1, 4))


@pytest.mark.parametrize("kind", ["single-verify", "single-choose", "single-query"])
def test_classes_of_a_contrastive_episode_share_their_question(questions, kind):
    sampler = EpisodeSampler(
        questions, kind, 2, 1, 1, same_question=True, part="test", splits=("train",)
    )
    for episode in sampler.episodes(30):
        bases, answers = zip(*(name.rsplit(" = ", 1) for name in episode.names))
        assert len(set(bases)) == 1 and len(set(answers)) == 2
        if kind == "single-verify":
            assert set(answers) == {"no", "yes"}
        met = questions.table.iloc[np.r_[episode.support, episode.query]]
        assert met["question_id"].nunique() == 1


def test_four_ways_of_verify_are_two_pairs(questions):
    sampler = EpisodeSampler(questions, n_way=4, k_shot=1, n_query=1, same_question=True)
    for episode in sampler.episodes(20):
        bases = [name.rsplit(" = ", 1)[0] for name in episode.names]
        assert len(set(bases)) == 2 and bases[0] == bases[1] and bases[2] == bases[3]
    with pytest.raises(ConfigError, match="N_WAY is 5"):
        EpisodeSampler(questions, n_way=5, k_shot=1, n_query=1, same_question=True)


def test_all_types_are_drawn_one_by_one_and_contrastive(questions):
    sampler = EpisodeSampler(questions, "all", 2, 1, 1, same_question=True, split_by="none")
    kinds = []
    for episode in sampler.episodes(60):
        met = questions.table.iloc[np.r_[episode.support, episode.query]]
        assert met["question_type"].nunique() == 1 and met["question_id"].nunique() == 1
        kinds.append(met["question_type"].iloc[0])
    assert len(set(kinds)) == 3
    mixed = EpisodeSampler(questions, "all", 4, 1, 1, protocol="reference", min_samples=4)
    met = [questions.table["question_type"].iloc[e.support].nunique() for e in mixed.episodes(30)]
    assert max(met) > 1


def test_the_support_is_shown_again(questions):
    once, again = (
        EpisodeSampler(questions, **SHAPE, same_question=True, repeats=r)[5] for r in (0, 2)
    )
    assert len(again.support) == len(again.support_class) == 3 * len(once.support)
    for k in range(2):
        shown = again.support[again.support_class == k]
        np.testing.assert_array_equal(shown, np.tile(once.support[once.support_class == k], 3))
    np.testing.assert_array_equal(once.query, again.query)


def test_support_and_query_of_one_question_id(questions):
    """Choose classes of the reference mix question_ids, since they forget the other option."""
    ids = questions.table["question_id"].to_numpy()

    def most_ids(**how):
        sampler = EpisodeSampler(
            questions, "single-choose", 2, 2, 2, protocol="reference", min_samples=10, **how
        )
        rows = [np.r_[e.support[:2], e.query[:2]] for e in sampler.episodes(40)]
        return max(len(set(ids[r])) for r in rows), sampler

    assert most_ids()[0] > 1
    most, sampler = most_ids(mix_questions=False)
    assert most == 1
    sizes = [len(g) for groups in sampler._groups.values() for g in groups]
    assert min(sizes) >= 10  # as published


def test_an_episode_costs_no_memory(questions):
    """Ten thousand episodes are numbers until they are asked for."""
    sampler = EpisodeSampler(questions, **SHAPE, same_question=True)
    sampler[0]
    tracemalloc.start()
    for number in range(0, 10_000, 25):
        sampler[number]
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 50_000


def test_small_classes_are_listed(questions):
    sampler = EpisodeSampler(questions, **SHAPE)
    assert len(sampler.skipped) and (sampler.skipped["have"] < sampler.skipped["need"]).all()
    assert (sampler.describe()["patients"] >= 4).all()
    assert f"{len(sampler.skipped)} skipped, too few: {sampler.skipped['name'][0]}" in (
        sampler.summary()
    )
    with pytest.raises(DataError, match="lower N_WAY, K_SHOT or N_QUERY"):
        EpisodeSampler(questions, n_way=5, k_shot=50, n_query=50)


def test_not_sure_is_left_out(questions):
    names = EpisodeSampler(questions, **SHAPE).describe()["name"]
    assert not names.str.endswith("not sure").any()


def reference(questions, quirks=EPISODE_QUIRKS, **how):
    how = {"n_way": 2, "k_shot": 2, "n_query": 2, "min_samples": 8} | how
    return EpisodeSampler(questions, protocol="reference", quirks=frozenset(quirks), **how)


def test_reference_classes_are_shared_or_divided(questions):
    shared = [reference(questions, part=p) for p in ("train", "test")]
    assert set(shared[0].classes) == set(shared[1].classes)
    used = questions.table["template_id"].iloc[np.concatenate([*shared[0].classes.values()])]
    assert not set(used) & set(CONFLICTING)
    rest = EPISODE_QUIRKS - {"shared_classes"}
    train, test = (reference(questions, rest, part=p) for p in ("train", "test"))
    assert not set(train.classes) & set(test.classes)
    n = len(shared[0].classes)
    assert len(train.classes) == int(0.8 * n) and len(test.classes) == n - int(0.8 * n)
    with pytest.raises(DataError, match="classes of 140 or more.*MIN_SAMPLES"):
        reference(questions, min_samples=None)


def test_reference_draws_again_or_apart(questions):
    wide = {"k_shot": 6, "n_query": 6, "min_samples": 4}

    def repeated(sampler):
        return [len({*e.support, *e.query}) < 24 for e in sampler.episodes(20)]

    assert any(repeated(reference(questions, **wide)))
    apart = reference(questions, EPISODE_QUIRKS - {"with_replacement"}, **wide)
    assert not any(repeated(apart))
    assert (apart.describe()["patients"] >= 12).all()


def test_reference_episodes_come_twice(questions):
    twice = reference(questions)
    once = reference(questions, EPISODE_QUIRKS - {"episodes_twice"})
    for i in (0, 6):
        np.testing.assert_array_equal(twice[i].support, twice[i + 1].support)
        assert not np.array_equal(twice[i].support, twice[i + 2].support)
        assert not np.array_equal(once[i].support, once[i + 1].support)


def test_sound_takes_no_quirk(questions):
    with pytest.raises(ConfigError, match="PROTOCOL=reference"):
        EpisodeSampler(questions, **SHAPE, quirks=frozenset({"episodes_twice"}))
    with pytest.raises(ConfigError, match="quirks are episodes_twice"):
        reference(questions, {"live_dropout"})


def test_reference_keys_of_choose():
    pair = ["a", "b"]
    keys = [
        [k.name for k in reference_keys(8, 1, "scp_code", pair, answer)]
        for answer in (["a"], ["none"], pair)
    ]
    assert keys == [["8: a = a"], ["8: a = none", "8: b = none"], ["8: a / b = a, b"]]


def test_no_class_without_an_attribute_or_a_verdict():
    for keys in (sound_keys, reference_keys):
        assert keys(43, 1, "scp_code", None, ["yes"]) == []
        assert keys(1, 1, "scp_code", ["sinus rhythm"], ["not sure"]) == []


def test_conflicting_templates_are_told_apart_by_question():
    rows = [
        {
            "template_id": 26,
            "question_id": q,
            "question_type": "single-verify",
            "attribute_type": "noise",
            "attribute": ["static noise"],
            "answer": [a],
            "split": "train",
            "patient1": i,
        }
        for i, (q, a) in enumerate([(1, "yes"), (1, "no"), (2, "yes"), (2, "no")] * 4)
    ]
    questions = SimpleNamespace(table=pd.DataFrame(rows))
    how = {"same_question": True, "split_by": "none"}
    with pytest.raises(DataError, match="16 questions of conflicting templates.*KEEP_CONFLICTING"):
        EpisodeSampler(questions, **SHAPE, **how)
    sampler = EpisodeSampler(questions, **SHAPE, **how, keep_conflicting=True)
    assert "16 questions of conflicting templates are kept" in sampler.summary()
    assert len(sampler.classes) == 4
    for episode in sampler.episodes(10):
        met = questions.table.iloc[np.r_[episode.support, episode.query]]
        assert met["question_id"].nunique() == 1


def test_unknown_settings_are_sentences(questions):
    with pytest.raises(ConfigError, match="sound or reference"):
        EpisodeSampler(questions, protocol="both")
    verify = SimpleNamespace(
        table=questions.table[questions.table["question_type"] == "single-verify"]
    )
    with pytest.raises(DataError, match="no single-query question"):
        EpisodeSampler(verify, "single-query")
    with pytest.raises(ConfigError, match="episodes take single-verify"):
        EpisodeSampler(questions, "comparison_irrelevant-query")
