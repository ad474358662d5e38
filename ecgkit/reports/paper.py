"""The 12-lead ECG on metrically right paper: 25 mm/s, 10 mm/mV, squares of 1 mm and 5 mm.

The axes' data units are millimetres and the figure is as large as its axes, so one millimetre on
the paper is one millimetre at the figure's dpi, whatever is drawn. `Page` is the geometry;
`overlay.py` paints on the same one.

Usage:

    fig = plot_ecg(record, title="ECG 17")
    fig, axes, page = draw_page(record)        # to paint on it: page.panels, page.x_of, page.y_of
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from ecgkit.reports import style
from ecgkit.types import DataError, ECGRecord

GRID_3X4 = (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"))
# In mm; the calibration pulse stands in PULSE_ZONE.
MARGIN, PULSE_ZONE, HEAD, FOOT = 5.0, 15.0, 15.0, 10.0
LEAST_S, ROW_MIN, ROW_MAX = 2.5, 25.0, 60.0  # seconds; mm
NO_ROOM = (0.0, 1.0)  # mV that are on every row: the zero line and the pulse


@dataclass(frozen=True)
class Panel:
    """One lead from `start` to `stop` seconds.

    In mm on the page: `x` its left edge, `y` its zero line, `top` its upper edge, `height`.
    """

    lead: str
    start: float
    stop: float
    x: float
    y: float
    top: float
    height: float


@dataclass(frozen=True)
class Page:
    """Where everything stands on the paper, in mm. `gain` in mm/mV, `speed` in mm/s."""

    width: float
    height: float
    gain: float
    speed: float
    panels: tuple[Panel, ...]
    rows: tuple[float, ...]  # the zero line of each row, from the top

    def x_of(self, panel: Panel, seconds: np.ndarray) -> np.ndarray:
        """Seconds since the record's start -> mm from the page's left edge."""
        return panel.x + (np.asarray(seconds) - panel.start) * self.speed

    def y_of(self, panel: Panel, millivolts: np.ndarray) -> np.ndarray:
        """mV -> mm from the page's lower edge."""
        return panel.y + np.asarray(millivolts) * self.gain


@style.in_style
def plot_ecg(
    record: ECGRecord, title: str = "", seconds: float = 10, gain: float = 10, speed: float = 25,
    rhythm_lead: str = "II",
) -> Figure:
    """Returns three rows of four leads (each a quarter of the time) over one rhythm strip.

    `seconds` is how much is drawn (less if the record is shorter), `gain` in mm/mV, `speed` in
    mm/s. A lead the record lacks leaves its panel empty, labelled "absent"; NaN samples are gaps.
    Raises DataError for records shorter than 2.5 s.
    """
    return draw_page(record, title, seconds, gain, speed, rhythm_lead)[0]


@style.in_style
def draw_page(
    record: ECGRecord, title: str = "", seconds: float = 10, gain: float = 10, speed: float = 25,
    rhythm_lead: str = "II", note: str = "", right: float = 0.0, leads: tuple[str, ...] = (),
    room: tuple[float, float] = NO_ROOM,
) -> tuple[Figure, Axes, Page]:
    """Like `plot_ecg`, with axes and geometry. `note` joins the caption; `right` mm stay free.

    `leads`: these alone, each as a strip of the whole time, in place of the 3x4 page. `room`: see
    `lay_out`.
    """
    page = lay_out(record, seconds, gain, speed, rhythm_lead, leads, room)
    figure, axes = style.bare_figure(page.width + right, page.height)
    draw_paper(axes, page, record.leads)
    for panel in page.panels:
        if panel.lead in record.leads:
            draw_trace(axes, panel).set_data(*points(page, panel, record))
    words = headline(record, title, gain, speed, note)
    for text, said in zip(write_words(axes, page), words, strict=True):
        text.set_text(said)
    return figure, axes, page


