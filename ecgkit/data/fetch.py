"""Fetching the open sources, and saying what to do for those behind a data use agreement.

Usage:

    path = fetch("ptbxl", out="data")            # data/ptb-xl-1.0.3.zip, checked member by member
    path = fetch("cpsc-2018", mirror="https://mirror.example.org")
"""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ecgkit import runtime
from ecgkit.config import short_hash
from ecgkit.data.download import CHUNK, NO_ROOM, SPARE, download, read_url, sha256, with_mirror
from ecgkit.types import DataError

PHYSIONET = "https://physionet.org"
SUMS = "SHA256SUMS.txt"
CONNECTIONS = 8  # PhysioNet serves one connection slowly; many small files go side by side


@dataclass(frozen=True)
class Download:
    """Where one open source lies. `folder` set: the files below it, each by itself, else one .zip.

    `sums` is the address of its list of checksums ('' = none published); `gb` is about its size.
    """

    file: str
    url: str
    sums: str
    gb: float
    folder: str = ""
    note: str = ""


DOWNLOADS = {
    "ptbxl": Download(
        "ptb-xl-1.0.3.zip",
        f"{PHYSIONET}/static/published-projects/ptb-xl/"
        "ptb-xl-a-large-publicly-available-electrocardiography-dataset-1.0.3.zip",
        f"{PHYSIONET}/files/ptb-xl/1.0.3/{SUMS}",
        1.8,
    ),
    "chapman-shaoxing": Download(
        "ecg-arrhythmia-1.0.0.zip",
        f"{PHYSIONET}/static/published-projects/ecg-arrhythmia/"
        "a-large-scale-12-lead-electrocardiogram-database-for-arrhythmia-study-1.0.0.zip",
        f"{PHYSIONET}/files/ecg-arrhythmia/1.0.0/{SUMS}",
        2.3,
    ),
    "mimic-iv-ecg": Download(
        "mimic-iv-ecg-1.0.zip",
        f"{PHYSIONET}/static/published-projects/mimic-iv-ecg/"
        "mimic-iv-ecg-diagnostic-electrocardiogram-matched-subset-1.0.zip",
        f"{PHYSIONET}/files/mimic-iv-ecg/1.0/{SUMS}",
        34.0,
        note="Age and sex are not part of it: they are in MIMIC-IV, which needs credentials. "
        "`ecgkit data fetch mimic-iv` says how to get them.",
    ),
    "cpsc-2018": Download(
        "cpsc_2018",
        f"{PHYSIONET}/files/challenge-2021/1.0.3/",
        f"{PHYSIONET}/files/challenge-2021/1.0.3/{SUMS}",
        1.5,
        folder="training/cpsc_2018/",
    ),
    "ecg-qa": Download(
        "ecg-qa.zip", "https://github.com/Jwoo5/ecg-qa/archive/refs/heads/master.zip", "", 0.2
    ),
}

_STEPS = """{title} is not open: nobody may fetch it for you. Do this once:
  1. Make an account at {host}/register/ and fill in your profile.
  2. Ask for credentialed access at {host}/settings/credentialing/ (name a reference; takes days).
  3. Take the CITI course "Data or Specimens Only Research" and hand in its report at
     {host}/settings/training/.
  4. Sign the data use agreement at the foot of {host}/content/{slug}/.
  5. Fetch what the kit reads (it asks for your PhysioNet password):
       {command}
  6. {put}"""
CREDENTIALED = {
    "mimic-iv": dict(
        title="MIMIC-IV (ages and sexes for MIMIC-IV-ECG)",
        slug="mimiciv/3.1",
        command="wget -N -c --user YOUR_NAME --ask-password "
        f"{PHYSIONET}/files/mimiciv/3.1/hosp/patients.csv.gz",
        put="Put patients.csv.gz (or patients.csv) into the folder that holds record_list.csv.",
    ),
    "mimic-iv-ecg-ext-icd": dict(
        title="MIMIC-IV-ECG-Ext-ICD (hospital diagnoses of MIMIC-IV-ECG)",
        slug="mimic-iv-ecg-ext-icd-labels/1.0.1",
        command="wget -r -N -c -np --user YOUR_NAME --ask-password "
        f"{PHYSIONET}/files/mimic-iv-ecg-ext-icd-labels/1.0.1/",
        put="The kit does not read these labels yet; keep them beside record_list.csv.",
    ),
}


def fetch(name: str, out: str | Path = "", mirror: str = "") -> Path:
    """Fetches one open source into `out` (default: the project's data/) and returns its path.

    `mirror` replaces scheme and host of every address. Nothing partial carries the final name: a
    zip is checked member by member against the published checksums (or its own CRCs), a folder is
    renamed when its last file is in. Raises DataError: unknown or credentialed source (with the
    steps to take), refused, cut off, no room, or a wrong checksum (the bad file is set aside).
    """
    if name in CREDENTIALED:
        raise DataError(_STEPS.format(host=PHYSIONET, **CREDENTIALED[name]))
    if name not in DOWNLOADS:
        raise DataError(
            f"{name!r} is not to be fetched; the kit fetches {', '.join(DOWNLOADS)} and explains "
            f"{', '.join(CREDENTIALED)}. Simulated data are written by `ecgkit data synthesize`."
        )
    what = DOWNLOADS[name]
    target = _folder(out) / what.file
    # Two of them would add to the same half file.
    lock = runtime.cache_dir() / "fetching" / short_hash([str(target.resolve())])
    with runtime.one_at_a_time(lock, f"fetching {name}"):
        return _fetch_now(name, what, target, mirror)


