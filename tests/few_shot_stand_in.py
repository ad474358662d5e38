"""A few-shot study without a cohort: questions that are asked 20 times each, random embeddings of
which one number is the answer, and a small random Llama.

Usage:
    task, sampler = make_task(), Sampler()
    batch = task.positions([sampler[0], sampler[1]])
"""

import dataclasses
import types

import numpy as np
import pandas as pd
import torch

from ecgkit.config import FewShotConfig
from ecgkit.models.prefix_llm import PrefixLLM
from ecgkit.models.small_llm import build_small_llm, train_tokenizer
from ecgkit.tasks.fewshot_task import FewShotTask

KINDS, N = ("noise", "atrial fibrillation", "drift", "a long PR interval"), 160
QUESTIONS = [f"Is there {kind} in this ECG?" for kind in KINDS]


def make_task(protocol: str = "sound", width: int = 32, quirks=None) -> FewShotTask:
    """Four yes-no questions about 160 ECGs, F = 16; the first number of an embedding decides."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((N, 16)).astype(np.float32)
    answers = [["yes"] if x > 0 else ["no"] for x in features[:, 0]]
    asked = [QUESTIONS[i % len(QUESTIONS)] for i in range(N)]
    table = pd.DataFrame({"question": asked, "answer": answers, "row1": np.arange(N)})
    torch.manual_seed(0)
    tokenizer = train_tokenizer([f"Question: {q} ECG: Answer: yes no" for q in QUESTIONS], 300)
    llm = build_small_llm(len(tokenizer), width, n_layers=2, n_heads=4)
    llm.model.norm.weight.data *= 8  # random words lie close together; so that one can win
    reader = PrefixLLM(llm, tokenizer)
    return FewShotTask(types.SimpleNamespace(table=table), features, reader, protocol, "cpu",
                       quirks=quirks)  # fmt: skip


class Sampler:
    """Episode i: k_shot support and query rows of either answer; gives up after `stop_at` of them,
    as a kill would."""

    def __init__(self, stop_at: int = 10**9, k_shot: int = 2):
        self.left, self.k_shot = stop_at, k_shot

    def __getitem__(self, number: int):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        rows = np.random.default_rng([5, number]).permutation(N)[: 4 * self.k_shot]
        half = 2 * self.k_shot
        return types.SimpleNamespace(support=rows[:half], query=rows[half:], names=("yes", "no"))


def make_config(**changed) -> FewShotConfig:
    values = {"inner_steps": 3, "inner_lr": 0.1, "mapper_heads": 4, "mapper_dropout": 0.0,
              "device": "cpu", **changed}  # fmt: skip
    return dataclasses.replace(FewShotConfig.from_params({"preset": "tiny"}), **values)
