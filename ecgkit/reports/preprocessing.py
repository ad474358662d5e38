"""Figures of the preprocessing notebook: filters, quarantine, normalisation, folds, labels, beats.

Every function takes data and returns a Figure. Shapes: C leads, T samples, L samples of a beat.
"""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ecgkit import signal as sig
from ecgkit.features import rhythm
from ecgkit.reports import style
from ecgkit.types import ECGRecord


@style.in_style
def plot_filters(
    record: ECGRecord,
    lead: str = "II",
    kinds: tuple[str, ...] = sig.FILTERS,
    seconds: float = 5.0,
    title: str = "",
) -> Figure:
    """One lead under each filter, drawn over each other (left), and each filter's gain (right)."""
    figure, (left, right) = style.new_figure(1, 2, (11, 3.6), width_ratios=(2.2, 1))
    n = round(min(seconds, record.duration_s) * record.fs)
    t = np.arange(n) / record.fs
    # Later filters are drawn thinner, over the earlier ones: where they agree both are seen.
    widths = np.linspace(3.2, 1.0, len(kinds))
    for kind, colour, width in zip(kinds, (style.MUTED, *style.COLOURS), widths):
        clean = sig.filter_record(record, kind)
        x = clean.signal[clean.leads.index(lead)]
        look = {"color": colour, "lw": width, "alpha": 0.5 if width > 1 else 1}
        hz, gain = frequency_response(record.fs, kind)
        # 50 Hz lies at half the rate of a 100 Hz record: nothing to take out there.
        idle = kind != "none" and gain.min() > 0.99
        words = sig.filter_words(kind) + (f" (idle at {record.fs:g} Hz)" if idle else "")
        left.plot(t, x[:n], label=words, **look)
        right.semilogx(hz, gain, **look)
    left.set(xlabel="s", ylabel="mV", title=_title(title or f"Lead {lead}", record))
    figure.legend(*left.get_legend_handles_labels(), ncols=len(kinds), loc="outside lower left")
    right.set(xlabel="Hz", ylabel="gain", title="What passes", xlim=(0.05, record.fs / 2))
    return figure


@style.in_style
def plot_raw_and_filtered(
    record: ECGRecord,
    kind: str = "bandpass",
    leads: tuple[str, ...] = ("I", "II", "V2"),
    seconds: float = 5.0,
    title: str = "",
) -> Figure:
    """Each lead raw and filtered over each other, and beside it what the filter took out, in mV."""
    figure, axes = style.new_figure(
        len(leads), 2, (11, 1.7 * len(leads) + 0.7), width_ratios=(1.6, 1), squeeze=False,
        sharex=True,
    )  # fmt: skip
    n = round(min(seconds, record.duration_s) * record.fs)
    t = np.arange(n) / record.fs
    clean = sig.filter_record(record, kind)
    for (left, right), lead in zip(axes, leads):
        raw, new = (r.signal[r.leads.index(lead)][:n] for r in (record, clean))
        left.plot(t, raw, color=style.MUTED, lw=2.2, alpha=0.45, label="raw")
        left.plot(t, new, color=style.COLOURS[0], lw=1.0, label=sig.filter_words(kind))
        right.plot(t, raw - new, color=style.COLOURS[1], lw=0.9)
        left.set(ylabel=f"{lead}, mV")
        right.axhline(0, color=style.MUTED, lw=0.6)
    left, right = axes[0]
    left.set_title(_title(title or "Raw and filtered", record))
    figure.legend(*left.get_legend_handles_labels(), ncols=2, loc="outside lower left")
    right.set_title("Taken out, mV")
    for ax in axes[-1]:
        ax.set(xlabel="s", xlim=(0, t[-1]))
    return figure


@style.in_style
def plot_windows(view, rows, title: str = "") -> Figure:
    """Rows (n,) of a view side by side, its leads one below the other; padding is shaded."""
    signal, padding = view.read(rows), view.mask(rows)
    figure, axes = style.new_figure(
        len(view.leads), len(rows), (11, 1.5 * len(view.leads) + 0.8),
        squeeze=False, sharex=True, sharey="row",
    )  # fmt: skip
    t = np.arange(signal.shape[2]) / view.fs
    for b, column in enumerate(axes.T):
        for c, ax in enumerate(column):
            ax.plot(t, signal[b, c], color=style.TRACE, lw=0.8)
            ax.fill_between(t, 0, 1, where=padding[b], transform=ax.get_xaxis_transform(),
                            color=style.MUTED, alpha=0.25, lw=0)  # fmt: skip
            if b == 0:
                ax.set_ylabel(view.leads[c])
        column[0].set_title(f"window {b + 1}")
        column[-1].set_xlabel("s")
    unit = "mV" if view.recipe["normalise"] == "none" else "standard deviations"
    words = title or f"{view.fs:g} Hz, {sig.filter_words(view.recipe['filter'])}, in {unit}"
    figure.suptitle(words, x=0.01, ha="left", weight="bold")
    return figure


