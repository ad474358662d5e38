"""The episodes, weights and both sides of `fewshot.py`.

Letters: T tasks, N rows, S samples, F embedding width.
"""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from published_fewshot import PublishedFewShot, PublishedMapper, PublishedTask, meta_step, meta_test
from torch import nn

from ecgkit.config import FewShotConfig
from ecgkit.models.ecg_transformer import ECGTransformer, ECGTransformerConfig
from ecgkit.models.prefix_llm import IGNORE, PrefixLLM
from ecgkit.models.prefix_mapper import build_mapper
from ecgkit.models.small_llm import train_tokenizer
from ecgkit.tasks import maml
from ecgkit.tasks.fewshot_task import FewShotTask
from ecgkit.tasks.meta_methods import METHODS

N_WAY, K_SHOT, N_QUERY, N_PREFIX, FEATURES = 5, 5, 5, 4, 768
N_ECGS, N_SAMPLES = 400, 2500  # 5 s at 500 Hz
SMALL = dict(vocab_size=1011, hidden_size=256, num_hidden_layers=4, num_attention_heads=4,
             intermediate_size=688)  # fmt: skip
QUICK = SMALL | dict(hidden_size=32, num_hidden_layers=2, intermediate_size=64)
LR, OUTER_LR = 0.05, 5e-4  # the published run
PUBLISHED, OURS = "published", "ours"


class StubEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.dtype = nn.Conv1d(12, FEATURES, kernel_size=50, stride=50), torch.float32

    def forward(self, ecg):  # (N, 12, S) -> (N, F)
        return torch.tanh(self.body(ecg)).mean(-1).to(self.dtype)


class RealEncoder(nn.Module):
    """The published encoder's size; a frozen encoder should not drop out, so it does not."""

    def __init__(self, quick: bool):
        super().__init__()
        sizes = {"dim": FEATURES, "n_layers": 1, "n_heads": 2, "ffn_dim": 32} if quick else {}
        self.body = ECGTransformer(ECGTransformerConfig(**sizes)).eval()

    def forward(self, ecg):
        return self.body(ecg)["pooled"]


def make_llm(sizes: dict, device: str = "cpu", dtype: torch.dtype = torch.float32):
    """A Llama with random weights, written where it will stand and in its final type."""
    from transformers import LlamaConfig, LlamaForCausalLM

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return LlamaForCausalLM(LlamaConfig(**sizes, max_position_embeddings=256)).eval()
    finally:
        torch.set_default_dtype(before)


def question_table() -> pd.DataFrame:
    """20 classes (10 findings x yes/no) of 20 questions each, about random ECGs."""
    rng, rows = np.random.default_rng(0), []
    for finding in range(10):
        for answer in ("yes", "no"):
            text = f"Does this ECG show symptoms of finding number {finding}?"
            rows += [(text, [answer], int(i)) for i in rng.integers(0, N_ECGS, 20)]
    return pd.DataFrame(rows, columns=["question", "answer", "row1"])


