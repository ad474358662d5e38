"""Metrics against scikit-learn and lifelines, and the intervals' coverage."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from ecgkit.tasks import metrics
from ecgkit.tasks import metrics_multilabel as multi
from ecgkit.tasks.metrics import (
    auc,
    bootstrap_mean,
    bootstrap_statistic,
    class_aucs,
    exact_match,
    harrell_c,
    macro_auc,
)
from ecgkit.types import DataError

RNG = np.random.default_rng(0)


def test_auc_equals_scikit_learn_with_ties():
    labels = RNG.integers(0, 2, 300)
    scores = np.round(RNG.normal(labels, 1.5), 1)
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_macro_auc_leaves_out_one_label_classes():
    labels = np.c_[RNG.integers(0, 2, 50), np.ones(50)]
    scores = RNG.normal(size=(50, 2))
    assert np.isnan(class_aucs(labels, scores)[1])
    assert macro_auc(labels, scores) == auc(labels[:, 0], scores[:, 0])
    assert np.isnan(macro_auc(np.ones((4, 1)), np.ones((4, 1))))


def test_exact_match_looks_at_valid_classes_only():
    labels = np.array([[1, 0, 0], [1, 0, 0]])
    scores = np.array([[0.9, 0.1, 0.9], [0.9, 0.8, 0.1]])
    valid = np.array([[True, True, False], [True, True, True]])
    assert exact_match(labels, scores, valid).tolist() == [True, False]


def test_harrell_c_equals_lifelines_with_ties():
    from lifelines import utils

    time = RNG.integers(1, 20, 200).astype(float)
    event = RNG.integers(0, 2, 200)
    risk = np.round(RNG.normal(-0.1 * time, 1), 1)
    assert harrell_c(time, event, risk) == pytest.approx(
        utils.concordance_index(time, -risk, event)
    )
    assert np.isnan(harrell_c(time, np.zeros(200), risk))


def test_intervals_cover_about_95_percent():
    hits = 0
    for seed in range(200):
        values = np.random.default_rng(seed).normal(1.0, 1.0, 60)
        _, low, high = bootstrap_mean(values, n_boot=300, seed=seed)
        hits += low <= 1.0 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_groups_are_drawn_whole():
    values, groups = np.repeat([0.0, 1.0], 50), np.repeat([0, 1], 50)
    _, low, high = bootstrap_mean(values, groups, n_boot=200)
    assert (low, high) == (0.0, 1.0)  # two patients: a draw is often one of them twice
    value, low, high = bootstrap_statistic(lambda i: values[i].mean(), 100, groups, n_boot=100)
    assert value == 0.5 and (low, high) == (0.0, 1.0)


# --- many classes at once -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many():
    """60 ECGs of 25 patients, 5 classes, ties in the scores; the last class is never positive."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, (60, 5)) * np.array([1, 1, 1, 1, 0])
    scores = np.round(1 / (1 + np.exp(-rng.normal(labels - 0.5, 1.0))), 1)
    return labels, scores, rng.integers(0, 25, 60)


def test_columns_ranked_together_equal_one_at_a_time(many):
    labels, scores, _ = many
    each = [auc(labels[:, k], scores[:, k]) for k in range(5)]
    np.testing.assert_allclose(class_aucs(labels, scores), each, equal_nan=True)
    once = multi.weighted_aucs(labels, scores, np.ones((1, 60)))[0]
    np.testing.assert_allclose(once, each, equal_nan=True)


def test_weights_equal_repeated_items(many):
    labels, scores, groups = many
    weights = multi.bootstrap_weights(60, groups, n_boot=3)
    for row, values in zip(weights, multi.weighted_aucs(labels, scores, weights)):
        i = np.repeat(np.arange(60), row.astype(int))
        for k in range(4):
            assert values[k] == pytest.approx(roc_auc_score(labels[i, k], scores[i, k]), abs=1e-12)


