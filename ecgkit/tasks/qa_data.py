"""ECG-QA's questions as batches: tokens, ECGs, answers, and batches of like with like.

Letters: B batch, C leads, T samples, L tokens, N questions, K answers.

Usage:

    data = prepare(config, cohort, questions)
    data.batch(questions.index("test")[:8])          # text, masks, labels, valid, ecg [, ecg_2]
    order = grouped_batches(config, data, questions.index("train"), n_steps=600)
"""

from __future__ import annotations

import dataclasses
import zlib

import numpy as np
import torch

from ecgkit.features.augment import shift_time
from ecgkit.tasks.batching import GroupedBatches
from ecgkit.text.question_cache import Tokens, open_tokens
from ecgkit.text.question_tokenizer import question_tokenizer
from ecgkit.types import DataError


@dataclasses.dataclass(frozen=True)
class QAData:
    """Questions ready for batches: their tokens, read when asked for, and the rows of their ECGs
    (N,), -1 = none.
    """

    store: object
    questions: object
    tokenizer: object
    tokens: Tokens
    row1: np.ndarray
    row2: np.ndarray
    fingerprint: str

    def batch(self, positions: np.ndarray, with_ecg: bool = True, rng=None, shared: bool = False):
        """Tensors of the questions at `positions`; text is cut to their longest. With a generator
        each ECG is shifted in time, for training.

        text (B, L), text_padding_mask (B, L), labels (B, K), valid (B, K); with ECGs: ecg (B, C, T)
        and, where any question has a second one, ecg_2 (B, C, T) with ecg_2_padding_mask (B, T).
        `shared`: an ECG that several questions are about comes once, ecg (U, C, T), and ecg_of (B,)
        says which of them a question is about.
        """
        ids, padding = self.tokens.read(positions)
        out = {"text": ids,
               "text_padding_mask": padding,
               "labels": self.questions.labels(positions),
               "valid": self.questions.valid_mask(positions)}
        if with_ecg:
            out |= self._ecgs(positions, rng, shared)
        return {name: torch.from_numpy(array) for name, array in out.items()}

    def _ecgs(self, positions: np.ndarray, rng, shared: bool) -> dict[str, np.ndarray]:
        def read(rows):
            signal = self.store.read(rows)
            return signal if rng is None else shift_time(signal, rng)

        rows, second, out = self.row1[positions], self.row2[positions], {}
        if shared:
            rows, out["ecg_of"] = np.unique(rows, return_inverse=True)
        out["ecg"] = first = read(rows)
        there = second >= 0
        if there.all():
            out["ecg_2"] = read(second)
        elif there.any():
            out["ecg_2"] = np.zeros((len(second), *first.shape[1:]), first.dtype)
            out["ecg_2"][there] = read(second[there])
            out["ecg_2_padding_mask"] = np.repeat(~there[:, None], first.shape[-1], axis=1)
        return out

    def names(self, positions: np.ndarray) -> list[str]:
        """What to call questions in an error: split, sample and ECGs."""
        table = self.questions.table.iloc[positions]
        return [f"{split} sample {sample}, ECG {ecgs}" for split, sample, ecgs
                in zip(table["split"], table["sample_id"], table["ecg_id"])]


def prepare(config, cohort, questions, tokenizer=None) -> QAData:
    """Tokenises all questions; a tokenizer trained here has seen the training questions only.

    `tokenizer`: that of a pretrained model, whose word vectors are to be taken over.
    Raises DataError when there is no training or no test question.
    """
    for split in ("train", "test"):
        if not len(questions.index(split)):
            raise DataError(
                f"There is no question in the {split} split about the {len(cohort)} stored ECGs; "
                "give more ECGs (DATA) or more question files (ECGQA)."
            )
    texts = questions.table["question"].to_numpy()
    if tokenizer is None:
        tokenizer = question_tokenizer(texts[questions.index("train")], config.vocab_size,
                                       config.tokenizer)
    tokens = open_tokens(tokenizer, texts, config.max_text)
    rows = questions.table[["row1", "row2"]].to_numpy()
    read = b"".join(a.tobytes() for a in (tokens.ids, tokens.starts, tokens.which, rows))
    name = f"{cohort.fingerprint}-{questions.source}-{questions.flavour}-{zlib.crc32(read):08x}"
    return QAData(cohort.store, questions, tokenizer, tokens, rows[:, 0], rows[:, 1], name)


def grouped_batches(config, data: QAData, positions: np.ndarray, n_steps: int) -> GroupedBatches:
    """Training order over `positions`: all questions of a batch have one ECG, or all have two, and
    of nearly one length where `config.length_window` sorts, so that no time goes into absent ECGs
    and padding.

    `config.pair_share` of the batches are about two ECGs; below 0: as the questions occur.
    `config.questions_per_ecg` questions about one (first) ECG come side by side.
    """
    pairs = data.row2[positions] >= 0
    both = pairs.any() and not pairs.all()
    shares = None
    if both and config.pair_share >= 0:
        shares = {False: 1.0 - config.pair_share, True: config.pair_share}
    return GroupedBatches(pairs, data.tokens.lengths(positions), config.batch_size, n_steps,
                          config.seed, shares, config.length_window,
                          together=data.row1[positions], run=config.questions_per_ecg)


def thinned(positions: np.ndarray, limit: int) -> np.ndarray:
    """At most `limit` positions, evenly spread over all."""
    if len(positions) <= limit:
        return positions
    return positions[np.linspace(0, len(positions) - 1, limit).astype(int)]
