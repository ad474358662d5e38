"""What a PTB-XL-style table says about each ECG, as arrays a question can be drawn from.

Each fact has three states: known present, known absent, not known (never asked). Rules of the kit:
- a diagnosis is sure at a likelihood of 100, or of 0, which in PTB-XL means "not given"; between
  the two (15, 35, 50, 80) it is "not sure", as in ECG-QA. Statements of form and rhythm carry no
  likelihood and are present when listed;
- a diagnostic group is sure if one of its diagnoses is;
- "any finding" is any statement but a normal ECG and plain sinus rhythm; where only diagnoses that
  are not sure speak for it, it is not asked about;
- the axis code ARAD (beyond right) is ECG-QA's extreme axis; AXL, AXR and SAG are none of the four;
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
from ecgkit.data.qa_leads import ABSENT, PRESENT, UNKNOWN, UNSURE, form_leads, noise_leads

NOISE_COLUMNS = {
    "baseline drift": "baseline_drift", "burst noise": "burst_noise",
    "electrodes problems": "electrodes_problems", "static noise": "static_noise",
}  # fmt: skip
# PTB-XL's axis codes.
_AXIS = {
    "MID": "normal heart axis", "LAD": "left axis deviation", "ALAD": "left axis deviation",
    "RAD": "right axis deviation", "ARAD": "extreme axis deviation",
}  # fmt: skip
_STAGE = {"I": 0, "I-II": 0, "II": 2, "II-III": 2, "III": 1}  # positions in words.STAGES
_LIKELY = {*words.GROUP_OF, "NORM"}  # statements that carry a likelihood
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


@dataclass(frozen=True)
class Facts:
    """n ECGs. state: name -> (n,) int8 (PRESENT, ABSENT, UNSURE, UNKNOWN) for statements, groups,
    noises, extra beats and "any ..." of them. leads: noise, any noise, statement of form -> (n, 12)
    int8. axis, stage: (n,) int8 position in words.AXES, words.ALL_STAGES. ranges: measure -> (n,)
    int8 position in words.RANGES. -1 unknown. unlisted: kind of statement (diagnosis, form, rhythm)
    -> (n,) bool, whether the ECG has one that is no answer class.
    """

    state: dict[str, np.ndarray]
    leads: dict[str, np.ndarray]
    axis: np.ndarray
    stage: np.ndarray
    ranges: dict[str, np.ndarray]
    unlisted: dict[str, np.ndarray]

    def matrix(self, names) -> np.ndarray:
        """(n, len(names)) int8 states."""
        return np.stack([self.state[name] for name in names], axis=1)


def read_facts(table: pd.DataFrame, truth: pd.DataFrame | None = None) -> Facts:
    """Facts of `table` (PTB-XL columns, `scp_codes` as dicts) and of the simulator's `truth`."""
    codes = table["scp_codes"].tolist()
    state = _statements(codes)
    leads = form_leads(state, table, truth)
    for noise, column in NOISE_COLUMNS.items():
        state[noise], leads[noise] = noise_leads(_text(table, column))
    state[words.ANY_NOISE] = np.stack([state[n] for n in NOISE_COLUMNS]).max(axis=0)
    leads[words.ANY_NOISE] = _any_lead([leads[n] for n in NOISE_COLUMNS])
    state |= _extra_beats(_text(table, "extra_beats"), codes)
    axis = [_position(words.AXES, _AXIS.get(code.strip())) for code in _text(table, "heart_axis")]
    stage = _stages(_text(table, "infarction_stadium1"), state[words.CATEGORIES["MI"]])
    axis = np.array(axis, dtype=np.int8)
    return Facts(state, leads, axis, stage, _ranges(truth), _unlisted(codes))


def _text(table: pd.DataFrame, column: str) -> list[str]:
    if column not in table:
        return [""] * len(table)
    return [value if isinstance(value, str) else "" for value in table[column]]


def _position(names, name) -> int:
    return names.index(name) if name in names else -1


# --- statements -----------------------------------------------------------------------------------


def _statements(codes: list[dict]) -> dict[str, np.ndarray]:
    """Name -> (n,) state: all 71 statements, the four groups, "any ..." of a kind."""
    state = {name: np.zeros(len(codes), dtype=np.int8) for name in words.NAME_OF.values()}
    groups = {name: np.zeros(len(codes), dtype=np.int8) for name in words.CATEGORIES.values()}
    for row, listed in enumerate(codes):
        for code, likelihood in listed.items():
            value = PRESENT if code not in _LIKELY or likelihood in (0, 100) else UNSURE
            if code in words.NAME_OF:
                state[words.NAME_OF[code]][row] = value
            if code in words.GROUP_OF:
                column = groups[words.CATEGORIES[words.GROUP_OF[code]]]
                column[row] = value if column[row] != PRESENT else PRESENT
    return state | groups | _any_statement(state)


def _any_statement(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """UNSURE where only diagnoses that are not sure speak for it (not asked, but of diagnoses)."""
    kinds = {
        words.ANY_DIAGNOSIS: words.GROUP_OF,
        words.ANY_FORM: [*words.FORM, *words.UNLISTED_FORM],
        words.ANY_RHYTHM: [c for c in (*words.RHYTHM, *words.UNLISTED_RHYTHM) if c != "SR"],
    }
    found = {}
    for name, listed in kinds.items():
        some = np.stack([state[words.NAME_OF[code]] for code in listed])
        found[name] = _strongest(some)
    found[words.ANY_FINDING] = _strongest(np.stack(list(found.values())))
    return found


def _strongest(states: np.ndarray) -> np.ndarray:
    """(k, n) -> (n,) int8: PRESENT where one is, else UNSURE where one is, else ABSENT."""
    present, unsure = (states == PRESENT).any(axis=0), (states == UNSURE).any(axis=0)
    return np.select([present, unsure], [PRESENT, UNSURE], ABSENT).astype(np.int8)


def _unlisted(codes: list[dict]) -> dict[str, np.ndarray]:
    kinds = {
        "diagnosis": words.UNLISTED_DIAGNOSTIC, "form": words.UNLISTED_FORM,
        "rhythm": words.UNLISTED_RHYTHM,
    }  # fmt: skip
    return {
        kind: np.array([not names.keys().isdisjoint(listed) for listed in codes], dtype=bool)
        for kind, names in kinds.items()
    }


# --- signal quality, extra beats ------------------------------------------------------------------


def _any_lead(leads: list[np.ndarray]) -> np.ndarray:
    """[(n, 12)] -> (n, 12): PRESENT where one is, else UNKNOWN where one is, else ABSENT."""
    stacked = np.stack(leads)
    present, unknown = (stacked == PRESENT).any(axis=0), (stacked == UNKNOWN).any(axis=0)
    return np.select([present, unknown], [PRESENT, UNKNOWN], ABSENT).astype(np.int8)


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
    state[words.ANY_EXTRA] = np.where(hidden, UNKNOWN, noted).astype(np.int8)
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
