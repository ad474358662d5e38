"""ECG paper for what the risk network reads: one beat per lead, with attention painted on it.

The squares are those of `paper.py`, 1 mm and 5 mm; a beat runs at 50 mm/s, a strip at 25 mm/s, as
the caption says. Shape letters: C leads, T samples, N time tokens per lead.

Usage:

    page = page_of(record)                       # a beat, or a strip of 2.5 s or more
    draw_on(axes, page, record)
    scale = Excess.of(weights)                   # (C, N) rows sum to 1
    meshes = paint(axes, page, record, scale.of_lead(weights))
"""

from __future__ import annotations

import dataclasses

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ecgkit.reports import paper, style
from ecgkit.types import ECGRecord

BEAT_SPEED, GAIN = 50.0, 10.0  # mm/s, mm/mV
_SHORT = 3.0  # seconds; what is shorter is one beat
_LEAST_TOP = 2.0  # of the scale, times uniform: attention that is nearly even stays pale


def is_beat(record: ECGRecord) -> bool:
    """Whether the record is one beat rather than a strip."""
    return record.duration_s < _SHORT


def page_of(record: ECGRecord, room: tuple[float, float] = paper.NO_ROOM) -> paper.Page:
    """3 x 4 leads, each with its whole beat; a strip gets `paper.lay_out`'s page. `room` as there.
    """
    if not is_beat(record):
        return paper.lay_out(record, room=room)
    wide = record.duration_s * BEAT_SPEED
    heights = [paper._row_height(record, row, GAIN, room) for row in paper.GRID_3X4]
    left, height = paper.MARGIN + paper.PULSE_ZONE, paper.HEAD + paper.FOOT + sum(heights)
    top, panels, rows = height - paper.HEAD, [], []
    for row, tall in zip(paper.GRID_3X4, heights, strict=True):
        y = top - paper._above(record, row, GAIN, room)
        panels += [
            paper.Panel(lead, 0.0, record.duration_s, left + i * wide, y, top, tall)
            for i, lead in enumerate(row)
        ]
        rows.append(y)
        top -= tall
    width = left + 5 * np.ceil(4 * wide / 5) + paper.MARGIN
    return paper.Page(width, height, GAIN, BEAT_SPEED, tuple(panels), tuple(rows))


def draw_on(axes: Axes, page: paper.Page, record: ECGRecord) -> list[tuple[paper.Panel, Line2D]]:
    """Squares, calibration pulses and traces, in mm; the axes' frame goes. Returns the traces."""
    axes.set(xlim=(0, page.width), ylim=(0, page.height))
    axes.set_axis_off()
    paper.draw_paper(axes, page, record.leads)
    traces = []
    for panel in page.panels:
        if panel.lead in record.leads:
            traces.append((panel, paper.draw_trace(axes, panel)))
            traces[-1][1].set_data(*paper.points(page, panel, record))
        if is_beat(record) and panel.x > page.panels[0].x:  # beats stand beside each other
            x, ends = panel.x, (panel.top - panel.height, panel.top)
            axes.plot([x, x], ends, color=style.MUTED, linewidth=0.6, linestyle=":", zorder=3)
    return traces


def headline(axes: Axes, page: paper.Page, record: ECGRecord, title: str, note: str = "") -> None:
    """Title over the paper, and below it speed, gain, rate and `note`."""
    small = {"va": "top", "fontsize": 8, "color": style.MUTED}
    axes.text(paper.MARGIN, page.height - 3, title, va="top", fontsize=11, weight="bold")
    about = paper.caption(record, page.gain, page.speed)
    axes.text(paper.MARGIN, paper.FOOT - 2, f"{about}\n{note}" if note else about, **small)


# --- attention ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Excess:
    """How weights become paint: bare paper is uniform or less, full colour `top` times uniform."""

    top: float

    @classmethod
    def of(cls, weights: np.ndarray) -> Excess:
        """The scale of (C, N) weights whose rows sum to 1."""
        return cls(max(_LEAST_TOP, float(np.nanmax(weights)) * weights.shape[-1]))

    def of_lead(self, weights: np.ndarray) -> np.ndarray:
        """(C, N) weights -> (C, N) in 0..1."""
        return np.clip((weights * weights.shape[-1] - 1) / (self.top - 1), 0, 1)


def see_through() -> ListedColormap:
    """Cividis, clear at 0 and nearly opaque at 1."""
    colours = matplotlib.colormaps[style.ATTENTION](np.linspace(0.25, 1, 256))
    colours[:, 3] = np.linspace(0, 0.9, 256)
    return ListedColormap(colours)


def paint(
    axes: Axes, page: paper.Page, record: ECGRecord, shades: np.ndarray
) -> dict[str, list]:
    """Puts (C, N) shades 0..1, a row per lead of the record, behind the traces.

    N tokens of equal length cover the record; a panel shows its own part. Returns {lead: [(mesh,
    which tokens (N,) it shows)]}, so that it can be shaded anew.
    """
    edges, meshes = np.linspace(0, record.duration_s, shades.shape[1] + 1), {}
    for panel in page.panels:
        inside = (edges[1:] > panel.start + 1e-9) & (edges[:-1] < panel.stop - 1e-9)
        if panel.lead not in record.leads or not inside.any():
            continue
        at = np.append(edges[:-1][inside], edges[1:][inside][-1])
        x = page.x_of(panel, np.clip(at, panel.start, panel.stop))
        rows = [panel.top - panel.height + 0.5, panel.top - 0.5]
        shade = shades[record.leads.index(panel.lead)][inside][None]
        mesh = axes.pcolormesh(
            x, rows, shade, cmap=see_through(), vmin=0, vmax=1, zorder=2,
            gid=f"attention {panel.lead}",
        )
        meshes.setdefault(panel.lead, []).append((mesh, inside))
    return meshes


def colour_bar(figure: Figure, box: tuple[float, float, float, float], scale: Excess) -> None:
    """Bar at `box` (left, bottom, width, height as shares of the figure), on the paper's colour."""
    axes = figure.add_axes(box, facecolor=style.PAPER_BACK)
    bar = figure.colorbar(ScalarMappable(Normalize(1, scale.top), see_through()), cax=axes)
    bar.set_label("attention, times uniform", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_linewidth(0.5)
