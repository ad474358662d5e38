"""The batch runner on stand-in notebooks of a few lines: order, several at a time, budget, lock,
what is said of failures, what becomes of kernels when a run is stopped.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

from ecgkit import cli, runner, runner_export, runner_lock, runner_order, runs, runtime
from ecgkit.config import CONFIGS
from ecgkit.types import ConfigError

ROOT = Path(__file__).parents[1]
OK = "import pathlib; pathlib.Path(OUT, '{name}', 'metrics.json').write_text('{{}}')"


def write_notebook(root: Path, name: str, *cells: str) -> None:
    body = [
        nbformat.v4.new_markdown_cell(f"# {name}\n\n- **It takes** about a minute on two cores."),
        nbformat.v4.new_code_cell('PRESET: str = "tiny"\nOUT: str = ""',
                                  metadata={"tags": ["parameters"]}),
        nbformat.v4.new_markdown_cell("## 1. Work"),
        *(nbformat.v4.new_code_cell(cell) for cell in cells),
    ]  # fmt: skip
    notebook = nbformat.v4.new_notebook(cells=body)
    notebook.metadata["kernelspec"] = {
        "name": "python3", "display_name": "Python 3", "language": "python",
    }  # fmt: skip
    (root / "notebooks").mkdir(exist_ok=True)
    nbformat.write(notebook, root / "notebooks" / f"{name}.ipynb")


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A project whose notebooks take no time. Code that changes meanwhile is not looked at; the
    run's page, which wants whole metrics, is not drawn.
    """
    monkeypatch.setattr(runtime, "project_root", lambda: tmp_path)
    monkeypatch.setattr(runner, "code_hash", lambda: "code")
    monkeypatch.setattr(runner.runner_files, "write_page", lambda folder, record: folder)
    return tmp_path


def go(project: Path, names, **how) -> tuple[int, dict]:
    code = runner.run_notebooks(names, {"PRESET": "tiny", "OUT": str(project / "out")}, **how)
    record = json.loads((project / "out" / "run.json").read_text())
    return code, record | {"notebooks": {e["name"]: e for e in record["notebooks"]}}


# --- order ----------------------------------------------------------------------------------------


def test_what_waits_for_what():
    names = runner_order.choose([])
    assert names == list(CONFIGS)
    assert runner_order.waits_for("00_start_here", names) == set()
    assert runner_order.waits_for("03_baselines", names) == {"01_data_mapping"}
    assert runner_order.waits_for("06_few_shot_qa", names) == {
        "01_data_mapping", "03_baselines", "04_esi_pretraining",
    }  # fmt: skip
    assert runner_order.waits_for("08_replication_report", names) == set(names[:-1])
    assert runner_order.waits_for("06_few_shot_qa", ["06_few_shot_qa"]) == set()


def test_every_notebook_that_reads_another_says_so():
    """`run.sibling("04_...")` in a notebook, and files of another that the library opens for it."""
    for path in sorted((ROOT / "notebooks").glob("0*.ipynb")):
        read = {n for n in CONFIGS if f'sibling(\\"{n}\\"' in path.read_text()}
        assert read <= {*runner_order.NEEDS.get(path.stem, ())}, path.stem


