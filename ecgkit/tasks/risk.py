"""The risk study: align ECG codes with report embeddings, then fine-tune for time to heart failure.

Stage 1 trains the autoencoder to reconstruct the ECG and to put its projected code beside its
report's (published: mean squared error + cosine, all pairs positive). Stage 2 adds the risk head
and minimises alpha * reconstruction + (1 - alpha) * Cox. A control repeats stage 2 on shuffled
outcomes, from the same weights. Shape letters: n patients, C leads, T samples, D text width.

Usage:
    study = prepare(config, cohort, outcomes, book)
    aligned, log = pretrain(study, run.folder / "pretraining")
    network, log = finetune(study, aligned, run.folder / "finetuning")
    risk = predict_risk(network, study.x[study.test])
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ecgkit.config import short_hash
from ecgkit.data.outcomes import Outcomes, ecg_factors
from ecgkit.features.risk_input import BEAT_SECONDS, padded_length, risk_input
from ecgkit.models.dual_attention import (
    DualAttentionAutoencoder,
    DualAttentionConfig,
    RiskHead,
    projector,
    projector_sizes,
)
from ecgkit.models.losses_risk import (
    alignment_cosine,
    cox_loss,
    finetune_loss,
    info_nce,
    reconstruction_mse,
)
from ecgkit.tasks.engine import TrainLog, TrainSettings, fit
from ecgkit.tasks.survival_metrics import c_index, fit_cox
from ecgkit.text.reports import ReportBook
from ecgkit.types import DataError


@dataclasses.dataclass(frozen=True)
class Study:
    """One row per patient everywhere: `x` (n, C, T) z-scored input, `text` (n, D), `group` (n,) id
    of equal reports (-1 = none), `years`, `event` (n,); `train`, `test` are positions."""

    config: object
    outcomes: Outcomes
    x: torch.Tensor
    text: torch.Tensor
    group: torch.Tensor
    years: torch.Tensor
    event: torch.Tensor
    train: np.ndarray
    test: np.ndarray
    findings: np.ndarray  # (n, F) 0/1 risk factors the statements name
    fingerprint: str  # of ECGs, reports and split; outcomes have their own

    def key(self, *stage: object) -> str:
        """Names everything a stage's result depends on, apart from its training settings."""
        return short_hash([self.fingerprint, dataclasses.asdict(self.network),
                           self.config.input_kind, self.config.align_loss, *stage])

    @property
    def network(self) -> DualAttentionConfig:
        c = self.config
        return DualAttentionConfig(
            n_samples=self.x.shape[2], n_leads=self.x.shape[1], base=c.base_features,
            code_width=c.code_width, n_down=c.n_down, stem=c.stem,
            lead_attention=c.lead_attention, time_attention=c.time_attention, dropout=c.dropout,
        )


def prepare(config, cohort, outcomes: Outcomes, book: ReportBook) -> Study:
    """Gathers the index ECGs and what is known of each. `book` has one row per row of `outcomes`.

    Raises DataError when no event is left to learn from, or none to test on.
    """
    train, test = outcomes.split(config.test_folds)
    for name, part in (("training", train), ("test", test)):
        if not outcomes.event[part].any():
            raise DataError(
                f"No event among the {len(part)} {name} patients; take a larger cohort, raise "
                "EVENT_RISK, or hold out other TEST_FOLDS."
            )
    rows = outcomes.table["row"].to_numpy()
    vectors = hashlib.sha256(np.ascontiguousarray(book.vectors)).hexdigest()
    codes = cohort.table["scp_codes"].iloc[rows]
    return Study(
        config=config, outcomes=outcomes, x=index_inputs(config, cohort, rows),
        text=torch.from_numpy(book.vectors), group=torch.from_numpy(book.group),
        years=torch.from_numpy(outcomes.years).float(),
        event=torch.from_numpy(outcomes.event).float(), train=train, test=test,
        findings=ecg_factors(codes, cohort.statements).to_numpy(),
        fingerprint=short_hash([cohort.fingerprint, rows[train].tolist(), vectors]),
    )


def index_inputs(config, cohort, rows: np.ndarray, chunk: int = 512) -> torch.Tensor:
    """(n, C, T) network input of the given store rows, padded to what the encoder can halve."""
    fs = cohort.store.fs
    length = round(BEAT_SECONDS * fs) if config.input_kind == "beat" else cohort.store.n_samples
    length = padded_length(length, config.n_down)
    parts = [
        risk_input(cohort.store.read(rows[i : i + chunk]), fs, length, config.input_kind)
        for i in range(0, len(rows), chunk)
    ]
    return torch.from_numpy(np.concatenate(parts))


# --- stage 1: alignment ---------------------------------------------------------------------------


class Projectors(nn.Module):
    """Codes z (B, Z) and text (B, D) -> "ecg" and "text" (B, P) in the shared space."""

    def __init__(self, code_width: int, text_width: int):
        super().__init__()
        hidden, width = projector_sizes(code_width)
        self.ecg = projector(code_width, hidden, width)
        self.text = projector(text_width, hidden, width)

    def forward(self, z: torch.Tensor, text: torch.Tensor) -> dict:
        return {"ecg": self.ecg(z), "text": self.text(text)}


