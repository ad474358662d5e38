"""Sweeps: the file is checked whole before anything runs; points run, resume and fail alone.

Points here are stand-ins (a script that writes a run folder in milliseconds); one slow test runs
the real command.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ecgkit import cli, sweeps
from ecgkit.sweep_file import read_sweep
from ecgkit.types import ConfigError

ROOT = Path(__file__).parents[1]
NAMES = ["04_esi_pretraining", "05_esi_evaluation"]
# Writes run.json as `ecgkit run` does; fails, stops or dies where its name says so.
STAND_IN = """
import json, os, pathlib, sys, time
folder, params = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
began = time.time()
print("threads", os.environ.get("OMP_NUM_THREADS"), "claims", os.environ.get("ECGKIT_CLAIMS"))
if folder.name == "killed":
    os.kill(os.getpid(), 9)
if folder.name == "refused":
    print("ecgkit: the disk is full.", file=sys.stderr)
    sys.exit(2)
time.sleep(0.3)
path, failed = folder / "run.json", folder.name == "broken"
folder.mkdir(parents=True, exist_ok=True)
old = json.loads(path.read_text())["params"] if path.exists() else None
status = "failed" if failed else "skipped (unchanged)" if old == params else "ok"
entries = [{"name": "04_esi_pretraining", "status": status, "html": "",
            "cell": "04, cell 3 (Training): ValueError: nothing learns" if failed else ""}]
path.write_text(json.dumps({"params": params, "notebooks": entries, "began": began,
                            "ended": time.time()}))
