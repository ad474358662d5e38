"""How far the question alone gets: the question-only ceiling of an episode.

Whoever sees which question is asked, and the support of the episode, but no ECG, can at best say
what the support says to that question most often. Where support and query hold each answer of a
question equally often that is 1 / answers: .5 for yes against no, .2 for five answers of one query.
Of a free draw almost every question has one answer, and the ECG is not needed.

Letters: S support rows, Q query rows, A distinct answers.

Usage:

    view = QuestionView(questions.table)
    view.ceiling(episode, "question"), view.ceiling(episode, "wording")
"""

from __future__ import annotations

import numpy as np
import pandas as pd


class QuestionView:
    """Each question of a table as a number: its exact words, which question it is (template and
    attributes, ECG-QA's question_id), its template; and its answer.
    """

    def __init__(self, table: pd.DataFrame):
        template = pd.factorize(table["template_id"])[0]
        question = pd.factorize(pd.Series(template) * 10**9 + table["question_id"].to_numpy())[0]
        wording = pd.factorize(table["question"])[0] if "question" in table else question
        everything = np.zeros(len(table), dtype=np.int64)
        self._levels = {
            "wording": (wording, question, template, everything),
            "question": (question, template, everything),
        }
        self._answer = pd.factorize(table["answer"].map(lambda names: ", ".join(sorted(names))))[0]

    def ceiling(self, episode, level: str = "question") -> float:
        """Expected share of query rows answered by the commonest answer of the support to the same
        question; ties are guessed. A question the support does not hold is taken for another one of
        its template, or else for any.
        """
        said, said_at = np.unique(self._answer[episode.support], return_inverse=True)  # (A,), (S,)
        votes = np.eye(len(said))[said_at]  # (S, A)
        counts = np.zeros((len(episode.query), len(said)))  # (Q, A)
        for code in self._levels[level]:
            unknown = counts.sum(1) == 0
            same = code[episode.query][unknown, None] == code[episode.support][None]  # (., S)
            counts[unknown] = same @ votes
        best = counts == counts.max(1, keepdims=True)
        right = best & (self._answer[episode.query][:, None] == said)
        return float((right.sum(1) / best.sum(1)).mean())
