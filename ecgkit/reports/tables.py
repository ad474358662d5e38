"""Tables a person reads: answers beside the truth, metrics with intervals; all HTML is escaped.

Usage:

    answers_table(questions, truth, answers, n=8)      # as a cell's last expression
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ecgkit.reports import style
from ecgkit.types import NOT_FOR_DIAGNOSIS, DataError

RIGHT, WRONG = "background-color: #d7eddf", "background-color: #f9dfcf"


def answers_table(
    questions: Sequence[str], truth: Sequence, answers: Sequence, ecg_ids: Sequence | None = None,
    correct: Sequence[bool] | None = None, confidence: Sequence[float] | None = None, n: int = 12,
    caption: str = "", simulated: bool | None = None,
):
    """A pandas Styler of the first `n` rows: ECG, question, both answers, verdict, confidence.

    `truth` and `answers` hold strings or lists of strings; `correct` defaults to "the same set of
    answers". The verdict is a word as well as a colour. The DataFrame is in `.data`.
    Raises DataError when the columns differ in length.
    """
    columns = {"ECG": ecg_ids, "Question": questions, "True answer": [_joined(a) for a in truth],
               "Model's answer": [_joined(a) for a in answers]}
    if correct is None:
        correct = [_as_set(a) == _as_set(b) for a, b in zip(truth, answers)]
    columns["Verdict"] = np.where(np.asarray(correct, dtype=bool), "right", "wrong")
    columns["Confidence"] = confidence
    columns = {name: list(column) for name, column in columns.items() if column is not None}
    if len({len(column) for column in columns.values()}) > 1:
        sizes = ", ".join(f"{name} {len(column)}" for name, column in columns.items())
        raise DataError(f"An answers table needs one entry per question; it got {sizes}.")
    words = [caption, "Simulated data" if simulated else "", NOT_FOR_DIAGNOSIS]
    return styled(pd.DataFrame(columns).head(n), ". ".join(w.rstrip(".") for w in words if w) + ".")


def styled(table: pd.DataFrame, caption: str = "", digits: int = 3):
    """Any DataFrame as an escaped Styler without index; "right" and "wrong" are tinted."""
    from html import escape

    numbers = {c: f"{{:.{digits}f}}" for c in table.select_dtypes("floating").columns}
    view = table.style.format(numbers, escape="html", na_rep="–").hide(axis="index")
    view = view.format_index(escape="html", axis=1)
    view = view.map(lambda v: RIGHT if v == "right" else WRONG if v == "wrong" else "")
    cell = "text-align: left; vertical-align: top; padding: 3px 10px"
    below = "caption-side: bottom; text-align: left; color: #6b6b6b"
    looks = [{"selector": "td, th", "props": cell}, {"selector": "caption", "props": below}]
    view = view.set_table_styles(looks).set_table_attributes(f'class="{style.NO_FORMULAS}"')
    return view.set_caption(escape(caption)) if caption else view


def with_interval(row: dict, digits: int = 3) -> str:
    """A metrics.json row as text: `0.712 [0.660, 0.750]`; "not computed" if null."""
    if row.get("value") is None:
        return "not computed"
    whole = float(row["value"]).is_integer() and abs(row["value"]) > 1
    text = f"{row['value']:.0f}" if whole else f"{row['value']:.{digits}f}"
    if row.get("low") is not None and row.get("high") is not None:
        text += f" [{row['low']:.{digits}f}, {row['high']:.{digits}f}]"
    return f"{text} {row.get('unit') or ''}".strip()


def _joined(answer) -> str:
    return answer if isinstance(answer, str) else ", ".join(map(str, answer)) or "none"


def _as_set(answer) -> frozenset:
    return frozenset([answer] if isinstance(answer, str) else answer)
