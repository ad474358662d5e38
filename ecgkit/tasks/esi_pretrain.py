"""ESI pretraining: ECGs and captions in, a contrastive and a captioning loss, an encoder out.

Several processes (`accelerate launch`) train as one: each works on its share of a batch, and every
ECG is told from the captions of all of them. (Two things stay each process's own: the last column
of its texts, which protocol reference cuts off, and the batch statistics of an XResNet.)
Micro-batches are not offered here, for in those an ECG would meet the captions of its own
micro-batch only.

Usage:

    study = esi_study.prepare(config, cohort)    # captions, tokens, model
    log = pretrain(study, run.folder / "training")
    esi_files.save_study(study, run.folder)      # encoder/ and model/, read by notebooks 05 and 06
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ecgkit.config import EsiConfig, short_hash
from ecgkit.models.losses_esi import (
    caption_loss,
    caption_reduction,
    contrastive_loss,
    gather_rows,
    mean_words,
    shift_captions,
)
from ecgkit.tasks.engine import TrainLog, TrainSettings, fit
from ecgkit.tasks.esi_batches import CaptionBatches, batch_maker, fixed_batch
from ecgkit.tasks.esi_look import Watch
from ecgkit.tasks.esi_study import Study

SCHEDULES = {"paper": "step", "reference": "linear"}  # of protocol
WARMUP = {"step": 1 / 6, "linear": 0.1}  # 5 of 30 epochs; a tenth of the steps
N_LOOKS = 8  # times the validation fold is looked at while it trains


def pretrain(study: Study, folder: str | Path) -> TrainLog:
    """Trains `study.model` on `study.train`; see `engine.fit` for resume and files. What it made of
    a few validation ECGs meanwhile is written beside these (`esi_look.Watch`).
    """
    config, order = study.config, CaptionBatches(study)
    schedule = SCHEDULES[config.protocol] if config.schedule == "protocol" else config.schedule
    every = max(1, config.n_steps // N_LOOKS)
    settings = TrainSettings(
        n_steps=config.n_steps, batch_size=order.batch_size, lr=config.lr,
        weight_decay=config.weight_decay, seed=config.seed, device=config.device,
        precision=config.precision, time_budget_s=config.time_budget or None, schedule=schedule,
        warmup_fraction=WARMUP[schedule], log_every=max(1, config.n_steps // 40),
        eval_every=every, checkpoint_every=max(100, config.n_steps // 4),
    )  # fmt: skip
    return fit(
        study.model, order.n_entries, batch_maker(study), loss_function(config), settings,
        folder, _evaluator(study, order, Path(folder)), fingerprint(study), order,
        lambda entries: study.mixture.names(study.train[entries // study.tokens.n_wordings]),
    )  # fmt: skip


def fingerprint(study: Study) -> str:
    """What decides the training beside its settings: ECGs, config, captions as tokens, pairs."""
    tokens = study.tokens.tokens
    texts = [np.asarray(part).tobytes() for part in (tokens.which, study.caption_of, study.train)]
    return short_hash([study.mixture.fingerprint, study.config.hash(), texts])


def loss_function(config: EsiConfig, evaluating: bool = False):
    """loss_fn for the engine: weighted sum of contrast and captioning, with the retrieval accuracy.

    "caption" is in nats per word in both protocols; the paper's loss counts it per caption. The
    pairs of all processes are one batch; `evaluating`, each process has the same whole batch, and
    the caption loss is wanted even where nothing is trained by it.
    """
    per_caption = caption_reduction(config.protocol) == "sum"
    says = evaluating or config.caption_weight > 0

    def loss_fn(model, batch) -> dict[str, torch.Tensor]:
        ids, mask, labels = shift_captions(batch["ids"], batch["mask"], config.protocol)
        out = model(batch["signals"], ids, mask, labels if says else None, captions=says)
        ecg, text = out["ecg_latents"], out["text_latents"]
        alone = (ecg, 0), (text, 0)
        all_ecg, all_text = alone if evaluating else gather_rows(ecg, text)
        contrast = contrastive_loss(
            ecg, text, out["temperature"], config.protocol, all_ecg, all_text
        )
        loss, parts = config.contrastive_weight * contrast, {"contrastive": contrast}
        if says:
            words = mean_words(labels)
            parts["caption"] = caption_loss(
                out["caption_logits"], out["caption_labels"], n_captions=len(ids),
                words_per_caption=words,
            )  # fmt: skip
            weight = config.caption_weight * (words if per_caption else 1)
            loss = loss + weight * parts["caption"]
        return {
            "loss": loss, **parts, "retrieved": retrieved(text, *all_ecg),
            "scale": out["temperature"].detach().exp().mean(),
        }  # fmt: skip

    return loss_fn


def retrieved(text, all_ecg, first: int) -> torch.Tensor:
    """Share of the texts (b, D) whose own ECG, row `first` + i of (B, D), is the nearest of all."""
    own = first + torch.arange(len(text), device=text.device)
    return ((text @ all_ecg.T).argmax(1) == own).float().mean()


def _evaluator(study: Study, order: CaptionBatches, folder: Path):
    """evaluate(model) for the engine on the first validation ECGs, None without any."""
    rows = study.cohort.rows("valid")
    if len(rows) < 2:
        return None
    batch = fixed_batch(study, rows[: study.config.batch_size])
    loss_fn = loss_function(study.config, evaluating=True)
    watch = Watch(study, rows, folder)

    def evaluate(model) -> dict[str, float]:
        device = next(model.parameters()).device
        out = loss_fn(model, {k: v.to(device) for k, v in batch.items()})
        watch.look(order.step + 1)
        return {k: float(out[k]) for k in ("contrastive", "caption", "retrieved")}

    return evaluate
