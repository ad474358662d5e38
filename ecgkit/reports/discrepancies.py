"""Where a paper and its published code disagree: one row each, in our own words.

`switch` names what selects the behaviour in the kit, `03 PROTOCOL = paper | reference` being a
parameter of notebook 03 and its choices ("" = no switch yet); `effect` is what is known of it.
A notebook that measures one records the metric `effect_<id>`, which then replaces it.
`source` is the fact sheet and section the row stands on.
"""

from __future__ import annotations

from ecgkit.reports.discrepancies_base import Discrepancy
from ecgkit.reports.discrepancies_ecgqa import ECGQA
from ecgkit.reports.discrepancies_esi import ESI
from ecgkit.reports.discrepancies_fewshot import FEWSHOT

DISCREPANCIES = (
    *ECGQA,
    *ESI,
    *FEWSHOT,
    # --- risk -------------------------------------------------------------------------------------
    Discrepancy(
        "risk_lead_attention", "HF risk", "lead-specific attention",
        "twelve lead-specific attention modules and maps per lead",
        "the stem mixes all leads before they are told apart, so a map's lead label is unfounded",
        "risk 5.1", "07 STEM = per_lead | mixed",
        "changing lead I alone moved all 12 rows about equally",
    ),
    Discrepancy(
        "risk_alpha", "HF risk", "weights of the two losses",
        "alpha weighs the reconstruction, 1 - alpha the risk", "the other way round",
        "risk 1, 5.4", "07 PROTOCOL = paper | reference", "none at the default of one half",
    ),
    Discrepancy(
        "risk_cox_floor", "HF risk", "Cox loss", "Cox partial likelihood",
        "stabilised by the whole batch's maximum with a floor inside the logarithm",
        "risk 5.3", "cox_loss or cox_loss_reference of models.losses_risk",
        "11.579 instead of 0.896 when one early leaver scores far above the rest",
    ),
    Discrepancy(
        "risk_zero_codes", "HF risk", "statements with likelihood 0", "not said",
        "dropped, although in PTB-XL 0 means that no likelihood was given",
        "risk 1", "07 ZERO_POLICY = drop | keep",
        "462 of 500 records lose a statement; atrial fibrillation all but vanishes",
    ),
    Discrepancy(
        "risk_confidence", "HF risk", "confidence of a statement", "written into each report line",
        "absent from the text; it weighs the average of the embeddings, rescaled to sum to 1",
        "risk 1", "07 REPORT_STYLE = seed | reference",
        "one statement at 15 % gives the same vector as at 100 %",
    ),
    Discrepancy(
        "risk_alignment", "HF risk", "alignment loss", "pulls an ECG and its report together",
        "no negatives and both projections trained, so a constant solution exists",
        "risk 2", "07 ALIGN_LOSS = cosine | infonce",
        "on unpaired noise the loss fell from 0.96 to 0.0001 with nothing aligned",
    ),
    Discrepancy(
        "risk_learning_rate", "HF risk", "fine-tuning learning rate", "1e-4",
        "a finder run at the start of each fold overwrites it", "risk 3",
        "07 FINETUNE_LR, never overwritten",
        "3.5e-7 to 4e-3 over the ten folds",
    ),
    Discrepancy(
        "risk_masked_target", "HF risk", "reconstruction target", "the unmasked ECG",
        "the masked ECG, so nothing is ever filled in", "risk 5.2",
    ),
)
