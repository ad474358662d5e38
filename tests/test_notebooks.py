"""Notebook lint: committed clean, prose before code, nothing defined, every parameter a config
field, one first cell for Colab, and words to each figure.
"""

import ast
import dataclasses
import re
import tomllib
from pathlib import Path

import nbformat
import papermill
import pytest

from ecgkit.config import RUNNABLE, SOLUTIONS

FOLDER = Path(__file__).parents[1] / "notebooks"
PATHS = [FOLDER / f"{name}.ipynb" for name in RUNNABLE]
TYPES = {
    "int",
    "float",
    "str",
    "bool",
    *(f"Optional[{t}]" for t in ("int", "float", "str", "bool")),
}
EVERYWHERE = {"PRESET", "DATA", "ECGQA", "OUT", "SEED"}
TRAINED = ("03_baselines", "04_esi_pretraining", "06_few_shot_qa", "07_risk_finetuning")

# The kit's address stands in pyproject.toml; badges and first cells are held against it.
PROJECT = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())["project"]
REPOSITORY = PROJECT["urls"]["Repository"]
BADGE = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    "(https://colab.research.google.com/github/{owner_name}/blob/main/notebooks/{stem}.ipynb)"
)
COLAB_PROSE = (
    "**Only on Google Colab** the next cell does something: it fetches the kit and installs what "
    "Colab lacks, leaving its torch and numpy as they are. With `mount_drive = True` it also looks "
    "for the data's .zip files on your Google Drive and prints what to write into `DATA`."
)
COLAB_CELL = f"""\
import os
import subprocess
import sys

mount_drive = False  # True: look for the data's .zip files on your Google Drive
if "google.colab" in sys.modules:
    if not os.path.exists("kit"):
        clone = ["git", "clone", "-q", "--depth", "1", "{REPOSITORY}", "kit"]
        subprocess.run(clone, check=True)
    sys.path.insert(0, os.path.abspath("kit"))
    from ecgkit import colab
    colab.prepare(mount_drive)"""

each_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)


def cells(path: Path, kind: str | None = None) -> list:
    found = nbformat.read(path, as_version=4).cells
    return [c for c in found if kind is None or c.cell_type == kind]


def is_code_with(cell, call: str) -> bool:
    return cell.cell_type == "code" and call in cell.source


def code(cell) -> ast.Module:
    lines = [line for line in cell.source.splitlines() if not line.lstrip().startswith(("%", "!"))]
    return ast.parse("\n".join(lines))


def test_the_folder_holds_exactly_the_notebooks_of_the_kit():
    assert sorted(FOLDER.glob("*.ipynb")) == sorted(PATHS)


@each_notebook
def test_committed_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert not [c for c in cells(path, "code") if c.outputs or c.execution_count]
    assert not {"widgets", "papermill"} & set(notebook.metadata)


@each_notebook
def test_prose_before_every_code_cell(path):
    kinds = [c.cell_type for c in cells(path)]
    assert kinds[0] == "markdown"
    bare = [i for i, kind in enumerate(kinds) if kind == "code" and kinds[i - 1] != "markdown"]
    assert not bare, f"code cells without a paragraph before them: {bare}"


@each_notebook
def test_cells_are_short_and_define_nothing(path):
    for number, cell in enumerate(cells(path, "code")):
        assert len(cell.source.splitlines()) <= 25, f"code cell {number} is too long"
        defined = [
            node
            for node in ast.walk(code(cell))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda)
        ]
        assert not defined, f"code cell {number} defines something; move it to the package"


@each_notebook
def test_every_parameter_is_a_documented_config_field(path):
    tagged = [c for c in cells(path, "code") if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1
    parameters = papermill.inspect_notebook(path)
    fields = {f.name.upper() for f in dataclasses.fields(RUNNABLE[path.stem])}
    assert EVERYWHERE <= set(parameters) <= fields
    for name, seen in parameters.items():
        assert seen["inferred_type_name"] in TYPES, name
        assert seen["help"], f"{name} has no comment that says what it is"


@each_notebook
def test_common_skeleton(path):
    prose = "\n".join(c.source for c in cells(path, "markdown"))
    assert cells(path)[0].source.lstrip().startswith(("#", "[![", "<"))
    parts = ["You will", "You need", "It takes", "Check yourself", "Exercises", "What next"]
    for part in parts if path.stem != SOLUTIONS else ["You will", "You need", "It takes"]:
        assert part in prose, part
    assert "not for diagnosis" in prose
    assert "run.finish()" in cells(path, "code")[-1].source


@each_notebook
def test_badge_and_first_cell_are_those_of_every_notebook(path):
    first, prose, cell = cells(path)[:3]
    owner_name = REPOSITORY.removeprefix("https://github.com/")
    assert first.source.splitlines()[0] == BADGE.format(owner_name=owner_name, stem=path.stem)
    assert (prose.source, cell.source) == (COLAB_PROSE, COLAB_CELL)
    assert len(COLAB_CELL.splitlines()) <= 12
    assert "parameters" not in cell.metadata.get("tags", [])
    # What the cell finds must not stand in for a parameter, whoever gives it.
    assert not re.search(r"^\s*[A-Z]+\b", COLAB_CELL, re.MULTILINE)


@each_notebook
def test_words_say_what_to_see(path):
    """After each figure; a widget's words may stand before it, since they say what to turn."""
    every = cells(path)
    told = ["should see" in c.source if c.cell_type == "markdown" else False for c in every]
    figures = [i for i, c in enumerate(every) if is_code_with(c, "run.figure(")]
    silent = [i for i in figures if not told[i + 1]]
    widgets = [i for i, c in enumerate(every) if is_code_with(c, "widgets.keep(")]
    silent += [i for i in widgets if not told[i - 1] and not told[i + 1]]
    assert not silent, f"figures without a word on what to see: cells {silent}"


@pytest.mark.parametrize("stem", TRAINED)
def test_what_is_minimised_stands_as_an_equation(stem):
    prose = "\n".join(c.source for c in cells(FOLDER / f"{stem}.ipynb", "markdown"))
    assert prose.count("$$") >= 4 and prose.count("$$") % 2 == 0


@each_notebook
def test_no_library_call_picks_a_backend_and_no_absolute_path(path):
    text = path.read_text()
    assert "matplotlib.use(" not in text
    assert not re.search(r'["\s=](/(home|root|mnt|Users|tmp)/|[A-Z]:\\)', text)
