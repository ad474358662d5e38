"""What the network's risk score is measured against, and the ladder of C-indices.

Usage:

    scores = {"network": predict_risk(network, study.x[study.test])} | baseline_scores(study)
    rows = ladder(study, scores)
"""

from __future__ import annotations

import numpy as np

from ecgkit.tasks.risk_study import Study
from ecgkit.tasks.survival_metrics import c_index, fit_cox


def baseline_scores(study: Study) -> dict[str, np.ndarray]:
    """(n_test,) scores of what the network is measured against.

    Cox models are fitted on the training patients; "true hazard" (the oracle, whose C nobody can
    expect to pass) exists for simulated outcomes.
    """
    table = study.outcomes.table
    person = table[["age", "sex"]].fillna({"sex": 0.5}).to_numpy(dtype=float)  # 0.5: unknown
    scores = {
        "age + sex": _cox_score(study, person),
        "findings": _cox_score(study, study.findings),
        "findings + age + sex": _cox_score(study, np.hstack([study.findings, person])),
    }
    if study.outcomes.simulated and "eta" in table:
        scores["true hazard"] = table["eta"].to_numpy()[study.test]
    return scores


def _cox_score(study: Study, covariates: np.ndarray) -> np.ndarray:
    years, event = study.years.numpy(), study.event.numpy()
    beta = fit_cox(covariates[study.train], years[study.train], event[study.train])
    return covariates[study.test] @ beta


def ladder(study: Study, scores: dict[str, np.ndarray], n_boot: int = 300) -> list[dict]:
    """One C-index row per score on the held-out patients, in the order given."""
    years, event = study.years.numpy()[study.test], study.event.numpy()[study.test]
    return [c_index(name, score, years, event, n_boot) for name, score in scores.items()]


def share_closed(c_network: float, c_low: float, c_high: float) -> float:
    """Share of the gap from `c_low` (age + sex) to `c_high` (the true hazard) that is closed.

    NaN where the ceiling is not above the floor: then there is no gap to close.
    """
    return (c_network - c_low) / (c_high - c_low) if c_high > c_low else float("nan")
