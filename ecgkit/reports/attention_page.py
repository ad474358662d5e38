"""The strip of one lead over words by time, redrawn quickly: another layer, head or lead moves the
trace, the colours and the words, and nothing else.

A ring marks each word's largest weight and its share is written before it, so that the page is read
without colour as well.

Usage:

    page = AttentionPage(maps)                         # tasks.attention_maps.AttentionMaps
    page.show(layer=0, head=None, lead="V1", weighed=False, by_row=False); page.png()
"""

from __future__ import annotations

import textwrap

import numpy as np

from ecgkit.reports import attention_figures, paper, style
from ecgkit.reports.frozen import Frozen
from ecgkit.tasks.attention_maps import AttentionMaps

SPEED = 25.0  # mm/s
_HEAD, _FOOT, _EDGE, _ROW, _BAR = 16.5, 19.0, 6.0, 4.6, 20.0  # mm


class AttentionPage:
    """The figure of one `AttentionMaps`; `show` moves it, `png` draws it, `said` is it in words."""

    @style.in_style
    def __init__(self, maps: AttentionMaps):
        self.maps, self.said = maps, ""
        record, words = maps.record, maps.seen.words
        label = 3 + 1.75 * max(map(len, words))  # mm for the longest word
        self._span = attention_figures.millivolts([record], record.leads)
        strip = (self._span[1] - self._span[0]) * attention_figures.GAIN
        field = _ROW * len(words)
        wide = (record.duration_s + attention_figures.PULSE_S) * SPEED
        size = (_EDGE + label + wide + _EDGE + _BAR, _FOOT + field + 3 + strip + _HEAD)
        self.figure, page = style.bare_figure(*size)
        box = (_EDGE + label, _FOOT + field + 3, wide, strip)
        ecg = attention_figures.place(self.figure, size, box)
        attention_figures.draw_squares(ecg, record.duration_s, self._span)
        (self.trace,) = ecg.plot([], [], color=style.TRACE, lw=0.9, zorder=3)
        heat = attention_figures.place(self.figure, size, (box[0], _FOOT, wide, field), sharex=ecg)
        seen = maps.seen
        self.mesh = attention_figures.draw_words(heat, seen, record.duration_s, 1.0, "max")
        self.shares = list(heat.texts)
        self.peaks = heat.plot([], [], "o", mfc="none", mec="white", mew=1.6, ms=7)
        self.peaks += heat.plot([], [], "o", mfc="none", mec="black", mew=0.7, ms=8.5)
        self._draw_bar(size, min(field, 50.0))
        title = style.mark_simulated(maps.title, record.meta.get("simulated"))
        title = textwrap.shorten(title, int(size[0] / 2.6), placeholder=" …")
        small = {"fontsize": 8, "color": style.MUTED, "va": "top"}
        page.text(_EDGE, size[1] - 2.5, title, va="top", fontsize=11, weight="bold")
        self.about = page.text(box[0], size[1] - 11, "", **small)
        self.caption = page.text(_EDGE, 9.5, "", **small)
        moving = [self.mesh, *self.peaks, self.trace, *self.shares, self.about, self.caption]
        self._letters = int(size[0] / 1.55)
        self._frozen = Frozen(self.figure, moving)

    def _draw_bar(self, size, tall: float) -> None:
        """A scale in shares of the largest weight, which the caption names."""
        box = (size[0] - _BAR, _FOOT, 4, tall)
        bar = attention_figures.place(self.figure, size, box)
        self.figure.colorbar(self.mesh, cax=bar).set_label("share of the largest", fontsize=8)
        bar.tick_params(labelsize=7)

    def show(self, layer: int | None, head: int | None, lead: str, weighed: bool = False,
             by_row: bool = False) -> None:  # fmt: skip
        """Moves the page; None = mean over layers or heads. `weighed`: by the lead's gradient;
        `by_row`: each word's colours up to its own largest weight. Raises as `AttentionMaps.at`.
        """
        record, duration = self.maps.record, self.maps.record.duration_s
        plain = self.maps.at(layer, head)
        seen = self.maps.at(layer, head, lead) if weighed else plain
        self.trace.set_data(np.arange(record.n_samples) / record.fs,
                            record.signal[record.leads.index(lead)])  # fmt: skip
        rows, top = seen.rows, np.maximum(seen.rows.max(1, keepdims=True), 1e-12)
        self.mesh.set_array(rows / (top if by_row else top.max()))
        seconds = seen.centres[rows.argmax(1)] * duration
        for ring in self.peaks:
            ring.set_data(seconds, np.arange(len(rows)))
        for text, share in zip(self.shares, plain.rows.sum(1), strict=True):
            text.set_text(f"{share:.0%}")
        self.about.set_text(f"lead {lead} · {paper.caption(record, attention_figures.GAIN, SPEED)}")
        weight = f" × |gradient × signal| of {lead}" if weighed else ""
        self.caption.set_text(textwrap.fill(self._caption(seen, weight, by_row), self._letters))
        self.said = self._sentence(seen, rows, seconds, lead)

    def png(self) -> bytes:
        return self._frozen.png()

    def _caption(self, seen, weight: str, by_row: bool) -> str:
        sees, scale = seen.reach * self.maps.record.duration_s, "each row" if by_row else "all"
        return (f"attention{weight} {self.maps.what}, each of which sees {sees:.2g} s; "
                f"{seen.where}; {scale} divided by the largest weight; ring: a word's largest; % = "
                "share of the word's softmax that went to this ECG")  # fmt: skip

    def _sentence(self, seen, rows: np.ndarray, seconds: np.ndarray, lead: str) -> str:
        """The three words with the largest weights, and when."""
        peak = rows.max(1)
        best = [f"“{seen.words[i]}” at {seconds[i]:.1f} s ({peak[i]:.1%})"
                for i in np.argsort(-peak, kind="stable")[:3]]  # fmt: skip
        where = seen.where[0].upper() + seen.where[1:]
        title = self.maps.title if self.maps.title.endswith("?") else f"{self.maps.title}."
        return f"{title} {where}, lead {lead}. Largest: {'; '.join(best)}."
