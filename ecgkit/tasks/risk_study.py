"""What the risk study works on: one index ECG per patient, its report's vector, and its follow-up.

Shape letters: n patients, C leads, T samples, D text width.

Usage:

    study = prepare(config, cohort, outcomes, book)
    print(*study.notes, sep="\\n")               # what a reader should know before training
    inner = study.on(train_rows, test_rows)     # the same patients, split in another way
"""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import torch

from ecgkit.config import short_hash
from ecgkit.data.outcomes import Outcomes, ecg_factors
from ecgkit.features.rhythm import find_beats
from ecgkit.features.risk_input import BEAT_SECONDS, has_no_input, padded_length, risk_input
from ecgkit.models.dual_attention import DualAttentionAutoencoder, DualAttentionConfig
from ecgkit.tasks.engine import TrainSettings
from ecgkit.text.reports import ReportBook
from ecgkit.types import DataError

FEW_EVENTS = 20  # below this a C-index has a standard error of about 0.07 or more


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
    notes: tuple[str, ...] = ()  # what is unusual about these outcomes, a sentence each
    inside: tuple[int, int] = (0, 0)  # samples of x before its padding: [from, to); (0, 0) = all
    peaks: tuple[np.ndarray, ...] = ()  # per patient, R peaks as samples of x; () in beat mode

    def key(self, *stage: object) -> str:
        """Names everything a stage's result depends on, apart from its training settings."""
        return short_hash([self.fingerprint, dataclasses.asdict(self.network),
                           self.config.input_kind, self.config.align_loss, self.config.masking,
                           self.config.protocol, *stage])

    @property
    def network(self) -> DualAttentionConfig:
        c = self.config
        return DualAttentionConfig(
            n_samples=self.x.shape[2], n_leads=self.x.shape[1], base=c.base_features,
            code_width=c.code_width, n_down=c.n_down, stem=c.stem,
            lead_attention=c.lead_attention, time_attention=c.time_attention, dropout=c.dropout,
        )

    def on(self, train: np.ndarray, test: np.ndarray, **config: object) -> Study:
        """The same patients with another split, and other settings where `config` names some.

        Raises DataError when somebody would be in both parts.
        """
        patients = self.outcomes.table["patient_id"].to_numpy()
        both = set(patients[train]) & set(patients[test])
        if both:
            raise DataError(f"{len(both)} patients are in both parts; split by patient.")
        rows = [np.asarray(part).tolist() for part in (train, test)]
        changed = dataclasses.replace(self.config, **config)
        return dataclasses.replace(
            self, train=np.asarray(train), test=np.asarray(test), config=changed,
            fingerprint=short_hash([self.fingerprint, *rows]),
        )


def prepare(config, cohort, outcomes: Outcomes, book: ReportBook) -> Study:
    """Gathers the index ECGs and what is known of each. `book` has one row per row of `outcomes`.

    Raises DataError when no event is left to learn from, or none to test on, or when a time or an
    event code is impossible.
    """
    check_follow_up(outcomes.years, outcomes.event)
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
    x = index_inputs(config, cohort, rows)
    inside = inside_padding(config, cohort, x.shape[2])
    return Study(
        config=config, outcomes=outcomes, x=x, inside=inside,
        peaks=r_peaks(config, cohort, rows, inside[0]),
        text=torch.from_numpy(book.vectors), group=torch.from_numpy(book.group),
        years=torch.from_numpy(outcomes.years).float(),
        event=torch.from_numpy(outcomes.event).float(), train=train, test=test,
        findings=ecg_factors(codes, cohort.statements).to_numpy(),
        fingerprint=short_hash([cohort.fingerprint, rows[train].tolist(), vectors]),
        notes=(*follow_up_notes(config, outcomes, train, test), *empty_notes(x, cohort, rows)),
    )


def empty_notes(x: torch.Tensor, cohort, rows: np.ndarray) -> list[str]:
    """A sentence naming the ECGs of whose input (n, C, T) nothing is left; [] without any."""
    empty = cohort.table["ecg_id"].to_numpy()[rows[has_no_input(x)]]
    if not len(empty):
        return []
    shown = ", ".join(map(str, empty[:5])) + (" ..." if len(empty) > 5 else "")
    return [f"{len(empty)} of {len(rows)} ECGs show nothing the network can read (no beat, flat) "
            f"and get the score of an empty ECG: {shown}."]  # fmt: skip


# --- outcomes -------------------------------------------------------------------------------------


