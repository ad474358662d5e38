"""Hearts as sums of Gaussian waves: what one beat looks like in every lead, for many patients at
once.

After McSharry et al. 2003 (IEEE TBME 50:289): each wave of the beat is a Gaussian in time. Here a
wave carries a dipole vector (X left, Y down, Z back, in mV of the Frank system), which a lead
field projects on I, II, V1-V6; the other four leads follow from I and II, so Einthoven's and
Goldberger's identities hold by construction. A wave may also carry a `local` amplitude per lead,
for regional damage that one dipole cannot draw.

Shape letters: N hearts, K waves, C8 the eight independent leads, B beats, T samples.

Usage:

    hearts = anatomy.normal_hearts(latents, age, sex, rng)      # Hearts, fields (N, ...)
    beat = one_beat(hearts, fs=500)    # (N, C8, T) one noise-free beat, QRS centre at 0.35 s
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEADS8 = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
# The second line belongs to rhythm: a second origin of ventricular beats, the P of another atrial
# focus (or a retrograde one), the late part of an aberrant beat, the spikes of a pacemaker.
WAVES = (
    *("P1", "P2", "Q", "R1", "R2", "S", "L", "X", "J", "T", "E1", "E2", "ET", "SPIKE"),
    *("F1", "F2", "FT", "A1", "A2", "AB", "ASPIKE"),
    *("N1", "N2", "U"),  # two small notches or slurs of each person's own QRS; the U wave
)
(P1, P2, Q, R1, R2, S, L, X, J, T, E1, E2, ET, SPIKE) = range(14)
(F1, F2, FT, A1, A2, AB, ASPIKE) = range(14, 21)
(N1, N2, U) = range(21, len(WAVES))
P_WAVES, QRS_WAVES, SINUS_WAVES, ECTOPIC_WAVES = (
    (P1, P2),
    (Q, R1, R2, S, L, X, N1, N2),
    (Q, R1, R2, S, L, X, N1, N2, J, T, U),
    (E1, E2, ET),
)
SECOND_WAVES, FOCUS_WAVES = (F1, F2, FT), (A1, A2)
EDGE = 2.2  # a wave is taken to begin and end this many standard deviations from its centre

RHYTHM_FIELDS = (
    *("rr_slow", "atrial_rate", "av_block", "av_cycle", "every", "reentry", "onset", "wander"),
    *("paced", "flutter_turn", "second"),
)

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


@dataclass
class Hearts:
    """N hearts; every array's first axis is N; the finding functions write into them in place."""

    dipole: np.ndarray  # (N, K, 3) mV
    local: np.ndarray  # (N, K, C8) mV, added after projection
    centre: np.ndarray  # (N, K) s from the R peak
    rise: np.ndarray  # (N, K) s, sd before the centre
    fall: np.ndarray  # (N, K) s, sd after the centre
    field: np.ndarray  # (N, C8, 3) lead field
    rate: np.ndarray  # (N,) beats/min
    rr_spread: np.ndarray  # (N,) sd of RR / mean RR, beat to beat
    rr_breath: np.ndarray  # (N,) amplitude of the respiratory swing of RR / mean RR
    qtc: np.ndarray  # (N,) s, at 60/min
    f_waves: np.ndarray  # (N,) mV of fibrillation waves in V1; above 0: the atria fibrillate
    flutter: np.ndarray  # (N,) mV of flutter waves in II; above 0: the atria flutter
    n_pvc: np.ndarray  # (N,) ventricular premature beats in the strip
    n_pac: np.ndarray  # (N,) atrial premature beats
    mi_stage: np.ndarray  # (N,) 0 no infarct, 1 recent, 2 healing, 3 old
    u_gap: np.ndarray  # (N,) s from the end of T to the middle of U
    # Rhythm, all (N,) and 0 unless a finding says otherwise; `rate` is the ventricles' always.
    rr_slow: np.ndarray = None  # amplitude of the slow (0.1 Hz) swing of RR / mean RR
    atrial_rate: np.ndarray = None  # beats/min of atria on a clock of their own (AFLT, 3AVB)
    av_block: np.ndarray = None  # beats.NO_BLOCK | WENCKEBACH | MOBITZ | COMPLETE | COMPLETE_WIDE
    av_cycle: np.ndarray = None  # P waves per dropped beat in 2AVB; 2 is 2:1
    every: np.ndarray = None  # each 2nd (bigeminy) or 3rd (trigeminy) beat is premature
    reentry: np.ndarray = None  # s from R to the retrograde P of a re-entrant tachycardia
    onset: np.ndarray = None  # s after which a paroxysm has given way to sinus rhythm; 0 = never
    wander: np.ndarray = None  # share of beats that another atrial focus drives
    paced: np.ndarray = None  # beats.UNPACED | ATRIUM | VENTRICLE | DUAL | DEMAND
    flutter_turn: np.ndarray = None  # +1 typical flutter, -1 reverse
    second: np.ndarray = None  # share of ventricular premature beats from the second origin

    def __post_init__(self):
        for name in RHYTHM_FIELDS:
            if getattr(self, name) is None:
                setattr(self, name, np.zeros(len(self.rate)))

    def __len__(self) -> int:
        return len(self.rate)

    def amplitudes(self) -> np.ndarray:
        """(N, K, C8) mV: each wave's size in each independent lead."""
        return self.dipole @ self.field.transpose(0, 2, 1) + self.local

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


def place_t_wave(hearts: Hearts) -> None:
    """Moves T so that QT = qtc * RR^0.45 (close to Bazett's square root), measured from QRS onset
    to T end.
    """
    scale = (60 / hearts.rate) ** 0.45
    onset, offset = qrs_edges(hearts)
    shrink = np.clip(scale, 0.55, 1.15)
    for times in (hearts.rise, hearts.fall):
        times[:, [T, U]] *= shrink[:, None]
    t_end = np.maximum(onset + hearts.qtc * scale, offset + 0.16)
    hearts.centre[:, T] = t_end - EDGE * hearts.fall[:, T]
    hearts.centre[:, U] = t_end + hearts.u_gap * shrink
    room = (hearts.centre[:, T] - hearts.centre[:, J]) * 0.65
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
    t = np.arange(-before, after, 1 / fs, dtype=np.float32)
    waves = list(waves)
    d = t - hearts.centre[:, waves, None].astype(np.float32)  # (N, K, T)
    slow, fast = ((1 / sd[:, waves, None]).astype(np.float32) for sd in (hearts.rise, hearts.fall))
    d *= np.where(d < 0, slow, fast)
    d *= d
    d *= np.float32(-0.5)
    np.exp(d, out=d)
    size = hearts.dipole[:, waves] @ hearts.field.transpose(0, 2, 1) + hearts.local[:, waves]
    return size.astype(np.float32).transpose(0, 2, 1) @ d  # (N, C8, K) @ (N, K, T)
