"""What a full disk, Ctrl-C, a killed process, another process or a read-only folder leaves behind:
a sentence, and no half file.
"""

import contextlib
import errno
import io
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nbformat
import numpy as np
import psutil
import pytest
import torch

from ecgkit import disk, runtime
from ecgkit.config import KitConfig
from ecgkit.data.cohort import open_cohort
from ecgkit.data.ecgqa import open_questions
from ecgkit.data.fetch import fetch
from ecgkit.models import saving
from ecgkit.models.ecg_encoders import encoder_for, save_encoder
from ecgkit.models.se_wrn import SEWideResNet
from ecgkit.runner import execute
from ecgkit.tasks import training_files
from ecgkit.tasks.ecg_features import encoder_features
from ecgkit.tasks.engine import TrainSettings, fit
from ecgkit.text.answer_cache import AnswerCache
from ecgkit.text.embedders import KeptVectors
from ecgkit.text.report_encoder import VectorCache
from ecgkit.types import DataError, KitError

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import kill_resume  # noqa: E402

ROOM = 4096  # bytes a file may have while the disk is "full"


@contextlib.contextmanager
def full_disk():
    """No file may grow beyond ROOM bytes: the same errors from below as a full disk gives."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def mounted(tmp_path):
    """mount(*options, folder) -> the folder, for the time of a test; skips where one may not."""
    done = []

    def mount(*options: str, folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        said = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)
        if said.returncode:
            pytest.skip(f"nothing can be mounted here: {said.stderr.strip()}")
        done.append(folder)
        return folder

    yield mount
    for folder in reversed(done):
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def left_in(folder: Path) -> list[str]:
    """Files that are half-written or scratch, whatever their name."""
    scratch = [str(p.relative_to(folder)) for p in folder.rglob("*.part")]
    return scratch + kill_resume.unreadable(folder)


def test_half_written_files_are_seen(tmp_path):
    np.save(tmp_path / "a.npy", np.ones(9))
    saving.save_pretrained(small_model(), tmp_path)
    (tmp_path / "b.json").write_text("{}")
    assert not left_in(tmp_path)
    for name in ("a.npy", "b.json", "model.safetensors"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:-1])
        assert [line.split()[0] for line in left_in(tmp_path)] == [name]
        path.unlink()
    (tmp_path / "c.npy.0.part").write_bytes(b"")
    assert left_in(tmp_path) == ["c.npy.0.part"]


def test_rounds_are_told_apart_by_stores_and_metrics():
    same = {"half_written": [], "differing": [], "completed": True, "stores_identical": True}
    assert kill_resume.passed(same)
    wrong = ({"half_written": ["a"]}, {"differing": ["m"]}, {"completed": False},
             {"stores_identical": False})  # fmt: skip
    assert not any(kill_resume.passed({**same, **one}) for one in wrong)
    assert kill_resume.distance({"m": 1.0}, {"m": 1.0}, "m") == 0
    assert kill_resume.distance({"m": 1.0}, {}, "m") == float("inf")
    assert kill_resume.distance({"m": None}, {"m": 1.0}, "m") == float("inf")


# --- whole files and folders ----------------------------------------------------------------------


def test_a_file_keeps_its_old_words_until_the_new_ones_are_whole(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), disk.replacing(path) as scratch:
        scratch.write_text("ne")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.json"]
    with disk.replacing(path) as scratch:
        scratch.write_text("new")
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["a.json"]


def test_a_folder_is_the_old_one_until_the_new_one_is_whole(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "stale").write_text("old")
    with pytest.raises(KeyboardInterrupt), disk.replacing_folder(folder) as scratch:
        (scratch / "half").write_text("n")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ["model"] and os.listdir(folder) == ["stale"]
    with disk.replacing_folder(folder) as scratch:
        (scratch / "whole").write_text("new")
    assert os.listdir(tmp_path) == ["model"] and os.listdir(folder) == ["whole"]
    assert folder.stat().st_mode & 0o777 == 0o755


def test_what_killed_processes_left_goes_when_it_is_old_and_not_before(tmp_path):
    for name in ("store-old.part", "store-new.part"):
        (tmp_path / name).mkdir()
    (tmp_path / "store-old.part" / "x").write_text("")
    os.utime(tmp_path / "store-old.part", (1, 1))
    disk.write_once(tmp_path / "store", lambda scratch: (scratch / "x").write_text("x"))
    assert sorted(os.listdir(tmp_path)) == ["store", "store-new.part"]


def test_a_fault_that_is_not_the_disks_stays_what_it_is(tmp_path):
    locked = PermissionError(errno.EACCES, "not permitted", "/root/somebody/elses.csv")
    for error in (FileNotFoundError(2, "gone"), ValueError("no"), OSError("odd"), locked):
        with pytest.raises(type(error)), disk.replacing(tmp_path / "a"):
            raise error
    with pytest.raises(DataError, match=r"a cannot be written to .*\(No space left on device\); m"):
        with disk.replacing(tmp_path / "a"):
            raise OSError(errno.ENOSPC, "No space left on device")
    assert not os.listdir(tmp_path)


# --- a full disk ----------------------------------------------------------------------------------


def small_model() -> torch.nn.Module:
    torch.manual_seed(0)
    return SEWideResNet(3)


def training(folder: Path, n_steps: int = 3):
    settings = TrainSettings(n_steps=n_steps, batch_size=2, lr=0.1, checkpoint_every=1,
                             device="cpu")  # fmt: skip
    return fit(torch.nn.Linear(2000, 3), 4, lambda rows, rng: {"x": torch.ones(len(rows), 2000)},
               lambda model, batch: {"loss": model(batch["x"]).square().mean()}, settings,
               folder)  # fmt: skip


def many_answers(folder: Path) -> None:
    cache = AnswerCache(folder / "answers.jsonl")
    for number in range(9):
        cache.put(str(number), {"text": "w" * 1000})


def questions_of(cohort):
    return open_questions(KitConfig.from_params({"preset": "tiny"}), cohort, quiet=True)


WRITERS = {
    "a training": lambda folder, cohort: training(folder),
    "a saved model": lambda folder, cohort: saving.save_pretrained(small_model(), folder),
    "an encoder": lambda folder, cohort: save_encoder(encoder_for("micro"), folder),
    "answers": lambda folder, cohort: many_answers(folder),
    "vectors of reports": lambda folder, cohort: VectorCache(["full"])(
        ["a", "b"], lambda texts: np.ones((len(texts), 9000), np.float32)),
    "vectors of passages": lambda folder, cohort: KeptVectors(
        "full", lambda texts: np.ones((len(texts), 9000), np.float32))(["a", "b"]),
    "features": lambda folder, cohort: encoder_features(Features(), cohort),
    "a store": lambda folder, cohort: open_cohort(
        KitConfig.from_params({"preset": "tiny", "fs": 250}), quiet=True),
    "a cohort": lambda folder, cohort: open_cohort(
        KitConfig.from_params({"preset": "tiny", "cohort_seed": 5}), quiet=True),
    "questions": lambda folder, cohort: questions_of(cohort),
}  # fmt: skip


class Features(torch.nn.Module):
    """A stand-in for an encoder whose features fill a disk."""

    def __init__(self):
        super().__init__()
        self.a = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return {"embedding": x[:, 0, :500] + self.a}


@pytest.fixture
def own_cache(tmp_path, monkeypatch, tiny_cohort) -> Path:
    """An empty cache of this test's own; the session's cohort stays where it is."""
    monkeypatch.setenv("ECGKIT_CACHE", str(tmp_path / "cache"))
    return runtime.cache_dir()


@pytest.mark.parametrize("what", WRITERS)
def test_a_full_disk_is_a_sentence_and_the_rest_stays_whole(what, tmp_path, own_cache, tiny_cohort):
    folder = tmp_path / "out"
    with full_disk(), pytest.raises(KitError) as caught:
        WRITERS[what](folder, tiny_cohort)
    said = str(caught.value)
    reasons = ("File too large", "only part of it", "No space left")
    assert any(reason in said for reason in reasons) and "make room" in said
    assert said.endswith(".") and "\n" not in said
    assert not left_in(tmp_path)
    WRITERS[what](folder, tiny_cohort)  # and once there is room, the same call goes through
    assert not left_in(tmp_path)


def test_a_disk_that_is_full_indeed(mounted, tmp_path, tiny_cohort, monkeypatch):
    small = mounted("-t", "tmpfs", "-o", "size=256k", "tmpfs", folder=tmp_path / "small")
    (small / "filler").write_bytes(b"0" * 240_000)
    monkeypatch.setenv("ECGKIT_CACHE", str(small))
    for what in ("a saved model", "a training", "an encoder", "vectors of reports"):
        with pytest.raises(KitError, match="No space left|only part of it"):
            WRITERS[what](small / what, tiny_cohort)
        assert not left_in(small), what


def test_half_an_answer_is_an_error_and_costs_no_other(tmp_path):
    path = tmp_path / "answers.jsonl"
    with full_disk(), pytest.raises(DataError, match="answers.jsonl cannot be written"):
        many_answers(tmp_path)
    kept = AnswerCache(path)
    assert len(kept) == 3  # of 1000 letters each, within ROOM
    kept.put("later", {"text": "after the break"})
    assert AnswerCache(path).get("later") == "after the break" and len(AnswerCache(path)) == 4


# --- Ctrl-C ---------------------------------------------------------------------------------------


def test_ctrl_c_while_weights_are_written_leaves_those_before(tmp_path, monkeypatch):
    first = training(tmp_path)
    weights = (tmp_path / training_files.MODEL).read_bytes()

    def interrupted(model, path):
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(training_files, "save_model", interrupted)
    with pytest.raises(KeyboardInterrupt):
        training(tmp_path, n_steps=4)
    assert (tmp_path / training_files.MODEL).read_bytes() == weights and not left_in(tmp_path)
    monkeypatch.undo()
    assert training(tmp_path, n_steps=4).finished and first.finished


def interrupted(command: list, started, cache: Path, tests: str = "") -> tuple[int, str]:
    """(exit code, stderr) of a command that gets Ctrl-C as soon as `started()`."""
    env = os.environ | {"ECGKIT_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    env["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    process = subprocess.Popen([sys.executable, *map(str, command)], env=env, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               start_new_session=True)  # fmt: skip
    while process.poll() is None and not started():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal sends: to all of the group
    _, said = process.communicate(timeout=100)
    return process.returncode, said


def test_ctrl_c_while_a_cohort_is_written_is_a_sentence_and_leaves_nothing(tmp_path):
    code, said = interrupted(
        ["-m", "ecgkit", "data", "preprocess", "--cohort-size", "3000"],
        lambda: list(tmp_path.glob("synthetic-*.part/*/*")), tmp_path)  # fmt: skip
    assert code == 130 and said == "ecgkit: stopped; run the same command again to go on.\n"
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_while_a_store_is_built_keeps_finished_shards_and_no_half_one(
    workers, tmp_path, tiny_cohort
):
    import wfdb

    source, store = tmp_path / "source", tmp_path / "store"
    source.mkdir()
    for number in range(5):
        values = tiny_cohort.store.read(np.array([number]))[0].T.astype(float)
        wfdb.wrsamp(f"r{number}", 100, ["mV"] * 12, list(tiny_cohort.store.leads), values,
                    fmt=["16"] * 12, write_dir=str(source))  # fmt: skip
    build = ["-c", "import slow_builds; slow_builds.main()", source, store, 60, workers]
    code, said = interrupted([*build, 0.02], lambda: list(store.glob("parts/*.txt")), tmp_path)
    kept = {path: path.stat().st_mtime_ns for path in store.glob("shard-*.npy")}
    assert code and kept and not (store / "store.json").exists() and not left_in(tmp_path), said
    done = subprocess.run([sys.executable, *map(str, [*build, 0.001])], env=os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])})  # fmt: skip
    assert done.returncode == 0 and (store / "store.json").exists()
    assert all(path.stat().st_mtime_ns == at for path, at in kept.items())


def test_ctrl_c_while_a_notebook_runs_ends_its_process_too(tmp_path):
    out = tmp_path / "run"
    code, said = interrupted(
        ["-m", "ecgkit", "run", "00", "--preset", "tiny", "--out", out],
        lambda: (out / "00_start_here" / "config.json").exists(), tmp_path / "cache")  # fmt: skip
    assert code == 130 and said.startswith("ecgkit: stopped; run the same command again"), said
    assert "Traceback" not in said and not left_in(tmp_path)
    assert not list(out.rglob("*part*"))
    settings = [p.info["environ"] or {} for p in psutil.process_iter(["environ"])]
    assert str(tmp_path / "cache") not in [s.get("ECGKIT_CACHE") for s in settings]


def test_a_notebook_whose_process_dies_is_a_sentence(tmp_path, monkeypatch):
    """As when the system takes it for lack of memory."""
    (tmp_path / "notebooks").mkdir()
    cells = ["x = 1", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "print('after')"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    nbformat.write(notebook, tmp_path / "notebooks" / "00_start_here.ipynb")
    monkeypatch.setattr(runtime, "project_root", lambda: tmp_path)
    config = KitConfig.from_params({"preset": "tiny"})
    said = execute("00_start_here", config, {}, tmp_path / "run" / "00_start_here")
    assert said.startswith("00_start_here") and "its process ended before its last cell" in said
    assert "memory" in said and "run the same command again" in said
    assert not left_in(tmp_path) and not list(tmp_path.rglob("*part*"))


# --- other processes ------------------------------------------------------------------------------

TOGETHER = """
import sys, time
from pathlib import Path
import numpy as np
from ecgkit import runtime
from ecgkit.tasks.trained_encoder import trained_encoder
from ecgkit.text.answer_cache import AnswerCache
from ecgkit.text.report_encoder import VectorCache

