"""WFDB records from a folder or a .zip, as digital samples with their gains, or a reason why not.

A reader of our own covers formats 16 and 212 (what PTB-XL, MIMIC-IV-ECG and the PhysioNet
challenges use) about twenty times faster than `wfdb`; any other format goes through `wfdb`, which
the tests also hold it equal to, bit by bit. Source of the formats: WFDB header(5) and signal(5)
manual pages.

Usage:
    raw = read_raw(place, "records100/00000/00001_lr")      # digital (C, T), gains, lead names
    record = raw.to_record(ecg_id=1)                        # ECGRecord in mV
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ecgkit.types import LEADS, DataError, ECGRecord, canonical_lead

MV_PER_UNIT = {"mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "v": 1e3, "nv": 1e-6}
# The most negative value of each format means "no sample here".
INVALID = {"16": -32768, "212": -2048}
_GAIN = re.compile(r"^(-?[\d.]+(?:[eE][+-]?\d+)?)(?:\((-?\d+)\))?(?:/(\S+))?$")
_FORMAT = re.compile(r"^(\d+)(?:x(\d+))?(?::(\d+))?(?:\+(\d+))?$")


class RecordError(DataError):
    """A record cannot be used: `reason` is the quarantine code, the message the sentence."""

    def __init__(self, reason: str, sentence: str):
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True)
class SignalLine:
    """One line of a header: where a channel's samples are and what they mean."""

    file: str
    fmt: str
    skip_bytes: int
    gain: float  # digital units per mV
    baseline: int  # digital value of 0 mV
    name: str
    plain: bool  # one sample per frame, no skew: our own reader takes it
    checksum: int | None = None  # of its samples, modulo 65536


@dataclass(frozen=True)
class Header:
    name: str
    fs: float
    n_samples: int
    signals: tuple[SignalLine, ...]
    comments: tuple[str, ...]


@dataclass(frozen=True)
class RawRecord:
    """Digital samples (C, T), `gain` and `baseline` (C,); `missing` (C, T) bool or None."""

    digital: np.ndarray
    gain: np.ndarray
    baseline: np.ndarray
    fs: float
    leads: tuple[str, ...]
    missing: np.ndarray | None = None
    comments: tuple[str, ...] = ()
    checksums: tuple[int | None, ...] = ()  # per lead, as the header gives them
    written: str = ""  # lead names as the file orders them, by blanks; '' = the kit's own order

    def millivolts(self) -> np.ndarray:
        """Returns (C, T) float32 mV, NaN where the file says that there is no sample."""
        signal = (self.digital.astype(np.float64) - self.baseline[:, None]) / self.gain[:, None]
        if self.missing is not None:
            signal[self.missing] = np.nan
        return signal.astype(np.float32)

    def to_record(self, ecg_id: int | str = 0, meta: dict | None = None) -> ECGRecord:
        return ECGRecord(self.millivolts(), self.fs, self.leads, ecg_id, dict(meta or {}))

    def select(self, leads: tuple[str, ...]) -> RawRecord:
        """Exactly `leads`, in that order, by name. Raises RecordError("missing_leads")."""
        if self.leads == tuple(leads):
            return self
        absent = [name for name in leads if name not in self.leads]
        if absent:
            raise RecordError(
                "missing_leads", f"no lead {', '.join(absent)}; it holds {', '.join(self.leads)}"
            )
        rows = [self.leads.index(name) for name in leads]
        return replace(
            self,
            digital=self.digital[rows],
            gain=self.gain[rows],
            baseline=self.baseline[rows],
            leads=tuple(leads),
            missing=None if self.missing is None else self.missing[rows],
            checksums=tuple(self.checksums[row] for row in rows) if self.checksums else (),
        )


# --- the header -----------------------------------------------------------------------------------


def parse_header(text: str) -> Header:
    """Reads a single-segment WFDB header. Raises RecordError: header, zero_gain, units."""
    lines = [line.strip() for line in text.splitlines()]
    comments = tuple(line.lstrip("# ") for line in lines if line.startswith("#"))
    lines = [line for line in lines if line and not line.startswith("#")]
    try:
        first = lines[0].split()
        name, n_signals = first[0], int(first[1])
        fs = float(first[2].split("/")[0].split("(")[0]) if len(first) > 2 else 250.0
        n_samples = int(first[3]) if len(first) > 3 else 0
    except (IndexError, ValueError) as error:
        raise RecordError(
            "header", "its header does not begin with name, channels, rate and length"
        ) from error
    if "/" in name:
        raise RecordError("header", "it is a multi-segment record; give its segments one by one")
    if len(lines) - 1 < n_signals or n_signals == 0 or fs <= 0:
        raise RecordError(
            "header",
            f"its header promises {n_signals} channels at {fs:g} Hz but describes {len(lines) - 1}",
        )
    signals = tuple(_signal_line(line) for line in lines[1 : n_signals + 1])
    return Header(name, fs, n_samples, signals, comments)


