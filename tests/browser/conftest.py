"""A browser, a JupyterLab and the notebooks in it, each started once for the tests of this folder.

Where there is no browser these tests skip and say so; with ECGKIT_NEED_BROWSER=1, as `.ci/run`
sets it, they fail instead.
"""

import os
from pathlib import Path

import chromium
import pytest

from ecgkit.config import RUNNABLE

ROOT = Path(__file__).parents[2]
ARGUMENTS = (
    "--no-sandbox",  # a container's root has none
    "--disable-background-networking",
    "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # nothing leaves this machine
)


@pytest.fixture(scope="session")
def pictures() -> Path:
    folder = ROOT / "runs" / "browser"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def browser():
    path, reason = chromium.find()
    if not path:
        stop = pytest.fail if os.environ.get("ECGKIT_NEED_BROWSER") else pytest.skip
        stop(f"{reason}; the notebooks are not opened in a browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        with playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS)) as started:
            yield started


@pytest.fixture(scope="module")
def lab(browser, cache, tmp_path_factory):
    """A running JupyterLab whose notebooks are the kit's with PRESET tiny and a run folder here."""
    from lab_server import lab_server
    from papermill.iorw import load_notebook_node, write_ipynb
    from papermill.parameterize import parameterize_notebook

    home = tmp_path_factory.mktemp("lab")
    (home / "notebooks").mkdir()
    given = {"PRESET": "tiny", "OUT": str(home / "run")}
    for name in RUNNABLE:
        notebook = load_notebook_node(str(ROOT / "notebooks" / f"{name}.ipynb"))
        path = home / "notebooks" / f"{name}.ipynb"
        write_ipynb(parameterize_notebook(notebook, given), str(path))
    with lab_server(home / "notebooks") as server:
        yield server


@pytest.fixture
def page(browser):
    """An empty page, 1280 pixels wide; what its scripts throw fails the test."""
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page, thrown = context.new_page(), []
        page.on("pageerror", lambda error: thrown.append(str(error)))
        yield page
        assert not thrown, thrown
