"""One recording, damaged in each way that the quarantine has a code for, and in three that it has
none for because they do no harm.

Usage:

    place, jobs = damaged_copies(raw, folder)        # jobs [(damage, record name)]
    DAMAGES["one lead flat"].reason                  # "flat_lead"
    as_far_as_readable(place, "record_03")           # ECGRecord to look at, or None
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecgkit.data.place import Folder
from ecgkit.data.records import RawRecord
from ecgkit.data.wfdb_header import RecordError, parse_header
from ecgkit.types import LEADS, DataError, ECGRecord, canonical_lead

# For a header that gives no gain; PTB-XL's own.
UNITS_PER_MV = 1000.0
FILE, FORMAT, GAIN, CHECKSUM, NAME = 0, 1, 2, 6, 8  # words of a channel line


@dataclass
class Copy:
    """A record as text and numbers: `first` line and channel `lines` as words, `values` (T, C)."""

    first: list[str]
    lines: list[list[str]]
    values: np.ndarray
    more: bytes = b""  # behind the samples
    suffixes: tuple[str, ...] = (".hea", ".dat")

    @classmethod
    def of(cls, raw: RawRecord, name: str) -> Copy:
        values = np.ascontiguousarray(raw.digital.T).astype(np.int16)
        first = [name, str(len(raw.leads)), f"{raw.fs:g}", str(len(values))]
        lines = [
            [f"{name}.dat", "16", f"{gain:g}({zero})/mV", "16", "0", str(row[0]), "0", "0", lead]
            for gain, zero, row, lead in zip(raw.gain, raw.baseline, values.T, raw.leads)
        ]
        return cls(first, lines, values)

    def sign(self) -> None:
        """Writes each channel's checksum, its sum modulo 65536, into its line."""
        for line, total in zip(self.lines, self.values.sum(axis=0, dtype=np.int64)):
            line[CHECKSUM] = str(total % 65536)

    def write(self, folder: Path, name: str) -> None:
        header = "\n".join(" ".join(words) for words in [self.first, *self.lines]) + "\n"
        samples = np.ascontiguousarray(self.values, "<i2").tobytes() + self.more
        for suffix, content in ((".hea", header.encode()), (".dat", samples)):
            if suffix in self.suffixes:
                (folder / f"{name}{suffix}").write_bytes(content)


@dataclass(frozen=True)
class Damage:
    """`reason` it must be quarantined with ('' = it is stored, equal to the original)."""

    reason: str
    do: Callable[[Copy], None]
    signed: bool = True  # checksums are right for the damaged samples, so that they betray nothing


def _shuffle(copy: Copy) -> None:
    order = np.random.default_rng(0).permutation(len(copy.lines))
    copy.lines, copy.values = [copy.lines[i] for i in order], copy.values[:, order]


def _lengthen(copy: Copy) -> None:
    copy.more = bytes(2400)


