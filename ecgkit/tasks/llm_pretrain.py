"""Trains the small Llama in place, on text alone, so that it can answer from a findings sentence.

A language model that had never read "atrial flutter" could not be told about it by an ECG. The
published work takes Llama-3.1-8B, which has read everything; ours is trained here, in seconds, on
lines made from the training folds and on the kit's knowledge notes (`llm_lines`). One model serves
all question types.

Letters: B lines, L tokens of the longest, D width, V vocabulary.

Usage:

    lines, held_out, terms = question_lines(questions, cohort, "all", n_lines=15_000)
    tokenizer, llm, log = pretrain_llm(lines, held_out, 192, 2, 4, 600, settings, terms)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from ecgkit import runtime
from ecgkit.config import short_hash
from ecgkit.models.prefix_llm import IGNORE
from ecgkit.models.small_llm import build_small_llm, train_tokenizer
from ecgkit.tasks.batching import GroupedBatches
from ecgkit.tasks.engine import TrainSettings, fit
from ecgkit.tasks.llm_lines import Line, Note, note_lines, question_lines, single_names
from ecgkit.types import DataError

__all__ = ["Line", "Note", "encode_lines", "held_out_scores", "line_loss", "note_lines",
           "pretrain_llm", "question_lines"]  # fmt: skip

# Against the answer's cross-entropy: most words of a line are chance, the answer is not.
TEXT_WEIGHT = 0.1
TEXT_SHARE = 0.25  # of the question lines, those whose other words are predicted too
RECIPE = 3  # of loss and batches; a new number trains anew


def encode_lines(
    tokenizer, lines: Sequence[Line | Note], max_tokens: int = 160
) -> tuple[Tensor, Tensor]:
    """Token ids (n, L), padded with IGNORE, and the position (n,) of each answer's first token (of
    a note, its length).

    Each part of a line is tokenised by itself, as the reader does, so that the answer's tokens are
    the same with soft tokens. Lines of more than `max_tokens` are left out; raises DataError when
    none is left.
    """
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    parts = [line.parts() for line in lines]
    texts = sorted({text for pieces in parts for text in pieces})
    ids = dict(zip(texts, tokenizer(texts, add_special_tokens=False)["input_ids"], strict=True))
    rows, answer_at = [], []
    for line, pieces in zip(lines, parts, strict=True):
        head = [bos] + [i for text in pieces[:-1] for i in ids[text]]
        row = [*head, *ids[pieces[-1]], eos]
        if len(row) <= max_tokens:
            rows.append(row)
            answer_at.append(len(row) if isinstance(line, Note) else len(head))
    if not rows:
        raise DataError(
            f"No line of the language model's text fits {max_tokens} tokens; shorten the "
            "findings sentences."
        )
    matrix = np.full((len(rows), max(map(len, rows))), IGNORE, dtype=np.int64)
    for place, row in enumerate(rows):
        matrix[place, : len(row)] = row
    return torch.from_numpy(matrix), torch.tensor(answer_at)


def line_loss(llm, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Next-token cross-entropy: over the answers ("answer"), over the other words of the lines that
    are read in full ("text"), and "loss", answer + 0.1 text; "exact", the share of lines whose
    whole answer is the argmax.

    ids (B, L) with IGNORE as padding, answer_at (B,), in_full (B,) bool. Padding stands right of
    all words, where causal attention cannot see it, so no mask is needed.
    """
    llm = getattr(llm, "module", llm)
    ids, answer_at = batch["ids"], batch["answer_at"]
    targets = ids[:, 1:]
    place = torch.arange(1, ids.shape[1], device=ids.device)
    real = targets != IGNORE
    is_answer = real & (place >= answer_at[:, None])
    is_text = real & ~is_answer & batch["in_full"][:, None]
    wanted = is_answer | is_text
    hidden = llm.model(input_ids=ids.clamp(min=0), use_cache=False).last_hidden_state[:, :-1]
    logits = llm.lm_head(hidden[wanted]).float()  # vocabulary only where something is asked
    nll = F.cross_entropy(logits, targets[wanted], reduction="none")
    of_answer = is_answer[wanted]
    answer = nll[of_answer].sum() / is_answer.sum().clamp(min=1)  # a batch may be all notes
    text = nll[~of_answer].sum() / is_text.sum().clamp(min=1)
    wrong = torch.zeros_like(wanted)
    wrong[wanted] = (logits.argmax(-1) != targets[wanted]) & of_answer
    asked = is_answer.any(1)
    exact = (asked & ~wrong.any(1)).sum() / asked.sum().clamp(min=1)
    return {"loss": TEXT_WEIGHT * text + answer, "text": text, "answer": answer, "exact": exact}


