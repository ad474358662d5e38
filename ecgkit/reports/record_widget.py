"""A browser of a cohort's recordings on paper, with their codes and, if given, their questions.

Everything is reached with the keyboard. In a batch run it is a static figure
of the first recording.

Usage, as a cell's last expression:

    keep(run, browse_cohort(cohort), "browser", "The first ECG of the browser")
    keep(run, browse_questions(cohort, questions, leads=("I", "V1")), "questions", "...")
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from html import escape

import numpy as np

from ecgkit import runtime
from ecgkit import signal as sig
from ecgkit.reports import record_page, style
from ecgkit.reports.live_page import page_png
from ecgkit.reports.widget_base import Bench, beside, labelled, lead_boxes
from ecgkit.reports.widgets import steps
from ecgkit.types import LEADS, DataError

_ANY = ""
_MOST_QUESTIONS = 40


def browse_cohort(cohort, rows: Sequence[int] | None = None, filter: str = "none", most: int = 500):
    """A browser of recordings (`rows`, default all), each with its SCP codes. They are narrowed to
    those with one statement, and chosen from a menu of the first `most` of these, by previous and
    next, or by the id of any stored ECG. In a batch run the figure of the first one. Raises
    DataError for no row.
    """
    rows = range(len(cohort)) if rows is None else rows
    return _browse(cohort, None, rows, record_page.ALL_LEADS, filter, most)


def browse_questions(
    cohort,
    questions=None,
    rows: Sequence[int] | None = None,
    leads: tuple[str, ...] = record_page.ALL_LEADS,
    filter: str = "none",
    most: int = 500,
):
    """The same with questions and answers beside (`rows`, default those asked about, or all where
    there are no questions), starting with these `leads` and this filter.
    """
    if rows is None:
        rows = range(len(cohort)) if questions is None else _rows_asked_about(questions)
    return _browse(cohort, questions, rows, leads, filter, most)


def _browse(cohort, questions, rows, leads, filter: str, most: int):
    rows = [int(row) for row in rows]
    if not rows:
        raise DataError("There is no record to browse; give at least one.")
    if runtime.is_batch():
        return record_page.plot_record_with_questions(cohort, questions, rows[0], leads, filter)
    return RecordBrowser(cohort, rows, questions, leads, filter, most).view


def _rows_asked_about(questions) -> np.ndarray:
    rows = np.unique(questions.table[["row1", "row2"]].to_numpy())
    return rows[rows >= 0]


class RecordBrowser(Bench):
    """The widgets of both browsers: `statement`, `menu`, `back`, `on`, `number`, `filter`, `leads`,
    and `text`, what is known and asked of the recording.
    """

    def __init__(self, cohort, rows, questions=None, leads=record_page.ALL_LEADS, filter="none",
                 most=500):  # fmt: skip
        import ipywidgets as w
        import scipy.signal  # noqa: F401, so that the first filter chosen is as quick as the next

        super().__init__("browser")
        self.cohort, self.questions, self.rows, self.most = cohort, questions, list(rows), most
        self.row, self.text = self.rows[0], w.HTML()
        self.statement = labelled(w.Dropdown, "Statement", options=self._statements())
        self.menu = labelled(w.Dropdown, "Record", options=self._entries(_ANY))
        self.back, self.on = steps(self, self.menu)
        self.number = labelled(w.Text, "ECG id", "230px", placeholder="a number, then Enter")
        kinds = [(sig.filter_words(kind), kind) for kind in sig.FILTERS]
        self.filter = labelled(w.Dropdown, "Filter", options=kinds, value=filter)
        self.leads = lead_boxes(LEADS, leads, "Show lead")
        self.follow(self.statement, do=self._narrow)
        self.follow(self.menu, do=self.go)
        self.follow(self.number, do=self._search)
        self.follow(self.filter, *self.leads.values())
        which = beside(self.menu, self.back, self.on, self.number)
        alone = beside(w.Label("Leads (none ticked: the 12-lead page)"), *self.leads.values())
        self.lay_out(self.statement, which, self.filter, alone, self.message, self.said, self.image,
                     self.text)  # fmt: skip

    def show(self) -> None:
        leads = tuple(lead for lead, box in self.leads.items() if box.value)
        record = record_page.filtered_record(self.cohort, self.row, self.filter.value)
        title = f"ECG {record.ecg_id}"
        codes = ", ".join(self.cohort.table["scp_codes"].iloc[self.row]) or "no codes"
        what = f"{style.mark_simulated(title, self.cohort.simulated)}: {codes} · "
        drawn = f"leads {', '.join(leads)}" if leads else "all leads"
        image, caption = page_png(record, title, leads)
        self.draw(image, f"{what}{drawn} · {caption}")
        self.text.value = side_html(self.cohort, self.questions, self.row)

    def go(self, row: int | None) -> None:
        """Shows the recording of a store row; None, of an emptied menu, shows nothing new."""
        if row is not None:
            self.row = row
            self.show()

    def _search(self, text: str) -> None:
        """Shows the ECG of this number; an unknown one leaves the page and says so."""
        found = np.flatnonzero(self.cohort.table["ecg_id"].astype(str) == text.strip())
        if len(found):
            row = int(found[0])
            with self.held():
                self.menu.value = row if row in dict(self.menu.options).values() else None
            self.go(row)
        elif text.strip():
            raise DataError(f"No ECG {text.strip()} is stored; give an id such as "
                            f"{self.cohort.table['ecg_id'].iloc[self.rows[0]]}.")  # fmt: skip

    def _narrow(self, code: str) -> None:
        """Only ECGs with this statement stay in the menu, and the first of them is shown."""
        entries = self._entries(code)
        with self.held():
            self.menu.options = entries
        self.go(self.menu.value)

    def _entries(self, code: str) -> list[tuple[str, int]]:
        """(words, row) of the first `most` recordings with this code."""
        table = self.cohort.table
        ids, codes = table["ecg_id"], table["scp_codes"].tolist()
        found = (row for row in self.rows if not code or code in codes[row])
        rows = itertools.islice(found, self.most)
        return [(f"ECG {ids.iloc[row]}: {', '.join(codes[row])}", row) for row in rows]

    def _statements(self) -> list[tuple[str, str]]:
        """(words, code), the commonest first; any code at the top."""
        codes = self.cohort.table["scp_codes"].iloc[self.rows]
        count, words = Counter(code for one in codes for code in one), record_page.description
        known = [(f"{code}: {words(self.cohort, code)} ({n} ECGs)", code)
                 for code, n in count.most_common()]  # fmt: skip
        return [(f"any ({len(self.rows)} ECGs)", _ANY), *known]


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
