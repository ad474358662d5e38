"""Every notebook in JupyterLab, in a real browser: it runs to its end, shows all it has, and its
widgets follow the keyboard. Screenshots go to runs/browser/.

One kernel after another, in the notebooks' order: each finds what those before it left.
"""

from __future__ import annotations

import pytest

from ecgkit.config import RUNNABLE

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("whole kit")]
RUN_S = 300  # what the slowest notebook may take in `tiny`, on a busy machine


@pytest.fixture
def opened(lab, page):
    """Opens a notebook by name; its kernel ends with the test."""
    from lab_page import open_notebook

    yield lambda name: open_notebook(page, lab.address(f"{name}.ipynb"))
    lab.end_kernels()


@pytest.mark.parametrize("name", RUNNABLE)
def test_notebook_runs_in_the_browser(name, opened, pictures):
    notebook = opened(name)
    notebook.run_all(RUN_S)
    notebook.screenshot(pictures / f"{name}.png")
    assert not notebook.problems()
    shown = notebook.pictures()
    assert len(shown) == len(set(shown)), "a picture is shown twice"
