"""How the kit asks about two ECGs (templates 43-70), in words for one patient and for two.

The sentences are the kit's. A relation is what held before and holds now; each has a block for
"is {a} ...?" and, but for what is absent or normal in both, one for "what ...?". {one} and {two}
become "earlier" and "later" for ECGs of one patient, "first" and "second" for ECGs of two.

Usage:

    FINDINGS["new"].verify, FINDINGS["new"].query, ORDER["consecutive"]
"""

from __future__ import annotations

from typing import NamedTuple

ORDER = {
    "consecutive": {"one": "earlier", "two": "later"},
    "irrelevant": {"one": "first", "two": "second"},
}


class Relation(NamedTuple):
    """states: (before, now), 1 = there or abnormal. query: None where nothing is asked so."""

    states: tuple[int, int]
    verify: str
    query: str | None


# In the order of the published templates.
FINDINGS = {
    "gone": Relation((1, 0), """
        Is {a} on the {one} ECG but no longer on the {two}?
        Does the {two} recording lack {a} that the {one} shows?
        Against the {one} ECG, has {a} left the {two}?
        Would you say {a} has cleared in the {two} ECG against the {one}?
        Did {a} vanish between the {one} and the {two} ECG?
    """, """
        What does the {two} ECG lack that the {one} shows?
        Name what has left the {two} recording against the {one}.
        Which findings vanished between the {one} and the {two} ECG?
        List what has cleared in the {two} ECG against the {one}.
        Against the {one} ECG, what is missing from the {two}?
    """),
    "new": Relation((0, 1), """
        Is {a} on the {two} ECG but not yet on the {one}?
        Does the {two} recording show {a} that the {one} lacks?
        Against the {one} ECG, is {a} new in the {two}?
        Would you call {a} a fresh finding of the {two} ECG against the {one}?
        Has {a} appeared between the {one} and the {two} ECG?
    """, """
        What does the {two} ECG show that the {one} lacks?
        Name what is new in the {two} recording against the {one}.
        Which findings appeared between the {one} and the {two} ECG?
        List the fresh findings of the {two} ECG against the {one}.
        Against the {one} ECG, what has come in with the {two}?
    """),
    "kept": Relation((1, 1), """
        Do both the {one} and the {two} ECG show {a}?
        Is {a} of the {one} recording there in the {two} as well?
        Is {a} common to the {one} and the {two} ECG?
        Would you report {a} on the {two} ECG as on the {one}?
        Does {a} stand in both, the {one} and the {two}?
    """, """
        What do the {one} and the {two} ECG have in common?
        Name the findings of the {one} recording that the {two} shares.
        Which findings stand in both, the {one} and the {two} ECG?
        List what the {two} ECG repeats of the {one}.
        Compared with the {one} ECG, what is there in the {two} as well?
    """),
    "absent": Relation((0, 0), """
        Is {a} missing from both the {one} and the {two} ECG?
        Does the {two} recording lack {a} as the {one} did?
        Are both ECGs, the {one} and the {two}, free of {a}?
        Would you say there is no {a} on the {two} ECG, nor on the {one}?
        Does {a} stand in neither, the {one} nor the {two}?
    """, None),
}  # fmt: skip

MEASUREMENTS = {
    "normal now": Relation((1, 0), """
        Is the {a} normal on the {two} ECG but not on the {one}?
        Has the {a} come back to normal in the {two} recording against the {one}?
        Against the {one} ECG, did the {a} of the {two} enter its limits?
        Is an abnormal {a} of the {one} ECG in order on the {two}?
        Would you say the {a} normalised from the {one} to the {two} ECG?
    """, """
        Which measurements are normal on the {two} ECG but not on the {one}?
        Name the intervals that came back to normal in the {two} recording against the {one}.
        Against the {one} ECG, what entered its limits in the {two}?
        List each value out of limits on the {one} ECG that is in order on the {two}.
        Which intervals normalised from the {one} to the {two} ECG?
    """),
    "abnormal now": Relation((0, 1), """
        Is the {a} abnormal on the {two} ECG but not on the {one}?
        Has the {a} left its limits in the {two} recording against the {one}?
        Against the {one} ECG, did the {a} of the {two} go out of range?
        Is a normal {a} of the {one} ECG out of order on the {two}?
        Would you say the {a} turned abnormal from the {one} to the {two} ECG?
    """, """
        Which measurements are abnormal on the {two} ECG but not on the {one}?
        Name the intervals that left their limits in the {two} recording against the {one}.
        Against the {one} ECG, what went out of range in the {two}?
        List each value in order on the {one} ECG that is out of limits on the {two}.
        Which intervals turned abnormal from the {one} to the {two} ECG?
    """),
    "abnormal still": Relation((1, 1), """
        Is the {a} abnormal on both the {one} and the {two} ECG?
        Is the {a} out of limits in the {two} recording as in the {one}?
        Has the {a} stayed out of range from the {one} to the {two} ECG?
        Do both ECGs, the {one} and the {two}, show an abnormal {a}?
        Would you say the {a} of the {two} ECG is abnormal as on the {one}?
    """, """
        Which measurements are abnormal on both the {one} and the {two} ECG?
        Name the intervals out of limits in the {two} recording as in the {one}.
        What stayed out of range from the {one} to the {two} ECG?
        List each value that both ECGs, the {one} and the {two}, show out of limits.
        Which intervals of the {two} ECG are abnormal as on the {one}?
    """),
    "normal still": Relation((0, 0), """
        Is the {a} normal on both the {one} and the {two} ECG?
        Is the {a} within limits in the {two} recording as in the {one}?
        Has the {a} stayed in range from the {one} to the {two} ECG?
        Do both ECGs, the {one} and the {two}, show a normal {a}?
        Would you say the {a} of the {two} ECG is in order as on the {one}?
    """, None),
}  # fmt: skip
RELATIONS = {"scp_code": FINDINGS, "numeric_feature": MEASUREMENTS}
