"""Further sources that ESI pretrains on, and which of their ECGs it may read.

The paper reads PTB-XL's folds 1-8, Chapman-Shaoxing and MIMIC-IV-ECG. MORE_DATA names folders or
.zip files of real sources; beside a simulated cohort it may name layouts (`chapman,mimic`): people
of another seed are then simulated and written as that source writes them.

Usage:

    others = further_cohorts(config, cohort)
    rows = training_rows(cohort, others[0])         # none of a patient whom the study is tested on
"""

from __future__ import annotations

import dataclasses
import zlib
from pathlib import Path

import numpy as np

from ecgkit import runtime
from ecgkit.config import EsiConfig, short_hash
from ecgkit.data import layouts
from ecgkit.data.cohort import Cohort, open_cohort
from ecgkit.types import DataError

WITH_FOLDS = ("ptbxl", "synthetic")  # sources that publish the folds 9 and 10 they are tested on
PTBXL_ELSEWHERE = r"HR\d{5}"  # how the challenges name PTB-XL's records


def further_cohorts(config: EsiConfig, own: Cohort) -> list[Cohort]:
    """The cohorts of MORE_DATA at the rate and length of the study's `own`, in the order named.

    Raises DataError for what is neither a path nor (beside a simulated cohort) a layout, for a
    source named twice, and for PTB-XL in challenge form, which does not tell its folds.
    """
    opened = []
    for name in filter(None, (part.strip() for part in config.more_data.split(","))):
        path = _place_of(name, config)
        other = open_cohort(dataclasses.replace(config, data=str(path), ecgqa=""))
        _refuse(name, other, [own, *opened])
        opened.append(other)
    return opened


def training_rows(own: Cohort, other: Cohort) -> np.ndarray:
    """Rows of the further cohort `other` to train on: all, but for PTB-XL's folds 9 and 10, and in
    more of the study's own source for its ECGs and its patients of folds 9 and 10.
    """
    rows = other.rows("train") if other.name in WITH_FOLDS else np.arange(len(other))
    if other.name != own.name:
        return rows
    held_out = np.concatenate([own.rows("valid"), own.rows("test")])
    theirs = other.table.iloc[rows]
    tested = theirs["patient_id"].isin(own.table["patient_id"].iloc[held_out])
    return rows[~(tested | theirs["ecg_id"].isin(own.table["ecg_id"])).to_numpy()]


# --- where they are -------------------------------------------------------------------------------


def _place_of(name: str, config: EsiConfig) -> Path:
    layout = layout_named(name) if config.simulated else None
    path = runtime.find_path(name) if layout is None else _simulated(layout, config)
    if path is None:
        names = f", nor a layout ({', '.join(layouts.LAYOUTS)})" if config.simulated else ""
        raise DataError(
            f"MORE_DATA names {name!r}, but there is no such file or folder{names}; give folders "
            "or .zip files of sources, separated by commas."
        )
    return path


def layout_named(name: str) -> str | None:
    """The one layout that begins with `name` (`mimic`: mimic-iv-ecg), or None."""
    found = [layout for layout in layouts.LAYOUTS if layout.startswith(name.lower())]
    return found[0] if len(found) == 1 or name in found else None


def _simulated(layout: str, config: EsiConfig) -> Path:
    """Folder of as many simulated ECGs as the cohort has, of other people, in this layout."""
    asked = {
        "n_ecgs": config.cohort_size,
        "seed": (config.cohort_seed + zlib.crc32(layout.encode())) % 2**63,
        "prevalence": config.prevalence,
    }
    key = short_hash([layout, asked, [path.read_text() for path in _writers()]])
    folder = runtime.cache_dir() / f"{layout}-{key}"
    return layouts.write_layout(folder, layout, jobs=config.jobs, **asked)


def _writers() -> list[Path]:
    """Code and tables that decide what is simulated: other code, another folder."""
    here = Path(layouts.__file__).parent
    names = ("layout*.py", "wfdb_write.py", "sources/machine_*.py", "synthetic/*.py",
             "synthetic/*.csv", "synthetic/*.yaml")  # fmt: skip
    return sorted(path for name in names for path in here.glob(name))


def _refuse(name: str, other: Cohort, opened: list[Cohort]) -> None:
    same = (c.fingerprint == other.fingerprint or c.place.path == other.place.path for c in opened)
    if any(same):
        raise DataError(f"MORE_DATA names {name!r}, which is already in; name each source once.")
    ids = (cohort.table["ecg_id"].astype(str) for cohort in [other, *opened])
    elsewhere = [found.str.fullmatch(PTBXL_ELSEWHERE).any() for found in ids]
    if elsewhere[0] or (any(elsewhere) and other.name == "ptbxl"):
        raise DataError(
            f"With {name!r} PTB-XL would be read in challenge form (HR00001 ...), which does not "
            "tell its folds, so ECGs of the test fold could be trained on; give PTB-XL itself."
        )
