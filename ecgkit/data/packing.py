"""One recording as it goes into the store: int16 values with their gains, or a reason why not.

A source's own digital values are kept as they are, so nothing is lost; only a recording that had to
be resampled, or whose values leave int16, is rounded again (with a gain that uses the full range).

Usage:

    packed = pack(read_raw(place, name), fs=500)            # Packed, or RecordError with its reason
    text = gain_text(packed.gain)                           # "1000", or one number per lead
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ecgkit.data import quality
from ecgkit.data.records import RawRecord, read_raw
from ecgkit.signal import fill_nan, resample
from ecgkit.types import LEADS

MISSING = -32768


@dataclass(frozen=True)
class Packed:
    """`values` (C, T) int16 or float32, `gain` (C,) per mV, `columns` for the store's index.

    In int16 a gap is -32768, in float32 it is NaN.
    """

    values: np.ndarray
    gain: np.ndarray
    columns: dict = field(default_factory=dict)


@dataclass(frozen=True)
class RecordPacker:
    """Reads and packs the record of a job (ecg_id, name) in `place`, the same in any process."""

    place: object
    fs: float
    n_samples: int | None = None
    leads: tuple[str, ...] = LEADS
    rates: tuple[float, ...] | None = None
    accept: tuple[str, ...] = ()

    def __call__(self, job: tuple) -> Packed:
        raw = read_raw(self.place, job[1])
        return pack(raw, self.fs, self.n_samples, self.leads, self.rates, self.accept)


def pack(
    raw: RawRecord,
    fs: float,
    n_samples: int | None = None,
    leads: tuple[str, ...] = LEADS,
    rates: tuple[float, ...] | None = None,
    accept: tuple[str, ...] = (),
) -> Packed:
    """RawRecord -> int16 (C, T) at `fs` Hz; if `n_samples` are given the middle of a longer one.

    `rates` are the source's own (None = any), `accept` reasons not to refuse a record for. Raises
    RecordError with the reasons of `quality.problem`, and missing_leads.
    """
    findings = quality.examine(raw)
    fault = quality.problem(findings, rates=rates, accept=accept)
    if fault is not None:
        raise fault
    raw = raw.select(leads)
    digital, missing = raw.digital, raw.missing
    if raw.baseline.any():
        digital = digital.astype(np.int32) - raw.baseline[:, None]
    if raw.fs == fs and _fits(digital, missing):
        values, gain = np.array(_centre(digital, n_samples), np.int16, order="C"), raw.gain
        if missing is not None:
            values[_centre(missing, n_samples)] = MISSING
    else:
        values, gain = _requantise(raw.millivolts(), raw.fs, fs)
        values = np.ascontiguousarray(_centre(values, n_samples))
    return Packed(values, gain, findings.columns())


def _fits(digital: np.ndarray, missing: np.ndarray | None) -> bool:
    """Whether all samples are within int16 less its lowest value, which marks a gap."""
    if digital.dtype == np.int16:
        return True
    there = digital if missing is None else np.where(missing, 0, digital)
    return bool(there.min() > MISSING and there.max() <= -MISSING - 1)


def _centre(values: np.ndarray, n_samples: int | None) -> np.ndarray:
    """(C, T) -> the middle (C, n_samples) of a longer record; a shorter one as it is."""
    spare = 0 if n_samples is None else values.shape[1] - n_samples
    return values if spare <= 0 else values[:, spare // 2 : spare // 2 + n_samples]


def _requantise(signal: np.ndarray, fs_in: float, fs_out: float) -> tuple[np.ndarray, np.ndarray]:
    """mV (C, T) -> int16 at the new rate with a gain that uses the range; gaps stay gaps."""
    gaps = np.isnan(signal)
    filled = resample(fill_nan(signal), fs_in, fs_out)
    gain = 32000 / max(float(np.abs(filled).max()), 1e-3)
    gain = float(np.float32(np.floor(gain) if gain >= 1 else gain))
    values = np.rint(filled * np.float32(gain)).astype(np.int16)
    if gaps.any():
        at = np.round(np.arange(values.shape[1]) * fs_in / fs_out).astype(int)
        values[gaps[:, np.minimum(at, gaps.shape[1] - 1)]] = MISSING
    return values, np.full(len(signal), gain)


# --- gains in a table -----------------------------------------------------------------------------


def gain_text(gain: np.ndarray) -> str:
    """One number where all leads share it, else one per lead, split by blanks."""
    numbers = gain.tolist()
    shared = numbers.count(numbers[0]) == len(numbers)
    return " ".join(f"{g:.10g}" for g in (numbers[:1] if shared else numbers))


def read_gains(column: pd.Series, n_leads: int) -> tuple[np.ndarray, np.ndarray]:
    """A categorical column of `gain_text` -> (code of each row (n,), gains of each code (m, C))."""
    texts = column.cat.categories
    own = texts.str.contains(" ", regex=False)  # one number per lead
    table = np.empty((len(texts), n_leads), np.float32)
    for rows in (own, ~own):
        if rows.any():  # pandas reads numbers four times as fast as numpy
            lines = io.StringIO("\n".join(texts[rows]))
            table[rows] = pd.read_csv(lines, sep=" ", header=None, dtype=np.float32)
    return column.cat.codes.to_numpy(np.int64), table
