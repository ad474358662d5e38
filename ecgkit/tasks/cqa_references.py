"""Reference texts that say how findings look, to score written ones against.

The paper takes 28 descriptions of the package torch_ecg. They are read where it is installed, from
its source without running it (importing it pulls in some thirty packages): no text of it is here.

Source: Wen and Kang, torch_ecg (2022), `torch_ecg.utils.ecg_arrhythmia_knowledge`; the paper does
not say how it joined their parts, which stand here one after the other, with semicolons.

Usage:

    references = reference_texts()                  # of torch_ecg, {name: text}; or of a CSV
    references = reference_texts("my_references.csv")            # columns name, text
"""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pandas as pd

from ecgkit.types import DataError

MODULE = "utils/ecg_arrhythmia_knowledge.py"


def reference_texts(path: str | Path = "") -> dict[str, str]:
    """Finding -> text, from a CSV, or from torch_ecg where `path` is empty.

    Raises DataError in a sentence where there are none.
    """
    return read_csv(Path(path).expanduser()) if path else torch_ecg_texts()


def read_csv(path: Path) -> dict[str, str]:
    """Finding -> text of a CSV with columns name and text."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise DataError(f"{path.name} cannot be read as CSV ({reason}).") from None
    missing = {"name", "text"} - set(table)
    if missing:
        raise DataError(
            f"{path.name} has no column {' nor '.join(sorted(missing))}; it needs name (the "
            "finding) and text (how it looks)."
        )
    table = table.apply(lambda column: column.str.strip())
    bad = table[(table["name"] == "") | (table["text"] == "")]
    if len(bad):
        raise DataError(f"Row {bad.index[0] + 2} of {path.name} lacks a name or a text; fill it.")
    if table["name"].duplicated().any():
        twice = table.loc[table["name"].duplicated(), "name"].iloc[0]
        raise DataError(f"{path.name} names {twice!r} twice; give one text for each finding.")
    if table.empty:
        raise DataError(f"{path.name} has no rows; give a name and a text in each.")
    return dict(zip(table["name"], table["text"]))


def torch_ecg_texts() -> dict[str, str]:
    """Finding -> text of the conditions that torch_ecg exports and describes (28 in 0.0.33)."""
    spec = importlib.util.find_spec("torch_ecg")
    places = list(spec.submodule_search_locations or []) if spec else []
    path = next((p for p in (Path(place) / MODULE for place in places) if p.is_file()), None)
    if path is None:
        raise DataError(
            "torch_ecg is not installed, so its reference texts are skipped: pip install torch_ecg "
            "(without its dependencies will do: --no-deps), or give a CSV with columns name, text."
        )
    return knowledge_of(path.read_text(encoding="utf-8"))


def knowledge_of(source: str) -> dict[str, str]:
    """`fullname` -> `knowledge` of the entries `NAME = CFG({...})` that `__all__` lists."""
    known: dict[str, object] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                known[node.targets[0].id] = _value(node.value, known)
            except (KeyError, TypeError, ValueError):
                continue  # computed in some other way, so no entry
    texts: dict[str, str] = {}
    for name in known.get("__all__", []):
        entry = known.get(name)
        if isinstance(entry, dict) and "fullname" in entry:
            parts = [part.strip() for part in entry.get("knowledge", []) if part.strip()]
            if parts:
                texts[entry["fullname"]] = "; ".join(parts)
    if not texts:
        raise DataError("This version of torch_ecg holds no descriptions where 0.0.33 has them.")
    return texts


def _value(node: ast.expr, known: dict[str, object]):
    """What a literal, a name, `x["key"]`, `a + b` or `CFG(x)` stands for."""
    if isinstance(node, ast.Name):
        return known[node.id]
    if isinstance(node, ast.Subscript):
        return _value(node.value, known)[_value(node.slice, known)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _value(node.left, known) + _value(node.right, known)
    if isinstance(node, ast.Call) and len(node.args) == 1:
        return _value(node.args[0], known)
    if isinstance(node, ast.Dict):
        return {_value(k, known): _value(v, known) for k, v in zip(node.keys, node.values)}
    if isinstance(node, ast.List):
        return [_value(part, known) for part in node.elts]
    return ast.literal_eval(node)
