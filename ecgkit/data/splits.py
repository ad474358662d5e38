"""Splits by patient, and the assertion that no patient stands on two sides of one.

PTB-XL's own ten folds are kept: 1-8 train, 9 valid, 10 test (9 and 10 hold only human-validated
records). Source: Wagner et al. 2020, PTB-XL, "Cross-validation folds". Other sources publish none:
`make_folds` draws ten by patient. ECG-QA publishes its own lists of ECGs, which `from_ecg_lists`
lays over a table as they are.

Usage:

    rows = rows_of_split(table, "train")
    lists = from_ecg_lists(qa_reading.read_ecg_ids(shelf), table)
    lists.rows["test"], print(lists.describe())
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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


def shared_patients(split: np.ndarray, patient_id: np.ndarray) -> np.ndarray:
    """Patients with ECGs in more than one split; `split` (n,) names, None = in no split."""
    pairs = pd.DataFrame({"split": split, "patient": patient_id}).dropna().drop_duplicates()
    counts = pairs["patient"].value_counts(sort=False)
    return counts.index[counts > 1].to_numpy()


def assert_no_leak(table: pd.DataFrame) -> None:
    """Raises DataError naming patients whose ECGs stand in more than one of train, valid, test."""
    leaking = shared_patients(split_column(table), table["patient_id"].to_numpy())
    if len(leaking):
        raise DataError(
            f"{len(leaking)} patients have ECGs in more than one split (patient {leaking[0]} for "
            "one); give each patient one fold with splits.make_folds."
        )


def make_folds(patient_id: np.ndarray, n_folds: int = 10, seed: int = 0) -> np.ndarray:
    """(n,) patient of each ECG -> (n,) fold 1..n_folds; a patient's ECGs share one fold.

    Patients are drawn at random and each goes to the fold that holds the fewest ECGs so far.
    """
    patients, inverse, counts = np.unique(patient_id, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(patients))
    fold_of, filled = np.empty(len(patients), np.int64), [0] * n_folds
    for p, n in zip(order.tolist(), counts[order].tolist()):
        fold = filled.index(min(filled))
        fold_of[p] = fold
        filled[fold] += n
    return fold_of[inverse] + 1


# --- lists of ECGs --------------------------------------------------------------------------------


@dataclass(frozen=True)
class EcgLists:
    """Published lists of ECGs over a table: `rows` of each split, in the table's order.

    `absent`: listed ids the table lacks, by split; `unlisted`: ECGs of the table in no list;
    `twice`: ECGs in two lists (they count in the first); `shared`: patients in two splits.
    """

    rows: dict[str, np.ndarray]
    absent: dict[str, int]
    unlisted: int
    twice: int
    shared: np.ndarray

    def describe(self) -> str:
        """One line of counts."""
        sizes = ", ".join(f"{len(rows)} {split}" for split, rows in self.rows.items())
        return (
            f"ECG lists: {sizes}; {sum(self.absent.values())} listed ECGs are not here, "
            f"{self.unlisted} of these ECGs are in no list, {self.twice} in two; "
            f"{len(self.shared)} patients have ECGs in two splits"
        )


def from_ecg_lists(
    ids_by_split: Mapping[str, Iterable[int | str]], table: pd.DataFrame, strict: bool = False
) -> EcgLists:
    """Split -> ECG ids, laid over `table` (ecg_id, patient_id).

    ECG-QA's own lists were drawn by ECG, so patients in two splits are counted, not refused; with
    `strict` they raise DataError, as do ECGs in two lists.
    """
    at, split = pd.Index(table["ecg_id"]), np.full(len(table), None, object)
    rows, absent, twice = {}, {}, 0
    for name, ids in ids_by_split.items():
        found = at.get_indexer(pd.unique(np.asarray(list(ids), dtype=at.dtype)))
        absent[name] = int((found < 0).sum())
        found = np.sort(found[found >= 0])
        taken = np.array([s is not None for s in split[found]], bool)
        twice += int(taken.sum())
        rows[name] = found[~taken]
        split[rows[name]] = name
    unlisted = int(sum(s is None for s in split))
    lists = EcgLists(
        rows, absent, unlisted, twice, shared_patients(split, table["patient_id"].to_numpy())
    )
    if strict and (twice or len(lists.shared)):
        raise DataError(
            f"These lists leak: {twice} ECGs stand in two of them and {len(lists.shared)} patients "
            "have ECGs in more than one; draw them by patient with splits.make_folds."
        )
    return lists
