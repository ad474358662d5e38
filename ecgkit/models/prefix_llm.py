"""A frozen language model that reads an ECG as soft tokens, in two layouts.

- sound: `<s>Question: ... ECG: [P soft tokens] Answer: yes</s>`. The answer sees question and ECG,
  and the model learns to stop. `prefix_first` puts the soft tokens in front, as the paper draws it.
- reference: `[P soft tokens] <s>Question: ... Answer:`, as released with Tang et al. (2025). The
  answer is read on top of the question's first tokens, so under causal attention it cannot depend
  on the question.

With the question first, what the model makes of it does not depend on the ECG: its keys and values
are computed once per question (`read_questions`) and reused at every inner step; only soft tokens,
" Answer:" and the answer run again. With the soft tokens first nothing can be kept, and the memory
carries the question's ids.

Any causal language model of transformers that keeps keys and values will do (Llama, Gemma, Qwen,
GPT-2, Phi). It may be in half precision: soft tokens are cast where they enter, logits come out in
float32, and only those of answer tokens are computed.

Usage:

    reader = PrefixLLM(llm, tokenizer)
    memory = reader.read_questions(["Does this ECG show atrial fibrillation?"])
    logits = reader(memory, prefix, reader.encode_answers(["yes"]))    # (B, A, V)
    context = reader.read_examples(questions, prefix, answers)         # in-context examples
    memory = reader.read_questions(["Is it normal?"], after=context)
"""

from __future__ import annotations

import inspect
import warnings

import torch
from torch import Tensor, nn

from ecgkit.models.losses_fewshot import IGNORE, token_scores
from ecgkit.models.prefix_prompts import (
    ANSWER,
    BRIDGE,
    QUESTION,
    REFERENCE,
    Wording,
    normalise,
)
from ecgkit.models.question_memory import QuestionMemory, to_the_right
from ecgkit.types import ConfigError, ModelError

__all__ = ["ANSWER", "BRIDGE", "IGNORE", "QUESTION", "REFERENCE_QUESTION", "PrefixLLM",
           "QuestionMemory", "normalise", "token_scores"]  # fmt: skip

REFERENCE_QUESTION = REFERENCE["1"]  # the released prompt 1, its missing space included
_KEPT = {"full_attention", "sliding_attention", "chunked_attention"}  # layers with keys and values


