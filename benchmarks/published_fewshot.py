"""Few-shot meta-learning as its authors run it: the baseline of `fewshot.py`, and only that.

It has the weights and numbers of the kit's reference layout, and the published cost: one task after
the other, the ECG encoder in every call, questions padded to 30 tokens, logits of every word at
every position, a second pass of batch 1 through the language model per query row and step to write
down what the first one already said, the query read at every step, and the query graphs of all
counted steps kept for one backward pass. Testing copies the whole model for each episode.

Letters: N rows, C leads, S samples, F embedding width, P soft tokens, D width, L question tokens,
A answer tokens, K inner steps.
Source: facts about the published code (Tang et al., CHIL 2025), written anew; held to plain
autograd by tests/test_maml.py through the kit's own gradient.

Usage:
    model = PublishedFewShot(encoder, PublishedMapper(768, 256), llm, eos=1)
    losses = meta_step(model, optimiser, tasks, n_steps=15, lr=0.05)     # tasks: [PublishedTask]
"""

from __future__ import annotations

import copy
import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

QUESTION = 30  # tokens of the padded question


@dataclasses.dataclass
class PublishedTask:
    """One episode. Each of support and query is (ecg (N, C, S), question ids (N, L), answer (N, A))
    with the pad id after shorter answers.
    """

    support: tuple[Tensor, Tensor, Tensor]
    query: tuple[Tensor, Tensor, Tensor]


class PublishedMapper(nn.Module):
    """One attention block over [P learned tokens ; ECG]; every token is carried to the end."""

    def __init__(self, features: int, width: int, n_prefix: int = 4, n_heads: int = 8):
        super().__init__()
        self.n_heads = n_heads
        self.tokens = nn.Parameter(torch.randn(n_prefix, features))
        self.query, self.key, self.value = (nn.Linear(features, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, ecg: Tensor) -> Tensor:  # (N, F) -> (N, P, D)
        x = torch.cat([self.tokens.unsqueeze(0).repeat(len(ecg), 1, 1), ecg.unsqueeze(1)], dim=1)
        q, k, v = self.query(x), self.key(x), self.value(x)
        size = q.shape[-1] // self.n_heads
        q, k, v = (torch.cat(part.split(size, 2), 0) for part in (q, k, v))
        weights = torch.softmax(q.bmm(k.transpose(1, 2)) / math.sqrt(size * self.n_heads), 2)
        o = torch.cat((q + weights.bmm(v)).split(len(ecg), 0), 2)
        o = self.norm1(o)
        o = self.norm2(o + F.leaky_relu(self.out(o)))
        return o[:, : len(self.tokens)]


class PublishedFewShot(nn.Module):
    """Encoder, mapper and language model in one; `eos` is also the pad id. Only the mapper trains.

    `n_passes` counts the calls of the language model, `decode=False` leaves the second ones out.
    """

    def __init__(self, encoder: nn.Module, mapper: nn.Module, llm: nn.Module, eos: int):
        super().__init__()
        self.encoder, self.mapper, self.llm = encoder, mapper, llm
        self.eos, self.decode, self.n_passes = eos, True, 0

    def read(self, inputs: Tensor) -> Tensor:
        self.n_passes += 1
        return self.llm(inputs_embeds=inputs, use_cache=False).logits

    def forward(self, weights: dict[str, Tensor], part, score: bool):
        """Loss, and with `score` the share of right answer tokens, of one part of a task."""
        ecg, questions, answers = part
        with torch.no_grad():
            features = self.encoder(ecg)
        prefix = functional_call(self.mapper, weights, (features,))
        words = self.llm.get_input_embeddings()(questions)
        inputs = torch.cat([prefix, words], dim=1)  # (N, P + L, D)
        first = prefix.shape[1] - 1
        said = self.read(inputs)[:, first : first + answers.shape[1]]
        loss = F.cross_entropy(
            said.reshape(-1, said.shape[-1]), answers.flatten(), ignore_index=self.eos
        )
        if not (score and self.decode):
            return loss, float("nan")
        tokens = torch.stack([self._write(row, first, answers.shape[1]) for row in inputs])
        return loss, float((tokens == answers)[answers != self.eos].float().mean())

    def _write(self, row: Tensor, first: int, n_tokens: int) -> Tensor:
        """The same row once more by itself: the likeliest token of the nucleus at each place."""
        logits = self.read(row.unsqueeze(0))[0, first : first + n_tokens]
        return torch.stack([_nucleus(one).argmax() for one in logits])


def _nucleus(logits: Tensor, top_p: float = 0.8) -> Tensor:
    ordered, places = torch.sort(logits, descending=True)
    outside = torch.cumsum(F.softmax(ordered, -1), -1) > top_p
    outside = torch.cat([torch.zeros_like(outside[:1]), outside[:-1]])
    return logits.masked_fill(outside.scatter(0, places, outside), -math.inf)


# --- meta-learning --------------------------------------------------------------------------------


def adapt(model: PublishedFewShot, task: PublishedTask, n_steps: int, lr: float, graph_from: int):
    """Query losses and scores at theta_0 .. theta_K; before `graph_from` without a graph."""
    weights = dict(model.mapper.named_parameters())
    losses, scores = [], []
    for step in range(n_steps + 1):
        if step:
            loss, _ = model(weights, task.support, score=False)
            slopes = torch.autograd.grad(loss, list(weights.values()))
            pairs = zip(weights.items(), slopes, strict=True)
            weights = {name: w - lr * slope for (name, w), slope in pairs}
        with torch.set_grad_enabled(step >= graph_from):
            loss, score = model(weights, task.query, score=True)
        losses.append(loss)
        scores.append(score)
    return losses, scores


def meta_loss(model, tasks: list[PublishedTask], n_steps: int, lr: float, first: int = 2) -> Tensor:
    """Mean query loss at theta_first .. theta_K, over the tasks; all of its graph is alive."""
    total = [0.0] * (n_steps + 1)
    for task in tasks:
        losses, _ = adapt(model, task, n_steps, lr, graph_from=2)
        total = [a + b for a, b in zip(total, losses, strict=True)]
    return torch.stack(total[first:]).mean() / len(tasks)


def meta_step(
    model, optimiser, tasks: list[PublishedTask], n_steps: int, lr: float, first: int = 2
) -> float:
    loss = meta_loss(model, tasks, n_steps, lr, first)
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.mapper.parameters(), 1.0)
    optimiser.step()
    return float(loss.detach())


def meta_test(model, tasks: list[PublishedTask], n_steps: int, lr: float):
    """Query losses and scores (tasks, K + 1); a copy of everything is adapted for each task."""
    losses, scores = [], []
    for task in tasks:
        found = adapt(copy.deepcopy(model), task, n_steps, lr, graph_from=1)
        losses.append([float(x.detach()) for x in found[0]])
        scores.append(found[1])
    return torch.tensor(losses), torch.tensor(scores)
