"""WFDB records from a folder or a .zip, as digital samples with their gains, or a reason why not.

A reader of our own covers formats 16 and 212 (what PTB-XL, MIMIC-IV-ECG and the PhysioNet
challenges use) about twenty times faster than `wfdb`; any other layout (more files than one, other
formats) goes through `wfdb`, which the tests also hold it equal to, bit by bit. Source of the
formats: the WFDB signal(5) manual page.

Usage:

    raw = read_raw(place, "records100/00000/00001_lr")      # digital (C, T), gains, lead names
    record = raw.to_record(ecg_id=1)                        # ECGRecord in mV
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ecgkit.data.wfdb_header import Header, RecordError, SignalLine, parse_header
from ecgkit.types import LEADS, DataError, ECGRecord, canonical_lead

# The most negative value of each format means "no sample here".
INVALID = {"16": -32768, "212": -2048}
# Bits per sample of the formats that are not compressed: what a file must hold at the least.
BITS = {"8": 8, "80": 8, "16": 16, "61": 16, "160": 16, "212": 12, "24": 24, "32": 32}
MAX_SAMPLES = 10**8  # of one record in a compressed format, all channels: 200 MB
# The header of a MATLAB 4 file with one int16 matrix, little-endian; its name follows.
_MATLAB = b"\x1e\0\0\0"


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


def read_raw(place, name: str) -> RawRecord:
    """Reads `name`.hea and its samples in `place` (a Folder or Zip), with canonical lead names.

    Channels beside the twelve leads (breathing, Frank leads) are left out; the twelve are found by
    name. Raises RecordError: missing_file, header, wrong_rate, zero_gain, units, lead_names,
    truncated, too_long, damaged.
    """
    folder, _, stem = name.rpartition("/")
    prefix = f"{folder}/" if folder else ""
    header = parse_header(_text(_bytes(place, f"{name}.hea")), stem)
    rows, leads = _lead_rows(header)
    signals = [header.signals[row] for row in rows]
    for signal in signals:
        if signal.fault is not None:
            raise signal.fault
    digital, invalid = _samples(place, prefix, stem, header, rows)
    if not digital.size:
        raise RecordError("truncated", "it holds not one sample")
    missing = digital == invalid if invalid is not None and digital.min() == invalid else None
    return RawRecord(
        digital,
        np.array([s.gain for s in signals]),
        np.array([s.baseline for s in signals]),
        header.fs,
        leads,
        missing,
        header.comments,
        tuple(s.checksum for s in signals),
        "" if leads == LEADS and len(header.signals) == len(LEADS) else _written(header),
    )


def _samples(place, prefix: str, stem: str, header: Header, rows: list[int]):
    """The channels `rows`: digital (C, T), and the value that means "no sample" or None."""
    file = header.signals[rows[0]].file
    inside = [row for row, signal in enumerate(header.signals) if signal.file == file]
    frame = [header.signals[row] for row in inside]
    fmt, ours = frame[0].fmt, set(rows) <= set(inside)
    if ours and fmt in INVALID and all(s.plain and s.fmt == fmt for s in frame):
        digital = _read_samples(_bytes(place, prefix + file), frame, header.n_samples)
        invalid, rows = INVALID[fmt], [inside.index(row) for row in rows]
    else:
        digital, invalid = _read_with_wfdb(place, prefix, stem, header)
    return (digital if rows == list(range(len(digital))) else digital[rows]), invalid


def _lead_rows(header: Header) -> tuple[list[int], tuple[str, ...]]:
    """Which channels are leads, and their names. Raises RecordError("lead_names")."""
    rows, leads, others = [], [], []
    for row, signal in enumerate(header.signals):
        try:
            leads.append(canonical_lead(signal.name))
            rows.append(row)
        except DataError:
            others.append(signal.name)
    if len(set(leads)) != len(leads):
        raise RecordError("lead_names", f"its lead names repeat ({', '.join(leads)})")
    for signal in header.signals:
        if not signal.name and signal.fault is not None:  # a line cut short before its name
            raise signal.fault
    absent = [lead for lead in LEADS if lead not in leads]
    if others and absent:
        raise RecordError(
            "lead_names",
            f"its channels {', '.join(map(repr, others[:6]))} are none of the twelve leads, of "
            f"which {', '.join(absent)} {'is' if len(absent) == 1 else 'are'} absent",
        )
    return rows, tuple(leads)


def _written(header: Header) -> str:
    return " ".join("_".join(signal.name.split()) for signal in header.signals)


def _read_samples(data: bytes, frame: list[SignalLine], n_samples: int) -> np.ndarray:
    """Bytes of format 16 or 212 -> (C, T) int16 of all channels of the file.

    Raises RecordError: truncated for too few bytes, too_long for more than the header promises,
    unless the checksums show that what it promises is right (then the rest is left out).
    """
    skip, bits = frame[0].skip_bytes, BITS[frame[0].fmt]
    if not skip and data.startswith(_MATLAB) and frame[0].file.endswith(".mat"):
        skip = 20 + int.from_bytes(data[16:20], "little")
    n_samples = n_samples or max(len(data) - skip, 0) * 8 // (bits * len(frame))
    n = len(frame) * n_samples
    need, there = (n * bits + 7) // 8, max(len(data) - skip, 0)
    if there < need:
        raise RecordError(
            "truncated",
            f"{frame[0].file} holds {there} bytes of samples where its header promises {need}",
        )
    body = np.frombuffer(data, np.uint8, need, skip)
    flat = body.view("<i2") if bits == 16 else _unpack_212(body, n)
    digital = np.ascontiguousarray(flat.reshape(n_samples, -1).T)  # (T * C,) -> (C, T)
    # A last odd sample of format 212 may be padded to a whole triple.
    if there > max(need, -(-n // 2) * 3 if bits == 12 else 0) and not checksums_right(
        digital, [signal.checksum for signal in frame]
    ):
        raise RecordError(
            "too_long",
            f"{frame[0].file} holds {there} bytes of samples where its header promises {need}, and "
            "no checksum shows that the first of them are the recording",
        )
    return digital


def checksums_right(digital: np.ndarray, checksums) -> bool | None:
    """Whether each channel's sum modulo 65536 is the header's; None where it does not give them."""
    if not checksums or None in checksums:
        return None
    sums = np.add.reduce(digital, axis=1, dtype=np.int16)  # wraps at 65536
    return all((int(ours) - theirs) % 65536 == 0 for ours, theirs in zip(sums, checksums))


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


def _read_with_wfdb(place, prefix: str, stem: str, header: Header):
    """Any other layout, through `wfdb`: (C, T) int32 and the value that means "no sample"."""
    import wfdb

    files = {name: _bytes(place, prefix + name) for name in {s.file for s in header.signals}}
    _check_size(header, files)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, f"{stem}.hea").write_bytes(_bytes(place, f"{prefix}{stem}.hea"))
        for name, data in files.items():
            Path(folder, name).write_bytes(data)
        try:
            record = wfdb.rdrecord(str(Path(folder, stem)), physical=False)
        except Exception as error:  # noqa: BLE001  wfdb raises whatever numpy met; the record is unusable either way
            raise RecordError(
                "damaged", f"wfdb cannot read its format {header.signals[0].fmt} ({error})"
            ) from error
    invalid = {wfdb.io._signal.INVALID_SAMPLE_VALUE.get(fmt) for fmt in record.fmt}
    return record.d_signal.T.astype(np.int32), invalid.pop() if len(invalid) == 1 else None


def _check_size(header: Header, files: dict[str, bytes]) -> None:
    """Raises RecordError before `wfdb` would set memory aside for samples that are not there."""
    for name, data in files.items():
        bits = [BITS.get(s.fmt, 0) for s in header.signals if s.file == name]
        need = header.n_samples * sum(bits) // 8
        if len(data) < need:
            raise RecordError(
                "truncated", f"{name} holds {len(data)} bytes where its header promises {need}"
            )
    packed = sum(s.fmt not in BITS for s in header.signals)
    if header.n_samples * packed > MAX_SAMPLES:
        raise RecordError("header", f"its header promises {header.n_samples} samples per channel")


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _bytes(place, name: str) -> bytes:
    try:
        return place.read(name)
    except FileNotFoundError:
        raise RecordError("missing_file", f"{name} is not there") from None
    except Exception as error:  # noqa: BLE001  whatever a broken archive or disk provokes
        raise RecordError("damaged", f"{name} cannot be read ({error})") from error
