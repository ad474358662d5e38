"""What the risk network reads: attention over leads and over time, between groups, and what is left
when it is silenced.

None of these explains a risk; `plot_deletion` shows how far attention and risk go together.
Shape letters: n patients, C leads, T samples, N time tokens per lead.

Usage:

    plot_lead_attention(seen.lead.mean(0), simulated=True)
    plot_group_difference(group_difference(seen.lead, event), simulated=True)
    plot_beat_attention(beat, fs, seen.time[0], "Highest risk", simulated=True)
    plot_deletion(deletion_check(network, x), simulated=True)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ecgkit.reports import paper, risk_paper, style
from ecgkit.reports.watermark import finish, mark_title, watermark
from ecgkit.tasks.risk_look import Deletion, GroupDifference
from ecgkit.types import LEADS, DataError, ECGRecord

_BAR_MM = 24.0


@style.in_style
def plot_lead_attention(
    weights: np.ndarray, title: str = "Lead attention", leads: Sequence[str] = LEADS,
    simulated: bool = False,
) -> Figure:
    """(C, C) mean attention over leads: row = the lead that asks, column = the lead it reads.

    Each row sums to 1; 1/C would be attention to all leads alike. Cells carry per cent.
    """
    figure, ax = style.new_figure(size=(6.4, 5.4))
    image = ax.imshow(weights, cmap="cividis", vmin=0)
    _name_leads(ax, leads)
    middle = float(np.nanmax(weights)) / 2
    for (row, column), value in np.ndenumerate(weights):
        colour = "white" if value < middle else "black"
        ax.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=7,
                color=colour)
    bar = figure.colorbar(image, ax=ax)
    bar.set_label(f"Attention weight (cells: per cent; uniform = {100 / len(leads):.1f} %)")
    return finish(figure, title, simulated)


def _name_leads(ax, leads: Sequence[str]) -> None:
    ticks = np.arange(len(leads))
    ax.set(xticks=ticks, yticks=ticks, xticklabels=leads, yticklabels=leads)
    ax.set(xlabel="Lead attended to (key)", ylabel="Lead that attends (query)")
    ax.tick_params(axis="x", rotation=45)


@style.in_style
def plot_group_difference(
    difference: GroupDifference, groups: tuple[str, str] = ("events", "no event"), title: str = "",
    leads: Sequence[str] = LEADS, simulated: bool = False,
) -> Figure:
    """Difference of mean attention (C, C) in percentage points, and half the width of its 95 %
    interval beside it.

    Dashed outline: the interval leaves out 0. Thick: still so at a false discovery rate of 5 %.
    Raises DataError for a difference that is not one of leads.
    """
    if difference.mean.shape != (len(leads), len(leads)):
        raise DataError(
            f"The difference has shape {difference.mean.shape}; give that of lead attention, "
            f"({len(leads)}, {len(leads)})."
        )
    figure, (ax, beside) = style.new_figure(1, 2, size=(11.4, 5.6))
    top = 100 * max(float(np.abs(difference.mean).max()), 1e-6)
    image = ax.imshow(100 * difference.mean, cmap="PuOr_r", vmin=-top, vmax=top)
    figure.colorbar(image, ax=ax, shrink=0.8, label="Difference (percentage points)")
    half = 50 * (difference.high - difference.low)
    image = beside.imshow(half, cmap="cividis", vmin=0)
    figure.colorbar(image, ax=beside, shrink=0.8, label="Half the 95 % interval (points)")
    for axes in (ax, beside):
        _name_leads(axes, leads)
    _outline(ax, difference)
    ax.set_title(f"{groups[0]} minus {groups[1]}", fontsize=10)
    beside.set_title("Uncertainty", fontsize=10)
    words = difference.note.split("; ")
    figure.supxlabel(f"{words[0]}; {words[1]}\n{words[2]}. Dashed: leaves out 0; thick: remains.",
                     fontsize=9, color=style.MUTED)  # fmt: skip
    return finish(figure, title or "Lead attention by outcome", simulated)


def _outline(ax, difference: GroupDifference) -> None:
    """Thin and dashed: apart from 0; thick: held. The signed value stands in both, since the two
    ends of the colours are equally dark."""
    points = 100 * difference.mean
    dark = 0.55 * np.abs(points).max()
    for row, column in np.argwhere(difference.apart | difference.held):
        held = bool(difference.held[row, column])
        look = {"linewidth": 2.2} if held else {"linewidth": 1.0, "linestyle": "--"}
        box = Rectangle((column - 0.45, row - 0.45), 0.9, 0.9, fill=False, edgecolor=style.INK,
                        gid="held" if held else "apart", **look)  # fmt: skip
        ax.add_patch(box)
        value = points[row, column]
        words = f"{value:+.0f}" if abs(value) >= 0.5 else "+" if value > 0 else "−"
        ax.text(column, row, words, ha="center", va="center", fontsize=7,
                color="white" if abs(value) > dark else "black")  # fmt: skip


@style.in_style
def plot_beat_attention(
    beat: np.ndarray, fs: float, weights: np.ndarray, title: str, leads: Sequence[str] = LEADS,
    simulated: bool = False, lead_weights: np.ndarray | None = None,
) -> Figure:
    """What the network reads, (C, T) in mV (a median beat or a strip), on ECG paper with attention
    over time (C, N) behind each lead; rows of `weights` sum to 1.

    Bare paper is uniform attention (1/N) or less, full colour the largest weight (at least twice
    uniform), one scale for all leads. `lead_weights` (C,) sum to 1: how much each lead is read,
    written beside its name. NaN samples are gaps. Raises DataError for shapes that do not fit.
    """
    _check_shapes(beat, weights, leads)
    record = ECGRecord(np.asarray(beat), fs, tuple(leads))
    page, scale = risk_paper.page_of(record), risk_paper.Excess.of(weights)
    width = page.width + _BAR_MM
    figure, axes = style.bare_figure(width, page.height)
    risk_paper.draw_on(axes, page, record)
    axes.set_xlim(0, width)
    risk_paper.paint(axes, page, record, scale.of_lead(weights))
    note = "attention: mean of heads and of the tokens that ask; bare paper: uniform or less"
    if lead_weights is not None:
        _write_lead_weights(axes, page, leads, lead_weights)
        note += "; × at a lead: how much the lead is read, times uniform"
    risk_paper.headline(axes, page, record, mark_title(title, simulated), note)
    middle, tall = page.height / 2, 50.0
    box = ((page.width + 3) / width, (middle - tall / 2) / page.height, 4 / width,
           tall / page.height)  # fmt: skip
    risk_paper.colour_bar(figure, box, scale)
    return watermark(figure) if simulated else figure


def _check_shapes(beat: np.ndarray, weights: np.ndarray, leads: Sequence[str]) -> None:
    beat, weights = np.shape(beat), np.shape(weights)
    if len(beat) != 2 or len(weights) != 2 or not beat[0] == weights[0] == len(leads):
        raise DataError(
            f"A beat of shape {beat} and weights of shape {weights} do not fit {len(leads)} leads; "
            "give (leads, samples) and (leads, tokens)."
        )


def _write_lead_weights(axes, page: paper.Page, leads, lead_weights: np.ndarray) -> None:
    """`×1.3` at the right upper corner of each lead's panel."""
    for panel in page.panels:
        if panel.lead in leads:
            times = lead_weights[list(leads).index(panel.lead)] * len(leads)
            x = page.x_of(panel, panel.stop) - 1.5
            axes.text(x, panel.top - 1.5, f"×{times:.1f}", ha="right", va="top", fontsize=8,
                      color=style.INK, zorder=5)  # fmt: skip


