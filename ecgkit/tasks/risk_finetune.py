"""Stage 2 of the risk study: autoencoder + risk head, alpha * reconstruction + (1 - alpha) * Cox.

A control repeats it on shuffled outcomes, from the same weights. Where part of the training
patients validates (`valid_share`), the log holds their C-index and Cox loss, and the weights with
the best C are kept (published: best epoch by validation C). Letters: B batch, n patients, C leads,
T samples.

Usage:

    network, log = finetune(study, aligned, run.folder / "finetuning")
    control, _ = finetune(study, aligned, run.folder / "shuffled", shuffled=True)
    risk = predict_risk(network, study.x[study.test])
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ecgkit.config import short_hash
from ecgkit.models.dual_attention import (
    DualAttentionAutoencoder,
    DualAttentionConfig,
    RiskHead,
    projector,
)
from ecgkit.models.losses_risk import cox_loss, finetune_loss, reconstruction_mse
from ecgkit.tasks import risk_masks
from ecgkit.tasks.engine import TrainLog, fit
from ecgkit.tasks.metrics import harrell_c
from ecgkit.tasks.risk_align import AlignmentModel
from ecgkit.tasks.risk_batches import event_batches
from ecgkit.tasks.risk_study import Study, encode, train_settings
from ecgkit.tasks.risk_teacher import distance_from_taught, report_risk
from ecgkit.types import DataError

N_EVALUATIONS = 10  # of the validation patients
HEAD_BATCH, HEAD_DECAY = 256, 0.1  # of the head alone


class AlignedHead(nn.Module):
    """z (B, Z) -> its aligned projection (B, P) -> the outputs of a RiskHead."""

    def __init__(self, code_width: int, head_units: int, projection: tuple[int, int]):
        super().__init__()
        hidden, width = projection
        self.projector = projector(code_width, hidden, width)
        self.risk = RiskHead(width, head_units)

    def forward(self, z: torch.Tensor) -> dict:
        return self.risk(self.projector(z))


class RiskModel(nn.Module):
    """Autoencoder with the risk head of `head_units` (published: 3) units.

    The head reads the code z (published), or, where `projection` (hidden, P) is given, the
    projection of z that alignment put beside the report. `head_sizes` rebuilds it:
    RiskModel(network, **model.head_sizes).
    """

    def __init__(
        self, network: DualAttentionConfig, head_units: int = 3,
        projection: tuple[int, int] | None = None,
    ):
        super().__init__()
        self.head_sizes = {"head_units": head_units, "projection": projection}
        self.autoencoder = DualAttentionAutoencoder(network)
        if projection is None:
            self.head = RiskHead(network.code_width, head_units)
        else:
            self.head = AlignedHead(network.code_width, head_units, projection)

    def forward(self, x: torch.Tensor) -> dict:
        """x (B, C, T) -> the autoencoder's outputs, "log_risk" (B,) and "hidden"."""
        out = self.autoencoder(x)
        return out | self.head(out["z"])


def risk_losses(model: nn.Module, batch: dict, config) -> dict[str, torch.Tensor]:
    """alpha * reconstruction + (1 - alpha) * outcome, and the parts of both.

    outcome = Cox + report_weight * distance; without reports that teach, Cox alone.

    The target is `batch["target"]`, the unmasked input, where the batch has one, else "x"; the
    distance is from `batch["taught"]`, where the batch has it.
    """
    out = model(batch["x"])
    mse = reconstruction_mse(out["recon"], batch.get("target", batch["x"]))
    parts = _outcome_losses(out["log_risk"], batch, config)
    loss = finetune_loss(mse, parts["outcome"], config.alpha, config.protocol)
    return {"loss": loss, "reconstruction": mse, **parts}


def _outcome_losses(log_risk: torch.Tensor, batch: dict, config) -> dict[str, torch.Tensor]:
    """Cox + report_weight * distance from what the reports say, and both parts."""
    cox = cox_loss(log_risk, batch["years"], batch["event"], config.ties)
    if "taught" not in batch:
        return {"outcome": cox, "cox": cox}
    distance = distance_from_taught(log_risk, batch["taught"])
    outcome = cox + config.report_weight * distance
    return {"outcome": outcome, "cox": cox, "report_distance": distance}


# --- training -------------------------------------------------------------------------------------


