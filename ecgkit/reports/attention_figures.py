"""Where the fusion transformer's words look: words by time under a strip, leads on ECG paper.

All take a `tasks.look_inside.Look`; captions name layer, head, row of the matrix, normalisation.

Usage:

    seen = look_inside.look(model, data, where)
    plot_words(cohort.record(row1), seen, lead="II", title=question)
    plot_words([first, second], [look(..., part="first"), look(..., part="second")])  # two ECGs
    plot_lead_map(cohort.record(row1), seen, title=question)
    plot_lead_drop([seen])
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ecgkit.reports import overlay, paper, style
from ecgkit.tasks.look_inside import Look, nearest_token
from ecgkit.types import DataError, ECGRecord

NORMALISATIONS = {
    "max": "divided by the largest weight shown",
    "row": "each row divided by its largest weight",
    "none": "as the softmax gives them",
}
PULSE_S = 0.8  # seconds of paper left of the trace, for the calibration pulse
GAIN, EDGE, ROW, BAR = 10.0, 6.0, 4.6, 20.0  # mm/mV; then mm: margin, a word's row, colour bar
HEAD, FOOT, LINE = 12.0, 12.0, 5.0  # mm: above the strip, below the words, a line of the title
_SLICES = 500  # equal slices of time on the 12-lead page, so that tokens stand where they look


# --- words by time --------------------------------------------------------------------------------


@style.in_style
def plot_words(records: ECGRecord | Sequence[ECGRecord], looks: Look | Sequence[Look],
               lead: str = "II", title: str = "", normalise: str = "max") -> Figure:
    """The rhythm strip of one lead over a heat map: words of the question by time of the ECG.

    One record and look, or two of each: first and second ECG side by side, drawn at 12.5 mm/s. The
    percentage before a row is the share of the word's attention that went to this ECG's tokens.
    `normalise`: max | row | none. Raises DataError for a lead that is absent, unequal numbers, or
    another normalisation.
    """
    records = [records] if isinstance(records, ECGRecord) else list(records)
    looks = [looks] if isinstance(looks, Look) else list(looks)
    _check(records, looks, lead, normalise)
    speed = 25.0 if len(records) == 1 else 12.5
    small = {"fontsize": 8, "color": style.MUTED}
    label = 3 + 1.75 * max(len(w) for w in looks[0].words)  # mm for the longest word
    widths = [(r.duration_s + PULSE_S) * speed for r in records]
    low, high = millivolts(records, [lead])
    strip, field = (high - low) * GAIN, ROW * len(looks[0].words)
    width = EDGE + label + sum(widths) + EDGE * len(records) + BAR
    title = style.mark_simulated(title, any(r.meta.get("simulated") for r in records))
    lines = textwrap.wrap(title, int(width / 2.6)) or [""]
    size = (width, FOOT + field + 3 + strip + HEAD + LINE * len(lines))
    figure, page = style.bare_figure(*size)
    top = max(float(seen.rows.max()) for seen in looks) or 1.0
    x = EDGE + label
    for i, (record, seen, width) in enumerate(zip(records, looks, widths)):
        ecg = place(figure, size, (x, FOOT + field + 3, width, strip))
        _draw_strip(ecg, record, lead, (low, high))
        heat = place(figure, size, (x, FOOT, width, field), sharex=ecg)
        mesh = draw_words(heat, seen, record.duration_s, top, normalise, names=i == 0)
        words = paper.caption(record, GAIN, speed)
        if len(records) > 1:
            words = f"{seen.part} ECG ({record.ecg_id}) · {words.rsplit(' · pulse', 1)[0]}"
        page.text(x, FOOT + field + strip + 10, f"lead {lead} · {words}", va="top", **small)
        x += width + EDGE
    bar = place(figure, size, (x, FOOT, 4, min(field, 50)))
    figure.colorbar(mesh, cax=bar).set_label("attention weight", fontsize=8)
    bar.tick_params(labelsize=7)
    page.text(EDGE, size[1] - 2.5, "\n".join(lines), va="top", fontsize=11, weight="bold")
    page.text(EDGE, 1.5, caption(looks[0], records[0].duration_s, normalise), **small)
    return figure


def caption(seen: Look, duration: float, normalise: str = "max") -> str:
    """Rows, layer, head, normalisation, and how much of an ECG of `duration` s a token sees."""
    return (f"attention from each word (row) to the ECG's {len(seen.centres)} tokens, each of "
            f"which sees {seen.reach * duration:.2g} s; {seen.where}; {NORMALISATIONS[normalise]}; "
            "% = share of the row's softmax on this ECG")


def _check(records: list, looks: list, lead: str, normalise: str) -> None:
    if not 1 <= len(records) == len(looks) <= 2:
        raise DataError(f"{len(records)} ECGs and {len(looks)} looks: give one of each, or two.")
    if normalise not in NORMALISATIONS:
        raise DataError(f"normalise is {normalise!r}; choose {' | '.join(NORMALISATIONS)}.")
    for record in records:
        if lead not in record.leads:
            raise DataError(f"ECG {record.ecg_id} has no lead {lead}; it has "
                            f"{', '.join(record.leads)}.")


def millivolts(records: Sequence[ECGRecord], leads: Sequence[str]) -> tuple[float, float]:
    """Lowest and highest mV of the paper: whole 0.5 mV squares, the pulse always inside."""
    values = np.concatenate([r.signal[r.leads.index(lead)] for r in records for lead in leads])
    values = values[np.isfinite(values)] if np.isfinite(values).any() else np.zeros(1)
    low = np.floor(min(-0.5, values.min() - 0.1) * 2) / 2
    high = np.ceil(max(1.25, values.max() + 0.1) * 2) / 2
    return float(max(low, -2.5)), float(min(high, 3.5))


def place(figure: Figure, size: tuple[float, float], box: tuple, **kwargs) -> Axes:
    """Axes whose box (x, y, width, height) is given in millimetres of a figure of `size`."""
    width, height = size
    x, y, w, h = box
    return figure.add_axes((x / width, y / height, w / width, h / height), **kwargs)


def _draw_strip(ax: Axes, record: ECGRecord, lead: str, span: tuple[float, float]) -> None:
    draw_squares(ax, record.duration_s, span)
    t = np.arange(record.n_samples) / record.fs
    ax.plot(t, record.signal[record.leads.index(lead)], color=style.TRACE, lw=0.9, zorder=3,
            gid=f"lead {lead}")


def draw_squares(ax: Axes, duration: float, span: tuple[float, float]) -> None:
    """Metric paper in seconds and mV, calibration pulse left of zero."""
    ax.set(xlim=(-PULSE_S, duration), ylim=span, facecolor=style.PAPER_BACK)
    for step_s, step_mv, colour, weight in ((0.04, 0.1, style.PAPER_GRID_FINE, 0.4),
                                            (0.2, 0.5, style.PAPER_GRID, 0.8)):
        xs = np.arange(-round(PULSE_S / step_s), duration / step_s + 0.01) * step_s
        ys = np.arange(round(span[0] / step_mv), span[1] / step_mv + 0.01) * step_mv
        ax.vlines(xs, *span, color=colour, lw=weight, zorder=1)
        ax.hlines(ys, -PULSE_S, duration, color=colour, lw=weight, zorder=1)
    pulse = np.array([-0.7, -0.6, -0.6, -0.4, -0.4, -0.3])
    ax.plot(pulse, [0, 0, 1, 1, 0, 0], color=style.TRACE, lw=0.9, gid="calibration")
    ax.set_frame_on(False)
    ax.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)


def draw_words(ax: Axes, seen: Look, duration: float, top: float, normalise: str,
               names: bool = True):
    """Rows of words, columns from the middle between two tokens to the next; returns the mesh."""
    rows, scale = seen.rows, {"max": top, "none": 1.0}.get(normalise)
    if scale is None:
        scale = np.maximum(rows.max(1, keepdims=True), 1e-12)
    edges = np.concatenate([[0], (seen.centres[1:] + seen.centres[:-1]) / 2, [1]]) * duration
    mesh = ax.pcolormesh(edges, np.arange(len(rows) + 1) - 0.5, rows / scale, cmap=style.ATTENTION,
                         vmin=0, vmax=top if normalise == "none" else 1, gid="words")
    for y, share in enumerate(rows.sum(1)):
        ax.text(-0.1, y, f"{share:.0%}", ha="right", va="center", fontsize=7.5, color=style.MUTED)
    ax.set(ylim=(len(rows) - 0.5, -0.5), yticks=range(len(rows)) if names else [],
           xticks=np.arange(0, duration + 0.01, 1 if duration <= 12 else 5))
    if names:
        ax.set_yticklabels(seen.words, fontsize=9)
    ax.set_xlabel("seconds", fontsize=8, labelpad=1)
    ax.tick_params(length=0, axis="y")
    ax.tick_params(labelsize=8, length=2, axis="x", pad=1)
    ax.set_frame_on(False)
    return mesh


# --- leads ----------------------------------------------------------------------------------------

_WHAT = {
    "attention x gradient": "mean attention of the words ({where}) × |gradient of logit × signal|",
    "attention x occlusion": "mean attention of the words ({where}) × drop in logit, lead silenced",
    "gradient": "|gradient of logit × signal|",
    "attention": "mean attention of the words ({where}), the same in all leads",
}


@style.in_style
def plot_lead_map(record: ECGRecord, seen: Look, title: str = "", normalise: str = "max",
                  seconds: float = 10) -> Figure:
    """The 12-lead page with `seen.relevance` (C, P) behind each trace; the caption says its method.

    A token's weight is drawn where its receptive field lies: each moment takes the token whose
    middle is nearest. `normalise` as in `overlay.plot_attention`, which raises DataError.
    """
    spread = seen.relevance[:, nearest_token(seen.centres, _SLICES)]
    title = textwrap.shorten(title, 92, placeholder=" …")
    note = _WHAT[seen.method].format(where=seen.where)
    figure = overlay.plot_attention(record, spread, note, seen.leads, normalise, title, seconds)
    page, bar = figure.axes
    bar.set_ylabel("relevance", fontsize=8)
    words = (f"answer: {seen.answer} (p = {seen.probability:.2f}); "
             f"a token sees {seen.reach * record.duration_s:.2g} s")
    page.text(0.98, page.get_ylim()[1] - 9, words, transform=page.get_yaxis_transform(), va="top",
              ha="right", fontsize=8, color=style.MUTED)
    return figure


@style.in_style
def plot_lead_drop(looks: Look | Sequence[Look], title: str = "What each lead adds to the answer",
                   simulated: bool | None = None) -> Figure:
    """Bars by lead: logit lost when that lead alone is silenced (0 mV); one panel an ECG.

    Orange: without the lead the answer would be *more* likely.
    """
    looks = [looks] if isinstance(looks, Look) else list(looks)
    figure, axes = style.new_figure(1, len(looks), size=(1.2 + 3.6 * len(looks), 3.9),
                                    squeeze=False, sharex=True, sharey=True)
    for ax, seen in zip(axes[0], looks):
        y, drop = np.arange(len(seen.leads)), seen.drop
        ax.barh(y, drop, 0.7, color=np.where(drop < 0, style.COLOURS[1], style.COLOURS[0]))
        ax.axvline(0, color=style.INK, lw=0.8)
        ax.set(yticks=y, yticklabels=seen.leads, ylim=(len(y) - 0.4, -0.6))
        ax.set_xlabel(f"drop in the logit of '{seen.answer}'")
        ax.set_title(f"{seen.part} ECG, p = {seen.probability:.2f}" if len(looks) > 1 else
                     f"p = {seen.probability:.2f} with all leads", fontsize=9, fontweight="normal")
        ax.grid(axis="x")
    figure.suptitle(style.mark_simulated(title, simulated), x=0.01, ha="left", fontsize=11,
                    fontweight="bold")
    return figure