def check_follow_up(years: np.ndarray, event: np.ndarray) -> None:
    """Raises DataError unless every time (n,) is finite and above 0 and every event is 0 or 1."""
    years, event = np.asarray(years, float), np.asarray(event, float)
    wrong = ~np.isfinite(years) | (years <= 0)
    if wrong.any():
        raise DataError(
            f"{wrong.sum()} of {len(years)} patients have a follow-up that is missing or not above "
            "0; read it with read_outcomes, which leaves such rows out and lists them."
        )
    codes = sorted(set(event[~np.isin(event, (0, 1))].tolist()))
    if codes:
        raise DataError(
            f"The event column holds {codes[0]}; the risk study takes 1 for the event and 0 for "
            "everything else (another event that ended follow-up, code 2 of a CSV, is 0 here)."
        )


def follow_up_notes(config, outcomes: Outcomes, train: np.ndarray, test: np.ndarray) -> list[str]:
    """Sentences about outcomes that can be worked with but limit what can be concluded."""
    years, event, notes = outcomes.years, outcomes.event, []
    for name, part in (("training", train), ("test", test)):
        n_events = int(event[part].sum())
        if n_events < FEW_EVENTS:
            notes.append(
                f"Only {n_events} events among {len(part)} {name} patients: no C-index of this "
                "size can be told from chance; see null_sd of risk_cv."
            )
    if event.all():
        notes.append("Everybody has the event: nobody is censored, so C compares all pairs.")
    n_times = len(np.unique(years[event == 1]))
    if n_times == 1 and event.sum() > 1:
        notes.append(
            f"All {int(event.sum())} events share one time, so nobody's order among them is known; "
            "the loss only tells them from those who stayed longer."
        )
    elif event.sum() > 4 * n_times:
        notes.append(
            f"{int(event.sum())} events fall on {n_times} times; TIES = efron is meant for that."
        )
    if config.finetune_batch > len(train):
        notes.append(
            f"FINETUNE_BATCH is {config.finetune_batch} but only {len(train)} patients train: "
            "each update sees all of them."
        )
    return notes


# --- inputs ---------------------------------------------------------------------------------------


def index_inputs(config, cohort, rows: np.ndarray, chunk: int = 512) -> torch.Tensor:
    """(n, C, T) network input of the given store rows, padded to what the encoder can halve."""
    fs = cohort.store.fs
    length = padded_length(_unpadded(config, cohort), config.n_down)
    parts = [
        risk_input(cohort.store.read(rows[i : i + chunk]), fs, length, config.input_kind)
        for i in range(0, len(rows), chunk)
    ]
    return torch.from_numpy(np.concatenate(parts))


def _unpadded(config, cohort) -> int:
    beat = config.input_kind == "beat"
    return round(BEAT_SECONDS * cohort.store.fs) if beat else cohort.store.n_samples


def inside_padding(config, cohort, n_samples: int) -> tuple[int, int]:
    """[from, to): the samples of the input that are signal, not padding."""
    length = _unpadded(config, cohort)
    start = (n_samples - length) // 2
    return start, start + length


def r_peaks(config, cohort, rows: np.ndarray, offset: int, chunk: int = 512) -> tuple:
    """Per row, its R peaks as samples of the padded input; () where masking does not need them."""
    if config.input_kind == "beat" or config.masking == "none":
        return ()
    found = []
    for i in range(0, len(rows), chunk):
        signal = cohort.store.read(rows[i : i + chunk])
        beats = find_beats(signal, cohort.store.fs)
        found += [beats.sample[beats.record == k] + offset for k in range(len(signal))]
    return tuple(found)


# --- shared by the stages -------------------------------------------------------------------------


@torch.no_grad()
def encode(autoencoder: DualAttentionAutoencoder, x: torch.Tensor, chunk: int = 256):
    """(n, C, T) -> codes (n, Z), in eval mode, on the module's device; returned on CPU."""
    device = next(autoencoder.parameters()).device
    autoencoder.eval()
    return torch.cat([autoencoder.encode(part.to(device))["z"].cpu() for part in x.split(chunk)])


def train_settings(config, n_steps: int, batch_size: int, lr: float, **more) -> TrainSettings:
    """AdamW as published (betas 0.9, 0.95), logged every five updates."""
    return TrainSettings(
        n_steps=n_steps, batch_size=batch_size, lr=lr, betas=(0.9, 0.95), seed=config.seed,
        device=config.device, precision=config.precision, log_every=5, **more,
    )
