"""What a training patient's own report says of the risk, for the network to learn from beside the
outcome.

One censored follow-up says little about one patient. A Cox model of the training patients'
follow-up on their report vectors pools them, and gives each of them a risk that is worth a target:
the network, which will have the ECG alone, is pulled towards it (learning with privileged
information: Lopez-Paz et al., ICLR 2016). Not published; REPORT_WEIGHT = 0 leaves it out.

Shape letters: n learning patients, B batch, D text width.

Usage:

    taught = report_risk(study, rows, owner)                   # (n,), NaN without a report
    loss = cox + report_weight * distance_from_taught(log_risk, taught[at])
"""

from __future__ import annotations

import numpy as np
import torch

from ecgkit.tasks.risk_study import Study
from ecgkit.tasks.survival_metrics import fit_cox

RIDGE = 0.3  # on standardised vectors: report vectors are many and alike


def report_risk(study: Study, rows: np.ndarray, owner: np.ndarray) -> torch.Tensor:
    """(n,) log risk that a Cox model reads off the reports of `rows`, NaN where there is none.

    rows, owner: positions whose reports, and whose follow-up, are learnt from (the same, but for
    the shuffled control). All NaN where no event has a report: there is nothing to be taught.
    """
    taught = np.full(len(rows), np.nan, np.float32)
    told = study.group[rows].numpy() >= 0
    years, event = study.years[owner].numpy()[told], study.event[owner].numpy()[told]
    if event.any():
        text = study.text[rows].numpy()[told].astype(np.float64)
        text = (text - text.mean(0)) / (text.std(0) + 1e-6)
        taught[told] = text @ fit_cox(text, years, event, RIDGE)
    return torch.from_numpy(taught)


def distance_from_taught(log_risk: torch.Tensor, taught: torch.Tensor) -> torch.Tensor:
    """Mean square of log_risk - taught (B,), both about their means: only differences between
    patients mean anything in a Cox model. Patients without `taught` (NaN) take no part."""
    told = ~taught.isnan()
    if int(told.sum()) < 2:
        return 0.0 * log_risk.sum()
    risk, target = log_risk[told], taught[told]
    return ((risk - risk.mean()) - (target - target.mean())).square().mean()
