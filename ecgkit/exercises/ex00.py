"""Exercises of notebook 00: an interval on paper, leads that follow from others, a wrong unit."""

from __future__ import annotations

from ecgkit.exercises.base import exercise


@exercise(
    "00.1",
    "QRS duration of the blocked heart in ms",
    unit="ms",
    tolerance=30,
    why="A small square is 20 ms here, and an eye is rarely off by more than one and a half; "
    "120 ms and more is a complete block.",
    hints=(
        "Count the small squares from where the QRS leaves the line to where it meets the ST "
        "segment, in the lead where it is broadest. How long is one square at the paper's speed?",
        "The line below the paper states the speed: at 50 mm/s, a large square of 5 mm is 1/10 s.",
    ),
    slips={
        "That is the duration at 25 mm/s: at 50 mm/s the trace is drawn twice as wide, so each "
        "square is half as long.": lambda blocked: 2 * blocked.meta["truth"]["qrs_ms"],
    },
)
def qrs_of_block(blocked):
    return blocked.meta["truth"]["qrs_ms"]


@exercise(
    "00.2",
    "the limb leads that follow from leads I and II alone",
    why="III = II - I, aVR = -(I + II)/2, aVL = I - II/2, aVF = II - I/2: two measurements, six "
    "limb leads.",
    hints=(
        "By Einthoven's law I + III = II; the augmented leads are each half a sum or a "
        "difference of two of them.",
        "`meta` of the record that was read lists the leads it computed.",
    ),
)
def derived_leads(normal):
    return {name for name in normal.leads if name not in ("I", "II") and name[0] != "V"}


@exercise(
    "00.3",
    "factor by which every amplitude is off when microvolts are read as millivolts",
    why="1 mV is 1000 uV. A number cannot tell its unit, but a QRS of 1000 mV can: that is what "
    "the remarks of the table are for.",
    hints=(
        "Divide the range of any lead in the wrong table by that in the right one.",
        "The file holds microvolts. How many of them make a millivolt?",
    ),
)
def factor_of_units(mine, wrong):
    return round(float(abs(wrong.signal).max() / abs(mine.signal).max()))
