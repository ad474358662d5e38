"""A part of a large source for small machines: SAMPLE questions or a FRACTION, by patient.

Patients stand in a random order of the seed and their own number alone. Of each (split, question
type) those questions are kept whose patients come first, until the type has its share of SAMPLE; so
types keep their shares, a larger SAMPLE contains a smaller one, and neither the order of files nor
other patients matter. A question about two patients comes with the later of them. The recordings
kept are those these questions need. Where ECGQA is empty, whole patients are kept until there are
SAMPLE recordings.

Usage:

    rows = wanted(config, table, "mimic-iv-ecg")      # rows of the source's table to keep
    out = left_out(config, cohort, questions)         # (N,) bool, the same choice of a QATable
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit import runtime
from ecgkit.config.base import short_hash
from ecgkit.data import qa_columns
from ecgkit.data.qa_reading import QUESTION_TYPES, open_shelf, variant_of
from ecgkit.data.qa_table import TYPE, QATable, open_table
from ecgkit.types import DataError

OUTSIDE, LEFT, CHOSEN = range(3)


def is_asked(config) -> bool:
    """Whether the config keeps a part only."""
    return config.sample > 0 or config.fraction < 1


def wanted(config, table: pd.DataFrame, name: str) -> np.ndarray:
    """Rows (n,) of `table` (ecg_id, patient_id) of source `name` to keep, rising.

    All of them where neither SAMPLE nor FRACTION asks for less. Raises DataError where the choice
    is empty, where ECG-QA is about another source, and as `open_table` does.
    """
    if not is_asked(config):
        return np.arange(len(table))
    if not config.ecgqa:
        return _whole_patients(table["patient_id"].to_numpy(), config)
    if table["ecg_id"].dtype == object:
        raise DataError(
            f"The ECGs of {name} have names, but ECG-QA asks about numbered ones (PTB-XL, "
            "MIMIC-IV-ECG); give its own source as DATA, or leave ECGQA empty."
        )
    people = table[["ecg_id", "patient_id"]].to_numpy(dtype=np.int64)
    questions = open_table(open_shelf(config.ecgqa, variant_of(name)), config.flavour)
    chosen = choose(questions, people, config) == CHOSEN
    if not chosen.any():
        raise DataError(
            f"SAMPLE {config.sample} and FRACTION {config.fraction} keep none of the "
            f"{len(questions)} questions of {config.ecgqa} about these {len(table)} ECGs; ask for "
            "more, or check that ECGQA and DATA belong to the same source."
        )
    _remember(config, people)
    return np.flatnonzero(np.isin(people[:, 0], questions.ecg_id[chosen]))


def left_out(config, cohort, questions: QATable) -> np.ndarray | None:
    """(N,) bool: questions about this source that the choice leaves out; None where all are kept.

    It is the choice `wanted` made of the whole source, of which the cohort is a part.
    """
    if not is_asked(config):
        return None
    people = _recall(config)
    if people is None:  # the cohort was opened whole: it is the source
        people = cohort.table[["ecg_id", "patient_id"]].to_numpy(dtype=np.int64)
    return choose(questions, people, config) == LEFT


def choose(questions: QATable, people: np.ndarray, config) -> np.ndarray:
    """(N,) int8: OUTSIDE (about none of these people's ECGs), LEFT or CHOSEN.

    people (P, 2): ecg_id and patient_id of all ECGs of the source.
    """
    rows = qa_columns.rows_of(questions.ecg_id, people[:, 0])
    inside = np.flatnonzero(~qa_columns.is_absent(questions, rows))
    rows = np.where(rows < 0, rows[:, :1], rows)[inside]  # one ECG: itself twice
    rank = shuffled(people[:, 1], config.sample_seed)[rows].max(axis=1, initial=0)
    stratum = _strata(questions)[inside]
    order = np.lexsort((questions.sample_id[inside], rank, stratum))
    sizes = np.bincount(stratum)
    place = np.empty(len(inside), dtype=np.int64)  # of each question in its stratum
    place[order] = np.arange(len(inside)) - (np.cumsum(sizes) - sizes)[stratum[order]]
    state = np.full(len(questions), OUTSIDE, dtype=np.int8)
    state[inside] = np.where(place < _targets(sizes, config)[stratum], CHOSEN, LEFT)
    return state


def _strata(questions: QATable) -> np.ndarray:
    """(N,) int64: one number per split and question type."""
    kind = questions.kinds[:, TYPE].astype(np.int64)[questions.kind]
    return questions.split.astype(np.int64) * len(QUESTION_TYPES) + kind


def _targets(sizes: np.ndarray, config) -> np.ndarray:
    """How many questions to keep of each stratum: its share, rounded half up."""
    total = int(sizes.sum())
    if not config.sample:
        return np.floor(config.fraction * sizes + 0.5).astype(np.int64)
    n = min(config.sample, total)
    return (2 * n * sizes + total) // max(2 * total, 1)


def _whole_patients(patients: np.ndarray, config) -> np.ndarray:
    """Rows of the first patients who together have SAMPLE (or FRACTION of all) recordings."""
    n = config.sample or max(1, int(np.floor(config.fraction * len(patients) + 0.5)))
    # Challenge sources name their patients in letters.
    numbers = patients if patients.dtype != object else np.unique(patients, return_inverse=True)[1]
    order = np.argsort(shuffled(numbers, config.sample_seed), kind="stable")
    last = patients[order[min(n, len(order)) - 1]]
    cut = np.flatnonzero(patients[order] == last).max() + 1
    return np.sort(order[:cut])


def shuffled(numbers: np.ndarray, seed: int) -> np.ndarray:
    """(n,) uint64: a random place for each number, of seed and number alone; no two share one.

    The finaliser of SplitMix64 (Steele et al. 2014), which only reorders the 64-bit numbers.
    """
    start = np.random.default_rng(seed).integers(2**63)
    x = np.asarray(numbers, dtype=np.int64).astype(np.uint64) + np.uint64(start)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x ^ (x >> np.uint64(31))


# --- the source behind a cohort -------------------------------------------------------------------


def _remember(config, people: np.ndarray) -> None:
    """Keeps who the source holds: the cohort opened next holds the chosen ones only."""
    with runtime.replacing(_memory(config)) as scratch, open(scratch, "wb") as file:
        np.save(file, people)


def _recall(config) -> np.ndarray | None:
    path = _memory(config)
    return np.load(path) if path.exists() else None


def _memory(config) -> Path:
    source = os.path.abspath(os.path.expanduser(config.data))
    return runtime.cache_dir() / f"people-{short_hash([source, config.ecgqa])}.npy"
