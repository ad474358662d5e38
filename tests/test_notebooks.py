"""Notebook lint: committed clean, prose before code, nothing defined, every parameter a config
field.
"""

import ast
import dataclasses
import re
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

each_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)


def cells(path: Path, kind: str | None = None) -> list:
    found = nbformat.read(path, as_version=4).cells
    return [c for c in found if kind is None or c.cell_type == kind]


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
def test_no_library_call_picks_a_backend_and_no_absolute_path(path):
    text = path.read_text()
    assert "matplotlib.use(" not in text
    assert not re.search(r'["\s=](/(home|root|mnt|Users|tmp)/|[A-Z]:\\)', text)
