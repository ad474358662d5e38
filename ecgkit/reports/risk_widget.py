"""What if: pick a patient, silence leads, scale one, shift the beat, and see the risk curve move.

Everything is reached with the keyboard, and the result is also said in words.
In a batch run the widget is a static figure of the first patient that can be read, its most
attended lead silent.

Usage, as a cell's last expression:

    what_if(load_risk(run.folder / "risk"), cohort, rows)
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from html import escape

import numpy as np

from ecgkit import runtime
from ecgkit.reports import risk_paper
from ecgkit.reports.live_page import ROOMS, page_png
from ecgkit.reports.risk_page import Reading, RiskPage, plot_what_if
from ecgkit.reports.watermark import mark_title
from ecgkit.reports.widget_base import Bench, beside, labelled, lead_boxes, picture
from ecgkit.reports.widgets import steps
from ecgkit.tasks.risk_files import RiskScorer
from ecgkit.tasks.risk_whatif import Change
from ecgkit.text.reports import render, structured_report
from ecgkit.types import DataError, ECGRecord

MOST_RECORDS = 200
SCALING = (
    "The network reads each lead z-scored: a taller ECG in mV is the same ECG to it. The factor "
    "here acts after that."
)


def what_if(
    scorer: RiskScorer, cohort, rows: Sequence[int] | None = None,
    report: Callable[[int], str] | None = None,
):
    """The widget; in a batch run `plot_what_if` of the first record that can be read.

    rows: store rows to choose from (default the test fold, the first 200). report: row -> text
    (default the structured report of its SCP codes, those of likelihood 0 kept). Raises DataError
    without a record.
    """
    rows = cohort.rows("test") if rows is None else rows
    rows = [int(row) for row in rows[:MOST_RECORDS]]
    if not rows:
        raise DataError("There is no record to choose from; give at least one row.")
    report = report or functools.partial(report_of, cohort)
    if runtime.is_batch():
        row, change = _first_readable(scorer, cohort, rows)
        return plot_what_if(scorer, cohort.record(row), change, report(row))
    return WhatIf(scorer, cohort, rows, report).view


def _first_readable(scorer: RiskScorer, cohort, rows: Sequence[int]) -> tuple[int, Change]:
    """A damaged first record must not end a batch run; where all are, the last one's error does."""
    for row in rows:
        try:
            return row, most_read(scorer, cohort.record(row))
        except DataError:
            if row == rows[-1]:
                raise
    raise AssertionError("rows is empty")


def report_of(cohort, row: int) -> str:
    """The structured report of a stored ECG as text."""
    codes = cohort.table["scp_codes"].iloc[row]
    return render(structured_report(codes, cohort.statements, "keep"))


def most_read(scorer: RiskScorer, record) -> Change:
    """Its most attended lead silent; nothing where the network has no attention over leads."""
    weights = scorer.score(record).lead_attention
    if weights is None:
        return Change()
    return Change(silent=(scorer.spec.leads[int(weights.mean(0).argmax())],))


def _blank_pages(scorer: RiskScorer, cohort, rows: Sequence[int]) -> list[RiskPage]:
    """A page of each height, drawn before the first patient is shown; none where strips are read,
    or nothing can be.
    """
    try:
        reading = Reading.of(scorer, cohort.record(_first_readable(scorer, cohort, rows)[0]))
    except DataError:
        return []
    if not risk_paper.is_beat(reading.beat):
        return []
    flat = ECGRecord(0 * reading.beat.signal, reading.beat.fs, reading.beat.leads)
    reading = dataclasses.replace(reading, beat=flat)
    pages = [RiskPage(scorer, reading, whole=False, room=room) for room in ROOMS]
    for page, room in zip(pages, ROOMS, strict=True):
        page.png()
        high = np.full_like(reading.record.signal, room[1])
        page_png(dataclasses.replace(reading.record, signal=high), even=True)
    return pages


