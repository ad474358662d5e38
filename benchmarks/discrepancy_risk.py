"""Effects of the disagreements of the risk study: see `discrepancy_effects.py`.

Letters: B batch, C leads, T samples, P tokens, D width, H heads, K answers.
"""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from discrepancy_data import SEED, real, simulated

from ecgkit.data.cohort import Cohort
from ecgkit.data.outcomes import Outcomes, simulate_outcomes
from ecgkit.features.rhythm import find_beats
from ecgkit.features.risk_input import zscore_leads
from ecgkit.tasks import metrics, risk_masks
from ecgkit.tasks.risk_covariates import covariate_sets
from ecgkit.tasks.risk_cv import cv_summary
from ecgkit.tasks.survival_evaluation import evaluate
from ecgkit.tasks.survival_tests import hazard_ratios

# --- heart-failure risk ---------------------------------------------------------------------------


@functools.cache
def outcomes() -> tuple[Cohort, Outcomes, np.ndarray, np.ndarray]:
    """Simulated follow-up of the development cohort, rows of folds 1-8 and of 9-10."""
    cohort, _ = simulated()
    found = simulate_outcomes(cohort, seed=SEED)
    return cohort, found, *found.split(2)


def strips() -> tuple[np.ndarray, list[np.ndarray]]:
    """400 real strips (B, C, T) at 100 Hz, and the R peaks of each."""
    signal = real(100).store.read(np.arange(400))
    beats = find_beats(signal, 100)
    return signal, [beats.of(i) for i in range(len(signal))]


def risk_masked_target() -> str:
    signal, peaks = strips()
    rng = np.random.default_rng(0)
    x = torch.from_numpy(zscore_leads(signal))
    lost = risk_masks.pretraining_masks(len(x), rng, x.shape[2], peaks, 100)
    seen = risk_masks.masked(x, lost)
    losses = [float(F.mse_loss(seen, target)) for target in (seen, x)]
    return (
        f"400 real strips, {100 * lost.mean():.0f} % of the samples masked: a network that copies "
        f"its input has a loss of {losses[0]:.0f} under the code's target, {losses[1]:.2f} under "
        "the paper's (SD of a lead 1)"
    )


def risk_mask_floor() -> str:
    _, peaks = strips()
    rng, fs, n_samples = np.random.default_rng(0), 100, 1000
    share, beat = {0: [], risk_masks.FLOOR_SAMPLES: []}, {0: [], risk_masks.FLOOR_SAMPLES: []}
    for own in peaks:
        chosen = own[rng.random(len(own)) < risk_masks.P_BEAT]
        widths = rng.uniform(*risk_masks.REGION_S, len(chosen)) * fs
        rr = np.median(np.diff(own)) if len(own) > 1 else np.nan
        for floor in share:
            lost = np.zeros(n_samples, dtype=bool)
            for peak, width in zip(chosen, widths):
                size = max(round(width), floor)
                lost[max(peak - size // 2, 0) : max(peak - size // 2, 0) + size] = True
                beat[floor].append(min(size / rr, 1.0))
            share[floor].append(lost.mean())
    (none, floored), (of_beat, of_floored) = (
        [100 * np.nanmean(v) for v in x.values()] for x in (share, beat)
    )
    return (
        f"400 real strips at 100 Hz: a masked beat loses {of_floored:.0f} % of its RR interval in "
        f"place of {of_beat:.0f} %, a lead so chosen {floored:.1f} % of the strip in place of "
        f"{none:.1f} %"
    )


MI_FOLDS = ((0.4943, 0.6701), (0.5874, 0.5479), (0.6468, 0.6093), (0.6478, 0.3953),
            (0.5656, 0.6407))  # fmt: skip  C-index by seed, named in the published notebook


def risk_cv_sd() -> str:
    seed, fold = np.indices((5, 2)).reshape(2, -1)
    table = {"seed": seed, "fold": fold, "C": np.ravel(MI_FOLDS), "events": 16}
    found = cv_summary(pd.DataFrame(table))
    return (
        f"arithmetic on the ten published folds of MI (mean {found['mean']:.4f}): "
        f"{found['published_sd']:.3f} in place of {found['sd']:.3f} over all folds; the standard "
        f"error of the mean is {found['se']:.3f}"
    )


def risk_metrics() -> str:
    _, found, train, test = outcomes()
    eta, years, event = found.table["eta"].to_numpy(), found.years, found.event
    said = []
    for factor in (1.0, 3.0):
        risk = factor * eta
        one = evaluate(risk[train], years[train], event[train], risk[test], years[test],
                       event[test], at=(5.0,), n_boot=20)  # fmt: skip
        c = metrics.harrell_c(years[test], event[test] == 1, risk[test])
        said.append((c, one.metrics()["calibration_slope_5y"][0], one.integrated["ibs"]))
    (c, slope, brier), (c_3, slope_3, brier_3) = said
    return (
        f"simulated outcomes: the true log risk times 3 keeps its C-index ({c:.3f}, {c_3:.3f}), "
        f"but its calibration slope falls from {slope:.2f} to {slope_3:.2f} and its integrated "
        f"Brier score rises from {brier:.4f} to {brier_3:.4f}"
    )


def risk_hr() -> str:
    from lifelines import CoxPHFitter

    cohort, found, train, _ = outcomes()
    x = covariate_sets(cohort, found, train, measured=False)["findings + age + sex"]
    table = hazard_ratios(x, found.years, found.event).dropna(subset=["hr"])
    shown = x[table["name"]].assign(years=found.years, seen=found.event == 1)
    ratios = np.exp(CoxPHFitter(penalizer=1438).fit(shown, "years", "seen").params_)
    return (
        f"simulated outcomes, {len(ratios)} covariates: penalised so, ratios lie from "
        f"{ratios.min():.4f} to {ratios.max():.4f}; unpenalised from {table['hr'].min():.2f} to "
        f"{table['hr'].max():.2f}"
    )


EFFECTS = (
    risk_masked_target, risk_mask_floor, risk_cv_sd, risk_metrics, risk_hr,
)
