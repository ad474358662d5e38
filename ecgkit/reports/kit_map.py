"""The map of the kit: which notebook makes what, and which ones read it.

Usage:

    plot_map()              # a Figure
    notebook_table()        # a DataFrame: notebook, what it does, seconds measured and allowed
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from ecgkit import run_times
from ecgkit.config import CONFIGS
from ecgkit.reports import style
from ecgkit.runs import BUDGET_S

DOES = {
    "00_start_here": "Checks the machine, draws the first ECG, reads your own",
    "01_data_mapping": "Stores the cohort once and joins ECG-QA's questions to it",
    "02_preprocessing": "Filters, quality, rhythm: what is computed from one ECG",
    "03_baselines": "Fusion transformer beside text-only; an upper-bound classifier",
    "04_esi_pretraining": "Contrastive and captioning pretraining on ECG-text pairs",
    "05_esi_evaluation": "Zero-shot diagnosis and a linear probe of that encoder",
    "06_few_shot_qa": "A mapper into a frozen language model, adapted by MAML",
    "07_risk_finetuning": "Report alignment, dual attention, heart-failure risk",
    "08_replication_report": "Published numbers beside ours, from the run files",
}
# Centre of each box on a 100 x 49 canvas, its size, and its lines of text.
BOXES = {
    "start": (13, 43, 22, 8, "Start here\nnotebook 00"),
    "cohort": (13, 25, 22, 12, "Cohort and store\nsimulated, or PTB-XL\nnotebook 01"),
    "questions": (13, 8, 22, 8, "ECG-QA questions\nnotebook 01"),
    "signal": (40, 44, 20, 8, "Preprocessing\nnotebook 02"),
    "risk": (40, 34, 20, 8, "Heart-failure risk\nnotebook 07"),
    "esi": (40, 21, 20, 8, "ESI pretraining\nnotebook 04"),
    "baselines": (40, 4.5, 20, 8, "QA baselines\nnotebook 03"),
    "eval": (65, 25.5, 20, 8, "ESI evaluation\nnotebook 05"),
    "few": (65, 16, 20, 8, "Few-shot QA\nnotebook 06"),
    "report": (90, 21, 17, 18, "Replication\nreport\nnotebook 08"),
}
# The third entry is where an arrow arrives: left side, top or bottom.
ARROWS = (
    ("start", "cohort", "top"), ("cohort", "questions", "top"), ("cohort", "signal", "left"),
    ("cohort", "risk", "left"), ("cohort", "esi", "left"), ("questions", "baselines", "left"),
    ("questions", "few", "left"), ("esi", "eval", "left"), ("esi", "few", "left"),
    ("eval", "report", "left"), ("few", "report", "left"), ("risk", "report", "top"),
    ("baselines", "report", "bottom"),
)
TINTS = {"cohort": "#fbe3e3", "questions": "#fbe3e3", "report": "#e3f1ea", "start": "#f1f1f1"}


def notebook_table() -> pd.DataFrame:
    """One row per notebook: name, what it does, seconds of its demo, measured ("–" before a demo
    has been) and allowed on two cores.
    """
    took = {name: f"{one.seconds:.0f}" for name, one in run_times.measured().items()}
    names = [name for name in CONFIGS if name in DOES]
    rows = [(name, DOES[name], took.get(name, "–"), BUDGET_S[name]) for name in names]
    return pd.DataFrame(
        rows, columns=["Notebook", "What it does", "Measured, s", "Seconds allowed"]
    )


@style.in_style
def plot_map() -> Figure:
    """Boxes for what each notebook makes, arrows for who reads it."""
    figure, axes = style.new_figure(size=(10.5, 5.2))
    axes.set(xlim=(0, 100), ylim=(0, 49), aspect="equal")
    axes.set_axis_off()
    for start, end, way in ARROWS:
        _arrow(axes, BOXES[start], BOXES[end], way)
    for name, box in BOXES.items():
        _box(axes, box, TINTS.get(name, "#e6eff6"))
    return figure


def _box(axes, box, tint: str) -> None:
    x, y, width, height, text = box
    head, _, rest = text.rpartition("\n")
    axes.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, facecolor=tint,
                                  edgecolor=style.MUTED, linewidth=0.8, zorder=2,
                                  boxstyle="round,pad=0,rounding_size=1.2"))
    axes.text(x, y + 1.1, head, ha="center", va="center", fontsize=9.5, zorder=3)
    axes.text(x, y - height / 2 + 1.8, rest, ha="center", va="center", fontsize=8,
              color=style.MUTED, zorder=3)


def _arrow(axes, start, end, side: str) -> None:
    """From the right side (or, straight down, the lower side) of one box to a side of the other."""
    x0, y0, w0, h0, _ = start
    x1, y1, w1, h1, _ = end
    tail = (x0, y0 - h0 / 2) if x0 == x1 else (x0 + w0 / 2, y0)
    head = {
        "left": (x1 - w1 / 2, y1 + (y0 - y1) * 0.2),
        "top": (x1, y1 + h1 / 2),
        "bottom": (x1, y1 - h1 / 2),
    }[side]
    look = {"arrowstyle": "-|>", "color": style.MUTED, "linewidth": 1, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", head, tail, arrowprops=look, zorder=1)
