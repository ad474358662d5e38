"""One-shot identification and retrieval: ranks by hand, chance, ties, what is trained on what."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from ecgkit.config import EsiEvalConfig
from ecgkit.models.convnext import ConvNeXt1D, ConvNeXtConfig
from ecgkit.tasks import identification as ident
from ecgkit.tasks import retrieval_scores as retrieval
from ecgkit.tasks.embeddings import EcgEncoder
from ecgkit.types import DataError

SIZES = ConvNeXtConfig(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32), init_std=0.1, norm="channel")


@pytest.fixture(scope="module")
def config():
    return EsiEvalConfig.from_params({"preset": "tiny", "device": "cpu", "finetune_steps": 2})


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return EcgEncoder("random", ConvNeXt1D(SIZES))


@pytest.fixture(scope="module")
def halves(tiny_cohort):
    rows = ident.pick_subjects(tiny_cohort, splits=("train",), n=20)
    return ident.read_halves(tiny_cohort.store, rows)


# --- subjects and halves --------------------------------------------------------------------------


def test_one_ecg_a_patient_of_the_split_asked_for(tiny_cohort):
    rows = ident.pick_subjects(tiny_cohort, splits=("valid", "test"))
    people = tiny_cohort.table["patient_id"].to_numpy()
    assert len(set(people[rows])) == len(rows)
    held_out = np.concatenate([tiny_cohort.rows(s) for s in ("valid", "test")])
    assert set(people[rows]) == set(people[held_out]) and set(rows) <= set(held_out)
    few = ident.pick_subjects(tiny_cohort, n=5, splits=("train",))
    assert len(few) == 5 and np.array_equal(few, ident.pick_subjects(tiny_cohort, 5, ("train",)))


def test_halves_are_the_two_halves(tiny_cohort, halves):
    rows = np.array(halves.ids)
    whole = tiny_cohort.store.read(rows)
    assert np.array_equal(np.concatenate([halves.enrol, halves.test], axis=-1), whole)


# --- scores ---------------------------------------------------------------------------------------


def test_hits_and_auc_are_scikit_learns():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(12, 12)) + 1.5 * np.eye(12)
    hit, auc = ident.own_rank_shares(scores)
    assert hit.mean() == (scores.argmax(1) == np.arange(12)).mean()
    assert auc.mean() == pytest.approx(roc_auc_score(np.eye(12), scores, average="macro"))
    assert np.array_equal(ident.own_places(scores) == 1, hit == 1)


def test_ties_are_shared():
    hit, auc = ident.own_rank_shares(np.zeros((4, 4)))
    assert hit.tolist() == [0.25] * 4 and auc.tolist() == [0.5] * 4
    assert ident.own_places(np.zeros((4, 4))).tolist() == [2.5] * 4


def test_constant_embeddings_are_at_chance():
    scores = ident.cosine_scores(np.ones((5, 3)), np.ones((5, 3)))
    hit, auc = ident.own_rank_shares(scores)
    assert hit.mean() == pytest.approx(0.2) and auc.mean() == 0.5


def test_readers_find_noisy_copies_and_not_strangers():
    rng = np.random.default_rng(0)
    enrol = rng.normal(size=(30, 16))
    test = enrol + 0.2 * rng.normal(size=enrol.shape)
    for scores in (ident.cosine_scores(enrol, test),
                   ident.linear_scores(enrol, np.arange(30), test)):
        assert ident.own_rank_shares(scores)[0].mean() > 0.9
    strangers = ident.cosine_scores(enrol, rng.normal(size=enrol.shape))
    assert ident.own_rank_shares(strangers)[0].mean() < 0.2


def test_versions_are_of_the_enrolment_half(encoder, halves):
    features, subject = ident.versions(encoder, halves.enrol, 3, seed=0)
    assert features.shape == (60, 32) and subject.tolist() == list(range(20)) * 3
    assert np.allclose(features[:20], encoder.of_signals(halves.enrol), atol=1e-5)


def test_table_beside_chance_with_intervals(encoder, halves, config, tiny_cohort, tmp_path):
    read = ident.read_all(encoder, halves, config, tiny_cohort.store, tmp_path)
    table = ident.table_of("r", read, config)
    top = table[table["metric"] == "top-1 accuracy"].set_index("model")
    assert top.loc["chance", "value"] == 1 / 20
    assert {"r, nearest neighbour", "r, linear head", "r, fine-tuned"} <= set(top.index)
    near = top.loc["r, nearest neighbour"]
    assert near["low"] <= near["value"] <= near["high"] and near["n"] == 20


def test_a_test_half_changes_no_training(encoder, halves, config, tiny_cohort):
    changed = ident.Halves(halves.enrol, halves.test[::-1].copy(), halves.ids)
    reads = [ident.read_all(encoder, h, config) for h in (halves, changed)]
    tables = [ident.table_of("r", read, config) for read in reads]
    assert not tables[0].equals(tables[1])
    features, subject = ident.versions(encoder, halves.enrol, 2, seed=0)
    test = encoder.of_signals(halves.test)
    alone = ident.linear_scores(features, subject, test[:1])
    assert np.allclose(alone, ident.linear_scores(features, subject, test)[:1], atol=1e-5)


def test_a_subject_without_an_embedding_is_left_out_and_named(encoder, halves, config):
    broken = ident.Halves(halves.enrol.copy(), halves.test, halves.ids)
    broken.enrol[3, 0] = np.nan
    table = ident.table_of("r", ident.read_all(encoder, broken, config), config)
    assert (table["n"] == 19).all() and str(halves.ids[3]) in table["note"].iloc[-1]
    with pytest.raises(DataError, match="at least 2"):
        ident.read_all(encoder, broken.take(np.arange(20) == 0), config)


# --- retrieval ------------------------------------------------------------------------------------


def test_places_and_ties():
    similarity = np.array([[0.9, 0.5, 0.5], [0.1, 0.2, 0.2], [0.3, 0.3, 0.3]])
    better, tied = retrieval.places(similarity, np.eye(3, dtype=bool))
    assert better.tolist() == [0, 0, 0] and tied.tolist() == [0, 1, 2]
    assert retrieval.hits_at(better, tied, 1).tolist() == [1, 0.5, 1 / 3]
    assert retrieval.hits_at(better, tied, 2).tolist() == [1, 1, 2 / 3]
    with pytest.raises(DataError, match="no right answer"):
        retrieval.places(similarity, np.zeros((3, 3), bool))


def test_chance_is_that_of_random_orders():
    right = np.zeros((2, 10), bool)
    right[0, :1], right[1, :4] = True, True
    rng = np.random.default_rng(0)
    for k in (1, 5):
        drawn = np.mean([right[:, rng.permutation(10)[:k]].any(1).mean() for _ in range(4000)])
        assert retrieval.chance_at(right, k) == pytest.approx(drawn, abs=0.03)
    assert retrieval.chance_at(np.ones((1, 3), bool), 10) == 1


def test_identical_captions_compete_in_pairs_and_count_as_hits_otherwise(config):
    captions = ["a", "a", "b", "c"]
    ecg = np.eye(4)
    ecg[1] = ecg[0]
    text = ecg.copy()
    table = retrieval.retrieval_table("m", ecg, text, captions, np.arange(4), config)
    value = table[table["model"] == "m"].set_index(["task", "metric"])["value"]
    assert value["ECG to text, pairs", "R@1"] == 0.75  # 1/2, 1/2, 1, 1
    assert value["ECG to text, same text", "R@1"] == 1
    assert value["text to ECG, same text", "median place"] == 1
    assert (table["n"][table["task"] == "text to ECG, same text"] == 3).all()
    chance = table[table["model"] == "chance"].set_index(["task", "metric"])["value"]
    assert chance["text to ECG, pairs", "R@1"] == 0.25
    assert chance["ECG to text, same text", "R@1"] == pytest.approx(1 / 3)
    assert "4 ECGs, 3 distinct captions" in table["note"].iloc[0]
