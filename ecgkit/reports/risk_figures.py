"""Figures of the risk study: alignment, reconstruction, codes, training. Attention is in
`risk_attention.py`, the what-if page in `risk_widget.py`, the search in `risk_search.py`; the
Kaplan-Meier plot and the C-index bars are in `curves.py`.

`simulated=True` puts the watermark across a figure and the mark into its title.

Usage:

    plot_similarity({"cosine": (ecg, text)}, group, names)
    plot_reconstruction_quality(reconstruction_quality(x, rebuilt), simulated=True)
    plot_latent_map(*latent_map(z), risk, event, simulated=True)
    plot_risk_training(log.table, steps_per_epoch=50, simulated=True)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ecgkit.reports import curves, style
from ecgkit.reports.risk_attention import (
    plot_beat_attention,
    plot_deletion,
    plot_group_difference,
    plot_lead_attention,
)
from ecgkit.reports.watermark import finish, mark_title, watermark
from ecgkit.types import LEADS, DataError

__all__ = [
    "plot_beat_attention",
    "plot_deletion",
    "plot_group_difference",
    "plot_latent_map",
    "plot_lead_attention",
    "plot_reconstruction",
    "plot_reconstruction_quality",
    "plot_risk_by_truth",
    "plot_risk_training",
    "plot_similarity",
    "plot_statement_similarity",
    "watermark",
]

Z_LIMIT = 6.0  # a z-scored beat rarely exceeds this; keeps one artefact from flattening the rest


@style.in_style
def plot_similarity(
    pairs: Mapping[str, tuple[np.ndarray, np.ndarray]], group: np.ndarray, title: str = "",
    most: int = 40, simulated: bool = False,
) -> Figure:
    """One panel per training rule: cosine of `most` ECGs (rows) with their reports (columns).

    Rows and columns are sorted by report, so equal reports form squares on the diagonal. Aligned:
    bright squares on a dark ground. Collapsed: everything equally bright.
    """
    order = np.argsort(group, kind="stable")
    order = order[np.linspace(0, len(order) - 1, min(most, len(order))).astype(int)]
    size = (4.4 * len(pairs) + 0.8, 4.2)
    figure, axes = style.new_figure(1, len(pairs), size=size, squeeze=False)
    for ax, (name, (ecg, text)) in zip(axes[0], pairs.items(), strict=True):
        cosine = _unit(ecg[order]) @ _unit(text[order]).T
        image = ax.imshow(cosine, vmin=-1, vmax=1, cmap="cividis")
        ax.set(title=name, xlabel="Report", ylabel="ECG", xticks=[], yticks=[])
    figure.colorbar(image, ax=list(axes[0]), label="Cosine similarity", shrink=0.85)
    return finish(figure, title, simulated)


def _unit(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, dtype=float)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


@style.in_style
def plot_reconstruction(
    original: np.ndarray, recon: np.ndarray, fs: float, title: str = "",
    leads: Sequence[str] = ("I", "II", "V1", "V5"), simulated: bool = False,
) -> Figure:
    """Original and rebuilt z-scored ECG (C, T) for a few `leads`, side by side in one row."""
    figure, axes = style.new_figure(1, len(leads), size=(9.6, 2.6), sharey=True, squeeze=False)
    seconds = np.arange(original.shape[1]) / fs
    for ax, lead in zip(axes[0], leads, strict=True):
        row = LEADS.index(lead)
        ax.plot(seconds, original[row], color=style.INK, label="original")
        ax.plot(seconds, recon[row], color=style.COLOURS[1], linestyle="--", label="rebuilt")
        ax.set(title=lead, xlabel="Seconds", ylim=(-Z_LIMIT, Z_LIMIT))
    axes[0, 0].set_ylabel("Standard deviations")
    axes[0, 0].legend(loc="lower right")
    return finish(figure, title, simulated)


@style.in_style
def plot_reconstruction_quality(
    table: pd.DataFrame, title: str = "Reconstruction by lead", simulated: bool = False
) -> Figure:
    """`tasks.risk_look.reconstruction_quality` -> a box per lead of both measures: quartiles, 5 and
    95 % whiskers over patients, the median written above."""
    leads = list(dict.fromkeys(table["lead"]))
    figure, axes = style.new_figure(1, 2, size=(11.4, 3.8))
    n = table["patient"].nunique() if "patient" in table else len(table) // len(leads)
    panels = (("mse", "Squared error (1: the lead's mean)"), ("correlation", "Correlation"))
    for ax, (measure, label) in zip(axes, panels, strict=True):
        values = [table.loc[table["lead"] == lead, measure].dropna() for lead in leads]
        ax.boxplot(values, whis=(5, 95), showfliers=False, widths=0.6, patch_artist=True,
                   boxprops={"facecolor": "#cfe3f1"}, medianprops={"color": style.INK})
        for at, value in enumerate(values, start=1):
            if len(value):
                top = np.percentile(value, 95)
                ax.annotate(f"{value.median():.2f}", (at, top), xytext=(0, 3), ha="center",
                            textcoords="offset points", fontsize=8)
        ax.set(xlabel="Lead", ylabel=label)
        ax.set_xticks(range(1, len(leads) + 1), leads, rotation=45)
        ax.grid(axis="y")
    axes[0].axhline(1, color=style.MUTED, linestyle="--", linewidth=1)
    return finish(figure, f"{title}, {n} patients", simulated)


@style.in_style
def plot_latent_map(
    xy: np.ndarray, shares: tuple[float, float] | None, risk: np.ndarray, event: np.ndarray,
    title: str = "Codes of the network", simulated: bool = False,
) -> Figure:
    """Codes on a plane (n, 2) (`tasks.risk_look.latent_map`), coloured by log risk (n,).

    Events are triangles with a dark edge, the others circles; the mark grows with the rank of its
    risk, so that the map reads without colour. `shares`: variance on each axis, None for t-SNE.
    """
    xy, risk, event = np.asarray(xy), np.asarray(risk), np.asarray(event).astype(bool)
    if not len(xy) == len(risk) == len(event):
        raise DataError(f"{len(xy)} points, {len(risk)} risks, {len(event)} events: one for each.")
    rank = risk.argsort().argsort() / max(len(risk) - 1, 1)
    look = {"cmap": "cividis", "vmin": risk.min(), "vmax": risk.max(), "alpha": 0.85}
    figure, ax = style.new_figure(size=(7.0, 5.4))
    for mine, marker, edge, name in ((~event, "o", "none", "no event seen"),
                                     (event, "^", style.INK, "event")):
        image = ax.scatter(xy[mine, 0], xy[mine, 1], c=risk[mine], s=12 + 50 * rank[mine],
                           marker=marker, edgecolors=edge, linewidths=0.7, **look,
                           label=f"{name} (n={int(mine.sum())})")
    figure.colorbar(image, ax=ax, label="Network's log risk (larger mark: higher)")
    for i, (axis, name) in enumerate(((ax.xaxis, "First"), (ax.yaxis, "Second"))):
        words = f"t-SNE {i + 1}" if shares is None else f"{name} component ({shares[i]:.0%})"
        axis.set_label_text(words)
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.12), ncols=2)
    return finish(figure, title, simulated)


@style.in_style
def plot_risk_training(
    table: pd.DataFrame, steps_per_epoch: float | None = None, title: str = "Risk fine-tuning",
    control: pd.DataFrame | None = None, simulated: bool = False,
) -> Figure:
    """Total, reconstruction and Cox loss of a training log, the Cox loss of the shuffled `control`
    beside it; means over epochs where `steps_per_epoch` is given."""
    if control is not None:
        table = table.merge(control[["step", "cox"]].rename(columns={"cox": "cox_shuffled"}),
                            on="step", how="left")
    x = "step"
    if steps_per_epoch:
        x = "epoch"
        epoch = np.ceil(table["step"] / steps_per_epoch).astype(int)
        table = table.assign(epoch=epoch).groupby(x, as_index=False).mean(numeric_only=True)
    cox = "cox" if control is None else ["cox", "cox_shuffled"]
    figure = curves.plot_training(table, ["loss", "reconstruction", cox], x=x)
    return finish(figure, title, simulated)


@style.in_style
def plot_risk_by_truth(risk: np.ndarray, eta: np.ndarray, event: np.ndarray) -> Figure:
    """Predicted log risk against the true log hazard of simulated outcomes, (n,) each."""
    figure, ax = style.new_figure(size=(5.4, 4.2))
    for seen, name, colour in ((0, "censored", style.MUTED), (1, "event", style.COLOURS[1])):
        mine = np.asarray(event) == seen
        marker = "^" if seen else "o"
        ax.scatter(eta[mine], risk[mine], s=14, alpha=0.6, color=colour, marker=marker, label=name)
    correlation = np.corrcoef(eta, risk)[0, 1]
    ax.set(xlabel="True log hazard", ylabel="Network's log risk")
    ax.set_title(mark_title(f"Risk found, correlation {correlation:.2f}", True), fontsize=10)
    ax.legend()
    return watermark(figure)  # only a simulation knows the true hazard


@style.in_style
def plot_statement_similarity(
    vectors: np.ndarray, codes: Sequence[str], title: str = "", most: int = 24
) -> Figure:
    """Cosine between the embeddings (K, D) of SCP statements, for at most `most` of them."""
    codes, vectors = list(codes)[:most], np.asarray(vectors)[:most]
    figure, ax = style.new_figure(size=(6.2, 5.2))
    cosine = _unit(vectors) @ _unit(vectors).T
    image = ax.imshow(cosine, cmap="cividis", vmin=min(0.0, float(cosine.min())), vmax=1)
    ticks = np.arange(len(codes))
    ax.set(xticks=ticks, yticks=ticks, xticklabels=codes, yticklabels=codes, title=title)
    ax.tick_params(axis="x", rotation=90)
    figure.colorbar(image, ax=ax, label="Cosine similarity")
    return figure
