"""The simulator's truth, checked from outside.

Three tables: (1) how many records of each statement, drawn as certain, meet its textbook criterion
when measured, and how many normal ones do; (2) how well a linear model tells the statement from a
normal ECG in the noisy signal; (3) what NeuroKit2 measures: heart rate within 2 beats/min, by kind
of rhythm, and the rank correlation of its QRS and PR with the truth.

Prints the machine and ends with one JSON line: `criteria_met_least`, `probe_auc_least` (SR aside: a
normal ECG is SR), `hr_within_2`, `qrs_spearman`, `pr_spearman`.
Usage: python benchmarks/simulator_truth.py [--n 500] [--sinus 500] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pandas as pd

from ecgkit.data.synthetic.criteria import CRITERIA, rates
from ecgkit.data.synthetic.examples import draw_examples, render_examples
from ecgkit.runtime import environment_report

sys.path.insert(0, str(Path(__file__).resolve().parent))
import simulator_neurokit as neurokit  # noqa: E402
from simulator_probe import FS, beat_features, probe_auc  # noqa: E402

NORMAL = ("NORM", "SR")  # nothing to tell apart from a normal ECG


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=500, help="records per statement")
    parser.add_argument("--sinus", type=int, default=500, help="sinus records for NeuroKit2")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(environment_report())
    table = statements(args.n, args.seed)
    print(table.round(3).to_string())
    rhythms = neurokit.rates_by_rhythm(args.sinus // 5, args.seed)
    print(rhythms.round(3).to_string())
    found = neurokit.sinus_agreement(args.sinus, args.seed)
    print(json.dumps(summary(table) | {name: round(value, 3) for name, value in found.items()}))


def statements(n: int, seed: int) -> pd.DataFrame:
    """One row per statement: `met`, `met_by_normal` (shares), `probe_auc`; `n` records each."""
    normal = draw_examples("NORM", n, seed)
    by_normal = rates(normal.truth)
    features = beat_features(render_examples(normal, FS, seed))
    rows = {}
    for code in CRITERIA:
        drawn = draw_examples(code, n, seed + 1)
        signals = render_examples(drawn, FS, seed + 1)
        auc = float("nan") if code in NORMAL else probe_auc(features, beat_features(signals))
        rows[code] = (rates(drawn.truth, [code])[code], by_normal[code], auc)
    return pd.DataFrame(rows, index=["met", "met_by_normal", "probe_auc"]).T


def summary(table: pd.DataFrame) -> dict[str, float]:
    ill = table.drop(index=list(NORMAL))
    return {
        "criteria_met_least": round(ill["met"].min(), 3),
        "probe_auc_least": round(ill["probe_auc"].min(), 3),
    }


if __name__ == "__main__":
    main()
