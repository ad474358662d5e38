"""Figures in the papers' form, drawn from run files alone; simulated ones bear it across.

Each function returns the Figure, or None where the run has not left what it needs.

Usage:

    for name, (figure, caption) in paper_figures(run, ledger).items():
        figure.savefig(f"paper/{name}.png")
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ecgkit.reports import style
from ecgkit.reports.ledger_files import RunFiles, describe_data, is_simulated
from ecgkit.reports.watermark import watermark

PUBLISHED, OURS = style.MUTED, style.COLOURS[1]
ESI, FEW, QA, RISK = ("05_esi_evaluation", "06_few_shot_qa", "03_baselines", "07_risk_finetuning")


def paper_figures(run: RunFiles, ledger: pd.DataFrame) -> dict[str, tuple[Figure, str]]:
    """name -> (figure, caption) of every figure this run's files can give, in the papers' order."""
    found = {}
    for name, (source, draw, caption) in _FIGURES.items():
        figure = draw(run, ledger)
        if figure is not None:
            mark, body = made_up_words(run, source), run.body(source)
            said = f"{mark.capitalize()}: not a replication. " if mark else ""
            about = f"{describe_data(body)}, preset {body.get('preset')}"
            words = f"{caption}. {said}Data: {about}."
            found[name] = (watermark(figure, mark) if mark else figure, words)
    return found


def made_up_words(run: RunFiles, source: str) -> str:
    """The mark a figure of this notebook bears; "" where nothing in it is made up."""
    if is_simulated(run.body(source)):
        return "simulated data"
    if source == RISK and not run.setting(source, "outcomes"):
        return "simulated outcomes"
    if source in (QA, FEW) and not run.setting(source, "ecgqa"):
        return "questions of the kit"
    return ""


# --- published beside ours ------------------------------------------------------------------------


def plot_probe(run: RunFiles, ledger: pd.DataFrame) -> Figure | None:
    """ESI's Table 2, PTB-XL: published mean and SD by method, ours with its interval."""
    return _dots(ledger, "ESI", "Table 2", "PTB-XL · arrhythmia", "macro AUC, superclasses")


def plot_identification(run: RunFiles, ledger: pd.DataFrame) -> Figure | None:
    """ESI's Table 4, PTB-XL, frozen encoders: AUC of telling people by half an ECG."""
    rows = ledger[~ledger["quantity"].str.contains(r"fine-tune|supervised")]
    return _dots(rows, "ESI", "Table 4", "PTB-XL", "AUC", "· AUC")


def _dots(ledger, system: str, table: str, start: str, xlabel: str, end: str = "") -> Figure | None:
    some = ledger[(ledger["system"] == system) & (ledger["table"] == table)]
    some = some[some["quantity"].str.startswith(start) & some["quantity"].str.endswith(end)]
    if not some["ours"].notna().any():
        return None
    return _draw_dots(some.reset_index(drop=True), f"{system}, {table}", xlabel)


@style.in_style
def _draw_dots(some: pd.DataFrame, title: str, xlabel: str) -> Figure:
    figure, ax = style.new_figure(size=(7.4, 1.2 + 0.27 * len(some)))
    y = np.arange(len(some))[::-1]
    published = some["published"].astype(float)
    spread = pd.to_numeric(some["sd"], errors="coerce").fillna(0)
    ax.errorbar(published, y, xerr=spread, fmt="o", color=PUBLISHED, markerfacecolor="white",
                capsize=2, label="published (± SD where printed)")
    ours = some["ours"].to_numpy(float)
    low, high = (some[c].to_numpy(float) for c in ("low", "high"))
    error = np.nan_to_num(np.abs(np.stack([ours - low, high - ours])))
    ax.errorbar(ours, y - 0.25, xerr=error, fmt="D", color=OURS, capsize=2,
                label="this run (95 % interval)")
    names = [" · ".join(part.partition(" (")[0] for part in q.split(" · ")[2:-1])
             for q in some["quantity"]]  # fmt: skip
    ax.set(yticks=y, yticklabels=names, xlabel=xlabel)
    ax.set_title(title, pad=26)
    ax.grid(axis="x")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderpad=0.2)
    return figure


# --- curves and bars from the tables that notebooks leave -----------------------------------------


