"""Few-shot episodes as tensors, and the frozen reader that answers their questions.

Question texts and answers are token ids once, embeddings stand on the device, and each distinct
question is read once per batch of episodes. The order of question, ECG and answer, and what counts
as the answer, are in `fewshot_layout`.

Letters: T episodes, S support rows and Q query rows of each, N distinct answers of an episode, F
embedding width, P soft tokens, D reader width, R rows, V vocabulary.

Usage:

    task = FewShotTask(questions, features, PrefixLLM(llm, tokenizer))
    batch = task.batch(**task.positions([sampler[0], sampler[1]]))
    support, query = task.embeddings(batch)                     # (T, S, F), (T, Q, F)
    rows = task.open_reader(batch)(prefix, "query")             # "loss", "exact", ... (T, Q)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ecgkit import runtime
from ecgkit.models.prefix_llm import PrefixLLM
from ecgkit.tasks import maml
from ecgkit.tasks.answer_scores import row_scores
from ecgkit.tasks.fewshot_layout import Layout, resolve_quirks
from ecgkit.types import ConfigError

CONTROLS = ("", "mean", "shuffled")
ROWS_AT_ONCE = 1024  # rows of candidate answers that are read together


@dataclasses.dataclass(frozen=True)
class TaskBatch:
    """T episodes of S support and Q query rows: positions of embedding, question text and answer,
    all (T, S + Q).
    """

    record: Tensor
    text: Tensor
    answer: Tensor
    candidates: Tensor  # (T, S): the answers of the episode's support
    n_support: int

    def part(self, which: str) -> slice:
        cut = self.n_support
        return {"support": slice(0, cut), "query": slice(cut, None), "both": slice(0, None)}[which]


class FewShotTask:
    """Questions as token ids, embeddings as a tensor, and the frozen reader, on one device.

    features (n_ecgs, F), row = row of the store. `quirks`: the faults of the released code that are
    repeated, as named in `config.fewshot.QUIRKS`; None is all of them under protocol "reference"
    and none under "sound". Position = row of `questions.table`, as the episode sampler counts.
    Answers of more than `max_answer` tokens cannot be scored: `left_out` counts their questions.
    """

    def __init__(
        self, questions, features: np.ndarray, reader: PrefixLLM, protocol: str = "sound",
        device: str = "auto", quirks: Iterable[str] | None = None, max_question: int = 30,
        max_answer: int = 30,
    ):  # fmt: skip
        device = runtime.pick_device(device)
        self.reader, self.protocol = reader.to(device), protocol
        self.quirks = resolve_quirks(protocol, quirks)
        self.features = torch.from_numpy(np.asarray(features, dtype=np.float32)).to(device)
        table = questions.table
        texts, self.texts = pd.factorize(table["question"])
        answers, self.answers = pd.factorize(table["answer"].map(", ".join))
        columns = (table["row1"].to_numpy(), texts, answers)
        self.record, self.text, self.answer = (
            torch.tensor(np.array(c), device=device) for c in columns
        )
        self.layout = Layout(
            reader, self.quirks, list(self.texts), list(self.answers), max_question, max_answer
        )
        self.targets, self.fits = self.layout.targets, self.layout.fits
        self.question_ids, self.question_mask = self.layout.ids, self.layout.mask

    @property
    def left_out(self) -> int:
        """Questions whose answer is longer than the limit."""
        return int((~self.fits[self.answer]).sum())

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
        answer, n_support = self.answer[both], support.shape[1]
        return TaskBatch(
            self.record[both], self.text[both], answer, answer[:, :n_support], n_support
        )

    def counted(self, batch: TaskBatch, part: str = "query") -> Tensor:
        """(T, N) bool: rows whose answer is short enough to be scored."""
        return self.fits[batch.answer[:, batch.part(part)]]

    def embeddings(
        self, batch: TaskBatch, control: str = "", numbers: Sequence[int] = ()
    ) -> tuple[Tensor, Tensor]:
        """Support (T, S, F) and query (T, Q, F) embeddings.

        control "mean": the mean training ECG (zeros) everywhere, so that only the question is left;
        "shuffled": the ECGs of each episode dealt out anew (see `dealt_anew`), numbers (T,) being
        those of the episodes. Raises ConfigError for another name.
        """
        if control not in CONTROLS:
            raise ConfigError(f"control is {control!r}; choose '', 'mean' or 'shuffled'.")
        record = batch.record
        if control == "shuffled":
            record = dealt_anew(record, batch.answer, batch.n_support, numbers)
        x = self.features[record]
        x = torch.zeros_like(x) if control == "mean" else x
        return x[:, : batch.n_support], x[:, batch.n_support :]

    # --- reading ----------------------------------------------------------------------------------

    def remember(self, batch: TaskBatch, part: str = "both"):
        """What the reader keeps of every row's question, one memory for all T * N rows."""
        return self.layout.remember(batch.text[:, batch.part(part)].flatten())

    def score(self, memory, prefix: Tensor, answer: Tensor) -> dict[str, Tensor]:
        """Scores (R,) of soft tokens (R, P, D) against answer ids (R,): see `row_scores`.

        The loss of an answer over the limit is 0, so that nothing is learned from it.
        """
        targets, layout = self._targets(answer), self.layout
        logits = layout.logits(memory, prefix, targets)
        scores = row_scores(logits, targets, layout.end, *layout.start)
        return scores | {"loss": scores["loss"] * self.fits[answer]}

    def open_reader(self, batch: TaskBatch) -> maml.Reader:
        """The function the inner loop calls: soft tokens (T, N, P, D) -> row scores (T, N)."""
        memories = {}

        def read(prefix: Tensor, part: str) -> dict[str, Tensor]:
            if part not in memories:
                memories[part] = self.remember(batch, part)
            answer = batch.answer[:, batch.part(part)].flatten()
            scores = self.score(memories[part], prefix.flatten(0, 1), answer)
            return {name: value.unflatten(0, prefix.shape[:2]) for name, value in scores.items()}

        return read

    def _targets(self, answer: Tensor) -> Tensor:
        """Target tokens (R, A) of answer ids (R,), without the padding all of them share."""
        found = self.targets[answer]
        return found[:, : int((found >= 0).sum(1).max())]

    # --- candidate answers ------------------------------------------------------------------------

    def candidate_right(self, batch: TaskBatch, prefix: Tensor) -> Tensor:
        """Whether the true answer is the likeliest of the episode's answers: (T, Q) bool.

        prefix (T, Q, P, D).
        """
        memory = self.remember(batch, "query")
        return self.best(memory, prefix, batch.candidates) == batch.answer[:, batch.part("query")]

    def best(self, memory, prefix: Tensor, candidates: Tensor) -> Tensor:
        """The likeliest of `candidates` (T, S) for each row of prefix (T, Q, P, D), (T, Q) ids."""
        options = distinct(candidates)[:, None].expand(-1, prefix.shape[1], -1)  # (T, Q, N)
        likelihood = self.likelihoods(memory, prefix.flatten(0, 1), options.flatten(0, 1))
        best = likelihood.argmax(1).unflatten(0, prefix.shape[:2])  # (T, Q)
        return options.gather(2, best[..., None])[..., 0]

    @torch.no_grad()
    def likelihoods(self, memory, prefix: Tensor, options: Tensor) -> Tensor:
        """Log-likelihood (R, N) of every answer in `options` (R, N) after soft tokens (R, P, D)."""
        n_options, found = options.shape[1], []
        step = max(1, ROWS_AT_ONCE // n_options)
        for start in range(0, len(prefix), step):
            some = torch.arange(start, min(start + step, len(prefix)), device=prefix.device)
            rows = some.repeat_interleave(n_options)
            scores = self.score(
                self.layout.select(memory, rows), prefix[rows], options[some].flatten()
            )
            found.append(scores["log_likelihood"].unflatten(0, (len(some), n_options)))
        return torch.cat(found)

    def answers_in_words(self, memory, prefix: Tensor, answer: Tensor) -> list[str]:
        """Greedy answers to R rows, soft tokens (R, P, D); under oracle_length each as long as the
        true `answer` (R,) is.
        """
        return self.layout.words(memory, prefix, self._targets(answer))


def distinct(candidates: Tensor) -> Tensor:
    """(T, S) answer ids -> (T, N) without repeats, short rows filled with their first answer."""
    rows = [row.unique() for row in candidates]
    longest = max(len(row) for row in rows)
    return torch.stack([torch.cat([row, row[:1].expand(longest - len(row))]) for row in rows])


def dealt_anew(
    record: Tensor, answer: Tensor, n_support: int, numbers: Sequence[int]
) -> Tensor:
    """(T, S + Q) records of each episode dealt out anew, support and query each by themselves, by a
    seed from the episode's number (T,).

    The rows of an answer get records of every answer, as evenly as they go: a plain shuffle would
    leave more right pairs in some episodes than in others, by luck that all runs share.
    """
    rows = [
        np.concatenate([
            _evenly(part, np.random.default_rng([int(number), 9, n]))
            for n, part in enumerate((said[:n_support], said[n_support:]))
        ] ) + np.repeat([0, n_support], [n_support, len(said) - n_support])
        for number, said in zip(numbers, answer.cpu().numpy(), strict=True)
    ]  # fmt: skip
    return record.gather(1, torch.tensor(np.stack(rows), device=record.device))


def _evenly(said: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n,) which row's record each row gets: row r of answer j that of answer j + r + a random
    offset. Answers of unequal numbers of rows are shuffled as they are.
    """
    groups = [rng.permutation(np.flatnonzero(said == one)) for one in np.unique(said)]
    if len({len(group) for group in groups}) > 1:
        return rng.permutation(len(said))
    groups = np.stack([groups[i] for i in rng.permutation(len(groups))])  # (N, rows of an answer)
    offset = rng.integers(len(groups))
    source = np.empty(len(said), dtype=int)
    for place in range(groups.shape[1]):
        source[groups[:, place]] = np.roll(groups[:, place], place + offset)
    return source
