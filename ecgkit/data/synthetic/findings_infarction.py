"""SCP findings of infarction and its stages: one function per code, each with its criterion.

Each takes (hearts, rows (n,) int, u (n,) severity 0 mild .. 1 marked, rng) and changes those rows
of the hearts in place; `findings` holds the table of all codes and their order.

The dead wall's early activation is missing: its pattern is added to the wave X (Q, QS) and taken
from the free walls' R, as much as it takes until the criterion is met, as measured on the QRS with
all that was drawn before. Criteria: Fourth Universal Definition of Myocardial Infarction 2018
(Thygesen et al.), tables 2 and 3; stages: Wagner et al. 2009 (AHA/ACCF/HRS part VI).

The stage is the patient's: where `hearts.mi_stage` already holds 1-3, it is kept.
"""

from __future__ import annotations

import numpy as np

from ecgkit.data.synthetic import regions, scars
from ecgkit.data.synthetic.hearts import R1, R2, Hearts, L, S, X
from ecgkit.data.synthetic.regions import READ_IN, draw_pattern
from ecgkit.data.synthetic.shaping import LEAD, qrs_beat, spread

ACUTE, HEALING, OLD = 1, 2, 3
_STAGE_SHARES = (0.12, 0.23, 0.65)  # what PTB-XL's stadium columns hold, roughly
# Where a Q counts: two of three limb leads or of the left chest; one of V2, V3.
_LIMB_GROUPS = [[LEAD[lead] for lead in g.split()] for g in ("II III aVF", "I aVL V6", "V4 V5 V6")]
_FRONTAL = ("anterior", "anteroseptal", "anterolateral")
_FRONT = [LEAD["V2"], LEAD["V3"]]


# --- stages ---------------------------------------------------------------------------------------


def _stage(h: Hearts, rows, rng) -> np.ndarray:
    """(n,) the stage of each infarct: the patient's if known, else drawn; written to the hearts."""
    drawn = rng.choice([ACUTE, HEALING, OLD], len(rows), p=_STAGE_SHARES)
    stage = np.where(h.mi_stage[rows] > 0, h.mi_stage[rows], drawn)
    h.mi_stage[rows] = stage
    return stage


def _st_and_t(h: Hearts, rows, u, loss, region: str, stage, rng) -> None:
    """ST and T of the region by stage; between two stages both are drawn, each half."""
    for of, draw in ((ACUTE, _acute), (HEALING, _healing), (OLD, _old)):
        near = 1 - np.abs(stage - of)
        at = np.flatnonzero(near > 0)
        if len(at):
            draw(h, rows[at], (u * np.sqrt(near.clip(0)))[at], loss[at], region, rng)


def _acute(h: Hearts, rows, u, loss, region, rng) -> None:
    """I: ST up by 0.1 mV (V2-V3: 0.2 mV) or more in two neighbouring leads, down in the opposite
    ones; T tall first, its end turning down later.
    """
    n = len(rows)
    regions.level_st(h, rows, rng, slope=-0.15)
    criterion, most = (0.22, 0.50) if region in _FRONTAL else (0.10, 0.40)
    regions.raise_st(h, rows, loss, region, regions.grown(u, criterion, most, region, rng))
    turned = rng.random(n) < 0.35
    h.local[rows, regions.T] += np.where(turned, 0.35, -0.30)[:, None] * (0.4 + u)[:, None] * loss


def _healing(h: Hearts, rows, u, loss, region, rng) -> None:
    """II: ST back or nearly so, T symmetrically inverted by 0.1 mV or more."""
    n = len(rows)
    regions.level_st(h, rows, rng)
    h.local[rows, regions.J] -= (0.12 * u * rng.random(n) ** 2)[:, None] * loss
    regions.weaken_t(h, rows, rng.uniform(0.55, 0.9, n))
    regions.lower_t(h, rows, loss, region, regions.grown(u, 0.10, 0.55, region, rng))


