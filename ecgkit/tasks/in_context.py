"""In-context answers: the support examples stand before the question, and nothing is adapted.

The language model reads "question, ECG, answer" of every support row, then the query's question and
ECG. The ECGs are the soft tokens of the mapper as meta-training left it. A small model trained on
single questions may make nothing of such a context; that is then what the score says.

Letters: S support rows, Q query rows of one episode, P soft tokens, D reader width.

Usage:

    table = in_context_episodes(task, mapper, sampler, range(80), config)
    by_step(table)                       # one step, 0, with the columns of `evaluate_episodes`
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ecgkit import runtime
from ecgkit.models.prefix_llm import normalise
from ecgkit.tasks.fewshot_eval import episode_means
from ecgkit.tasks.fewshot_task import FewShotTask, TaskBatch, distinct
from ecgkit.tasks.mapper_at_test import mapper_at_test
from ecgkit.types import ConfigError


@torch.no_grad()
def in_context_episodes(
    task: FewShotTask, mapper: nn.Module, sampler, numbers: Iterable[int], config,
    control: str = "",
) -> pd.DataFrame:  # fmt: skip
    """Scores of query rows read after the support examples; columns as `evaluate_episodes`, step 0.

    Examples stand in turn, one of each class at a time, so that the last ones are not all of one
    class. `exact` compares the decoded answer, since in such a context an answer may end with its
    line. Raises ConfigError under question_blind, whose layout has no room for examples, and where
    the examples are longer than the model's context.
    """
    if task.layout.blind:
        raise ConfigError(
            "In-context examples stand before the question, where the quirk question_blind puts "
            "nothing; score them under PROTOCOL=sound, or leave question_blind out of QUIRKS."
        )
    mapper, rows = mapper_at_test(mapper, task.quirks, config.seed), []
    for number in runtime.progress(list(numbers), "reading test episodes in context"):
        episode = sampler[number]
        batch = task.batch(**task.positions([episode]))
        support, query = task.embeddings(batch, control, [number])
        order = _in_turn(episode.support_class)
        memory = _read(task, batch, mapper(support[0])["prefix"], order)
        scores = _scores(task, batch, memory, mapper(query[0])["prefix"])
        arrays = {name: value.float().cpu().numpy()[None] for name, value in scores.items()}
        means = episode_means(arrays, task.counted(batch).cpu().numpy(), episode.query_class[None])
        flat = {name: value[0] for name, value in means.items()}
        rows.append({"episode": number, "names": " | ".join(episode.names), "step": 0, **flat,
                     "flagged": not np.isfinite(flat["loss"])})  # fmt: skip
    return pd.DataFrame(rows)


def _in_turn(classes: np.ndarray) -> list[int]:
    """Row numbers (S,), the classes taking turns."""
    turn = np.array([np.sum(classes[:i] == c) for i, c in enumerate(classes)])
    return np.lexsort((classes, turn)).tolist()


def _read(task: FewShotTask, batch: TaskBatch, prefix: Tensor, order: list[int]):
    """The memory (Q rows) of the query questions after the support rows, prefix (S, P, D)."""
    support, query = batch.text[0, : batch.n_support], batch.text[0, batch.part("query")]
    context = task.reader.read_examples(
        [task.texts[int(support[i])] for i in order],
        prefix[order],
        [task.answers[int(batch.answer[0, i])] for i in order],
    )
    unique, place = query.unique(return_inverse=True)
    texts = [task.texts[i] for i in unique.tolist()]
    return task.reader.read_questions(texts, after=context).select(place)


def _scores(task: FewShotTask, batch: TaskBatch, memory, prefix: Tensor) -> dict[str, Tensor]:
    """Row scores (Q,) of query soft tokens (Q, P, D)."""
    answer = batch.answer[0, batch.part("query")]
    scores = task.score(memory, prefix, answer)
    said = task.answers_in_words(memory, prefix, answer)
    true = [normalise(task.answers[i]) for i in answer.tolist()]
    exact = [a == b for a, b in zip(said, true, strict=True)]
    options = distinct(batch.candidates).expand(len(answer), -1)  # (Q, N)
    best = task.likelihoods(memory, prefix, options).argmax(1, keepdim=True)
    right = options.gather(1, best)[:, 0] == answer
    return scores | {"exact": torch.tensor(exact), "candidate": right}
