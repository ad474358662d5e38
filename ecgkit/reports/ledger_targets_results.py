"""Targets whose value a training and its data decide: the headline numbers, numbers without a
published counterpart, and the encoders beside ESI.
"""

from __future__ import annotations

from ecgkit.reports.ledger_target import NB, Target

WITH_MIMIC = (NB["04"], "n_pretrain_ecgs", 600_000)
WITH_LLAMA = (NB["06"], "llm", r"(?i).*llama-3\.1-8b.*")
MIMIC = "the published encoder was pretrained on MIMIC-IV-ECG (credentialed), ours was not"
LLAMA = "the published language model is Llama-3.1-8B (gated), ours is another"
_ESI = {"system": "ESI", "dataset": "PTB-XL", "method": "ESI"}
_LIKE_ESI = {"why": MIMIC, "unless": WITH_MIMIC, "system": "ESI"}
_TABLE = "trained_with_labels.csv:{}|{}|macro AUC"

HEADLINES = (
    Target(NB["05"], "zero_shot_macro_auc", _ESI | {"table": "Table 3", "metric": "AUC"},
           quantity="zero-shot macro AUC, superclasses", **_LIKE_ESI),
    Target(NB["05"], "zero_shot_macro_f1", _ESI | {"table": "Table 3", "metric": "F1-macro"},
           quantity="zero-shot macro F1, superclasses", **_LIKE_ESI),
    Target(NB["05"], "linear_probe_macro_auc",
           _ESI | {"table": "Table 2", "setting": "linear probing"},
           quantity="linear-probe macro AUC, superclasses", **_LIKE_ESI),
    *(Target(NB["05"], metric,
             _ESI | {"table": "Table 4", "setting": "linear probing", "metric": score},
             quantity=f"1-shot identification, {score}", **_LIKE_ESI)
      for metric, score in (("identification_auc", "AUC"), ("identification_top1", "ACC"))),
    *(Target(NB["06"], f"few_shot_{word}_adapted",
             {"system": "FSL-ECG-QA", "task": f".*single-{word}"}, scale=100, labels="questions",
             why=LLAMA, unless=WITH_LLAMA, system="FSL-ECG-QA",
             quantity=f"single-{word} accuracy after adaptation, %")
      for word in ("verify", "choose", "query")),
    Target(NB["07"], "c_index",
           {"system": "HF-dual-attention", "dataset": "UKB-HYP", "metric": "C-index"},
           data="UK Biobank", full=11_575, labels="outcomes", system="HF-dual-attention",
           quantity="C-index of the risk network"),
)  # fmt: skip
# Quantities the kit measures of which no published value could be read.
UNPUBLISHED = (
    *(Target(NB["03"], f"exact_match_{name}", labels="questions", system="ECG-QA",
             quantity=f"exact match, {words}")
      for name, words in (("fusion", "fusion transformer"), ("blind", "text only"),
                          ("deaf", "ECG only"), ("resnet_lstm", "ResNet + LSTM"),
                          ("m3ae", "M3AE"), ("medvill", "MedViLL"),
                          ("majority", "commonest answer"))),
    Target(NB["03"], "grounding_auroc_se_wrn", system="ECG-QA",
           quantity="upper bound, SE-WRN macro AUROC over attributes"),
)  # fmt: skip


def trained() -> list[Target]:
    """Encoders beside ESI, of Table 2 and of the benchmark's leaderboard."""
    found = []
    esi = {"system": "ESI", "table": "Table 2"}
    for data, task in (("PTB-XL", "superdiagnostic"), ("ICBEB", "icbeb")):
        cohort = {"data": "ptbxl"} if data == "PTB-XL" else {"data": "cpsc", "full": 6877}
        for method, setting, model in _TABLE_2:
            where = esi | {"dataset": data, "setting": setting, "method": method + r"( \(.*)?"}
            why = MIMIC if method == "ESI" else ""
            found.append(Target(NB["05"], _TABLE.format(model, task), where, why=why,
                                unless=WITH_MIMIC, **cohort))
    tasks = {"all statements": "all", "diagnostic statements": "diagnostic",
             "diagnostic subclasses": "subdiagnostic", "diagnostic superclasses": "superdiagnostic",
             "form statements": "form", "rhythm statements": "rhythm"}  # fmt: skip
    board = {"system": "PTBXL-benchmark", "table": "leaderboard", "metric": "macro AUC"}
    for method, name in (("xresnet1d101", "xresnet"), ("lstm", "lstm")):
        for words, task in tasks.items():
            where = board | {"dataset": "PTB-XL", "task": words, "method": method}
            metric = _TABLE.format(f"{name}, from scratch", task)
            found.append(Target(NB["05"], metric, where))
        where = board | {"dataset": "ICBEB", "method": method}
        metric = _TABLE.format(f"{name}, from scratch", "icbeb")
        found.append(Target(NB["05"], metric, where, data="cpsc", full=6877))
    return found


_TABLE_2 = (
    ("ESI", "fine-tune", "ESI, fine-tuned"),
    ("XResNet101", "supervised", "xresnet, from scratch"),
    ("ResNet50", "supervised", "resnet50, from scratch"),
    ("LSTM", "supervised", "lstm, from scratch"),
    ("ConvNeXt-Base", "supervised", "convnext, from scratch"),
    *((method, setting, f"{name}, {how}")
      for method, name in (("SimCLR", "simclr"), ("BYOL", "byol"), ("CLOCS", "cmsc"),
                           ("LEAVES", "leaves"))
      for setting, how in (("linear probing", "linear probe"), ("fine-tune", "fine-tuned"))),
)  # fmt: skip
