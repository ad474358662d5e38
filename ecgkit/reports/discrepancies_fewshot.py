"""Few-shot ECG-QA: where the paper and its released code disagree. See `discrepancies.py`.

A row "few_<word>" whose switch is QUIRKS is about that word of the parameter; what it is worth on
the same episodes is measured by notebook 06 (metric `effect_few_<word>`).
"""

from __future__ import annotations

from ecgkit.reports.discrepancies_base import Discrepancy

_SYSTEM = "Few-shot QA"

FEWSHOT = (
    Discrepancy(
        "few_question_blind", _SYSTEM, "what the answer is read from",
        "ECG prefix and question together",
        "answer positions start before the question ends, so a short answer cannot depend on it",
        "fewshot 0.1", "06 QUIRKS question_blind",
        "changing the question moved the logits by exactly 0",
    ),
    Discrepancy(
        "few_bos_scored", _SYSTEM, "accuracy", "accuracy of the answers",
        "share of right tokens, a constant first token included", "fewshot 0.2, 4",
        "06 QUIRKS bos_scored",
        "for yes/no, 84.6 % would stand for about 69 % exact, if the paper used this code",
    ),
    Discrepancy(
        "few_oracle_length", _SYSTEM, "where an answer ends", "not said",
        "the true answer's length is given, no end is ever learned, and what is called generation "
        "is the arg max of one forward pass", "fewshot 2, 4", "06 QUIRKS oracle_length",
    ),
    Discrepancy(
        "few_shared_classes", _SYSTEM, "classes of meta-test",
        "classes never met in meta-training",
        "the loader passes the class list into another argument: both sides share classes",
        "fewshot 0.3", "06 QUIRKS shared_classes",
        "both sides had the same 8 classes where it was run",
    ),
    Discrepancy(
        "few_attribute_split", _SYSTEM, "what unseen means", "unseen classes",
        "answer yes to a finding may be in training and answer no to the same finding in testing",
        "fewshot 1", "06 SPLIT_BY = attribute | class | none",
        "development cohort: 8 verify, 17 choose and 6 query questions stand on both sides",
    ),
    Discrepancy(
        "few_with_replacement", _SYSTEM, "support and query", "disjoint",
        "drawn together with replacement, so a question can be support and query at once",
        "fewshot 1", "06 QUIRKS with_replacement",
        "2.5 to 20 % of the queries, for 200 to 23 questions a class; development cohort: 2.5 % of "
        "verify, 7.4 % of choose, 5.6 % of query",
    ),
    Discrepancy(
        "few_episodes_twice", _SYSTEM, "number of episodes", "10,000 for training",
        "each is appended twice, so half of that number are distinct", "fewshot 1",
        "06 QUIRKS episodes_twice",
        "500 of 1,000 episodes drawn so are distinct (development cohort); arithmetic: an "
        "interval over test episodes that counts both is 0.71 of its right width",
    ),
    Discrepancy(
        "few_conflicts", _SYSTEM, "classes of a free draw", "not said",
        "an episode mixes questions, so that which question it is says the answer",
        "fewshot 1", "06 CONTRASTIVE = auto | on | off",
        "development cohort, 5-way 5-shot: the question alone answers 98.7 % of verify, 91.8 % of "
        "choose, 89.5 % of query; contrastive 50 % (2-way verify) and 20 % (5-way query)",
    ),
    Discrepancy(
        "few_conflicting", _SYSTEM, "templates whose class keys mix questions", "not said",
        "templates 4, 14, 17, 26, 28, 31 and 40 are left out", "fewshot 1",
        "06 KEEP_CONFLICTING", "312 of the 343 questions of the shared real subset",
    ),
    Discrepancy(
        "few_choose_none", _SYSTEM, "choose questions answered by none", "one class",
        "counted once under each option; a working class split would lose all but the answer both",
        "fewshot 1, 6", "data.episodes: one class per pair and answer under sound",
        "development cohort: 32 % of the 11,197 choose questions, so that the pools hold 14,822; "
        "the answer both, all that a working class split would keep, is 5.3 % of them",
    ),
    Discrepancy(
        "few_loss_mean", _SYSTEM, "mean of the loss", "not said",
        "over all answer tokens of a batch, so that long answers weigh more", "fewshot 2",
        "mean of each answer, then over answers",
        "equal for answers of one length; 0.15 in a toy test with mixed lengths",
    ),
    Discrepancy(
        "few_decode", _SYSTEM, "decoding", "generation",
        "the language model runs again on each query alone and at every step, for the same arg max",
        "fewshot 6", "tasks.fewshot_eval reads the scores of one batched pass",
        "400 of the 431 passes of a 15-step episode",
    ),
    Discrepancy(
        "few_all", _SYSTEM, "question type all", "a table row", "crashes: an argument is missing",
        "fewshot 3", "06 QUESTION_TYPE = all",
        "no number there; were it mended, 99 % of 300 5-way 5-shot episodes of the development "
        "cohort would mix the kinds, and the question alone answer 96.9 %; the kit mixes them in "
        "0 %",
    ),
    Discrepancy(
        "few_untrained_mapper", _SYSTEM, "the evaluated mapper", "the meta-trained mapper",
        "the inference script does not load it and evaluates a random one", "fewshot 0.4",
        "06 QUIRKS untrained_mapper",
    ),
    Discrepancy(
        "few_outer_loss", _SYSTEM, "outer loss", "query loss after adaptation",
        "mean of the query losses after inner steps 2 to K (none for K = 1)", "fewshot 3",
        "06 OUTER_FROM",
        "16 verify episodes, simulated, random language model, untrained mapper, K = 15: 1.44 "
        "nats in place of 1.17 after step K, cosine of both outer gradients 0.79; for K = 1 the "
        "mean of no step, nan",
    ),
    Discrepancy(
        "few_live_dropout", _SYSTEM, "dropout in the mapper", "not said",
        "always on, also while testing", "fewshot 2", "06 QUIRKS live_dropout",
        "untrained mapper, random embeddings: the soft tokens of one ECG differ by 1.23 of their "
        "size from call to call, those of two ECGs without dropout by 1.33",
    ),
    Discrepancy(
        "few_mapper_ignored", _SYSTEM, "mapper types", "attention or MLP mapper",
        "the flag is stored and never read; there is only the attention mapper", "fewshot 2",
        "06 QUIRKS mapper_ignored, MAPPER = attention | mlp | linear | perceiver",
        "arithmetic, 768 to 4,096 (Llama-3.1-8B): MLP asks for 70.3 M weights, the attention "
        "mapper that is trained instead has 26.25 M",
    ),
    Discrepancy(
        "few_scale", _SYSTEM, "scale of the mapper's attention", "not said",
        "one over the root of the whole width, not of a head's", "fewshot 2",
        "models.prefix_mapper keeps the released scale",
        "arithmetic: scores 2.83 times smaller with 8 heads; untrained mapper, random embeddings: "
        "mean largest weight 0.2006 in place of 0.2018, even being .2",
    ),
    Discrepancy(
        "few_encoder_mode", _SYSTEM, "the frozen ECG encoder", "frozen",
        "left in training mode, so that its dropout is live, and run again at every call",
        "fewshot 2, 6", "evaluation mode, once per record (tasks.ecg_features)",
        "published size, random weights, 8 simulated ECGs of 5 s: two calls on one ECG differ by "
        "0.11 of what two ECGs differ by; cosine of both calls 0.9977",
    ),
    Discrepancy(
        "few_frozen_flags", _SYSTEM, "unfreezing the language model", "a flag of the scripts",
        "the flags change nothing: the model is always frozen", "fewshot 2",
        "06 FROZEN_LM",
        "whatever the flag says, 0 weights of the language model train; the kit's FROZEN_LM=False "
        "trains 72,192 beside the demo model's 1,003,360 (LoRA of rank 8)",
    ),
    Discrepancy(
        "few_question_cut", _SYSTEM, "long questions", "not said",
        "cut from the right at 30 tokens, which can cut the word Answer off", "fewshot 2",
        "06 MAX_QUESTION",
        "in BERT's word pieces 0.0 % of 10,000 real verify questions are longer; of 25,593 "
        "simulated choose and query questions 13.9 %, and 11.7 % lose the word",
    ),
    Discrepancy(
        "few_bleu", _SYSTEM, "BLEU-4 of answers", "reported beside accuracy",
        "of one-word answers, where it means nothing", "fewshot 4",
        "06 reports text scores for answers in words only",
        "arithmetic (NLTK's method 1): a right answer of 1, 2, 3, 4 words scores 0.178, 0.316, "
        "0.562, 1.000, a wrong word 0; for yes/no it is 0.178 times the accuracy",
    ),
)  # fmt: skip
