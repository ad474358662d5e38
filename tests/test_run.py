"""The whole kit through its own command: every notebook in `tiny`, on simulated and on real data,
and what goes wrong.
"""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest

from ecgkit import cli, runner, runtime
from ecgkit.config import CONFIGS, KitConfig
from ecgkit.data.cohort import open_cohort
from ecgkit.data.ecgqa import open_questions
from ecgkit.types import ConfigError

ROOT = Path(__file__).parents[1]


def ecgkit(*args: str) -> subprocess.CompletedProcess:
    """Runs the command as a user would, in the project's folder, with this session's cache."""
    return subprocess.run(
        [sys.executable, "-m", "ecgkit", *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ.copy(),
    )


def metrics(folder: Path, notebook: str) -> dict:
    return json.loads((folder / notebook / "metrics.json").read_text())


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    done = ecgkit("run", "--preset", "tiny", "--out", str(folder))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.strip().endswith("index.html")
    return folder


@pytest.mark.slow
def test_every_notebook_runs_in_tiny(tiny_run):
    record = json.loads((tiny_run / "run.json").read_text())
    assert [e["name"] for e in record["notebooks"]] == list(CONFIGS)
    assert all(e["status"] == "ok" for e in record["notebooks"])
    for key in ("git", "versions", "seeds", "machine", "started", "seconds", "peak_memory_gb"):
        assert record[key], key
    for name in CONFIGS:
        body = metrics(tiny_run, name)
        assert all(c["holds"] for c in body["checks"] if c["binding"])
        if body["metrics"]:
            assert body["data"]["simulated"] and body["data"]["fingerprint"]
    assert (
        len({metrics(tiny_run, n)["data"].get("fingerprint") for n in CONFIGS} - {None}) == 1
    )  # one cohort


@pytest.mark.slow
def test_every_notebook_shows_its_figures(tiny_run):
    for name in CONFIGS:
        cells = nbformat.read(tiny_run / name / "executed.ipynb", as_version=4).cells
        images = sum("image/png" in o.get("data", {}) for c in cells for o in c.get("outputs", []))
        saved = list((tiny_run / name / "figures").glob("*.png"))
        assert saved and images >= len(saved) - 1, name
        assert set(metrics(tiny_run, name)["captions"]) == {p.stem for p in saved}


@pytest.mark.slow
def test_index_page_links_every_notebook(tiny_run):
    page = (tiny_run / "index.html").read_text()
    for name in CONFIGS:
        assert f"{name}/executed.html" in page and (tiny_run / name / "executed.html").exists()
        assert "not for diagnosis" in (tiny_run / name / "executed.html").read_text()
    assert "not for diagnosis" in page and "imulated" in page


@pytest.mark.slow
def test_a_second_run_skips_everything(tiny_run):
    done = ecgkit("run", "--preset", "tiny", "--out", str(tiny_run))
    assert done.returncode == 0
    assert done.stdout.count("unchanged, skipped") == len(CONFIGS), done.stdout


@pytest.mark.slow
def test_nbval_on_every_notebook(tiny_run):
    """Cell by cell under nbval; the executed copies carry the tiny parameters and find their caches
    filled.
    """
    paths = [str(tiny_run / name / "executed.ipynb") for name in CONFIGS]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval-lax", "-q", "-p", "no:cacheprovider", *paths],
        cwd=ROOT / "notebooks",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.slow
def test_every_solution_is_right(tiny_run):
    """After the tests that count the run's notebooks: this adds one."""
    done = ecgkit("run", "solutions", "--preset", "tiny", "--out", str(tiny_run))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    printed = (tiny_run / "solutions" / "executed.ipynb").read_text()
    assert printed.count(": right.") + printed.count(": cannot be asked here.") >= 18


@pytest.mark.slow
def test_executed_copies_carry_their_time_and_no_warning(tiny_run):
    for name in CONFIGS:
        body = (tiny_run / name / "executed.ipynb").read_text()
        cells = nbformat.reads(body, as_version=4).cells
        assert "Measured: " in cells[0].source, name
        outputs = [o for cell in cells for o in cell.get("outputs", [])]
        noise = [o.text for o in outputs if o.get("name") == "stderr"]
        assert not noise, (name, noise[0][:500])
        assert (tiny_run / name / "executed.html").stat().st_size < 3e6, name


@pytest.mark.slow
def test_every_notebook_runs_on_real_records(shared, tmp_path):
    folder = tmp_path / "real"
    data = shared / "data"
    done = ecgkit(
        *("run", "--preset", "tiny", "--out", str(folder)),
        *("--data", str(data / "ptbxl-subset-400.zip"), "--ecgqa", str(data / "ecgqa-subset.zip")),
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for name in CONFIGS:
        body = metrics(folder, name)
        if body["metrics"]:
            assert body["data"]["name"] == "ptbxl" and not body["data"]["simulated"]
            assert body["data"]["n_ecgs"] == 400


# --- what goes wrong is one sentence and exit code 2 ----------------------------------------------


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--data", "no/such/folder"], "no/such/folder"),
        (["--set", "SEEED=3"], "Did you mean SEED"),
        (["--set", "SEED"], "NAME=VALUE"),
        (["--preset", "huge"], "tiny, demo, paper"),
        (["99_nothing"], "There is no notebook"),
        (["--ecgqa", "x"], "ECGQA"),
    ],
)
def test_a_wrong_argument_is_a_sentence(args, says, capsys):
    assert cli.main(["run", *args]) == 2
    error = capsys.readouterr().err.strip()
    assert says in error and len(error.splitlines()) == 1


