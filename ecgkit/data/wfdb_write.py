"""Writes many ECGs at once as WFDB records, in the way the source they imitate writes them.

Usage:

    write_wfdb(folder, names, adc, fs=100)                      # PTB-XL: adc (N, C, T) int16
    write_wfdb(folder, names, adc, fs=500, style=MIMIC)         # 200 units per mV, aVF before aVL
    write_wfdb(folder, names, adc, fs=500, style=CHAPMAN)       # .mat files MATLAB opens too
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecgkit.data.sources import MIMIC_LEADS
from ecgkit.types import LEADS, DataError, canonical_lead

MOST = 32767  # -32768 stays free: WFDB's mark of a gap


@dataclass(frozen=True)
class RecordStyle:
    """How a source writes a record: `leads` as it spells and orders them, `gain` as its headers
    give it, `fmt` the WFDB format; `mat` puts MATLAB's head before the samples.
    """

    units_per_mv: int
    gain: str
    leads: tuple[str, ...]
    fmt: str = "16"
    mat: bool = False

    @property
    def extension(self) -> str:
        return "mat" if self.mat else "dat"

    def head(self, n_samples: int) -> bytes:
        """A MATLAB 4 file's head: little-endian int16 matrix `val` (C, T), column by column, which
        is sample by sample. 24 bytes, the `+24` of the format.
        """
        return (
            struct.pack("<5i4s", 30, len(self.leads), n_samples, 0, 4, b"val\0")
            if self.mat
            else b""
        )


PTBXL = RecordStyle(1000, "1000.0(0)/mV", tuple(lead.upper() for lead in LEADS))
MIMIC = RecordStyle(200, "200.0(0)/mV", MIMIC_LEADS)
CHAPMAN = RecordStyle(1000, "1000.0(0)/mV", LEADS, "16x1+24", mat=True)
CPSC = RecordStyle(1000, "1000/mV", LEADS, "16+24", mat=True)


def to_adc(signal: np.ndarray, units_per_mv: int = PTBXL.units_per_mv) -> np.ndarray:
    """mV -> int16, clipped to what 16 bits hold without the mark of a gap."""
    scaled = signal * units_per_mv
    np.rint(scaled, out=scaled)
    return np.clip(scaled, -MOST, MOST, out=scaled).astype(np.int16)


def twelve_lead_adc(adc8: np.ndarray) -> np.ndarray:
    """(N, C8, T) int16 -> (N, 12, T) int16 in the kit's order, half units rounded to even.

    The same numbers as rounding `simulator.twelve_leads`, in integers throughout.
    """
    n, _, n_samples = adc8.shape
    adc = np.empty((n, 12, n_samples), np.int16)
    adc[:, :2], adc[:, 6:] = adc8[:, :2], adc8[:, 2:]
    one, two = adc8[:, 0].astype(np.int32), adc8[:, 1].astype(np.int32)
    adc[:, 2] = np.clip(two - one, -MOST, MOST)
    for row, twice in ((3, -(one + two)), (4, 2 * one - two), (5, 2 * two - one)):
        half = twice >> 1  # rounded down; an odd sum is half a unit more, and goes to the even side
        half += twice & half & 1
        adc[:, row] = np.clip(half, -MOST, MOST, out=half)
    return adc


def write_wfdb(
    folder: Path,
    names: list[str],
    adc: np.ndarray,
    fs: int,
    style: RecordStyle = PTBXL,
    tails: Sequence[str] = (),
    comments: Sequence[Sequence[str]] = (),
) -> None:
    """Writes `adc` (N, 12, T) int16, leads in the kit's order, as one pair of files per name (a
    name may hold sub-folders).

    `tails` goes to the end of each first header line (time and date), `comments` below the leads.
    The checksum is the sum of a lead's samples modulo 65536 as PTB-XL writes it, signed 16 bits in
    the challenge's headers. Raises DataError when names and samples disagree.
    """
    if adc.dtype != np.int16 or adc.ndim != 3 or adc.shape[:2] != (len(names), len(LEADS)):
        raise DataError(
            f"write_wfdb got samples {adc.dtype} {adc.shape} for {len(names)} records of "
            f"{len(LEADS)} leads; give int16 of shape (records, leads, samples)."
        )
    for sub in {os.path.dirname(f"{folder}/{name}") for name in names}:
        os.makedirs(sub, exist_ok=True)
    order = [LEADS.index(canonical_lead(lead)) for lead in style.leads]
    if order != sorted(order):
        adc = adc[:, order]
    first = adc[:, :, 0].tolist()
    total = adc.view(np.uint16).sum(axis=2, dtype=np.uint16)  # wraps round at 65536
    checksum = (total.view(np.int16) if style.mat else total).tolist()
    frames = np.empty((len(adc), adc.shape[2], len(order)), "<i2")  # sample by sample
    for c in range(len(order)):
        frames[:, :, c] = adc[:, c]
    for n, name in enumerate(names):
        path = f"{folder}/{name}"
        with open(f"{path}.{style.extension}", "wb") as out:
            out.write(style.head(adc.shape[2]))
            out.write(frames[n].data)
        stem = name.rpartition("/")[2]
        lines = _header_lines(stem, fs, adc.shape[2], first[n], checksum[n], style)
        lines[0] += tails[n] if tails else ""
        lines += comments[n] if comments else ()
        with open(f"{path}.hea", "wb") as out:
            out.write(("\n".join(lines) + "\n").encode("ascii"))


def _header_lines(
    stem: str, fs: int, n_samples: int, first, checksum, style: RecordStyle
) -> list[str]:
    """The record's line, then per lead: file, format, gain(baseline)/units, resolution, zero,
    initial value, checksum, block, name. `first` and `checksum` have one int per lead.
    """
    file = f"{stem}.{style.extension} {style.fmt} {style.gain} 16 0"
    return [f"{stem} {len(style.leads)} {fs} {n_samples}"] + [
        f"{file} {start} {total} 0 {lead}"
        for start, total, lead in zip(first, checksum, style.leads)
    ]
