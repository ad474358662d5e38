"""How well can simulated recordings be told from real ones, and by what?

About 80 summary features a cardiologist could name (rates, amplitudes per lead, intervals, axes,
noise, spectrum, roughness) are computed by one function for real and simulated records at 100 Hz;
a logistic regression and a gradient boosting try to separate the two by patient-grouped
cross-validation. 0.5 would be indistinguishable, 1.0 a caricature. The ranking of the features is
the list of what to mend next.

Real records: PTB-XL folds 1-4 without a named artefact. Each gets simulated counterparts of the
same age, sex and statements, so that what differs is the drawing, not the mix of people. Figures on
the folds kept back (5-10) are taken by `sim_to_real.py`, which imports `sim_vs_real_auc`.

Usage: python benchmarks/realism.py PTBXL [--each 4] [--seed 0]     # folder or .zip of PTB-XL
    auc, ranking = sim_vs_real_auc(sim, real, groups)     # (N, 12, 1000) mV each, at 100 Hz
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent))
from realism_features import summary_features  # noqa: E402

NOISE_COLUMNS = ("baseline_drift", "static_noise", "burst_noise", "electrodes_problems")
FOLDS = (1, 2, 3, 4)  # the only ones development may look at


@dataclass
class Separation:
    """Out-of-fold AUC of both classifiers with 95 % intervals (bootstrap over patients), and the
    features by how far apart they are."""

    auc: dict[str, float]
    interval: dict[str, tuple[float, float]]
    ranking: pd.DataFrame

    @property
    def worst(self) -> float:
        """AUC of the better classifier: the number to report."""
        return max(self.auc.values())


def sim_vs_real_auc(sim_signals, real_signals, groups=None) -> tuple[float, pd.DataFrame]:
    """(N, 12, 1000) mV at 100 Hz, simulated and real -> AUC of the better classifier, features
    ranked by distance.

    `groups` (N_sim + N_real,): patient of each record, simulated ones first; None = one each.
    """
    found = separate(summary_features(sim_signals), summary_features(real_signals), groups)
    return found.worst, found.ranking


def separate(sim: pd.DataFrame, real: pd.DataFrame, groups=None, seed: int = 0) -> Separation:
    """Features (N_sim, F) and (N_real, F) -> how well they separate."""
    x = pd.concat([sim, real], ignore_index=True)
    y = np.repeat([0, 1], [len(sim), len(real)])
    groups = np.arange(len(y)) if groups is None else np.asarray(groups)
    auc, interval = {}, {}
    for name, model in _models(seed).items():
        score = _out_of_fold(model, x, y, groups, seed)
        auc[name] = _auc(y, score)
        interval[name] = _bootstrap(y, score, groups, seed)
    return Separation(auc, interval, rank_features(sim, real))


def rank_features(sim: pd.DataFrame, real: pd.DataFrame) -> pd.DataFrame:
    """One row per feature, furthest apart first: Kolmogorov-Smirnov distance, AUC of the feature
    alone (above 0.5: larger in real records), quartiles of both."""
    from scipy.stats import ks_2samp

    y, rows = np.repeat([0, 1], [len(sim), len(real)]), []
    for name in sim.columns:
        a, b = sim[name].dropna(), real[name].dropna()
        if not len(a) or not len(b):
            continue
        label = y[np.concatenate([sim[name].notna(), real[name].notna()])]
        row = {"feature": name, "ks": ks_2samp(a, b, method="asymp").statistic}
        row["auc"] = _auc(label, np.concatenate([a, b]))
        for who, values in (("sim", a), ("real", b)):
            row |= dict(
                zip((f"{who}_25", f"{who}_50", f"{who}_75"), values.quantile([0.25, 0.5, 0.75]))
            )
        rows.append(row)
    return pd.DataFrame(rows).sort_values("ks", ascending=False).set_index("feature").round(3)


def _models(seed: int) -> dict:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import QuantileTransformer

    # Quantiles: single wild values must not steer a linear model.
    even = QuantileTransformer(n_quantiles=100, output_distribution="normal", random_state=seed)
    linear = LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000)
    trees = HistGradientBoostingClassifier(
        max_iter=150, learning_rate=0.06, max_leaf_nodes=8, min_samples_leaf=8,
        l2_regularization=1.0, class_weight="balanced", random_state=seed,
    )  # fmt: skip
    return {"logistic": make_pipeline(SimpleImputer(), even, linear), "boosting": trees}


def _out_of_fold(model, x, y, groups, seed: int, n_folds: int = 5, repeats: int = 2) -> np.ndarray:
    """(N,) mean predicted chance of being real, each from folds without the record's patient."""
    from sklearn.base import clone
    from sklearn.model_selection import StratifiedGroupKFold

    score = np.zeros(len(y))
    for repeat in range(repeats):
        folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed + repeat)
        for train, test in folds.split(x, y, groups):
            score[test] += (
                clone(model).fit(x.iloc[train], y[train]).predict_proba(x.iloc[test])[:, 1]
            )
    return score / repeats


def _auc(y: np.ndarray, score: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(y, score))


