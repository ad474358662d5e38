"""What a study is asked to tell: one set of labels, its ECGs, its splits, its patients.

PTB-XL's six tasks are the benchmark's (`data.labels`). Two more belong to other sources, and need
nothing but SCP codes, so any source with such codes can be asked: `icbeb`, the nine classes of
CPSC-2018 as the benchmark processed it (Strodthoff et al. 2021; the field calls it ICBEB), and
`chapman_rhythm`, the four groups of rhythms of Zheng et al. 2020, table 4.

Letters: n ECGs of a set, K classes.

Usage:

    labels = label_set(cohort, "superdiagnostic")
    test = labels.index("test")                  # into the set, not into the store
    labels.labels[test], labels.rows[test], labels.patients[test]
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from ecgkit.data.labels import (
    BENCHMARK_TASKS,
    SUPERCLASSES,
    benchmark_classes,
    benchmark_labels,
    multi_hot,
)
from ecgkit.data.splits import split_column
from ecgkit.types import ConfigError, DataError

ICBEB = ("NORM", "AFIB", "1AVB", "CLBBB", "CRBBB", "PAC", "PVC", "STD_", "STE_")
# Wandering rhythm (SAAWR, 7 of 10,646 ECGs there) has no SCP code: such an ECG has no label here.
CHAPMAN_RHYTHMS = {
    "AFIB": ("AFIB", "AFLT"),
    "GSVT": ("SVTAC", "PSVT", "STACH"),
    "SB": ("SBRAD",),
    "SR": ("SR", "SARRH"),
}
TASKS = (*BENCHMARK_TASKS, "icbeb", "chapman_rhythm")


@dataclass(frozen=True)
class LabelSet:
    """rows (n,) of the store; ids (n,) ECG ids; labels (n, K) 0/1; patients and split (n,);
    `members`: class -> SCP codes it is made of.
    """

    task: str
    rows: np.ndarray
    ids: np.ndarray
    labels: np.ndarray
    classes: list[str]
    patients: np.ndarray
    split: np.ndarray
    members: dict[str, tuple[str, ...]]

    def index(self, split: str) -> np.ndarray:
        """Positions in this set of "train" | "valid" | "test"; empty where there are none."""
        return np.flatnonzero(self.split == split)

    def take(self, which: np.ndarray) -> LabelSet:
        """The ECGs at `which` (positions, or a mask)."""
        names = ("rows", "ids", "labels", "patients", "split")
        return dataclasses.replace(self, **{name: getattr(self, name)[which] for name in names})

    def with_classes(self, names: list[str]) -> LabelSet:
        """The same ECGs with these classes alone, in this order."""
        columns = [self.classes.index(name) for name in names]
        return dataclasses.replace(self, classes=list(names), labels=self.labels[:, columns])


def label_set(cohort, task: str) -> LabelSet:
    """The ECGs of `cohort` that have a label of `task`, as the benchmark keeps them.

    Raises ConfigError for an unknown task and DataError where no ECG has such a label.
    """
    if task in BENCHMARK_TASKS:
        labels, classes, rows = benchmark_labels(cohort, task)
        of_code = benchmark_classes(cohort.statements, task)
        members = {c: tuple(k for k, v in of_code.items() if v == c) for c in classes}
        if task == "superdiagnostic":  # the order every other table of the kit has
            columns = [classes.index(c) for c in SUPERCLASSES]
            labels, classes = labels[:, columns], list(SUPERCLASSES)
    elif task == "icbeb":
        members = {code: (code,) for code in ICBEB}
        labels, classes, rows = _by_members(cohort, members, task)
    elif task == "chapman_rhythm":
        members = CHAPMAN_RHYTHMS
        labels, classes, rows = _by_members(cohort, members, task)
    else:
        raise ConfigError(f"TASKS names {task!r}; choose from {', '.join(TASKS)}.")
    ids, patients = (cohort.table[name].to_numpy()[rows] for name in ("ecg_id", "patient_id"))
    split = split_column(cohort.table)[rows]
    return LabelSet(task, rows, ids, labels, classes, patients, split, dict(members))


def label_sets(cohort, tasks: str) -> list[LabelSet]:
    """The sets that `tasks` names, separated by spaces or commas. Raises ConfigError for none."""
    names = tasks.replace(",", " ").split()
    if not names:
        raise ConfigError(f"TASKS is empty; name some of {', '.join(TASKS)}.")
    return [label_set(cohort, name) for name in names]


def _by_members(cohort, members: dict, task: str):
    class_of = {code: name for name, codes in members.items() for code in codes}
    sets = [{class_of[c] for c in codes if c in class_of} for codes in cohort.table["scp_codes"]]
    rows = np.flatnonzero([bool(names) for names in sets])
    if not len(rows):
        raise DataError(
            f"None of the {len(sets)} ECGs has a label of {task!r}; choose another task, or a "
            "source with such statements."
        )
    return multi_hot([sets[i] for i in rows], list(members)), list(members), rows
