"""Exercises of notebook 08: whose number it is, why simulated data is no match, what is near."""

from __future__ import annotations

from ecgkit.exercises.base import NotHere, exercise


def _published(ledger):
    rows = ledger[ledger["row"] > 0]
    if rows.empty:
        raise NotHere("The table of published numbers is not on this machine.")
    return rows


@exercise(
    "08.1",
    "how many rows of the ledger are context, never targets",
    why="Tables of third parties, notes and aggregator pages repeat numbers under other protocols; "
    "matching one of them would say nothing about the paper.",
    hints=(
        "The column `status` begins with the word.",
        'Count the rows whose status starts with "context".',
    ),
)
def context_rows(ledger):
    return int(_published(ledger)["status"].str.startswith("context").sum())


@exercise(
    "08.2",
    "how many results would have been called a match, had nobody asked what data they are from",
    why="A published value can lie inside our interval by luck, or since the task is of like "
    "difficulty. The number says nothing of where it comes from; only the run file does.",
    hints=(
        "Take the rows of kind `result` that show a number of ours, with a published one beside.",
        "Count those whose published value lies between `low` and `high`, both included.",
    ),
)
def matches_by_luck(ledger):
    rows = _published(ledger)
    rows = rows[(rows["kind"] == "result") & rows["low"].notna()]
    value = rows["published"].astype(float)
    return int(((rows["low"] <= value) & (value <= rows["high"])).sum())


@exercise(
    "08.3",
    "the golden file whose worst difference is nearest to its tolerance",
    why="Sums of many float32 numbers differ in their last digits with the order of adding; the "
    "tolerance leaves room for that and for nothing else.",
    hints=(
        "Look at the column that divides the worst difference by its tolerance.",
        "Sort the certificate by its margin; the largest is the nearest.",
    ),
)
def nearest_file(certificate):
    some = [one for one in certificate["fixtures"] if one["margin"] is not None]
    if not some:
        raise NotHere("No golden file is on this machine.")
    return max(some, key=lambda one: one["margin"])["fixture"]
