"""A simulated population and its recordings, chunk by chunk, whatever layout they are written in.

Each chunk of records has a generator of its own, made from the seed and the chunk's place, and is
rendered by a plain function on plain data: the files are the same whoever renders which chunk.

Usage:

    people = draw_population(20_000, seed=7)
    truth = render(people, folder, names={500: [...]}, jobs=2)      # WFDB files; one row per record
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit import runtime
from ecgkit.data.parallel import Workers
from ecgkit.data.synthetic import anatomy, artefacts, findings, recorder
from ecgkit.data.synthetic import render as drawing
from ecgkit.data.synthetic.patients import Visits, draw_visits
from ecgkit.data.synthetic.rhythm import draw_beats
from ecgkit.data.synthetic.truth import ground_truth
from ecgkit.data.wfdb_write import PTBXL, RecordStyle, to_adc, twelve_lead_adc, write_wfdb
from ecgkit.types import DataError

CHUNK, SECONDS = 256, 10
_BLOCK = 16  # finished signals at a time stay in the processor's cache


@dataclass
class Population:
    """N ECGs before they are drawn: who (`visits`), with which anatomy (`latents`, one row per
    patient), which disturbances, how long (`seconds` (N,) whole s). `rng` goes on to the tables.
    """

    seed: int
    visits: Visits
    latents: np.ndarray
    noise: artefacts.Artefacts
    seconds: np.ndarray
    rng: np.random.Generator
    prevalence: str = "learning"

    def __len__(self) -> int:
        return len(self.visits.table)


def draw_population(n_ecgs: int, seed: int, prevalence: str = "learning") -> Population:
    """Patients, their visits and disturbances for `n_ecgs` recordings of 10 s. `prevalence`: one of
    `prevalence.TABLES`.
    """
    rng = np.random.default_rng([seed, 0])
    visits = draw_visits(n_ecgs, rng, prevalence)
    latents = rng.standard_normal((visits.table["patient"].max() + 1, anatomy.N_LATENTS))
    noise = artefacts.draw_artefacts(n_ecgs, rng)
    return Population(seed, visits, latents, noise, np.full(n_ecgs, SECONDS), rng, prevalence)


def keep(people: Population, rows: np.ndarray) -> Population:
    """The ECGs in `rows` alone, patients and their numbers as they were."""
    visits = people.visits
    text = {kind: [words[i] for i in rows] for kind, words in people.noise.text.items()}
    return Population(
        people.seed,
        Visits(
            visits.table.iloc[rows].reset_index(drop=True),
            [visits.codes[i] for i in rows],
            {code: u[rows] for code, u in visits.severity.items()},
        ),
        people.latents,
        _take(people.noise, rows, text=text),
        people.seconds[rows],
        people.rng,
        people.prevalence,
    )


# --- recordings -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chunk:
    """One worker's task: n records, everything about them, and where they go."""

    seed: int
    start: int
    people: pd.DataFrame
    latents: np.ndarray  # (n, N_LATENTS)
    has: dict
    severity: dict
    noise: artefacts.Artefacts
    seconds: np.ndarray
    folder: str
    names: dict[int, Sequence[str]]  # rate -> record names
    style: RecordStyle = PTBXL
    tails: Sequence[str] = ()
    comments: Sequence[Sequence[str]] = field(default=())


def render(
    people: Population,
    folder: Path,
    names: dict[int, Sequence[str]],
    style: RecordStyle = PTBXL,
    tails: Sequence[str] = (),
    comments: Sequence[Sequence[str]] = (),
    jobs: int = 0,
) -> pd.DataFrame:
    """Writes every recording at every rate of `names` (rate in Hz -> N names) and returns the
    truth, one row per record in the population's order (`ground_truth`).

    `jobs` processes, 0 = as many as there are cores once that is worth it.
    """
    has, n = people.visits.has(), len(people)
    chunks = []
    for start in range(0, n, CHUNK):
        rows = slice(start, min(start + CHUNK, n))
        table = people.visits.table.iloc[rows]
        chunks.append(
            Chunk(
                people.seed,
                start,
                table,
                people.latents[table["patient"]],
                {code: mask[rows] for code, mask in has.items()},
                {code: u[rows] for code, u in people.visits.severity.items()},
                _take(people.noise, rows, text={}),
                people.seconds[rows],
                str(folder),
                {fs: named[rows] for fs, named in names.items()},
                style,
                tails[rows],
                comments[rows],
            )
        )
    truths = Workers(jobs).map(render_chunk, chunks, "simulating recordings")
    return pd.concat(truths, ignore_index=True)


