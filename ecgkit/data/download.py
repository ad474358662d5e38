"""One file over HTTP, whole or not at all: resumed after a cut, checked, then given its name.

Bytes go to `NAME.part`, beside `NAME.part.json` which remembers what the server said the file is
(ETag or time of change, size). Only a file that is complete and passes its check gets its name.

Usage:

    download(url, Path("data/ptb-xl-1.0.3.zip"), check=verify_zip, label="ptbxl")
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from ecgkit import __version__, runtime
from ecgkit.types import ConfigError, DataError

CHUNK = 1 << 20
TRIES = 6  # in a row without one new byte
PAUSE_S = 1.0  # before the second try; doubles up to a minute
TIMEOUT_S = 60
SPARE = 64 << 20  # bytes left free on the disk
NO_ROOM = "make room or give another --out"
# What a cut or a busy server looks like; anything else is told to the user at once.
_CUT = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)
_BUSY = (408, 425, 429, 500, 502, 503, 504)


class _Changed(Exception):
    """The bytes at hand belong to another state of the file: begin anew."""


def download(
    url: str, path: Path, check: Callable[[Path], object] | None = None, label: str = ""
) -> Path:
    """Fetches `url` to `path`, going on from an earlier `.part`; a file already there is checked.

    `check(file)` raises DataError on a wrong file, which is then set aside as `NAME.bad`; `label`
    names the download in a line of progress ('' = silent). Raises DataError: refused by the server,
    no room on the disk, cut off too often, or wrong.
    """
    if path.exists():
        return _checked(path, path, check)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    _fetch_all(url, part, label)
    _checked(part, path, check)
    os.replace(part, path)
    _stamp_file(part).unlink(missing_ok=True)
    return path


def read_url(url: str) -> bytes | None:
    """A small file's bytes; None where the server has none. Raises DataError as `download`."""
    for attempt in range(TRIES):
        try:
            with _OPENER.open(_request(url), timeout=TIMEOUT_S) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            if error.code in (404, 410):
                return None
            _refuse(error, url)
            cause = error
        except _CUT as error:
            cause = error
        time.sleep(_pause(attempt))
    raise _given_up(url, cause)


def with_mirror(url: str, mirror: str) -> str:
    """`url` with scheme and host replaced by `mirror` ('' = as it is). ConfigError if not http."""
    if not mirror:
        return url
    parts = urllib.parse.urlsplit(mirror)
    if "@" in parts.netloc or parts.query:
        # Not repeated: addresses are printed and kept beside the file, and here a password may be.
        raise ConfigError("--mirror holds a user name or a ?; give the address of an open mirror.")
    if parts.scheme not in ("http", "https"):
        raise ConfigError(f"--mirror is {mirror!r}; give an address that starts with http(s)://.")
    return mirror.rstrip("/") + urllib.parse.urlsplit(url).path


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- one file -------------------------------------------------------------------------------------


def _fetch_all(url: str, part: Path, label: str) -> None:
    """Tries until `part` is as long as the server said; tries in a row without gain are counted."""
    attempt, cause = 0, None
    while attempt < TRIES:
        have = _size(part)
        try:
            if _fetch_some(url, part, label):
                return
            cause = cause or "the connection was cut"
        except _Changed:
            part.unlink(missing_ok=True)
            cause = "the file changed on the server"
        except urllib.error.HTTPError as error:
            _refuse(error, url)
            cause = error
        except _CUT as error:
            cause = error
        attempt = 0 if _size(part) > have else attempt + 1
        time.sleep(_pause(attempt))
    raise _given_up(url, cause)


