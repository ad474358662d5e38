"""The risk study: align ECG codes with report embeddings, then fine-tune for time to heart failure.

A front for its parts: `risk_study` (data), `risk_align` (stage 1), `risk_masks`, `risk_batches`,
`risk_finetune` (stage 2), `risk_scores` (baselines), `risk_cv` (cross-validation).

Usage:

    study = prepare(config, cohort, outcomes, book)
    aligned, log = pretrain(study, run.folder / "pretraining")
    network, log = finetune(study, aligned, run.folder / "finetuning")
    risk = predict_risk(network, study.x[study.test])
"""

from ecgkit.tasks.risk_align import (
    AlignmentModel,
    Projectors,
    alignment_loss,
    alignment_losses,
    collapse_monitors,
    held_out_pairs,
    pretrain,
    realign,
    realigned,
)
from ecgkit.tasks.risk_cv import cross_validate, cv_summary, null_sd
from ecgkit.tasks.risk_finetune import RiskModel, finetune, look, predict_risk, risk_losses
from ecgkit.tasks.risk_scores import baseline_scores, ladder, share_closed
from ecgkit.tasks.risk_study import Study, encode, index_inputs, prepare

__all__ = [
    "AlignmentModel",
    "Projectors",
    "RiskModel",
    "Study",
    "alignment_loss",
    "alignment_losses",
    "baseline_scores",
    "collapse_monitors",
    "cross_validate",
    "cv_summary",
    "encode",
    "finetune",
    "held_out_pairs",
    "index_inputs",
    "ladder",
    "look",
    "null_sd",
    "predict_risk",
    "prepare",
    "pretrain",
    "realign",
    "realigned",
    "risk_losses",
    "share_closed",
]
