"""Disagreements of ECG-QA: paper and published code. `discrepancies` joins them with the others."""

from ecgkit.reports.discrepancies_base import Discrepancy

ECGQA = (
    # --- what the models read and pool ------------------------------------------------------------
    Discrepancy(
        "qa_padding", "ECG-QA", "padded question tokens",
        "attention over the ECG and the words of the question",
        "padding is attended to and pooled, so an answer depends on its batch",
        "ecgqa 6, 7", "03 PROTOCOL = paper | reference",
        "golden fixture: 0.27-0.31 at most with batch mates; the lost mask moves the padded row by "
        "up to 0.31, the row without padding by 0 (SD of its logits 0.79)",
    ),
    Discrepancy(
        "qa_second_window", "ECG-QA", "pooling of the second ECG", "mean over its tokens",
        "the window starts at the separator and leaves the last token out",
        "ecgqa 6", "03 PROTOCOL = paper | reference",
        "small network after 400 steps, 2,116 test pairs, simulated: logits move by 0.009 at "
        "most, 0.002 on average (their SD 1.74); 0.05 % of likeliest answers and 1.4 % of answer "
        "sets change",
    ),
    Discrepancy(
        "qa_conv_pos_absent", "ECG-QA", "position code beside an absent second ECG", "not said",
        "one pass over both ECGs, so the first feels the second even where there is none",
        "ecgqa 6", "03 PROTOCOL = paper | reference", "a change of 0.019",
    ),
    Discrepancy(
        "qa_frozen_second", "ECG-QA", "two ECGs above frozen convolutions", "not said",
        "with a gradient factor of 0 the second ECG is dropped",
        "ecgqa 6", "models.fusion_qa reads both, whatever the factor",
        "38 tokens instead of 70 in a small model",
    ),
    Discrepancy(
        "qa_pooling", "ECG-QA", "pooling over tokens", "mean over the tokens",
        "sum divided by the count of non-zero entries, channel by channel",
        "ecgqa 3.0", "03 PROTOCOL = paper | reference",
        "no exact zero among 915,456 final entries of an untrained small transformer at 500 Hz: "
        "logits changed by 0",
    ),
    Discrepancy(
        "qa_lead_flag", "ECG-QA", "which leads are present (upper bound)",
        "a flag marks leads that were given",
        "a lead counts as given only if none of its samples is exactly zero",
        "ecgqa 3.1, 3.4", "models.resnet_attention: 03 PROTOCOL = paper | reference",
        "first 100 records: 0 % of leads flagged (real, 500 Hz), 9.3 % (real, 100 Hz), 3.3 % "
        "(simulated); mended: all. Logits of an untrained small model moved by up to 0.85 (real, "
        "500 Hz; their SD 0.33)",
    ),
    Discrepancy(
        "qa_deaf_absent", "ECG-QA", "absent second ECG of the ECG-only model", "not said",
        "its tokens are pooled, so a single ECG has other logits beside a pair than alone",
        "ecgqa 6", "models.deaf_qa: 03 PROTOCOL = paper | reference",
        "largest logit change, mean of 20 seeds: 1.85 (at most 3.63; SD of the logits 0.58); "
        "mended: 4e-7",
    ),
    Discrepancy(
        "qa_deaf_window_twice", "ECG-QA", "padded first ECG of the ECG-only model", "not said",
        "the token mask goes through the length rule again, which shrinks the pooled window",
        "ecgqa 6", "models.deaf_qa: 03 PROTOCOL = paper | reference",
        "never met with ECGs of one length; beside a padded one the window shrinks to 3 of 62 "
        "tokens (100 Hz), 19 of 312 (500 Hz): largest logit change, mean of 20 seeds, 1.46 (SD of "
        "the logits 0.51)",
    ),
    Discrepancy(
        "qa_deaf_one_ecg_crash", "ECG-QA", "ECG-only model for one ECG", "not said",
        "num_ecgs = 1 crashes", "ecgqa 6", "models.deaf_qa: works under both protocols",
        "crashed where it was run",
    ),
    # --- pretraining ------------------------------------------------------------------------------
    Discrepancy(
        "qa_vl_negatives_m3ae", "ECG-QA", "mismatched pairs of M3AE",
        "the report of another ECG",
        "masking starts from the texts before the exchange: every ECG keeps its own report, "
        "whatever the label",
        "ecgqa 3.3", "03 VL_NEGATIVES = mended | reference",
        "valid AUROC of matching, 2 seeds, 600 steps, simulated: .73, .73 mended; .52, .53 as "
        "published",
    ),
    Discrepancy(
        "qa_vl_negatives_medvill", "ECG-QA", "mismatched pairs of MedViLL",
        "the report of another ECG",
        "an exchange of views copies: of each two rows one keeps its own report, so half of the "
        "negatives are true pairs",
        "ecgqa 3.3", "03 VL_NEGATIVES = mended | reference",
        "valid AUROC of matching, 2 seeds, 400 steps, simulated: .73, .75 mended; .56, .50 as "
        "published",
    ),
    Discrepancy(
        "qa_vl_wrong_report_words", "ECG-QA", "words and patches of mismatched pairs",
        "each task sees inputs of its own",
        "they count in the loss, although a wrong report says nothing of the ECG",
        "ecgqa 3.3", "03 VL_NEGATIVES = mended | reference",
        "200 batches of the development cohort: 52 % of the hidden words stand in pairs labelled "
        "as mismatched, 26 % in another ECG's report (MedViLL, whose exchange reaches one of "
        "two); of M3AE, which exchanges nothing, 0 %",
    ),
    Discrepancy(
        "qa_m3ae_position_leak", "ECG-QA", "hidden patches of M3AE",
        "the encoder sees visible patches only",
        "the position code is added before masking, so hidden patches reach their neighbours",
        "ecgqa 3.0, 3.3", "models.m3ae: 03 PROTOCOL = paper | reference",
        "mean absolute change of visible tokens over 10 seeds: 0.31 SD; mended: 3e-7",
    ),
    Discrepancy(
        "qa_bi_ar_leak", "ECG-QA", "what a word sees in MedViLL",
        "the ECG and the words before it",
        "ECG tokens see all words, so later words reach earlier ones from the second layer on",
        "ecgqa 3.1", "kept as published; 03 VL_ATTENTION = bi_ar | bidirectional",
        "SD of the change over SD of the token: 0 with 1 layer, .007 with 2, .037 with 8",
    ),
    Discrepancy(
        "qa_ssl_loss_sum", "ECG-QA", "scale of the wav2vec + CMSC loss", "sum of the objectives",
        "summed over masked tokens; the gradient is divided by their number before each step",
        "ecgqa 3.3", "tasks.ssl_pretrain: mean over masked tokens",
        "the same gradient; over several portions a mean of means, where the code weighs by tokens",
    ),
    Discrepancy(
        "qa_ssl_rlm_all", "ECG-QA", "random lead masking",
        "each lead is masked with a chance of one half",
        "a draw may mask all twelve", "ecgqa 3.3", "features.augment spares one lead",
        "1 ECG in 4,096",
    ),
    Discrepancy(
        "qa_ssl_rlm_conditional", "ECG-QA", "conditional lead masking",
        "not said", "the mode unpacks its own name instead of its condition, and fails",
        "ecgqa 2.3, 6", "conditional_lead_masks of features.augment", "fails on its first batch",
    ),
    # --- published files --------------------------------------------------------------------------
    Discrepancy(
        "ckpt_pickle", "ECG-QA", "reading a checkpoint", "not said",
        "torch.load without weights_only: a file may run code while it is read",
        "ecgqa 6", "models.torch_files imports and calls nothing that a file names",
        "35 of 35 hostile files refused",
    ),
    Discrepancy(
        "ckpt_eval", "ECG-QA", "convolutions named in a checkpoint", "not said",
        "the setting conv_feature_layers is a piece of Python and goes through eval",
        "ecgqa 3.0 (the notation)", "models.checkpoint_sizes parses it",
        "eval would run any expression: 8 of 8 that are more than numbers are refused in a "
        "sentence; 4 of 4 plain notations give their layers",
    ),
    Discrepancy(
        "ecgfm_scale", "ECG-QA", "input of ECG-FM", "5 s at 500 Hz, z-scored lead by lead",
        "the QA settings feed 10 s of raw mV to the same weights",
        "ecgqa 3.4", "features.ecg_fm_input; the QA models read mV",
        "400 real ECGs: a lead's SD is 0.16 mV in place of 1, and an ECG's loudest lead has 4.5 "
        "times that of its quietest (medians); small random encoder, 60 of them: features move by "
        "0.59 of what two ECGs differ by, 67 % stay nearest to their own ECG",
    ),
    # --- answers and metrics ----------------------------------------------------------------------
    Discrepancy(
        "qa_empty_valid", "ECG-QA", "a question without a valid class", "does not occur",
        "exact match looks at valid classes only, so it would count as right",
        "ecgqa 3.2", "tasks.metrics_qa leaves it out and counts it",
        "0 of 28,712 questions of the real excerpt, 0 of 79,074 of the development cohort; "
        "arithmetic: one such question scores 1 whatever is predicted, so a share p of them adds "
        "p times (1 - exact match)",
    ),
    Discrepancy(
        "qa_attribute_ids", "ECG-QA", "attribute numbers of the upper bound",
        "one list of attributes for all splits",
        "numbered anew in each split from what occurs there, so a subset shifts them silently",
        "ecgqa 2.1", "text read by name; the exporter takes one list of attributes for all splits",
        '"static noise" is 4 instead of 69 in a subset of 400 ECGs',
    ),
    Discrepancy(
        "qa_llm_not_sure", "ECG-QA", "matching a language model's reply",
        "exact match with the options",
        'the pattern tries "no" before "not sure", so a true "not sure" never counts; of a verify '
        'question "none" counts as "no"',
        "ecgqa 4, bug 1", "06 LLM_SCORING = sound | reference",
        "development cohort: 129 of 3,160 verify test questions can never be right",
    ),
    Discrepancy(
        "qa_llm_capitals", "ECG-QA", "matching answers with capitals",
        "exact match with the options",
        "the reply is lower-cased, the options are not: 12 of 103 PTB-XL and 92 of 187 MIMIC "
        "answers, all leads among them, can never be matched",
        "ecgqa 4, bug 2", "06 LLM_SCORING = sound | reference",
        "development cohort: 61 of 1,422 query test questions can never be right; of the MIMIC "
        "templates' answers 518 of 1,066, bug 1 included",
    ),
    Discrepancy(
        "qa_llm_lead_blocks", "ECG-QA", "twelve one-lead views of an ECG",
        "each lead by itself",
        "cut out of the same array in turn, so that leads 2 to 12 are shown as zeros",
        "ecgqa 4, bug 3", "06 LLM_PROMPTS = sound | reference",
        "all 99 lead queries of the development cohort's sample get 11 changed blocks; the lookup "
        "reader scores .384 both ways, as its classifier is never sure of one lead",
    ),
    Discrepancy(
        "qa_llm_first_ecg", "ECG-QA", "two-ECG questions that name a lead", "both ECGs",
        "the first ECG only", "ecgqa 4, bug 5", "06 LLM_PROMPTS = sound | reference",
        "none: no such question in the shared excerpt or the development cohort",
    ),
    Discrepancy(
        "qa_llm_posterior", "ECG-QA", "posterior leads", "not said",
        "taken to be V4 to V6", "ecgqa 4, bug 5", "06 LLM_PROMPTS = sound | reference",
        "none: no such wording in the shared excerpt",
    ),
    Discrepancy(
        "qa_llm_load", "ECG-QA", "loading the classifier", "not said",
        "called with an argument that the current library does not take", "ecgqa 4, bug 4",
        "tasks.llm_qa_findings loads what notebook 03 saved",
    ),
    Discrepancy(
        "qa_loss", "ECG-QA", "answers in the loss", "not said; only valid answers are scored",
        "all 103 answers, valid for the question or not", "ecgqa 3.2",
        "03 LOSS_OVER = all | valid",
        "95.8 % of the (question, answer) pairs of the real excerpt are invalid, 0 of them right; "
        "small network, questions about two simulated ECGs: 86 % of the pairs, 3.7 % of the loss "
        "after 400 steps",
    ),
    # --- preprocessors ----------------------------------------------------------------------------
    Discrepancy(
        "qa_path", "ECG-QA", "output folder of the preprocessor",
        "the guide says a sub-folder per wording", "written straight into the destination",
        "ecgqa 2.1", "FLAVOUR names the wording", "none on results",
    ),
    Discrepancy(
        "qa_mapping_missing", "ECG-QA", "mapping when a recording is missing", "not said",
        "the first recording that is not there ends the mapping of all questions",
        "ecgqa 1.5", "data.qa_mapped drops the questions that need it and lists them",
        "stopped at ECG 3076 where 500 recordings were there",
    ),
    Discrepancy(
        "qa_mapping_folder", "ECG-QA", "folder given to the MIMIC mapping",
        "the guide gives the sub-folder of one wording",
        "the script adds the sub-folders itself, finds nothing and writes an empty result",
        "ecgqa 1.5", "data.qa_mapped finds the questions anywhere, and refuses to write none",
        "no question mapped, and no word of it",
    ),
    Discrepancy(
        "qa_missing_samples", "ECG-QA", "recordings with missing samples", "not said",
        "every recording is read whole for its length; a missing sample stops at a debugger prompt",
        "ecgqa 2.1", "data.published_layout leaves the question out and lists it",
        "a job without a terminal hangs",
    ),
    Discrepancy(
        "qa_posterior", "ECG-QA", "posterior leads of the upper bound",
        "not listed; the posterior wall is mirrored in V1-V3",
        "V4-V6 where they stand alone, since the dictionary has the key twice and the later entry "
        "wins; V1-V3 inside the combined inferoposterior groups",
        "ecgqa 2.2", "protocol of data.grounding_leads", "not one of the three leads in common",
    ),
    Discrepancy(
        "qa_infarction_case", "ECG-QA", "name of an infarction in MIMIC-IV-ECG", "one name",
        "a capital in the question script, lower case in the grounding script",
        "ecgqa 2.2", "protocol of data.grounding_leads",
        "matched by name, the two scripts never meet on infarctions",
    ),
    Discrepancy(
        "qa_contradictions", "ECG-QA", "one ECG, leads and attribute answered both ways",
        "not said",
        'infarctions and ischemic changes count as "no"; anything else stops at a debugger prompt',
        "ecgqa 2.2", "data.grounding: the same no; anything else is dropped and listed",
        "a job without a terminal hangs",
    ),
    Discrepancy(
        "qa_grounding_order", "ECG-QA", "order of the upper bound's files", "not said",
        "follows a set of strings, so it changes from run to run",
        "ecgqa 2.2", "data.grounding sorts by split, ECG and leads",
        "none on the values; runs do not repeat",
    ),
    Discrepancy(
        "qa_empty_split", "ECG-QA", "a split without questions about one ECG", "does not occur",
        "an index error ends the upper bound's preprocessing",
        "ecgqa 2.2", "data.published_layout writes an empty manifest",
        "test and validation split of the first 500 records",
    ),
)
