"""How far does a network get on real ECGs when it has only seen simulated ones?

Trains a small ConvNeXtV2-1D and a small text encoder on the simulated cohort alone, then scores the
five PTB-XL superclasses on real PTB-XL: by a linear head (fitted on simulated records) and
zero-shot by text. Folds 1-4 of the real records may guide development; folds 5-10 are scored only
for the figures at the end (`--dev` scores folds 1-4 instead and leaves the others unread). Beside
it: the same network trained on the real subset alone (patient-grouped cross-validation, same
records scored), how well summary features tell simulated from real, and the simulator's speed.

Usage: python benchmarks/sim_to_real.py --real ../shared/data/ptbxl-subset-400.zip
           [--n 16000] [--minutes 15] [--cohort-seed 11] [--dev] [--quick]
Last line: JSON with probe_auc, zero_shot_auc, real_small_auc, sim_vs_real_auc.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import realism
import torch
from sim_to_real_model import embed, fit_statements, prompt_scores

from ecgkit.config import KitConfig
from ecgkit.data.cohort import open_cohort
from ecgkit.data.labels import SUPERCLASSES, superclass_labels
from ecgkit.data.synthetic import write_cohort
from ecgkit.models.ecg_encoders import save_encoder
from ecgkit.runtime import environment_report
from ecgkit.signal import preprocess
from ecgkit.tasks.esi_eval import auc_table, linear_probe, macro_interval
from ecgkit.text.captions import write_captions
from ecgkit.text.cqa import Notes
from ecgkit.text.prompts import assert_unseen, superclass_prompts

DEV_FOLDS = (1, 2, 3, 4)
SPEED_N = 4096  # records by which the simulator's speed is taken
PUBLISHED = "published on all of PTB-XL: supervised 0.93, zero-shot MERL 0.757, ESI 0.812"


def main() -> None:
    args = arguments()
    print(environment_report())
    torch.manual_seed(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        simulated, speed = simulate(args, Path(folder) / "cohort")
    real = open_real(args)
    if args.dev:
        print("DEVELOPMENT RUN: real folds 1-4 only; these are not the figures to quote.")
    study = fit_statements(
        simulated.x, simulated.codes, simulated.texts, minutes=args.minutes, seed=args.seed
    )
    own = linear_probe_scores(study, simulated, real)
    text = prompt_scores(study, real.x, superclass_prompts(SUPERCLASSES))
    seen = assert_unseen(superclass_prompts(SUPERCLASSES), simulated.texts)
    print(f"zero-shot prompts share at most {seen['longest_run']} words in a row with a caption")
    if args.out:
        keep(args.out, study, real, own, text)
    scored = real.scored
    figures = {
        "probe_auc": report("linear head, simulation only", real, own, scored),
        "zero_shot_auc": report("zero-shot by text, simulation only", real, text, scored),
    }
    if not args.quick:
        small = real_alone(real, args)
        figures["real_small_auc"] = report("trained on the real subset alone", real, small, scored)
    print(PUBLISHED)
    figures["sim_vs_real_auc"] = tell_apart(simulated, real)
    figures |= speed
    print(json.dumps(figures))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real", required=True, help="PTB-XL folder or .zip")
    parser.add_argument("--n", type=int, default=16_000, help="simulated records to train on")
    parser.add_argument("--minutes", type=float, default=15, help="training time")
    parser.add_argument("--cohort-seed", type=int, default=11)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dev", action="store_true", help="score real folds 1-4 only")
    parser.add_argument("--quick", action="store_true", help="no real-only training")
    parser.add_argument("--out", default="", help="folder for the encoder and the scores")
    return parser.parse_args()


# --- records --------------------------------------------------------------------------------------


class Records:
    """Signals x (n, 12, 1000) float16 mV at 100 Hz, `y` (n, 5) superclasses, the cohort's table,
    captions, and `scored`: the rows that count.
    """

    def __init__(self, cohort, rows: np.ndarray, scored: np.ndarray):
        self.table = cohort.table.iloc[rows].reset_index(drop=True)
        self.y = superclass_labels(cohort)[0][rows]
        self.codes = [list(codes) for codes in self.table["scp_codes"]]
        captions = write_captions(self.table, cohort.statements, Notes(), seed=0, n_short=6)
        self.variants = captions.variants
        self.x = np.concatenate(
            [clean(cohort.store.read(rows[i : i + 256])) for i in range(0, len(rows), 256)]
        )
        self.scored, self.store, self.rows = scored, cohort.store, rows
        self.patients = self.table["patient_id"].to_numpy()

    @property
    def texts(self) -> list[str]:
        return [text for wordings in self.variants for text in wordings[1:]]

    def raw(self, rows: np.ndarray) -> np.ndarray:
        """(m, 12, 1000) float32 mV as recorded."""
        return self.store.read(self.rows[rows])

    def quiet(self) -> np.ndarray:
        """Rows without any note of noise."""
        noise = ["baseline_drift", "static_noise", "burst_noise", "electrodes_problems"]
        return np.flatnonzero(self.table[noise].isna().all(axis=1))


def clean(signal: np.ndarray) -> np.ndarray:
    """(B, 12, 1000) mV: what both kinds of records go through, 0.5-40 Hz, in half precision."""
    return preprocess(signal, 100, filter="bandpass").astype(np.float16)


def simulate(args, folder: Path) -> tuple[Records, dict]:
    """`--n` simulated records, and how fast they were made (500 Hz, written, all cores)."""
    start = time.perf_counter()
    write_cohort(folder / "speed", SPEED_N, seed=1, rates=(500,))
    speed = SPEED_N / (time.perf_counter() - start)
    shutil.rmtree(folder / "speed")
    print(f"simulator: {speed:.0f} records/s (12 leads x 10 s at 500 Hz, written as WFDB)")
    # At both rates, as in PTB-XL: then the 100 Hz files come from what a recorder made of 500 Hz.
    write_cohort(folder / "train", args.n, seed=args.cohort_seed, rates=(100, 500))
    cohort = open_cohort(KitConfig.from_params({"data": str(folder / "train")}))
    rows = np.arange(len(cohort.store))
    return Records(cohort, rows, rows), {"simulated_per_s": round(speed)}


def open_real(args) -> Records:
    """Real PTB-XL, one table; `--dev` opens folds 1-4 and nothing else."""
    cohort = open_cohort(KitConfig.from_params({"data": args.real}))
    fold = cohort.table["fold"].to_numpy()
    dev = np.isin(fold, DEV_FOLDS)
    rows = np.flatnonzero(dev) if args.dev else np.arange(len(fold))
    scored = np.arange(len(rows)) if args.dev else np.flatnonzero(~dev)
    return Records(cohort, rows, scored)


# --- scores ---------------------------------------------------------------------------------------


def linear_probe_scores(study, simulated: Records, real: Records) -> np.ndarray:
    """(n real, 5): logistic regression on frozen embeddings, fitted on simulated records."""
    rows = np.random.default_rng(0).permutation(len(simulated.x))[:8000]
    train = embed(study.encoder, simulated.x[rows])
    return linear_probe(train, simulated.y[rows], embed(study.encoder, real.x))


def report(name: str, real: Records, scores: np.ndarray, rows: np.ndarray) -> float:
    """Prints macro-AUC and per class with 95 % bootstrap intervals over patients; returns macro."""
    labels, scores, who = real.y[rows], scores[rows], real.patients[rows]
    macro, low, high = macro_interval(labels, scores, who)
    print(f"\n{name}: macro-AUC {macro:.3f} [{low:.3f}, {high:.3f}] on {len(rows)} real records")
    table = auc_table(labels, scores, SUPERCLASSES, who)
    print(table.round(3).to_string(index=False), flush=True)
    return round(macro, 4)


def keep(out: str, study, real: Records, own: np.ndarray, text: np.ndarray) -> None:
    """Writes the encoder (safetensors) and one row of scores per scored record."""
    folder = save_encoder(study.encoder, out, fs=100, unit="mV", filter="bandpass", simulated=True)
    table = pd.DataFrame({"ecg_id": real.table["ecg_id"]})
    for k, name in enumerate(SUPERCLASSES):
        table[f"probe_{name}"], table[f"text_{name}"] = own[:, k], text[:, k]
    table.iloc[real.scored].to_csv(folder / "scores.csv", index=False)


def real_alone(real: Records, args) -> np.ndarray:
    """(n, 5): the same network trained on real records only, five folds by patient."""
    from sklearn.model_selection import GroupKFold

    scores = np.zeros_like(real.y)
    texts = [wordings[1] for wordings in real.variants]
    for train, test in GroupKFold(5).split(real.x, groups=real.patients):
        study = fit_statements(
            real.x[train], [real.codes[i] for i in train], [texts[i] for i in train],
            minutes=args.minutes / 15, seed=args.seed, epochs=60,
        )  # fmt: skip
        scores[test] = linear_probe(
            embed(study.encoder, real.x[train]), real.y[train], embed(study.encoder, real.x[test])
        )
    return scores


def tell_apart(simulated: Records, real: Records) -> float:
    """AUC of a classifier that tells simulated from real clean records by summary features."""
    rows = np.intersect1d(real.quiet(), real.scored)
    pool = matched(simulated, real, rows)
    groups = np.concatenate([-1 - np.arange(len(pool)), real.patients[rows]])
    value, table = realism.sim_vs_real_auc(simulated.raw(pool), real.raw(rows), groups)
    print(f"\nsimulated or real, by summary features ({len(rows)} clean each): AUC {value:.3f}")
    print(table.head(10).round(3).to_string())
    return round(float(value), 4)


def matched(simulated: Records, real: Records, rows: np.ndarray) -> np.ndarray:
    """One quiet simulated record for each of the real `rows`: same superclasses, same sex, each
    used once. So the mix of diseases does not tell the two apart.
    """
    rng, kinds = np.random.default_rng(0), [[*y, s] for y, s in zip(real.y, real.table["sex"])]
    pool = {}
    for i in rng.permutation(simulated.quiet()):
        key = (*simulated.y[i], simulated.table["sex"].iloc[i])
        pool.setdefault(key, []).append(int(i))
    chosen = [pool[key].pop() for r in rows if pool.get(key := tuple(kinds[r]))]
    return np.array(chosen)


if __name__ == "__main__":
    main()
