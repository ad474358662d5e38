"""ESI's ablations as the paper shows them, drawn from the run folders of a sweep alone.

Table 5 (what the captions and the two losses add; encoders), Fig. 5 and 6 (how many ECGs it is
pretrained on), Fig. 7 (captions dealt out anew), Table 6 (one source or all). A point that is
missing leaves a gap and is named below the figure. With one seed whiskers are 95 % bootstrap
intervals over test patients, with more mean and sd over seeds.

Source: Yu et al. 2024, ECG Semantic Integrator (TMLR), Tables 5 and 6, Fig. 5 to 7. Whether the
paper's order is found again is said by `esi_ordering`.

Usage:

    for name, (figure, caption) in figures(read_points("runs/esi_demo")).items(): ...
    save_figures("runs/esi_demo")           # runs/esi_demo/figures/*.png -> {name: caption}
"""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ecgkit.reports import style
from ecgkit.reports.sweep_points import Number, Study, SweepPoint, number, read_points

FIELDS = ("cqa", "caption_weight", "contrastive_weight", "encoder", "n_pretrain", "n_steps")
FIELDS += ("shuffled_share", "more_data", "only_source")
PROBE, ZERO_SHOT = "linear_probe_macro_auc", "zero_shot_macro_auc"
IDENTITY, TOP1 = "identification_auc", "identification_top1"
MMD, BLIND = "mmd_to_test", "untrained_probe_macro_auc"
PARTS = {  # the paper's Table 5a
    "full": {}, "no CQA": {"cqa": False}, "no caption loss": {"caption_weight": 0.0},
    "no contrastive loss": {"contrastive_weight": 0.0},
}  # fmt: skip
UNTRAINED = {"n_steps": 0}


def figures(points: Sequence[SweepPoint]) -> dict[str, tuple[Figure, str]]:
    """File name -> (figure, caption), for whatever the points can show."""
    study = study_of(points)
    drawn = {}
    for name, plot in PLOTS.items():
        figure, caption = plot(study)
        drawn[name] = (figure, f"{style.mark_simulated(caption, study.simulated)}. {note(study)}")
    return drawn


def study_of(points: Sequence[SweepPoint]) -> Study:
    """The points of ESI's fields; a learning rate of 0 counts as no step at all."""
    still = {"n_steps": 0}
    return Study(
        [dataclasses.replace(p, config=p.config | still) if p.config.get("lr") == 0 else p
         for p in points], FIELDS,
    )  # fmt: skip


def save_figures(folder: str | Path) -> dict[str, str]:
    """Writes `folder`/figures/*.png and returns {file name: caption}."""
    place = Path(folder) / "figures"
    place.mkdir(parents=True, exist_ok=True)
    captions = {}
    for name, (figure, caption) in figures(read_points(folder)).items():
        figure.savefig(place / f"{name}.png", dpi=110, bbox_inches="tight")
        captions[name] = caption
    return captions


def note(study: Study) -> str:
    """What the whiskers are, and what is missing."""
    seeds = study.n_seeds
    whiskers = (
        f"Mean and sd over {seeds} seeds" if seeds > 1
        else "One seed; whiskers: 95 % bootstrap intervals over test patients"
    )  # fmt: skip
    gaps = f". Not there: {', '.join(study.missing)}" if study.missing else ""
    return whiskers + gaps + "."


# --- bars: Table 5 and 6 --------------------------------------------------------------------------


@style.in_style
def plot_parts(study: Study) -> tuple[Figure, str]:
    """Table 5a: the whole of it, and what is left without one of its parts."""
    groups = {name: study.pick(**changed) for name, changed in PARTS.items()}
    if study.pick(**UNTRAINED):
        groups["untrained"] = study.pick(**UNTRAINED)
    figure = _two_panels(groups, "What captions and losses add", study)
    return figure, "Linear probe and identification without one part of ESI (the paper's Table 5)"


@style.in_style
def plot_encoders(study: Study) -> tuple[Figure, str]:
    """Table 5b: encoders, by their number of parameters."""
    found = {name: study.pick(encoder=name) for name in study.values("encoder")}
    sizes = {name: number(points, "n_parameters").value for name, points in found.items()}
    order = sorted(found, key=lambda name: np.nan_to_num(sizes[name]))
    groups = {f"{name}\n{count(sizes[name])}": found[name] for name in order}
    figure = _two_panels(groups, "Encoders", study)
    return figure, "Linear probe and identification by ECG encoder (the paper's Table 5)"


@style.in_style
def plot_sources(study: Study) -> tuple[Figure, str]:
    """Table 6: pretrained on one source alone, or on all."""
    metrics = {"linear probe": PROBE, "zero-shot": ZERO_SHOT, "identification": IDENTITY}
    groups = sources(study)
    figure, axes = style.new_figure(1, 3, size=(11, 1.3 + 0.45 * max(2, len(groups))), sharey=True)
    for ax, (label, metric) in zip(axes, metrics.items()):
        _bars(ax, list(groups), [number(p, metric) for p in groups.values()], f"{label}, AUC")
    _title(figure, "One source or all", study)
    return figure, "Linear probe, zero-shot and identification by source (the paper's Table 6)"


