"""Can a linear model tell a simulated statement from a simulated normal ECG?

Features: the median beat of the twelve leads and how RR varies, both found in the noisy signal at
100 Hz by `ecgkit.features.rhythm`; nothing of the truth. A ridge classifier learns on two thirds of
the records and is scored on the rest.

Usage:
    normal, ill = (beat_features(signals) for signals in (a, b))    # (N, 12, 1000) mV at 100 Hz
    auc = probe_auc(normal, ill)
"""

from __future__ import annotations

import numpy as np

from ecgkit.features.rhythm import find_beats, median_beats

FS, BEFORE, AFTER = 100, 0.4, 0.5


def beat_features(signals: np.ndarray) -> np.ndarray:
    """(N, 12, T) mV at 100 Hz -> (N, F): median beat from 0.4 s before to 0.5 s behind R, and seven
    numbers of RR.
    """
    beats = find_beats(signals, FS)
    shape = median_beats(signals, beats, BEFORE, AFTER).reshape(len(signals), -1)
    record, rr = beats.intervals()
    rhythm = np.stack([_rhythm(rr[record == i]) for i in range(len(signals))])
    return np.nan_to_num(np.concatenate([shape, rhythm], axis=1))


def _rhythm(rr: np.ndarray) -> np.ndarray:
    """Rate, spread, least and most RR, beat-to-beat change, its turning, median RR of a record."""
    rr = rr if len(rr) > 3 else np.ones(4)
    step, mean = np.diff(rr), rr.mean()
    turning = -(step[1:] * step[:-1]).mean() / (step**2).mean().clip(1e-6)
    return np.array(
        [
            *(60 / mean, rr.std() / mean, rr.min() / mean, rr.max() / mean),
            *(np.abs(step).mean() / mean, turning, np.median(rr)),
        ]
    )


def probe_auc(normal: np.ndarray, ill: np.ndarray) -> float:
    """AUC on the last third of each class of a ridge classifier trained on the first two."""
    from sklearn.linear_model import RidgeClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    cuts = [2 * len(x) // 3 for x in (normal, ill)]
    train, test = (
        np.concatenate([x[part] for x, part in zip((normal, ill), parts)])
        for parts in ([slice(c) for c in cuts], [slice(c, None) for c in cuts])
    )
    label = np.repeat([0, 1], cuts)
    model = make_pipeline(StandardScaler(), RidgeClassifier(alpha=300.0)).fit(train, label)
    held_out = np.repeat([0, 1], [len(x) - c for x, c in zip((normal, ill), cuts)])
    return float(roc_auc_score(held_out, model.decision_function(test)))
