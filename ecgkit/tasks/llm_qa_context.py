"""What a prompt may tell of an ECG besides, or instead of, a classifier's findings.

Each part is one function from a question to blocks of text:
- features: what is measured on the ECG (rate, intervals, axis);
- report: what the record's own statements say. ECG-QA's answers were made from these, so such a
  run is marked "with the record's own report";
- notes: passages of the kit's knowledge notes nearest to the question;
- examples: worked examples of the training split, of the same question type.

Letters: n questions, B ECGs.

Usage:

    measured = feature_texts(cohort.store, rows)         # row -> text
    told = report_texts(cohort, rows)                    # row -> text
    note_text(Notes(), "Is there atrial flutter?")
    pick_examples(questions, positions, k=4, seed=42)    # position -> positions of the train split
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ecgkit.features.measures import measure
from ecgkit.text.findings import Reader

WITH_REPORT = "with the record's own report"
PART = 256  # ECGs measured at a time
N_NOTES = 2
_LINES = (
    ("heart_rate", "heart rate: {:.0f} per minute"),
    ("rr_ms", "RR interval: {:.0f} ms"),
    ("rr_spread", "variation of the RR intervals: {:.0%}"),
    ("qrs_ms", "QRS duration: {:.0f} ms"),
    ("qt_ms", "QT interval: {:.0f} ms"),
    ("axis_deg", "QRS axis: {:.0f} degrees"),
    ("sokolow_mv", "S in V1 plus R in V5 or V6: {:.1f} mV"),
)


def feature_texts(store, rows: Iterable[int]) -> dict[int, str]:
    """Store row -> one line per measurement that was found ("" where none was)."""
    rows = np.unique(np.fromiter(rows, dtype=np.int64))
    texts = {}
    for start in range(0, len(rows), PART):
        part = rows[start : start + PART]
        table = measure(store.read(part), store.fs)
        texts |= {int(row): _lines(found) for row, (_, found) in zip(part, table.iterrows())}
    return texts


def report_texts(cohort, rows: Iterable[int]) -> dict[int, str]:
    """Store row -> the statements of the record, one a line, with the likelihood where one was
    given; "no statement" where there is none.
    """
    rows = np.unique(np.fromiter(rows, dtype=np.int64)).tolist()
    table = cohort.table.iloc[rows]
    found = Reader(cohort.statements).read(table)
    return {
        row: "\n".join(_statement(f, codes) for f in findings) or "no statement"
        for row, findings, codes in zip(rows, found, table["scp_codes"])
    }


def note_text(assistant, question: str, k: int = N_NOTES) -> str:
    """The `k` passages nearest to a question, one a line; "" where none is near."""
    return "\n".join(f"{p.title}: {p.text}" for _, p in assistant.retrieve(question, k))


def pick_examples(questions, positions, k: int, seed: int) -> dict[int, np.ndarray]:
    """position -> up to `k` positions of the training split with the same question type; all
    patients of the question left out, equal answers avoided while others are to be had.
    """
    table = questions.table
    kinds = table["question_type"].to_numpy()
    train = questions.index("train")
    pools = {kind: train[kinds[train] == kind] for kind in np.unique(kinds[positions])}
    return {int(p): _pick(table, pools[kinds[p]], int(p), k, seed) for p in positions}


def _pick(table, pool: np.ndarray, position: int, k: int, seed: int) -> np.ndarray:
    people = table[["patient1", "patient2"]].to_numpy()
    own = {person for person in people[position] if person != -1}
    rng = np.random.default_rng([seed, position])
    chosen, spare, answers = [], [], set()
    for at in rng.permutation(pool)[: 50 * max(k, 1)]:
        if own & set(people[at]):
            continue
        answer = tuple(table["answer"].iat[at])
        (spare if answer in answers else chosen).append(int(at))
        answers.add(answer)
        if len(chosen) == k:
            break
    return np.array((chosen + spare)[:k], dtype=np.int64)


def _lines(found) -> str:
    return "\n".join(line.format(found[name]) for name, line in _LINES if np.isfinite(found[name]))


def _statement(finding, codes) -> str:
    likelihood = codes.get(finding.codes[0], 0) if finding.codes and isinstance(codes, dict) else 0
    return f"{finding.name} ({likelihood:.0f} %)" if likelihood else finding.name