def sources(study: Study) -> dict[str, list[SweepPoint]]:
    """What ESI was pretrained on -> its points, among those that are otherwise the reference."""
    groups: dict[str, list[SweepPoint]] = {}
    free = ("more_data", "only_source")
    fixed = {k: v for k, v in study.reference.items() if k not in free}
    for point in study.points:
        if all(point.config.get(k) == v for k, v in fixed.items()):
            groups.setdefault(source_label(point), []).append(point)
    return groups


def source_label(point: SweepPoint) -> str:
    more = [Path(part.strip()).stem for part in point.config.get("more_data", "").split(",")]
    only = point.config.get("only_source", "")
    if only:
        return f"{Path(only).stem} only"
    return f"all: with {', '.join(filter(None, more))}" if any(more) else "the cohort alone"


def _two_panels(groups: dict[str, list[SweepPoint]], title: str, study: Study) -> Figure:
    size = (9.6, 1.3 + 0.5 * max(2, len(groups)))
    figure, axes = style.new_figure(1, 2, size=size, sharey=True)
    _bars(axes[0], list(groups), [number(p, PROBE) for p in groups.values()], "linear probe, AUC")
    top1 = [number(p, TOP1).value for p in groups.values()]
    words = [f" (top-1 {share:.0%})" if np.isfinite(share) else "" for share in top1]
    identity = [number(p, IDENTITY) for p in groups.values()]
    _bars(axes[1], list(groups), identity, "identification, AUC", words)
    _title(figure, title, study)
    return figure


def _bars(ax, names: list[str], numbers: list[Number], xlabel: str, words=None) -> None:
    """AUC bars that start at chance, 0.5; what is not there is said in its row."""
    y = np.arange(len(names))[::-1]
    for i, (row, found) in enumerate(zip(y, numbers)):
        if not found.known:
            ax.text(0.502, row, "not run", va="center", fontsize=9, color=style.MUTED)
            continue
        ax.barh(row, found.value - 0.5, left=0.5, height=0.62, color=style.COLOURS[0], alpha=0.85)
        _whisker(ax, found, row, horizontal=True)
        end = max(v for v in (0.5, found.value, found.high) if np.isfinite(v))
        text = f"{found.value:.3f}{words[i] if words else ''}"
        ax.annotate(text, (end, row), (4, 0), textcoords="offset points", va="center", fontsize=9)
    ax.axvline(0.5, color=style.MUTED, linewidth=1)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    known = [min(n.value, n.low) if np.isfinite(n.low) else n.value for n in numbers if n.known]
    right = 1.18 if words and any(words) else 1.08
    ax.set(yticks=y, yticklabels=names, xlabel=f"{xlabel} (0.5: chance)",
           xlim=(min([0.48, *known]) - 0.01, right), xticks=np.arange(0.5, 1.01, 0.1),
           ylim=(-0.6, max(len(names), 2) - 0.4))  # fmt: skip


def _whisker(ax, found: Number, at: float, horizontal: bool = False) -> None:
    if not np.isfinite(found.low + found.high):
        return
    reach = np.clip([[found.value - found.low], [found.high - found.value]], 0, None)
    place = (found.value, at) if horizontal else (at, found.value)
    side = {"xerr" if horizontal else "yerr": reach}
    ax.errorbar(*place, **side, fmt="none", ecolor=style.INK, elinewidth=1.1, capsize=3)


# --- lines: Fig. 5, 6 and 7 -----------------------------------------------------------------------


@style.in_style
def plot_amount(study: Study) -> tuple[Figure, str]:
    """Fig. 5: the probe by the number of ECGs that ESI was pretrained on; 0 is a random start."""
    names, groups = amounts(study)
    figure, ax = style.new_figure(size=(6.2, 4))
    _line(ax, names, [number(p, PROBE) for p in groups], "linear probe, AUC", "pretraining ECGs")
    _title(figure, "More pretraining ECGs", study)
    return figure, "Linear probe by the number of pretraining ECGs (the paper's Fig. 5)"


@style.in_style
def plot_shift(study: Study) -> tuple[Figure, str]:
    """Fig. 6: how far embeddings of pretraining and of test ECGs lie apart."""
    names, groups = amounts(study)
    figure, ax = style.new_figure(size=(6.2, 4))
    ax.axhline(0, color=style.MUTED, linewidth=1)
    numbers = [number(p, MMD) for p in groups]
    _line(ax, names, numbers, "squared MMD to the test ECGs", "pretraining ECGs", digits=4)
    _title(figure, "Distance of pretraining and test embeddings", study)
    caption = "Squared MMD of pretraining and test embeddings by the number of pretraining ECGs "
    return figure, caption + "(the paper's Fig. 6, whose kernel is not stated)"