def _signal_line(line: str) -> SignalLine:
    """FILE FMT[xN][:SKEW][+BYTES] GAIN[(BASELINE)][/UNITS] BITS ZERO FIRST CHECKSUM BLOCK LEAD"""
    parts = line.split(None, 8)
    fmt = _FORMAT.match(parts[1]) if len(parts) > 1 else None
    if fmt is None:
        raise RecordError(
            "header", f"its header has a channel line that names no format ({line[:60]!r})"
        )
    gain = _GAIN.match(parts[2]) if len(parts) > 2 else None
    if gain is None:
        raise RecordError(
            "zero_gain", f"channel line {line[:60]!r} gives no gain, so its amplitude is unknown"
        )
    zero = int(parts[4]) if len(parts) > 4 else 0
    per_unit, unit = float(gain[1]), (gain[3] or "mV").lower()
    if unit not in MV_PER_UNIT:
        raise RecordError("units", f"a channel is in {gain[3]}, which is no voltage")
    if per_unit == 0 or not np.isfinite(per_unit):
        raise RecordError(
            "zero_gain", f"channel {parts[-1]} has gain {per_unit:g}, so its amplitude is unknown"
        )
    return SignalLine(
        file=parts[0],
        fmt=fmt[1],
        skip_bytes=int(fmt[4] or 0),
        gain=per_unit / MV_PER_UNIT[unit],
        baseline=zero if gain[2] is None else int(gain[2]),
        name=parts[8] if len(parts) > 8 else "",
        plain=int(fmt[2] or 1) == 1 and int(fmt[3] or 0) == 0,
        checksum=int(parts[6]) if len(parts) > 6 else None,
    )


# --- the samples ----------------------------------------------------------------------------------


def read_raw(place, name: str) -> RawRecord:
    """Reads `name`.hea and its samples in `place` (a Folder or Zip), with canonical lead names.

    Raises RecordError: missing_file, header, zero_gain, units, lead_names, truncated, damaged.
    """
    folder, _, stem = name.rpartition("/")
    prefix = f"{folder}/" if folder else ""
    header = parse_header(_bytes(place, f"{name}.hea").decode("utf-8", errors="replace"))
    files = {signal.file for signal in header.signals}
    formats = {signal.fmt for signal in header.signals}
    own = len(files) == 1 and len(formats) == 1 and formats <= set(INVALID) and header.n_samples > 0
    if own and all(signal.plain for signal in header.signals):
        digital = _read_samples(_bytes(place, prefix + header.signals[0].file), header, name)
        invalid = INVALID[header.signals[0].fmt]
    else:
        digital, invalid = _read_with_wfdb(place, prefix, stem, sorted(files), header)
    missing = digital == invalid if invalid is not None and digital.min() == invalid else None
    leads = _lead_names(header)
    return RawRecord(
        digital,
        np.array([s.gain for s in header.signals]),
        np.array([s.baseline for s in header.signals]),
        header.fs,
        leads,
        missing,
        header.comments,
        tuple(signal.checksum for signal in header.signals),
        "" if leads == LEADS else " ".join(leads),
    )


def _read_samples(data: bytes, header: Header, name: str) -> np.ndarray:
    """Bytes of format 16 or 212 -> (C, T) int16. Raises RecordError("truncated") for too few."""
    skip, n = header.signals[0].skip_bytes, len(header.signals) * header.n_samples
    need = 2 * n if header.signals[0].fmt == "16" else (3 * n + 1) // 2
    if len(data) - skip < need:
        raise RecordError(
            "truncated",
            f"{header.signals[0].file} holds {max(len(data) - skip, 0)} bytes of samples "
            f"where its header promises {need}",
        )
    body = np.frombuffer(data, np.uint8, need, skip)
    flat = body.view("<i2") if header.signals[0].fmt == "16" else _unpack_212(body, n)
    return np.ascontiguousarray(flat.reshape(header.n_samples, -1).T)  # (T * C,) -> (C, T)


def _unpack_212(body: np.ndarray, n: int) -> np.ndarray:
    """Two 12-bit two's-complement samples per three bytes -> (n,) int16."""
    if len(body) % 3:
        body = np.append(body, np.zeros(3 - len(body) % 3, np.uint8))
    triples = body.reshape(-1, 3).astype(np.int16)
    pairs = np.empty((len(triples), 2), np.int16)
    pairs[:, 0] = triples[:, 0] | (triples[:, 1] & 0x0F) << 8
    pairs[:, 1] = triples[:, 2] | (triples[:, 1] & 0xF0) << 4
    pairs[pairs > 2047] -= 4096
    return pairs.reshape(-1)[:n]


def _read_with_wfdb(place, prefix: str, stem: str, files: list[str], header: Header):
    """Any other format, through `wfdb`: (C, T) int32 and the value that means "no sample"."""
    import wfdb

    with tempfile.TemporaryDirectory() as folder:
        for file in (f"{stem}.hea", *files):
            Path(folder, file).write_bytes(_bytes(place, prefix + file))
        try:
            record = wfdb.rdrecord(str(Path(folder, stem)), physical=False)
        except Exception as error:  # noqa: BLE001  wfdb raises whatever numpy met; the record is unusable either way
            raise RecordError(
                "damaged", f"wfdb cannot read its format {header.signals[0].fmt} ({error})"
            ) from error
    invalid = {wfdb.io._signal.INVALID_SAMPLE_VALUE.get(fmt) for fmt in record.fmt}
    return record.d_signal.T.astype(np.int32), invalid.pop() if len(invalid) == 1 else None


def _lead_names(header: Header) -> tuple[str, ...]:
    try:
        names = tuple(canonical_lead(signal.name) for signal in header.signals)
    except DataError as error:
        raise RecordError("lead_names", str(error).rstrip(".")) from error
    if len(set(names)) != len(names):
        raise RecordError("lead_names", f"its lead names repeat ({', '.join(names)})")
    return names


def _bytes(place, name: str) -> bytes:
    try:
        return place.read(name)
    except FileNotFoundError:
        raise RecordError("missing_file", f"{name} is not there") from None
    except OSError as error:
        raise RecordError("damaged", f"{name} cannot be read ({error})") from error
