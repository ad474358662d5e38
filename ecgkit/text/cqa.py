"""The Cardio Query Assistant: asks how a finding shows on an ECG, retrieves passages that tell, and
has a text written from them.

knowledge -> passages -> embedder -> index -> top-k -> writer -> cache. Every answer is keyed by its
(finding, code), so that none can be taken for another's; wordings of one statement share one
answer; technical statements and findings that no passage covers get no text.

Source: Yu et al., ESI (TMLR 2024), section 3.1: two passages of two textbooks, ada-002 vectors in
Chroma, GPT-3.5 as the writer. What is used here by default needs no network.

Usage:

    assistant = open_assistant(config)                         # config: CqaSettings
    assistant.answer("atrial fibrillation", code="AFIB")       # "" where nothing fits
    found = assistant.answers([("atrial flutter", "AFLT"), ("lead(s) unsuitable", "")])
    found["atrial flutter", "AFLT"].passages
    print(assistant.report())
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ecgkit import runtime
from ecgkit.config.cqa import CqaSettings
from ecgkit.text import endpoints, llm
from ecgkit.text.answer_cache import AnswerCache
from ecgkit.text.embedders import MIN_SCORE, Embedder, Tfidf, open_embedder
from ecgkit.text.passages import FOLDER, Passage, first_sentence, read_folder
from ecgkit.text.retrieval import ExactIndex, Hits, open_index
from ecgkit.text.statements import codes_of, is_technical, normalise
from ecgkit.types import DataError, KitError

__all__ = ["MIN_SCORE", "Answer", "Assistant", "Notes", "Passage", "first_sentence",
           "open_assistant", "question", "read_notes"]  # fmt: skip
Pair = tuple[str, str]  # (finding, code)
OWN_NOTE = 1.0  # score of a passage that names the code or the statement itself
NOTHING = ("something", "this finding")  # what these are near to, no finding is near to


@dataclass(frozen=True)
class Answer:
    """The waveform text of one finding, the passages it was written from (best first), their
    scores (cosine; OWN_NOTE where a note names the finding), and the writer's name.
    """

    text: str
    passages: tuple[Passage, ...] = ()
    scores: tuple[float, ...] = ()
    by: str = ""


def question(finding: str) -> str:
    """The question the paper asks about each finding."""
    return f"How is {finding} reflected in a 12-lead ECG?"


class Assistant:
    """Answers from `index`, `k` passages each, by `writer`: `.name`, `.write(finding, passages)`,
    and `.write_many` where it takes many at a time.

    Texts are kept in `kept` (JSON lines) under the hash of question, passages, writer and k.
    `fallback`: who writes where the writer fails; None = that is an error. `query`: what of a
    finding is looked for. The paper looks for its `question`; the bare finding finds as much by
    TF-IDF and more by sentence vectors, which else see mostly the words all questions share.
    """

    def __init__(
        self, index, writer, k: int = 2, kept: Path | None = None, fallback=None,
        query: Callable[[str], str] = str,
    ):  # fmt: skip
        self.index, self.writer, self.k = index, writer, k
        self.fallback, self.query = fallback, query
        self.counts: Counter[str] = Counter()  # distinct findings, by how they were answered
        self._cache, self._known = AnswerCache(kept), {}
        self._of_code: dict[str, Passage] = {}
        self._of_statement: dict[str, Passage] = {}
        for passage in index.passages:  # the first that claims a code or a statement has it
            for code in passage.codes:
                self._of_code.setdefault(code, passage)
            for statement in passage.statements:
                self._of_statement.setdefault(normalise(statement), passage)
        # Sentence vectors find every text somewhat near to every other: how near says nothing.
        nearest = index.retrieve([query(text) for text in NOTHING], 1)
        self._floor = max((hits[0][0] for hits in nearest if hits), default=0.0)

    def answer(self, finding: str, code: str = "") -> str:
        """Waveform text of one finding, "" when nothing fits. Raises as `answers`."""
        known = self._known.get((finding, code))
        return (known or self.answers([(finding, code)])[finding, code]).text

    def answers(self, findings: Sequence[Pair]) -> dict[Pair, Answer]:
        """The Answer of each (finding, code), in one batch.

        Raises DataError where the writer fails and there is no fallback, after what did succeed
        was kept: the next call asks for the rest alone.
        """
        pairs = list(dict.fromkeys((finding, code) for finding, code in findings))
        self._learn([pair for pair in pairs if pair not in self._known])
        return {pair: self._known[pair] for pair in pairs}

    def retrieve(self, query: str, k: int | None = None) -> Hits:
        """The `k` passages nearest to `query`, [(score, Passage)], best first."""
        return self.index.retrieve([query], k or self.k)[0]

    def report(self) -> str:
        """How the findings were answered, in one line; the counts add up to the findings asked."""
        said = ", ".join(f"{n} {how}" for how, n in self.counts.items() if n)
        return f"{self.counts.total()} findings: {said or 'none asked yet'}."

    # --- steps ---

    def _learn(self, pairs: list[Pair]) -> None:
        silent = {p: Answer("") for p in pairs if not normalise(p[0]) or is_technical(p[0])}
        self._settle(silent, "technical, left without text")
        asked = self._asked([pair for pair in pairs if pair not in silent])
        bare = {a.pair: Answer("") for a in asked if not a.hits}
        self._settle(bare, "without a fitting passage")
        asked = [a for a in asked if a.hits]
        old = [a for a in asked if self._cache.get(a.key) is not None]
        self._settle(self._kept(old), "kept from before")
        new = {a.key: a for a in asked if self._cache.get(a.key) is None}
        failed = self._write(new)
        self._settle(self._kept([a for a in asked if a.key in new.keys() - failed]), "written")
        if failed:
            self._fall_back([a for a in asked if a.key in failed], next(iter(failed.values())))

    def _settle(self, answers: Mapping[Pair, Answer], how: str) -> None:
        self._known.update(answers)
        self.counts[how] += len(answers)

    def _asked(self, pairs: list[Pair]) -> list[_Asked]:
        """Each pair with its passages; the finding's own notes, where there are any, come first."""
        plain = [normalise(finding) for finding, _ in pairs]
        found = self.index.retrieve([self.query(finding) for finding in plain], self.k)
        asked = []
        for pair, finding, hits in zip(pairs, plain, found):
            own = self._own_notes(*pair)
            others = [hit for hit in hits if hit[0] > self._floor and hit[1] not in own]
            hits = [*((OWN_NOTE, passage) for passage in own), *others][: self.k]
            asked.append(_Asked(pair, finding, hits, self._key(finding, hits)))
        return asked

    def _own_notes(self, finding: str, code: str) -> list[Passage]:
        """The note that claims the code or the statement, else those its words speak of."""
        own = self._of_code.get(code) or self._of_statement.get(normalise(finding))
        if own is not None:
            return [own]
        said = sorted(codes_of(finding), key=lambda c: c == "SR")  # said of most, it tells least
        return list(dict.fromkeys(self._of_code[c] for c in said if c in self._of_code))

    def _key(self, finding: str, hits: Hits) -> str:
        shown = [(passage.title, passage.text) for _, passage in hits]
        content = json.dumps([question(finding), shown, self.writer.name, self.k])
        return hashlib.sha256(content.encode()).hexdigest()[:24]

    def _write(self, asked: dict[str, _Asked]) -> dict[str, KitError]:
        """Has each text written and, as it comes, kept; returns the errors, by key."""

        def keep(key: str, text: str) -> None:
            self._cache.put(key, {
                "finding": asked[key].finding, "text": text, "writer": self.writer.name,
                "passages": [p.title for p in asked[key].passages],
            })  # fmt: skip

        items = {key: (a.finding, a.passages) for key, a in asked.items()}
        results = write_many(self.writer, items, keep)
        for key, text in results.items():
            if isinstance(text, str) and self._cache.get(key) is None:
                keep(key, text)
        return {key: error for key, error in results.items() if isinstance(error, KitError)}

    def _kept(self, asked: list[_Asked]) -> dict[Pair, Answer]:
        return {a.pair: a.answer(self._cache.get(a.key), self.writer.name) for a in asked}

    def _fall_back(self, asked: list[_Asked], error: KitError) -> None:
        if self.fallback is None:
            raise DataError(
                f"{self.writer.name} gave no text for {len(asked)} findings, e.g. "
                f"{asked[0].pair[0]!r} ({str(error).rstrip('.')}). All others are kept: run again "
                "to ask for these alone, or set LLM_FALLBACK=true to write them from the passages."
            ) from error
        by = f"{self.fallback.name}, as {self.writer.name} failed"
        written = {a.pair: a.answer(self.fallback.write(a.finding, a.passages), by) for a in asked}
        self._settle(written, "written from the passages, as the writer failed")
        print(f"{len(written)} findings were written from the passages instead: {error}")