@style.in_style
def plot_shuffled(study: Study) -> tuple[Figure, str]:
    """Fig. 7: captions dealt out anew among a share of the pairs, beside a random start."""
    shares, groups = shuffles(study)
    figure, ax = style.new_figure(size=(6.2, 4))
    numbers = [number(p, PROBE) for p in groups]
    names = [f"{share:.0%}" for share in shares]
    _line(ax, names, numbers, "linear probe, AUC", "share of pairs that are shuffled")
    start = untrained(study)
    if start.known:
        colour = style.COLOURS[1]
        ax.axhline(start.value, color=colour, linestyle="--", linewidth=1.4)
        if start.half:
            ax.axhspan(start.low, start.high, color=colour, alpha=0.12, linewidth=0)
        ax.annotate(f"random start {start.value:.3f}", (1, start.value), (-2, 4), color=colour,
                    xycoords=("axes fraction", "data"), textcoords="offset points",
                    ha="right", fontsize=9)  # fmt: skip
    _title(figure, "Shuffled pairs of ECG and caption", study)
    return figure, "Linear probe by the share of shuffled pairs (the paper's Fig. 7)"


def amounts(study: Study) -> tuple[list[str], list[list[SweepPoint]]]:
    """(labels, points) by number of pretraining ECGs: a random start first, all of them last."""
    sizes = [n for n in study.values("n_pretrain") if n > 0]
    names, groups = [f"{n:,}" for n in sizes], [study.pick(n_pretrain=n) for n in sizes]
    if study.pick(**UNTRAINED):
        names, groups = ["0"] + names, [study.pick(**UNTRAINED)] + groups
    whole = study.pick(n_pretrain=0)
    if whole:
        total = number(whole, "n_pretrain_ecgs").value
        names.append(f"all\n({total:,.0f})" if np.isfinite(total) else "all")
        groups.append(whole)
    return names, groups


def shuffles(study: Study) -> tuple[list[float], list[list[SweepPoint]]]:
    """(shares, points), from 0, of the subset on which most shuffled runs were made."""
    sizes = [p.config.get("n_pretrain") for p in study.points if p.config.get("shuffled_share")]
    subset = max(sizes, key=sizes.count) if sizes else study.reference.get("n_pretrain")
    shares = study.values("shuffled_share", n_pretrain=subset)
    return shares, [study.pick(n_pretrain=subset, shuffled_share=share) for share in shares]


def untrained(study: Study) -> Number:
    """The probe on a random start: a run of no steps, else the untrained twin of the full runs."""
    found = study.measure(PROBE, **UNTRAINED)
    return found if found.known else study.measure(BLIND)


def _line(ax, names, numbers, ylabel, xlabel, digits: int = 3) -> None:
    """Equally spaced points with whiskers; a missing one is a gap in the line."""
    at = np.arange(len(names))
    values = np.array([n.value for n in numbers])
    ax.plot(at, values, "-o", color=style.COLOURS[0], markersize=5)
    for x, found in zip(at, numbers):
        if found.known:
            _whisker(ax, found, x)
            top = found.high if np.isfinite(found.high) else found.value
            ax.annotate(f"{found.value:.{digits}f}", (x, top), (0, 4), fontsize=9,
                        textcoords="offset points", ha="center", va="bottom")  # fmt: skip
    if not np.isfinite(values).any():
        ax.text(0.5, 0.5, "not run", transform=ax.transAxes, ha="center", color=style.MUTED)
    labels = [n if f.known else f"{n}\nnot run" for n, f in zip(names, numbers)]
    ax.set_xticks(at, labels)
    ax.set(xlabel=xlabel, ylabel=ylabel, xlim=(-0.4, max(len(names), 2) - 0.6))
    ax.margins(y=0.18)
    ax.grid(axis="y")


def _title(figure: Figure, text: str, study: Study) -> None:
    text = style.mark_simulated(text, study.simulated)
    figure.suptitle(text, x=0.01, ha="left", fontsize=11, fontweight="bold")
    below = "\n".join(textwrap.wrap(note(study), int(14 * figure.get_figwidth())))
    figure.supxlabel(below, x=0.01, ha="left", fontsize=8, color=style.MUTED)


def count(n: float) -> str:
    """26814144 -> 26.8 M; "" where it is not known."""
    if not np.isfinite(n):
        return ""
    return f"{n / 1e6:.1f} M" if n >= 1e6 else f"{n / 1e3:.0f} k"


PLOTS: dict[str, Callable[[Study], tuple[Figure, str]]] = {
    "table5_parts": plot_parts, "table5_encoders": plot_encoders, "fig5_amount": plot_amount,
    "fig6_mmd": plot_shift, "fig7_shuffled": plot_shuffled, "table6_sources": plot_sources,
}  # fmt: skip
