"""Figures and small tables about questions: how they join ECGs, their types, answers, templates.

Usage:

    run.figure(plot_join(cohort, questions), "join", "How recordings, questions and splits join")
    run.figure(plot_types(questions), "types", "Questions by type and attribute")
"""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ecgkit.data.qa_reading import ATTRIBUTE_TYPES, QUESTION_TYPES, SPLITS
from ecgkit.reports import style
from ecgkit.reports.paper import draw_page

_VERDICTS = {"yes": "#009e73", "no": "#d55e00", "not sure": "#cc79a7"}
_PLAIN = {
    "scp_code": "statement", "noise": "noise", "stage_of_infarction": "infarction stage",
    "extra_systole": "extra beats", "heart_axis": "heart axis", "numeric_feature": "measurement",
}  # fmt: skip


def _title(questions, text: str) -> str:
    return style.mark_simulated(text, questions.source == "simulated")


# --- records, questions, splits -------------------------------------------------------------------


@style.in_style
def plot_join(cohort, questions) -> Figure:
    """Above, keys that join the three tables, and their sizes; below, questions by fold and split.

    The split is that of the question's file, the fold that of its (first) ECG: strat_fold in
    PTB-XL's layout, in any other the kit's own. Whatever source and questions.
    """
    figure, (above, below) = style.new_figure(2, 1, (8.6, 5.8), height_ratios=(1.0, 1.2))
    _draw_tables(above, cohort, questions)
    above.set_title(_title(questions, f"{cohort.name}: recordings, questions, answers"))
    fold = cohort.table["fold"].to_numpy()[questions.table["row1"]]
    counts = pd.crosstab(questions.table["split"], fold)
    counts = counts.reindex(index=SPLITS, columns=range(1, 11), fill_value=0).to_numpy()
    below.imshow(np.log1p(counts), cmap="Blues", aspect="auto", vmax=np.log1p(counts.max()) * 1.3)
    for (y, x), n in np.ndenumerate(counts):
        dark = counts.max() and np.log1p(n) > 0.82 * np.log1p(counts.max())
        below.text(x, y, f"{n:,}" if n else "·", ha="center", va="center", fontsize=8.5,
                   color="white" if dark else style.INK)  # fmt: skip
    below.set(xticks=range(10), xticklabels=range(1, 11), yticks=range(3), yticklabels=SPLITS)
    whose = "strat_fold" if "strat_fold" in cohort.table else "drawn by patient"
    below.set(xlabel=f"fold of the ECG ({whose})", ylabel="split of the question")
    below.set_title("Questions by fold and split")
    return figure


def _draw_tables(axes, cohort, questions) -> None:
    """Three boxes with arrows: cohort.table -> questions.table -> valid answers."""
    table = questions.table
    patients = cohort.table["patient_id"].nunique()
    asked = np.union1d(table["row1"], table["row2"][table["row2"] >= 0])
    n_pairs = int((table["row2"] >= 0).sum())
    boxes = (
        ("Recordings", f"{cohort.store.n_in:,} in the source",
         f"{len(cohort.table):,} stored, {len(cohort.quarantine):,} refused",
         f"{patients:,} patients", f"{len(asked):,} ECGs with a question"),
        ("Questions", f"{questions.n_in:,} read",
         f"{len(questions):,} kept, {len(questions.dropped):,} dropped",
         f"{len(questions) - n_pairs:,} about one ECG", f"{n_pairs:,} about two"),
        ("Answers", f"{len(questions.classes)} classes and none",
         f"{len(questions.valid)} lists of answers",
         f"{table['template_id'].nunique()} templates asked",
         f"{len(questions.table['question'].unique()):,} wordings"),
    )  # fmt: skip
    frame = {"boxstyle": "round,pad=0.6", "facecolor": "#f3f6fa", "edgecolor": style.MUTED}
    for x, (name, *lines) in zip((0.13, 0.5, 0.87), boxes):
        text = "\n".join([name, *lines])
        axes.text(x, 0.5, text, ha="center", va="center", linespacing=1.5, bbox=frame)
    for x, key in ((0.325, "ecg_id\n(1 or 2)"), (0.69, "template_id")):
        arrow = {"arrowstyle": "<->", "color": style.COLOURS[0], "lw": 1.6}
        axes.annotate("", (x - 0.045, 0.5), (x + 0.045, 0.5), arrowprops=arrow)
        axes.text(x, 0.6, key, ha="center", va="bottom", fontsize=8, color=style.COLOURS[0])
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_axis_off()


# --- distributions --------------------------------------------------------------------------------


