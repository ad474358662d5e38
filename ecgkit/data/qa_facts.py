"""What a PTB-XL-style table says about each ECG, as arrays a question can be drawn from.

Each fact has three states: known present, known absent, not known (never asked). Rules of the kit:
- a diagnostic code with a likelihood between 0 and 50 is "not sure"; 0 means "not given" and counts
  as present; codes of form and rhythm carry no likelihood and are present when listed;
- a measurement within 2 % of a limit of its normal range is not asked about.

Usage:
    facts = read_facts(cohort.table, cohort.truth)
    facts.state["atrial fibrillation"]        # (n,) int8: 1 present, 0 absent, -1 not sure
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ecgkit.data import qa_vocabulary as words
from ecgkit.types import LEADS

PRESENT, ABSENT, UNSURE, UNKNOWN = 1, 0, -1, -2
NOISE_COLUMNS = {
    "baseline drift": "baseline_drift", "burst noise": "burst_noise",
    "electrodes problems": "electrodes_problems", "static noise": "static_noise",
}  # fmt: skip
# PTB-XL's axis codes; AXL, AXR and SAG name positions that are none of the four answers.
_AXIS = {
    "MID": "normal heart axis", "LAD": "left axis deviation", "ALAD": "left axis deviation",
    "RAD": "right axis deviation", "ARAD": "right axis deviation",
}  # fmt: skip
_STAGE = {"I": 0, "I-II": 0, "II": 2, "II-III": 2, "III": 1}  # positions in words.STAGES
_ECTOPIC = {"PVC", "PAC", "BIGU", "TRIGU", "PRC(S)", "SVARR"}
# Column of truth.csv in ms and the limits of normal in an adult at rest.
LIMITS_MS = {
    "p duration": ("p_ms", 60, 120), "pr interval": ("pr_ms", 120, 200),
    "qrs duration": ("qrs_ms", 60, 120), "qt corrected": ("qtc_ms", 350, 450),
    "qt interval": ("qt_ms", 350, 440), "rr interval": ("rr_ms", 600, 1000),
}  # fmt: skip
_MARGIN = 0.02
_RANGE_OF = {code: words.RANGES.index(f"{side} the normal range") for code, side in
             ((1, "above"), (-1, "below"), (0, "within"))}  # fmt: skip
_LEAD = {name.upper(): i for i, name in enumerate(LEADS)}
_NAME = r"(?<![A-Z])(AVR|AVL|AVF|V[1-6]|III|II|I)(?![A-Z0-9])"
_TOKEN = re.compile(rf"{_NAME}(?:\s*-\s*{_NAME})?")


@dataclass(frozen=True)
class Facts:
    """n ECGs. state: name -> (n,) int8 (PRESENT, ABSENT, UNSURE, UNKNOWN) for statements, groups,
    noises, extra beats. noise_leads: noise -> (n, 12) int8. axis, stage: (n,) int8 position in
    words.AXES, words.ALL_STAGES. ranges: measure -> (n,) int8 position in words.RANGES. -1 unknown.
    """

    state: dict[str, np.ndarray]
    noise_leads: dict[str, np.ndarray]
    axis: np.ndarray
    stage: np.ndarray
    ranges: dict[str, np.ndarray]

    def matrix(self, names) -> np.ndarray:
        """(n, len(names)) int8 states."""
        return np.stack([self.state[name] for name in names], axis=1)


def read_facts(table: pd.DataFrame, truth: pd.DataFrame | None = None) -> Facts:
    """Facts of `table` (PTB-XL columns, `scp_codes` as dicts) and of the simulator's `truth`."""
    codes = table["scp_codes"].tolist()
    state = _statements(codes)
    noise_leads = {}
    for noise, column in NOISE_COLUMNS.items():
        state[noise], noise_leads[noise] = _noise(_text(table, column))
    state["any noise"] = np.stack([state[n] for n in NOISE_COLUMNS]).max(axis=0)
    state |= _extra_beats(_text(table, "extra_beats"), codes)
    axis = [_position(words.AXES, _AXIS.get(code.strip())) for code in _text(table, "heart_axis")]
    stage = _stages(_text(table, "infarction_stadium1"), state[words.CATEGORIES["MI"]])
    return Facts(state, noise_leads, np.array(axis, dtype=np.int8), stage, _ranges(truth))


def _text(table: pd.DataFrame, column: str) -> list[str]:
    if column not in table:
        return [""] * len(table)
    return [value if isinstance(value, str) else "" for value in table[column]]


def _position(names, name) -> int:
    return names.index(name) if name in names else -1


