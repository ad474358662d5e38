"""Published ablations in the ledger: read from a sweep's run folders, kept in one file of a run."""

import json
import shutil

import pytest
from ledger_parts import metric, write_notebook
from test_esi_ablations import VALUES, WIDTH, write_sweep

from ecgkit import cli
from ecgkit.reports import ablation_numbers, ledger, ledger_check
from ecgkit.reports.ledger_files import ABLATIONS
from ecgkit.types import DataError

MADE = {"name": "synthetic", "simulated": True, "n_ecgs": 4000, "fingerprint": "abc"}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return write_sweep(tmp_path_factory.mktemp("sweep"))


@pytest.fixture
def run(tmp_path):
    """A run of notebook 05 alone, beside the sweep."""
    folder = tmp_path / "run"
    write_notebook(folder, "05_esi_evaluation", {"zero_shot_macro_auc": metric(0.8, 0.7, 0.9)})
    return folder


def test_each_ablation_is_the_number_of_its_points(sweep):
    found = ablation_numbers.read_ablations(sweep)
    said = {name: round(row["value"], 6) for name, row in found["metrics"].items()}
    assert said["full_probe"] == 0.93 and said["no_contrastive_loss_identification"] == 0.87
    assert said["all_sources_zero_shot"] == 0.89 and said["mimic_only_probe"] == 0.91
    assert said["mimic_only_minus_all_sources_probe"] == -0.03
    assert found["data"] == MADE and found["preset"] == "demo"
    row = found["metrics"]["mimic_only_minus_all_sources_probe"]
    assert row["high"] - row["low"] == pytest.approx(2 * WIDTH * 2**0.5)
    assert row["points"] == ["mimic_only", "all_sources"]


def test_the_demos_small_encoders_do_not_stand_for_the_published_ones(sweep):
    names = ablation_numbers.read_ablations(sweep)["metrics"]
    assert not [name for name in names if name.startswith("encoder_")]


def test_several_seeds_are_one_number(tmp_path):
    sweep = write_sweep(tmp_path, seeds=(0, 1, 2))
    row = ablation_numbers.read_ablations(sweep)["metrics"]["no_CQA_probe"]
    assert row["value"] == pytest.approx(0.912) and row["n_seeds"] == 3
    assert row["high"] - row["value"] == pytest.approx(0.002)
    assert row["points"] == [f"no_cqa-seed_{seed}" for seed in (0, 1, 2)]


def test_a_difference_of_numbers_without_interval_has_none(tmp_path):
    sweep = write_sweep(tmp_path)
    body = sweep / "mimic_only" / "05_esi_evaluation" / "metrics.json"
    said = json.loads(body.read_text())
    del said["metrics"]["linear_probe_macro_auc"]["low"]
    body.write_text(json.dumps(said))
    row = ablation_numbers.read_ablations(sweep)["metrics"]["mimic_only_minus_all_sources_probe"]
    assert row["value"] == pytest.approx(-0.03) and row["low"] is None


def test_what_never_ran_has_no_number(tmp_path):
    sweep = write_sweep(tmp_path, without=("mimic_only",))
    assert not [n for n in ablation_numbers.read_ablations(sweep)["metrics"] if "mimic" in n]


def test_the_ledger_shows_them_and_calls_none_a_match(run, sweep, shared):
    before = ledger.ledger_table(ledger.read_run(run), shared)
    ablation_numbers.write_ablations(run, sweep)
    after = ledger.ledger_table(ledger.read_run(run), shared)
    new = after[after["ours"].notna() & before["ours"].isna()]
    # Table 5a: four runs by two tasks; Table 6 on PTB-XL: two runs and their difference by three.
    assert len(new) == 4 * 2 + 3 * 3
    assert set(new["file"]) == {ABLATIONS} and set(new["simulated"]) == {"simulated data"}
    assert new["status"].eq("differs because simulated data: never a replication").all()


def test_the_report_takes_a_sweep_and_is_checked(run, sweep, shared, monkeypatch, capsys):
    monkeypatch.setenv("ECGKIT_SHARED", str(shared))
    assert cli.main(["report", str(run), "--sweep", str(sweep)]) == 0
    assert cli.main(["report", "--check", str(run)]) == 0
    page = (run / "index.html").read_text()
    assert "ESI-tiny w/o captioning loss" in page
    said = json.loads((run / ABLATIONS).read_text())
    said["metrics"]["full_probe"]["value"] += 0.01
    (run / ABLATIONS).write_text(json.dumps(said))
    assert cli.main(["report", str(run)]) == 0  # the ledger now shows the number nobody measured
    capsys.readouterr()
    assert cli.main(["report", "--check", str(run)]) == 1
    assert "holds 0.94 for full_probe, and the runs of its sweep do not" in capsys.readouterr().out


def test_a_sweep_that_is_gone_is_a_fault(run, tmp_path, sweep):
    copy = shutil.copytree(sweep, tmp_path / "copy")
    ablation_numbers.write_ablations(run, copy)
    assert ablation_numbers.check_ablations(run) == []
    shutil.rmtree(copy)
    assert "cannot be looked at" in ablation_numbers.check_ablations(run)[0]
    assert ledger_check.check_ablations(run / "nowhere") == []


def test_bad_input_is_a_sentence(run, tmp_path, sweep, capsys):
    with pytest.raises(DataError, match="holds no run"):
        ablation_numbers.read_ablations(tmp_path)
    (tmp_path / "empty").mkdir()
    empty = write_sweep(tmp_path / "empty", without=VALUES)
    with pytest.raises(DataError, match="none of the published ablations"):
        ablation_numbers.read_ablations(empty)
    other = shutil.copytree(sweep, tmp_path / "other")
    body = other / "no_cqa" / "05_esi_evaluation" / "metrics.json"
    body.write_text(body.read_text().replace('"abc"', '"xyz"'))
    with pytest.raises(DataError, match="of 2 cohorts"):
        ablation_numbers.read_ablations(other)
    mixed = shutil.copytree(sweep, tmp_path / "mixed")
    config = mixed / "no_cqa" / "04_esi_pretraining" / "config.json"
    config.write_text(config.read_text().replace('"demo"', '"tiny"'))
    with pytest.raises(DataError, match="of the presets demo, tiny"):
        ablation_numbers.read_ablations(mixed)
    assert cli.main(["report", "--check", str(run), "--sweep", str(sweep)]) == 2
    assert "give one of them" in capsys.readouterr().err
