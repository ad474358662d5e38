"""Which findings a text names, by the words for them: descriptions of the SCP table and synonyms.

Longest wordings are looked for first and taken out of the text, so that the "right bundle branch
block" inside "incomplete right bundle branch block" is not named twice. Only findings are read:
a caption's demographics and waveform text are left out (`findings_part`), since the words on one
finding's waves often name another. Negations are not understood; captions of the kit have none.

Usage:

    lexicon = Lexicon.of(cohort.statements)
    lexicon.named("ECG findings: sinus rhythm, RBBB, wide QRS.")      # {"SR", "CRBBB"}
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from ecgkit.tasks.text_overlap import words
from ecgkit.text.captions import SYNONYMS

_BEFORE = re.compile(r"^.*?ecg findings\s*:", re.IGNORECASE | re.DOTALL)
_BEHIND = re.compile(r"potential ecg waveforms?.*$", re.IGNORECASE | re.DOTALL)


def findings_part(caption: str) -> str:
    """What stands between `ECG findings:` and `Potential ECG waveforms:`; else the whole text."""
    return _BEHIND.sub("", _BEFORE.sub("", caption)).strip()


@dataclass(frozen=True)
class Lexicon:
    """`codes`: wording (plain words) -> the SCP codes it may mean; several where a wording is
    shared.
    """

    codes: Mapping[str, frozenset[str]]
    pattern: re.Pattern

    @classmethod
    def of(
        cls, statements: pd.DataFrame, synonyms: Mapping[str, Iterable[str]] = SYNONYMS
    ) -> Lexicon:
        """From the descriptions of an SCP table (index: code) and further wordings."""
        found: dict[str, set[str]] = {}
        for code, text in statements["description"].items():
            wordings = [text] if isinstance(text, str) else []
            for wording in [*wordings, *synonyms.get(code, ())]:
                if plain := " ".join(words(wording)):
                    found.setdefault(plain, set()).add(str(code))
        longest_first = sorted(found, key=lambda w: (-len(w), w))
        pattern = re.compile(r"\b(?:" + "|".join(map(re.escape, longest_first)) + r")\b")
        return cls({w: frozenset(c) for w, c in found.items()}, pattern)

    def named(self, text: str) -> frozenset[str]:
        """Findings named in a text, as the codes' sets joined by "/" where a wording is shared."""
        hits = self.pattern.findall(" ".join(words(text)))
        return frozenset("/".join(sorted(self.codes[hit])) for hit in hits)
