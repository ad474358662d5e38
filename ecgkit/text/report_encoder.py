"""Texts to vectors for structured reports: pooling, batches, a cache, and the offline stand-in.

Letters: n texts, L tokens, D width. An embedder takes n texts and gives (n, D) float32, not scaled
to unit length: the published mean is not.

Source: the notebook of the published code (risk 1): no special tokens added, every text padded to
100 tokens, the mean taken over all 100 positions.

Usage:

    embed, what = text_embedder("emilyalsentzer/Bio_ClinicalBERT", style="reference")
    embed(["[CLS] Rhythm:atrial fibrillation [SCP]"]).shape       # (1, 768), kept in the cache
    embed, what = text_embedder("stand-in")                       # what: for figure captions
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ecgkit import runtime
from ecgkit.config import short_hash
from ecgkit.text.encoders import load_text_encoder, longest_input
from ecgkit.types import ConfigError

Embedder = Callable[[list[str]], np.ndarray]  # n texts -> (n, D)

POOLINGS = ("published", "mean", "cls")
STAND_IN = "stand-in"
_PUBLISHED_TOKENS = 100


def text_embedder(
    name: str, style: str = "seed", pooling: str = "", device: str = "auto", keep: bool = True
) -> tuple[Embedder, str]:
    """(embedder, what it is): a Hugging Face encoder by hub id or folder, or the stand-in where
    `name` is "" or "stand-in".

    pooling: published | mean | cls; "" = published for the "reference" style, else mean. `what` is
    for captions. Raises ConfigError for an unknown pooling.
    """
    if name in ("", STAND_IN):
        return stand_in_embedder(), "offline stand-in: TF-IDF + SVD, not a clinical language model"
    pooling = pooling or ("published" if style == "reference" else "mean")
    embed = HFTextEmbedder(name, pooling, device=device, keep=keep)
    return embed, f"text encoder {name}, {_SAID[pooling]}"


_SAID = {
    "published": "mean over all 100 positions", "mean": "mean over its tokens", "cls": "first token"
}  # fmt: skip


def bert_embedder(name: str, style: str = "seed", most_tokens: int = _PUBLISHED_TOKENS) -> Embedder:
    """As `text_embedder`, without a cache; `style` "reference" pools as published."""
    pooling = "published" if style == "reference" else "mean"
    return HFTextEmbedder(name, pooling, most_tokens, keep=False)


class HFTextEmbedder:
    """A Hugging Face encoder with one of POOLINGS. Each text is embedded once per machine: vectors
    are kept in the cache under the model's content, the pooling and the text.

    The model is loaded when a text is new. Raises ModelError then where it cannot be loaded.
    """

    def __init__(
        self, name: str, pooling: str = "mean", most_tokens: int = _PUBLISHED_TOKENS,
        batch_size: int = 16, device: str = "auto", keep: bool = True,
    ):  # fmt: skip
        if pooling not in POOLINGS:
            raise ConfigError(f"pooling is {pooling!r}; choose {', '.join(POOLINGS)}.")
        self.name, self.pooling, self.most_tokens = name, pooling, most_tokens
        self.batch_size, self.device, self._loaded = batch_size, device, None
        self._kept = VectorCache([name_of_weights(name), pooling, most_tokens]) if keep else None

    def __call__(self, texts: list[str]) -> np.ndarray:
        """n texts -> (n, D)."""
        return self._kept(texts, self._compute) if self._kept else self._compute(texts)

    def _compute(self, texts: list[str]) -> np.ndarray:
        import torch

        tokenizer, model = self._model()
        order = np.argsort([len(text) for text in texts], kind="stable")
        out = np.zeros((len(texts), model.config.hidden_size), np.float32)
        for start in range(0, len(texts), self.batch_size):
            rows = order[start : start + self.batch_size]  # of like length: little is padding
            batch = self._tokens(tokenizer, model, [texts[i] for i in rows])
            with torch.inference_mode():
                states = model(**batch).last_hidden_state  # (B, L, D)
            out[rows] = pooled(states, batch["attention_mask"], self.pooling).float().cpu().numpy()
        return out

    def _model(self):
        if self._loaded is None:
            tokenizer, model = load_text_encoder(self.name)
            if tokenizer.pad_token is None:
                tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
            if getattr(model.config, "is_encoder_decoder", False):
                model = model.get_encoder()
            self._loaded = tokenizer, model.to(runtime.pick_device(self.device)).eval()
        return self._loaded

    def _tokens(self, tokenizer, model, texts: list[str]):
        published = self.pooling == "published"
        tokens = tokenizer(
            [text or " " for text in texts], return_tensors="pt", truncation=True,
            max_length=min(self.most_tokens, longest_input(tokenizer, model)),
            padding="max_length" if published else "longest", add_special_tokens=not published,
        )  # fmt: skip
        names = ("input_ids", "attention_mask")
        return {name: tokens[name].to(model.device) for name in names}


def pooled(states, mask, pooling: str):
    """(B, L, D) states, (B, L) mask 1 = token -> (B, D).

    published: mean over all L positions, padding's own states included (as the published code);
    mean: over the tokens; cls: the first token's state.
    """
    if pooling == "cls":
        return states[:, 0]
    if pooling == "published":
        return states.mean(1)
    weights = mask[..., None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1)


# --- cache ----------------------------------------------------------------------------------------


class VectorCache:
    """Vectors by text in one file of the cache; `key` names what computes them."""

    def __init__(self, key: list):
        self.path = runtime.cache_dir() / f"report-vectors-{short_hash(key)}.npz"

    def __call__(self, texts: list[str], compute: Embedder) -> np.ndarray:
        """(n, D): computes what is not there yet, each distinct text once, and keeps it."""
        marks = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
        known = self._read()
        missing = {mark: text for mark, text in zip(marks, texts) if mark not in known}
        if missing:
            known |= dict(zip(missing, compute(list(missing.values()))))
            self._write(known)
        return np.stack([known[mark] for mark in marks])

    def _read(self) -> dict[str, np.ndarray]:
        if not self.path.exists():
            return {}
        with runtime.reading_cached(self.path), np.load(self.path) as file:
            return dict(zip(file["marks"].tolist(), file["vectors"]))

    def _write(self, known: dict[str, np.ndarray]) -> None:
        # Two processes may write at once: the last one's file stays, and only time is lost.
        with runtime.replacing(self.path) as scratch, open(scratch, "wb") as file:
            np.savez(file, marks=np.array(list(known)), vectors=np.stack(list(known.values())))


def name_of_weights(name: str) -> str:
    """What decides a model's vectors: its hub id, or a hash of its folder's files."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return name
    files = sorted(p for p in folder.iterdir() if p.is_file())
    return short_hash([(p.name, _digest(p)) for p in files])


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- stand-in -------------------------------------------------------------------------------------


def stand_in_embedder(width: int = 64, seed: int = 0) -> Embedder:
    """An offline STAND-IN for a clinical BERT: TF-IDF of words and letter groups, reduced by SVD.

    Texts that share words lie close; it knows nothing of medicine. It is fitted on the texts it is
    given, so vectors of two calls do not compare.
    """

    def embed(texts: list[str]) -> np.ndarray:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import make_union

        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True)
        features = make_union(words, letters).fit_transform(texts)
        rank = min(width, features.shape[1] - 1, len(texts))
        if rank < 2:
            return features.toarray()[:, :width].astype(np.float32)
        reduced = TruncatedSVD(rank, random_state=seed).fit_transform(features)
        padded = np.pad(reduced, ((0, 0), (0, width - rank)))
        norm = np.linalg.norm(padded, axis=1, keepdims=True)
        return (padded / np.maximum(norm, 1e-9)).astype(np.float32)

    return embed