def test_two_run_at_the_same_time_and_none_before_what_it_reads(project, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(runtime, "n_cores", lambda: 6)
    note = (
        "import time, os, json, pathlib; a = time.time(); time.sleep(1.5)\n"
        "p = pathlib.Path(OUT) / '{name}'; (p / 'metrics.json').write_text('{{}}')\n"
        "(p / 'when').write_text(json.dumps([a, time.time(), os.environ['OMP_NUM_THREADS']]))"
    )
    for name in ("00_start_here", "01_data_mapping", "02_preprocessing", "08_replication_report"):
        write_notebook(project, name, note.format(name=name))
    code, record = go(project, ["00", "01", "02", "08"], jobs=2)
    assert code == 0 and {e["status"] for e in record["notebooks"].values()} == {"ok"}
    when = {n: json.loads((project / "out" / n / "when").read_text()) for n in record["notebooks"]}
    zero, one, two, eight = when.values()
    assert zero[0] < one[1] and one[0] < zero[1]  # beside each other
    assert two[0] >= one[1] and eight[0] >= max(zero[1], two[1])
    assert one[2] == "3"  # the cores, shared out
    assert record["notebooks"]["01_data_mapping"]["measured"]["jobs"] == 2


# --- what is written ------------------------------------------------------------------------------


def test_the_executed_copy_carries_its_measured_time_and_no_path(project):
    write_notebook(project, "00_start_here", OK.format(name="00_start_here"), "1 + 1")
    assert go(project, ["00"])[0] == 0
    body = json.loads((project / "out/00_start_here/executed.ipynb").read_text())
    first = "".join(body["cells"][0]["source"])
    assert "Measured: " in first and runtime.cpu_model() in first and "preset tiny" in first
    assert "input_path" not in body["metadata"]["papermill"]
    page = (project / "out/00_start_here/executed.html").read_text()
    assert "Measured: " in page and runner_export.NOT_FOR_SHARING not in page
    assert not list((project / "out").rglob("*part*"))


def test_pages_of_credentialed_data_say_so(project):
    says = "{'data': {'credentialed': True}}"
    cell = f"import json, pathlib; pathlib.Path(OUT, '01_data_mapping', 'metrics.json')\\\n" \
           f"    .write_text(json.dumps({says}))"
    write_notebook(project, "01_data_mapping", cell)
    go(project, ["01"])
    page = (project / "out/01_data_mapping/executed.html").read_text()
    assert runner_export.NOT_FOR_SHARING in page


def test_a_failure_shows_heading_line_and_last_lines_without_colours(project, capsys):
    cell = "for i in range(40):\n    print('line', i)\nx = {}\nx['nobody']  # the culprit"
    write_notebook(project, "00_start_here", cell)
    code, record = go(project, ["00"])
    assert code == 1
    printed = capsys.readouterr().out
    assert "(1. Work · x['nobody']  # the culprit): KeyError: 'nobody'" in printed
    assert "line 39" in printed and "line 5\n" not in printed and "\x1b[" not in printed
    assert len([line for line in printed.splitlines() if line.startswith("    | ")]) == 15
    assert "\n" not in record["notebooks"]["00_start_here"]["cell"]
    assert (project / "out/00_start_here/executed.html").exists()


def test_a_dead_kernel_is_a_sentence_and_the_rest_goes_on(project, capsys):
    write_notebook(project, "00_start_here", "import os; os.kill(os.getpid(), 9)")
    write_notebook(project, "01_data_mapping", OK.format(name="01_data_mapping"))
    code, record = go(project, ["00", "01"])
    assert code == 1 and record["notebooks"]["01_data_mapping"]["status"] == "ok"
    assert "its process ended before its last cell" in capsys.readouterr().out


# --- again ----------------------------------------------------------------------------------------


def test_nothing_runs_twice_and_what_was_cut_off_runs_again(project):
    write_notebook(project, "00_start_here", OK.format(name="00_start_here"))
    go(project, ["00"])
    code, record = go(project, ["00"])
    assert code == 0 and record["notebooks"]["00_start_here"]["status"] == "skipped (unchanged)"
    path = project / "out" / "run.json"
    body = json.loads(path.read_text())
    body["notebooks"][0]["status"] = runner.STARTED  # what a kill -9 leaves
    path.write_text(json.dumps(body))
    assert go(project, ["00"])[1]["notebooks"]["00_start_here"]["status"] == "ok"


def test_the_budget_stops_trainings_starts_nothing_and_the_next_run_goes_on(project, capsys):
    training = (
        "from ecgkit import runs\n"
        "import time, pathlib\n"
        "if runs.seconds_left() < 1e6:\n"
        "    time.sleep(max(0, runs.seconds_left()))\n"
        "    raise runs.BudgetUsed('stopped after step 3 of 9')\n"
        "pathlib.Path(OUT, '04_esi_pretraining', 'metrics.json').write_text('{}')"
    )
    write_notebook(project, "04_esi_pretraining", training)
    write_notebook(project, "05_esi_evaluation", OK.format(name="05_esi_evaluation"))
    code, record = go(project, ["04", "05"], budget_min=0.05)
    words = "not run: budget of 0.05 min used"
    assert code == runner.BUDGET
    assert [e["status"] for e in record["notebooks"].values()] == [words, words]
    assert f"{words}; run the same command again" in capsys.readouterr().out
    code, record = go(project, ["04", "05"])
    assert code == 0 and {e["status"] for e in record["notebooks"].values()} == {"ok"}


@pytest.mark.parametrize("how", [{"jobs": 0}, {"budget_min": 0}])
def test_numbers_that_make_no_sense_are_a_sentence(how):
    with pytest.raises(ConfigError, match="--jobs is 0|--budget is 0"):
        runner.run_notebooks(["00"], {"PRESET": "tiny"}, **how)


# --- two at once, and the end of a run ------------------------------------------------------------


def test_a_folder_has_one_writer_and_a_dead_one_leaves_no_lock(tmp_path):
    hold = "import sys, time; from pathlib import Path; from ecgkit import runner_lock\n" \
           "with runner_lock.holding(Path(sys.argv[1])):\n    print('held', flush=True)\n" \
           "    time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", hold, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"held\n"
    with pytest.raises(ConfigError, match=f"process {child.pid}.*--out"):
        with runner_lock.holding(tmp_path):
            pass
    child.kill()
    child.wait()
    with runner_lock.holding(tmp_path):
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_takes_its_kernel_along_and_leaves_no_half_file(project, number):
    busy = "import os, pathlib, time\npathlib.Path(OUT, 'pid').write_text(str(os.getpid()))\n" \
           "time.sleep(120)"
    write_notebook(project, "00_start_here", busy)
    script = "import sys; from pathlib import Path; from ecgkit import cli, runner, runtime\n" \
             "runtime.project_root = lambda: Path(sys.argv[1])\n" \
             "sys.exit(cli.main(['run', '00', '--preset', 'tiny', '--out', sys.argv[1] + '/out']))"
    child = subprocess.Popen([sys.executable, "-c", script, str(project)], cwd=ROOT, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ.copy(),
                             preexec_fn=heed_ctrl_c)
    pid = project / "out" / "pid"
    until(lambda: pid.exists() and pid.read_text())
    kernel = psutil.Process(int(pid.read_text()))
    child.send_signal(number)
    _, error = child.communicate(timeout=60)
    until(lambda: not kernel.is_running() or kernel.status() == psutil.STATUS_ZOMBIE)
    record = json.loads((project / "out" / "run.json").read_text())
    status = record["notebooks"][0]["status"]
    if number == signal.SIGKILL:
        assert status == runner.STARTED
    else:
        assert child.returncode == 130 and status == "not run: stopped"
        assert error.strip() == "ecgkit: stopped; run the same command again to go on."
        assert not list((project / "out").rglob("*part*"))


def heed_ctrl_c() -> None:
    """In the child: what a shell starts in the background, this suite perhaps, ignores Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def until(holds, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def test_a_full_disk_is_a_sentence(project, capsys, monkeypatch):
    def full(*_args, **_how):
        raise OSError(28, "No space left on device", "executed.part.ipynb")

    write_notebook(project, "00_start_here", "1")
    monkeypatch.setattr("papermill.engines.write_ipynb", full)
    code, _ = go(project, ["00"])
    assert code == 1 and "No space left" in capsys.readouterr().out


# --- trainings ------------------------------------------------------------------------------------


def test_a_training_in_two_processes_has_the_loss_curve_of_one(tmp_path, monkeypatch):
    import torch

    from ecgkit.tasks.engine import TrainSettings, fit

    x = torch.randn(48, 6, generator=torch.Generator().manual_seed(0))
    y = (x[:, :1] > 0).float()
    settings = TrainSettings(n_steps=12, batch_size=9, lr=1e-2, log_every=3, device="cpu")

    def train(n: int):
        monkeypatch.setenv("ECGKIT_PROCESSES", str(n))
        torch.manual_seed(1)
        model = torch.nn.Sequential(
            torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(6, 8)), torch.nn.Tanh(),
            torch.nn.Linear(8, 1),
        )  # fmt: skip
        log = fit(
            model, 48, lambda rows, rng: {"x": x[rows], "y": y[rows]},
            lambda m, b: {"loss": (m(b["x"]) - b["y"]).square().mean()},
            settings, tmp_path / f"{n}",
            evaluate=lambda m: {"bias": float(m[2].bias)},
        )  # fmt: skip
        return log, model

    (one, model), (two, other) = train(1), train(2)
    assert two.finished and list(two.table) == list(one.table)
    for column in ("loss", "eval_bias"):
        assert two.table[column].to_numpy() == pytest.approx(
            one.table[column].to_numpy(), rel=1e-5, nan_ok=True
        )
    for a, b in zip(model.parameters(), other.parameters()):
        assert torch.allclose(a, b, atol=1e-6)


def test_the_budget_of_the_run_stops_a_training_where_it_goes_on(tmp_path, monkeypatch):
    import torch

    from ecgkit.tasks.engine import TrainSettings, fit

    def train():
        torch.manual_seed(1)
        model = torch.nn.Linear(2, 1)
        return fit(
            model, 16, lambda rows, rng: {"x": torch.ones(len(rows), 2)},
            lambda m, b: {"loss": m(b["x"]).square().mean()},
            TrainSettings(n_steps=5, batch_size=4, lr=1e-2, log_every=1, device="cpu"), tmp_path,
        )  # fmt: skip

    monkeypatch.setenv(runs.STOP_AT, str(time.time() - 1))
    with pytest.raises(runs.BudgetUsed, match="stopped after step 1 of 5"):
        train()
    monkeypatch.delenv(runs.STOP_AT)
    log = train()
    assert log.finished and log.table["step"].tolist() == [1, 2, 3, 4, 5]


def test_the_command_line_hands_on_jobs_budget_and_processes(monkeypatch):
    seen = {}
    monkeypatch.setenv("ECGKIT_PROCESSES", "1")
    monkeypatch.setattr(runner, "run_notebooks", lambda *how: seen.update(how=how) or 3)
    assert cli.main(["run", "03", "--jobs", "2", "--budget", "5", "--processes", "4"]) == 3
    assert seen["how"][2:] == (False, 2, 5.0) and os.environ["ECGKIT_PROCESSES"] == "4"
