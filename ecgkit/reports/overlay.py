"""Attention painted on the ECG, on the same metric paper, with a caption that says what it is.

Usage:

    plot_attention(record, weights, "fusion transformer, layer 2, mean of 4 heads, row [CLS]")
"""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from ecgkit.reports import paper, style
from ecgkit.types import DataError, ECGRecord

NORMALISATIONS = {
    "max": "divided by the largest weight",
    "lead": "divided by each lead's largest weight",
    "none": "as the model gives them",
}


@style.in_style
def plot_attention(
    record: ECGRecord, weights: np.ndarray, caption: str, leads: tuple[str, ...] | None = None,
    normalise: str = "max", title: str = "", seconds: float = 10,
) -> Figure:
    """Returns the ECG page with `weights` as a band behind each trace: bare paper is none.

    `weights` (T',) holds for all leads; (C, T') has one row per name in `leads` (default: the
    record's order). T' tokens of equal length cover the whole record. `caption` names model, layer,
    head and row of the matrix. `normalise`: max | lead | none.
    Raises DataError for shapes that do not fit and for weights below zero.
    """
    by_lead = weights_by_lead(record, weights, leads)
    top = max((float(np.nanmax(w)) for w in by_lead.values()), default=0.0)
    scale = {name: _scale(w, top, normalise) for name, w in by_lead.items()}
    note = f"attention: {caption}; {NORMALISATIONS[normalise]}"
    figure, axes, page = paper.draw_page(record, title, seconds, right=22)
    for panel in page.panels:
        if panel.lead in by_lead and panel.lead in record.leads:
            _paint(axes, page, panel, by_lead[panel.lead] / scale[panel.lead], record.duration_s)
    axes.text(paper.MARGIN, paper.FOOT - 6.5, note, va="top", fontsize=8, color=style.MUTED)
    _colour_bar(figure, page, top if normalise == "none" else 1.0)
    return figure


def weights_by_lead(
    record: ECGRecord, weights: np.ndarray, leads: tuple[str, ...] | None = None
) -> dict[str, np.ndarray]:
    """Returns {lead: (T',) weights}; raises DataError as `plot_attention` does."""
    weights = np.asarray(weights, dtype=float)
    if weights.ndim not in (1, 2) or weights.size == 0:
        raise DataError(
            f"Attention weights have shape {weights.shape}; give (T',) for all leads, or (C, T'). "
            "Choose one layer, head and row of the attention matrix first."
        )
    if not np.any(np.isfinite(weights)) or np.nanmin(weights) < 0:
        raise DataError("Attention weights must be zero or more; pass weights, not scores.")
    names = leads or record.leads
    if weights.ndim == 1:
        return dict.fromkeys(names, weights)
    if len(weights) != len(names):
        raise DataError(f"{len(weights)} rows of weights, {len(names)} leads: name their `leads`.")
    return dict(zip(names, weights, strict=True))


def _scale(weights: np.ndarray, top: float, normalise: str) -> float:
    if normalise not in NORMALISATIONS:
        raise DataError(f"normalise is {normalise!r}; choose {' | '.join(NORMALISATIONS)}.")
    largest = float(np.nanmax(weights)) if normalise == "lead" else top
    return largest if largest > 0 else 1.0


def _see_through() -> ListedColormap:
    """Cividis, clear at zero and nearly opaque at one: little attention leaves the paper bare."""
    colours = matplotlib.colormaps[style.ATTENTION](np.linspace(0.05, 1, 256))
    colours[:, 3] = np.linspace(0, 0.9, 256)
    return ListedColormap(colours)


def _paint(axes, page, panel: paper.Panel, weights: np.ndarray, duration: float) -> None:
    """Blocks of one token's width, cut at the panel's edges."""
    edges = np.linspace(0, duration, len(weights) + 1)  # (T' + 1,) s
    inside = (edges[1:] > panel.start) & (edges[:-1] < panel.stop)
    if not inside.any():
        return
    cut = np.clip(np.append(edges[:-1][inside], edges[1:][inside][-1]), panel.start, panel.stop)
    rows = [max(panel.top - panel.height, panel.y - 8) + 0.5, panel.top - 0.5]
    axes.pcolormesh(page.x_of(panel, cut), rows, weights[inside][None], cmap=_see_through(),
                    vmin=0, vmax=1, zorder=2, gid=f"attention {panel.lead}")


def _colour_bar(figure: Figure, page: paper.Page, top: float) -> None:
    """Right of the paper, on the paper's colour, so that it shows what the eye sees there."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    width = page.width + 22
    middle = (page.height - paper.HEAD + paper.FOOT) / 2
    box = ((page.width + 2) / width, (middle - 25) / page.height, 4 / width, 50 / page.height)
    axes = figure.add_axes(box, facecolor=style.PAPER_BACK)
    bar = figure.colorbar(ScalarMappable(Normalize(0, top), _see_through()), cax=axes)
    bar.set_label("attention weight", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_linewidth(0.5)
