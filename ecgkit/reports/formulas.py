"""Formulas that show without a network: TeX in markdown becomes MathML, which browsers draw.

Exported pages otherwise load MathJax from the net, and show raw TeX behind a firewall.

Usage:

    html = export(HTMLExporter(embed_images=True), notebook, "03_baselines")
"""

from __future__ import annotations

import importlib.util
import re
import uuid

_CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)
_TEX = re.compile(
    r"\$\$(?P<block>.+?)\$\$|(?<![\\$\w])\$(?=\S)(?P<inline>[^$\n]+?)(?<=\S)\$(?!\w)", re.DOTALL
)


def export(exporter, notebook, title: str = "Notebook") -> str:
    """The page nbconvert's `exporter` makes of `notebook`, formulas of markdown cells in MathML.

    `title` is that of the browser's window. A formula that cannot be read stays TeX, as do all
    where latex2mathml is not installed.
    """
    formulas: dict[str, str] = {}
    if importlib.util.find_spec("latex2mathml"):
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = set_aside(cell.source, formulas)
    body, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": title}})
    return re.sub("|".join(formulas) or r"(?!)", lambda found: formulas[found[0]], body)


def set_aside(markdown: str, formulas: dict[str, str]) -> str:
    """`markdown` with a word of its own for every `$...$` and `$$...$$` outside code.

    nbconvert takes HTML in markdown apart tag by tag, which MathML does not survive; so its MathML
    goes to `formulas` under that word, and takes its place in the finished page.
    """

    def one(found: re.Match) -> str:
        mathml = to_mathml(found["block"] or found["inline"], bool(found["block"]))
        if not mathml:
            return found[0]
        word = f"formula{uuid.uuid4().hex}"
        formulas[word] = mathml
        return word

    parts = _CODE.split(markdown)
    return "".join(part if i % 2 else _TEX.sub(one, part) for i, part in enumerate(parts))


def to_mathml(tex: str, block: bool = False) -> str:
    """One formula as a `<math>` element; '' where it cannot be read."""
    from latex2mathml.converter import convert

    try:
        return convert(tex.strip(), display="block" if block else "inline")
    except Exception:  # its parser raises many kinds; the reader then sees the TeX
        return ""
