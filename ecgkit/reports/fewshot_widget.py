"""Ask this ECG: pick a record or name a file of your own, type a question, see answer and shares.

Everything is reached with the keyboard (Tab, arrows, Enter), and every bar carries its number. In a
batch run the widget is a static figure of the first question.

Usage, as a cell's last expression:
    ask_widget(load_fewshot(run.folder / "ask"), cohort, rows, examples=["Is ... present?"])
    plot_answer(record, question, answerer.ask(record, question))
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from html import escape

import numpy as np
from matplotlib.figure import Figure

from ecgkit import runtime
from ecgkit.reports import paper, style
from ecgkit.types import NOT_FOR_DIAGNOSIS, DataError, ECGRecord, KitError

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


class AskWidget:
    """The widgets of `ask_widget` (`view`) and what they show: `image`, `reply`, `message`."""

    def __init__(self, answerer, cohort, rows: Sequence[int], examples: Sequence[str]):
        import ipywidgets as w

        self.answerer, self.cohort = answerer, cohort
        wide = {"layout": {"width": "560px"}, "style": {"description_width": "90px"}}
        ids = cohort.table["ecg_id"].iloc[list(rows)]
        options = [(f"ECG {ecg_id}", row) for ecg_id, row in zip(ids, rows, strict=True)]
        self.menu = w.Dropdown(options=options, description="Record", **wide)
        self.question = w.Text(
            value=examples[0], description="Question", continuous_update=False, **wide
        )
        choices = [("choose, or type one above", ""), *((q, q) for q in examples)]
        self.examples = w.Dropdown(options=choices, description="Examples", **wide)
        self.ask_button = w.Button(description="Ask", tooltip="Ask this question (or press Enter)")
        self.file = w.Text(placeholder="path of a WFDB record, CSV or NPY, then Enter",
                           description="Your own", continuous_update=False, **wide)  # fmt: skip
        small = {"layout": {"width": "180px"}, "style": {"description_width": "60px"}}
        self.fs = w.Text(placeholder="e.g. 500", description="fs (Hz)", **small)
        self.leads = w.Text(placeholder="I,II,V1", description="Leads", **small)
        self.units = w.Dropdown(options=["mV", "uV", "V"], description="Units", **small)
        self.message, self.reply, self.image = w.HTML(), w.HTML(), w.Image(format="png")
        self._listen()
        notice = "Trained on simulated data. " if answerer.simulated else ""
        notice = w.HTML(f"<em>{escape(notice + NOT_FOR_DIAGNOSIS)}</em>")
        own = w.VBox([self.file, w.HBox([self.fs, self.leads, self.units])])
        top = w.VBox([self.menu, self.question, self.examples, self.ask_button])
        self.view = w.VBox([top, own, self.message, self.reply, self.image, notice])
        self._show_cohort(self.menu.value)

    def _listen(self) -> None:
        self.menu.observe(lambda change: self._show_cohort(change["new"]), names="value")
        self.examples.observe(lambda change: self._example(change["new"]), names="value")
        self.question.observe(lambda _: self.ask(), names="value")
        self.file.observe(lambda change: self._show_file(change["new"]), names="value")
        self.ask_button.on_click(lambda _: self.ask())

    def ask(self) -> None:
        """Asks the present question about the record shown; a problem is said in its place."""
        try:
            reply = self.answerer.ask(self.record, self.question.value)
        except KitError as error:
            self.message.value, self.reply.value = _said(error), ""
            return
        self.message.value = ""
        self.reply.value = answer_html(reply, self.answerer.simulated)

    def show(self, record: ECGRecord) -> None:
        """Draws a record and asks about it."""
        self.record, self.image.value = record, record_png(record)
        self.ask()

    def _show_cohort(self, row: int) -> None:
        self.show(self.cohort.record(row))

    def _example(self, question: str) -> None:
        if question:
            self.question.value = question  # which asks

    def _show_file(self, path: str) -> None:
        from ecgkit.data.own_ecg import read_own_ecg

        if not path.strip():
            return
        plain = path.strip().lower().endswith((".csv", ".txt", ".tsv", ".npy"))
        try:
            fs = float(self.fs.value) if self.fs.value.strip() else None
            leads, units = self.leads.value.strip() or None, self.units.value if plain else None
            record = read_own_ecg(path.strip(), fs, leads, units)
        except ValueError:
            self.message.value = _said(f"fs is {self.fs.value!r}; give a number of Hz.")
        except KitError as error:
            self.message.value = _said(error)
        else:
            self.show(record)


def record_png(record: ECGRecord) -> bytes:
    """The record on paper as the bytes of a PNG, fast enough to follow a click; empty where it is
    too short for a page.
    """
    try:
        figure = paper.draw_page(_first_seconds(record), title=f"ECG {record.ecg_id}")[0]
    except DataError:
        return b""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, pil_kwargs={"compress_level": 1})
    return buffer.getvalue()


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


def _said(error) -> str:
    return f"<p role='alert'><b>{escape(str(error))}</b></p>"