sys.exit(failed)
"""


@pytest.fixture
def file(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "sweep.yaml"
        path.write_text(text)
        return path

    return write


def stand_in(names, point, folder, force):
    return [sys.executable, "-S", "-c", STAND_IN, str(folder), json.dumps(point.params)]


def run(path: Path, out: Path, **how) -> int:
    return sweeps.run_sweep(["04"], path, {}, str(out), command=stand_in, **how)


def record(out: Path) -> dict:
    body = json.loads((out / "sweep.json").read_text())
    return body | {"points": {p["name"]: p for p in body["points"]}}


# --- the file -------------------------------------------------------------------------------------


def test_base_runs_grid_and_the_command_line(file):
    path = file(
        "base: {preset: tiny, N_STEPS: 3, LR: 1}\n"
        "runs:\n  full:\n  short: {N_STEPS: 1, lr: null}\n"
        "grid: {SEED: [0, 1], TEXT_ENCODER: ['', 'a/b']}\n"
    )
    points = {p.name: p for p in read_sweep(path, {"N_STEPS": "5", "BATCH_SIZE": "4"})}
    assert len(points) == 8 and list(points)[1] == "full-seed_0-text_encoder_a_b"
    assert points["full-seed_1-text_encoder_empty"].params == {
        "PRESET": "tiny", "N_STEPS": "5", "LR": 1, "BATCH_SIZE": "4", "SEED": 1, "TEXT_ENCODER": "",
    }  # fmt: skip
    short = points["short-seed_0-text_encoder_a_b"]
    assert short.params["N_STEPS"] == 1 and "LR" not in short.params  # null: the preset's value
    assert short.own == {"N_STEPS": 1, "LR": None, "SEED": 0, "TEXT_ENCODER": "a/b"}
    alone = read_sweep(file("grid: {SHUFFLED_SHARE: [0, 0.25]}"))
    assert [p.name for p in alone] == ["shuffled_share_0", "shuffled_share_0.25"]


def test_a_grid_cannot_be_set_from_outside(file):
    with pytest.raises(ConfigError, match="SEED is varied by the grid"):
        read_sweep(file("grid: {SEED: [0, 1]}"), {"SEED": "3"})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("runs: [a, b]", "name: value pairs"),
        ("runs:\n  a: {SEED: 1", "not yaml at line"),
        ("runs:\n  a: {SEED: 1}\n  a: {SEED: 2}\n", "'a' stands twice"),
        ("runs:\n  a: {SEED: 1}\n  A: {SEED: 2}\n", "folder 'a'"),
        ("runs:\n  a: {SEED: 1, seed: 2}\n", "seed stands there twice"),
        ("runs:\n  ../a: {SEED: 1}\n", "cannot name a run"),
        ("runs:\n  figures: {SEED: 1}\n", "cannot name a run"),
        ("rums:\n  a: {SEED: 1}\n", "did you mean runs"),
        ("base: {SEED: 1}", "names no runs"),
        ("- a\n- b\n", "is no sweep"),
        ("", "is no sweep"),
        ("runs: {a: {OUT: x}}", "give it as --out"),
        ("runs: {a: 3}", "a is 3"),
        ("grid: {SEED: 3}", "give a list"),
        ("grid: {SEED: []}", "give a list"),
        ("grid: {SEED: [[1]]}", "one value, not several"),
        ("runs: {a: {SEED: 1}}\ngrid: {SEED: [2]}", "leave it to one of them"),
        ("runs: {a: {LR: [1, 2]}}", "one value, not several"),
        ("runs: {a: {N_STEP: 1}}", "did you mean n_steps"),
        ("runs: {good: {N_STEPS: 1}, bad: {N_STEPS: many}}", "run 'bad' of the sweep: n_steps is"),
        ("runs: {a: {ENCODER: resnet}}", "run 'a' of the sweep: encoder is 'resnet'; choose"),
        ("runs: {a: {SHUFFLED_SHARE: 2}}", "a share from 0 to 1"),
        ("runs: {a: {DATA: no/such/place}}", "no/such/place"),
        ("runs: {a: {CQA: maybe}}", "true or false"),
    ],
)
def test_a_wrong_file_is_a_sentence_before_anything_runs(text, says, file, tmp_path, capsys):
    out = tmp_path / "out"
    path = file(text)
    assert cli.main(["run", "04", "05", "--sweep", str(path), "--out", str(out)]) == 2
    error = capsys.readouterr().err.strip()
    assert says in error.lower() and len(error.splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["04", "--sweep", "nowhere.yaml"], "no sweep file 'nowhere.yaml'"),
        (["--sweep", "sweeps/esi_tiny.yaml"], "needs the notebooks"),
        (["04", "--sweep", "sweeps/esi_tiny.yaml", "--jobs", "0"], "--jobs is 0"),
        (["04", "--jobs", "0"], "--jobs is 0"),
        (["04", "--budget", "0"], "--budget is 0"),
        (["04", "--sweep", "sweeps/esi_tiny.yaml", "--set", "N_STEP=3"], "N_STEPS"),
    ],
)
def test_a_wrong_argument_is_a_sentence(args, says, capsys):
    assert cli.main(["run", *args]) == 2
    error = capsys.readouterr().err.strip()
    assert says in error and len(error.splitlines()) == 1


@pytest.mark.parametrize("name", ["esi_demo", "esi_paper", "esi_tiny"])
def test_the_sweeps_of_the_kit_are_valid(name):
    points = read_sweep(ROOT / "sweeps" / f"{name}.yaml")
    configs = sweeps.check_points(points, NAMES)
    assert len({config.hash() for config in configs.values()}) == len(points)  # none run twice
    first = points[0]
    assert first.name.split("-")[0] == "full" and set(first.own) <= {"SEED"}


# --- running --------------------------------------------------------------------------------------


def test_one_failure_stops_no_other_and_is_told_at_the_end(file, tmp_path, capsys):
    path = file("runs: {a: , broken: , refused: , killed: , b: {SEED: 4}}")
    assert run(path, tmp_path / "out") == 1
    points = record(tmp_path / "out")["points"]
    assert {n: p["status"] for n, p in points.items()} == {
        "a": "ok", "broken": "failed", "refused": "failed", "killed": "failed", "b": "ok",
    }  # fmt: skip
    assert points["broken"]["error"].endswith("nothing learns")
    assert points["refused"]["error"] == "the disk is full."
    assert "signal 9" in points["killed"]["error"]
    printed = capsys.readouterr().out
    assert "2 of 5 points ok" in printed and "failed: broken: 04, cell 3" in printed
    page = (tmp_path / "out" / "index.html").read_text()
    assert "nothing learns" in page and "not for diagnosis" in page


def test_a_second_time_nothing_changed_and_a_new_point_runs(file, tmp_path):
    out = tmp_path / "out"
    assert run(file("runs: {a: , b: {SEED: 1}}"), out) == 0
    assert run(file("runs: {a: , b: {SEED: 2}, c: {SEED: 3}}"), out) == 0
    statuses = {n: p["status"] for n, p in record(out)["points"].items()}
    assert statuses == {"a": "unchanged", "b": "ok", "c": "ok"}


def test_two_at_a_time_share_the_cores_after_one_has_filled_the_cache(file, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(sweeps.runtime, "n_cores", lambda: 6)
    out = tmp_path / "out"
    assert run(file("grid: {SEED: [0, 1, 2, 3, 4]}"), out, jobs=2) == 0
    times = [json.loads((out / f"seed_{i}" / "run.json").read_text()) for i in range(5)]
    assert all(times[0]["ended"] <= t["began"] for t in times[1:])  # the first was alone
    assert record(out)["jobs"] == 2
    with_more = sweeps.check_points(
        points := read_sweep(file("runs: {a: , b: {SEED: 1}, c: {MORE_DATA: mimic}}")), NAMES
    )
    (alone, one), (rest, two) = sweeps._batches(points, with_more, 2)
    assert [p.name for p in alone] == ["a", "c"] and [p.name for p in rest] == ["b"]
    assert (one, two) == (1, 2)


def test_threads_and_claims_reach_the_point(file, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(sweeps.runtime, "n_cores", lambda: 6)
    assert run(file("grid: {SEED: [0, 1]}"), tmp_path / "out", jobs=2) == 0
    printed = capsys.readouterr().out
    assert "seed_1 | threads 3 claims print" in printed


def test_the_command_of_a_point_carries_its_parameters(file, tmp_path):
    [point] = read_sweep(file("runs: {a: {CQA: false, LR: 3.0e-4, KNOWLEDGE: ''}}"))
    command = sweeps.point_command(["04"], point, tmp_path / "a", force=True)
    assert command[2:] == [
        "ecgkit", "run", "04", "--out", str(tmp_path / "a"),
        "--set=CQA=False", "--set=LR=0.0003", "--set=KNOWLEDGE=", "--force",
    ]  # fmt: skip


@pytest.mark.slow
def test_the_real_command_runs_two_points_and_skips_them_the_second_time(tmp_path):
    (tmp_path / "s.yaml").write_text("base: {PRESET: tiny}\nruns: {a: , b: {SEED: 1}}\n")
    command = [sys.executable, "-m", "ecgkit", "run", "00", "--sweep", str(tmp_path / "s.yaml")]
    command += ["--out", str(tmp_path / "out")]
    for status in ("ok", "unchanged"):
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, env=os.environ.copy()
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        points = record(tmp_path / "out")["points"]
        assert {p["status"] for p in points.values()} == {status}
    for name in points:
        body = json.loads((tmp_path / "out" / name / "00_start_here" / "config.json").read_text())
        assert body["seed"] == (name == "b") and body["preset"] == "tiny"
        assert (tmp_path / "out" / name / "index.html").exists()