def _fetch_some(url: str, part: Path, label: str) -> bool:
    """One request. Returns True when the part is complete, False when the connection was cut."""
    stamp = _read_stamp(part, url)
    have = _size(part) if stamp else 0
    try:
        answer = _OPENER.open(_request(url, have, stamp), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have and have == stamp.get("size"):
            return True  # everything was here already; the last answer's end was lost
        if error.code == 416:
            raise _Changed from None
        raise
    with answer:
        start, size = _span(answer, have, stamp)
        if size is not None:
            what = f"The rest of {part.stem}"
            runtime.require_room(part.parent, size - start, what, NO_ROOM, SPARE)
        _write_stamp(part, url, answer, size)
        _append(answer, part, start, size, label)
    return size is None or _size(part) == size


def _span(answer, have: int, stamp: dict) -> tuple[int, int | None]:
    """(offset the body starts at, size of the whole file or None). _Changed if they do not fit."""
    length = answer.headers.get("Content-Length")
    if answer.status != 206:
        return 0, None if length is None else int(length)
    try:
        span, total = answer.headers["Content-Range"].removeprefix("bytes ").split("/")
        start, size = int(span.split("-")[0]), int(total)
    except (AttributeError, ValueError):
        raise _Changed from None
    if start != have or size != stamp.get("size") or not _same_file(answer, stamp):
        raise _Changed
    return start, size


def _append(answer, part: Path, start: int, size: int | None, label: str) -> None:
    total = None if size is None else -(-(size - start) // CHUNK)
    chunks = _chunks(answer)
    try:
        with open(part, "ab") as file:
            for chunk in runtime.progress(chunks, f"{label} (MiB)", total) if label else chunks:
                file.write(chunk)
    except ConnectionError:
        raise
    except OSError as error:
        raise DataError(
            f"{part} could not be written ({error.strerror}); make room or give another --out, "
            "then run the same command again: it goes on from here."
        ) from error


def _chunks(answer) -> Iterator[bytes]:
    while True:
        try:
            chunk = answer.read(CHUNK)
        except OSError as error:  # told apart from a disk that cannot be written to
            raise ConnectionError(str(error)) from error
        if not chunk:
            return
        yield chunk


# --- what the server said -------------------------------------------------------------------------


def _request(url: str, have: int = 0, stamp: dict | None = None) -> urllib.request.Request:
    headers = {"User-Agent": f"ecgkit/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": stamp["validator"]}
    return urllib.request.Request(url, headers=headers)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to any host, as archives move, but never from https to what is not encrypted."""

    def redirect_request(self, request, file, code, reason, headers, url):
        schemes = [urllib.parse.urlsplit(u).scheme for u in (request.full_url, url)]
        if schemes[1] != "https" and schemes != ["http", "http"]:
            why = f"it leads to {schemes[1] or 'nowhere'}://, which is not followed from here"
            raise urllib.error.HTTPError(request.full_url, code, why, headers, file)
        return super().redirect_request(request, file, code, reason, headers, url)


_OPENER = urllib.request.build_opener(_Redirects)


def _validator(headers) -> str:
    """A strong ETag, else the time of change, else '': without either nothing can be resumed."""
    etag = headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")


def _same_file(answer, stamp: dict) -> bool:
    # A server that knows Range but not If-Range sends bytes of the new file under the old offset.
    return _validator(answer.headers) in ("", stamp["validator"])


def _stamp_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_stamp(part: Path, url: str) -> dict:
    try:
        stamp = json.loads(_stamp_file(part).read_text())
    except (OSError, ValueError):
        return {}
    return stamp if stamp.get("url") == url and stamp.get("validator") else {}


def _write_stamp(part: Path, url: str, answer, size: int | None) -> None:
    if answer.status == 206:
        return
    # Truncated first: a stamp never describes the bytes of another file.
    open(part, "wb").close()
    stamp = {"url": url, "validator": _validator(answer.headers), "size": size}
    _stamp_file(part).write_text(json.dumps(stamp))


# --- faults ---------------------------------------------------------------------------------------


def _checked(file: Path, path: Path, check) -> Path:
    """Runs `check`; a file that fails is renamed to `NAME.bad` and the reason is told."""
    if check is None:
        return path
    try:
        check(file)
    except DataError as error:
        bad = path.with_name(path.name + ".bad")
        os.replace(file, bad)
        raise DataError(
            f"{error} It is set aside as {bad}; run the same command again to fetch it anew."
        ) from error
    return path


def _refuse(error: urllib.error.HTTPError, url: str) -> None:
    """Raises DataError unless trying again may help."""
    if error.code in _BUSY:
        return
    raise DataError(
        f"{url} cannot be fetched: the server says {error.code} {error.reason}. Check the address "
        "(a mirror needs the same paths), or fetch it by hand as `ecgkit data card` says."
    ) from error


def _given_up(url: str, cause) -> DataError:
    reason = getattr(cause, "reason", None) or cause
    return DataError(
        f"{url} could not be fetched whole ({reason}); check the network and run the same command "
        "again: it goes on where it stood."
    )


def _pause(attempt: int) -> float:
    return min(PAUSE_S * 2**attempt, 60.0)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
