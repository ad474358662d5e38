"""Which number of the kit stands for which published number: one `Target` per quantity.

A target names rows of the published table by column (regular expressions over the whole cell), and
where the same quantity stands in the run files: a metric of a notebook, a line of a table it left
(`trained_with_labels.csv:MODEL|TASK|METRIC`), what a sweep adds, or one of the kit's own counts.
Rows of the published table without a target are accounted for too: `ledger_needs` says what
measuring them would take.

Usage:

    target = target_of(row)                  # the first that fits, or None
    target.source, target.metric             # ("05_esi_evaluation", "zero_shot_macro_auc")
"""

from __future__ import annotations

from ecgkit.reports.ledger_rows import Published, why_context
from ecgkit.reports.ledger_target import Target
from ecgkit.reports.ledger_targets_ablations import ablations
from ecgkit.reports.ledger_targets_exact import counts, settings
from ecgkit.reports.ledger_targets_results import HEADLINES, UNPUBLISHED, trained

TARGETS: tuple[Target, ...] = (
    *HEADLINES, *trained(), *ablations(), *counts(), *settings(),
)  # fmt: skip

__all__ = ["HEADLINES", "TARGETS", "UNPUBLISHED", "Target", "target_of"]


def target_of(row: Published) -> Target | None:
    """The first target that fits; None where there is none, and always for context."""
    if why_context(row):
        return None
    return next((target for target in TARGETS if target.fits(row)), None)
