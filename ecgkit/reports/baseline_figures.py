"""Figures of notebook 03: what each model sees, training curves, exact match by question type.

Usage:
    plot_inputs()
    plot_by_type(score_table(...), simulated=True)
    plot_trainings({"fusion": fused.log.table, "text only": blind.log.table})
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ecgkit.reports import curves, style

INPUTS = ("ECG(s)", "Question's words", "Template's commonest answer")
MODELS = {
    "Fusion transformer": (1, 1, 0),
    "Text-only transformer": (0, 1, 0),
    "Per-template majority": (0, 0, 1),
    "Upper-bound classifier": (1, 0, 0),
}


@style.in_style
def plot_inputs(models: Mapping[str, tuple[int, ...]] = MODELS, inputs=INPUTS) -> Figure:
    """A grid of models (rows) and inputs (columns): a filled circle where the model sees it."""
    figure, axes = style.new_figure(size=(7.2, 0.5 * len(models) + 1.1))
    for y, sees in enumerate(models.values()):
        axes.axhspan(y - 0.5, y + 0.5, color="#f5f5f5" if y % 2 else "white", zorder=0)
        for x, seen in enumerate(sees):
            face = style.COLOURS[0] if seen else "none"
            axes.scatter(x, y, s=170, facecolor=face, edgecolor=style.MUTED, zorder=2)
    axes.set(xlim=(-0.6, len(inputs) - 0.4), ylim=(len(models) - 0.5, -0.5),
             xticks=range(len(inputs)), yticks=range(len(models)))
    axes.set_xticklabels(inputs)
    axes.set_yticklabels(models)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def plot_trainings(tables: Mapping[str, pd.DataFrame], title: str = "Training loss") -> Figure:
    """One curve per model over the same steps."""
    columns = {name: table.set_index("step")["loss"] for name, table in tables.items()}
    merged = pd.DataFrame(columns).reset_index()
    return curves.plot_training(merged, [list(tables)], title)


@style.in_style
def plot_by_type(table: pd.DataFrame, title: str = "Exact match on the test split",
                 simulated: bool | None = None) -> Figure:
    """Grouped bars of a `tasks.answers_qa.score_table`, one group a question type."""
    kinds, models = table["question_type"].unique(), table["model"].unique()
    figure, axes = style.new_figure(size=(8.6, 0.62 * len(kinds) + 1.3))
    thick = 0.8 / len(models)
    for m, model in enumerate(models):
        rows = table[table["model"] == model].set_index("question_type").reindex(kinds)
        at = np.arange(len(kinds)) + (m - (len(models) - 1) / 2) * thick
        value = rows["value"].to_numpy()
        spread = np.abs(np.stack([value - rows["low"], rows["high"] - value]))
        axes.barh(at, value, thick * 0.92, color=style.COLOURS[m], label=model)
        axes.errorbar(value, at, xerr=spread, fmt="none", ecolor=style.INK, elinewidth=0.9)
    counts = table.groupby("question_type", sort=False)["n"].first()
    axes.set_yticks(range(len(kinds)))
    axes.set_yticklabels([_label(kind, counts[kind]) for kind in kinds])
    axes.set(xlim=(0, 1), ylim=(len(kinds) - 0.45, -0.55), xlabel="Exact match (95 % interval)")
    axes.grid(axis="x")
    axes.set_title(style.mark_simulated(title, simulated))
    axes.legend(loc="lower right", frameon=True, framealpha=0.9, edgecolor="none")
    return figure


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


def _label(kind: str, n: int) -> str:
    """comparison_consecutive-verify -> Consecutive, verify (n)."""
    words = kind.replace("comparison_", "").replace("-", ", ")
    return f"{words[:1].upper()}{words[1:]} ({n})"
