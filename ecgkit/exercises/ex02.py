"""Exercises of notebook 02: a filter that is late, a voltage by hand, two leads that were swapped.
"""

from __future__ import annotations

import numpy as np

from ecgkit.exercises.base import NotHere, exercise
from ecgkit.features import measures, rhythm
from ecgkit.types import ECGRecord

_AUGMENTED = ("aVR", "aVL", "aVF")


@exercise(
    "02.1",
    "by how many ms the filter that runs in one direction only delays the R peaks (median)",
    unit="ms",
    tolerance=5,
    why="A filter that only knows the past answers late, and not every frequency equally late, so "
    "it also bends the ST segment. Run forwards and backwards the delays cancel.",
    hints=(
        "Find the beats in `late` with `rhythm.find_beats` and compare with `before.sample`: for "
        "each late beat, how far back is the nearest beat of the same record? Take the median.",
        "`find_beats` counts samples. One sample is 1000 / record.fs ms.",
    ),
)
def delay_ms(before, late, fs):
    after = rhythm.find_beats(late, fs)
    shifts = [
        beat - before.of(i)[np.abs(before.of(i) - beat).argmin()]
        for i in range(len(late))
        if len(before.of(i))
        for beat in after.of(i)
    ]
    if not shifts:
        raise NotHere("No beat was found in these recordings.")
    return 1000 / fs * float(np.median(shifts))


@exercise(
    "02.2",
    "the Sokolow-Lyon voltage in mV: depth of S in V1 plus height of R in V5 or V6",
    unit="mV",
    tolerance=0.4,
    why="From 3.5 mV on this is a sign of left ventricular hypertrophy. Each lead scaled on its "
    "own would have lost it: after that every lead is equally tall.",
    hints=(
        "Ten small squares are 1 mV. Measure from the flat line before the QRS: down to the lowest "
        "point in V1, up to the highest in V5 and in V6, and take the taller of the two.",
        "Add the two lengths; neither counts as negative.",
    ),
    slips={
        "That is in V1 alone: add the taller R of V5 and V6.": lambda tall: _voltage(tall, v1=True),
    },
)
def sokolow_mv(tall):
    return _voltage(tall)


def _voltage(tall: ECGRecord, v1: bool = False) -> float:
    if v1:
        lead = tall.signal[tall.leads.index("V1")]
        return float(np.median(lead) - lead.min())
    return float(measures.measure(tall.signal[None], tall.fs)["sokolow_mv"].item())


@exercise(
    "02.3",
    "the two leads whose names were exchanged",
    why="Limb leads are bound by arithmetic, so a wrong label among them can be found without a "
    "look at the heart. Chest leads are not: swapped ones need an eye.",
    hints=(
        "Compute each augmented lead from I and II: aVR = -(I + II)/2, aVL = I - II/2, "
        "aVF = II - I/2. Which of the three are not what their name says?",
        "`puzzle.select(('I', 'II', 'aVR', 'aVL', 'aVF')).signal` gives the five; the largest "
        "difference of a rightly named lead is a rounding error.",
    ),
)
def exchanged(puzzle):
    one, two = (puzzle.signal[puzzle.leads.index(name)] for name in ("I", "II"))
    right = dict(zip(_AUGMENTED, (-(one + two) / 2, one - two / 2, two - one / 2)))
    off = {
        name: np.abs(puzzle.signal[puzzle.leads.index(name)] - trace).mean()
        for name, trace in right.items()
    }
    return set(sorted(off, key=off.get)[1:])


def with_two_leads_exchanged(record: ECGRecord, seed: int) -> ECGRecord:
    """The record with the names of two of its augmented leads exchanged; which, `seed` decides."""
    kept = _AUGMENTED[seed % 3]
    a, b = (record.leads.index(name) for name in _AUGMENTED if name != kept)
    signal = record.signal.copy()
    signal[[a, b]] = signal[[b, a]]
    return ECGRecord(signal, record.fs, record.leads, record.ecg_id, record.meta)