class AlignmentModel(nn.Module):
    """Autoencoder with the two projectors into the shared space."""

    def __init__(self, network: DualAttentionConfig, text_width: int):
        super().__init__()
        self.autoencoder = DualAttentionAutoencoder(network)
        self.projectors = Projectors(network.code_width, text_width)

    def forward(self, x: torch.Tensor, text: torch.Tensor) -> dict:
        """x (B, C, T), text (B, D) -> the autoencoder's outputs, "ecg" and "text" (B, P)."""
        out = self.autoencoder(x)
        return out | self.projectors(out["z"], text)


def alignment_loss(out: dict, group: torch.Tensor, kind: str) -> torch.Tensor:
    """"cosine" or "infonce" over the pairs that have a report (`group` >= 0)."""
    told = group >= 0
    if not told.any():
        return 0.0 * (out["ecg"].sum() + out["text"].sum())
    ecg, text = out["ecg"][told], out["text"][told]
    if kind == "infonce":
        return info_nce(ecg, text, same=group[told])
    return alignment_cosine(ecg, text)


def alignment_losses(model: nn.Module, batch: dict, kind: str) -> dict[str, torch.Tensor]:
    """Reconstruction + alignment with unit weights (published). ECGs without text only rebuild."""
    out = model(batch["x"], batch["text"])
    mse = reconstruction_mse(out["recon"], batch["x"])
    align = alignment_loss(out, batch["group"], kind)
    return {"loss": mse + align, "reconstruction": mse, "alignment": align}


def pretrain(study: Study, folder: str | Path) -> tuple[AlignmentModel, TrainLog]:
    """Stage 1 on the training patients; monitors on the test patients (no outcome is used)."""
    c = study.config
    torch.manual_seed(c.seed)
    model = AlignmentModel(study.network, study.text.shape[1])
    settings = _settings(c, c.pretrain_steps, c.pretrain_batch, c.pretrain_lr)

    def make_batch(indices: np.ndarray, rng: np.random.Generator) -> dict:
        at = torch.from_numpy(study.train[indices])
        return {"x": study.x[at], "text": study.text[at], "group": study.group[at]}

    log = fit(
        model, len(study.train), make_batch, lambda m, b: alignment_losses(m, b, c.align_loss),
        settings, folder, fingerprint=study.key(),
    )
    return model.cpu().eval(), log


def realign(
    study: Study, aligned: AlignmentModel, kind: str, folder: str | Path, n_steps: int = 200
) -> Projectors:
    """New projectors on the frozen codes of `aligned`, trained by the rule `kind` alone.

    Cheap (no ECG passes the encoder again), so two rules can be compared on the same codes.
    """
    c = study.config
    torch.manual_seed(c.seed)
    z = encode(aligned.autoencoder, study.x)
    model = Projectors(z.shape[1], study.text.shape[1])

    def make_batch(indices: np.ndarray, rng: np.random.Generator) -> dict:
        at = torch.from_numpy(study.train[indices])
        return {"z": z[at], "text": study.text[at], "group": study.group[at]}

    def losses(m: nn.Module, batch: dict) -> dict[str, torch.Tensor]:
        return {"loss": alignment_loss(m(batch["z"], batch["text"]), batch["group"], kind)}

    fit(
        model, len(study.train), make_batch, losses, _settings(c, n_steps, 128, 2e-3),
        folder, fingerprint=study.key(kind, c.pretrain_steps, c.pretrain_batch, c.pretrain_lr),
    )
    return model.cpu().eval()


@torch.no_grad()
def held_out_pairs(
    study: Study, autoencoder: DualAttentionAutoencoder, projectors: Projectors, most: int = 400
):
    """(ecg (m, P), text (m, P), group (m,)) of test patients that have a report.

    Give them to `alignment_report`, which tells alignment from collapse.
    """
    at = study.test[(study.group[study.test] >= 0).numpy()][:most]
    out = projectors(encode(autoencoder, study.x[at]), study.text[at])
    return out["ecg"], out["text"], study.group[at]


# --- stage 2: risk --------------------------------------------------------------------------------


class RiskModel(nn.Module):
    """Autoencoder with the risk head of `head_units` (published: 3) units."""

    def __init__(self, network: DualAttentionConfig, head_units: int = 3):
        super().__init__()
        self.autoencoder = DualAttentionAutoencoder(network)
        self.head = RiskHead(network.code_width, head_units)

    def forward(self, x: torch.Tensor) -> dict:
        """x (B, C, T) -> the autoencoder's outputs, "log_risk" (B,) and "hidden"."""
        out = self.autoencoder(x)
        return out | self.head(out["z"])


