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

_SIDES = ("support", "query")


@style.in_style
def plot_episode(
    cohort,
    questions,
    episode,
    n_rows: int = 4,
    lead: str = "II",
    seconds: float = 4.0,
    title: str = "",
) -> Figure:
    """Support left, query right: one lead of each ECG in mV with its question; support shows its
    answer, query asks.

    Rows alternate between the episode's classes, so that each is seen.
    """
    figure, axes = style.new_figure(
        n_rows, 2, (10.5, 1.25 * n_rows + 0.9), sharex=True, sharey=True, squeeze=False
    )
    n_samples = round(seconds * cohort.store.fs)
    channel = cohort.store.leads.index(lead)
    for column, side in enumerate(_SIDES):
        chosen = _in_turn(getattr(episode, side), getattr(episode, f"{side}_class"), n_rows)
        rows = questions.table.iloc[chosen]
        signals = cohort.store.read(rows["row1"].to_numpy())[:, channel, :n_samples]  # (n_rows, T)
        for ax, signal, row in zip(axes[:, column], signals, rows.itertuples(), strict=False):
            ax.plot(
                np.arange(len(signal)) / cohort.store.fs, signal, color=style.TRACE, linewidth=0.8
            )
            said = ", ".join(row.answer) if side == "support" else "?"
            text = textwrap.shorten(row.question, 76, placeholder=" ...")
            ax.set_title(f"{text}  {said}", fontsize=8, fontweight="normal", pad=2)
    for ax in axes.flat:
        ax.set_facecolor(style.PAPER_BACK)
        ax.grid(True, color=style.PAPER_GRID_FINE)
    figure.supylabel(f"lead {lead} (mV)", fontsize=9)
    figure.supxlabel(
        "support: answers given, to adapt on (left)  |  query: answers asked (right); seconds",
        fontsize=9,
    )
    figure.suptitle(title, fontsize=11, fontweight="bold")
    return figure


def _in_turn(positions: np.ndarray, classes: np.ndarray, n: int) -> np.ndarray:
    """The first `n` positions when classes take turns."""
    turn = np.array([np.sum(classes[:i] == c) for i, c in enumerate(classes)])
    return positions[np.lexsort((classes, turn))][:n]


@style.in_style
def plot_adaptation(
    curves: Mapping[str, pd.DataFrame],
    ylabel: str = "Exact match",
    chance: float | None = 0.5,
    title: str = "",
    simulated: bool = False,
) -> Figure:
    """Score by inner step with its 95 % band, one line per entry: tables with columns step, mean,
    low, high.
    """
    figure, ax = style.new_figure(1, 1, (6.6, 3.8))
    for (name, table), colour in zip(curves.items(), style.COLOURS, strict=False):
        ax.plot(table["step"], table["mean"], marker="o", markersize=4, color=colour, label=name)
        ax.fill_between(
            table["step"], table["low"], table["high"], color=colour, alpha=0.15, linewidth=0
        )
    if chance is not None:
        ax.axhline(chance, color=style.MUTED, linestyle=":", linewidth=1, label="coin toss")
    ax.set(xlabel="inner step (0 = before adaptation)", ylabel=ylabel, ylim=(0, 1.02))
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_title(title + (" (simulated ECGs)" if simulated else ""))
    ax.legend(loc="lower right")
    return figure


@style.in_style
def plot_before_after(
    gains: Mapping[str, Mapping[str, float]],
    ylabel: str = "Exact match",
    chance: float | None = 0.5,
    title: str = "",
    simulated: bool = False,
) -> Figure:
    """A pair of bars per group, before and after adaptation; above, the paired gain with its 95 %
    interval.

    `gains`: group -> before, after, gain, low, high, n.
    """
    figure, ax = style.new_figure(1, 1, (1.9 * len(gains) + 2.2, 3.8))
    for x, row in enumerate(gains.values()):
        for shift, when, colour in (
            (-0.2, "before", style.MUTED),
            (0.2, "after", style.COLOURS[0]),
        ):
            ax.bar(x + shift, row[when], 0.36, color=colour, label=when if x == 0 else None)
            ax.text(x + shift, row[when] + 0.01, f"{row[when]:.2f}", ha="center", fontsize=8)
        ax.text(
            x,
            max(row["before"], row["after"]) + 0.09,
            f"{row['gain']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]",
            ha="center",
            fontsize=8,
        )
    if chance is not None:
        ax.axhline(chance, color=style.INK, linestyle=":", linewidth=1)
    counts = [f"{name}\n{int(row['n'])} episodes" for name, row in gains.items()]
    ax.set_xticks(range(len(gains)), counts)
    ax.set(ylabel=ylabel, ylim=(0, 1.2), yticks=np.linspace(0, 1, 6))
    ax.set_title(title + (" (simulated ECGs)" if simulated else ""))
    ax.legend(loc="upper left", ncols=2)
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


def gains_table(gains: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """Before, after and paired gain with its interval, one row per score."""
    rows = [
        (
            name,
            row["before"],
            row["after"],
            f"{row['gain']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]",
            int(row["n"]),
        )
        for name, row in gains.items()
    ]
    return pd.DataFrame(rows, columns=["score", "before", "after", "gain", "episodes"])
