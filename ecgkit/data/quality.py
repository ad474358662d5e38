"""What is decidably wrong with a record before anybody trains on it: measured once, as it is read.

`examine` measures (about 0.3 ms for 12 x 5000 samples), `problem` judges. What is wrong beyond
doubt goes to the quarantine with one of `REASONS`; everything else is a column of the store's index
and a line in `doctor.table`.

Usage:

    findings = examine(read_raw(place, name))
    error = problem(findings, rates=(500,))            # RecordError to quarantine it with, or None
    index_line |= findings.columns()
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields

import numpy as np

from ecgkit.data.records import RawRecord, RecordError, checksums_right
from ecgkit.types import LEADS, ConfigError

# Measured on the 400 real PTB-XL records at 500 and at 100 Hz and on ten of Chapman-Shaoxing:
#   identities   worst 0.0076 PTB-XL, 0.015 Chapman (rounding). Two of the six limb names swapped
#                give at least 0.15 in all 810 (II for aVF is the hardest to see), a limb lead
#                swapped with a chest lead at least 0.121 in all 29,160 cases. Two chest leads
#                swapped cannot be seen: no identity binds them
#   clipped      at most 1.3 % of a lead's samples on its own rail (500 Hz), 0.7 % (100 Hz)
#   amplitude    0.29 to 2.2 mV; microvolts taken for millivolts give 270, the reverse 0.002
#   offset       at most 0.34 mV; electrodes drift up to 300 mV (IEC 60601-2-25)
#   checksums    all right in all 810; flat: three leads each of Chapman JS20004 and JS20008, which
#                hold nothing but zeros there and are rightly refused
IDENTITY = 0.12
CLIPPED = 0.05
AMPLITUDE = (0.025, 25.0)  # mV
OFFSET = 500.0  # mV
MISSING = 0.5  # share of a lead
# A lead that hardly moves (mV) in a few steps (5 uV each in some sources) touches its own extremes
# all the time without being cut off there. The quietest real lead has 0.2 mV from peak to peak.
QUIET, LEVELS = 0.1, 12
SILENT = 0.03  # mV; limb leads with less spread show their rounding (MIMIC: 5 uV), not their names
SUBSAMPLE = 1000  # samples are enough for an amplitude and for an identity that holds at each

# Every reason a recording can be refused for. The first leave nothing to store (they come from the
# table, the reader, the store, a view); those found by `problem` may be accepted all the same.
UNREADABLE = {
    "bad_row": "the source's table does not say what is needed about it",
    "duplicate_id": "another recording of the source has its id",
    "bad_name": "its file name is no text, so no table can name it",
    "missing_file": "its header or its samples are not there",
    "damaged": "a file cannot be read: broken, locked, or in an unknown format",
    "header": "its header does not say what a header must",
    "truncated": "the file holds fewer samples than the header promises",
    "too_long": "it holds more, and no checksum shows which of them are the recording",
    "zero_gain": "a lead has no gain, or none that is a positive number",
    "units": "a lead is in something that is no voltage",
    "lead_names": "leads are named twice, or by names that are none of the twelve",
    "missing_leads": "it has fewer than the twelve leads",
    "unexpected": "reading it failed in a way that nobody foresaw",
    "too_short": "cut into windows, it does not fill half of one",
}
DECIDED = {
    "no_signal": "every lead is missing or constant",
    "missing_lead": "a lead is named, but more than half of it is marked as missing",
    "flat_lead": "a lead is constant",
    "wrong_rate": "the sampling rate is none of its source's",
    "amplitude": "the voltages are those of no heart: unit, gain or baseline is wrong",
    "clipped": "a lead stays on its own largest or smallest value",
    "repeated_lead": "two leads hold the same samples",
    "lead_identity": "I + III = II or the augmented leads do not hold: leads carry wrong names",
}
REASONS = UNREADABLE | DECIDED


@dataclass(frozen=True)
class Findings:
    """One record, measured. Shares are of samples; -1 and NaN mean that it cannot be known."""

    fs_source: float  # Hz
    n_source: int  # samples per lead
    lead_order: str  # as written in the file, by blanks; '' = the kit's own order
    n_missing: int  # samples marked as missing, all leads
    worst_missing: float  # share in the worst lead
    n_flat: int  # leads that are constant
    n_repeated: int  # leads that hold the samples of another
    clipped: float  # share on its own rail, worst lead
    amplitude: float  # mV, half the 0.1-99.9 % range, median over leads
    offset: float  # mV, distance of the median from zero, worst lead
    einthoven: float  # I + III - II, relative to the largest limb lead
    goldberger: float  # the same of the worst augmented lead
    checksum_ok: int  # 1 right, 0 wrong, -1 the header has none
    digest: str  # 16 hex digits of samples, baselines and gains in the kit's lead order
    where: dict  # the leads that a sentence will name, by reason; no column

    def columns(self) -> dict:
        """The scalars for the store's index, keyed by `COLUMNS`."""
        return {name: getattr(self, name) for name in COLUMNS}


