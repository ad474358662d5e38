"""In which leads a finding is: noise from PTB-XL's notes, statements of form from report or truth.

The simulator's truth measures every lead, so a listed statement is placed by its usual criterion
(`CRITERIA`). Without truth, leads are those the report's sentence about it names ("st segments are
depressed in i, avl, v5,6"). A statement of voltage is placed in the six limb or six chest leads.

Usage:

    named_leads(" , I-AVF,")                              # [0, 1, 2, 3, 4, 5]
    leads = form_leads(state, table, truth)               # name -> (n, 12) int8
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from ecgkit.data import qa_vocabulary as words
from ecgkit.types import LEADS

PRESENT, ABSENT, UNSURE, UNKNOWN = 1, 0, -1, -2
_LEAD = {name.upper(): i for i, name in enumerate(LEADS)}
_NAME = r"(?<![A-Z])(AVR|AVL|AVF|V[1-6]|III|II|I)(?![A-Z0-9])"
_TOKEN = re.compile(rf"{_NAME}(?:\s*-\s*{_NAME})?")
_LIMB, _CHEST = (list(leads) for leads in words.LEAD_GROUPS.values())
_I, _III, _AVR, _AVL, _V1, _V5, _V6 = (LEADS.index(n) for n in "I III aVR aVL V1 V5 V6".split())
_V2_V3 = [LEADS.index(n) for n in ("V2", "V3")]
# A T wave upside down, or a Q, is nothing to remark there.
_ORDINARY = [_III, _AVR, _V1]
SIZES = ("st", "t", "r", "s", "q", "qd")  # mV, of the Q also ms; s and q with any sign


def named_leads(text: str) -> list[int]:
    """Positions 0..11 of the leads a PTB-XL noise note names, as ` , I-AVF,` `alles` `II,AVF`."""
    if "alles" in text.lower():
        return list(range(len(LEADS)))
    found = set()
    for first, last in _TOKEN.findall(text.upper()):
        start = _LEAD[first]
        found.update(range(start, (_LEAD[last] if last else start) + 1))
    return sorted(found)


def noise_leads(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Notes -> (n,) whether noise is noted, (n, 12) where (UNKNOWN if a note names no lead)."""
    noted = np.array([bool(t.strip(" ,")) for t in texts], dtype=np.int8)
    leads = np.zeros((len(texts), len(LEADS)), dtype=np.int8)
    for row in np.flatnonzero(noted):
        where = named_leads(texts[row])
        leads[row, where] = PRESENT
        if not where:
            leads[row] = UNKNOWN
    return noted, leads


def form_leads(state: dict, table: pd.DataFrame, truth: pd.DataFrame | None) -> dict:
    """Statement of form -> (n, 12) int8 PRESENT, ABSENT, UNKNOWN.

    An ECG without the statement has it in no lead, but in a lead that meets its criterion all the
    same it is UNKNOWN; one with it, but in no lead that can be told, is UNKNOWN in all.
    """
    measured = _measured(truth)
    if measured is None:
        reports = table["report"].tolist() if "report" in table else [""] * len(table)
    found = {}
    for name in words.FORMS_WITH_LEADS:
        listed = state[name]
        if measured is None:
            seen = _from_reports(name, reports, listed == PRESENT)
        else:
            seen = CRITERIA[name](measured)
        leads = np.where((listed == PRESENT)[:, None], seen, np.where(seen, UNKNOWN, ABSENT))
        lost = (listed == PRESENT) & ~seen.any(axis=1) | (listed < 0)
        found[name] = np.where(lost[:, None], UNKNOWN, leads).astype(np.int8)
    return found


# --- by measurement -------------------------------------------------------------------------------


def _measured(truth: pd.DataFrame | None) -> dict[str, np.ndarray] | None:
    """Size -> (n, 12), NaN as 0; None where the truth does not measure single leads."""
    if truth is None:
        return None
    columns = {name: [f"{name}_{lead}" for lead in LEADS] for name in SIZES}
    if not all(column in truth for names in columns.values() for column in names):
        return None
    sizes = {name: np.nan_to_num(truth[names].to_numpy(float)) for name, names in columns.items()}
    return sizes | {"s": np.abs(sizes["s"]), "q": np.abs(sizes["q"])}


def _nowhere_ordinary(seen: np.ndarray) -> np.ndarray:
    seen = seen.copy()
    seen[:, _ORDINARY] = False
    return seen


def _depressed(m):
    """ST 0.05 mV or more below the baseline (Fourth Universal Definition of MI)."""
    return m["st"] <= -0.05


def _elevated(m):
    """ST 0.1 mV or more above the baseline, 0.2 mV in V2 and V3 (same definition, in men)."""
    limit = np.full(len(LEADS), 0.1)
    limit[_V2_V3] = 0.2
    return m["st"] >= limit


def _inverted_t(m):
    """T at least 0.1 mV upside down (Minnesota code 5-2)."""
    return _nowhere_ordinary(m["t"] <= -0.1)


def _low_t(m):
    """T below 0.1 mV either way under an R of 0.5 mV or more."""
    return _nowhere_ordinary((np.abs(m["t"]) < 0.1) & (m["r"] >= 0.5))