@style.in_style
def plot_fractions(run: RunFiles, ledger: pd.DataFrame) -> Figure | None:
    """Macro AUC of a probe by share of the training labels, log axis, 95 % bands."""
    table = run.table(ESI, "label_fractions.csv")
    if table is None or table.empty:
        return None
    figure, ax = style.new_figure(size=(6.4, 4))
    for number, (name, part) in enumerate(table.groupby("model", sort=False)):
        part, colour = part.sort_values("fraction"), style.COLOURS[number]
        ax.plot(100 * part["fraction"], part["value"], marker="os^D"[number % 4], color=colour,
                label=name)
        ax.fill_between(100 * part["fraction"], part["low"], part["high"], color=colour, alpha=0.15,
                        linewidth=0)
    shares = sorted(table["fraction"].unique())
    ax.set(xscale="log", xlabel="Training labels, %", ylabel="Macro AUC, superclasses")
    ax.set_xticks([100 * s for s in shares], [f"{100 * s:g}" for s in shares])
    ax.minorticks_off()
    ax.set_title("ESI: a probe with few labels")
    ax.grid(axis="y")
    ax.legend(loc="lower right")
    return figure


@style.in_style
def plot_by_shots(run: RunFiles, ledger: pd.DataFrame) -> Figure | None:
    """Few-shot accuracy by N-way question type and K shots, the published 5-way 5-shot beside."""
    table = run.table(FEW, "accuracy_grid.csv")
    if table is None or table.empty:
        return None
    table = table[(table["attributes"] == "unseen") & (table["leads"] == table["leads"].iloc[0])]
    kinds = list(dict.fromkeys(table["question_type"]))
    figure, axes = style.new_figure(1, len(kinds), size=(3.6 * len(kinds) + 0.6, 3.8), sharey=True,
                                    squeeze=False)
    for ax, kind in zip(axes[0], kinds):
        part = table[table["question_type"] == kind].sort_values("k_shot")
        x = np.arange(len(part))
        error = np.abs(np.stack([part["value"] - part["low"], part["high"] - part["value"]]))
        ax.bar(x, 100 * part["value"], color=style.COLOURS[0], alpha=0.85, label="this run")
        ax.errorbar(x, 100 * part["value"], yerr=100 * error, fmt="none", ecolor=style.INK,
                    capsize=3)
        _published_shot(ax, ledger, kind, part["k_shot"].tolist())
        ax.set(xticks=x, xticklabels=[f"K = {k}" for k in part["k_shot"]], title=kind)
        ax.set(xlabel="examples per class", ylim=(0, 100))
    axes[0, 0].set_ylabel("Exact match, %")
    axes[0, 0].legend(loc="upper left")
    return figure


def _published_shot(ax, ledger: pd.DataFrame, kind: str, shots: list[int]) -> None:
    """The published accuracy of this question type, at K = 5."""
    word = kind.rpartition(" ")[2]
    same = ledger[(ledger["table"] == "abstract")
                  & ledger["quantity"].str.contains(f"single-{word}")]  # fmt: skip
    if len(same) and 5 in shots:
        value = float(same["published"].iloc[0])
        ax.plot([shots.index(5)], [value], "o", color=PUBLISHED, markerfacecolor="white",
                markersize=8, label="published, 5-way 5-shot")


@style.in_style
def plot_exact_match(run: RunFiles, ledger: pd.DataFrame) -> Figure | None:
    """ECG-QA's table: exact match of each model, by question type, with intervals."""
    table = run.table(QA, "exact_match.csv")
    if table is None or table.empty:
        return None
    kinds, models = (list(dict.fromkeys(table[c])) for c in ("question_type", "model"))
    figure, ax = style.new_figure(size=(7.4, 1.4 + 0.16 * len(kinds) * (len(models) + 1)))
    for number, model in enumerate(models):
        part = table[table["model"] == model].set_index("question_type").reindex(kinds)
        y = -np.arange(len(kinds)) * (len(models) + 1) - number
        error = np.abs(np.stack([part["value"] - part["low"], part["high"] - part["value"]]))
        ax.errorbar(part["value"], y, xerr=np.nan_to_num(error), fmt="os^DvPX*"[number % 8],
                    color=style.COLOURS[number % 8], capsize=2, label=model)
    middle = -np.arange(len(kinds)) * (len(models) + 1) - (len(models) - 1) / 2
    counts = table.groupby("question_type", sort=False)["n"].first()
    ax.set(yticks=middle, yticklabels=[f"{k} (n={counts[k]})" for k in kinds], xlim=(-0.02, 1.02))
    ax.set(xlabel="Exact match (95 % interval over patients)")
    ax.set_title("ECG-QA: models by question type", pad=26 if len(models) < 5 else 40)
    ax.grid(axis="x")
    ax.legend(loc="lower left", bbox_to_anchor=(-0.4, 1), ncols=4)
    return figure


