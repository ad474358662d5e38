"""Everything that is said about one predicted risk on held-out patients, in one call.

The baseline hazard, the cuts of the risk groups and the curve that knows nobody come from training
patients; every number is of the held-out ones. Cause-specific: see `survival_followup`.

Usage:

    found = evaluate(risk_train, years_train, event_train, risk_test, years_test, event_test)
    found.auc, found.brier, found.calibration, found.benefit, found.metrics()
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ecgkit.tasks.survival_auc import auc_over_time
from ecgkit.tasks.survival_brier import (
    Baseline,
    average_survival,
    breslow,
    brier_over_time,
    integrated_brier,
)
from ecgkit.tasks.survival_calibration import calibration_groups, calibration_summary
from ecgkit.tasks.survival_decision import net_benefit
from ecgkit.tasks.survival_metrics import tertiles
from ecgkit.tasks.survival_tests import log_rank


@dataclass(frozen=True)
class Evaluation:
    """`thirds` (n,) risk group by training tertiles; `predicted` (n, T) risk at `at`; the tables
    and dicts of `tasks.survival_*` by name. `groups`: {years: calibration by risk group}."""

    at: tuple[float, ...]
    baseline: Baseline
    thirds: np.ndarray
    predicted: np.ndarray
    log_rank: dict
    auc: pd.DataFrame
    brier: pd.DataFrame
    integrated: dict
    calibration: pd.DataFrame
    groups: dict[float, pd.DataFrame]
    benefit: pd.DataFrame

    def metrics(self) -> dict[str, tuple[float, float, float]]:
        """{name: (value, low, high)} for a metrics file; NaN where something could not be given."""
        found = {"integrated_brier": tuple(self.integrated[k] for k in ("ibs", "low", "high"))}
        for row in self.auc.itertuples():
            found[f"auc_{row.years:g}y"] = (row.auc, row.low, row.high)
        for row in self.calibration.itertuples():
            slope = (row.slope, row.slope_low, row.slope_high)
            found[f"calibration_slope_{row.years:g}y"] = slope
            ratio = (row.ratio, row.ratio_low, row.ratio_high)
            found[f"observed_over_expected_{row.years:g}y"] = ratio
        return found


def evaluate(
    risk_train, years_train, event_train, risk_test, years_test, event_test,
    at: Sequence[float] = (1, 3, 5), n_boot: int = 500, seed: int = 0,
) -> Evaluation:
    """Log risks (n,), follow-up in years and event codes of both parts -> Evaluation.

    The decision curve is drawn at the last time of `at`. Raises DataError for bad follow-up and
    where training has no event.
    """
    at = tuple(float(t) for t in at)
    baseline = breslow(risk_train, years_train, event_train)
    risk_test = np.asarray(risk_test, dtype=float)
    survival = baseline.survival(risk_test, at)
    thirds = tertiles(risk_test, np.asarray(risk_train, dtype=float))
    held_out = (years_test, event_test)

    def average(times):
        return average_survival(years_train, event_train, times)

    return Evaluation(
        at, baseline, thirds, 1 - survival, log_rank(*held_out, thirds),
        auc_over_time(*held_out, risk_test, at, n_boot, seed),
        brier_over_time(*held_out, survival, at, average(at), n_boot, seed),
        integrated_brier(*held_out, baseline, risk_test, None, average, n_boot, seed),
        calibration_summary(*held_out, baseline, risk_test, at),
        {t: calibration_groups(*held_out, 1 - survival[:, k], t) for k, t in enumerate(at)},
        net_benefit(*held_out, 1 - survival[:, -1], at[-1], None, min(n_boot, 200), seed),
    )  # fmt: skip
