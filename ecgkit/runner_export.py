"""The executed copy made ready for readers: measured run time, mark of credentialed data, HTML.

The page shows the copy's figures in fewer colours, which keeps it below 3 MB.

Usage:
    stamp(folder, "Measured: 12 s on ...", credentialed=False)
    to_html(folder)                    # 03_baselines/executed.html
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path

from ecgkit import runs, runtime

NOT_FOR_SHARING = "Made from credentialed data: not for sharing."
MOST_IMAGE_BYTES = 2_000_000  # as they stand in the page; more are drawn in fewer colours
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
    """Renders executed.ipynb with its figures; returns the page's path relative to the run
    folder.
    """
    import nbformat
    from nbconvert import HTMLExporter

    notebook = nbformat.read(folder / "executed.ipynb", as_version=4)
    shown = [output["data"] for cell in notebook.cells for output in cell.get("outputs", [])
             if "image/png" in output.get("data", {})]
    if sum(len(data["image/png"]) for data in shown) > MOST_IMAGE_BYTES:
        for data in shown:
            data["image/png"] = _smaller(data["image/png"])
    body, _ = HTMLExporter(embed_images=True).from_notebook_node(notebook)
    with runtime.replacing(folder / "executed.html") as scratch:
        scratch.write_text(body, "utf-8")
    return f"{folder.name}/executed.html"


def _smaller(png: str) -> str:
    """A base64 PNG in 256 colours, where that is smaller: a third of the bytes of a drawn figure,
    and no difference that shows.
    """
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        few = picture.convert("RGB").quantize(
            256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
        )
    buffer = io.BytesIO()
    few.save(buffer, "PNG")
    found = base64.b64encode(buffer.getvalue()).decode()
    return found if len(found) < len(png) else png


def is_credentialed(folder: Path) -> bool:
    """What the notebook itself wrote down about its data (`run.uses`)."""
    path = folder / "metrics.json"
    data = json.loads(path.read_text()).get("data", {}) if path.exists() else {}
    return bool(data.get("credentialed"))
