"""From questions to prompts: views, findings and other context put together.

Letters: n questions.

Usage:

    rows = question_rows(questions, positions)                  # one line a question
    writer = PromptWriter(config, cohort, questions, findings)
    texts = writer.write(rows)                                  # (n,) str
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ecgkit.config.llm_qa import LlmQaSettings
from ecgkit.tasks.llm_qa_context import (
    WITH_REPORT,
    feature_texts,
    note_text,
    pick_examples,
    report_texts,
)
from ecgkit.tasks.llm_qa_findings import Findings
from ecgkit.tasks.llm_qa_views import View, views_of
from ecgkit.text.cqa import Notes
from ecgkit.text.llm_prompts import ORDER, Block, Example, prompt

_KEPT = ["question_type", "template_id", "question", "type1", "type2", "type3", "row1", "row2"]


def question_rows(questions, positions) -> pd.DataFrame:
    """(n,) rows: position, _KEPT, patient (of the first ECG), attribute, options and gold (tuples
    of names; gold () is none), options in the order of the classes.
    """
    positions = np.asarray(positions)
    table = questions.table.iloc[positions]
    rows = table[_KEPT].reset_index(drop=True)
    names = np.array(questions.classes, dtype=object)
    rows["patient"] = table["patient1"].to_numpy()
    rows["attribute"] = [tuple(a or ()) for a in table["attribute"]]
    rows["options"] = [tuple(names[m]) for m in questions.valid_mask(positions)]
    rows["gold"] = [tuple(a for a in answer if a != "none") for answer in table["answer"]]
    rows.insert(0, "position", positions)
    return rows


class PromptWriter:
    """Writes the prompts of many questions in one go: every ECG is read and classified once."""

    def __init__(self, config: LlmQaSettings, cohort, questions, findings: Findings):
        self.config, self.cohort, self.questions = config, cohort, questions
        self.findings, self.contexts = findings, set(config.llm_context.split())
        self.quirks = config.llm_prompts == "reference"
        self._measured: dict[int, str] = {}
        self._told: dict[int, str] = {}
        self._notes = Notes() if "notes" in self.contexts else None

    @property
    def mark(self) -> str:
        """What a reader of the result must know of the prompts; "" for nothing."""
        return WITH_REPORT if "report" in self.contexts else ""

    def views(self, row) -> tuple[View, ...]:
        """Views of one row of `question_rows`."""
        return views_of(row.question_type, row.question, row.options, row.row1, row.row2,
                        self.quirks)

    def write(self, rows: pd.DataFrame) -> list[str]:
        """One prompt per row."""
        picked, shown = self._pick(rows)
        everything = [*rows.itertuples(), *shown.values()]
        if "classifier" in self.contexts:
            self.findings.learn(view for row in everything for view in self.views(row))
        self._read_ecgs(everything)
        return [self._prompt(row, [shown[p] for p in picked.get(row.position, ())])
                for row in rows.itertuples()]

    # --- steps ---

    def _pick(self, rows: pd.DataFrame):
        """(position -> positions of its examples, position -> row of each example)."""
        if "examples" not in self.contexts:
            return {}, {}
        config = self.config
        picked = pick_examples(self.questions, rows["position"].to_numpy(), config.llm_examples,
                               config.llm_share_seed)
        shown = np.unique(np.concatenate([*picked.values(), np.zeros(0, np.int64)]))
        return picked, {r.position: r for r in question_rows(self.questions, shown).itertuples()}

    def _read_ecgs(self, everything: list) -> None:
        ecgs = {row for r in everything for row in (r.row1, r.row2) if row >= 0}
        if "features" in self.contexts:
            self._measured |= feature_texts(self.cohort.store, ecgs - self._measured.keys())
        if "report" in self.contexts:
            self._told |= report_texts(self.cohort, ecgs - self._told.keys())

    def _prompt(self, row, examples: list) -> str:
        worked = [
            Example(tuple(self._blocks(e)), e.question, e.options, _form(e),
                    ", ".join(e.gold) or "None")
            for e in examples
        ]  # fmt: skip
        blocks = self._blocks(row)
        if self._notes is not None:
            if notes := note_text(self._notes, row.question):
                blocks.append(Block("From a textbook of ECGs", notes))
        return prompt(blocks, row.question, row.options, _form(row), worked,
                      scored="classifier" in self.contexts)

    def _blocks(self, row) -> list[Block]:
        blocks = []
        if "classifier" in self.contexts:
            blocks += [Block(view.label, self.findings.text(view)) for view in self.views(row)]
        for heading, texts in (("Measured on", self._measured), ("Report of", self._told)):
            blocks += [Block(f"{heading} {name}", texts[ecg]) for name, ecg in _ecgs(row)
                       if ecg in texts]  # fmt: skip
        return blocks


def _ecgs(row):
    """(name, store row) of each ECG of a question."""
    if row.row2 < 0:
        return [("the ECG", row.row1)]
    names = ORDER[row.question_type.split("-")[0]]
    return list(zip((f"the {name}" for name in names), (row.row1, row.row2)))


def _form(row) -> str:
    return row.question_type.rsplit("-", 1)[1]
