"""One look for every figure: palette, fonts, paper colours, and no doubled figures in notebooks.

Usage:

    from ecgkit.reports import style
    style.use_style()                      # once, in a notebook's set-up cell
    fig, axes = style.new_figure(1, 2)     # pyplot does not know it: shown once, never leaks
"""

from __future__ import annotations

import functools
import io
import sys

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter
from PIL import Image

# Okabe and Ito (2008): eight colours that stay apart for the common kinds of colour blindness.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#a6a600")
PAPER_GRID, PAPER_GRID_FINE, PAPER_BACK, TRACE = "#f4aaaa", "#fadcdc", "#fffafa", "#000000"
ATTENTION = "cividis"
# Class of an HTML element in which MathJax leaves dollars alone (version 2 and later ones).
NO_FORMULAS = "tex2jax_ignore mathjax_ignore"
MUTED, INK = "#6b6b6b", "#1a1a1a"
PALETTE_FROM = 60_000  # bytes

RC = {
    "axes.prop_cycle": "cycler('color', ['" + "', '".join(COLOURS) + "'])",
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": MUTED,
    "axes.titlesize": 11, "axes.titlelocation": "left", "axes.titleweight": "bold",
    "axes.labelsize": 10, "axes.grid": False, "axes.axisbelow": True,
    "grid.color": "#dddddd", "grid.linewidth": 0.6,
    "xtick.labelsize": 9, "ytick.labelsize": 9, "legend.fontsize": 9, "legend.frameon": False,
    "font.family": "sans-serif", "font.size": 10, "figure.facecolor": "white",
    "savefig.facecolor": "white", "figure.dpi": 100, "figure.max_open_warning": 0,
    "lines.linewidth": 1.6, "image.cmap": ATTENTION,
}


def use_style() -> None:
    """Applies the style sheet, and lets a notebook show a figure only where a cell ends with it.

    The inline backend would draw every open pyplot figure again at the end of the cell; that hook
    is taken out, and one that closes them is put in its place. Plain Python gets the sheet only.
    """
    import matplotlib.pyplot as plt
    import pandas as pd

    plt.rcParams.update(RC)
    pd.set_option("display.html.use_mathjax", False)  # dollars in a report are no formula
    _teach_notebook()
    shell = _notebook_shell()
    if shell is None or not _is_static(plt.get_backend()):
        return
    from matplotlib_inline.backend_inline import flush_figures

    for hook in (flush_figures, _close_figures):
        try:
            shell.events.unregister("post_execute", hook)
        except ValueError:
            pass  # it was not registered: the first call, or another front end
    shell.events.register("post_execute", _close_figures)


def new_figure(rows: int = 1, columns: int = 1, size: tuple[float, float] | None = None, **kwargs):
    """Returns (Figure, axes) like `plt.subplots`, with size in inches, but unknown to pyplot."""
    _teach_notebook()
    figure = Figure(figsize=size or (4.6 * columns, 3.4 * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, **kwargs)


def in_style(function):
    """Decorator: the style sheet holds while a plot function runs, whoever calls it.

    Text is drawn as it stands: a report or an answer may hold dollars, between which matplotlib
    would read mathematics and end the figure at a command it does not know.
    """

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        with matplotlib.rc_context({**RC, "text.parse_math": False}):
            result = function(*args, **kwargs)
        if isinstance(result, Figure):
            _let_powers_be_read(result)
        return result

    return wrapped


def _let_powers_be_read(figure: Figure) -> None:
    """The labels of a logarithmic axis are matplotlib's own formulas."""
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        for which, formatter in (("major", axis.get_major_formatter()),
                                 ("minor", axis.get_minor_formatter())):  # fmt: skip
            if isinstance(formatter, LogFormatter):
                for label in axis.get_ticklabels(which=which):
                    label.set_parse_math(True)


def bare_figure(width_mm: float, height_mm: float) -> tuple[Figure, Axes]:
    """A figure of exactly this size; its one frameless axes has millimetres as data units."""
    _teach_notebook()
    figure = Figure(figsize=(width_mm / 25.4, height_mm / 25.4), dpi=100, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width_mm), ylim=(0, height_mm))
    axes.set_axis_off()
    return figure, axes


def mark_simulated(text: str, simulated: bool | None) -> str:
    """Adds '(simulated data)' to a title or caption where it applies and is not said yet."""
    if not simulated or "simulated" in text.lower():
        return text
    return f"{text} (simulated data)".strip()


@functools.cache
def _teach_notebook() -> None:
    """A kernel learns to show a Figure, whatever its backend (a batch job may say Agg)."""
    shell = _notebook_shell()
    if shell is None:
        return
    from IPython.core.pylabtools import select_figure_formats

    if _is_static(matplotlib.get_backend()):
        import matplotlib_inline.backend_inline  # noqa: F401, teaches the kernel by itself
    known = [f.type_printers for f in shell.display_formatter.formatters.values()]
    if not any(Figure in printers for printers in known):
        select_figure_formats(shell, {"png"}, bbox_inches="tight")
    shell.display_formatter.formatters["image/png"].for_type(Figure, small_png)


def small_png(figure: Figure) -> bytes:
    """The figure as a notebook keeps it. A large picture, such as a page of ECG paper, gets a
    palette of 256 colours, which makes it three times smaller. One that `runs.Run.figure` has saved
    is not drawn again.
    """
    buffer = io.BytesIO()
    if saved := getattr(figure, "drawn_png", b""):
        buffer.write(saved)
    else:
        figure.savefig(buffer, format="png", bbox_inches="tight")
    if buffer.tell() < PALETTE_FROM:
        return buffer.getvalue()
    whole = Image.open(buffer).convert("RGB")
    small = io.BytesIO()
    # Not median cut: it gives rare colours away, such as the upper end of a colour bar.
    method, dither = Image.Quantize.MAXCOVERAGE, Image.Dither.NONE
    whole.quantize(256, method, dither=dither).save(small, "png")
    return small.getvalue()


def _notebook_shell():
    if "ipykernel" not in sys.modules:
        return None
    from IPython import get_ipython

    return get_ipython()


def _is_static(backend: str) -> bool:
    """Inline or Agg: no window of its own that a figure left open could be looked at in."""
    return "inline" in backend or backend.lower() == "agg"


def _close_figures() -> None:
    import matplotlib.pyplot as plt

    plt.close("all")
