"""Few-shot scores side by side: by N, K, question type and the like, baselines, protocols, quirks.

Every figure takes a plain table: names in some columns, `value, low, high` (95 % interval).

Usage:

    plot_accuracy_grid(table, x="k_shot", panels="question_type", lines="attributes")
    plot_baselines(table, ceiling=0.52)                 # name, value, low, high
    plot_protocols(table)                               # score, protocol, value, low, high
    plot_quirks(table)                                  # name, value, low, high: what each is worth
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ecgkit.reports import style
from ecgkit.types import DataError

NAMES = {  # a column of settings as an axis or a legend calls it
    "N": "classes (N)", "K": "examples per class (K)",
    "n_way": "classes (N)", "k_shot": "examples per class (K)", "question_type": "question",
    "attributes": "attributes", "leads": "leads", "llm": "language model", "mapper": "mapper",
    "method": "method", "inner_steps": "inner steps", "test_data": "test data",
}  # fmt: skip
QUIRK_WORDS = {  # config.fewshot.QUIRKS in words
    "question_blind": "answer read on top of the question",
    "oracle_length": "true length of the answer given",
    "bos_scored": "start token counted as a hit",
    "with_replacement": "support and query may share ECGs",
    "live_dropout": "dropout stays on at test",
    "shared_classes": "training and test share classes",
    "mapper_ignored": "mapper flag ignored",
    "untrained_mapper": "test starts from an untrained mapper",
    "episodes_twice": "every episode counted twice",
}
SCORE_WORDS = {"exact": "whole answer", "candidate": "likeliest candidate",
               "tokens": "share of right tokens"}  # fmt: skip
_MARKERS = "osD^vP*X"


# --- by setting -----------------------------------------------------------------------------------


@style.in_style
def plot_accuracy_grid(
    table: pd.DataFrame, x: str = "k_shot", panels: str = "question_type",
    lines: str = "attributes", ylabel: str = "Exact match", title: str = "",
    simulated: bool = False,
) -> Figure:
    """A panel per value of `panels`, a line per value of `lines`, `x` along each: any three columns
    of N, K, question type, seen or unseen, leads, LLM. Bars are 95 % intervals.

    Columns `chance` and `ceiling` (what the question alone allows), where there, are dotted and
    dash-dotted. Raises DataError for a column that is missing, and for cells given twice.
    """
    table = _with(table, x, panels, lines)
    if table.duplicated([x, panels, lines]).any():
        raise DataError(
            f"The table has several rows for one {x}, {panels} and {lines}; choose the rows of one "
            "setting of everything else."
        )
    names = {column: list(dict.fromkeys(table[column])) for column in (panels, lines)}
    places = _places(table[x])
    n = len(names[panels])
    size = (2.9 * n + 1.4 if n > 1 else 5.6, 4.2)
    figure, axes = style.new_figure(1, n, size, sharex=True, sharey=True, squeeze=False)
    for ax, panel in zip(axes[0], names[panels], strict=True):
        mine = table[table[panels] == panel]
        for i, name in enumerate(names[lines]):
            rows = mine[mine[lines] == name].assign(at=lambda t: t[x].map(places)).sort_values("at")
            shift = 0.06 * (i - (len(names[lines]) - 1) / 2)
            _line(ax, rows, shift, i, f"{name}", joined=_numbers(places))
        for column, look in (("chance", ":"), ("ceiling", "-.")):
            if column in mine and mine[column].notna().any():
                level = mine.groupby(mine[x].map(places))[column].mean()
                ax.plot(level.index, level, look, color=style.MUTED, lw=1.1, label=_level(column))
        ax.set_xticks(list(places.values()), [textwrap.fill(str(v), 12) for v in places])
        ax.set(ylim=(0, 1.02), xlim=(-0.4, len(places) - 0.6))
        ax.set_title(_panel_name(panels, panel), fontsize=10)
        ax.grid(axis="y")
    axes[0, 0].set_ylabel(ylabel)
    axes[0, n // 2].set_xlabel(NAMES.get(x, x))
    _legend_below(figure, axes[0, 0], NAMES.get(lines, lines))
    _title(figure, title, simulated)
    return figure


def _places(column: pd.Series) -> dict:
    """Value -> place on the axis: numbers in order, words as they come."""
    values = list(dict.fromkeys(column))
    if _numbers(values):
        values.sort()
    return {value: place for place, value in enumerate(values)}


def _numbers(values) -> bool:
    return all(isinstance(value, (int, float, np.number)) for value in values)


def _line(ax, rows: pd.DataFrame, shift: float, i: int, label: str, joined: bool) -> None:
    colour, reach = style.COLOURS[i % len(style.COLOURS)], _reach(rows)
    ax.errorbar(
        rows["at"] + shift, rows["value"], reach, color=colour, marker=_MARKERS[i % len(_MARKERS)],
        markersize=5, capsize=2, elinewidth=1, label=label, linestyle="-" if joined else "none",
    )  # fmt: skip


def _panel_name(column: str, value) -> str:
    return str(value) if isinstance(value, str) else f"{NAMES.get(column, column)}: {value}"


def _level(column: str) -> str:
    return {"chance": "chance", "ceiling": "most that the question alone allows"}[column]


# --- one bar each ---------------------------------------------------------------------------------


@style.in_style
def plot_baselines(
    table: pd.DataFrame, xlabel: str = "Exact match", chance: float | None = None,
    ceiling: float | None = None, ours: Sequence[str] = ("adapted",), title: str = "",
    simulated: bool = False,
) -> Figure:
    """A horizontal bar with 95 % interval and value per row of `table` (name, value, low, high).

    Names in `ours` are blue and bold, the others grey; `ceiling`: what the question alone allows.
    Of `tasks.fewshot_baselines.baseline_table` the paired gain over each is written at the right.
    """
    table = _with(table, "name")
    figure, ax = style.new_figure(1, 1, (8.2, 0.42 * len(table) + 1.9))
    mine = table["name"].isin(list(ours)).to_numpy()
    _bars(ax, table, np.where(mine, style.COLOURS[0], "#b9b9b9"))
    if "gain" in table:
        gains = table[["gain", "gain low", "gain high"]].to_numpy(float)
        for y, (gain, low, high) in enumerate(gains):
            if np.isfinite(gain):
                ax.text(1.14, y, f"{gain:+.2f} [{low:+.2f}, {high:+.2f}]", fontsize=8, va="center")
        ax.set_title("adapted minus this, paired", fontsize=8, fontweight="normal", loc="right")
    for label, own in zip(ax.get_yticklabels(), mine, strict=True):
        label.set_fontweight("bold" if own else "normal")
    for value, look, words in (
        (chance, ":", "chance"), (ceiling, "-.", "most that the question alone allows"),
    ):  # fmt: skip
        if value is not None:
            label = f"{words} ({value:.2f})"
            ax.axvline(value, color=style.INK, linestyle=look, lw=1.1, label=label)
    ax.set(xlim=(0, 1.48 if "gain" in table else 1.16), xlabel=xlabel, xticks=np.linspace(0, 1, 6))
    if chance is not None or ceiling is not None:
        figure.legend(loc="outside lower center", ncols=2)
    _title(figure, title, simulated)
    return figure


@style.in_style
def plot_quirks(
    table: pd.DataFrame, xlabel: str = "score with it minus without", title: str = "",
    simulated: bool = False,
) -> Figure:
    """What each fault of the released code is worth: a bar from zero with its 95 % interval, one
    per row of `table` (name, value, low, high; names of `config.fewshot.QUIRKS` are put in words).

    A panel per value of the column `from`, where there is one (`tasks.fewshot_quirks.quirk_table`).
    Bars whose interval leaves zero out are coloured and marked with *; NaN says "not measured".
    """
    table = _with(table, "name").assign(name=lambda t: t["name"].map(_quirk_words))
    starts = list(dict.fromkeys(table["from"])) if "from" in table else [""]
    names = list(dict.fromkeys(table["name"]))
    size = (4.2 + 3.4 * len(starts), 0.5 * len(names) + 1.5)
    figure, axes = style.new_figure(1, len(starts), size, squeeze=False, sharex=True, sharey=True)
    reach = float(np.nanmax(np.abs(table[["value", "low", "high"]].to_numpy()), initial=0.05))
    for ax, start in zip(axes[0], starts, strict=True):
        rows = table[table["from"] == start] if start else table
        rows = rows.set_index("name").reindex(names).reset_index()
        clear = ((rows["low"] > 0) | (rows["high"] < 0)).to_numpy()
        sign = np.where(rows["value"] > 0, style.COLOURS[1], style.COLOURS[0])
        _bars(ax, rows, np.where(clear, sign, "#b9b9b9"), reach, np.where(clear, " *", ""))
        ax.axvline(0, color=style.INK, lw=0.8)
        ax.set_title(f"from {start}" if start else "", fontsize=10, fontweight="normal")
    low = -1.2 * reach if (table["low"] < 0).any() else -0.1 * reach
    axes[0, 0].set_xlim(low, 1.6 * reach)
    axes[0, len(starts) // 2].set_xlabel(f"{xlabel}   (* interval leaves out 0)")
    _title(figure, title, simulated)
    return figure


def _quirk_words(name: str) -> str:
    return f"{QUIRK_WORDS[name]}\n({name})" if name in QUIRK_WORDS else name


def _bars(ax, table: pd.DataFrame, colours, reach: float | None = None, marks=None) -> None:
    """Horizontal bars from the top down with intervals; the value stands beyond each interval.
    With `reach` values are differences of up to that much, and carry their sign.
    """
    marks = [""] * len(table) if marks is None else marks
    y, span = np.arange(len(table)), reach or 1.0
    ax.barh(y, table["value"].fillna(0), 0.66, color=colours)
    known = table["value"].notna().to_numpy()
    ax.errorbar(
        table["value"][known], y[known], xerr=_reach(table[known]), fmt="none", ecolor=style.INK,
        elinewidth=1, capsize=2.5,
    )  # fmt: skip
    box = {"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.4}
    for at, row, mark in zip(y, table.itertuples(), marks, strict=True):
        if not np.isfinite(row.value):
            ax.text(0.03 * span, at, "not measured", va="center", fontsize=8, color=style.MUTED)
            continue
        text = (f"{row.value:+.3f}" if reach else f"{row.value:.2f}") + mark
        beyond = max(v for v in (row.value, row.high, 0.0) if np.isfinite(v))
        ax.text(beyond + 0.025 * span, at, text, va="center", fontsize=8, bbox=box)
    ax.set_yticks(y, table["name"], fontsize=9)
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")


# --- two protocols --------------------------------------------------------------------------------


@style.in_style
def plot_protocols(
    table: pd.DataFrame, title: str = "The same episodes under two protocols",
    simulated: bool = False,
) -> Figure:
    """Bars by `score` with one bar per `protocol` (sound, reference ...), 95 % intervals, values.

    A column `chance`, where there, draws what a coin gives for that score across its bars.
    """
    table = _with(table, "score", "protocol")
    scores, protocols = (list(dict.fromkeys(table[c])) for c in ("score", "protocol"))
    figure, ax = style.new_figure(1, 1, ((0.5 + 0.75 * len(protocols)) * len(scores) + 2.2, 4.2))
    width = 0.8 / len(protocols)
    for i, name in enumerate(protocols):
        rows = table[table["protocol"] == name].set_index("score").reindex(scores)
        at = np.arange(len(scores)) + (i - (len(protocols) - 1) / 2) * width
        hatch = ("", "//", "..", "xx")[i % 4]  # so that colour is not needed to tell them apart
        ax.bar(at, rows["value"], width * 0.9, color=style.COLOURS[i], hatch=hatch,
               edgecolor="white", label=name)  # fmt: skip
        ax.errorbar(at, rows["value"], _reach(rows), fmt="none", ecolor=style.INK, elinewidth=1,
                    capsize=2.5)  # fmt: skip
        for x, value, high in zip(at, rows["value"], rows["high"], strict=True):
            if np.isfinite(value):
                ax.text(x, np.nanmax([value, high]) + 0.015, f"{value:.2f}", ha="center",
                        fontsize=8)  # fmt: skip
    if "chance" in table:
        level = table.groupby("score")["chance"].first().reindex(scores)
        for x, value in enumerate(level):
            ax.hlines(value, x - 0.44, x + 0.44, color=style.INK, linestyle=":", lw=1.3,
                      label="chance" if x == 0 else None)  # fmt: skip
    ax.set_xticks(range(len(scores)), [textwrap.fill(SCORE_WORDS.get(s, s), 18) for s in scores])
    ax.set(ylim=(0, 1.14), yticks=np.linspace(0, 1, 6), ylabel="share of query answers")
    ax.tick_params(axis="x", length=0)
    figure.legend(loc="outside lower center", ncols=3)
    _title(figure, title, simulated)
    return figure


# --- helpers --------------------------------------------------------------------------------------


def _with(table: pd.DataFrame, *names: str) -> pd.DataFrame:
    """The table with its index reset. Raises DataError naming columns it lacks."""
    missing = [name for name in (*names, "value", "low", "high") if name not in table]
    if missing or table.empty:
        raise DataError(
            f"The table has no {', '.join(missing) or 'rows'}; give {', '.join(names)}, value, "
            "low and high."
        )
    return table.reset_index(drop=True)


def _reach(rows: pd.DataFrame) -> np.ndarray:
    """(2, n) lengths of the intervals' arms; none where an end is not known."""
    value = rows["value"].to_numpy(float)
    arms = np.stack([value - rows["low"].to_numpy(float), rows["high"].to_numpy(float) - value])
    return np.nan_to_num(arms, nan=0.0).clip(min=0)


def _legend_below(figure: Figure, ax, title: str) -> None:
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)),
                  title=title, title_fontsize=9)  # fmt: skip


def _title(figure: Figure, title: str, simulated: bool) -> None:
    words = style.mark_simulated(title, simulated)
    if words:
        figure.suptitle(words, x=0.01, ha="left", fontsize=11, fontweight="bold")