@style.in_style
def plot_types(questions) -> Figure:
    """Bars: questions of each of the seven types, in the colours of the six attribute types."""
    counts = pd.crosstab(questions.table["question_type"], questions.table["attribute_type"])
    counts = counts.reindex(index=QUESTION_TYPES, columns=ATTRIBUTE_TYPES, fill_value=0)
    figure, axes = style.new_figure(1, 1, (8.6, 3.6))
    left = np.zeros(len(counts))
    for colour, name in zip(style.COLOURS, ATTRIBUTE_TYPES):
        axes.barh(range(len(counts)), counts[name], left=left, color=colour, label=_PLAIN[name])
        left += counts[name].to_numpy()
    for y, total in enumerate(left):
        axes.text(total, y, f" {int(total):,}", va="center", fontsize=9)
    names = [name.replace("_", " ") for name in QUESTION_TYPES]
    axes.set(yticks=range(len(counts)), yticklabels=names, xlabel="questions")
    axes.set_xlim(0, 1.12 * max(left.max(), 1))
    axes.invert_yaxis()
    axes.legend(loc="lower right", title="asked about")
    axes.set_title(_title(questions, "Questions by type"))
    return figure


@style.in_style
def plot_answers(questions, n: int = 16) -> Figure:
    """Left: answers to verify questions by attribute type. Right: the commonest other answers."""
    figure, (left, right) = style.new_figure(1, 2, (9.6, 4.2), width_ratios=(1, 1.15))
    verify = questions.table["question_type"].str.endswith("verify")
    _draw_verdicts(left, questions.table[verify])
    left.set_title(_title(questions, "Verify: what is answered"))
    named = questions.table["answer"][~verify].explode().value_counts().head(n)
    right.barh(range(len(named)), named, color=style.COLOURS[0])
    labels = [textwrap.shorten(name, 46, placeholder=" ...") for name in named.index]
    right.set(yticks=range(len(named)), yticklabels=labels, xlabel="times among the answers")
    right.tick_params(axis="y", labelsize=8)
    right.invert_yaxis()
    right.set_title(f"Choose and query: {len(named)} commonest")
    return figure


def _draw_verdicts(axes, verify: pd.DataFrame) -> None:
    shares = pd.crosstab(verify["attribute_type"], verify["answer"].str[0], normalize="index")
    totals = verify["attribute_type"].value_counts()
    names = [name for name in ATTRIBUTE_TYPES if name in shares.index]
    start = np.zeros(len(names))
    for verdict, colour in _VERDICTS.items():
        if verdict in shares:
            share = shares.loc[names, verdict].to_numpy()
            axes.barh(range(len(names)), share, left=start, color=colour, label=verdict)
            start += share
    axes.axvline(0.5, color=style.INK, lw=0.8, ls=":")
    labels = [f"{_PLAIN[name]}\n{totals[name]:,}" for name in names]
    axes.set(yticks=range(len(names)), yticklabels=labels, xlabel="share of answers", xlim=(0, 1))
    axes.invert_yaxis()
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)


