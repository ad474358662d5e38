"""Does the answer come from the ECG? Fusion, text-only and SE-WRN of notebook 03, seed by seed.

Each seed trains three of the notebook's models (preset demo, default simulated cohort, all chosen
on the valid split) and scores the test split once: exact match on single-verify, the paired gain of
fusion over text-only with its 95 % interval over patients, the per-template majority, and SE-WRN's
macro AUROC over SCP codes with both labels. Parameters of the notebook can be given as NAME=VALUE.

`--pretrain-on N` first trains the ECG transformer on N simulated ECGs of people who are in no other
cohort, once for all seeds, and each seed starts from it as it is (CHECKPOINT, PRETRAIN_STEPS=0):
the offline stand-in for the published encoders, which saw other recordings before PTB-XL's.
Text-only has no ECG side and gains nothing from that.

Usage: python benchmarks/qa_learning.py [N_STEPS=4000 ...] [--pretrain-on 12000] --seeds 0 1 2 3 4
The last line is JSON: a list of seeds, gains, text-only minus majority, AUROCs, seconds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from ecgkit import runtime
from ecgkit.config import BaselinesConfig
from ecgkit.data.cohort import open_cohort
from ecgkit.data.ecgqa import open_questions
from ecgkit.models.saving import save_pretrained
from ecgkit.tasks import answers_qa, qa_study, upperbound

TYPE = "single-verify"
PRETRAINING_SEED = 101  # of the cohort of --pretrain-on; 7 is for choosing settings, 2026 scored


def pretrained_elsewhere(n_ecgs: int, n_steps: int, given: dict, folder: Path) -> Path:
    """Folder of an ECG transformer trained on another simulated cohort; prints its line."""
    started = time.perf_counter()
    config = BaselinesConfig.from_params(
        {"preset": "demo", "models": "fusion", **given, "cohort_seed": PRETRAINING_SEED,
         "cohort_size": n_ecgs, "pretrain_steps": n_steps})
    scored = BaselinesConfig.from_params({"preset": "demo", **given})
    if scored.simulated and scored.cohort_seed == PRETRAINING_SEED:
        raise SystemExit(
            f"COHORT_SEED={PRETRAINING_SEED} is the cohort that is pretrained on; score another.")
    cohort = open_cohort(config, quiet=True)
    targets = upperbound.start_targets(cohort, config.min_code_count, config.noise_importance)
    bound = upperbound.train_upper_bound(config, cohort, targets, qa_study.START, folder / "fit")
    print(f"pretrained on {len(cohort)} other ECGs, {n_steps} steps: AUROC {bound.macro[0]:.4f} on "
          f"their own test fold, {time.perf_counter() - started:.0f} s", flush=True)
    return save_pretrained(bound.model, folder / "model")


def run_seed(seed: int, given: dict, folder: Path) -> dict:
    """One seed from classifiers to scores; prints its line."""
    started = time.perf_counter()
    config = BaselinesConfig.from_params(
        {"preset": "demo", "seed": seed, "models": "fusion blind se_wrn", **given})
    cohort = open_cohort(config, quiet=True)
    questions = open_questions(config, cohort, quiet=True)
    targets = upperbound.code_targets(cohort, config.min_code_count)
    bounds = qa_study.train_bounds(config, cohort, targets, folder)
    trained = qa_study.train_models(config, cohort, questions, folder,
                                    bounds.get(qa_study.START))
    results = qa_study.answer_all(config, trained, questions)
    test, answers = results.positions, results.answers
    patients = questions.table["patient1"].to_numpy()[test]
    gain = answers_qa.difference(questions, test, answers["fusion"], answers["blind"], patients,
                                 TYPE)
    over = answers_qa.difference(questions, test, answers["blind"], answers["majority"], patients,
                                 TYPE)
    table = answers_qa.score_table(questions, test, answers, patients)
    match = table[table["question_type"] == TYPE].set_index("model")["value"]
    row = {
        "seed": seed, "gain": round(gain[0], 4), "low": round(gain[1], 4),
        "high": round(gain[2], 4), "fusion": round(float(match["fusion"]), 4),
        "blind": round(float(match["blind"]), 4), "majority": round(float(match["majority"]), 4),
        "blind_minus_majority": [round(float(v), 4) for v in over],
        "lr": {kind: one.qa.lr for kind, one in trained.items()},
        "auroc_start": (round(bounds[qa_study.START].macro[0], 4) if qa_study.START in bounds
                        else None),  # None: straight from CHECKPOINT
        "auroc_se_wrn": round(bounds["se_wrn"].macro[0], 4),
        "seconds": round(time.perf_counter() - started, 1),
    }
    print(row, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--pretrain-on", type=int, default=0, metavar="ECGS")
    parser.add_argument("--pretrain-steps-there", type=int, default=4000, metavar="STEPS")
    parser.add_argument("given", nargs="*", metavar="NAME=VALUE")
    args = parser.parse_args()
    given = dict(item.split("=", 1) for item in args.given)
    print(f"machine: {runtime.cpu_model()}")
    with tempfile.TemporaryDirectory() as folder:
        if args.pretrain_on:
            made = pretrained_elsewhere(args.pretrain_on, args.pretrain_steps_there, given,
                                        Path(folder) / "elsewhere")
            given |= {"CHECKPOINT": str(made), "PRETRAIN_STEPS": 0}
        rows = [run_seed(seed, given, Path(folder) / str(seed)) for seed in args.seeds]
    print(json.dumps({"gains": [row["gain"] for row in rows],
                      "auroc_se_wrn": [row["auroc_se_wrn"] for row in rows], "rows": rows}))


if __name__ == "__main__":
    main()