class _Asked(NamedTuple):
    """A finding in plain words with its passages, and the key its text is kept under."""

    pair: Pair
    finding: str
    hits: Hits
    key: str

    @property
    def passages(self) -> list[Passage]:
        return [passage for _, passage in self.hits]

    def answer(self, text: str, by: str) -> Answer:
        return Answer(text, tuple(self.passages), tuple(score for score, _ in self.hits), by)


def write_many(writer, items: Mapping, keep) -> dict[str, str | KitError]:
    """key -> text or the error, for any writer; `keep(key, text)` is called as each text comes."""
    if hasattr(writer, "write_many"):
        return writer.write_many(items, keep)
    results: dict[str, str | KitError] = {}
    for key, (finding, passages) in items.items():
        try:
            results[key] = writer.write(finding, passages)
        except KitError as error:
            results[key] = error
        else:
            keep(key, results[key])
    return results


# --- opening one ---


def open_assistant(
    config: CqaSettings, folder: str | Path | None = None, credentialed: bool = False
) -> Assistant | None:
    """The assistant of `config`; None where CQA is off.

    folder: where answers, Chroma's files and the chat log are kept (default: the cache).
    credentialed: the findings come from records such as MIMIC's, whose text goes to endpoints on
    this machine only, unless ALLOW_REMOTE_TEXT. Raises ConfigError, DataError or ModelError with
    the next step.
    """
    if not config.cqa:
        return None
    folder = Path(folder) if folder else runtime.cache_dir() / "cqa"
    embedder = _embedder(config, credentialed)
    index = open_index(config.retriever, read_knowledge(config.knowledge), embedder,
                       folder / "chroma")  # fmt: skip
    writer = _writer(config, folder, credentialed)
    fallback = llm.ExtractiveWriter() if config.llm_fallback else None
    # The offline writer is quicker than any file.
    kept = folder / "answers.jsonl" if config.writer == "chat" else None
    return Assistant(index, writer, config.top_k, kept, fallback)


