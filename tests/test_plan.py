"""Profiles, plans and measured times: what is read, what is refused, what is computed."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from ecgkit import cli, profiles, run_times, runner, runtime
from ecgkit.config import CONFIGS, EsiConfig
from ecgkit.plan import make_plan
from ecgkit.plan_trainings import trainings
from ecgkit.types import ConfigError, DataError

ROOT = Path(__file__).parents[1]
NAMES = list(CONFIGS)

# --- profiles -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ptbxl-t4", "ptbxl-a100", "mimic-a100x4"])
def test_the_profiles_of_the_kit_state_what_the_plan_computes(name):
    profile = profiles.read_profile(name)
    params = profile.params_for(NAMES, {})
    plan = make_plan(NAMES, runner.resolve(NAMES, params), profile)
    stated = profile.expected
    assert plan.hours == pytest.approx(stated.hours, rel=0.1)
    assert plan.memory_gb == pytest.approx(stated.memory_gb, rel=0.1)
    assert plan.disk_gb == pytest.approx(stated.disk_gb, rel=0.1)
    assert plan.memory_gb <= profile.machine.memory_gb and "nothing measured" in stated.how
    n_gpus = profile.machine.n_gpus
    assert profile.processes == n_gpus and any("GPU: " in line for line in plan.missing)
    assert plan.store_gb == pytest.approx(profile.data.n_ecgs * 12 * 5000 * 2 / 1e9)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("preset: paper", "presset: paper"), "'presset' is unknown. Did you mean preset?"),
        (("BATCH_SIZE: 32", "BATCHSIZE: 32"), "settings: BATCHSIZE is unknown. Did you mean BATCH"),
        (("gpu: T4", "gpus: T4"), "machine: 'gpus' is unknown"),
        (("  n_gpus: 1", "  n_gpus: one"), "machine: n_gpus is 'one'"),
        (("preset: paper", "preset: huge"), "preset is 'huge'"),
        (("processes: 1", "processes: [1"), "is not YAML"),
        (("ENCODER: tiny", "OUT: here"), "settings: OUT is unknown"),
    ],
)
def test_a_wrong_profile_is_a_sentence_that_names_the_file(change, says, tmp_path, capsys):
    text = (ROOT / "profiles" / "ptbxl-t4.yaml").read_text()
    assert change[0] in text
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace(*change))
    assert cli.main(["plan", "00", "--profile", str(path)]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("ecgkit: mine.yaml") and says in error
    assert len(error.splitlines()) == 1


def test_options_win_over_the_profile_and_settings_of_others_are_left_out():
    profile = profiles.read_profile("ptbxl-t4")
    params = profile.params_for(["04_esi_pretraining"], {"ENCODER": "atto", "PRESET": "tiny"})
    assert params["ENCODER"] == "atto" and params["PRESET"] == "tiny"
    assert params["BATCH_SIZE"] == 32 and "FINETUNE_STEPS" not in params


def test_the_command_runs_with_a_profile(monkeypatch):
    seen = {}
    monkeypatch.setenv("ECGKIT_PROCESSES", "1")
    monkeypatch.setattr(runner, "run_notebooks", lambda names, params, *how: seen.update(params))
    cli.main(["run", "03", "--profile", "ptbxl-t4", "--data", "x.zip", "--set", "BATCH_SIZE=8"])
    assert seen["PRESET"] == "paper" and seen["BATCH_SIZE"] == "8" and seen["PRETRAIN_BATCH"] == 32
    assert seen["DATA"].endswith("x.zip") and "ENCODER" not in seen


# --- plans ----------------------------------------------------------------------------------------


def test_operations_and_parameters_are_those_of_the_models():
    """A demo's trainings, counted by hand from torch's own modules."""
    from ecgkit.tasks.classifiers import build_classifier

    config = CONFIGS["03_baselines"].from_params({"PRESET": "tiny"})
    found = {t.name: t for t in trainings("03_baselines", config)}
    model = build_classifier(config, "se_wrn", 100)
    assert found["se_wrn"].n_params == sum(p.numel() for p in model.parameters())
    assert found["fusion"].cost.forward > found["blind"].cost.forward
    few = dataclasses.replace(found["fusion"], n_steps=1)
    assert found["fusion"].operations == pytest.approx(few.operations * found["fusion"].n_steps)
    assert few.memory_bytes(n_gpus=2) < few.memory_bytes()


def test_a_text_encoder_has_the_operations_of_its_matrices():
    config = EsiConfig.from_params({"PRESET": "paper"})
    [esi] = trainings("04_esi_pretraining", config)
    # BERT-base over 120 words costs 2 operations a weight and word at least; ESI has it twice.
    assert esi.cost.forward > 2 * 2 * 85e6 * 120 and 250e6 < esi.n_params < 400e6


def test_a_plan_of_the_demo_is_measured_and_runs_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert cli.main(["plan", "00", "03", "--out", str(tmp_path / "no")]) == 0
    printed = capsys.readouterr().out
    assert "measured, " in printed and "store: 4000 ECGs x 12 leads" in printed
    assert "00_start_here" in printed and "04_esi" not in printed
    assert not (tmp_path / "no").exists()


def test_what_is_missing_is_told(capsys, monkeypatch, tmp_path):
    free = shutil.disk_usage(ROOT)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: free)
    cli.main(["plan", "04", "--data", str(tmp_path / "nothing.zip"), "--set", "RETRIEVER=exact"])
    printed = capsys.readouterr().out
    assert "nothing.zip" in printed and "Disk: the runs folder needs" in printed


# --- measured times -------------------------------------------------------------------------------


def test_the_notebooks_say_what_was_measured():
    rows = run_times.measured()
    assert set(rows) == set(CONFIGS)
    for name, row in rows.items():
        text = (ROOT / "notebooks" / f"{name}.ipynb").read_text("utf-8")
        assert run_times.with_line(text, row) == text, f"{name}: run `ecgkit times RUN --write`"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(2, "about 5 seconds"), (23.6, "about 25 seconds"), (52.6, "about a minute"),
     (75, "about a minute"), (80, "about 1.5 minutes"), (238.7, "about 4 minutes")],
)  # fmt: skip
def test_times_in_words(seconds, words):
    assert run_times.about(seconds) == words


def test_times_are_copied_from_a_run_and_rewrite_the_notebooks(tmp_path, monkeypatch):
    run, notebooks = tmp_path / "runs", tmp_path / "notebooks"
    for folder in (run, notebooks):
        folder.mkdir()
    line = "- **It takes** about 2.5 minutes on two cores; `MODELS=all` takes longer."
    (notebooks / "00_start_here.ipynb").write_text(json.dumps({"cells": [line, line]}))
    how = {"machine": "A chip, 8 cores", "date": "2026-11-27", "jobs": 1}
    entry = {"name": "00_start_here", "status": "ok", "seconds": 31.0, "measured": how}
    record = {"preset": "demo", "data": "synthetic", "machine": "?", "started": "2026-01-01",
              "notebooks": [entry]}  # fmt: skip
    (run / "run.json").write_text(json.dumps(record))
    monkeypatch.setattr(runtime, "project_root", lambda: tmp_path)
    monkeypatch.setattr(run_times, "TABLE", tmp_path / "run_times.csv")
    monkeypatch.setattr(run_times, "measured", lambda: {})
    assert len(run_times.write(run)) == 2 and run_times.write(run) == []
    first, second = json.loads((notebooks / "00_start_here.ipynb").read_text())["cells"]
    assert first == "- **It takes** about 30 seconds on 8 cores; `MODELS=all` takes longer."
    assert second == line
    entry["measured"]["jobs"] = 2
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match="ran beside others"):
        run_times.write(run)
    (run / "run.json").write_text(json.dumps(record | {"preset": "tiny"}))
    with pytest.raises(DataError, match="preset tiny"):
        run_times.write(run)


def test_there_is_no_such_profile():
    with pytest.raises(ConfigError, match="choose one of mimic-a100x4"):
        profiles.read_profile("ptbxl-h100")
