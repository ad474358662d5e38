"""Hearts as sums of Gaussian waves: what one beat looks like in every lead, for many patients at
once.

After McSharry et al. 2003 (IEEE TBME 50:289): each wave of the beat is a Gaussian in time. Here a
wave carries a dipole vector (X left, Y down, Z back, in mV of the Frank system), which a lead
field projects on I, II, V1-V6; the other four leads follow from I and II, so Einthoven's and
Goldberger's identities hold by construction. A wave may also carry a `local` amplitude per lead,
for regional damage that one dipole cannot draw.

Shape letters: N hearts, K waves, C8 the eight independent leads, B beats, T samples.

Usage:
    hearts = normal_hearts(latents, age, sex, rng)      # Hearts, fields (N, ...)
    beat = one_beat(hearts, fs=500)    # (N, C8, T) one noise-free beat, QRS centre at 0.35 s
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEADS8 = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
WAVES = ("P1", "P2", "Q", "R1", "R2", "S", "L", "X", "J", "T", "E1", "E2", "ET", "SPIKE")
(P1, P2, Q, R1, R2, S, L, X, J, T, E1, E2, ET, SPIKE) = range(len(WAVES))
P_WAVES, QRS_WAVES, SINUS_WAVES, ECTOPIC_WAVES = (
    (P1, P2),
    (Q, R1, R2, S, L, X),
    (Q, R1, R2, S, L, X, J, T),
    (E1, E2, ET),
)
N_LATENTS = 24
EDGE = 2.2  # a wave is taken to begin and end this many standard deviations from its centre

# Dower's projection of the Frank vector (X left, Y foot, Z back) on the leads (Dower 1968).
DOWER = np.array(
    [
        [0.632, -0.235, 0.059],
        [0.235, 1.066, -0.132],
        [-0.515, 0.157, -0.917],
        [0.044, 0.164, -1.387],
        [0.882, 0.098, -1.277],
        [1.213, 0.127, -0.601],
        [1.125, 0.127, -0.086],
        [0.831, 0.076, 0.230],
    ]
)

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


@dataclass
class Hearts:
    """N hearts; every array's first axis is N; the finding functions write into them in place."""

    dipole: np.ndarray  # (N, K, 3) mV
    local: np.ndarray  # (N, K, C8) mV, added after projection
    centre: np.ndarray  # (N, K) s from the R peak
    rise: np.ndarray  # (N, K) s, sd before the centre
    fall: np.ndarray  # (N, K) s, sd after the centre
    field: np.ndarray  # (N, C8, 3) lead field
    turn: np.ndarray  # (N, 2) degrees the QRS is turned: frontal, horizontal plane
    rate: np.ndarray  # (N,) beats/min
    rr_spread: np.ndarray  # (N,) sd of RR / mean RR, beat to beat
    rr_breath: np.ndarray  # (N,) amplitude of the respiratory swing of RR / mean RR
    qtc: np.ndarray  # (N,) s, at 60/min
    f_waves: np.ndarray  # (N,) mV of fibrillation waves in V1
    flutter: np.ndarray  # (N,) mV of flutter waves in II
    n_pvc: np.ndarray  # (N,) ventricular premature beats in the strip
    n_pac: np.ndarray  # (N,) atrial premature beats
    mi_stage: np.ndarray  # (N,) 0 no infarct, 1 recent, 2 healing, 3 old

    def __len__(self) -> int:
        return len(self.rate)

    def amplitudes(self) -> np.ndarray:
        """(N, K, C8) mV: each wave's size in each independent lead."""
        return np.einsum("nkx,ncx->nkc", self.dipole, self.field) + self.local

    def scale_qrs(self, rows, factor) -> None:
        """Multiplies every QRS wave (and ST-T half as much) of `rows` by `factor` (n,)."""
        factor = np.asarray(factor)[:, None, None]
        for waves, f in ((QRS_WAVES, factor), ((J, T), 1 + 0.5 * (factor - 1))):
            ix = np.ix_(rows, waves)
            self.dipole[ix] *= f
            self.local[ix] *= f


def rotate(vectors: np.ndarray, degrees: np.ndarray, axes: tuple[int, int]) -> None:
    """Turns vectors (N, K, 3) in the plane of `axes` by `degrees` (N,), in place."""
    angle = np.deg2rad(degrees)[:, None]
    a, b = vectors[..., axes[0]].copy(), vectors[..., axes[1]].copy()
    vectors[..., axes[0]] = a * np.cos(angle) - b * np.sin(angle)
    vectors[..., axes[1]] = a * np.sin(angle) + b * np.cos(angle)


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
        rr_breath=(0.045 - 0.0004 * (age - 20)).clip(0.008, 0.05),
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


def place_t_wave(hearts: Hearts) -> None:
    """Moves T so that QT = qtc * RR^0.45 (close to Bazett's square root), measured from QRS onset
    to T end.
    """
    scale = (60 / hearts.rate) ** 0.45
    onset, offset = qrs_edges(hearts)
    shrink = np.clip(scale, 0.55, 1.15)
    for times in (hearts.rise, hearts.fall):
        times[:, T] *= shrink
    t_end = np.maximum(onset + hearts.qtc * scale, offset + 0.16)
    hearts.centre[:, T] = t_end - EDGE * hearts.fall[:, T]
    room = (hearts.centre[:, T] - hearts.centre[:, J]) * 0.5
    hearts.fall[:, J] = np.minimum(hearts.fall[:, J], room)
    hearts.rise[:, T] = np.minimum(hearts.rise[:, T], (hearts.centre[:, T] - offset) * 0.52)


def qrs_edges(hearts: Hearts) -> tuple[np.ndarray, np.ndarray]:
    """QRS onset and end (N,), (N,) in s from the R peak: the outermost edges of waves above 0.08
    mV in some lead.
    """
    waves = list(QRS_WAVES)
    seen = np.abs(hearts.amplitudes()[:, waves]).max(axis=2) > 0.08
    start = np.where(seen, hearts.centre[:, waves] - EDGE * hearts.rise[:, waves], np.inf)
    end = np.where(seen, hearts.centre[:, waves] + EDGE * hearts.fall[:, waves], -np.inf)
    return start.min(axis=1), end.max(axis=1)


def one_beat(
    hearts: Hearts, fs: int = 500, waves=QRS_WAVES, before: float = 0.35, after: float = 0.45
) -> np.ndarray:
    """(N, C8, T) float32 mV: the sum of `waves` alone, without noise, R peak at `before` s."""
    t = np.arange(-before, after, 1 / fs)
    waves = list(waves)
    d = t - hearts.centre[:, waves, None]  # (N, K, T)
    sd = np.where(d < 0, hearts.rise[:, waves, None], hearts.fall[:, waves, None])
    shape = np.exp(-0.5 * (d / sd) ** 2)
    return np.einsum("nkt,nkc->nct", shape, hearts.amplitudes()[:, waves]).astype(np.float32)
