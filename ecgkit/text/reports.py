"""Structured reports: SCP statements with their confidences as text, and their embedding.

Shape letters: n ECGs, K distinct statements, D embedding width.

Usage:
    findings = structured_report({"IMI": 15.0, "LNGQT": 100.0}, cohort.statements)
    print(render(findings))     # "...: inferior myocardial infarction, Confidence score: 15.0"
    book = embed_reports(cohort.table["scp_codes"], cohort.statements, embedder)
    book.vectors                      # (n, D): confidence-weighted means of statement embeddings
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ecgkit.types import DataError

Embedder = Callable[[list[str]], np.ndarray]  # K texts -> (K, D)


@dataclass(frozen=True)
class Finding:
    """One statement of a report; `confidence` 0..1 is the SCP likelihood over 100."""

    code: str
    category: str
    description: str
    confidence: float


def structured_report(
    codes: Mapping[str, float], statements: pd.DataFrame, zero_policy: str = "drop",
    zero_confidence: float = 0.5,
) -> list[Finding]:
    """SCP codes with likelihoods 0..100 -> findings, in the order given.

    A likelihood of 0 means "not given", not "absent". `zero_policy`: drop (as published; loses
    nearly all rhythm and form statements) | keep (with `zero_confidence`).
    Raises DataError for a code the statement table does not have.
    """
    if zero_policy not in ("drop", "keep"):
        raise DataError(f"zero_policy is {zero_policy!r}; choose drop or keep.")
    findings = []
    for code, likelihood in codes.items():
        if code not in statements.index:
            raise DataError(
                f"SCP code {code!r} is not in scp_statements.csv; add it or drop the code."
            )
        if likelihood == 0 and zero_policy == "drop":
            continue
        line = statements.loc[code]
        confidence = likelihood / 100 if likelihood > 0 else zero_confidence
        findings.append(Finding(code, _category(line), _description(line), confidence))
    return findings


def _category(line: pd.Series) -> str:
    value = line.get("Statement Category")
    return str(value) if isinstance(value, str) and value.strip() else "Other"


def _description(line: pd.Series) -> str:
    value = line.get("SCP-ECG Statement Description")
    return str(value) if isinstance(value, str) and value.strip() else str(line["description"])


def line_of(finding: Finding, style: str = "seed") -> str:
    """One statement as text. seed: with its confidence in per cent; reference: the published
    code's string, token names and missing space included."""
    if style == "seed":
        score = f"Confidence score: {100 * finding.confidence:.1f}"
        return f"{finding.category}: {finding.description}, {score}"
    if style == "reference":
        return f"[CLS] {finding.category}:{finding.description} [SCP]"
    raise DataError(f"style is {style!r}; choose seed or reference.")


def render(findings: Iterable[Finding], style: str = "seed") -> str:
    """The report, one line per statement; an empty one says so."""
    lines = [line_of(finding, style) for finding in findings]
    return "\n".join(lines) if lines else "No statement with a stated likelihood."


# --- embedding ------------------------------------------------------------------------------------


def aggregate(
    embeddings: np.ndarray, confidences: np.ndarray, normalise: bool = True
) -> np.ndarray:
    """(K, D), (K,) -> (D,) weighted by confidence.

    `normalise` divides by the sum (as published): then {IMI: 15} alone equals {IMI: 100}, and the
    absolute doubt is lost; without it a doubtful report has a short vector.
    """
    weights = np.asarray(confidences, dtype=np.float64)
    total = weights.sum()
    if normalise and total > 0:
        weights = weights / total
    return (weights @ np.asarray(embeddings, dtype=np.float64)).astype(np.float32)


@dataclass(frozen=True)
class ReportBook:
    """`vectors` (n, D) float32, zero where a report is empty; `group` (n,) id of equal reports (-1
    = empty); `codes` the K embedded statements and `statement_vectors` (K, D)."""

    vectors: np.ndarray
    group: np.ndarray
    codes: list[str]
    statement_vectors: np.ndarray

    @property
    def has_text(self) -> np.ndarray:
        return self.group >= 0


def embed_reports(
    scp_codes: Iterable[Mapping[str, float]], statements: pd.DataFrame, embedder: Embedder,
    style: str = "reference", zero_policy: str = "drop", zero_confidence: float = 0.5,
    normalise: bool = True,
) -> ReportBook:
    """Embeds every distinct statement once, then each report as their confidence-weighted mean.

    The confidence is a weight, never part of the embedded words (one text per statement). `style`
    "seed" embeds "Category: description", "reference" the published string.
    """
    reports = [structured_report(c, statements, zero_policy, zero_confidence) for c in scp_codes]
    distinct = {finding.code: finding for report in reports for finding in report}
    codes = sorted(distinct)
    texts = [_statement_text(distinct[code], style) for code in codes]
    if not texts:
        raise DataError("No ECG has a statement to embed; set ZERO_POLICY to keep.")
    vectors = np.asarray(embedder(texts), dtype=np.float32)  # (K, D)
    column = {code: k for k, code in enumerate(codes)}
    weights = np.zeros((len(reports), len(codes)), np.float32)
    for i, report in enumerate(reports):
        for finding in report:
            weights[i, column[finding.code]] = finding.confidence
    if normalise:
        weights /= np.maximum(weights.sum(1, keepdims=True), 1e-12)
    _, group = np.unique(weights, axis=0, return_inverse=True)
    group = np.where(weights.any(1), group.ravel(), -1)
    return ReportBook(weights @ vectors, group, codes, vectors)


def _statement_text(finding: Finding, style: str) -> str:
    text = line_of(finding, style)
    return text.rpartition(", Confidence")[0] if style == "seed" else text


def text_embedder(name: str, style: str = "seed") -> tuple[Embedder, str]:
    """(embedder, what it is): the BERT `name` (hub id or folder), or the stand-in when ''."""
    if not name:
        return stand_in_embedder(), "offline stand-in: TF-IDF + SVD, not a clinical language model"
    return bert_embedder(name, style), f"text encoder {name}"


def bert_embedder(name: str, style: str = "seed", most_tokens: int = 100) -> Embedder:
    """Mean of a BERT's last hidden states. Raises ModelError when it cannot be loaded.

    "seed": over the real tokens. "reference", as published: no special tokens are added, every text
    is padded to 100 tokens, and the padding is averaged in.
    """
    from ecgkit.text.encoders import load_text_encoder

    tokenizer, model = load_text_encoder(name)
    published = style == "reference"

    def embed(texts: list[str]) -> np.ndarray:
        import torch

        tokens = tokenizer(
            texts, return_tensors="pt", truncation=True, max_length=most_tokens,
            padding="max_length" if published else "longest", add_special_tokens=not published,
        )
        with torch.no_grad():
            states = model.eval()(
                input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
            ).last_hidden_state  # (K, L, D)
        mask = tokens["attention_mask"][..., None].float()
        weights = torch.ones_like(mask) if published else mask
        return ((states * weights).sum(1) / weights.sum(1)).numpy()

    return embed


def stand_in_embedder(width: int = 64, seed: int = 0) -> Embedder:
    """An offline STAND-IN for a clinical BERT: TF-IDF of words and letter groups, reduced by SVD.

    Texts that share words lie close; it knows nothing of medicine.
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
