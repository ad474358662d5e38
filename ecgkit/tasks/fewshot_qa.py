"""Few-shot question answering about ECGs by meta-learning (Tang et al., CHIL 2025), on frozen
encoder and language model.

A mapper turns an ECG embedding into soft tokens the language model reads between question and
answer. First-order MAML finds mapper weights from which a few gradient steps on a handful of
examples answer questions about an attribute that never stood in meta-training.

Usage:
    task = FewShotTask(questions, features, PrefixLLM(llm, tokenizer))
    mapper, log = meta_train(task, parts.train, config, folder, fingerprint)
    table = evaluate_episodes(task, mapper, sampler, range(80), config)
    paired_gain(table, "exact")
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ecgkit import runtime
from ecgkit.models.prefix_llm import PrefixLLM, token_scores
from ecgkit.models.prefix_mapper import build_mapper
from ecgkit.tasks import maml
from ecgkit.tasks.engine import TrainLog, TrainSettings, fit
from ecgkit.tasks.metrics import bootstrap_mean


@dataclasses.dataclass(frozen=True)
class TaskBatch:
    """T episodes of S support and Q query rows: positions of embedding, question text and answer,
    all (T, S + Q).
    """

    record: Tensor
    text: Tensor
    answer: Tensor
    candidates: Tensor  # (T, N): the answers of the episode's classes
    n_support: int

    def part(self, which: str) -> slice:
        cut = self.n_support
        return {"support": slice(0, cut), "query": slice(cut, None), "both": slice(0, None)}[which]


class FewShotTask:
    """Questions as token ids, embeddings as a tensor, and the frozen reader, on one device.

    features (n_ecgs, F), row = row of the store. protocol "sound" | "reference" chooses the
    reader's layout. Position = row of `questions.table`, as the episode sampler counts.
    """

    def __init__(
        self,
        questions,
        features: np.ndarray,
        reader: PrefixLLM,
        protocol: str = "sound",
        device: str = "auto",
    ):
        device = runtime.pick_device(device)
        self.reader, self.protocol = reader.to(device), protocol
        self.features = torch.from_numpy(np.asarray(features, dtype=np.float32)).to(device)
        table = questions.table
        texts, self.texts = pd.factorize(table["question"])
        answers, self.answers = pd.factorize(table["answer"].map(", ".join))
        columns = (table["row1"].to_numpy(), texts, answers)
        self.record, self.text, self.answer = (
            torch.tensor(np.array(c), device=device) for c in columns
        )
        if protocol == "sound":
            self.question_ids, self.question_mask = reader.encode_questions(list(self.texts))
            self.targets = reader.encode_answers(list(self.answers))
        else:
            self.question_ids, self.targets = reader.encode_reference(
                list(self.texts), list(self.answers)
            )

    # --- episodes -> tensors ----------------------------------------------------------------------

    def positions(self, episodes: Sequence) -> dict[str, Tensor]:
        """Support and query positions of T episodes: (T, S) and (T, Q)."""
        return {
            "support": torch.tensor(np.stack([e.support for e in episodes])),
            "query": torch.tensor(np.stack([e.query for e in episodes])),
        }

    def batch(self, support: Tensor, query: Tensor) -> TaskBatch:
        """Looks the positions up; candidates are one answer per class, as often as the class occurs
        in the support.
        """
        both = torch.cat([support, query], dim=1).to(self.record.device)
        answer = self.answer[both]
        return TaskBatch(
            self.record[both],
            self.text[both],
            answer,
            answer[:, : support.shape[1]],
            support.shape[1],
        )

    def embeddings(self, batch: TaskBatch, blind: bool = False) -> tuple[Tensor, Tensor]:
        """Support (T, S, F) and query (T, Q, F) embeddings; `blind` puts the mean training ECG
        (zeros) everywhere.
        """
        x = self.features[batch.record]
        x = torch.zeros_like(x) if blind else x
        return x[:, : batch.n_support], x[:, batch.n_support :]

    # --- reading ----------------------------------------------------------------------------------

    def remember(self, batch: TaskBatch, part: str = "both"):
        """What the reader keeps of every row's question (T * N rows).

        Sound layout: keys and values, each distinct question read once. Reference layout: the
        question's token ids.
        """
        text = batch.text[:, batch.part(part)].flatten()
        if self.protocol == "reference":
            return self.question_ids[text]
        unique, place = text.unique(return_inverse=True)
        mask = self.question_mask[unique]
        longest = int(mask.sum(1).max())
        return self.reader.read_ids(self.question_ids[unique, :longest], mask[:, :longest]).select(
            place
        )

    def logits(self, memory, prefix: Tensor, targets: Tensor) -> Tensor:
        """Answer logits (R, A, V) of soft tokens (R, P, D) in this task's layout."""
        if self.protocol == "reference":
            return self.reader.reference_logits(prefix, memory, targets.shape[1])
        return self.reader(memory, prefix, targets)

    def open_reader(self, batch: TaskBatch) -> maml.Reader:
        """The function the inner loop calls: soft tokens (T, N, P, D) -> row scores (T, N).

        Scores: loss, exact, tokens, log_likelihood.
        """
        memories = {}

        def read(prefix: Tensor, part: str) -> dict[str, Tensor]:
            if part not in memories:
                memories[part] = self.remember(batch, part)
            targets = self._targets(batch.answer[:, batch.part(part)].flatten())
            logits = self.logits(memories[part], prefix.flatten(0, 1), targets)
            scores = token_scores(logits, targets)
            return {name: value.unflatten(0, prefix.shape[:2]) for name, value in scores.items()}

        return read

    def candidate_right(self, batch: TaskBatch, prefix: Tensor) -> Tensor:
        """Whether the true answer is the likeliest of the episode answers: (T, Q) bool.

        prefix (T, Q, P, D).
        """
        best = self._best(self.remember(batch, "query"), prefix.flatten(0, 1), batch.candidates)
        return best.unflatten(0, prefix.shape[:2]) == batch.answer[:, batch.part("query")]

    def _targets(self, answer: Tensor) -> Tensor:
        """Target tokens (R, A) of answer ids (R,), without the padding all of them share."""
        found = self.targets[answer]
        return found[:, : int((found >= 0).sum(1).max())]

    @torch.no_grad()
    def _best(self, memory, prefix: Tensor, candidates: Tensor) -> Tensor:
        """The likeliest of `candidates` (T, S) for each of the T * N rows, by id (T * N,)."""
        likelihoods, ids = [], []
        for options in _distinct(candidates).T:  # one candidate of every task at a time
            answer = options.repeat_interleave(len(prefix) // len(options))
            targets = self._targets(answer)
            likelihoods.append(
                token_scores(self.logits(memory, prefix, targets), targets)["log_likelihood"]
            )
            ids.append(answer)
        best = torch.stack(likelihoods).argmax(0, keepdim=True)
        return torch.stack(ids).gather(0, best)[0]

    @torch.no_grad()
    def answers_in_words(self, memory, prefix: Tensor, answer: Tensor) -> list[str]:
        """Greedy answers; in the reference layout, as released, as many tokens as the true `answer`
        (R,) has.
        """
        if self.protocol == "sound":
            return self.reader.generate(memory, prefix)
        targets = self._targets(answer)
        said = self.logits(memory, prefix, targets).argmax(-1)
        rows = [row[real].tolist() for row, real in zip(said, targets >= 0, strict=True)]
        return self.reader.tokenizer.batch_decode(rows)

    # --- losses -----------------------------------------------------------------------------------

    def meta_loss(
        self, mapper: nn.Module, positions: dict[str, Tensor], config
    ) -> dict[str, Tensor]:
        """The outer loss with its first-order gradient attached, and the query score after the last
        inner step.
        """
        batch = self.batch(positions["support"], positions["query"])
        at = maml.outer_steps(config.inner_steps)
        done = maml.inner_loop(
            mapper,
            *self.embeddings(batch),
            self.open_reader(batch),
            config.inner_steps,
            config.inner_lr,
            outer_at=at,
        )
        value = torch.stack([done.query[step]["loss"].mean() for step in sorted(at)]).mean()
        gradient = {name: g.mean(0) for name, g in done.outer_gradient.items()}
        last = done.query[config.inner_steps]
        score = "tokens" if self.protocol == "reference" else "exact"
        return {
            "loss": maml.carry_gradient(value, mapper, gradient),
            score: last[score].float().mean(),
            "support_loss": done.support[config.inner_steps - 1]["loss"].mean(),
        }


def _distinct(candidates: Tensor) -> Tensor:
    """(T, S) answer ids -> (T, N) without repeats, short rows filled with their first answer."""
    rows = [row.unique() for row in candidates]
    longest = max(len(row) for row in rows)
    return torch.stack([torch.cat([row, row[:1].expand(longest - len(row))]) for row in rows])


# --- training -------------------------------------------------------------------------------------


def meta_train(
    task: FewShotTask, sampler, config, folder, fingerprint: str = "", n_steps: int | None = None
) -> tuple[nn.Module, TrainLog]:
    """Returns the meta-trained mapper and its log; every outer step meets fresh episodes."""
    n_steps = n_steps or config.meta_steps
    released = task.protocol == "reference"
    torch.manual_seed(config.seed)
    dropout = 0.5 if released else config.mapper_dropout
    mapper = build_mapper(
        config.mapper,
        task.features.shape[1],
        task.reader.width,
        config.n_prefix,
        config.mapper_heads,
        dropout,
        always_drop=released,
    )
    settings = TrainSettings(
        n_steps=n_steps,
        batch_size=config.tasks_per_step,
        lr=config.outer_lr,
        schedule="constant",
        warmup_fraction=0.0,
        log_every=max(1, n_steps // 40),
        seed=config.seed,
        device=config.device,
        precision=config.precision,
    )

    def make_batch(indices, rng):
        return task.positions([sampler[int(i)] for i in indices])

    def loss_fn(model, batch):
        return task.meta_loss(getattr(model, "module", model), batch, config)

    log = fit(
        mapper,
        n_steps * config.tasks_per_step,
        make_batch,
        loss_fn,
        settings,
        folder,
        fingerprint=f"{fingerprint} {task.protocol}",
    )
    return mapper.eval(), log


# --- evaluation -----------------------------------------------------------------------------------


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