def _old(h: Hearts, rows, u, loss, region, rng) -> None:
    """III: ST level, T upright again, often low, sometimes flat or slightly inverted."""
    n = len(rows)
    share = rng.choice([0.0, 0.06, 0.16, 0.30], n, p=[0.35, 0.30, 0.22, 0.13])
    h.local[rows, regions.T] += (share * (0.6 + 0.8 * u))[:, None] * loss
    regions.weaken_t(h, rows, rng.uniform(0.65, 1.0, n))


# --- codes ----------------------------------------------------------------------------------------


def _limb_q_size(u, rng) -> tuple[np.ndarray, np.ndarray]:
    """Width (n,) ms and depth (n,) mV of a Q that is pathologic from u = 0.35 on."""
    n = len(u)
    width = 23 + 25 * u + 4 * u * rng.random(n)
    return width, (0.04 + 0.22 * u + 0.1 * u**2) * spread(rng, n, 0.15) + 0.03 * u


def _infarct(h: Hearts, rows, u, region: str, rng, count: int = 2, leads=None) -> None:
    """Q of 30 ms and 0.1 mV in `count` leads of the region, R smaller, ST and T by stage."""
    stage = _stage(h, rows, rng)
    loss = draw_pattern(region, len(rows), rng)
    width, depth = _limb_q_size(u, rng)
    scars.place_x(h, rows, rng, width)
    r_loss = rng.uniform(0.0, 0.30, len(rows)) + 0.35 * u * rng.random(len(rows))
    reached = scars.pathologic_q(leads or READ_IN[region], width, depth, count)
    scars.draw_q(h, rows, loss, r_loss, reached)
    _st_and_t(h, rows, u, loss, region, stage, rng)


def inferior_infarction(h: Hearts, rows, u, rng):
    """IMI: Q >= 30 ms and >= 0.1 mV, or QS, in two of II, III, aVF (Universal Definition 2018).

    Deepest in III, often small in II; by stage ST up there and down in I, aVL, or T inverted.
    """
    _infarct(h, rows, u, "inferior", rng)


def lateral_infarction(h: Hearts, rows, u, rng):
    """LMI: Q >= 30 ms and >= 0.1 mV, or QS, in two of I, aVL, V5, V6 (Universal Definition 2018).
    In a third of the patients the high lateral wall alone (I, aVL).
    """
    high = rng.random(len(rows)) < 0.33
    for region, at in (("high lateral", high), ("lateral", ~high)):
        if at.any():
            _infarct(h, rows[at], u[at], region, rng)


def inferolateral_infarction(h: Hearts, rows, u, rng):
    """ILMI: Q >= 30 ms and >= 0.1 mV in two of II, III, aVF and in one of V5, V6."""
    _infarct(h, rows, u, "inferior", rng)
    _spread_to(h, rows, u, "lateral", [LEAD["V5"], LEAD["V6"]], rng)


def _spread_to(h: Hearts, rows, u, region: str, leads, rng, count: int = 1) -> None:
    """Lets an infarct reach a second region: its Q, and a T that goes the way of the stage."""
    loss = draw_pattern(region, len(rows), rng)
    loss[:, :2] = 0  # the limb leads belong to the first region
    width, depth = _limb_q_size(u, rng)
    scars.draw_q(
        h,
        rows,
        loss,
        rng.uniform(0.1, 0.5, len(rows)),
        scars.pathologic_q(leads, width, depth, count),
    )
    _st_and_t(h, rows, 0.7 * u, loss, region, h.mi_stage[rows], rng)


def _front_infarct(h: Hearts, rows, u, region: str, rng) -> None:
    """A scar of the front wall, with ST and T of its stage."""
    stage = _stage(h, rows, rng)
    loss = draw_pattern(region, len(rows), rng)
    scars.front_scar(h, rows, u, loss, rng)
    _st_and_t(h, rows, u, loss, region, stage, rng)


def anteroseptal_infarction(h: Hearts, rows, u, rng):
    """ASMI: Q > 20 ms or QS in V2 or V3, or the septal r nearly lost (R <= 0.3 mV in V3, less in
    V1-V2); Universal Definition 2018; Zema & Kligfield 1982.
    """
    _front_infarct(h, rows, u, "anteroseptal", rng)


