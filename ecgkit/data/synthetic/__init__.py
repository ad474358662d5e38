"""A simulated 12-lead cohort: one ECG for a look, or a whole cohort in PTB-XL's own layout.

Everything here is SIMULATED: the files say so in the `device` column and in `truth.csv`.

Usage:

    folder = write_cohort("data/cache/cohort", n_ecgs=2400, seed=7)    # PTB-XL layout + truth.csv
    record = simulate(["AFIB", "CLBBB"], fs=500, seed=1)    # one ECGRecord for a notebook
"""

from __future__ import annotations

import numpy as np

from ecgkit.data.scp_table import scp_statements
from ecgkit.data.synthetic import anatomy, artefacts, findings
from ecgkit.data.synthetic import render as drawing
from ecgkit.data.synthetic.controls import check_measures, set_measures
from ecgkit.data.synthetic.patients import NO_P_WAVE
from ecgkit.data.synthetic.rhythm import draw_beats
from ecgkit.data.synthetic.tables import COLUMNS, RATES, record_name, truth_table, write_cohort
from ecgkit.data.synthetic.truth import ground_truth, read_beats, record_truth, write_beats
from ecgkit.types import LEADS, ConfigError, ECGRecord

__all__ = [
    "COLUMNS",
    "RATES",
    "known_codes",
    "read_beats",
    "record_name",
    "simulate",
    "truth_table",
    "write_beats",
    "write_cohort",
]


def simulate(
    codes,
    fs: int = 500,
    seconds: float = 10,
    seed: int = 0,
    heart_rate: float | None = None,
    age: float = 60,
    sex: int = 0,
    qrs_ms: float | None = None,
    axis_deg: float | None = None,
    st_mv: float | None = None,
) -> ECGRecord:
    """One simulated ECG with the findings `codes` (SCP codes), (12, T) float32 mV at `fs` Hz.

    `heart_rate` (beats/min), `qrs_ms`, `axis_deg` and `st_mv` (added in V4 and V5) override what
    the findings would give; `sex` 0 male, 1 female. `meta["truth"]` holds what was drawn: `truth`'s
    columns, and `beats` (time_s, label). Codes that cannot stand together (AFIB and SR) are drawn
    one over the other, in the order of `findings.EFFECTS`; cohorts have none such. Raises
    ConfigError for a code the simulator does not draw and for a number beyond `controls.LIMITS`.
    """
    check_measures(
        heart_rate=heart_rate, qrs_ms=qrs_ms, axis_deg=axis_deg, st_mv=st_mv,
        age=age, sex=sex, fs=fs, seconds=seconds, seed=seed,
    )  # fmt: skip
    codes = [codes] if isinstance(codes, str) else list(codes)
    unknown = [c for c in codes if c not in findings.EFFECTS and c not in findings.DESCRIPTIVE]
    if unknown:
        known = ", ".join(sorted((*findings.EFFECTS, *findings.DESCRIPTIVE)))
        raise ConfigError(f"The simulator does not draw {', '.join(unknown)}; it knows {known}.")
    rng = np.random.default_rng(seed)
    if not set(codes) & {"SR", "SBRAD", "STACH", "SARRH", *NO_P_WAVE}:
        codes.append("SR")
    latents = rng.standard_normal((1, anatomy.N_LATENTS))
    has = {code: np.ones(1, bool) for code in codes}
    severity = {code: rng.uniform(0.45, 0.85, 1) for code in codes}
    hearts = anatomy.normal_hearts(latents, np.array([float(age)]), np.array([sex]), rng)
    findings.apply_findings(hearts, has, severity, rng, heart_rate)
    set_measures(hearts, qrs_ms, axis_deg, st_mv)
    times = draw_beats(hearts, seconds, rng)
    n_samples = int(round(seconds * fs))
    signal = drawing.render(hearts, times, fs, n_samples, rng)
    quiet = artefacts.draw_artefacts(1, rng, rates=(0, 0, 0, 0))
    artefacts.disturb(signal, quiet, slice(None), fs, rng)
    truth = record_truth(ground_truth(hearts, times, seconds), 0)
    meta = {"simulated": True, "codes": codes, "age": age, "sex": sex, "truth": truth}
    return ECGRecord(
        drawing.twelve_leads(signal)[0].astype(np.float32),
        fs=fs,
        leads=LEADS,
        ecg_id=f"simulated-{seed}",
        meta=meta,
    )


def known_codes() -> list[str]:
    """SCP codes the simulator draws or names, in the statement table's order."""
    return [c for c in scp_statements().index if c in findings.EFFECTS or c in findings.DESCRIPTIVE]
