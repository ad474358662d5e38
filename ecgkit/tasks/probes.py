"""Linear probes on frozen embeddings, with all training labels and with a few of them.

One logistic regression a class, on standardised embeddings. That problem is convex: with all labels
a second seed gives the same probe, so its `sd` is 0 and says nothing. Seeds matter where a share of
the labels is drawn: whole patients, each smaller share inside the larger ones. The penalty is fixed
(the kit's `probe_c`), or chosen on the validation split; the test split chooses nothing.

Letters: n and m ECGs, E width of an embedding, K classes.

Usage:

    scores = linear_probe(x[train], labels[train], x[test], c=0.1)           # (m, K)
    table = probe_table("ESI, linear probe", x, label_set(cohort, "superdiagnostic"), config)
    sweep = label_sweep("ESI, linear probe", x, labels, config)              # one line a share
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from ecgkit.tasks.embeddings import readable
from ecgkit.tasks.eval_tables import auc_line, join, names, tidy
from ecgkit.tasks.label_sets import LabelSet
from ecgkit.tasks.metrics import macro_auc
from ecgkit.tasks.thresholds import best_thresholds, f1_line
from ecgkit.types import ConfigError, DataError

GRID = (0.001, 0.01, 0.1, 1.0)  # penalties tried where none is given


def linear_probe(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, c: float = 0.1
) -> np.ndarray:
    """One logistic regression per class on standardised embeddings: (n, E), (n, K), (m, E) -> (m,
    K).

    A class with one label only in training scores its base rate everywhere, so its AUC is 0.5.
    """
    from sklearn.linear_model import LogisticRegression

    mean, std = train.mean(0), train.std(0) + 1e-6
    train, test = (train - mean) / std, (test - mean) / std
    scores = np.tile(labels.mean(0), (len(test), 1)).astype(float)
    for k in range(labels.shape[1]):
        if 0 < labels[:, k].sum() < len(labels):
            probe = LogisticRegression(C=c, max_iter=300).fit(train, labels[:, k] > 0.5)
            scores[:, k] = probe.predict_proba(test)[:, 1]
    return scores


def choose_c(train, labels, valid, valid_labels, grid=GRID) -> float:
    """The penalty of the highest macro AUC on the validation split, the strongest of equals.

    Where that AUC is undefined (no class has both labels there), the middle of the grid.
    """
    if not len(valid):
        return grid[len(grid) // 2]
    values = [macro_auc(valid_labels, linear_probe(train, labels, valid, c)) for c in grid]
    if not np.isfinite(values).any():
        return grid[len(grid) // 2]
    return grid[int(np.nanargmax(values))]


def probe_table(
    name: str, features: np.ndarray, labels: LabelSet, config, note: str = ""
) -> pd.DataFrame:
    """Macro AUC and macro F1 of a probe on all training labels; `features` (rows of store, E).

    `config.probe_c` 0 chooses the penalty on the validation split. ECGs without a finite embedding
    are left out and named. Raises DataError where the training or the test split has no label.
    """
    labels, unread = readable(labels, features)
    train, test = _splits(labels)
    x = features[labels.rows]
    scores, c = _fit(x, labels, train, config.probe_c)
    return tidy(_lines(name, labels, [scores], test, config, join(note, unread, f"C = {c:g}.")))


def label_sweep(
    name: str, features: np.ndarray, labels: LabelSet, config, note: str = ""
) -> pd.DataFrame:
    """A probe on each share of `config.fractions`; metric is `macro AUC at 5 % of labels` and so
    on, over `config.n_seeds` draws of patients. One column more than a tidy table: `fraction`.
    """
    labels, unread = readable(labels, features)
    train, test = _splits(labels)
    x, lines = features[labels.rows], []
    shares = parse_fractions(config.fractions)
    draws = [nested_shares(labels.patients[train], shares, config.seed + s)
             for s in range(config.n_seeds)]  # fmt: skip
    for share in shares:
        same = share == 1  # all labels: every seed gives this probe
        parts = [train[draw[share]] for draw in (draws[:1] if same else draws)]
        scores = [_fit(x, labels, part, config.probe_c)[0] for part in parts]
        said = join(note, unread, f"{len(parts[0])} training ECGs.", absent_note(labels, parts))
        line = _lines(name, labels, scores, test, config, said)[0]
        lines.append(line | {"metric": f"macro AUC at {100 * share:g} % of labels"})
    return tidy(lines).assign(fraction=shares)


def _fit(x, labels: LabelSet, train, c: float):
    """Scores (n, K) of every ECG of the set by a probe fitted on `train`, and its penalty."""
    truth, valid = labels.labels, labels.index("valid")
    if c <= 0:
        c = choose_c(x[train], truth[train], x[valid], truth[valid])
    return linear_probe(x[train], truth[train], x, c), c


def _lines(name, labels: LabelSet, scores: list, test, config, note: str) -> list[dict]:
    """Lines of the test split: AUC, and F1 at the validation split's thresholds."""
    valid, truth = labels.index("valid"), labels.labels
    common = dict(classes=labels.classes, patients=labels.patients[test], n_boot=config.n_boot,
                  seed=config.seed, note=note, min_positive=config.min_positive)  # fmt: skip
    on_test = [s[test] for s in scores]
    at = [best_thresholds(truth[valid], s[valid]) for s in scores]
    return [auc_line(name, labels.task, truth[test], on_test, **common),
            f1_line(name, labels.task, truth[test], on_test, at, **common)]  # fmt: skip


def _splits(labels: LabelSet) -> tuple[np.ndarray, np.ndarray]:
    train, test = labels.index("train"), labels.index("test")
    if not len(train) or not len(test):
        raise DataError(
            f"The task {labels.task!r} has {len(train)} training and {len(test)} test ECGs with a "
            "label; a probe needs both. Give more ECGs."
        )
    return train, test


# --- shares of the labels -------------------------------------------------------------------------


def parse_fractions(text: str) -> list[float]:
    """ "0.01 0.5 1" -> [0.01, 0.5, 1.0]. Raises ConfigError for anything but shares above 0."""
    try:
        shares = sorted({float(part) for part in text.replace(",", " ").split()})
    except ValueError:
        shares = []
    if not shares or shares[0] <= 0 or shares[-1] > 1:
        raise ConfigError(
            f"FRACTIONS is {text!r}; give shares above 0 and up to 1, separated by spaces."
        )
    return shares


def nested_shares(
    patients: np.ndarray, shares: list[float], seed: int
) -> dict[float, np.ndarray]:
    """Share -> positions (sorted) of the ECGs of that share of the patients, at least one.

    One random order of the patients serves all shares, so that each holds the smaller ones.
    """
    people, inverse = np.unique(patients, return_inverse=True)
    rank = np.random.default_rng([seed, 5]).permutation(len(people))[inverse]
    return {share: np.flatnonzero(rank < max(1, math.ceil(share * len(people))))
            for share in shares}  # fmt: skip


def absent_note(labels: LabelSet, parts: list[np.ndarray]) -> str:
    """A sentence naming classes that some draw of the training labels lacks."""
    lacking = np.any([labels.labels[part].sum(0) == 0 for part in parts], axis=0)
    absent = [c for c, lacks in zip(labels.classes, lacking) if lacks]
    if not absent:
        return ""
    where = "it" if len(parts) == 1 else f"some of {len(parts)} draws"
    return f"No training ECG of {names(absent)} in {where}: AUC 0.5 there."
