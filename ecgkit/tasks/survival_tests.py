"""Log-rank test across risk groups and the table of hazard ratios, both by lifelines.

Cause-specific: a competing event (code 2) counts as censored. A covariate no ratio can be given for
stays in the table with a sentence instead of a number, and out of the model.

Letters: n patients, F covariates.

Usage:

    log_rank(years, event, tertiles(risk, risk_train))            # statistic, p, df, note
    hazard_ratios(findings.assign(age=age / 10), years, event)    # name, hr, low, high, p, ...
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from ecgkit.tasks.survival_followup import follow_up, why_not
from ecgkit.types import DataError

PENALTY = 0.01  # of the second try, where the unpenalised model does not converge
WIDEST = 10.0  # a log hazard ratio beyond this in either direction is no estimate
COLUMNS = ["name", "hr", "low", "high", "p", "n_with", "events_with", "note"]


def log_rank(time, event, groups) -> dict:
    """{"statistic", "p", "df", "groups", "note"} of the log-rank test that all `groups` (n,) have
    one survival. NaN with a note for fewer than two groups or no event."""
    time, seen = follow_up(time, event)
    groups = np.asarray(groups)
    if len(groups) != len(time):
        raise DataError(f"There are {len(groups)} groups for {len(time)} patients; give one each.")
    n_groups = len(np.unique(groups))
    note = why_not(seen) or ("" if n_groups > 1 else "everybody is in one risk group")
    if note:
        nothing = {"statistic": np.nan, "p": np.nan, "df": max(n_groups - 1, 0)}
        return nothing | {"groups": n_groups, "note": note}
    from lifelines.statistics import multivariate_logrank_test  # 1.5 s to import

    test = multivariate_logrank_test(time, groups, seen)
    return {
        "statistic": float(test.test_statistic), "p": float(test.p_value), "df": n_groups - 1,
        "groups": n_groups, "note": "",
    }  # fmt: skip


def hazard_ratios(covariates: pd.DataFrame, time, event) -> pd.DataFrame:
    """One row per covariate, adjusted for the others (Cox, Efron ties): name, hr, low, high (95 %),
    p, n_with and events_with (patients who have a 0/1 covariate; NaN for others), note.

    No ratio (NaN and a note) for a covariate that is constant, has missing values, separates those
    with events from those without, or is a combination of earlier ones.
    """
    time, seen = follow_up(time, event)
    if len(covariates) != len(time):
        raise DataError(f"There are {len(covariates)} rows of covariates for {len(time)} patients.")
    values = covariates.to_numpy(dtype=float)
    nobody = why_not(seen)
    notes = [nobody or _why_out(values[:, f], seen) for f in range(values.shape[1])]
    for f in _dependent(values, [f for f, note in enumerate(notes) if not note]):
        notes[f] = "a combination of the covariates above it"
    kept = [f for f, note in enumerate(notes) if not note]
    fitted = _fit(values[:, kept], time, seen) if kept else {}
    rows = []
    for f, name in enumerate(covariates.columns):
        numbers, note = fitted.get(kept.index(f), _UNKNOWN) if f in kept else (_NO, notes[f])
        rows.append((name, *numbers, *_carriers(values[:, f], seen), note))
    return pd.DataFrame(rows, columns=COLUMNS)


_NO = (np.nan,) * 4
_UNKNOWN = (_NO, "the model did not converge, even penalised")


def _why_out(x: np.ndarray, event: np.ndarray) -> str:
    if not np.isfinite(x).all():
        return f"{int((~np.isfinite(x)).sum())} patients have no value: impute it first"
    if np.ptp(x) == 0:
        return "nobody has it" if x[0] == 0 else "the same for everybody"
    if _is_flag(x):
        for has, who in ((x > 0, "who have it"), (x == 0, "who do not have it")):
            if not event[has].any():
                return f"no event among the {int(has.sum())} {who}: the ratio is not finite"
    return ""


def _dependent(values: np.ndarray, candidates: list[int]) -> list[int]:
    """Those of `candidates` that add nothing to the ones before them."""
    centred = values - values.mean(0, keepdims=True)
    kept, out = [], []
    for f in candidates:
        column = centred[:, f] / np.linalg.norm(centred[:, f])
        if kept:
            basis = np.stack(kept, axis=1)
            column = column - basis @ (basis.T @ column)
            column = column - basis @ (basis.T @ column)  # twice: orthogonal to rounding
        size = np.linalg.norm(column)
        if size < 1e-6:
            out.append(f)
        else:
            kept.append(column / size)
    return out


def _fit(x: np.ndarray, time, event) -> dict[int, tuple]:
    """{column: ((hr, low, high, p), note)}; {} where nothing converges."""
    from lifelines import CoxPHFitter
    from lifelines.exceptions import ConvergenceError

    table = pd.DataFrame(x).assign(_time=time, _event=event)
    for penalty in (0.0, PENALTY):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = CoxPHFitter(penalizer=penalty).fit(table, "_time", "_event")
        except (ConvergenceError, np.linalg.LinAlgError, ValueError):
            continue
        found = model.summary
        if found["coef"].abs().max() < WIDEST:
            note = f"penalised ({penalty:g}): the model did not converge otherwise"
            note = note if penalty else ""
            columns = found[["exp(coef)", "exp(coef) lower 95%", "exp(coef) upper 95%", "p"]]
            return {k: (tuple(row), note) for k, row in enumerate(columns.to_numpy())}
    return {}


def _is_flag(x: np.ndarray) -> bool:
    return bool(np.isin(x, (0, 1)).all())


def _carriers(x: np.ndarray, event: np.ndarray) -> tuple[float, float]:
    return (int(x.sum()), int(x[event].sum())) if _is_flag(x) else (np.nan, np.nan)

