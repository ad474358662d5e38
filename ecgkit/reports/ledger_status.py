"""What our figure is worth beside the published one, in a sentence.

    matched                     the same quantity on the same data (results: inside our interval)
    differs because Y           measured, and not a match; simulated data always says so first
    not run here: needs X       nothing in the run files measures it
    context: whose it is        not the authors' own number, so never a target

Usage:

    status_of(row, target, found, run)
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from ecgkit.reports.ledger_files import COUNTS, FILES, RunFiles, is_simulated, succeeded
from ecgkit.reports.ledger_needs import needs
from ecgkit.reports.ledger_rows import Published, why_context
from ecgkit.reports.ledger_target import Target

MATCHED, NOT_RUN, DIFFERS, CONTEXT = "matched", "not run here", "differs because", "context"
NO_VALUE = "no published value"
STATUSES = (MATCHED, DIFFERS, NOT_RUN, CONTEXT, NO_VALUE)


def kind_of(status: str) -> str:
    """Which of STATUSES a status sentence is. Raises ValueError for one that is none."""
    for kind in STATUSES:
        if status == kind or status.startswith((f"{kind}:", f"{kind} ", f"{kind};")):
            return kind
    raise ValueError(f"{status!r} is no status of the ledger")


def status_of(row: Published, target: Target | None, found: dict | None, run: RunFiles) -> str:
    """`found` is the number of ours for `target` (None = not measured)."""
    whose = why_context(row)
    if whose:
        return f"{CONTEXT}: {whose}"
    if found is None and target is not None and target.source == COUNTS and not run.facts:
        return f"{NOT_RUN}: needs notebook 08 in this run folder, which counts it"
    if target is None or found is None:
        return f"{NOT_RUN}: needs {needs(row)}{_broken(target, run)}"
    why = (exact_gap if target.kind != "result" else result_gap)(row, target, found, run)
    return f"{DIFFERS} {why}" if why else MATCHED


def unpublished_status(target: Target, found: dict | None, run: RunFiles) -> str:
    """Of a quantity without a published counterpart: why, and what ours stands on."""
    if found is None:
        return f"{NO_VALUE}; not measured in this run{_broken(target, run)}"
    why = data_gap(target, run)
    return f"{NO_VALUE}: none could be read" + (f"; {why}" if why else "")


def _broken(target: Target | None, run: RunFiles) -> str:
    """Names the notebook where it was to be measured and did not succeed."""
    if target is None or target.source in FILES:
        return ""
    said = run.status(target.source)
    return "" if succeeded(said) else f"; notebook {target.source[:2]}: {said}"


# --- why ours is no match; "" = nothing stands between --------------------------------------------


def exact_gap(row: Published, target: Target, found: dict, run: RunFiles) -> str:
    """Sizes, counts and settings: equal at the digits that were printed?"""
    ours = found[target.field] * target.scale
    if equal_as_printed(ours, row.value):
        return ""
    return target.why or f"the kit has {ours:g}"


def equal_as_printed(ours: float, published: str) -> bool:
    """True where `ours`, rounded to the digits of `published`, is that number."""
    try:
        printed = Decimal(published)
    except InvalidOperation:
        return False
    return abs(Decimal(repr(float(ours))) - printed) <= Decimal(5).scaleb(
        printed.as_tuple().exponent - 1
    )


def result_gap(row: Published, target: Target, found: dict, run: RunFiles) -> str:
    why = data_gap(target, run)
    if why:
        return why
    if target.why and not cured(target, run):
        return target.why
    if target.field != "value":
        same = equal_as_printed(found[target.field], row.value)
        return "" if same else f"ours is {found[target.field]:g} on the same records"
    if found.get("low") is None or found.get("high") is None:
        return "our number has no interval, so nothing can be said"
    try:
        published = float(row.value) / target.scale
    except ValueError:
        return "the published value is no number"
    inside = found["low"] <= published <= found["high"]
    return "" if inside else "of a cause not known: the published value lies outside our interval"


def data_gap(target: Target, run: RunFiles) -> str:
    """What the data and sizes of our number lack beside the published ones; simulated first."""
    body = run.body(target.source)
    data = body.get("data", {})
    made = made_up(target, run)
    if made:
        return f"{made}: never a replication"
    if target.data not in str(data.get("name", "")):
        return f"other data: {data.get('name') or 'unnamed'}, not {target.data}"
    if data.get("n_ecgs", 0) < target.full:
        return f"a subset of {data.get('n_ecgs', 0)} records of {target.full:,}"
    if body.get("preset") != "paper":
        return f"another preset: {body.get('preset')}, not the published sizes"
    return ""


def made_up(target: Target, run: RunFiles) -> str:
    """What the kit made up itself of what our number stands on; "" = nothing, all is real."""
    if target.source == COUNTS:
        return ""
    if is_simulated(run.body(target.source)):
        return "simulated data"
    if target.labels == "outcomes" and not run.setting(target.source, "outcomes"):
        return "simulated outcomes on real ECGs"
    if target.labels == "questions" and not run.setting(target.source, "ecgqa"):
        return "the kit's own questions on real ECGs"
    return ""


def cured(target: Target, run: RunFiles) -> bool:
    """True where this run has what `target.why` says is lacking."""
    if target.unless is None:
        return False
    notebook, name, wanted = target.unless
    if isinstance(wanted, str):
        return bool(re.fullmatch(wanted, run.setting(notebook, name)))
    found = run.find(notebook, name)
    return bool(found) and not is_simulated(run.body(notebook)) and found["value"] >= wanted
