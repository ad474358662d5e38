"""What the risk network is measured against, on the same held-out patients.

Everything is fitted on training patients. From the bottom of the ladder to the top: noise (a random
score), Cox models on age + sex, on measurements, on SCP findings and on all of them, gradient
boosting on all of them, and the true hazard (the oracle), which only simulated outcomes have. A
network's scores (the dual-attention one, a ResNet autoencoder) join by name.

Gradient boosting is a piecewise-exponential model: follow-up is cut into pieces, each piece of each
patient is a row with its time at risk as weight, and scikit-learn's HistGradientBoostingRegressor
learns the event rate with a Poisson loss. No proportional hazards are assumed; the score is the log
of the cumulative hazard by the horizon.

Letters: n patients, F covariates, P pieces.

Sources: Holford 1980, Biometrics 36, Friedman 1982, Annals of Statistics 10 (piecewise
exponential).

Usage:

    sets = covariate_sets(cohort, outcomes, train)
    scores = baseline_scores(sets, outcomes, train, test) | {"network": risk_test}
    table = baseline_table(scores, years[test], event[test])
    checks = ladder_checks(scores, years[test], event[test])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ecgkit.tasks.cox_regression import cox_newton
from ecgkit.tasks.survival_auc import auc_over_time
from ecgkit.tasks.survival_concordance import c_gaps, c_table, concordance_draws, null_sd
from ecgkit.tasks.survival_followup import follow_up, interval, why_not
from ecgkit.types import DataError

NOISE, ORACLE = "noise", "true hazard"
BOOSTING = "gradient boosting"
BOOSTED_ON = "everything"
RIDGE = 1e-3  # on standardised covariates: a finding nobody has gets 0
RUNGS = (ORACLE, "findings", "network", NOISE)


def baseline_scores(
    sets: Mapping[str, pd.DataFrame], outcomes, train: np.ndarray, test: np.ndarray, seed: int = 0
) -> dict[str, np.ndarray]:
    """{name: (n_test,) score, higher = earlier}: noise, one Cox model per covariate set, gradient
    boosting on the richest set, and the true hazard where outcomes are simulated.

    `train`, `test`: positions in `outcomes.table`. Raises DataError where training has no event.
    """
    years, event = follow_up(outcomes.years, outcomes.event)
    if not event[train].any():
        raise DataError(f"No event among the {len(train)} training patients: nothing to fit.")
    scores = {NOISE: np.random.default_rng([seed, 7]).normal(size=len(test))}
    for name, table in sets.items():
        x = table.to_numpy(dtype=float)
        fit = cox_newton(x[train], years[train], event[train], RIDGE)
        scores[name] = x[test] @ fit.beta
    on = BOOSTED_ON if BOOSTED_ON in sets else list(sets)[-1]
    x = sets[on].to_numpy(dtype=float)
    scores[BOOSTING] = boosted_score(x[train], years[train], event[train], x[test], seed)
    if outcomes.simulated and "eta" in outcomes.table:
        scores[ORACLE] = outcomes.table["eta"].to_numpy()[test]
    return scores


# --- gradient boosting ----------------------------------------------------------------------------


def boosted_score(
    x_train, time, event, x_test, seed: int = 0, n_pieces: int = 6, horizon: float | None = None
) -> np.ndarray:
    """(n_test,) log cumulative hazard by `horizon` (None: the last training event) of a
    piecewise-exponential gradient boosting; pieces hold equally many training events."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    edges = piece_edges(time, event, n_pieces, horizon)
    patient, piece, at_risk, happened = person_pieces(time, event, edges)
    model = HistGradientBoostingRegressor(
        loss="poisson", learning_rate=0.05, max_iter=100, max_leaf_nodes=8,
        min_samples_leaf=max(20, len(time) // 20), l2_regularization=1.0, random_state=seed,
    )  # fmt: skip
    model.fit(np.column_stack([x_train[patient], piece]), happened / at_risk, sample_weight=at_risk)
    hazard = np.zeros(len(x_test))
    for k, width in enumerate(np.diff(edges)):
        rate = model.predict(np.column_stack([x_test, np.full(len(x_test), k)]))
        hazard += width * rate
    return np.log(np.maximum(hazard, 1e-300))


def piece_edges(time, event, n_pieces: int, horizon: float | None = None) -> np.ndarray:
    """(P + 1,) from 0 to `horizon`, at quantiles of the event times; ties make fewer pieces."""
    when = time[event & (time <= horizon)] if horizon else time[event]
    end = horizon or when.max()
    inner = np.quantile(when, np.linspace(0, 1, n_pieces + 1)[1:-1]) if len(when) else []
    return np.unique(np.concatenate([[0.0], np.minimum(inner, end), [end]]))


def person_pieces(time, event, edges: np.ndarray):
    """One row per patient and piece begun: (patient, piece, time at risk in it, event in it)."""
    spent = np.clip(time[:, None] - edges[:-1], 0, np.diff(edges))  # (n, P)
    ended = (time[:, None] > edges[:-1]) & (time[:, None] <= edges[1:])
    patient, piece = np.nonzero(spent > 0)
    happened = (ended & event[:, None])[patient, piece]
    return patient, piece, spent[patient, piece], happened.astype(float)


# --- the table ------------------------------------------------------------------------------------


def baseline_table(
    scores: Mapping[str, np.ndarray], time, event, tau: float | None = None, auc_years: float = 5,
    n_boot: int = 1000, seed: int = 0,
) -> pd.DataFrame:
    """One row per score, in the order given: name, harrell, low, high, uno, uno_low, uno_high, auc,
    auc_low, auc_high (at `auc_years`), tau, n, events, null_sd, from_noise, note.

    `null_sd`: standard deviation of Harrell's C of pure noise on these patients; `from_noise`: how
    many of them C lies from 0.5. Below 2, a single C cannot be told from noise.
    """
    table = c_table(time, event, scores, tau, n_boot, seed)
    n_auc = min(n_boot, 300)
    found = [auc_over_time(time, event, s, [auc_years], n_auc, seed).iloc[0] if not note else None
             for s, note in zip(scores.values(), table["note"])]  # fmt: skip
    for column, name in (("auc", "auc"), ("low", "auc_low"), ("high", "auc_high")):
        at = len(table.columns) - 4
        table.insert(at, name, [np.nan if row is None else row[column] for row in found])
    spread = null_sd(time, event)
    table.insert(len(table.columns) - 1, "null_sd", spread)
    away = (table["harrell"] - 0.5) / spread if spread else np.nan
    table.insert(len(table.columns) - 1, "from_noise", away)
    return table


def ladder_checks(
    scores: Mapping[str, np.ndarray], time, event, rungs: Sequence[str] = RUNGS, n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Each rung against the next one below: upper, lower, gap, low, high, holds, clear, sentence.

    `holds`: the upper C is not below the lower one; `clear`: the whole 95 % interval of the gap, on
    the same resampled patients, lies above 0. Rungs that `scores` lacks are passed over.
    """
    _, seen = follow_up(time, event)
    there = [name for name in rungs if name in scores and not why_not(seen, scores[name])]
    pairs = list(zip(there[:-1], there[1:]))
    table = c_gaps(time, event, scores, pairs, n_boot=n_boot, seed=seed)
    table = table[["upper", "lower", "gap", "low", "high"]]
    holds, clear = table["gap"] >= 0, table["low"] > 0
    return table.assign(holds=holds, clear=clear, sentence=[_said(r) for r in table.itertuples()])


def gap_closed(
    scores: Mapping[str, np.ndarray], time, event, name: str = "network", floor: str = "age + sex",
    ceiling: str = ORACLE, n_boot: int = 1000, seed: int = 0,
) -> tuple[float, float, float]:
    """(share, low, high) of the gap in Harrell's C from `floor` to `ceiling` that `name` closes,
    on the same resampled patients. 1: as good as the ceiling. NaN where a score is unusable, or the
    ceiling is not above the floor, so that there is no gap (resamples of that kind are left out).
    """
    time, seen = follow_up(time, event)
    three = [scores[key] for key in (name, floor, ceiling)]
    if any(why_not(seen, score) for score in three):
        return (np.nan,) * 3
    ours, low, high = concordance_draws(time, seen, three, np.inf, n_boot, seed)[0]
    gap = np.where(high > low, high - low, np.nan)
    return interval((ours - low) / gap)


def _said(row) -> str:
    if not np.isfinite(row.gap):
        return f"{row.upper} and {row.lower} cannot be compared"
    word = "above" if row.gap >= 0 else "BELOW"
    return (
        f"{row.upper} {word} {row.lower} by {abs(row.gap):.3f} C "
        f"(gap [{row.low:+.3f}, {row.high:+.3f}])"
    )
