"""The store, written: every record once, in shards, so that a build can be killed and run again.

What a store looks like on disk and how it is read: `ecgkit.data.shards`. A shard is a stretch of
the job list that depends on nothing else; it counts as finished once its part file is there. So the
same bytes come out whoever writes which shard, however often a build was killed on the way, and
when two processes build the same store at once.

Usage:

    store = build_store(folder, jobs, place, key="...", fs=500)          # jobs [(ecg_id, name)]
    store = build_store(..., seconds=10.0, workers=Workers(jobs=4))       # cropped, padded
    store = write_store(folder, jobs, pack, key="...", fs=100)           # any pack(job) -> Packed
    store = Store(folder)                                                # once it exists
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecgkit import runtime
from ecgkit.data import quality
from ecgkit.data.packing import Packed, RecordPacker, gain_text
from ecgkit.data.parallel import Workers
from ecgkit.data.records import RecordError
from ecgkit.data.shards import QUARANTINE_COLUMNS, Store
from ecgkit.types import LEADS, DataError

VERSION = 2
SHARD_RECORDS = 512
SHARD_BYTES = 64e6  # about, at 10 s a record; whatever is killed loses no more than this
_NO_ROOM = (
    "make room or set ECGKIT_CACHE to a larger disk and run again (finished shards are kept)"
)
INDEX_COLUMNS = ("ecg_id", "shard", "start", "n_samples", "gain")


def build_store(
    folder: str | Path,
    jobs: list[tuple[int | str, str]],
    place,
    *,
    key: str,
    fs: float,
    seconds: float | None = None,
    leads: tuple[str, ...] = LEADS,
    quarantined: list[dict] | None = None,
    rates: tuple[float, ...] | None = None,
    accept: tuple[str, ...] = (),
    workers: Workers | None = None,
) -> Store:
    """Writes the store of `jobs` [(ecg_id, record name)] in `place`, or goes on where one stopped.

    `fs` is the store's rate in Hz; recordings at another of the source's `rates` (None = any) are
    resampled. `seconds` None keeps each at its own length, else they are cropped to their middle or
    padded. `key` names the content: another key never reuses a shard. `quarantined` are records
    refused before they could be read; they are counted in. A record that cannot be used goes to the
    quarantine with its reason unless `accept` names it, and the rest goes on. Raises DataError when
    not one record could be stored.
    """
    n_samples = None if seconds is None else round(fs * seconds)
    pack = RecordPacker(place, fs, n_samples, tuple(leads), rates, tuple(accept))
    return write_store(
        folder,
        jobs,
        pack,
        key=key,
        fs=fs,
        seconds=seconds,
        leads=leads,
        columns=quality.COLUMNS,
        quarantined=quarantined,
        workers=workers,
        settings=[rates, sorted(accept)],
    )


def write_store(
    folder: str | Path,
    jobs: list[tuple],
    pack: Callable[[tuple], Packed],
    *,
    key: str,
    fs: float,
    columns: tuple[str, ...],
    seconds: float | None = None,
    leads: tuple[str, ...] = LEADS,
    dtype: str = "int16",
    align: str | None = None,
    unit: str = "mV",
    quarantined: list[dict] | None = None,
    workers: Workers | None = None,
    settings=None,
) -> Store:
    """The same for anything that makes records: `pack(job) -> Packed`, which may raise RecordError.

    `pack` must be picklable and give the same in every process; jobs are (ecg_id, source, ...).
    `columns` are the keys of `Packed.columns`, n_missing among them. With `seconds` no record may
    be longer; shorter ones are read between zeros (`align` "centre") or before them ("start").
    """
    assert not set(columns) & {"row", *INDEX_COLUMNS}, "a column of the index has two meanings"
    folder = Path(folder)
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    recipe = [VERSION, key, fs, seconds, list(leads), dtype, list(columns), settings]
    n_each = shard_records(fs, seconds, len(leads), np.dtype(dtype).itemsize)
    parts = [tuple(jobs[start : start + n_each]) for start in range(0, len(jobs), n_each)]
    shards = [_Shard(folder, n, part, _token(recipe, part)) for n, part in enumerate(parts)]
    write = _ShardWriter(pack, dtype, tuple(columns))
    unfinished = [shard for shard in shards if shard.head() is None]
    (workers or Workers()).map(write, unfinished, "storing shards")
    about = {
        "version": VERSION,
        "key": key,
        "fs": fs,
        "seconds": seconds,
        "leads": list(leads),
        "dtype": dtype,
        "align": align or ("start" if seconds is None else "centre"),
        "unit": unit,
    }
    _assemble(folder, shards, about, tuple(columns), quarantined or [])
    return Store(folder)


def shard_records(fs: float, seconds: float | None, n_leads: int, n_bytes: int) -> int:
    """How many records go into a shard: a function of the settings alone, never of the workers."""
    each = fs * (seconds or 10.0) * n_leads * n_bytes
    return max(1, min(SHARD_RECORDS, int(SHARD_BYTES / each)))


def _token(recipe: list, jobs: tuple) -> str:
    """What a finished shard must have been made from to be used again."""
    content = json.dumps([recipe, [str(job) for job in jobs]])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


# --- one shard ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shard:
    """A stretch of the job list and its two files: the values, and the part of both tables.

    A part file is a line of JSON (token, counts, bytes) and then lines of index.csv and of
    quarantine.csv, without their heads.
    """

    folder: Path
    number: int
    jobs: tuple
    token: str

    @property
    def values(self) -> Path:
        return self.folder / f"shard-{self.number:05d}.npy"

    @property
    def part(self) -> Path:
        return self.folder / "parts" / f"{self.number:05d}.txt"

    def head(self) -> dict | None:
        """The first line of the part file; None while the shard is not finished."""
        try:
            with open(self.part, "rb") as file:
                head = json.loads(file.readline())
            whole = self.values.stat().st_size == head["n_bytes"]
        except (OSError, ValueError):
            return None
        return head if head["token"] == self.token and whole else None

    def tables(self) -> tuple[bytes, bytes]:
        """The lines of this shard for index.csv (without row) and for quarantine.csv."""
        with open(self.part, "rb") as file:
            head = json.loads(file.readline())
            return file.read(head["index_bytes"]), file.read()


@dataclass(frozen=True)
class _ShardWriter:
    """Writes one shard: values first, then the part file that says it is finished."""

    pack: Callable
    dtype: str
    columns: tuple[str, ...]

    def __call__(self, shard: _Shard) -> None:
        if shard.head() is not None:  # another process was quicker
            return
        index, quarantine = io.StringIO(), io.StringIO()
        with _replacing(shard.values) as path, open(path, "wb") as file:
            head = self._write_values(file, shard, index, quarantine)
        lines = index.getvalue().encode(), quarantine.getvalue().encode()
        head |= {"token": shard.token, "index_bytes": len(lines[0])}
        with _replacing(shard.part) as path:
            path.write_bytes(json.dumps(head).encode() + b"\n" + lines[0] + lines[1])

    def _write_values(self, file, shard: _Shard, index, quarantine) -> dict:
        """Records go to `file` one by one, their lines into the two texts; returns the counts."""
        rows, refused = (csv.writer(text, lineterminator="\n") for text in (index, quarantine))
        n_stored = n_quarantined = start = longest = 0
        _write_npy_header(file, self.dtype, 0)
        for job in shard.jobs:
            outcome = _try(self.pack, job)
            if isinstance(outcome, RecordError):
                sentence = f"Record {job[0]} is left out: {str(outcome).rstrip('.')}."
                refused.writerow([job[0], outcome.reason, sentence, job[1]])
                n_quarantined += 1
                continue
            values = np.ascontiguousarray(outcome.values, self.dtype)
            file.write(values)
            n = values.shape[1]
            more = [_cell(outcome.columns[name]) for name in self.columns]
            rows.writerow([job[0], shard.number, start, n, gain_text(outcome.gain), *more])
            n_stored, start, longest = n_stored + 1, start + values.size, max(longest, n)
        n_bytes = file.tell()
        file.seek(0)
        _write_npy_header(file, self.dtype, start)
        return {
            "n_stored": n_stored,
            "n_quarantined": n_quarantined,
            "longest": longest,
            "n_bytes": n_bytes,
        }


def _try(pack: Callable, job: tuple) -> Packed | RecordError:
    try:
        return pack(job)
    except RecordError as error:
        return error
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  one odd file among 800,000 must not end the build
        return RecordError("unexpected", f"reading it failed with {type(error).__name__}: {error}")


def _write_npy_header(file, dtype: str, n: int) -> None:
    """The head of a 1-D .npy, of one size for every `n` (numpy leaves room for the number)."""
    head = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False}
    np.lib.format.write_array_header_1_0(file, {**head, "shape": (n,)})


def _cell(value):
    return f"{value:.6g}" if isinstance(value, float) else value


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """`runtime.replacing`; where another process has meanwhile finished the store and swept our
    file away, theirs stays.
    """
    try:
        with runtime.replacing(path, _NO_ROOM) as temporary:
            yield temporary
    except FileNotFoundError:
        if not path.exists():
            raise
    except OSError as error:
        raise DataError(
            f"{path.name} of the store {path.parent.name} cannot be written ({error}); {_NO_ROOM}."
        ) from error


# --- the whole ------------------------------------------------------------------------------------


def _assemble(folder: Path, shards: list, about: dict, columns: tuple, quarantined: list) -> None:
    """index.csv, quarantine.csv and store.json of finished shards, one part at a time."""
    heads = [shard.head() for shard in shards]
    if None in heads:
        raise DataError(
            f"Shard {heads.index(None)} is not in {folder}, though its worker finished it; all "
            "workers must see this folder (on a cluster: a disk they share)."
        )
    n_stored = sum(head["n_stored"] for head in heads)
    n_quarantined = sum(head["n_quarantined"] for head in heads) + len(quarantined)
    n_in = sum(len(shard.jobs) for shard in shards) + len(quarantined)
    assert n_in == n_stored + n_quarantined, "each record is stored or quarantined, never both"
    if not n_stored:
        raise DataError(_nothing_stored(shards, quarantined, n_in))
    _write_quarantine(folder / "quarantine.csv", shards, quarantined)
    _write_index(folder / "index.csv", shards, columns)
    seconds, fs = about["seconds"], about["fs"]
    longest = max(head["longest"] for head in heads)
    about |= {
        "n_in": n_in,
        "n_stored": n_stored,
        "n_quarantined": n_quarantined,
        "n_samples": longest if seconds is None else round(fs * seconds),
    }
    with _replacing(folder / "store.json") as path:
        path.write_text(json.dumps(about, indent=2) + "\n")
    for leftover in folder.rglob("*.part"):  # of builds that were killed
        leftover.unlink(missing_ok=True)


def _write_index(path: Path, shards: list, columns: tuple) -> None:
    with _replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(",".join(["row", *INDEX_COLUMNS, *columns]).encode() + b"\n")
        row = 0
        for shard in shards:
            for line in shard.tables()[0].splitlines(keepends=True):
                file.write(b"%d,%b" % (row, line))
                row += 1


def _write_quarantine(path: Path, shards: list, quarantined: list[dict]) -> None:
    with _replacing(path) as temporary, open(temporary, "wb") as file:
        text = io.StringIO()
        rows = csv.DictWriter(text, QUARANTINE_COLUMNS, lineterminator="\n")
        rows.writeheader()
        rows.writerows(quarantined)
        file.write(text.getvalue().encode())
        for shard in shards:
            file.write(shard.tables()[1])


def _nothing_stored(shards: list, quarantined: list[dict], n_in: int) -> str:
    if not n_in:
        return "The table lists no record, so there is nothing to store."
    lines = (shard.tables()[1].decode() for shard in shards)
    first = quarantined or list(csv.DictReader(io.StringIO(next(lines)), QUARANTINE_COLUMNS))
    return f"None of {n_in} records could be stored; the first: {first[0]['sentence']}"
