"""One recording on paper beside what is known and asked of it: codes, questions, answers.

Usage:

    plot_record_with_questions(cohort, questions, row=17, leads=("II", "V1"), filter="highpass")
    questions_about(questions, 17), codes_of(cohort, 17)
"""

from __future__ import annotations

import textwrap

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ecgkit import signal as sig
from ecgkit.data.qa_reading import QUESTION_TYPES
from ecgkit.reports import paper, style
from ecgkit.types import ECGRecord

ALL_LEADS = ()  # the 3x4 page with its rhythm strip
_SIDE, _LINE, _CHARACTERS = 118.0, 4.0, 74  # mm, mm, letters per line of the side column


def filtered_record(cohort, row: int, filter: str = "none") -> ECGRecord:
    """The recording in mV, filtered whole; `meta` says how, for the caption."""
    record = cohort.record(row)
    return record if filter == "none" else sig.filter_record(record, filter)


def codes_of(cohort, row: int) -> list[tuple[str, str, float]]:
    """[(code, description or "", likelihood)] of one recording; likelihood 0 = not given."""
    codes = cohort.table["scp_codes"].iloc[row]
    return [(code, description(cohort, code), likelihood) for code, likelihood in codes.items()]


def description(cohort, code: str) -> str:
    """What an SCP code means, "" where the source does not say."""
    words = cohort.statements["description"].get(code, "")
    return words if isinstance(words, str) else ""


def questions_about(questions, row: int) -> pd.DataFrame:
    """The lines of `questions.table` about one recording (as first or second), types in turn, so
    that the first few show each type there is. Empty where `questions` is None.
    """
    if questions is None:
        return pd.DataFrame({"question_type": [], "question": [], "answer": [], "ecg_id": []})
    table = questions.table
    found = table[((table["row1"] == row) | (table["row2"] == row)).to_numpy()]
    order = found["question_type"].map(QUESTION_TYPES.index).astype(int)
    turn = found.groupby("question_type").cumcount()
    return found.loc[
        pd.DataFrame({"turn": turn, "order": order}).sort_values(["turn", "order"]).index
    ]


def question_words(line) -> str:
    """The question; for a comparison with the number of the ECGs compared, first and second."""
    ids = line.ecg_id
    return line.question if len(ids) == 1 else f"{line.question} [ECGs {ids[0]} and {ids[1]}]"


@style.in_style
def plot_record_with_questions(
    cohort, questions, row: int, leads: tuple[str, ...] = ALL_LEADS, filter: str = "none"
) -> Figure:
    """The recording in store row `row` on paper; to its right its SCP codes, questions, answers.

    leads: () = the 3x4 page with a rhythm strip, else these alone as strips. Questions that do not
    fit are counted; `questions` is None for a source nothing is asked about.
    """
    record = filtered_record(cohort, row, filter)
    figure, axes, page = paper.draw_page(record, leads=tuple(leads), right=_SIDE)
    axes.set_xlim(0, page.width + _SIDE)
    room = int((page.height - 2 * paper.MARGIN) / _LINE)
    _draw_lines(axes, page, _side_lines(cohort, questions, row, room))
    return figure


def _side_lines(cohort, questions, row: int, room: int) -> list[tuple[str, str]]:
    """At most `room` [(text, kind)] from the top; kind is a key of `_LOOKS`."""
    lines = [("SCP codes", "head")]
    for code, words, likelihood in codes_of(cohort, row)[: max(1, room // 3)]:
        said = f", {likelihood:g} %" if likelihood else ""
        lines.append((textwrap.shorten(f"{code}: {words}{said}", _CHARACTERS), "plain"))
    about = questions_about(questions, row)
    blocks, left = [], room - len(lines) - 2
    for place, line in enumerate(about.itertuples()):
        block = _block(line)
        if len(block) > left:
            break
        left -= len(block)
        blocks.append((QUESTION_TYPES.index(line.question_type), place, block))
    if questions is not None:
        lines += [("", "plain"), (f"Questions, {len(blocks)} of {len(about)}", "head")]
    return lines + [line for _, _, block in sorted(blocks) for line in block]


def _block(line) -> list[tuple[str, str]]:
    """One question and its answer as lines of the side column."""
    asked = textwrap.wrap(question_words(line), _CHARACTERS)
    answer = textwrap.shorten(", ".join(line.answer), _CHARACTERS - 4, placeholder=" ...")
    return [*((text, "plain") for text in asked), (f"   {answer}", "answer")]


_LOOKS = {
    "head": {"weight": "bold", "fontsize": 9},
    "plain": {"fontsize": 8},
    "answer": {"fontsize": 8, "color": style.COLOURS[0]},
}


def _draw_lines(axes: Axes, page: paper.Page, lines: list[tuple[str, str]]) -> None:
    """From the top right of the paper downwards, one line per `_LINE` mm."""
    y = page.height - 3
    for text, kind in lines:
        axes.text(page.width + 2, y, text, va="top", **_LOOKS[kind])
        y -= _LINE
