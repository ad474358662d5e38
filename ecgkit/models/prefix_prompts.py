"""How a question, an ECG and an answer are worded for a language model: text and token ids only.

Every layout is `before | soft tokens | after | answer`. With the question first, `before` holds it
and `after` is the same for all; with the soft tokens first it is the other way round.

    1     <s>Question: {q} ECG: | soft | Answer: | yes</s>        soft | <s>Question: {q} Answer: | yes</s>
    2     <s>{q}                | soft |         | yes</s>        soft | <s>{q}                   | yes</s>
    3     as 2, with a hint after the question that "both" and "none" may be the answer
    chat  the tokenizer's own chat template, the soft tokens inside the user's turn

Source: prompts 1-3 as released with Tang et al., CHIL 2025 (fewshot.md, section 2), here with the
blanks they lack; `REFERENCE` has them as released.

Usage:

    wording = Wording(tokenizer, "1")
    wording.pieces("Is it normal?")         # (ids before the soft tokens, ids after them)
"""  # noqa: E501

from __future__ import annotations

from ecgkit.types import ConfigError, ModelError

QUESTION, BRIDGE, ANSWER = "Question: {} ECG:", " Answer:", " {}"
HINT = "the answer can be both, none or in question."
REFERENCE = {"1": "Question: {}Answer: ", "2": "{}", "3": "{}" + HINT}
QUESTION_FIRST = {"1": (QUESTION, BRIDGE), "2": ("{}", ""), "3": ("{} " + HINT, "")}
PREFIX_FIRST = {"1": ("", "Question: {} Answer:"), "2": ("", "{}"), "3": ("", "{} " + HINT)}
PROMPTS = (*REFERENCE, "chat")
_SLOT = "<|ecg-goes-here|>"  # marks the soft tokens' place in a rendered chat


class Wording:
    """Token ids of one prompt in one order. Raises ConfigError for an unknown prompt or a tokenizer
    without chat template, ModelError for a tokenizer without an end-of-text token.
    """

    def __init__(self, tokenizer, prompt: str = "1", prefix_first: bool = False):
        if prompt not in PROMPTS:
            raise ConfigError(f"PROMPT is {prompt!r}; choose one of {', '.join(PROMPTS)}.")
        if tokenizer.eos_token_id is None:
            raise ModelError(
                "This tokenizer has no end-of-text token, so that no answer could ever end; set "
                "its eos_token, or choose another LLM."
            )
        if prompt == "chat" and not getattr(tokenizer, "chat_template", None):
            raise ConfigError(
                "PROMPT is chat, but this language model's tokenizer has no chat template; choose "
                "PROMPT 1, 2 or 3, or an instruction-tuned LLM."
            )
        self.tokenizer, self.prompt, self.prefix_first = tokenizer, prompt, prefix_first
        self.eos = tokenizer.eos_token_id
        self.pad = self.eos if tokenizer.pad_token_id is None else tokenizer.pad_token_id

    def ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    @property
    def bos(self) -> list[int]:
        """<s>, where the tokenizer has one."""
        return [] if self.tokenizer.bos_token_id is None else [self.tokenizer.bos_token_id]

    # --- the pieces -------------------------------------------------------------------------------

    def pieces(self, question: str, first: bool = True) -> tuple[list[int], list[int]]:
        """Ids before and after the soft tokens; `first` = no examples stand in front."""
        if self.prompt == "chat":
            before, after = self._turn(question, first).rsplit(_SLOT, 1)
            return self.ids(before), self.ids(after)
        before, after = (PREFIX_FIRST if self.prefix_first else QUESTION_FIRST)[self.prompt]
        before, after = self.ids(before.format(question)), self.ids(after.format(question))
        start = self.bos if first else []
        return (before, start + after) if self.prefix_first else (start + before, after)

    def fixed(self, first: bool = True) -> list[int]:
        """The piece that is the same for every question."""
        return self.pieces("", first)[0 if self.prefix_first else 1]

    def varying(self, question: str, first: bool = True) -> list[int]:
        """The piece that holds the question."""
        return self.pieces(question, first)[1 if self.prefix_first else 0]

    def answer(self, text: str) -> list[int]:
        """Ids of a normalised answer, without the end of text."""
        return self.ids(text if self.prompt == "chat" else ANSWER.format(text))

    def ending(self) -> list[int]:
        """What closes an in-context example: a line break, or the end of the assistant's turn."""
        if self.prompt != "chat":
            return self.ids("\n")
        opened = self._render(self._example[:1], True) + self._example[1]["content"]
        return self.ids(self._rest(self._render(self._example, False), opened))

    def reference(self, question: str) -> list[int]:
        """As released, with <s> where the tokenizer has one that is not also the end of text (which
        the released loss would leave out).
        """
        if self.prompt == "chat":
            raise ConfigError(
                "PROMPT is chat, which the released code does not have; choose 1, 2 or 3 under "
                "PROTOCOL=reference."
            )
        return self.reference_bos + self.ids(REFERENCE[self.prompt].format(question))

    @property
    def reference_bos(self) -> list[int]:
        return [i for i in self.bos if i != self.eos]

    # --- chat -------------------------------------------------------------------------------------

    @property
    def _example(self) -> list[dict]:
        return [self._user(""), {"role": "assistant", "content": "yes"}]

    def _user(self, question: str) -> dict:
        order = f"ECG:{_SLOT} Question: {question}", f"Question: {question} ECG:{_SLOT}"
        return {"role": "user", "content": order[0 if self.prefix_first else 1]}

    def _render(self, messages: list[dict], open_answer: bool) -> str:
        return self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=open_answer
        )

    def _turn(self, question: str, first: bool) -> str:
        if first:
            return self._render([self._user(question)], True)
        whole = self._render([*self._example, self._user(question)], True)
        return self._rest(whole, self._render(self._example, False))

    @staticmethod
    def _rest(whole: str, beginning: str) -> str:
        if not whole.startswith(beginning):
            raise ConfigError(
                "PROMPT is chat, but this tokenizer's chat template rewrites earlier turns, so "
                "that examples cannot be put in front one by one; choose PROMPT 1, 2 or 3."
            )
        return whole[len(beginning) :]


def normalise(answer: str) -> str:
    """Lower case, single spaces, no closing full stop."""
    return " ".join(answer.lower().split()).rstrip(".")
