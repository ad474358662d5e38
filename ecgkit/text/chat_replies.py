"""Reading what an OpenAI-compatible endpoint sent, garbage included.

Whatever is not an answer raises BadAnswer with the end of the sentence "HOST answered, but ...",
naming what came, short and cleaned.

Dims: n texts, D width of an embedding.

Usage:

    chat_text(as_json('{"choices": [{"message": {"content": "Hello"}}]}'))       # "Hello"
    vectors(as_json(body), n=2)                                                   # (2, D)
"""

from __future__ import annotations

import email.utils
import json
import math
import re

import numpy as np

SHORT = 120  # characters of a stranger's text that an error repeats


class BadAnswer(Exception):
    """The rest of a sentence that begins "HOST answered, but"."""


def as_json(content: str) -> dict:
    """The JSON object in `content`."""
    if not content.strip():
        raise BadAnswer("with nothing at all")
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        said = f"with {_kind(content)} instead of JSON: {shorten(content)!r}"
        raise BadAnswer(said) from None
    if not isinstance(answer, dict):
        raise BadAnswer(f"with JSON that is no object: {shorten(json.dumps(answer))!r}")
    if answer.get("error") and not (answer.get("choices") or answer.get("data")):
        raise BadAnswer(f"with an error: {error_text(json.dumps(answer))}")
    return answer


def chat_text(answer: dict) -> str:
    """The first choice's text, stripped and never empty."""
    choices = answer.get("choices")
    if not isinstance(choices, list):
        raise BadAnswer(f"without `choices`; it sent {shorten(', '.join(map(str, answer)))!r}")
    if not choices:
        raise BadAnswer("with an empty list of choices")
    choice = choices[0] if isinstance(choices[0], dict) else {}
    message = choice.get("message")
    if not isinstance(message, dict):
        raise BadAnswer(f"its first choice has no message: {shorten(json.dumps(choices[0]))!r}")
    text = _plain(message.get("content")).strip()
    if text:
        return text
    if message.get("refusal"):
        raise BadAnswer(f"its model refused: {shorten(str(message['refusal']))!r}")
    if choice.get("finish_reason") == "length":
        raise BadAnswer("its model ran out of tokens before it wrote anything")
    raise BadAnswer("with an empty text")


def vectors(answer: dict, n: int) -> np.ndarray:
    """(n, D) float32, in the order of the texts that were sent."""
    rows = answer.get("data")
    if not isinstance(rows, list) or len(rows) != n:
        count = len(rows) if isinstance(rows, list) else "no"
        raise BadAnswer(f"with {count} vectors for {n} texts")
    found: dict[int, list] = {}
    for i, row in enumerate(rows):
        row = row if isinstance(row, dict) else {}
        index = row.get("index", i)
        if isinstance(index, int) and isinstance(row.get("embedding"), list):
            found[index] = row["embedding"]
    widths = {len(v) for v in found.values()}
    if sorted(found) != list(range(n)) or len(widths) != 1 or not all(widths):
        raise BadAnswer("its vectors are not one of equal width for each text")
    try:
        result = np.array([found[i] for i in range(n)], np.float32)
    except (TypeError, ValueError):
        raise BadAnswer("its vectors hold something that is no number") from None
    if result.ndim != 2 or not np.isfinite(result).all():
        raise BadAnswer("its vectors hold something that is no finite number")
    return result


def error_text(text: str) -> str:
    """What the body of a refusal says: its `error.message`, or its beginning."""
    try:
        error = json.loads(text).get("error")
        text = error if isinstance(error, str) else error["message"]
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
        pass
    return shorten(str(text)) or "no explanation"


def retry_after(value: str | None, now: float) -> float:
    """Seconds a Retry-After header asks for, a number or an HTTP date; 0 where it says nothing."""
    try:
        seconds = float(value or 0)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - now
        except (TypeError, ValueError, OverflowError):
            return 0.0
    return 0.0 if math.isnan(seconds) else max(0.0, seconds)


def shorten(text: str) -> str:
    """One line of at most SHORT characters, without tags and control characters."""
    text = re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", text[:20_000], flags=re.S | re.I)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= SHORT else text[: SHORT - 3].rstrip() + "..."


def _kind(text: str) -> str:
    return "an HTML page" if re.match(r"\s*<(!doctype|html|head|body)", text, re.I) else "text"


def _plain(content: object) -> str:
    """Text of a message, which some servers send in parts; lone surrogates cannot be written."""
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict))
        content = "".join(part for part in parts if isinstance(part, str))
    if not isinstance(content, str):
        return ""
    return content.encode("utf-8", "replace").decode()
