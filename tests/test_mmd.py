"""The squared MMD against its definition written out, and against what must hold of it."""

import numpy as np
import pytest

from ecgkit.tasks import mmd
from ecgkit.types import DataError

RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(23, 5)), RNG.normal(0.4, 1.3, size=(17, 5)) + 100  # far from 0 on purpose
Y_NEAR = Y - 100


def written_out(x, y, kernel, unbiased):
    """Gretton et al. 2012, equations 3 (unbiased) and 5 (biased), one pair at a time."""

    def mean(a, b, same):
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not (same and i == j)]
        return sum(kernel(a[i], b[j]) for i, j in pairs) / len(pairs)

    return mean(x, x, unbiased) + mean(y, y, unbiased) - 2 * mean(x, y, False)


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("block", [4, 7, 1024])
def test_rbf_is_the_formula_whatever_the_block(unbiased, block):
    expected = written_out(
        X, Y_NEAR, lambda a, b: np.exp(-((a - b) ** 2).sum() / (2 * 1.7**2)), unbiased
    )
    found = mmd.squared_mmd(X, Y_NEAR, bandwidth=1.7, unbiased=unbiased, block=block)
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("unbiased", [True, False])
def test_linear_is_the_formula_and_the_distance_of_the_means(unbiased):
    found = mmd.squared_mmd(X, Y, "linear", unbiased=unbiased)
    assert found == pytest.approx(written_out(X, Y, np.dot, unbiased), rel=1e-9)
    if not unbiased:
        assert found == pytest.approx(((X.mean(0) - Y.mean(0)) ** 2).sum(), rel=1e-12)


def test_the_median_heuristic_takes_the_scale_and_the_place_out():
    plain = mmd.squared_mmd(X, Y_NEAR)
    assert mmd.squared_mmd(50 * X - 7, 50 * Y_NEAR - 7) == pytest.approx(plain, rel=1e-9)
    pooled = np.concatenate([X, Y_NEAR])
    apart = [np.linalg.norm(a - b) for i, a in enumerate(pooled) for b in pooled[:i]]
    assert mmd.median_bandwidth(X, Y_NEAR) == pytest.approx(np.median(apart), rel=1e-9)


def test_equal_sets_have_none_and_shifted_ones_more_the_further():
    assert mmd.squared_mmd(X, X, unbiased=False) == pytest.approx(0, abs=1e-12)
    assert mmd.squared_mmd(X, X[::-1], "linear", unbiased=False) == pytest.approx(0, abs=1e-12)
    by_shift = [mmd.squared_mmd(X, X + shift, bandwidth=2.0) for shift in (0.5, 1.0, 2.0)]
    assert 0 < by_shift[0] < by_shift[1] < by_shift[2]
    same_point = np.ones((4, 3))
    assert mmd.squared_mmd(same_point, same_point, unbiased=False) == pytest.approx(0, abs=1e-12)


def test_only_the_biased_estimate_falls_with_n_where_nothing_differs():
    """Why Fig. 6 needs the unbiased one: the other falls with the size of the sets alone."""
    rng = np.random.default_rng(0)
    draws = {n: [rng.normal(size=(2, n, 4)) for _ in range(30)] for n in (20, 200)}

    def mean(n, unbiased):
        return np.mean([mmd.squared_mmd(a, b, bandwidth=2.0, unbiased=unbiased)
                        for a, b in draws[n]])  # fmt: skip

    assert mean(20, False) > 5 * mean(200, False) > 0
    assert abs(mean(20, True)) < mean(20, False) / 5


def test_permutation_p_is_small_for_a_shift_and_spread_out_for_none():
    shifted = mmd.permutation_test(X, X + 1.5, n_draws=99)
    assert shifted["p"] == pytest.approx(0.01)
    assert shifted["mmd2"] == pytest.approx(mmd.squared_mmd(X, X + 1.5))
    rng = np.random.default_rng(1)
    none = [mmd.permutation_test(*rng.normal(size=(2, 15, 3)), n_draws=49, seed=k)["p"]
            for k in range(60)]  # fmt: skip
    assert 0.3 < np.mean(none) < 0.7 and np.mean(np.array(none) <= 0.1) < 0.25


@pytest.mark.parametrize(
    ("x", "y", "kernel", "says"),
    [
        (X[:1], Y, "rbf", "two points"),
        (X, Y[:, :3], "rbf", r"\(23, 5\) and \(17, 3\)"),
        (X, np.where(Y > 101, np.nan, Y), "rbf", "not finite"),
        (X, Y, "cubic", "rbf, linear"),
    ],
)
def test_what_cannot_be_compared_is_a_sentence(x, y, kernel, says):
    with pytest.raises(DataError, match=says):
        mmd.squared_mmd(x, y, kernel)