def anterior_infarction(h: Hearts, rows, u, rng):
    """AMI: Q > 20 ms or QS in V2 or V3 (V4), or R <= 0.3 mV in V3; as ASMI, but V3-V4 as well."""
    _front_infarct(h, rows, u, "anterior", rng)


def anterolateral_infarction(h: Hearts, rows, u, rng):
    """ALMI: Q >= 30 ms and >= 0.1 mV in two of V4-V6, and Q or small R in I, aVL, V3."""
    _infarct(h, rows, u, "anterolateral", rng, leads=[LEAD[name] for name in ("V4", "V5", "V6")])


def posterior_infarction(h: Hearts, rows, u, rng):
    """PMI: R >= 40 ms with R/S >= 1 in V1 or V2, T upright there (Universal Definition 2018).

    The back wall's activation is missing late in the QRS; while recent ST is down in V1-V3.
    """
    stage = _stage(h, rows, rng)
    _back_wall(h, rows, u, rng)
    _back_st(h, rows, u, stage, rng)


def _back_wall(h: Hearts, rows, u, rng) -> None:
    """Turns the late forces forward until R/S in V2 is 0.7 + 0.9 u and R 30-46 ms wide."""
    n = len(rows)
    front = draw_pattern("posterior", n, rng)
    some = h.amplitudes()[rows]
    hit = np.maximum(front, 0).clip(0, 1)
    lift = {R1: 0.10 * front, R2: 0.70 * front}
    lift |= {k: -hit * np.minimum(some[:, k], 0) for k in (S, L)}
    base, unit = qrs_beat(h, rows), scars.alone(h, rows, lift)
    goal, width = (0.95 + 0.9 * u) * spread(rng, n, 0.06), 30 + 36 * np.minimum(u, 0.5)
    reach = np.stack([_tall_r(base + s * unit, goal, width) for s in scars.STEPS], axis=1)
    step = scars.STEPS[scars.first_step(reach)][:, None]
    for k, amplitude in lift.items():
        h.local[rows, k] += step * amplitude


def _tall_r(beat: np.ndarray, goal, width_ms) -> np.ndarray:
    """(n,) how far V2 is on the way to R/S = goal and to an R of that width; 1 is there."""
    v2 = beat[:, LEAD["V2"]]
    ratio = v2.max(axis=1) / np.maximum(-v2.min(axis=1), 0.02) / goal
    return np.minimum(ratio, 2.0 * (v2 > 0.025).sum(axis=1) / width_ms)


def _back_st(h: Hearts, rows, u, stage, rng) -> None:
    """ST down in V1-V3 while recent; T upright and tall there from then on."""
    front = draw_pattern("anteroseptal", len(rows), rng)
    recent = np.flatnonzero(stage == ACUTE)
    if len(recent):
        at = rows[recent]
        regions.level_st(h, at, rng)
        regions.lower_st(h, at, front[recent], "posterior", 0.05 + 0.2 * u[recent])
    regions.raise_t(h, rows, front, "posterior", 0.15 + 0.4 * u * rng.random(len(rows)))


def inferoposterior_infarction(h: Hearts, rows, u, rng):
    """IPMI: IMI and PMI at once: Q in two of II, III, aVF; R/S >= 1 in V1 or V2, T upright."""
    _infarct(h, rows, u, "inferior", rng)
    _back_wall(h, rows, u, rng)
    _back_st(h, rows, u, h.mi_stage[rows], rng)


def inferoposterolateral_infarction(h: Hearts, rows, u, rng):
    """IPLMI: IPMI with Q in V5 or V6."""
    inferolateral_infarction(h, rows, u, rng)
    _back_wall(h, rows, u, rng)
    _back_st(h, rows, u, h.mi_stage[rows], rng)


# --- form statements ------------------------------------------------------------------------------