@style.in_style
def plot_deletion(check: Deletion, title: str = "", simulated: bool = False) -> Figure:
    """Mean change of log risk by what was silenced, with 95 % intervals over patients, and how much
    more than random each rule moves it (paired)."""
    table = check.table.iloc[::-1]
    what = "of lead × time tokens" if check.by == "time" else "of the leads"
    figure, (ax, beside) = style.new_figure(1, 2, size=(10.4, 3.4), sharey=True)
    y = np.arange(len(table))
    for axes, (value, low, high) in (
        (ax, ("change", "low", "high")), (beside, ("gap", "gap_low", "gap_high")),
    ):  # fmt: skip
        v = table[value].to_numpy()
        error = np.maximum([v - table[low], table[high] - v], 0)
        axes.errorbar(v, y, xerr=error, fmt="o", color=style.COLOURS[0], capsize=3)
        for row, name, number, end in zip(y, table["silenced"], v, table[high], strict=True):
            words = f"{number:+.3f}" if value == "gap" else f"{number:.3f}"
            words = "reference" if value == "gap" and name == "random" else words
            axes.annotate(words, (end, row), xytext=(7, 0), textcoords="offset points",
                          va="center", fontsize=9)
        axes.margins(x=0.22, y=0.18)
        axes.grid(axis="x")
    ax.set(yticks=y, yticklabels=table["silenced"], xlabel="Mean |change| of log risk")
    ax.set_xlim(left=0)
    beside.axvline(0, color=style.MUTED, linestyle="--", linewidth=1)
    beside.set_xlabel("More than random (paired, 95 % interval)")
    scale = f"Spread of log risk over patients: {check.spread:.2f}. Random: {check.n_random} draws."
    figure.supxlabel(f"{check.words}\n{scale}", fontsize=9, color=style.MUTED)
    return finish(figure, title or f"Silencing {check.share:.0%} {what}", simulated)
