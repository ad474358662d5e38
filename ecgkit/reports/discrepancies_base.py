"""What a row of the discrepancy ledger holds."""

from __future__ import annotations

from dataclasses import dataclass

UNMEASURED = "not measured yet"


@dataclass(frozen=True)
class Discrepancy:
    """One disagreement. `paper` or `code` may say that it is silent."""

    id: str
    system: str
    topic: str
    paper: str
    code: str
    source: str
    switch: str = ""
    effect: str = UNMEASURED
