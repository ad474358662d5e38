"""Browsers of any pictures for a live notebook; in a batch run the first picture alone.

Usage, as a cell's last expression:

    keep(run, browse_records(records, labels), "tour", "The first of seven conditions")
    browse(names, lambda i: plot(i))
Records of a cohort, with their questions: `record_widget`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ecgkit import runtime
from ecgkit.reports import paper
from ecgkit.reports.widget_base import Bench, beside, keep, labelled, png
from ecgkit.types import DataError, ECGRecord

__all__ = ["Browser", "browse", "browse_records", "keep", "steps"]


def browse_records(records: Sequence[ECGRecord], labels: Sequence[str] | None = None):
    """A menu over `records` above the ECG page. Raises DataError for an empty list."""
    names = list(labels) if labels is not None else [f"ECG {r.ecg_id}" for r in records]
    return browse(
        names,
        lambda i: paper.plot_ecg(records[i], title=names[i]),
        lambda i: f"{names[i]}: {paper.caption(records[i])}",
    )


def browse(
    names: Sequence[str], draw: Callable[[int], object], words: Callable[[int], str] | None = None
):
    """A widget that shows the Figure `draw(i)` for the name chosen from a menu, and `words(i)`
    (default the name); the first figure alone in a batch run. Raises DataError for no name.
    """
    if not names:
        raise DataError("There is no record to browse; give at least one.")
    if runtime.is_batch():
        return draw(0)
    return Browser(names, draw, words or (lambda i: names[i])).view


class Browser(Bench):
    """The widgets of `browse`: `menu`, `back`, `on`."""

    def __init__(self, names: Sequence[str], draw: Callable, words: Callable):
        import ipywidgets as w

        super().__init__("browser")
        self._draw, self._words = draw, words
        options = [(f"{i + 1}. {name}", i) for i, name in enumerate(names)]
        self.menu = labelled(w.Dropdown, "Record", options=options)
        self.back, self.on = steps(self, self.menu)
        self.follow(self.menu)
        top = beside(self.menu, self.back, self.on)
        self.lay_out(top, self.message, self.said, self.image)

    def show(self) -> None:
        i = self.menu.value
        self.draw(png(self._draw(i)), self._words(i))


def steps(bench: Bench, menu) -> tuple:
    """Buttons for the entry before and the next of a menu; at the ends they go round."""
    import ipywidgets as w

    def step(by: int) -> None:
        if menu.options:
            menu.index = ((menu.index or 0) + by) % len(menu.options)

    buttons = w.Button(description="Previous"), w.Button(description="Next")
    for button, by in zip(buttons, (-1, 1)):
        button.layout.width, button.tooltip = "90px", f"{button.description} entry of the menu"
        bench.press(button, lambda by=by: step(by))
    return buttons
