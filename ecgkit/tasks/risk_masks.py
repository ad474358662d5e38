"""Masking of the risk study's ECGs: whole leads, and stretches of single leads.

Published probabilities (risk.md 2): a lead set of 2, 3, 4, 6, 8 or 12 leads is kept, drawn with
chances .1 five times and .5; in pretraining that happens to every second ECG, so 25 % lose leads.
In strips each lead further loses, with chance .2, windows around R peaks, and with chance .2 one of
its halves. Fine-tuning draws one lead set for a whole batch, so that scores compare under equal
inputs. The kit zeroes samples of z-scored leads, so a masked sample is 0 and the others stay as
they were. The published code scores after masking, which rescales what is left and moves the masked
stretch away from 0 (`rescored`). Shape letters: B batch, C = 12 leads, T samples.

Usage:

    lost = pretraining_masks(len(x), rng, x.shape[2], peaks, fs)     # (B, C, T) bool
    x_seen = masked(x, lost, "paper", inside=(12, 1012))
"""

from __future__ import annotations

import numpy as np
import torch

from ecgkit.types import LEADS

# By size; the sets of three and four add V2, the set of six are the limb leads.
LEAD_SETS = {
    2: ("I", "II"),
    3: ("I", "II", "V2"),
    4: ("I", "II", "III", "V2"),
    6: ("I", "II", "III", "aVR", "aVL", "aVF"),
    8: ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6"),
    12: LEADS,
}
SET_CHANCES = (0.1, 0.1, 0.1, 0.1, 0.1, 0.5)
P_LEADS = 0.5  # an ECG of pretraining draws a lead set at all
P_REGION, P_BEAT, P_HALF = 0.2, 0.2, 0.2
REGION_S = (0.08, 0.18)  # width of a window around an R peak
FLOOR_SAMPLES = 80  # published: at 100 Hz that is 0.8 s, a whole beat; meant for 500 Hz


def kept_leads(rng: np.random.Generator) -> np.ndarray:
    """(C,) bool: the leads of a set drawn by the published chances; all 12 every second time."""
    size = list(LEAD_SETS)[rng.choice(len(LEAD_SETS), p=SET_CHANCES)]
    return np.isin(LEADS, LEAD_SETS[size])


def pretraining_masks(
    n_rows: int,
    rng: np.random.Generator,
    n_samples: int,
    peaks: list[np.ndarray] | None = None,
    fs: float = 100.0,
    floor: int = 0,
) -> np.ndarray:
    """(B, C, T) bool, True = to be zeroed. `peaks` (R peaks per row) turns on the masks of
    stretches, which the published code has for strips only; `floor` is the least width of a window
    in samples (published: FLOOR_SAMPLES)."""
    lost = np.zeros((n_rows, len(LEADS), n_samples), dtype=bool)
    for i in range(n_rows):
        if rng.random() < P_LEADS:
            lost[i, ~kept_leads(rng)] = True
        if peaks is not None:
            _mask_stretches(lost[i], peaks[i], rng, fs, floor)
    return lost


def _mask_stretches(lost: np.ndarray, peaks: np.ndarray, rng, fs: float, floor: int) -> None:
    """Marks windows around R peaks and halves of single leads in `lost` (C, T), in place."""
    n_leads, n_samples = lost.shape
    for c in range(n_leads):
        if rng.random() < P_REGION:
            for peak in np.asarray(peaks)[rng.random(len(peaks)) < P_BEAT]:
                width = max(round(rng.uniform(*REGION_S) * fs), floor)
                start = max(int(peak) - width // 2, 0)
                lost[c, start : start + width] = True
        if rng.random() < P_HALF:
            half = n_samples // 2
            lost[c, slice(half) if rng.random() < 0.5 else slice(half, None)] = True


def batch_mask(rng: np.random.Generator, n_samples: int) -> np.ndarray:
    """(1, C, T) bool: one lead set for a whole batch of fine-tuning; half of the time nothing."""
    return np.repeat(~kept_leads(rng)[None, :, None], n_samples, axis=2)


def masked(
    x: torch.Tensor, lost: np.ndarray, protocol: str = "paper", inside: tuple[int, int] = (0, 0)
) -> torch.Tensor:
    """x (B, C, T) z-scored with `lost` zeroed; under "reference" z-scored again, as published.

    `inside`: the samples that are no padding, which the score is taken over; (0, 0) = all.
    """
    hidden = x.masked_fill(torch.from_numpy(lost), 0.0)
    return rescored(hidden, inside) if protocol == "reference" else hidden


def noisy(x: torch.Tensor, sd: float, rng: np.random.Generator) -> torch.Tensor:
    """x (B, C, T) plus noise of `sd` (in SDs of a lead); zeros (masked, flat, padded) stay."""
    if not sd:
        return x
    noise = torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32))
    return torch.where(x == 0, x, x + sd * noise)


def rescored(x: torch.Tensor, inside: tuple[int, int] = (0, 0)) -> torch.Tensor:
    """(B, C, T) of zero mean and unit deviation per lead inside the padding; a flat lead is 0.

    A lead of which half was dropped comes out 1.4 times larger, with its masked half off 0.
    """
    start, stop = inside if inside[1] else (0, x.shape[-1])
    part = x[..., start:stop]
    spread = part.std(-1, correction=0, keepdim=True)
    scored = torch.where(spread > 1e-6, (part - part.mean(-1, keepdim=True)) / spread, 0.0)
    out = torch.zeros_like(x)
    out[..., start:stop] = scored
    return out
