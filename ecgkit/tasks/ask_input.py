"""Anybody's ECG as a trained encoder wants it, or a sentence on why it cannot be.

Letters: C leads, T samples, F embedding width.

Usage:

    spec = InputSpec(100, 1000, "start", LEADS, LEADS, "esi_preprocess", mean, std)
    signal = spec.fit(record)                              # (C, T) mV; DataError if of no use
    spec.standardise(encoder(spec.ready(signal[None])))    # (1, F)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ecgkit.data.quality import AMPLITUDE, MISSING
from ecgkit.features.encoder_input import prepare_for
from ecgkit.signal import crop_pad, fill_nan, resample
from ecgkit.tasks.ecg_features import seen_leads
from ecgkit.types import DataError, ECGRecord

FLAT = 1e-6  # mV


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """What the encoder was trained on: rate in Hz, samples (None = any), where a shorter record is
    put ("start" | "centre"), lead order, leads shown (others are silenced), scaling of the signal
    (a word of `features.encoder_input`), and mean and deviation (F,) of each embedding dimension.
    """

    fs: float
    n_samples: int | None
    align: str
    leads: tuple[str, ...]
    shown: tuple[str, ...]
    scaling: str
    mean: np.ndarray
    std: np.ndarray

    def fit(self, record: ECGRecord) -> np.ndarray:
        """(C, T) mV at the trained rate, length and lead order; an absent lead is flat. Raises
        DataError as `check_signal` does.
        """
        check_signal(record, self.shown)
        signal = np.zeros((len(self.leads), record.n_samples), np.float32)
        for place, lead in enumerate(self.leads):
            if lead in record.leads:
                signal[place] = record.signal[record.leads.index(lead)]
        signal, n = resample(fill_nan(signal), record.fs, self.fs), self.n_samples
        if n is None:
            return signal
        if self.align == "centre":
            return crop_pad(signal, n)
        return np.pad(signal[:, :n], ((0, 0), (0, max(0, n - signal.shape[1]))))

    def ready(self, signals: np.ndarray) -> np.ndarray:
        """(B, C, T) mV -> what goes into the encoder, as `ecg_features.encoder_features` makes it:
        the leads not shown silenced, then scaled.
        """
        shown = signals * seen_leads(self.leads, self.shown)[:, None]
        scaled = prepare_for(self.scaling)(shown)
        return np.ascontiguousarray(scaled, dtype=np.float32)

    def standardise(self, raw: np.ndarray) -> np.ndarray:
        """Embeddings (B, F) as `ecg_features.standardise` leaves them."""
        return ((raw - self.mean) / np.where(self.std > 1e-6, self.std, np.inf)).astype(np.float32)

    def about(self, record: ECGRecord) -> str:
        """What a reader must know of how the record was read; "" where it was read as it is."""
        absent = [lead for lead in self.shown if lead not in record.leads]
        notes = [f"Leads {', '.join(absent)} are absent and were read as flat."] if absent else []
        seconds = None if self.n_samples is None else self.n_samples / self.fs
        if seconds is not None and record.duration_s > seconds + 0.05:
            which = "the middle" if self.align == "centre" else "the first"
            notes.append(f"Of {record.duration_s:g} s {which} {seconds:g} s were read.")
        elif seconds is not None and record.duration_s < seconds - 0.05:
            notes.append(
                f"It lasts {record.duration_s:g} s of {seconds:g} s; the rest is read as flat."
            )
        return " ".join(notes)


def check_signal(record: ECGRecord, leads: Sequence[str]) -> None:
    """Raises DataError where the leads asked for hold nothing, gaps, or voltages of no heart."""
    there = [record.leads.index(lead) for lead in leads if lead in record.leads]
    if not there:
        raise DataError(
            f"ECG {record.ecg_id} has none of the leads {', '.join(leads)}; give at least one."
        )
    signal = record.signal[there]
    missing = 1 - np.isfinite(signal).mean(1)
    if missing.max() > MISSING:
        worst = record.leads[there[int(missing.argmax())]]
        raise DataError(
            f"ECG {record.ecg_id}: {missing.max():.0%} of lead {worst} is missing; record it again "
            "or leave that lead out."
        )
    low, high = np.nanpercentile(signal, (0.1, 99.9), axis=1)
    half = (high - low) / 2  # (leads,) mV
    moving = half[half > FLAT]
    if not moving.size:
        raise DataError(f"ECG {record.ecg_id} is flat in every lead; there is nothing to read.")
    typical = float(np.median(moving))
    if not AMPLITUDE[0] <= typical <= AMPLITUDE[1]:
        raise DataError(
            f"ECG {record.ecg_id} swings {typical:.3g} mV about its middle, which no heart does; "
            "check the units (mV, uV or V)."
        )
