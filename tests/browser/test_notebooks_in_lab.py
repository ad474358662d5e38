"""Every notebook in JupyterLab, in a real browser: it runs to its end, shows all it has, and its
widgets follow the keyboard, in a wide window and a narrow one. Screenshots go to runs/browser/.

One kernel after another, in the notebooks' order: each finds what those before it left.
"""

from __future__ import annotations

import pytest
from turns import TURNS

from ecgkit.config import CONFIGS, RUNNABLE

pytestmark = pytest.mark.slow
RUN_S = 600  # what the slowest notebook may take in `tiny`, on a busy machine
FEWEST_FIGURES = 3
NARROW = {"width": 760, "height": 900}  # of which the file list takes a third


@pytest.fixture
def opened(lab, page):
    """Opens a notebook by name; its kernel ends with the test."""
    from lab_page import open_notebook

    yield lambda name: open_notebook(page, lab.address(f"{name}.ipynb"))
    lab.end_kernels()


@pytest.mark.parametrize("name", RUNNABLE)
def test_notebook_runs_and_its_widgets_follow_the_keyboard(name, opened, page, pictures):
    notebook = opened(name)
    notebook.run_all(RUN_S)
    notebook.screenshot(pictures / f"{name}.png")
    assert not notebook.problems()
    shown = notebook.pictures()
    assert len(shown) == len(set(shown)), "a picture is shown twice"
    assert len(shown) >= FEWEST_FIGURES or name not in CONFIGS

    widgets, turns = notebook.widgets(), TURNS.get(name, {})
    assert list(widgets) == list(turns)
    for which, widget in widgets.items():
        assert not widget.unreached() and not widget.cut_off()
        for control, how in turns[which]:
            widget.turn(control, **how)
        widget.screenshot(pictures / f"{name}_{which}.png")
    page.set_viewport_size(NARROW)
    for which, widget in widgets.items():
        assert not widget.cut_off()
        widget.screenshot(pictures / f"{name}_{which}_narrow.png")
    assert not notebook.problems()