def finetune(
    study: Study,
    aligned: AlignmentModel | None,
    folder: str | Path,
    shuffled: bool = False,
    valid: np.ndarray | None = None,
) -> tuple[RiskModel, TrainLog]:
    """Stage 2 from the aligned autoencoder (None: from scratch, where the head reads z).

    `shuffled` is the control: whole outcomes change owner among the training patients, everything
    else stays the same. `valid`: positions of training patients that choose the weights; None:
    `valid_share` of them, with the cohort's share of events (0: the last weights are taken).
    """
    c = study.config
    owner = outcome_owners(study, shuffled)
    learn, valid = split_off_validation(study, owner, valid)
    torch.manual_seed(c.seed)
    model = started(study, aligned)
    if aligned is not None and c.head_steps:
        _train_head(study, model, learn, owner, Path(folder) / "head")
    batches = event_batches(study.event[owner[learn]].numpy(), c.finetune_batch, c.seed, c.protocol)
    log = fit(
        model, len(learn), _risk_batches(study, shuffled, learn),
        lambda m, b: risk_losses(m, b, c),
        train_settings(c, c.finetune_steps, c.finetune_batch, c.finetune_lr,
                       weight_decay=c.weight_decay, **_choosing(c, len(valid))),
        folder, evaluate=_validation(study, valid, owner[valid]), batches=batches,
        names=lambda i: study.outcomes.table["ecg_id"].to_numpy()[study.train[learn[i]]].tolist(),
        fingerprint=study.key(
            study.outcomes.fingerprint, shuffled, aligned is None, c.alpha, c.protocol, c.ties,
            c.pretrain_steps, c.pretrain_batch, c.pretrain_lr, c.temperature, c.recon_weight,
            c.noise_sd, c.head_steps, c.head_lr, c.head_reads, study.train[valid].tolist(),
            c.report_weight,
        ),
    )
    return model.cpu().eval(), log


def started(study: Study, aligned: AlignmentModel | None) -> RiskModel:
    """A risk model with the weights of `aligned`, and its ECG projector where the head reads it."""
    c = study.config
    if aligned is None:
        return RiskModel(study.network, c.head_units)
    given, projection = aligned.projectors.ecg, None
    if c.head_reads == "aligned":
        projection = given[0].out_features, given[-1].out_features
    model = RiskModel(study.network, c.head_units, projection)
    model.autoencoder.load_state_dict(aligned.autoencoder.state_dict())
    if projection:
        model.head.projector.load_state_dict(given.state_dict())
    return model


def _train_head(study: Study, model: RiskModel, learn, owner, folder: Path) -> None:
    """Cox loss on the head alone, over frozen codes: cheap, and a head that knows something does
    not shake the aligned encoder when both train on (Kumar et al. 2022)."""
    c, head = study.config, model.head
    z = encode(model.autoencoder, study.x[study.train[learn]])
    if isinstance(head, AlignedHead):
        with torch.no_grad():
            z = head.projector.cpu()(z)
        head = head.risk
    years, event = study.years[owner[learn]], study.event[owner[learn]]

    told = _taught(study, study.train[learn], owner[learn])

    def make_batch(indices: np.ndarray, rng: np.random.Generator) -> dict:
        at = torch.from_numpy(indices)
        batch = {"z": z[at], "years": years[at], "event": event[at]}
        return batch | {name: values[at] for name, values in told.items()}

    def losses(head: nn.Module, batch: dict) -> dict[str, torch.Tensor]:
        parts = _outcome_losses(head(batch["z"])["log_risk"], batch, c)
        return {"loss": parts["outcome"], **parts}

    settings = train_settings(c, c.head_steps, HEAD_BATCH, c.head_lr, weight_decay=HEAD_DECAY)
    codes = hashlib.sha256(z.numpy().tobytes()).hexdigest()
    outcome = short_hash([owner[learn].tolist(), years.tolist(), event.tolist()])
    fit(head, len(learn), make_batch, losses, settings, folder,
        batches=event_batches(event.numpy(), HEAD_BATCH, c.seed),
        fingerprint=short_hash([codes, outcome, c.ties, c.report_weight]))
    model.cpu()


def _taught(study: Study, rows: np.ndarray, owner: np.ndarray) -> dict[str, torch.Tensor]:
    """{"taught": (n,)} where the reports teach, else {}."""
    return {"taught": report_risk(study, rows, owner)} if study.config.report_weight else {}


