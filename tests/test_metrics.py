"""Metrics against scikit-learn and lifelines, and the intervals' coverage."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ecgkit.tasks.metrics import (
    auc,
    bootstrap_mean,
    bootstrap_statistic,
    class_aucs,
    exact_match,
    harrell_c,
    macro_auc,
)

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
    utils = pytest.importorskip("lifelines.utils", reason="lifelines ([survival]) is not installed")
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
