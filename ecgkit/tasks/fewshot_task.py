"""Few-shot episodes as tensors, and the frozen reader that answers their questions.

Question texts and answers are token ids once, embeddings stand on the device, and each distinct
question is read once per batch of episodes.

Letters: T episodes, S support rows and Q query rows of each, F embedding width, P soft tokens.

Usage:
    task = FewShotTask(questions, features, PrefixLLM(llm, tokenizer))
    batch = task.batch(**task.positions([sampler[0], sampler[1]]))
    support, query = task.embeddings(batch)                     # (T, S, F), (T, Q, F)
    rows = task.open_reader(batch)(prefix, "query")             # "loss", "exact", ... (T, Q)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ecgkit import runtime
from ecgkit.models.prefix_llm import PrefixLLM, token_scores
from ecgkit.tasks import maml


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


def _distinct(candidates: Tensor) -> Tensor:
    """(T, S) answer ids -> (T, N) without repeats, short rows filled with their first answer."""
    rows = [row.unique() for row in candidates]
    longest = max(len(row) for row in rows)
    return torch.stack([torch.cat([row, row[:1].expand(longest - len(row))]) for row in rows])
