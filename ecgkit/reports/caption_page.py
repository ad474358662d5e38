"""How a caption came about, as a page: the passages found for each finding, the words taken.

Usage:

    caption_page(caption, esi_look.retrieved_notes(study, row), title="ECG 17")     # HTML
"""

from __future__ import annotations

import re
from html import escape

import pandas as pd

from ecgkit.reports.style import NO_FORMULAS
from ecgkit.types import NOT_FOR_DIAGNOSIS

_STYLE = """
<style>
.ecgkit-cap { display: grid; grid-template-columns: 3fr 2fr; gap: 14px; font-size: 13px;
  line-height: 1.45; color: #1a1a1a; max-width: 1100px; text-align: left; }
.ecgkit-cap h4 { margin: 0 0 4px; font-size: 13px; }
.ecgkit-cap .ask { margin: 0 0 12px; padding: 8px 10px; border-left: 3px solid #0072b2;
  background: #f6f8fa; }
.ecgkit-cap .passage { margin: 6px 0 0; color: #444; }
.ecgkit-cap .where { color: #6b6b6b; font-size: 12px; }
.ecgkit-cap mark { background: #fde9b4; color: #1a1a1a; padding: 0 1px; }
.ecgkit-cap .caption { padding: 10px; border: 1px solid #d0d7de; background: #fff; }
.ecgkit-cap .caption p { margin: 0 0 8px; }
</style>
"""


def caption_page(caption: str, found: pd.DataFrame, title: str = ""):
    """IPython HTML: left each finding with its passages, right the caption; marked is what the
    caption took from them. `found`: one line per finding and passage, columns finding, said, note,
    file, score, text.
    """
    from IPython.display import HTML

    asked = "".join(_finding(name, lines) for name, lines in found.groupby("finding", sort=False))
    parts = "".join(f"<p>{_marked(part, found['said'])}</p>" for part in caption.split("\n"))
    return HTML(
        f"{_STYLE}<div class='ecgkit-cap {NO_FORMULAS}'><div><h4>What was found</h4>"
        f"{asked or '<p>no passage</p>'}</div><div><h4>{escape(title or 'Caption')}</h4>"
        f"<div class='caption'>{parts}</div><p class='where'>{escape(NOT_FOR_DIAGNOSIS)}</p></div>"
        "</div>"
    )


def _finding(name: str, lines: pd.DataFrame) -> str:
    passages = "".join(
        f"<div class='passage'><span class='where'>{escape(line.file)} · {escape(line.note)} · "
        f"score {line.score:.2f}</span><br>{_marked(line.text, [line.said])}</div>"
        for line in lines.itertuples()
    )
    return f"<div class='ask'><h4>{escape(name)}</h4>{passages}</div>"


def _marked(text: str, taken) -> str:
    """The escaped text with each of `taken` that stands in it marked; a final stop may differ."""
    parts = sorted({part for t in taken if (part := t.rstrip("."))}, key=len, reverse=True)
    if not parts:
        return escape(text)
    pieces = re.split(f"({'|'.join(map(re.escape, parts))})", text)
    pieces[::2] = map(escape, pieces[::2])
    pieces[1::2] = (f"<mark>{escape(part)}</mark>" for part in pieces[1::2])
    return "".join(pieces)
