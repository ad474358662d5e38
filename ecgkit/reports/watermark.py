"""The mark every figure of the risk study bears while its outcomes are simulated.

A figure travels without its caption, so the mark stands across the picture itself, and in its
title.

Usage:

    figure.suptitle(mark_title("Lead attention", simulated))
    watermark(figure) if simulated else figure
"""

from __future__ import annotations

import math

from matplotlib.figure import Figure

SIMULATED = "simulated outcomes"
GID = "watermark"
GREY = "#8a8a8a"


def watermark(figure: Figure, text: str = SIMULATED, alpha: float = 0.2) -> Figure:
    """Writes `text` across the figure from lower left to upper right, light, above everything.

    Returns the same figure. Grey, so that it shows on dark maps and on light paper; a second call
    with the same text changes nothing.
    """
    if is_marked(figure, text):
        return figure
    width, height = figure.get_size_inches()
    angle = min(math.radians(35), math.atan2(height, width))
    along, across = 0.7 * len(text), 1.2  # of the text's box, in letter sizes
    room = 0.94 * 72  # points per inch, less a margin
    size = min(
        room * width / (along * math.cos(angle) + across * math.sin(angle)),
        room * height / (along * math.sin(angle) + across * math.cos(angle)),
    )
    mark = figure.text(
        0.5, 0.5, text, ha="center", va="center", rotation=math.degrees(angle), fontsize=size,
        weight="bold", color=GREY, alpha=alpha, zorder=100, gid=GID,
    )  # fmt: skip
    mark.set_in_layout(False)
    return figure


def is_marked(figure: Figure, text: str = SIMULATED) -> bool:
    """True where `watermark` has written `text` on the figure."""
    return any(t.get_gid() == GID and t.get_text() == text for t in figure.texts)


def mark_title(title: str, simulated: bool | None) -> str:
    """Adds '(simulated outcomes)' to a title where it applies and is not said yet."""
    if not simulated or SIMULATED in title.lower():
        return title
    return f"{title} ({SIMULATED})".strip()


def finish(figure: Figure, title: str = "", simulated: bool | None = False) -> Figure:
    """Sets the title at the upper left and, where outcomes are simulated, both marks."""
    if title or simulated:
        words = mark_title(title, simulated)
        figure.suptitle(words, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return watermark(figure) if simulated else figure