def test_a_zip_without_ptbxl_is_a_sentence(tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing here")
    assert cli.main(["run", "--preset", "tiny", "--data", str(tmp_path / "other.zip")]) == 2
    error = capsys.readouterr().err.strip()
    assert "other.zip" in error and "ptbxl_database.csv" in error and len(error.splitlines()) == 1


def without_answers(shared: Path, path: Path, only: str = ".json") -> list[str]:
    """The arguments that name the real subsets, where questions in files `only` lack their answer
    (in the paraphrased wording), all of them or, of one file, the sixth.
    """
    with zipfile.ZipFile(shared / "data" / "ecgqa-subset.zip") as old:
        with zipfile.ZipFile(path, "w") as new:
            for item in old.infolist():
                body = old.read(item)
                if "ptbxl/paraphrased/" in item.filename and item.filename.endswith(only):
                    samples = json.loads(body)
                    for sample in samples if only == ".json" else samples[5:6]:
                        del sample["answer"]
                    body = json.dumps(samples).encode()
                new.writestr(item, body)
    return ["--data", str(shared / "data" / "ptbxl-subset-400.zip"), "--ecgqa", str(path)]


def test_a_question_without_a_key_is_dropped_and_listed_and_the_run_goes_on(shared, tmp_path):
    _, data, _, ecgqa = without_answers(shared, tmp_path / "broken.zip", "valid/60000.json")
    config = KitConfig.from_params({"preset": "tiny", "data": data, "ecgqa": ecgqa})
    assert runner.check_inputs(config)  # a run's first step: no sentence, no exit
    questions = open_questions(config, open_cohort(config, quiet=True), quiet=True)
    [lost] = questions.dropped.query("reason == 'missing_key'").itertuples()
    assert "60000.json, sample 5 has no key answer" in lost.sentence and lost.split == "valid"
    assert questions.n_in == 24348 and len(questions) + len(questions.dropped) == 24348


def test_questions_none_of_which_can_be_used_are_a_sentence(shared, tmp_path, capsys):
    args = without_answers(shared, tmp_path / "broken.zip")
    assert cli.main(["run", "--preset", "tiny", *args]) == 2
    error = capsys.readouterr().err.strip()
    assert "none of its 24348 questions can be used" in error and len(error.splitlines()) == 1


def test_a_failing_cell_is_named_and_its_dependants_do_not_run(tmp_path, monkeypatch, capsys):
    (tmp_path / "notebooks").mkdir()
    for name in ("04_esi_pretraining", "05_esi_evaluation"):
        cells = [
            nbformat.v4.new_markdown_cell("## 1. Trouble"),
            nbformat.v4.new_code_cell(
                'PRESET: str = "tiny"  # preset', metadata={"tags": ["parameters"]}
            ),
            nbformat.v4.new_code_cell("1 / 0  # the culprit"),
        ]
        notebook = nbformat.v4.new_notebook(cells=cells)
        notebook.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        nbformat.write(notebook, tmp_path / "notebooks" / f"{name}.ipynb")
    monkeypatch.setattr(runtime, "project_root", lambda: tmp_path)
    params = {"PRESET": "tiny", "OUT": str(tmp_path / "out")}
    assert runner.run_notebooks(["04", "05"], params) == 1
    printed = capsys.readouterr().out
    assert (
        "1 / 0  # the culprit" in printed
        and "ZeroDivisionError" in printed
        and "1. Trouble" in printed
    )
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["notebooks"][1]["status"] == "not run: needs 04_esi_pretraining"


def test_notebooks_are_chosen_by_number_name_or_path():
    assert runner.choose(["03", "notebooks/01_data_mapping.ipynb"]) == [
        "01_data_mapping",
        "03_baselines",
    ]
    assert runner.choose([]) == list(CONFIGS)
    with pytest.raises(ConfigError):
        runner.choose(["3_b"])
