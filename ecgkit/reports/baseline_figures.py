"""Figures of notebook 03: what each model sees, training, exact match by type, AUROC by code.

Models go by the names of the study's settings (`fusion`, `blind`, ...); figures write them out.

Usage:

    plot_inputs(["fusion", "blind", "majority", "se_wrn"])
    plot_trainings({"fusion": fused.log.table, "blind": blind.log.table})
    plot_by_type(score_table(...), simulated=True)
    plot_auroc(bound.table, "Upper bound: SE-WRN")
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ecgkit.data.qa_reading import QUESTION_TYPES
from ecgkit.reports import curves, style
from ecgkit.tasks.answers_qa import ALL
from ecgkit.types import DataError

INPUTS = ("First\nECG", "Second\nECG", "Question's\nwords", "Attribute\nand leads",
          "Template's\nmode")  # fmt: skip
IN_WORDS, UNSEEN = 1, 0  # how a model sees an input; 2: given as it is


class Sees(NamedTuple):
    """What a model is given, one entry per INPUTS; parameters of the published base model."""

    name: str
    inputs: tuple[int, ...]
    pretraining: str
    parameters: str


_WORDS, _BOTH, _ECGS = (0, 0, 2, 1, 0), (2, 2, 2, 1, 0), (2, 2, 0, 0, 0)
_CLASSIFIER = (2, 0, 0, 2, 0)
# Parameters: ecgqa.md 3.1, measured on the published classes (103 answers, 83 attributes).
MODELS = {
    "fusion": Sees("Fusion transformer", _BOTH, "none", "114.4 M"),
    "m3ae": Sees("M3AE", _BOTH, "ECG + report", "317.6 M"),
    "medvill": Sees("MedViLL", _BOTH, "ECG + report", "114.4 M"),
    "resnet_lstm": Sees("ResNet + LSTM", _BOTH, "none", "48.4 M"),
    "blind": Sees("Text only (blind)", _WORDS, "none", "109.0 M"),
    "deaf": Sees("ECG only (deaf)", _ECGS, "none", "90.5 M"),
    "majority": Sees("Per-template majority", (0, 0, 0, 0, 2), "–", "–"),
    "ecg_transformer": Sees("Bound: W2V+CMSC+RLM", _CLASSIFIER, "ECG only", "90.4 M"),
    "resnet_attention": Sees("Bound: ResNet + attention", _CLASSIFIER, "none", "6.6 M"),
    "se_wrn": Sees("Bound: SE-WRN", _CLASSIFIER, "none", "1.4 M"),
}
# The field's names of the result columns, and what they are short for.
_PAIRING = {"single": ("S", "one ECG"), "comparison_consecutive": ("CC", "consecutive ECGs"),
            "comparison_irrelevant": ("CI", "unrelated ECGs")}  # fmt: skip
TYPES = {ALL: ("All", "all questions")}
for _kind in QUESTION_TYPES:
    _pairing, _form = _kind.split("-")
    _short, _long = _PAIRING[_pairing]
    TYPES[_kind] = (f"{_short}-{_form.capitalize()}", f"{_long}, {_form}")


def name_of(model: str) -> str:
    """`blind` -> `Text only (blind)`; a name nobody knows stays as it is."""
    return MODELS[model].name if model in MODELS else model


def _colours(models: Iterable[str]) -> dict[str, str]:
    """One colour a model in the order given; the majority is grey, as it is no model."""
    trained = [m for m in models if m != "majority"]
    colours = {m: style.COLOURS[i % len(style.COLOURS)] for i, m in enumerate(trained)}
    return {**colours, "majority": style.MUTED}


# --- what each model may see ----------------------------------------------------------------------


@style.in_style
def plot_inputs(models: Iterable[str] | Mapping[str, tuple[int, ...]] | None = None,
                note: str = "") -> Figure:
    """A grid of models (rows) and inputs (columns), then pretraining and parameters as published.

    `models`: names of MODELS, default all. Large dot: given as such; small dot: only as far as the
    question's words say so. `note` joins the caption. Raises DataError for a model not in MODELS.
    """
    chosen = list(MODELS if models is None else models)
    unknown = [m for m in chosen if m not in MODELS]
    if unknown:
        raise DataError(f"No model is called {', '.join(unknown)}; choose {', '.join(MODELS)}.")
    rows, n = [MODELS[m] for m in chosen], len(INPUTS)
    figure, axes = style.new_figure(size=(8.8, 0.36 * len(rows) + 1.25))
    for y, row in enumerate(rows):
        axes.axhspan(y - 0.5, y + 0.5, color="#f5f5f5" if y % 2 else "white", zorder=0)
        for x, seen in enumerate(row.inputs):
            _draw_dot(axes, x, y, seen)
        for x, words in ((n + 0.15, row.pretraining), (n + 1.25, row.parameters)):
            axes.text(x, y, words, ha="center", va="center", fontsize=9)
    axes.set(xlim=(-0.6, n + 1.8), ylim=(len(rows) - 0.5, -0.5), yticks=range(len(rows)),
             xticks=[*range(n), n + 0.15, n + 1.25], yticklabels=[row.name for row in rows])
    axes.set_xticklabels([*INPUTS, "Published\npretraining", "Published\nparameters"])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_frame_on(False)
    words = ("Large dot: given as such. Small dot: only as far as the question's words say it. "
             "Template's mode: its commonest training answer.")
    words = "\n".join([words, *textwrap.wrap(note, 130)])
    figure.supxlabel(words, x=0.01, ha="left", fontsize=8, color=style.MUTED)
    return figure


def _draw_dot(axes, x: float, y: float, seen: int) -> None:
    face = "none" if seen == UNSEEN else style.COLOURS[0]
    edge = "#c8c8c8" if seen == UNSEEN else style.COLOURS[0]
    axes.scatter(x, y, s=30 if seen == IN_WORDS else 130, facecolor=face, edgecolor=edge, zorder=2)


# --- training -------------------------------------------------------------------------------------

CURVES = {"loss": "Training loss", "eval_loss": "Valid loss",
          "eval_exact_match": "Valid exact match"}  # fmt: skip


@style.in_style
def plot_trainings(tables: Mapping[str, pd.DataFrame], title: str = "Training",
                   simulated: bool | None = None) -> Figure:
    """One curve per model in a panel each of training loss, valid loss and valid exact match.

    A panel without a curve is left out. A star marks each model's best valid value, and the legend
    names its step (by exact match if logged, else by valid loss), or the only value there is.
    """
    shown = ["loss", *(c for c in list(CURVES)[1:]
                       if any(_n_known(t, c) > 1 for t in tables.values()))]
    figure, axes = style.new_figure(1, len(shown), squeeze=False, sharex=True,
                                    size=(max(6.4, 3.5 * len(shown)), 3.9))
    colours = _colours(tables)
    for i, (model, table) in enumerate(tables.items()):
        dashes = ("-", "--", "-.", ":")[i // 3 % 4]
        label = f"{name_of(model)}{_best_words(table)}"
        for ax, column in zip(axes[0], shown):
            if column in table:
                _draw_log(ax, table, column, label, color=colours[model], linestyle=dashes)
    for ax, column in zip(axes[0], shown):
        ax.set_title(CURVES[column], fontsize=10, fontweight="normal")
        ax.set_xlabel("Step")
        ax.grid(axis="y")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=min(2, len(shown)))
    figure.suptitle(style.mark_simulated(title, simulated), x=0.01, ha="left", fontsize=11,
                    fontweight="bold")
    return figure


def _draw_log(ax, table: pd.DataFrame, column: str, label: str, **look) -> None:
    rows = table[["step", column]].dropna()
    marker = "o" if len(rows) <= 12 else ""
    ax.plot(rows["step"], rows[column], marker=marker, markersize=4, label=label, **look)
    if column.startswith("eval_") and len(rows) > 1:
        best = rows.loc[_best_row(rows, column)]
        ax.plot(best["step"], best[column], "*", color=look["color"], markersize=13,
                markeredgecolor="white", gid="best")


def _best_row(rows: pd.DataFrame, column: str):
    return rows[column].idxmin() if column == "eval_loss" else rows[column].idxmax()


def _best_words(table: pd.DataFrame) -> str:
    """`, best at step 400`; of a single evaluation its value; nothing where there was none."""
    column = next((c for c in ("eval_exact_match", "eval_loss") if _n_known(table, c)), None)
    if column is None:
        return ""
    rows = table.dropna(subset=[column])
    best = rows.loc[_best_row(rows, column)]
    if len(rows) > 1:
        return f", best at step {best['step']:,.0f}"
    return f", {CURVES[column].lower()} {best[column]:.2f} at step {best['step']:,.0f}"


def _n_known(table: pd.DataFrame, column: str) -> int:
    return int(table[column].notna().sum()) if column in table else 0


# --- exact match by question type -----------------------------------------------------------------


@style.in_style
def plot_by_type(table: pd.DataFrame, title: str = "Exact match on the test split",
                 simulated: bool | None = None) -> Figure:
    """A `tasks.answers_qa.score_table`, one panel a question type: dot, 95 % interval, value.

    Panels go by the field's names (S-Verify, ...) over the long ones with n; models stand in the
    same order in each. The dashed line is the per-template majority, where it was scored.
    """
    kinds = [k for k in TYPES if (table["question_type"] == k).any()]
    models = list(table["model"].unique())
    columns = min(4, len(kinds))
    n_rows = -(-len(kinds) // columns)
    size = (2.0 + 1.9 * columns, 0.9 + n_rows * (0.75 + 0.24 * len(models)))
    figure, axes = style.new_figure(n_rows, columns, size=size, sharex=True, sharey=True,
                                    squeeze=False)
    colours = _colours(models)
    for ax, kind in zip(axes.flat, kinds):
        rows = table[table["question_type"] == kind].set_index("model").reindex(models)
        _draw_scores(ax, rows, colours)
        _head_panel(ax, *TYPES[kind], f"n = {int(rows['n'].max()):,}")
        ax.set_title(" ", pad=24, fontsize=8)  # room for the head of the panel
        ax.tick_params(labelbottom=True)
    for ax in axes.flat[len(kinds):]:
        ax.set_visible(False)
    axes[0, 0].set(xlim=(0, 1.22), ylim=(len(models) - 0.5, -0.5), yticks=range(len(models)),
                   xticks=(0, 0.5, 1), yticklabels=[name_of(m) for m in models])
    axes[0, 0].set_title(style.mark_simulated(title, simulated), pad=38, fontsize=11)
    figure.supxlabel("Exact match, 95 % interval over patients", fontsize=10)
    return figure


def _head_panel(ax, short: str, long: str, count: str) -> None:
    """Above a panel: short name and count, the long name under them; not part of the layout."""
    muted = {"fontsize": 8, "color": style.MUTED}
    for x, up, words, look in ((0, 17, short, {"fontsize": 10, "weight": "bold"}),
                               (1, 17, count, muted), (0, 5, long, muted)):
        ax.annotate(words, (x, 1), xycoords="axes fraction", xytext=(0, up), annotation_clip=False,
                    textcoords="offset points", ha="right" if x else "left", **look
                    ).set_in_layout(False)


def _draw_scores(ax, rows: pd.DataFrame, colours: Mapping[str, str]) -> None:
    """Dots with intervals; the interval's end carries the value."""
    if "majority" in rows.index:
        ax.axvline(rows.loc["majority", "value"], color=style.MUTED, lw=0.9, ls="--", zorder=0)
    for y, (model, row) in enumerate(rows.iterrows()):
        if not np.isfinite(row["value"]):
            continue
        ax.plot([row["low"], row["high"]], [y, y], color=colours[model], lw=2.2, gid="interval")
        ax.plot(row["value"], y, "o", color=colours[model], markersize=6, gid="score")
        ax.text(max(row["high"], row["value"]) + 0.03, y, f"{row['value']:.2f}", va="center",
                fontsize=8)
    ax.grid(axis="x")
    ax.tick_params(axis="y", length=0)


# --- classifiers ----------------------------------------------------------------------------------


def plot_auroc(table: pd.DataFrame, title: str, simulated: bool | None = None, n: int = 10):
    """AUROC by code, best first, of codes with test ECGs of both kinds; where there are
    more than 2 n, the n best and the n worst."""
    known = table.dropna(subset=["auroc"]).sort_values("auroc", ascending=False)
    shown = known
    if len(known) > 2 * n:
        shown = pd.concat([known.head(n), known.tail(n)])
        title = f"{title}, {n} best and {n} worst of {len(known)} codes"
    names = [f"{row.code} ({row.positives})" for row in shown.itertuples()]
    return curves.plot_bars(names, shown["auroc"].tolist(), title=title, simulated=simulated,
                            xlabel="AUROC on the test fold (ECGs with the code)", reference=0.5,
                            reference_label="chance")
