"""The executed copy made ready for readers: measured run time, mark of credentialed data, HTML.

Usage:

    stamp(folder, "Measured: 12 s on ...", credentialed=False)
    to_html(folder)                    # 03_baselines/executed.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ecgkit import runs, runtime

NOT_FOR_SHARING = "Made from credentialed data: not for sharing."
_MARK = (
    '<div style="border: 3px solid #b00020; padding: 0.6em; font-weight: bold">'
    f"{NOT_FOR_SHARING}</div>"
)


def measured_line(measured: Mapping[str, object]) -> str:
    """`Measured: 12 s on <cpu>, 2 cores, 2026-11-27, preset demo.`"""
    beside = " (other notebooks ran beside it)" if measured.get("jobs", 1) > 1 else ""
    return (
        f"Measured: {measured['seconds']:.0f} s on {measured['machine']}, {measured['date']}, "
        f"preset {measured['preset']}{beside}."
    )


def stamp(folder: Path, line: str, credentialed: bool) -> None:
    """Writes the line, and the mark of credentialed data, into the executed copy's first cell."""
    path = folder / "executed.ipynb"
    body = json.loads(path.read_text("utf-8"))
    first = next((c for c in body["cells"] if c["cell_type"] == "markdown"), None)
    if first is None:
        first = {"cell_type": "markdown", "id": "measured", "metadata": {}, "source": ""}
        body["cells"].insert(0, first)
    parts = [_MARK if credentialed else "", "".join(first["source"]), line]
    first["source"] = "\n\n".join(filter(None, parts))
    runs.write_json(path, body)


def to_html(folder: Path) -> str:
    """Renders executed.ipynb with its figures and formulas; returns the page's path relative to
    the run folder.
    """
    import nbformat
    from nbconvert import HTMLExporter

    from ecgkit.reports import formulas

    notebook = nbformat.read(folder / "executed.ipynb", as_version=4)
    body = formulas.export(HTMLExporter(embed_images=True), notebook, folder.name)
    with runtime.replacing(folder / "executed.html") as scratch:
        scratch.write_text(body, "utf-8")
    return f"{folder.name}/executed.html"


def is_credentialed(folder: Path) -> bool:
    """What the notebook itself wrote down about its data (`run.uses`)."""
    return bool(_metrics(folder).get("data", {}).get("credentialed"))


def gpu_of(folder: Path) -> str:
    """The GPU that the notebook saw; '' for none."""
    return _metrics(folder).get("gpu", "")


def _metrics(folder: Path) -> dict:
    path = folder / "metrics.json"
    return json.loads(path.read_text()) if path.exists() else {}