def render_chunk(chunk: Chunk) -> pd.DataFrame:
    """Draws and writes the recordings of one chunk; returns its rows of the truth."""
    from threadpoolctl import threadpool_limits

    # A matrix product split over threads is rounded otherwise, by a unit in a few samples.
    with threadpool_limits(1, "blas"):
        return _render_chunk(chunk)


def _render_chunk(chunk: Chunk) -> pd.DataFrame:
    rng = np.random.default_rng([chunk.seed, 1, chunk.start])
    age, sex = (chunk.people[name].to_numpy() for name in ("age", "sex"))
    hearts = anatomy.normal_hearts(chunk.latents, age, sex, rng)
    hearts.mi_stage = chunk.people["mi_stage"].to_numpy(dtype=float)
    findings.apply_findings(hearts, chunk.has, chunk.severity, rng)
    truths = []
    for seconds in np.unique(chunk.seconds).tolist():  # all of one length at once
        rows = np.flatnonzero(chunk.seconds == seconds)
        some = hearts if len(rows) == len(hearts) else _take(hearts, rows)
        times = draw_beats(some, seconds, rng)
        truth = ground_truth(some, times, seconds)
        truths.append(truth.set_index(rows))
        _write_signals(chunk, some, times, rows, seconds, rng)
    return pd.concat(truths).sort_index()


def _write_signals(chunk: Chunk, hearts, times, rows: np.ndarray, seconds: int, rng) -> None:
    """Renders records of one length at the highest rate (500 Hz as PTB-XL's recorders made it),
    decimates to the others, writes WFDB.
    """
    top = max(chunk.names)
    native = recorder.NATIVE_HZ if top == 500 else top
    signal = drawing.render(hearts, times, native, seconds * native, rng)
    artefacts.disturb(signal, chunk.noise, rows, native, rng)
    tails, comments = ([of[i] for i in rows] if of else () for of in (chunk.tails, chunk.comments))
    for first in range(0, len(rows), _BLOCK):
        part = slice(first, first + _BLOCK)
        whole = recorder.at_500(signal[part]) if top == 500 else signal[part]
        for fs, names in chunk.names.items():
            at_rate = whole if fs == top else _decimate(whole, top // fs)
            adc = twelve_lead_adc(to_adc(at_rate, chunk.style.units_per_mv))
            named = [names[i] for i in rows[part]]
            write_wfdb(chunk.folder, named, adc, fs, chunk.style, tails[part], comments[part])


def _decimate(signal: np.ndarray, step: int) -> np.ndarray:
    """Keeps each `step`-th sample after a zero-phase low-pass at 80 % of the new Nyquist
    frequency.
    """
    from scipy.signal import firwin, resample_poly

    return resample_poly(signal, 1, step, axis=-1, window=firwin(20 * step + 1, 0.8 / step)).astype(
        np.float32
    )


def _take(record, rows, **instead):
    """A dataclass of arrays (N, ...) with `rows` of each; fields of `instead` replaced."""
    taken = {f.name: getattr(record, f.name)[rows] for f in fields(record) if f.name not in instead}
    return type(record)(**taken, **instead)


# --- folders --------------------------------------------------------------------------------------


def write_whole(folder: Path, mark: str, write: Callable[[Path], object]) -> Path:
    """Lets `write(scratch)` fill a folder that then appears as `folder`, whole or not at all.

    A folder that holds the file `mark` is complete and stays as it is. Raises DataError when
    something else is there.
    """
    folder = Path(folder)
    if (folder / mark).exists():
        return folder
    if folder.is_dir() and any(folder.iterdir()):
        raise DataError(
            f"{folder} is not empty and holds no {mark}; give a new folder for the simulated data."
        )
    if folder.is_dir():
        folder.rmdir()
    folder.parent.mkdir(parents=True, exist_ok=True)
    return runtime.write_once(folder, write)