def caption(record: ECGRecord, gain: float = 10, speed: float = 25, note: str = "") -> str:
    """Speed, gain, sampling rate, filter in one line; the filter is `meta["filter"]`, if set."""
    words = record.meta.get("filter") or "no filter applied"
    line = f"{speed:g} mm/s · {gain:g} mm/mV · {record.fs:g} Hz · {words} · pulse 1 mV × 200 ms"
    return f"{line} · {note}" if note else line


def headline(
    record: ECGRecord, title: str = "", gain: float = 10, speed: float = 25, note: str = ""
) -> tuple[str, str, str]:
    """What `write_words` has a place for: the title, who it is, the caption."""
    title = style.mark_simulated(title or f"ECG {record.ecg_id}", record.meta.get("simulated"))
    return title, _about(record), caption(record, gain, speed, note)


def lay_out(
    record: ECGRecord, seconds: float = 10, gain: float = 10, speed: float = 25,
    rhythm_lead: str = "II", leads: tuple[str, ...] = (), room: tuple[float, float] = NO_ROOM,
) -> Page:
    """Computes the page: rows are as high as their tallest trace needs, in whole 5 mm squares, and
    hold the mV of `room` at least, so that many records share one layout.
    """
    grid = tuple((lead,) for lead in leads) or (*GRID_3X4, (rhythm_lead,))
    shown = min(float(seconds), record.duration_s)
    if shown < LEAST_S - 0.5 / record.fs:
        raise DataError(
            f"Record {record.ecg_id} gives {shown:.2f} s to draw; a 3x4 page needs {LEAST_S} s. "
            "Take a longer record, or raise `seconds`."
        )
    heights = [_row_height(record, row, gain, room) for row in grid]
    left, quarter = MARGIN + PULSE_ZONE, shown / 4
    height = HEAD + FOOT + sum(heights)
    top, panels, rows = height - HEAD, [], []
    for row, tall in zip(grid, heights, strict=True):
        y = top - _above(record, row, gain, room)
        step = shown / len(row)
        for i, lead in enumerate(row):
            x = left + i * quarter * speed
            panels.append(Panel(lead, i * step, (i + 1) * step, x, y, top, tall))
        rows.append(y)
        top -= tall
    width = left + math.ceil(shown * speed / 5) * 5 + MARGIN
    return Page(width, height, gain, speed, tuple(panels), tuple(rows))


# --- geometry of a row --------------------------------------------------------------------------


def _extent(
    record: ECGRecord, leads: tuple[str, ...], room: tuple[float, float] = NO_ROOM
) -> tuple[float, float]:
    """Lowest and highest mV of `room` and of those leads that the record has."""
    rows = [record.leads.index(lead) for lead in leads if lead in record.leads]
    values = record.signal[rows] if rows else np.zeros((1, 1))
    values = values[np.isfinite(values)]
    if values.size == 0:
        return room
    return min(room[0], float(values.min())), max(room[1], float(values.max()))


def _above(record: ECGRecord, leads: tuple[str, ...], gain: float, room=NO_ROOM) -> float:
    """mm from the top of the row to its zero line: whole squares, so zero is on a heavy line."""
    return min(5 * math.ceil((_extent(record, leads, room)[1] * gain + 1) / 5), ROW_MAX / 2)


def _row_height(record: ECGRecord, leads: tuple[str, ...], gain: float, room=NO_ROOM) -> float:
    below = 5 * math.ceil((2 - _extent(record, leads, room)[0] * gain) / 5)
    return max(ROW_MIN, _above(record, leads, gain, room) + min(below, ROW_MAX / 2))


# --- drawing ------------------------------------------------------------------------------------


def draw_paper(axes: Axes, page: Page, leads: tuple[str, ...]) -> None:
    """Everything but traces and words: squares, calibration pulses, names; a lead that is not among
    `leads` is named as absent.
    """
    _draw_grid(axes, page)
    for y in page.rows:
        _draw_pulse(axes, y, page.gain, page.speed)
    for panel in page.panels:
        _draw_label(axes, page, panel, panel.lead not in leads)


