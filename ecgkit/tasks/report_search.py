"""Search between ECGs and reports in the space that alignment made: the nearest reports of an ECG,
and the nearest ECGs of a report.

Many records share a report, so a search answers with distinct reports, and scores count an equal
report as right. A space that has collapsed has everything at one place: similarities are rounded
before they are ranked, so that noise in the last digit decides nothing, and ties count as what a
random order would give. Beside chance stands `commonest`: always naming the reports that most of
these ECGs have, which a good recall must exceed.

Letters: n ECGs, m reports, U distinct reports, P width of the shared space.

Usage:

    search = held_out_search(study, aligned.autoencoder, projectors, index_codes, statements)
    search.by_ecg(0, k=5)             # place, similarity, codes, shared, own, ecgs
    search.by_text(0, k=5)
    search.scores()["ecg_to_report"]  # {"n": 300, "recall@1": 0.2, "chance@1": 0.02, ...}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ecgkit.tasks.retrieval_scores import AT, chance_at, hits_at, places
from ecgkit.text.reports import Finding, render, structured_report
from ecgkit.text.statement_table import statement_table
from ecgkit.types import DataError

DIGITS = 6  # of a cosine in float32; what differs behind them is rounding


@dataclass
class ReportSearch:
    """`ecg` (n, P), `text` (m, P) projected vectors of any length; `reports` m lists of findings;
    `group` (m,) equal numbers = equal reports, -1 = no report. `ecg_group` (n,) is each ECG's own,
    by default `group` where n = m.

    `written` are m free texts, shown by `by_ecg` where given; those of `credentialed` records only
    with `show_text`. Raises DataError for shapes that do not fit and vectors that are not finite.
    """

    ecg: np.ndarray
    text: np.ndarray
    reports: Sequence[Sequence[Finding]]
    group: np.ndarray
    ecg_group: np.ndarray | None = None
    written: Sequence[str] | None = None
    credentialed: bool = False
    show_text: bool = False
    similarity: np.ndarray = field(init=False, repr=False)  # (n, U)

    def __post_init__(self):
        self.ecg, self.text = _unit(self.ecg, "ecg"), _unit(self.text, "text")
        self.group = np.asarray(self.group)
        self._check()
        self.ecg_group = self.group if self.ecg_group is None else np.asarray(self.ecg_group)
        self._names, self._first = np.unique(self.group, return_index=True)
        told = self._names >= 0
        self._names, self._first = self._names[told], self._first[told]
        if not len(self._names):
            raise DataError("No record has a report to search; set ZERO_POLICY to keep.")
        self.similarity = np.round(self.ecg @ self.text[self._first].T, DIGITS)

    def _check(self) -> None:
        n, m = len(self.ecg), len(self.text)
        if self.ecg.shape[1] != self.text.shape[1]:
            raise DataError(
                f"ECGs have {self.ecg.shape[1]} dimensions and reports {self.text.shape[1]}; give "
                "both after their projectors."
            )
        if not len(self.reports) == len(self.group) == m:
            raise DataError(
                f"{m} report vectors, {len(self.reports)} reports and {len(self.group)} groups; "
                "give one each."
            )
        own = self.group if self.ecg_group is None else self.ecg_group
        if len(own) != n:
            raise DataError(f"{n} ECGs but {m} reports: say by ecg_group which one each ECG has.")
        if self.written is not None and len(self.written) != m:
            raise DataError(f"{len(self.written)} written reports for {m}; give one each.")

    @property
    def n_reports(self) -> int:
        """Distinct reports."""
        return len(self._names)

    # --- answers

    def by_ecg(self, i: int, k: int = 5, style: str = "") -> pd.DataFrame:
        """The k distinct reports nearest to ECG i; with a `style` of `reports.render` also
        `statements`, the report in such words.

        place (equal for ties), similarity, codes, shared (codes that its own report has too), own
        (True = its own report), ecgs (how many of the n have it); report where text may be shown.
        """
        at = _index(i, len(self.ecg), "ECG")
        scores = self.similarity[at]
        nearest = np.argsort(-scores, kind="stable")[:k]
        own = self._of_group(self.ecg_group[at])
        rows = [self._row(scores, u, self._codes(u), own) for u in nearest]
        table = pd.DataFrame(rows)
        table["own"] = self._names[nearest] == self.ecg_group[at]
        table["ecgs"] = [int((self.ecg_group == self._names[u]).sum()) for u in nearest]
        if style:
            table["statements"] = [self.read(self._first[u], style) for u in nearest]
        if self.written is not None and (self.show_text or not self.credentialed):
            table["report"] = [self.written[self._first[u]] for u in nearest]
        return table

    def by_text(self, j: int, k: int = 5) -> pd.DataFrame:
        """The k ECGs nearest to report j: place, similarity, codes of each ECG's own report, shared
        (with the query), own (True = has report j), ecg (its position).
        """
        at = _index(j, len(self.text), "report")
        column = np.flatnonzero(self._names == self.group[at])
        if not len(column):
            raise DataError(f"Report {j} is empty, so it is near to nothing; take another.")
        scores = self.similarity[:, column[0]]
        nearest = np.argsort(-scores, kind="stable")[:k]
        query = self._codes(column[0])
        found = [self._of_group(self.ecg_group[i]) for i in nearest]
        table = pd.DataFrame(
            [self._row(scores, i, codes, query) for i, codes in zip(nearest, found)]
        )
        table["own"] = self.ecg_group[nearest] == self.group[at]
        table["ecg"] = nearest
        return table

    def read(self, j: int, style: str = "prose") -> str:
        """Report j in words made from its statements."""
        return render(self.reports[_index(j, len(self.text), "report")], style)

    def _row(self, scores: np.ndarray, at: int, codes: list[str], query: list[str]) -> dict:
        shared = [code for code in codes if code in query]
        return {
            "place": 1 + int((scores > scores[at]).sum()), "similarity": float(scores[at]),
            "codes": ", ".join(codes), "shared": ", ".join(shared),
        }  # fmt: skip

    def _codes(self, u: int) -> list[str]:
        return [finding.code for finding in self.reports[self._first[u]]]

    def _of_group(self, name: int) -> list[str]:
        column = np.flatnonzero(self._names == name)
        return self._codes(column[0]) if len(column) else []

    # --- scores

    def scores(self) -> dict[str, dict[str, float]]:
        """"ecg_to_report" (queries: ECGs with a report among the m; candidates: the U distinct
        ones) and "report_to_ecg" (queries: distinct reports that some ECG has; candidates: all n).

        Each: n queries, candidates, and recall@k, chance@k for k of 1, 5, 10, with ties in random
        order; median_place; tied (share of queries whose right answer is tied with a wrong one).
        ECG to report also commonest@k: always naming the k reports that most of these ECGs have.
        """
        right = self.ecg_group[:, None] == self._names[None]  # (n, U)
        asked, named = right.any(1), right.any(0)
        forward = _scores(self.similarity[asked], right[asked])
        share = np.sort(right[asked].mean(0))[::-1] if asked.any() else np.zeros(1)
        forward |= {f"commonest@{k}": float(share[:k].sum()) for k in AT}
        backward = _scores(self.similarity.T[named], right.T[named])
        return {"ecg_to_report": forward, "report_to_ecg": backward}

    def score_table(self) -> pd.DataFrame:
        """`scores` as rows: direction, k, recall, chance, commonest (NaN the other way), n."""
        rows = []
        for direction, found in self.scores().items():
            for k in AT:
                rows.append({
                    "direction": direction.replace("_", " ").replace("ecg", "ECG"), "k": k,
                    "recall": found[f"recall@{k}"], "chance": found[f"chance@{k}"],
                    "commonest": found.get(f"commonest@{k}", np.nan), "n": found["n"],
                })  # fmt: skip
        return pd.DataFrame(rows)


def _scores(similarity: np.ndarray, right: np.ndarray) -> dict[str, float]:
    if not len(similarity):
        raise DataError("No query has its own report among those to search; give paired records.")
    better, tied = places(similarity, right)
    found = {"n": len(right), "candidates": right.shape[1]}
    for k in AT:
        found[f"recall@{k}"] = float(hits_at(better, tied, k).mean())
        found[f"chance@{k}"] = chance_at(right, k)
    found["median_place"] = float(np.median(1 + better + tied / 2))
    found["tied"] = float((tied > 0).mean())
    return found


def _unit(vectors, name: str) -> np.ndarray:
    vectors = np.asarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or not len(vectors):
        raise DataError(f"{name} has shape {vectors.shape}; give one row per record.")
    if not np.isfinite(vectors).all():
        raise DataError(f"{name} holds values that are not finite; look at the training log.")
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _index(i: int, n: int, what: str) -> int:
    if not -n <= i < n:
        raise DataError(f"There is no {what} {i}; choose 0 to {n - 1}.")
    return int(i) % n


# --- from a study ---------------------------------------------------------------------------------


def held_out_search(
    study, autoencoder, projectors, scp_codes: Sequence[Mapping[str, float]],
    statements: pd.DataFrame, most: int = 400, written: Sequence[str] | None = None,
    credentialed: bool = False, show_text: bool = False,
) -> ReportSearch:  # fmt: skip
    """The search among test patients that have a report, as `risk.held_out_pairs` takes them.

    scp_codes, `written`: one per row of the study. The zero policy is the study's. Raises DataError
    where the numbers of rows differ.
    """
    from ecgkit.tasks.risk import held_out_pairs

    ecg, text, group = held_out_pairs(study, autoencoder, projectors, most)
    at = study.test[(study.group[study.test] >= 0).numpy()][:most]
    codes, c, table = list(scp_codes), study.config, statement_table(statements)
    if len(codes) != len(study.group):
        raise DataError(
            f"{len(codes)} sets of codes for {len(study.group)} patients; give those of the index "
            "ECGs, one per row of the study."
        )
    known = [{k: v for k, v in codes[i].items() if k in table.index} for i in at]
    reports = [
        structured_report(one, table, c.zero_policy, c.zero_confidence) for one in known
    ]
    chosen = None if written is None else [list(written)[i] for i in at]
    return ReportSearch(
        ecg.numpy(), text.numpy(), reports, group.numpy(), written=chosen,
        credentialed=credentialed, show_text=show_text,
    )  # fmt: skip
