"""Trains the small Llama in place, on text alone, so that it can answer from a findings sentence.

A language model that had never read "atrial flutter" could not be told about it by an
ECG. The published work takes Llama-3.1-8B, which has read everything; ours is trained here, in
seconds, on lines made from the training folds:

    <s>Question: Is atrial flutter seen? ECG: atrial flutter, q waves. Answer: yes</s>

The findings sentence is written from the record's own codes and stands where the soft tokens will
stand, so "yes" must be read from the context. What it has seen: the words of all attributes (as any
real language model has), never a signal.

Usage:
    lines, held_out, terms = question_lines(questions, cohort, "single-verify", n_lines=19_200)
    tokenizer, llm, log = pretrain_llm(lines, held_out, 192, 2, 4, 600, settings, terms)
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from ecgkit import runtime
from ecgkit.config import short_hash
from ecgkit.data.qa_facts import PRESENT, read_facts
from ecgkit.models.prefix_llm import ANSWER, BRIDGE, IGNORE, QUESTION, normalise
from ecgkit.models.small_llm import build_small_llm, train_tokenizer
from ecgkit.tasks.engine import TrainSettings, fit
from ecgkit.types import DataError

NOTHING = "nothing to report."
TEXT_WEIGHT = (
    0.1  # against the answer's cross-entropy: most words of a line are chance, the answer is not
)


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of text to learn from."""

    question: str
    findings: str
    answer: str

    def pieces(self) -> tuple[str, str]:
        """The text up to and with " Answer:", and the answer."""
        return QUESTION.format(self.question) + " " + self.findings + BRIDGE, ANSWER.format(
            normalise(self.answer)
        )


