"""Text of a .pdf, page by page, read once: a textbook of 400 pages takes a minute, then nothing.

Usage:

    pages = pdf_pages(Path("textbook.pdf"))      # list[str], one text per page
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from pathlib import Path

from ecgkit import runtime
from ecgkit.types import ConfigError, DataError

VERSION = 1


def pdf_pages(path: Path) -> list[str]:
    """One text per page, from the cache where these bytes were read before.

    Raises ConfigError where pypdf is missing, DataError (a reason, without the name) where the
    file is damaged or locked. A scanned page is "".
    """
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    cached = runtime.cache_dir() / f"pdf-text-{VERSION}-{digest}.json"
    if cached.exists():
        with runtime.reading_cached(cached):
            return json.loads(cached.read_text())
    pages = [_tidy(page) for page in _read(path)]
    with runtime.replacing(cached) as scratch:
        scratch.write_text(json.dumps(pages))
    return pages


def _read(path: Path) -> list[str]:
    try:
        import pypdf
    except ImportError:
        raise ConfigError(
            f"{path.name} is a .pdf, whose reader is not installed; pip install ecgkit[rag]."
        ) from None
    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it warns of every oddity of every page
    try:
        reader = pypdf.PdfReader(path)
        # Many books open without a password and only forbid printing: "" opens those.
        if reader.is_encrypted and not reader.decrypt(""):
            raise DataError("is locked with a password; save a copy without one")
        return [page.extract_text() or "" for page in reader.pages]
    except DataError:
        raise
    except pypdf.errors.DependencyError:
        raise DataError("is encrypted with AES; pip install pypdf[crypto] to open it") from None
    except Exception as error:  # noqa: BLE001 - a damaged file fails anywhere in the reader
        first = (str(error).splitlines() or [""])[0][:80]
        raise DataError(f"cannot be read as .pdf ({type(error).__name__}: {first})") from None


def _tidy(page: str) -> str:
    """Words divided at a line's end joined, spaces single."""
    return " ".join(re.sub(r"(?<=[a-z])-\s*\n\s*(?=[a-z])", "", page).split())
