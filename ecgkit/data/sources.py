"""The sources the kit reads: what each is, under which licence, how it is laid out, how to get it.

Later issues add MIMIC-IV-ECG, Chapman-Shaoxing and CPSC-2018 rows to the same registry.
"""

from __future__ import annotations

from dataclasses import dataclass

from ecgkit.data.scp_table import COLUMNS as SCP_COLUMNS
from ecgkit.types import LEADS, DataError

PTBXL_TABLE = "ptbxl_database.csv"
PTBXL_STATEMENTS = "scp_statements.csv"
# Without these a record can be neither found, labelled nor put into a split.
PTBXL_REQUIRED = ("ecg_id", "patient_id", "age", "sex", "report", "scp_codes", "strat_fold")
PTBXL_TEXT = (
    "heart_axis",
    "infarction_stadium1",
    "infarction_stadium2",
    "baseline_drift",
    "static_noise",
    "burst_noise",
    "electrodes_problems",
    "extra_beats",
    "pacemaker",
    "report",
    "device",
    "recording_date",
    "scp_codes",
)
# The rest of scp_statements.csv are codes of other systems, which nothing here reads.
STATEMENT_COLUMNS = tuple(SCP_COLUMNS[:8])


@dataclass(frozen=True)
class Source:
    """One data source. `fs` are the rates it offers in Hz, `leads` the names as it spells them."""

    name: str
    title: str
    version: str
    licence: str
    fs: tuple[int, ...]
    leads: tuple[str, ...]
    layout: str
    access: str
    simulated: bool = False


_UPPER = tuple(name.upper() for name in LEADS)
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
            "Open access: download the .zip (1.8 GB) from physionet.org/content/ptb-xl and give "
            "its "
            "path as DATA; it is read without unpacking.",
        ),
        Source(
            "synthetic",
            "Simulated 12-lead cohort of this kit",
            "1",
            "Apache-2.0",
            (100, 500),
            _UPPER,
            "the layout of PTB-XL, with truth.csv beside the table",
            "Nothing to download: DATA = 'synthetic' writes it on first use.",
            simulated=True,
        ),
    )
}


def source(name: str) -> Source:
    """Looks a source up. Raises DataError naming those there are."""
    if name not in SOURCES:
        raise DataError(f"There is no source {name!r}; the kit knows {', '.join(SOURCES)}.")
    return SOURCES[name]
