"""Zero-shot scorer: pick a test ECG, type a sentence of your own, see how well each finding and the
sentence fit it.

In a batch run it is a static figure of the first test ECG.

Usage, as a cell's last expression:

    keep(run, score_ecgs(cohort, findings, study.read_sentence), "scores", "One ECG's scores")
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable

import numpy as np

from ecgkit import runtime
from ecgkit.reports import esi_eval_figures, style
from ecgkit.reports.frozen import Frozen
from ecgkit.reports.live_page import page_png
from ecgkit.reports.widget_base import Bench, beside, labelled, picture
from ecgkit.reports.widgets import steps

MOST = 12  # bars
_WIDTH, _NAMES, _ROW = 220.0, 82.0, 5.5  # mm


def score_ecgs(cohort, findings, read_sentence: Callable[[str], tuple[np.ndarray, str]]):
    """A menu of test ECGs and a line for a sentence, above bars of their scores and the page.

    `findings`: `tasks.esi_eval_study.Findings`; `read_sentence`: words -> scores (m,) of its ECGs
    in standard deviations, and a remark or "". In a batch run the figure of the first ECG.
    """
    if runtime.is_batch():
        title = style.mark_simulated(findings.names(cohort)[0], cohort.simulated)
        return esi_eval_figures.plot_scores(
            cohort.record(int(findings.rows[0])), findings.standard_scores[0],
            findings.described(cohort), true=findings.true(0), title=title,
        )  # fmt: skip
    return ZeroShotScorer(cohort, findings, read_sentence).view


class ZeroShotScorer(Bench):
    """The widgets of `score_ecgs`: `menu`, `back`, `on`, `sentence`; `image` are the bars, `page`
    is the ECG.
    """

    def __init__(self, cohort, findings, read_sentence):
        import ipywidgets as w

        super().__init__("zero-shot")
        self.cohort, self.findings, self._read = cohort, findings, read_sentence
        self.scores, self.words = findings.standard_scores, findings.described(cohort)
        self.own, self.remark, self.page = None, "", picture()
        self._bars = ScoreBars(min(MOST, len(self.words)) + 1, float(np.abs(self.scores).max()))
        options = [(f"{i + 1}. {name}", i) for i, name in enumerate(findings.names(cohort))]
        self.menu = labelled(w.Dropdown, "Record", "560px", options=options)
        self.back, self.on = steps(self, self.menu)
        self.sentence = labelled(w.Text, "Your sentence", "560px",
                                 placeholder="e.g. The rhythm is irregular without P waves.")
        self.follow(self.menu)
        self.follow(self.sentence, do=self._ask)
        top = beside(self.menu, self.back, self.on)
        self.lay_out(top, self.sentence, self.message, self.said, self.image, self.page)

    def show(self) -> None:
        i = self.menu.value
        shown = esi_eval_figures.ranked(self.scores[i], self.findings.true(i), MOST)
        lines = [(self.words[k], self.scores[i, k], stated) for k, stated in shown]
        if self.own is not None:
            mine = textwrap.shorten(f"“{self.sentence.value.strip()}”", 44, placeholder=" …”")
            lines = [(mine, self.own[i], None), *lines]
        title = style.mark_simulated(self.findings.names(self.cohort)[i], self.cohort.simulated)
        self.draw(self._bars.png(lines, title), self._sentence_of(i, title, lines))
        record = self.cohort.record(int(self.findings.rows[i]))
        self.page.value = page_png(record, title)[0]

    def _ask(self, words: str) -> None:
        """Scores every test ECG by the sentence; no words take the bar away."""
        self.own, self.remark = self._read(words) if words.strip() else (None, "")
        self.show()

    def _sentence_of(self, i: int, title: str, lines) -> str:
        """The bars in words; of a sentence of the user's where this ECG stands among all."""
        best = [line for line in lines if line[2] is not None]
        name, value, stated = max(best, key=lambda line: line[1])
        words = f"{title}. Fits best: {name} ({value:+.1f} sd, {'' if stated else 'not '}stated)."
        if self.own is not None:
            place = int((self.own > self.own[i]).sum()) + 1
            words += (f" Your sentence: {self.own[i]:+.1f} sd, place {place} of {len(self.own)} "
                      f"test ECGs. {self.remark}")  # fmt: skip
        return words.strip()


class ScoreBars:
    """A bar chart that is updated in place: stated findings hatched and said, a sentence dark."""

    @style.in_style
    def __init__(self, n: int, reach: float):
        height = n * _ROW + 22
        figure, axes = style.bare_figure(_WIDTH, height)
        self.axes = figure.add_axes((_NAMES / _WIDTH, 13 / height, 0.6, n * _ROW / height))
        self.axes.set(xlim=(-reach, 1.4 * reach), ylim=(n - 0.4, -0.6), yticks=[])
        self.axes.set_xlabel("standard deviations above the mean test ECG", fontsize=8)
        self.axes.tick_params(labelsize=8)
        self.axes.axvline(0, color=style.INK, linewidth=0.8)
        self.axes.grid(axis="x")
        self.bars = self.axes.barh(range(n), [0.0] * n, 0.72, edgecolor=style.INK, linewidth=0.6)
        small = {"fontsize": 8, "va": "center"}
        names = self.axes.get_yaxis_transform()
        self.names = [self.axes.text(-0.02, y, "", ha="right", transform=names, **small)
                      for y in range(n)]  # fmt: skip
        self.values = [self.axes.text(0, y, "", **small) for y in range(n)]
        self.title = axes.text(3, height - 3, "", va="top", fontsize=11, weight="bold")
        moving = [*self.bars, *self.names, *self.values, self.title]
        self._frozen = Frozen(figure, moving)

    def png(self, lines: list[tuple[str, float, bool | None]], title: str) -> bytes:
        """`lines`: (name, score, stated?), None = a sentence of the user's; from the top."""
        self.title.set_text(title)
        blank = [("", 0.0, False)] * (len(self.names) - len(lines))
        rows = zip(self.bars, self.names, self.values, [*lines, *blank], strict=True)
        for bar, name, value, (words, score, stated) in rows:
            look = esi_eval_figures.MARKS[stated]
            bar.set(width=score, facecolor=look.colour, hatch=look.hatch, visible=bool(words))
            name.set(text=words, weight="bold" if stated is None else "normal")
            value.set_text(f" {score:+.1f}{look.words}" if words else "")
            value.set_x(max(score, 0.0))
        return self._frozen.png()
