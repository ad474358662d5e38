"""Figures of the few-shot study. Each takes data, returns a Figure, and never shows or saves it.

Usage:

    fig = plot_episode(cohort, questions, episode, title="A 2-way 5-shot episode")
    fig = plot_adaptation({"unseen": by_step(table)}, "Exact match")
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ecgkit.reports import style

_SIDES = {"support": "support: answers given, to adapt to", "query": "query: answers asked"}
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
CONTROLS = ("shuffled", "mean", "question only", "ECG only")  # how the names of controls begin


@style.in_style
def plot_episode(
    cohort,
    questions,
    episode,
    n_rows: int | None = None,
    lead: str = "II",
    seconds: float = 4.0,
    title: str = "",
) -> Figure:
    """Support left, query right: one lead of each ECG in mV under its question; support shows class
    and answer, query asks.

    Classes go by letter as well as by colour and take turns down the rows; `n_rows` is by default
    one row per class, at least 4.
    """
    n_ways = len(episode.names)
    n_rows = min(n_rows or max(4, n_ways), len(episode.support), len(episode.query))
    names = _class_names(episode.names)
    size = (11.0, 1.32 * n_rows + 0.17 * sum(name.count("\n") + 1 for name in names) + 1.1)
    figure, axes = style.new_figure(n_rows, 2, size, sharex=True, sharey=True, squeeze=False)
    for column, side in enumerate(_SIDES):
        positions, classes = getattr(episode, side), getattr(episode, f"{side}_class")
        chosen = _in_turn(classes, n_rows)
        rows = questions.table.iloc[positions[chosen]]
        signals = _strips(cohort, rows["row1"].to_numpy(), lead, seconds)
        for ax, signal, row, k in zip(
            axes[:, column], signals, rows.itertuples(), classes[chosen], strict=False
        ):
            ax.plot(np.arange(len(signal)) / cohort.store.fs, signal, color=style.TRACE, lw=0.8)
            said = ", ".join(row.answer) if side == "support" else ""
            _head(ax, row.question, said, int(k))
        axes[0, column].set_title(_SIDES[side] + "\n\n", fontsize=10, pad=8)
    for ax in axes.flat:
        ax.set_facecolor(style.PAPER_BACK)
        ax.grid(True, color=style.PAPER_GRID_FINE)
    low, high = axes[0, 0].get_ylim()
    axes[0, 0].set_ylim(low, high + 0.35 * (high - low))  # room for the answers
    figure.supylabel(f"lead {lead} (mV)", fontsize=9)
    figure.supxlabel("seconds\n" + "\n".join(names), fontsize=8.5, x=0.04, ha="left")
    figure.suptitle(
        textwrap.shorten(title, 110, placeholder=" ..."), fontsize=11, fontweight="bold",
        x=0.04, ha="left",
    )  # fmt: skip
    return figure


def _strips(cohort, rows: np.ndarray, lead: str, seconds: float) -> np.ndarray:
    """(n, T) mV of one lead."""
    channel = cohort.store.leads.index(lead)
    return cohort.store.read(rows)[:, channel, : round(seconds * cohort.store.fs)]


def _in_turn(classes: np.ndarray, n: int) -> np.ndarray:
    """Which rows are the first `n` when classes take turns."""
    turn = np.array([np.sum(classes[:i] == c) for i, c in enumerate(classes)])
    return np.lexsort((classes, turn))[:n]


def _head(ax, question: str, said: str, k: int) -> None:
    """Above a strip its question in at most two lines; at its left a badge with class (support) or
    question mark (query), at its right the answer.
    """
    lines = textwrap.wrap(question, 74)
    text = "\n".join([*lines[:1], textwrap.shorten(" ".join(lines[1:]), 74, placeholder=" ...")])
    ax.annotate(text.strip(), (0.045, 1), xycoords="axes fraction", xytext=(0, 3), fontsize=8,
                textcoords="offset points", va="bottom")  # fmt: skip
    colour = style.COLOURS[k % len(style.COLOURS)] if said else style.MUTED
    badge = {"boxstyle": "circle,pad=0.25", "facecolor": colour, "edgecolor": "none"}
    ax.annotate(_LETTERS[k] if said else "?", (0.015, 1), xycoords="axes fraction", xytext=(0, 8),
                textcoords="offset points", color="white", weight="bold", fontsize=8.5,
                ha="center", va="center", bbox=badge, gid="badge")  # fmt: skip
    if said:
        box = {"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": colour, "lw": 1.2}
        ax.annotate(textwrap.shorten(said, 60, placeholder=" ..."), (0.99, 0.94), weight="bold",
                    xycoords="axes fraction", fontsize=8, ha="right", va="top", bbox=box,
                    gid="answer")  # fmt: skip
    ax.set_title(" \n ", fontsize=8, pad=2)  # room for the question


def _class_names(names: tuple[str, ...], width: int = 150) -> list[str]:
    """`A  6: sinus rhythm = yes`; a long list of attributes is cut, the answer never."""
    found = []
    for letter, name in zip(_LETTERS, names, strict=False):
        base, _, answer = name.rpartition(" = ")
        short = textwrap.shorten(base, 90, placeholder=" ...")
        found.append("\n".join(textwrap.wrap(f"{letter}  {short} = {answer}", width)))
    return found


@style.in_style
def plot_adaptation(
    curves: Mapping[str, pd.DataFrame],
    ylabel: str = "Exact match",
    chance: float | None = 0.5,
    title: str = "",
    simulated: bool = False,
    ceiling: float | None = None,
) -> Figure:
    """Score by inner step with its 95 % band, one line per entry: tables with columns step, mean,
    low, high.

    Entries named as in `CONTROLS` are dashed. `ceiling`: what the question alone could reach.
    """
    figure, ax = style.new_figure(1, 1, (6.6, 4.4))
    for (name, table), colour in zip(curves.items(), style.COLOURS, strict=False):
        line = "--" if name.startswith(CONTROLS) else "-"
        ax.plot(
            table["step"], table["mean"], line, marker="o", markersize=4, color=colour, label=name
        )
        ax.fill_between(
            table["step"], table["low"], table["high"], color=colour, alpha=0.15, linewidth=0
        )
    if ceiling is not None:
        label = f"most that the question alone allows ({ceiling:.2f})"
        ax.axhline(ceiling, color=style.INK, linestyle="-.", linewidth=1, label=label)
    if chance is not None:
        label = f"chance ({chance:.2f})"
        ax.axhline(chance, color=style.MUTED, linestyle=":", linewidth=1.2, label=label)
    ax.set(xlabel="inner step (0 = before adaptation)", ylabel=ylabel, ylim=(0, 1.02))
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_title(style.mark_simulated(title, simulated))
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@style.in_style
def plot_mapper_attention(attention: Mapping[str, np.ndarray], title: str = "") -> Figure:
    """Attention of the mapper's soft tokens (rows) over its inputs (columns; the last is the ECG),
    one panel per entry.

    Matrices (P, P + 1), each row a softmax that sums to 1.
    """
    figure, axes = style.new_figure(
        1, len(attention), (3.6 * len(attention) + 0.8, 3.2), squeeze=False
    )
    for ax, (name, weights) in zip(axes[0], attention.items(), strict=True):
        n_prefix = len(weights)
        image = ax.imshow(
            weights,
            vmin=0,
            vmax=max(float(w.max()) for w in attention.values()),
            cmap=style.ATTENTION,
        )
        ax.set_xticks(range(n_prefix + 1), [*(f"t{i + 1}" for i in range(n_prefix)), "ECG"])
        ax.set_yticks(range(n_prefix), [f"soft {i + 1}" for i in range(n_prefix)])
        for i, j in np.ndindex(weights.shape):
            dark = weights[i, j] < 0.6 * image.norm.vmax
            ax.text(
                j,
                i,
                f"{weights[i, j]:.2f}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if dark else "black",
            )
        ax.set_title(name, fontsize=10)
    figure.colorbar(image, ax=axes[0], label="weight")
    figure.suptitle(title, fontsize=11, fontweight="bold")
    return figure
