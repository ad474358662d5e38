"""The directory of a .zip as one array: what `zipfile` says of its members, for millions of them.

MIMIC-IV-ECG has 1.6 million members; `zipfile` takes 20 s and 2 GB to list them, in each process.
Source of the format: PKWARE's APPNOTE, sections 4.3.12 to 4.3.16 and 4.5.3. Encryption of the
directory itself and archives in several volumes are refused.

Usage:

    members = Members(Path("ptb-xl.zip"))
    members.rows["records100/00000/00001_lr.dat"]       # its row in members.table
    read_member(file, members.table[row].item(), path, name)       # its bytes, checked
"""

from __future__ import annotations

import lzma
import os
import re
import struct
import zipfile
import zlib
from array import array
from pathlib import Path

import numpy as np

from ecgkit.types import DataError

_ABSOLUTE = re.compile(r"^(/|[A-Za-z]:)")
_ENTRY = np.dtype(  # of the directory, 46 bytes before the name
    [("sign", "S4"), ("by", "<u2"), ("needs", "<u2"), ("flags", "<u2"), ("how", "<u2")]
    + [("time", "<u4"), ("crc", "<u4"), ("packed", "<u4"), ("size", "<u4"), ("n_name", "<u2")]
    + [("n_extra", "<u2"), ("n_comment", "<u2"), ("disk", "<u2"), ("inside", "<u2")]
    + [("outside", "<u4"), ("at", "<u4")]
)
_MEMBER = np.dtype(
    [("at", "<i8"), ("packed", "<i8"), ("size", "<i8"), ("crc", "<u4"), ("how", "u1"), ("key", "?")]
)
_FULL = 0xFFFFFFFF  # "see the 64-bit field"
_ENCRYPTED, _UTF8 = 0x1, 0x800
_BLOCK = 65_536


def leaves(name: str) -> bool:
    """Whether a relative name would lead out of its place."""
    name = name.replace("\\", "/")
    return ".." in name.split("/") or bool(_ABSOLUTE.match(name))


class Members:
    """`rows`: name -> row of `table` (at, packed, size, crc, how, key), folders left out.

    `digest`: a checksum of all sizes and checksums; `refused`: sentences about names that would
    lead out of the archive. Raises DataError where the directory cannot be read.
    """

    def __init__(self, path: Path):
        try:
            names, self.table = _directory(path)
        except (zipfile.BadZipFile, struct.error, OverflowError, ValueError) as error:
            raise DataError(f"{path} is a damaged .zip ({error}); fetch it again.") from error
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error}); check the path.") from error
        sums = (zlib.crc32(self.table[name].tobytes()) for name in ("size", "crc"))
        self.digest = "".join(f"{value:08x}" for value in sums)
        self.rows = {name: row for row, name in enumerate(names) if not name.endswith("/")}
        bad = [name for name in self.rows if ".." in name or ":" in name or name.startswith("/")]
        bad = [name for name in bad if leaves(name) and self.rows.pop(name) >= 0]
        self.refused = tuple(
            f"{path.name} names a file {name!r} outside itself; it was passed over." for name in bad
        )

    def get(self, name: str) -> tuple | None:
        row = self.rows.get(name)
        return None if row is None else self.table[row].item()


def read_member(file, member: tuple, path: Path, name: str) -> bytes:
    """Bytes of one member, checked against its size and CRC-32. Raises OSError where they differ.

    `file`: the archive at `path`, open for reading.
    """
    at, packed, size, crc, how, locked = member
    if locked:
        raise OSError(f"{path.name} is locked with a password: unpack it and give the folder")
    try:
        if how not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            with zipfile.ZipFile(path) as archive:
                return archive.read(name)
        if at + packed > os.fstat(file.fileno()).st_size:
            raise zipfile.BadZipFile("it would end behind the archive")
        file.seek(at)
        head = file.read(30)
        if head[:4] != b"PK\x03\x04":
            raise zipfile.BadZipFile("no header where the directory says")
        file.seek(sum(struct.unpack("<HH", head[26:30])), os.SEEK_CUR)
        data = file.read(packed)
        if how == zipfile.ZIP_DEFLATED:
            data = zlib.decompressobj(-15).decompress(data, size + 1)
        if len(data) != size or zlib.crc32(data) != crc:
            raise zipfile.BadZipFile("wrong length or checksum")
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        struct.error,
        EOFError,
        KeyError,
        OverflowError,
        RuntimeError,
    ) as error:
        # RuntimeError: a compression this Python was built without.
        raise OSError(f"damaged inside {path.name}: {error}") from error
    return data


