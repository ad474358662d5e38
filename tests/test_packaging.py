"""What an installer reads: pyproject, environment.yml, constraints; and what importing the kit
costs.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONDA_NAMES = {"torch": "pytorch", "huggingface-hub": "huggingface_hub"}


def split(requirement: str) -> tuple[str, str]:
    name, spec = re.fullmatch(r"([A-Za-z0-9_-]+)(.*)", requirement).groups()
    return name, spec


def core() -> dict[str, str]:
    return dict(split(r) for r in PYPROJECT["project"]["dependencies"])


def extras() -> dict[str, str]:
    groups = PYPROJECT["project"]["optional-dependencies"]
    return dict(split(r) for name, group in groups.items() if name != "all" for r in group)


def test_conda_environment_mirrors_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = dict(split(d) for d in environment["dependencies"] if isinstance(d, str))
    assert conda.pop("python") == PYPROJECT["project"]["requires-python"]
    assert conda.pop("pip") == ""
    assert conda == {CONDA_NAMES.get(name, name): spec for name, spec in core().items()}
    assert environment["dependencies"][-1] == {"pip": ["-e ."]}


def test_constraints_pin_every_direct_dependency_and_name_no_host():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", pin) for pin in pins)
    pinned = {pin.split("==")[0] for pin in pins}
    assert set(core()) | set(extras()) <= pinned


def test_all_is_the_sum_of_the_extras():
    groups = dict(PYPROJECT["project"]["optional-dependencies"])
    assert groups.pop("all") == [f"ecgkit[{','.join(groups)}]"]


def test_data_cards_travel_with_the_package():
    """Globs of package data, tried on the tree: an installed kit prints its cards too, and reads
    its table of hazards, and draws healthy hearts from its own table."""
    globs = PYPROJECT["tool"]["setuptools"]["package-data"]["ecgkit.data"]
    carried = {path for pattern in globs for path in (ROOT / "ecgkit" / "data").glob(pattern)}
    tree = ROOT / "ecgkit" / "data"
    assert carried == {path for kind in ("md", "yaml", "csv") for path in tree.rglob(f"*.{kind}")}
    assert len(carried) >= 9


def test_readme_names_every_extra():
    readme = (ROOT / "README.md").read_text()
    for name in PYPROJECT["project"]["optional-dependencies"]:
        assert f"`{name}`" in readme, f"README.md does not mention the extra {name}"


def test_import_is_light():
    code = "import ecgkit, sys; print({'torch', 'numpy', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_command_line_help_does_not_import_torch():
    code = (
        "import sys, ecgkit.cli as c\n"
        "try: c.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    "name", ["LICENSE", "CITATION.cff", "CHANGELOG.md", "README.md", "docs/architecture.md"]
)
def test_repository_file_is_there(name):
    assert (ROOT / name).stat().st_size > 200


def test_citation_parses():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["license"] == "Apache-2.0" and len(citation["references"]) >= 4
