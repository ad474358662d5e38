"""Figures of the risk study: alignment, attention, reconstruction. The Kaplan-Meier plot and the
C-index bars are in `curves.py`.

Usage:
    plot_similarity({"cosine": (ecg, text)}, group, names)
    plot_lead_attention(look["lead_attention"].mean(0))
    plot_beat_attention(beat, fs, look["time_attention"][0].mean(1), "...")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ecgkit.reports import style
from ecgkit.types import LEADS

Z_LIMIT = 6.0  # a z-scored beat rarely exceeds this; keeps one artefact from flattening the rest


@style.in_style
def plot_similarity(
    pairs: Mapping[str, tuple[np.ndarray, np.ndarray]], group: np.ndarray, title: str = "",
    most: int = 40,
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
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


def _unit(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, dtype=float)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


@style.in_style
def plot_lead_attention(
    weights: np.ndarray, title: str = "Lead attention", leads: Sequence[str] = LEADS
) -> Figure:
    """(C, C) mean attention over leads: row = the lead that asks, column = the lead it reads.

    Each row sums to 1; 1/C would be attention to all leads alike.
    """
    figure, ax = style.new_figure(size=(5.8, 4.8))
    image = ax.imshow(weights, cmap="cividis", vmin=0)
    ticks = np.arange(len(leads))
    ax.set(xticks=ticks, yticks=ticks, xticklabels=leads, yticklabels=leads)
    ax.set(xlabel="Lead attended to (key)", ylabel="Lead that attends (query)", title=title)
    ax.tick_params(axis="x", rotation=45)
    bar = figure.colorbar(image, ax=ax)
    bar.set_label(f"Attention weight (uniform = {1 / len(leads):.3f})")
    return figure


@style.in_style
def plot_beat_attention(
    beat: np.ndarray, fs: float, weights: np.ndarray, title: str, leads: Sequence[str] = LEADS
) -> Figure:
    """Median beat (C, T) in mV with attention (C, N) of N equal time tokens behind each lead.

    Colour: each token's weight over uniform (1/N), one scale for all leads.
    """
    figure, axes = style.new_figure(3, 4, size=(9.6, 5.6), sharex=True, squeeze=False)
    seconds = np.arange(beat.shape[1]) / fs
    edges = np.linspace(0, beat.shape[1] / fs, weights.shape[1] + 1)
    relative = weights * weights.shape[1]
    low_end, top = min(float(relative.min()), 0.999), max(float(relative.max()), 1.001)
    # Column by column like an ECG page: I II III | aVR aVL aVF | V1 V2 V3 | V4 V5 V6.
    for ax, c in zip(axes.T.ravel(), range(len(leads)), strict=False):
        trace = beat[c]
        low, high = _limits(trace)
        mesh = ax.pcolormesh(
            edges, [low, high], relative[c][None], cmap="cividis", vmin=low_end, vmax=top,
            alpha=0.55,
        )
        ax.plot(seconds, trace, color=style.INK, linewidth=1.3)
        ax.set(ylim=(low, high), xlim=(0, edges[-1]))
        ax.set_title(leads[c], loc="left", pad=2, fontsize=9)
    for ax in axes[-1]:
        ax.set_xlabel("Seconds")
    for ax in axes[:, 0]:
        ax.set_ylabel("mV")
    figure.colorbar(mesh, ax=list(axes.ravel()), label="Attention over uniform", shrink=0.8)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


def _limits(trace: np.ndarray) -> tuple[float, float]:
    if not np.isfinite(trace).any():
        return -1.0, 1.0
    low, high = float(np.nanmin(trace)), float(np.nanmax(trace))
    margin = 0.15 * max(high - low, 0.2)
    return low - margin, high + margin


@style.in_style
def plot_reconstruction(
    original: np.ndarray, recon: np.ndarray, fs: float, title: str = "",
    leads: Sequence[str] = ("I", "II", "V1", "V5"),
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
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


@style.in_style
def plot_risk_by_truth(risk: np.ndarray, eta: np.ndarray, event: np.ndarray) -> Figure:
    """Predicted log risk against the true log hazard of simulated outcomes, (n,) each."""
    figure, ax = style.new_figure(size=(5.4, 4.2))
    for seen, name, colour in ((0, "censored", style.MUTED), (1, "event", style.COLOURS[1])):
        mine = np.asarray(event) == seen
        ax.scatter(eta[mine], risk[mine], s=12, alpha=0.6, color=colour, label=name)
    correlation = np.corrcoef(eta, risk)[0, 1]
    ax.set(xlabel="True log hazard", ylabel="Network's log risk")
    ax.set_title(style.mark_simulated(f"Risk found, correlation {correlation:.2f}", True))
    ax.legend()
    return figure


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
