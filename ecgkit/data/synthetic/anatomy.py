"""What healthy hearts look like: normal variation between people, with age, sex and body.

Sizes, times, widths and directions of the waves, and how each chest projects them on the leads,
vary together: `anatomy.csv` holds their means, their slopes on age and sex and their principal
components, fitted to normal ECGs of PTB-XL's folds 1-4 (`benchmarks/fit_anatomy.py`). Tall R of the
young, the leftward drift of the axis with age (about 10 degrees in 20 years), women's smaller QRS,
flatter ST and longer QT (Rautaharju et al. 2009; Macfarlane 2018) come out of these slopes.

Usage:

    hearts = normal_hearts(latents, age, sex, rng)      # Hearts, fields (N, ...)
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from ecgkit.data.synthetic.hearts import (
    EDGE,
    LEADS8,
    N1,
    N2,
    P1,
    P2,
    P_WAVES,
    QRS_WAVES,
    R1,
    R2,
    WAVES,
    Hearts,
    J,
    L,
    Q,
    S,
    T,
    U,
    one_beat,
    qrs_edges,
    rotate,
)

TABLE, FIELD = Path(__file__).with_name("anatomy.csv"), "field_"
N_COMPONENTS, N_NOTCH = 30, 14
N_LATENTS = N_COMPONENTS + N_NOTCH + 1  # the last: how much the sinus node breathes

_FITTED = (P1, P2, Q, R1, R2, S, L, J, T, U)
_QRS = [Q, R1, R2, S, L]
# Waves that only findings draw: centre s, sd s.
_UNUSED = {"X": (-0.022, 0.012), "E1": (-0.025, 0.024), "E2": (0.030, 0.026), "ET": (0.260, 0.055)}
_SPIKE_SD = 0.0016
# Normal limits (Macfarlane et al. 2011; AHA/ACCF/HRS 2009): s and degrees.
_PR, _P_LONGEST, _QRS_WIDTH = (0.124, 0.197), 0.116, (0.068, 0.107)
_QTC, _AXIS = (0.350, 0.448), (-27.0, 96.0)


@cache
def _table() -> tuple[tuple[str, ...], np.ndarray]:
    """Names (P,) and numbers (P, 4 + K): mean, slope per 20 years, women, rest, components."""
    import pandas as pd

    table = pd.read_csv(TABLE, comment="#").set_index("name")
    return tuple(table.index), table.to_numpy()


def normal_hearts(
    latents: np.ndarray, age: np.ndarray, sex: np.ndarray, rng: np.random.Generator
) -> Hearts:
    """Healthy hearts of given people.

    `latents` (N, N_LATENTS) standard normal, one set per patient: the anatomy that all ECGs of a
    patient share. `age` (N,) years, `sex` (N,) 0 male 1 female. `rng` adds the small differences
    between two ECGs of one person.
    """
    n = len(age)
    z = latents + 0.22 * rng.standard_normal(latents.shape)
    z = (z / np.hypot(1, 0.22)).clip(-2.8, 2.8)
    number = _numbers(z[:, :N_COMPONENTS], age, sex, rng)
    h = _blank(n)
    h.field[:] = _triples(number, [FIELD + lead for lead in LEADS8])
    h.dipole[:, _FITTED] = _triples(number, [WAVES[k] for k in _FITTED])
    h.dipole[:, _QRS] *= LARGER * np.exp(number["log_qrs"])[:, None, None]
    h.dipole[:, T] *= np.exp(number["log_t"])[:, None]
    for k in (P1, P2, J, T):
        h.local[:, k] = np.stack([number[f"{WAVES[k]}_{lead}"] for lead in LEADS8], axis=1)
    # What the fit, held near the dipole, left over: of V1's two-phased P, and of ST-T's unevenness
    # from lead to lead.
    h.local[:, P1, 2:4] += 0.014
    h.local[:, P2, 2] -= 0.010
    t_size = np.linalg.norm(h.dipole[:, T], axis=1)[:, None]
    for k in (J, T, U):
        h.local[:, k] += UNEVEN_T * t_size * (rng.standard_normal((n, 5)) @ _OVER_LEADS)
    for k in _FITTED:
        name = WAVES[k]
        h.rise[:, k] = np.exp(number[f"{name}_rise"])
        h.fall[:, k] = np.exp(number.get(f"{name}_fall", number[f"{name}_rise"]))
        if k not in (T, U):
            h.centre[:, k] = number[f"{name}_centre"] / 1000
    h.qtc[:] = (number["qtc"] / 1000).clip(*_QTC)
    h.u_gap[:] = number["U_gap"] / 1000
    _notch(h, z[:, N_COMPONENTS:-1])
    h.rr_breath[:] = _breathing(age, z[:, -1])
    _keep_normal(h)
    return h


def _numbers(z: np.ndarray, age, sex, rng) -> dict[str, np.ndarray]:
    """name -> (N,): one draw of every number of the table."""
    names, table = _table()
    mean, slope, female, rest = table[:, :4].T
    values = mean + np.outer((age - 50) / 20, slope) + np.outer(sex, female) + z @ table[:, 4:].T
    values += rest * rng.standard_normal(values.shape)  # posture, electrodes: another day
    return dict(zip(names, values.T))


def _triples(number: dict, names: list[str]) -> np.ndarray:
    """(N, len(names), 3) of the numbers name_x, name_y, name_z."""
    each = [np.stack([number[f"{name}_{axis}"] for axis in "xyz"], axis=-1) for name in names]
    return np.stack(each, axis=1)


def _blank(n: int) -> Hearts:
    """Hearts without waves, at 74/min."""
    k, zeros = len(WAVES), np.zeros(n)
    centre, sd = np.zeros((n, k)), np.full((n, k), 0.02)
    for name, (at, width) in _UNUSED.items():
        centre[:, WAVES.index(name)], sd[:, WAVES.index(name)] = at, width
    spike = WAVES.index("SPIKE")
    centre[:, spike], sd[:, spike] = -0.064, _SPIKE_SD
    return Hearts(
        dipole=np.zeros((n, k, 3)),
        local=np.zeros((n, k, 8)),
        centre=centre,
        rise=sd,
        fall=sd.copy(),
        field=np.zeros((n, 8, 3)),
        rate=zeros + 74.0,
        rr_spread=zeros + 0.012,
        rr_breath=zeros.copy(),
        qtc=zeros.copy(),
        f_waves=zeros.copy(),
        flutter=zeros.copy(),
        n_pvc=np.zeros(n, int),
        n_pac=np.zeros(n, int),
        mi_stage=np.zeros(n, int),
        u_gap=zeros.copy(),
    )


def _breathing(age: np.ndarray, z: np.ndarray) -> np.ndarray:
    """(N,) respiratory swing of RR / mean RR: log-normal, halved every 35 years (O'Brien 1986)."""
    return (0.055 * 0.5 ** ((age - 20) / 35) * np.exp(0.6 * z)).clip(0.004, 0.095)


def _notch(h: Hearts, z: np.ndarray) -> None:
    """Two small waves inside the QRS that one dipole cannot draw: notches and slurs (about 0.6 % of
    the power of real leads lies beyond the dipole).

    `z` (N, 14) is the person's own: place and width (2 waves), sizes over the leads (5 each).
    """
    size = np.sqrt((h.dipole[:, _QRS] ** 2).sum(axis=(1, 2)))
    for i, (k, at) in enumerate(((N1, -0.014), (N2, 0.018))):
        own = z[:, 7 * i : 7 * i + 7]
        h.centre[:, k] = at + 0.008 * own[:, 0]
        h.rise[:, k] = h.fall[:, k] = 0.0048 * np.exp(0.25 * own[:, 1])
        h.local[:, k] = NOTCH * size[:, None] * (own[:, 2:] @ _OVER_LEADS)


NOTCH, UNEVEN_T = 0.09, 0.075
LARGER = 1.07  # waves drawn apart from one another add up to less than a person's own do
# Five smooth patterns over I, II, V1-V6: neighbours alike, limb leads less.
_OVER_LEADS = np.array(
    [
        [0.5, 0.2, 0.0, 0.0, 0.0, 0.0, 0.2, 0.3],
        [0.1, 0.5, 0.0, 0.0, 0.0, 0.1, 0.2, 0.2],
        [0.0, 0.0, 0.8, 0.9, 0.4, 0.0, 0.0, 0.0],
        [0.0, 0.0, -0.2, 0.4, 1.0, 0.8, 0.3, 0.0],
        [0.0, 0.0, 0.0, -0.2, 0.0, 0.6, 0.8, 0.6],
    ]
)


# --- normal limits --------------------------------------------------------------------------------


def _keep_normal(h: Hearts) -> None:
    """Brings the few hearts that were drawn beyond normal limits back to them, in place."""
    _turn_back(h)
    odd = np.flatnonzero(np.abs(_axis_excess(h)) > 1)  # R and S alike in all limb leads
    if len(odd):
        _draw_to_mean(h, odd)
        _turn_back(h)
    onset, offset = qrs_edges(h)
    factor = ((offset - onset).clip(*_QRS_WIDTH) / (offset - onset))[:, None]
    for times in (h.centre, h.rise, h.fall):
        times[:, list(QRS_WAVES)] *= factor
    _keep_p(h)


def _turn_back(h: Hearts) -> None:
    turn = _axis_excess(h)
    for waves, share in ((list(QRS_WAVES), 1.0), ([J, T, U], 0.5)):
        part = h.dipole[:, waves]
        rotate(part, share * turn, (0, 1))
        h.dipole[:, waves] = part


def _draw_to_mean(h: Hearts, rows: np.ndarray) -> None:
    """Brings QRS and lead field of `rows` most of the way to the mean man's of 50, in place."""
    names, table = _table()
    mean = dict(zip(names, table[:, :1]))
    usual = _triples(mean, [WAVES[k] for k in _QRS])[0] * np.exp(mean["log_qrs"])
    field = _triples(mean, [FIELD + lead for lead in LEADS8])[0]
    ix = np.ix_(rows, _QRS)
    h.dipole[ix] = 0.25 * h.dipole[ix] + 0.75 * usual
    h.field[rows] = 0.25 * h.field[rows] + 0.75 * field


def _axis_excess(h: Hearts) -> np.ndarray:
    """(N,) degrees to turn the QRS so that its frontal axis is normal."""
    beat = one_beat(h, fs=250, waves=QRS_WAVES, before=0.1, after=0.12)
    one, avf = beat[:, 0], beat[:, 1] - beat[:, 0] / 2
    net = [lead.max(axis=1) + lead.min(axis=1) for lead in (one, avf)]
    axis = np.rad2deg(np.arctan2(net[1] * 2 / np.sqrt(3), net[0]))
    return axis.clip(*_AXIS) - axis


def _keep_p(h: Hearts) -> None:
    """P no longer than 116 ms, PR from 124 to 197 ms; the P wave moves, the QRS stays."""
    gap = h.centre[:, P2] - h.centre[:, P1]
    length = gap + EDGE * (h.rise[:, P1] + h.fall[:, P2])
    h.centre[:, P1] += (length - _P_LONGEST).clip(0, None)
    onset, _ = qrs_edges(h)
    p = list(P_WAVES)
    pr = onset - (h.centre[:, p] - EDGE * h.rise[:, p]).min(axis=1)
    h.centre[:, p] -= (pr.clip(*_PR) - pr)[:, None]