me, folder = sys.argv[1], Path(sys.argv[2])
(folder / f"ready-{me}").touch()
while len(list(folder.glob("ready-*"))) < 2:
    time.sleep(0.01)
cache = AnswerCache(folder / "answers.jsonl")
for number in range(300):
    cache.put(f"{me}-{number}", {"text": me * 500})
    with runtime.replacing(folder / "one.json") as scratch:
        scratch.write_text('"' + me * 5000 + '"')
    runtime.write_once(folder / f"once-{number}", lambda to: (to / "x").write_text(me * 5000))
    if number % 30 == 0:
        VectorCache(["together"])([f"{me}{number}", "both"], lambda ts: np.ones((len(ts), 5000)))
print(trained_encoder(n_steps=20))
"""


def test_two_processes_share_caches_and_train_a_shared_model_in_turn(tmp_path):
    env = os.environ | {"ECGKIT_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    both = [subprocess.Popen([sys.executable, "-c", TOGETHER, me, str(tmp_path)], env=env,
                             text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for me in "ab"]  # fmt: skip
    said = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len(AnswerCache(tmp_path / "answers.jsonl")) == 600
    for number in range(300):
        assert set((tmp_path / f"once-{number}" / "x").read_text()) in ({"a"}, {"b"})
    assert set(json.loads((tmp_path / "one.json").read_text())) in ({"a"}, {"b"})
    paths = {out.strip().splitlines()[-1] for out, _ in said}
    assert len(paths) == 1 and (Path(paths.pop()) / "model.safetensors").exists()
    assert not left_in(tmp_path)
    waited = [out for out, _ in said if "training the same report encoder; waiting" in out]
    assert len(waited) <= 1


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    code = ("import sys, time; from pathlib import Path; from ecgkit import disk\n"
            "with disk.one_at_a_time(Path(sys.argv[1]), 'x'): print('in', flush=True);"
            " time.sleep(60)")  # fmt: skip
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], text=True,
                              stdout=subprocess.PIPE)  # fmt: skip
    assert holder.stdout.readline() == "in\n"
    waiter = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], text=True,
                              stdout=subprocess.PIPE)  # fmt: skip
    assert waiter.stdout.readline() == "Another process is x; waiting for it.\n"
    holder.kill()
    assert waiter.stdout.readline() == "in\n"
    for process in (holder, waiter):
        process.kill()
        process.communicate()


class Slow(ThreadingHTTPServer):
    """Serves one .zip in four pieces, a little time between them."""

    def __init__(self, content: bytes):
        requests = self.requests = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                requests.append(self.path)
                self.send_response(200)
                self.send_header("ETag", '"1"')
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                for part in np.array_split(np.frombuffer(content, np.uint8), 4):
                    self.wfile.write(part.tobytes())
                    time.sleep(0.1)

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()


def test_two_fetches_of_one_file_take_turns(tmp_path, capsys):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("ecg-qa/a.json", np.random.default_rng(0).bytes(200_000))
    with Slow(data.getvalue()) as server, ThreadPoolExecutor(3) as pool:
        mirror = f"http://127.0.0.1:{server.server_port}"
        paths = set(pool.map(lambda _: fetch("ecg-qa", tmp_path, mirror), range(3)))
        server.shutdown()
    assert paths == {tmp_path / "ecg-qa.zip"} and len(server.requests) == 1
    assert paths.pop().read_bytes() == data.getvalue() and os.listdir(tmp_path) == ["ecg-qa.zip"]
    assert "Another process is fetching ecg-qa; waiting for it." in capsys.readouterr().out


# --- data that may not be written to --------------------------------------------------------------


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p.relative_to(folder)): (p.stat().st_size, p.stat().st_mtime_ns)
            for p in sorted(folder.rglob("*"))}  # fmt: skip


def test_real_data_are_read_and_nothing_is_written_beside_them(mounted, tmp_path, own_cache,
                                                               tiny_cohort):  # fmt: skip
    data = tiny_cohort.place.path
    before = listing(data)
    fixed = mounted("--bind", "-o", "ro", str(data), folder=tmp_path / "data")
    subprocess.run(["mount", "-o", "remount,ro,bind", str(fixed)], check=True)
    with pytest.raises(OSError, match="Read-only"):
        (fixed / "probe").write_text("")
    config = KitConfig.from_params({"preset": "tiny", "data": str(fixed)})
    cohort = open_cohort(config, quiet=True)
    assert len(cohort) == len(tiny_cohort) and not cohort.table.empty
    questions = open_questions(config, cohort, quiet=True)
    assert len(questions.table) and listing(data) == before


def test_a_cache_that_may_not_be_written_to_is_a_sentence(mounted, tmp_path, monkeypatch):
    (tmp_path / "inside").mkdir()
    cache = mounted("--bind", str(tmp_path / "inside"), folder=tmp_path / "cache")
    subprocess.run(["mount", "-o", "remount,ro,bind", str(cache)], check=True)
    monkeypatch.setenv("ECGKIT_CACHE", str(cache))
    with pytest.raises(DataError, match="Read-only file system.*ECGKIT_CACHE"):
        open_cohort(KitConfig.from_params({"preset": "tiny"}), quiet=True)
    assert not list(tmp_path.rglob("*.part"))


def test_a_zip_is_read_in_place(tmp_path, own_cache, tiny_cohort):
    import shutil

    shutil.make_archive(str(tmp_path / "mine" / "data"), "zip", tiny_cohort.place.path)
    before = listing(tmp_path / "mine")
    config = KitConfig.from_params({"preset": "tiny", "data": str(tmp_path / "mine" / "data.zip")})
    assert len(open_cohort(config, quiet=True)) == len(tiny_cohort)
    assert listing(tmp_path / "mine") == before