def _cut(copy: Copy) -> None:
    copy.values = copy.values[: len(copy.values) * 3 // 5]


def _keep_only(*suffixes: str):
    def do(copy: Copy) -> None:
        copy.suffixes = suffixes

    return do


def _word(place: int, text: str, channels=slice(None)):
    """Puts `text` into one word of the lines of `channels`."""

    def do(copy: Copy) -> None:
        for line in copy.lines[channels]:
            line[place] = text

    return do


def _no_lines(copy: Copy) -> None:
    copy.lines = copy.lines[:2]


def _slower(copy: Copy) -> None:
    copy.first[2] = f"{0.72 * float(copy.first[2]):g}"


def _constant(channels, value: int):
    def do(copy: Copy) -> None:
        copy.values[:, channels] = value

    return do


def _drop(copy: Copy) -> None:
    copy.lines, copy.values = copy.lines[:8], copy.values[:, :8]
    copy.first[1] = "8"


def _saturate(copy: Copy) -> None:
    """One lead cut off where 8 % of its samples lie beyond, on either side."""
    low, high = np.percentile(copy.values[:, 7], [8, 92]).astype(int)
    copy.values[:, 7] = copy.values[:, 7].clip(low, high)


def _swap(copy: Copy) -> None:
    copy.lines[0][NAME], copy.lines[1][NAME] = copy.lines[1][NAME], copy.lines[0][NAME]


def _repeat(copy: Copy) -> None:
    copy.values[:, 7] = copy.values[:, 6]


DAMAGES = {
    "intact": Damage("", lambda copy: None),
    "shuffled leads": Damage("", _shuffle),
    "bytes behind the end": Damage("", _lengthen),
    "cut short": Damage("truncated", _cut),
    "too long": Damage("too_long", _lengthen, signed=False),
    "header gone": Damage("missing_file", _keep_only(".dat")),
    "samples gone": Damage("missing_file", _keep_only(".hea")),
    "header cut": Damage("header", _no_lines),
    "header leads elsewhere": Damage("header", _word(FILE, "../../elsewhere.dat")),
    "unknown format": Damage("damaged", _word(FORMAT, "999")),
    "gain 0": Damage("zero_gain", _word(GAIN, "0/mV", slice(2, 3))),
    "in mmHg": Damage("units", _word(GAIN, "1000/mmHg", slice(0, 1))),
    "microvolts called mV": Damage("amplitude", _word(GAIN, "1/mV")),
    "wrong rate": Damage("wrong_rate", _slower),
    "lead renamed": Damage("lead_names", _word(NAME, "EEG", slice(11, 12))),
    "four leads gone": Damage("missing_leads", _drop),
    "flat line": Damage("no_signal", _constant(slice(None), 0)),
    "one lead flat": Damage("flat_lead", _constant(6, 0)),
    "one lead marked missing": Damage("missing_lead", _constant(6, -32768)),
    "one lead twice": Damage("repeated_lead", _repeat),
    "one lead saturated": Damage("clipped", _saturate),
    "I and II swapped": Damage("lead_identity", _swap),
}


def damaged_copies(raw: RawRecord, folder: str | Path) -> tuple[Folder, list[tuple[str, str]]]:
    """Writes one copy of a 12-lead record per entry of `DAMAGES`, damaged accordingly.

    Returns the folder as a place and the jobs [(damage, record name)] for `store.build_store`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    jobs = []
    for number, (label, damage) in enumerate(DAMAGES.items()):
        name = f"record_{number:02d}"
        copy = Copy.of(raw.select(LEADS), name)
        damage.do(copy)
        if damage.signed:
            copy.sign()
        copy.write(folder, name)
        jobs.append((label, name))
    return Folder(folder), jobs


def as_far_as_readable(place, name: str) -> ECGRecord | None:
    """A format-16 record with all checks off: (12, T) mV, NaN where nothing can be read.

    A channel whose gain or unit is unusable is drawn at 1000 units per mV, as `meta["note"]` says.
    None where header or samples cannot be read at all.
    """
    try:
        header = parse_header(place.read(f"{name}.hea").decode(), name.rpartition("/")[2])
        data = place.read(f"{name.rpartition('/')[0]}/{header.signals[0].file}".lstrip("/"))
    except (RecordError, OSError):
        return None
    if {signal.fmt for signal in header.signals} != {"16"}:
        return None
    n = min(header.n_samples, len(data) // (2 * len(header.signals)))
    values = np.frombuffer(data, "<i2", n * len(header.signals)).reshape(n, -1)
    shown = np.full((len(LEADS), n), np.nan, np.float32)
    for signal, column in zip(header.signals, values.T):
        try:
            row = LEADS.index(canonical_lead(signal.name))
        except DataError:
            continue
        gain = UNITS_PER_MV if signal.fault else signal.gain
        shown[row] = np.where(column == -32768, np.nan, (column - signal.baseline) / gain)
    note = "drawn at 1000 units per mV" if any(s.fault for s in header.signals) else ""
    return ECGRecord(shown, header.fs, LEADS, name, {"note": note})
