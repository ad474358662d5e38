"""Structured reports: SCP statements with their confidences as text, and one vector per report.

Letters: n ECGs, K distinct statements, D embedding width. The words of a statement are turned into
a vector by an embedder (`text/report_encoder.py`).

Source: risk 1, the notebook of the published code; PTB-XL's scp_statements.csv.

Usage:

    findings = structured_report({"IMI": 15.0, "LNGQT": 100.0}, cohort.statements)
    print(render(findings))              # "...: inferior myocardial infarction, Confidence ..."
    print(render(findings, "prose"))     # sentences
    zero_effect(cohort.table["scp_codes"]).head()         # what dropping zero likelihoods loses
    book = embed_reports(cohort.table["scp_codes"], cohort.statements, embedder)
    book.vectors                         # (n, D): confidence-weighted means of the statements'
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ecgkit.text.report_encoder import (
    Embedder,
    bert_embedder,
    stand_in_embedder,
    text_embedder,
)
from ecgkit.text.statement_table import statement_table, unknown_codes
from ecgkit.types import DataError

__all__ = [
    "Embedder", "Finding", "ReportBook", "aggregate", "bert_embedder", "embed_reports", "line_of",
    "render", "stand_in_embedder", "statement_table", "structured_report", "text_embedder",
    "unknown_codes", "zero_effect", "zero_summary",
]  # fmt: skip

EMPTY = "No statement with a stated likelihood."
CATEGORY, SCP_TEXT = "Statement Category", "SCP-ECG Statement Description"
# How prose hedges: from this confidence up.
_DOUBT = ((1.0, "{}"), (0.75, "probably {}"), (0.5, "possibly {}"), (0.0, "{} cannot be excluded"))


@dataclass(frozen=True)
class Finding:
    """One statement of a report; `confidence` 0..1 is the SCP likelihood over 100, or what stands
    for it where none was given. `short` is PTB-XL's own short description.
    """

    code: str
    category: str
    description: str
    confidence: float
    short: str = ""
    given: bool = True


# --- one report -----------------------------------------------------------------------------------


def structured_report(
    codes: Mapping[str, float], statements: pd.DataFrame, zero_policy: str = "drop",
    zero_confidence: float = 0.5,
) -> list[Finding]:
    """SCP codes with likelihoods 0..100 -> findings, in the order given; [] where none is left.

    A likelihood of 0 means "not given", not "absent". `zero_policy`: drop (as published; loses
    nearly all rhythm and form statements) | keep (with `zero_confidence`).
    Raises DataError for a code the statement table does not have and for an impossible likelihood.
    """
    table = statement_table(statements)
    return _findings(codes, _Words(table), zero_policy, zero_confidence)


def _findings(codes, words: _Words, zero_policy: str, zero_confidence: float) -> list[Finding]:
    if zero_policy not in ("drop", "keep"):
        raise DataError(f"zero_policy is {zero_policy!r}; choose drop or keep.")
    findings = []
    for code, likelihood in codes.items():
        category, description, short = words[code]
        if not (isinstance(likelihood, (int, float, np.number)) and 0 <= likelihood <= 100):
            raise DataError(
                f"The likelihood of {code} is {likelihood!r}; PTB-XL gives 0 to 100, 0 = not given."
            )
        if likelihood == 0 and zero_policy == "drop":
            continue
        given = likelihood > 0
        confidence = float(likelihood) / 100 if given else zero_confidence
        findings.append(Finding(code, category, description, confidence, short, given))
    return findings


class _Words:
    """Code -> (category, SCP-ECG description, short description), looked up once each."""

    def __init__(self, table: pd.DataFrame):
        self._table, self._known = table, {}

    def __getitem__(self, code: str) -> tuple[str, str, str]:
        if code not in self._known:
            if code not in self._table.index:
                raise DataError(
                    f"SCP code {code!r} is not in scp_statements.csv; add it or drop the code."
                )
            line = self._table.loc[code]
            short = str(line["description"])
            self._known[code] = _said(line, CATEGORY, "Other"), _said(line, SCP_TEXT, short), short
        return self._known[code]


def _said(line: pd.Series, column: str, otherwise: str) -> str:
    value = line.get(column)
    return str(value) if isinstance(value, str) and value.strip() else otherwise


# --- as text --------------------------------------------------------------------------------------


def line_of(finding: Finding, style: str = "seed") -> str:
    """One statement as text. seed: with its confidence in per cent; reference: the published
    code's string, token names and missing space included; prose: a hedged sentence.

    The descriptions are spelled as in scp_statements.csv, lower case included.
    """
    if style == "seed":
        score = f"Confidence score: {100 * finding.confidence:.1f}"
        return f"{finding.category}: {finding.description}, {score}"
    if style == "reference":
        return f"[CLS] {finding.category}:{finding.description} [SCP]"
    if style == "prose":
        return _sentence([_hedged(finding)])
    raise DataError(f"style is {style!r}; choose seed or reference, or prose for reading.")


def render(findings: Iterable[Finding], style: str = "seed") -> str:
    """The report, one line per statement (prose: the plain findings in one sentence, a sentence for
    each doubtful one); an empty one says so.
    """
    findings = list(findings)
    if style == "prose" and findings:
        plain = [f for f in findings if f.confidence >= 1 or not f.given]
        told = [[_hedged(f) for f in plain]] if plain else []
        told += [[_hedged(f)] for f in findings if f not in plain]
        return " ".join(map(_sentence, told))
    lines = [line_of(finding, style) for finding in findings]
    return "\n".join(lines) if lines else EMPTY


def _hedged(finding: Finding) -> str:
    words = finding.short or finding.description
    if not finding.given:
        return words
    hedge = next(hedge for least, hedge in _DOUBT if finding.confidence >= least)
    doubt = "" if finding.confidence >= 1 else f" ({100 * finding.confidence:.0f} %)"
    return hedge.format(words) + doubt


def _sentence(parts: Sequence[str]) -> str:
    *first, last = parts
    text = f"{', '.join(first)} and {last}" if first else last
    return text[0].upper() + text[1:] + "."


# --- statements without a likelihood --------------------------------------------------------------


def zero_effect(
    scp_codes: Iterable[Mapping[str, float]], statements: pd.DataFrame | None = None
) -> pd.DataFrame:
    """What dropping statements of likelihood 0 loses, by code, the most first.

    Columns: `stated` (reports with the code), `dropped` (of them without a likelihood), `share`;
    with `statements` also `description`.
    """
    stated, dropped = Counter(), Counter()
    for codes in scp_codes:
        stated.update(list(codes))  # of a mapping it would add the likelihoods
        dropped.update(code for code, likelihood in codes.items() if likelihood == 0)
    table = pd.DataFrame({"stated": pd.Series(stated, dtype=int)})
    table["dropped"] = [dropped[code] for code in table.index]
    table["share"] = table["dropped"] / table["stated"]
    if statements is not None:
        table["description"] = statement_table(statements)["description"].reindex(table.index)
    table.index.name = "code"
    return table.sort_values(["dropped", "stated"], ascending=False, kind="stable")


def zero_summary(scp_codes: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Counts beside `zero_effect`: statements and how many are dropped, reports that lose one,
    reports left with none, distinct reports before and after.
    """
    reports = list(scp_codes)
    left = [{c: v for c, v in codes.items() if v != 0} for codes in reports]
    n_statements, n_left = sum(map(len, reports)), sum(map(len, left))
    losing = sum(len(a) < len(b) for a, b in zip(left, reports))
    return {
        "reports": len(reports), "statements": n_statements, "dropped": n_statements - n_left,
        "share": (n_statements - n_left) / max(1, n_statements), "losing": losing,
        "emptied": sum(bool(b) and not a for a, b in zip(left, reports)),
        "distinct_before": len({frozenset(codes.items()) for codes in reports}),
        "distinct_after": len({frozenset(codes.items()) for codes in left}),
    }  # fmt: skip


