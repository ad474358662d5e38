"""A small browser of records for a live notebook; in a batch run it is the static figure instead.

Usage, as a cell's last expression:
    browse_records(records, labels)          # a list of ECGRecord
    browse_cohort(cohort, cohort.rows("test"))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from ecgkit import runtime
from ecgkit.reports import paper
from ecgkit.types import NOT_FOR_DIAGNOSIS, DataError, ECGRecord


def browse_records(records: Sequence[ECGRecord], labels: Sequence[str] | None = None):
    """A menu over `records` above the ECG page. Raises DataError for an empty list."""
    names = list(labels) if labels is not None else [f"ECG {r.ecg_id}" for r in records]
    return browse(names, lambda i: paper.plot_ecg(records[i], title=names[i]))


def browse_cohort(cohort, rows: Sequence[int], most: int = 200):
    """The same over rows of a cohort, read one at a time; the menu names the ECG and its codes."""
    rows = [int(row) for row in rows[:most]]
    table = cohort.table.iloc[rows]
    names = [f"ECG {i}: {', '.join(codes)}" for i, codes in zip(table.ecg_id, table.scp_codes)]

    def draw(i: int):
        return paper.plot_ecg(cohort.record(rows[i]), title=f"ECG {table.ecg_id.iloc[i]}")

    return browse(names, draw)


def browse(names: Sequence[str], draw: Callable[[int], object]):
    """A widget that shows `draw(i)` for the chosen name; the first figure alone in a batch run."""
    if not names:
        raise DataError("There is no record to browse; give at least one.")
    if runtime.is_batch():
        return draw(0)
    return _live(names, draw)


def _live(names: Sequence[str], draw: Callable[[int], object]):
    import ipywidgets
    from IPython.display import display

    options = [(f"{i + 1}. {name}", i) for i, name in enumerate(names)]
    menu = ipywidgets.Dropdown(options=options, description="Record")
    out = ipywidgets.Output()
    notice = ipywidgets.HTML(f"<em>{escape(NOT_FOR_DIAGNOSIS)}</em>")

    def show(_=None):
        with out:
            out.clear_output(wait=True)
            display(draw(menu.value))

    menu.observe(show, names="value")
    show()
    return ipywidgets.VBox([menu, out, notice])
