"""Targets that no training decides: parameter counts, counts of published files, and what the paper
presets ask for. They stand in the kit's own counts (`ledger_facts`).
"""

from __future__ import annotations

from ecgkit.reports.ledger_files import COUNTS
from ecgkit.reports.ledger_target import NB, Target


def counts() -> list[Target]:
    found = [
        Target(COUNTS, f"n_parameters_{name}", where, kind="size", scale=1e-6, why=why)
        for name, where, why in (
            ("convnext_base", {"system": "ESI", "task": "model size", "method": "ConvNeXt-base"},
             ""),
            ("convnext_tiny", {"system": "ESI", "task": "model size", "method": "ConvNeXt-tiny"},
             ""),
            ("xresnet1d101", {"system": "ESI", "task": "model size", "method": "XResNet101-1D"},
             ""),
            ("vit1d", {"system": "ESI", "task": "model size", "method": "ViT-1D"},
             "the paper gives the size alone and its code has no ViT; the kit's is of its own "
             "design"),
            ("ecg_fm", {"system": "ECG-FM", "metric": r"parameters \(millions\)"}, ""),
        )
    ]  # fmt: skip
    qa = {"system": "ECG-QA", "table": "README|released files|abstract"}
    ptb, mimic = qa | {"dataset": "PTB-XL|both"}, qa | {"dataset": "MIMIC-IV-ECG"}
    table = {
        "qa_templates": ptb | {"metric": "question templates"},
        "qa_question_types": ptb | {"metric": "question types"},
        "qa_attribute_types": ptb | {"metric": "attribute types"},
        "release_ptbxl_answers": ptb | {"metric": r"answers \(num_labels\)"},
        "release_mimic_answers": mimic | {"metric": r"answers \(num_labels\)"},
        "release_ptbxl_attributes": ptb | {"metric": "upper-bound attributes"},
        "release_mimic_attributes": mimic | {"metric": "upper-bound attributes"},
        "release_ptbxl_templates": ptb | {"metric": "templates with answer lists"},
        "release_mimic_templates": mimic | {"metric": "templates with answer lists"},
        "release_ptbxl_train_questions": ptb | {"metric": "QA samples, train, paraphrased"},
        "risk_time_attention": {"metric": "temporal attention modules"},
    }
    for split in ("train", "valid", "test"):
        table[f"release_ptbxl_{split}_questions "] = ptb | {"metric": "QA samples",
                                                            "setting": split}  # fmt: skip
        table[f"release_ptbxl_{split}_ecgs"] = ptb | {"metric": "ECGs listed", "setting": split}
        table[f"release_mimic_{split}_ecgs"] = mimic | {"metric": "ECGs listed", "setting": split}
    found += [Target(COUNTS, name.strip(), where, kind="count") for name, where in table.items()]
    found += [
        Target(NB["02"], "n_stored", {"system": "ESI", "table": "text", "dataset": "PTB-XL",
                                      "metric": "records"}, kind="result",
               why="PTB-XL 1.0.3 holds 21,799 records, 38 fewer than its first version"),
        Target(NB["05"], "identification_top1",
               {"system": "ESI", "dataset": "PTB-XL", "metric": "identification classes"},
               field="n"),
    ]  # fmt: skip
    return found


def settings() -> list[Target]:
    esi, few = {"system": "ESI"}, {"system": "FSL-ECG-QA", "task": "hyper-parameter",
                                   "setting": "train.py"}  # fmt: skip
    risk = {"system": "HF-dual-attention", "table": "README"}
    rows = [
        ("paper_04_lr", esi | {"metric": "(initial )?learning rate"}, ""),
        ("paper_04_epochs", esi | {"metric": "(total )?epochs"},
         "the paper preset counts steps, about 29 epochs of 660,000 pairs"),
        ("paper_04_batch_each", esi | {"metric": "batch size per GPU|batch size in usage line"},
         ""),
        ("paper_04_contrastive_weight", esi | {"metric": r"loss weights .*"}, ""),
        ("paper_05_n_seeds", esi | {"metric": "runs averaged"}, ""),
        ("paper_04_top_k", esi | {"metric": "CQA top-k used"}, ""),
        ("paper_04_text_width", esi | {"metric": "model dimension"}, ""),
        ("paper_04_seconds", esi | {"table": "Table 1", "metric": r"duration \(s\)"}, ""),
        ("paper_04_fs", esi | {"table": "Table 1", "metric": r"sampling rate \(Hz\)"}, ""),
        ("paper_05_half_s", esi | {"dataset": "PTB-XL", "metric": "identification segment .*"}, ""),
        ("paper_03_segments", {"system": "ECG-FM", "metric": r"effective batch \(segments\)"}, ""),
        ("paper_06_llm_share",
         {"system": "ECG-QA", "table": "README", "metric": "test fraction sampled .*"}, ""),
        ("risk_folds", risk | {"metric": "CV folds"}, ""),
        ("risk_repeats", risk | {"metric": r"repeats \(seeds\)"}, ""),
        ("paper_07_code_width", risk | {"metric": "latent size z_dims"}, ""),
        ("paper_07_base_features", risk | {"metric": "base_feature_dim"}, ""),
        ("paper_07_n_down", risk | {"metric": "downsample_factor"}, ""),
        ("paper_07_finetune_lr", risk | {"metric": "learning rate"}, ""),
        ("paper_07_finetune_batch", risk | {"metric": "batch size", "dataset": "UKB-MI"}, ""),
        ("paper_07_finetune_batch", risk | {"metric": "batch size", "dataset": "UKB-HYP"},
         "the paper preset takes the other cohort's 128; set FINETUNE_BATCH=1024"),
        ("paper_06_n_way", few | {"metric": "n_way"},
         "the sound protocol asks yes against no, 2 classes; --set PROTOCOL=reference N_WAY=5"),
        ("paper_06_mix_questions", few | {"metric": "dif_exp"},
         "the sound protocol mixes question_ids (published: dif_exp=1); --set MIX_QUESTIONS=False"),
    ]  # fmt: skip
    names = {"batchsz_train": "meta_steps", "batchsz_test": "n_test_episodes", "k_spt": "k_shot",
             "k_qry": "n_query", "prompt": "prompt", "frozen_gpt": "frozen_lm",
             "repeats": "repeats", "seq_len": "max_question", "seq_len_a": "max_answer",
             "prefix_length": "n_prefix", "task_num": "tasks_per_step", "meta_lr": "outer_lr",
             "update_lr": "inner_lr", "update_step": "inner_steps",
             "update_step_test": "inner_steps"}  # fmt: skip
    rows += [(f"paper_06_{ours}", few | {"metric": theirs}, "") for theirs, ours in names.items()]
    return [
        Target(COUNTS, name, where, kind="setting", why=why,
               scale=100 if name == "paper_06_llm_share" else 1)
        for name, where, why in rows
    ]  # fmt: skip
