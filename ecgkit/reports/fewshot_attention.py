"""What a few-shot answer looks at: tokens to tokens, share by part and layer, seconds of the strip.

Takes what `tasks.fewshot_look` measures; captions name layer, heads, row and normalisation.

Usage:

    plot_answer_attention(seen)                    # the last two layers, mean of their heads
    plot_attention_shares(seen)                    # question, ECG, prompt ... by layer
    plot_time_relevance(record, found, question)   # ecg_time_relevance, on ECG paper
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from ecgkit.reports import overlay, style
from ecgkit.types import DataError, ECGRecord

_PART_COLOURS = dict(
    zip(("start", "question", "ECG", "prompt", "answer"),
        ("#b9b9b9", *style.COLOURS[:2], style.COLOURS[2], style.COLOURS[4]), strict=True)
)  # fmt: skip
_HATCHES = {"start": "", "question": "", "ECG": "//", "prompt": "..", "answer": "\\\\"}


@style.in_style
def plot_answer_attention(
    seen, layers: Sequence[int] | None = None, head: int | None = None, title: str = "",
    simulated: bool = False,
) -> Figure:
    """Rows: tokens of the answer; columns: soft tokens and words before them, ECG in bold orange.

    layers: counted from 0, default the last two. head: one, or None for the mean of all. Each row
    is a softmax that sums to 1. Raises DataError for a layer or head that the model lacks.
    """
    n_layers, n_heads, n_rows, n_columns = seen.weights.shape
    layers = list(layers if layers is not None else range(max(0, n_layers - 2), n_layers))
    if not layers or not all(0 <= layer < n_layers for layer in layers):
        raise DataError(f"The language model has layers 0 to {n_layers - 1}; {layers} asked.")
    if head is not None and not 0 <= head < n_heads:
        raise DataError(f"The language model has heads 0 to {n_heads - 1}; {head} asked.")
    size = (max(6.5, 0.3 * n_columns + 1.8), 0.34 * n_rows * len(layers) + 2.5 + 0.3 * len(layers))
    figure, axes = style.new_figure(len(layers), 1, size, squeeze=False, sharex=True)
    top = float(seen.weights[layers].mean(1).max() if head is None else
                seen.weights[layers, head].max())  # fmt: skip
    for ax, layer in zip(axes[:, 0], layers, strict=True):
        weights = seen.weights[layer].mean(0) if head is None else seen.weights[layer, head]
        image = ax.imshow(weights, vmin=0, vmax=top, cmap=style.ATTENTION, aspect="auto")
        ax.set_yticks(range(n_rows), seen.rows)
        which = f"mean of {n_heads} heads" if head is None else f"head {head}"
        ax.set_title(f"layer {layer}, {which}", fontsize=9, fontweight="normal")
        for x in _edges(seen.parts):
            ax.axvline(x, color="white", lw=1.5)
    last = axes[-1, 0]
    last.set_xticks(range(n_columns), seen.columns, rotation=90, fontsize=8)
    for label, part in zip(last.get_xticklabels(), seen.parts, strict=True):
        if part == "ECG":
            label.set(color=style.COLOURS[1], fontweight="bold")
    figure.colorbar(image, ax=axes[:, 0], label="attention weight")
    words = style.mark_simulated(title or "From the answer to soft tokens and words", simulated)
    figure.suptitle(words, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


def _edges(parts: Sequence[str]) -> list[float]:
    """Where one part ends and the next begins."""
    return [i - 0.5 for i in range(1, len(parts)) if parts[i] != parts[i - 1]]


@style.in_style
def plot_attention_shares(seen, title: str = "", simulated: bool = False) -> Figure:
    """One bar a layer, split into the parts of the sequence that the answer's tokens look at; mean
    over heads and answer tokens. The ECG's share is written beside each bar.

    The dotted line is the share that the ECG would have if all places were looked at evenly.
    """
    shares = {part: x.mean(1) for part, x in seen.by_part().items()}  # (Y,) each
    order = ["ECG", *(part for part in shares if part != "ECG")]
    n_layers = len(shares["ECG"])
    figure, ax = style.new_figure(1, 1, (7.0, 0.3 * n_layers + 2.0))
    left = np.zeros(n_layers)
    for part in order:
        ax.barh(range(n_layers), shares[part], 0.74, left, color=_PART_COLOURS[part], label=part,
                hatch=_HATCHES[part], edgecolor="white")  # fmt: skip
        left = left + shares[part]
    for y, share in enumerate(shares["ECG"]):
        ax.text(1.01, y, f"ECG {share:.0%}", va="center", fontsize=8)
    even = seen.parts.count("ECG") / len(seen.parts)
    ax.axvline(even, color=style.INK, linestyle=":", lw=1.2, label=f"ECG if even ({even:.0%})")
    ax.set(xlim=(0, 1.1), ylim=(n_layers - 0.5, -0.5), yticks=range(n_layers),
           xticks=np.linspace(0, 1, 6))
    ax.set(xlabel="share of attention (mean of heads and answer tokens)")
    ax.set_yticklabels([f"layer {layer}" for layer in range(n_layers)])
    figure.legend(loc="outside lower center", ncols=3)
    words = style.mark_simulated(title or "What the answer's tokens look at", simulated)
    figure.suptitle(words, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


@style.in_style
def plot_time_relevance(record: ECGRecord, found, question: str, seconds: float = 10) -> Figure:
    """The ECG page; behind the traces, how far the answer's probability falls without each window.

    Only falls are painted; what raises it when taken out is said in the caption. `record` is the
    one that was asked, and no longer than what the encoder reads.
    """
    fall = np.clip(found.drop, 0, None)
    leads = found.leads if fall.ndim == 2 else None
    note = f"windows of {found.seconds:g} s taken out{', lead by lead' if leads else ''}"
    title = textwrap.shorten(question, 92, placeholder=" ...")
    title = style.mark_simulated(title, record.meta.get("simulated"))
    figure = overlay.plot_attention(record, fall, note, leads, "max", title, seconds)
    page, bar = figure.axes
    bar.set_ylabel("fall in probability, 1 = largest", fontsize=8)
    most, least = float(fall.max(initial=0)), float(found.drop.min(initial=0))
    for text in page.texts:
        if text.get_text().startswith("attention:"):
            text.set_text(f"{note}: largest fall {most:.3f}, largest rise {-least:.3f}")
    words = f"answer: {found.answer} (p = {found.probability:.2f})"
    page.text(0.98, page.get_ylim()[1] - 9, words, transform=page.get_yaxis_transform(), va="top",
              ha="right", fontsize=9, weight="bold")  # fmt: skip
    return figure