def pretrain_llm(
    lines: Sequence[Line], held_out: Sequence[Line], width: int, n_layers: int, n_heads: int,
    vocab_size: int, settings: TrainSettings, terms: Sequence[str] = (), notes: bool = True,
):  # fmt: skip
    """Returns (tokenizer, llm, log); a model already trained on the same text with the same
    settings is loaded instead, and an interrupted training goes on.

    The key of the cached folder is a hash of text, sizes and settings. `notes` adds the knowledge
    notes. `held_out` lines are scored at the end, once as they are and once with findings swapped
    between lines (`eval_exact`, `eval_exact_swapped`, and both for each question type): a model
    that reads its context loses on the second.
    """
    size = {
        "width": width, "n_layers": n_layers, "n_heads": n_heads, "vocab_size": vocab_size,
        "terms": sorted(terms), "recipe": RECIPE,
    }  # fmt: skip
    read = [*lines, *(note_lines() if notes else ())]
    text = short_hash([dataclasses.astuple(line) for line in (*read, *held_out)])
    elsewhere = ("device", "time_budget_s", "log_every", "checkpoint_every")
    portable = {k: v for k, v in dataclasses.asdict(settings).items() if k not in elsewhere}
    folder = runtime.cache_dir() / "small_llm" / short_hash([text, size, portable])
    with runtime.one_at_a_time(folder, "training the same small language model"):
        tokenizer = _tokenizer(read, vocab_size, terms, folder)
        torch.manual_seed(settings.seed)
        llm = build_small_llm(len(tokenizer), width, n_layers, n_heads)
        ids, answer_at = encode_lines(tokenizer, read)
        log = fit(
            llm, len(ids), _batch_maker(ids, answer_at), line_loss, settings, folder / "training",
            lambda model: held_out_scores(model, tokenizer, held_out, settings.seed),
            fingerprint=text, batches=_by_length(ids, settings),
        )  # fmt: skip
        if log.finished and not (folder / "model" / "config.json").exists():
            transformers.logging.disable_progress_bar()
            with runtime.replacing_folder(folder / "model") as place:
                llm.save_pretrained(place)
                tokenizer.save_pretrained(place)
    return tokenizer, llm.requires_grad_(False).eval(), log


def _batch_maker(ids: Tensor, answer_at: Tensor):
    n_tokens = (ids != IGNORE).sum(1)

    def make_batch(indices, rng):
        rows = ids[indices, : int(n_tokens[indices].max())]
        in_full = torch.from_numpy(rng.random(len(indices)) < TEXT_SHARE)
        in_full |= answer_at[indices] == n_tokens[indices]  # a note has no other words
        return {"ids": rows, "answer_at": answer_at[indices], "in_full": in_full}

    return make_batch


def _by_length(ids: Tensor, settings: TrainSettings):
    """Batches of lines of nearly one length: hardly any padding."""
    length = (ids != IGNORE).sum(1).numpy()
    same = np.zeros(len(ids), dtype=int)
    return GroupedBatches(same, length, settings.batch_size, settings.n_steps, settings.seed)


# --- reading back ---------------------------------------------------------------------------------


@torch.no_grad()
def held_out_scores(
    llm, tokenizer, lines: Sequence[Line], seed: int = 0, at_once: int = 128
) -> dict[str, float]:
    """Share of exact answers on `lines`: exact and exact_swapped, and of several types also
    exact_<type> and exact_swapped_<type>.

    Swapped: with the findings of another line of the same type whose answer differs (where there is
    one), scored against the own answer.
    """
    if not lines:
        return {}
    kinds = np.array([line.kind.split("-")[-1] for line in lines])
    names = sorted(set(kinds)) if len(set(kinds)) > 1 else []
    scores = {}
    for score, chosen in (("exact", lines), ("exact_swapped", _swapped(lines, kinds, seed))):
        ids, answer_at = encode_lines(tokenizer, chosen, max_tokens=10**6)
        right = []
        for start in range(0, len(ids), at_once):
            part = slice(start, start + at_once)
            right.append(_right(llm, ids[part], answer_at[part]))
        right = torch.cat(right).numpy()
        scores[score] = float(right.mean())
        scores |= {f"{score}_{name}": float(right[kinds == name].mean()) for name in names}
    return scores


def _right(llm, ids: Tensor, answer_at: Tensor) -> Tensor:
    """Whether each line's whole answer is the argmax: (B,) bool, on the CPU."""
    device = next(llm.parameters()).device
    ids, place = ids.to(device), torch.arange(1, ids.shape[1], device=device)
    hidden = llm.model(input_ids=ids.clamp(min=0), use_cache=False).last_hidden_state[:, :-1]
    targets = ids[:, 1:]
    is_answer = (targets != IGNORE) & (place >= answer_at.to(device)[:, None])
    wrong = torch.zeros_like(is_answer)
    wrong[is_answer] = llm.lm_head(hidden[is_answer]).argmax(-1) != targets[is_answer]
    return ~wrong.any(1).cpu()


def _swapped(lines: Sequence[Line], kinds: np.ndarray, seed: int) -> list[Line]:
    """Each line with the findings of another one of its kind and another answer, if any."""
    rng, said = np.random.default_rng(seed), np.array([line.answer for line in lines])
    swapped = []
    for line, kind, own in zip(lines, kinds, said, strict=True):
        others = np.flatnonzero((kinds == kind) & (said != own))
        donor = lines[rng.choice(others)] if len(others) else line
        swapped.append(dataclasses.replace(line, findings=donor.findings))
    return swapped


def _tokenizer(lines: Sequence[Line | Note], vocab_size: int, terms: Sequence[str], folder: Path):
    from transformers import AutoTokenizer

    saved = folder / "model"
    if (saved / "config.json").exists():
        return AutoTokenizer.from_pretrained(saved, local_files_only=True)
    texts = ("".join(line.parts()) for line in lines)
    return train_tokenizer(texts, vocab_size, single_names(terms))
