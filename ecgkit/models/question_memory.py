"""What a frozen language model keeps of a question: keys and values, and the ids still to be read.

Words stand at the right, padding in front: then the soft tokens that follow are as far from each
word as without padding, which a model with sliding-window attention notices.

Letters: B rows, L remembered places, X + Y ids still to be read before and after the soft tokens.

Usage:

    memory = reader.read_questions(questions).select(torch.tensor([0, 0, 1]))
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

Layers = tuple[tuple[Tensor, Tensor], ...]


@dataclasses.dataclass(frozen=True)
class QuestionMemory:
    """Keys and values of each layer, 2 x (B, heads, L, width of a head), and which of the L places
    are words (B, L). `head` (B, X) and `tail` (B, Y) are ids to be read before and after the soft
    tokens; `tail_mask` (B, Y) says which are words.
    """

    layers: Layers
    mask: Tensor
    head: Tensor
    tail: Tensor
    tail_mask: Tensor

    def __len__(self) -> int:
        return len(self.mask)

    def select(self, rows: Tensor) -> QuestionMemory:
        """The memories of `rows` (B,), repeats allowed. One question for all rows is not copied."""
        if len(self) == 1:
            return self.expand(len(rows))
        return self._each(lambda x: x[rows])

    def expand(self, n: int) -> QuestionMemory:
        """A memory of one row seen as `n`; shares its storage."""
        return self._each(lambda x: x.expand(n, *x.shape[1:]))

    def _each(self, change) -> QuestionMemory:
        layers = tuple((change(k), change(v)) for k, v in self.layers)
        own = (self.mask, self.head, self.tail, self.tail_mask)
        return QuestionMemory(layers, *map(change, own))

    def cache(self):
        """A fresh cache as transformers wants it, None where nothing is remembered. It grows by new
        tensors, so this memory stays as it is.
        """
        from transformers.cache_utils import DynamicCache, DynamicLayer

        if not self.layers:
            return None
        cache = DynamicCache()
        for keys, values in self.layers:  # by hand, because `cache.update` would copy them
            layer = DynamicLayer()
            layer.keys, layer.values, layer.is_initialized = keys, values, True
            layer.dtype, layer.device = keys.dtype, keys.device
            cache.layers.append(layer)
        return cache


def to_the_right(mask: Tensor, *tensors: Tensor, dim: int = 1) -> tuple[Tensor, ...]:
    """(mask, *tensors) with each row's padding moved in front, the order of its words kept.

    mask (B, N) bool; of the tensors, axis 0 is B and axis `dim` is N.
    """
    order = mask.to(torch.uint8).argsort(dim=1, stable=True)  # False, which is padding, first

    def moved(x: Tensor, dim: int) -> Tensor:
        shape = [1] * x.ndim
        shape[0], shape[dim] = order.shape
        return x.gather(dim, order.view(shape).expand_as(x))

    return moved(mask, 1), *(moved(x, dim) for x in tensors)
