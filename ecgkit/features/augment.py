"""Augmentations of ECG batches: lead masking, crops, shifts in time, noise, gains, baseline wander,
silenced stretches.

Letters: B batch, C leads, T samples, S segments. Every function takes (B, C, T) and a numpy
Generator, draws anew for each row, and returns a new array; the input is never written to.
Gains and wander are drawn per lead, so I + III = II no longer holds afterwards.
Sources: Oh et al. 2022 section 3 (random lead masking); Chen et al. 2020 (SimCLR), whose image
transformations have these as their ECG counterparts.

Usage:

    silent = random_lead_masks(len(signal), 12, rng)            # (B, 12) bool, never a whole row
    x = mask_leads(signal, silent)                              # RLM
    first, second = two_views(signal, rng, Augmentations(), fs=100)     # (B, C, T / 2) each
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ecgkit.types import LEADS, ConfigError

N_LIMB = 6  # I to aVF; V1 to V6 follow
WANDER_HZ = (0.05, 0.5)
WANDER_WAVES = 3


@dataclass(frozen=True)
class Augmentations:
    """Strength of each step of `random_view`; 0 (crop: 1) leaves it out."""

    crop: float = 0.5  # share of the record in a view
    lead_mask: float = 0.5
    jitter_mv: float = 0.01
    gain_sd: float = 0.1
    wander_mv: float = 0.05
    time_mask: float = 0.2  # longest share of a view that is silenced


# --- leads ----------------------------------------------------------------------------------------


def random_lead_masks(n_rows: int, n_leads: int, rng, p: float = 0.5) -> np.ndarray:
    """(B, C) bool, True = to be zeroed: each lead on its own with chance `p`.

    A row that would lose every lead (p ** C; 1 in 4,096 for 12 leads at 0.5, which the published
    code lets through) keeps one at random: an empty ECG has nothing to be told from.
    """
    if not 0 <= p <= 1:
        raise ConfigError(f"The chance of masking a lead is {p}; give a number from 0 to 1.")
    masked = rng.random((n_rows, n_leads)) < p
    spared = rng.integers(n_leads, size=n_rows)
    masked[np.arange(n_rows), spared] &= ~masked.all(1)
    return masked


def conditional_lead_masks(n_rows: int, rng, n_limb: int = 4, n_chest: int = 5) -> np.ndarray:
    """(B, 12) bool: `n_limb` of the six limb and `n_chest` of the six chest leads, drawn per row.

    The published "conditional" selection means this but fails on its first batch.
    """
    if not (0 <= n_limb <= N_LIMB and 0 <= n_chest <= N_LIMB) or n_limb + n_chest == len(LEADS):
        raise ConfigError(
            f"{n_limb} limb and {n_chest} chest leads cannot be masked: there are six of each, and "
            "one lead must stay."
        )
    ranks = rng.random((n_rows, 2, N_LIMB)).argsort(-1).argsort(-1)
    return (ranks < np.array([n_limb, n_chest])[:, None]).reshape(n_rows, -1)


def all_but(kept: Sequence[str], leads: Sequence[str] = LEADS) -> np.ndarray:
    """(C,) bool mask that leaves the named leads. Raises ConfigError for a name not in `leads`."""
    unknown = [name for name in kept if name not in leads]
    if unknown or not len(kept):
        raise ConfigError(
            f"Leads to keep: {', '.join(kept) or 'none'}; choose some of {', '.join(leads)}."
        )
    return np.array([name not in kept for name in leads])


def mask_leads(signal: np.ndarray, masked: np.ndarray) -> np.ndarray:
    """Zeroes the leads of (B, C, T) that `masked` (B, C) or (C,) marks."""
    return np.where(masked[..., None], signal.dtype.type(0), signal)


# --- time -----------------------------------------------------------------------------------------


def segments(signal: np.ndarray, n: int = 2) -> np.ndarray:
    """(B, C, T) -> (B, n, C, T // n): consecutive stretches; a remainder at the end is left out."""
    n_rows, n_leads, width = len(signal), signal.shape[1], signal.shape[-1] // n
    cut = signal[..., : n * width].reshape(n_rows, n_leads, n, width)
    return np.ascontiguousarray(cut.transpose(0, 2, 1, 3))


def random_crop(signal: np.ndarray, rng, n_samples: int) -> np.ndarray:
    """(B, C, T) -> (B, C, n_samples), each row from a start of its own."""
    n_rows, width = len(signal), signal.shape[-1]
    if not 1 <= n_samples <= width:
        raise ConfigError(f"A crop of {n_samples} samples does not fit an ECG of {width}.")
    starts = rng.integers(width - n_samples + 1, size=n_rows)
    windows = np.lib.stride_tricks.sliding_window_view(signal, n_samples, axis=-1)
    return windows[np.arange(n_rows), :, starts]  # indexing copies


def shift_time(signal: np.ndarray, rng) -> np.ndarray:
    """(B, C, T) -> (B, C, T): each row starts at a random moment, its beginning joined to its end.

    A label that holds for the whole recording holds for this too; the seam may cut a beat.
    """
    starts = rng.integers(signal.shape[-1], size=len(signal))
    twice = np.concatenate([signal, signal], axis=-1)
    windows = np.lib.stride_tricks.sliding_window_view(twice, signal.shape[-1], axis=-1)
    return windows[np.arange(len(signal)), :, starts]  # indexing copies


def mask_time(signal: np.ndarray, rng, longest: float = 0.2) -> np.ndarray:
    """Zeroes one stretch of each row, in all leads, of 0 to `longest` (a share of T)."""
    n_rows, width = len(signal), signal.shape[-1]
    length = (rng.uniform(0, longest, n_rows) * width).astype(int)
    start = (rng.random(n_rows) * (width - length + 1)).astype(int)
    at = np.arange(width)
    silent = (at >= start[:, None]) & (at < (start + length)[:, None])  # (B, T)
    return np.where(silent[:, None], signal.dtype.type(0), signal)


# --- amplitude ------------------------------------------------------------------------------------


def jitter(signal: np.ndarray, rng, sd_mv: float = 0.01) -> np.ndarray:
    """Adds white noise of `sd_mv` mV."""
    noise = rng.standard_normal(signal.shape, dtype=np.float32)
    return (signal + np.float32(sd_mv) * noise).astype(signal.dtype, copy=False)


def scale_leads(signal: np.ndarray, rng, sd: float = 0.1) -> np.ndarray:
    """Multiplies each lead by a gain of its own, N(1, sd)."""
    gain = 1 + sd * rng.standard_normal((*signal.shape[:2], 1))
    return (signal * gain).astype(signal.dtype, copy=False)


def wander(signal: np.ndarray, rng, fs: float, sd_mv: float = 0.05) -> np.ndarray:
    """Adds slow waves (0.05 to 0.5 Hz) of about `sd_mv` mV: the same waves in all leads of a row,
    as breathing gives them, of another size in each."""
    n_rows, n_leads, width = signal.shape
    hz = rng.uniform(*WANDER_HZ, (n_rows, WANDER_WAVES, 1))
    phase = rng.uniform(0, 2 * np.pi, (n_rows, WANDER_WAVES, 1))
    waves = np.sin(2 * np.pi * hz * np.arange(width) / fs + phase)  # (B, W, T)
    size = rng.standard_normal((n_rows, n_leads, WANDER_WAVES))
    size *= sd_mv * np.sqrt(2 / WANDER_WAVES)  # a sine's own deviation is 1 / sqrt 2
    return (signal + size @ waves).astype(signal.dtype, copy=False)


# --- views ----------------------------------------------------------------------------------------


def random_view(signal: np.ndarray, rng, how: Augmentations, fs: float) -> np.ndarray:
    """(B, C, T) mV -> (B, C, crop * T) mV through every step that `how` leaves in."""
    x = random_crop(signal, rng, max(1, round(how.crop * signal.shape[-1])))
    if how.gain_sd:
        x = scale_leads(x, rng, how.gain_sd)
    if how.wander_mv:
        x = wander(x, rng, fs, how.wander_mv)
    if how.jitter_mv:
        x = jitter(x, rng, how.jitter_mv)
    if how.time_mask:
        x = mask_time(x, rng, how.time_mask)
    if how.lead_mask:  # last, so that a masked lead is exactly flat
        x = mask_leads(x, random_lead_masks(*x.shape[:2], rng, how.lead_mask))
    return x


def two_views(signal: np.ndarray, rng, how: Augmentations, fs: float):
    """Two independent `random_view`s of each row: a positive pair of SimCLR and BYOL."""
    return random_view(signal, rng, how, fs), random_view(signal, rng, how, fs)
