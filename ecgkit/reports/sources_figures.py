"""What each source of ECGs is, side by side; what one cohort holds; what the doctor found in it.

Usage:

    plot_sources([cohort])               # all the kit knows, from their data cards; dots: this run
    plot_cohort(cohort)                  # ages, recordings per patient, lengths
    doctor_table(cohort)                 # a Styler, tinted where something was found
"""

from __future__ import annotations

import re
import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ecgkit.data import cards, doctor, sources
from ecgkit.reports import style, tables
from ecgkit.types import LEADS, canonical_lead

_MENDED, _REFUSED = "background-color: #fdf3d0", "background-color: #f9dfcf"
_ROW = 0.74  # inches per source


def sources_table() -> pd.DataFrame:
    """One row per source: source, recordings, patients, seconds (shortest, longest), rates, leads
    (in the source's order and spelling), labels, access; NaN or () where the card gives no number.
    """
    rows = []
    for name, one in sources.SOURCES.items():
        facts = cards.facts(name)
        counts = facts["records, patients"]
        patients = re.search(r"of ([\d,]+) patients", counts)
        rows.append({
            "source": name,
            "recordings": _number(re.match(r"[\d,]+", counts)),
            "patients": _number(patients and re.match(r"[\d,]+", patients.group(1))),
            "seconds": tuple(sorted({int(s) for s in re.findall(r"(\d+) s\b", facts["length"])})),
            "rates": tuple(sorted(one.fs)),
            "leads": one.leads,
            "labels": facts["labels"].replace("`", ""),
            "access": f"{facts['licence']}; {facts['access']}",
        })  # fmt: skip
    return pd.DataFrame(rows)


def _number(match: re.Match | None) -> float:
    return float(match.group().replace(",", "")) if match and match.group().strip(",") else np.nan


@style.in_style
def plot_sources(cohorts=()) -> Figure:
    """One line per source: recordings and patients, length, rates, order of leads, labels.

    cohorts: those opened in this run; their recordings are marked. Lead names in orange stand at
    another place than in the kit, so a reader that goes by position mixes them up.
    """
    table = sources_table()
    figure, axes = style.new_figure(
        1, 4, (14, _ROW * len(table) + 1.0), sharey=True, width_ratios=(1.25, 0.7, 1.75, 1.7)
    )
    here = {cohort.name: len(cohort) for cohort in cohorts}
    _draw_counts(axes[0], table, here)
    _draw_lengths(axes[1], table)
    _draw_leads(axes[2], table)
    _draw_labels(axes[3], table)
    axes[0].set(yticks=range(len(table)), yticklabels=table["source"])
    axes[0].set_ylim(len(table) - 0.5, -0.5)
    for ax in axes:
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    return figure


def _draw_counts(ax: Axes, table: pd.DataFrame, here: dict[str, int]) -> None:
    for y, line in enumerate(table.itertuples()):
        if np.isfinite(line.recordings):
            ax.barh(y, line.recordings, height=0.5, color=style.COLOURS[5])
            people = f" of {line.patients:,.0f} patients" if np.isfinite(line.patients) else ""
            ax.text(120, y, f"{line.recordings:,.0f}{people}", va="center", fontsize=8)
        else:
            ax.text(120, y, "as given", va="center", fontsize=8, color=style.MUTED)
        if line.source in here:
            n = here[line.source]
            x = max(n, 115)  # a handful is marked at the axis' edge
            ax.plot(x, y - 0.36, "v", color=style.COLOURS[1], ms=5)
            ax.text(1.25 * x, y - 0.36, f"this run: {n:,}", va="center", fontsize=7.5,
                    color=style.COLOURS[1])  # fmt: skip
    ax.set(xscale="log", xlim=(100, 3e6), title="Recordings")


def _draw_lengths(ax: Axes, table: pd.DataFrame) -> None:
    for y, line in enumerate(table.itertuples()):
        rates = " and ".join(f"{fs:g}" for fs in line.rates)
        ax.text(3.2, y + 0.3, f"{rates} Hz", fontsize=8, va="center", color=style.MUTED)
        if not line.seconds:
            ax.text(3.2, y, "as given", va="center", fontsize=8, color=style.MUTED)
            continue
        low, high = line.seconds[0], line.seconds[-1]
        ax.plot([low, high], [y, y], "-o", color=style.COLOURS[2], ms=5, lw=2)
        words = f"{low} s" if low == high else f"{low} to {high} s"
        ax.text(low, y - 0.27, words, ha="left" if low < high else "center", fontsize=8)
    ax.set(xscale="log", xlim=(3, 300), title="Length, rates")
    ax.set_xticks([3, 10, 30, 100], ["3", "10", "30", "100 s"])
    ax.minorticks_off()


