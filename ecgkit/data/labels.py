"""Multi-hot labels from SCP statements, and the six tasks of the PTB-XL benchmark.

Labels follow the benchmark (Strodthoff et al. 2021): each statement listed for a record counts,
whatever its likelihood (0 stands for "not given", not for "absent"); diagnostic ones are mapped to
their `diagnostic_subclass` or `diagnostic_class` where a task asks for these.

Usage:

    labels, classes, rows = benchmark_labels(cohort, "superdiagnostic")    # (m, 5), names, (m,)
    labels, codes = code_labels(cohort, min_count=20)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pandas as pd

from ecgkit.types import ConfigError, DataError

# Task -> (which statements count, the column they are mapped to; None = the statement itself).
BENCHMARK_TASKS = {
    "all": (("diagnostic", "form", "rhythm"), None),
    "diagnostic": (("diagnostic",), None),
    "subdiagnostic": (("diagnostic",), "diagnostic_subclass"),
    "superdiagnostic": (("diagnostic",), "diagnostic_class"),
    "form": (("form",), None),
    "rhythm": (("rhythm",), None),
}
SUPERCLASSES = ["NORM", "MI", "STTC", "CD", "HYP"]


def superclass_labels(cohort) -> tuple[np.ndarray, list[str]]:
    """Returns ((n, 5) float32 multi-hot, ["NORM", "MI", "STTC", "CD", "HYP"])."""
    statements = cohort.statements
    of_code = statements.loc[statements["diagnostic"] == 1, "diagnostic_class"].to_dict()
    sets = [
        {of_code[code] for code in codes if code in of_code} for codes in cohort.table["scp_codes"]
    ]
    return multi_hot(sets, SUPERCLASSES), list(SUPERCLASSES)


def code_labels(cohort, min_count: int = 1) -> tuple[np.ndarray, list[str]]:
    """((n, K) float32 multi-hot, codes): those on at least `min_count` ECGs, commonest first."""
    counts = Counter(code for codes in cohort.table["scp_codes"] for code in codes)
    kept = sorted((c for c, n in counts.items() if n >= min_count), key=lambda c: (-counts[c], c))
    return multi_hot(cohort.table["scp_codes"], kept), kept


def benchmark_classes(statements: pd.DataFrame, task: str) -> dict[str, str]:
    """SCP code -> class of a benchmark task, for the statements that count in it.

    Raises ConfigError for an unknown task.
    """
    if task not in BENCHMARK_TASKS:
        raise ConfigError(f"{task!r} is no task; choose one of {', '.join(BENCHMARK_TASKS)}.")
    flags, column = BENCHMARK_TASKS[task]
    counts = (statements[list(flags)] == 1).any(axis=1)
    codes = statements.index[counts]
    names = codes if column is None else statements.loc[counts, column]
    return {code: name for code, name in zip(codes, names) if isinstance(name, str) and name}


def benchmark_labels(cohort, task: str) -> tuple[np.ndarray, list[str], np.ndarray]:
    """(labels (m, K) float32, classes, rows (m,) of the store) of one benchmark task.

    Only ECGs with at least one label of the task's kind are kept, as published (its minimal count
    is 0, so no class is left out). Classes are those of the statement table, sorted as in the
    benchmark, also where a small cohort has none of one: 71 all, 44 diagnostic, 23 subdiagnostic, 5
    superdiagnostic, 19 form, 12 rhythm. Raises DataError where no ECG has such a label.
    """
    class_of = benchmark_classes(cohort.statements, task)
    classes = sorted(set(class_of.values()))
    sets = [{class_of[c] for c in codes if c in class_of} for codes in cohort.table["scp_codes"]]
    rows = np.flatnonzero([bool(names) for names in sets])
    if not len(rows):
        raise DataError(
            f"None of the {len(sets)} ECGs has a statement of the task {task!r}; choose another, "
            "or a source with SCP statements."
        )
    return multi_hot([sets[i] for i in rows], classes), classes, rows


def multi_hot(sets: Iterable[Iterable[str]], classes: list[str]) -> np.ndarray:
    """One set of names per row -> (n, K) float32; names outside `classes` are passed over."""
    sets = list(sets)
    column = {name: k for k, name in enumerate(classes)}
    hits = [(i, column[name]) for i, names in enumerate(sets) for name in names if name in column]
    labels = np.zeros((len(sets), len(classes)), np.float32)
    if hits:
        labels[tuple(np.array(hits).T)] = 1
    return labels


# --- PTB-XL's annotations beside the statements ---------------------------------------------------

MARKED = ("baseline_drift", "static_noise", "burst_noise", "electrodes_problems")
EXTRA_BEATS = {"ventricular": r"(?<!S)VES", "supraventricular": "SVES", "any": "ES"}
STAGES = ("infarction_stadium1", "infarction_stadium2")


def annotation_labels(cohort) -> tuple[np.ndarray, list[str]]:
    """(n, K) float32 and names: noise of each kind, heart axis, extra beats, stage of infarction.

    From PTB-XL's columns of these names; K = 0 for a source that has none of them. What is not
    noted counts as absent. ECG-QA asks about all of these.
    """
    table, columns = cohort.table, {}
    for name in (column for column in MARKED if column in table):
        columns[name] = table[name].fillna("").astype(str).str.strip() != ""
    if "extra_beats" in table:
        text = table["extra_beats"].fillna("").astype(str).str.upper()
        columns |= {f"extra beats, {kind}": text.str.contains(pattern)
                    for kind, pattern in EXTRA_BEATS.items()}
    if "heart_axis" in table:
        axis = table["heart_axis"].fillna("").astype(str)
        columns |= {f"axis {value}": axis == value for value in sorted(set(axis) - {""})}
    stages = [table[name].fillna("").astype(str) for name in STAGES if name in table]
    for value in sorted({v for stage in stages for v in stage} - {""}):
        columns[value] = np.any([stage == value for stage in stages], axis=0)
    names = list(columns)
    labels = [np.asarray(columns[name], dtype=np.float32) for name in names]
    return np.stack(labels, 1) if names else np.zeros((len(table), 0), np.float32), names