COLUMNS = tuple(field.name for field in fields(Findings))[:-1]


def accepted(text: str) -> tuple[str, ...]:
    """The setting ACCEPT, reasons split by blanks. Raises ConfigError for one that is none."""
    words = tuple(dict.fromkeys(text.split()))
    unknown = [word for word in words if word not in DECIDED]
    if unknown:
        raise ConfigError(
            f"ACCEPT names {', '.join(unknown)}; what can be stored all the same is "
            f"{', '.join(DECIDED)}."
        )
    return words


def problem(findings: Findings, rates=None, accept=()) -> RecordError | None:
    """The first of `DECIDED` that rules the record out, as an error to quarantine it with.

    `rates` are those of the source in Hz (None: any), `accept` reasons that are to be stored all
    the same.
    """
    for reason, sentence in _problems(findings, rates):
        if reason not in accept:
            return RecordError(reason, sentence)
    return None


def _problems(f: Findings, rates):
    """Yields (reason, sentence), worst first: a dead lead is named before what follows from it."""
    if "no_signal" in f.where:
        yield "no_signal", "every lead is missing or constant"
    if f.worst_missing > MISSING:
        yield (
            "missing_lead",
            f"{f.worst_missing:.0%} of {f.where['missing_lead']} is marked as missing",
        )
    if f.n_flat:
        yield "flat_lead", f"constant all the time: {f.where['flat_lead']}"
    if rates is not None and not any(abs(f.fs_source - rate) < 1e-3 * rate for rate in rates):
        offered = ", ".join(f"{rate:g}" for rate in rates)
        yield "wrong_rate", f"its header says {f.fs_source:g} Hz where its source has {offered} Hz"
    low, high = AMPLITUDE
    if not low <= f.amplitude <= high:
        yield (
            "amplitude",
            f"its leads reach {f.amplitude:.3g} mV, where an ECG has {low:g} to {high:g}: its gain "
            "or unit is wrong",
        )
    if not f.offset <= OFFSET:
        lead = f.where["amplitude"]
        yield "amplitude", f"{lead} lies {f.offset:.3g} mV from zero: its baseline or gain is wrong"
    if f.clipped > CLIPPED:
        lead = f.where["clipped"]
        yield "clipped", f"{lead} is on its largest or smallest value {f.clipped:.0%} of the time"
    if f.n_repeated:
        yield "repeated_lead", f"the same samples stand in {f.where['repeated_lead']}"
    if max(f.einthoven, f.goldberger) > IDENTITY:  # NaN, where limb leads are absent, is not
        yield (
            "lead_identity",
            f"its limb leads do not belong together (I + III - II is {f.einthoven:.0%} of the "
            f"largest, an augmented lead off by {f.goldberger:.0%}): some carry wrong names",
        )


def examine(raw: RawRecord) -> Findings:
    """Measures a record as read: any format, leads in any order, gaps marked in `raw.missing`."""
    with np.errstate(all="ignore"):  # absurd gains overflow: that is what is to be found
        return _examine(raw.select(tuple(name for name in LEADS if name in raw.leads)))


