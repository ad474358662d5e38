"""The upper-bound gap: how far question answerers stay behind a classifier of the same facts.

The idea is that of Oh et al. 2023 (answers to single-verify questions beside classifiers of the
attributes they ask about); the definition below is the kit's own. A question counts where its
template wording asks for one (ECG, leads, attribute) of the grounding table's test split; "not
sure" and uncertain ones have no such tuple.
The classifier answers yes where its probability of that tuple is above 0.5, a question answerer as
it does (exact match). Both are judged by the question's own answer, on the same questions, so that
the gap (classifier minus answerer) is paired; its interval draws patients. Beside the mean over
questions stands the mean over attributes, each counted once, and the macro AUROC, for which an
answerer's score is p(yes) / (p(yes) + p(no)).

The classifier is an upper bound of what this ECG encoder and training set give, not of the
questions: an answerer may beat it.

Usage:

    gap = upper_bound_gap(bound, questions, positions, {"fusion": scores}, template=questions_t)
    gap.table            # model, n, exact_match, low, high, macro, auroc, gap, gap_low, gap_high
    gap.by_attribute, gap.left_out
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ecgkit.data.grounding_leads import Asked, Skip, read_question
from ecgkit.tasks import metrics
from ecgkit.tasks.metrics import bootstrap_mean
from ecgkit.tasks.metrics_multilabel import class_table
from ecgkit.tasks.metrics_qa import checked_scores, judgeable
from ecgkit.types import DataError


@dataclass(frozen=True)
class Gap:
    """table: one row a model, the classifier first. by_attribute: attribute, n and the share right
    of each model. left_out: reason -> number of single-verify questions. positions: those judged.
    """

    table: pd.DataFrame
    by_attribute: pd.DataFrame
    left_out: dict[str, int]
    positions: np.ndarray


def upper_bound_gap(
    bound, questions, positions, scores: dict[str, np.ndarray], template=None, patients=None
) -> Gap:
    """Compares a `GroundingBound` with question answerers on the questions both can answer.

    scores: name -> (n, K) of `positions`. template: the same questions in template wording (None:
    `questions` are). patients: (n,) of the questions' ECGs; None = those of the table. Raises
    DataError where not one question is left, or flavours and sample ids do not belong together.
    """
    positions = np.asarray(positions)
    scores = {name: checked_scores(questions, positions, s, name) for name, s in scores.items()}
    wording = template_positions(questions, positions, template)
    at, row, column, left_out = asked_tuples(bound, template or questions, wording)
    keep = judgeable(questions, positions[at])
    left_out["no valid answer"] += int((~keep).sum())
    at, row, column = at[keep], row[keep], column[keep]
    if not len(at):
        raise DataError(
            "Not one single-verify question asks for a tuple of the grounding table's test split "
            f"({dict(left_out)}); were both read from the same questions?"
        )
    chosen, truth = positions[at], said_yes(questions, positions[at])
    chance = bound.scores[row, column]
    people = questions.table["patient1"].to_numpy()[positions] if patients is None else patients
    hits, yes = {bound.name: (chance > 0.5) == truth}, {bound.name: chance}
    labels, valid = questions.labels(chosen), questions.valid_mask(chosen)
    for name, s in scores.items():
        hits[name] = metrics.exact_match(labels, s[at], valid)
        yes[name] = _share_of_yes(questions, s[at])
    attributes = np.array(bound.grounding.classes, dtype=object)[column]
    table = _table(bound.name, hits, yes, truth, column, np.asarray(people)[at])
    return Gap(table, _by_attribute(hits, attributes), dict(+left_out), chosen)


# --- which question asks for which tuple ----------------------------------------------------------


def template_positions(questions, positions, template) -> np.ndarray:
    """Where in `template` the same samples stand: both flavours number them alike in each split."""
    if template is None or template is questions:
        if questions.flavour != "template":
            raise DataError(
                f"These questions are {questions.flavour}; which leads they ask for is read from "
                "template wordings: give template=open_questions(FLAVOUR=template)."
            )
        return positions
    if template.flavour != "template":
        raise DataError(f"template= holds {template.flavour} questions; open FLAVOUR=template.")
    keys = ["split", "sample_id"]
    where = pd.MultiIndex.from_frame(template.table[keys]).get_indexer(
        pd.MultiIndex.from_frame(questions.table[keys].iloc[positions])
    )
    if (where < 0).any():
        raise DataError(
            f"{int((where < 0).sum())} of {len(where)} questions are not among the template ones; "
            "read both flavours from the same place."
        )
    same = ["template_id", "question_type"]
    here, there = questions.table[same].iloc[positions], template.table[same].iloc[where]
    if not (here.to_numpy() == there.to_numpy()).all():
        raise DataError("Equal sample ids stand for other questions in the two flavours.")
    return where


def asked_tuples(bound, template, positions):
    """(at (q,) indices into positions, row (q,) in bound.scores, column (q,) class, left_out)."""
    grounding, table = bound.grounding, template.table.iloc[positions]
    rows = grounding.table.iloc[bound.index]
    row_of = {key: i for i, key in enumerate(zip(rows["ecg_id"].tolist(), rows["leads"].tolist()))}
    column_of = {name: k for k, name in enumerate(grounding.classes)}
    asked = grounding.labels(bound.index) >= 0
    found, left_out, read = [], Counter(), {}
    columns = ("question_type", "question", "attribute", "answer", "split", "ecg_id")
    for i, (kind, text, attribute, answer, split, ecg) in enumerate(
        zip(*(table[c].tolist() for c in columns))
    ):
        if kind != "single-verify":
            continue
        one = Asked(kind, text, tuple(attribute or ()), tuple(answer), split == "test")
        if one not in read:
            read[one] = read_question(one, grounding.protocol)
        said = read[one]
        if isinstance(said, Skip):
            left_out[said.reason] += 1
            continue
        [piece] = said
        row, column = row_of.get((ecg[0], piece.leads)), column_of.get(piece.attribute)
        if row is None or column is None or not asked[row, column]:
            left_out["no such tuple"] += 1
            continue
        found.append((i, row, column))
    return *np.array(found, dtype=np.int64).reshape(-1, 3).T, left_out


def said_yes(questions, positions) -> np.ndarray:
    """(q,) bool: the question's own answer is yes."""
    answers = questions.table["answer"].iloc[positions]
    return np.array([list(answer) == ["yes"] for answer in answers], dtype=bool)


