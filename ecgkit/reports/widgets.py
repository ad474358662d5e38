"""Browsers of records for a live notebook; in a batch run each is a static figure instead.

Usage, as a cell's last expression:
    browse_questions(cohort, questions)      # ECG on paper, its codes, questions and answers
    browse_records(records, labels)          # a list of ECGRecord
    browse_cohort(cohort, cohort.rows("test"))
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from html import escape

import numpy as np

from ecgkit import runtime
from ecgkit import signal as sig
from ecgkit.reports import esi_eval_figures, paper, record_page, style
from ecgkit.types import LEADS, NOT_FOR_DIAGNOSIS, DataError, ECGRecord

_TWELVE = "all twelve"
_MOST_QUESTIONS = 40


def browse_records(records: Sequence[ECGRecord], labels: Sequence[str] | None = None):
    """A menu over `records` above the ECG page. Raises DataError for an empty list."""
    names = list(labels) if labels is not None else [f"ECG {r.ecg_id}" for r in records]
    return browse(names, lambda i: paper.plot_ecg(records[i], title=names[i]))


def browse_cohort(cohort, rows: Sequence[int], most: int = 200):
    """The same over rows of a cohort, read one at a time; the menu names the ECG and its codes."""
    rows = [int(row) for row in rows[:most]]
    names = _names(cohort, rows)
    ids = cohort.table["ecg_id"].iloc[rows].tolist()

    def draw(i: int):
        return paper.plot_ecg(cohort.record(rows[i]), title=f"ECG {ids[i]}")

    return browse(names, draw)


def browse(names: Sequence[str], draw: Callable[[int], object], slider: bool = False):
    """A widget that shows `draw(i)` for the name chosen from a menu, or by a slider; the first
    figure alone in a batch run.
    """
    if not names:
        raise DataError("There is no record to browse; give at least one.")
    if runtime.is_batch():
        return draw(0)
    return _live(names, draw, slider)


def _live(names: Sequence[str], draw: Callable[[int], object], slider: bool = False):
    import ipywidgets
    from IPython.display import display

    options = [(f"{i + 1}. {name}", i) for i, name in enumerate(names)]
    wide = {"layout": {"width": "620px"}, "continuous_update": False} if slider else {}
    kind = ipywidgets.SelectionSlider if slider else ipywidgets.Dropdown
    menu = kind(options=options, description="Record", **wide)
    out = ipywidgets.Output()
    notice = ipywidgets.HTML(f"<em>{escape(NOT_FOR_DIAGNOSIS)}</em>")

    def show(_=None):
        with out:
            out.clear_output(wait=True)
            display(draw(menu.value))

    menu.observe(show, names="value")
    show()
    return ipywidgets.VBox([menu, out, notice])


def browse_scores(cohort, findings):
    """A slider over test ECGs: each on paper beside its zero-shot scores, stated findings orange.

    `findings`: `tasks.esi_eval_study.Findings`. In a batch run the figure of the first.
    """
    names, words = findings.names(cohort), findings.described(cohort)

    def draw(i: int):
        return esi_eval_figures.plot_scores(
            cohort.record(int(findings.rows[i])), findings.standard_scores[i], words,
            true=findings.true(i), title=style.mark_simulated(names[i], cohort.simulated),
        )  # fmt: skip

    return browse(names, draw, slider=True)


# --- records with their questions -----------------------------------------------------------------


def browse_questions(
    cohort,
    questions=None,
    rows: Sequence[int] | None = None,
    leads: tuple[str, ...] = record_page.ALL_LEADS,
    filter: str = "none",
    most: int = 500,
):
    """A browser of recordings with their SCP codes, questions and answers.

    Recordings are chosen from a menu (`rows`, None = those asked about, or all without questions;
    the first `most`) or by the id of any stored ECG; leads from a list, the filter by a button. In
    a batch run the figure of the first one with these `leads` and `filter`. Raises DataError for an
    empty list of rows.
    """
    if rows is None:
        rows = range(len(cohort)) if questions is None else _rows_asked_about(questions)
    rows = [int(row) for row in rows[:most]]
    if not rows:
        raise DataError("There is no record to browse; give at least one.")
    if runtime.is_batch():
        return record_page.plot_record_with_questions(cohort, questions, rows[0], leads, filter)
    return QuestionBrowser(cohort, questions, rows, leads, filter).view


def _rows_asked_about(questions) -> np.ndarray:
    rows = np.unique(questions.table[["row1", "row2"]].to_numpy())
    return rows[rows >= 0]


class QuestionBrowser:
    """The widgets of `browse_questions` (`view`) and what they show: `image`, `text`, `message`."""

    def __init__(self, cohort, questions, rows, leads=record_page.ALL_LEADS, filter="none"):
        import ipywidgets as w
        import scipy.signal  # noqa: F401, so that the first filter chosen is as quick as the next

        self.cohort, self.questions, self.row = cohort, questions, rows[0]
        options = list(zip(_names(cohort, rows), rows))
        self.menu = w.Dropdown(options=options, description="Record", layout={"width": "420px"})
        self.number = w.Text(placeholder="ECG id, then Enter", description="Search",
                             continuous_update=False)  # fmt: skip
        chosen = tuple(leads) or (_TWELVE,)
        self.leads = w.SelectMultiple(options=(_TWELVE, *LEADS), value=chosen, rows=13,
                                      description="Leads", layout={"width": "200px"})  # fmt: skip
        kinds = [(sig.filter_words(kind), kind) for kind in sig.FILTERS]
        self.filter = w.ToggleButtons(options=kinds, value=filter, description="Filter")
        self.message, self.text, self.image = w.HTML(), w.HTML(), w.Image(format="png")
        self.menu.observe(lambda change: self._go(change["new"]), names="value")
        self.number.observe(lambda change: self._search(change["new"]), names="value")
        for control in (self.leads, self.filter):
            control.observe(lambda _: self.show(), names="value")
        notice = w.HTML(f"<em>{escape(NOT_FOR_DIAGNOSIS)}</em>")
        top = w.HBox([self.menu, self.number, self.message])
        page = w.HBox([self.leads, self.image])
        self.view = w.VBox([top, self.filter, page, self.text, notice])
        self.show()

    def show(self) -> None:
        """Draws the present choice."""
        leads = tuple(lead for lead in self.leads.value if lead != _TWELVE)
        self.image.value = page_png(self.cohort, self.row, leads, self.filter.value)
        self.text.value = side_html(self.cohort, self.questions, self.row)

    def _go(self, row: int) -> None:
        self.row, self.message.value = row, ""
        self.show()

    def _search(self, text: str) -> None:
        """Shows the ECG of this number; an unknown one leaves the page and says so."""
        found = np.flatnonzero(self.cohort.table["ecg_id"].astype(str) == text.strip())
        if len(found):
            self._go(int(found[0]))
        elif text.strip():
            self.message.value = f"No ECG {escape(text.strip())} is stored."


def page_png(cohort, row: int, leads: tuple[str, ...] = (), filter: str = "none") -> bytes:
    """The recording on paper as the bytes of a PNG, at 80 dpi; fast enough to follow a click."""
    record = record_page.filtered_record(cohort, row, filter)
    figure = paper.draw_page(record, leads=leads)[0]
    buffer = io.BytesIO()
    # Hardly compressed: packing tightly takes longer than drawing.
    figure.savefig(buffer, format="png", dpi=80, pil_kwargs={"compress_level": 1})
    return buffer.getvalue()


def side_html(cohort, questions, row: int) -> str:
    """Codes, questions and answers of a recording as escaped HTML."""
    codes = [
        f"<b>{escape(code)}</b> {escape(words)}" + (f" ({likelihood:g} %)" if likelihood else "")
        for code, words, likelihood in record_page.codes_of(cohort, row)
    ]
    about = record_page.questions_about(questions, row)
    lines = [
        f"<tr><td>{escape(line.question_type)}</td><td>{escape(record_page.question_words(line))}"
        f"</td><td><b>{escape(', '.join(line.answer))}</b></td></tr>"
        for line in about.head(_MOST_QUESTIONS).itertuples()
    ]
    more = len(about) - len(lines)
    note = f"<p>{more} more are not listed.</p>" if more > 0 else ""
    head = "<tr><th>type</th><th>question</th><th>answer</th></tr>"
    table = f"<table style='line-height: 1.3'>{head}{''.join(lines)}</table>" if lines else ""
    asked = "" if questions is None else f"<p>{len(about)} questions</p>"
    return f"<p>SCP codes: {' · '.join(codes) or 'none'}</p>{asked}{table}{note}"


def _names(cohort, rows: Sequence[int]) -> list[str]:
    table = cohort.table.iloc[list(rows)]
    return [f"ECG {i}: {', '.join(codes)}" for i, codes in zip(table["ecg_id"], table["scp_codes"])]
