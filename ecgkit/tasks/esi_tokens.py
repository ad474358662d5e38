"""Captions as tokens: every wording tokenised once, kept beside the stores, read as a padded batch.

Letters: N captions, W wordings of each, B batch, L tokens.

Usage:

    tokens = caption_tokens(tokenizer, captions.variants, max_tokens=72)
    tokens.read([3, 5], wording=0)                    # {"ids": (2, L), "mask": (2, L)} int64
    tokens.lengths(np.arange(100), wording=1)         # (100,) tokens a batch needs of each
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ecgkit.text.question_cache import Tokens, open_tokens


@dataclass(frozen=True)
class CaptionTokens:
    """Wording w of caption i stands at i * W + w of `tokens`, which hold one token more than
    `max_tokens`: that tells which captions had to be cut. `end_id`: [SEP], the last of each.
    """

    tokens: Tokens
    n_wordings: int
    max_tokens: int
    end_id: int

    def __len__(self) -> int:
        return len(self.tokens) // self.n_wordings

    def lengths(self, captions, wording=0, room: int | None = None) -> np.ndarray:
        """(B,) tokens of each caption in a batch, cut to `room` (default: max_tokens)."""
        places = np.asarray(captions) * self.n_wordings + wording
        return np.minimum(self.tokens.lengths(places), room or self.max_tokens)

    def read(self, captions, wording=0, room: int | None = None) -> dict[str, torch.Tensor]:
        """Captions (B,), in one wording or in (B,) of them, as "ids" and "mask" (B, L) int64.

        L is the longest of these, at most `room`; a longer one is cut before its [SEP].
        """
        room = min(room or self.max_tokens, self.max_tokens)
        ids, padding = self.tokens.read(np.asarray(captions) * self.n_wordings + wording)
        if ids.shape[1] > room:
            ids[~padding[:, room], room - 1] = self.end_id
            ids, padding = ids[:, :room], padding[:, :room]
        mask = torch.from_numpy(~padding).long()
        return {"ids": torch.from_numpy(np.ascontiguousarray(ids)), "mask": mask}

    def n_cut(self, captions) -> int:
        """How many of these captions are longer than `max_tokens` in full (wording 0)."""
        places = np.asarray(captions) * self.n_wordings
        return int((self.tokens.lengths(places) > self.max_tokens).sum())


def caption_tokens(
    tokenizer, variants: Sequence[Sequence[str]], max_tokens: int
) -> CaptionTokens:
    """N lists of W texts, each tokenised once and kept in the cache; needs [SEP] and [PAD]."""
    flat = [text for wordings in variants for text in wordings]
    tokens = open_tokens(tokenizer, flat, max_tokens + 1)
    return CaptionTokens(tokens, len(variants[0]), max_tokens, tokenizer.sep_token_id)
