"""Training curves, bars with intervals, and the Kaplan-Meier plot with its own estimator.

Usage:

    plot_training(log.table, ["loss", "eval_auc"], "ESI pretraining")
    plot_bars(["text only", "fusion"], [0.61, 0.74], [0.58, 0.71], [0.64, 0.77], "Exact match")
    plot_kaplan_meier(time, event, risk > median, ["low risk", "high risk"], simulated=True)
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ecgkit.reports import style
from ecgkit.reports.watermark import watermark
from ecgkit.types import DataError

Z95 = 1.959964  # the 97.5th percentile of the standard normal distribution


# --- training -------------------------------------------------------------------------------------


@style.in_style
def plot_training(
    table: pd.DataFrame, columns: Sequence[str | Sequence[str]], title: str = "", x: str = "step",
    smooth: int = 0,
) -> Figure:
    """One panel per entry of `columns`: a column's name, or several that share a panel.

    `smooth` > 1 adds a running mean over so many rows on top of the pale raw curve. Columns the
    table does not have are named in the panel instead of drawn. Raises DataError for a table
    without the column `x`.
    """
    if x not in table:
        raise DataError(f"The log has no column {x!r}; it holds {', '.join(table.columns)}.")
    groups = [[c] if isinstance(c, str) else list(c) for c in columns]
    figure, axes = style.new_figure(1, len(groups), squeeze=False)
    for ax, names in zip(axes[0], groups, strict=True):
        for i, name in enumerate(names):
            _draw_curve(ax, table, x, name, style.COLOURS[i % len(style.COLOURS)], smooth)
        ax.set(xlabel=x.capitalize(), ylabel=metric_words(names[0]) if len(names) == 1 else "")
        ax.grid(axis="y")
        if len(names) > 1 and ax.lines:
            ax.legend()
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


def _draw_curve(ax, table: pd.DataFrame, x: str, name: str, colour: str, smooth: int) -> None:
    """Draws the rows where the column has a value: evaluations are rarer than losses."""
    if name not in table or not table[name].notna().any():
        words = f"{metric_words(name)}: not logged"
        ax.text(0.5, 0.5, words, transform=ax.transAxes, ha="center", color=style.MUTED)
        return
    rows = table[[x, name]].dropna()
    marker = "o" if len(rows) <= 12 else ""
    pale = smooth > 1 and len(rows) > smooth
    label = None if pale else metric_words(name)
    ax.plot(rows[x], rows[name], color=colour, marker=marker, markersize=4,
            alpha=0.3 if pale else 1, label=label)
    if pale:
        mean = rows[name].rolling(smooth, min_periods=1, center=True).mean()
        ax.plot(rows[x], mean, color=colour, label=metric_words(name))


def metric_words(name: str) -> str:
    """`eval_macro_auc` -> `Eval macro AUC`, `c_index` -> `C-index`."""
    text = re.sub(r"\bauc\b", "AUC", name.replace("_", " ").strip())
    text = re.sub(r"\bc index\b", "C-index", text)
    return text[:1].upper() + text[1:]


# --- bars -----------------------------------------------------------------------------------------


@style.in_style
def plot_bars(
    names: Sequence[str], values: Sequence[float], low: Sequence[float] | None = None,
    high: Sequence[float] | None = None, title: str = "", xlabel: str = "",
    reference: float | None = None, reference_label: str = "", simulated: bool | None = None,
) -> Figure:
    """Horizontal bars, first on top, each with its interval [low, high] (None = none) and value.

    `reference` draws a dashed line, such as chance. Raises DataError when the lists differ in
    length.
    """
    values = np.array([np.nan if v is None else v for v in values], dtype=float)
    if len(names) != len(values):
        raise DataError(f"plot_bars got {len(names)} names, {len(values)} values; give one each.")
    low, high = _bounds(low, values), _bounds(high, values)
    figure, ax = style.new_figure(size=(7.2, 1.1 + 0.42 * max(len(names), 2)))
    y = np.arange(len(names))[::-1]
    ax.barh(y, np.nan_to_num(values), height=0.62, color=style.COLOURS[0], alpha=0.85)
    errors = np.abs(np.nan_to_num(np.stack([values - low, high - values])))
    known = errors.any(0)  # a bar without an interval gets no mark at its end
    ax.errorbar(np.nan_to_num(values)[known], y[known], xerr=errors[:, known], fmt="none",
                ecolor=style.INK, capsize=3, linewidth=1.2)
    counts = np.isfinite(values).all() and not (values % 1).any() and values.max(initial=0) > 1
    for row, value, end in zip(y, values, np.fmax(high, values), strict=True):
        text = f" {value:,.{0 if counts else 3}f}" if np.isfinite(value) else " not computed"
        ax.annotate(text, (max(0.0, float(np.nan_to_num(end))), row), va="center", fontsize=9,
                    xytext=(3, 0), textcoords="offset points")
    if reference is not None:
        ax.axvline(reference, color=style.COLOURS[1], linestyle="--", linewidth=1.2)
        ax.annotate(reference_label, (reference, 1), xycoords=("data", "axes fraction"), fontsize=9,
                    xytext=(4, -1), textcoords="offset points", color=style.COLOURS[1], va="bottom")
    ax.set(yticks=y, yticklabels=list(names), xlabel=xlabel)
    ax.set_title(style.mark_simulated(title, simulated), pad=16 if reference_label else 6)
    ax.margins(x=0.14)
    return figure


def _bounds(bounds: Sequence[float] | None, values: np.ndarray) -> np.ndarray:
    """(n,) floats; where a bound is missing the value itself, so that no bar is drawn there."""
    if bounds is None:
        return values
    bounds = np.array([np.nan if b is None else b for b in bounds], dtype=float)
    return np.where(np.isfinite(bounds), bounds, values)


# --- survival -------------------------------------------------------------------------------------


def kaplan_meier(time: np.ndarray, event: np.ndarray) -> pd.DataFrame:
    """The product-limit estimate with Greenwood's variance and a log(-log) 95 % band.

    `time` (n,) >= 0, `event` (n,) 1 for an event, 0 for censoring (at risk until then).
    Returns one row per distinct time, first row time 0: time, at_risk, events, survival, low, high.
    The band is NaN where it is not defined (before the first event, and once survival is 0).
    Source: Kaplan and Meier 1958; Kalbfleisch and Prentice 2002, section 1.4.
    Raises DataError for empty, negative or non-finite times.
    """
    time, event = np.asarray(time, dtype=float), np.asarray(event) == 1
    if not len(time) or len(time) != len(event) or not np.isfinite(time).all() or time.min() < 0:
        raise DataError("Kaplan-Meier needs a finite time >= 0 and an event flag for each person.")
    times, inverse = np.unique(time, return_inverse=True)
    events = np.bincount(inverse, weights=event).astype(int)
    leaving = np.bincount(inverse)
    at_risk = len(time) - np.concatenate([[0], np.cumsum(leaving)[:-1]])
    survival = np.cumprod(1 - events / at_risk)
    with np.errstate(divide="ignore", invalid="ignore"):
        greenwood = np.cumsum(events / (at_risk * (at_risk - events)))
        width = Z95 * np.sqrt(greenwood) / np.abs(np.log(survival))
        low, high = survival ** np.exp(width), survival ** np.exp(-width)
    defined = (survival > 0) & (survival < 1)
    low, high = np.where(defined, low, np.nan), np.where(defined, high, np.nan)
    columns = (times, at_risk, events, survival, low, high)
    if times[0] > 0:
        start = (0.0, len(time), 0, 1.0, np.nan, np.nan)
        columns = [np.insert(c, 0, value) for c, value in zip(columns, start, strict=True)]
    names = ("time", "at_risk", "events", "survival", "low", "high")
    return pd.DataFrame(dict(zip(names, columns, strict=True)))


@style.in_style
def plot_kaplan_meier(
    time: np.ndarray, event: np.ndarray, groups: np.ndarray | None = None,
    labels: Sequence[str] | None = None, simulated: bool | None = None, title: str = "",
    xlabel: str = "Years", ylabel: str = "Event-free",
) -> Figure:
    """Survival by group with 95 % bands, ticks at censored times, the numbers at risk below.

    `groups` (n,) holds 0, 1, ... (or booleans), `labels` one name per group. `simulated` outcomes
    are marked in the title and across the figure.
    Raises DataError as `kaplan_meier` does.
    """
    time, event = np.asarray(time, dtype=float), np.asarray(event) == 1
    groups = np.zeros(len(time), dtype=int) if groups is None else np.asarray(groups).astype(int)
    kinds = np.unique(groups)
    names = dict(enumerate(labels if labels is not None else ["all"] if len(kinds) == 1 else []))
    names = {k: names.get(int(k), f"group {k}") for k in kinds}
    figure, (ax, below) = style.new_figure(
        2, 1, size=(7.2, 4.2 + 0.22 * len(kinds)), sharex=True,
        gridspec_kw={"height_ratios": [4, 0.3 + 0.28 * len(kinds)]},
    )
    for i, kind in enumerate(kinds):
        mine = groups == kind
        table = kaplan_meier(time[mine], event[mine])
        _draw_survival(ax, table, time[mine & ~event], names[kind], style.COLOURS[i])
    ax.set(ylabel=ylabel, ylim=(max(0, min(0.95, ax.get_ylim()[0])), 1.005))
    ax.set_title(style.mark_simulated(title, simulated))
    ax.grid(axis="y")
    ax.legend(loc="lower left")
    _numbers_at_risk(below, ax, time, groups, kinds, names, xlabel)
    return watermark(figure) if simulated else figure


def _draw_survival(ax, table: pd.DataFrame, censored: np.ndarray, name: str, colour: str) -> None:
    label = f"{name} (n={int(table.at_risk.iloc[0])}, {int(table.events.sum())} events)"
    ax.step(table.time, table.survival, where="post", color=colour, label=label)
    band = {"step": "post", "color": colour, "alpha": 0.15, "linewidth": 0}
    ax.fill_between(table.time, table.low, table.high, **band)
    at = table.survival.to_numpy()[np.searchsorted(table.time.to_numpy(), censored)]
    ax.plot(censored, at, "|", color=colour, markersize=4, alpha=0.5)


def _numbers_at_risk(below, ax, time, groups, kinds, names, xlabel: str) -> None:
    """One row per group, one count per tick of the time axis."""
    top = float(time.max())
    ticks = [t for t in ax.get_xticks() if 0 <= t <= top * 1.02]
    for row, kind in enumerate(kinds):
        mine = time[groups == kind]
        for t in ticks:
            below.text(t, -row, str(int((mine >= t).sum())), ha="center", va="center", fontsize=9,
                       color=style.COLOURS[row])
    below.set(ylim=(-len(kinds) + 0.4, 0.6), yticks=-np.arange(len(kinds)), xlabel=xlabel,
              yticklabels=[names[k] for k in kinds])
    below.set_title("Number at risk", fontsize=9, fontweight="normal", color=style.MUTED)
    below.tick_params(axis="y", length=0)
    for side in ("left", "bottom"):
        below.spines[side].set_visible(False)
    ax.set_xlim(-0.03 * top, top * 1.02)
