"""Cross-validation of the risk study: as published, and nested.

Published: StratifiedKFold of 2 on the event, five seeds (42, 2021 to 2024); inside, 80/20 into
learning and validation, best epoch by validation C; C on the held-out half. The published "std" is
the mean of the SDs inside each seed, which are of two folds; `cv_summary` gives it beside the SD
over all folds and the standard error of the mean, corrected for folds that share people (Nadeau and
Bengio 2003), and `null_sd` what pure noise does on the same people and folds. Nested: the inner
split also chooses among settings, so that the outer C is of the whole recipe.

Usage:

    table = cross_validate(study)                              # seed, fold, C, events, ...
    print(cv_summary(table, null_sd(study, table)))
    table = cross_validate(study, grid=[{"finetune_lr": 1e-3}, {"finetune_lr": 3e-3}])
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit.config import short_hash
from ecgkit.tasks.metrics import harrell_c
from ecgkit.tasks.risk_align import AlignmentModel
from ecgkit.tasks.risk_batches import stratified_folds
from ecgkit.tasks.risk_finetune import finetune, predict_risk
from ecgkit.tasks.risk_study import Study
from ecgkit.types import ConfigError, DataError

SEEDS = (42, 2021, 2022, 2023, 2024)  # published, for 2 folds
INNER_SHARE = 0.2


def cross_validate(
    study: Study,
    config=None,
    folder: str | Path | None = None,
    aligned: AlignmentModel | None = None,
    seeds: tuple[int, ...] = SEEDS,
    n_folds: int = 2,
    grid: list[dict] | None = None,
    pool: np.ndarray | None = None,
) -> pd.DataFrame:
    """One row per seed and outer fold: seed, fold, C, events, n, valid_c, chosen.

    `config` takes the study's place of settings; `aligned` starts each fold (it has seen reports of
    training patients, no outcome); `folder` keeps the trainings, which then resume; `pool` are the
    patients, by default the study's training patients, so that its test patients stay unseen.
    `grid`: settings (fields of RiskConfig that fine-tuning reads) among which the inner validation
    chooses; None: none (published). Raises DataError when the events do not fill the folds.
    """
    config = config or study.config
    pool = study.train if pool is None else np.asarray(pool)
    event = study.event[pool].numpy()
    n_events = int(event.sum())
    if n_events < 2 * n_folds:
        raise DataError(
            f"{n_events} events among {len(pool)} patients do not fill {n_folds} folds with two "
            "each (one to learn from, one to validate); take fewer folds or more patients."
        )
    grid = _checked_grid(config, grid)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(folder or scratch)
        for seed in seeds:
            for fold, test in enumerate(stratified_folds(event, n_folds, seed)):
                outer = np.setdiff1d(np.arange(len(pool)), test)
                part = study.on(pool[outer], pool[test], **_settings(config, seed))
                row = _outer_fold(part, aligned, grid, root / f"seed_{seed}_fold_{fold}")
                rows.append({"seed": seed, "fold": fold, **row})
    return pd.DataFrame(rows)


def _settings(config, seed: int) -> dict:
    """Every field of `config`, so that it replaces the study's, with the seed of this repeat."""
    fields = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    return fields | {"seed": seed, "valid_share": INNER_SHARE}


def _checked_grid(config, grid: list[dict] | None) -> list[dict]:
    grid = grid or [{}]
    known = {f.name for f in dataclasses.fields(config)}
    for setting in grid:
        unknown = sorted(set(setting) - known)
        if unknown:
            raise ConfigError(f"grid names {unknown[0]!r}, which is no setting of the risk study.")
    return grid


def _outer_fold(part: Study, aligned, grid: list[dict], folder: Path) -> dict:
    """Fine-tunes by each setting, takes the best by inner validation, scores the outer fold."""
    tried = []
    for setting in grid:
        one = part.on(part.train, part.test, **setting)
        network, log = finetune(one, aligned, folder / short_hash(setting))
        tried.append((log.best["value"], network, setting))
    valid_c, network, chosen = max(tried, key=lambda item: item[0])
    years, event = part.years[part.test].numpy(), part.event[part.test].numpy()
    return {
        "C": harrell_c(years, event, predict_risk(network, part.x[part.test])),
        "events": int(event.sum()), "n": len(part.test), "valid_c": valid_c,
        "chosen": ", ".join(f"{k}={v}" for k, v in chosen.items()),
    }


# --- spread ---------------------------------------------------------------------------------------


def null_sd(
    study: Study, table: pd.DataFrame, n_sims: int = 60, pool: np.ndarray | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """SDs of the C-index of pure noise on the people and folds of `table`.

    "fold": of one fold. "mean_independent", "mean_same": of the mean over all folds, when the
    models know nothing of each other, and when all of them give a person the same score; a real
    set of models lies between.
    """
    pool = study.train if pool is None else np.asarray(pool)
    years, event = study.years[pool].numpy(), study.event[pool].numpy()
    n_folds = table["fold"].nunique()
    parts = [
        part for s in table["seed"].unique() for part in stratified_folds(event, n_folds, int(s))
    ]
    rng = np.random.default_rng([seed, 97])

    def one(same: bool) -> list[float]:
        score = rng.normal(size=len(pool))
        return [
            harrell_c(years[p], event[p], score[p] if same else rng.normal(size=len(p)))
            for p in parts
        ]

    apart = np.array([one(False) for _ in range(n_sims)])  # (sims, folds)
    same = np.array([one(True) for _ in range(n_sims)])
    return {
        "fold": float(apart.std()),
        "mean_independent": float(apart.mean(1).std(ddof=1)),
        "mean_same": float(same.mean(1).std(ddof=1)),
    }


def cv_summary(table: pd.DataFrame, null: dict[str, float] | None = None) -> dict[str, float]:
    """mean; sd over all folds; published_sd; se of the mean; and `null`'s SDs as null_*.

    The folds of one seed are made of the other folds' training people, and each seed of the same
    people again, so sd / sqrt(folds) would be far too small. `se` is Nadeau and Bengio's:
    sd * sqrt(1 / folds + n_test / n_train). `z`: how many of the null's larger SD of the mean lie
    between the mean and 0.5.
    """
    c, n_folds = table["C"], table["fold"].nunique()
    sd = float(c.std(ddof=1))
    found = {
        "mean": float(c.mean()), "sd": sd,
        "published_sd": float(table.groupby("seed")["C"].std(ddof=0).mean()),
        "se": sd * float(np.sqrt(1 / len(c) + 1 / (n_folds - 1))) if n_folds > 1 else np.nan,
        "folds": len(c), "events": int(table["events"].sum()),
    }
    if null:
        found |= {f"null_{name}": value for name, value in null.items()}
        found["z"] = (found["mean"] - 0.5) / null["mean_same"]
    return found