def question_lines(
    questions, cohort, question_type: str, n_lines: int, seed: int = 0, n_held_out: int = 256
):
    """Returns (lines, held-out lines, terms) made of the training split's questions of one type.

    The asked attribute and the answer are drawn evenly; a wording is one the split has for that
    question; the findings are one or two that the record's own table row or answers state, the
    asked one among them where the answer is yes. Held-out lines are about other records. Raises
    DataError when the split has no such question.
    """
    asked = _asked(questions, question_type)
    if asked.empty:
        raise DataError(
            f"The training split has no {question_type} question to make the language model's "
            "text from; give "
            "more of ECG-QA or choose another QUESTION_TYPE."
        )
    terms = sorted({name for names in asked["positive"] for name in names})
    found = _findings(asked, cohort, terms)
    groups = [group for _, group in asked.groupby(["key", "said"])]
    n_said = asked.groupby("key")["said"].nunique()
    groups = [
        g for g in groups if n_said[g["key"].iloc[0]] > 1
    ] or groups  # a question with one answer teaches nothing
    rng = np.random.default_rng(seed)
    records = asked["row1"].unique()
    apart = set(rng.permutation(records)[: max(1, len(records) // 20)].tolist())
    per_group = -(-(n_lines + 2 * n_held_out) // len(groups))
    drawn = pd.concat([g.iloc[rng.integers(len(g), size=per_group)] for g in groups])
    lines, held_out = [], []
    for row in drawn.iloc[rng.permutation(len(drawn))].itertuples():
        target = held_out if row.row1 in apart else lines
        target.append(Line(row.question, _sentence(row, found[row.row1], rng), row.said))
    return lines[:n_lines], held_out[:n_held_out], terms


def _findings(asked: pd.DataFrame, cohort, terms: list[str]) -> dict[int, list[str]]:
    """Record -> what its table row (codes, notes) and its answers say it has, as far as some
    question is about it.
    """
    answered = asked.groupby("row1")["positive"].agg(
        lambda column: {name for names in column for name in names}
    )
    facts = read_facts(cohort.table, cohort.truth)
    states = {name: facts.state[name] for name in terms if name in facts.state}
    return {
        row: sorted(said | {name for name, state in states.items() if state[row] == PRESENT})
        for row, said in answered.items()
    }


def _asked(questions, question_type: str) -> pd.DataFrame:
    """Training questions about one ECG: row1, question, key (template and attribute), said,
    positive (names found).
    """
    table = questions.table.loc[questions.index("train", question_type, single_only=True)]
    table = table[table["answer"].map(lambda answer: answer != ["not sure"])]
    positive = [
        _found(*row) for row in table[["attribute", "question", "answer"]].itertuples(index=False)
    ]
    key = table["template_id"].astype(str) + " " + table["attribute"].map(str)
    said = table["answer"].map(", ".join)
    return pd.DataFrame(
        {
            "row1": table["row1"],
            "question": table["question"],
            "key": key,
            "said": said,
            "positive": positive,
        }
    )


def _found(attribute, question: str, answer: list[str]) -> tuple[str, ...]:
    """What a question and its answer say is there: the asked attribute if "yes", else the answers
    themselves.
    """
    if answer in (["yes"], ["no"]):
        names = [", ".join(attribute or [])] if answer == ["yes"] else []
    else:
        names = [name for name in answer if name != "none"]
    lead = re.search(r"\blead (aV[RLF]|V[1-6]|I{1,3})\b", question, re.IGNORECASE)
    return tuple(
        f"{name} in {lead.group(0)}" if lead and "lead" not in name else name for name in names
    )


def _sentence(row, found: list[str], rng: np.random.Generator) -> str:
    """One or two findings, as often for "no" as for "yes": their number gives nothing away."""
    others = [name for name in found if name not in row.positive]
    n_others = max(0, rng.choice([1, 1, 2]) - len(row.positive))
    chosen = [*row.positive, *rng.permutation(others)[:n_others]]
    return ", ".join(rng.permutation(chosen)) + "." if chosen else NOTHING


def encode_lines(tokenizer, lines: Sequence[Line], max_tokens: int = 160) -> tuple[Tensor, Tensor]:
    """Token ids (n, L), padded with IGNORE, and the position (n,) of each answer's first token.

    Each piece is tokenised by itself, as the reader does, so that the answer's tokens are the same
    with soft tokens.
    """
    heads, answers = zip(*(line.pieces() for line in lines), strict=True)
    prompts = [QUESTION.format(line.question) for line in lines]
    middles = [head[len(p) : -len(BRIDGE)] for head, p in zip(heads, prompts, strict=True)]
    ids = [
        tokenizer(list(part), add_special_tokens=False)["input_ids"]
        for part in (prompts, middles, answers)
    ]
    bridge = tokenizer(BRIDGE, add_special_tokens=False)["input_ids"]
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    heads = [[bos, *a, *b, *bridge] for a, b in zip(ids[0], ids[1], strict=True)]
    rows = [(h + a + [eos]) for h, a in zip(heads, ids[2], strict=True)]
    keep = [i for i, row in enumerate(rows) if len(row) <= max_tokens]
    if not keep:
        raise DataError(
            f"No line of the language model's text fits {max_tokens} tokens; shorten the "
            "findings sentences."
        )
    longest = max(len(rows[i]) for i in keep)
    matrix = np.full((len(keep), longest), IGNORE, dtype=np.int64)
    for place, i in enumerate(keep):
        matrix[place, : len(rows[i])] = rows[i]
    return torch.from_numpy(matrix), torch.tensor([len(heads[i]) for i in keep])


def line_loss(llm, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Next-token cross-entropy: over the answer ("answer"), over the whole line ("text"), and
    "loss", answer + 0.1 text.

    ids (B, L) with IGNORE as padding, answer_at (B,).
    """
    ids, answer_at = batch["ids"], batch["answer_at"]
    real = ids != IGNORE
    logits = (
        llm(input_ids=ids.clamp(min=0), attention_mask=real.long(), use_cache=False)
        .logits[:, :-1]
        .float()
    )
    targets = ids[:, 1:]
    nll = F.cross_entropy(
        logits.transpose(1, 2), targets, ignore_index=IGNORE, reduction="none"
    )  # (B, L-1)
    is_answer = real[:, 1:] & (
        torch.arange(1, ids.shape[1], device=ids.device) >= answer_at[:, None]
    )
    text = nll.sum() / real[:, 1:].sum()
    answer = nll[is_answer].mean()
    wrong = ((logits.argmax(-1) != targets) & is_answer).any(1)
    return {
        "loss": TEXT_WEIGHT * text + answer,
        "text": text,
        "answer": answer,
        "exact": 1 - wrong.float().mean(),
    }


def pretrain_llm(
    lines: Sequence[Line],
    held_out: Sequence[Line],
    width: int,
    n_layers: int,
    n_heads: int,
    vocab_size: int,
    settings: TrainSettings,
    terms: Sequence[str] = (),
):
    """Returns (tokenizer, llm, log); a model already trained on the same text with the same
    settings is loaded instead.

    The key of the cached folder is a hash of text, sizes and settings. `held_out` lines are scored
    at the end, once as they are and once with findings sentences swapped between lines
    (`eval_exact`, `eval_exact_swapped`): a model that reads its context loses on the second.
    """
    size = {
        "width": width,
        "n_layers": n_layers,
        "n_heads": n_heads,
        "vocab_size": vocab_size,
        "terms": sorted(terms),
    }
    text = short_hash([dataclasses.astuple(line) for line in (*lines, *held_out)])
    portable = {
        k: v
        for k, v in dataclasses.asdict(settings).items()
        if k not in ("device", "time_budget_s", "log_every", "checkpoint_every")
    }
    folder = runtime.cache_dir() / "small_llm" / short_hash([text, size, portable])
    tokenizer = _tokenizer(lines, vocab_size, terms, folder)
    torch.manual_seed(settings.seed)
    llm = build_small_llm(len(tokenizer), width, n_layers, n_heads)
    ids, answer_at = encode_lines(tokenizer, lines)

    def make_batch(indices, rng):
        return {"ids": _shorten(ids[indices]), "answer_at": answer_at[indices]}

    def evaluate(model):
        return held_out_scores(model, tokenizer, held_out, settings.seed)

    log = fit(
        llm,
        len(ids),
        make_batch,
        line_loss,
        settings,
        folder / "training",
        evaluate,
        fingerprint=text,
    )
    if log.finished and not (folder / "model" / "config.json").exists():
        llm.save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
    return tokenizer, llm.requires_grad_(False).eval(), log


@torch.no_grad()
def held_out_scores(llm, tokenizer, lines: Sequence[Line], seed: int = 0) -> dict[str, float]:
    """Exact answers on `lines`, with their own findings sentence and with one of another line whose
    answer differs.
    """
    if not lines:
        return {}
    order = np.random.default_rng(seed).permutation(len(lines))
    swapped = [
        dataclasses.replace(line, findings=lines[j].findings)
        for line, j in zip(lines, order, strict=True)
    ]
    scores = {}
    for name, chosen in (("exact", lines), ("exact_swapped", swapped)):
        ids, answer_at = encode_lines(tokenizer, chosen)
        device = next(llm.parameters()).device
        batch = {"ids": ids.to(device), "answer_at": answer_at.to(device)}
        scores[name] = float(line_loss(llm, batch)["exact"])
    return scores


def _tokenizer(lines: Sequence[Line], vocab_size: int, terms: Sequence[str], folder: Path):
    from transformers import AutoTokenizer

    saved = folder / "model"
    if (saved / "config.json").exists():
        return AutoTokenizer.from_pretrained(saved, local_files_only=True)
    return train_tokenizer(("".join(line.pieces()) for line in lines), vocab_size, terms)


def _shorten(ids: Tensor) -> Tensor:
    """Cuts the padding all rows share."""
    return ids[:, : int((ids != IGNORE).sum(1).max())]
