"""Figures of the ESI notebooks: a captioned ECG, similarity before and after, AUC bars, embeddings.

Usage:
    plot_captioned_ecg(cohort.record(0), captions.full[0])
    plot_similarity(before, after); plot_auc_bars({"zero-shot": table, "probe": table2})
    plot_embedding(embedding, labels, names)
"""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ecgkit.reports import paper, style
from ecgkit.types import ECGRecord


@style.in_style
def plot_captioned_ecg(record: ECGRecord, caption: str, title: str = "") -> Figure:
    """The ECG page with its caption set below it."""
    figure = paper.plot_ecg(record, title)
    lines = [line for part in caption.split("\n") for line in textwrap.wrap(part, 150)]
    figure.text(0.02, -0.02, "\n".join(lines), va="top", fontsize=10, color=style.INK)
    return figure


@style.in_style
def plot_similarity(before: np.ndarray, after: np.ndarray, title: str = "") -> Figure:
    """Two (B, B) cosine matrices side by side, row and column means removed: captions down, ECGs
    across.

    What a caption shares with all ECGs, or an ECG with all captions, says nothing about pairs.
    """
    figure, axes = style.new_figure(1, 2, size=(9.2, 4.3))
    for ax, matrix, name in zip(axes, (before, after), ("before training", "after training")):
        centred = matrix - matrix.mean(1, keepdims=True) - matrix.mean(0) + matrix.mean()
        image = ax.imshow(centred, cmap="cividis", aspect="equal")
        hits = (matrix.argmax(1) == np.arange(len(matrix))).mean()
        ax.set(title=f"{name}: own ECG nearest for {hits:.0%}", xlabel="ECG", ylabel="caption")
        figure.colorbar(image, ax=ax, fraction=0.046, label="cosine, means removed")
    figure.suptitle(title, x=0.02, ha="left", weight="bold", size=11)
    return figure


@style.in_style
def plot_auc_bars(tables: dict[str, pd.DataFrame], title: str = "", note: str = "") -> Figure:
    """Grouped bars per class with 95 % intervals; each table has name, auc, low, high,
    n_positive.
    """
    names = list(dict.fromkeys(n for table in tables.values() for n in table["name"]))
    figure, ax = style.new_figure(size=(max(6.5, 0.55 * len(names) * len(tables) + 2), 4))
    width = 0.8 / max(1, len(tables))
    for i, (label, table) in enumerate(tables.items()):
        at = np.array([names.index(n) for n in table["name"]]) + (i - (len(tables) - 1) / 2) * width
        value = table["auc"].to_numpy()
        reach = np.stack([value - table["low"], table["high"] - value]).clip(min=0)
        ax.bar(at, value, width * 0.92, label=label, color=style.COLOURS[i])
        ax.errorbar(at, value, reach, fmt="none", ecolor=style.INK, elinewidth=1, capsize=2)
    ax.axhline(0.5, color=style.MUTED, linestyle="--", linewidth=1)
    ax.text(1.005, 0.5, "chance", transform=ax.get_yaxis_transform(), va="center", fontsize=8)
    counts = {n: k for table in tables.values() for n, k in zip(table["name"], table["n_positive"])}
    ax.set_xticks(range(len(names)), [f"{n}\nn={counts[n]}" for n in names],
                  rotation=90 if len(names) > 10 else 0)  # fmt: skip
    ax.set(ylim=(0, 1.08), ylabel="AUC", title=title, xlabel=note)
    if len(tables) > 1:
        ax.legend(loc="upper right", ncols=len(tables))
    return figure


@style.in_style
def plot_embedding(
    embedding: np.ndarray, labels: np.ndarray, names: list[str], title: str = ""
) -> Figure:
    """The two largest principal components of (n, E), coloured by superclass; several classes
    grey.
    """
    centred = embedding - embedding.mean(0)
    _, scale, axes_ = np.linalg.svd(centred, full_matrices=False)
    xy, share = centred @ axes_[:2].T, scale[:2] ** 2 / (scale**2).sum()
    figure, ax = style.new_figure(size=(6.8, 5))
    single = labels.sum(1) == 1
    ax.scatter(*xy[~single].T, s=9, color="#cccccc", label=f"several or none ({(~single).sum()})")
    for k, name in enumerate(names):
        mine = single & (labels[:, k] > 0.5)
        ax.scatter(*xy[mine].T, s=14, color=style.COLOURS[k], label=f"{name} ({mine.sum()})")
    ax.set(title=title, xlabel=f"component 1 ({share[0]:.0%} of variance)",
           ylabel=f"component 2 ({share[1]:.0%} of variance)")  # fmt: skip
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