def outcome_owners(study: Study, shuffled: bool) -> np.ndarray:
    """(n_train,) whose outcome each training patient gets: their own, or somebody else's."""
    if not shuffled:
        return study.train
    return np.random.default_rng([study.config.seed, 99]).permutation(study.train)


def split_off_validation(
    study: Study, owner: np.ndarray, valid: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(learn, validate): places in `study.train`. Raises DataError when either has no event."""
    n, event = len(study.train), study.event[owner].numpy()
    if valid is not None:
        chosen = np.isin(study.train, valid)
    else:
        chosen = np.zeros(n, bool)
        rng = np.random.default_rng([study.config.seed, 98])
        for value in (0, 1):
            members = rng.permutation(np.flatnonzero(event == value))
            chosen[members[: round(study.config.valid_share * len(members))]] = True
    learn, valid = np.flatnonzero(~chosen), np.flatnonzero(chosen)
    for name, part in (("learns", learn), ("validates", valid)):
        if len(part) and not event[part].any():
            raise DataError(
                f"The part that {name} has no event among {len(part)} patients; change VALID_SHARE "
                "or take a larger cohort."
            )
    return learn, valid


def _choosing(config, n_valid: int) -> dict:
    """Settings of the engine that keep the best weights by validation C-index."""
    if not n_valid:
        return {}
    every = max(5, config.finetune_steps // N_EVALUATIONS // 5 * 5)
    return {"eval_every": every, "best_metric": "valid_c", "keep": "best",
            "patience": config.patience}


def _validation(study: Study, valid: np.ndarray, owner: np.ndarray):
    """evaluate(model) -> {"valid_c", "valid_cox"}; None where nobody validates."""
    if not len(valid):
        return None
    x = study.x[study.train[valid]]
    years, event = study.years[owner], study.event[owner]

    def evaluate(model: RiskModel) -> dict[str, float]:
        risk = predict_risk(model, x)
        cox = cox_loss(torch.from_numpy(risk).float(), years, event, study.config.ties)
        return {"valid_c": harrell_c(years.numpy(), event.numpy(), risk), "valid_cox": cox.item()}

    return evaluate


def _risk_batches(study: Study, shuffled: bool, learn: np.ndarray | None = None):
    """make_batch over `learn` (places in `study.train`; None: all).

    Masking draws one lead set for the whole batch, so that its scores compare under equal inputs.
    The target is the whole ECG; under "reference" it is the masked one, as published.
    """
    c = study.config
    learn = np.arange(len(study.train)) if learn is None else learn
    rows, owner = study.train[learn], outcome_owners(study, shuffled)[learn]
    told = _taught(study, rows, owner)

    def make_batch(indices: np.ndarray, rng: np.random.Generator) -> dict:
        of, whose = torch.from_numpy(rows[indices]), torch.from_numpy(owner[indices])
        batch = {"x": study.x[of], "years": study.years[whose], "event": study.event[whose],
                 **{name: values[torch.from_numpy(indices)] for name, values in told.items()}}
        target = hidden = batch["x"]
        if c.masking != "none":
            lost = risk_masks.batch_mask(rng, study.x.shape[2])
            hidden = risk_masks.masked(target, lost, c.protocol, study.inside)
            target = hidden if c.protocol == "reference" else target
        return batch | {"x": risk_masks.noisy(hidden, c.noise_sd, rng), "target": target}

    return make_batch


# --- use ------------------------------------------------------------------------------------------


@torch.no_grad()
def predict_risk(model: RiskModel, x: torch.Tensor) -> np.ndarray:
    """(n, C, T) -> (n,) log risk, higher = earlier."""
    model.eval()
    z = encode(model.autoencoder, x)
    return model.head(z.to(next(model.parameters()).device))["log_risk"].cpu().numpy()


@torch.no_grad()
def look(
    model: RiskModel | AlignmentModel, x: torch.Tensor
) -> dict[str, np.ndarray]:
    """(n, C, T) -> "recon" (n, C, T), "lead_attention" (n, C, C), "time_attention" (n, C, N, N)."""
    model.eval()
    out = model.autoencoder(x.to(next(model.parameters()).device), return_attention=True)
    return {k: v.cpu().numpy() for k, v in out.items() if v is not None}
