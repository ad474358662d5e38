"""Attention explorer: choose a question or caption, a layer, a head and a lead, and see where its
words look. Maps and pages are made at the start; a choice only moves them. In a batch run a static
figure.

Usage, as a cell's last expression:

    keep(run, explore_attention(maps), "attention_explorer", maps[0].title)
"""

from __future__ import annotations

from collections.abc import Sequence

from ecgkit import runtime
from ecgkit.reports import attention_figures
from ecgkit.reports.attention_page import AttentionPage
from ecgkit.reports.widget_base import Bench, beside, labelled
from ecgkit.tasks.attention_maps import AttentionMaps
from ecgkit.types import DataError

MOST = 12  # questions or captions, each with a page of its own in memory


def explore_attention(maps: Sequence[AttentionMaps], lead: str = "II"):
    """The explorer of `maps` (the first 12), beginning with the mean of all layers and heads;
    `plot_words` of the first in a batch run. Raises DataError where there is none.
    """
    if not maps:
        raise DataError("There is no attention to explore; give at least one question or caption.")
    if runtime.is_batch():
        first = maps[0]
        lead = lead if lead in first.record.leads else first.record.leads[0]
        return attention_figures.plot_words(first.record, first.at(), lead, first.title)
    return AttentionExplorer(maps, lead).view


class AttentionExplorer(Bench):
    """The widgets of `explore_attention`: `which`, `layer`, `head`, `lead`, `weigh`, `scale`."""

    def __init__(self, maps: Sequence[AttentionMaps], lead: str = "II"):
        import ipywidgets as w

        super().__init__("attention")
        self.maps = list(maps)[:MOST]
        self.pages = [AttentionPage(one) for one in self.maps]
        titles = [(f"{i + 1}. {one.title}", i) for i, one in enumerate(self.maps)]
        self.which = labelled(w.Dropdown, "Words", "620px", options=titles)
        n_layers, n_heads = self.maps[0].weights.shape[:2]
        self.layer = labelled(w.Dropdown, "Layer", "280px", options=_numbered("layer", n_layers))
        self.head = labelled(w.Dropdown, "Head", "280px", options=_numbered("head", n_heads))
        leads = list(self.maps[0].record.leads)
        self.lead = labelled(w.Dropdown, "Lead", "280px", options=leads,
                             value=lead if lead in leads else leads[0])  # fmt: skip
        ways = [("attention alone", False)]
        if all(one.has_gradient for one in self.maps):
            ways.append(("attention × this lead's gradient", True))
        self.weigh = labelled(w.Dropdown, "Weigh by", options=ways)
        scales = [("the largest of all words", False), ("each word's largest", True)]
        self.scale = labelled(w.Dropdown, "Colour up to", options=scales)
        self.follow(self.which, self.layer, self.head, self.lead, self.weigh, self.scale)
        self.lay_out(
            self.which, beside(self.layer, self.head, self.lead),
            beside(self.weigh, self.scale), self.message, self.said, self.image,
        )  # fmt: skip

    def show(self) -> None:
        page = self.pages[self.which.value]
        page.show(_chosen(self.layer), _chosen(self.head), self.lead.value, self.weigh.value,
                  self.scale.value)  # fmt: skip
        self.draw(page.png(), page.said)


def _numbered(what: str, n: int) -> list[tuple[str, int]]:
    """`mean of 4`, then 1 to n, as people count. The mean is -1: None is a menu's "no choice"."""
    mean = f"mean of {n} {what}s" if n > 1 else f"the only {what}"
    return [(mean, -1), *((f"{i + 1} of {n}", i) for i in range(n))]


def _chosen(menu) -> int | None:
    """What `page.show` takes: the number of a layer or head, None for their mean."""
    return None if menu.value < 0 else menu.value
