"""Tables in the papers' form: methods down, data sets across, published beside ours.

Drawn from the ledger and from tables that notebooks leave in the run folder, never from memory.

Usage:

    paper_table(ledger, "ESI", "Table 3")                # published and ours, side by side
    km_table(years, event, groups, names).to_csv(...)    # what notebook 07 leaves for the report
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ecgkit.reports.ledger import number_words, shown

# (system, table pattern): the papers' tables of which a run of the kit can measure a cell.
TABLES = (
    ("ESI", "Table 2", "ESI, Table 2: macro AUC with labels, by probe and fine-tuned"),
    ("ESI", "Table 3", "ESI, Table 3: few labels and none"),
    ("ESI", "Table 4", "ESI, Table 4: whose ECG is it"),
    ("ESI", "Table 5(b)", "ESI, Table 5b: sizes of the ECG encoders"),
    ("FSL-ECG-QA", "abstract", "Few-shot ECG question answering: accuracy, 5-way 5-shot"),
    ("HF-dual-attention", "README / abstract", "Heart-failure risk: C-index by cohort"),
    ("PTBXL-benchmark", "leaderboard", "PTB-XL benchmark: macro AUC by task"),
)
_CUT = {"LLM-informed pretraining on PTB-XL, fine-tune, 2-fold CV x 5 seeds": "2-fold CV, 5 seeds",
        "LLaMA-3.1-8B (frozen) + meta mapper": "meta mapper", "5-way 5-shot, meta learning": "",
        "1-shot user identification": "identification", "arrhythmia diagnosis": "",
        "ECG question answering: ": "", "ECG-QA (few-shot re-split)": "",
        "heart-failure risk": "", "supervised, test fold 10": "supervised"}  # fmt: skip
GRID_YEARS = 0.25


def paper_table(ledger: pd.DataFrame, system: str, table: str) -> pd.DataFrame:
    """Rows: setting and method; columns: data set and metric, each published, then ours where this
    run measured one ("–" = not measured). Empty where the ledger has no such table.
    """
    some = ledger[(ledger["system"] == system) & (ledger["table"] == table)]
    some = some[some["published"] != ""]
    parts = [_parts(words) for words in some["quantity"]]
    if table == "Table 5(b)":  # sizes and scores of the same encoders stand in one line there
        parts = [(what, "", method.removeprefix("ESI with ")) for what, _, method in parts]
    lines: dict[tuple, dict] = {}
    for row, (what, how, method) in zip(some.to_dict("records"), parts):
        cells = lines.setdefault((how, method), {"Setting": how, "Method": method})
        name = what or "value"
        if name not in cells:  # the same number printed twice (abstract of page and paper)
            cells[name] = shown(row["published"], row["sd"])
            cells[f"{name}, ours"] = marked_number(row)
    found = pd.DataFrame(list(lines.values()))
    empty = [c for c in found if c.endswith(", ours") and found[c].fillna("–").eq("–").all()]
    found = found.drop(columns=empty).fillna("–")
    return found.drop(columns=[c for c in ("Setting",) if c in found and found[c].eq("").all()])


def marked_number(row: dict) -> str:
    """Our number with its interval; what is made up is said in the cell itself."""
    text = number_words(row)
    made = row["simulated"] if text != "–" else "no"
    return text if made in ("no", "") else f"{text} ({made})"


def _parts(quantity: str) -> tuple[str, str, str]:
    """(data set and metric, setting, method) of a ledger row's words, the papers' phrases cut."""
    words = quantity.split(" · ")
    metric, method = words[-1], words[-2] if len(words) > 1 else ""
    how = words[-3] if len(words) > 3 else ""
    rest = words[: -3 if how else -2]
    for long, short in _CUT.items():
        rest = [w.replace(long, short) for w in rest]
        how, method = how.replace(long, short), method.replace(long, short)
    method = method.partition(" (")[0]
    return " ".join(w for w in [*rest, metric] if w), how, method


def measured_tables(ledger: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """(title, table) for each of TABLES in which this run measured at least one cell."""
    found = []
    for system, table, title in TABLES:
        rows = ledger[(ledger["system"] == system) & (ledger["table"] == table)]
        if rows["ours"].notna().any():
            found.append((title, paper_table(ledger, system, table)))
    return found


def km_table(years, event, groups, names: Sequence[str]) -> pd.DataFrame:
    """Kaplan-Meier by group on a grid of quarter years: group, years, at_risk, free, low, high.

    `years` (n,), `event` (n,) with code 1 the event, `groups` (n,) of 0, 1, ...; a row a group and
    time, so that no single patient's time can be read off. Raises DataError as `survival_at` does.
    """
    from ecgkit.tasks.survival_followup import survival_at

    years, event = np.asarray(years, float), np.asarray(event) == 1
    groups, parts = np.asarray(groups), []
    for number, name in enumerate(names):
        mine = groups == number
        if not mine.any():
            continue
        grid = np.arange(0, years[mine].max() + 1e-9, GRID_YEARS)
        free, low, high = survival_at(years[mine], event[mine], grid)
        at_risk = [int((years[mine] >= t).sum()) for t in grid]
        parts.append(pd.DataFrame({"group": name, "years": grid, "at_risk": at_risk, "free": free,
                                   "low": low, "high": high}))  # fmt: skip
    columns = ["group", "years", "at_risk", "free", "low", "high"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
