"""The text of a WFDB header -> what it promises: channels, files, formats, gains, rate and length.

Nothing is read or set aside here, so that an absurd number costs nothing. Source of the format: the
WFDB header(5) manual page.

Usage:

    header = parse_header(text)             # Header, or RecordError with the quarantine's reason
    header.comments                         # "Age: 84", "Dx: 426783006", ...
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ecgkit.types import DataError

MV_PER_UNIT = {"mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "v": 1e3, "nv": 1e-6}
MAX_CHANNELS = 1024
RATES = (10.0, 100_000.0)  # Hz; anything outside is a slip of the pen, not an ECG
_GAIN = re.compile(r"^([-+]?[\d.]+(?:[eE][-+]?\d+)?)(?:\(([-+]?\d+)\))?(?:/(\S+))?$")
_FORMAT = re.compile(r"^(\d+)(?:x(\d+))?(?::(\d+))?(?:\+(\d+))?$")
# A file name that leads away from the header, or to no file at all.
_ELSEWHERE = re.compile(r"[/\\:\x00-\x1f]|^\.\.?$")
# A channel line whose file name has blanks: the name ends with its extension.
_BLANKS = re.compile(r"^(.+?\.\w*[A-Za-z]\w*)\s+(\d.*)$")


class RecordError(DataError):
    """A record cannot be used: `reason` is the quarantine code, the message the sentence."""

    def __init__(self, reason: str, sentence: str):
        super().__init__(sentence)
        self.reason = reason

    def __reduce__(self):  # between processes: an exception is rebuilt from its arguments
        return RecordError, (self.reason, str(self))


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
    fault: RecordError | None = None  # why its voltages cannot be known, if they cannot


@dataclass(frozen=True)
class Header:
    name: str
    fs: float
    n_samples: int
    signals: tuple[SignalLine, ...]
    comments: tuple[str, ...]


def parse_header(text: str, stem: str = "") -> Header:
    """Reads a single-segment WFDB header. `stem` is the record's name, where it may have blanks.

    Raises RecordError: header, wrong_rate. A channel without a usable gain or unit is no error
    here, for nobody may need it: its line says so in `fault`.
    """
    lines = [line.strip() for line in text.splitlines()]
    comments = tuple(line.lstrip("# ") for line in lines if line.startswith("#"))
    lines = [line for line in lines if line and not line.startswith("#")]
    name, n_signals, fs, n_samples = _first_line(lines[0] if lines else "", stem)
    if "/" in name:
        raise RecordError("header", "it is a multi-segment record; give its segments one by one")
    if not 0 < n_signals <= min(len(lines) - 1, MAX_CHANNELS):
        raise RecordError(
            "header",
            f"its header promises {n_signals} channels but describes {len(lines) - 1} "
            f"(1 to {MAX_CHANNELS} are read)",
        )
    if not RATES[0] <= fs <= RATES[1]:  # NaN is not
        raise RecordError("wrong_rate", f"its header says {fs:g} Hz, which is no ECG's rate")
    signals = tuple(_signal_line(line) for line in lines[1 : n_signals + 1])
    return Header(name, fs, n_samples, signals, comments)


def _first_line(line: str, stem: str) -> tuple[str, int, float, int]:
    """NAME CHANNELS [RATE[/...] [LENGTH [...]]] -> name, channels, Hz, samples (0: not said)."""
    known = bool(stem) and line.startswith(f"{stem} ")
    name, *rest = [stem, *line[len(stem) :].split()] if known else line.split() or [""]
    try:
        n_signals = int(rest[0])
        fs = float(rest[1].split("/")[0].split("(")[0]) if len(rest) > 1 else 250.0
        n_samples = int(rest[2]) if len(rest) > 2 else 0
    except (IndexError, ValueError) as error:
        raise RecordError(
            "header", "its header does not begin with name, channels, rate and length"
        ) from error
    if n_samples < 0:
        raise RecordError("header", f"its header promises {n_samples} samples")
    return name, n_signals, fs, n_samples


def _signal_line(line: str) -> SignalLine:
    """FILE FMT[xN][:SKEW][+BYTES] GAIN[(BASELINE)][/UNITS] BITS ZERO FIRST CHECKSUM BLOCK LEAD"""
    parts = line.split(None, 8)
    if len(parts) < 3 or not _FORMAT.match(parts[1]) or not _GAIN.match(parts[2]):
        blanks = _BLANKS.match(line)
        parts = [blanks[1], *blanks[2].split(None, 7)] if blanks else parts
    fmt = _FORMAT.match(parts[1]) if len(parts) > 1 else None
    if fmt is None:
        raise RecordError(
            "header", f"its header has a channel line that names no format ({line[:60]!r})"
        )
    gain, baseline, fault = _scale(parts, line)
    return SignalLine(
        file=_file_name(parts[0]),
        fmt=fmt[1],
        skip_bytes=int(fmt[4] or 0),
        gain=gain,
        baseline=baseline,
        name=parts[8] if len(parts) > 8 else "",
        plain=int(fmt[2] or 1) == 1 and int(fmt[3] or 0) == 0,
        checksum=_integer(parts[6]) if len(parts) > 6 else None,
        fault=fault,
    )


def _file_name(name: str) -> str:
    """A file beside the header. Raises RecordError("header") for a name that leads elsewhere."""
    if _ELSEWHERE.search(name):
        raise RecordError(
            "header", f"its header asks for {name[:60]!r}, which is no file beside it"
        )
    return name


def _scale(parts: list[str], line: str) -> tuple[float, int, RecordError | None]:
    """Units per mV and the value of 0 mV of a channel line, or why they cannot be known."""
    match = _GAIN.match(parts[2]) if len(parts) > 2 else None
    if match is None:
        sentence = f"channel line {line[:60]!r} gives no gain, so its amplitude is unknown"
        return 1.0, 0, RecordError("zero_gain", sentence)
    unit = (match[3] or "mV").lower()
    if unit not in MV_PER_UNIT:
        return 1.0, 0, RecordError("units", f"a channel is in {match[3]}, which is no voltage")
    try:
        gain = float(match[1]) / MV_PER_UNIT[unit]
    except ValueError:  # 1.2.3
        gain = float("nan")
    if not 0 < gain < float("inf"):
        sentence = f"channel {parts[-1]} has gain {match[1]}, so its amplitude is unknown"
        return 1.0, 0, RecordError("zero_gain", sentence)
    zero = match[2] if match[2] is not None else parts[4] if len(parts) > 4 else "0"
    baseline = _integer(zero)
    if baseline is None or abs(baseline) > 2**31:
        return 1.0, 0, RecordError("header", f"channel {parts[-1]} has its zero at {zero[:20]}")
    return gain, baseline, None


def _integer(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
