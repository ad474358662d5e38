"""Every flag of the released few-shot code, and the setting that stands for it here.

Source: train.py and inference.py of Tang et al., CHIL 2025, read and run. What a flag does there,
where its name promises something else, is said beside it.

Usage:

    flags_table()          # columns: published flag, published default, here
"""

from __future__ import annotations

import pandas as pd

# Settings stand in backticks.
OLD_FLAGS: dict[str, str] = {
    "experiment_id": "`out`: the run's folder",
    "model_type": "`out`; there only a suffix of the experiment's name",
    "data_root": "`ecgqa`",
    "data_path": "`data`; there in training only, and unused",
    "paraphrased_path": "`ecgqa` and `flavour`",
    "test_dataset": "`test_data` and `test_ecgqa`; '' is what was trained on",
    "question_type": "`question_type`; their 'all' crashes",
    "dif_exp": "`mix_questions`: 1 is True; there always as 1, whatever it says, since the split "
    "of classes never comes into force",
    "n_way": "`n_way`",
    "k_spt": "`k_shot`",
    "k_qry": "`n_query`",
    "repeats": "`repeats`",
    "batchsz_train": "`meta_steps` times `tasks_per_step`; there half of them are the other half "
    "again",
    "batchsz_test": "`n_test_episodes`",
    "epoch": "`meta_steps`: episodes are drawn afresh, so there is no second pass over them",
    "model_name": "`llm`: a hub id or folder; '' is a small Llama trained here",
    "frozen_gpt": "`frozen_lm`; there without effect, always frozen",
    "frozen_features": "none: the ECG encoder is always frozen, there too, whatever the flag says; "
    "its embeddings are computed once",
    "prompt": "`prompt`",
    "seq_len": "`max_question`",
    "seq_len_a": "`max_answer`",
    "prefix_length": "`n_prefix`",
    "mapper_type": "`mapper`; there without effect, always the attention mapper (quirk "
    "mapper_ignored of `quirks`)",
    "task_num": "`tasks_per_step`",
    "meta_lr": "`outer_lr`",
    "update_lr": "`inner_lr`",
    "update_step": "`inner_steps`",
    "update_step_test": "`test_inner_steps`; 0 is as many as in training",
    "num_workers": "`jobs`: reading recordings; episodes need none, embeddings are in memory",
}

# inference.py's in brackets where it has another.
PUBLISHED_DEFAULTS: dict[str, str] = {
    "experiment_id": "123456", "model_type": "''", "data_root": "ecg_qa", "data_path": "a folder",
    "paraphrased_path": "/ecgqa/ptbxl/paraphrased/", "test_dataset": "ptb-xl",
    "question_type": "single-verify", "dif_exp": "0", "n_way": "5", "k_spt": "5", "k_qry": "5",
    "repeats": "0", "batchsz_train": "10000", "batchsz_test": "1000 (10)", "epoch": "1",
    "model_name": "llama3.1-8b (Llama 3.2 1B)", "frozen_gpt": "1", "frozen_features": "1",
    "prompt": "1", "seq_len": "30", "seq_len_a": "30", "prefix_length": "4", "mapper_type": "MLP",
    "task_num": "1", "meta_lr": "5e-4", "update_lr": "0.05", "update_step": "15",
    "update_step_test": "15", "num_workers": "8",
}  # fmt: skip


def flags_table() -> pd.DataFrame:
    """One row per published flag; settings in capitals, as a parameters cell writes them."""
    rows = [
        (flag, PUBLISHED_DEFAULTS[flag], _capitals(here)) for flag, here in OLD_FLAGS.items()
    ]
    return pd.DataFrame(rows, columns=["published flag", "published default", "here"])


def settings_named(here: str) -> list[str]:
    """The settings a remark of OLD_FLAGS names: "`ecgqa` and `flavour`" -> ecgqa, flavour."""
    return here.split("`")[1::2]


def _capitals(here: str) -> str:
    for name in settings_named(here):
        here = here.replace(f"`{name}`", name.upper())
    return here
