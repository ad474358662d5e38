"""Fixtures every test file may use. Data in the shared folder is read in place; where it is absent,
tests say so and skip.
"""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("ECGKIT_BATCH", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("ECGKIT_TENSORBOARD", "0")

if os.environ.get("PYTEST_XDIST_WORKER"):  # several workers with several threads get in each
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # other's way: thirty times slower

import chromium  # noqa: E402
import pytest  # noqa: E402

from ecgkit import runtime  # noqa: E402
from ecgkit.config import KitConfig  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory) -> Path:
    """An empty cache for the whole session, so that tests never read what an earlier run left."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["ECGKIT_CACHE"] = str(folder)
    return folder


@pytest.fixture
def without_browser() -> None:
    """For what tests/browser checks too, and more, where there is a browser."""
    if chromium.find()[0]:
        pytest.skip("tests/browser runs every cell of every notebook in JupyterLab")


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = runtime.shared_dir()
    if folder is None:
        pytest.skip("the shared folder of fixtures and real data is absent (set ECGKIT_SHARED)")
    return folder


@pytest.fixture(scope="session")
def tiny_config() -> KitConfig:
    return KitConfig.from_params({"preset": "tiny"})


@pytest.fixture(scope="session")
def tiny_cohort(tiny_config):
    from ecgkit.data.cohort import open_cohort

    return open_cohort(tiny_config)


def pytest_collection_modifyitems(items):
    """Files with slow tests come first, so that no worker is left with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_terminal_summary(terminalreporter):
    """The suite's last word on parity: how many golden fixtures were run, how many could not be."""
    reports = terminalreporter.stats
    golden = "tests/test_parity.py::test_golden["
    n_run = sum(
        r.nodeid.startswith(golden) and r.when == "call"
        for kind in ("passed", "failed")
        for r in reports.get(kind, [])
    )
    n_skipped = sum(r.nodeid.startswith(golden) for r in reports.get("skipped", []))
    if n_run or n_skipped:
        terminalreporter.write_line(f"parity: {n_run} run, {n_skipped} skipped")
