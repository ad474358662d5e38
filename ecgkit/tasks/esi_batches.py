"""Batches of an ESI pretraining: which pairs a step sees, and what is done to their signals.

A step reads one wording of every ECG of its batch, full captions or one of the short ones. Full
captions share a batch with those about as long, so that little of it is padding. Short ones come as
they are: there is little to save, and sorted they would often be the same words (see WINDOW).

Letters: B batch, C leads, T samples, L tokens, P items to train on, W wordings.

Usage:

    order, make_batch = CaptionBatches(study), batch_maker(study)
    batch = make_batch(order(step), rng)       # {"signals" (B, C, T), "ids" (B, L), "mask" (B, L)}
    fixed_batch(study, rows)                   # the same without chance, of any rows of the cohort
"""

from __future__ import annotations

import numpy as np
import torch

from ecgkit.features.augment import random_crop, shift_time
from ecgkit.features.esi_input import esi_preprocess
from ecgkit.tasks.batching import GroupedBatches

JITTER_MV, GAIN_SD = 0.003, 0.003  # the published augmentation: almost none
# Batches sorted together; the more, the more texts of a batch are the same words: of short captions
# 0.7 % unsorted, 2.5 % with 4, 7.5 % with 32. Whether that slows the contrast is not established:
# at the demo's sizes, 300 steps leave some seeds at chance, sorted (1 of 1) or not (1 of 3).
WINDOW = 4


class CaptionBatches:
    """`order(step)` -> (B,) numbers p * W + w: wording w of the item `train[p]`, one w per step.

    Every wording is an epoch of its own, so that no ECG stands in a batch twice, where its own
    other text would count as a wrong one. `step`: the latest one asked for.
    """

    def __init__(self, study):
        config, n_wordings = study.config, study.tokens.n_wordings
        entries = np.arange(len(study.train) * n_wordings)
        p, wording = np.divmod(entries, n_wordings)
        length = study.tokens.lengths(study.caption_of[study.train[p]], wording)
        length[wording > 0] = 0  # not sorted
        short = (1 - config.full_share) / max(1, n_wordings - 1)
        shares = {0: config.full_share if n_wordings > 1 else 1.0}
        shares |= {w: short for w in range(1, n_wordings)}
        self.batch_size = min(config.batch_size, len(study.train))
        self.order = GroupedBatches(wording, length, self.batch_size, config.n_steps, config.seed,
                                    shares, WINDOW)
        self.n_entries, self.step = len(entries), 0

    def __call__(self, step: int) -> np.ndarray:
        self.step = step
        return self.order(step)


def room_of(config, wording):
    """Tokens a batch has room for, in the full caption (wording 0) and in the short ones."""
    return np.where(np.asarray(wording) == 0, config.max_tokens, config.short_tokens)


def batch_maker(study):
    """make_batch for the engine: signals and one wording each of the entries CaptionBatches gave.

    It depends on the entries and on `rng` alone.
    """
    n_wordings, config = study.tokens.n_wordings, study.config

    def make_batch(entries: np.ndarray, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        p, wording = np.divmod(entries, n_wordings)
        items = study.train[p]
        signals = cropped(study.mixture.read(items), rng, config.crop_s, study.cohort.store.fs)
        signals = augmented(signals, rng, config.time_shift and not config.crop_s)
        room = int(room_of(config, wording).max())
        text = study.tokens.read(study.caption_of[items], wording, room)
        return {"signals": torch.from_numpy(signals), **text}

    return make_batch


def cropped(signals: np.ndarray, rng: np.random.Generator, seconds: float, fs: float):
    """(B, C, T) -> (B, C, seconds * fs), a stretch of each ECG from a random moment. 0 seconds, or
    more than there are: the whole ECG.
    """
    n = round(seconds * fs)
    return random_crop(signals, rng, n) if 0 < n < signals.shape[-1] else signals


def augmented(signals: np.ndarray, rng: np.random.Generator, shift: bool = False) -> np.ndarray:
    """(B, C, T) mV -> jittered, scaled per lead, z-scored: the published loader's order. With
    `shift` each ECG first begins at a random moment, its start joined to its end.
    """
    if shift:
        signals = shift_time(signals, rng)
    noise = rng.standard_normal(signals.shape, dtype=np.float32)
    gain = 1 + GAIN_SD * rng.standard_normal((*signals.shape[:2], 1), dtype=np.float32)
    return esi_preprocess((signals + JITTER_MV * noise) * gain)


def fixed_batch(study, rows: np.ndarray) -> dict[str, torch.Tensor]:
    """Signals without augmentation and the full captions of `rows` of the study's cohort."""
    signals = esi_preprocess(study.mixture.read(rows))
    return {"signals": torch.from_numpy(signals), **study.tokens.read(rows)}
