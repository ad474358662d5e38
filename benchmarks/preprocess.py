"""Mapping and preprocessing: ours beside the published way, and how ours grows with the cohort.

Questions: a simulated set with PTB-XL's 26 questions per recording, both sides on one core. The
published way writes one .mat file per question and opens each of its recordings with `wfdb` (its
mapping script, which comes before, is not even counted); ours reads the JSON, joins it to the
recordings, lays out answers and tokens, and writes its cache. Signals are left out of both.
Records: WFDB format 16 at 500 Hz -> `open_cohort`, from the tables to the finished store, all
cores. Reads: random records of that store in batches of 64, one thread, beside plain numpy on the
same map. Growth: `build_store` alone at two sizes, time per record and peak memory, in one process
each, so that starting a second one does not flatter the large build. The table of patients, which
grows with the records by its nature, is not in that figure; what `open_cohort` takes is printed.

Prints machine and CPU model; the last line is JSON: question_time_ratio and question_disk_ratio
(theirs / ours), records_per_s, reads_per_s, read_floor (ours / numpy), record_time_growth and
memory_growth (large / small).
Usage: python benchmarks/preprocess.py [--small 1000] [--large 20000] [--recordings 400]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from ecgkit import runtime

MIMIC_RECORDINGS = 800_035
PER_ECG = 28  # asked for; about 26 come out, as rare attributes run out
BATCH = 64
TRIALS = 3  # of whatever takes less than seconds; the best counts, for both sides alike


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--small", type=int, default=1000, help="records of the small build")
    parser.add_argument("--large", type=int, default=20_000, help="records of the large build")
    parser.add_argument("--recordings", type=int, default=400, help="of the question part")
    parser.add_argument("--part", nargs=3, help=argparse.SUPPRESS)  # name, folder, jobs
    args = parser.parse_args()
    if args.part:
        part, folder, jobs = args.part
        return print(json.dumps(PARTS[part](Path(folder), int(jobs))))
    print(runtime.environment_report())
    with tempfile.TemporaryDirectory() as scratch:
        found = questions(Path(scratch) / "questions", args.recordings)
        found |= records(Path(scratch), args.small, args.large)
    print(json.dumps(found))


def run_part(
    part: str, folder: Path, jobs: int = 1, cores: set[int] | None = None
) -> tuple[dict, float]:
    """(its JSON, peak memory in bytes of its process and their children) of a part run alone."""
    environment = os.environ | {"ECGKIT_CACHE": str(folder / "cache"), "ECGKIT_BATCH": "1"}
    if cores:  # tokenizers and BLAS start one thread per core otherwise
        environment |= {"RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--part", part, str(folder), str(jobs)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    process, peak = psutil.Process(child.pid), 0
    if cores:
        process.cpu_affinity(list(cores))
    while child.poll() is None:
        peak = max(peak, sum(_resident(p) for p in [process, *_children(process)]))
        time.sleep(0.05)
    lines = child.stdout.read().strip().splitlines()
    if child.returncode:
        raise SystemExit(f"the part {part!r} of the benchmark failed; its last words: {lines[-3:]}")
    print("".join(f"  {line}\n" for line in lines[:-1]), end="")
    return json.loads(lines[-1]), peak


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _resident(process: psutil.Process) -> int:
    """Bytes in memory without mapped files, which the system takes back when it needs them."""
    try:
        memory = process.memory_info()
        return memory.rss - memory.shared
    except psutil.NoSuchProcess:
        return 0


# --- questions ------------------------------------------------------------------------------------


def questions(folder: Path, n_recordings: int) -> dict[str, float]:
    """Time and disk per question, theirs / ours, both on one core."""
    from ecgkit.data.layouts import write_layout

    write_layout(folder / "cohort", "ptbxl", n_recordings, seed=1, rates=(500,))
    found, _ = run_part("questions", folder, cores={min(os.sched_getaffinity(0))})
    n = found["n"]
    for side in ("ours", "theirs"):
        seconds, size = found[side]
        print(f"questions, {side}: {n / seconds:,.0f} per s, {size / n:,.1f} bytes each on disk")
    ours, theirs = found["ours"], found["theirs"]
    return {
        "question_time_ratio": round(theirs[0] / ours[0], 1),
        "question_disk_ratio": round(theirs[1] / ours[1], 1),
    }


def _questions(folder: Path, jobs: int) -> dict:
    """{n, ours: (seconds, bytes on disk), theirs: ...} of the same questions."""
    from ecgkit.config import KitConfig
    from ecgkit.data import published_layout, qa_generator
    from ecgkit.data.cohort import open_cohort
    from ecgkit.data.ecgqa import read_questions
    from ecgkit.text.question_tokenizer import train_tokenizer

    cohort = open_cohort(KitConfig.from_params({"data": str(folder / "cohort"), "fs": 500}))
    written = folder / "written"
    qa_generator.write_questions(written, cohort.table, cohort.truth, per_ecg=PER_ECG)
    listed = read_questions(written, cohort)
    print(f"{len(listed):,} questions, {len(listed) / len(cohort):.1f} per recording")
    tokenizer = train_tokenizer(listed.table["question"].tolist(), 800)
    ours = min(_ours(folder, written, cohort, tokenizer) for _ in range(TRIALS))
    start = time.perf_counter()
    published_layout.export_questions(
        listed, cohort, folder / "mat",
        count_tokens=lambda text: len(tokenizer(text)["input_ids"]), per_question_wfdb=True,
    )  # fmt: skip
    theirs = time.perf_counter() - start, on_disk(folder / "mat")
    return {"n": len(listed), "ours": ours, "theirs": theirs}


def _ours(folder: Path, written: Path, cohort, tokenizer) -> tuple[float, int]:
    """(seconds, bytes on disk) of reading, joining, laying out and tokenising, nothing cached."""
    from ecgkit.data.ecgqa import read_questions
    from ecgkit.text.question_cache import open_tokens

    cache = folder / "fresh"
    shutil.rmtree(cache, ignore_errors=True)
    os.environ["ECGKIT_CACHE"] = str(cache)
    start = time.perf_counter()
    read = read_questions(written, cohort)
    everything = np.arange(len(read))
    tokens = open_tokens(tokenizer, read.table["question"])
    labels, judged = read.labels(everything), read.valid_mask(everything)
    seconds = time.perf_counter() - start
    assert len(tokens) == len(labels) == len(judged) == len(read)
    return seconds, on_disk(cache)


def on_disk(folder: Path) -> int:
    """Bytes that the files below `folder` occupy, in whole blocks."""
    return sum(512 * path.stat().st_blocks for path in folder.rglob("*") if path.is_file())


# --- records --------------------------------------------------------------------------------------


def records(scratch: Path, small: int, large: int) -> dict[str, float]:
    """Builds both stores, each in a fresh process, and reads from the small one."""
    from ecgkit.data.layouts import write_layout
    from ecgkit.data.store import Store

    rate, peak = {}, {}
    for n in (small, large):
        folder = scratch / f"records-{n}"
        write_layout(folder / "cohort", "ptbxl", n, seed=2, rates=(500,), jobs=0)
        tries = [run_part("build", folder)[0] for _ in range(TRIALS)]
        rate[n] = max(found["per_s"] for found in tries)
        peak[n] = max(found["peak_mb"] for found in tries)
        print(f"{n:,} records, one process: {rate[n]:,.0f} per s, peak {peak[n]:.1f} MB")
        if n == small:
            reads, floor = read_speed(Store(folder / "store"))
    found, size = run_part("open", folder, jobs=0)
    per_s = found["per_s"]
    print(f"{large:,} records, all cores: {per_s:,.0f} per s, peak {size / 1e6:,.0f} MB in all")
    hours, gigabytes = MIMIC_RECORDINGS / per_s / 3600, MIMIC_RECORDINGS * 12 * 5000 * 2 / 1e9
    print(f"extrapolated to {MIMIC_RECORDINGS:,} recordings: {hours:.2f} h on this machine, "
          f"{gigabytes:.0f} GB of store")  # fmt: skip
    return {
        "records_per_s": round(per_s),
        "reads_per_s": round(reads),
        "read_floor": round(floor, 3),
        "record_time_growth": round(rate[small] / rate[large], 3),
        "memory_growth": round(peak[large] / peak[small], 3),
    }


def _open(folder: Path, jobs: int) -> dict[str, float]:
    """{per_s} of a whole `open_cohort`, nothing cached."""
    from ecgkit.config import KitConfig
    from ecgkit.data.cohort import open_cohort

    os.sync()  # what was written before is not this part's time
    config = KitConfig.from_params({"data": str(folder / "cohort"), "fs": 500, "jobs": jobs})
    start = time.perf_counter()
    cohort = open_cohort(config)
    return {"per_s": len(cohort) / (time.perf_counter() - start)}


def _build(folder: Path, jobs: int) -> dict[str, float]:
    """{per_s, peak_mb} of `build_store`, nothing cached."""
    from ecgkit.data.parallel import Workers
    from ecgkit.data.place import Folder
    from ecgkit.data.store import build_store

    shutil.rmtree(folder / "store", ignore_errors=True)
    os.sync()  # what was written before is not this part's time
    with open(folder / "cohort" / "ptbxl_database.csv", newline="") as file:
        listed = [(int(line["ecg_id"]), line["filename_hr"]) for line in csv.DictReader(file)]
    place, start = Folder(folder / "cohort"), time.perf_counter()
    store = build_store(folder / "store", listed, place, key="-", fs=500, workers=Workers(jobs))
    per_s = len(store) / (time.perf_counter() - start)
    return {"per_s": per_s, "peak_mb": 1000 * runtime.peak_memory_gb()}


def read_speed(store, n_reads: int = 3840) -> tuple[float, float]:
    """(records of 12 x 5000 float32 mV per second, ours / plain numpy), best of TRIALS each."""
    rows = np.random.default_rng(0).integers(0, len(store), (n_reads // BATCH, BATCH))
    n_leads, n_samples = len(store.leads), store.n_samples
    out = np.empty((BATCH, n_leads, n_samples), np.float32)
    maps = [
        np.load(path, mmap_mode="r").reshape(-1, n_leads, n_samples)
        for path in sorted(store.folder.glob("shard-*.npy"))
    ]
    shard, start = (store.index[name].to_numpy() for name in ("shard", "start"))
    place = start // (n_leads * n_samples)
    gain = np.float32(store.index["gain"].iloc[0])  # one number: the simulator's

    def ours():
        for batch in rows:
            store.read(batch, out=out)

    def plain(scale=np.divide, by=gain):
        for batch in rows:
            for signal, row in zip(out, batch):
                np.copyto(signal, maps[shard[row]][place[row]])
                scale(signal, by, out=signal)

    def product():  # a fifth faster, and not always the float32 that WFDB's quotient rounds to
        plain(np.multiply, np.float32(1 / gain))

    ours()  # the first pass brings the pages in
    last = out.copy()
    plain()
    assert np.array_equal(last, out), "both sides must give the same millivolts"
    seconds = {f: min(_timed(f) for _ in range(TRIALS)) for f in (ours, plain, product)}
    per_s = {f.__name__: f"{n_reads / seconds[f]:,.0f}" for f in seconds}
    print(
        f"reads per s: ours {per_s['ours']}, plain numpy {per_s['plain']}, "
        f"its product with 1 / gain {per_s['product']}"
    )
    return n_reads / seconds[ours], seconds[plain] / seconds[ours]


def _timed(function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


PARTS = {"questions": _questions, "build": _build, "open": _open}

if __name__ == "__main__":
    sys.exit(main())
