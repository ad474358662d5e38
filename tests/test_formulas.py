"""Formulas of the executed pages: drawn without a script, code and prices left alone."""

import builtins
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from ecgkit.reports.formulas import export_with_mathml

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def sources(book) -> str:
    return "\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")


def turned(text: str) -> str:
    return export_with_mathml(new_notebook(cells=[new_markdown_cell(text)]), sources)


def test_formulas_in_a_line_and_of_their_own_become_mathml():
    pytest.importorskip("latex2mathml", reason="latex2mathml is not installed")
    text = turned("With $\\theta_i$ we have\n\n$$L = \\frac{1}{N} \\sum_i \\theta_i$$")
    assert text.count("<math") == 2 and 'display="block"' in text and "$" not in text


def test_the_exporter_lets_them_through():
    pytest.importorskip("latex2mathml", reason="latex2mathml is not installed")
    nbconvert = pytest.importorskip("nbconvert")
    book = new_notebook(cells=[new_markdown_cell("# A\n\n$\\alpha$ is\n\n$$\\frac{1}{2}$$")])
    page = export_with_mathml(book, lambda b: nbconvert.HTMLExporter().from_notebook_node(b)[0])
    assert page.count("<math") == 2 and "<mfrac>" in page and "stands-here" not in page


def test_what_is_no_formula_stays():
    text = "`$x$` costs 5$ or $6, \\$7$"
    book = new_notebook(cells=[new_code_cell("a = '$x$'"), new_markdown_cell(text)])
    assert export_with_mathml(book, lambda b: b.cells[0].source + sources(b)) == "a = '$x$'" + text


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
    text = export_with_mathml(nbformat.read(path, 4), sources)
    assert "$$" not in text and "\\frac" not in text and "\\sum" not in text