def read_knowledge(books: str = "") -> list[Passage]:
    """The passages of the folder `books` ('' = none), then the kit's notes; prints what of the
    books was left out.
    """
    notes = read_notes()
    if not books:
        return notes
    reading = read_folder(runtime.find_path(books) or books)
    if reading.skipped:
        print(f"{Path(books).name}: {reading.summary()}")
    return [*reading.passages, *notes]


def _embedder(config: CqaSettings, credentialed: bool) -> Embedder:
    client = None
    if config.embedder.startswith("endpoint:"):
        client = _client(config, config.embedder.removeprefix("endpoint:"), None, credentialed)
    return open_embedder(config.embedder, client, config.device)


def _writer(config: CqaSettings, folder: Path, credentialed: bool):
    if config.writer == "extractive":
        return llm.ExtractiveWriter()
    log = folder / "chat.jsonl"
    return llm.ChatWriter(_client(config, config.llm_model, log, credentialed))


def _client(config: CqaSettings, model: str, log: Path | None, credentialed: bool):
    endpoints.check(config.llm_url, credentialed, config.allow_remote_text)
    return llm.ChatClient(
        config.llm_url, model, jobs=config.llm_jobs, log=log, credentialed=credentialed,
        allow_remote=config.allow_remote_text,
    )  # fmt: skip


# --- the kit's notes alone ---


def read_notes(folder: Path = FOLDER) -> list[Passage]:
    """All sections of the kit's notes. Raises DataError when there is none."""
    return read_folder(folder).passages


class Notes(Assistant):
    """The kit's notes, found by TF-IDF, speaking for themselves; nothing is saved."""

    def __init__(self, passages: list[Passage] | None = None):
        super().__init__(ExactIndex(passages or read_notes(), Tfidf()), llm.ExtractiveWriter())

    @property
    def passages(self) -> list[Passage]:
        return self.index.passages
