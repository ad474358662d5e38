"""The ECGs of an ESI pretraining as one list, whichever source each comes from.

An item is an ECG: first every row of the study's own cohort, so that a row of it is an item too,
then what was chosen of the further sources. Stores name their leads, so that MIMIC's, which has aVF
before aVL on disk, gives the same lead in the same row.

Letters: S sources, N items, P items to train on, B batch, C leads, T samples.
Source: Yu et al. 2024 (TMLR), section 4.1 and Table 1; sizes and misaligned pairs: Figs. 5 and 7.

Usage:

    mixture = open_mixture(config, cohort)
    mixture.read(mixture.train[:8])                    # (8, C, T) float32 mV, of several sources
    mixture.table()                                    # ECGs per source
    caption_of = dealt(mixture.train, len(mixture), share=0.2, seed=0)
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ecgkit.config import EsiConfig, short_hash
from ecgkit.data.cohort import Cohort
from ecgkit.tasks.esi_sources import further_cohorts, training_rows
from ecgkit.types import ConfigError, DataError


@dataclass(frozen=True)
class Mixture:
    """S `cohorts`, the study's own first; item i is `row[i]` of `cohorts[source[i]]`, both (N,).
    `train` (P,): the items to train on, rising.
    """

    cohorts: tuple[Cohort, ...]
    source: np.ndarray
    row: np.ndarray
    train: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def read(self, items) -> np.ndarray:
        """Items (B,) -> (B, C, T) float32 mV, leads in the order of `store.leads`."""
        items = np.asarray(items)
        source, store = self.source[items], self.cohorts[0].store
        if not source.any():
            return store.read(self.row[items])
        out = np.empty((len(items), len(store.leads), store.n_samples), np.float32)
        for s in np.unique(source):
            mine = source == s
            out[mine] = self.cohorts[s].store.read(self.row[items[mine]])
        return out

    def rows_of(self, s: int) -> np.ndarray:
        """Rows of source `s` that are items, in the order of the items."""
        return self.row[self.source == s]

    def labels(self) -> list[str]:
        """A name for each source; a second one of a kind is numbered."""
        return _labels(self.cohorts)

    def names(self, items) -> list[str]:
        """`source ecg_id` of each item, to be told where something went wrong."""
        labels = self.labels()
        return [f"{labels[s]} {self.cohorts[s].table['ecg_id'].iloc[r]}"
                for s, r in zip(self.source[items], self.row[items])]  # fmt: skip

    def table(self) -> pd.DataFrame:
        """ECGs per source, as in the paper's Table 1: source, stored, pretraining, seconds, Hz,
        text.
        """
        counts = np.bincount(self.source[self.train], minlength=len(self.cohorts))
        return pd.DataFrame(
            [
                {"source": label, "stored": len(cohort), "pretraining": int(n),
                 "seconds": _seconds(cohort), "Hz": f"{cohort.base.fs:g}", "text": _text(cohort)}
                for label, cohort, n in zip(self.labels(), self.cohorts, counts)
            ]
        )  # fmt: skip

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits of the sources and of what is trained on."""
        chosen = zlib.crc32(np.stack([self.source, self.row]).astype(np.int64).tobytes())
        trained = zlib.crc32(self.train.astype(np.int64).tobytes())
        return short_hash([[c.fingerprint for c in self.cohorts], chosen, trained])


def open_mixture(config: EsiConfig, own: Cohort) -> Mixture:
    """The study's own cohort and those of MORE_DATA, of which ONLY_SOURCE and N_PRETRAIN choose.

    A smaller N_PRETRAIN is part of a larger one. Raises DataError when nothing is left to train on
    or N_PRETRAIN asks for more than there is, ConfigError when no source is called ONLY_SOURCE.
    """
    cohorts = [own, *further_cohorts(config, own)]
    _require_one_form(cohorts)
    pools = [own.rows("train"), *(training_rows(own, other) for other in cohorts[1:])]
    source = np.repeat(np.arange(len(cohorts)), [len(pool) for pool in pools])
    row = np.concatenate(pools)
    wanted = _sources_named(config.only_source, _labels(cohorts))
    chosen = _drawn(np.flatnonzero(np.isin(source, wanted)), config)
    source, row = source[chosen], row[chosen]
    if not len(row):
        raise DataError(
            f"{own.name} has no record in folds 1-8; ESI cannot be trained on it."
            if not config.only_source
            else f"ONLY_SOURCE is {config.only_source!r}, of which no ECG may be trained on."
        )
    mine = row[source == 0]
    further = source > 0
    return Mixture(
        tuple(cohorts),
        np.concatenate([np.zeros(len(own), np.int64), source[further]]),
        np.concatenate([np.arange(len(own)), row[further]]),
        np.concatenate([mine, len(own) + np.arange(further.sum())]),
    )


