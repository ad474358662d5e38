"""A QATable's columns -> what a QuestionSet holds: rows of ECGs, table, masks, dropped questions.

No loop over questions: everything said once (a wording, a list of answers) is looked up by number,
and rows share the object.

Letters: N questions, M kinds of question, K answer classes.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ecgkit.data.qa_reading import (
    ATTRIBUTE_TYPES,
    FORMS,
    PAIRINGS,
    QUESTION_TYPES,
    SPLITS,
    option_names,
)
from ecgkit.data.qa_shards import DROPPED, no_collection
from ecgkit.data.qa_table import ANSWER, ATTRIBUTE, ATTRIBUTE_TYPE, TEMPLATE, TYPE, QATable

# Question types -> type1 and type2 of the ECG-QA preprocessor (ecgqa.md 1.2).
_TYPE1 = np.array([PAIRINGS.index(name.split("-")[0]) for name in QUESTION_TYPES])
_TYPE2 = _TYPE1 * 3 + np.array([FORMS.index(name.split("-")[1]) for name in QUESTION_TYPES])


def ecg_numbers(table: pd.DataFrame) -> np.ndarray:
    """(n,) the numbers that the kit's own questions use for the ECGs of `table`, as ECG-QA's format
    asks for numbers: their ids, or their lines from 1 where the ids are names (JS00001).
    """
    ids = table["ecg_id"].to_numpy()
    return ids if ids.dtype.kind in "iu" else np.arange(1, len(ids) + 1)


def rows_of(ecg_id: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """(N, 2) ECG ids -> (N, 2) int64 positions in `ids`, -1 where absent."""
    flat = pd.Index(ids).get_indexer(np.asarray(ecg_id).ravel())
    return flat.astype(np.int64).reshape(-1, 2)


def is_absent(table: QATable, rows: np.ndarray) -> np.ndarray:
    """(N,) bool: a question one of whose ECGs has no row."""
    return (rows[:, 0] < 0) | ((rows[:, 1] < 0) & about_two(table))


def about_two(table: QATable) -> np.ndarray:
    """(N,) bool: comparisons."""
    return (_TYPE1[table.kinds[:, TYPE]] > 0)[table.kind]


def frame(table: QATable, kept: np.ndarray, rows: np.ndarray, patients: np.ndarray) -> pd.DataFrame:
    """The table of the questions at `kept` (n,): published keys, split, rows, patients, type ids.

    rows (n, 2) into the cohort, whose patients are `patients`.
    """
    kinds = table.kinds[table.kind[kept]].astype(np.int64)
    type1, type2 = _TYPE1[kinds[:, TYPE]], _TYPE2[kinds[:, TYPE]]
    rows = np.where(np.stack([type1 >= 0, type1 > 0], axis=1), rows, -1)
    patients = np.append(patients, -1)  # row -1 is no ECG, so patient -1
    return pd.DataFrame({
        "template_id": kinds[:, TEMPLATE],
        "question_id": table.question_id[kept].astype(np.int64),
        "sample_id": table.sample_id[kept].astype(np.int64),
        "question_type": _objects(QUESTION_TYPES)[kinds[:, TYPE]],
        "attribute_type": _objects(ATTRIBUTE_TYPES)[kinds[:, ATTRIBUTE_TYPE]],
        "question": _objects(table.texts)[table.text[kept]],
        "answer": _objects(table.answers)[kinds[:, ANSWER]],
        "ecg_id": _id_lists(table.ecg_id[kept], rows),
        "attribute": _objects(table.attributes)[kinds[:, ATTRIBUTE]],
        "split": _objects(SPLITS)[table.split[kept]],
        "row1": rows[:, 0], "patient1": patients[rows[:, 0]],
        "row2": rows[:, 1], "patient2": patients[rows[:, 1]],
        "type1": type1, "type2": type2, "type3": type2 * 6 + kinds[:, ATTRIBUTE_TYPE],
    })  # fmt: skip


def kind_masks(table: QATable, classes: list[str], valid: dict[int, list[str]]):
    """(M, K) bool answers of each kind, and (M, K) bool classes it is judged on; `none` has no
    column.
    """
    answers = _multi_hot(table.answers, classes)
    of_template = dict(zip(valid, _multi_hot(valid.values(), classes)))
    judged = np.empty((len(table.kinds), len(classes)), dtype=bool)
    for m, kind in enumerate(table.kinds.tolist()):
        names = QUESTION_TYPES[kind[TYPE]], ATTRIBUTE_TYPES[kind[ATTRIBUTE_TYPE]]
        options = option_names(*names, table.attributes[kind[ATTRIBUTE]])
        if options is None:
            judged[m] = of_template[kind[TEMPLATE]]
        else:
            judged[m] = _multi_hot([options], classes)[0]
    return answers[table.kinds[:, ANSWER]], judged


def dropped(
    table: QATable, absent: np.ndarray, rows: np.ndarray, n_stored: int, left_out: np.ndarray
) -> pd.DataFrame:
    """All questions that are not kept: unusable ones, then those without their ECG, then those not
    chosen. absent, left_out (N,) bool; rows (N, 2).
    """
    missing = np.where(rows[absent, 0] < 0, *table.ecg_id[absent].T)
    number, distinct = pd.factorize(missing)
    sentences = [f"ECG {ecg} is not among the {n_stored} stored." for ecg in distinct.tolist()]
    parts = [
        table.dropped,
        _listed(table, absent, "ecg_not_stored", _objects(sentences)[number]),
        _listed(table, left_out, "not_sampled", "Not among the questions SAMPLE or FRACTION keep."),
    ]
    parts = [part for part in parts if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(DROPPED))


def _listed(table: QATable, where: np.ndarray, reason: str, sentence) -> pd.DataFrame:
    kinds = table.kinds[table.kind[where]]
    return pd.DataFrame({
        "split": _objects(SPLITS)[table.split[where]],
        "sample_id": table.sample_id[where].astype(np.int64),
        "question_type": _objects(QUESTION_TYPES)[kinds[:, TYPE]],
        "template_id": kinds[:, TEMPLATE].astype(np.int64),
        "reason": reason, "sentence": sentence,
    })  # fmt: skip


def _objects(values) -> np.ndarray:
    """Strings or lists -> (n,) array of these very objects."""
    array = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        array[i] = value
    return array


def _id_lists(ecg_id: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(n, 2) ids -> (n,) lists of one or two, one list for all questions about the same ECGs."""
    number, _ = pd.factorize(rows[:, 0] * (rows.max() + 2) + rows[:, 1] + 1)
    first = np.flatnonzero(np.r_[True, np.diff(np.maximum.accumulate(number)) > 0])
    distinct, which = np.unique(ecg_id[first], return_inverse=True)
    one, two = distinct.astype(object)[which.reshape(-1, 2)].T.tolist()  # equal ids: one object
    pairs = (rows[first, 1] >= 0).tolist()
    with no_collection():
        lists = [[a, b] if pair else [a] for a, b, pair in zip(one, two, pairs)]
    return _objects(lists)[number]


def _multi_hot(lists, classes: list[str]) -> np.ndarray:
    """Lists of answers -> (len, K) bool; `none` and what is no class are left out."""
    id_of = {name: k for k, name in enumerate(classes)}
    hot = np.zeros((len(lists), len(classes)), dtype=bool)
    for row, names in zip(hot, lists):
        row[[id_of[name] for name in names if name in id_of]] = True
    return hot
