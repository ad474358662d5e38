"""How a caption came about, as a page: the passages found for each finding, the words taken.

Usage:
    caption_page(caption, {"atrial fibrillation": answer, ...}, title="ECG 17")     # HTML
An answer has `text`, `passages` (title, file, text) and `scores`, as `text.cqa.Answer` has.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

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


def caption_page(caption: str, answers: Mapping[str, object], title: str = ""):
    """IPython HTML: left each finding with its passages, right the caption; marked is what the
    caption took from them. A finding without a passage says so.
    """
    from IPython.display import HTML

    found = "".join(_finding(name, answer) for name, answer in answers.items())
    taken = [answer.text for answer in answers.values() if answer.text]
    lines = "".join(f"<p>{_marked(part, taken)}</p>" for part in caption.split("\n"))
    return HTML(
        f"{_STYLE}<div class='ecgkit-cap'><div><h4>What was found</h4>"
        f"{found or '<p>no statement</p>'}</div><div><h4>{escape(title or 'Caption')}</h4>"
        f"<div class='caption'>{lines}</div><p class='where'>{escape(NOT_FOR_DIAGNOSIS)}</p></div>"
        "</div>"
    )


def _finding(name: str, answer) -> str:
    passages = "".join(
        f"<div class='passage'><span class='where'>{escape(p.file)} · {escape(p.title)} · "
        f"{_score(score)}</span><br>{_marked(p.text, [answer.text])}</div>"
        for p, score in zip(answer.passages, answer.scores)
    )
    empty = "<div class='where'>no passage covers it: nothing is written</div>"
    return f"<div class='ask'><h4>{escape(name)}</h4>{passages or empty}</div>"


def _score(score: float) -> str:
    return f"cosine {score:.2f}"


def _marked(text: str, taken: list[str]) -> str:
    """The escaped text with each of `taken` that stands in it marked; a final stop may differ."""
    page = escape(text)
    for part in dict.fromkeys(escape(t).rstrip(".") for t in taken if t):
        page = page.replace(part, f"<mark>{part}</mark>")
    return page
