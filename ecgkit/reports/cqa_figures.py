"""One figure of the assistant's ablation (appendix A of the ESI paper): passages, books, wordings.

Usage:

    plot_ablation(pd.read_csv("runs/cqa_ablation/cqa_ablation.csv"), encoder="all-MiniLM, layer 6")
"""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ecgkit.reports import style
from ecgkit.types import DataError


@style.in_style
def plot_ablation(
    table: pd.DataFrame, encoder: str = "", published: bool = False, title: str = ""
) -> Figure:
    """BERTScore F1 by number of passages, by files retrieved from, and by wording.

    `table` is `tasks.cqa_ablation.Ablation.run()`. Bars and points are means over the findings,
    whiskers their sd; a ring is the mean of the texts that are not empty; the dashed line is the
    control, each text scored against another finding's reference. `published` adds the paper's
    numbers, which only a score by the same encoder (roberta-large) stands beside.
    Raises DataError where a part is missing.
    """
    missing = {"top-k", "knowledge", "prompt", "control"} - set(table["table"])
    if missing:
        raise DataError(f"The ablation's table lacks {', '.join(sorted(missing))}; run it whole.")
    parts = {name: part.reset_index(drop=True) for name, part in table.groupby("table")}
    n_books = len(parts["knowledge"])
    figure, axes = style.new_figure(1, 3, size=(12, max(3.4, 0.27 * n_books + 1.5)),
                                    width_ratios=(1, 1.25, 1))  # fmt: skip
    _passages(axes[0], parts["top-k"])
    _bars(axes[1], parts["knowledge"], "Files")
    _bars(axes[2], parts["prompt"], "Wording of the question")
    for ax, line, name in zip(axes, (axes[0].axhline, axes[1].axvline, axes[2].axvline),
                              ("top-k", "knowledge", "prompt")):  # fmt: skip
        line(parts["control"]["f1"][0], color=style.MUTED, linestyle="--", linewidth=1,
             label="control: another's reference")  # fmt: skip
        if published:
            _published(ax, parts[name], across=name != "top-k")
    named = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels())}
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=len(named))
    n = int(table["n"].iloc[0])
    said = f"{title or 'Waveform texts against references'} ({n} findings{_by(encoder)})"
    figure.suptitle(said, x=0.01, ha="left", weight="bold", size=11)
    return figure


def _passages(ax: Axes, part: pd.DataFrame) -> None:
    at = part["setting"].astype(int)
    ax.errorbar(at, part["f1"], part["f1_sd"], color=style.COLOURS[0], marker="o", capsize=3,
                elinewidth=1, label="mean and sd")  # fmt: skip
    ax.set(title="Passages retrieved", xlabel="k", ylabel="BERTScore F1", xticks=at)


def _bars(ax: Axes, part: pd.DataFrame, title: str) -> None:
    """Horizontal bars, first on top, with the count of empty texts where there are any."""
    at = range(len(part))
    ax.barh(at, part["f1"], xerr=part["f1_sd"], color=style.COLOURS[0], height=0.66,
            error_kw={"elinewidth": 1, "capsize": 2, "ecolor": style.INK})  # fmt: skip
    some = part[(part["n_empty"] > 0) & part["f1_written"].notna()]
    ax.plot(some["f1_written"], some.index, "o", mfc="white", mec=style.COLOURS[1], markersize=6,
            label="mean of those not empty")  # fmt: skip
    reach = (part["f1"] + part["f1_sd"].fillna(0)).max()
    for i, n_empty in enumerate(part["n_empty"]):
        if n_empty:
            ax.text(reach * 1.06, i, f"{n_empty} empty", va="center", fontsize=8,
                    color=style.MUTED)  # fmt: skip
    ax.set_yticks(at, [name.removesuffix(".md").replace("_", " ") for name in part["setting"]])
    ax.set(title=title, xlabel="BERTScore F1", xlim=(0, reach * 1.3))
    ax.invert_yaxis()


def _published(ax: Axes, part: pd.DataFrame, across: bool) -> None:
    known = part[part["published_f1"].notna()]
    places = known.index if across else known["setting"].astype(int)
    xy = (known["published_f1"], places) if across else (places, known["published_f1"])
    ax.plot(*xy, "D", color=style.COLOURS[4], markersize=5, linestyle="none", label="published")


def _by(encoder: str) -> str:
    return f"; BERTScore by {encoder}" if encoder else ""
