"""One patient on one page: the ECG, what the network reads of it with its attention, the predicted
risk curve with the cohort's thirds behind it, the report; and all of it again after a change.

`RiskPage` keeps what does not change and redraws the rest, fast enough to follow a slider.
Shape letters: C leads, T samples, N time tokens.

Usage:

    plot_what_if(scorer, record, Change(silent=("V6",)), report="Normal ECG")
    page = RiskPage(scorer, Reading.of(scorer, record)); page.update(change); page.png()
"""

from __future__ import annotations

import dataclasses
import functools
import textwrap

import numpy as np
import torch
from matplotlib.figure import Figure

from ecgkit.reports import paper, risk_paper, style
from ecgkit.reports.frozen import Frozen
from ecgkit.reports.watermark import mark_title, watermark
from ecgkit.tasks.risk_files import RiskReply, RiskScorer
from ecgkit.tasks.risk_whatif import Change
from ecgkit.types import ECGRecord

_SIDE_MM, _LETTERS, _DPI = 112.0, 70, 72
_THIRDS = (("lower third", ":"), ("middle third", "-."), ("upper third", "--"))
_CHANGED = style.COLOURS[1]


@style.in_style
def plot_what_if(
    scorer: RiskScorer, record: ECGRecord, change: Change | None = None, report: str = "",
    title: str = "",
) -> Figure:
    """The page of one record, as recorded or with a `change` drawn over it; for batch runs.

    Marked "simulated outcomes" where the scorer learnt from such. Raises DataError where the record
    cannot be read.
    """
    page = RiskPage(scorer, Reading.of(scorer, record), report, title)
    page.update(change or Change())
    return page.figure


@dataclasses.dataclass(frozen=True)
class Reading:
    """A record as the network reads it: input `x` (C, T), its `reply`, and `beat`, what is drawn of
    it.
    """

    record: ECGRecord
    x: torch.Tensor
    reply: RiskReply
    beat: ECGRecord

    @classmethod
    def of(cls, scorer: RiskScorer, record: ECGRecord) -> Reading:
        """Raises DataError where the record cannot be read."""
        x = scorer.input_of(record)
        beat = ECGRecord(scorer.shown(record), scorer.spec.fs, scorer.spec.leads)
        return cls(record, x, scorer.score_input(x, scorer.spec.about(record)), beat)


