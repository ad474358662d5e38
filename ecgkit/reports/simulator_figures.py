"""The simulator to look at: every statement it draws on ECG paper, its criterion above it.

Usage:

    plot_gallery(CONDUCTION, seed=1)        # one strip per code, three telling leads each
"""

from __future__ import annotations

import math
import textwrap

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ecgkit.data.scp_table import scp_statements
from ecgkit.data.synthetic import simulate
from ecgkit.data.synthetic.criteria import CRITERIA
from ecgkit.reports import style

RHYTHM = (
    *("SR", "SBRAD", "STACH", "SARRH", "AFIB", "AFLT", "SVTAC", "PSVT", "SVARR", "PACE"),
    *("2AVB", "3AVB", "PVC", "PAC", "PRC(S)", "BIGU", "TRIGU"),
)
CONDUCTION = (
    *("1AVB", "LPR", "CLBBB", "CRBBB", "ILBBB", "IRBBB", "LAFB", "LPFB", "IVCD", "WPW"),
    *("LVH", "VCLVH", "SEHYP", "RVH", "LAO/LAE", "RAO/RAE", "HVOLT", "LVOLT"),
)
INFARCTION = (
    *("IMI", "ILMI", "IPMI", "IPLMI", "LMI", "PMI", "ASMI", "AMI", "ALMI"),
    *("QWAVE", "ABQRS", "ANEUR", "INJAS", "INJAL", "INJIN", "INJLA", "INJIL"),
)
REPOLARISATION = (
    *("NORM", "STD_", "STE_", "NST_", "NDT", "NT_", "TAB_", "LOWT", "INVT", "LNGQT", "DIG", "EL"),
    *("ISC_", "ISCAL", "ISCIN", "ISCIL", "ISCAS", "ISCLA", "ISCAN"),
)
# The three leads in which each code is told best; II alone, longer, where time tells.
_LEADS = {
    ("I", "V1", "V6"): "CLBBB CRBBB ILBBB IRBBB IVCD WPW RVH",
    ("I", "II", "aVF"): "LAFB LPFB",
    ("II", "III", "aVF"): "IMI ISCIN INJIN QWAVE",
    ("III", "aVF", "V6"): "ILMI ISCIL INJIL IPLMI",
    ("III", "aVF", "V2"): "IPMI",
    ("V1", "V2", "V3"): "ASMI ISCAS INJAS PMI",
    ("V2", "V3", "V4"): "AMI ISCAN STE_ ANEUR ABQRS EL",
    ("aVL", "V3", "V5"): "ALMI ISCAL INJAL",
    ("I", "aVL", "V6"): "LMI ISCLA INJLA",
    ("V1", "V5", "aVL"): "LVH VCLVH HVOLT SEHYP",
    ("I", "II", "V2"): "LVOLT",
    ("II", "V1", "V2"): "LAO/LAE RAO/RAE",
}
LEADS_OF = {code: leads for leads, codes in _LEADS.items() for code in codes.split()}
_USUAL, SECONDS = ("II", "V2", "V5"), 7.5
_MM_S, _MM_MV, _HEAD, _GAP, _WIDTH = 25.0, 10.0, 15.0, 6.0, 187.5


@style.in_style
def plot_gallery(codes, seed: int = 1, columns: int = 2) -> Figure:
    """One strip of 7.5 s on ECG paper (25 mm/s, 10 mm/mV) per code, its criterion above it.

    Three leads of 2.5 s each, those in which the code is told best; lead II alone for rhythms. The
    ECGs are made by `simulate(code, fs=500, seed=seed)`. Raises ConfigError for an unknown code.
    """
    strips = [_Strip(code, seed) for code in codes]
    rows = [strips[i : i + columns] for i in range(0, len(strips), columns)]
    heights = [_HEAD + max(strip.height for strip in row) for row in rows]
    width = columns * (_WIDTH + _GAP) + _GAP
    figure, axes = style.bare_figure(width, sum(heights) + 12)
    top = sum(heights) + 12
    title = "Simulated ECGs, one per statement · 25 mm/s · 10 mm/mV · 500 Hz"
    axes.text(_GAP, top - 3, title, va="top", fontsize=11, weight="bold")
    top -= 10
    for row, height in zip(rows, heights):
        for i, strip in enumerate(row):
            strip.draw(axes, _GAP + i * (_WIDTH + _GAP), top)
        top -= height
    return figure


class _Strip:
    """One code: which leads, how high, and how it is drawn."""

    def __init__(self, code: str, seed: int):
        self.code = code
        self.record = simulate(code, fs=500, seconds=SECONDS, seed=seed)
        self.leads = ("II",) if code in RHYTHM else LEADS_OF.get(code, _USUAL)
        low = min(self._piece(i)[1].min() for i in range(len(self.leads)))
        high = max(self._piece(i)[1].max() for i in range(len(self.leads)))
        self.above = 5 * math.ceil(min(max(high, 0.9), 3.0) * _MM_MV / 5)
        self.height = self.above + 5 * math.ceil(min(max(-low, 0.4), 3.0) * _MM_MV / 5)

    def _piece(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Times (s) and mV of the i-th lead's share of the strip."""
        fs, share = self.record.fs, SECONDS / len(self.leads)
        first, last = round(i * share * fs), round((i + 1) * share * fs)
        lead = self.record.leads.index(self.leads[i])
        mv = self.record.signal[lead, first:last]
        return np.arange(first, last) / fs, mv - np.median(mv)

    def draw(self, axes, x: float, top: float) -> None:
        """Heading, paper and traces with the upper left corner at (x, top) mm."""
        words = scp_statements()["description"].get(self.code, "")
        axes.text(x, top - 2, f"{self.code}  {words}", va="top", fontsize=9, weight="bold")
        rule = textwrap.shorten(CRITERIA[self.code].text, 120, placeholder=" ...")
        axes.text(x, top - 7, rule, va="top", fontsize=7.5, color=style.MUTED)
        _paper(axes, x, top - _HEAD + 2, self.height)
        zero = top - _HEAD + 2 - self.above
        for i, lead in enumerate(self.leads):
            seconds, mv = self._piece(i)
            axes.plot(x + seconds * _MM_S, zero + mv.clip(-3, 3) * _MM_MV, color=style.TRACE,
                      linewidth=0.8, zorder=4)  # fmt: skip
            axes.text(x + seconds[0] * _MM_S + 1, zero + self.above - 4, lead, fontsize=8,
                      weight="bold", zorder=5)  # fmt: skip


def _paper(axes, x: float, top: float, height: float) -> None:
    sheet = Rectangle((x, top - height), _WIDTH, height, facecolor=style.PAPER_BACK, lw=0, zorder=0)
    axes.add_patch(sheet)
    for step, colour, weight in ((1, style.PAPER_GRID_FINE, 0.3), (5, style.PAPER_GRID, 0.6)):
        xs = x + np.arange(0, _WIDTH + 0.01, step)
        ys = top - np.arange(0, height + 0.01, step)
        lines = [((a, top), (a, top - height)) for a in xs]
        lines += [((x, b), (x + _WIDTH, b)) for b in ys]
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=weight, zorder=1))
