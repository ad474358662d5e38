"""Scores of a mapper on fixed test episodes, before and after adaptation.

The inner loop is that of training, with `config.steps_at_test` steps; answers are scored as the
task's protocol says. Scores are means over an episode's query rows, and intervals are over
episodes. An episode whose loss is not finite is flagged and left out of every mean; a query row
whose answer is longer than the limit is left out and counted.

Usage:

    table = evaluate_episodes(task, mapper, sampler, range(80), config)
    by_step(table)                                              # step, mean, low, high
    paired_gain(table, "exact")                                 # before, after, gain, low, high, n
    accuracy_grid([({"N": 2, "K": 5}, table), ...])
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ecgkit import runtime
from ecgkit.tasks import maml
from ecgkit.tasks.fewshot_layout import mapper_kind
from ecgkit.tasks.fewshot_task import FewShotTask, TaskBatch
from ecgkit.tasks.mapper_at_test import mapper_at_test
from ecgkit.tasks.meta_methods import last_layer
from ecgkit.tasks.metrics import bootstrap_mean

SCORES = ("exact", "candidate", "balanced", "tokens", "spoken", "released", "loss")


def evaluate_episodes(
    task: FewShotTask, mapper: nn.Module, sampler, numbers: Iterable[int], config,
    control: str = "", curve: bool = True, at: Iterable[int] | None = None,
    tasks_at_once: int = 16,
) -> pd.DataFrame:  # fmt: skip
    """Adapts to each episode and scores its query rows at every inner step, step 0 being before
    adaptation.

    control: "" | "mean" | "shuffled", see `FewShotTask.embeddings`. `curve=False` reads the query
    after the last step only, which is fast; `at` names other steps.
    Columns: episode, names, step; means over query rows of exact, tokens, spoken, released, loss
    (see `row_scores`), of `balanced` (exact, mean over the episode's classes) and, at the first and
    the last of the steps, `candidate` (the true answer is the likeliest of the episode's);
    `left_out`, query rows not scored; `flagged`, an episode that is not finite.
    """
    numbers, frames, last = list(numbers), [], config.steps_at_test
    steps = set(at) if at is not None else set(range(last + 1)) if curve else {last}
    mapper = mapper_at_test(mapper, task.quirks, config.seed)
    starts = range(0, len(numbers), tasks_at_once)
    for start in runtime.progress(starts, "adapting to test episodes"):
        chosen = numbers[start : start + tasks_at_once]
        episodes = [sampler[i] for i in chosen]
        batch = task.batch(**task.positions(episodes))
        support, query = task.embeddings(batch, control, chosen)
        with torch.random.fork_rng():  # dropout may be live: the same scores on every call
            torch.manual_seed(config.seed + start)
            done = adapt(task, mapper, batch, support, query, config, steps)
            _add_candidates(task, mapper, batch, query, done, last)
        classes = np.stack([e.query_class for e in episodes])
        head = {"episode": chosen, "names": [" | ".join(e.names) for e in episodes]}
        frames.append(_table(head, done, task.counted(batch).cpu().numpy(), classes))
    return pd.concat(frames, ignore_index=True).sort_values(["episode", "step"], ignore_index=True)


def adapt(
    task: FewShotTask, mapper: nn.Module, batch: TaskBatch, support: Tensor, query: Tensor, config,
    score_at: Iterable[int] = (),
) -> maml.Adaptation:  # fmt: skip
    """The inner loop as it is run at test: under METHOD=anil the last layer alone adapts."""
    only = last_layer(mapper, mapper_kind(config)) if config.method == "anil" else None
    return maml.inner_loop(
        mapper, support, query, task.open_reader(batch), config.steps_at_test, config.inner_lr,
        score_at=set(score_at), only=only,
    )  # fmt: skip


def _add_candidates(task, mapper, batch, query: Tensor, done, last: int) -> None:
    """The candidate score at step 0 and at the last step, where they are scored."""
    params = {0: maml.stacked_parameters(mapper, len(query)), last: done.params}
    for step in params.keys() & done.query.keys():
        with torch.no_grad():
            prefix = maml.map_tasks(mapper, params[step], query)
        done.query[step]["candidate"] = task.candidate_right(batch, prefix)


# --- rows -> episodes -----------------------------------------------------------------------------


def _table(head: dict, done, counted: np.ndarray, classes: np.ndarray) -> pd.DataFrame:
    """One row per episode and step; counted, classes (T, Q)."""
    flagged = ~done.finite.cpu().numpy()
    frames = []
    for step, scores in done.query.items():
        rows = {name: value.float().cpu().numpy() for name, value in scores.items()}
        means = episode_means(rows, counted, classes)
        bad = flagged | ~np.isfinite(means["loss"])
        frames.append(pd.DataFrame({**head, "step": step, **means, "flagged": bad}))
    table = pd.concat(frames)
    table["flagged"] = table.groupby("episode")["flagged"].transform("any")
    return table


def episode_means(
    rows: Mapping[str, np.ndarray], counted: np.ndarray, classes: np.ndarray
) -> dict[str, np.ndarray]:
    """Row scores (T, Q) -> means (T,) over the rows in `counted` (T, Q), `balanced` (exact as the
    mean over the classes, each given by number in `classes` (T, Q)), and the number `left_out`.
    """
    means = {name: _mean(value, counted) for name, value in rows.items() if name in SCORES}
    each = [_mean(rows["exact"], counted & (classes == k)) for k in range(int(classes.max()) + 1)]
    there = np.isfinite(each)
    means["balanced"] = _mean(np.where(there, each, 0).T, there.T)
    return means | {"left_out": (~counted).sum(1)}


def _mean(values: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """(T, n) -> (T,) means of what is kept; NaN where nothing is."""
    n = kept.sum(1)
    return np.where(n > 0, np.where(kept, values, 0).sum(1) / np.maximum(n, 1), np.nan)


# --- episodes -> numbers --------------------------------------------------------------------------


def finite(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of episodes that are not flagged."""
    return table[~table["flagged"]] if "flagged" in table else table


def n_flagged(table: pd.DataFrame) -> int:
    """Episodes left out of the means, their loss not being finite."""
    return int(table.loc[table["flagged"], "episode"].nunique()) if "flagged" in table else 0


def by_step(table: pd.DataFrame, score: str = "exact") -> pd.DataFrame:
    """Mean and 95 % interval over episodes of `score` at each inner step: columns step, mean, low,
    high.
    """
    rows = [
        (step, *bootstrap_mean(group[score].dropna().to_numpy()))
        for step, group in finite(table).groupby("step")
    ]
    return pd.DataFrame(rows, columns=["step", "mean", "low", "high"])


def paired_gain(table: pd.DataFrame, score: str = "exact") -> dict[str, float]:
    """Before, after, and the mean over episodes of after - before with its 95 % interval."""
    wide = finite(table).pivot(index="episode", columns="step", values=score)
    wide = wide[[wide.columns.min(), wide.columns.max()]].dropna()
    before, after = wide.iloc[:, 0], wide.iloc[:, -1]
    gain, low, high = bootstrap_mean((after - before).to_numpy())
    return {
        "before": float(before.mean()),
        "after": float(after.mean()),
        "gain": gain,
        "low": low,
        "high": high,
        "n": len(wide),
    }


def accuracy_grid(
    rows: Iterable[tuple[Mapping[str, object], pd.DataFrame]], score: str = "exact"
) -> pd.DataFrame:
    """One row per (labels, table of `evaluate_episodes`): the labels, `before`, `value` after
    adaptation with its 95 % interval (low, high), `gain` with its own, episodes `n` and `flagged`.

    Before and gain are empty where a table has the last step only.
    """
    found = []
    for labels, table in rows:
        kept = finite(table)
        end = kept.loc[kept["step"] == kept["step"].max(), score].dropna().to_numpy()
        after, low, high = bootstrap_mean(end)
        row = {**labels, "before": np.nan, "value": after, "low": low, "high": high}
        row |= {"gain": np.nan, "gain low": np.nan, "gain high": np.nan}
        if kept["step"].nunique() > 1:
            gain = paired_gain(table, score)
            row |= {"before": gain["before"], "gain": gain["gain"], "gain low": gain["low"],
                    "gain high": gain["high"]}  # fmt: skip
        found.append(row | {"n": len(end), "flagged": n_flagged(table)})
    return pd.DataFrame(found)


# --- answers in words -----------------------------------------------------------------------------


def adapt_one(
    task: FewShotTask, mapper: nn.Module, episode, config
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """One episode in full: a table of its query answers as decoded before and after, and the
    mapper's attention.

    Returns (question, true answer, before, after) per query row, and "before" and "after":
    attention (P, P + 1) averaged over heads and query rows, last column the ECG token ({} for a
    mapper without attention).
    """
    batch = task.batch(**task.positions([episode]))
    support, query = task.embeddings(batch)
    mapper = mapper_at_test(mapper, task.quirks, config.seed)
    done = adapt(task, mapper, batch, support, query, config)
    memory, asked = task.remember(batch, "query"), batch.part("query")
    table = {
        "question": [task.texts[i] for i in batch.text[0, asked].tolist()],
        "true": [task.answers[i] for i in batch.answer[0, asked].tolist()],
    }
    attention = {}
    for name, params in (("before", maml.stacked_parameters(mapper, 1)), ("after", done.params)):
        own = {key: value[0] for key, value in params.items()}
        with torch.no_grad():
            out = torch.func.functional_call(mapper, own, (query[0],), {"return_attention": True})
        table[name] = task.answers_in_words(memory, out["prefix"], batch.answer[0, asked])
        if "attention" in out:
            attention[name] = out["attention"].mean((0, 1)).cpu().numpy()
    return pd.DataFrame(table), attention


def written_answers(
    task: FewShotTask, mapper: nn.Module, sampler, numbers: Iterable[int], config
) -> pd.DataFrame:
    """The query answers of many episodes in words: columns episode, question, true, before, after.

    `answer_scores.word_scores(table["after"], table["true"], table["episode"])` scores them.
    """
    tables = [
        adapt_one(task, mapper, sampler[i], config)[0].assign(episode=i)
        for i in runtime.progress(list(numbers), "answering test episodes in words")
    ]
    return pd.concat(tables, ignore_index=True)
