"""Figures of notebook 03 about errors: which questions are missed, which answers are mixed up, and
how far answering stays behind a classifier of the same attribute.

Usage:

    plot_errors(look_inside.error_table(questions, test, answers), simulated=True)
    plot_confusion(look_inside.confusion(questions, test, answers["fusion"]), "fusion")
    plot_gap(table)                                   # attribute, n, classifier, qa
"""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ecgkit.reports import style
from ecgkit.reports.baseline_figures import name_of
from ecgkit.types import DataError


@style.in_style
def plot_errors(table: pd.DataFrame, n: int = 20, order: str = "missed", what: str = "attribute",
                title: str = "Which questions are missed", simulated: bool | None = None) -> Figure:
    """Heat map of a `tasks.look_inside.error_table`: items (rows), models (columns); dark = wrong.

    Of more than `n` items those with most errors over all models (`order` missed) or with most
    questions (frequent). A cell gives the share missed and how many of how many. Raises DataError
    for an empty table.
    """
    if order not in ("missed", "frequent"):
        raise DataError(f"order is {order!r}; choose missed | frequent.")
    if table.empty:
        raise DataError(f"No question is about one {what}; choose another `by` of error_table.")
    by = "wrong" if order == "missed" else "n"
    items = table.groupby("item")[by].sum().sort_values(ascending=False, kind="stable").index[:n]
    models = list(table["model"].unique())
    rate, wrong, asked = (table.pivot(index="item", columns="model", values=v)
                          .reindex(index=items, columns=models) for v in ("rate", "wrong", "n"))
    figure, ax = style.new_figure(size=(3.4 + 1.15 * len(models), 1.5 + 0.3 * len(items)))
    image = ax.imshow(rate, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (y, x), share in np.ndenumerate(rate.to_numpy()):
        if np.isfinite(share):
            ax.text(x, y, f"{share:.0%} ({wrong.iat[y, x]:.0f})", ha="center", va="center",
                    fontsize=8, color="white" if share > 0.6 else style.INK)
    names = [f"{_shorten(item)} ({count:.0f})" for item, count in asked.max(axis=1).items()]
    ax.set(yticks=range(len(items)), yticklabels=names)
    ax.set_xticks(range(len(models)), [_broken(name_of(m)) for m in models], fontsize=8.5)
    _as_grid(ax)
    bar = figure.colorbar(image, ax=ax, shrink=min(1, 4 / len(items)), aspect=12,
                          label="share missed")
    bar.outline.set_visible(False)
    ranked = "most errors first" if order == "missed" else "most questions first"
    _head(figure, style.mark_simulated(title, simulated),
          f"{len(items)} of {table['item'].nunique()} {what}s, {ranked}; (n questions); "
          "in a cell: share (number) missed")
    return figure


@style.in_style
def plot_confusion(table: pd.DataFrame, model: str = "", title: str = "True and predicted answers",
                   simulated: bool | None = None) -> Figure:
    """A `tasks.look_inside.confusion`: counts of predicted (columns) by true answers (rows).

    Shades are shares of a row; cells on the diagonal (right) are framed.
    """
    counts = table.to_numpy()
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    rows, columns = counts.shape
    figure, ax = style.new_figure(size=(3.6 + 0.62 * columns, 2.5 + 0.34 * rows))
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (y, x), n in np.ndenumerate(counts):
        ax.text(x, y, f"{n:,}" if n else "·", ha="center", va="center", fontsize=8.5,
                color="white" if share[y, x] > 0.6 else style.INK)
        if x == y:
            ax.add_patch(_frame(x, y))
    ax.set(yticks=range(rows), ylabel="True answer (questions)", xlabel="Predicted answer")
    ax.set_yticklabels([f"{_shorten(a)} ({n:,})" for a, n in zip(table.index, counts.sum(1))])
    ax.set_xticks(range(columns), [_shorten(a) for a in table.columns], rotation=35, ha="right",
                  rotation_mode="anchor")
    _as_grid(ax, top=False)
    words = f"{title}: {name_of(model)}" if model else title
    _head(figure, style.mark_simulated(words, simulated),
          "number of questions; shade: share of the row; framed: right")
    return figure


_SIDES = {"classifier": "classifier", "qa": "question answering"}


@style.in_style
def plot_gap(table: pd.DataFrame, classifier: str = "classifier", qa: str = "qa",
             measure: str = "Share of questions right", n: int = 24,
             title: str = "What the ECG holds and what is answered",
             simulated: bool | None = None) -> Figure:
    """Dumbbells by attribute, widest gap first: what a classifier reaches, what answering reaches.

    `table`: attribute, n (single-verify questions) and the two columns named by `classifier` and
    `qa`, both 0 to 1, as in `upperbound_gap.Gap.by_attribute`; low and high, if there, are the
    interval of `qa`. `measure` says what is compared. Of more than `n` attributes the most asked
    are drawn. Raises DataError for a missing column.
    """
    missing = [c for c in ("attribute", "n", classifier, qa) if c not in table]
    if missing:
        raise DataError(f"The gap's table has no column {', '.join(missing)}.")
    known = table.dropna(subset=[classifier, qa])
    rows = known.sort_values("n", ascending=False, kind="stable").head(n)
    rows = rows.iloc[(rows[qa] - rows[classifier]).argsort(kind="stable")]
    figure, ax = style.new_figure(size=(8.2, 1.5 + 0.27 * len(rows)))
    y = np.arange(len(rows))
    ax.hlines(y, rows[classifier], rows[qa], color="#b5b5b5", lw=2.5, gid="gap")
    if {"low", "high"} <= set(rows):
        ax.hlines(y, rows["low"], rows["high"], color=style.COLOURS[1], lw=0.9, gid="interval")
    for column, marker, c in ((qa, "D", 1), (classifier, "o", 0)):
        ax.plot(rows[column], y, marker, color=style.COLOURS[c], markersize=6.5,
                label=_SIDES.get(column, name_of(column)))
    ax.axvline(0.5, color=style.MUTED, lw=0.9, ls="--")
    names = [f"{_shorten(str(a))} ({k:,.0f})" for a, k in zip(rows["attribute"], rows["n"])]
    ax.set(yticks=y, ylim=(len(rows) - 0.5, -0.5), yticklabels=names, xlabel=measure)
    ax.grid(axis="both")
    ax.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2)
    gap = (rows[classifier] - rows[qa]).mean()
    words = f"{len(rows)} of {len(known)} attributes (n questions); mean gap {gap:.2f}; dashed: 0.5"
    _head(figure, style.mark_simulated(title, simulated), words)
    return figure


def _frame(x: float, y: float):
    return Rectangle((x - 0.47, y - 0.46), 0.94, 0.92, fill=False, edgecolor=style.COLOURS[1],
                     lw=1.4, gid="right")


def _as_grid(ax, top: bool = True) -> None:
    if top:
        ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.set_frame_on(False)


def _head(figure: Figure, title: str, below: str) -> None:
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    figure.supxlabel(below, x=0.01, ha="left", fontsize=8, color=style.MUTED)


def _shorten(text: str, most: int = 42) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _broken(name: str) -> str:
    """A long model name on several short lines."""
    return "\n".join(textwrap.wrap(name, 13))
