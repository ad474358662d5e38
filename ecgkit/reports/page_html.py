"""Small pieces of HTML for the run pages: everything a caller gives is escaped, no script.

Usage:

    table(["Notebook", "Status"], [["03", ("ok", "ok")]], "a caption")
    document("ecgkit run demo", body)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote


class Html(str):
    """Text that is HTML already; everything else is escaped by `table`."""


def link(href: str, text: str) -> str:
    return Html(f"<a href='{quote(href)}'>{escape(text)}</a>") if href else text


def table(
    head: Sequence[str], rows: Iterable[list], caption: str = "", classes: Iterable[str] = (),
    stacked: bool = False,
) -> str:
    """A table of escaped cells; a cell (class, text) gets that class.

    `classes`: one class per row. `stacked`: on a narrow screen each row becomes a block that names
    its columns.
    """
    rows, names = list(rows), list(classes)
    top = "".join(f"<th scope='col'>{escape(h)}</th>" for h in head)
    labels = list(head) if stacked else []
    lines = []
    for number, row in enumerate(rows):
        kind = f" class='{escape(names[number], quote=True)}'" if names else ""
        cells = (_cell(c, labels[i] if labels else "") for i, c in enumerate(row))
        lines.append(f"<tr{kind}>{''.join(cells)}</tr>")
    below = f"<caption>{escape(caption)}</caption>" if caption else ""
    top = f"<thead><tr>{top}</tr></thead>" if top else ""
    look = " class='stacked'" if stacked else ""
    body = "".join(lines)
    return f"<div class='wide'><table{look}>{below}{top}<tbody>{body}</tbody></table></div>"


def _cell(content, label: str = "") -> str:
    kind = ""
    if isinstance(content, tuple):
        kind, content = content
    looks = f" class='{kind}'" if kind else ""
    looks += f" data-label='{escape(label, quote=True)}'" if label else ""
    return f"<td{looks}>{content if isinstance(content, Html) else escape(str(content))}</td>"


def details(summary: str, body: str) -> str:
    """A part that a reader opens; `summary` is escaped, `body` is HTML."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def figure(folder: Path, relative: str, caption: str) -> str:
    """A picture that opens in full; "" when the file is gone."""
    if not (Path(folder) / relative).exists():
        return ""
    target, text = quote(relative), escape(caption, quote=True)
    return (
        f"<figure><a href='{target}'><img src='{target}' alt='{text}' loading='lazy'></a>"
        f"<figcaption>{text}</figcaption></figure>"
    )


def document(title: str, body: str) -> str:
    css = (Path(__file__).parent / "page.css").read_text("utf-8")
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>\n{css}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )
