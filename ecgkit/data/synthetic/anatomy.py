"""What healthy hearts look like: normal variation between people, with age, sex and body.

Usage:
    hearts = normal_hearts(latents, age, sex, rng)      # Hearts, fields (N, ...)
"""

from __future__ import annotations

import numpy as np

from ecgkit.data.synthetic.hearts import (
    DOWER,
    E1,
    E2,
    ET,
    P1,
    P2,
    P_WAVES,
    QRS_WAVES,
    R1,
    R2,
    SPIKE,
    WAVES,
    Hearts,
    J,
    L,
    Q,
    S,
    T,
    X,
    rotate,
)

N_LATENTS = 24

# A healthy beat: wave -> (dipole mV, centre ms from the R peak, sd ms before and after the centre).
_HEALTHY = {
    P1: ((0.05, 0.08, -0.04), -158, 17, 17),  # right atrium: forward, down
    P2: ((0.06, 0.06, 0.04), -132, 17, 17),  # left atrium: left, back
    Q: ((-0.17, -0.04, -0.30), -24, 8.5, 8.5),  # septum: right, forward
    R1: ((0.78, 0.46, 0.13), -5, 9, 9),  # free walls: left, down
    R2: ((0.63, 0.34, 0.34), 7, 9, 9),
    S: ((-0.16, -0.10, 0.60), 25, 9.5, 9.5),  # base: back
    L: ((0.0, 0.0, 0.0), 52, 14, 14),  # late activation, only in conduction disease
    X: ((0.0, 0.0, 0.0), -22, 12, 12),  # missing activation: the pathological Q
    J: ((0.02, 0.01, -0.02), 75, 16, 75),  # ST level
    T: ((0.27, 0.19, -0.18), 270, 58, 36),
    E1: ((0.0, 0.0, 0.0), -25, 24, 24),  # ectopic beats: two QRS lobes and a T wave
    E2: ((0.0, 0.0, 0.0), 30, 26, 26),
    ET: ((0.0, 0.0, 0.0), 260, 65, 45),
    SPIKE: ((0.0, 0.0, 0.0), -64, 1.6, 1.6),
}


def normal_hearts(
    latents: np.ndarray, age: np.ndarray, sex: np.ndarray, rng: np.random.Generator
) -> Hearts:
    """Healthy hearts of given people.

    `latents` (N, N_LATENTS) standard normal, one set per patient: the anatomy that all ECGs of a
    patient share. `age` (N,) years, `sex` (N,) 0 male 1 female. `rng` adds the small differences
    between two ECGs of one person.
    """
    n = len(age)
    z = latents + 0.25 * rng.standard_normal(latents.shape)
    dipole, timing = np.zeros((n, len(WAVES), 3)), np.zeros((n, len(WAVES), 3))
    for k, (vector, *ms) in _HEALTHY.items():
        dipole[:, k], timing[:, k] = vector, np.array(ms) / 1000
    centre, rise, fall = timing[..., 0].copy(), timing[..., 1].copy(), timing[..., 2].copy()

    qrs, waves_t = list(QRS_WAVES), [J, T]
    dipole[:, qrs] *= np.exp(0.20 * z[:, 0] - 0.06 * sex - 0.003 * (age - 50))[:, None, None]
    dipole[:, waves_t] *= np.exp(0.25 * z[:, 1] - 0.12 * sex - 0.003 * (age - 50))[:, None, None]
    dipole[:, P_WAVES] *= np.exp(0.22 * z[:, 2])[:, None, None]
    dipole[:, [Q, R1, R2, S, T]] *= np.exp(z[:, 3:8] * [0.3, 0.18, 0.18, 0.28, 0.18])[:, :, None]
    turn = np.clip(18 * z[:, 8] - 0.45 * (age - 45), -50, 38)  # axis drifts left with age
    horizontal = np.clip(13 * z[:, 9], -28, 28)
    for waves, share in ((qrs, 1.0), (waves_t, 0.45), (list(P_WAVES), 0.25)):
        part = dipole[:, waves]
        rotate(part, share * turn, (0, 1))
        rotate(part, share * horizontal, (0, 2))
        dipole[:, waves] = part
    part = dipole[:, [T]]
    rotate(part, 10 * z[:, 10], (0, 1))
    dipole[:, [T]] = part

    width = 1.05 * np.exp(0.10 * z[:, 11] - 0.04 * sex).clip(0.84, 1.20)[:, None]
    for times in (centre, rise, fall):
        times[:, qrs] *= width
    centre[:, P_WAVES] -= (0.020 * z[:, 12] + 0.0004 * (age - 50)).clip(-0.028, 0.026)[:, None]
    rise[:, P_WAVES] *= np.exp(0.10 * z[:, 13])[:, None]
    fall[:, P_WAVES] = rise[:, P_WAVES]
    shape = np.exp(0.12 * z[:, 14:16])
    rise[:, T], fall[:, T] = rise[:, T] * shape[:, 0], fall[:, T] * shape[:, 1]

    field = DOWER * np.exp(0.13 * _lead_gain(z))[:, :, None]
    zeros = np.zeros(n)
    return Hearts(
        dipole=dipole,
        local=np.zeros((n, len(WAVES), 8)),
        centre=centre,
        rise=rise,
        fall=fall,
        field=field,
        turn=np.stack([turn, horizontal], axis=1),
        rate=zeros + 74.0,
        rr_spread=zeros + 0.012,
        rr_breath=0.041 * np.exp(-0.0235 * (age - 25)),  # sd of 10 s, PTB-XL folds 1-4: 35 to 9 ms
        qtc=(0.405 + 0.010 * sex + 0.013 * z[:, 16]).clip(0.370, 0.440),
        f_waves=zeros.copy(),
        flutter=zeros.copy(),
        n_pvc=np.zeros(n, int),
        n_pac=np.zeros(n, int),
        mi_stage=np.zeros(n, int),
    )


def _lead_gain(z: np.ndarray) -> np.ndarray:
    """(N, C8) log gain per lead: limb leads share one, chest leads differ smoothly (electrode
    height, chest wall).
    """
    gain = np.empty((len(z), 8))
    gain[:, :2] = 0.5 * z[:, 17:18]
    steps = np.linspace(-1, 1, 6)
    gain[:, 2:] = 1.2 * z[:, 18:19] + steps * z[:, 19:20] + 0.4 * (steps**2 - 0.5) * z[:, 20:21]
    return gain
