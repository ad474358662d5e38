"""ECG pages for a widget: the paper of one layout is drawn once, traces and words at each change.

Rows hold `ROOM` at least, so that most records share one layout; a taller one gets its own.

Usage:

    image, words = page_png(record, title="ECG 17", leads=("II", "V1"))
"""

from __future__ import annotations

import functools

import numpy as np

from ecgkit.reports import paper, style
from ecgkit.reports.frozen import Frozen
from ecgkit.types import ECGRecord

ROOM = (-1.3, 1.9)  # mV: rows of 35 mm
ROOMS = (ROOM, (-2.3, 2.4), (-2.8, 2.9))  # rows of 35, 50 and 60 mm, the highest there are
DPI = 80


def page_png(
    record: ECGRecord, title: str = "", leads: tuple[str, ...] = (), dpi: float = DPI,
    even: bool = False,
) -> tuple[bytes, str]:
    """The page of `paper.draw_page` as a PNG, and its caption. Raises DataError for a record that
    is too short for a page.

    `even`: all rows of one height out of three, so that three layouts are enough for any record:
    quicker where much else is to be done, but higher.
    """
    low, high = np.nanmin(record.signal, initial=0), np.nanmax(record.signal, initial=0)
    fitting = [room for room in ROOMS if room[0] <= low and high <= room[1]]
    room = [*fitting, ROOMS[-1]][0] if even else ROOM
    page = paper.lay_out(record, leads=leads, room=room)
    absent = tuple(panel.lead for panel in page.panels if panel.lead not in record.leads)
    return _sheet(page, absent, dpi).png(record, title), paper.caption(record)


@functools.lru_cache(maxsize=8)
def _sheet(page: paper.Page, absent: tuple[str, ...], dpi: float) -> Sheet:
    return Sheet(page, absent, dpi)


class Sheet:
    """One layout: its paper stands, the traces and the three lines of words move."""

    @style.in_style
    def __init__(self, page: paper.Page, absent: tuple[str, ...], dpi: float):
        self.page = page
        figure, axes = style.bare_figure(page.width, page.height)
        shown = [panel for panel in page.panels if panel.lead not in absent]
        paper.draw_paper(axes, page, tuple(panel.lead for panel in shown))
        self.traces = [(panel, paper.draw_trace(axes, panel)) for panel in shown]
        self.words = paper.write_words(axes, page)
        moving = [line for _, line in self.traces]
        self._frozen = Frozen(figure, [*moving, *self.words], dpi)

    def png(self, record: ECGRecord, title: str) -> bytes:
        for panel, line in self.traces:
            line.set_data(*paper.points(self.page, panel, record))
        lines = paper.headline(record, title, self.page.gain, self.page.speed)
        for text, words in zip(self.words, lines, strict=True):
            text.set_text(words)
        return self._frozen.png()
