"""Sources in the form of the PhysioNet challenges 2020 and 2021: one header per record, no table.

Chapman-Shaoxing (JS00001 ..., flat, or below WFDBRecords/ as its own release has it), CPSC-2018
(A0001 ..., 6 to 144 s) and any other. Age, Sex and Dx (SNOMED CT codes) are comments of a header.
These sources publish no patients: each record counts as a patient of its own, so a split by patient
is a split by record, and whoever was recorded twice may stand on both sides of it.

Usage:

    table, refused = read_table(place, rate=500)
"""

from __future__ import annotations

import io
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from ecgkit import runtime
from ecgkit.config import short_hash
from ecgkit.data import splits
from ecgkit.data.scp_table import scp_statements
from ecgkit.data.sources import snomed, tables
from ecgkit.types import DataError

TABLES = ()
SUFFIXES = (".hea", ".mat", ".dat")
FIELDS = ("age", "sex", "dx", "rx", "hx", "sx")
_COMMENT = re.compile(
    r"^#\s*(age|sex|dx|rx|hx|sx)\s*:[ \t]*(.*?)\s*$", re.IGNORECASE | re.MULTILINE
)
_CPSC = re.compile(r"A\d{4}")
_SINUS_RHYTHM = "426783006"
_VERSION = 1


def base_rate(fs: int) -> int:
    """All of them offer 500 Hz; the few at 257 or 1000 Hz are resampled to it."""
    return 500


def raw_tables(place) -> list[bytes]:
    """What the fingerprint is taken of, beside the recordings: the comments of all headers."""
    lonely = _without_header(place)
    return [_comment_file(place).read_bytes(), *(["\n".join(lonely).encode()] if lonely else [])]


def rates(offered: tuple[int, ...], base: int) -> tuple[int, ...]:
    """Rates a record may have; those other than `base` are resampled to it."""
    return offered


def read_table(place, rate: int) -> tuple[pd.DataFrame, list[dict]]:
    """Headers -> (one line per record, quarantine rows: names twice, samples without header).

    ecg_id and patient_id are the record's name; `dx` keeps its codes as the header has them.
    Unknown ages and sexes are NaN. Raises DataError where there is no header at all.
    """
    odd = [
        name.encode(errors="replace").decode() for name in place.names(".hea") if not _is_text(name)
    ]
    found = _headers(place)
    found["ecg_id"] = found["source_name"].str.rsplit("/", n=1).str[-1]
    twice = found["ecg_id"].duplicated().to_numpy()
    why = "another record has that name"
    refused = tables.refuse(odd, "", "its file name is no UTF-8; rename it", "bad_name") + [
        tables.refuse([row.ecg_id], row.source_name, why, "duplicate_id")[0]
        for row in found[twice].itertuples()
    ]
    for name in _without_header(place):
        ecg_id = name.rsplit("/", 1)[-1]
        refused += tables.refuse([ecg_id], name, "its header is not there", "missing_file")
    found = found[~twice].reset_index(drop=True)
    said = _diagnoses(found["dx"].tolist(), found["ecg_id"].tolist())
    table = pd.DataFrame(
        {
            "ecg_id": found["ecg_id"],
            "patient_id": found["ecg_id"],
            "age": tables.years(found["age"]),
            "sex": tables.sexes(found["sex"], ("male", "m"), ("female", "f")),
            "report": [report for report, _ in said],
            "scp_codes": [codes for _, codes in said],
            "fold": splits.make_folds(found["ecg_id"].to_numpy(str)),
            "source_name": found["source_name"],
            **{name: found[name] for name in ("dx", "rx", "hx", "sx")},
        }
    )
    return table, refused


def read_statements(place) -> pd.DataFrame:
    """The kit's table of SCP statements: these sources have none of their own."""
    return scp_statements()


def _diagnoses(dx: list[str], names: list[str]) -> list[tuple[str, dict]]:
    """(report, SCP codes) of each line of Dx codes.

    CPSC-2018's class "normal" became "sinus rhythm" in challenge form: alone, it is NORM again.
    """
    said = []
    for text, record in zip(dx, names):
        codes = [code.strip() for code in text.split(",") if code.strip()]
        scp = snomed.to_scp(codes)
        if codes == [_SINUS_RHYTHM] and _CPSC.fullmatch(record):
            scp = {"NORM": snomed.LIKELIHOOD, **scp}
        said.append((". ".join(snomed.name(code) for code in codes), scp))
    return said


def _without_header(place) -> list[str]:
    """Records whose samples are there, but no header."""
    headers = {name[:-4] for name in place.names(".hea")}
    samples = {name[:-4] for suffix in SUFFIXES[1:] for name in place.names(suffix)}
    return sorted(name for name in samples - headers if _is_text(name))


def _is_text(name: str) -> bool:
    """Whether a file name can be written to a table: Linux lets any bytes be one."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


# --- headers --------------------------------------------------------------------------------------


def _headers(place) -> pd.DataFrame:
    """source_name and the comments of every header, as text."""
    text = _comment_file(place).read_text(encoding="utf-8")
    return pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)


def _comment_file(place) -> Path:
    """The comments of every header as .csv in the cache: each header is read once."""
    names = [name for name in place.names(".hea") if _is_text(name)]
    if not names:
        raise DataError(f"{place.label} holds no .hea header; check the path.")
    key = short_hash([_VERSION, sorted(place.stamps(names).items())])
    cached = runtime.cache_dir() / f"headers-{key}.csv"
    if not cached.exists():
        with ThreadPoolExecutor(4) as pool:
            lines = pool.map(lambda name: _comments(place, name), names, chunksize=64)
            lines = list(runtime.progress(lines, "reading headers", len(names)))
        with runtime.replacing(cached) as scratch:
            pd.DataFrame(lines, columns=("source_name", *FIELDS)).to_csv(scratch, index=False)
    return cached


def _comments(place, name: str) -> tuple[str, ...]:
    """A header that cannot be read says nothing here, and is quarantined when its turn comes."""
    try:
        text = place.read(name).decode("utf-8", errors="replace")
    except OSError:
        text = ""
    said = {key.lower(): value for key, value in _COMMENT.findall(text)}
    return (name[:-4], *(said.get(field, "") for field in FIELDS))
