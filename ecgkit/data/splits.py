"""Patient-level folds and the assertion that no patient stands on two sides of a split.

PTB-XL's own ten folds are kept: 1-8 train, 9 valid, 10 test (9 and 10 hold only human-validated
records). Source: Wagner et al. 2020, PTB-XL, "Cross-validation folds".
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ecgkit.types import DataError

FOLDS = {"train": tuple(range(1, 9)), "valid": (9,), "test": (10,)}


def fold_of_split(split: str) -> tuple[int, ...]:
    """Folds of "train" | "valid" | "test". Raises DataError for any other name."""
    if split not in FOLDS:
        raise DataError(f"There is no split {split!r}; choose one of {', '.join(FOLDS)}.")
    return FOLDS[split]


def rows_of_split(table: pd.DataFrame, split: str) -> np.ndarray:
    """Rows (int64) of `table` whose `fold` belongs to `split`."""
    return np.flatnonzero(table["fold"].isin(fold_of_split(split)).to_numpy())


def split_column(table: pd.DataFrame) -> np.ndarray:
    """(n,) the name of each row's split."""
    name = {fold: split for split, folds in FOLDS.items() for fold in folds}
    return table["fold"].map(name).to_numpy(dtype=object)


def assert_no_leak(table: pd.DataFrame) -> None:
    """Raises DataError naming patients whose ECGs stand in more than one of train, valid, test."""
    per_patient = pd.Series(split_column(table)).groupby(table["patient_id"].to_numpy()).nunique()
    leaking = per_patient.index[per_patient > 1]
    if len(leaking):
        raise DataError(
            f"{len(leaking)} patients have ECGs in more than one split (patient {leaking[0]} for "
            "one); "
            "give each patient one fold with splits.make_folds."
        )


def make_folds(patient_id: np.ndarray, n_folds: int = 10, seed: int = 0) -> np.ndarray:
    """(n,) patient of each ECG -> (n,) fold 1..n_folds; a patient's ECGs share one fold.

    Patients are drawn at random and each goes to the fold that holds the fewest ECGs so far.
    """
    patients, inverse, counts = np.unique(patient_id, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(patients))
    fold_of, filled = np.empty(len(patients), np.int64), np.zeros(n_folds, np.int64)
    for p in order:
        fold_of[p] = filled.argmin()
        filled[fold_of[p]] += counts[p]
    return fold_of[inverse] + 1
