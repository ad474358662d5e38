"""Simulated cohorts in the on-disk layouts of the kit's sources, with the ground truth beside them.

Everything written here is SIMULATED and says so: in a README.txt, in each header (PTB-XL's layout:
in the table's `device` column) and in truth.csv.

Usage:

    write_layout("data/cache/like-mimic", "mimic-iv-ecg", n_ecgs=1000, seed=7, jobs=0)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ecgkit.data import layout_challenge, layout_mimic
from ecgkit.data.synthetic import truth_table, write_beats, write_cohort
from ecgkit.data.synthetic.population import Population, draw_population, write_whole
from ecgkit.data.synthetic.prevalence import share
from ecgkit.types import ConfigError

LAYOUTS = ("ptbxl", "mimic-iv-ecg", *layout_challenge.SETS)
_RATE = 500
_README = """SIMULATED ECGs. No recording in this folder is of a patient.

Written by ecgkit in the layout of {layout} ({n} recordings, seed {seed}), for tests, teaching and
benchmarks. truth.csv holds what was drawn: rates, intervals (ms), axes (degrees), SCP codes.
Findings are as frequent as table "{prevalence}" of the kit says (learning: rare ones lifted).
"""


def write_layout(
    folder,
    layout: str,
    n_ecgs: int,
    seed: int,
    rates: Sequence[int] = (_RATE,),
    jobs: int = 1,
    study_ids: Sequence[int] | None = None,
    prevalence: str = "learning",
) -> Path:
    """Writes `n_ecgs` simulated ECGs into `folder` in the layout of one of LAYOUTS; returns it.

    "ptbxl" as `synthetic.write_cohort`; "mimic-iv-ecg" with its tables, 200 units per mV and aVF
    before aVL; "challenge" (records SIM00001 ...), "chapman-shaoxing" (JS00001 ...) and "cpsc-2018"
    (A0001 ..., 6 to 60 s) as .mat and .hea with SNOMED CT codes. PTB-XL's may be at 100 and 500 Hz,
    the others are at 500. `study_ids` (mimic-iv-ecg) are used as they come, one per ECG; ECGs next
    to each other may be of one patient. `prevalence`: "learning" or "ptbxl". Same arguments, same
    files, whatever `jobs` (processes; 0 = as many as there are cores once that is worth it). The
    folder appears whole or not at all; one that is complete stays as it is. Raises ConfigError for
    what does not fit together, DataError when something else is in the folder.
    """
    _check(layout, n_ecgs, seed, tuple(rates), study_ids)
    share(prevalence)  # refuses an unknown one before a folder is made
    if layout == "ptbxl":
        return write_cohort(folder, n_ecgs, seed, rates, jobs, prevalence)

    def fill(scratch: Path) -> None:
        if layout == "mimic-iv-ecg":
            people = draw_population(n_ecgs, seed, prevalence)
            truth, ids = layout_mimic.write(scratch, people, study_ids, jobs)
        else:
            # three ECGs of a patient at most
            drawn = draw_population(3 * n_ecgs, seed, prevalence)
            people, truth, ids = layout_challenge.write(scratch, drawn, n_ecgs, layout, jobs)
        _truth(people, truth, ids).to_csv(scratch / "truth.csv", index=False, lineterminator="\n")
        write_beats(scratch, truth, ids)
        readme = _README.format(layout=layout, n=n_ecgs, seed=seed, prevalence=prevalence)
        (scratch / "README.txt").write_text(readme, encoding="utf-8")

    return write_whole(folder, "truth.csv", fill)


def _check(layout: str, n_ecgs: int, seed: int, rates: tuple, study_ids) -> None:
    if layout not in LAYOUTS:
        raise ConfigError(f"There is no layout {layout!r}; give one of {', '.join(LAYOUTS)}.")
    if n_ecgs < 1 or seed < 0:
        raise ConfigError(
            f"write_layout got n_ecgs={n_ecgs}, seed={seed}; give at least 1 ECG and a seed of 0 "
            "or more."
        )
    if layout != "ptbxl" and rates != (_RATE,):
        raise ConfigError(
            f"The layout {layout} is at {_RATE} Hz, but rates={rates}; leave rates out, or take "
            'layout="ptbxl", which offers 100 and 500 Hz.'
        )
    if study_ids is not None and (
        layout != "mimic-iv-ecg" or len(set(study_ids)) != n_ecgs or len(study_ids) != n_ecgs
    ):
        raise ConfigError(
            f"study_ids are for mimic-iv-ecg, one per ECG and each once; got {len(study_ids)} "
            f"({len(set(study_ids))} different) for {n_ecgs} ECGs in the layout {layout}."
        )


def _truth(people: Population, truth: pd.DataFrame, ids: Sequence) -> pd.DataFrame:
    """PTB-XL's truth table and who it was: patient, age, sex, length, SCP codes as a dict."""
    out = truth_table(truth, people.visits.has(), people.noise, ids)
    table = people.visits.table
    out.insert(1, "patient_id", table["patient"].to_numpy() + 1)
    out.insert(2, "age", table["age"].to_numpy())
    out.insert(3, "sex", table["sex"].to_numpy())
    out.insert(4, "seconds", people.seconds)
    out.insert(5, "scp_codes", [repr(codes) for codes in people.visits.codes])
    return out
