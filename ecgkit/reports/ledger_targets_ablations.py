"""Targets that compare runs: ESI's Tables 5 and 6, which a sweep fills (`ablation_numbers`)."""

from __future__ import annotations

from ecgkit.reports.ablation_numbers import N_PRETRAIN
from ecgkit.reports.ledger_files import SWEEP
from ecgkit.reports.ledger_target import Target

_TABLE_5A = {
    "ESI-tiny full": "full",
    "ESI-tiny w/o CQA": "no_CQA",
    "ESI-tiny w/o captioning loss": "no_caption_loss",
    "ESI-tiny w/o contrastive loss": "no_contrastive_loss",
}
_TABLE_5B = {
    "ESI with ViT-1D": "encoder_vit",
    "ESI with XResNet101-1D": "encoder_xresnet1d101",
    "ESI with ConvNeXt-tiny": "encoder_tiny",
    "ESI with ConvNeXt-base": "encoder_base",
}
_TABLE_6 = {
    "ESI-tiny pretrained on MIMIC-IV-ECG only": "mimic_only",
    "ESI-tiny pretrained on all data": "all_sources",
    "difference MIMIC-only minus all": "mimic_only_minus_all_sources",
}
_SHORT = {
    ("arrhythmia diagnosis", "linear probing"): "probe",
    ("arrhythmia diagnosis", "zero-shot"): "zero_shot",
    ("1-shot user identification", "linear probing"): "identification",
}
WHY = "the published runs were pretrained on MIMIC-IV-ECG (credentialed) too, ours were not"


def ablations() -> list[Target]:
    """On PTB-XL; Table 6 on ICBEB would need that data set beside the one swept over."""
    tables = {r"Table 5\(a\)": _TABLE_5A, r"Table 5\(b\)": _TABLE_5B, "Table 6": _TABLE_6}
    return [
        Target(SWEEP, f"{name}_{short}",
               {"system": "ESI", "table": table, "dataset": "PTB-XL", "method": method,
                "task": task, "setting": setting},
               why=WHY, unless=(SWEEP, N_PRETRAIN, 600_000))
        for table, rows in tables.items()
        for method, name in rows.items()
        for (task, setting), short in _SHORT.items()
        if table == "Table 6" or short != "zero_shot"
    ]  # fmt: skip