def risk_losses(model: nn.Module, batch: dict, config) -> dict[str, torch.Tensor]:
    """alpha * reconstruction + (1 - alpha) * Cox, and both parts."""
    out = model(batch["x"])
    mse = reconstruction_mse(out["recon"], batch["x"])
    cox = cox_loss(out["log_risk"], batch["years"], batch["event"], config.ties)
    loss = finetune_loss(mse, cox, config.alpha, config.protocol)
    return {"loss": loss, "reconstruction": mse, "cox": cox}


def finetune(
    study: Study, aligned: AlignmentModel | None, folder: str | Path, shuffled: bool = False
) -> tuple[RiskModel, TrainLog]:
    """Stage 2 from the aligned autoencoder (None: from scratch).

    `shuffled` is the control: whole outcomes change owner among the training patients, everything
    else stays the same.
    """
    c = study.config
    torch.manual_seed(c.seed)
    model = RiskModel(study.network, c.head_units)
    if aligned is not None:
        model.autoencoder.load_state_dict(aligned.autoencoder.state_dict())
    settings = _settings(c, c.finetune_steps, c.finetune_batch, c.finetune_lr)
    log = fit(
        model, len(study.train), _risk_batches(study, shuffled),
        lambda m, b: risk_losses(m, b, c), settings, folder,
        fingerprint=study.key(
            study.outcomes.fingerprint, shuffled, aligned is None, c.alpha, c.protocol, c.ties,
            c.pretrain_steps, c.pretrain_batch, c.pretrain_lr,
        ),
    )
    return model.cpu().eval(), log


def _risk_batches(study: Study, shuffled: bool):
    owner = study.train
    if shuffled:
        owner = np.random.default_rng([study.config.seed, 99]).permutation(study.train)
    with_event = np.flatnonzero(study.event[owner].numpy() > 0)

    def make_batch(indices: np.ndarray, rng: np.random.Generator) -> dict:
        if not np.isin(indices, with_event).any():  # nothing to rank: bring one event in
            indices = np.append(indices[1:], rng.choice(with_event))
        of, whose = torch.from_numpy(study.train[indices]), torch.from_numpy(owner[indices])
        return {"x": study.x[of], "years": study.years[whose], "event": study.event[whose]}

    return make_batch


@torch.no_grad()
def encode(autoencoder: DualAttentionAutoencoder, x: torch.Tensor, chunk: int = 256):
    """(n, C, T) -> codes (n, Z), in eval mode, on the module's device; returned on CPU."""
    device = next(autoencoder.parameters()).device
    autoencoder.eval()
    return torch.cat([autoencoder.encode(part.to(device))["z"].cpu() for part in x.split(chunk)])


@torch.no_grad()
def predict_risk(model: RiskModel, x: torch.Tensor) -> np.ndarray:
    """(n, C, T) -> (n,) log risk, higher = earlier."""
    model.eval()
    z = encode(model.autoencoder, x)
    return model.head(z.to(next(model.parameters()).device))["log_risk"].cpu().numpy()


@torch.no_grad()
def look(model: RiskModel, x: torch.Tensor) -> dict[str, np.ndarray]:
    """(n, C, T) -> "recon" (n, C, T), "lead_attention" (n, C, C), "time_attention" (n, C, N, N)."""
    out = model.eval().autoencoder(x, return_attention=True)
    return {k: v.numpy() for k, v in out.items() if v is not None}


def _settings(config, n_steps: int, batch_size: int, lr: float) -> TrainSettings:
    return TrainSettings(
        n_steps=n_steps, batch_size=batch_size, lr=lr, betas=(0.9, 0.95), seed=config.seed,
        device=config.device, precision=config.precision, log_every=5,
    )


# --- evaluation -----------------------------------------------------------------------------------


def baseline_scores(study: Study) -> dict[str, np.ndarray]:
    """(n_test,) scores of what the network is measured against.

    Cox models are fitted on the training patients; "true hazard" (the oracle, whose C nobody can
    expect to pass) exists for simulated outcomes.
    """
    table = study.outcomes.table
    person = table[["age", "sex"]].fillna({"sex": 0.5}).to_numpy(dtype=float)  # 0.5: unknown
    scores = {
        "age + sex": _cox_score(study, person),
        "findings": _cox_score(study, study.findings),
        "findings + age + sex": _cox_score(study, np.hstack([study.findings, person])),
    }
    if study.outcomes.simulated and "eta" in table:
        scores["true hazard"] = table["eta"].to_numpy()[study.test]
    return scores


def _cox_score(study: Study, covariates: np.ndarray) -> np.ndarray:
    years, event = study.years.numpy(), study.event.numpy()
    beta = fit_cox(covariates[study.train], years[study.train], event[study.train])
    return covariates[study.test] @ beta


def ladder(study: Study, scores: dict[str, np.ndarray], n_boot: int = 300) -> list[dict]:
    """One C-index row per score on the held-out patients, in the order given."""
    years, event = study.years.numpy()[study.test], study.event.numpy()[study.test]
    return [c_index(name, score, years, event, n_boot) for name, score in scores.items()]
