"""Who turns passages and questions into vectors: words counted here, a Hugging Face encoder, or an
OpenAI-compatible endpoint.

Each has `name` (enters the index's hash), `min_score` (a cosine below it says nothing), and two
calls; rows are of unit length. N passages, n queries, D width.

Usage:

    embedder = open_embedder("")                  # TF-IDF; or "sentence-transformers/...", a folder
    vectors = embedder.fit(passages)              # (N, D), passages are a list of Passage
    embedder.embed(["atrial flutter"]) @ vectors.T
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

import numpy as np
import scipy.sparse as sp

from ecgkit import runtime
from ecgkit.config import short_hash
from ecgkit.text.passages import Passage
from ecgkit.types import DataError, ModelError

MIN_SCORE = 0.2  # below this TF-IDF cosine a passage shares only common words with the question
TEXT_NORM = 6.0  # what two rare words of a heading weigh together
_STOP = frozenset(
    "a an and are as at be by does each for from how has have in is it its no not of on one or ecg "
    "other than that the they this to under was when where which while with 12 lead reflected "
    "abnormalities changes".split()
)


class Embedder(Protocol):
    name: str
    min_score: float

    def fit(self, passages: Sequence[Passage]): ...

    def embed(self, queries: Sequence[str]): ...


# --- words ---


class Tfidf:
    """TF-IDF of words (sublinear counts, smooth inverse document frequency); sparse (N, D) rows.

    A passage is the sum of its heading's vector and its text's, the latter scaled to TEXT_NORM: a
    heading says what a passage is about, and rare words of it the most. The last column stands for
    words that no passage has: they count against every match, else one shared word decides it.
    """

    name = "tfidf-2"
    min_score = MIN_SCORE

    def fit(self, passages: Sequence[Passage]) -> sp.csr_matrix:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.preprocessing import normalize

        texts = [f"{' '.join(p.statements)} {p.text}" for p in passages]
        if not any(words(text) for text in texts):
            raise DataError("The passages hold no words to find them by; give a text in English.")
        self._vectorizer = TfidfVectorizer(analyzer=words, sublinear_tf=True, norm=None)
        self._vectorizer.fit([f"{p.heading} {text}" for p, text in zip(passages, texts)])
        headings = self._vectorizer.transform([p.heading for p in passages])
        said = normalize(self._vectorizer.transform(texts))
        vectors = normalize(headings + TEXT_NORM * said)
        return sp.hstack([vectors, sp.csr_matrix((len(texts), 1))], format="csr")

    def embed(self, queries: Sequence[str]) -> sp.csr_matrix:
        from sklearn.preprocessing import normalize

        known = normalize(self._vectorizer.transform(queries))
        vocabulary = self._vectorizer.vocabulary_
        bags = [words(query) for query in queries]
        shares = np.array([sum(w in vocabulary for w in bag) / max(1, len(bag)) for bag in bags])
        unknown = sp.csr_matrix((1 - shares)[:, None] ** 0.5)
        return sp.hstack([sp.diags(shares**0.5) @ known, unknown], format="csr")


def words(text: str) -> list[str]:
    """Lower-case words without the commonest ones; a plural s is dropped so that `waves` meets
    `wave`.
    """
    found = re.findall(r"[a-z0-9]{2,}", text.lower())
    return [w[:-1] if len(w) > 3 and w.endswith("s") and not w.endswith("ss") else w
            for w in found if w not in _STOP]


# --- sentence vectors ---


class Dense:
    """Unit float32 rows by `compute(texts)`; each text is embedded once per machine, as its vector
    is kept on disk under `name`.

    A passage is the mean of its heading's vector and that of heading and text, as a short question
    lies nearer to a heading than to any longer text.
    """

    min_score = 0.0

    def __init__(self, name: str, compute: Callable[[list[str]], np.ndarray]):
        self.name, self._kept = name, KeptVectors(name, compute)

    def fit(self, passages: Sequence[Passage]) -> np.ndarray:
        whole = [f"{p.heading}. {p.text}" if p.heading else p.text for p in passages]
        headings = [p.heading or text for p, text in zip(passages, whole)]
        vectors = self._kept([*whole, *headings])
        return _unit(vectors[: len(whole)] + vectors[len(whole) :])

    def embed(self, queries: Sequence[str]) -> np.ndarray:
        return self._kept(queries)


class HFEmbedder(Dense):
    """Mean-pooled states of a Hugging Face encoder, hub id or folder.

    The model is loaded when a text is new. Raises ModelError then where it cannot be.
    """

    def __init__(self, model: str, device: str = "auto"):
        super().__init__(f"hf-{_model_mark(model)}", self._compute)
        self._model, self._device, self._loaded = model, device, None

    def _compute(self, texts: list[str]) -> np.ndarray:
        from ecgkit.text.encoders import load_text_encoder, text_vectors

        if self._loaded is None:
            self._loaded = load_text_encoder(self._model)
        return text_vectors(*self._loaded, texts, device=self._device)


class EndpointEmbedder(Dense):
    """Vectors of an OpenAI-compatible endpoint, by `llm.ChatClient` or anything whose `embed` takes
    n texts to (n, D) and whose repr tells the model and where it is.
    """

    def __init__(self, client):
        super().__init__(f"endpoint-{client!r}", lambda texts: _checked(client.embed(texts), texts))


class KeptVectors:
    """Unit vectors by the text they are of, in one SQLite file per embedder: what was computed
    before a kill is there after it, and two processes may share the file.
    """

    def __init__(self, name: str, compute: Callable[[list[str]], np.ndarray], batch: int = 256):
        self._path = runtime.cache_dir() / f"vectors-{short_hash([name])}.sqlite"
        self._compute, self._batch = compute, batch

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """(n, D) float32. Raises DataError where the file is damaged."""
        keys = [hashlib.sha256(text.encode()).digest() for text in texts]
        missing = dict(zip(keys, texts))
        with closing(self._open()) as db:
            kept = dict(_rows(db, missing))
            missing = [(key, text) for key, text in missing.items() if key not in kept]
            for start in range(0, len(missing), self._batch):
                part = missing[start : start + self._batch]
                vectors = _unit(self._compute([text for _, text in part]))
                rows = [(key, v.tobytes()) for (key, _), v in zip(part, vectors)]
                with runtime.writing(self._path), db:
                    db.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
                kept.update(rows)
        if len({len(row) for row in kept.values()}) > 1:
            raise DataError(
                f"{self._path} holds vectors of two widths, so its model was changed; delete it."
            )
        return np.stack([np.frombuffer(kept[key], np.float32) for key in keys])

    def _open(self) -> sqlite3.Connection:
        create = "CREATE TABLE IF NOT EXISTS vectors (text BLOB PRIMARY KEY, v BLOB)"
        with runtime.writing(self._path), runtime.reading_cached(self._path):
            try:
                db = sqlite3.connect(self._path, timeout=60)
                db.execute(create)
            except sqlite3.DatabaseError as error:
                if runtime.refusal(error):
                    raise
                raise ValueError(error) from error
        return db


def _rows(db: sqlite3.Connection, keys) -> list[tuple[bytes, bytes]]:
    keys, found = list(keys), []
    for start in range(0, len(keys), 500):  # SQLite takes 999 parameters
        part = keys[start : start + 500]
        marks = ",".join("?" * len(part))
        found += db.execute(f"SELECT text, v FROM vectors WHERE text IN ({marks})", part)
    return found


# --- helpers ---


def open_embedder(name: str, client=None, device: str = "auto") -> Embedder:
    """The embedder of the setting EMBEDDER: '' | hub id or folder | endpoint:MODEL (`client`)."""
    if not name:
        return Tfidf()
    if name.startswith("endpoint:"):
        return EndpointEmbedder(client)
    return HFEmbedder(name, device)


def _model_mark(model: str) -> str:
    """Names a model: its hub id, or its folder's name with what its files are."""
    folder = Path(model).expanduser()
    if not folder.is_dir():
        return model
    stamps = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.iterdir())]
    return f"{folder.name}-{short_hash(stamps)}"


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, dtype=np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _checked(vectors, texts: list[str]) -> np.ndarray:
    """What an endpoint gave, (n, D) finite and not zero, or ModelError."""
    vectors = np.asarray(vectors, dtype=np.float32)
    right = vectors.ndim == 2 and len(vectors) == len(texts) and vectors.shape[1] > 0
    if not right or not np.isfinite(vectors).all() or not np.linalg.norm(vectors, axis=1).all():
        raise ModelError(
            f"The endpoint answered {len(texts)} texts with vectors of shape {vectors.shape} that "
            "are not one finite row each; give EMBEDDER a model made for embeddings."
        )
    return vectors
