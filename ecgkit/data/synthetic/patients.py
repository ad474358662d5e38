"""Who is in the simulated cohort: patients, visits, findings with likelihoods, folds, and the
table around them.

Prevalences are chosen for learning, not for realism: about 30 % normal ECGs and 5-13 % for each
main finding.

Usage:
    visits = draw_visits(n_ecgs=2400, rng=rng)  # Visits: table (N rows) + has/severity per code
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ecgkit.data.scp_table import scp_statements

# One finding at most from each group; numbers are chances among ECGs that are not normal (the rest
# has none of it).
GROUPS = {
    "rhythm": {
        "AFIB": 0.14,
        "SBRAD": 0.12,
        "STACH": 0.12,
        "SARRH": 0.05,
        "AFLT": 0.03,
        "PACE": 0.03,
    },
    "conduction": {"CRBBB": 0.12, "CLBBB": 0.12, "LAFB": 0.12, "IRBBB": 0.06, "LPFB": 0.02},
    "infarction": {"IMI": 0.14, "AMI": 0.10, "ASMI": 0.11, "ILMI": 0.02, "ALMI": 0.02},
    "size": {"LVH": 0.15, "LVOLT": 0.09, "VCLVH": 0.03, "RVH": 0.03},
    "st": {
        "ISC_": 0.11,
        "NST_": 0.09,
        "STD_": 0.10,
        "NDT": 0.10,
        "INVT": 0.09,
        "STE_": 0.03,
        "LOWT": 0.03,
    },
    "ectopy": {"PVC": 0.12, "PAC": 0.10},
    "av": {"1AVB": 0.14},
    "qt": {"LNGQT": 0.11},
    "atrium": {"LAO/LAE": 0.04},
}
NORMAL_SHARE, MOST_FINDINGS = 0.30, 3
NO_P_WAVE = ("AFIB", "AFLT", "PACE")
MI = ("IMI", "AMI", "ASMI", "ILMI", "ALMI")
_WIDE_LEFT = (
    "CLBBB",
    "PACE",
)  # with these the textbook reads neither infarction nor hypertrophy nor ST-T
# Mean years a finding adds to a patient's age.
_OLDER = {
    "AFIB": 9,
    "CLBBB": 9,
    "CRBBB": 5,
    "IMI": 6,
    "AMI": 6,
    "ASMI": 6,
    "LVH": 4,
    "ISC_": 5,
    "1AVB": 6,
    "PVC": 3,
    "PACE": 12,
    "LAFB": 5,
    "STACH": -5,
    "SARRH": -14,
    "NORM": -9,
    "LVOLT": 2,
    "AFLT": 7,
}
_LIKELIHOODS, _CHANCES = np.array([100, 80, 50, 35, 15]), np.array([0.58, 0.15, 0.12, 0.08, 0.07])
_SEVERITY = {100: (0.35, 1.0), 80: (0.3, 0.8), 50: (0.15, 0.55), 35: (0.05, 0.4), 15: (0.0, 0.3)}


@dataclass
class Visits:
    """N ECGs: `table` (patient, age, sex ...), `codes` one dict code -> likelihood per ECG,
    `severity` code -> (N,) 0..1.
    """

    table: pd.DataFrame
    codes: list[dict[str, float]]
    severity: dict[str, np.ndarray]

    def has(self) -> dict[str, np.ndarray]:
        """code -> bool (N,), for every code that occurs."""
        names = sorted({code for codes in self.codes for code in codes})
        return {name: np.array([name in codes for codes in self.codes]) for name in names}


def draw_visits(n_ecgs: int, rng: np.random.Generator) -> Visits:
    """Draws patients with one to three ECGs each (about one in five has more than one) until there
    are `n_ecgs`.
    """
    per_patient = rng.choice([1, 2, 3], n_ecgs, p=[0.80, 0.14, 0.06])
    n_patients = int(np.searchsorted(np.cumsum(per_patient), n_ecgs)) + 1
    patient = np.repeat(np.arange(n_patients), per_patient[:n_patients])[:n_ecgs]
    visit = np.arange(n_ecgs) - np.searchsorted(patient, patient)
    findings: list[set[str]] = []
    for i in range(n_ecgs):
        findings.append(_draw_findings(rng) if visit[i] == 0 else _next_findings(findings[-1], rng))
    codes, severity = _grade(findings, rng)
    table = _people(patient, visit, findings, rng)
    return Visits(table, codes, severity)


def _draw_findings(rng: np.random.Generator) -> set[str]:
    """One ECG's findings: empty for a normal one, else one to three, at most one per group."""
    if rng.random() < NORMAL_SHARE:
        return {"SARRH"} if rng.random() < 0.06 else set()
    found: list[str] = []
    while not found:
        for group in GROUPS.values():
            pick = rng.random()
            for code, chance in group.items():
                pick -= chance
                if pick < 0:
                    found.append(code)
                    break
    rng.shuffle(found)
    return _compatible(found[:MOST_FINDINGS])


