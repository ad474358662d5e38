"""ECG-report pairs, and which of them are shown the report of another ECG.

A pair's report is the source's free text, or the text of its SCP statements where that is empty; an
ECG without either is left out and counted.

Letters: B batch, C leads, T samples, P ECG tokens, L text tokens, N pairs, E exchanges.
Source: Oh et al. 2023 (ECG-QA), pretraining of M3AE and MedViLL; ecgqa.md 3.3.

Usage:

    pairs = open_pairs(config, cohort)                # or with the tokenizer of the QA model
    exchanges = draw_exchanges(pairs.wording[i], pairs.content[i], rng, share=0.5)    # (E, 2)
    batch = pairs.batch(i, exchanged(exchanges, len(i)))                # text of other ECGs
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ecgkit.config import short_hash
from ecgkit.text.masked_words import WordPieces, word_pieces
from ecgkit.text.question_cache import Tokens, open_tokens
from ecgkit.text.question_tokenizer import question_tokenizer
from ecgkit.text.reports import structured_report
from ecgkit.types import DataError


@dataclass(frozen=True)
class Pairs:
    """N pairs: `rows` of the store, split, wording and content (N,): equal numbers = the same text,
    or the same statements. `n_left_out` ECGs have neither report nor statement.
    """

    store: object
    rows: np.ndarray
    split: np.ndarray
    patients: np.ndarray
    texts: np.ndarray
    wording: np.ndarray
    content: np.ndarray
    n_left_out: int
    tokenizer: object
    words: WordPieces
    tokens: Tokens
    fingerprint: str

    def __len__(self) -> int:
        return len(self.rows)

    def index(self, split: str) -> np.ndarray:
        """Positions of the pairs of "train", "valid" or "test"."""
        return np.flatnonzero(self.split == split)

    def batch(self, positions: np.ndarray, source: np.ndarray | None = None) -> dict:
        """ecg (B, C, T) mV of the pairs at `positions`; text (B, L) and text_padding_mask (B, L)
        of their own reports, or of those at `positions[source]`.
        """
        ids, padding = self.tokens.read(positions if source is None else positions[source])
        ecg = self.store.read(self.rows[positions])
        return {"ecg": ecg, "text": ids, "text_padding_mask": padding}


def open_pairs(config, cohort, tokenizer=None, questions: Sequence[str] = ()) -> Pairs:
    """The cohort's pairs, tokenised once.

    tokenizer: one to share with a QA model; None trains (or loads) one from the training reports
    and the training `questions`, so that a QA model can take it over (`pairs.tokenizer`).
    Raises DataError when no ECG of the training folds has a report or a statement.
    """
    texts = np.array(report_texts(cohort.table, cohort.statements), dtype=object)
    rows = np.flatnonzero(texts != "")
    split = np.full(len(cohort), "", dtype=object)
    for name in ("train", "valid", "test"):
        split[cohort.rows(name)] = name
    used, split = texts[rows], split[rows]
    if not (split == "train").any():
        raise DataError(
            f"No ECG of {cohort.name}'s training folds has a report or a statement, so there is "
            "nothing to pretrain on; give a source with reports (DATA)."
        )
    if tokenizer is None:
        training = [*used[split == "train"], *questions]
        tokenizer = question_tokenizer(training, config.vl_vocab_size, config.tokenizer)
    tokens = open_tokens(tokenizer, used, config.vl_max_text)
    content = statement_numbers(cohort.table["scp_codes"].to_numpy()[rows])
    patients = cohort.table["patient_id"].to_numpy()[rows]
    name = short_hash([cohort.fingerprint, len(rows), config.vl_max_text,
                       sorted(tokenizer.get_vocab().items())])
    pairs = Pairs(cohort.store, rows, split, patients, used, tokens.which, content,
                  int((texts == "").sum()), tokenizer, word_pieces(tokenizer), tokens, name)
    assert len(pairs) + pairs.n_left_out == len(cohort)
    return pairs


def report_texts(table: pd.DataFrame, statements: pd.DataFrame) -> list[str]:
    """One text per ECG: its report, else its statements in words, else ''."""
    written = table["report"].fillna("").astype(str) if "report" in table else [""] * len(table)
    return [
        " ".join(report.split()) or _statements_in_words(codes, statements)
        for report, codes in zip(written, table["scp_codes"])
    ]


def _statements_in_words(codes: dict, statements: pd.DataFrame) -> str:
    known = {code: value for code, value in codes.items() if code in statements.index}
    findings = structured_report(known, statements, zero_policy="keep")
    return ", ".join(finding.description for finding in findings)


def statement_numbers(scp_codes: Sequence[dict]) -> np.ndarray:
    """(N,) equal numbers for equal sets of codes; an ECG without codes is like no other."""
    keys = [" ".join(sorted(codes)) or i for i, codes in enumerate(scp_codes)]
    return pd.factorize(np.array(keys, dtype=object))[0]


# --- reports of other ECGs ------------------------------------------------------------------------


def draw_exchanges(wording, content, rng: np.random.Generator, share: float = 0.5) -> np.ndarray:
    """Which rows of a batch exchange their reports: (E, 2), no row twice.

    On average `share` of the rows take part. Two rows are only exchanged where both the wording and
    the statements differ, (B,) numbers each: the same words, or the same findings in other words,
    would be no mismatch. Where too few rows differ there are fewer exchanges, or none.
    """
    wanted = int(share * len(wording) / 2 + rng.random())
    left, found = rng.permutation(len(wording)), []
    while len(left) > 1 and len(found) < wanted:
        first, left = left[0], left[1:]
        differs = (wording[left] != wording[first]) & (content[left] != content[first])
        if differs.any():
            partner = int(differs.argmax())
            found.append((first, left[partner]))
            left = np.delete(left, partner)
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def exchanged(exchanges: np.ndarray, n_rows: int) -> np.ndarray:
    """(B,) the row whose report each row is shown: its partner's, or its own."""
    source = np.arange(n_rows)
    source[exchanges[:, 0]], source[exchanges[:, 1]] = exchanges[:, 1], exchanges[:, 0]
    return source


def half_exchanged(exchanges: np.ndarray, n_rows: int) -> np.ndarray:
    """The published fault: swapping two rows of a tensor through views of it overwrites the first
    before it is read, so the second keeps its own report.
    """
    source = np.arange(n_rows)
    source[exchanges[:, 0]] = exchanges[:, 1]
    return source


def hide_tokens(n_rows: int, n_tokens: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """(B, P) bool, True = hidden: the same number in each row, P - floor(P * (1 - share))."""
    n_shown = int(n_tokens * (1 - share))
    return rng.random((n_rows, n_tokens)).argsort(1).argsort(1) >= n_shown
