"""The sources the kit reads: what each is, under which licence, how it is laid out, how to get it.

One adapter per layout turns a place into the table every study shares (`ptbxl`, `mimic`,
`challenge`); the data card of a source is `cards/<name>.md` beside this file.

Usage:

    name, place = open_source("mimic-iv-ecg.zip")     # looks at what the folder or .zip holds
    source(name).licence, source(name).fs
    table, refused = adapter(name).read_table(place, rate=500)
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path

from ecgkit.data.place import Folder, Zip, open_place
from ecgkit.types import LEADS, DataError

PAGES = "https://physionet.org/content"
SYNTHETIC = "synthetic"


@dataclass(frozen=True)
class Source:
    """One data source. `fs` are the rates it offers in Hz, `leads` the names as it spells them.

    `open`: anyone may fetch it (`ecgkit data fetch`); `url` is its publisher's page and
    `how_to_get` what the user does. `marker`: the file that tells the layout; '' where records are
    found by their headers.
    """

    name: str
    title: str
    version: str
    licence: str
    fs: tuple[int, ...]
    leads: tuple[str, ...]
    layout: str
    how_to_get: str
    marker: str = ""
    url: str = ""
    open: bool = True
    simulated: bool = False


_UPPER = tuple(name.upper() for name in LEADS)
# As in its headers: aVF stands before aVL. Match by name, never by position.
MIMIC_LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
_GIVE = "then give the folder or .zip as DATA; a .zip is read without unpacking."

SOURCES = {
    source.name: source
    for source in (
        Source(
            "ptbxl",
            "PTB-XL, a large publicly available electrocardiography dataset",
            "1.0.3",
            "CC BY 4.0",
            (100, 500),
            _UPPER,
            "ptbxl_database.csv, scp_statements.csv, records100/ and records500/ (WFDB format 16)",
            f"Open access (1.8 GB): fetch it from {PAGES}/ptb-xl/1.0.3/, {_GIVE} "
            "Versions 1.0.1 and 1.0.2 are read as well.",
            marker="ptbxl_database.csv",
            url=f"{PAGES}/ptb-xl/1.0.3/",
        ),
        Source(
            "mimic-iv-ecg",
            "MIMIC-IV-ECG: diagnostic electrocardiogram matched subset",
            "1.0",
            "ODbL 1.0",
            (500,),
            MIMIC_LEADS,
            "record_list.csv, machine_measurements.csv, files/p1000/p10000032/s40689238/*.hea and "
            "*.dat (WFDB format 16, 200 units per mV)",
            f"Open access (about 34 GB as .zip): fetch it from {PAGES}/mimic-iv-ecg/1.0/, {_GIVE} "
            "Age and sex are not in it: they stand in hosp/patients.csv.gz of MIMIC-IV, which is "
            "credentialed (PhysioNet account, CITI training, signed data use agreement at "
            f"{PAGES}/mimiciv/); lay that file beside record_list.csv (or the .zip) to have them. "
            "Cardiologists' reports are credentialed too (MIMIC-IV-Note); the kit reads the "
            "machine's.",
            marker="record_list.csv",
            url=f"{PAGES}/mimic-iv-ecg/1.0/",
        ),
        Source(
            "chapman-shaoxing",
            "Chapman-Shaoxing and Ningbo 12-lead ECGs for arrhythmia study",
            "1.0.0",
            "CC BY 4.0",
            (500,),
            LEADS,
            "JS*.hea and JS*.mat (WFDB format 16), flat as in the challenges or below "
            "WFDBRecords/01/010/; Age, Sex and Dx (SNOMED CT) as comments of the header",
            f"Open access (2.3 GB as .zip): fetch it from {PAGES}/ecg-arrhythmia/1.0.0/, {_GIVE}",
            url=f"{PAGES}/ecg-arrhythmia/1.0.0/",
        ),
        Source(
            "cpsc-2018",
            "ICBEB / China Physiological Signal Challenge 2018, in challenge form",
            "challenge-2021 1.0.3",
            "CC BY 4.0",
            (500,),
            LEADS,
            "A*.hea and A*.mat (WFDB format 16), 6 to 144 s long; Age, Sex and Dx (SNOMED CT) as "
            "comments of the header",
            f"Open access: fetch training/cpsc_2018 from {PAGES}/challenge-2021/1.0.3/, {_GIVE}",
            url=f"{PAGES}/challenge-2021/1.0.3/",
        ),
        Source(
            "challenge",
            "Another 12-lead source in the form of the PhysioNet challenges 2020 and 2021",
            "as given",
            "as its publisher says (PhysioNet's own challenge data: CC BY 4.0)",
            (500, 257, 1000),
            LEADS,
            "*.hea and *.mat (WFDB format 16); Age, Sex and Dx (SNOMED CT) as comments",
            f"Fetch a source such as training/georgia from {PAGES}/challenge-2021/1.0.3/, {_GIVE}",
            open=False,
        ),
        Source(
            SYNTHETIC,
            "Simulated 12-lead cohort of this kit",
            "1",
            "Apache-2.0",
            (100, 500),
            _UPPER,
            "the layout of PTB-XL, with truth.csv beside the table",
            "Nothing to download: DATA = 'synthetic' writes it on first use.",
            marker="ptbxl_database.csv",
            open=False,
            simulated=True,
        ),
    )
}
_ADAPTERS = {"ptbxl": "ptbxl", SYNTHETIC: "ptbxl", "mimic-iv-ecg": "mimic"}
# Which source a folder of challenge records is, by the names of its records.
_NAMES = {"chapman-shaoxing": re.compile(r"JS\d{5}"), "cpsc-2018": re.compile(r"A\d{4}")}


def source(name: str) -> Source:
    """Looks a source up. Raises DataError naming those there are."""
    if name not in SOURCES:
        raise DataError(f"There is no source {name!r}; the kit knows {', '.join(SOURCES)}.")
    return SOURCES[name]


def adapter(name: str):
    """The module that reads the layout of source `name`: its read_table and read_statements.

    Raises DataError for a name that is no source.
    """
    module = _ADAPTERS.get(source(name).name, "challenge")
    return importlib.import_module(f"ecgkit.data.sources.{module}")


def open_source(path: str | Path) -> tuple[str, Folder | Zip]:
    """(name of the source, its place rooted where its table lies) of a folder or .zip.

    Raises DataError with one sentence for a wrong path, a damaged .zip, and for a place that holds
    no source the kit knows.
    """
    place = open_place(path)
    name, root = _detect(place)
    return name, place.below(root)


def _detect(place: Folder | Zip) -> tuple[str, str]:
    for name in ("ptbxl", "mimic-iv-ecg"):
        root = place.find(SOURCES[name].marker)
        if root is not None:
            return name, root
    stems = [name.rsplit("/", 1)[-1][:-4] for name in place.names(".hea")]
    for name, pattern in _NAMES.items():
        if stems and all(pattern.fullmatch(stem) for stem in stems):
            return name, ""
    if stems:
        return "challenge", ""
    where = "inside" if isinstance(place, Zip) else "in"
    raise DataError(
        f"There is no ptbxl_database.csv {where} {place.path} (PTB-XL), no record_list.csv "
        "(MIMIC-IV-ECG) and no .hea header (challenge form), so it holds no source the kit knows"
        f"{place.hint() or '; check the path'}."
    )
