"""Healthy hearts within normal limits: ST, T and Q that a reader would not remark on.

The fitted anatomy varies as a normal distribution does; health has shorter tails, since beyond
them an ECG gets another name. What lies beyond the limits comes most of the way back, so that
normal ECGs still reach up to them and a few past them. Limits: 3rd and 97th percentile of normal
ECGs of PTB-XL's folds 1-4, in keeping with Rautaharju et al. 2009 (ST, T) and the Fourth Universal
Definition of Myocardial Infarction 2018 (Q).

Usage:

    keep_normal(hearts)      # in place, before findings are drawn
"""

from __future__ import annotations

import numpy as np

from ecgkit.data.synthetic import regions, scars
from ecgkit.data.synthetic.hearts import Hearts, J, Q, T
from ecgkit.data.synthetic.shaping import LEAD, qrs_beat

#                   I      II     V1     V2    V3    V4     V5     V6
_ST = np.array(
    [
        [-0.015, -0.020, -0.03, 0.00, 0.00, -0.015, -0.02, -0.02],
        [0.090, 0.095, 0.11, 0.26, 0.26, 0.16, 0.10, 0.085],
    ]
)
_LEAST_T = np.array([0.11, 0.15, -9, 0.11, 0.19, 0.19, 0.16, 0.13])
_LEAST_ST_III, _LEAST_T_AVF, _T_OF_R = -0.03, 0.06, 0.115  # mV, mV, share of R
_EIGHT = [LEAD[name] for name in ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")]
_BACK = 0.85
_FIRST_R = 0.06  # mV in II, and so in III and aVF
_NOT_SEPTAL = np.array([1, 1, 0, 0, 0.3, 1, 1, 1])
_SEPTAL_R = {"V1": 0.03, "V2": 0.08, "V3": 0.12}  # mV the first r has at the least
_LIMB_GROUPS = [[LEAD[lead] for lead in g.split()] for g in ("II III aVF", "I aVL V5 V6")]


def keep_normal(h: Hearts) -> None:
    """Brings ST, T and Q of all hearts back towards normal limits."""
    _keep_q(h)
    _keep_st(h)
    _keep_t(h)


def _keep_q(h: Hearts) -> None:
    """No Q of 28 ms and 0.09 mV in two neighbouring limb leads; some r in V1-V3."""
    beat, rows = qrs_beat(h, slice(None)), np.arange(len(h))
    for _ in range(4):
        deep, wide, _ = scars.q_waves(beat[rows])
        q = (deep >= 0.09) & (wide >= 28)
        rows = rows[np.any([q[:, g].sum(axis=1) >= 2 for g in _LIMB_GROUPS], axis=0)]
        h.local[rows, Q] -= 0.5 * _NOT_SEPTAL * h.amplitudes()[rows, Q].clip(None, 0)
        h.local[rows, Q, 1] += _FIRST_R  # a heart that lies across begins with an r in III and aVF
        beat[rows] = qrs_beat(h, rows)
    for name, least in _SEPTAL_R.items():
        r = beat[:, LEAD[name]].max(axis=1)
        h.local[:, Q, _EIGHT.index(LEAD[name])] += 2.0 * (least - r).clip(0)


def _keep_st(h: Hearts) -> None:
    every = np.arange(len(h))
    some = regions.placed(h, every)
    now = regions.st_level(some)
    wanted = now.clip(*_ST)
    low_iii = (_LEAST_ST_III - (wanted[:, 1] - wanted[:, 0])).clip(0)
    wanted[:, 1] += low_iii
    h.local[:, J] += _BACK * (wanted - now) / regions.st_share(some)[:, None]


def _keep_t(h: Hearts) -> None:
    """T upright where it should be, and above a tenth of R."""
    some = regions.placed(h, np.arange(len(h)))
    now, tall = regions.t_level(some), regions.r_heights(some)[:, _EIGHT]
    least = np.maximum(_LEAST_T, np.where(_LEAST_T > 0, _T_OF_R * tall, -9))
    wanted = np.maximum(now, least)
    wanted[:, 1] += (_LEAST_T_AVF - (wanted[:, 1] - wanted[:, 0] / 2)).clip(0)
    h.local[:, T] += _BACK * (wanted - now)