def _changed_t(m):
    """T inverted or below a tenth of R (Minnesota codes 5-2 to 5-4, R of 0.5 mV or more)."""
    flat = (m["t"] < 0.1 * m["r"]) & (m["r"] >= 0.5)
    return _nowhere_ordinary(flat | (m["t"] <= -0.1))


def _q_wave(m):
    """Q of 30 ms and 0.1 mV or more (Fourth Universal Definition of MI), or a QS."""
    deep = (m["qd"] >= 30) & (m["q"] >= 0.1)
    return _nowhere_ordinary(deep | ((m["r"] < 0.025) & (m["s"] >= 0.1)))


def _in_groups(limb: np.ndarray, chest: np.ndarray) -> np.ndarray:
    """(n,), (n,) bool -> (n, 12)."""
    return np.stack([limb] * len(_LIMB) + [chest] * len(_CHEST), axis=1)


def _low_voltage(m):
    """QRS from peak to peak below 0.5 mV in all limb leads, 1.0 mV in all chest leads."""
    height = m["r"] + np.maximum(m["s"], m["q"])
    return _in_groups(height[:, _LIMB].max(1) < 0.5, height[:, _CHEST].max(1) < 1.0)


def _high_voltage(m):
    """QRS from peak to peak of 2.0 mV in some limb lead, 3.0 mV in some chest lead."""
    height = m["r"] + np.maximum(m["s"], m["q"])
    return _in_groups(height[:, _LIMB].max(1) >= 2.0, height[:, _CHEST].max(1) >= 3.0)


def _lvh_voltage(m):
    """Chest: S V1 + R V5 or V6 of 3.5 mV (Sokolow-Lyon); limb: R aVL 1.1 mV or R I + S III 2.5."""
    chest = m["s"][:, _V1] + m["r"][:, [_V5, _V6]].max(1) >= 3.5
    limb = (m["r"][:, _AVL] >= 1.1) | (m["r"][:, _I] + m["s"][:, _III] >= 2.5)
    return _in_groups(limb, chest)


_BY_CODE = {
    "STD_": _depressed, "STE_": _elevated, "DIG": _depressed,
    "NST_": lambda m: _depressed(m) | _elevated(m),
    "INVT": _inverted_t, "LOWT": _low_t, "NT_": _changed_t, "TAB_": _changed_t, "NDT": _changed_t,
    "QWAVE": _q_wave, "LVOLT": _low_voltage, "HVOLT": _high_voltage, "VCLVH": _lvh_voltage,
}  # fmt: skip
_NAMES = words.FORM | words.DIAGNOSTIC
# Statement -> what its leads measure, from sizes (n, 12) to (n, 12) bool.
CRITERIA = {_NAMES[code]: criterion for code, criterion in _BY_CODE.items()}


# --- by report ------------------------------------------------------------------------------------

# What a sentence about the statement holds, in PTB-XL's English and German.
_SAID = {_NAMES[code]: re.compile(pattern) for code, pattern in {
    "STD_": r"\bst\b.*(depress|senk)", "STE_": r"\bst\b.*(elevat|heb|hob)", "NST_": r"\bst\b",
    "DIG": r"\bst\b.*(depress|senk)", "INVT": r"invert|t.?(wellen)?.?neg", "QWAVE": r"\bqs?\b",
    "LOWT": r"\bt\b.*(low|flat|flach)", "NT_": r"\bt\b", "TAB_": r"\bt\b", "NDT": r"\bt\b",
    "LVOLT": r"low.*voltage|nieder", "HVOLT": r"high|hoch", "VCLVH": r"voltages? .*high|hoch",
}.items()}  # fmt: skip
_SERIES = re.compile(r"\bv([1-6])((?:\s*,\s*[1-6]\b)+)")
_GROUP_WORDS = (
    (re.compile(r"limb|extremit|periph"), _LIMB), (re.compile(r"chest|precord|brustwand"), _CHEST),
)  # fmt: skip


def _from_reports(name: str, reports: list, listed: np.ndarray) -> np.ndarray:
    """(n, 12) bool: leads the reports of the ECGs `listed` name in sentences about `name`."""
    seen = np.zeros((len(reports), len(LEADS)), dtype=bool)
    for row in np.flatnonzero(listed):
        for sentence in re.split(r"\.|;| and (?=inverted)", str(reports[row]).lower()):
            if _SAID[name].search(sentence):
                seen[row, _spoken_leads(sentence)] = True
    if name in words.BY_GROUP:
        return _in_groups(seen[:, _LIMB].all(axis=1), seen[:, _CHEST].all(axis=1))
    return seen


def _spoken_leads(sentence: str) -> list[int]:
    """Leads a sentence names after "in" ("v5,6", "v4-6" as said), and "limb leads" as six."""
    spelt = re.split(r"\bin\b", sentence, maxsplit=1)[-1] if " in " in sentence else ""
    spelt = _SERIES.sub(lambda m: "v" + m[1] + re.sub(r"\s*,\s*", ",v", m[2]), spelt)
    spelt = re.sub(r"\bv([1-6])\s*-\s*([1-6])\b", r"v\1-v\2", spelt)
    groups = {i for pattern, leads in _GROUP_WORDS if pattern.search(sentence) for i in leads}
    return sorted(groups.union(named_leads(spelt)))