def draw_trace(axes: Axes, panel: Panel) -> Line2D:
    """An empty line in the look of a trace."""
    return axes.plot([], [], color=style.TRACE, linewidth=0.9, zorder=4, solid_joinstyle="round",
                     gid=f"lead {panel.lead}")[0]  # fmt: skip


def points(page: Page, panel: Panel, record: ECGRecord) -> tuple[np.ndarray, np.ndarray]:
    """What a panel shows of a record, in mm of the page; nothing of a lead it lacks."""
    if panel.lead not in record.leads:
        return np.empty(0), np.empty(0)
    first = round(panel.start * record.fs)
    last = min(round(panel.stop * record.fs) + 1, record.n_samples)
    mv = record.signal[record.leads.index(panel.lead), first:last]  # (C, T) -> (t,)
    return page.x_of(panel, np.arange(first, last) / record.fs), page.y_of(panel, mv)


def write_words(axes: Axes, page: Page) -> tuple[Text, Text, Text]:
    """Empty lines for `headline`: two above the squares, one below."""
    small = {"va": "top", "fontsize": 8, "color": style.MUTED}
    return (
        axes.text(MARGIN, page.height - 3, "", va="top", fontsize=11, weight="bold"),
        axes.text(MARGIN, page.height - 9, "", **small),
        axes.text(MARGIN, FOOT - 3, "", **small),
    )


def _draw_grid(axes: Axes, page: Page) -> None:
    """Squares of 1 and 5 mm between the heading and the caption; line weights in points."""
    from matplotlib.collections import LineCollection
    from matplotlib.patches import Rectangle

    x0, x1, y0, y1 = MARGIN, page.width - MARGIN, FOOT, page.height - HEAD
    sheet = Rectangle((x0, y0), x1 - x0, y1 - y0, facecolor=style.PAPER_BACK, lw=0, zorder=0)
    axes.add_patch(sheet)
    for step, colour, weight in ((1, style.PAPER_GRID_FINE, 0.4), (5, style.PAPER_GRID, 0.8)):
        xs, ys = np.arange(x0, x1 + 0.01, step), np.arange(y0, y1 + 0.01, step)
        lines = [((x, y0), (x, y1)) for x in xs] + [((x0, y), (x1, y)) for y in ys]
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=weight, zorder=1))


def _draw_pulse(axes: Axes, y: float, gain: float, speed: float) -> None:
    """1 mV for 200 ms: at standard settings 10 mm high and 5 mm wide."""
    width, x = 0.2 * speed, MARGIN + 5
    xs = np.array([x - 2.5, x, x, x + width, x + width, min(x + width + 2.5, MARGIN + PULSE_ZONE)])
    ys = y + gain * np.array([0, 0, 1, 1, 0, 0])
    axes.plot(xs, ys, color=style.TRACE, linewidth=0.9, zorder=3, gid="calibration")


def _draw_label(axes: Axes, page: Page, panel: Panel, absent: bool) -> None:
    """The lead's name at the left of its panel, and a stroke where the lead changes."""
    label = f"{panel.lead} absent" if absent else panel.lead
    colour = style.MUTED if absent else style.INK
    box = {"facecolor": "white", "alpha": 0.6, "edgecolor": "none", "pad": 0.6}
    axes.text(panel.x + 1, panel.y + 0.8 * page.gain, label, fontsize=9, weight="bold",
              color=colour, va="bottom", zorder=3, bbox=box, gid=f"name {panel.lead}")
    if panel.start > 0:
        axes.plot([panel.x] * 2, [panel.y - 2, panel.y + 2], color=style.TRACE, lw=0.9, zorder=3)


def _about(record: ECGRecord) -> str:
    """Age, sex and statements, as far as the record's `meta` knows them."""
    meta, words = record.meta, []
    if meta.get("age") is not None and np.isfinite(float(meta["age"])):
        words.append(f"{float(meta['age']):.0f} years")
    if meta.get("sex") in (0, 1):
        words.append(("male", "female")[int(meta["sex"])])
    codes = meta.get("scp_codes") or meta.get("codes")
    if codes:
        words.append(", ".join(str(code) for code in codes))
    return " · ".join(words)
