"""How the input of a frozen ECG encoder is made of mV, by the word that its notes use for it.

Usage:

    prepare = prepare_for("esi_preprocess")
    x = prepare(store.read(rows))                  # (B, C, T) mV -> (B, C, T) float32
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ecgkit.features.esi_input import esi_preprocess
from ecgkit.features.risk_input import zscore_leads
from ecgkit.types import ModelError


def as_recorded(signal: np.ndarray) -> np.ndarray:
    """mV as they are: the input of encoders that were trained without a z-score."""
    return np.asarray(signal, dtype=np.float32)


INPUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "": as_recorded,
    "esi_preprocess": esi_preprocess,  # one z-score for the whole record
    "zscore_leads": zscore_leads,  # one for each lead, a silent lead stays 0 (ECG-FM)
}


def prepare_for(word: str) -> Callable[[np.ndarray], np.ndarray]:
    """The function (B, C, T) mV -> the encoder's input. Raises ModelError for an unknown word."""
    if word not in INPUTS:
        raise ModelError(
            f"The encoder's config.json wants its input as {word!r}; the kit knows "
            f"{', '.join(filter(None, INPUTS))}. The folder may be from another version of the kit."
        )
    return INPUTS[word]
