"""How much of the risk does the network of notebook 07 find? Seed by seed, on held-out patients.

Each seed trains the notebook's two stages (preset demo, simulated outcomes) and scores the held-out
patients once: Harrell's C of the network, of a Cox model on age + sex, of one on the true findings,
and of the true hazard; the share of the gap from age + sex to the true hazard that the network
closes; and the log-rank test between tertiles of its risk (cut at the training patients' scores).
The cohort and its outcomes are the same for all seeds, which train. Parameters of the notebook can
be given as NAME=VALUE. The settings were chosen on COHORT_SEED=7; the default cohort is another.

Usage: python benchmarks/risk_learning.py [COHORT_SEED=7 ...] --seeds 0 1 2 3 4
The last line is JSON: share_closed per seed, median, events, the largest log-rank p, seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from ecgkit import runtime
from ecgkit.config.risk import RiskConfig
from ecgkit.data.cohort import open_cohort
from ecgkit.data.outcomes import open_outcomes
from ecgkit.tasks import risk
from ecgkit.tasks.metrics import harrell_c
from ecgkit.tasks.survival_metrics import tertiles
from ecgkit.text import reports


def prepared(given: dict) -> risk.Study:
    """The study of the notebook's demo, before any training."""
    config = RiskConfig.from_params({"preset": "demo", **given})
    cohort = open_cohort(config, quiet=True)
    outcomes = open_outcomes(config, cohort)
    codes = cohort.table["scp_codes"].iloc[outcomes.table["row"].to_numpy()]
    embedder, _ = reports.text_embedder(config.text_encoder, config.report_style)
    book = reports.embed_reports(codes, cohort.statements, embedder, config.report_style,
                                 config.zero_policy, config.zero_confidence)
    return risk.prepare(config, cohort, outcomes, book)


def run_seed(study: risk.Study, seed: int, folder: Path) -> dict:
    """One seed from alignment to scores; prints its line."""
    started, cpu = time.perf_counter(), time.process_time()
    study = study.on(study.train, study.test, seed=seed)
    aligned, first = risk.pretrain(study, folder / "pretraining")
    network, second = risk.finetune(study, aligned, folder / "finetuning")
    scores = {"network": risk.predict_risk(network, study.x[study.test])}
    scores |= risk.baseline_scores(study)
    years, event = study.years[study.test].numpy(), study.event[study.test].numpy()
    c = {name: harrell_c(years, event, score) for name, score in scores.items()}
    thirds = tertiles(scores["network"], risk.predict_risk(network, study.x[study.train]))
    row = {
        "seed": seed,
        "share_closed": risk.share_closed(c["network"], c["age + sex"], c["true hazard"]),
        "logrank_p": logrank_p(years, event, thirds),
        **{f"c_{name}": value for name, value in c.items()},
        "recall@5": first.last["eval_recall@5"], "chance@5": first.last["eval_chance@5"],
        "mismatched_cos": first.last["eval_mismatched_cos"],
        "stage_seconds": [round(first.seconds, 1), round(second.seconds, 1)],
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }
    row = {k: round(v, 4) if isinstance(v, float) and k != "logrank_p" else v
           for k, v in row.items()}
    print(row, flush=True)
    return row


def logrank_p(years: np.ndarray, event: np.ndarray, group: np.ndarray) -> float:
    """P of the log-rank test that all groups fail alike."""
    from lifelines.statistics import multivariate_logrank_test

    return float(multivariate_logrank_test(years, group, event).p_value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("given", nargs="*", metavar="NAME=VALUE")
    args = parser.parse_args()
    study = prepared(dict(item.split("=", 1) for item in args.given))
    print(f"machine: {runtime.cpu_model()}")
    print(study.outcomes.describe(), *study.notes, sep="\n")
    with tempfile.TemporaryDirectory() as folder:
        rows = [run_seed(study, seed, Path(folder) / str(seed)) for seed in args.seeds]
    shares = [row["share_closed"] for row in rows]
    print(json.dumps({
        "share_closed": shares, "median": statistics.median(shares),
        "events": int(study.event[study.test].sum()),
        "logrank_p": max(row["logrank_p"] for row in rows),
        "seconds": [row["seconds"] for row in rows], "rows": rows,
    }))


if __name__ == "__main__":
    main()
