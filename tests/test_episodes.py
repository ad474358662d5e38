"""Episodes: what may meet in one, what is kept apart between training and test."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ecgkit.data import ecgqa
from ecgkit.data.episodes import CONFLICTING, EpisodeSampler, reference_keys, sound_keys
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


def test_same_attribute_sets_yes_against_no(questions):
    sampler = EpisodeSampler(questions, **SHAPE, same_attribute=True, part="test")
    for episode in sampler.episodes(30):
        bases, answers = zip(*(name.rsplit(" = ", 1) for name in episode.names))
        assert len(set(bases)) == 1 and set(answers) == {"no", "yes"}
    with pytest.raises(ConfigError, match="N_WAY is 5"):
        EpisodeSampler(questions, n_way=5, k_shot=1, n_query=1, same_attribute=True)


def test_small_classes_are_listed(questions):
    sampler = EpisodeSampler(questions, **SHAPE)
    assert len(sampler.skipped) and (sampler.skipped["have"] < sampler.skipped["need"]).all()
    assert (sampler.describe()["patients"] >= 4).all()
    with pytest.raises(DataError, match="lower N_WAY, K_SHOT or N_QUERY"):
        EpisodeSampler(questions, n_way=5, k_shot=50, n_query=50)


def test_not_sure_is_left_out(questions):
    names = EpisodeSampler(questions, **SHAPE).describe()["name"]
    assert not names.str.endswith("not sure").any()


def test_reference_protocol(questions):
    train, test = (
        EpisodeSampler(questions, **SHAPE, part=p, protocol="reference", min_samples=4)
        for p in ("train", "test")
    )
    assert set(train.classes) == set(test.classes)
    used = questions.table["template_id"].iloc[np.concatenate(list(train.classes.values()))]
    assert not set(used) & set(CONFLICTING)
    small = EpisodeSampler(
        questions, n_way=2, k_shot=6, n_query=6, protocol="reference", min_samples=4
    )
    repeated = [len({*e.support, *e.query}) < 24 for e in small.episodes(20)]
    assert any(repeated)  # drawn with replacement
    with pytest.raises(DataError, match="classes of 140 or more"):
        EpisodeSampler(questions, **SHAPE, protocol="reference")


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
    sampler = EpisodeSampler(questions, **SHAPE, same_attribute=True, split_by="none")
    assert len(sampler.classes) == 4
    for episode in sampler.episodes(10):
        met = questions.table.iloc[np.r_[episode.support, episode.query]]
        assert met["question_id"].nunique() == 1


def test_unknown_settings_are_sentences(questions):
    with pytest.raises(ConfigError, match="sound or reference"):
        EpisodeSampler(questions, protocol="both")
    with pytest.raises(ConfigError, match="episodes take single-verify"):
        EpisodeSampler(questions, "comparison_irrelevant-query")
