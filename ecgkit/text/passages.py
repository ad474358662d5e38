"""Passages to retrieve from: the kit's notes and a user's own textbooks, cut to a readable size.

A note is a `## ` section with a `Codes:` line (SCP codes), a `Statements:` line (machine
statements), or both, separated by commas. A textbook is any .md (cut at its headings), .txt
or .pdf. Files that cannot be read are listed with a reason; the rest goes on.

Usage:

    notes = read_folder(FOLDER).passages
    books = read_folder("my_textbooks")
    print(books.summary(), books.skipped)        # {"scan.pdf": "holds no text (scanned pages?)"}
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ecgkit.text.pdf_text import pdf_pages
from ecgkit.types import DataError

FOLDER = Path(__file__).parent / "knowledge"
SUFFIXES = (".md", ".txt", ".pdf")
SIZE = 120  # words of a passage: about 200 tokens, which any sentence encoder reads whole
OVERLAP = 20  # words that a passage repeats from the one before
_ABBREVIATIONS = ("e.g.", "i.e.", "et al.", "vs.", "Fig.", "Figs.", "Dr.", "No.", "approx.", "cf.")
_SENTENCE_END = re.compile(
    r"(?<=[.!?])"
    + "".join(rf"(?<!\b(?i:{re.escape(word)}))" for word in _ABBREVIATIONS)
    + r"\s+(?=[\"'(\[]?[A-Z0-9])"
)
_LABELS = re.compile(r"(Codes|Statements):(.*)")


@dataclass(frozen=True)
class Passage:
    """A piece of text with what it is about: title, the SCP codes and the machine statements it
    speaks of, the text, and the file it stands in.
    """

    title: str
    codes: tuple[str, ...]
    text: str
    file: str
    statements: tuple[str, ...] = ()

    @property
    def heading(self) -> str:
        """The title, "" where it tells no more than the file and the page."""
        return "" if self.title.startswith(Path(self.file).stem) else self.title


@dataclass(frozen=True)
class Reading:
    """Passages of a folder; `n_files` found = read + len(`skipped`), file -> why."""

    passages: list[Passage]
    n_files: int
    skipped: dict[str, str] = field(default_factory=dict)

    def summary(self) -> str:
        """`3 files: 2 read to 41 passages, 1 skipped (scan.pdf holds no text).`"""
        why = "; ".join(f"{name} {reason}" for name, reason in self.skipped.items())
        counts = (
            f"{self.n_files} files: {self.n_files - len(self.skipped)} read to "
            f"{len(self.passages)} passages, {len(self.skipped)} skipped"
        )
        return f"{counts} ({why})." if why else f"{counts}."


# --- a folder ---


def read_folder(folder: str | Path = FOLDER) -> Reading:
    """All passages below `folder` (or of one file), by file name.

    Raises DataError where it does not exist or holds nothing readable, and ConfigError where it
    holds a .pdf and the reader of those is not installed.
    """
    folder = Path(folder).expanduser()
    if not folder.exists():
        raise DataError(f"The knowledge folder {folder} does not exist; give one with .md files.")
    passages, skipped, n_files = [], {}, 0
    for path in _files(folder):
        name = path.name if folder.is_file() else path.relative_to(folder).as_posix()
        n_files += 1
        try:
            passages += read_file(path, name)
        except DataError as error:
            skipped[name] = str(error)
    if not passages:
        reasons = "; ".join(f"{name} {why}" for name, why in skipped.items())
        raise DataError(
            f"{folder.name} holds nothing to retrieve from ({reasons or 'no files'}); give .md, "
            ".txt or .pdf files with text."
        )
    return Reading(passages, n_files, skipped)


def _files(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    hidden = (p for p in folder.rglob("*") if p.is_file())
    return sorted(
        p for p in hidden if not any(x.startswith(".") for x in p.relative_to(folder).parts)
    )


def read_file(path: Path, name: str = "") -> list[Passage]:
    """Passages of one file. Raises DataError with the reason, to be read after the file's name."""
    name = name or path.name
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"is none of {', '.join(SUFFIXES)}")
    try:
        if suffix == ".pdf":
            passages = list(_pdf_passages(pdf_pages(path), path.stem, name))
        elif suffix == ".md":
            passages = _markdown_passages(_decoded(path.read_bytes()), path.stem, name)
        else:
            text = _decoded(path.read_bytes())
            passages = [Passage(path.stem, (), piece, name) for piece in chunk(text)]
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})") from None
    if not passages:
        raise DataError("holds no text" + (" (scanned pages?)" if suffix == ".pdf" else ""))
    return passages


