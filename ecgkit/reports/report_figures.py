"""Figures of the replication report about itself: what matched, what is measured, what it took.

Usage:

    plot_status(summary), plot_effects(counts), plot_margins(certificate), plot_times(run)
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ecgkit.reports import style
from ecgkit.reports.discrepancies_table import BEFORE, HERE, NOT_YET
from ecgkit.reports.ledger_files import NOTEBOOKS, REPORT, RunFiles

_STATUS = ("Results match", "Sizes, counts match", "Settings match", "Differs", "Not run here",
           "Context")  # fmt: skip
_LOOKS = (style.COLOURS[2], style.COLOURS[5], style.COLOURS[0], style.COLOURS[1], "#c9c9c9",
          "#ececec")  # fmt: skip
_HATCH = ("", "//", "", "xx", "", "..")


@style.in_style
def plot_status(summary: pd.DataFrame) -> Figure:
    """Published numbers by system and status, as shares of the system's rows (counts inside)."""
    rows = summary.iloc[::-1].reset_index(drop=True)
    figure, ax = style.new_figure(size=(7.6, 1.7 + 0.36 * len(rows)))
    total = rows["Numbers"].clip(lower=1).to_numpy(float)
    _stack(ax, rows, _STATUS, _LOOKS, _HATCH, total)
    ax.set(xlabel="share of the system's published numbers", xlim=(0, 1))
    ax.set_title("What stands behind the published numbers", pad=42)
    ax.legend(loc="lower left", bbox_to_anchor=(-0.1, 1), ncols=3)
    return figure


@style.in_style
def plot_effects(counts: pd.DataFrame) -> Figure:
    """Disagreements by system, and how their effects are known."""
    rows = counts[counts["System"] != "All"].iloc[::-1].reset_index(drop=True)
    figure, ax = style.new_figure(size=(7.2, 1.5 + 0.4 * len(rows)))
    looks = (style.COLOURS[2], style.COLOURS[0], "#d9d9d9")
    _stack(ax, rows, (HERE, BEFORE, NOT_YET), looks, ("xx", "", ".."), np.ones(len(rows)))
    ax.set(xlabel="places where paper and code disagree, or one is silent")
    ax.set_title("Is the effect known?", pad=26)
    ax.legend(loc="lower left", bbox_to_anchor=(-0.12, 1), ncols=3)
    return figure


def _stack(ax, rows: pd.DataFrame, columns, looks, hatches, total: np.ndarray) -> None:
    """Stacked horizontal bars of `columns` over `total`, each count written where it fits."""
    left, y = np.zeros(len(rows)), np.arange(len(rows))
    widest = max((rows[list(columns)].sum(axis=1) / total).max(), 1e-9)
    for column, colour, hatch in zip(columns, looks, hatches, strict=True):
        share = rows[column].to_numpy(float) / total
        ax.barh(y, share, left=left, color=colour, hatch=hatch, edgecolor="white", label=column)
        for row, (start, width, n) in enumerate(zip(left, share, rows[column])):
            if width > 0.045 * widest:
                box = {"facecolor": "white", "alpha": 0.8, "pad": 1, "linewidth": 0}
                ax.text(start + width / 2, row, str(n), ha="center", va="center", fontsize=8,
                        bbox=box)
        left = left + share
    ax.set(yticks=y, yticklabels=rows["System"])


@style.in_style
def plot_margins(certificate: dict) -> Figure | None:
    """Worst difference of each golden file as a share of its tolerance, log axis; None without."""
    some = [one for one in certificate["fixtures"] if one["margin"] is not None][::-1]
    if not some:
        return None
    figure, ax = style.new_figure(size=(7.2, 1.2 + 0.26 * len(some)))
    floor = 1e-4
    share = [max(one["margin"], floor) for one in some]
    colours = [style.COLOURS[0] if one["passed"] else style.COLOURS[1] for one in some]
    ax.scatter(share, range(len(some)), c=colours, zorder=3)
    ax.hlines(range(len(some)), floor, share, colors=colours, linewidth=1)
    ax.axvline(1, color=style.COLOURS[1], linestyle="--")
    ax.annotate("tolerance", (1, 1), xycoords=("data", "axes fraction"), fontsize=9,
                xytext=(-4, 3), textcoords="offset points", ha="right", color=style.COLOURS[1])
    ax.set(xscale="log", xlim=(floor * 0.8, max(3, max(share) * 2)), yticks=range(len(some)),
           yticklabels=[one["fixture"] for one in some], xlabel="worst difference / tolerance")
    ax.set_title("Agreement with the published implementations", pad=16)
    ax.grid(axis="x")
    return figure


@style.in_style
def plot_times(run: RunFiles) -> Figure:
    """Seconds of each notebook beside its allowance, where it has one."""
    names = [n for n in NOTEBOOKS if n in run.notebooks and n != REPORT][::-1]
    figure, ax = style.new_figure(size=(7.2, 1.3 + 0.32 * max(len(names), 2)))
    used = [run.notebooks[n].get("seconds") or 0 for n in names]
    ax.barh(range(len(names)), used, height=0.6, color=style.COLOURS[0], label="used")
    allowed = [run.notebooks[n].get("allowed_s") or 0 for n in names]
    limited = [row for row, seconds in enumerate(allowed) if seconds]
    if limited:
        at = [allowed[row] for row in limited]
        ax.vlines(at, [row - 0.4 for row in limited], [row + 0.4 for row in limited],
                  color=style.INK, linewidth=2, label="allowed")
    for row, (seconds, limit) in enumerate(zip(used, allowed)):
        ax.annotate(f" {seconds:.0f} s", (max(seconds, limit), row), va="center", fontsize=9,
                    xytext=(3, 0), textcoords="offset points")
    ax.set(yticks=range(len(names)), yticklabels=names, xlabel="seconds")
    ax.set_title("Run times" if names else "No notebook has run in this folder yet", pad=20)
    ax.margins(x=0.12)
    if names:
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    return figure
