"""The reports nearest to an ECG in the space where codes and reports were aligned.

Usage:

    plot_nearest_reports(cohort.record(row), search.by_ecg(i, 5), own=search.read(i))
"""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ecgkit.reports import paper, style
from ecgkit.reports.watermark import mark_title, watermark
from ecgkit.types import DataError, ECGRecord

_SIDE_MM, _LETTERS, _MOST_LINES = 120.0, 84, 4
_LINE_MM, _GAP_MM = 3.6, 5.0


@style.in_style
def plot_nearest_reports(
    record: ECGRecord, nearest: pd.DataFrame, title: str = "", own: str = "",
    simulated: bool = False, text: str = "",
) -> Figure:
    """The query ECG on paper; beside it its own report (`own`) and the reports nearest to it, best
    first: place, cosine as number and bar, text, and whether it is the ECG's own.

    nearest: a table of `ReportSearch.by_ecg`; `text` is the column shown, by default "report" where
    it is there, else "codes". Rows that do not fit the page are counted. Raises DataError without
    those columns or rows.
    """
    text = text or ("report" if "report" in nearest else "codes")
    missing = [column for column in ("similarity", text) if column not in nearest]
    if missing or nearest.empty:
        what = f"no column {', '.join(missing)}" if missing else "no row"
        raise DataError(
            f"The table of nearest reports has {what}; it holds {', '.join(map(str, nearest))}."
        )
    figure, axes, page = paper.draw_page(record, mark_title(title, simulated), right=_SIDE_MM)
    axes.set_xlim(0, page.width + _SIDE_MM)
    left, y = page.width + 2, page.height - 4
    if own:
        y = _block(axes, left, y, "Its own report", own, None)
    shown = 0
    for rank, line in enumerate(nearest.to_dict("records"), start=1):
        tall = _LINE_MM * len(_lines(line[text])) + _LINE_MM + _GAP_MM
        if y - tall < paper.FOOT:
            break
        score = float(line["similarity"])
        whose = ", its own" if line.get("own") else ""
        head = f"{line.get('place', rank)}. cosine {score:.2f}{whose}"
        y = _block(axes, left, y, head, line[text], score)
        shown += 1
    if shown < len(nearest):
        axes.text(left, y, f"and {len(nearest) - shown} more", va="top", fontsize=8,
                  color=style.MUTED)  # fmt: skip
    return watermark(figure) if simulated else figure


def _lines(report: str) -> list[str]:
    lines = [part for line in str(report).splitlines() for part in textwrap.wrap(line, _LETTERS)]
    return lines[: _MOST_LINES - 1] + ["..."] if len(lines) > _MOST_LINES else lines or ["(empty)"]


def _block(axes, left: float, y: float, head: str, report: str, cosine: float | None) -> float:
    """Writes one report below y mm and returns where the next one starts."""
    axes.text(left, y, head, va="top", fontsize=9, weight="bold")
    if cosine is not None:
        x, wide = left + 62, 46.0
        tall, middle = 2.4, y - 1.8
        axes.barh([middle], [wide], tall, left=x, color="#ececec")
        filled = wide * float(np.clip(cosine, 0, 1))
        axes.barh([middle], [filled], tall, left=x, color=style.COLOURS[0], gid="cosine")
    lines = _lines(report)
    axes.text(left, y - _LINE_MM - 0.6, "\n".join(lines), va="top", fontsize=7.5, linespacing=1.25)
    return y - _LINE_MM * (len(lines) + 1) - _GAP_MM
