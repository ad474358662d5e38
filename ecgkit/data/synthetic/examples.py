"""Many simulated ECGs of one statement, for tests, benchmarks and figures; each its own patient.

Usage:

    drawn = draw_examples("LAFB", n=200, seed=1)    # Examples: hearts, beats, truth (200 rows)
    signal = render_examples(drawn, fs=100, seed=1)     # (200, 12, 1000) mV with noise
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ecgkit.data.synthetic import anatomy, artefacts, findings
from ecgkit.data.synthetic import render as drawing
from ecgkit.data.synthetic.beats import Beats
from ecgkit.data.synthetic.hearts import Hearts
from ecgkit.data.synthetic.prevalence import GROUPS
from ecgkit.data.synthetic.rhythm import draw_beats
from ecgkit.data.synthetic.truth import ground_truth

SECONDS = 10
CERTAIN = (0.35, 1.0)  # severity of a statement at likelihood 100


@dataclass
class Examples:
    """N hearts, their beats in a strip of SECONDS, and what can be measured of them."""

    hearts: Hearts
    beats: Beats
    truth: pd.DataFrame


def draw_examples(code: str, n: int, seed: int, severity=CERTAIN) -> Examples:
    """`n` adults with the statement `code` alone, beside SR where it is no rhythm of its own.

    Age 60 +- 15 years, half of them women; `severity` is drawn evenly from that range.
    """
    rng = np.random.default_rng([seed, *code.encode()])
    age, sex = np.clip(rng.normal(60, 15, n), 20, 92), rng.integers(0, 2, n)
    latents = rng.standard_normal((n, anatomy.N_LATENTS))
    hearts = anatomy.normal_hearts(latents, age, sex, rng)
    codes = [code] if code in ("SR", *GROUPS["RHYTHM"]) else ["SR", code]
    has = {name: np.ones(n, bool) for name in codes}
    findings.apply_findings(hearts, has, {name: rng.uniform(*severity, n) for name in codes}, rng)
    beats = draw_beats(hearts, SECONDS, rng)
    return Examples(hearts, beats, ground_truth(hearts, beats, SECONDS))


def render_examples(drawn: Examples, fs: int, seed: int, noisy: bool = True) -> np.ndarray:
    """(N, 12, T) float32 mV; `noisy` adds the room's disturbances as in a cohort."""
    rng = np.random.default_rng([seed, 1])
    n, n_samples = len(drawn.hearts), SECONDS * fs
    signal = drawing.render(drawn.hearts, drawn.beats, fs, n_samples, rng)
    if noisy:
        noise = artefacts.draw_artefacts(n, rng)
        artefacts.disturb(signal, noise, slice(None), fs, rng)
    return drawing.twelve_leads(signal)
