"""Formulas of exported pages: MathML in place of TeX, nothing else touched."""

import nbformat
import pytest
from nbconvert import HTMLExporter

from ecgkit.reports import formulas

pytest.importorskip("latex2mathml", reason="latex2mathml is not installed; pages then use MathJax")


def test_formulas_of_a_page_become_mathml():
    cells = [
        nbformat.v4.new_markdown_cell(
            "With $y_{ik}$ and\n\n$$\\frac{1}{N}\\sum_i x_i$$\n\nit *ends*."
        ),
        nbformat.v4.new_code_cell('print("$y_{ik}$")'),
    ]
    page = formulas.export(HTMLExporter(), nbformat.v4.new_notebook(cells=cells))
    assert page.count("<math ") == 2 and 'display="block"' in page and "<mfrac>" in page
    assert "<msub><mi>y</mi>" in page and "<em>ends</em>" in page
    assert "{ik}" in page  # a string in code stays what it is


@pytest.mark.parametrize(
    "text", ["costs $5 and $6 more", "`$x$`", "```\n$x$\n```", r"\$x$", "a$b$c", r"$\frac{$"]
)
def test_what_is_no_formula_stays(text):
    assert formulas.set_aside(text, {}) == text


def test_every_formula_of_the_notebooks_can_be_read():
    from ecgkit.runtime import project_root

    for path in sorted((project_root() / "notebooks").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                rest = formulas.set_aside(cell.source, {})
                assert "$" not in formulas._CODE.sub("", rest), f"{path.stem}: {rest[:300]}"
