"""Searching for the likeliest caption, word by word: greedy, and a beam search.

Both know the model only as `next_word(ids, rows)`: the start of R captions (R, L) and which ECG
each belongs to (R,) -> log-probabilities of the word that follows (R, V). Captions that have ended
are not asked for again.

Letters: B ECGs, K beams, L words so far, V vocabulary, W words a beam proposes.
Source: beam search with length normalisation: Wu et al. 2016 (Google's NMT), section 7.

Usage:

    ids = search(next_word, start_ids, end_id=3, max_tokens=48, n_beams=4)       # (B, L + n)
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ecgkit.types import ModelError

NextWord = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def search(
    next_word: NextWord, start_ids: torch.Tensor, end_id: int, max_tokens: int, n_beams: int = 1
) -> torch.Tensor:
    """Greedy for one beam, else `beam_search`. Raises ModelError for fewer than one beam."""
    if n_beams < 1:
        raise ModelError(f"n_beams is {n_beams}; give 1 for a greedy caption, or more.")
    if n_beams == 1:
        return greedy(next_word, start_ids, end_id, max_tokens)
    return beam_search(next_word, start_ids, end_id, max_tokens, n_beams)


def greedy(
    next_word: NextWord, start_ids: torch.Tensor, end_id: int, max_tokens: int
) -> torch.Tensor:
    """Appends the likeliest word to `start_ids` (B, L) until every row said `end_id`.

    Returns ids (B, L + n), n <= max_tokens; after its `end_id` a row is filled with `end_id`.
    """
    ids, rows = start_ids, torch.arange(len(start_ids), device=start_ids.device)
    done = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    for _ in range(max_tokens):
        if done.all():
            break
        word = torch.full_like(ids[:, 0], end_id)
        word[~done] = next_word(ids[~done], rows[~done]).argmax(-1)
        ids = torch.cat([ids, word[:, None]], dim=1)
        done |= word == end_id
    return ids


def beam_search(
    next_word: NextWord, start_ids: torch.Tensor, end_id: int, max_tokens: int, n_beams: int,
    length_power: float = 1.0,
) -> torch.Tensor:  # fmt: skip
    """The caption of each row with the highest log-probability / (words said) ** length_power among
    those that K beams came across; ids as from `greedy`.

    `length_power` 1 compares means per word; 0 compares sums, which favours short captions. The
    closing `end_id` counts as a word. Ended captions stay among the beams and compete.
    """
    n, n_start = start_ids.shape
    first = torch.arange(n, device=start_ids.device) * n_beams  # where each row's beams begin
    ids = start_ids.repeat_interleave(n_beams, dim=0)  # (B * K, L)
    rows = torch.arange(n, device=ids.device).repeat_interleave(n_beams)
    score = torch.full((n * n_beams,), -torch.inf, device=ids.device)
    score[first] = 0.0  # the others are copies, and copies would propose the same words
    length = torch.zeros_like(score)
    done = torch.zeros_like(score, dtype=torch.bool)
    for _ in range(max_tokens):
        if done.all():
            break
        gain, words = _proposals(next_word, ids, rows, ~done & score.isfinite(), end_id, n_beams)
        total = score[:, None] + gain  # (B * K, W)
        length = length + ~done
        value = total / length[:, None] ** length_power
        pick = value.view(n, -1).topk(n_beams).indices  # (B, K) of K * W
        parent = (first[:, None] + pick // gain.shape[1]).flatten()
        word = words.view(n, -1).gather(1, pick).flatten()
        ids = torch.cat([ids[parent], word[:, None]], dim=1)
        score, length = total.view(n, -1).gather(1, pick).flatten(), length[parent]
        done = done[parent] | (word == end_id)
    best = (score / length.clamp(min=1) ** length_power).view(n, n_beams).argmax(1)
    return _without_empty_end(ids[first + best], n_start, end_id)


def _proposals(next_word, ids, rows, running, end_id: int, n_beams: int):
    """What each beam adds to its score, and the word for it, (B * K, W) each: its W likeliest
    words; one that has ended proposes itself, at no gain, and nothing else.
    """
    said = next_word(ids[running], rows[running])
    n_words = min(n_beams, said.shape[1])
    gain = said.new_full((len(ids), n_words), -torch.inf)
    words = ids.new_full((len(ids), n_words), end_id)
    gain[:, 0] = 0.0
    gain[running], words[running] = said.topk(n_words)
    return gain, words


def _without_empty_end(ids, n_start: int, end_id: int):
    """Cuts the columns in which every caption has already ended (other beams ran on)."""
    ended = (ids[:, n_start:] == end_id).all(0)
    return ids[:, : n_start + min(len(ended), int((~ended).sum()) + 1)]
