"""A reader of MATLAB v5 files that survives any bytes: numbers and text, plain or compressed.

`scipy.io.loadmat` ends the whole process (segmentation fault) on some damaged files; an import that
lists broken files cannot use it. Structs, cells and sparse matrices are refused.
Source: MATLAB, "MAT-File Format" (level 5).

Usage:

    read_mat(raw)["answer"]         # as loadmat: (1, K) int64; text: (rows,) of str
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

_MATRIX, _COMPRESSED = 14, 15
_TEXT_CLASS = 4
# Class of a matrix -> dtype it has in memory; type of an element -> dtype on disk.
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8",
            15: "u8"}  # fmt: skip
_ON_DISK = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8",
            13: "u8"}  # fmt: skip
_CODECS = {2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_LARGEST = 1 << 26  # bytes of one unpacked matrix: far beyond any question, far below the memory


def read_mat(raw: bytes) -> dict[str, np.ndarray]:
    """Name -> array of every matrix in the bytes of a file. Raises ValueError in one sentence."""
    if len(raw) < 128 or raw[126:128] not in (b"IM", b"MI"):
        raise ValueError("it has no MATLAB v5 header")
    order = "<" if raw[126:128] == b"IM" else ">"
    found, at = {}, 128
    while at < len(raw):
        kind, data, at = _element(raw, at, order)
        if kind == _COMPRESSED:
            kind, data, _ = _element(_inflate(data), 0, order)
        if kind != _MATRIX:
            raise ValueError(f"an element of type {kind} stands where a matrix was expected")
        name, values = _matrix(data, order)
        found[name] = values
    return found


def _element(raw: bytes, at: int, order: str) -> tuple[int, bytes, int]:
    """(type, data, where the next one starts) of the element at `at`."""
    if at + 8 > len(raw):
        raise ValueError("it ends within an element")
    kind, size = struct.unpack_from(order + "II", raw, at)
    start = at + 8
    if kind >> 16:  # the short form: size, type and up to four bytes of data in eight bytes
        kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
        if size > 4:
            raise ValueError("a short element is longer than four bytes")
    end = start + size
    if end > len(raw):
        raise ValueError("it ends within an element")
    following = end if kind == _COMPRESSED else at + 8 if start == at + 4 else -(-end // 8) * 8
    return kind, raw[start:end], following


def _inflate(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, _LARGEST)
    except zlib.error as error:
        raise ValueError(f"a compressed part is damaged ({error})") from error


def _matrix(data: bytes, order: str) -> tuple[str, np.ndarray]:
    """(name, values) of a matrix element: flags, dimensions, name, values."""
    parts, at = [], 0
    for _ in range(4):
        kind, part, at = _element(data, at, order)
        parts.append((kind, part))
    (_, flags), (_, sizes), (_, name), (kind, values) = parts
    if len(flags) != 8 or len(sizes) < 8 or len(sizes) % 4:
        raise ValueError("a matrix has no flags or dimensions")
    shape = tuple(int(n) for n in np.frombuffer(sizes, order + "i4"))
    if min(shape) < 0:
        raise ValueError(f"a matrix has the shape {shape}")
    name = name.decode("latin-1")
    mx_class = struct.unpack_from(order + "I", flags)[0] & 0xFF
    if mx_class == _TEXT_CLASS:
        return name, _text(kind, values, shape, order)
    if mx_class not in _CLASSES or kind not in _ON_DISK:
        raise ValueError(f"{name} is neither numbers nor text")
    return name, _numbers(kind, values, shape, order).astype(_CLASSES[mx_class])


def _numbers(kind: int, values: bytes, shape: tuple[int, ...], order: str) -> np.ndarray:
    dtype = np.dtype(order + _ON_DISK[kind])
    n = int(np.prod(shape, dtype=object))  # python's whole numbers cannot overflow
    if n * dtype.itemsize != len(values):
        raise ValueError(f"{len(values)} bytes do not fill the shape {shape}")
    return np.frombuffer(values, dtype).reshape(shape, order="F")


def _text(kind: int, values: bytes, shape: tuple[int, ...], order: str) -> np.ndarray:
    """Characters lie column by column; each row is one string, padded with blanks."""
    if kind not in _CODECS or len(shape) != 2:
        raise ValueError("a text is of no known encoding")
    codec = _CODECS[kind]
    if codec.startswith(("utf-16", "utf-32")):
        codec += "-le" if order == "<" else "-be"
    text = values.decode(codec)  # an error of decoding is a ValueError
    rows, columns = shape
    if rows * columns != len(text):
        raise ValueError(f"{len(text)} characters do not fill the shape {shape}")
    lines = [text[row::rows] if columns else "" for row in range(rows)]
    return np.array(lines, dtype=np.str_)
