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

DISCREPANCIES = (
    *ECGQA,
    *ESI,
    # --- few-shot ---------------------------------------------------------------------------------
    Discrepancy(
        "few_question_blind", "Few-shot QA", "what the answer is read from",
        "ECG prefix and question together",
        "answer positions start before the question ends, so a short answer cannot depend on it",
        "fewshot 0.1", "06 PROTOCOL = sound | reference",
        "changing the question moved the logits by exactly 0",
    ),
    Discrepancy(
        "few_accuracy", "Few-shot QA", "accuracy", "accuracy of the answers",
        "share of right tokens at the true answer's length, a constant first token included",
        "fewshot 0.2, 4", "06 PROTOCOL = sound | reference",
        "for yes/no, 84.6 % would stand for about 69 % exact, if the paper used this code",
    ),
    Discrepancy(
        "few_class_split", "Few-shot QA", "classes of meta-test",
        "classes never met in meta-training",
        "the loader passes the class list into another argument: both sides share classes",
        "fewshot 0.3", "attributes are split before episodes are drawn",
        "both sides had the same 8 classes where it was run",
    ),
    Discrepancy(
        "few_inference", "Few-shot QA", "the evaluated mapper", "the meta-trained mapper",
        "the inference script does not load it and evaluates a random one", "fewshot 0.4",
        "notebook 06 evaluates what it trained",
    ),
    Discrepancy(
        "few_outer_loss", "Few-shot QA", "outer loss", "query loss after adaptation",
        "mean of the query losses after inner steps 2 to K (none for K = 1)", "fewshot 3",
        "outer_steps of tasks.maml",
    ),
    Discrepancy(
        "few_dropout", "Few-shot QA", "dropout in the mapper", "not said",
        "always on, also while testing", "fewshot 2",
        "06 PROTOCOL = sound | reference",
    ),
    Discrepancy(
        "few_mapper", "Few-shot QA", "mapper types", "attention or MLP mapper",
        "the flag is stored and never read; there is only the attention mapper", "fewshot 2",
        "06 MAPPER = attention | linear | mlp",
    ),
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
