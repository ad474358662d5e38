"""How far two sets of embeddings lie apart: the squared maximum mean discrepancy (MMD).

The ESI paper's Fig. 6 draws it between the embeddings of pretraining and of test ECGs; which kernel
and which estimator it used is not stated. Here: the Gaussian (RBF) kernel exp(-|a - b|^2 / (2 s^2))
with s the median distance between pooled points, so that the number does not depend on the scale of
an embedding, or the linear kernel a.b, whose MMD is the squared distance of the two means and does
depend on it.

The unbiased estimate is the default: the biased one is too large by about (1/n + 1/m)(1 - mean
kernel), so of ever larger sets it falls even where both come from one population. The unbiased one
may be slightly negative.

Letters: n, m points of the two sets, N = n + m, D width, K labellings.
Source: Gretton et al. 2012, A kernel two-sample test, equations 3 and 5, and section 8.

Usage:

    squared_mmd(train, test)                         # RBF, median heuristic, unbiased
    permutation_test(train, test, n_draws=200)       # {"mmd2": ..., "p": ...}
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ecgkit.types import DataError

KERNELS = ("rbf", "linear")
MEDIAN_POINTS = 1000  # the median distance is taken over so many points of each set


def squared_mmd(
    x: np.ndarray, y: np.ndarray, kernel: str = "rbf", bandwidth: float | None = None,
    unbiased: bool = True, block: int = 1024,
) -> float:
    """(n, D), (m, D) -> squared MMD. `bandwidth` (RBF alone) None = the median heuristic.

    Memory is `block` x (n + m) numbers. Raises DataError for sets of fewer than two points, of
    unlike width or with values that are not finite, and for an unknown kernel.
    """
    points, labels = _pooled(x, y)
    function = _kernel(points, len(x), kernel, bandwidth)
    return float(_mmd_of(points, labels[:, None], function, unbiased, block)[0])


def permutation_test(
    x: np.ndarray, y: np.ndarray, n_draws: int = 200, seed: int = 0, kernel: str = "rbf",
    bandwidth: float | None = None, block: int = 1024,
) -> dict[str, float]:
    """The unbiased squared MMD ("mmd2") and the share of relabelled pools that reach it ("p").

    The observed labelling counts as one draw, so "p" is never below 1 / (n_draws + 1). ECGs of one
    patient are not exchangeable: give one ECG per patient, or read "p" as a lower bound.
    """
    points, labels = _pooled(x, y)
    rng = np.random.default_rng(seed)
    draws = np.stack([labels, *(rng.permutation(labels) for _ in range(n_draws))], axis=1)
    function = _kernel(points, len(x), kernel, bandwidth)
    found = _mmd_of(points, draws, function, True, block)
    return {"mmd2": float(found[0]), "p": float((found >= found[0] - 1e-12).mean())}


def median_bandwidth(x: np.ndarray, y: np.ndarray, n_most: int = MEDIAN_POINTS) -> float:
    """Median distance between two different points of both sets, at most `n_most` of each.

    1.0 where all points are one and the same: every kernel width then gives an MMD of 0.
    """
    points = np.concatenate([_evenly(x, n_most), _evenly(y, n_most)]).astype(np.float64)
    distances = np.sqrt(_squared_distances(points, points)[np.triu_indices(len(points), 1)])
    apart = distances[distances > 1e-9 * distances.max(initial=0)]
    return float(np.median(apart)) if len(apart) else 1.0


# --- the sums -------------------------------------------------------------------------------------


def _mmd_of(points, labels, kernel: Callable, unbiased: bool, block: int) -> np.ndarray:
    """points (N, D), labels (N, K) with 1 for x and 0 for y -> (K,) squared MMD of each labelling.

    With s a column of labels, k the kernel matrix and 1 all ones: the sum within x is s'ks, of x
    with all s'k1, of all with all 1'k1; k is computed `block` rows at a time and never kept.
    """
    both = np.concatenate([labels, np.ones((len(points), 1))], axis=1)
    columns = np.zeros((2, both.shape[1]))  # sums within x, and of x with all
    diagonal = np.zeros(len(points))
    for start in range(0, len(points), block):
        rows = slice(start, start + block)
        k = kernel(points[rows], points)
        against = k @ both  # (block, K + 1)
        columns[0] += (both[rows] * against).sum(0)
        columns[1] += (both[rows] * against[:, -1:]).sum(0)
        diagonal[rows] = k[np.arange(len(k)), start + np.arange(len(k))]
    (xx, x_all), total = columns[:, :-1], columns[0, -1]
    n, m = labels.sum(0), (1 - labels).sum(0)
    cross = x_all - xx
    yy = total - 2 * x_all + xx
    if not unbiased:
        return xx / n**2 + yy / m**2 - 2 * cross / (n * m)
    own_x, own_y = diagonal @ labels, diagonal @ (1 - labels)
    return (xx - own_x) / (n * (n - 1)) + (yy - own_y) / (m * (m - 1)) - 2 * cross / (n * m)


def _kernel(points: np.ndarray, n: int, name: str, bandwidth: float | None) -> Callable:
    if name == "linear":
        return lambda a, b: a @ b.T
    if name != "rbf":
        raise DataError(f"There is no kernel {name!r}; choose one of {', '.join(KERNELS)}.")
    width = median_bandwidth(points[:n], points[n:]) if bandwidth is None else bandwidth
    if not width > 0:
        raise DataError(f"The kernel's bandwidth is {width}; it must be positive.")
    return lambda a, b: np.exp(_squared_distances(a, b) / (-2 * width**2))


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n, D), (m, D) -> (n, m)."""
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return np.maximum(squares, 0)


def _pooled(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both sets as one (N, D) float64 with mean 0 (no MMD depends on it; sums lose fewer digits),
    and (N,) labels, 1 for `x`.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise DataError(
            f"The MMD compares (n, D) with (m, D) embeddings; it got {x.shape} and {y.shape}."
        )
    if min(len(x), len(y)) < 2:
        raise DataError(
            f"The MMD needs two points of each set; it got {len(x)} and {len(y)}. Choose larger "
            "splits."
        )
    points = np.concatenate([x, y])
    if not np.isfinite(points).all():
        raise DataError("Embeddings hold values that are not finite; leave those ECGs out.")
    return points - points.mean(0), np.repeat([1.0, 0.0], [len(x), len(y)])


def _evenly(points: np.ndarray, n_most: int) -> np.ndarray:
    """At most `n_most` rows, evenly taken, so that the bandwidth does not depend on a seed."""
    picked = np.linspace(0, len(points) - 1, min(n_most, len(points))).round().astype(int)
    return points[picked]
