"""Effects of the disagreements of ESI: see `discrepancy_effects.py`.

Letters: B batch, C leads, T samples, P tokens, D width, H heads, K answers.
"""

from __future__ import annotations

import heapq
import itertools

import numpy as np
from discrepancy_data import SEED, simulated

from ecgkit.data.sources.machine_wordings import from_scp
from ecgkit.tasks.label_sets import label_set
from ecgkit.tasks.risk_covariates import impute, measured_covariates
from ecgkit.tasks.thresholds import best_thresholds, macro_f1
from ecgkit.text.cqa import Notes
from ecgkit.text.statements import is_technical, normalise
from ecgkit.types import LEADS

# --- ESI ------------------------------------------------------------------------------------------


def completion_order(n: int, n_workers: int, rng: np.random.Generator) -> np.ndarray:
    """(n,) questions in the order their answers come: each worker takes the next one as it ends,
    for a log-normal time (SD of the logarithm 0.5)."""
    ends, order = [], []
    for i, took in enumerate(rng.lognormal(0, 0.5, n)):
        start = 0.0
        if len(ends) == n_workers:
            start, done = heapq.heappop(ends)
            order.append(done)
        heapq.heappush(ends, (start + took, i))
    return np.array(order + [i for _, i in sorted(ends)])


def esi_pairing() -> str:
    n, shares = 3862, []
    for n_workers in (1, 2, 8):
        orders = [completion_order(n, n_workers, np.random.default_rng(s)) for s in range(10)]
        shares.append(100 * np.mean([(order != np.arange(n)).mean() for order in orders]))
    return (
        f"{n:,} questions, simulated waiting times: {shares[0]:.0f} % of the answers stand beside "
        f"another statement with 1 thread, {shares[1]:.0f} % with 2, {shares[2]:.0f} % with 8; "
        "keyed: 0"
    )


def esi_technical() -> str:
    """All statements that name one to three unsuitable leads, as a cart prints them."""
    parts = (itertools.combinations(LEADS, k) for k in (1, 2, 3))
    said = [f"Lead(s) unsuitable for analysis: {', '.join(p)}" for p in itertools.chain(*parts)]
    notes = Notes()
    answered = sum(bool(notes.answer(one)) for one in said)
    found = sum(bool(hits) for hits in notes.index.retrieve([normalise(s) for s in said], 2))
    named = sum(map(is_technical, said))
    return (
        f"{len(said)} statements of such leads, made up: the kit knows {named} as technical and "
        f"describes {answered}; without that check its own retrieval would find a passage for "
        f"{found}"
    )


def esi_variants() -> str:
    """A dictionary of the training folds' statements, asked for those of the test folds."""
    cohort, _ = simulated()
    said = [[line for line in from_scp(codes, np.random.default_rng([SEED, i])) if line]
            for i, codes in enumerate(cohort.table["scp_codes"])]  # fmt: skip
    train, test = cohort.rows("train"), cohort.rows("test")
    lost = []
    for one_wording in (str, normalise):
        keys = {one_wording(line) for i in train for line in said[i]}
        lost.append(np.mean([any(one_wording(s) not in keys for s in said[i]) for i in test]))
    letters = {line for lines in said for line in lines}
    return (
        f"development cohort in carts' words (capitals and full stops vary as simulated): "
        f"{len(letters)} spellings of {len({normalise(s) for s in letters})} statements; looked up "
        f"among the training folds', {100 * lost[0]:.1f} % of the test ECGs drop out letter by "
        f"letter, {100 * lost[1]:.1f} % in one wording"
    )


def esi_f1_threshold() -> str:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    cohort, _ = simulated()
    labels = label_set(cohort, "superdiagnostic")
    train, valid, test = (labels.index(part) for part in ("train", "valid", "test"))
    x = impute(measured_covariates(cohort, labels.rows), train).to_numpy()
    x = StandardScaler().fit(x[train]).transform(x)
    y = labels.labels
    models = [LogisticRegression(max_iter=1000).fit(x[train], y[train, k] > 0) for k in range(5)]
    scores = np.stack([model.predict_proba(x)[:, 1] for model in models], axis=1)
    at = {"half": np.full(5, 0.5), "valid": best_thresholds(y[valid], scores[valid]),
          "test": best_thresholds(y[test], scores[test])}  # fmt: skip
    f1 = {name: macro_f1(y[test], scores[test] >= t) for name, t in at.items()}
    return (
        f"development cohort, 5 superclasses by logistic regression on 8 measurements: macro F1 "
        f"{f1['half']:.3f} at .5, {f1['valid']:.3f} at thresholds of the validation fold, "
        f"{f1['test']:.3f} at the test fold's own best"
    )


EFFECTS = (
    esi_pairing, esi_technical, esi_variants, esi_f1_threshold,
)