# --- risk -----------------------------------------------------------------------------------------


@style.in_style
def plot_c_index(run: RunFiles, ledger: pd.DataFrame) -> Figure | None:
    """C-index of the network beside what it has to beat; the published cohorts as lines."""
    metrics = run.body(RISK).get("metrics", {})
    rows = {name: row for name, row in metrics.items()
            if name.startswith("c_index") and row.get("value") is not None}  # fmt: skip
    if not rows:
        return None
    figure, ax = style.new_figure(size=(7.4, 1.5 + 0.3 * len(rows)))
    y = np.arange(len(rows))[::-1]
    value, low, high = (np.array([r.get(k) for r in rows.values()], dtype=float)
                        for k in ("value", "low", "high"))  # fmt: skip
    error = np.nan_to_num(np.abs(np.stack([value - low, high - value])))
    ax.errorbar(value, y, xerr=error, fmt="D", color=OURS, capsize=2, label="this run")
    names = [n.removeprefix("c_index").strip("_").replace("_", " ") or "network" for n in rows]
    same = ledger[(ledger["system"] == "HF-dual-attention")
                  & (ledger["table"] == "README / abstract")]  # fmt: skip
    for (_, row), look in zip(same.iterrows(), ("--", ":")):
        label = f"published, {row['quantity'].partition(' · ')[0]}: {row['published']}"
        ax.axvline(float(row["published"]), linestyle=look, color=PUBLISHED, label=label)
    ax.axvline(0.5, color="#dddddd", zorder=0)
    ax.set(yticks=y, yticklabels=names, xlabel="Harrell's C (95 % interval over patients)")
    ax.set_title("Heart-failure risk: C-index", pad=26)
    ax.legend(loc="lower left", bbox_to_anchor=(-0.2, 1), ncols=3)
    return figure


@style.in_style
def plot_risk_groups(run: RunFiles, ledger: pd.DataFrame) -> Figure | None:
    """Kaplan-Meier by third of predicted risk, with bands and the numbers at risk by year."""
    table = run.table(RISK, "kaplan_meier.csv")
    if table is None or table.empty:
        return None
    figure, ax = style.new_figure(size=(6.8, 4.4))
    for number, (name, part) in enumerate(table.groupby("group", sort=False)):
        colour = style.COLOURS[number]
        label = f"{name} (n={int(part['at_risk'].iloc[0])})"
        ax.step(part["years"], part["free"], where="post", color=colour, label=label,
                linestyle=("-", "--", "-.", ":")[number % 4])
        ax.fill_between(part["years"], part["low"], part["high"], step="post", color=colour,
                        alpha=0.15, linewidth=0)
    ax.set(xlabel="Years", ylabel="Event-free", ylim=(None, 1.01))
    ax.set_title("Heart-failure risk: Kaplan-Meier by third of predicted risk")
    ax.grid(axis="y")
    ax.legend(loc="lower left")
    return figure


_FIGURES: dict[str, tuple[str, Callable, str]] = {
    "ecgqa_exact_match": (QA, plot_exact_match, "Exact match by model and question type, in the "
                          "form of ECG-QA's table; no published value could be read"),
    "esi_table_2": (ESI, plot_probe, "ESI Table 2, PTB-XL: published beside this run"),
    "esi_table_4": (ESI, plot_identification, "ESI Table 4, PTB-XL, frozen encoders: published "
                    "beside this run"),
    "esi_few_labels": (ESI, plot_fractions, "Macro AUC of a linear probe by share of the labels"),
    "few_shot": (FEW, plot_by_shots, "Few-shot accuracy on unseen attributes by examples per "
                 "class, 95 % intervals over episodes"),
    "risk_c_index": (RISK, plot_c_index, "C-index of the risk network and of what it has to beat; "
                     "lines: the published cohorts, other people"),
    "risk_groups": (RISK, plot_risk_groups, "Event-free share by third of predicted risk, on a "
                    "grid of quarter years"),
}  # fmt: skip
