"""A frozen language model that reads an ECG as soft tokens, in two layouts.

- sound: `<s>Question: ... ECG: [P soft tokens] Answer: yes</s>`. The answer sees question and ECG,
  and the model learns to stop.
- reference: `[P soft tokens] <s>Question: ... Answer:`, as released with Tang et al. (2025). The
  answer is read on top of the question's first tokens, so under causal attention it cannot depend
  on the question.

In the sound layout what the model makes of a question does not depend on the ECG, so its keys and
values are computed once per question (`read_questions`) and reused at every inner step; only soft
tokens, " Answer:" and the answer run again.

Usage:
    reader = PrefixLLM(llm, tokenizer)
    memory = reader.read_questions(["Does this ECG show atrial fibrillation?"])
    logits = reader(memory, prefix, reader.encode_answers(["yes"]))    # (B, A, V)
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

QUESTION, BRIDGE, ANSWER = "Question: {} ECG:", " Answer:", " {}"
REFERENCE_QUESTION = "Question: {}Answer: "  # the released prompt 1, its missing space included
IGNORE = -100  # a target that is padding


@dataclasses.dataclass(frozen=True)
class QuestionMemory:
    """Keys and values of each layer, 2 x (B, heads, L, width of a head), and which of the L places
    are words (B, L).
    """

    layers: tuple[tuple[Tensor, Tensor], ...]
    mask: Tensor

    def select(self, rows: Tensor) -> QuestionMemory:
        """The memories of `rows` (B,), repeats allowed."""
        return QuestionMemory(tuple((k[rows], v[rows]) for k, v in self.layers), self.mask[rows])

    def cache(self):
        """A fresh cache as transformers wants it; it grows by new tensors, so this memory stays as
        it is.
        """
        from transformers import DynamicCache

        cache = DynamicCache()
        for layer, (keys, values) in enumerate(self.layers):
            cache.update(keys, values, layer)
        return cache


class PrefixLLM(nn.Module):
    """A frozen causal language model with the layout's text pieces. D is its width, P the number of
    soft tokens.
    """

    def __init__(self, llm: nn.Module, tokenizer):
        super().__init__()
        self.llm, self.tokenizer = llm.requires_grad_(False).eval(), tokenizer
        self.bridge = self._ids(BRIDGE)

    @property
    def width(self) -> int:
        return self.llm.get_input_embeddings().weight.shape[1]

    @property
    def device(self) -> torch.device:
        return self.llm.get_input_embeddings().weight.device

    # --- text -> ids ------------------------------------------------------------------------------

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _bos(self) -> list[int]:
        return [] if self.tokenizer.bos_token_id is None else [self.tokenizer.bos_token_id]

    def encode_questions(self, questions: list[str]) -> tuple[Tensor, Tensor]:
        """Token ids and mask, both (B, L), right-padded: `<s>Question: ... ECG:`."""
        rows = [self._bos() + self._ids(QUESTION.format(q)) for q in questions]
        ids = _pad(rows, self.tokenizer.pad_token_id)
        lengths = torch.tensor([len(r) for r in rows])
        return ids.to(self.device), (torch.arange(ids.shape[1]) < lengths[:, None]).to(self.device)

    def encode_answers(self, answers: list[str]) -> Tensor:
        """Targets (B, A): the answer's tokens and the end of text, then IGNORE."""
        rows = [
            self._ids(ANSWER.format(normalise(a))) + [self.tokenizer.eos_token_id] for a in answers
        ]
        return _pad(rows, IGNORE).to(self.device)

    # --- sound layout -----------------------------------------------------------------------------

    def read_questions(self, questions: list[str]) -> QuestionMemory:
        """What the frozen model keeps of each question; independent of ECG and mapper."""
        return self.read_ids(*self.encode_questions(questions))

    @torch.no_grad()
    def read_ids(self, ids: Tensor, mask: Tensor) -> QuestionMemory:
        """The same from token ids and mask (B, L), right-padded."""
        out = self.llm.get_decoder()(input_ids=ids, attention_mask=mask.long(), use_cache=True)
        layers = tuple((layer.keys, layer.values) for layer in out.past_key_values.layers)
        return QuestionMemory(layers, mask)

    def forward(self, memory: QuestionMemory, prefix: Tensor, targets: Tensor) -> Tensor:
        """prefix (B, P, D), targets (B, A) -> logits (B, A, V) of each target given the true ones
        before it.
        """
        words = torch.tensor(self.bridge, device=prefix.device).expand(len(prefix), -1)
        words = torch.cat(
            [words, targets[:, :-1].clamp(min=0)], dim=1
        )  # (B, W): the last target is never read
        embedded = self.llm.get_input_embeddings()(words)
        inputs = torch.cat([prefix.to(embedded.dtype), embedded], dim=1)  # (B, P + W, D)
        n_new = inputs.shape[1]
        positions = memory.mask.sum(1, keepdim=True) + torch.arange(n_new, device=prefix.device)
        mask = F.pad(
            memory.mask.long(), (0, n_new), value=1
        )  # (B, L + P + W); padding of later answers is never scored
        out = self.llm(
            inputs_embeds=inputs,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=memory.cache(),
            use_cache=True,
            logits_to_keep=targets.shape[1],
        )
        return out.logits.float()

    @torch.no_grad()
    def generate(self, memory: QuestionMemory, prefix: Tensor, max_tokens: int = 8) -> list[str]:
        """Greedy answers, each up to its end-of-text token: prefix (B, P, D) -> B strings, lower
        case, stripped.
        """
        eos, n = self.tokenizer.eos_token_id, len(prefix)
        said = torch.full(
            (n, 1), IGNORE, device=prefix.device
        )  # one place ahead, never read by forward
        done = torch.zeros(n, dtype=torch.bool, device=prefix.device)
        for _ in range(max_tokens):
            following = self(memory, prefix, said)[:, -1].argmax(-1)  # (B,)
            following[done] = eos
            said = torch.cat([said[:, :-1], following[:, None], said[:, -1:]], dim=1)
            done |= following == eos
            if done.all():
                break
        return [
            normalise(self.tokenizer.decode([i for i in row if i != eos]))
            for row in said[:, :-1].tolist()
        ]

    # --- reference layout -------------------------------------------------------------------------

    def encode_reference(
        self, questions: list[str], answers: list[str], length: int = 30
    ) -> tuple[Tensor, Tensor]:
        """Question ids (B, length), cut or padded with end-of-text, and targets (B, A) that begin
        with <s>.
        """
        eos = self.tokenizer.eos_token_id
        rows = [(self._bos() + self._ids(REFERENCE_QUESTION.format(q)))[:length] for q in questions]
        ids = torch.tensor([r + [eos] * (length - len(r)) for r in rows], device=self.device)
        return ids, _pad([self._bos() + self._ids(a.lower()) for a in answers], IGNORE).to(
            self.device
        )

    def reference_logits(
        self, prefix: Tensor, question_ids: Tensor, n_answer: int, trim: bool = True
    ) -> Tensor:
        """Logits (B, n_answer, V) at positions P-1, P, ...: on top of the question, whose later
        tokens cannot matter.

        `trim` leaves out the tokens that causal attention hides from those positions; the logits
        are the same.
        """
        words = question_ids[:, : n_answer - 1] if trim else question_ids
        embedded = self.llm.get_input_embeddings()(words)
        inputs = torch.cat([prefix.to(embedded.dtype), embedded], dim=1)
        logits = self.llm(inputs_embeds=inputs, use_cache=False).logits
        first = prefix.shape[1] - 1
        return logits[:, first : first + n_answer].float()


def normalise(answer: str) -> str:
    """Lower case, single spaces, no closing full stop."""
    return " ".join(answer.lower().split()).rstrip(".")


def token_scores(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Per row: `loss` mean cross-entropy over its targets, `log_likelihood` their sum, `exact` all
    of them the argmax.

    logits (B, A, V), targets (B, A) with IGNORE. With the end of text among the targets, `exact` is
    1 exactly when greedy decoding would write the answer and stop, so no decoding is needed to
    score it.
    """
    real = targets != IGNORE
    nll = F.cross_entropy(
        logits.transpose(1, 2), targets, ignore_index=IGNORE, reduction="none"
    )  # (B, A)
    right = (logits.argmax(-1) == targets) | ~real
    tokens = (right & real).sum(1) / real.sum(1)
    return {
        "loss": nll.sum(1) / real.sum(1),
        "log_likelihood": -nll.sum(1),
        "exact": right.all(1),
        "tokens": tokens,
    }


def _pad(rows: list[list[int]], value: int) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([r + [value] * (longest - len(r)) for r in rows])