def _labels(cohorts) -> list[str]:
    names = [cohort.name for cohort in cohorts]
    return [name if (n := names[:i].count(name)) == 0 else f"{name} {n + 1}"
            for i, name in enumerate(names)]  # fmt: skip


def _require_one_form(cohorts: list[Cohort]) -> None:
    """Raises DataError unless all stores give the same leads, in one order, rate and length."""
    forms = [(c.store.leads, c.store.fs, c.store.n_samples) for c in cohorts]
    for cohort, form in zip(cohorts, forms):
        if form != forms[0]:
            raise DataError(
                f"{cohort.name} is stored as {form}, {cohorts[0].name} as {forms[0]} (leads, Hz, "
                "samples); a batch cannot hold both."
            )


def _sources_named(only: str, labels: list[str]) -> list[int]:
    """Numbers of the sources whose label begins with `only`; the simulated cohort is PTB-XL too."""
    if not only:
        return list(range(len(labels)))
    asked = only.lower()
    found = [
        i for i, label in enumerate(labels)
        if label.startswith(asked) or (label == "synthetic" and "ptbxl".startswith(asked))
    ]  # fmt: skip
    if not found:
        raise ConfigError(
            f"ONLY_SOURCE is {only!r}; the sources are {', '.join(labels)} (DATA and MORE_DATA)."
        )
    return found


def _drawn(pool: np.ndarray, config: EsiConfig) -> np.ndarray:
    """N_PRETRAIN of `pool`, drawn at random, rising; all of it for 0."""
    n = config.n_pretrain
    if n > len(pool):
        raise DataError(
            f"N_PRETRAIN is {n}, but there are {len(pool)} ECGs to pretrain on; ask for no more, "
            "or name further sources in MORE_DATA."
        )
    order = np.random.default_rng([config.seed, 5]).permutation(len(pool))
    return np.sort(pool[order[:n]]) if n else pool


def dealt(train: np.ndarray, n_items: int, share: float, seed: int) -> np.ndarray:
    """(N,) the item whose caption each item is shown: its own, but for `share` of `train` (P,).

    Exactly round(share * P) pairs are chosen at random, and each gets the caption of the next of
    them, so none keeps its own (the words may still be the same where two ECGs show the same). A
    larger share misaligns a smaller one's pairs too. Raises ConfigError where that is one pair.
    """
    caption_of = np.arange(n_items)
    n = round(share * len(train))
    if n == 1:
        raise ConfigError(
            f"SHUFFLED_SHARE is {share}, which is one of {len(train)} pairs; captions change hands "
            "between two at least."
        )
    chosen = np.random.default_rng([seed, 6]).permutation(train)[:n]
    caption_of[chosen] = np.roll(chosen, -1)
    return caption_of


# --- the table ------------------------------------------------------------------------------------


def _seconds(cohort: Cohort) -> str:
    seconds = cohort.base.lengths / cohort.base.fs
    low, high = seconds.min(), seconds.max()
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _text(cohort: Cohort) -> str:
    """What is known of its ECGs in words, e.g. "age, sex, machine statements"."""
    table = cohort.table
    said = [name for name in ("age", "sex") if table[name].notna().any()]
    said.append("machine statements" if "statements" in table else "SCP statements")
    if "report" in table and "statements" not in table and table["report"].astype(bool).any():
        said.append("report")
    return ", ".join(said)