class PrefixLLM(nn.Module):
    """A frozen causal language model with the layout's text pieces. D is its width, P the number of
    soft tokens.

    prompt "1" | "2" | "3" | "chat" and `prefix_first`: see `prefix_prompts`. max_question: tokens
    of a question's wording at most, max_answer: of an answer with its end; 0 = no limit. LoRA
    adapters of the model (`models/lora.py`) stay trainable. Raises ModelError for a tokenizer that
    does not fit the model.
    """

    def __init__(
        self, llm: nn.Module, tokenizer, prompt: str = "1", prefix_first: bool = False,
        max_question: int = 0, max_answer: int = 0,
    ):  # fmt: skip
        super().__init__()
        for name, parameter in llm.named_parameters():
            parameter.requires_grad_("lora_" in name)
        self.llm, self.tokenizer = llm.eval(), tokenizer
        self.wording = Wording(tokenizer, prompt, prefix_first)
        self.prefix_first = prefix_first
        self.max_question, self.max_answer = max_question, max_answer
        self.bridge = [] if prefix_first else self.wording.fixed()
        self._keeps_logits = "logits_to_keep" in inspect.signature(llm.forward).parameters
        if len(tokenizer) > self._words.weight.shape[0]:
            raise ModelError(
                f"The tokenizer has {len(tokenizer)} tokens, the language model only "
                f"{self._words.weight.shape[0]}; take the tokenizer it was trained with."
            )

    @property
    def _words(self) -> nn.Module:
        return self.llm.get_input_embeddings()

    @property
    def width(self) -> int:
        return self._words.weight.shape[1]

    @property
    def device(self) -> torch.device:
        return self._words.weight.device

    @property
    def vocab_size(self) -> int:
        """V: logits per place, which may be more than the tokenizer has."""
        head = self.llm.get_output_embeddings()
        return (self._words if head is None else head).weight.shape[0]

    @property
    def max_positions(self) -> int | None:
        """Tokens the model was made for; None where it does not say."""
        config = self.llm.config.get_text_config()
        return getattr(config, "max_position_embeddings", None)

    # --- text -> ids ------------------------------------------------------------------------------

    def encode_questions(
        self, questions: list[str], after_examples: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Token ids and mask, both (B, L), right-padded: the piece that holds the question.

        A question of more than `max_question` tokens loses its first words; a warning counts them.
        """
        shorter = [self._shorten(q) for q in questions]
        n_cut = sum(a != b for a, b in zip(shorter, questions, strict=True))
        if n_cut:
            warnings.warn(
                f"{n_cut} of {len(questions)} questions have more than MAX_QUESTION "
                f"({self.max_question}) tokens; their first words are left out.",
                stacklevel=2,
            )
        rows = [self.wording.varying(q, first=not after_examples) for q in shorter]
        ids, lengths = _pad(rows, self.wording.pad), torch.tensor([len(r) for r in rows])
        return ids.to(self.device), (torch.arange(ids.shape[1]) < lengths[:, None]).to(self.device)

    def _shorten(self, question: str) -> str:
        ids = self.wording.ids(question)
        if not self.max_question or len(ids) <= self.max_question:
            return question
        return self.tokenizer.decode(ids[-self.max_question :]).strip()

    def encode_answers(self, answers: list[str]) -> Tensor:
        """Targets (B, A): the answer's tokens and the end of text, then IGNORE.

        Raises ConfigError for answers of more than `max_answer` tokens (`too_long` finds them).
        """
        long = self.too_long(answers)
        if long:
            raise ConfigError(
                f"{len(long)} of {len(answers)} answers have more than MAX_ANSWER "
                f"({self.max_answer}) tokens, e.g. {answers[long[0]][:60]!r}; raise it, or leave "
                "those questions out."
            )
        return _pad([self._answer(a) for a in answers], IGNORE).to(self.device)

    def too_long(self, answers: list[str]) -> list[int]:
        """Positions of the answers with more than `max_answer` tokens, their end included."""
        if not self.max_answer:
            return []
        return [i for i, a in enumerate(answers) if len(self._answer(a)) > self.max_answer]

    def _answer(self, answer: str) -> list[int]:
        return [*self.wording.answer(normalise(answer)), self.wording.eos]

    # --- sound layout: reading what does not depend on the mapper ---------------------------------

    def read_questions(
        self, questions: list[str], after: QuestionMemory | None = None
    ) -> QuestionMemory:
        """What the frozen model keeps of each question; independent of ECG and mapper.

        `after` is a context of one row (`read_examples`) that stands before every question.
        """
        return self.read_ids(*self.encode_questions(questions, after is not None), after)

    def read_ids(
        self, ids: Tensor, mask: Tensor, after: QuestionMemory | None = None
    ) -> QuestionMemory:
        """The same from token ids and mask (B, L), right-padded; encoded with `after_examples` if
        `after` is given.
        """
        n = len(ids)
        past = after.expand(n) if after is not None else self._nothing(n)
        fixed = torch.tensor(self.wording.fixed(after is None), device=self.device).long()
        fixed = fixed.expand(n, -1)
        if self.prefix_first:
            return QuestionMemory(past.layers, past.mask, fixed, ids, mask)
        self._require_keys()
        self._require_room(past.mask.shape[1] + ids.shape[1])
        layers, whole = self._remember(past, self._words(ids), mask)
        whole, *flat = to_the_right(whole, *(x for kv in layers for x in kv), dim=2)
        layers = tuple(zip(flat[::2], flat[1::2], strict=True))
        return QuestionMemory(
            layers, whole, fixed[:, :0], fixed, torch.ones_like(fixed, dtype=torch.bool)
        )

    def read_examples(
        self, questions: list[str], prefix: Tensor, answers: list[str]
    ) -> QuestionMemory:
        """In-context examples as one context, a memory of one row: soft tokens prefix (S, P, D).

        "<s>Question: .. ECG: [soft] Answer: yes" line by line, or turn by turn. An example closes
        with a line break, not with the end of text. Raises ConfigError where they are more than the
        model has positions for.
        """
        self._require_keys()
        self._require_width(prefix)
        parts, ending = [], self.wording.ending()
        for i, (question, answer) in enumerate(zip(questions, answers, strict=True)):
            before, after = self.wording.pieces(self._shorten(question), first=i == 0)
            after = [*after, *self.wording.answer(normalise(answer)), *ending]
            parts += [self._embed(before), prefix[i].to(self._words.weight.dtype)]
            parts += [self._embed(after)]
        inputs = torch.cat(parts)[None]  # (1, N, D)
        self._require_room(inputs.shape[1], f" {len(questions)} examples and")
        mask = torch.ones(inputs.shape[:2], dtype=torch.bool, device=self.device)
        layers, mask = self._remember(self._nothing(1), inputs, mask)
        none = torch.zeros(1, 0, dtype=torch.long, device=self.device)
        return QuestionMemory(layers, mask, none, none, none.bool())

    def _remember(self, past: QuestionMemory, inputs: Tensor, mask: Tensor):
        """Keys and values after reading inputs (B, N, D) behind `past`, and the mask of both.

        No graph is kept where nothing trains; LoRA adapters and in-context soft tokens may.
        """
        from transformers import DynamicCache

        whole = torch.cat([past.mask, mask], dim=1)
        # Without the model's config the cache keeps all places, those outside a window too.
        out = self._run(inputs, whole, past.cache() or DynamicCache(), 1)
        return tuple((layer.keys, layer.values) for layer in out.past_key_values.layers), whole

    def _nothing(self, n: int) -> QuestionMemory:
        none = torch.zeros(n, 0, dtype=torch.long, device=self.device)
        return QuestionMemory((), none.bool(), none, none, none.bool())

    def _embed(self, ids: list[int]) -> Tensor:
        return self._words(torch.tensor(ids, device=self.device).long())

    # --- sound layout: answers --------------------------------------------------------------------

    def forward(self, memory: QuestionMemory, prefix: Tensor, targets: Tensor) -> Tensor:
        """prefix (B, P, D), targets (B, A) -> logits (B, A, V) of each target given the true ones
        before it.
        """
        return self._answer_logits(memory, prefix, targets, targets.shape[1])

    def _answer_logits(
        self, memory: QuestionMemory, prefix: Tensor, targets: Tensor, keep: int
    ) -> Tensor:
        """Logits (B, keep, V) of the last `keep` targets.

        With the soft tokens first, padding of shorter questions goes in front of the row; behind
        in-context examples it stands between, which only a sliding window would notice.
        """
        self._require_width(prefix)
        inputs, mask = self._new_tokens(memory, prefix, targets)
        if self.prefix_first:
            mask, inputs = to_the_right(mask, inputs)
        mask = torch.cat([memory.mask, mask], dim=1)  # (B, L + N)
        self._require_room(mask.shape[1])
        return self._run(inputs, mask, memory.cache(), keep).logits.float()

    def _new_tokens(self, memory: QuestionMemory, prefix: Tensor, targets: Tensor):
        """head | soft tokens | tail | answer as (B, N, D), and which of the N places are words. The
        last target is never read; padding of shorter answers stands at the end, never scored.
        """
        answer = targets[:, :-1].clamp(min=0)
        words = self._words(torch.cat([memory.head, memory.tail, answer], dim=1))
        x, n_new = memory.head.shape[1], prefix.shape[1] + answer.shape[1]
        inputs = torch.cat([words[:, :x], prefix.to(words.dtype), words[:, x:]], dim=1)
        mask = memory.tail_mask.new_ones(len(prefix), x + n_new)
        cut = x + prefix.shape[1]
        return inputs, torch.cat([mask[:, :cut], memory.tail_mask, mask[:, cut:]], dim=1)

    def _run(self, inputs: Tensor, mask: Tensor, cache, keep: int):
        """One pass over inputs (B, N, D) behind `cache`; mask covers both. Logits of the last
        `keep` places.
        """
        positions = (mask.long().cumsum(1) - 1).clamp(min=0)[:, -inputs.shape[1] :]
        only = {"logits_to_keep": keep} if self._keeps_logits else {}
        out = self.llm(
            inputs_embeds=inputs, attention_mask=mask.long(), position_ids=positions,
            past_key_values=cache, use_cache=cache is not None, **only,
        )  # fmt: skip
        out.logits = out.logits[:, -keep:]
        return out

    @torch.no_grad()
    def generate(self, memory: QuestionMemory, prefix: Tensor, max_tokens: int = 8) -> list[str]:
        """Greedy answers, each up to its end of text or line: prefix (B, P, D) -> B strings, lower
        case, stripped.
        """
        eos, n = self.wording.eos, len(prefix)
        stops = torch.tensor([eos, *self.wording.ids("\n")[-1:]], device=prefix.device)
        said = torch.full(
            (n, 1), IGNORE, device=prefix.device
        )  # one place ahead, never read by forward
        done = torch.zeros(n, dtype=torch.bool, device=prefix.device)
        for _ in range(max_tokens):
            following = self._answer_logits(memory, prefix, said, 1)[:, -1].argmax(-1)  # (B,)
            following[done] = eos
            said = torch.cat([said[:, :-1], following[:, None], said[:, -1:]], dim=1)
            done |= torch.isin(following, stops)
            if done.all():
                break
        return [
            normalise(self.tokenizer.decode([i for i in row if i != eos]).strip().split("\n")[0])
            for row in said[:, :-1].tolist()
        ]

    # --- reference layout -------------------------------------------------------------------------

    def encode_reference(
        self, questions: list[str], answers: list[str], length: int = 30
    ) -> tuple[Tensor, Tensor]:
        """Question ids (B, length), cut or padded with end-of-text, and targets (B, A) that begin
        with <s>.
        """
        eos, bos = self.wording.eos, self.wording.reference_bos
        rows = [self.wording.reference(q)[:length] for q in questions]
        ids = torch.tensor([r + [eos] * (length - len(r)) for r in rows], device=self.device)
        targets = [bos + self.wording.ids(a.lower()) for a in answers]
        return ids, _pad(targets, IGNORE).to(self.device)

    def reference_logits(
        self, prefix: Tensor, question_ids: Tensor, n_answer: int, trim: bool = True
    ) -> Tensor:
        """Logits (B, n_answer, V) at positions P-1, P, ...: on top of the question, whose later
        tokens cannot matter.

        `trim` leaves out the tokens that causal attention hides from those positions; the logits
        are the same.
        """
        self._require_width(prefix)
        words = self._words(question_ids[:, : n_answer - 1] if trim else question_ids)
        inputs = torch.cat([prefix.to(words.dtype), words], dim=1)
        only = {"logits_to_keep": n_answer} if trim and self._keeps_logits else {}
        logits = self.llm(inputs_embeds=inputs, use_cache=False, **only).logits
        first = 0 if only else prefix.shape[1] - 1
        return logits[:, first : first + n_answer].float()

    # --- what cannot work -------------------------------------------------------------------------

    def _require_width(self, prefix: Tensor) -> None:
        if prefix.shape[-1] != self.width:
            raise ModelError(
                f"The mapper writes soft tokens {prefix.shape[-1]} wide, this language model reads "
                f"{self.width}; build or load a mapper for this LLM (llm_dim={self.width})."
            )

    def _require_room(self, n: int, of_them: str = "") -> None:
        if self.max_positions and n > self.max_positions:
            raise ConfigError(
                f"{n} tokens are needed for{of_them} a question, but this language model has "
                f"{self.max_positions} positions; lower K_SHOT, N_WAY or MAX_QUESTION."
            )

    def _require_keys(self) -> None:
        kinds = set(getattr(self.llm.config.get_text_config(), "layer_types", None) or ())
        if kinds - _KEPT:
            raise ModelError(
                f"This language model has layers without keys and values "
                f"({', '.join(sorted(kinds - _KEPT))}), so that no question can be kept; set "
                "PREFIX_FIRST=true, or choose another LLM."
            )


def _pad(rows: list[list[int]], value: int) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([r + [value] * (longest - len(r)) for r in rows])
