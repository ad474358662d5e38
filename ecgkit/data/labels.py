"""Multi-hot labels from SCP statements.

The five superclasses follow the PTB-XL benchmark (Strodthoff et al. 2021): each *diagnostic*
statement listed for a record counts, whatever its likelihood (0 stands for "not given", not for
"absent"), and is mapped to its `diagnostic_class`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

SUPERCLASSES = ["NORM", "MI", "STTC", "CD", "HYP"]


def superclass_labels(cohort) -> tuple[np.ndarray, list[str]]:
    """Returns ((n, 5) float32 multi-hot, ["NORM", "MI", "STTC", "CD", "HYP"])."""
    statements = cohort.statements
    of_code = statements.loc[statements["diagnostic"] == 1, "diagnostic_class"].to_dict()
    sets = [
        {of_code[code] for code in codes if code in of_code} for codes in cohort.table["scp_codes"]
    ]
    return multi_hot(sets, SUPERCLASSES), list(SUPERCLASSES)


def code_labels(cohort, min_count: int = 1) -> tuple[np.ndarray, list[str]]:
    """((n, K) float32 multi-hot, codes): those on at least `min_count` ECGs, commonest first."""
    counts = Counter(code for codes in cohort.table["scp_codes"] for code in codes)
    kept = sorted((c for c, n in counts.items() if n >= min_count), key=lambda c: (-counts[c], c))
    return multi_hot(cohort.table["scp_codes"], kept), kept


def multi_hot(sets: Iterable[Iterable[str]], classes: list[str]) -> np.ndarray:
    """One set of names per row -> (n, K) float32; names outside `classes` are passed over."""
    sets = list(sets)
    column = {name: k for k, name in enumerate(classes)}
    hits = [(i, column[name]) for i, names in enumerate(sets) for name in names if name in column]
    labels = np.zeros((len(sets), len(classes)), np.float32)
    if hits:
        labels[tuple(np.array(hits).T)] = 1
    return labels
