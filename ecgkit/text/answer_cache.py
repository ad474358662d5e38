"""Answers of the assistant as JSON lines: what was paid for is on disk before the next is asked.

A line is appended in one write. A process killed half-way leaves at most one broken line, which is
passed over; its finding is asked again.

Usage:

    cache = AnswerCache(folder / "answers.jsonl")       # None: in memory only
    cache.put("3f2a...", {"finding": "atrial flutter", "text": "Saw-tooth waves ..."})
    cache.get("3f2a...")                                # the text, or None
"""

from __future__ import annotations

import json
from pathlib import Path

from ecgkit import runtime


class AnswerCache:
    """Key -> text. Several processes may append to one file; each reads what was there at first."""

    def __init__(self, path: Path | None):
        self._path, self._texts = path, {}
        if path is not None and path.exists():
            with runtime.reading_cached(path):
                lines = path.read_bytes().splitlines()
            self._texts = dict(filter(None, map(_read_line, lines)))

    def __len__(self) -> int:
        return len(self._texts)

    def get(self, key: str) -> str | None:
        return self._texts.get(key)

    def put(self, key: str, row: dict) -> None:
        """Keeps `row["text"]` under `key`; the rest of the row is there for a reader's eyes."""
        self._texts[key] = row["text"]
        if self._path is None:
            return
        line = json.dumps({"key": key, **row}, ensure_ascii=False)
        # The line break comes first, so that a broken last line ends before this one begins.
        runtime.append(self._path, f"\n{line}")


def _read_line(line: bytes) -> tuple[str, str] | None:
    try:
        row = json.loads(line)
        key, text = row["key"], row["text"]
    except (ValueError, KeyError, TypeError):
        return None
    return (key, text) if isinstance(key, str) and isinstance(text, str) else None
