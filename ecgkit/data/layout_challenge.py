"""A simulated cohort as the PhysioNet challenges lay theirs out: one .mat and .hea per record, age,
sex and diagnoses (SNOMED CT) in the header's comments, no table and no patient identifiers.

Each record is another patient, since nothing in this layout could tell two of one patient.

Usage:

    write(folder, draw_population(3000, seed=7), 1000, "cpsc-2018", jobs=2)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit.data.sources import snomed
from ecgkit.data.synthetic.population import Population, keep, render
from ecgkit.data.wfdb_write import CHAPMAN, CPSC, RecordStyle


@dataclass(frozen=True)
class ChallengeSet:
    """One data set of the challenges: its folder, how it names and writes records, and whether
    their lengths differ.
    """

    folder: str
    name: str
    style: RecordStyle
    comment: str
    ragged: bool = False


SETS = {
    "challenge": ChallengeSet("WFDB_Simulated", "SIM{:05d}", CHAPMAN, "# "),
    "chapman-shaoxing": ChallengeSet("WFDB_ChapmanShaoxing", "JS{:05d}", CHAPMAN, "# "),
    "cpsc-2018": ChallengeSet("WFDB_CPSC2018", "A{:04d}", CPSC, "#", ragged=True),
}
LONGEST, SHORTEST = 60, 6  # seconds


def write(
    folder: Path, people: Population, n_ecgs: int, layout: str, jobs: int
) -> tuple[Population, pd.DataFrame, list]:
    """Writes the first `n_ecgs` patients' first ECGs; returns them, the truth and record names."""
    chosen = SETS[layout]
    people = keep(people, np.flatnonzero(people.visits.table["visit"] == 0)[:n_ecgs])
    if chosen.ragged:
        people.seconds = _lengths(n_ecgs, np.random.default_rng([people.seed, 3]))
    names = [chosen.name.format(n) for n in range(1, n_ecgs + 1)]
    truth = render(
        people,
        folder,
        {500: [f"{chosen.folder}/{name}" for name in names]},
        chosen.style,
        comments=_comments(people, chosen.comment),
        jobs=jobs,
    )
    return people, truth, names


def _comments(people: Population, mark: str) -> list[list[str]]:
    """Per record the challenge's lines: Age, Sex, Dx, Rx, Hx, Sx, and one that says what it is."""
    table = people.visits.table
    comments = []
    for age, sex, codes in zip(table["age"], table["sex"], people.visits.codes):
        said = {
            "Age": int(age),
            "Sex": ("Male", "Female")[int(sex)],
            "Dx": ",".join(snomed.from_scp(codes)),
            **dict.fromkeys(("Rx", "Hx", "Sx"), "Unknown"),
            "Device": "SIMULATED by ecgkit",
        }
        comments.append([f"{mark}{name}: {value}" for name, value in said.items()])
    return comments


def _lengths(n: int, rng: np.random.Generator) -> np.ndarray:
    """(n,) whole seconds: about half of them 10 s as in CPSC-2018, the others 6 to 60 s."""
    drawn = np.clip(np.rint(SHORTEST + rng.exponential(12, n)), SHORTEST, LONGEST).astype(int)
    return np.where(rng.random(n) < 0.5, 10, drawn)