def _fetch_now(name: str, what: Download, target: Path, mirror: str) -> Path:
    if what.folder:
        return _fetch_folder(name, what, target, mirror)
    sums = read_url(with_mirror(what.sums, mirror)) if what.sums else None
    listed = None if sums is None else parse_sums(sums, what.sums)
    return download(
        with_mirror(what.url, mirror), target, lambda file: check_zip(file, listed, name), name
    )


def _folder(out: str | Path) -> Path:
    folder = Path(os.path.expanduser(out or runtime.project_root() / "data"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"Nothing can be put into {folder} ({error.strerror}); give another folder as --out."
        ) from error
    return folder


def parse_sums(raw: bytes, where: str) -> dict[str, str]:
    """Lines "<64 hex> <path>" -> {path: checksum}. Raises DataError for none or unsafe paths."""
    found = {}
    for line in raw.decode("utf-8", "replace").splitlines():
        match = re.fullmatch(r"([0-9a-fA-F]{64})\s+\*?(?:\./)?(.+)", line.strip())
        if match:
            found[_safe(match[2], where)] = match[1].lower()
    if not found:
        raise DataError(f"{where} is not a list of SHA-256 checksums; try again or another mirror.")
    return found


# --- zips -----------------------------------------------------------------------------------------


def check_zip(path: Path, listed: dict[str, str] | None, label: str) -> None:
    """Raises DataError unless every member is whole.

    `listed` (path -> SHA-256, relative to the folder all members share) is the published list;
    None takes the one inside, and where there is none either the members' own CRCs.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, label)
            if listed is None and SUMS in members:
                listed = parse_sums(archive.read(members[SUMS]), f"{SUMS} of {label}")
            faults = _member_faults(archive, members, listed, label)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"The {label} download is a damaged .zip ({error}).") from error
    if faults:
        raise DataError(
            f"{len(faults)} files inside the {label} download are wrong, first {faults[0]}."
        )


def _members(archive: zipfile.ZipFile, label: str) -> dict[str, zipfile.ZipInfo]:
    """Name relative to the one folder all members share -> member."""
    infos = [i for i in archive.infolist() if not i.is_dir()]
    names = [_safe(i.filename, f"the {label} download") for i in infos]
    tops = {name.split("/")[0] for name in names}
    shared = len(tops) == 1 and all("/" in name for name in names)
    return {n.split("/", 1)[1] if shared else n: i for n, i in zip(names, infos)}


def _member_faults(archive, members, listed: dict[str, str] | None, label: str) -> list[str]:
    if listed is None:
        listed = dict.fromkeys(members)  # reading a member to its end checks its CRC
    faults = []
    for name, expected in runtime.progress(listed.items(), f"{label}: files checked", len(listed)):
        if name not in members:
            faults.append(f"{name} (missing)")
            continue
        try:
            found = _member_sha256(archive, members[name])
        except (zipfile.BadZipFile, zlib.error, EOFError):
            faults.append(f"{name} (damaged)")
            continue
        if expected not in (None, found):
            faults.append(f"{name} (checksum)")
    return faults


def _member_sha256(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> str:
    digest = hashlib.sha256()
    with archive.open(member) as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


# --- single files ---------------------------------------------------------------------------------


def _fetch_folder(name: str, what: Download, target: Path, mirror: str) -> Path:
    """Every listed file below `what.folder`; the folder gets its name when the last one is in."""
    sums = read_url(with_mirror(what.sums, mirror))
    if sums is None:
        raise DataError(f"{with_mirror(what.sums, mirror)} is not there; try another mirror.")
    listed = parse_sums(sums, what.sums)
    wanted = {n: s for n, s in listed.items() if n.startswith(what.folder)}
    if not wanted:
        raise DataError(f"{what.sums} names no file below {what.folder}; try another mirror.")
    scratch = _open_folder(target)
    _check_room(scratch, what, name)

    def fetch_one(item: tuple[str, str]) -> None:
        path, checksum = item
        local = scratch / path.removeprefix(what.folder)
        download(with_mirror(what.url + path, mirror), local, _checker(path, checksum))

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        try:
            done = pool.map(fetch_one, wanted.items())
            for _ in runtime.progress(done, f"{name}: files", len(wanted)):
                pass
        finally:
            pool.shutdown(cancel_futures=True)
    scratch.rename(target)
    return target


def _open_folder(target: Path) -> Path:
    """The folder to fill; it loses its final name while its files are checked again."""
    scratch = target.with_name(target.name + ".part")
    if target.exists() and scratch.exists():
        raise DataError(f"Both {target} and {scratch.name} are there; delete one and try again.")
    if target.exists():
        target.rename(scratch)
    scratch.mkdir(parents=True, exist_ok=True)
    return scratch


def _checker(name: str, checksum: str):
    def check(file: Path) -> None:
        if sha256(file) != checksum:
            raise DataError(f"{name} does not have the published SHA-256 checksum.")

    return check


def _check_room(folder: Path, what: Download, name: str) -> None:
    have = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    runtime.require_room(folder, what.gb * 1e9 - have, f"The rest of {name}", NO_ROOM, SPARE)


def _safe(name: str, where: str) -> str:
    """`name` if it stays below the folder it is put in. Raises DataError otherwise."""
    path = PurePosixPath(name)
    outside = path.is_absolute() or not path.parts or ".." in path.parts
    if outside or "\\" in name or ":" in path.parts[0]:
        raise DataError(f"{where} names a file outside its folder ({name!r}); do not use it.")
    return name
