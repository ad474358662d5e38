"""The published table, and which of its rows are the authors' own words.

One row is one number somebody printed. Most are the authors'; the others (tables of third parties,
secondary notes, aggregator pages, issues, a student's page, values one paper quotes from another,
labels known to be doubtful) are context: shown, never a target.

Usage:

    rows = read_published(shared_dir())      # [] without the shared folder
    why_context(rows[0])                     # "" = the authors' own, else why it is context
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from ecgkit.types import DataError

NUMBERS = "references/published_numbers.csv"
COLUMNS = ("system", "table", "dataset", "task", "setting", "method", "metric", "value", "sd",
           "source", "note")  # fmt: skip
SYSTEMS = ("ESI", "ECG-QA", "FSL-ECG-QA", "HF-dual-attention", "PTBXL-benchmark", "ECG-FM", "MERL")
TITLES = {
    "ESI": "ESI: ECG-text pretraining",
    "ECG-QA": "ECG-QA: questions about ECGs",
    "FSL-ECG-QA": "Few-shot ECG question answering",
    "HF-dual-attention": "Heart-failure risk, dual attention",
    "PTBXL-benchmark": "PTB-XL benchmark (compared with by ESI)",
    "ECG-FM": "ECG-FM (compared with, checkpoint read)",
    "MERL": "MERL (compared with by ESI)",
}
# (column, pattern, why): the first that fits decides.
_CONTEXT = (
    ("table", r"third.party", "a third party's number"),
    ("table", r"^secondary", "a secondary note"),
    ("table", r"^aggregator", "an aggregator page"),
    ("table", r"^summary", "a summary page"),
    ("table", r"^issue", "an issue thread"),
    ("table", r"cited work", "another paper's, cited"),
    ("table", r"replication README \(seed\)", "a student's page, not the authors'"),
    ("note", r"DOUBTFUL", "a doubtful label"),
    ("note", r"see the \.md|does not fit", "a doubtful split"),
    ("note", r"quoted from the cited paper", "another paper's, quoted"),
)


@dataclass(frozen=True)
class Published:
    """One row of the table as strings; `index` is its place, 1 being the first under the header."""

    index: int
    system: str
    table: str = ""
    dataset: str = ""
    task: str = ""
    setting: str = ""
    method: str = ""
    metric: str = ""
    value: str = ""
    sd: str = ""
    source: str = ""
    note: str = ""

    @property
    def words(self) -> str:
        """What was measured, in one line."""
        parts = (self.dataset, self.task, self.setting, self.method, self.metric)
        return " · ".join(part for part in parts if part)


def read_published(shared: Path | None) -> list[Published]:
    """All rows in file order; [] without the folder or the table.

    Raises DataError where the table lacks a column.
    """
    path = shared / NUMBERS if shared else None
    if path is None or not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        absent = set(COLUMNS) - set(reader.fieldnames or ())
        if absent:
            raise DataError(f"{path.name} lacks the columns {', '.join(sorted(absent))}.")
        return [
            Published(n, **{c: (row[c] or "").strip() for c in COLUMNS})
            for n, row in enumerate(reader, 1)
        ]


def why_context(row: Published) -> str:
    """"" for the authors' own number, else in a few words whose it is."""
    for column, pattern, why in _CONTEXT:
        if re.search(pattern, getattr(row, column)):
            return why
    if row.system == "MERL" and row.table != "abstract":
        return "not the authors' own table"
    return ""
