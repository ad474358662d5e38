"""The first cell of every notebook: nothing happens outside Colab; there, the kit is fetched and
only what is missing installed. Run against a stand-in for `google.colab`, `git` and `pip`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from ecgkit import colab
from ecgkit.types import ConfigError

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "00_start_here.ipynb"
PIP = """
import json, os, sys
held = sys.argv[sys.argv.index("--constraint") + 1] if "--constraint" in sys.argv else ""
lines = open(held).read().split() if held else []
with open(os.environ["CALLS"], "a") as file:
    print(json.dumps({"args": sys.argv[1:], "held": lines}), file=file)
"""
GIT = """#!/bin/sh
mkdir -p kit/ecgkit
for name in __init__ types colab; do cp "$KIT/ecgkit/$name.py" kit/ecgkit/; done
new='"torch>=99", "no-such-package>=1",'
sed 's/"torch>=.*/'"$new/" "$KIT/pyproject.toml" >kit/pyproject.toml
echo "$@" >>git_calls
"""
DRIVE = """
import os
from pathlib import Path
import ecgkit.colab
def mount(path):
    ecgkit.colab.DRIVE = Path(os.environ["FAKE_DRIVE"])
"""


def colab_cell() -> str:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    return next(c.source for c in cells if "google.colab" in c.source and c.cell_type == "code")


def a_colab(folder: Path) -> dict[str, str]:
    """Writes stand-ins into `folder`; returns the environment in which they are found."""
    package = folder / "modules" / "google" / "colab"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package.parent / "__init__.py").write_text("")
    (package / "drive.py").write_text(DRIVE)
    (folder / "modules" / "pip.py").write_text(PIP)
    (folder / "git").write_text(GIT)
    (folder / "git").chmod(0o755)
    (folder / "drive" / "data").mkdir(parents=True)
    (folder / "drive" / "data" / "ptb-xl-1.0.3.zip").write_bytes(b"zip")
    (folder / "drive" / "ecg-qa.zip").write_bytes(b"zip")
    return os.environ | {
        "PYTHONPATH": str(folder / "modules"),
        "PATH": f"{folder}:{os.environ['PATH']}",
        "CALLS": str(folder / "calls"),
        "FAKE_DRIVE": str(folder / "drive"),
        "KIT": str(ROOT),
    }


def run_cell(folder: Path, source: str, env: dict) -> subprocess.CompletedProcess:
    code = "import google.colab\n" + source
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True
    )


def test_on_colab_the_kit_is_fetched_and_torch_left_alone(tmp_path):
    env = a_colab(tmp_path)
    done = run_cell(tmp_path, colab_cell(), env)
    assert done.returncode == 0, done.stderr
    kit, rest = map(json.loads, (tmp_path / "calls").read_text().splitlines())
    assert "--no-deps" in kit["args"] and kit["args"][-1] == str(tmp_path / "kit")
    assert rest["args"][-1] == "no-such-package>=1"
    assert not [a for a in rest["args"] if a.startswith(("torch", "numpy"))]
    held = {line.split("==")[0].lower() for line in rest["held"]}
    assert {"torch", "numpy", "pandas"} <= held and "ecgkit" not in held
    assert "Left as Colab has them: torch" in done.stdout
    assert "drive" not in done.stdout.lower()
    assert run_cell(tmp_path, colab_cell(), env).returncode == 0  # a kernel that was restarted
    assert len((tmp_path / "git_calls").read_text().splitlines()) == 1


def test_drive_is_mounted_when_asked_and_its_zips_are_named(tmp_path):
    env = a_colab(tmp_path)
    asked = colab_cell().replace("mount_drive = False", "mount_drive = True")
    done = run_cell(tmp_path, asked, env)
    assert done.returncode == 0, done.stderr
    assert f'DATA: str = "{tmp_path}/drive/data/ptb-xl-1.0.3.zip"' in done.stdout
    assert f'ECGQA: str = "{tmp_path}/drive/ecg-qa.zip"' in done.stdout


def test_elsewhere_the_cell_does_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: 1 / 0)
    before = list(sys.path)
    names: dict = {}
    exec(colab_cell(), names)
    assert sys.path == before and not list(tmp_path.iterdir()) and "colab" not in names


def test_what_is_missing_is_installed_and_what_is_colabs_own_is_kept():
    wanted, left = colab.needed(["numpy>=99", "scipy>=99", "pandas>=1", "no-such-package>=1"])
    assert wanted == ["scipy>=99", "no-such-package>=1"]
    assert len(left) == 1 and left[0].startswith("numpy ")


def test_a_drive_without_data_says_what_to_do(tmp_path):
    found = colab.find_data(tmp_path)
    assert found == {"DATA": [], "ECGQA": []} and "DATA" in colab._sentence(found)


def test_a_package_that_is_loaded_already_asks_for_a_restart(monkeypatch, capsys):
    monkeypatch.setattr(colab, "_pip", lambda *args: None)
    monkeypatch.setattr(colab, "_project", lambda: {"dependencies": ["pandas>=99", "scipy>=1"]})
    monkeypatch.setitem(sys.modules, "pandas", sys)
    colab.install()
    assert "pandas had been loaded before" in capsys.readouterr().out


def test_a_failed_installation_is_a_sentence(monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "trace\nERROR: no matching distribution")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(ConfigError, match="no matching distribution.*run this cell again"):
        colab.install()