def _decoded(content: bytes) -> str:
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    for name in (encoding, "cp1252"):
        try:
            text = content.decode(name)
        except UnicodeDecodeError:
            continue
        odd = sum(not (c.isprintable() or c.isspace()) for c in text[:4000])
        if odd * 50 <= len(text[:4000]):
            return text.replace("\0", "")
    raise DataError("is no text (binary content)")


# --- what a file says ---


def _markdown_passages(text: str, stem: str, name: str) -> list[Passage]:
    """Sections; where some are notes, only those (titles and sources are not to be retrieved)."""
    sections = list(_sections(text, stem))
    notes = [s for s in sections if s[1] or s[2]]
    return [
        Passage(title, codes, piece, name, statements)
        for title, codes, statements, body in notes or sections
        for piece in chunk(body)
    ]


def _sections(text: str, stem: str) -> Iterator[tuple]:
    """(title, codes, statements, body) of each heading's own text."""
    parts = re.split(r"^#{1,6}[ \t]+(.*)$", text, flags=re.M)
    for title, body in [(stem, parts[0]), *zip(parts[1::2], parts[2::2])]:
        labels: dict[str, list[str]] = {"Codes": [], "Statements": []}
        lines = body.strip().splitlines()
        while lines and (found := _LABELS.fullmatch(lines[0].strip())):
            labels[found.group(1)] += [x.strip() for x in found.group(2).split(",") if x.strip()]
            lines.pop(0)
        yield title.strip(" #"), *map(tuple, labels.values()), "\n".join(lines)


def _pdf_passages(pages: list[str], stem: str, name: str) -> Iterator[Passage]:
    """Chunks by page; a sentence that runs on over a page's end belongs to the next page."""
    carried = ""
    for number, page in enumerate(pages, 1):
        text = f"{carried} {page}".strip()
        said = sentences(text)
        unfinished = number < len(pages) and said and not re.search(r"[.!?][\"')\]]?$", said[-1])
        carried = said[-1] if unfinished and len(said[-1].split()) < SIZE else ""
        for piece in chunk(text[: len(text) - len(carried)] if carried else text):
            yield Passage(f"{stem}, page {number}", (), piece, name)


# --- sentences ---


def chunk(text: str, size: int = SIZE, overlap: int = OVERLAP) -> list[str]:
    """`text` as pieces of whole sentences, at most `size` words each; the last sentences of a piece
    begin the next where they have at most `overlap` words. A longer sentence is cut at a word.
    """
    pieces, held, fresh = [], [], False  # `held`: sentences as lists of words
    for words in _short_enough(text, size):
        if fresh and sum(map(len, held)) + len(words) > size:
            pieces.append(held)
            held = _last(held, min(overlap, size - len(words)))
        held, fresh = [*held, words], True
    if fresh:
        pieces.append(held)
    return [" ".join(word for words in piece for word in words) for piece in pieces]


def _short_enough(text: str, size: int) -> Iterator[list[str]]:
    for sentence in sentences(text):
        words = sentence.split()
        yield from (words[i : i + size] for i in range(0, len(words), size))


def _last(held: list[list[str]], n_words: int) -> list[list[str]]:
    """The last sentences of `held` that have at most `n_words` together, never all of them."""
    kept: list[list[str]] = []
    for words in reversed(held[1:]):
        if sum(map(len, kept)) + len(words) > n_words:
            break
        kept.insert(0, words)
    return kept


def sentences(text: str) -> list[str]:
    """The sentences of `text`, with single spaces; decimals and common abbreviations end none."""
    return [s for s in _SENTENCE_END.split(" ".join(text.split())) if s]


def first_sentence(text: str) -> str:
    """Up to the first full stop that ends a sentence (decimal points do not)."""
    return re.split(r"(?<=[a-zA-Z0-9)])\. (?=[A-Z])", text, maxsplit=1)[0].rstrip(".") + "."
