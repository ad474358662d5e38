"""Scores of a mapper on fixed test episodes, before and after adaptation.

Usage:
    table = evaluate_episodes(task, mapper, sampler, range(80), config)
    by_step(table)                                              # step, mean, low, high
    paired_gain(table, "exact")
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from torch import nn

from ecgkit import runtime
from ecgkit.tasks import maml
from ecgkit.tasks.fewshot_task import FewShotTask
from ecgkit.tasks.metrics import bootstrap_mean


def evaluate_episodes(
    task: FewShotTask,
    mapper: nn.Module,
    sampler,
    numbers: Iterable[int],
    config,
    blind: bool = False,
    tasks_at_once: int = 16,
) -> pd.DataFrame:
    """Adapts to each episode and scores its query rows at every inner step, step 0 being before
    adaptation.

    Columns: episode, names, step, and the means over query rows of exact, tokens, loss.
    """
    numbers, frames = list(numbers), []
    steps = set(range(config.inner_steps + 1))
    for start in runtime.progress(
        range(0, len(numbers), tasks_at_once), "adapting to test episodes"
    ):
        chosen = numbers[start : start + tasks_at_once]
        episodes = [sampler[i] for i in chosen]
        batch = task.batch(**task.positions(episodes))
        support, query = task.embeddings(batch, blind)
        done = maml.inner_loop(
            mapper, support, query, task.open_reader(batch), config.inner_steps, config.inner_lr,
            score_at=steps,
        )  # fmt: skip
        start_params = maml.stacked_parameters(mapper, len(chosen))
        for step, params in ((0, start_params), (config.inner_steps, done.params)):
            with torch.no_grad():
                prefix = maml.map_tasks(mapper, params, query)
            done.query[step]["candidate"] = task.candidate_right(batch, prefix)
        names = [" | ".join(e.names) for e in episodes]
        for step, scores in done.query.items():
            means = {name: v.float().mean(1).cpu().numpy() for name, v in scores.items()}
            frames.append(pd.DataFrame({"episode": chosen, "names": names, "step": step, **means}))
    return pd.concat(frames, ignore_index=True).sort_values(["episode", "step"], ignore_index=True)


def by_step(table: pd.DataFrame, score: str = "exact") -> pd.DataFrame:
    """Mean and 95 % interval over episodes of `score` at each inner step: columns step, mean, low,
    high.
    """
    rows = [
        (step, *bootstrap_mean(group[score].to_numpy())) for step, group in table.groupby("step")
    ]
    return pd.DataFrame(rows, columns=["step", "mean", "low", "high"])


def paired_gain(table: pd.DataFrame, score: str = "exact") -> dict[str, float]:
    """Before, after, and the mean over episodes of after - before with its 95 % interval."""
    wide = table.pivot(index="episode", columns="step", values=score)
    before, after = wide[wide.columns.min()], wide[wide.columns.max()]
    gain, low, high = bootstrap_mean((after - before).to_numpy())
    return {
        "before": float(before.mean()),
        "after": float(after.mean()),
        "gain": gain,
        "low": low,
        "high": high,
        "n": len(wide),
    }


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
    done = maml.inner_loop(
        mapper, support, query, task.open_reader(batch), config.inner_steps, config.inner_lr
    )
    memory = task.remember(batch, "query")
    table = {
        "question": [task.texts[i] for i in batch.text[0, batch.part("query")].tolist()],
        "true": [task.answers[i] for i in batch.answer[0, batch.part("query")].tolist()],
    }
    attention = {}
    for name, params in (("before", maml.stacked_parameters(mapper, 1)), ("after", done.params)):
        own = {key: value[0] for key, value in params.items()}
        with torch.no_grad():
            out = torch.func.functional_call(mapper, own, (query[0],), {"return_attention": True})
        table[name] = task.answers_in_words(
            memory, out["prefix"], batch.answer[0, batch.part("query")]
        )
        if "attention" in out:
            attention[name] = out["attention"].mean((0, 1)).cpu().numpy()
    return pd.DataFrame(table), attention