# --- vectors --------------------------------------------------------------------------------------


def aggregate(
    embeddings: np.ndarray, confidences: np.ndarray, normalise: bool = True
) -> np.ndarray:
    """(K, D), (K,) -> (D,) weighted by confidence; zeros where K is 0.

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
    = empty); `codes` the K embedded statements and `statement_vectors` (K, D); `unknown` code ->
    how often it was left out.
    """

    vectors: np.ndarray
    group: np.ndarray
    codes: list[str]
    statement_vectors: np.ndarray
    unknown: dict[str, int] = field(default_factory=dict)

    @property
    def has_text(self) -> np.ndarray:
        return self.group >= 0


def embed_reports(
    scp_codes: Iterable[Mapping[str, float]], statements: pd.DataFrame, embedder: Embedder,
    style: str = "reference", zero_policy: str = "drop", zero_confidence: float = 0.5,
    normalise: bool = True, unknown: str = "refuse",
) -> ReportBook:
    """Embeds every distinct statement once, then each report as their confidence-weighted mean.

    The confidence is a weight, never part of the embedded words (one text per statement). `style`
    "seed" embeds "Category: description", "reference" the published string, "prose" the short
    description. Codes the table does not have: "refuse" raises DataError that names and counts
    them, "skip" leaves them out and counts them in the book.
    """
    table, scp_codes = statement_table(statements), list(scp_codes)
    missing = unknown_codes(scp_codes, table)
    if missing and unknown != "skip":
        named = ", ".join(f"{code} ({n})" for code, n in list(missing.items())[:8])
        raise DataError(
            f"{len(missing)} SCP codes are not in scp_statements.csv: {named}; add them, or leave "
            'them out with unknown="skip".'
        )
    words, reports = _Words(table), []
    for codes in scp_codes:
        known = {code: value for code, value in codes.items() if code not in missing}
        reports.append(_findings(known, words, zero_policy, zero_confidence))
    distinct = {finding.code: finding for report in reports for finding in report}
    codes = sorted(distinct)
    texts = [_statement_text(distinct[code], style) for code in codes]
    if not texts:
        raise DataError("No ECG has a statement to embed; set ZERO_POLICY to keep.")
    vectors = np.asarray(embedder(texts), dtype=np.float32)  # (K, D)
    weights = _weights(reports, codes, normalise)
    _, group = np.unique(weights, axis=0, return_inverse=True)
    group = np.where(weights.any(1), group.ravel(), -1)
    group[group >= 0] = np.unique(group[group >= 0], return_inverse=True)[1]
    return ReportBook(weights @ vectors, group, codes, vectors, missing)


def _weights(reports: list[list[Finding]], codes: list[str], normalise: bool) -> np.ndarray:
    """(n, K) confidences, of each report summing to 1 where `normalise`."""
    column = {code: k for k, code in enumerate(codes)}
    weights = np.zeros((len(reports), len(codes)), np.float32)
    for i, report in enumerate(reports):
        for finding in report:
            weights[i, column[finding.code]] = finding.confidence
    if normalise:
        weights /= np.maximum(weights.sum(1, keepdims=True), 1e-12)
    return weights


def _statement_text(finding: Finding, style: str) -> str:
    if style == "seed":
        return f"{finding.category}: {finding.description}"
    return (finding.short or finding.description) if style == "prose" else line_of(finding, style)