def _compatible(found: list[str]) -> set[str]:
    """Drops findings that another one hides: no PR without P waves, no infarct, size or ST-T
    reading in LBBB.
    """
    kept = set(found)
    if kept & set(NO_P_WAVE):
        kept -= {"1AVB", "LAO/LAE", "PAC"}
    if kept & set(_WIDE_LEFT):
        kept -= {*MI, *GROUPS["size"], *GROUPS["st"], "LAFB"}
    if "PACE" in kept:
        kept -= set(GROUPS["conduction"])
    if "RVH" in kept:
        kept -= {"LAFB", "CRBBB"}
    if kept & {"LAFB", "RVH", "LPFB"} and kept & {"IMI", "ILMI"}:
        kept -= {"LAFB", "RVH", "LPFB"}
    if "STACH" in kept:
        kept -= {"1AVB"}
    return kept


def _next_findings(before: set[str], rng: np.random.Generator) -> set[str]:
    """A later ECG of the same patient: most findings stay (scars always), some go, some come."""
    stays = {code for code in sorted(before) if code in MI or rng.random() < 0.65}
    new = _draw_findings(rng) if rng.random() < 0.45 else set()
    for group in GROUPS.values():
        if stays & group.keys():
            new -= group.keys()
    return _compatible(sorted(stays) + sorted(new)[: max(0, MOST_FINDINGS - len(stays))])


def _grade(
    findings: list[set[str]], rng: np.random.Generator
) -> tuple[list[dict[str, float]], dict[str, np.ndarray]]:
    """Findings -> PTB-XL's scp_codes with likelihoods, and how marked each finding is drawn.

    Diagnostic statements get 100, 80, 50, 35 or 15, drawn weaker as they get less certain; form
    and rhythm statements 0 (PTB-XL's "likelihood not given").
    """
    diagnostic = scp_statements()["diagnostic"].eq(1)
    codes, severity = [], {}
    for i, found in enumerate(findings):
        entry = {}
        for code in sorted(found):
            likelihood = int(rng.choice(_LIKELIHOODS, p=_CHANCES))
            low, high = _SEVERITY[likelihood if diagnostic[code] else 100]
            severity.setdefault(code, np.zeros(len(findings)))[i] = rng.uniform(low, high)
            entry[code] = float(likelihood) if diagnostic[code] else 0.0
        if not found - {"SBRAD", "SARRH"}:
            entry = {"NORM": float(rng.choice([100, 80, 50], p=[0.80, 0.17, 0.03]))} | entry
        codes.append(entry | _companions(found, rng))
    # Companions may stand where no patient of a small cohort drew the finding itself.
    for code in {code for entry in codes for code in entry} - severity.keys():
        severity[code] = np.zeros(len(findings))
    return codes, severity


def _companions(found: set[str], rng: np.random.Generator) -> dict[str, float]:
    """Statements that go with others, likelihood 0: SR without another rhythm, ABQRS and QWAVE,
    voltage, LPR.
    """
    extra = {}
    if found & set(MI):
        extra |= {"ABQRS": 0.0} if rng.random() < 0.3 else {}
        extra |= {"QWAVE": 0.0} if rng.random() < 0.3 else {}
    if "LVH" in found and rng.random() < 0.4:
        extra["VCLVH"] = 0.0
    if "1AVB" in found and rng.random() < 0.25:
        extra["LPR"] = 0.0
    if not found & GROUPS["rhythm"].keys():
        extra["SR"] = 0.0
    return extra


def _people(
    patient: np.ndarray, visit: np.ndarray, findings: list[set[str]], rng: np.random.Generator
) -> pd.DataFrame:
    """Age, sex, height, weight and visit date per ECG; a patient keeps sex and body and ages
    between visits.
    """
    n_patients = patient[-1] + 1
    first = np.flatnonzero(visit == 0)
    sex = rng.integers(0, 2, n_patients)
    shift = np.array([sum(_OLDER.get(c, 0) for c in (findings[i] or {"NORM"})) for i in first])
    age = np.clip(np.rint(rng.normal(57, 16, n_patients) + np.clip(shift, -14, 16)), 18, 95)
    height = np.rint(rng.normal(np.where(sex == 0, 176, 163), 7))
    weight = np.rint(np.clip(rng.normal(25.5, 4, n_patients), 17, 42) * (height / 100) ** 2)
    height[rng.random(n_patients) < 0.6] = (
        np.nan
    )  # PTB-XL lacks most heights and half of the weights
    weight[rng.random(n_patients) < 0.5] = np.nan
    gap = np.where(visit > 0, rng.exponential(500, len(patient)) + 1, 0)
    start = rng.uniform(0, 365 * 11, n_patients)
    day = start[patient] + pd.Series(gap).groupby(patient).cumsum().to_numpy()
    grown = np.floor((day - start[patient]) / 365.25)
    fold = _folds(n_patients, [frozenset(findings[i]) for i in first], rng)
    return pd.DataFrame(
        {
            "patient": patient,
            "visit": visit,
            "age": np.minimum(age[patient] + grown, 95),
            "sex": sex[patient],
            "height": height[patient],
            "weight": weight[patient],
            "day": day,
            "strat_fold": fold[patient],
        }
    )


def _folds(n_patients: int, found: list[frozenset], rng: np.random.Generator) -> np.ndarray:
    """Folds 1-10 by patient, balanced: patients with alike first findings are dealt round the ten
    folds.
    """
    order = sorted(range(n_patients), key=lambda p: (sorted(found[p]), p))
    fold = np.empty(n_patients, dtype=int)
    fold[order] = np.arange(n_patients) % 10 + 1
    return rng.permutation(np.arange(1, 11))[fold - 1]
