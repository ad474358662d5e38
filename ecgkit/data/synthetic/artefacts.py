"""What the electrode and the room add: drift, muscle, mains, loose electrodes. Noise lives on
electrodes, not on leads.

A disturbed arm electrode therefore shows in the limb leads it feeds (and slightly in the chest
leads through Wilson's terminal), a disturbed chest electrode in one lead only, as on paper.

Shape letters: N records, E electrodes (RA LA LL V1-V6), C8 independent leads, T samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ELECTRODES = ("RA", "LA", "LL", "V1", "V2", "V3", "V4", "V5", "V6")
KINDS = ("baseline_drift", "static_noise", "burst_noise", "electrodes_problems")
# PTB-XL's way to name the leads one electrode disturbs; the lists end where a range would.
_LEADS_OF = {"RA": "I,II,AVR", "LA": "I,III,AVL", "LL": "II,III,AVF"} | {
    v: v for v in ELECTRODES[3:]
}
_LIMB_RANGE, _ALL = "I-AVF", "alles"
_BLOCK = 8


def electrode_to_leads() -> np.ndarray:
    """(C8, E): I = LA - RA, II = LL - RA, Vi = Vi - (RA + LA + LL) / 3."""
    matrix = np.zeros((8, 9))
    matrix[0, [1, 0]] = 1, -1
    matrix[1, [2, 0]] = 1, -1
    matrix[2:, 3:] = np.eye(6)
    matrix[2:, :3] = -1 / 3
    return matrix


@dataclass
class Artefacts:
    """Size of each disturbance on each electrode, (N, E) mV; `text` holds PTB-XL's column strings
    ('' = none).
    """

    drift: np.ndarray
    static: np.ndarray
    burst: np.ndarray
    loose: np.ndarray
    text: dict[str, list[str]]


def draw_artefacts(n: int, rng: np.random.Generator, rates=(0.10, 0.16, 0.06, 0.03)) -> Artefacts:
    """Chooses which records are disturbed (`rates` per kind, in the order of KINDS), where, and
    how strongly.
    """
    quiet = np.exp(rng.normal(np.log(0.0048), 0.35, (n, 1))) * np.exp(rng.normal(0, 0.2, (n, 9)))
    sizes = {
        "baseline_drift": np.exp(rng.normal(np.log(0.025), 0.4, (n, 9))),
        "static_noise": quiet,
        "burst_noise": np.zeros((n, 9)),
        "electrodes_problems": np.zeros((n, 9)),
    }
    strong = {
        "baseline_drift": (0.18, 0.45),
        "static_noise": (0.025, 0.06),
        "burst_noise": (0.10, 0.25),
        "electrodes_problems": (0.3, 0.9),
    }
    text = {}
    for kind, rate in zip(KINDS, rates):
        hit = rng.random(n) < rate
        size, place = rng.uniform(*strong[kind], n), rng.random(n)
        pick = rng.integers(0, 9, n)
        if kind == "electrodes_problems":  # loose electrodes are seen on the chest
            pick, place = 3 + pick % 6, np.zeros(n)
        text[kind] = [
            _place(sizes[kind][i], size[i], place[i], pick[i], kind) if hit[i] else ""
            for i in range(n)
        ]
    return Artefacts(*(sizes[kind] for kind in KINDS), text=text)


def _place(row: np.ndarray, size: float, place: float, pick: int, kind: str) -> str:
    """Raises `row` (E,) at the disturbed electrodes to `size` and returns the column's text for
    them.
    """
    if place < 0.6:
        row[pick], leads = size, _LEADS_OF[ELECTRODES[pick]]
    elif place < 0.85:
        row[:3], leads = size, _LIMB_RANGE
    else:
        row[:], leads = size, _ALL
    return {"static_noise": f" , {leads},  ", "baseline_drift": f" , {leads}"}.get(kind, leads)


def draw_noise(
    art: Artefacts, rows: slice, fs: int, n_samples: int, rng: np.random.Generator
) -> np.ndarray:
    """(N, C8, T) float32 mV of disturbance in the independent leads for the records in `rows`."""
    t = np.arange(n_samples, dtype=np.float32) / fs
    static, drift = art.static[rows].astype(np.float32), art.drift[rows].astype(np.float32)
    burst = art.burst[rows].astype(np.float32)
    n, seconds = len(static), n_samples / fs
    noise = rng.standard_normal((n, 9, n_samples), dtype=np.float32)
    hit = np.flatnonzero(burst.any(axis=1))
    window = np.empty((0, 1, n_samples))
    if len(hit):
        start = rng.uniform(0.05, 0.75, (len(hit), 1, 1)) * seconds
        window = np.exp(-0.5 * ((t - start - 0.6) / rng.uniform(0.25, 0.6, (len(hit), 1, 1))) ** 2)
    weights, basis = _draw_drift(n, t, rng)
    weights *= drift[..., None]
    # At 100 Hz the mains lies at the Nyquist frequency, where PTB-XL's filter has removed it.
    phase = rng.uniform(0, 2 * np.pi, (n, 1, 1)) if fs >= 200 else None
    for first in range(0, n, _BLOCK):  # a few records at a time stay in the processor's cache
        b = slice(first, first + _BLOCK)
        part = noise[b]
        part[..., 1:] += 0.5 * part[..., :-1]  # muscle: a little redder than white
        level = np.broadcast_to(static[b][..., None], part.shape)
        for i in np.flatnonzero((hit >= first) & (hit < first + _BLOCK)):
            level = level if level.flags.writeable else level.copy()
            level[hit[i] - first] += burst[hit[i]][:, None] * window[i].astype(np.float32)
        part *= level
        part += weights[b] @ basis
        if phase is not None:
            mains = np.sin(2 * np.pi * 50 * t + phase[b]).astype(np.float32)
            part += 0.8 * static[b][..., None] * mains
    _add_loose(noise, art.loose[rows], t, rng)
    return np.matmul(electrode_to_leads().astype(np.float32), noise)


def _draw_drift(n: int, t: np.ndarray, rng) -> tuple[np.ndarray, np.ndarray]:
    """(N, E, 24) weights and (24, T) waves of a Fourier series below 0.6 Hz, whose terms fall with
    frequency; breathing puts a bump near 0.25 Hz.
    """
    freq = np.arange(1, 13) * 0.045
    angle = 2 * np.pi * freq[:, None] * t
    basis = np.concatenate([np.sin(angle), np.cos(angle)]).astype(np.float32)
    share = np.tile(
        1 / (1 + (freq / 0.12) ** 2) + 0.4 * np.exp(-0.5 * ((freq - 0.26) / 0.04) ** 2), 2
    )
    share /= np.sqrt((share**2).sum() / 2)
    weights = rng.standard_normal((n, 9, 24), dtype=np.float32) * share.astype(np.float32)
    return weights, basis


def _add_loose(
    noise: np.ndarray, loose: np.ndarray, t: np.ndarray, rng: np.random.Generator
) -> None:
    """Electrode motion, in place: three jumps per record that decay within half a second."""
    for i, e in zip(*np.nonzero(loose)):
        for start in rng.uniform(0, t[-1], 3):
            after = np.clip(t - start, 0, None)
            jump = loose[i, e] * rng.uniform(0.6, 1.4) * rng.choice([-1, 1])
            noise[i, e] += np.where(t >= start, jump * np.exp(-after / 0.35), 0)
