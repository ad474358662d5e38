"""Does a Cox model find the hazard that simulated outcomes were drawn from, with honest intervals?

Covariate rows (never waveforms) of a cohort's index ECGs are resampled to many patients; each
repeat draws new follow-up from the known hazard, with competing deaths and censoring, and fits the
kit's Cox regression. A 95 % interval should hold the true coefficient in 95 % of the repeats: the
mean coverage over coefficients and repeats must lie between 92 and 98 %. One core, under a minute.

Usage:
    python benchmarks/risk_recovery.py                       # simulated ECGs
    python benchmarks/risk_recovery.py --data /data/ptbxl    # the statements of real ones

Prints a table and ends with one JSON line: coverage, bias (mean of estimate - truth over
coefficients, log hazard ratio), worst_bias, patients, repeats, seconds.
"""

from __future__ import annotations

import argparse
import json
import platform
import time

import numpy as np
import pandas as pd

from ecgkit.config.risk import RiskConfig
from ecgkit.data import outcomes_factors, outcomes_hazard
from ecgkit.data.cohort import open_cohort
from ecgkit.data.outcomes import index_ecgs
from ecgkit.tasks.cox_regression import cox_newton
from ecgkit.types import DataError

LEAST_CARRIERS = 40  # of a finding among the resampled rows; rarer ones are named and left out


def read_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="synthetic", help="synthetic, or a folder or .zip")
    parser.add_argument("--preset", default="demo", choices=("tiny", "demo", "paper"))
    parser.add_argument("--patients", type=int, default=18_000)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--event-risk", type=float, default=0.08, help="mean true 5-year risk")
    parser.add_argument("--baseline", default="weibull", choices=("weibull", "gompertz"))
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def covariates(args) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    """(resampled rows (n, F), true log hazard ratios (F,), their age and sex)."""
    config = RiskConfig.from_params({"preset": args.preset, "data": args.data})
    cohort = open_cohort(config)
    hazards = outcomes_factors.kit_hazards()
    table = index_ecgs(cohort.table)
    x, beta = outcomes_factors.linear_terms(hazards, table, cohort.statements)
    picks = np.random.default_rng([args.seed, 1]).integers(len(x), size=args.patients)
    x = x.iloc[picks].reset_index(drop=True)
    few = [name for name in x if (x[name] != 0).sum() < LEAST_CARRIERS or x[name].std() == 0]
    if few:
        print(f"left out, fewer than {LEAST_CARRIERS} patients have it: {', '.join(few)}")
    x = x.drop(columns=few)
    if not len(x.columns) or np.linalg.matrix_rank(x - x.mean()) < len(x.columns):
        raise DataError("The resampled covariates are not independent; take a larger cohort.")
    print(f"{len(table):,} index ECGs of {cohort.name}, resampled to {len(x):,} rows")
    return x, np.array([beta[name] for name in x]), table.iloc[picks][["age", "sex"]]


def study(args) -> tuple[pd.DataFrame, dict]:
    """(one row per coefficient, the figures of the last line)."""
    x, beta, person = covariates(args)
    hazards = outcomes_factors.kit_hazards()
    known = outcomes_hazard.calibrated(
        x.to_numpy() @ beta,
        outcomes_hazard.clock_of(hazards, args.baseline),
        outcomes_hazard.death_rate(hazards, person["age"], person["sex"]),
        outcomes_hazard.Clock("gompertz", hazards.death_slope),
        args.event_risk,
    )
    started, fits, n_events = time.perf_counter(), [], []
    for repeat in range(args.repeats):
        rng = np.random.default_rng([args.seed, 2, repeat])
        years, cause = known.draw(rng, hazards.administrative_years, hazards.drop_out)
        fits.append(cox_newton(x.to_numpy(), years, cause))
        n_events.append(int((cause == outcomes_hazard.FAILURE).sum()))
    seconds = time.perf_counter() - started
    estimates = np.stack([fit.beta for fit in fits])
    covered = np.stack([fit.covers(beta) for fit in fits])
    table = pd.DataFrame({
        "name": list(x), "true": beta, "mean": estimates.mean(0),
        "bias": estimates.mean(0) - beta, "sd": estimates.std(0, ddof=1),
        "mean_se": np.mean([fit.se for fit in fits], axis=0), "coverage": covered.mean(0),
    })  # fmt: skip
    figures = {
        "coverage": round(float(covered.mean()), 4),
        "bias": round(float(table["bias"].mean()), 5),
        "worst_bias": round(float(table["bias"].abs().max()), 5),
        "events": round(float(np.mean(n_events)), 1), "patients": len(x), "repeats": args.repeats,
        "not_converged": int(sum(not fit.converged for fit in fits)), "seconds": round(seconds, 1),
    }  # fmt: skip
    return table, figures


def main() -> None:
    args = read_args()
    table, figures = study(args)
    print(table.round(4).to_string(index=False))
    held = 0.92 <= figures["coverage"] <= 0.98
    print(f"mean coverage {figures['coverage']:.1%}: {'within' if held else 'OUTSIDE'} 92 to 98 %")
    print(f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
