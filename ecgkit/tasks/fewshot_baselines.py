"""What a few-shot score has to beat, each baseline on the same episodes.

unadapted        the same mapper before the inner loop
in-context       the support examples as context, nothing adapted
supervised       a mapper trained on all tasks at once, then adapted in the same way
question only    adapted, but shown the mean training ECG everywhere
shuffled ECGs    adapted, with the episode's ECGs dealt out anew among its rows
majority         the commonest support answer (ties: each its share of the credit)
ECG only         the support class whose mean embedding is nearest; no question, no language model

The last two choose among the episode's answers, which is easier than writing one.

Usage:

    tables = baseline_episodes(task, mapper, sampler, range(80), config, supervised=other)
    baseline_table(tables)          # name, value, low, high, gain, gain low, gain high, n
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from torch import nn

from ecgkit.tasks.fewshot_eval import evaluate_episodes, finite
from ecgkit.tasks.fewshot_task import FewShotTask
from ecgkit.tasks.in_context import in_context_episodes
from ecgkit.tasks.metrics import bootstrap_mean

ADAPTED, CURVE_POINTS = "adapted", 6


def curve_steps(last: int) -> list[int]:
    """At most CURVE_POINTS inner steps from 0 to `last`: each costs a pass over the query."""
    return sorted({round(x) for x in np.linspace(0, last, CURVE_POINTS)})


def baseline_episodes(
    task: FewShotTask, mapper: nn.Module, sampler, numbers: Iterable[int], config,
    supervised: nn.Module | None = None, in_context: bool = True, curve: bool = False,
    n_slow: int | None = None,
) -> dict[str, pd.DataFrame]:  # fmt: skip
    """Name -> one row per episode with its scores; the first is `adapted`, the mapper itself.

    `curve`: adapted holds CURVE_POINTS inner steps and shuffled ECGs the first and the last, not
    the last alone. `n_slow`: so many of the episodes for in-context, supervised and question only
    (None: all); gains are paired, so they stay fair.
    `supervised`: a mapper trained under METHOD=supervised, or None to leave that row out.
    In-context examples have no place in the released layout, so they are left out there.
    """
    numbers = list(numbers)
    last = config.steps_at_test
    steps = curve_steps(last) if curve else (0, last)

    slow = numbers[:n_slow]

    def run(who, at=(last,), some=numbers, **how):
        return evaluate_episodes(task, who, sampler, some, config, at=at, **how)

    all_steps = run(mapper, steps)
    found = {ADAPTED: all_steps, "unadapted": all_steps[all_steps["step"] == 0]}
    if in_context and not task.layout.blind:
        found["in-context"] = in_context_episodes(task, mapper, sampler, slow, config)
    if supervised is not None:
        found["supervised"] = run(supervised, some=slow)
    found["question only"] = run(mapper, some=slow, control="mean")
    found["shuffled ECGs"] = run(mapper, (0, last) if curve else (last,), control="shuffled")
    found["majority"] = _each(task, sampler, numbers, majority)
    found["ECG only"] = _each(task, sampler, numbers, nearest_class)
    return found


def baseline_table(tables: Mapping[str, pd.DataFrame], score: str = "exact") -> pd.DataFrame:
    """One row per baseline `name`: its mean score `value` after its last step with the 95 %
    interval over episodes (low, high), and `gain`, adapted minus baseline, paired by episode,
    with its own.
    """
    adapted = _by_episode(tables[ADAPTED], score)
    rows = []
    for name, table in tables.items():
        own = _by_episode(table, score)
        shared = pd.concat([adapted, own], axis=1, join="inner").to_numpy()  # (n, 2)
        gap = (np.nan,) * 3 if name == ADAPTED else bootstrap_mean(shared[:, 0] - shared[:, 1])
        rows.append((name, *bootstrap_mean(own.to_numpy()), *gap, len(own)))
    return pd.DataFrame(
        rows, columns=["name", "value", "low", "high", "gain", "gain low", "gain high", "n"]
    )


def _by_episode(table: pd.DataFrame, score: str) -> pd.Series:
    end = table[table["step"] == table["step"].max()]
    return finite(end).set_index("episode")[score].dropna()


# --- without a language model ---------------------------------------------------------------------


def _each(task: FewShotTask, sampler, numbers: list[int], rule) -> pd.DataFrame:
    """`rule` on every episode: its credit per query row; answers over the limit do not count."""
    answers, records = task.answer.cpu().numpy(), task.record.cpu().numpy()
    fits, features = task.fits.cpu().numpy(), task.features.cpu().numpy()
    rows = []
    for number in numbers:
        e = sampler[number]
        true = answers[e.query]
        credit = rule(answers[e.support], true, features[records[e.support]],
                      features[records[e.query]], e.support_class)  # fmt: skip
        kept = fits[true]
        value = float(credit[kept].mean()) if kept.any() else np.nan
        # Whoever chooses among the episode's answers is exactly right or not right at all.
        rows.append((number, 0, value, value, value, False))
    columns = ["episode", "step", "exact", "candidate", "balanced", "flagged"]
    return pd.DataFrame(rows, columns=columns)


def majority(support_answer, query_answer, support, query, classes) -> np.ndarray:
    """(Q,) credit of always giving the commonest support answer."""
    values, counts = np.unique(support_answer, return_counts=True)
    commonest = values[counts == counts.max()]
    return np.isin(query_answer, commonest) / len(commonest)


def nearest_class(support_answer, query_answer, support, query, classes) -> np.ndarray:
    """(Q,) 1 where the class of the nearest mean embedding has the true answer.

    support (S, F) and query (Q, F) embeddings, classes (S,) numbered from 0.
    """
    kinds = np.unique(classes)
    means = np.stack([support[classes == k].mean(0) for k in kinds])  # (N, F)
    distance = ((query[:, None] - means) ** 2).sum(-1)  # (Q, N)
    answer_of = np.array([support_answer[classes == k][0] for k in kinds])
    return (answer_of[distance.argmin(1)] == query_answer).astype(float)
