"""ESI: where the paper and its published code disagree, or say nothing. See `discrepancies.py`."""

from __future__ import annotations

from ecgkit.reports.discrepancies_base import UNMEASURED, Discrepancy

ESI = (
    Discrepancy(
        "esi_caption_leak", "ESI", "captioning loss",
        "each word is predicted from the words before it and the ECG",
        "the decoder is fed by a bidirectional text encoder that has already read the next word",
        "esi 1.4, finding B", "04 PROTOCOL = paper | reference",
        "4 random ECGs learnt by heart: shown another's, 1.87 (paper) against 0.47 "
        "nats a word (code); 4 against 2 of 4 captions right",
    ),
    Discrepancy(
        "esi_cross_attention", "ESI", "cross-attention to the ECG",
        "attentional pooling into ECG tokens",
        "one pooled vector repeated: every query gets the same answer and never learns",
        "esi 1.4, finding A", "04 PROTOCOL = paper | reference",
        "with one vector the attention is exactly a broadcast sum (difference below 2e-7)",
    ),
    Discrepancy(
        "esi_contrast_pool", "ESI", "the contrast's side of the ECG",
        "CoCa's: a pooling query of its own (Fig. 3)",
        "the encoder's mean; the pooling module is never called",
        "esi 1.5", "04 CONTRAST_POOL = query | mean",
        "development cohort, one seed of the demo: zero-shot AUC .840 (query), .815 (mean); linear "
        "probe .906, .894",
    ),
    Discrepancy(
        "esi_text_pool", "ESI", "the contrast's side of the text",
        "[CLS], normalised",
        "[CLS], not normalised",
        "esi 1.5", "04 TEXT_POOL = cls | mean",
        "development cohort, small text encoder from nothing, 300 steps: zero-shot "
        "AUC .746 (cls), .766 (mean)",
    ),
    Discrepancy(
        "esi_contrastive", "ESI", "contrastive loss",
        "sum of both directions, divided by a temperature",
        "mean of both directions, multiplied by the exponential of a parameter that starts at 1",
        "esi 1.5", "protocol of models.losses_esi",
        "a factor of 2 in the loss",
    ),
    Discrepancy(
        "esi_caption_sum", "ESI", "what the captioning loss counts",
        "sum over the words of a caption",
        "mean over all words of the batch",
        "esi 1.5", "04 PROTOCOL; CAPTION_WEIGHT",
        "a factor of the captions' length against the contrast, so the demo weighs it 0.05",
    ),
    Discrepancy(
        "esi_last_column", "ESI", "text the contrast reads",
        "the whole text",
        "the last column of the batch is cut off: [SEP] of the longest caption alone",
        "esi 5", "04 PROTOCOL (losses_esi.shift_captions)",
        "a text's latent depends on its batch",
    ),
    Discrepancy(
        "esi_schedule", "ESI", "learning-rate schedule",
        "30 epochs, 5 of warm-up, a tenth every 10 epochs",
        "linear warm-up over a tenth of the steps, then linear to zero",
        "esi 1.5, 2", "04 SCHEDULE = step | linear",
        "development cohort, one seed of the demo: zero-shot AUC .796 (step), .815 (linear); "
        "linear probe .878, .894",
    ),
    Discrepancy(
        "esi_negatives", "ESI", "negatives from other GPUs",
        "four GPUs of 48 pairs; not said",
        "gathering is decided before the process group exists, so each GPU sees its "
        "own 48 only; had it run, its labels fail on shape",
        "esi 5", "always gathered",
        "two processes give the loss and gradients of one within 1e-6",
    ),
    Discrepancy(
        "esi_gain", "ESI", "record-wide gain",
        "not discussed",
        "stem and norm make the ConvNeXt encoder blind to gain and offset of a whole record",
        "esi 5b", "04 PROTOCOL = paper | reference",
        "x10 and +2 mV changed the embedding by 7e-7",
    ),
    Discrepancy(
        "esi_vit", "ESI", "ViT-1D",
        "84.92 M parameters, nothing else",
        "not in the repository",
        "esi 1.3", "04 ENCODER = vit",
        "ours has 85.52 M",
    ),
    Discrepancy(
        "esi_retrieval", "ESI", "writing the waveform notes",
        "LangChain, ada-002, GPT-3.5, two passages, two textbooks",
        "LlamaIndex, Titan embeddings, Claude 3.5 Sonnet, three passages, one folder",
        "esi 1.5, 3", "04 TOP_K, RETRIEVER, EMBEDDER, WRITER, KNOWLEDGE",
        "exact cosine and Chroma give the same passages for 658 of 658 queries",
    ),
    Discrepancy(
        "esi_pairing", "ESI", "whose answer is whose",
        "not discussed",
        "answers are collected as they complete and zipped with the questions in order",
        "esi 3", "answers are keyed",
        "3,862 questions, simulated waiting times: 0 % of the answers stand beside another "
        "statement with 1 thread, 50 % with 2, 90 % with 8; keyed: 0",
    ),
    Discrepancy(
        "esi_technical", "ESI", "technical statements",
        "not discussed",
        "596 of 637 'leads unsuitable' statements got invented findings",
        "esi 3", "such statements are named, never described",
        "298 statements of such leads, made up: the kit knows 298 as technical and describes 0; "
        "without that check its own retrieval would find a passage for 16",
    ),
    Discrepancy(
        "esi_variants", "ESI", "variants of a statement",
        "not discussed",
        "looked up letter by letter; a miss drops the record without a word",
        "esi 3", "statements are brought to one wording first",
        "development cohort in carts' words (capitals and full stops vary as simulated): 626 "
        "spellings of 179 statements; looked up among the training folds', 6.1 % of the test ECGs "
        "drop out letter by letter, 0.0 % in one wording",
    ),
    Discrepancy(
        "esi_query", "ESI", "what retrieves",
        "the question",
        "the question",
        "esi 3", "cqa.Assistant(query=)",
        "MiniLM finds a finding's own note first for .96 of 71 statements by the bare"
        " finding, .83 by the question (set used for tuning)",
    ),
    Discrepancy(
        "esi_bertscore_scale", "ESI", "what a raw BERTScore is worth",
        "no control",
        "none",
        "esi 4, Tables 7 and 8", "tasks.cqa_ablation, row control",
        "MiniLM: .567 for the right reference, .440 for another finding's",
    ),
    Discrepancy(
        "esi_table8", "ESI", "no textbook, Table 8",
        "F1 .7928 is above the harmonic mean of its own P and R, which a mean of F1 cannot be",
        "none",
        "esi 4", "",
        "arithmetic on the published numbers",
    ),
    Discrepancy(
        "esi_evaluation", "ESI", "evaluation",
        "zero-shot, probing, fine-tuning, identification",
        "no evaluation code; class set, prompts and probe settings are not stated",
        "esi 4", "notebook 05 states its own",
        UNMEASURED,
    ),
    Discrepancy(
        "esi_f1_threshold", "ESI", "thresholds of the macro F1",
        "not stated",
        "no evaluation code",
        "esi 4", "validation fold",
        "development cohort, 5 superclasses by logistic regression on 8 measurements: macro F1 "
        "0.342 at .5, 0.563 at thresholds of the validation fold, 0.580 at the test fold's own "
        "best",
    ),
    Discrepancy(
        "esi_identification", "ESI", "identification",
        "one 5-s stretch enrols",
        "no evaluation code",
        "esi 4", "identification.read_all(n_versions=)",
        "development cohort, top-1 of the linear head: .117 with the stretch alone, "
        ".205 with 8 shifted in time",
    ),
    Discrepancy(
        "esi_icbeb_test", "ESI", "ICBEB test set",
        "2,954 records, which are hidden; identification has 689, a tenth of 6,877",
        "no evaluation code",
        "esi 4", "label_set icbeb, fold 10",
        UNMEASURED,
    ),
    Discrepancy(
        "esi_mmd", "ESI", "MMD of Fig. 6",
        "kernel and estimator not stated",
        "none",
        "esi 4", "mmd.squared_mmd(kernel=, unbiased=)",
        "samples of one distribution: the biased estimate falls more than fivefold "
        "from 20 to 200 ECGs, the unbiased stays near 0",
    ),
    Discrepancy(
        "esi_not_rerun", "ESI", "rows of Table 2 quoted from others",
        "MLBF-Net, MVMSN, MERL, CRT, METS",
        "none",
        "esi 4", "",
        "not re-run",
    ),
    Discrepancy(
        "esi_leaves", "ESI", "LEAVES",
        "learned views of Yu et al. 2022",
        "none",
        "esi 4", "05 BASELINES",
        "ours leaves out the permutation of pieces and caps every strength",
    ),
)
