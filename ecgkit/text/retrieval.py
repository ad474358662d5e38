"""The passages nearest to a question: exact cosine, or Chroma, behind one call.

Exact is the default: quicker for a shelf of textbooks, and it misses nothing. Chroma is what the
paper used; it searches approximately and keeps its own files.

Usage:

    index = open_index("exact", passages, Tfidf())
    index.retrieve(["atrial flutter"], k=2)
    # [[(0.61, Passage), (0.33, Passage)]]: one list per query, best first
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from ecgkit import runtime
from ecgkit.config import short_hash
from ecgkit.text.embedders import Embedder
from ecgkit.text.passages import Passage
from ecgkit.types import ConfigError, DataError

Hits = list[tuple[float, Passage]]  # best first
_BLOCK = 512  # queries at a time: bounds the (queries, N) table of scores
_EF = 1000  # how widely Chroma searches; its own 100 misses a quarter of the best 2 of 5,000


def open_index(kind: str, passages: Sequence[Passage], embedder: Embedder, folder=None):
    """`kind` exact | chroma. Raises ConfigError where Chroma is asked for but not installed."""
    if not passages:
        raise DataError("There are no passages to retrieve from; give a folder with some.")
    if kind == "chroma":
        return ChromaIndex(passages, embedder, folder)
    return ExactIndex(passages, embedder)


class ExactIndex:
    """Cosine with every passage; equal scores keep the passages' order."""

    def __init__(self, passages: Sequence[Passage], embedder: Embedder):
        self.passages, self.embedder = list(passages), embedder
        self._vectors = embedder.fit(self.passages)  # (N, D), sparse or dense

    def retrieve(self, queries: Sequence[str], k: int = 2) -> list[Hits]:
        """For each query its `k` nearest passages that reach the embedder's `min_score`."""
        hits: list[Hits] = []
        for start in range(0, len(queries), _BLOCK):
            scores = self.embedder.embed(queries[start : start + _BLOCK]) @ self._vectors.T
            dense = scores.toarray() if sp.issparse(scores) else scores  # (n, N)
            hits += [self._best(row, k) for row in dense]
        return hits

    def _best(self, scores: np.ndarray, k: int) -> Hits:
        best = np.argsort(-scores, kind="stable")[:k]
        found = [(float(scores[i]), self.passages[i]) for i in best]
        return [(score, p) for score, p in found if score >= self.embedder.min_score]


class ChromaIndex:
    """A collection of an embedded Chroma in `folder` (default: the cache), cosine space.

    Its name holds the hash of the embedder and of the passages: unchanged ones are opened as they
    are, changed ones are written anew and the collection of the same files' old content is dropped.
    """

    def __init__(self, passages: Sequence[Passage], embedder: Embedder, folder=None):
        self.passages, self.embedder = list(passages), embedder
        client = _client(Path(folder) if folder else runtime.cache_dir() / "chroma")
        family = short_hash([embedder.name, sorted({p.file for p in self.passages})])
        name = f"cqa-{family}-{short_hash([asdict(p) for p in self.passages])}"
        for other in client.list_collections():
            if other.name.startswith(f"cqa-{family}-") and other.name != name:
                client.delete_collection(other.name)
        self._collection = client.get_or_create_collection(
            name,
            embedding_function=None,  # Chroma's own would download a model
            configuration={"hnsw": {"space": "cosine", "ef_construction": 200, "ef_search": _EF}},
        )
        self._fill()

    def _fill(self) -> None:
        """Writes the passages where they are not all there; TF-IDF has to see them anyway."""
        vectors = self.embedder.fit(self.passages)
        if self._collection.count() == len(self.passages):
            return
        for start in range(0, len(self.passages), _BLOCK):
            rows = range(start, min(start + _BLOCK, len(self.passages)))
            self._collection.upsert(
                ids=[str(i) for i in rows],
                embeddings=_dense(vectors[rows.start : rows.stop]),
                documents=[self.passages[i].text for i in rows],
                metadatas=[{"title": self.passages[i].title, "file": self.passages[i].file}
                           for i in rows],
            )  # fmt: skip

    def retrieve(self, queries: Sequence[str], k: int = 2) -> list[Hits]:
        """As `ExactIndex.retrieve`; near the k-th place it may miss one of many thousands."""
        hits: list[Hits] = []
        n = min(k, len(self.passages))
        for start in range(0, len(queries), _BLOCK):
            vectors = _dense(self.embedder.embed(queries[start : start + _BLOCK]))
            found = self._collection.query(
                query_embeddings=vectors, n_results=n, include=["distances"]
            )
            hits += [self._named(*row) for row in zip(found["ids"], found["distances"])]
        return hits

    def _named(self, ids: list[str], distances: list[float]) -> Hits:
        ranked = sorted((round(d, 6), int(i)) for i, d in zip(ids, distances))
        found = [(1 - d, self.passages[i]) for d, i in ranked]
        return [(score, p) for score, p in found if score >= self.embedder.min_score]


def _client(folder: Path):
    try:
        import chromadb
        from chromadb.config import Settings
    except ImportError:
        raise ConfigError(
            "RETRIEVER=chroma needs Chroma, which is not installed; pip install ecgkit[rag], or "
            "set RETRIEVER=exact."
        ) from None
    folder.mkdir(parents=True, exist_ok=True)
    with runtime.reading_cached(folder):
        try:
            return chromadb.PersistentClient(str(folder), Settings(anonymized_telemetry=False))
        except (chromadb.errors.ChromaError, RuntimeError) as error:
            raise ValueError(error) from error


def _dense(vectors) -> np.ndarray:
    return np.asarray(vectors.toarray() if sp.issparse(vectors) else vectors, dtype=np.float32)
