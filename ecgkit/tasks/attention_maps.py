"""Attention of every layer and head, computed once, so that an explorer needs no model.

Letters: N layers, H heads, W words, C leads, P tokens of one ECG.

Usage:

    maps = maps_of_questions(model, data, positions, cohort)    # words of a question, notebook 03
    maps = [caption_attention.maps_of_caption(model, tokenizer, record)]        # notebook 05
    seen = maps[0].at(layer=0, head=None)                       # a `Look`, as `plot_words` takes
    seen = maps[0].at(layer=0, head=2, lead="V1")               # weighted by what V1 does there
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ecgkit.tasks import look_inside
from ecgkit.tasks.look_inside import Look
from ecgkit.types import DataError, ECGRecord, ModelError


@dataclass(frozen=True)
class AttentionMaps:
    """One question or caption about one ECG: `weights` (N, H, W, P) as the softmax gives them,
    `seen` the rest of what was looked at, `what` the matrix's rows and columns in words.
    """

    record: ECGRecord
    title: str
    seen: Look
    weights: np.ndarray
    what: str

    @property
    def has_gradient(self) -> bool:
        """Whether a lead has a say in it: attention alone is the same in all."""
        return bool(self.seen.gradient.any())

    def at(
        self, layer: int | None = None, head: int | None = None, lead: str | None = None
    ) -> Look:
        """The words' rows in one layer and head, counted from 0; None = mean over all.

        With `lead`, each token counts by how strongly that lead's signal there moves the answer
        (gradient x signal, divided by its mean). Raises ModelError or DataError for what is
        not there.
        """
        n, h, _, _ = self.weights.shape
        for what, index, many in (("layer", layer, n), ("head", head, h)):
            if index is not None and not 0 <= index < many:
                raise ModelError(f"There is no {what} {index}; count from 0 to {many - 1}.")
        rows = self.weights[slice(None) if layer is None else [layer]]
        rows = rows[:, slice(None) if head is None else [head]].mean((0, 1))
        if lead is not None:
            rows = rows * self._force(lead)
        return dataclasses.replace(
            self.seen, rows=rows, layer=_named(layer, n, "layer"), head=_named(head, h, "head"),
            attention=rows.mean(0), method="attention" if lead is None else "attention x gradient",
        )  # fmt: skip

    def _force(self, lead: str) -> np.ndarray:
        """(P,) with mean 1: gradient x signal of one lead by token."""
        if lead not in self.seen.leads:
            raise DataError(f"There is no lead {lead}; choose {', '.join(self.seen.leads)}.")
        force = self.seen.gradient[self.seen.leads.index(lead)]
        return force / max(float(force.mean()), 1e-12)


def _named(index: int | None, n: int, what: str) -> str:
    return f"mean of {n} {what}s" if index is None else f"{what} {index + 1} of {n}"


def maps_of_questions(model, data, positions: Sequence[int], cohort) -> list[AttentionMaps]:
    """Of each question one map per ECG it is about: a few forwards and one backward each."""
    maps = []
    for position in positions:
        line = data.questions.table.iloc[int(position)]
        for part, row in (("first", line["row1"]), ("second", line["row2"])):
            if row < 0:
                continue
            seen = look_inside.look(model, data, int(position), part)
            record = cohort.record(int(row))
            which = f" ({part} ECG, {record.ecg_id})" if line["row2"] >= 0 else ""
            weights = look_inside.word_maps(model, data, int(position), part)
            maps.append(AttentionMaps(
                record, f"{line['question']}{which}", seen, weights,
                f"from each word (row) to the ECG's {weights.shape[-1]} tokens",
            ))  # fmt: skip
    return maps


def questions_to_show(data, positions: Sequence[int], first: int, n: int = 6) -> list[int]:
    """`first`, then differently worded questions about one ECG, up to `n` of `positions`."""
    chosen, table = [int(first)], data.questions.table
    seen = {table["question"].iloc[int(first)]}
    for position in positions:
        words = table["question"].iloc[int(position)]
        if len(chosen) < n and data.row2[int(position)] < 0 and words not in seen:
            chosen.append(int(position))
            seen.add(words)
    return chosen