class Work:
    """Episodes, weights and both sides on one device; the embeddings lie in a file."""

    def __init__(self, args, folder: Path):
        self.args, self.device, self.dtype = args, args.device, torch.float32
        torch.manual_seed(0)
        rng = np.random.default_rng(1)
        shape = N_ECGS, 12, 500 if args.quick else N_SAMPLES
        self.ecgs = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)).to(args.device)
        self.encoder = StubEncoder().to(args.device).requires_grad_(False)
        with torch.no_grad():
            features = torch.cat([self.encoder(x) for x in self.ecgs.split(25)]).cpu().numpy()
        self.cache = folder / "features.npy"
        np.save(self.cache, features)
        self.table = question_table()
        self.tokenizer = make_tokenizer(self.table)
        self.llm = make_llm(QUICK if args.quick else SMALL, args.device)
        self.task = self.make_task(self.llm, "reference")
        self.mapper = build_mapper("attention", FEATURES, self.task.reader.width, N_PREFIX, 8, 0.0)
        self.mapper.to(args.device)

    def to(self, dtype: torch.dtype) -> None:
        """What comes after the encoder, in `dtype`."""
        self.dtype = self.encoder.dtype = dtype
        self.llm.to(dtype)
        self.mapper.to(dtype)
        self.task.features = self.task.features.to(dtype)

    def make_task(self, llm, protocol: str) -> FewShotTask:
        reader = PrefixLLM(llm, self.tokenizer)
        questions = SimpleNamespace(table=self.table)
        return FewShotTask(questions, np.load(self.cache), reader, protocol, self.device)

    def positions(self, n_tasks: int, seed: int) -> dict[str, torch.Tensor]:
        """Support and query positions of n episodes, class by class."""
        rng, found = np.random.default_rng(seed), []
        for _ in range(n_tasks):
            classes = rng.permutation(20)[:N_WAY, None] * 20
            found.append(classes + rng.permuted(np.tile(np.arange(20), (N_WAY, 1)), axis=1))
        rows = torch.from_numpy(np.stack(found))  # (T, classes, 20)
        ends = K_SHOT, K_SHOT + N_QUERY
        return {"support": rows[..., : ends[0]].flatten(1),
                "query": rows[..., ends[0] : ends[1]].flatten(1)}  # fmt: skip

    def config(self, first: int) -> FewShotConfig:
        return FewShotConfig.from_params(dict(
            protocol="reference", n_way=N_WAY, inner_steps=self.args.steps, inner_lr=LR,
            outer_from=first, device=self.device,
        ))  # fmt: skip

    # --- ours ---

    def our_loss(self, task, mapper, n_tasks: int, seed: int, first: int):
        task.features = torch.from_numpy(np.load(self.cache)).to(self.device, self.dtype)
        return METHODS["maml"](task, mapper, self.positions(n_tasks, seed), self.config(first))

    def our_step(self, task, n_tasks: int, first: int):
        """An outer step as a function of the seed of its episodes, on a mapper of its own."""
        mapper, optimiser = self._trainable(self.mapper)

        def step(seed: int) -> None:
            loss = self.our_loss(task, mapper, n_tasks, seed, first)["loss"]
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(mapper.parameters(), 1.0)
            optimiser.step()

        return step

    def our_test(self, task, n_tasks: int, seed: int) -> maml.Adaptation:
        task.features = torch.from_numpy(np.load(self.cache)).to(self.device, self.dtype)
        batch, last = task.batch(**self.positions(n_tasks, seed)), {self.args.steps}
        return maml.inner_loop(
            self.mapper, *task.embeddings(batch), task.open_reader(batch), self.args.steps, LR,
            score_at=last,
        )  # fmt: skip

    def _trainable(self, mapper):
        mapper = copy.deepcopy(mapper).train()
        return mapper, torch.optim.AdamW(mapper.parameters(), lr=OUTER_LR, weight_decay=0.01)

    # --- published ---

    def published(self, encoder: nn.Module | None = None) -> PublishedFewShot:
        mapper = PublishedMapper(FEATURES, self.task.reader.width, N_PREFIX)
        mapper.to(self.device, self.dtype)
        mapper.load_state_dict(self.mapper.state_dict())
        eos = self.tokenizer.eos_token_id
        return PublishedFewShot(encoder or self.encoder, mapper, self.llm, eos)

    def published_tasks(self, n_tasks: int, seed: int) -> list[PublishedTask]:
        """The same episodes: signals, padded questions, answers padded with the end of text."""
        found, task = [], self.task
        targets = task.targets.masked_fill(task.targets == IGNORE, self.tokenizer.eos_token_id)
        places = self.positions(n_tasks, seed)
        for rows in zip(places["support"], places["query"], strict=True):
            parts = [(self.ecgs[task.record[x]], task.question_ids[task.text[x]],
                      targets[task.answer[x]]) for x in rows]  # fmt: skip
            found.append(PublishedTask(*parts))
        return found

    # --- what takes turns: name -> (episodes of a call, function of a seed) ---

    def train_sides(self, first: int) -> dict:
        model, n = self.published(), self.args.tasks
        optimiser = torch.optim.AdamW(model.mapper.parameters(), lr=OUTER_LR, weight_decay=0.01)

        def published(seed: int) -> None:
            tasks = self.published_tasks(n, seed)
            meta_step(model, optimiser, tasks, self.args.steps, LR, first)

        return {PUBLISHED: (n, published), OURS: (n, self.our_step(self.task, n, first))}

    def test_sides(self) -> dict:
        model, n = self.published(), self.args.test_tasks
        few = min(n, self.args.tasks)  # one after the other: their number does not matter
        return {
            PUBLISHED: (few, lambda seed: meta_test(
                model, self.published_tasks(few, seed), self.args.steps, LR)),
            OURS: (n, lambda seed: self.our_test(self.task, n, seed)),
        }  # fmt: skip

    def sound_sides(self, first: int) -> dict:
        n = self.args.tasks
        return {OURS: (n, self.our_step(self.make_task(self.llm, "sound"), n, first))}


def make_tokenizer(table: pd.DataFrame):
    """A word piece each for yes and no, so that all answers are as long as each other."""
    texts = [f"Question: {q}Answer: " for q in table["question"]] + ["yes", "no", " yes no"] * 50
    return train_tokenizer(texts, SMALL["vocab_size"])
