"""Stage 1 of the risk study: rebuild the ECG, and put its projected code beside its report's.

Rules (`align_loss`): "cosine" pulls every pair together and trains both projectors (published; the
same vector everywhere solves it), "infonce" adds negatives, "frozen_text" keeps the report vectors
as they are but for their mean, so that only the ECG side can move: towards its own report, and
towards others as far as they are like it. Collapse shows in the log: matched and mismatched cosine,
spread of both sides, and recall@5 on held-out pairs. Shape letters: B batch, n patients, C leads,
T samples, D text width, P width of the shared space.

Usage:

    aligned, log = pretrain(study, run.folder / "pretraining")
    log.table[["step", "eval_matched_cos", "eval_mismatched_cos", "eval_spread"]].dropna()
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ecgkit.models.dual_attention import (
    DualAttentionAutoencoder,
    DualAttentionConfig,
    projector,
    projector_sizes,
)
from ecgkit.models.losses_alignment import similar_reports
from ecgkit.models.losses_risk import (
    alignment_cosine,
    alignment_report,
    info_nce,
    reconstruction_mse,
)
from ecgkit.tasks import risk_masks
from ecgkit.tasks.engine import TrainLog, fit
from ecgkit.tasks.risk_study import Study, encode, train_settings
from ecgkit.types import ConfigError

RULES = ("cosine", "infonce", "frozen_text")
N_EVALUATIONS = 8  # of the collapse monitors, beside the one at the end
N_MONITORED = 256  # held-out pairs the monitors look at


class Centred(nn.Module):
    """text (B, D) minus the mean report: nothing to train. `mean` is set before training."""

    def __init__(self, width: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        return text - self.mean


class Projectors(nn.Module):
    """Codes z (B, Z) and text (B, D) -> "ecg" and "text" (B, P) in the shared space.

    `frozen_text`: the shared space is the text's own, centred (P = D).
    """

    def __init__(self, code_width: int, text_width: int, frozen_text: bool = False):
        super().__init__()
        hidden, width = projector_sizes(code_width)
        if frozen_text:
            self.ecg, self.text = projector(code_width, hidden, text_width), Centred(text_width)
        else:
            self.ecg = projector(code_width, hidden, width)
            self.text = projector(text_width, hidden, width)

    def centre(self, text: torch.Tensor) -> None:
        """Takes the mean of training texts (n, D) as the origin of a frozen text side."""
        if isinstance(self.text, Centred):
            self.text.mean.copy_(text.mean(0))

    def forward(self, z: torch.Tensor, text: torch.Tensor) -> dict:
        return {"ecg": self.ecg(z), "text": self.text(text)}


class AlignmentModel(nn.Module):
    """Autoencoder with the two projectors into the shared space."""

    def __init__(self, network: DualAttentionConfig, text_width: int, frozen_text: bool = False):
        super().__init__()
        self.autoencoder = DualAttentionAutoencoder(network)
        self.projectors = Projectors(network.code_width, text_width, frozen_text)

    def forward(self, x: torch.Tensor, text: torch.Tensor) -> dict:
        """x (B, C, T), text (B, D) -> the autoencoder's outputs, "ecg" and "text" (B, P)."""
        out = self.autoencoder(x)
        return out | self.projectors(out["z"], text)


# --- losses ---------------------------------------------------------------------------------------


def alignment_loss(
    out: dict, group: torch.Tensor, kind: str, temperature: float = 0.1
) -> torch.Tensor:
    """One of RULES over the pairs that have a report (`group` >= 0); 0 where none has."""
    if kind not in RULES:
        raise ConfigError(f"ALIGN_LOSS is {kind!r}; choose one of {', '.join(RULES)}.")
    told = group >= 0
    if not told.any():
        return 0.0 * (out["ecg"].sum() + out["text"].sum())
    ecg, text = out["ecg"][told], out["text"][told]
    if kind == "cosine":
        return alignment_cosine(ecg, text)
    if kind == "frozen_text":
        return similar_reports(ecg, text, temperature, temperature)
    return info_nce(ecg, text, temperature, same=group[told])


def alignment_losses(
    model: nn.Module, batch: dict, kind: str, temperature: float = 0.1, recon_weight: float = 1.0
) -> dict[str, torch.Tensor]:
    """recon_weight (published: 1) * reconstruction + alignment. ECGs without text only rebuild.

    The target is `batch["target"]`, the unmasked input, where the batch has one, else "x".
    """
    out = model(batch["x"], batch["text"])
    mse = reconstruction_mse(out["recon"], batch.get("target", batch["x"]))
    align = alignment_loss(out, batch["group"], kind, temperature)
    return {"loss": recon_weight * mse + align, "reconstruction": mse, "alignment": align}


# --- training -------------------------------------------------------------------------------------


def pretrain(study: Study, folder: str | Path) -> tuple[AlignmentModel, TrainLog]:
    """Stage 1 on the training patients; monitors on the test patients (no outcome is used).

    The log has `eval_matched_cos`, `eval_mismatched_cos`, `eval_spread`, `eval_text_spread`,
    `eval_recall@5`, `eval_chance@5` and `eval_reconstruction` at eight points and at the end.
    """
    c = study.config
    torch.manual_seed(c.seed)
    model = AlignmentModel(study.network, study.text.shape[1], c.align_loss == "frozen_text")
    model.projectors.centre(study.text[study.train])
    settings = train_settings(
        c, c.pretrain_steps, c.pretrain_batch, c.pretrain_lr, eval_every=_every(c.pretrain_steps),
        weight_decay=c.weight_decay,
    )
    log = fit(
        model, len(study.train), _pair_batches(study),
        lambda m, b: alignment_losses(m, b, c.align_loss, c.temperature, c.recon_weight),
        settings, folder, evaluate=lambda m: collapse_monitors(study, m),
        fingerprint=study.key(c.temperature, c.recon_weight, c.noise_sd),
    )
    return model.cpu().eval(), log