# --- the directory --------------------------------------------------------------------------------


def _directory(path: Path) -> tuple[list[str], np.ndarray]:
    """Names (folders end in '/') and their _MEMBER rows."""
    with open(path, "rb") as file:
        start, length, shift = _where(file)
        file.seek(start)
        raw = file.read(length)
    begins, names = _begins(raw), []
    table = np.empty(len(begins), _MEMBER)
    for first in range(0, len(begins), _BLOCK):  # a block at a time: its indices take 8 bytes each
        block = slice(first, first + _BLOCK)
        names += _read_entries(raw, begins[block], table[block])
    table["at"] += shift
    return names, table


def _read_entries(raw: bytes, begins: np.ndarray, table: np.ndarray) -> list[str]:
    """Fills `table` for the entries that begin at `begins` and returns their names."""
    at = begins[:, None] + np.arange(_ENTRY.itemsize)
    entries = np.frombuffer(raw, np.uint8)[at].view(_ENTRY)[:, 0]
    if (entries["sign"] != b"PK\x01\x02").any():
        raise zipfile.BadZipFile("its directory is broken")
    for name in ("at", "packed", "size", "crc", "how"):
        table[name] = entries[name]
    table["key"] = entries["flags"] & _ENCRYPTED
    _read_64_bit(raw, begins, entries, table)
    starts = begins + _ENTRY.itemsize
    ends = starts + entries["n_name"]
    utf8 = (entries["flags"] & _UTF8) > 0
    return _names(raw, starts.tolist(), ends.tolist(), utf8.tolist())


def _where(file) -> tuple[int, int, int]:
    """(position, length) of the directory, and by how much all offsets are off (a prefix)."""
    end = file.seek(0, os.SEEK_END)
    tail_at = max(0, end - 65_557)
    file.seek(tail_at)
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0:
        raise zipfile.BadZipFile("it has no directory at its end")
    disk, _, _, n, length, start, _ = struct.unpack_from("<4H2IH", tail, at + 4)
    end_at = tail_at + at
    if 0xFFFF in (n, disk) or _FULL in (length, start):
        locator = tail[at - 20 : at] if at >= 20 else b""
        if locator[:4] == b"PK\x06\x07":
            end_at = end_at - 20 - 56
            file.seek(end_at)
            record = file.read(56)
            if record[:4] != b"PK\x06\x06":
                raise zipfile.BadZipFile("its 64-bit directory is broken")
            length, start = struct.unpack_from("<QQ", record, 40)
    shift = end_at - length - start
    if shift < 0:
        raise zipfile.BadZipFile("its directory is cut short")
    return end_at - length, length, shift


def _begins(raw: bytes) -> np.ndarray:
    """Where each entry of the directory begins."""
    sizes, at, begins = struct.Struct("<HHH").unpack_from, 0, array("q")
    while at + _ENTRY.itemsize <= len(raw):
        begins.append(at)
        name, extra, comment = sizes(raw, at + 28)
        at += _ENTRY.itemsize + name + extra + comment
    if at != len(raw):
        raise zipfile.BadZipFile("its directory is cut short")
    return np.frombuffer(begins, np.int64) if begins else np.empty(0, np.int64)


def _read_64_bit(raw: bytes, begins: np.ndarray, entries: np.ndarray, table: np.ndarray) -> None:
    """Puts in sizes and positions beyond 4 GB, which stand in an extra field, those needed only."""
    order = ("size", "packed", "at")
    columns = {name: table[name] for name in order}
    wide = np.flatnonzero(np.any([entries[name] == _FULL for name in order], axis=0))
    starts = begins[wide] + _ENTRY.itemsize + entries["n_name"][wide]
    for row, at, n in zip(wide.tolist(), starts.tolist(), entries["n_extra"][wide].tolist()):
        end = at + n
        while at + 4 <= end:
            kind, length = struct.unpack_from("<HH", raw, at)
            if kind == 1:
                needed = [name for name in order if entries[name][row] == _FULL]
                values = struct.unpack_from(f"<{len(needed)}Q", raw, at + 4)
                for name, value in zip(needed, values):
                    columns[name][row] = value
                break
            at += 4 + length


def _names(raw: bytes, starts: list[int], ends: list[int], utf8: list[bool]) -> list[str]:
    """As `zipfile` reads them: UTF-8 where the entry says so, else code page 437."""
    return [
        raw[a:b].decode("utf-8" if is_utf8 else "cp437").split("\0", 1)[0].replace("\\", "/")
        for a, b, is_utf8 in zip(starts, ends, utf8)
    ]
