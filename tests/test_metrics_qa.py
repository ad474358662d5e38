"""Answers' metrics against scikit-learn and against counting by hand; questions nobody can miss."""

import types

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from ecgkit.data.qa_reading import QUESTION_TYPES
from ecgkit.tasks import metrics_qa
from ecgkit.types import ConfigError, DataError

N, K = 210, 5


@pytest.fixture(scope="module")
def toy():
    """30 questions of each type over 5 answers, of 40 patients; answers are 0/1 at random."""
    rng = np.random.default_rng(0)
    kinds = np.repeat(QUESTION_TYPES, N // 7)
    type1 = np.repeat([0, 0, 0, 1, 1, 2, 2], N // 7)
    type2 = type1 * 3 + np.repeat([0, 1, 2, 0, 2, 0, 2], N // 7)
    attribute_type = rng.integers(0, 2, N)
    patient1 = rng.integers(0, 40, N)
    pair = type1 > 0
    table = pd.DataFrame({
        "question_type": kinds, "type1": type1, "type2": type2,
        "type3": type2 * 6 + attribute_type, "template_id": type2 + 1, "sample_id": np.arange(N),
        "attribute": [["ischemic in inferior leads"], ["afib"]] * (N // 2),
        "answer": [["yes"], ["no"], ["not sure"]] * (N // 3),
        "split": ["train"] * 15 + ["test"] * (N - 15),
        "patient1": patient1, "row1": patient1, "row2": np.where(pair, 3, -1),
        "patient2": np.where(type1 == 1, patient1, np.where(pair, rng.integers(0, 40, N), -1)),
    })  # fmt: skip
    labels = rng.integers(0, 2, (N, K)).astype(np.float32)
    valid = rng.random((N, K)) < 0.7
    valid[:, 0] = True
    valid[[4, 100]] = False  # templates without an answer: whatever is said would be right
    return types.SimpleNamespace(
        table=table, classes=list("abcde"), labels=lambda i: labels[np.asarray(i)],
        valid_mask=lambda i: valid[np.asarray(i)])


@pytest.fixture(scope="module")
def scores(toy):
    rng = np.random.default_rng(1)
    return 1 / (1 + np.exp(-rng.normal(1.5 * toy.labels(np.arange(N)) - 0.75, 0.4)))


def counted(toy, scores, rows):
    """Exact match by hand, question by question."""
    hits = []
    for i in rows:
        valid = toy.valid_mask([i])[0]
        if valid.any():
            hits.append(all((scores[i] > 0.5)[valid] == toy.labels([i])[0][valid]))
    return np.mean(hits), len(hits)


def test_published_columns_pool_over_attribute_types(toy, scores):
    table = metrics_qa.published_table(toy, np.arange(N), {"m": scores, "perfect": toy.labels(
        np.arange(N))}, n_boot=50)
    assert list(table.columns.get_level_values(0).unique()) == [
        "S-Verify", "S-Choose", "S-Query", "CC-Verify", "CC-Query", "CI-Verify", "CI-Query", "All",
        "left_out"]
    kinds = toy.table["question_type"].to_numpy()
    for column, kind in metrics_qa.COLUMNS.items():
        value, n = counted(toy, scores, np.flatnonzero(kinds == kind))
        assert table.loc["m", (column, "value")] == pytest.approx(value)
        assert table.loc["m", (column, "n")] == n
    value, n = counted(toy, scores, range(N))
    assert table.loc["m", ("All", "value")] == pytest.approx(value) and n == N - 2
    assert table.loc["m", ("left_out", "n")] == 2
    assert (table.loc["perfect"].xs("value", level=1) == 1).all()
    low, high = table.loc["m", ("All", "low")], table.loc["m", ("All", "high")]
    assert low < value < high
    assert metrics_qa.printable(table).columns[-1] == f"All (n={n})"


def test_an_absent_column_says_so(toy, scores):
    single = np.flatnonzero(toy.table["type1"] == 0)
    table = metrics_qa.published_table(toy, single, {"m": scores[single]}, n_boot=20)
    assert table.loc["m", ("CI-Query", "n")] == 0
    assert np.isnan(table.loc["m", ("CI-Query", "value")])
    assert metrics_qa.printable(table)["CI-Query (n=0)"].tolist() == ["no questions"]


def test_questions_without_valid_answers_are_listed(toy):
    listed = metrics_qa.unanswerable(toy, np.arange(N))
    assert listed["position"].tolist() == [4, 100]
    assert "allows none of the 5 answer classes" in listed["sentence"].iloc[0]


def test_both_patients_drawn_is_the_wider_interval(toy, scores):
    at = np.flatnonzero(toy.table["type1"] == 2)
    one = metrics_qa.draws(toy, at, n_boot=2000)
    both = metrics_qa.draws(toy, at, resample="both", n_boot=2000)
    hits = np.random.default_rng(0).random(len(at)) < 0.5
    spread = [metrics_qa.weighted_mean(hits * 1.0, w).std() for w in (one, both)]
    assert spread[0] < spread[1]
    same = np.flatnonzero(toy.table["type1"] == 1)  # one person twice: drawn once
    people = len(np.unique(toy.table["patient1"].to_numpy()[same]))
    assert metrics_qa.draws(toy, same, resample="both", n_boot=3).max() < people
    np.testing.assert_array_equal(metrics_qa.draws(toy, same, resample="both", n_boot=9),
                                  metrics_qa.draws(toy, same, n_boot=9))
    with pytest.raises(ConfigError, match="first or both"):
        metrics_qa.draws(toy, at, resample="second")


def test_auroc_is_pooled_over_valid_pairs(toy, scores):
    labels, valid = toy.labels(np.arange(N)), toy.valid_mask(np.arange(N))
    each = [roc_auc_score(labels[valid[:, k], k], scores[valid[:, k], k]) for k in range(K)]
    found = metrics_qa.scored(toy, np.arange(N), scores, n_boot=20)
    assert found["auroc"][0] == pytest.approx(np.mean(each)) and found["n_classes"] == K
    right = ((scores > 0.5) == (labels > 0.5))[valid]
    assert found["accuracy"][0] == pytest.approx(right.mean())
    assert found["accuracy"][1] <= right.mean() <= found["accuracy"][2]
    table = metrics_qa.answer_table(toy, np.arange(N), scores, n_boot=20)
    assert table["auroc"].tolist() == pytest.approx(each)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_types_have_the_published_ids(toy, scores, level):
    table = metrics_qa.by_type(toy, np.arange(N), scores, level=level, n_boot=10)
    ids = toy.table[f"type{level}"].to_numpy()
    assert table["id"].tolist() == sorted(set(ids))
    assert table["n"].sum() == N - 2 and table["left_out"].sum() == 2
    for row in table.itertuples():
        by_hand, _ = counted(toy, scores, np.flatnonzero(ids == row.id))
        assert row.exact_match == pytest.approx(by_hand)
    known = {1: (2, "comparison_irrelevant"), 2: (5, "comparison_consecutive-query"),
             3: (49, "comparison_irrelevant-query/noise")}[level]
    assert known in list(zip(table["id"], table["name"]))


def test_attribute_ids_do_not_shift_with_the_split(toy, scores):
    whole = metrics_qa.by_attribute(toy, np.arange(N), scores, n_boot=10)
    assert whole["name"].tolist() == ["afib", "ischemic"] and whole["id"].tolist() == [0, 1]
    part = np.flatnonzero(toy.table["attribute"].str[0] != "afib")
    alone = metrics_qa.by_attribute(toy, part, scores[part], n_boot=10)
    assert alone["id"].tolist() == [1]  # numbered by what this part holds, it would be 0
    sure = [i for i in range(30) if toy.table["answer"][i] != ["not sure"]]
    assert whole["n"].sum() == len(sure) - 1  # question 4 has no valid answer
    with pytest.raises(DataError, match="'ischemic' for one"):
        metrics_qa.by_attribute(toy, np.arange(N), scores, classes=["afib"])


def test_scores_of_another_model_are_refused(toy, scores):
    with pytest.raises(DataError, match=r"fusion has scores of shape \(210, 4\).*5 answer classes"):
        metrics_qa.published_table(toy, np.arange(N), {"fusion": scores[:, :4]})
    with pytest.raises(DataError, match="scores of 210 questions but 9 positions"):
        metrics_qa.scored(toy, np.arange(9), scores)
    broken = scores.copy()
    broken[3] = np.nan
    with pytest.raises(DataError, match="not finite for 1 of 210"):
        metrics_qa.by_type(toy, np.arange(N), broken)
    with pytest.raises(ConfigError, match="levels 1, 2 and 3"):
        metrics_qa.by_type(toy, np.arange(N), scores, level=4)


def test_attributes_count_alike_however_many_questions_they_have():
    table = pd.DataFrame({"n": [90, 10], "exact_match": [1.0, 0.0], "accuracy": [0.8, 0.6],
                          "auroc": [0.9, 0.5]})  # fmt: skip
    found = metrics_qa.macro_over_attributes(table)
    assert found == pytest.approx({"exact_match": 0.5, "accuracy": 0.7, "auroc": 0.7})
