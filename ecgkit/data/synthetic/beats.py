"""The beats of many records: when atria and ventricles beat, and which kind each beat is.

Shape letters: N records, B ventricular beats, A atrial beats.

Usage:

    beats = rhythm.draw_beats(hearts, seconds=10, rng=rng)
    longer = beats.time - beats.followed()      # (N, B) s of PR above the heart's usual PR, or NaN
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Kinds. SINUS of ventricles: the record's own rhythm as they get it (sinus, fibrillation, flutter,
# re-entry); of atria: the heart's own P wave. ATRIAL: from another focus, as a rule premature.
SINUS, VENTRICULAR, ATRIAL, JUNCTIONAL, ESCAPE, PACED, RETROGRADE, FLUTTER = range(8)
# Which QRS is drawn: the heart's own, its E waves, its F waves, its own with AB (aberrant) behind.
OWN, FIRST, SECOND, ABERRANT = range(4)
# Values of `Hearts.av_block` (COMPLETE: junctional escape, COMPLETE_WIDE: ventricular) and `paced`.
NO_BLOCK, WENCKEBACH, MOBITZ, COMPLETE, COMPLETE_WIDE = range(5)
UNPACED, ATRIUM, VENTRICLE, DUAL, DEMAND = range(5)
NEVER = np.inf  # a beat that does not come, while the beats are being drawn


@dataclass
class Beats:
    """The beats of N records; times in s, ascending, reaching past both ends of the strip.

    Rows of unequal length are filled up with times far behind the end: look at `inside` alone.

    time (N, B): R peaks. kind (N, B): SINUS | VENTRICULAR | ATRIAL | JUNCTIONAL | ESCAPE | PACED.
    shape (N, B): OWN | FIRST | SECOND | ABERRANT. parent (N, B): index of the atrial beat that led
    to it, -1 where none did.
    atrial (N, A): each atrial beat, given as the R peak it would lead to at the heart's own PR, so
    its P wave lies at atrial + hearts.centre[P]; of RETROGRADE beats the middle of the P, of
    FLUTTER the start of the wave. Fibrillating atria have none. atrial_kind (N, A): SINUS | ATRIAL
    | PACED | RETROGRADE | FLUTTER.
    breath_hz, breath_phase (N,): breathing, which moves RR and axis.
    """

    time: np.ndarray
    kind: np.ndarray
    shape: np.ndarray
    parent: np.ndarray
    atrial: np.ndarray
    atrial_kind: np.ndarray
    breath_hz: np.ndarray
    breath_phase: np.ndarray

    def followed(self) -> np.ndarray:
        """(N, B) time of each beat's own atrial beat, NaN where it has none."""
        times = np.take_along_axis(self.atrial, np.maximum(self.parent, 0), axis=1)
        return np.where(self.parent >= 0, times, np.nan)

    def inside(self, seconds: float) -> np.ndarray:
        """(N, B) whether a beat's R peak lies in the strip."""
        return (self.time >= 0) & (self.time < seconds)

    def sort(self) -> None:
        """Puts the ventricular beats in the order of their times, in place."""
        order = np.argsort(self.time, axis=1, kind="stable")
        for name in ("time", "kind", "shape", "parent"):
            setattr(self, name, np.take_along_axis(getattr(self, name), order, axis=1))

    def trim(self, end: float) -> None:
        """Sorts and drops the columns in which no record has a beat before `end` s, in place."""
        for name in ("time", "atrial"):
            times = getattr(self, name)
            setattr(self, name, np.where(times < end, times, 1e3 + np.arange(times.shape[1])))
        self.sort()
        for names in (("time", "kind", "shape", "parent"), ("atrial", "atrial_kind")):
            used = int((getattr(self, names[0]) < end).sum(axis=1).max(initial=0)) + 1
            for name in names:
                setattr(self, name, getattr(self, name)[:, :used])
        lost = (self.time >= end) | (self.parent >= self.atrial.shape[1])
        self.parent = np.where(lost, -1, self.parent)
