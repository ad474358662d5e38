"""The prompt of LLM modelling: what is known of the ECGs, the question, the options, what to do.

Parts and their order are the published ones (Oh et al. 2023, llm_modeling): two sentences on the
interpretations, the interpretations, the question, the options, the instruction. The sentences are
the kit's own. Further blocks (measured features, report, notes, worked examples) come between.

Usage:

    block = Block("Interpretation of the ECG", finding_lines(classes, probabilities))
    text = prompt([block], "Is there atrial fibrillation?", ("no", "yes"), "verify")
    messages(text)                                     # one turn of the user's, no system message
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

THRESHOLD = 0.5
INTRO = (
    "Below are findings that a classifier read from one or more ECGs, each with a score from 0 to "
    "1. The higher the score, the surer the classifier is of the finding."
)
INTRO_OTHER = "Below is what is known of one or more ECGs."
INSTRUCTION = (
    "Choose only from the options, copy each one that applies as it is written, separate several "
    "by commas, and add no explanation."
)
# Two ECGs of one patient, and of two; read from the question type.
ORDER = {
    "comparison_consecutive": ("previous ECG", "recent ECG"),
    "comparison_irrelevant": ("first ECG", "second ECG"),
}


class Block(NamedTuple):
    """A heading and its lines; `text` may be empty, and then is published so."""

    label: str
    text: str

    def __str__(self) -> str:
        return f"{self.label}:\n{self.text}" if self.text else f"{self.label}:"


class Example(NamedTuple):
    """A worked example: blocks, question, options, and its answer in words."""

    blocks: tuple[Block, ...]
    question: str
    options: tuple[str, ...]
    form: str
    answer: str


def finding_lines(classes: Sequence[str], probabilities: np.ndarray) -> str:
    """One line "name: 0.xxx" per class above 0.5, in the order of the classes; "" without any."""
    above = np.flatnonzero(np.asarray(probabilities) > THRESHOLD)
    return "\n".join(f"{classes[k]}: {probabilities[k]:.3f}" for k in above)


def option_line(options: Sequence[str], form: str) -> str:
    """The options, separated by commas, "None" last but for yes-or-no questions."""
    return ", ".join(options if form == "verify" else (*options, "None"))


def prompt(
    blocks: Sequence[Block], question: str, options: Sequence[str], form: str,
    examples: Sequence[Example] = (), scored: bool = True,
) -> str:  # fmt: skip
    """The whole text. `scored`: the blocks hold a classifier's scores, which the intro explains."""
    parts = [INTRO if scored else INTRO_OTHER]
    for number, example in enumerate(examples, 1):
        parts += [f"Example {number}", *_asked(*example[:4]), f"Answer: {example.answer}"]
    if examples:
        parts.append("Now the question to answer")
    parts += [*_asked(blocks, question, options, form), INSTRUCTION]
    return "\n\n".join(parts)


def messages(text: str) -> list[dict[str, str]]:
    """A single turn of the user's, without a system message (published)."""
    return [{"role": "user", "content": text}]


def key_of(model: str, text: str, options: dict | None = None) -> str:
    """24 hex digits of model, prompt and request options: the name an answer is kept under."""
    content = repr((model, text, sorted((options or {}).items())))
    return hashlib.sha256(content.encode()).hexdigest()[:24]


def _asked(blocks, question, options, form) -> list[str]:
    return [
        *map(str, blocks), f"Question: {question}", f"Options: {option_line(options, form)}"
    ]  # fmt: skip