def report_html(report: str) -> str:
    """A structured report as escaped HTML."""
    lines = "<br>".join(map(escape, report.splitlines())) or "(none given)"
    return f"<p style='line-height: 1.3'><b>Structured report</b><br>{lines}</p>"


class WhatIf(Bench):
    """The widgets of `what_if`: `menu`, `silent` by lead, `scaled`, `factor`, `shift`, `reset`; and
    `still` and `written`, the ECG and its report, which no change moves.
    """

    def __init__(self, scorer: RiskScorer, cohort, rows: Sequence[int], report):
        import ipywidgets as w

        super().__init__("what-if")
        self.scorer, self.cohort, self.report, self.page = scorer, cohort, report, None
        self._pages = _blank_pages(scorer, cohort, rows)
        leads = scorer.spec.leads
        ids = cohort.table["ecg_id"].iloc[list(rows)]
        options = [(f"ECG {ecg_id}", row) for ecg_id, row in zip(ids, rows, strict=True)]
        self.menu = labelled(w.Dropdown, "Patient", options=options)
        self.back, self.on = steps(self, self.menu)
        self.silent = lead_boxes(leads, (), "Silence lead")
        self.scaled = labelled(w.Dropdown, "Scale", "300px", options=["none", "all leads", *leads])
        self.factor = labelled(w.FloatSlider, "by factor", value=1.5, min=0.5, max=2.0, step=0.1)
        self.shift = labelled(w.IntSlider, "Shift (ms)", value=0, min=-100, max=100, step=10)
        self.reset = w.Button(description="As recorded", tooltip="Undo every change")
        self.still, self.written = picture(), w.HTML()
        self.follow(self.menu, do=self.choose)
        self.follow(*self.silent.values(), self.scaled, self.factor, self.shift, do=self._changed)
        self.press(self.reset, self._undo)
        boxes = beside(w.Label("Silence"), *self.silent.values())
        first = beside(self.menu, self.back, self.on, self.reset)
        words = w.HTML(f"<p style='line-height: 1.3'>{escape(SCALING)}</p>")
        scale = beside(self.scaled, self.factor)
        self.lay_out(first, boxes, scale, self.shift, self.message, self.said, self.image,
                     self.written, self.still, words, notice=scorer.caution())

    def show(self) -> None:
        self.choose(self.menu.value)

    @property
    def change(self) -> Change:
        """What the controls say."""
        leads = self.scorer.spec.leads
        scaled = {"none": (), "all leads": leads}.get(self.scaled.value, (self.scaled.value,))
        silent = tuple(lead for lead, box in self.silent.items() if box.value)
        return Change(silent, scaled, round(self.factor.value, 2), float(self.shift.value))

    def update(self) -> None:
        """Applies the controls to the patient shown."""
        if self.page is not None:
            self.page.update(self.change)
            note = self.scorer.spec.about(self.page.record)
            self.draw(self.page.png(), " · ".join([*self.page.said(), note]).strip(" ·"))

    def choose(self, row: int) -> None:
        """Shows another patient under the same changes; where that cannot be read, nothing but the
        reason.
        """
        self.page, self.still.value, self.written.value = None, b"", ""
        self.draw(b"", "")
        record = self.cohort.record(row)
        self.page = self._page_of(Reading.of(self.scorer, record))
        self.update()
        if risk_paper.is_beat(self.page.read):
            title = mark_title(f"ECG {record.ecg_id}", self.scorer.simulated)
            self.still.value = page_png(record, title, even=True)[0]
        self.written.value = report_html(self.report(row))

    def _changed(self, _) -> None:
        self.update()

    def _page_of(self, reading: Reading) -> RiskPage:
        """The first blank page that is high enough, turned to this reading; for a strip a new one.
        """
        for page in self._pages:
            if page.turn_to(reading):
                return page
        return RiskPage(self.scorer, reading, whole=False)

    def _undo(self) -> None:
        with self.held():  # one drawing, not one per control
            for box in self.silent.values():
                box.value = False
            self.scaled.value, self.shift.value = "none", 0
        self.update()
