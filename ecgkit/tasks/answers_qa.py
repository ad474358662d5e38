"""From probabilities to answers: decoding, majorities, exact match by question type.

The published rule calls every class above 0.5 an answer; where three options share the probability,
none may reach it. `AnswerSets.decode` instead picks the most probable of the answer sets that
training questions of the same template had, with a weight on how common each was there; the weight
is chosen on the valid split by question type, for each model alike. Both rules are reported.

Letters: N questions, K answers, M answer sets of a template.

Usage:

    sets = AnswerSets(questions, questions.index("train"))
    weights = sets.choose_weights(valid_scores, questions.index("valid"))
    predicted = sets.decode_by_type(scores, positions, weights)           # (n, K) 0/1
    table = score_table(questions, positions, {"fusion": predicted}, patients)
"""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pandas as pd

from ecgkit.tasks import metrics
from ecgkit.tasks.metrics_qa import judgeable

ALL = "all questions"
WEIGHTS = (0.0, 0.5, 1.0, 2.0, 4.0, float("inf"))


class AnswerSets:
    """Which answer sets occur in training, by template and by (template, attribute)."""

    def __init__(self, questions, positions: np.ndarray):
        self.questions = questions
        labels = questions.labels(positions) > 0.5
        self._by_template, self._by_attribute = defaultdict(Counter), defaultdict(Counter)
        for template, attribute, row in zip(*self._keys(positions), labels):
            answer_set = tuple(np.flatnonzero(row))
            self._by_template[template][answer_set] += 1
            self._by_attribute[template, attribute][answer_set] += 1

    def _keys(self, positions):
        table = self.questions.table.iloc[positions]
        attributes = [tuple(a) if isinstance(a, list) else () for a in table["attribute"]]
        return table["template_id"].tolist(), attributes

    def majority(self, positions: np.ndarray, by_attribute: bool = False) -> np.ndarray:
        """(n, K) 0/1: the commonest training answer of each question's template, or of its template
        with the very same attributes; none at all for a template never seen."""
        predicted = np.zeros((len(positions), len(self.questions.classes)), dtype=np.float32)
        for i, key in enumerate(zip(*self._keys(positions))):
            counts = self._by_attribute.get(key) if by_attribute else None
            counts = counts or self._by_template.get(key[0])
            if counts:
                predicted[i, list(counts.most_common(1)[0][0])] = 1
        return predicted

    def decode_by_type(
        self, scores: np.ndarray, positions: np.ndarray, weights: dict[str, float]
    ) -> np.ndarray:
        """`decode` with the weight of each question's type; a type without one gets 0."""
        kinds = self.questions.table["question_type"].to_numpy()[positions]
        predicted = np.zeros((len(positions), len(self.questions.classes)), dtype=np.float32)
        for kind in set(kinds):
            rows = np.flatnonzero(kinds == kind)
            predicted[rows] = self.decode(scores[rows], positions[rows], weights.get(kind, 0.0))
        return predicted

    def decode(self, scores: np.ndarray, positions: np.ndarray, weight: float = 0.0):
        """(n, K) probabilities -> (n, K) 0/1: the answer set S of the question's template with the
        largest log p(S) + weight * log(share of S in training).

        Classes count as independent, valid ones only; an infinite weight is the majority. A
        template never seen falls back to the published threshold of 0.5.
        """
        if np.isinf(weight):
            return self.majority(positions)
        scores = np.clip(scores.astype(np.float64), 1e-6, 1 - 1e-6)
        valid = self.questions.valid_mask(positions)
        odds = np.where(valid, np.log(scores / (1 - scores)), 0.0)
        predicted = (scores > 0.5) & valid
        templates = np.array(self._keys(positions)[0], dtype=int)
        for template in np.unique(templates):
            known = self._by_template.get(int(template))
            rows = np.flatnonzero(templates == template)
            if known:
                sets = _rows_of(list(known), scores.shape[1])  # (M, K)
                share = np.log(np.array(list(known.values())) / known.total())  # (M,)
                best = (odds[rows] @ sets.T + weight * share).argmax(1)
                predicted[rows] = (sets[best] > 0) & valid[rows]
        return predicted.astype(np.float32)

    def choose_weights(self, scores: np.ndarray, positions: np.ndarray) -> dict[str, float]:
        """Question type -> weight, chosen among the valid questions of that type.

        A model may have learnt to answer one type and not yet another.
        """
        kinds = self.questions.table["question_type"].to_numpy()[positions]
        return {
            kind: self.choose_weight(scores[kinds == kind], positions[kinds == kind])
            for kind in sorted(set(kinds))
        }

    def choose_weight(self, scores: np.ndarray, positions: np.ndarray) -> float:
        """The largest weight whose exact match lies within one standard error of the best one's.

        Questions without a valid answer, which every weight gets right, take no part.

        One-standard-error rule (Breiman et al. 1984): a model that knows nothing beyond the
        template then answers with the template's majority instead of tossing coins.
        """
        kept = judgeable(self.questions, positions)
        scores, positions = scores[kept], positions[kept]
        if not len(positions):
            return 0.0
        hits = np.array([matches(self.questions, positions, self.decode(scores, positions, w))
                         for w in WEIGHTS])  # (W, n)
        rates = hits.mean(1)
        best = rates.argmax()
        gap = hits[best].astype(float) - hits  # paired, so that shared luck cancels
        error = gap.std(1) / np.sqrt(hits.shape[1])
        return WEIGHTS[int(np.flatnonzero(rates[best] - rates <= error)[-1])]


