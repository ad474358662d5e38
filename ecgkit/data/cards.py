"""The data cards: one page per source, its facts in a table on top (`sources/cards/*.md`).

Usage:

    print(read("ptbxl"))
    facts("ptbxl")["licence"]        # "CC BY 4.0"
"""

from __future__ import annotations

import re
from importlib import resources

from ecgkit.types import DataError

_CARDS = resources.files("ecgkit.data") / "sources" / "cards"


def names() -> list[str]:
    """The sources that have a card."""
    return sorted(card.name.removesuffix(".md") for card in _CARDS.iterdir())


def read(name: str) -> str:
    """The card of one source as Markdown. Raises DataError naming those there are."""
    if name not in names():
        raise DataError(f"There is no card {name!r}; there is one of {', '.join(names())}.")
    return (_CARDS / f"{name}.md").read_text(encoding="utf-8")


def facts(name: str) -> dict[str, str]:
    """The table on top of a card: fact -> what it says."""
    lines = re.findall(r"^\| ([^|]+) \| (.+) \|$", read(name), flags=re.MULTILINE)
    return {fact: says for fact, says in lines}