@style.in_style
def plot_quarantine(
    examples: list[tuple[str, str, ECGRecord | None]],
    leads: tuple[str, ...] = ("I", "II", "V1", "V2", "V6"),
    seconds: float = 3.0,
    columns: int = 3,
    simulated: bool | None = None,
) -> Figure:
    """One panel per reason: the first seconds of a record refused for it, and why, below.

    examples: `reader_trials.quarantine_examples`; a record that cannot be read at all, even with
    every check off, leaves its panel empty.
    """
    rows = -(-len(examples) // columns)
    figure, axes = style.new_figure(rows, columns, (11, 2.35 * rows), squeeze=False)
    for ax, (reason, sentence, record) in zip(axes.flat, examples):
        ax.set_title(reason)
        _draw_refused(ax, record, leads, seconds)
        said = sentence.split(" is left out: ", 1)[-1]
        words = textwrap.fill(textwrap.shorten(said, 170, placeholder=" ..."), 62)
        ax.set_xlabel(words, fontsize=7.5, loc="left", color=style.MUTED)
    for ax in axes.flat[len(examples) :]:
        ax.set_axis_off()
    heading = style.mark_simulated("Refused, one recording per reason", simulated)
    figure.suptitle(heading, x=0.01, ha="left", weight="bold")
    return figure


def _draw_refused(ax, record: ECGRecord | None, leads: tuple[str, ...], seconds: float) -> None:
    """Leads one below the other, each scaled to its own range, which is written beside it."""
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    if record is None:
        ax.text(0.5, 0.5, "nothing can be read", ha="center", va="center", color=style.MUTED,
                transform=ax.transAxes)  # fmt: skip
        return
    n = min(round(seconds * record.fs), record.n_samples)
    for step, lead in enumerate(leads):
        x = record.signal[record.leads.index(lead)][:n]
        y = -1.25 * step
        there = x[np.isfinite(x)]
        size = np.ptp(there) if there.size else np.nan
        words = f"{size:,.0f} mV" if size >= 100 else f"{size:.2f} mV" if there.size else "missing"
        if size > 0:
            ax.plot(np.arange(n), y + (x - there.min()) / size - 0.5, color=style.TRACE, lw=0.7)
        elif there.size:
            ax.plot([0, n], [y, y], color=style.COLOURS[1], lw=1.2)
        ax.text(-0.01 * n, y, lead, ha="right", va="center", fontsize=7.5, weight="bold")
        ax.text(1.01 * n, y, words, ha="left", va="center", fontsize=7, color=style.MUTED)
    ax.set(xlim=(-0.1 * n, 1.2 * n), ylim=(-1.25 * len(leads) + 0.5, 0.75))


def frequency_response(fs: float, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """(F,) Hz and (F,) gain of a filter, measured on its impulse response; no phase, by design."""
    impulse = np.zeros(round(40 * fs))
    impulse[len(impulse) // 2] = 1
    gain = np.abs(np.fft.rfft(sig.filter_signal(impulse, fs, kind)))
    return np.fft.rfftfreq(len(impulse), 1 / fs)[1:], gain[1:]


@style.in_style
def plot_normalisation(
    record: ECGRecord, leads: tuple[str, ...] = ("I", "V2", "V5"), title: str = ""
) -> Figure:
    """The same leads raw, z-scored one by one, and z-scored together; one column for each."""
    hows = {"none": "raw, mV", "per_lead": "each lead alone", "global": "all leads together"}
    figure, axes = style.new_figure(1, 3, (11, 3.4), sharex=True)
    t = np.arange(min(record.n_samples, round(3 * record.fs))) / record.fs
    for ax, (how, words) in zip(axes, hows.items()):
        signal = sig.normalise_signal(sig.fill_nan(record.signal), how)
        for lead in leads:
            ax.plot(t, signal[record.leads.index(lead)][: len(t)], label=lead, lw=1.2)
        ax.set(title=words, xlabel="s", ylabel="mV" if how == "none" else "standard deviations")
    axes[0].legend(loc="upper right", ncols=len(leads))
    axes[0].margins(y=0.14)
    figure.suptitle(_title(title or "Normalisation", record), x=0.01, ha="left", weight="bold")
    return figure


@style.in_style
def plot_folds(folds: np.ndarray, labels: np.ndarray, names: list[str], simulated: bool) -> Figure:
    """ECGs per fold, coloured by split (left), and each class's share in each fold (right).

    `folds` (n,) 1..10, `labels` (n, K) multi-hot.
    """
    figure, (left, right) = style.new_figure(1, 2, (11, 3.6))
    numbers = np.arange(1, 11)
    colour = [style.COLOURS[0]] * 8 + [style.COLOURS[4], style.COLOURS[1]]
    counts = np.array([(folds == f).sum() for f in numbers])
    left.bar(numbers, counts, color=colour)
    for f, word in ((4.5, "train"), (9, "valid"), (10, "test")):
        left.text(f, counts.max() * 1.04, word, ha="center", color=colour[int(f) - 1])
    left.set(
        xlabel="fold",
        ylabel="ECGs",
        xticks=numbers,
        ylim=(0, counts.max() * 1.15),
        title=style.mark_simulated("ECGs per fold", simulated),
    )
    share = np.array(
        [labels[folds == f].mean(axis=0) if counts[f - 1] else np.nan * labels[0] for f in numbers]
    )  # (10, K)
    for k, name in enumerate(names):
        right.plot(numbers, 100 * share[:, k], marker="o", ms=4, label=name)
    right.set(
        xlabel="fold",
        ylabel="% of the fold's ECGs",
        xticks=numbers,
        ylim=(0, 118 * np.nanmax(share)),
        title="Superclasses in each fold",
    )
    right.legend(ncols=len(names), loc="upper center", fontsize=8, columnspacing=0.9)
    return figure


@style.in_style
def plot_label_counts(
    labels: np.ndarray, names: list[str], title: str, simulated: bool, descriptions=None
) -> Figure:
    """Horizontal bars: on how many ECGs each class stands, as a count and a share. (n, K)."""
    figure, ax = style.new_figure(1, 1, (9, 0.27 * len(names) + 1.1))
    counts = labels.sum(axis=0).astype(int)
    words = [f"{n}  {descriptions.get(n, '')}" if descriptions else n for n in names]
    ax.barh(range(len(names)), counts, color=style.COLOURS[0])
    for k, count in enumerate(counts):
        ax.text(count, k, f" {count} ({100 * count / len(labels):.0f} %)", va="center", fontsize=8)
    ax.set(
        yticks=range(len(names)),
        yticklabels=words,
        xlabel="ECGs",
        title=style.mark_simulated(title, simulated),
        xlim=(0, counts.max() * 1.15),
    )
    ax.set_ylim(len(names) - 0.4, -0.6)
    return figure


@style.in_style
def plot_beats(record: ECGRecord, lead: str = "II", title: str = "") -> Figure:
    """One lead with its R peaks (left); all beats of it and their median (right)."""
    figure, (left, right) = style.new_figure(1, 2, (11, 3.4), width_ratios=(2.2, 1))
    beats = rhythm.find_beats(record.signal, record.fs)
    c, t = record.leads.index(lead), np.arange(record.n_samples) / record.fs
    x = record.signal[c]
    left.plot(t, x, color=style.TRACE, lw=0.9)
    left.plot(t[beats.sample], x[beats.sample], "v", color=style.COLOURS[1], ms=6)
    rate = rhythm.heart_rate(beats)[0]
    left.set(
        xlabel="s",
        ylabel="mV",
        title=_title(
            title or f"Lead {lead}: {len(beats.sample)} beats, {rate:.0f} per minute", record
        ),
    )
    median = rhythm.median_beats(record.signal, beats)[0]  # (C, L)
    span = np.arange(median.shape[1]) / record.fs - rhythm.BEFORE_S
    for at in beats.sample:
        start = at - round(rhythm.BEFORE_S * record.fs)
        if start >= 0 and start + len(span) <= len(x):
            right.plot(1000 * span, x[start : start + len(span)], color=style.COLOURS[5], lw=0.7)
    right.plot(1000 * span, median[c], color=style.TRACE, lw=2)
    right.set(xlabel="ms from R", ylabel="mV", title="Each beat and their median")
    return figure


@style.in_style
def plot_rates(rates: np.ndarray, truth: pd.DataFrame | None = None) -> Figure:
    """Heart rates (n,): against the truth, coloured by rhythm, or a histogram without it."""
    figure, ax = style.new_figure(1, 1, (5.6, 4.2))
    if truth is None:
        ax.hist(rates[np.isfinite(rates)], bins=np.arange(25, 226, 5), color=style.COLOURS[0])
        ax.set(xlabel="measured heart rate, per minute", ylabel="ECGs", title="Heart rates")
        return figure
    true = truth["heart_rate"].to_numpy()[: len(rates)]
    rhythms = truth["rhythm"].astype(str).to_numpy()[: len(rates)]
    ends = (np.nanmin(true) - 5, np.nanmax(true) + 5)
    ax.plot(ends, ends, color=style.MUTED, lw=0.8)
    names, counts = np.unique(rhythms, return_counts=True)
    for name, colour in zip(names[np.argsort(-counts)], style.COLOURS):
        here = rhythms == name
        ax.plot(true[here], rates[here], ".", ms=4, alpha=0.6, color=colour, label=name)
    ax.set(
        xlabel="true heart rate, per minute",
        ylabel="measured, per minute",
        title="Measured against truth (simulated data)",
    )
    ax.legend(markerscale=2, loc="lower right")
    return figure


def _title(text: str, record: ECGRecord) -> str:
    return style.mark_simulated(
        f"{text} · ECG {record.ecg_id} · {record.fs:g} Hz", record.meta.get("simulated")
    )
