"""Formulas of an executed notebook as MathML, which browsers draw by themselves.

nbconvert leaves `$...$` to a script from the network, so that a page read offline shows raw TeX.

Usage:
    body = export_with_mathml(notebook, lambda book: HTMLExporter().from_notebook_node(book)[0])
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable

# Code first, so that a dollar inside it is none; then display formulas, then those in a line.
_PART = re.compile(r"(?P<code>```.*?```|`[^`\n]*`)|\$\$(?P<block>.+?)\$\$|(?<![\\$\w])"
                   r"\$(?P<line>[^\s$](?:[^$\n]*[^\s$\\])?)\$(?![\w$])", re.DOTALL)  # fmt: skip
_PLACE = "ecgkit-formula-{}-stands-here"


def export_with_mathml(notebook, export: Callable[[object], str]) -> str:
    """`export(notebook)`, an HTML page, with the formulas of markdown cells as MathML.

    The exporter strips MathML from markdown, so it sees a name for each formula, which the page
    then has exchanged. A formula that cannot be turned, and every one where latex2mathml is not
    installed, stays TeX.
    """
    notebook, drawn = copy.deepcopy(notebook), []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = _PART.sub(lambda found: _place(found, drawn), cell["source"])
    page = export(notebook)
    return re.sub(_PLACE.format(r"(\d+)"), lambda found: drawn[int(found[1])], page)


def _place(found: re.Match, drawn: list[str]) -> str:
    """What stands in the markdown in place of a match; its MathML is added to `drawn`."""
    tex = found["block"] or found["line"]
    mathml = "" if found["code"] else to_mathml(tex, bool(found["block"]))
    if not mathml:
        return found[0]
    drawn.append(mathml)
    return _PLACE.format(len(drawn) - 1)


def to_mathml(tex: str, block: bool = False) -> str:
    """One formula without its dollars; "" where it cannot be turned."""
    try:
        from latex2mathml.converter import convert

        return convert(tex, display="block" if block else "inline")
    except Exception:  # noqa: BLE001 - not installed, or one of its errors, which share no parent
        return ""
