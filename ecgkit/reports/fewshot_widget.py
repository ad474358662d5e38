"""Ask this ECG: pick a record or name a file of your own, type a question, see answer and shares.

Everything is reached with the keyboard, and every bar carries its number. In a
batch run the widget is a static figure of the first question.

Usage, as a cell's last expression:

    ask_widget(load_fewshot(run.folder / "ask"), cohort, rows, examples=["Is ... present?"])
    plot_answer(record, question, answerer.ask(record, question))
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape

import numpy as np
from matplotlib.figure import Figure

from ecgkit import runtime
from ecgkit.reports import paper, style
from ecgkit.reports.live_page import page_png
from ecgkit.reports.widget_base import Bench, beside, labelled
from ecgkit.types import NOT_FOR_DIAGNOSIS, DataError, ECGRecord

MOST_CANDIDATES, MOST_RECORDS, MOST_EXAMPLES = 8, 200, 200
_SIDE_MM = 96.0
_DPI = 72


# --- static ---------------------------------------------------------------------------------------


@style.in_style
def plot_answer(
    record: ECGRecord, question: str, reply, title: str = "", simulated: bool = False
) -> Figure:
    """The ECG on paper; beside it the question, the answer and the candidates' shares as bars, the
    likeliest on top, and what the answer rests on. `simulated`: so were the data it learnt from.
    """
    figure, axes, page = paper.draw_page(record, title, right=_SIDE_MM)
    left, width = page.width + 2, page.width + _SIDE_MM
    y = page.height - 4
    for text, look in (
        (question, {"fontsize": 10, "weight": "bold"}),
        (f"Answer: {reply.answer or '(no word)'}", {"fontsize": 12, "weight": "bold",
                                                    "color": style.COLOURS[0]}),
        (rests_on(reply, simulated), {"fontsize": 8}),
    ):  # fmt: skip
        lines = textwrap.wrap(text, 46 if look["fontsize"] > 9 else 62)[:5]
        axes.text(left, y, "\n".join(lines), va="top", **look)
        y -= len(lines) * look["fontsize"] * 0.45 + 4
    if reply.candidates:
        _draw_shares(figure, page, reply.candidates[:MOST_CANDIDATES], y, width)
    axes.text(left, paper.FOOT - 3, NOT_FOR_DIAGNOSIS, va="top", fontsize=8, color=style.MUTED)
    axes.set_xlim(0, width)
    return figure


def _draw_shares(figure: Figure, page, candidates, top: float, width: float) -> None:
    """Bars in the free column, 7 mm each, below `top` mm."""
    names = [a if len(a) <= 34 else f"{a[:32]} ..." for a, _ in candidates]
    label_mm = 3 + 1.45 * max(map(len, names))
    tall = min(7.0 * len(candidates), max(top - paper.FOOT - 10, 8))
    box = (page.width + 2 + label_mm, top - tall, _SIDE_MM - label_mm - 16, tall)
    ax = figure.add_axes((box[0] / width, box[1] / page.height, box[2] / width,
                          box[3] / page.height))  # fmt: skip
    shares = [share for _, share in candidates]
    ax.barh(range(len(names)), shares, 0.66, color=style.COLOURS[0], gid="shares")
    for y, share in enumerate(shares):
        ax.text(share + 0.02, y, f"{share:.1%}", va="center", fontsize=8)
    ax.set(xlim=(0, 1), ylim=(len(names) - 0.4, -0.6), xticks=[0, 0.5, 1])
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.set_xticklabels(["0", "50 %", "100 %"], fontsize=7)
    ax.tick_params(axis="y", length=0)


def rests_on(reply, simulated: bool = False) -> str:
    """Examples it adapted to, the note, and where the data are from, in a few sentences."""
    if reply.adapted_on:
        first = f"Adapted on {reply.adapted_on} examples about {reply.about}."
    else:
        first = "Not adapted."
    last = "Trained on simulated data." if simulated else ""
    return " ".join(part for part in (first, reply.note, last) if part)


def answer_html(reply, simulated: bool = False) -> str:
    """Answer, shares and what they rest on as escaped HTML; each bar says its number."""
    rows = "".join(
        f"<tr><td style='padding-right: 8px'>{escape(answer)}</td>"
        f"<td style='width: 220px'><div style='background: {style.COLOURS[0]}; height: 11px; "
        f"width: {100 * share:.1f}%'></div></td><td style='padding-left: 8px'>{share:.1%}</td></tr>"
        for answer, share in reply.candidates[:MOST_CANDIDATES]
    )
    more = len(reply.candidates) - MOST_CANDIDATES
    rest = f"<p>and {more} less likely answers</p>" if more > 0 else ""
    words = escape(rests_on(reply, simulated))
    said = escape(reply.answer or "(no word)")
    return (f"<p style='font-size: 1.3em'>Answer: <b>{said}</b></p><table>{rows}</table>{rest}"
            f"<p>{words}</p>")  # fmt: skip


# --- live -----------------------------------------------------------------------------------------


def ask_widget(
    answerer, cohort, rows: Sequence[int] | None = None, examples: Sequence[str] | None = None
):
    """The widget; in a batch run `plot_answer` of the first record and example.

    rows: records to choose from (default the test fold, the first 200). examples: questions to
    choose from (default one wording of each kind the answerer knows). Raises DataError without a
    record.
    """
    rows = cohort.rows("test") if rows is None else rows
    rows = [int(row) for row in rows[:MOST_RECORDS]]
    if not rows:
        raise DataError("There is no record to ask about; give at least one row.")
    known = [kind.wordings[0] for kind in answerer.kinds if kind.rows]
    examples = list(examples or known or ["Is this ECG normal?"])[:MOST_EXAMPLES]
    if runtime.is_batch():
        record = cohort.record(rows[0])
        reply = answerer.ask(record, examples[0])
        return plot_answer(record, examples[0], reply, simulated=answerer.simulated)
    return AskWidget(answerer, cohort, rows, examples).view


class AskWidget(Bench):
    """The widgets of `ask_widget`: `menu`, `question`, `examples`, `ask_button`, and of a file of
    one's own `file`, `fs`, `leads`, `units`; `reply` is the answer.
    """

    def __init__(self, answerer, cohort, rows: Sequence[int], examples: Sequence[str]):
        import ipywidgets as w

        super().__init__("ask")
        self.answerer, self.cohort, self.record, self.reply = answerer, cohort, None, w.HTML()
        ids = cohort.table["ecg_id"].iloc[list(rows)]
        options = [(f"ECG {ecg_id}", row) for ecg_id, row in zip(ids, rows, strict=True)]
        self.menu = labelled(w.Dropdown, "Record", "560px", options=options)
        self.question = labelled(w.Text, "Question", "560px", value=examples[0])
        choices = [("choose, or type one above", ""), *((q, q) for q in examples)]
        self.examples = labelled(w.Dropdown, "Examples", "560px", options=choices)
        self.ask_button = w.Button(description="Ask", tooltip="Ask this question (or press Enter)")
        self.file = labelled(w.Text, "Your own", "560px",
                             placeholder="path of a WFDB record, CSV or NPY, then Enter")
        self.fs = labelled(w.Text, "fs (Hz)", "240px", placeholder="e.g. 500")
        self.leads = labelled(w.Text, "Leads", "300px", placeholder="I,II,V1")
        self.units = labelled(w.Dropdown, "Units", "240px", options=["mV", "uV", "V"])
        self.follow(self.menu, do=self._show_cohort)
        self.follow(self.examples, do=self._example)
        self.follow(self.question, do=lambda _: self.ask())
        self.follow(self.file, self.fs, self.leads, self.units, do=lambda _: self._show_file())
        self.press(self.ask_button, self.ask)
        own = w.VBox([self.file, beside(self.fs, self.leads, self.units)])
        top = w.VBox([self.menu, self.question, self.examples, self.ask_button])
        self.lay_out(top, own, self.message, self.reply, self.said, self.image,
                     notice="Trained on simulated data." if answerer.simulated else "")

    def show(self) -> None:
        self._show_cohort(self.menu.value)

    def ask(self) -> None:
        """Asks the present question about the record shown."""
        self.reply.value = ""
        reply = self.answerer.ask(self.record, self.question.value)
        self.reply.value = answer_html(reply, self.answerer.simulated)

    def show_record(self, record: ECGRecord) -> None:
        """Draws a record and asks about it."""
        self.record = record
        image, caption = record_png(record)
        self.draw(image, f"ECG {record.ecg_id} · {caption}")
        self.ask()

    def _show_cohort(self, row: int) -> None:
        self.show_record(self.cohort.record(row))

    def _example(self, question: str) -> None:
        if question and question == self.question.value:
            self.ask()
        elif question:
            self.question.value = question  # which asks

    def _show_file(self) -> None:
        from ecgkit.data.own_ecg import is_plain, read_own_ecg

        path = self.file.value.strip()
        if not path:
            return
        try:
            fs = float(self.fs.value) if self.fs.value.strip() else None
        except ValueError:
            raise DataError(f"fs is {self.fs.value!r}; give a number of Hz.") from None
        units = self.units.value if is_plain(path) else None
        self.show_record(read_own_ecg(path, fs, self.leads.value.strip() or None, units))


def record_png(record: ECGRecord) -> tuple[bytes, str]:
    """The record on paper as the bytes of a PNG, fast enough to follow a click, and its caption;
    no picture where it is too short for a page.
    """
    record = _first_seconds(record)
    try:
        return page_png(record, f"ECG {record.ecg_id}", dpi=_DPI)
    except DataError as error:
        return b"", str(error)


def _first_seconds(record: ECGRecord, seconds: float = 10, fs: float = 125) -> ECGRecord:
    """The first 10 s, thinned to about 125 Hz keeping each step's largest deflection."""
    signal = record.signal[:, : round(seconds * record.fs)]
    step = int(record.fs // fs)
    if step < 2:
        return ECGRecord(signal, record.fs, record.leads, record.ecg_id, record.meta)
    n = signal.shape[1] // step
    blocks = signal[:, : n * step].reshape(len(signal), n, step)
    centre = np.nan_to_num(np.nanmedian(signal, axis=1))[:, None, None]
    peak = np.abs(np.nan_to_num(blocks - centre)).argmax(-1)[..., None]
    thin = np.take_along_axis(blocks, peak, -1)[..., 0]
    meta = record.meta | {"filter": record.meta.get("filter") or f"thinned from {record.fs:g} Hz"}
    return ECGRecord(thin, record.fs / step, record.leads, record.ecg_id, meta)
