"""Formulas of an executed notebook as MathML, which browsers draw by themselves.

nbconvert leaves `$...$` to a script from the network, so that a page read offline shows raw TeX.

Usage:
    page, _ = HTMLExporter().from_notebook_node(with_mathml(notebook))
"""

from __future__ import annotations

import copy
import re

# Code first, so that a dollar inside it is none; then display formulas, then those in a line.
_PART = re.compile(r"(?P<code>```.*?```|`[^`\n]*`)|\$\$(?P<block>.+?)\$\$|(?<![\\$\w])"
                   r"\$(?P<line>[^\s$](?:[^$\n]*[^\s$\\])?)\$(?![\w$])", re.DOTALL)  # fmt: skip


def with_mathml(notebook):
    """A copy of the notebook whose markdown cells hold MathML in place of TeX.

    A formula that cannot be turned, and every one where latex2mathml is not installed, stays as
    it is.
    """
    try:
        from latex2mathml import converter
    except ImportError:
        return notebook

    def turned(found: re.Match) -> str:
        tex, display = found["block"] or found["line"], "block" if found["block"] else "inline"
        if found["code"]:
            return found["code"]
        try:
            return converter.convert(tex, display=display).replace("\n", " ")
        except Exception:  # noqa: BLE001 - the converter's own errors have no common parent
            return found[0]

    notebook = copy.deepcopy(notebook)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = _PART.sub(turned, cell["source"])
    return notebook
