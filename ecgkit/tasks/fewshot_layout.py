"""What the frozen reader sees of question and answer, and what counts as the answer: the part of a
protocol that needs no ECG.

Sound: the question, the ECG, then the answer with its end of text. Three faults of the released
code change that, each by itself:
- question_blind: the ECG first, and the answer read on top of the question's first tokens, which
  under causal attention hides the question from a short answer;
- oracle_length: the true answer's length is given, so the end of text is no part of the answer;
- bos_scored: the tokenizer's start token is the answer's first token, and is scored.
Source: Tang et al., CHIL 2025, and its released code.

Letters: R rows, L tokens of a question, A of an answer, P soft tokens, D width, V vocabulary.

Usage:

    layout = Layout(reader, frozenset(), ["Is the rhythm sinus?"], ["yes", "no"])
    memory = layout.remember(torch.tensor([0]))
    logits = layout.logits(memory, prefix, layout.targets[[0]])          # (1, A, V)
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ecgkit.config.fewshot import QUIRKS
from ecgkit.models.prefix_llm import IGNORE, PrefixLLM, normalise
from ecgkit.types import ConfigError


def resolve_quirks(protocol: str, quirks: Iterable[str] | None = None) -> frozenset[str]:
    """The faults to repeat: those given, else all of them under `reference` and none under `sound`.

    Raises ConfigError for a name that is no protocol or no quirk.
    """
    if protocol not in ("sound", "reference"):
        raise ConfigError(f"PROTOCOL is {protocol!r}; choose sound or reference.")
    if quirks is None:
        return frozenset(QUIRKS if protocol == "reference" else ())
    unknown = set(quirks) - set(QUIRKS)
    if unknown:
        raise ConfigError(
            f"QUIRKS names {', '.join(sorted(unknown))}; there are {', '.join(QUIRKS)}."
        )
    return frozenset(quirks)


def mapper_kind(config) -> str:
    """The mapper that is built: under `mapper_ignored` the attention mapper, whatever is asked."""
    return "attention" if "mapper_ignored" in config.active_quirks else config.mapper


def check_quirks(config) -> None:
    """Refuses settings that contradict the quirks of this run. Raises ConfigError, naming both."""
    quirks = config.active_quirks
    if "live_dropout" in quirks and mapper_kind(config) == "linear":
        raise ConfigError(
            "QUIRKS keeps live_dropout, but MAPPER=linear has no dropout; leave one of them out."
        )
    if "untrained_mapper" in quirks and config.mapper_from:
        raise ConfigError(
            "MAPPER_FROM gives a trained mapper, but the quirk untrained_mapper would evaluate a "
            "random one; name in QUIRKS those you want, without it."
        )
    if "question_blind" in quirks and config.method == "in-context":
        raise ConfigError(
            "METHOD=in-context puts examples before the question, but the quirk question_blind "
            "puts nothing there; leave question_blind out of QUIRKS or choose another METHOD."
        )
    if "shared_classes" in quirks and config.split_by in ("attribute", "class"):
        raise ConfigError(
            f"SPLIT_BY={config.split_by} keeps test classes apart and the quirk shared_classes "
            "does not; leave it out of QUIRKS, or SPLIT_BY empty."
        )


class Layout:
    """Questions and answers as tokens, read in the order and up to the end that `quirks` say.

    `targets` (answers, A): what is scored of each answer, then IGNORE. `fits` (answers,): whether
    all of it is at most `max_answer` tokens; longer ones are cut and should be left out.
    Raises ConfigError where the reader's own order or the lengths contradict the quirks.
    """

    def __init__(
        self, reader: PrefixLLM, quirks: frozenset[str], texts: list[str], answers: list[str],
        max_question: int = 30, max_answer: int = 30,
    ):  # fmt: skip
        self.reader, self.max_answer = reader, max_answer
        self.blind, self.given_length = "question_blind" in quirks, "oracle_length" in quirks
        # Released: where the tokenizer has no start token of its own there is none to score.
        self.end, self.start = reader.wording.eos, reader.wording.reference_bos
        self.scores_start = "bos_scored" in quirks and bool(self.start)
        if self.blind:
            self._refuse_other_orders()
            self.ids, self.mask = reader.encode_reference(texts, answers, max_question)[0], None
        else:
            self.ids, self.mask = reader.encode_questions(texts)
        self.targets, self.fits = self._targets(texts, answers)
        if self.blind and self.targets.shape[1] > max_question:
            raise ConfigError(
                f"MAX_QUESTION ({max_question}) is less than an answer of {self.targets.shape[1]} "
                "tokens, which question_blind reads on top of the question; raise it."
            )

    def _refuse_other_orders(self) -> None:
        if self.reader.prefix_first or self.reader.wording.prompt == "chat":
            raise ConfigError(
                "The quirk question_blind has the released order of ECG and question; it goes with "
                "neither PREFIX_FIRST nor PROMPT=chat. Leave question_blind out of QUIRKS."
            )

    def _targets(self, texts: list[str], answers: list[str]) -> tuple[Tensor, Tensor]:
        """`targets` and `fits`."""
        targets, fits = self._bare_answers(texts, answers)
        if self.scores_start:
            targets = torch.cat([torch.full_like(targets[:, :1], self.start[0]), targets], dim=1)
        if not self.given_length:
            targets = _append(targets, self.end)
        fits &= (targets != IGNORE).sum(1) <= self.max_answer
        return targets[:, : self.max_answer], fits

    def _bare_answers(self, texts: list[str], answers: list[str]) -> tuple[Tensor, Tensor]:
        """Answers without start and end, in the spelling of this layout: tokens (answers, A), and
        which of them the reader takes. One it refuses is replaced by nothing.
        """
        fits = torch.ones(len(answers), dtype=torch.bool, device=self.reader.device)
        if self.blind:
            return self.reader.encode_reference(texts, answers)[1][:, len(self.start) :], fits
        fits[self.reader.too_long(answers)] = False
        taken = [a if fit else "" for a, fit in zip(answers, fits.tolist(), strict=True)]
        targets = self.reader.encode_answers(taken)
        last = (targets != IGNORE).sum(1, keepdim=True) - 1
        return targets.scatter(1, last, IGNORE), fits

    # --- reading ----------------------------------------------------------------------------------

    def remember(self, text: Tensor):
        """What the reader keeps of questions `text` (R,): keys and values, each distinct question
        read once; under question_blind its token ids.
        """
        if self.blind:
            return self.ids[text]
        unique, place = text.unique(return_inverse=True)
        mask = self.mask[unique]
        longest = int(mask.sum(1).max())
        memory = self.reader.read_ids(self.ids[unique, :longest], mask[:, :longest])
        return memory.select(place)

    def select(self, memory, rows: Tensor):
        """The memory of `rows`, repeats allowed."""
        return memory[rows] if isinstance(memory, Tensor) else memory.select(rows)

    def logits(self, memory, prefix: Tensor, targets: Tensor) -> Tensor:
        """Logits (R, A, V) of targets (R, A) after soft tokens (R, P, D)."""
        if self.blind:
            return self.reader.reference_logits(prefix, memory, targets.shape[1])
        return self.reader(memory, prefix, targets)

    @torch.no_grad()
    def words(self, memory, prefix: Tensor, targets: Tensor) -> list[str]:
        """Greedy answers (R,) of soft tokens (R, P, D), up to their own end of text, or under
        oracle_length as long as the true answer `targets` (R, A).
        """
        if not (self.blind or self.given_length or self.scores_start):
            return self.reader.generate(memory, prefix, self.max_answer)
        n = targets.shape[1] if self.given_length else self.max_answer
        said = self._greedy(memory, prefix, n)
        if self.given_length:
            said = said.masked_fill(targets == IGNORE, self.end)
        return [self._decode(row) for row in said.tolist()]

    def _greedy(self, memory, prefix: Tensor, n: int) -> Tensor:
        """Token ids (R, n), each the likeliest after the ones before it."""
        said = torch.full((len(prefix), n), self.end, device=prefix.device)
        if self.blind:  # nothing of an answer is ever fed back
            return self.logits(memory, prefix, said).argmax(-1)
        for i in range(n):
            said[:, i] = self.logits(memory, prefix, said[:, : i + 1])[:, -1].argmax(-1)
        return said

    def _decode(self, row: list[int]) -> str:
        row = [token for token in row if token not in self.start]
        stop = row.index(self.end) if self.end in row else len(row)
        return normalise(self.reader.tokenizer.decode(row[:stop]))


def _append(targets: Tensor, token: int) -> Tensor:
    """(R, A) with IGNORE at the end -> (R, A + 1), `token` after each row's last."""
    longer = torch.cat([targets, torch.full_like(targets[:, :1], IGNORE)], dim=1)
    return longer.scatter(1, (targets != IGNORE).sum(1, keepdim=True), token)
