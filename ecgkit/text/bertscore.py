"""BERTScore of candidate texts against reference texts, with any Hugging Face encoder.

Each token is matched to the nearest token of the other text by cosine of their contextual states
at one layer: precision averages over the candidate's tokens, recall over the reference's, F1 is
their harmonic mean. Tokens that begin and end a text may be matched to, but have no weight. With
`idf` a token weighs the more, the fewer references hold it. Raw scores, not rescaled: those of
unrelated English texts are high too (0.8 with roberta-large), so differences are what counts.

Dims: n pairs, L tokens, D width.
Source: Zhang et al., BERTScore (ICLR 2020), section 3. Values equal those of the bert-score
package at one text a batch (in larger ones it takes padding for a match of cosine 0).

Usage:

    scorer = BertScorer("FacebookAI/roberta-large")            # hub id or folder
    scores = scorer.score(["no P waves"], ["P waves are absent"])
    scores.f1, scores.empty; print(scores)
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from pathlib import PurePath

import numpy as np

from ecgkit import runtime
from ecgkit.text.encoders import load_text_encoder, longest_input
from ecgkit.types import DataError, ModelError

# The layer whose scores agree best with people's, as the authors chose it; else the last one.
LAYERS = {"roberta-large": 17, "roberta-base": 10, "bert-base-uncased": 9,
          "bert-large-uncased": 18, "distilbert-base-uncased": 5}  # fmt: skip
BLOCK = 256  # pairs whose states are held at a time


@dataclass(frozen=True)
class Scores:
    """Precision, recall and F1, each (n,); `empty` (n,): a text had nothing to score, so zeros."""

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    empty: np.ndarray
    signature: str = ""

    def summary(self) -> dict[str, float]:
        """Mean and sd (over texts, n - 1) of each score, n, and how many were empty."""
        row: dict[str, float] = {}
        for name in ("precision", "recall", "f1"):
            values = getattr(self, name)
            row[name] = float(values.mean()) if len(values) else float("nan")
            row[f"{name}_sd"] = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
        return row | {"n": len(self.f1), "n_empty": int(self.empty.sum())}

    def __str__(self) -> str:
        row = self.summary()
        said = ", ".join(
            f"{name} {row[name]:.4f} ({row[f'{name}_sd']:.4f})"
            for name in ("precision", "recall", "f1")
        )
        empty = f"; {row['n_empty']} empty, scored 0" if row["n_empty"] else ""
        return f"{said}, mean (sd) of {row['n']} texts{empty}; {self.signature}"


class BertScorer:
    """An encoder and the layer to read.

    `encoder` is a hub id, a folder, or a pair (tokenizer, model). `layer` counts from 0, the
    embeddings; None is the authors' choice for a model in LAYERS, the last layer for others.
    Raises ModelError as `load_text_encoder`, and for a layer the model lacks.
    """

    def __init__(
        self, encoder: str | tuple, layer: int | None = None, batch_size: int = 32,
        device: str = "auto",
    ):  # fmt: skip
        named = isinstance(encoder, str)
        self.tokenizer, model = load_text_encoder(encoder) if named else encoder
        if getattr(model.config, "is_encoder_decoder", False):
            model = model.get_encoder()
        self.device, self.batch_size = runtime.pick_device(device), batch_size
        self.model = model.to(self.device).eval()
        n_layers = getattr(model.config, "num_hidden_layers", None) or model.config.num_layers
        name = PurePath(encoder).name if named else model.config.model_type
        self.layer = LAYERS.get(name, n_layers) if layer is None else layer
        if not 0 <= self.layer <= n_layers:
            raise ModelError(
                f"{name} has no layer {self.layer}; it has 0 (embeddings) to {n_layers}."
            )
        self.name = f"{name}, layer {self.layer} of {n_layers}"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token or self.tokenizer.unk_token
        self.room = longest_input(self.tokenizer, self.model)

    def score(
        self, candidates: Sequence[str], references: Sequence[str],
        idf: bool | Sequence[str] = False,
    ) -> Scores:  # fmt: skip
        """Scores of each candidate against the reference of the same place.

        `idf`: weigh tokens by their rarity in `references`, or in the texts given. Longer texts
        than the encoder takes are cut. An empty text scores 0. Raises DataError where the two
        lists differ in length.
        """
        if len(candidates) != len(references):
            raise DataError(
                f"{len(candidates)} candidates against {len(references)} references; give one "
                "reference for each."
            )
        texts = references if isinstance(idf, bool) else idf
        weigh = self._rarity(texts) if idf is not False else (lambda token: 1.0)
        rows = []
        for start in range(0, len(candidates), BLOCK):
            pairs = list(zip(candidates, references))[start : start + BLOCK]
            states = self._states(dict.fromkeys(itertools.chain.from_iterable(pairs)))
            rows += [self._pair(states[c], states[r], weigh) for c, r in pairs]
        table = np.array(rows, np.float64).reshape(-1, 4)
        kind = "idf" if idf is not False else "no idf"
        return Scores(*table[:, :3].T, table[:, 3] > 0, f"{self.name}, {kind}")

    # --- steps ---

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        # Byte-level tokenizers tell a word at a text's beginning from the same word inside it.
        lead = " " if self.model.config.model_type in ("roberta", "gpt2") else ""
        stripped = [text.strip() for text in texts]
        return self.tokenizer(
            [lead + text if text else text for text in stripped], truncation=True,
            max_length=self.room,
        )["input_ids"] if texts else []  # fmt: skip

    def _states(self, texts: Sequence[str] | dict[str, None]) -> dict[str, tuple]:
        """text -> (tokens (L,), unit states (L, D)); like lengths share a batch."""
        import torch

        texts = list(texts)
        tokens = self._tokens(texts)
        order = sorted(range(len(texts)), key=lambda i: -len(tokens[i]))
        out: dict[str, tuple] = {}
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            batch = self.tokenizer.pad(
                {"input_ids": [tokens[i] for i in rows]}, return_tensors="pt"
            ).to(self.device)
            if not batch["input_ids"].numel():  # a tokenizer that adds nothing to empty texts
                out |= {texts[i]: (tokens[i], np.zeros((0, 1), np.float32)) for i in rows}
                continue
            with torch.inference_mode():
                hidden = self.model(
                    input_ids=batch["input_ids"], attention_mask=batch["attention_mask"],
                    output_hidden_states=True,
                ).hidden_states[self.layer]  # fmt: skip
                unit = torch.nn.functional.normalize(hidden.float(), dim=-1).cpu().numpy()
            mask = batch["attention_mask"].cpu().numpy() > 0
            out |= {texts[i]: (tokens[i], unit[k][mask[k]]) for k, i in enumerate(rows)}
        return out

    def _pair(self, candidate: tuple, reference: tuple, weigh) -> tuple[float, ...]:
        edges = {self.tokenizer.cls_token_id, self.tokenizer.sep_token_id}
        weights = [
            np.array([0.0 if t in edges else weigh(t) for t in tokens])
            for tokens in (candidate[0], reference[0])
        ]
        return greedy_match(candidate[1], reference[1], *weights)

    def _rarity(self, texts: Sequence[str]):
        """token -> log((n + 1) / (texts that hold it + 1))."""
        tokens = self._tokens(list(texts))
        counts = Counter(t for row in tokens for t in set(row))
        return lambda token: log((len(tokens) + 1) / (counts[token] + 1))


def greedy_match(
    candidate: np.ndarray, reference: np.ndarray, weight_c: np.ndarray, weight_r: np.ndarray
) -> tuple[float, float, float, bool]:
    """(precision, recall, F1, empty) of unit states (L, D) with a weight per token (L,).

    Where a text has no weight (nothing but its edges) all are 0 and `empty` is True.
    """
    if not weight_c.sum() > 0 or not weight_r.sum() > 0:
        return 0.0, 0.0, 0.0, True
    cosine = candidate @ reference.T  # (L_c, D), (L_r, D) -> (L_c, L_r)
    p = float((cosine.max(1) * weight_c).sum() / weight_c.sum())
    r = float((cosine.max(0) * weight_r).sum() / weight_r.sum())
    return p, r, 2 * p * r / (p + r) if p + r else 0.0, False