def _share_of_yes(questions, scores: np.ndarray) -> np.ndarray:
    yes, no = (scores[:, questions.classes.index(name)] for name in ("yes", "no"))
    return np.where(yes + no > 0, yes / np.where(yes + no > 0, yes + no, 1), 0.5)


# --- tables ---------------------------------------------------------------------------------------


def _table(first: str, hits, yes, truth, column, people) -> pd.DataFrame:
    rows = []
    for name, hit in hits.items():
        value, low, high = bootstrap_mean(hit, people)
        gap, gap_low, gap_high = bootstrap_mean(hits[first] * 1.0 - hit, people)
        rows.append({"model": name, "n": len(hit), "exact_match": value, "low": low, "high": high,
                     "macro": pd.Series(hit).groupby(column).mean().mean(),
                     "auroc": _macro_auroc(truth, yes[name], column),
                     "gap": gap, "gap_low": gap_low, "gap_high": gap_high})  # fmt: skip
    return pd.DataFrame(rows)


def _macro_auroc(truth, score, column) -> float:
    """Each attribute's AUROC over its questions, averaged over those answered both ways."""
    classes = np.unique(column)
    asked = column[:, None] == classes
    wide = (np.repeat(a[:, None], len(classes), 1) for a in (truth, score))
    table = class_table(*wide, [str(k) for k in classes], asked=asked, n_boot=1)
    return float(table["auroc"].mean())


def _by_attribute(hits, attributes) -> pd.DataFrame:
    shares = pd.DataFrame({name: hit.astype(float) for name, hit in hits.items()})
    grouped = shares.groupby(pd.Series(attributes, name="attribute"))
    table = grouped.mean()
    table.insert(0, "n", grouped.size())
    return table.reset_index()