def _draw_leads(ax: Axes, table: pd.DataFrame) -> None:
    for y, line in enumerate(table.itertuples()):
        for x, name in enumerate(line.leads):
            moved = canonical_lead(name) != LEADS[x]
            look = {"color": style.COLOURS[1], "weight": "bold"} if moved else {}
            ax.text(x, y, name, ha="center", va="center", fontsize=8, **look)
    ax.set(xlim=(-0.6, len(LEADS) - 0.4), xticks=[], title="Leads as the source writes them")
    ax.spines["bottom"].set_visible(False)


def _draw_labels(ax: Axes, table: pd.DataFrame) -> None:
    for y, line in enumerate(table.itertuples()):
        words = textwrap.wrap(line.labels, 50)[:3]
        access = textwrap.shorten(line.access, 50, placeholder=" ...")
        ax.text(0, y - 0.06, "\n".join(words), va="center", fontsize=8, linespacing=1.15)
        ax.text(0, y + 0.4, access, va="center", fontsize=7.5, color=style.MUTED)
    ax.set(xlim=(0, 1), xticks=[], title="Labels, licence")
    ax.spines["bottom"].set_visible(False)


# --- one cohort -----------------------------------------------------------------------------------


@style.in_style
def plot_cohort(cohort) -> Figure:
    """Ages by sex, recordings per patient, and length as recorded, of what is stored."""
    figure, (left, middle, right) = style.new_figure(1, 3, (11, 3.2))
    table = cohort.table
    age, sex = table["age"].to_numpy(float), table["sex"].to_numpy(float)
    sexes = {"male": sex == 0, "female": sex == 1, "unknown": np.isnan(sex)}
    below = np.zeros(20)
    for (word, which), colour in zip(sexes.items(), (*style.COLOURS[0::4], style.MUTED)):
        n = np.histogram(age[which], np.arange(0, 101, 5))[0]
        label = f"{word} {which.sum():,}" if which.any() else None
        left.bar(np.arange(2.5, 100, 5), n, 5, bottom=below, color=colour, label=label)
        below += n
    left.legend(fontsize=8)
    unknown = int(np.isnan(age).sum())
    left.set(xlabel=f"age in years ({unknown:,} unknown)", ylabel="ECGs")
    left.set_title(style.mark_simulated(f"{cohort.name}: {len(table):,} ECGs", cohort.simulated))
    per_patient = table["patient_id"].value_counts().clip(upper=10).value_counts().sort_index()
    middle.bar(per_patient.index, per_patient, color=style.COLOURS[0])
    middle.set(xlabel="ECGs of one patient (10 = or more)", ylabel="patients")
    middle.set_xticks(range(1, int(per_patient.index.max()) + 1))
    middle.set_title(f"{table['patient_id'].nunique():,} patients")
    _draw_seconds(right, cohort)
    return figure


def _draw_seconds(ax: Axes, cohort) -> None:
    index = cohort.base.index
    seconds = (index["n_source"] / index["fs_source"]).to_numpy()
    edges = np.linspace(0, max(20, seconds.max()), 41)
    ax.hist(seconds, bins=edges, color=style.COLOURS[2])
    rates = ", ".join(f"{fs:g} Hz" for fs in np.unique(index["fs_source"]))
    ax.set(xlabel="seconds", ylabel="ECGs", title=f"Length as recorded, at {rates}")


# --- the doctor -----------------------------------------------------------------------------------


def doctor_table(cohort, caption: str = ""):
    """`data.doctor.table` as a Styler: yellow where records deviate and were mended or flagged,
    orange where some are in quarantine. The DataFrame is in `.data`.
    """
    view = tables.styled(doctor.table(cohort), caption or doctor.sentence(cohort))
    return view.apply(_tint, axis=1)


def _tint(line: pd.Series) -> list[str]:
    refused = "quarantined" in line["done"]
    found = line["records"] > 0 and line["done"] != doctor.NOTHING
    return [_REFUSED if refused else _MENDED if found else ""] * len(line)
