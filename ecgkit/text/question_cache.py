"""Tokenised questions beside the question table: each distinct wording once, memory-mapped.

The cache is named by the tokenizer's content, the limit and the wordings, so another tokenizer or
another choice of questions never reads it.

Letters: N questions, L tokens.

Usage:

    tokens = open_tokens(tokenizer, questions.table["question"], max_tokens=64)
    ids, padding = tokens.read(positions)        # (n, L) int64, (n, L) bool, L = longest of these
    ids, padding = tokens.all()                  # equal to encode_questions(...) of all questions
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit import runtime
from ecgkit.config import short_hash
from ecgkit.text.question_tokenizer import token_lists

VERSION = 1


@dataclass(frozen=True)
class Tokens:
    """Token ids of N questions. ids: of all distinct wordings, one after another; wording i of
    `starts[i]` up to `starts[i + 1]`; which (N,): the wording of each question.
    """

    ids: np.ndarray
    starts: np.ndarray
    which: np.ndarray
    pad_id: int

    def __len__(self) -> int:
        return len(self.which)

    def lengths(self, positions) -> np.ndarray:
        """(n,) tokens of the questions at `positions`."""
        wording = self.which[positions]
        return self.starts[wording + 1] - self.starts[wording]

    def read(self, positions) -> tuple[np.ndarray, np.ndarray]:
        """(n, L) int64 ids, padded at the end to the longest, and (n, L) bool, True = padding."""
        lengths = self.lengths(positions)
        column = np.arange(lengths.max(initial=0))
        padding = column >= lengths[:, None]
        where = self.starts[self.which[positions]][:, None] + column
        ids = self.ids[np.where(padding, 0, where)].astype(np.int64)
        ids[padding] = self.pad_id
        return ids, padding

    def all(self) -> tuple[np.ndarray, np.ndarray]:
        """`read` of every question: (N, L) ids and padding, as `encode_questions` gives them."""
        return self.read(slice(None))


def open_tokens(tokenizer, questions: Sequence[str], max_tokens: int = 512) -> Tokens:
    """The tokens of `questions`, (N,) str, cut at `max_tokens`; written to the cache at first.

    tokenizer: a PreTrainedTokenizerFast.
    """
    which, distinct = pd.factorize(np.asarray(questions, dtype=object), sort=True)
    words = hashlib.sha256("\0".join(distinct).encode()).hexdigest()
    key = short_hash([VERSION, _rules(tokenizer), tokenizer.pad_token_id, max_tokens, words])
    folder = runtime.cache_dir() / f"tokens-{key}"
    runtime.write_once(folder, lambda scratch: _write(scratch, tokenizer, distinct, max_tokens))
    with runtime.reading_cached(folder):
        ids, starts = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("ids", "starts"))
    return Tokens(ids, np.asarray(starts, dtype=np.int64), which, tokenizer.pad_token_id)


def _rules(tokenizer) -> dict:
    """All that decides the ids, without how the last call cut and padded, which it remembers."""
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    return {name: rule for name, rule in rules.items() if name not in ("truncation", "padding")}


def _write(folder: Path, tokenizer, wordings: np.ndarray, max_tokens: int) -> None:
    coded = token_lists(tokenizer, wordings.tolist(), max_tokens)
    starts = np.cumsum([0, *map(len, coded)])
    ids = np.concatenate([np.asarray(row) for row in coded])
    np.save(folder / "ids.npy", ids.astype(np.min_scalar_type(int(ids.max()))))
    np.save(folder / "starts.npy", starts.astype(np.min_scalar_type(int(starts[-1]))))
