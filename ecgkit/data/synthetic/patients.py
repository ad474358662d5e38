"""Who is in the simulated cohort: patients, visits, findings with likelihoods, folds, and the
table around them.

Statements are drawn one after the other for all ECGs at once: each has a share of the cohort to
reach (`prevalence`), log-odds by age, sex and what was drawn before it, and pairs that never go
together. Its base rate is then whatever gives the wanted share.

Usage:

    visits = draw_visits(n_ecgs=2400, rng=rng)  # Visits: table (N rows) + has/severity per code
    draw_visits(20_000, rng, prevalence="ptbxl")
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ecgkit.data.scp_table import scp_statements
from ecgkit.data.synthetic import prevalence as shares
from ecgkit.data.synthetic.prevalence import BARRED, CODES, COMPANY, GROUPS, NEEDS, PLACE

NO_P_WAVE = GROUPS["NO_P"]
MI = GROUPS["MI"]
_CROWDING = -0.25  # log-odds of one more statement for each there is: most have few, some many
# How often a statement is there again at the next visit; scars, pacemakers, accessory pathways
# always.
_LASTING = (*MI, "PACE", "WPW", "CLBBB", "CRBBB")
_AGAIN = (
    dict.fromkeys(CODES, 0.5)
    | dict.fromkeys((*GROUPS["BRANCH"], *GROUPS["SIZE"], *GROUPS["ATRIA"], "1AVB", "LPR"), 0.85)
    | dict.fromkeys((*GROUPS["INJ"], *GROUPS["ECTOPY"], "STACH", "STE_", "SVTAC", "PSVT"), 0.25)
    | {"NORM": 0.8, "AFIB": 0.7, "ANEUR": 0.9, "QWAVE": 0.8, "2AVB": 0.3}
    | dict.fromkeys(_LASTING, 1.0)
)
# PTB-XL's likelihoods; 0 = given without one, drawn like a certain one. The chances follow folds
# 1-4 of its first 400 recordings (conduction is nearly always certain, infarction often not), with
# fewer doubtful infarcts than there, since each of them counts as an infarct in the superclasses.
_LIKELIHOODS = np.array([100, 80, 50, 35, 15, 0])
_CHANCES = {
    "NORM": (0.80, 0.17, 0.03, 0, 0, 0),
    "MI": (0.50, 0.13, 0.12, 0.07, 0.08, 0.10),
    "HYP": (0.62, 0.08, 0.12, 0.07, 0.03, 0.08),
    "STTC": (0.72, 0.07, 0.08, 0.04, 0.02, 0.07),
    "CD": (0.84, 0.04, 0.05, 0.02, 0.01, 0.04),
    "NST_": (0.08, 0, 0.02, 0, 0, 0.90),  # PTB-XL's readers gave it almost always without
}
_SEVERITY = {
    100: (0.35, 1.0), 0: (0.35, 1.0), 80: (0.35, 0.8), 50: (0.12, 0.45), 35: (0.05, 0.35),
    15: (0.0, 0.25),
}  # fmt: skip
_KEEPS_LIKELIHOOD = 0.7  # of a statement that stays, at the next visit
# Infarcts by their age: stage (1 recent, 2 healing, 3 old, halves between) from so many days on.
STAGE_DAYS = ((0, 1.0), (10, 1.5), (21, 2.0), (60, 2.5), (120, 3.0))


@dataclass
class Visits:
    """N ECGs: `table` (patient, age, sex ...), `codes` one dict code -> likelihood per ECG,
    `severity` code -> (N,) 0..1. `table["mi_stage"]`: 0 without infarct, else 1, 1.5, 2, 2.5 or 3.
    """

    table: pd.DataFrame
    codes: list[dict[str, float]]
    severity: dict[str, np.ndarray]

    def has(self) -> dict[str, np.ndarray]:
        """code -> bool (N,), for every code that occurs."""
        found: dict[str, np.ndarray] = {}
        for i, codes in enumerate(self.codes):
            for code in codes:
                if code not in found:
                    found[code] = np.zeros(len(self.codes), bool)
                found[code][i] = True
        return dict(sorted(found.items()))


def draw_visits(n_ecgs: int, rng: np.random.Generator, prevalence: str = "learning") -> Visits:
    """Draws patients with one to three ECGs each (about one in five has more than one) until there
    are `n_ecgs`. `prevalence`: one of `prevalence.TABLES`.
    """
    per_patient = rng.choice([1, 2, 3], n_ecgs, p=[0.80, 0.14, 0.06])
    n_patients = int(np.searchsorted(np.cumsum(per_patient), n_ecgs)) + 1
    patient = np.repeat(np.arange(n_patients), per_patient[:n_patients])[:n_ecgs]
    visit = np.arange(n_ecgs) - np.searchsorted(patient, patient)
    table = _people(patient, visit, rng)
    has = _draw_findings(table, shares.share(prevalence), rng)
    likelihood, severity = _grade(has, table, rng)
    table["mi_stage"] = _stages(has, table, rng)
    table["strat_fold"] = _folds(has[visit == 0], rng)[patient]
    return Visits(table, _as_dicts(has, likelihood), severity)


# --- findings -------------------------------------------------------------------------------------


def _draw_findings(table: pd.DataFrame, share: dict[str, float], rng) -> np.ndarray:
    """(N, K) bool: statements CODES of each ECG; first visits first, the later ones follow them."""
    has = np.zeros((len(table), len(CODES)), dtype=bool)
    visit = table["visit"].to_numpy()
    age, male = (table["age"].to_numpy() - 60) / 10, (table["sex"] == 0).to_numpy()
    for rank in range(visit.max() + 1):
        rows = np.flatnonzero(visit == rank)
        before = has[rows - 1] if rank else np.zeros((len(rows), len(CODES)), dtype=bool)
        offset = np.outer(age[rows], shares.PER_DECADE) + np.outer(male[rows], shares.IN_MEN)
        has[rows] = _draw_rank(before, offset, share, rng)
    return has


def _draw_rank(before: np.ndarray, offset: np.ndarray, share: dict, rng) -> np.ndarray:
    """(n, K) bool. `before` (n, K): the same patients' last visit, `offset` (n, K): log-odds."""
    n = len(before)
    has = np.zeros_like(before)
    lasting = np.zeros_like(before)
    lasting[:, [PLACE[c] for c in _LASTING]] = before[:, [PLACE[c] for c in _LASTING]]
    for k, code in enumerate(CODES):
        may = ~((has | lasting)[:, BARRED[k]].any(axis=1))
        if code in NEEDS:
            may &= has[:, [PLACE[c] for c in NEEDS[code]]].any(axis=1)
        stays = before[:, k] & may & (rng.random(n) < _AGAIN[code])
        free = np.flatnonzero(may & ~before[:, k])
        there = has[free]
        crowd = there[:, 1:].sum(axis=1)  # NORM is no crowd
        odds = offset[free, k] + there @ COMPANY[:, k] + _CROWDING * crowd
        has[stays, k] = True
        has[free[_pick(_calibrate(odds, share[code] * n - stays.sum()), rng)], k] = True
    _fill(has, share, rng)
    return has