def _rows_of(sets: list[tuple[int, ...]], n_classes: int) -> np.ndarray:
    rows = np.zeros((len(sets), n_classes))
    for row, members in zip(rows, sets):
        row[list(members)] = 1
    return rows


def matches(questions, positions: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """(n,) bool exact match of 0/1 answers or probabilities (n, K).

    A question without any valid answer matches whatever is said: leave it out of any share (see
    `metrics_qa.judgeable`), as the functions below do.
    """
    return metrics.exact_match(questions.labels(positions), predicted,
                               questions.valid_mask(positions))


def score_table(questions, positions: np.ndarray, predicted: dict[str, np.ndarray],
                patients: np.ndarray) -> pd.DataFrame:
    """Exact match with a patient bootstrap: question_type, model, n, value, low, high, left_out.

    `predicted`: name -> (n, K); `patients` (n,) of each question's first ECG. The first rows are
    over all questions; a type without questions has no row. `left_out` counts the questions of the
    type without a valid answer, which are not in n.
    """
    kinds = questions.table["question_type"].to_numpy()[positions]
    rows, kept = [], judgeable(questions, positions)
    hits = {name: matches(questions, positions, p) for name, p in predicted.items()}
    for kind in (ALL, *sorted(set(kinds))):
        of_kind = np.ones(len(kinds), bool) if kind == ALL else kinds == kind
        chosen = of_kind & kept
        for name, hit in hits.items():
            value, low, high = metrics.bootstrap_share(hit[chosen], patients[chosen])
            rows.append({"question_type": kind, "model": name, "n": int(chosen.sum()),
                         "value": value, "low": low, "high": high,
                         "left_out": int((of_kind & ~kept).sum())})
    columns = ["question_type", "model", "n", "value", "low", "high", "left_out"]
    return pd.DataFrame(rows, columns=columns)


def difference(questions, positions, predicted, other, patients, question_type: str = ALL):
    """(mean, low, high) of paired exact match, `predicted` minus `other`, by patient."""
    gain = matches(questions, positions, predicted) * 1.0 - matches(questions, positions, other)
    chosen = judgeable(questions, positions)
    if question_type != ALL:
        chosen &= questions.table["question_type"].to_numpy()[positions] == question_type
    return metrics.bootstrap_mean(gain[chosen], patients[chosen])


def answer_names(classes: list[str], predicted: np.ndarray) -> list[list[str]]:
    """(n, K) 0/1 -> lists of class names; an empty set reads none."""
    return [[classes[k] for k in np.flatnonzero(row > 0.5)] or ["none"] for row in predicted]