class RiskPage:
    """The figure of one reading, its replies `before` and `now`, and a quick `png` of it.

    `whole`: with the ECG above and its `report` beside it, as `plot_what_if` shows it; else only
    what a change moves, which then may turn to other readings of the same layout. `room`: as in
    `paper.lay_out`.
    """

    def __init__(self, scorer: RiskScorer, reading: Reading, report: str = "", title: str = "",
                 whole: bool = True, room: tuple[float, float] = paper.NO_ROOM):  # fmt: skip
        self.scorer, self.moving, self._room, self._whole = scorer, [], room, whole
        self._take(reading)
        self.year = min(5, int(self.before.years[-1])) or float(self.before.years[-1])
        self._draw(title or f"ECG {reading.record.ecg_id}", report)

    def _take(self, reading: Reading) -> None:
        self.record, self.x, self.read = reading.record, reading.x, reading.beat
        self.before = self.now = reading.reply

    def turn_to(self, reading: Reading) -> bool:
        """Shows another reading, as recorded; False where its beats need another layout."""
        if self._whole or not risk_paper.is_beat(reading.beat):
            return False
        if risk_paper.page_of(reading.beat, self._room) != self._layout:
            return False
        self._take(reading)
        for panel, line in self._recorded:
            line.set_data(*paper.points(self._layout, panel, self.read))
        self.first.set_data(self.before.years, self.before.survival)
        self.update(Change())
        return True

    def update(self, change: Change) -> RiskReply:
        """Applies a change to the record as it was read; moves curve, beat, attention, words."""
        leads, fs = self.scorer.spec.leads, self.scorer.spec.fs
        x = change.of(self.x, leads, fs)
        self.now = self.before if change.nothing else self.scorer.score_input(x)
        self.change = change
        survival = [] if change.nothing else self.now.survival
        self.curve.set_data(self.now.years if len(survival) else [], survival)
        self.words.set_text("\n".join(self.sentences()) if self._whole else "")
        millivolt = change.of(torch.tensor(self.read.signal), leads, fs).numpy()
        self._show_beat(change, millivolt)
        if self.now.time_attention is not None:
            scale = risk_paper.Excess.of(self.before.time_attention)
            shades = scale.of_lead(self.now.time_attention)
            for lead, pieces in self.meshes.items():
                for mesh, inside in pieces:
                    mesh.set_array(shades[leads.index(lead)][inside])
        return self.now

    def sentences(self) -> list[str]:
        """`said` in lines short enough for the figure."""
        return [line for text in self.said() for line in textwrap.wrap(text, _LETTERS - 8)]

    def said(self) -> list[str]:
        """Risk by the year drawn and percentile, before and after."""
        was, now = self.before, self.now
        lines = [f"Risk by year {self.year:g}: {was.risk_at(self.year):.0%}, percentile "
                 f"{was.percentile:.0f} as recorded"]  # fmt: skip
        if not self.change.nothing:
            lines += [f"Risk by year {self.year:g}: {now.risk_at(self.year):.0%}, percentile "
                      f"{now.percentile:.0f} with {self.change.words()}",
                      f"Log risk {was.log_risk:+.2f} → {now.log_risk:+.2f}"]  # fmt: skip
        return lines

    def png(self) -> bytes:
        """The figure as it is now, quickly."""
        return self._frozen.png()

    @functools.cached_property
    def _frozen(self) -> Frozen:
        return Frozen(self.figure, self.moving, _DPI)

    # --- drawn once -------------------------------------------------------------------------------

    @style.in_style
    def _draw(self, title: str, report: str) -> None:
        """Above: the ECG and its report. Below: what is read of it, the curve, the words."""
        title = mark_title(title, self.scorer.simulated)
        read = self._layout = risk_paper.page_of(self.read, self._room)
        beat = risk_paper.is_beat(self.read)  # else the strip itself is what is read
        above = risk_paper.page_of(self.record) if beat and self._whole else None
        self._size = (max(read.width, above.width if above else 0) + _SIDE_MM,
                      read.height + (above.height if above else 0))  # fmt: skip
        width, height = self._size
        self.figure, axes = style.bare_figure(width, height)
        if above:
            axes.set_position(self._box(above, read.height))
            risk_paper.draw_on(axes, above, self.record)
            risk_paper.headline(axes, above, self.record, title)
            axes = self.figure.add_axes(self._box(read, 0))
        else:
            axes.set_position(self._box(read, 0))
        self._draw_read(axes, read, "What the network reads: the median beat" if beat else title)
        left, top = width - _SIDE_MM + 2, read.height - 12
        if self._whole:
            end = self._write_report(left, height - 4, report, room=13 if beat else 6)
            top = top if beat else end - 8
        bottom = 42 if self._whole else 16
        self._draw_curve((left + 14, bottom, _SIDE_MM - 24, top - bottom))
        self.words = self._say(left, 29, "", fontsize=9)
        if self._whole:  # else a widget says it beside the picture
            note = textwrap.fill(self.before.note, _LETTERS)
            self._say(left, 2, note, va="bottom", fontsize=8, color=style.MUTED)
        if self.scorer.simulated:
            watermark(self.figure)

    def _say(self, x: float, y: float, words: str, **look):
        """Text at (x, y) mm on the figure itself."""
        width, height = self._size
        return self.figure.text(x / width, y / height, words, **{"va": "top"} | look)

    def _box(self, page: paper.Page, bottom: float) -> tuple[float, float, float, float]:
        """Where a paper stands `bottom` mm above the figure's edge, in shares of the figure."""
        width, height = self._size
        return (0, bottom / height, page.width / width, page.height / height)

    def _draw_read(self, axes, page: paper.Page, title: str) -> None:
        self._recorded = risk_paper.draw_on(axes, page, self.read)
        note = "attention painted behind the trace: bare paper is uniform or less"
        weights, self.meshes = self.before.time_attention, {}
        if weights is None:
            note = "this network has no attention over time"
        else:
            shades = risk_paper.Excess.of(weights).of_lead(weights)
            self.meshes = risk_paper.paint(axes, page, self.read, shades)
        risk_paper.headline(axes, page, self.read, title, note)
        self.traces = []
        for panel in page.panels:
            (line,) = axes.plot([], [], color=_CHANGED, linestyle="--", linewidth=1.3, zorder=6)
            x, y = page.x_of(panel, panel.stop) - 1.5, panel.top - 1.5
            tag = axes.text(x, y, "", ha="right", va="top", fontsize=8, color=_CHANGED,
                            weight="bold", zorder=6, gid=f"tag {panel.lead}")  # fmt: skip
            self.traces.append((page, panel, line, tag))
        meshes = [mesh for pieces in self.meshes.values() for mesh, _ in pieces]
        # What lies over the paint has to be drawn anew with it.
        names = [text for text in axes.texts if str(text.get_gid()).startswith(("name", "tag"))]
        self.moving += [*meshes, *sorted([*axes.lines, *names], key=lambda a: a.zorder)]

    def _show_beat(self, change: Change, millivolt: np.ndarray) -> None:
        """The changed trace over the recorded one, where it changed."""
        fs, leads = self.read.fs, self.read.leads
        for page, panel, line, tag in self.traces:
            lead = panel.lead
            silent, factor = lead in change.silent, change.factor if lead in change.scaled else 1
            changed = silent or factor != 1 or change.shift_ms
            first, last = round(panel.start * fs), round(panel.stop * fs)
            y = page.y_of(panel, millivolt[leads.index(lead), first:last]) if changed else []
            y = np.clip(y, panel.top - panel.height, panel.top)
            line.set_data(page.x_of(panel, np.arange(first, last) / fs) if changed else [], y)
            tag.set_text("silent" if silent else f"× {factor:g}" if factor != 1 else "")

    def _write_report(self, left: float, y: float, report: str, room: int) -> float:
        """At most `room` lines of the report below `y`; returns where they end, in mm."""
        self._say(left, y, "Structured report", fontsize=10, weight="bold")
        lines = [part for line in report.splitlines() for part in textwrap.wrap(
            line, _LETTERS, subsequent_indent="   ")] or ["(none given)"]  # fmt: skip
        if len(lines) > room:
            lines = [*lines[: room - 1], f"and {len(lines) - room + 1} lines more"]
        self._say(left, y - 5.5, "\n".join(lines), fontsize=8, linespacing=1.3)
        return y - 5.5 - 3.7 * len(lines)

    def _draw_curve(self, box: tuple[float, float, float, float]) -> None:
        """Predicted event-free probability: thirds of the training patients, before, now."""
        (left, bottom, wide, tall), (width, height) = box, self._size
        ax = self.figure.add_axes((left / width, bottom / height, wide / width, tall / height))
        years = self.before.years
        free = 2.0  # labels keep apart where the curves end close together
        for (name, dash), curve in zip(_THIRDS, self.scorer.curve.thirds(years), strict=True):
            ax.plot(years, curve, color=style.MUTED, linestyle=dash, linewidth=1.1)
            free = min(float(curve[-1]), free - 0.07)
            ax.annotate(name, (years[-1], free), xytext=(-2, -2), textcoords="offset points",
                        ha="right", va="top", fontsize=7.5, color=style.MUTED)  # fmt: skip
        (self.first,) = ax.plot(years, self.before.survival, color=style.INK, linewidth=1.8,
                                label="as recorded")  # fmt: skip
        (self.curve,) = ax.plot([], [], color=_CHANGED, linestyle=(0, (4, 1.5)), linewidth=2.2,
                                label="changed")  # fmt: skip
        ax.axvline(self.year, color=style.MUTED, linewidth=0.6)
        ax.set(xlim=(0, years[-1]), ylim=(0, 1.01), xlabel="Years",
               ylabel=f"Free of {self.scorer.about['outcome']}")  # fmt: skip
        ax.set_title(mark_title("Predicted risk", self.scorer.simulated), fontsize=10)
        ax.legend(loc="lower left", fontsize=8, title="grey: thirds of training patients",
                  title_fontsize=7.5, alignment="left")  # fmt: skip
        ax.grid(axis="y")
        self.moving += [self.first, self.curve]
