"""What an answer rests on: attention from its tokens to soft tokens and words, and which second of
the strip moves its probability.

Attention is read, not inferred: it says where a layer looks, not what decides. Deletion does the
latter: it measures how far the answer's probability falls when a stretch of the ECG is taken out.

Letters: Y layers, H heads, A answer tokens, N places of the whole sequence, P soft tokens, W
windows, C leads.

Usage:

    seen = answer_attention(reader, prefix, question, "yes")       # prefix (P, D)
    seen.weights, seen.columns, seen.parts                         # (Y, H, A, N), N names, N parts
    seen = ask_attention(answerer, record, question)
    found = ecg_time_relevance(answerer, record, question)         # found.drop (W,) or (C, W)
"""

from __future__ import annotations

import contextlib
import dataclasses

import numpy as np
import torch
from torch import Tensor

from ecgkit.models.prefix_llm import PrefixLLM, normalise
from ecgkit.tasks.ask import Answerer
from ecgkit.tasks.ask_kinds import guessed_candidates, recognise, spell_out
from ecgkit.types import DataError, ECGRecord, ModelError

PARTS = ("start", "question", "ECG", "prompt", "answer")


@dataclasses.dataclass(frozen=True)
class AnswerAttention:
    """`weights` (Y, H, A, N): row a is where the model looks when it writes answer token a; each
    row sums to 1. `rows` and `columns` name tokens; `parts` says for each place which of PARTS it
    is of.
    """

    weights: np.ndarray
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    parts: tuple[str, ...]

    def by_part(self) -> dict[str, np.ndarray]:
        """Part -> share of attention (Y, H), mean over the answer's tokens; shares sum to 1."""
        where = np.array(self.parts)
        return {
            part: self.weights[..., where == part].sum(-1).mean(-1)
            for part in PARTS
            if (where == part).any()
        }


@torch.no_grad()
def answer_attention(
    reader: PrefixLLM, prefix: Tensor, question: str, answer: str
) -> AnswerAttention:
    """Attention of the frozen model while it writes `answer` after question and soft tokens.

    prefix (P, D): of one ECG. The whole sequence runs once, without a memory, in the reader's own
    order. Raises ModelError for a model that gives no attention (state-space layers).
    """
    before, after = reader.wording.pieces(question)
    said = [*reader.wording.answer(normalise(answer)), reader.wording.eos]
    words = reader.llm.get_input_embeddings()

    def embed(ids: list[int]) -> Tensor:
        return words(torch.tensor(ids, device=reader.device).long())

    soft = prefix.to(reader.device, words.weight.dtype)
    inputs = torch.cat([embed(before), soft, embed(after), embed(said[:-1])])  # (N, D)
    weights = _attention(reader.llm, inputs)[:, :, -len(said) :]  # the place before token a
    named = [(_say(reader, i), part) for ids, part in _pieces(reader, before, after, said)
             for i in ids]  # fmt: skip
    cut = len(before)
    ecg = [(f"ECG {i + 1}", "ECG") for i in range(len(prefix))]
    columns, parts = zip(*[*named[:cut], *ecg, *named[cut:]], strict=True)
    rows = [_say(reader, i) for i in said[:-1]] + ["(end)"]
    return AnswerAttention(weights, tuple(rows), columns, parts)


@torch.no_grad()
def released_attention(
    reader: PrefixLLM, prefix: Tensor, question: str, answer: str
) -> AnswerAttention:
    """The same in the released layout: soft tokens, then the question, on whose first tokens the
    answer is read. Places that a row cannot see have weight 0.
    """
    ids, targets = reader.encode_reference([question], [answer])
    words = reader.llm.get_input_embeddings()(ids[0])
    soft = prefix.to(reader.device, words.dtype)
    first, said = len(prefix) - 1, targets[0].tolist()
    weights = _attention(reader.llm, torch.cat([soft, words]))[:, :, first : first + len(said)]
    ecg = [f"ECG {i + 1}" for i in range(len(prefix))]
    names = [*ecg, *(_say(reader, i) for i in ids[0].tolist())]
    parts = ["ECG"] * len(ecg) + ["question"] * (len(names) - len(ecg))
    rows = [_say(reader, i) for i in said]
    return AnswerAttention(weights, tuple(rows), tuple(names), tuple(parts))


def _attention(llm, inputs: Tensor) -> np.ndarray:
    """(Y, H, N, N) of one sequence (N, D)."""
    with _eager(llm):
        out = llm(inputs_embeds=inputs[None], output_attentions=True, use_cache=False)
    if not out.attentions or out.attentions[0] is None:
        raise ModelError(f"{type(llm).__name__} gives no attention; choose another LLM.")
    return torch.stack([layer[0] for layer in out.attentions]).float().cpu().numpy()