def _calibrate(odds: np.ndarray, wanted: float) -> np.ndarray:
    """(n,) chances with these log-odds up to a constant, and `wanted` as their sum (all, if more
    is wanted than there are).
    """
    if wanted <= 0 or not len(odds):
        return np.zeros(len(odds))
    weight = np.exp(odds - odds.max())
    low, high = -40.0, 40.0
    for _ in range(40):
        middle = (low + high) / 2
        scaled = np.exp(middle) * weight
        low, high = (middle, high) if (scaled / (1 + scaled)).sum() < wanted else (low, middle)
    scaled = np.exp(low) * weight
    return scaled / (1 + scaled)


def _pick(chance: np.ndarray, rng) -> np.ndarray:
    """Indices drawn with these chances; their number is the sum of the chances, up or down to a
    whole one (systematic sampling in random order), so that small cohorts miss nothing.
    """
    order = rng.permutation(len(chance))
    steps = np.floor(np.cumsum(chance[order]) + rng.random())
    return order[np.diff(steps, prepend=0) > 0]


def _fill(has: np.ndarray, share: dict, rng) -> None:
    """Gives an ECG that is not normal and yet has nothing one of the commoner diagnoses."""
    empty = np.flatnonzero(~has.any(axis=1))
    diagnostic = scp_statements()["diagnostic"].eq(1)
    weight = np.array([share[c] * diagnostic[c] for c in CODES])
    weight[[0, *(PLACE[c] for c in NEEDS)]] = 0
    has[empty, rng.choice(len(CODES), len(empty), p=weight / weight.sum())] = True


# --- likelihoods, severity, stages ----------------------------------------------------------------


def _grade(has: np.ndarray, table: pd.DataFrame, rng) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """PTB-XL's likelihoods (N, K), and how marked each finding is drawn.

    Diagnostic statements get 100, 80, 50, 35, 15 or 0, drawn weaker as they get less certain; form
    and rhythm statements 0 (PTB-XL's "likelihood not given"). A patient's finding keeps its place
    between mild and marked from visit to visit, and mostly its likelihood.
    """
    classes = scp_statements()["diagnostic_class"]
    patient, visit = (table[name].to_numpy() for name in ("patient", "visit"))
    likelihood = np.zeros(has.shape)
    severity = {}
    for k in np.flatnonzero(has.any(axis=0)):
        code = CODES[k]
        mix = _CHANCES.get(code, _CHANCES.get(classes[code]))
        if mix is not None:
            likelihood[:, k] = rng.choice(_LIKELIHOODS, len(has), p=mix)
            keeps = rng.random(len(has)) < _KEEPS_LIKELIHOOD
            for rank in range(1, visit.max() + 1):
                rows = np.flatnonzero((visit == rank) & keeps & has[:, k])
                rows = rows[has[rows - 1, k]]
                likelihood[rows, k] = likelihood[rows - 1, k]
        own = rng.random(patient[-1] + 1)[patient] + rng.normal(0, 0.08, len(has))
        low, high = np.zeros(len(has)), np.ones(len(has))
        for value, (least, most) in _SEVERITY.items():
            low[likelihood[:, k] == value], high[likelihood[:, k] == value] = least, most
        severity[code] = np.where(has[:, k], low + (high - low) * np.clip(own, 0, 1), 0)
    severity["SR"] = np.zeros(len(has))
    return likelihood, severity


