"""A trained risk network on disk, and the scorer that reads anybody's ECG with it.

    <folder>/risk.json            network and input settings, outcome, whether it was simulated
             model.safetensors    autoencoder and risk head
             baseline.npz         Breslow baseline and sorted scores of the training patients

No patient's time or identity is written. Shape letters: C leads, T samples, N tokens, Y years.

Usage:

    save_risk(run.folder / "risk", network, study, cohort)
    reply = load_risk(run.folder / "risk").score(record)
    reply.log_risk, reply.percentile, reply.risk_at(5), reply.note
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from ecgkit import runtime
from ecgkit.features.risk_input import BEAT_SECONDS, beats_of, pad_centre, risk_input
from ecgkit.models.dual_attention import DualAttentionConfig
from ecgkit.tasks.ask_input import InputSpec
from ecgkit.tasks.risk import RiskModel, predict_risk
from ecgkit.tasks.risk_curve import RiskCurve, training_curve
from ecgkit.tasks.risk_look import attention_of
from ecgkit.tasks.survival_brier import Baseline
from ecgkit.types import NOT_FOR_DIAGNOSIS, DataError, ECGRecord, ModelError

NAME, MODEL, BASELINE, FORMAT = "risk.json", "model.safetensors", "baseline.npz", 1


@dataclasses.dataclass(frozen=True)
class RiskReply:
    """What the network says of one ECG: `log_risk`, `percentile` among the training patients
    (0..100), `survival` (Y,) at `years` (Y,), `lead_attention` (C, C), `time_attention` (C, N) mean
    over query tokens (None where the network has no such branch), and a `note` to be read."""

    log_risk: float
    percentile: float
    years: np.ndarray
    survival: np.ndarray
    lead_attention: np.ndarray | None
    time_attention: np.ndarray | None
    note: str

    def risk_at(self, year: float) -> float:
        """Probability of the event until `year`; NaN beyond the curve's end."""
        if not 0 <= year <= self.years[-1]:
            return float("nan")
        return float(1 - np.interp(year, self.years, self.survival))


@dataclasses.dataclass(frozen=True)
class RiskScorer:
    """A network with the input it was trained on and the survival of its training patients.

    `kind`: beat | strip; `n_samples` T of the network; `about`: outcome, simulated, data, patients.
    """

    model: RiskModel
    spec: InputSpec
    kind: str
    n_samples: int
    curve: RiskCurve
    about: dict

    @property
    def simulated(self) -> bool:
        """Whether the outcomes it learnt from were simulated."""
        return bool(self.about["simulated"])

    def input_of(self, record: ECGRecord) -> torch.Tensor:
        """The record -> (C, T) z-scored input. Raises DataError where nothing can be read."""
        x = risk_input(self.spec.fit(record)[None], self.spec.fs, self.n_samples, self.kind)
        if not x.any():
            raise DataError(
                f"ECG {record.ecg_id} shows no whole heart beat of {BEAT_SECONDS:g} s; give a "
                "longer or cleaner record."
            )
        return torch.from_numpy(x[0])

    def shown(self, record: ECGRecord) -> np.ndarray:
        """(C, T) in mV of what the network reads, NaN where it was padded: what attention is
        painted on."""
        signal = self.spec.fit(record)[None]
        signal = beats_of(signal, self.spec.fs) if self.kind == "beat" else signal
        inside = pad_centre(np.ones(signal.shape[-1], bool), self.n_samples)
        return np.where(inside, pad_centre(signal[0], self.n_samples), np.nan)

    def score(self, record: ECGRecord) -> RiskReply:
        """Any 12-lead record, at any rate. Raises DataError as `input_of` does."""
        return self.score_input(self.input_of(record), self.spec.about(record))

    def score_input(self, x: torch.Tensor, note: str = "") -> RiskReply:
        """x (C, T) as `input_of` gives it -> the reply."""
        seen, z = attention_of(self.model, x[None], with_codes=True)
        with torch.no_grad():
            log_risk = float(self.model.head(z)["log_risk"][0])
        years = self.curve.grid()
        return RiskReply(
            log_risk, self.curve.percentile(log_risk), years, self.curve.survival(log_risk, years),
            None if seen.lead is None else seen.lead[0],
            None if seen.time is None else seen.time[0],
            " ".join(part for part in (note, self.caution()) if part),
        )

    def caution(self) -> str:
        """What the numbers rest on, in a sentence or two."""
        a = self.about
        learnt = "SIMULATED outcomes" if self.simulated else "outcomes"
        return (f"Learnt from {learnt} ({a['outcome']}) of {a['patients']} patients, {a['events']} "
                f"events. {NOT_FOR_DIAGNOSIS}")  # fmt: skip


