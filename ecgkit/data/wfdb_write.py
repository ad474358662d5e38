"""Writes many ECGs at once as WFDB format-16 records, headers in PTB-XL's style.

Usage:
    write_wfdb(folder, names, adc, fs=100)      # adc (N, C, T) int16, 1000 units per mV
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ecgkit.types import LEADS, DataError

UNITS_PER_MV = 1000


def to_adc(signal: np.ndarray) -> np.ndarray:
    """mV -> int16 at 1000 units per mV, clipped to what 16 bits hold; -32768 stays free (WFDB's
    mark of a gap).
    """
    return np.clip(np.rint(signal * UNITS_PER_MV), -32767, 32767).astype(np.int16)


def header_text(stem: str, fs: int, n_samples: int, first, checksum, leads=LEADS) -> str:
    """One .hea file: per lead format, gain(baseline)/units, resolution, zero, initial value,
    checksum, block, name.

    `first` and `checksum` have one int per lead. PTB-XL writes augmented leads in capitals (AVR).
    """
    lines = [f"{stem} {len(leads)} {fs} {n_samples}"]
    lines += [
        f"{stem}.dat 16 {UNITS_PER_MV}.0(0)/mV 16 0 {start} {total} 0 {lead.upper()}"
        for start, total, lead in zip(first, checksum, leads)
    ]
    return "\n".join(lines) + "\n"


def write_wfdb(folder: Path, names: list[str], adc: np.ndarray, fs: int, leads=LEADS) -> None:
    """Writes `adc` (N, C, T) int16 as `folder/<name>.dat` and `.hea`, one pair per name (a name
    may hold sub-folders).

    The checksum is the sum of a lead's samples modulo 65536, as in PTB-XL.
    Raises DataError when names, leads and samples disagree.
    """
    if adc.dtype != np.int16 or adc.ndim != 3 or adc.shape[:2] != (len(names), len(leads)):
        raise DataError(
            f"write_wfdb got samples {adc.dtype} {adc.shape} for {len(names)} records of "
            f"{len(leads)} leads; give int16 of shape (records, leads, samples)."
        )
    folder = Path(folder)
    for sub in {(folder / name).parent for name in names}:
        sub.mkdir(parents=True, exist_ok=True)
    first = adc[:, :, 0].tolist()
    checksum = (adc.sum(axis=2, dtype=np.int64) % 65536).tolist()
    frames = np.ascontiguousarray(adc.transpose(0, 2, 1)).astype(
        "<i2", copy=False
    )  # (N, T, C), sample by sample
    for n, name in enumerate(names):
        path = folder / name
        with open(f"{path}.dat", "wb") as out:
            out.write(frames[n].data)
        with open(f"{path}.hea", "w", newline="\n", encoding="ascii") as out:
            out.write(header_text(path.name, fs, adc.shape[2], first[n], checksum[n], leads))