def q_waves_present(h: Hearts, rows, u, rng):
    """QWAVE: Q >= 30 ms and >= 0.1 mV, or QS, in two neighbouring leads (Universal Definition
    2018); nothing where an infarct has drawn them.
    """
    rows, u = _without_q(h, rows, u, front=2)
    regions_of = np.array(["inferior", "lateral", "high lateral"])
    dealt = rng.choice(3, len(rows), p=[0.6, 0.2, 0.2])
    for i in np.unique(dealt):
        at = dealt == i
        _only_q(h, rows[at], u[at], regions_of[i], rng)


def _only_q(h: Hearts, rows, u, region: str, rng) -> None:
    loss = draw_pattern(region, len(rows), rng)
    width, depth = _limb_q_size(np.maximum(u, 0.3), rng)
    scars.place_x(h, rows, rng, width)
    leads = [LEAD["V5"], LEAD["V6"]] if region == "lateral" else READ_IN[region]  # side by side
    reached = scars.pathologic_q(leads, width, depth)
    scars.draw_q(h, rows, loss, np.full(len(rows), 0.3), reached)


def _without_q(h: Hearts, rows, u, front: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Those of `rows`, and their u, in which no two neighbouring leads have a pathologic Q yet, nor
    `front` of V2 and V3.
    """
    deep, wide, _ = scars.q_waves(qrs_beat(h, rows))
    wide = wide * (deep >= 0.1)
    limb = (wide[:, _LIMB_GROUPS] >= 30).sum(axis=2).max(axis=1)
    free = (limb < 2) & ((wide[:, _FRONT] > 20).sum(axis=1) < front)
    return rows[free], u[free]


def abnormal_qrs(h: Hearts, rows, u, rng):
    """ABQRS: a fragmented QRS, notches in R or S of two neighbouring leads (Das et al. 2006), or
    poor R progression (R <= 0.3 mV in V3). With an infarct the Q is the abnormality.
    """
    rows, u = _without_q(h, rows, u)
    poor = rng.random(len(rows)) < 0.3
    poor[~poor] = ~_fragment(h, rows[~poor], u[~poor], rng)
    if poor.any():
        loss = draw_pattern("anteroseptal", poor.sum(), rng)
        scars.place_x(h, rows[poor], rng)
        scars.lose_r(h, rows[poor], np.maximum(u[poor], 0.3), loss, rng)


def _fragment(h: Hearts, rows, u, rng) -> np.ndarray:
    """A narrow dent on the QRS in one region, with a notch of 0.1-0.2 mV in two leads.

    Returns (n,) bool: where it could be had; the others stay as they were.
    """
    n = len(rows)
    notched = np.zeros(n, bool)
    h.centre[rows, X] = rng.choice([0.000, 0.014, 0.022], n) + rng.uniform(-0.002, 0.002, n)
    h.rise[rows, X] = h.fall[rows, X] = 0.0042
    which = rng.choice(["inferior", "lateral", "anterior"], n, p=[0.45, 0.25, 0.30])
    for region in np.unique(which).tolist():
        here, leads = which == region, READ_IN[region]
        at, loss = rows[here], draw_pattern(region, here.sum(), rng)
        base, unit = qrs_beat(h, at)[:, leads], scars.alone(h, at, {X: loss})[:, leads]
        goal = (0.13 + 0.10 * u[here])[:, None]
        deep = [_turning(base + s * unit) - _turning(base) for s in scars.STEPS]
        reach = np.stack([np.sort(d / goal, axis=1)[:, -2] for d in deep], axis=1)
        notched[here] = (reach >= 1).any(axis=1)
        size = scars.STEPS[scars.first_step(reach)] * notched[here]
        h.local[at, X] += size[:, None] * loss
    return notched


def _turning(beat: np.ndarray) -> np.ndarray:
    """(n, leads) mV: how far each lead goes outward beyond its highest and its lowest point."""
    outward = np.diff(np.abs(beat), axis=2).clip(0, None).sum(axis=2)
    return outward - beat.max(axis=2).clip(0, None) - (-beat.min(axis=2)).clip(0, None)