def _every(n_steps: int) -> int:
    """A multiple of the five steps between two log rows, so that the monitors join a row."""
    return max(5, n_steps // N_EVALUATIONS // 5 * 5)


def _pair_batches(study: Study):
    c = study.config
    fs = (study.inside[1] - study.inside[0]) / c.seconds  # of strips, the only ones with peaks
    floor = risk_masks.FLOOR_SAMPLES if c.protocol == "reference" else 0

    def make_batch(indices: np.ndarray, rng: np.random.Generator) -> dict:
        rows = study.train[indices]
        at = torch.from_numpy(rows)
        batch = {"x": study.x[at], "text": study.text[at], "group": study.group[at]}
        clean = batch["x"]
        if c.masking == "none":
            return batch | {"x": risk_masks.noisy(clean, c.noise_sd, rng), "target": clean}
        peaks = [study.peaks[i] for i in rows] if study.peaks else None
        lost = risk_masks.pretraining_masks(len(at), rng, study.x.shape[2], peaks, fs, floor)
        hidden = risk_masks.masked(clean, lost, c.protocol, study.inside)
        return batch | {"x": risk_masks.noisy(hidden, c.noise_sd, rng), "target": clean}

    return make_batch


def realign(
    study: Study, aligned: AlignmentModel, kind: str, folder: str | Path, n_steps: int = 200,
    codes: torch.Tensor | None = None,
) -> Projectors:  # fmt: skip
    """New projectors on the frozen codes of `aligned`, trained by the rule `kind` alone.

    Cheap, so two rules can be compared on the same codes: `codes` (n, Z) of all patients, from
    `encode`, where they are known already.
    """
    return realigned(study, aligned, kind, folder, n_steps, codes)[0]


def realigned(
    study: Study, aligned: AlignmentModel, kind: str, folder: str | Path, n_steps: int = 200,
    codes: torch.Tensor | None = None,
) -> tuple[Projectors, TrainLog]:  # fmt: skip
    """`realign` with its log, which holds the collapse monitors of the rule."""
    c = study.config
    torch.manual_seed(c.seed)
    z = encode(aligned.autoencoder, study.x) if codes is None else codes
    model = Projectors(z.shape[1], study.text.shape[1], kind == "frozen_text")
    model.centre(study.text[study.train])

    def make_batch(indices: np.ndarray, rng: np.random.Generator) -> dict:
        at = torch.from_numpy(study.train[indices])
        return {"z": z[at], "text": study.text[at], "group": study.group[at]}

    def losses(m: nn.Module, batch: dict) -> dict[str, torch.Tensor]:
        out = m(batch["z"], batch["text"])
        return {"loss": alignment_loss(out, batch["group"], kind, c.temperature)}

    def monitors(m: nn.Module) -> dict[str, float]:
        at = _told(study, N_MONITORED)
        device = next(m.parameters()).device
        out = m(z[at].to(device), study.text[at].to(device))
        return pair_report(out["ecg"].cpu(), out["text"].cpu(), study.group[at])

    log = fit(
        model, len(study.train), make_batch, losses,
        train_settings(c, n_steps, 128, 2e-3, eval_every=_every(n_steps)), folder,
        evaluate=monitors,
        fingerprint=study.key(
            kind, c.temperature, c.recon_weight, c.noise_sd, c.weight_decay, c.pretrain_steps,
            c.pretrain_batch, c.pretrain_lr,
        ),
    )
    return model.cpu().eval(), log


# --- collapse -------------------------------------------------------------------------------------


def _told(study: Study, most: int) -> np.ndarray:
    """Positions of up to `most` test patients that have a report."""
    return study.test[(study.group[study.test] >= 0).numpy()][:most]


@torch.no_grad()
def held_out_pairs(
    study: Study, autoencoder: DualAttentionAutoencoder, projectors: Projectors, most: int = 400
):
    """(ecg (m, P), text (m, P), group (m,)) of test patients that have a report.

    Give them to `alignment_report`, which tells alignment from collapse.
    """
    at = _told(study, most)
    out = projectors(encode(autoencoder, study.x[at]), study.text[at])
    return out["ecg"], out["text"], study.group[at]


@torch.no_grad()
def collapse_monitors(study: Study, model: AlignmentModel) -> dict[str, float]:
    """`pair_report` of held-out pairs, and the error of their reconstruction from whole ECGs."""
    at = _told(study, N_MONITORED)
    if not len(at):
        return {}
    device = next(model.parameters()).device
    parts = [
        model.eval()(study.x[part].to(device), study.text[part].to(device))
        for part in np.array_split(at, -(-len(at) // 128))
    ]
    ecg, text, recon = (
        torch.cat([out[name].float().cpu() for out in parts]) for name in ("ecg", "text", "recon")
    )
    mse = reconstruction_mse(recon, study.x[at]).item()
    return pair_report(ecg, text, study.group[at]) | {"reconstruction": mse}


def pair_report(ecg: torch.Tensor, text: torch.Tensor, group: torch.Tensor) -> dict[str, float]:
    """`alignment_report` of (m, P) pairs, with the spread of the text side beside the ECG's.

    A text spread that falls to 0 is the text projector's collapse; it cannot under "frozen_text".
    """
    unit = F.normalize(text.float(), dim=1)
    spread = (unit.std(0).mean() * unit.shape[1] ** 0.5).item() if len(unit) > 1 else 0.0
    return alignment_report(ecg, text, group) | {"text_spread": spread}
