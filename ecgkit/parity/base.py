"""One comparison of ours against a golden fixture, and how a family of fixtures registers
itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Check:
    """One named array: the largest absolute difference, the tolerance, and whether it was met."""

    name: str
    difference: float
    tolerance: float
    passed: bool


@dataclass(frozen=True)
class Case:
    """One kind of fixture. `recognises(file_stem, arrays)` says whether an .npz is of this kind (by
    its keys first);
    `compare(arrays, device)` builds the model, loads the weights, runs it and returns the
    checks."""

    name: str
    recognises: Callable[[str, dict[str, np.ndarray]], bool]
    compare: Callable[[dict[str, np.ndarray], object], list[Check]]


def close(name: str, ours, expected, atol: float, rtol: float = 0.0) -> Check:
    """Compares tensors or arrays of equal shape; a shape mismatch or a NaN on one side only is a
    failed check.
    """
    if hasattr(ours, "detach"):
        ours = ours.detach().double().cpu().numpy()
    ours, expected = np.asarray(ours, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    if ours.shape != expected.shape:
        return Check(f"{name} shape {ours.shape} != {expected.shape}", float("inf"), atol, False)
    if not ours.size:
        return Check(name, 0.0, atol, True)
    gap = np.abs(ours - expected)
    worst = float(np.max(gap)) if np.isfinite(gap).all() else float("inf")
    passed = bool(np.allclose(ours, expected, atol=atol, rtol=rtol))
    return Check(name, worst, atol, passed)
