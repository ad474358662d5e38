"""Figures of notebook 05: label fractions, identification, scores of one ECG, captions, maps.

Usage:

    plot_fractions(table, {"zero-shot": 0.81}); plot_match_curve({"cosine": ranks}, n=391)
    plot_scores(record, scores, names, true=[0, 2]); plot_caption_scores(table)
    plot_maps(embedding, labels, names)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ecgkit.reports import paper, style
from ecgkit.types import ECGRecord


class Mark(NamedTuple):
    """How a bar of `plot_scores` looks, and what is written behind it."""

    colour: str
    hatch: str
    words: str


# Of a finding its reader stated, of one he did not, and of a sentence typed by the user (None).
MARKS = {
    True: Mark(style.COLOURS[1], "//", " stated"),
    False: Mark("#9fb8cc", "", ""),
    None: Mark(style.INK, "", ""),
}


@style.in_style
def plot_fractions(table: pd.DataFrame, levels: Mapping[str, float] = (), title: str = "",
                   ylabel: str = "macro AUC") -> Figure:
    """One line per `model` over `fraction` of the training labels (log scale), band low..high.

    `table`: model, fraction, value, low, high. `levels`: name -> value of what needs no labels,
    drawn as dashed lines.
    """
    figure, ax = style.new_figure(size=(6.6, 4.0))
    for i, (name, one) in enumerate(table.groupby("model", sort=False)):
        one, colour = one.sort_values("fraction"), style.COLOURS[i]
        ax.plot(one["fraction"], one["value"], "o-", color=colour, label=name)
        ax.fill_between(one["fraction"], one["low"], one["high"], color=colour, alpha=0.15,
                        linewidth=0)
    for i, (name, value) in enumerate(dict(levels).items()):
        ax.axhline(value, color=style.COLOURS[-2 - i], linestyle="--", linewidth=1.2,
                   label=f"{name} ({value:.3f})")
    shares = sorted(table["fraction"].unique())
    ax.set_xscale("log")
    ax.set_xticks(shares, [f"{share:.0%}" for share in shares])
    ax.minorticks_off()
    ax.set(title=title, xlabel="share of the training labels", ylabel=ylabel)
    ax.legend(loc="lower right")
    return figure


@style.in_style
def plot_match_curve(ranks: Mapping[str, np.ndarray], n: int, title: str = "") -> Figure:
    """Share of subjects whose own record is among the nearest k, over k: the cumulative match
    curve of identification. `ranks` name -> (N,) place of the own record among `n`, 1 = nearest.
    """
    figure, ax = style.new_figure(size=(6.0, 4.0))
    k = np.arange(1, n + 1)
    for i, (name, places) in enumerate(ranks.items()):
        share = (np.asarray(places)[None] <= k[:, None]).mean(1)
        ax.plot(k, share, color=style.COLOURS[i], label=f"{name}: first for {share[0]:.0%}")
    ax.plot(k, k / n, color=style.MUTED, linestyle="--", linewidth=1, label=f"chance (1 in {n})")
    ax.set_xscale("log")
    ax.set(title=title, xlabel="k nearest of all subjects", ylim=(0, 1.02),
           ylabel="own record among them")
    ax.legend(loc="center left")
    return figure


@style.in_style
def plot_scores(record: ECGRecord, scores: np.ndarray, names: Sequence[str],
                true: Sequence[int] = (), title: str = "", most: int = 12) -> Figure:
    """The ECG page, and beside it its zero-shot scores as bars, highest first; stated findings in
    the accent colour and hatched. `scores` (K,) in standard deviations over the test split.
    """
    bar_mm, names_mm = 124.0, 58.0
    figure, axes, page = paper.draw_page(record, title, right=bar_mm)
    shown = ranked(scores, true, most)
    width, free = page.width + bar_mm, bar_mm - names_mm
    ax = figure.add_axes((1 - free / width, 0.16, (free - 6) / width, 0.68))
    for y, (k, stated) in enumerate(shown):
        look = MARKS[stated]
        ax.barh(y, scores[k], color=look.colour, hatch=look.hatch, edgecolor=style.INK, lw=0.6)
    ax.set_yticks(range(len(shown)), [names[k] for k, _ in shown], fontsize=8)
    ax.invert_yaxis()
    ax.axvline(0, color=style.MUTED, linewidth=0.8)
    ax.set_title("zero-shot score (hatched: stated)", fontsize=9)
    ax.set_xlabel("sd above the mean test ECG", fontsize=8)
    return figure


def ranked(scores: np.ndarray, true: Sequence[int], most: int) -> list[tuple[int, bool]]:
    """[(finding, stated?)], the `most` best first; a stated one is never left out."""
    order = np.argsort(-np.asarray(scores), kind="stable")[:most].tolist()
    missed = [k for k in true if k not in order]
    return [(k, k in true) for k in [*order[: most - len(missed)], *missed]]


@style.in_style
def plot_caption_scores(table: pd.DataFrame, title: str = "") -> Figure:
    """Pairs of bars per metric: captions against their own ECG's text, and dealt out among others.

    `table`: metric, model ("generated" | "shuffled"), value, low, high.
    """
    metrics = list(dict.fromkeys(table["metric"]))
    models = list(dict.fromkeys(table["model"]))
    figure, ax = style.new_figure(size=(max(6.0, 1.3 * len(metrics) + 1.5), 3.8))
    width = 0.8 / len(models)
    for i, name in enumerate(models):
        one = table[table["model"] == name].set_index("metric").reindex(metrics)
        at = np.arange(len(metrics)) + (i - (len(models) - 1) / 2) * width
        value = one["value"].to_numpy(float)
        reach = np.stack([value - one["low"], one["high"] - value]).clip(min=0)
        colour = style.COLOURS[0] if i == 0 else "#b9b9b9"
        ax.bar(at, value, width * 0.92, color=colour, label=name)
        ax.errorbar(at, value, reach, fmt="none", ecolor=style.INK, elinewidth=1, capsize=2)
    ax.set_xticks(range(len(metrics)), metrics)
    ax.set(title=title, ylabel="score", ylim=(0, 1.2 * max(0.01, float(table["high"].max()))))
    ax.legend(loc="upper right", ncols=len(models))
    return figure


@style.in_style
def plot_maps(embedding: np.ndarray, labels: np.ndarray, names: Sequence[str], title: str = "",
              seed: int = 0) -> Figure:
    """Two maps of (n, E) coloured by superclass: principal components, and t-SNE of the first 30.

    ECGs with several classes or none are grey. In t-SNE only nearness means something: distances
    between groups and their sizes do not.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    n_parts = min(30, *embedding.shape)
    pca = PCA(n_parts, random_state=seed).fit(embedding)
    parts = pca.transform(embedding)
    near = min(30.0, max(2.0, (len(parts) - 1) / 3))
    tsne = TSNE(2, perplexity=near, random_state=seed, init="pca", n_jobs=1).fit_transform(parts)
    figure, axes = style.new_figure(1, 2, size=(11.0, 4.6))
    share = pca.explained_variance_ratio_
    _scatter(axes[0], parts[:, :2], labels, names)
    axes[0].set(xlabel=f"component 1 ({share[0]:.0%})", ylabel=f"component 2 ({share[1]:.0%})",
                title="principal components")
    _scatter(axes[1], tsne, labels, names)
    axes[1].set(xticks=[], yticks=[], title=f"t-SNE, perplexity {near:.0f}")
    axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(title, x=0.02, ha="left", weight="bold", size=11)
    return figure


def _scatter(ax, xy: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> None:
    single = labels.sum(1) == 1
    ax.scatter(*xy[~single].T, s=8, color="#d0d0d0", label=f"several or none ({(~single).sum()})")
    for k, name in enumerate(names):
        mine = single & (labels[:, k] > 0.5)
        ax.scatter(*xy[mine].T, s=13, color=style.COLOURS[k], label=f"{name} ({mine.sum()})")
