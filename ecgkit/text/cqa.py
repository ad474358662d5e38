"""The first Cardio Query Assistant: asks how a finding shows on an ECG and answers from notes the
kit carries.

The paper retrieves two passages from textbooks and lets a language model write; this first version
retrieves by TF-IDF cosine from `text/knowledge/*.md` and answers with the passages' own first
sentences. A finding that no note covers gets no text, rather than an invented one.

Usage:
    notes = Notes()
    passages = notes.retrieve(question("atrial fibrillation"), k=2)     # [(score, Passage), ...]
    notes.answer("atrial fibrillation", code="AFIB")
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecgkit.types import DataError

FOLDER = Path(__file__).parent / "knowledge"
MIN_SCORE = 0.2  # below this cosine a passage shares only common words with the question
_STOP = frozenset(
    "a an and are as at be by does each for from how has have in is it its no not of on one or ecg "
    "other than that the they this to under was when where which while with 12 lead reflected "
    "abnormalities changes".split()
)


@dataclass(frozen=True)
class Passage:
    """One section of the notes: title, the SCP codes it speaks of, its text and its file."""

    title: str
    codes: tuple[str, ...]
    text: str
    file: str


def question(finding: str) -> str:
    """The question the paper asks about each finding."""
    return f"How is {finding} reflected in a 12-lead ECG?"


def read_notes(folder: Path = FOLDER) -> list[Passage]:
    """All sections of the .md files in `folder`. Raises DataError when there is none."""
    passages = []
    for path in sorted(folder.glob("*.md")):
        for section in re.split(r"^## ", path.read_text(), flags=re.M)[1:]:
            title, _, rest = section.partition("\n")
            found = re.match(r"Codes: (.+)\n", rest)
            codes = tuple(c.strip() for c in found.group(1).split(",")) if found else ()
            text = " ".join(rest[found.end() if found else 0 :].split())
            passages.append(Passage(title.strip(), codes, text, path.name))
    if not passages:
        raise DataError(f"{folder.name}/ holds no notes; add .md files with '## ' sections.")
    return passages


class Notes:
    """Passages and their TF-IDF vectors (sublinear counts, smooth inverse document frequency)."""

    def __init__(self, passages: list[Passage] | None = None):
        self.passages = passages or read_notes()
        # A title says what a passage is about, so its words count three times.
        bags = [words(f"{p.title} " * 3 + p.text) for p in self.passages]
        self.vocabulary = {w: i for i, w in enumerate(sorted({w for bag in bags for w in bag}))}
        counts = np.stack([self._count(bag) for bag in bags])
        self.idf = np.log((1 + len(bags)) / (1 + (counts > 0).sum(0))) + 1
        self.vectors = self._weigh(counts)
        self._of_code = {code: p for p in self.passages for code in p.codes}

    def retrieve(self, query: str, k: int = 2) -> list[tuple[float, Passage]]:
        """The `k` passages nearest to `query` by cosine, best first, none below MIN_SCORE."""
        bag = words(query)
        weights = self._weigh(self._count(bag)[None])[0]
        known = sum(word in self.vocabulary for word in bag)
        # A word that no note has must count against a match, else one shared word decides it.
        scores = self.vectors @ weights * (known / max(1, len(bag))) ** 0.5
        best = np.argsort(-scores, kind="stable")[:k]
        return [(float(scores[i]), self.passages[i]) for i in best if scores[i] >= MIN_SCORE]

    @functools.lru_cache(maxsize=1024)  # noqa: B019  one Notes lives as long as the process
    def answer(self, finding: str, code: str = "", k: int = 2) -> str:
        """Waveform text for `finding`: the first sentence of each retrieved passage that is about
        it.

        The passage that lists `code` comes first where there is one; "" when nothing fits.
        """
        found = [p for _, p in self.retrieve(question(finding), k)]
        own = self._of_code.get(code)
        if own is not None:
            found = [own]
        return first_sentence(found[0].text) if found else ""

    def _count(self, bag: list[str]) -> np.ndarray:
        counts = np.zeros(len(self.vocabulary))
        for word in bag:
            if word in self.vocabulary:
                counts[self.vocabulary[word]] += 1
        return counts

    def _weigh(self, counts: np.ndarray) -> np.ndarray:
        weights = np.where(counts > 0, 1 + np.log(np.maximum(counts, 1)), 0) * self.idf
        return weights / np.maximum(np.linalg.norm(weights, axis=-1, keepdims=True), 1e-12)


def words(text: str) -> list[str]:
    """Lower-case words without the commonest ones; a plural s is dropped so that `waves` meets
    `wave`.
    """
    found = re.findall(r"[a-z0-9]{2,}", text.lower())
    return [w[:-1] if len(w) > 3 and w.endswith("s") and not w.endswith("ss") else w
            for w in found if w not in _STOP]


def first_sentence(text: str) -> str:
    """Up to the first full stop that ends a sentence (decimal points do not)."""
    return re.split(r"(?<=[a-zA-Z0-9)])\. (?=[A-Z])", text, maxsplit=1)[0].rstrip(".") + "."