def _bootstrap(y, score, groups, seed: int, n: int = 300) -> tuple[float, float]:
    """95 % interval of the AUC, patients drawn with replacement."""
    rng = np.random.default_rng(seed)
    _, of = np.unique(groups, return_inverse=True)
    aucs = []
    for _ in range(n):
        weight = np.bincount(rng.integers(0, of.max() + 1, of.max() + 1), minlength=of.max() + 1)[
            of
        ]
        rows = np.repeat(np.arange(len(y)), weight)
        aucs.append(_auc(y[rows], score[rows]))
    return tuple(np.quantile(aucs, [0.025, 0.975]).round(3).tolist())


# --- both sides -----------------------------------------------------------------------------------


def real_records(
    path, clean: bool = True, column: str = "filename_lr"
) -> tuple[pd.DataFrame, np.ndarray]:
    """PTB-XL's folds 1-4 at `path`: table (N rows, `scp_codes` as dicts) and signals (N, 12, 1000)
    mV at 100 Hz (column "filename_hr": 500 Hz); `clean`: only those without a named artefact."""
    from ecgkit.data import records, sources
    from ecgkit.data.cohort import resolve_path
    from ecgkit.types import LEADS

    _, place = sources.open_source(resolve_path(str(path)))
    table = pd.read_csv(io.BytesIO(place.read("ptbxl_database.csv")))
    table = table[table["strat_fold"].isin(FOLDS)]
    if clean:
        table = table[table[list(NOISE_COLUMNS)].isna().all(axis=1)]
    table = table.assign(scp_codes=table["scp_codes"].map(ast.literal_eval)).reset_index(drop=True)
    signal = np.stack(
        [records.read_raw(place, n).select(LEADS).millivolts() for n in table[column]]
    )
    return table, signal.astype(np.float32)


def simulated_counterparts(table: pd.DataFrame, each: int = 4, seed: int = 0) -> np.ndarray:
    """(each * N, 12, 1000) mV at 100 Hz: simulated records, undisturbed, with the age, sex and
    statements of the real ones; statements the simulator does not draw are left out."""
    from ecgkit.data.synthetic import (
        anatomy,
        artefacts,
        findings,
        population,
        recorder,
        render,
        rhythm,
    )

    people = pd.concat([table] * each, ignore_index=True)
    n, rng = len(people), np.random.default_rng([seed, 77])
    age = people["age"].fillna(55).clip(17, 92).to_numpy(float)
    codes = people["scp_codes"]
    has = {c: codes.map(lambda d, c=c: c in d).to_numpy() for c in findings.EFFECTS}
    u = {c: _severity(codes, c, rng) for c in findings.EFFECTS}
    latents = rng.standard_normal((n, anatomy.N_LATENTS))
    hearts = anatomy.normal_hearts(latents, age, people["sex"].to_numpy(int), rng)
    findings.apply_findings(hearts, has, u, rng)
    beats = rhythm.draw_beats(hearts, 10, rng)
    signal = render.render(hearts, beats, recorder.NATIVE_HZ, 10 * recorder.NATIVE_HZ, rng)
    quiet = artefacts.draw_artefacts(n, rng, rates=(0, 0, 0, 0))
    artefacts.disturb(signal, quiet, slice(None), recorder.NATIVE_HZ, rng)
    signal = render.twelve_leads(population._decimate(recorder.at_500(signal), 5))
    return np.round(signal, 3)


def _severity(codes: pd.Series, code: str, rng) -> np.ndarray:
    """(N,) 0..1: marked where the statement is sure, slight where it is a guess."""
    likelihood = codes.map(lambda d: d.get(code, 0) or 100).to_numpy(float)
    low, high = 0.35 * likelihood / 100, 0.2 + 0.8 * likelihood / 100
    return rng.uniform(low, high)


def compare(table: pd.DataFrame, signal: np.ndarray, each: int, seed: int) -> dict[str, Separation]:
    """ "normal": NORM against NORM; "all": every statement against its own."""
    normal = table["scp_codes"].map(lambda codes: "NORM" in codes).to_numpy()
    real, found = summary_features(signal), {}
    sim = summary_features(simulated_counterparts(table, each, seed))
    for name, rows in (("normal", normal), ("all", np.ones(len(table), bool))):
        patients = table.loc[rows, "patient_id"].to_numpy()
        # A simulated record stands in the fold of the patient it was made for.
        groups = np.concatenate([patients] * (each + 1))
        found[name] = separate(sim[np.tile(rows, each)], real[rows], groups, seed)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("ptbxl", help="folder or .zip that holds PTB-XL")
    parser.add_argument("--each", type=int, default=4, help="simulated records per real one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=25, help="features to print")
    args = parser.parse_args()
    started = time.perf_counter()
    table, signal = real_records(args.ptbxl)
    print(f"{len(table)} real records of folds 1-4 without a named artefact")
    summary = {}
    for name, found in compare(table, signal, args.each, args.seed).items():
        print(f"\n{name}: what sets simulated records apart, furthest first")
        print(found.ranking.head(args.rows).to_string())
        print({model: (round(auc, 3), found.interval[model]) for model, auc in found.auc.items()})
        summary[f"sim_vs_real_auc_{name}"] = round(found.worst, 3)
    print(f"{time.perf_counter() - started:.0f} s")
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
