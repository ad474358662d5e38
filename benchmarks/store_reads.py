"""Store reads beside plain WFDB reads of the same records, in one run.

Prints machine and CPU model, and ends with one JSON line: `store_reads_per_s`, `wfdb_reads_per_s`,
`read_ratio`,
`largest_difference_mv`. Usage: python benchmarks/store_reads.py [--n 400] [--fs 500]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import wfdb

from ecgkit.config import KitConfig
from ecgkit.data.cohort import open_cohort
from ecgkit.data.synthetic import write_cohort
from ecgkit.runtime import environment_report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=400, help="simulated records")
    parser.add_argument("--fs", type=int, default=500, choices=(100, 500))
    args = parser.parse_args()
    print(environment_report())
    with tempfile.TemporaryDirectory() as folder:
        cohort_folder = write_cohort(Path(folder) / "cohort", args.n, seed=1, rates=(args.fs,))
        config = KitConfig.from_params({"data": str(cohort_folder), "fs": args.fs})
        cohort = open_cohort(config)
        column = "filename_lr" if args.fs == 100 else "filename_hr"
        paths = [str(cohort_folder / name) for name in cohort.table[column]]
        order = np.random.default_rng(0).permutation(len(paths))
        ours, plain = read_both(cohort.store, paths, order)
    print(json.dumps(report(ours, plain, len(order))))


def read_both(store, paths: list[str], order: np.ndarray) -> tuple[tuple, tuple]:
    """Returns (seconds, signals (n, C, T) mV) of the store in batches of 64 and of wfdb one by
    one.
    """
    start = time.perf_counter()
    ours = np.concatenate([store.read(order[i : i + 64]) for i in range(0, len(order), 64)])
    store_seconds = time.perf_counter() - start
    start = time.perf_counter()
    plain = np.stack([wfdb.rdrecord(paths[i]).p_signal.T.astype(np.float32) for i in order])
    return (store_seconds, ours), (time.perf_counter() - start, plain)


def report(ours: tuple, plain: tuple, n: int) -> dict[str, float]:
    return {
        "store_reads_per_s": round(n / ours[0]),
        "wfdb_reads_per_s": round(n / plain[0]),
        "read_ratio": round(plain[0] / ours[0], 1),
        "largest_difference_mv": float(np.abs(ours[1] - plain[1]).max()),
    }


if __name__ == "__main__":
    main()
