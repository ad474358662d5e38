"""Figures both ESI notebooks draw: a captioned ECG, similarity while it trains, AUC bars.

Usage:

    plot_captioned_ecg(cohort.record(0), captions.full[0])
    plot_similarity({"before": a, "step 300": b}); plot_auc_bars({"zero-shot": t, "probe": t2})
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ecgkit.reports import paper, style
from ecgkit.types import ECGRecord

MOST_BARS = 22  # classes in one row of bars: more have names nobody can read


@style.in_style
def plot_captioned_ecg(record: ECGRecord, caption: str, title: str = "") -> Figure:
    """The ECG page with its caption set below it."""
    figure = paper.plot_ecg(record, title)
    lines = [line for part in caption.split("\n") for line in textwrap.wrap(part, 150)]
    figure.text(0.02, -0.02, "\n".join(lines), va="top", fontsize=10, color=style.INK)
    return figure


@style.in_style
def plot_similarity(steps: Mapping[str, np.ndarray], title: str = "") -> Figure:
    """(B, B) cosine matrices side by side by name, row and column means removed: captions down,
    ECGs across, one scale for all.

    What a caption shares with all ECGs, or an ECG with all captions, says nothing about pairs.
    """
    centred = [m - m.mean(1, keepdims=True) - m.mean(0) + m.mean() for m in steps.values()]
    top = max(float(np.abs(m).max()) for m in centred)
    size = (3.1 * len(steps) + 0.8, 4.0)
    figure, axes = style.new_figure(1, len(steps), size=size, squeeze=False)
    for ax, (name, matrix), shown in zip(axes[0], steps.items(), centred):
        image = ax.imshow(shown, cmap="cividis", aspect="equal", vmin=-top, vmax=top)
        hits = (matrix.argmax(1) == np.arange(len(matrix))).mean()
        ax.set(title=f"{name}\nown ECG nearest: {hits:.0%}", xlabel="ECG", xticks=[], yticks=[])
    axes[0, 0].set_ylabel("caption")
    figure.colorbar(image, ax=list(axes[0]), fraction=0.02, label="cosine, means removed")
    figure.suptitle(title, x=0.02, y=1.02, ha="left", weight="bold", size=11)
    return figure


@style.in_style
def plot_auc_bars(tables: dict[str, pd.DataFrame], title: str = "", note: str = "") -> Figure:
    """Grouped bars per class with 95 % intervals, many classes in several rows; each table has
    name, auc, low, high, n_positive.
    """
    names = list(dict.fromkeys(n for table in tables.values() for n in table["name"]))
    rows = max(1, math.ceil(len(names) / MOST_BARS))
    each = max(1, math.ceil(len(names) / rows))
    width = min(14.0, max(6.5, (0.55 if each <= 10 else 0.4) * each * len(tables) + 2))
    figure, axes = style.new_figure(rows, 1, size=(width, 1 + 3 * rows), squeeze=False)
    for row, ax in enumerate(axes[:, 0]):
        _draw_bars(ax, names[row * each : (row + 1) * each], each, tables)
    axes[0, 0].set_title(title)
    axes[-1, 0].set_xlabel(note)
    if len(tables) > 1:
        axes[0, 0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(tables))
    return figure


def _draw_bars(ax, names: list[str], room: int, tables: dict[str, pd.DataFrame]) -> None:
    """The bars of `names`, in space for `room` of them."""
    width = 0.8 / max(1, len(tables))
    counts = {}
    for i, (label, table) in enumerate(tables.items()):
        table = table[table["name"].isin(names)]
        counts |= dict(zip(table["name"], table["n_positive"]))
        at = np.array([names.index(n) for n in table["name"]]) + (i - (len(tables) - 1) / 2) * width
        value = table["auc"].to_numpy()
        reach = np.stack([value - table["low"], table["high"] - value]).clip(min=0)
        ax.bar(at, value, width * 0.92, label=label, color=style.COLOURS[i])
        ax.errorbar(at, value, reach, fmt="none", ecolor=style.INK, elinewidth=1, capsize=2)
    ax.axhline(0.5, color=style.MUTED, linestyle="--", linewidth=1)
    ax.text(1.005, 0.5, "chance", transform=ax.get_yaxis_transform(), va="center", fontsize=8)
    many = room > 10
    ax.set_xticks(range(len(names)), [f"{n}\nn={counts[n]}" for n in names],
                  rotation=90 if many else 0, fontsize=8 if many else 9)
    ax.set(ylim=(0, 1.08), ylabel="AUC", xlim=(-0.6, room - 0.4))