# --- statements -----------------------------------------------------------------------------------


def _statements(codes: list[dict]) -> dict[str, np.ndarray]:
    """Answer class -> (n,) state, for codes that have a class, the four groups and a normal ECG."""
    names = {**words.DIAGNOSTIC, **words.FORM, **words.RHYTHM, "NORM": words.NORMAL}
    state = {name: np.zeros(len(codes), dtype=np.int8) for name in names.values()}
    groups = {name: np.zeros(len(codes), dtype=np.int8) for name in words.CATEGORIES.values()}
    for row, listed in enumerate(codes):
        for code, likelihood in listed.items():
            unsure = (code in words.GROUP_OF or code == "NORM") and 0 < likelihood < 50
            value = UNSURE if unsure else PRESENT
            if code in names:
                state[names[code]][row] = value
            if code in words.GROUP_OF:
                column = groups[words.CATEGORIES[words.GROUP_OF[code]]]
                column[row] = value if column[row] != PRESENT else PRESENT
    normal = state[words.NORMAL]
    abnormal = np.where(normal == UNSURE, UNKNOWN, normal == ABSENT)
    state["any abnormal finding"] = abnormal.astype(np.int8)
    return state | groups


# --- signal quality, extra beats ------------------------------------------------------------------


def named_leads(text: str) -> list[int]:
    """Positions 0..11 of the leads a PTB-XL noise note names, as ` , I-AVF,` `alles` `II,AVF`."""
    if "alles" in text.lower():
        return list(range(len(LEADS)))
    found = set()
    for first, last in _TOKEN.findall(text.upper()):
        start = _LEAD[first]
        found.update(range(start, (_LEAD[last] if last else start) + 1))
    return sorted(found)


def _noise(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Notes -> (n,) whether noise is noted, (n, 12) where (UNKNOWN if a note names no lead)."""
    noted = np.array([bool(t.strip(" ,")) for t in texts], dtype=np.int8)
    leads = np.zeros((len(texts), len(LEADS)), dtype=np.int8)
    for row in np.flatnonzero(noted):
        where = named_leads(texts[row])
        leads[row, where] = PRESENT
        if not where:
            leads[row] = UNKNOWN
    return noted, leads


def _extra_beats(texts: list[str], codes: list[dict]) -> dict[str, np.ndarray]:
    """PTB-XL notes extra beats as `VES`, `SVES`, `ES`, with or without a count.

    The note is often missing where a statement tells of ectopic beats: those ECGs are not asked.
    """
    kinds = dict(zip(words.EXTRA_BEATS, (r"(?<![A-Z])ES", "SVES", r"(?<![A-Z])VES")))
    notes = [text.upper() for text in texts]
    hidden = np.array([not n and bool(_ECTOPIC & set(c)) for n, c in zip(notes, codes)])
    state = {}
    for name, pattern in kinds.items():
        seen = np.array([bool(re.search(pattern, n)) for n in notes])
        state[name] = np.where(hidden, UNKNOWN, seen).astype(np.int8)
    noted = np.array([bool(n.strip()) for n in notes])
    state["any extra beat"] = np.where(hidden, UNKNOWN, noted).astype(np.int8)
    return state


# --- stage, measurements --------------------------------------------------------------------------


def _stages(texts: list[str], infarction: np.ndarray) -> np.ndarray:
    """(n,) int8 position in words.ALL_STAGES; -1 where an infarction is suspected and undated."""
    none, unknown = (words.ALL_STAGES.index(s) for s in (words.NO_STAGE, words.UNKNOWN_STAGE))
    noted = [text.replace("Stadium", "").strip() for text in texts]
    dated = np.array([_STAGE.get(n, unknown if n else -1) for n in noted], dtype=np.int8)
    undated = np.select([infarction == ABSENT, infarction == PRESENT], [none, unknown], -1)
    return np.where(dated >= 0, dated, undated).astype(np.int8)


def _ranges(truth: pd.DataFrame | None) -> dict[str, np.ndarray]:
    """measure -> (n,) int8 position in words.RANGES, -1 if unknown or near a limit."""
    found = {}
    for name, (column, low, high) in LIMITS_MS.items():
        if truth is None or column not in truth:
            continue
        ms = truth[column].to_numpy(dtype=float)
        near = np.isnan(ms)
        for limit in (low, high):
            near |= np.abs(ms / limit - 1) < _MARGIN
        side = np.where(ms > high, _RANGE_OF[1], np.where(ms < low, _RANGE_OF[-1], _RANGE_OF[0]))
        found[name] = np.where(near, -1, side).astype(np.int8)
    return found
