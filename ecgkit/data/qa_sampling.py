"""A share of the questions, drawn by question type, as the LLM experiments of ECG-QA do.

Source: Oh et al. 2023: round(n / 10) questions of each question_type3, seed 42. The kit's own
generator draws, so the questions are not the published ones, their numbers are.

Letters: n questions, m of them drawn.

Usage:

    drawn = sample_by_type(questions, questions.index("test"), share=0.1, seed=42)   # (m,)
    strata(questions, questions.index("test"), 0.1)                  # type3, n, drawn
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ecgkit.types import ConfigError, DataError


def sample_by_type(questions, positions, share: float, seed: int = 42) -> np.ndarray:
    """(m,) of `positions`, ascending: round(share * n) of the n questions of each question_type3.

    Halves are rounded to even, as Python does. A stratum's draw depends on seed and its own
    questions alone. Raises ConfigError for a share outside (0, 1] and DataError where no question
    would be left.
    """
    positions = np.asarray(positions)
    if not 0 < share <= 1:
        raise ConfigError(f"The share of questions is {share}; it lies above 0 and up to 1.")
    kinds = questions.table["type3"].to_numpy()[positions]
    drawn = []
    for kind in np.unique(kinds):
        own = positions[kinds == kind]
        rng = np.random.default_rng([seed, int(kind)])
        drawn.append(rng.permutation(own)[: round(share * len(own))])
    drawn = np.sort(np.concatenate(drawn)) if drawn else positions
    if not len(drawn):
        raise DataError(
            f"{share:g} of {len(positions)} questions, type by type, is not one question; raise "
            "LLM_SHARE."
        )
    return drawn


def strata(questions, positions, share: float) -> pd.DataFrame:
    """type3, n, drawn: how many of each question_type3 `sample_by_type` takes, zeros included."""
    kinds, n = np.unique(questions.table["type3"].to_numpy()[positions], return_counts=True)
    drawn = [round(share * count) for count in n.tolist()]
    return pd.DataFrame({"type3": kinds, "n": n, "drawn": drawn})
