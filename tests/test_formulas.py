"""Formulas of the executed pages: drawn without a script, code and prices left alone."""

import builtins
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from ecgkit.reports.formulas import with_mathml

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def turned(text: str) -> str:
    return with_mathml(new_notebook(cells=[new_markdown_cell(text)])).cells[0].source


def test_formulas_in_a_line_and_of_their_own_become_mathml():
    pytest.importorskip("latex2mathml", reason="latex2mathml is not installed")
    text = turned(r"With $\theta_i$ we have" "\n\n" r"$$L = \frac{1}{N} \sum_i \theta_i$$")
    assert text.count("<math") == 2 and 'display="block"' in text and "$" not in text


def test_what_is_no_formula_stays():
    code = new_code_cell("a = '$x$'")
    book = new_notebook(cells=[code, new_markdown_cell("`$x$` costs 5$ or $6, \\$7$")])
    assert [c.source for c in with_mathml(book).cells] == [c.source for c in book.cells]


def test_without_the_converter_the_notebook_is_as_it_was(monkeypatch):
    whole = builtins.__import__

    def lacking(name, *rest, **more):
        if name.startswith("latex2mathml"):
            raise ImportError(name)
        return whole(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", lacking)
    assert turned("$x$") == "$x$"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_every_formula_of_the_notebooks_can_be_turned(path):
    pytest.importorskip("latex2mathml", reason="latex2mathml is not installed")
    for cell in with_mathml(nbformat.read(path, 4)).cells:
        if cell.cell_type == "markdown":
            assert "$$" not in cell.source and "\\frac" not in cell.source, cell.id
