"""What every room speaks: lead names, the ECG record, and errors that are sentences.

Shape letters used all over the kit: B batch, C leads, T samples, P patches (ECG tokens), L text
tokens, D width, H heads, K shots, N ways.

Usage:

    record = ECGRecord(signal, fs=500, leads=LEADS, ecg_id=1)     # signal (C, T) float32 in mV
    record.select(("II", "V5")).duration_s
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
_CANONICAL = {name.upper(): name for name in LEADS}
# Names other systems write: CODE-15 % says DI, DII, DIII; some devices write MDC_ECG_LEAD_I or
# "Lead I".
_CANONICAL |= {"DI": "I", "DII": "II", "DIII": "III"}

NOT_FOR_DIAGNOSIS = "For research and teaching, not for diagnosis."


class KitError(Exception):
    """A problem the user can mend; its message says what is wrong, where, and what to do next.

    The command line prints the message alone and exits with code 2.
    """


class ConfigError(KitError):
    """A setting is unknown, ill-typed, or contradicts another."""


class DataError(KitError):
    """A file or table is missing or not what its format promises."""


class ModelError(KitError):
    """A checkpoint or model folder is missing or does not fit."""


def canonical_lead(name: str) -> str:
    """Returns the kit's spelling of a lead name (`AVR` -> `aVR`, `Lead II` -> `II`).

    Raises DataError if the name is none of the twelve standard leads.
    """
    key = name.strip().upper().removeprefix("MDC_ECG_LEAD_").removeprefix("LEAD").strip(" _-")
    if key not in _CANONICAL:
        raise DataError(
            f"Lead name {name!r} is not one of {', '.join(LEADS)}; rename or drop that channel."
        )
    return _CANONICAL[key]


@dataclass(frozen=True)
class ECGRecord:
    """One ECG with its units: `signal` (C, T) float32 in mV, sampled at `fs` Hz, one row per name
    in `leads`.

    `ecg_id` is the identifier in its source (int for PTB-XL), `meta` whatever the source says about
    the record. Raises DataError when signal and leads disagree.
    """

    signal: np.ndarray
    fs: float
    leads: tuple[str, ...] = LEADS
    ecg_id: int | str = 0
    meta: dict = field(default_factory=dict, repr=False)

    def __post_init__(self):
        if self.signal.ndim != 2 or len(self.signal) != len(self.leads):
            raise DataError(
                f"Record {self.ecg_id}: signal of shape {self.signal.shape} does not have one row "
                "for each of "
                f"{len(self.leads)} leads; give it as (leads, samples)."
            )
        if len(set(self.leads)) != len(self.leads):
            raise DataError(
                f"Record {self.ecg_id}: lead names repeat ({', '.join(self.leads)}); name each "
                "lead once."
            )

    @property
    def n_samples(self) -> int:
        return self.signal.shape[1]

    @property
    def duration_s(self) -> float:
        return self.n_samples / self.fs

    def select(self, leads: tuple[str, ...]) -> ECGRecord:
        """Returns the record with exactly `leads`, in that order, matched by name. Raises DataError
        naming absent ones.
        """
        missing = [name for name in leads if name not in self.leads]
        if missing:
            raise DataError(
                f"Record {self.ecg_id} has no lead {', '.join(missing)}; it holds "
                f"{', '.join(self.leads)}."
            )
        rows = [self.leads.index(name) for name in leads]
        return replace(self, signal=self.signal[rows], leads=tuple(leads))
