"""What it would take to measure a published number here: one sentence a row, by the first rule
that fits. Concrete things only: records, weights, a model, machines, books.

Usage:

    needs(row)       # "MIMIC-IV-ECG (credentialed, PhysioNet) and 4 GPUs at the published size"
"""

from __future__ import annotations

import re

from ecgkit.reports.ledger_rows import Published

GPU = "a GPU for the published sizes (preset paper)"
PTBXL = f"all of PTB-XL (open) and {GPU}"
ICBEB = f"all of CPSC-2018 (ICBEB, open) and {GPU}"
MIMIC = "MIMIC-IV-ECG (credentialed, PhysioNet)"
UKB = "UK Biobank's ECGs and follow-up (credentialed)"
NO_MODEL = "an implementation of {}: the kit has none"
# (patterns by column, what is needed); {method} is the row's method.
_RULES: tuple[tuple[dict[str, str], str], ...] = (
    # ESI
    ({"system": "ESI", "table": "Table [78]|A.3"},
     "two textbooks under copyright, a paid language model and Wen and Kang's 28 descriptions; "
     "`tasks.cqa_ablation` makes the same table from texts of your own"),
    ({"system": "ESI", "method": "(MLBF-Net|MVMSN|CRT|METS|MERL).*"}, NO_MODEL),
    ({"system": "ESI", "method": "Ensemble.*"}, NO_MODEL),
    ({"system": "ESI", "task": ".*pretraining data"}, "the data set itself, in full: {dataset}"),
    ({"system": "ESI", "task": "data set size", "dataset": "MIMIC-IV-ECG"}, MIMIC),
    ({"system": "ESI", "task": "data set size"}, "the data set itself, in full: {dataset}"),
    ({"system": "ESI", "metric": "pretraining (pairs|signals).*"}, MIMIC),
    ({"system": "ESI", "table": r"Table (5\(.\)|6)"},
     f"{MIMIC} and {GPU}; the sweep sweeps/esi_paper.yaml makes the comparison on any data, and "
     "`ecgkit report RUN --sweep SWEEP` brings it here"),
    ({"system": "ESI", "table": r"text \(claims\)"},
     f"the tables it is a difference of: {MIMIC}, all of PTB-XL and {GPU}"),
    ({"system": "ESI", "dataset": "PTB-XL", "method": "(SimCLR|BYOL|CLOCS|LEAVES).*",
      "setting": "few-shot.*"}, f"a fine-tuning on 5 % of the labels, {PTBXL}"),
    ({"system": "ESI", "dataset": "ICBEB", "method": "ESI.*"}, f"{MIMIC} and {ICBEB}"),
    ({"system": "ESI", "dataset": "PTB-XL", "method": "ESI.*"}, f"{MIMIC} and {PTBXL}"),
    ({"system": "ESI", "dataset": "ICBEB"}, ICBEB),
    ({"system": "ESI", "dataset": "PTB-XL"}, PTBXL),
    ({"system": "ESI", "metric": "GPUs.*"}, "four A100 GPUs"),
    ({"system": "ESI", "table": "text|README|model page"},
     "nothing to measure: a setting of the published run that the kit has in another form"),
    ({"task": "model size"}, "its count in kit_counts.json"),
    # ECG-QA
    ({"system": "ECG-QA", "dataset": "MIMIC-IV-ECG"}, f"ECG-QA's MIMIC part and {MIMIC}"),
    ({"system": "ECG-QA"}, "ECG-QA's published files (open), whole"),
    # few-shot
    ({"system": "FSL-ECG-QA", "table": "abstract"},
     f"ECG-QA in full, all of PTB-XL, Llama-3.1-8B (gated) and {GPU}"),
    ({"system": "FSL-ECG-QA", "task": "released weights"},
     "the authors' checkpoints, released by link"),
    ({"system": "FSL-ECG-QA", "table": "README inference command"},
     "nothing to measure: 10 episodes stand where the training command has 1,000"),
    ({"system": "FSL-ECG-QA"},
     "nothing to measure: a setting of the published scripts that the kit has no use for"),
    # risk
    ({"system": "HF-dual-attention", "table": "README", "task": "set-up"},
     "the published Cox baseline's list of ECG measurements"),
    ({"system": "HF-dual-attention"}, f"{UKB} and {GPU}"),
    # the others
    ({"system": "PTBXL-benchmark", "metric": ".*F_beta.*|.*G_beta.*|Fmax.*"},
     "the benchmark's F-measures, which the kit does not compute, and all of the data"),
    ({"system": "PTBXL-benchmark", "method": "inception1d|fcn_wang|lstm_bidir|Wavelet.NN|.*wang"},
     NO_MODEL),
    ({"system": "PTBXL-benchmark", "dataset": "ICBEB"},
     f"{ICBEB}; notebook 05 with TASKS=icbeb and BASELINES"),
    ({"system": "PTBXL-benchmark"},
     f"{PTBXL}; notebook 05 with BASELINES and the task's name in TASKS"),
    ({"system": "ECG-FM", "dataset": "MIMIC.*"}, f"{MIMIC}, UHN's records (closed) and {GPU}"),
    ({"system": "ECG-FM"}, f"{MIMIC} and UHN's records (closed)"),
    ({"system": "MERL", "setting": ".*"}, NO_MODEL),
)  # fmt: skip


def needs(row: Published) -> str:
    """What a run would need. Every row has a rule: a row without one is a fault of this table."""
    for where, text in _RULES:
        if all(re.fullmatch(p, getattr(row, column)) for column, p in where.items()):
            method = re.sub(r" \(.*", "", row.method) or row.system
            return text.format(method, dataset=row.dataset or "it")
    return "a data set or model that the kit does not know"
