"""Figures of how good a predicted risk is: Kaplan-Meier by risk group with the log-rank test, AUC
over time, calibration, decision curve, hazard ratios, and the ladder of C-indices.

Each takes tables of `tasks.survival_*` and `tasks.risk_baselines`, returns the Figure, and bears
the mark "simulated outcomes" where it is told so. Intervals are 95 %.

Usage:

    plot_risk_groups(years, event, groups, labels, log_rank(years, event, groups), simulated=True)
    plot_auc({"network": auc_over_time(years, event, risk, at)}, simulated=True)
    plot_calibration({5: calibration_groups(years, event, predicted, 5)}, summary)
    plot_decision({"network": net_benefit(years, event, predicted, 5)}, years=5)
    plot_hazard_ratios(hazard_ratios(findings, years, event), truth=outcomes.hazard)
    plot_ladder(baseline_table(scores, years, event))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ecgkit.reports import curves, style
from ecgkit.reports.watermark import finish
from ecgkit.types import DataError

FACTOR_WORDS = {
    "lvh": "LV hypertrophy", "lbbb": "LBBB", "rbbb": "RBBB", "af": "AF or flutter",
    "pr_long": "PR above 200 ms", "pvc": "ventricular ectopics", "mi": "prior MI",
    "st_t": "ST-T changes", "age_decade": "age, per decade", "male": "male sex",
}  # fmt: skip
RATIO_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)


@style.in_style
def plot_risk_groups(
    time, event, groups, labels: Sequence[str], test: Mapping | None = None,
    simulated: bool | None = False, title: str = "Event-free by predicted risk",
    ylabel: str = "Event-free",
) -> Figure:
    """Kaplan-Meier curves with bands, numbers at risk below, and the result of `log_rank` (`test`)
    above the curves. `event`: code 1 is the event, others count as censored."""
    event = np.asarray(event) == 1
    figure = curves.plot_kaplan_meier(time, event, groups, labels, None, "", ylabel=ylabel)
    if test is not None:
        figure.axes[0].set_title(p_words(test), fontsize=9, fontweight="normal")
    return finish(figure, title, simulated)


def p_words(test: Mapping) -> str:
    """"log-rank p < 0.001 (chi-squared 35.2, 2 df)", or why there is none."""
    if not np.isfinite(test["p"]):
        return f"log-rank: none, {test['note']}"
    p = f"p = {test['p']:.3f}" if test["p"] >= 0.001 else "p < 0.001"
    return f"log-rank {p} (chi-squared {test['statistic']:.1f}, {test['df']} df)"


@style.in_style
def plot_auc(
    tables: Mapping[str, pd.DataFrame], simulated: bool | None = False,
    title: str = "Time-dependent AUC",
) -> Figure:
    """AUC by year with its band, one line per score; below, cases and controls at each time.

    `tables`: {score: `auc_over_time`}. Times without a value are left open.
    """
    figure, ax = style.new_figure(size=(7.2, 4.2))
    for i, (name, table) in enumerate(tables.items()):
        colour = style.COLOURS[i % len(style.COLOURS)]
        ax.plot(table["years"], table["auc"], marker="o", markersize=4, color=colour, label=name)
        ax.fill_between(table["years"], table["low"], table["high"], color=colour, alpha=0.15,
                        linewidth=0)  # fmt: skip
    first = next(iter(tables.values()))
    ax.axhline(0.5, color=style.MUTED, linestyle="--", linewidth=1)
    ax.set_ylabel("AUC, cumulative cases / dynamic controls")
    step = max(1, -(-len(first) // 8))
    ax.set_xticks(first["years"][::step], [
        f"{row.years:g}\n{row.cases} / {row.controls}" for row in first[::step].itertuples()
    ])  # fmt: skip
    ax.set_xlabel("Years, with cases / controls below")
    lowest = np.fmin.reduce([t["low"].min() for t in tables.values()], initial=0.45)
    ax.set_ylim(lowest, 1.01)
    ax.grid(axis="y")
    ax.legend(loc="lower right", ncols=2)
    return finish(figure, title, simulated)


@style.in_style
def plot_calibration(
    tables: Mapping[float, pd.DataFrame], summary: pd.DataFrame | None = None,
    simulated: bool | None = False, title: str = "Predicted against observed risk",
) -> Figure:
    """One panel per horizon: each risk group's mean prediction and 1 - Kaplan-Meier with limits.

    `tables`: {years: `calibration_groups`}; `summary`: `calibration_summary`, whose slope and ratio
    are written in the panels.
    """
    figure, axes = style.new_figure(1, len(tables), size=(3.7 * len(tables) + 0.4, 3.9),
                                    squeeze=False)  # fmt: skip
    for ax, (years, table) in zip(axes[0], tables.items(), strict=True):
        known = table[np.isfinite(table["observed"])]
        ends = known[["predicted", "observed", "high"]].to_numpy(dtype=float)
        top = min(1.0, 1.08 * float(np.nanmax(ends, initial=0.05)))
        ax.plot([0, top], [0, top], color=style.MUTED, linestyle="--", linewidth=1)
        gaps = np.stack([known["observed"] - known["low"], known["high"] - known["observed"]])
        ax.errorbar(known["predicted"], known["observed"], yerr=np.nan_to_num(gaps), fmt="o",
                    color=style.COLOURS[0], ecolor=style.INK, capsize=3, linewidth=1.2)  # fmt: skip
        ax.set(xlim=(0, top), ylim=(0, top), xlabel="Predicted risk")
        ax.set_title(f"By {years_words(years)}")
        ax.text(0.98, 0.03, _calibration_words(summary, years, table), transform=ax.transAxes,
                ha="right", va="bottom", fontsize=8.5)  # fmt: skip
        ax.grid()
    axes[0, 0].set_ylabel("Observed risk (1 - Kaplan-Meier)")
    return finish(figure, title, simulated)


def years_words(years: float) -> str:
    """1 -> "1 year", 2.5 -> "2.5 years"."""
    return f"{years:g} year{'' if years == 1 else 's'}"


def _calibration_words(summary, years: float, table: pd.DataFrame) -> str:
    lines = []
    if summary is not None:
        for row in summary[summary["years"] == years].itertuples():
            if np.isfinite(row.slope):
                lines.append(f"slope {row.slope:.2f} [{row.slope_low:.2f}, {row.slope_high:.2f}]")
            if np.isfinite(row.ratio):
                lines.append(f"observed / expected {row.ratio:.2f} "
                             f"[{row.ratio_low:.2f}, {row.ratio_high:.2f}]")  # fmt: skip
            lines += [row.note] if row.note else []
    missing = int((~np.isfinite(table["observed"])).sum())
    if missing:
        lines.append(f"{missing} of {len(table)} groups not followed so far")
    return "\n".join(lines)


@style.in_style
def plot_decision(
    tables: Mapping[str, pd.DataFrame], years: float, simulated: bool | None = False,
    title: str = "Decision curve",
) -> Figure:
    """Net benefit by threshold of each model with its band, beside acting on all and on none.

    `tables`: {model: `net_benefit`}. The first model's treat-all line is drawn: it is the same for
    all on the same patients.
    """
    figure, ax = style.new_figure(size=(7.2, 4.2))
    for i, (name, table) in enumerate(tables.items()):
        colour = style.COLOURS[i % len(style.COLOURS)]
        ax.plot(table["threshold"], table["model"], color=colour, label=name)
        ax.fill_between(table["threshold"], table["low"], table["high"], color=colour, alpha=0.12,
                        linewidth=0)  # fmt: skip
    first = next(iter(tables.values()))
    ax.plot(first["threshold"], first["all"], color=style.MUTED, linestyle="--", label="treat all")
    ax.axhline(0, color=style.INK, linewidth=1, label="treat none")
    top = float(np.nanmax([t["high"].max() for t in tables.values()] + [0.02]))
    ax.set_ylim(-0.25 * top, 1.1 * top)
    ax.set(xlabel=f"Threshold: risk by {years_words(years)} from which one would act",
           ylabel="Net benefit per patient")  # fmt: skip
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    ax.grid(axis="y")
    ax.legend(loc="upper right")
    return finish(figure, title, simulated)


@style.in_style
def plot_hazard_ratios(
    table: pd.DataFrame, truth: Mapping[str, float] | None = None, simulated: bool | None = False,
    title: str = "Hazard ratios", names: Mapping[str, str] | None = None,
) -> Figure:
    """Forest plot on a log axis, ratio and limits written at the right.

    `table`: `hazard_ratios`; `truth`: {name: LOG hazard ratio} that outcomes were drawn from,
    marked by a diamond; `names`: what to call covariates. Rows without a ratio say why.
    """
    figure, ax = style.new_figure(size=(7.6, 1.2 + 0.34 * max(len(table), 3)))
    known = table[np.isfinite(table["hr"])]
    y = np.arange(len(table))[::-1]
    shown = table["hr"].notna().to_numpy()
    gaps = np.stack([known["hr"] - known["low"], known["high"] - known["hr"]])
    ax.errorbar(known["hr"].to_numpy(), y[shown], xerr=gaps, fmt="s", markersize=5,
                color=style.COLOURS[0], ecolor=style.INK, capsize=3, linewidth=1.2,
                label="estimate, 95 %")  # fmt: skip
    drawn = [(np.exp(truth[name]), row) for name, row in zip(table["name"], y)
             if truth and name in truth]  # fmt: skip
    if drawn:
        ax.plot(*np.transpose(drawn), "D", markersize=6, markerfacecolor="none", linestyle="",
                markeredgecolor=style.COLOURS[1], markeredgewidth=1.6,
                label="true ratio (simulated)")  # fmt: skip
    ax.axvline(1, color=style.MUTED, linestyle="--", linewidth=1)
    _ratio_axis(ax, known, [ratio for ratio, _ in drawn])
    for row, at in zip(table.itertuples(), y, strict=True):
        finite = np.isfinite(row.hr)
        words = f"{row.hr:.2f} [{row.low:.2f}, {row.high:.2f}]" if finite else "not estimated"
        ax.annotate(words, (1.01, at), xycoords=("axes fraction", "data"), va="center", fontsize=9)
        if not finite:
            behind = {"facecolor": "white", "edgecolor": "none", "pad": 1}
            ax.annotate(row.note, (0.015, at), xycoords=("axes fraction", "data"), va="center",
                        fontsize=8, color=style.MUTED, bbox=behind)  # fmt: skip
    words = FACTOR_WORDS | dict(names or {})
    called = [words.get(name, name.replace("_", " ")) for name in table["name"]]
    ax.set(yticks=y, yticklabels=called, xlabel="Hazard ratio", ylim=(-0.7, len(table) - 0.3))
    if len(known) or drawn:
        figure.legend(loc="outside lower center", ncols=2)
    return finish(figure, title, simulated)


def _ratio_axis(ax, known: pd.DataFrame, extra: Sequence[float]) -> None:
    values = np.concatenate([known["low"], known["high"], extra, [0.8, 1.25]])
    values = np.clip(values[np.isfinite(values)], RATIO_TICKS[0], RATIO_TICKS[-1])
    ax.set_xscale("log")
    ax.set_xlim(values.min() / 1.12, values.max() * 1.12)
    ax.xaxis.set_major_locator(FixedLocator(RATIO_TICKS))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


@style.in_style
def plot_ladder(
    table: pd.DataFrame, simulated: bool | None = False, measure: str = "harrell",
    title: str = "C-index on held-out patients", ours: Sequence[str] = ("network",),
) -> Figure:
    """Bars of `baseline_table`, best on top, with intervals; the grey band is where Harrell's C of
    pure noise lies in 95 of 100 cases. `measure`: harrell | uno; `ours` in the accent colour."""
    limits = {"harrell": ("low", "high"), "uno": ("uno_low", "uno_high")}
    if measure not in limits:
        raise DataError(f"measure is {measure!r}; choose harrell or uno.")
    low, high = limits[measure]
    table = table.sort_values(measure, na_position="first", kind="stable")
    figure, ax = style.new_figure(size=(7.6, 1.3 + 0.38 * max(len(table), 3)))
    y = np.arange(len(table))
    reach = 1.96 * float(table["null_sd"].iloc[0]) if measure == "harrell" else np.nan
    if np.isfinite(reach):
        ax.axvspan(0.5 - reach, 0.5 + reach, color=style.MUTED, alpha=0.15, linewidth=0,
                   label="95 % of pure noise")  # fmt: skip
    colours = [style.COLOURS[1] if name in ours else style.COLOURS[0] for name in table["name"]]
    values = table[measure].to_numpy()
    start = min(0.4, float(np.fmin.reduce(table[low], initial=0.45)) - 0.02)
    ax.barh(y, np.nan_to_num(values, nan=start) - start, left=start, height=0.6, color=colours,
            alpha=0.85)  # fmt: skip
    gaps = np.nan_to_num([values - table[low], table[high] - values])
    shown = np.isfinite(values)
    ax.errorbar(values[shown], y[shown], xerr=gaps[:, shown], fmt="none", ecolor=style.INK,
                capsize=3, linewidth=1.2)  # fmt: skip
    for row, at in zip(table.itertuples(), y, strict=True):
        value = getattr(row, measure)
        words = f"{value:.3f}" if np.isfinite(value) else row.note
        end = getattr(row, high) if np.isfinite(value) else start
        ax.annotate(words, (end, at), xytext=(5, 0), textcoords="offset points", va="center",
                    fontsize=9)  # fmt: skip
    ax.axvline(0.5, color=style.MUTED, linestyle="--", linewidth=1)
    tau = f", before {table['tau'].iloc[0]:.1f} years" if measure == "uno" else ""
    n, events = table["n"].iloc[0], table["events"].iloc[0]
    ax.set(yticks=y, yticklabels=table["name"], xlim=(start, 1.0),
           xlabel=f"{measure.capitalize()}'s C{tau} ({n:,} patients, {events:,} events)")
    if np.isfinite(reach):
        figure.legend(loc="outside lower right")
    return finish(figure, title, simulated)
