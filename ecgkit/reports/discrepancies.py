"""Where a paper and its published code disagree: one row each, in our own words.

`switch` names what selects the behaviour in the kit, `03 PROTOCOL = paper | reference` being a
parameter of notebook 03 and its choices ("" = no switch yet); `effect` is what is known of it.
A notebook that measures one records the metric `effect_<id>`, which then replaces it.
`source` is the fact sheet and section the row stands on.
"""

from __future__ import annotations

from ecgkit.reports.discrepancies_ecgqa import ECGQA
from ecgkit.reports.discrepancies_esi import ESI
from ecgkit.reports.discrepancies_fewshot import FEWSHOT
from ecgkit.reports.discrepancies_risk import RISK

DISCREPANCIES = (
    *ECGQA,
    *ESI,
    *FEWSHOT,
    *RISK,
)