def test_fast_interval_is_the_plain_bootstrap(many):
    labels, scores, groups = many
    plain = bootstrap_statistic(lambda i: macro_auc(labels[i], scores[i]), 60, groups, n_boot=50)
    fast = multi.macro_auc_interval(labels, scores, groups, n_boot=50)
    assert fast == pytest.approx(plain, abs=1e-12)


def test_what_was_not_asked_does_not_count(many):
    labels, scores, groups = many
    asked = np.random.default_rng(1).random((60, 5)) < 0.6
    wrong = np.where(asked, labels, 1 - labels)  # other labels where nobody asked
    table = multi.class_table(wrong, scores, list("abcde"), groups, asked=asked, n_boot=20)
    for k in range(4):
        y, p = labels[asked[:, k], k], scores[asked[:, k], k]
        row = multi.row_of(table, "abcde"[k])
        assert (row["n"], row["positives"]) == (len(y), y.sum())
        assert row["auroc"] == pytest.approx(roc_auc_score(y, p))
        assert row["ap"] == pytest.approx(average_precision_score(y, p))
        assert row["f1"] == pytest.approx(f1_score(y, p > 0.5))
        assert row["low"] <= row["auroc"] <= row["high"]
    assert np.isnan(multi.row_of(table, "e")["auroc"])


def plain_f_max(labels, scores):
    """The definition, threshold by threshold and sample by sample."""
    best = 0.0
    for threshold in np.unique(scores):
        precisions, recalls = [], []
        for y, p in zip(labels, scores >= threshold):
            if p.any():
                precisions.append((y & p).sum() / p.sum())
            if y.any():
                recalls.append((y & p).sum() / y.sum())
        precision, recall = np.mean(precisions), np.mean(recalls)
        best = max(best, 2 * precision * recall / max(precision + recall, 1e-300))
    return best


def test_f_max_equals_its_definition(many):
    labels, scores, _ = many
    assert (labels.sum(1) == 0).any()  # ECGs without any label are among them
    assert multi.f_max(labels, scores) == pytest.approx(plain_f_max(labels > 0, scores), abs=1e-12)
    assert multi.f_max(labels, labels * 1.0) == pytest.approx(1.0)
    assert np.isnan(multi.f_max(np.zeros((3, 2)), np.zeros((3, 2))))
    asked = np.ones(labels.shape, bool)
    asked[:, 4] = False
    assert multi.f_max(labels, scores, asked) == pytest.approx(
        plain_f_max(labels[:, :4] > 0, scores[:, :4]), abs=1e-12
    )


def test_macro_f_max_takes_each_class_at_its_best(many):
    labels, scores, _ = many
    best = [max(f1_score(labels[:, k], scores[:, k] >= t) for t in np.unique(scores))
            for k in range(4)]
    assert multi.macro_f_max(labels, scores) == pytest.approx(np.mean(best))


def test_scores_that_do_not_fit_are_sentences(many):
    labels, scores, _ = many
    with pytest.raises(DataError, match="trained on other classes"):
        multi.f_max(labels, scores[:, :3])
    with pytest.raises(DataError, match="one name a column"):
        multi.class_table(labels, scores, ["a"])
    broken = scores.copy()
    broken[7, 2] = np.nan
    with pytest.raises(DataError, match="1 of 60 items are not finite"):
        multi.macro_auc_interval(labels, broken)
    with pytest.raises(DataError, match="'z' is not among the 5 codes"):
        multi.row_of(multi.class_table(labels, scores, list("abcde"), named="code"), "z")


def test_a_share_of_all_or_none_has_an_interval():
    value, low, high = metrics.bootstrap_share(np.zeros(8), np.arange(8))
    assert value == low == 0 and high == pytest.approx(1 - 0.025 ** (1 / 8))  # 0.369, as in tables
    value, low, high = metrics.bootstrap_share(np.ones(8), np.repeat([1, 2], 4))
    assert value == high == 1 and low == pytest.approx(0.025 ** (1 / 2))
    mixed = np.arange(40) % 2
    assert metrics.bootstrap_share(mixed, np.arange(40)) == metrics.bootstrap_mean(
        mixed, np.arange(40))