@style.in_style
def plot_templates(questions) -> Figure:
    """Per template: answers it allows (bars) and the share of its commonest answer set (dots).

    The dots are what a model scores that knows the template and nothing else.
    """
    table = template_table(questions)
    figure, (above, below) = style.new_figure(2, 1, (9.6, 4.6), sharex=True)
    x = np.arange(len(table))
    kinds = table["question_type"].str.split("-").str[1]
    for colour, kind in zip(style.COLOURS, ("verify", "choose", "query")):
        rows = (kinds == kind).to_numpy()
        above.bar(x[rows], table["allowed"][rows], color=colour, label=kind)
        below.scatter(x[rows], table["majority"][rows], color=colour, s=28)
    above.set(ylabel="answers allowed", yscale="log", ylim=(1.5, 80))
    above.set_yticks([2, 4, 10, 20, 60], ["2", "4", "10", "20", "60"])
    above.minorticks_off()
    above.set_title(_title(questions, "Templates"))
    above.legend(ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    below.axhline(0.5, color=style.INK, lw=0.8, ls=":")
    below.set(ylabel="commonest answer", ylim=(0, 1.03), xlabel="template_id", xticks=x)
    below.set_xticklabels(table["template_id"], rotation=90, fontsize=8)
    return figure


@style.in_style
def plot_answer_rows(questions, positions) -> Figure:
    """What a loss sees of a few questions: per row the classes that count (grey) and are true
    (blue). Columns are the classes that count for any of them, those of short lists first; of long
    lists the classes that are true come before the others, and 44 are drawn in all.
    """
    positions = np.asarray(positions)
    labels, mask = questions.labels(positions) > 0.5, questions.valid_mask(positions)
    length = np.where(mask, mask.sum(axis=1, keepdims=True), mask.size).min(axis=0)  # (K,)
    order = np.lexsort((-labels.any(axis=0).astype(int), length))
    columns = order[mask[:, order].any(axis=0)][:44]
    shade = mask[:, columns].astype(float) + labels[:, columns]  # 0 does not count, 1 no, 2 yes
    figure, ax = style.new_figure(size=(10.5, 2.4 + 0.27 * len(positions)))
    colours = ListedColormap(["#ffffff", "#d9d9d9", style.COLOURS[0]])
    ax.pcolormesh(shade[::-1], cmap=colours, vmin=0, vmax=2, edgecolor="#eeeeee", linewidth=0.5)
    asked = questions.table["question"].iloc[positions[::-1]]
    ax.set_yticks(np.arange(len(asked)) + 0.5, [textwrap.shorten(q, 74) for q in asked])
    names = [textwrap.shorten(questions.classes[k], 44, placeholder=" ...") for k in columns]
    ax.set_xticks(np.arange(len(columns)) + 0.5, names, rotation=90)
    ax.tick_params(labelsize=8, length=0)
    handles = [Patch(facecolor=colours(k), edgecolor="#999999") for k in (2, 1, 0)]
    words = ("true", "counts, and is not true", "does not count")
    figure.legend(handles, words, loc="outside upper right", ncols=3)
    figure.suptitle(_title(questions, "Answers as rows"), x=0.01, ha="left", weight="bold")
    return figure


@style.in_style
def plot_uses(uses, simulated: bool | None = None) -> Figure:
    """How many questions ask about an ECG: a histogram over ECGs, `uses` (R,) per stored row."""
    uses = np.asarray(uses)
    figure, ax = style.new_figure(size=(6.6, 2.9))
    ax.hist(uses, bins=np.arange(-0.5, max(uses.max(), 1) + 1, max(1, uses.max() // 40)))
    ax.axvline(uses.mean(), color=style.COLOURS[1], ls="--", lw=1.2)
    ax.annotate(
        f"mean {uses.mean():.1f}", (uses.mean(), 1), (4, -4), color=style.COLOURS[1],
        xycoords=("data", "axes fraction"), textcoords="offset points", va="top",
    )  # fmt: skip
    ax.set(xlabel="questions about one ECG", ylabel="ECGs")
    ax.set_title(style.mark_simulated("How often each stored ECG is asked about", simulated))
    return figure


def template_table(questions) -> pd.DataFrame:
    """One row per template asked: question_type, attribute_type, questions, allowed, majority.

    allowed counts answers without `none`; majority is the share of the commonest answer set.
    """
    rows = []
    for number, group in questions.table.groupby("template_id"):
        sets = group["answer"].map(lambda answer: tuple(sorted(answer)))
        allowed = sum(name != "none" for name in questions.valid[number])
        first = group.iloc[0]
        rows.append((number, first["question_type"], first["attribute_type"], len(group), allowed,
                     sets.value_counts(normalize=True).iloc[0]))  # fmt: skip
    names = ["template_id", "question_type", "attribute_type", "questions", "allowed", "majority"]
    return pd.DataFrame(rows, columns=names)


def majority_share(questions, question_type: str | None = None) -> float:
    """Share of questions answered right by each template's commonest answer set."""
    table = template_table(questions)
    if question_type is not None:
        table = table[table["question_type"] == question_type]
    if table.empty:
        return np.nan
    return float(np.average(table["majority"], weights=table["questions"]))


def dropped_table(questions) -> pd.DataFrame:
    """Questions left out, by reason and question type, with one example sentence each."""
    groups = questions.dropped.groupby(["reason", "question_type"])
    table = groups.agg(questions=("sample_id", "size"), example=("sentence", "first"))
    return table.reset_index()


# --- one question ---------------------------------------------------------------------------------


def pick_question(questions, question_type="single-verify", answer="yes", seed: int = 0) -> int:
    """Position of one question of that type (any single one where there is none) and answer."""
    table = questions.table
    single = (table["row2"] < 0).to_numpy()
    wanted = single & (table["question_type"] == question_type).to_numpy()
    exact = wanted & (table["answer"].str[0] == answer).to_numpy()
    for choice in (exact, wanted, single, np.ones(len(table), bool)):
        if choice.any():
            found = np.flatnonzero(choice)
            return int(found[np.random.default_rng(seed).integers(len(found))])
    raise AssertionError("a question set is never empty")


@style.in_style
def plot_question(cohort, questions, position: int) -> Figure:
    """The (first) ECG of one question on paper, headed by the question and its true answer."""
    row = questions.table.iloc[position]
    answer = ", ".join(row["answer"])
    title = textwrap.shorten(f"{row['question']}  –  {answer}", 110, placeholder=" ...")
    title = style.mark_simulated(title, cohort.simulated)
    record = cohort.record(int(row["row1"]))
    return draw_page(record, title, note=f"question {row['question_id']}")[0]


def example_table(questions, seed: int = 0) -> pd.DataFrame:
    """One question of each type there is: type, question, answer, ECGs."""
    rows = []
    for name in QUESTION_TYPES:
        of_type = questions.table[questions.table["question_type"] == name]
        if len(of_type):
            row = of_type.sample(1, random_state=seed).iloc[0]
            rows.append((name, row["question"], ", ".join(row["answer"]), str(row["ecg_id"])))
    return pd.DataFrame(rows, columns=["type", "question", "answer", "ecg_id"])
