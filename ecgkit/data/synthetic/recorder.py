"""What PTB-XL's recorders did to a signal: 400 samples a second in steps of 5 uV, compressed as
SCP-ECG does (EN 1064: outside the QRS four samples become their mean, small deviations are left
out, straight lines join what is kept), then made 500 samples a second by straight lines again.

Seen in the 500 Hz files themselves: every fifth sample is a whole multiple of 5 uV, the four in
between lie on the lines from one 400 Hz sample to the next; between beats II, III and the chest
stand still for up to 60 ms at a time; I is the difference of II and III.

Shape letters: N records, C8 independent leads, T samples, G groups of four samples.

Usage:

    signal = at_500(signal)     # (N, C8, 400 * s) mV -> (N, C8, 500 * s) mV
"""

from __future__ import annotations

import numpy as np

NATIVE_HZ, STEP_MV = 400, 0.005
_BUSY, _AROUND = 0.3, 13  # share of the steepest change; groups of 10 ms kept whole around it
_SMALL, _OVER = 2.9, 9  # steps from the mean over so many groups that are left out


def at_500(signal: np.ndarray) -> np.ndarray:
    """(N, C8, 4 g) mV at 400 Hz -> (N, C8, 5 g) float32 mV at 500 Hz, in steps of 5 uV at every
    fifth sample. Some 16 records at a time stay in the processor's cache.
    """
    n, leads, n_samples = signal.shape
    out = np.empty((n, leads, n_samples // 4, 5), dtype=np.float32)
    a, b, c, d = _stored(signal)
    out[..., 0] = a
    for slot, (left, right) in enumerate(((a, b), (b, c), (c, d)), start=1):
        share = np.float32(0.2 * slot)
        out[..., slot] = right * (1 - share) + left * share
    out[..., :-1, 4] = d[..., :-1] * np.float32(0.8) + a[..., 1:] * np.float32(0.2)
    out[..., -1, 4] = d[..., -1]
    out *= np.float32(STEP_MV)
    return out.reshape(n, leads, -1)


def _stored(signal: np.ndarray) -> np.ndarray:
    """(N, C8, 4 g) mV -> (4, N, C8, g) whole steps, the four samples of each group first."""
    from scipy.ndimage import uniform_filter1d

    leads = signal * np.float32(1 / STEP_MV)
    leads[:, 0] = leads[:, 1] - leads[:, 0]  # III is stored, I is not
    groups = leads.reshape(*leads.shape[:2], -1, 4)
    fine = np.ascontiguousarray(groups.transpose(3, 0, 1, 2))  # (4, N, C8, G)
    mean = (fine[0] + fine[1] + fine[2] + fine[3]) * np.float32(0.25)
    smooth = uniform_filter1d(mean, _OVER, axis=-1)
    np.copyto(mean, smooth, where=np.abs(mean - smooth) < _SMALL)
    np.rint(mean, out=mean)
    step = np.diff(mean, axis=-1)
    quiet = ~_busy(step)[:, None]
    up, down = np.zeros_like(mean), np.zeros_like(mean)  # to the next group, to the one before
    up[..., :-1], down[..., 1:] = step, -step
    for sample, (beside, share) in zip(
        fine, ((down, 0.375), (down, 0.125), (up, 0.125), (up, 0.375))
    ):
        np.copyto(sample, mean + np.float32(share) * beside, where=quiet)
    np.rint(fine, out=fine)
    fine[:, :, 0] = fine[:, :, 1] - fine[:, :, 0]
    return fine


def _busy(step: np.ndarray) -> np.ndarray:
    """(N, C8, G - 1) change from group to group -> (N, G) bool: in or near a QRS."""
    from scipy.ndimage import maximum_filter1d

    change = np.pad(np.abs(step).sum(axis=1), ((0, 0), (0, 1)))
    last = int(0.985 * change.shape[1])
    steep = np.partition(change, last, axis=1)[:, last, None]
    return maximum_filter1d((change > _BUSY * steep).view(np.uint8), _AROUND).view(bool)