# --- to disk --------------------------------------------------------------------------------------


def scorer_of(model: RiskModel, study, cohort) -> RiskScorer:
    """The scorer of a network just trained; its curve is of the training patients alone."""
    train = study.train
    log_risk = predict_risk(model, study.x[train])
    years, event = study.years.numpy()[train], study.event.numpy()[train]
    store = cohort.store
    one_length = store.seconds is not None or bool((store.lengths == store.n_samples).all())
    leads = tuple(store.leads)
    spec = InputSpec(
        float(store.fs), int(store.n_samples) if one_length else None, store.align, leads, leads,
        "", np.zeros(0), np.ones(0),
    )  # fmt: skip
    about = {
        "outcome": study.outcomes.outcome, "simulated": bool(study.outcomes.simulated),
        "data": cohort.name, "patients": len(train), "events": int(event.sum()),
    }  # fmt: skip
    curve = training_curve(log_risk, years, event)
    return RiskScorer(model, spec, study.config.input_kind, study.x.shape[-1], curve, about)


def save_risk(folder: str | Path, model: RiskModel, study, cohort) -> Path:
    """Writes what `load_risk` needs, and returns the folder."""
    folder, scorer = Path(folder), scorer_of(model, study, cohort)
    folder.mkdir(parents=True, exist_ok=True)
    curve, spec = scorer.curve, scorer.spec
    state = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    with runtime.replacing(folder / MODEL) as scratch:
        save_file(state, str(scratch))
    with runtime.replacing(folder / BASELINE) as scratch, open(scratch, "wb") as file:
        np.savez(
            file, times=curve.baseline.times, log_hazard=curve.baseline.log_hazard,
            scores=curve.scores, horizon=curve.horizon,
        )  # fmt: skip
    body = {
        "format": FORMAT, "about": scorer.about,
        "network": dataclasses.asdict(model.autoencoder.config),
        "head": model.head_sizes,
        "input": {
            "kind": scorer.kind, "samples": scorer.n_samples, "fs": spec.fs,
            "record_samples": spec.n_samples, "align": spec.align, "leads": spec.leads,
        },
    }  # fmt: skip
    with runtime.replacing(folder / NAME) as scratch:
        scratch.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    return folder


# --- from disk ------------------------------------------------------------------------------------


def load_risk(folder: str | Path) -> RiskScorer:
    """The scorer of a folder that `save_risk` wrote. Raises ModelError in a sentence where a piece
    is missing or does not fit."""
    folder = Path(folder)
    try:
        body = json.loads((folder / NAME).read_text(encoding="utf-8"))
        if body["format"] != FORMAT:
            raise ValueError(f"format {body['format']}, expected {FORMAT}")
        model = RiskModel(DualAttentionConfig(**body["network"]), **body["head"])
        model.load_state_dict(load_file(str(folder / MODEL)))
        with np.load(folder / BASELINE) as file:
            baseline = Baseline(file["times"], file["log_hazard"])
            curve = RiskCurve(baseline, file["scores"], float(file["horizon"]))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"{folder.name}/ holds no risk network that can be read ({reason}); run notebook 07 "
            "again: ecgkit run 07 --force."
        ) from None
    given = body["input"]
    leads = tuple(given["leads"])
    spec = InputSpec(
        given["fs"], given["record_samples"], given["align"], leads, leads, "", np.zeros(0),
        np.ones(0),
    )  # fmt: skip
    return RiskScorer(model.eval(), spec, given["kind"], given["samples"], curve, body["about"])
