"""Who writes the waveform text of a finding: a language model that is shown the retrieved passages,
or nobody but the passages themselves.

The model is told to write nothing but what the passages say of the waveform, and NONE where they do
not cover the finding, which becomes "". The prompts are the kit's own: the paper prints its
question and two rewordings (appendix A.3) and leaves the rest of the prompt open.

Source: Yu et al., ESI (TMLR 2024), section 3.1 and appendix A.3.

Usage:

    client = ChatClient("http://127.0.0.1:8000/v1", "qwen3-8b", log="runs/demo/chat.jsonl")
    writer = ChatWriter(client, prompt="question")
    writer.write("atrial fibrillation", passages)              # "" where they do not cover it
    writer.write_many({"AFIB": ("atrial fibrillation", passages), ...})
    ExtractiveWriter().write("atrial fibrillation", passages)  # offline
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Hashable, Mapping, Sequence

from ecgkit.text.chat_client import ChatClient
from ecgkit.text.chat_meter import Meter
from ecgkit.text.endpoints import EndpointError
from ecgkit.text.passages import Passage, first_sentence
from ecgkit.types import ConfigError

__all__ = ["PROMPTS", "ChatClient", "ChatWriter", "EndpointError", "ExtractiveWriter", "Meter"]

# The paper's question, its two printed rewordings in other words, and two more.
PROMPTS: dict[str, str] = {
    "question": "How is {finding} reflected in a 12-lead ECG?",
    "appearance": "Give an account of the way {finding} appears on a 12-lead ECG.",
    "association": "Which findings on a 12-lead ECG go together with {finding}?",
    "waves": "What do P waves, QRS complexes, ST segments and T waves look like in {finding}?",
    "recognition": "By what does a reader recognise {finding} on a 12-lead ECG?",
}
RULES = (
    "You write the waveform part of the caption of an ECG. Use the passages alone, not what you "
    "know besides. Write one to three plain sentences on waves, intervals, segments, rhythm and "
    "the leads they are seen in. Write nothing else: no introduction, no list, no advice, no "
    "causes, no remark on the passages. If the passages do not say how the finding looks on an "
    "ECG, answer with the one word NONE."
)
CLOSED_BOOK_RULES = (
    "You write the waveform part of the caption of an ECG. Write one to three plain sentences on "
    "waves, intervals, segments, rhythm and the leads they are seen in. Write nothing else: no "
    "introduction, no list, no advice, no causes. If what you are asked about does not show on an "
    "ECG, answer with the one word NONE."
)
_NOT_COVERED = re.compile(
    r"\W*(?i:none)\W*$|\W*NONE\b|"
    r"(?i:none of (the|these) (\w+ )?passages|(the|these) (\w+ )?passages? do(es)?( not|n't)\b)"
)


def ask(prompt: str, finding: str) -> str:
    """The wording `prompt` (a name in PROMPTS, or a text with {finding}) about `finding`.

    Raises ConfigError for an unknown name.
    """
    wording = PROMPTS.get(prompt, prompt)
    if "{finding}" not in wording:
        raise ConfigError(
            f"The prompt {prompt!r} is none of {', '.join(PROMPTS)}, and holds no {{finding}}."
        )
    return wording.replace("{finding}", finding)


class ChatWriter:
    """A model at an endpoint writes. Without passages it is not asked, unless `closed_book`: the
    paper's "no textbook", where it answers from what it knows.
    """

    def __init__(self, client: ChatClient, prompt: str = "question", closed_book: bool = False):
        self.client, self.prompt, self.closed_book = client, prompt, closed_book
        # Whatever changes the text must change the name: it is the cache's key.
        parts = (ask(prompt, "{finding}"), RULES, CLOSED_BOOK_RULES if closed_book else "")
        digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]
        self.name = f"chat-{client.model}-{digest}"

    def write(self, finding: str, passages: Sequence[Passage]) -> str:
        """Waveform text, "" where `passages` do not cover `finding`. Raises EndpointError."""
        messages = self.messages(finding, passages)
        return tidy(self.client.chat(messages)) if messages else ""

    def write_many(
        self,
        items: Mapping[Hashable, tuple[str, Sequence[Passage]]],
        on_answer: Callable[[Hashable, str], None] | None = None,
    ) -> dict[Hashable, str | EndpointError]:
        """`write` for each (finding, passages), several at a time, by key; what failed holds its
        error. `on_answer(key, text)` is called as each text comes, to be kept.
        """
        asked = {key: self.messages(*item) for key, item in items.items()}
        report = (lambda key, text: on_answer(key, tidy(text))) if on_answer else None
        given = self.client.chat_many({key: m for key, m in asked.items() if m}, report)
        tidied = {k: tidy(v) if isinstance(v, str) else v for k, v in given.items()}
        return {key: tidied.get(key, "") for key in items}

    def messages(self, finding: str, passages: Sequence[Passage]) -> list[dict[str, str]]:
        """What the model is sent; [] where it is not asked."""
        if not passages and not self.closed_book:
            return []
        shown = [f"[{i}] {p.title}: {p.text}" for i, p in enumerate(passages, 1)]
        parts = ["Passages:", *shown, "", ask(self.prompt, finding)] if shown else [
            ask(self.prompt, finding)
        ]  # fmt: skip
        return [
            {"role": "system", "content": RULES if shown else CLOSED_BOOK_RULES},
            {"role": "user", "content": "\n".join(parts)},
        ]


class ExtractiveWriter:
    """The first sentence of the best passage, or of each one (`every`); the offline default.

    The best alone, because the next best is often about a neighbour of the finding.
    """

    def __init__(self, every: bool = False):
        self.every, self.name = every, "extractive-every" if every else "extractive"

    def write(self, finding: str, passages: Sequence[Passage]) -> str:
        """Waveform text, "" without passages."""
        chosen = passages if self.every else passages[:1]
        return " ".join(dict.fromkeys(first_sentence(p.text) for p in chosen))


def tidy(answer: str) -> str:
    """One line without the model's thoughts, quotes, bullets or marks of emphasis; "" for NONE."""
    answer = re.sub(r"<think(ing)?>.*?(</think(ing)?>|$)", " ", answer, flags=re.S)
    answer = answer.rsplit("</think>", 1)[-1]  # some chat templates open it in the prompt
    answer = re.sub(r"^\s*(?:[-*•#>]+|\d+[.)])\s+", "", answer, flags=re.M)
    answer = re.sub(r"\*\*|__|`|\s\[\d+\]", "", answer)
    answer = " ".join(answer.split()).strip("\"'“” ")
    return "" if _NOT_COVERED.match(answer) else answer