def _examine(raw: RawRecord) -> Findings:
    digital = np.ascontiguousarray(raw.digital)  # (C, T); each step below is 5 to 20 times faster
    step = max(1, digital.shape[1] // SUBSAMPLE)
    low, high = _extremes(digital, raw.missing)
    gone = np.zeros(len(digital)) if raw.missing is None else raw.missing.mean(axis=1)
    dead = low >= high  # (C,), constant or wholly missing
    flat = np.flatnonzero(dead & (gone < 1))
    median, half = _spread(digital[:, ::step], raw.missing, step)
    offset = np.abs(median - raw.baseline) / raw.gain
    clipped = _on_the_rail(digital, raw.gain, low, high)
    twins = _repeated(digital, dead)
    right = checksums_right(digital, raw.checksums)
    einthoven, goldberger = _identities(digital, raw, step)
    where = {
        "missing_lead": raw.leads[gone.argmax()],
        "flat_lead": ", ".join(raw.leads[row] for row in flat),
        "amplitude": raw.leads[offset.argmax()],
        "clipped": raw.leads[np.argmax(clipped)],
        "repeated_lead": ", ".join(f"{raw.leads[a]} and {raw.leads[b]}" for a, b in twins),
    }
    return Findings(
        fs_source=raw.fs,
        n_source=digital.shape[1],
        lead_order=raw.written,
        n_missing=int(round(gone.sum() * digital.shape[1])),
        worst_missing=float(gone.max()),
        n_flat=len(flat),
        n_repeated=len(twins),
        clipped=max(clipped),
        amplitude=float(_middle(half / raw.gain)),
        offset=float(offset.max()),
        einthoven=einthoven,
        goldberger=goldberger,
        checksum_ok=-1 if right is None else int(right),
        digest=_digest(digital, raw),
        where=where | ({"no_signal": "all"} if dead.all() else {}),
    )


def _extremes(digital: np.ndarray, missing) -> tuple[np.ndarray, np.ndarray]:
    """(C, T) -> smallest and largest value of each lead (C,); low > high where there is none."""
    if missing is None:
        return digital.min(axis=1), digital.max(axis=1)
    limits = np.iinfo(digital.dtype)
    low = np.where(missing, limits.max, digital).min(axis=1)
    return low, np.where(missing, limits.min, digital).max(axis=1)


def _spread(part: np.ndarray, missing, step: int) -> tuple[np.ndarray, np.ndarray]:
    """(C, N) -> median and half the 0.1-99.9 % range of each lead, digital (C,)."""
    if missing is not None:
        there = np.where(missing[:, ::step], np.nan, part)
        there[np.isnan(there).all(axis=1)] = 0
        low, median, high = np.nanpercentile(there, [0.1, 50, 99.9], axis=1)
        return median, (high - low) / 2
    n = part.shape[1]
    spare = min(int(round(0.001 * n)), (n - 1) // 2)
    at = [spare, n // 2, n - 1 - spare]
    low, median, high = np.partition(part, at, axis=1)[:, at].T.astype(np.float64)
    return median, (high - low) / 2


def _middle(values: np.ndarray) -> np.ndarray:
    """The (upper) median along the last axis; np.median takes 40 us to say as much."""
    return np.sort(values, axis=-1)[..., values.shape[-1] // 2]


def _on_the_rail(digital, gain, low, high) -> list[float]:
    """The share of each lead's samples that equal its own extremes; 0 for one that hardly moves."""
    shares = []
    for row, per_mv, least, most in zip(digital, gain, low, high):
        n = np.count_nonzero(row == least) + np.count_nonzero(row == most)
        if int(most) - int(least) < QUIET * per_mv and len(np.unique(row)) < LEVELS:
            n = 0
        shares.append(n / len(row))
    return shares


def _repeated(digital: np.ndarray, dead: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of leads that vary and hold the same samples; equal sums give them away."""
    sums = np.add.reduce(digital, axis=1, dtype=np.int16)
    order = np.argsort(sums, kind="stable").tolist()
    return [
        (a, b)
        for a, b in zip(order[:-1], order[1:])
        if sums[a] == sums[b] and not dead[a] and np.array_equal(digital[a], digital[b])
    ]


# Rows: I - II + III, then aVR, aVL, aVF plus what they should cancel (Goldberger 1942).
_LAWS = np.array(
    [
        [1, -1, 1, 0, 0, 0],
        [0.5, 0.5, 0, 1, 0, 0],
        [-0.5, 0, 0.5, 0, 1, 0],
        [0, -0.5, -0.5, 0, 0, 1],
    ],
    np.float32,
)


def _identities(digital: np.ndarray, raw: RawRecord, step: int) -> tuple[float, float]:
    """Residuals of I + III = II and of the worst augmented lead, relative to the largest limb lead.

    Each is the spread in the median tenth of the recording: one glitch in one lead (PTB-XL 162 at
    500 Hz) is no wrong name. NaN without the six limb leads or with too little to judge by.
    """
    if raw.leads[:6] != LEADS[:6]:
        return float("nan"), float("nan")
    limb = digital[:6, ::step].astype(np.float32)
    if raw.missing is not None:
        limb = limb[:, ~raw.missing[:6, ::step].any(axis=0)]
    if limb.shape[1] < 100:
        return float("nan"), float("nan")
    limb /= raw.gain[:6, None].astype(np.float32)
    both = np.concatenate([limb, _LAWS @ limb])  # (10, N)
    tenth = both.shape[1] // 10
    spread = _middle(both[:, : 10 * tenth].reshape(10, 10, tenth).std(axis=2))
    residual = spread[6:] / max(float(spread[:6].max()), SILENT)
    return float(residual[0]), float(residual[1:].max())


def _digest(digital: np.ndarray, raw: RawRecord) -> str:
    """Equal for the same samples whatever their order or format; sha1 is the quickest hash here."""
    content = hashlib.sha1(digital)
    content.update(np.asarray([raw.gain, raw.baseline], np.float64).tobytes())
    return content.hexdigest()[:16]
