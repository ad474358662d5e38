"""Figures of LLM modelling: exact match by question type, two matchings beside the majority, what
the published matching can never score, and an example prompt as a card.

Usage:

    plot_llm_types(results.scores, simulated=True)             # tasks.llm_qa_scores.score_table
    plot_unreachable(results.never)                            # tasks.llm_qa_scores.unreachable
    plot_prompt(prompt, reply, parsed="yes", gold="no")
"""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ecgkit.reports import style
from ecgkit.types import DataError

_MARKERS = "osDv^P"


@style.in_style
def plot_llm_types(
    scores: pd.DataFrame, level: int = 2, title: str = "Exact match of LLM modelling",
    simulated: bool = False,
) -> Figure:
    """One row per question type, on top all and the mean over types; a marker with its 95 %
    interval over patients per reader. The training majority is the grey vertical tick.

    `scores`: reader, level, type, n, exact_match, low, high, unparsed, unanswered. At the right
    stand the questions answered, and of them the replies that name no option (unparsed, wrong), and
    those without a reply. Raises DataError for a table without these columns or that level.
    """
    rows = _of_level(scores, level)
    types = list(dict.fromkeys(rows["type"]))
    readers = sorted(dict.fromkeys(rows["reader"]), key=lambda r: "majority" in r)
    figure, ax = style.new_figure(1, 1, (9.6, 0.62 * len(types) + 2.1))
    shown = [r for r in readers if "majority" not in r]
    for i, reader in enumerate(readers):
        own = rows[rows["reader"] == reader].set_index("type").reindex(types)
        y = np.arange(len(types), dtype=float)
        if "majority" in reader:
            ax.plot(own["exact_match"], y, "|", color=style.MUTED, markersize=22,
                    markeredgewidth=2, label=reader, zorder=1)  # fmt: skip
            continue
        y += 0.2 * (i - (len(shown) - 1) / 2)
        reach = np.stack([own["exact_match"] - own["low"], own["high"] - own["exact_match"]])
        ax.errorbar(
            own["exact_match"], y, xerr=np.nan_to_num(reach).clip(min=0), capsize=2, elinewidth=1,
            fmt=_MARKERS[i % len(_MARKERS)], color=style.COLOURS[i % len(style.COLOURS)],
            markersize=6, label=reader, gid="reader",
        )  # fmt: skip
    first = rows.drop_duplicates("type").set_index("type").reindex(types)
    for y, row in enumerate(first.itertuples()):
        ax.text(1.06, y, _counts(row), va="center", fontsize=8, color=style.MUTED)
    ax.set_yticks(range(len(types)), types)
    ax.set(ylim=(len(types) - 0.45, -0.55), xlim=(-0.02, 1.05), xlabel="exact match, 95 % interval")
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    figure.legend(loc="outside lower center", ncols=2)
    _title(figure, title, simulated)
    return figure


def _of_level(scores: pd.DataFrame, level: int) -> pd.DataFrame:
    needed = ["reader", "level", "type", "n", "exact_match", "low", "high", "unparsed",
              "unanswered"]  # fmt: skip
    missing = [name for name in needed if name not in scores]
    if missing:
        raise DataError(f"The table of scores has no {', '.join(missing)}; it needs {needed}.")
    rows = scores[scores["level"].isin([0, level])]
    if not (rows["level"] == level).any():
        raise DataError(f"The table of scores has no level {level}; choose 1, 2 or 3.")
    return rows.sort_values("level", kind="stable")


def _counts(row) -> str:
    words = [f"n = {int(row.n):,}"]
    words += [f"{int(row.unparsed):,} unparsed"] if row.unparsed else []
    words += [f"{int(row.unanswered):,} unanswered"] if row.unanswered else []
    return ", ".join(words)


@style.in_style
def plot_unreachable(
    table: pd.DataFrame, title: str = "Answers that the published matching can never score",
    simulated: bool = False,
) -> Figure:
    """Share of questions per type whose true answer the published matching cannot reach, whatever
    the reply. `table`: question_type, n, unreachable, share, as `llm_qa_scores.unreachable`.
    """
    figure, ax = style.new_figure(1, 1, (8.0, 0.4 * len(table) + 1.4))
    y = np.arange(len(table))
    ax.barh(y, table["share"], 0.66, color=style.COLOURS[1])
    for at, row in zip(y, table.itertuples(), strict=True):
        text = f"{row.share:.1%} ({int(row.unreachable):,} of {int(row.n):,})"
        ax.text(row.share + 0.01, at, text, va="center", fontsize=8)
    ax.set_yticks(y, table["question_type"])
    ax.set(ylim=(len(table) - 0.5, -0.5), xlim=(0, min(1.0, table["share"].max() + 0.1) * 1.35),
           xlabel="share of questions")  # fmt: skip
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    _title(figure, title, simulated)
    return figure


@style.in_style
def plot_prompt(
    prompt: str, reply: str, parsed: str = "", gold: str = "", title: str = "An example prompt",
    simulated: bool = False,
) -> Figure:
    """The same as a figure, for reports that show no HTML: text in the order it was sent."""
    lines = [part for line in prompt.splitlines() for part in textwrap.wrap(line, 110) or [""]]
    lines = lines if len(lines) <= 60 else [*lines[:58], "...", "(cut)"]
    below = [f"{name}: {value}" for name, value in
             (("Reply", reply or "(none)"), ("Read as", parsed), ("True answer", gold)) if value]
    below = [part for line in below for part in textwrap.wrap(line, 100)]
    figure, ax = style.new_figure(1, 1, (9.0, 0.145 * (len(lines) + len(below)) + 1.0))
    ax.set_axis_off()
    share = len(lines) / (len(lines) + len(below) + 1)
    look = {"va": "top", "family": "monospace", "fontsize": 8, "linespacing": 1.25}
    ax.text(0, 1, "\n".join(lines), transform=ax.transAxes, **look)
    ax.text(0, 1 - share - 0.01, "\n".join(below), transform=ax.transAxes,
            weight="bold", color=style.COLOURS[0], **look)  # fmt: skip
    _title(figure, title, simulated)
    return figure


def _title(figure: Figure, title: str, simulated: bool) -> None:
    figure.suptitle(style.mark_simulated(title, simulated), x=0.01, ha="left", fontsize=11,
                    fontweight="bold")  # fmt: skip
