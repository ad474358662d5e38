"""Heart-failure risk: where the paper and its published code disagree. See `discrepancies.py`."""

from __future__ import annotations

from ecgkit.reports.discrepancies_base import Discrepancy

RISK = (
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
        "47.7 % of the statements of 400 PTB-XL reports, 97 % of those about rhythm (AFIB 8 of 9); "
        "distinct reports fall from 135 to 96",
    ),
    Discrepancy(
        "risk_confidence", "HF risk", "confidence of a statement", "written into each report line",
        "absent from the text; it weighs the average of the embeddings, rescaled to sum to 1",
        "risk 1", "07 REPORT_STYLE = seed | reference",
        "one statement at 15 % gives the same vector as at 100 %: 63 of 400 PTB-XL reports are one "
        "doubtful statement alone; 83 distinct vectors in place of 96",
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
        "07 PROTOCOL = paper | reference",
        "400 real strips, 24 % of the samples masked: a network that copies its input has a loss "
        "of 0 under the code's target, 0.25 under the paper's (SD of a lead 1)",
    ),
    Discrepancy(
        "risk_mask_order", "HF risk", "masking and z-scoring", "not said",
        "masked first, scored afterwards: what is left grows, what is masked leaves zero",
        "risk 5.6", "07 PROTOCOL = paper | reference",
        "dropping half a lead makes the other half 1.4 times as large",
    ),
    Discrepancy(
        "risk_batches", "HF risk", "batches of fine-tuning", "128, stratified by event",
        "a fold of n over 128 parts is a batch: of other sizes, one alone, or without an event",
        "risk 3", "07 PROTOCOL = paper | reference",
        "320 people: 2 batches of 160; 250: one batch; 100: an assertion fails",
    ),
    Discrepancy(
        "risk_mask_floor", "HF risk", "shortest window masked around an R peak", "80 to 180 ms",
        "no shorter than 80 samples, which at 100 Hz is 800 ms", "risk 2",
        "07 PROTOCOL = paper | reference",
        "400 real strips at 100 Hz: a masked beat loses 92 % of its RR interval in place of 17 %, "
        "a lead so chosen 19.9 % of the strip in place of 3.3 %",
    ),
    Discrepancy(
        "risk_cv_sd", "HF risk", "spread given beside the C-index", "standard deviation",
        "the mean over seeds of the SD of two folds", "risk 3",
        "tasks.risk_cv.cv_summary gives both",
        "arithmetic on the ten published folds of MI (mean 0.5805): 0.058 in place of 0.085 over "
        "all folds; the standard error of the mean is 0.089",
    ),
    Discrepancy(
        "risk_report_pooling", "HF risk", "pooling of a statement's tokens", "not said",
        "mean over 100 positions, padding among them", "risk 1",
        "07 TEXT_POOLING = published | mean | cls",
        "MiniLM: cosine .57 to the masked mean; statements look alike (mean cosine .72 for .44)",
    ),
    Discrepancy(
        "risk_scp_token", "HF risk", "token at a statement's end", "not said",
        '"[SCP]" for "[SEP]", which the tokenizer splits into word pieces', "risk 1",
        "07 REPORT_STYLE = seed | reference | prose",
        "MiniLM: cosine .95 to the same text with the right token",
    ),
    Discrepancy(
        "risk_statement_key", "HF risk", "table of statements", "PTB-XL's",
        'reads a column "key" that the public file does not have', "risk 1",
        "text.statement_table reads either", "does not run on the public file",
    ),
    Discrepancy(
        "risk_metrics", "HF risk", "what is reported of a risk score", "C-index",
        "the C-index of lifelines alone, without interval, calibration or Brier score", "risk 3",
        "tasks.survival_evaluation",
        "simulated outcomes: the true log risk times 3 keeps its C-index (0.812, 0.812), but its "
        "calibration slope falls from 1.14 to 0.38 and its integrated Brier score rises from "
        "0.0521 to 0.0567",
    ),
    Discrepancy(
        "risk_noise", "HF risk", "size of the test folds", "C-index 0.5805 on 800 people",
        "folds with about 16 events each", "risk 4", "tasks.survival_concordance.null_sd",
        "pure noise scatters by .084 (SD) on 400 people with 16 events; the folds' own SD is .080",
    ),
    Discrepancy(
        "risk_hr", "HF risk", "hazard ratios shown", "of a Cox model on ECG measurements",
        "the model with the best test C has penalty 1438, under which every ratio prints as 1.00",
        "risk 3", "tasks.survival_tests.hazard_ratios: unpenalised, with intervals",
        "simulated outcomes, 11 covariates: penalised so, ratios lie from 1.0000 to 1.0002; "
        "unpenalised from 0.76 to 2.87",
    ),
    Discrepancy(
        "risk_attention_meaning", "HF risk", "attention as where the risk lies",
        "attention maps are shown for high and low risk", "no check that the risk rests on them",
        "risk 3", "tasks.risk_look.deletion_check",
        "one demo network: silencing the most attended tenth of a beat moves the risk no more than "
        "a random tenth; silencing the most attended lead does",
    ),
)  # fmt: skip
