"""The model card that goes with every saved model, written from its config.json alone.

Usage:

    print(model_card(read_config(folder)))
"""

from __future__ import annotations

import math
from html import escape

import yaml

from ecgkit.models.registry import MODELS
from ecgkit.types import NOT_FOR_DIAGNOSIS

_UNKNOWN = "not recorded"


def model_card(body: dict) -> str:
    """Markdown with a YAML header; `body` as `saving.describe` makes it."""
    parts = [_header(body), _title(body), _data(body), _metrics(body), _classes(body), _sizes(body),
             _usage(body), _notes(body)]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


def _header(body: dict) -> str:
    tags = ["ecg", "electrocardiogram", "ecgkit", body["class"]]
    tags += ["simulated-data"] if (body.get("data") or {}).get("simulated") else []
    facts = {"license": body.get("licence") or "other", "library_name": "ecgkit", "tags": tags}
    return f"---\n{yaml.safe_dump(facts, sort_keys=False, allow_unicode=True)}---"


def _title(body: dict) -> str:
    entry = MODELS.get(body["class"])
    what = _text(body.get("task")) or (f"A model that {entry.what}." if entry else "")
    return f"# {body['class']}\n\n{what}\n\n**{NOT_FOR_DIAGNOSIS}**"


def _data(body: dict) -> str:
    data = body.get("data") or {}
    lines = ["## Trained on", ""]
    if not data:
        return "\n".join([*lines, f"The data are {_UNKNOWN}."])
    if data.get("simulated"):
        lines += ["**SIMULATED ECGs.** Nothing here was learnt from a patient; the scores below do "
                  "not carry over to real recordings.", ""]  # fmt: skip
    rows = [("source", data.get("name")), ("recordings", data.get("n_ecgs")),
            ("fingerprint of the data", data.get("fingerprint"))]  # fmt: skip
    return "\n".join(lines + [f"- {key}: {_cell(value)}" for key, value in rows])


def _metrics(body: dict) -> str:
    rows = body.get("metrics") or {}
    if not rows:
        return "## Scores\n\nNone recorded."
    table = ["| metric | value | 95 % interval | n | note |", "|---|---|---|---|---|"]
    for name, row in rows.items():
        row = row if isinstance(row, dict) else {"value": row}
        low, high = _number(row.get("low")), _number(row.get("high"))
        interval = f"{low} to {high}" if low and high else "-"
        cells = (name, _number(row.get("value")) or "-", interval, row.get("n"), row.get("note"))
        table.append("| " + " | ".join(_cell(c, "-") for c in cells) + " |")
    return "## Scores\n\n" + "\n".join(table)


def _classes(body: dict) -> str:
    names = body.get("classes") or []
    return "## Labels, in the order of the outputs\n\n" + _cell(", ".join(names)) if names else ""


def _sizes(body: dict) -> str:
    facts = [f"- parameters: {body['n_parameters']:,}"] if body.get("n_parameters") else []
    facts += [f"- {key}: {_cell(value)}" for key, value in body["settings"].items()]
    facts += [f"- input: {_cell(body['input'])}"] if body.get("input") else []
    return "## Model\n\n" + "\n".join(facts) + f"\n- saved by: ecgkit {body.get('version')}"


def _usage(body: dict) -> str:
    return (
        "## How to load it\n\n```python\nfrom ecgkit.models.saving import load_pretrained\n\n"
        f'model = load_pretrained("owner/name")  # or this folder; {body["class"]} in eval mode\n'
        "model.about[\"classes\"], model.about[\"data\"]\n```"
    )


def _notes(body: dict) -> str:
    return f"## Notes\n\n{_text(body['notes'])}" if body.get("notes") else ""


def _number(value) -> str:
    known = isinstance(value, (int, float)) and math.isfinite(value)
    return "" if not known else str(value) if isinstance(value, int) else f"{value:.3f}"


def _cell(value, empty: str = _UNKNOWN) -> str:
    """One line of Markdown, whatever the value holds."""
    text = "" if value is None else str(value)
    return _text(" ".join(text.replace("|", "\\|").split())) or empty


def _text(value) -> str:
    """Words without markup of their own: a card is shown as HTML, on the hub and elsewhere."""
    return escape(str(value or ""), quote=False)
