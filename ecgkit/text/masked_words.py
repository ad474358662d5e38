"""Masked language modelling: which words of a report are hidden, and what stands in their place.

A word is a WordPiece with its "##" continuations (M3AE), or one piece (MedViLL). `share` of the
words of each row are chosen, at least one; of the chosen pieces 80 % become [MASK], 10 % another
piece, 10 % stay. Special tokens and padding are never chosen.

Letters: B batch, L tokens, V vocabulary, W words of a row.
Source: Devlin et al. 2019 section 3.1; M3AE (arXiv 2209.07098) section 2; MedViLL (arXiv
2105.11333) section III. The published M3AE code counts 25 % of the pieces and passes over a word
that no longer fits; here 25 % of the words are taken, which is the same in the mean.

Usage:

    words = word_pieces(tokenizer)
    masked, targets = mask_words(ids, padding, words, rng, share=0.25, whole_word=True)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ecgkit.types import ModelError

IGNORED = -100  # what cross-entropy passes over


@dataclass(frozen=True)
class WordPieces:
    """What masking must know of a vocabulary: special, continues (V,) bool; ordinary: ids that may
    stand in for a hidden one.
    """

    mask_id: int
    special: np.ndarray
    continues: np.ndarray

    @property
    def ordinary(self) -> np.ndarray:
        return np.flatnonzero(~self.special)


def word_pieces(tokenizer) -> WordPieces:
    """Reads a PreTrainedTokenizerFast. Raises ModelError when it has no [MASK] token.

    Pieces of a tokenizer without "##" continuations count as words of their own.
    """
    if tokenizer.mask_token_id is None:
        raise ModelError(
            "This tokenizer has no [MASK] token, so no words can be hidden; take a BERT-like one."
        )
    pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    special = np.zeros(len(pieces), dtype=bool)
    special[tokenizer.all_special_ids] = True
    continues = np.array([piece.startswith("##") and piece != "##" for piece in pieces])
    return WordPieces(tokenizer.mask_token_id, special, continues)


def mask_words(
    ids: np.ndarray, padding: np.ndarray, words: WordPieces, rng: np.random.Generator,
    share: float = 0.25, whole_word: bool = True, kept: tuple[float, float] = (0.1, 0.1),
) -> tuple[np.ndarray, np.ndarray]:
    """ids (B, L), padding (B, L) True = padding -> masked ids (B, L), targets (B, L) int64.

    Targets are the true ids where a piece was chosen, IGNORED elsewhere. `kept`: shares of the
    chosen pieces that become a random piece, and that stay as they are.
    """  # fmt: skip
    chosen = _choose(word_numbers(ids, padding, words, whole_word), share, rng)
    draw = rng.random(ids.shape)
    random_piece = rng.choice(words.ordinary, ids.shape)
    masked = np.where(draw < kept[0], random_piece, words.mask_id)
    masked = np.where(draw >= 1 - kept[1], ids, masked)
    return np.where(chosen, masked, ids), np.where(chosen, ids, IGNORED)


def word_numbers(ids, padding, words: WordPieces, whole_word: bool = True) -> np.ndarray:
    """(B, L) number of the word each piece belongs to, from 0 in each row; -1 = never masked."""
    maskable = ~padding & ~words.special[ids]
    follows = np.zeros_like(maskable)
    follows[:, 1:] = words.continues[ids[:, 1:]] & maskable[:, :-1]
    starts = maskable & ~(follows & whole_word)
    return np.where(maskable, starts.cumsum(1) - 1, -1)


def _choose(word: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """(B, L) True on every piece of the chosen words: round(share * W) of a row, at least one."""
    n_words = word.max(1, initial=-1) + 1  # (B,)
    exists = np.arange(n_words.max(initial=1)) < n_words[:, None]  # (B, W)
    rank = np.where(exists, rng.random(exists.shape), np.inf).argsort(1).argsort(1)
    taken = exists & (rank < np.maximum(1, np.rint(share * n_words))[:, None])
    return np.take_along_axis(taken, word.clip(0), axis=1) & (word >= 0)
