"""One target: which number of the kit stands for which rows of the published table.

Usage:

    target = Target("05_esi_evaluation", "zero_shot_macro_auc", {"table": "Table 3"})
    target.fits(row)
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ecgkit.config import CONFIGS
from ecgkit.reports.ledger_rows import Published

PTBXL_ECGS = 21_799  # records in PTB-XL 1.0.3
NB = {name[:2]: name for name in CONFIGS}


@dataclass(frozen=True)
class Target:
    """`kind`: "result" (data and training decide), "size" or "count" (exact), "setting" (of the
    paper preset). `scale` turns ours into the published unit; `field` is the part of the metric
    that is meant. Of results, `data` names the cohort, `full` its records, `labels` what the kit
    makes up itself without more data (questions | outcomes), `why` what stands between a run of the
    kit and the published protocol, `unless` where that is cured: (notebook, metric, at least so
    much) or (notebook, setting, pattern). `quantity` names it where no published table is at hand.
    """

    source: str
    metric: str
    where: dict[str, str] = field(default_factory=dict)
    kind: str = "result"
    scale: float = 1.0
    field: str = "value"
    data: str = "ptbxl"
    full: int = PTBXL_ECGS
    labels: str = ""
    why: str = ""
    unless: tuple[str, str, float | str] | None = None
    system: str = ""
    quantity: str = ""

    @property
    def counts_data(self) -> bool:
        """Whether it is a count of a data set, so that no other data set's counts stand for it."""
        return self.field != "value" or self.metric == "n_stored"

    def fits(self, row: Published) -> bool:
        return bool(self.where) and all(
            re.fullmatch(pattern, getattr(row, column)) for column, pattern in self.where.items()
        )