def _pieces(reader: PrefixLLM, before, after, said) -> list[tuple[list[int], str]]:
    """Token ids in order with their part; the piece that is the same for all is the prompt."""
    start = [i for i in (*before, *after)[:1] if i in reader.wording.bos]
    first, second = (before, "question"), (after, "prompt")
    if reader.prefix_first:
        first, second = (before, "prompt"), (after, "question")
    found = [first, second]
    if start:
        at = 0 if before else 1
        ids, part = found[at]
        found[at : at + 1] = [(ids[:1], "start"), (ids[1:], part)]
    return [*found, (said[:-1], "answer")]


def _say(reader: PrefixLLM, token: int) -> str:
    return reader.tokenizer.decode([token]).strip() or "·"


@contextlib.contextmanager
def _eager(llm):
    """Fused kernels do not hand out attention; the plain one does, for as long as it is asked."""
    usual = llm.config._attn_implementation
    llm.set_attn_implementation("eager")
    try:
        yield
    finally:
        llm.set_attn_implementation(usual)


def ask_attention(answerer: Answerer, record: ECGRecord, question: str) -> AnswerAttention:
    """The same for one ECG and question, with the mapper adapted and the answer it gives, in the
    layout of the run. Examples read in context are left out.
    """
    answerer = answerer.of(question)
    question = spell_out(question)
    kind, _ = recognise(question, answerer.kinds)
    prefix = answerer.prefix(answerer.embed(record), answerer.adapted(kind))
    answer = answerer.ask(record, question).answer
    look = released_attention if answerer.blind else answer_attention
    return look(answerer.reader, prefix[0], question, answer)


# --- which second ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class TimeRelevance:
    """How far the probability of `answer`, `probability` with the whole ECG, falls when a window is
    taken out: `drop` (W,), or (C, W) when each lead was taken out by itself. `seconds` of a window.
    """

    drop: np.ndarray
    answer: str
    probability: float
    seconds: float
    leads: tuple[str, ...]


def ecg_time_relevance(
    answerer: Answerer, record: ECGRecord, question: str, answer: str | None = None,
    seconds: float = 0.5, by_lead: bool = False, batch_size: int = 64,
) -> TimeRelevance:  # fmt: skip
    """Takes out one window of the strip after the other and asks again: a straight line joins what
    stands at its ends.

    answer: default the likeliest candidate. Raises DataError for a question without candidates and
    for windows that do not fit the ECG.
    """
    question, answerer = spell_out(question), answerer.of(question)
    kind, _ = recognise(question, answerer.kinds)
    candidates = guessed_candidates(question) if kind is None else kind.candidates
    if not candidates or (answer is not None and answer not in candidates):
        raise DataError(
            f"Relevance needs an answer out of a known list; {question!r} has "
            f"{', '.join(candidates) or 'none'}."
        )
    spec, signal = answerer.spec, answerer.spec.fit(record)
    duration = signal.shape[1] / spec.fs
    if not 2 / spec.fs <= seconds <= duration / 2:
        raise DataError(
            f"A window of {seconds:g} s does not fit an ECG of {duration:g} s at {spec.fs:g} Hz."
        )
    windows = _without_windows(signal, round(seconds * spec.fs), by_lead)
    features = torch.cat(
        [answerer.encode(signal[None])]
        + [answerer.encode(windows[i : i + batch_size]) for i in range(0, len(windows), batch_size)]
    )
    params, context = answerer.adapted(kind), answerer.context(kind)
    prefix = answerer.prefix(features, params)
    answer = answer or answerer.shares(question, prefix[:1], candidates, context)[0][0]
    shares = answerer.probability(question, prefix, answer, candidates, context)
    drop = shares[0] - shares[1:]
    if by_lead:
        drop = drop.reshape(len(spec.leads), -1)
    return TimeRelevance(drop, answer, float(shares[0]), seconds, tuple(spec.leads))


def _without_windows(signal: np.ndarray, width: int, by_lead: bool) -> np.ndarray:
    """(C, T) -> (W, C, T), or (C * W, C, T): each with one window drawn over by a straight line."""
    n_leads, n_samples = signal.shape
    groups = [[lead] for lead in range(n_leads)] if by_lead else [list(range(n_leads))]
    found = []
    for leads in groups:
        for start in range(0, n_samples, width):
            stop = min(start + width, n_samples)
            changed = signal.copy()
            left, right = signal[leads, max(start - 1, 0)], signal[leads, min(stop, n_samples - 1)]
            steps = np.linspace(0, 1, stop - start)
            changed[leads, start:stop] = left[:, None] + (right - left)[:, None] * steps
            found.append(changed)
    return np.stack(found)