def _stages(has: np.ndarray, table: pd.DataFrame, rng) -> np.ndarray:
    """(N,) 0, 1, 1.5, 2, 2.5, 3: how old the (oldest) infarct is; it ages between visits."""
    infarct = has[:, [PLACE[c] for c in MI]].any(axis=1)
    visit, day = table["visit"].to_numpy(), table["day"].to_numpy()
    fresh = rng.random(len(has)) < 0.5  # half are seen in their first weeks, as far as ECGs tell
    age = np.where(fresh, rng.exponential(25, len(has)), 120 + rng.exponential(1500, len(has)))
    for rank in range(1, visit.max() + 1):
        rows = np.flatnonzero((visit == rank) & infarct)
        rows = rows[infarct[rows - 1]]
        age[rows] = age[rows - 1] + day[rows] - day[rows - 1]
    days, stages = (np.array(column) for column in zip(*STAGE_DAYS))
    return np.where(infarct, stages[np.searchsorted(days, age, side="right") - 1], 0.0)


def _as_dicts(has: np.ndarray, likelihood: np.ndarray) -> list[dict[str, float]]:
    """PTB-XL's scp_codes: diagnoses, then form, then rhythm; SR where no other rhythm is."""
    order = [PLACE[code] for code in scp_statements().index if code in PLACE]
    order.sort(key=lambda k: CODES[k] != "NORM")
    codes: list[dict[str, float]] = [{} for _ in has]
    for k in order:
        for i in np.flatnonzero(has[:, k]).tolist():
            codes[i][CODES[k]] = float(likelihood[i, k])
    rhythm = has[:, [PLACE[c] for c in GROUPS["RHYTHM"]]].any(axis=1)
    for i in np.flatnonzero(~rhythm).tolist():
        codes[i]["SR"] = 0.0
    return codes


# --- people ---------------------------------------------------------------------------------------


def _people(patient: np.ndarray, visit: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """Age, sex, height, weight and visit date per ECG; a patient keeps sex and body and ages
    between visits. Ages as in PTB-XL: median 62, middle half 50 to 72.
    """
    n_patients = patient[-1] + 1
    sex = (rng.random(n_patients) < 0.48).astype(int)
    young = rng.random(n_patients) < 0.12
    age = np.where(young, rng.uniform(18, 42, n_patients), rng.normal(63.5, 13.5, n_patients))
    age = np.clip(np.rint(age), 18, 95)
    height = np.rint(rng.normal(np.where(sex == 0, 176, 163), 7))
    weight = np.rint(np.clip(rng.normal(25.5, 4, n_patients), 17, 42) * (height / 100) ** 2)
    height[rng.random(n_patients) < 0.68] = np.nan  # as many as PTB-XL lacks
    weight[rng.random(n_patients) < 0.57] = np.nan
    soon = rng.random(len(patient)) < 0.4  # the same stay in hospital, or years later
    gap = np.where(soon, rng.exponential(8, len(patient)), rng.exponential(600, len(patient)))
    gap = np.where(visit > 0, gap + 0.2, 0)
    start = rng.uniform(0, 365 * 11, n_patients)
    day = start[patient] + pd.Series(gap).groupby(patient).cumsum().to_numpy()
    grown = np.floor((day - start[patient]) / 365.25)
    return pd.DataFrame(
        {
            "patient": patient,
            "visit": visit,
            "age": np.minimum(age[patient] + grown, 95),
            "sex": sex[patient],
            "height": height[patient],
            "weight": weight[patient],
            "day": day,
        }
    )


def _folds(has: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n_patients,) folds 1-10, balanced by the rarest statements of the first ECG (n_patients, K):
    patients alike in them are dealt round the ten folds.
    """
    by_rarity = has[:, np.argsort(has.sum(axis=0), kind="stable")]
    order = np.lexsort(by_rarity.T[::-1])
    fold = np.empty(len(has), dtype=int)
    fold[order] = np.arange(len(has)) % 10 + 1
    return rng.permutation(np.arange(1, 11))[fold - 1]
