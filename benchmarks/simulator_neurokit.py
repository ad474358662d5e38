"""What NeuroKit2 measures on simulated recordings, beside the truth.

Heart rate: `ecg_peaks` after `ecg_clean`, mean RR, median of the twelve leads (lead II alone is
within 2 beats/min in 3 % fewer). QRS and PR: `ecg_delineate` by prominence (Emrich et al. 2024) on
each lead, 1-40 Hz, then over the leads as a cart does: QRS from the first decile of the onsets to
the last end, PR from the median onset of P to the first quartile of those of R. The quantiles were
chosen on cohorts of seeds 1 and 2. NeuroKit's wavelet method hardly follows QRS here (Spearman
below 0.2 in most leads): in leads without S it ends the QRS on the way up to T.

Usage:
    signals, truth = clean_records(400, seed=0)    # (N, 12, 5000) mV at 500 Hz, N rows
    found = measure(signals)                       # heart_rate, qrs_ms, pr_ms
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit.data.synthetic import read_beats, record_name, write_cohort
from ecgkit.data.synthetic.examples import draw_examples, render_examples
from ecgkit.types import LEADS

FS, NOISE = 500, ("baseline_drift", "static_noise", "burst_noise", "electrodes_problems")
BAND = (1.0, 40.0)  # Hz
REGULAR, OTHERS = (
    ("SR", "SBRAD", "STACH"),
    (
        *("SARRH", "AFIB", "AFLT", "SVTAC", "PSVT", "SVARR", "PACE", "PVC", "PAC", "BIGU", "TRIGU"),
        *("2AVB", "3AVB"),
    ),
)


# --- records --------------------------------------------------------------------------------------


def clean_records(n_ecgs: int, seed: int) -> tuple[np.ndarray, pd.DataFrame]:
    """Of a simulated cohort of `n_ecgs` those without a named artefact, (N, 12, 5000) mV, and their
    truth, whose column `regular` says: sinus rhythm, no premature or dropped beat.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_cohort(Path(scratch) / "cohort", n_ecgs, seed, rates=(FS,))
        table, truth = (pd.read_csv(folder / f"{n}.csv") for n in ("ptbxl_database", "truth"))
        labels = read_beats(folder).groupby("ecg_id")["label"].agg("".join)
        keep = table[list(NOISE)].isna().all(axis=1).to_numpy()
        signals = np.stack([_read(folder, i) for i in table["ecg_id"][keep]])
    truth = truth[keep].reset_index(drop=True)
    plain = truth["ecg_id"].map(labels).str.fullmatch("[pN]*")
    spread = truth["rr_max_ms"] - truth["rr_min_ms"]
    truth["regular"] = (
        truth["rhythm"].isin(REGULAR) & plain & (truth["n_blocked"] == 0) & (spread < 200)
    )
    return signals, truth


def _read(folder: Path, ecg_id: int) -> np.ndarray:
    """(12, T) float64 mV."""
    path = folder / f"{record_name(ecg_id, FS)}.dat"
    return np.fromfile(path, "<i2").reshape(-1, len(LEADS)).T / 1000.0


# --- measuring ------------------------------------------------------------------------------------


def measure(signals: np.ndarray, delineate: bool = True) -> pd.DataFrame:
    """(N, 12, T) mV at 500 Hz -> heart_rate (beats/min), qrs_ms, pr_ms; NaN where it finds none."""
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of every beat it gives up
        for signal in signals:
            peaks = [_peaks(lead) for lead in signal]
            rates = [60 * FS / np.diff(p).mean() if len(p) > 1 else np.nan for p in peaks]
            intervals = _intervals(signal, peaks) if delineate else (np.nan, np.nan)
            rows.append((np.nanmedian(rates), *intervals))
    return pd.DataFrame(rows, columns=["heart_rate", "qrs_ms", "pr_ms"])


def _peaks(lead: np.ndarray) -> np.ndarray:
    """(B,) samples of NeuroKit's R peaks."""
    import neurokit2 as nk

    lead = np.asarray(lead, dtype=float)
    found = nk.ecg_peaks(nk.ecg_clean(lead, sampling_rate=FS), sampling_rate=FS)[1]
    return np.asarray(found["ECG_R_Peaks"], dtype=int)


def _intervals(signal: np.ndarray, peaks: list) -> tuple[float, float]:
    """QRS and PR in ms of a record (12, T) with the R peaks of each lead."""
    common = peaks[LEADS.index("II")]
    if len(common) < 3:
        return np.nan, np.nan
    edges = np.array([_edges(lead, own, common) for lead, own in zip(signal, peaks)])  # (12, 3)
    p_on, r_on, r_off = edges.T
    qrs = np.nanmax(r_off) - np.nanpercentile(r_on, 10)
    return qrs, np.nanpercentile(r_on, 25) - np.nanmedian(p_on)


def _edges(lead: np.ndarray, own: np.ndarray, peaks: np.ndarray) -> tuple[float, float, float]:
    """P onset, R onset, R end of one lead with R peaks `own`, in ms from the R `peaks` of lead II,
    medians over its beats.
    """
    import neurokit2 as nk

    low, high = BAND
    band = nk.signal_filter(np.asarray(lead, float), FS, lowcut=low, highcut=high, order=2)
    try:
        waves = nk.ecg_delineate(band, own, sampling_rate=FS, method="prominence")[1]
    except (ValueError, IndexError, KeyError, ZeroDivisionError):
        return np.nan, np.nan, np.nan  # a lead in which it finds no beats
    near = peaks[np.abs(own[:, None] - peaks).argmin(axis=1)]
    same = np.abs(own - near) < 0.12 * FS
    found = []
    for name in ("ECG_P_Onsets", "ECG_R_Onsets", "ECG_R_Offsets"):
        at = np.asarray(waves[name], dtype=float)
        found.append(
            np.nanmedian((at - near)[same]) * 1000 / FS if len(at) == len(near) else np.nan
        )
    return tuple(found)


# --- tables ---------------------------------------------------------------------------------------


def within_2(found: pd.DataFrame, truth: pd.DataFrame) -> float:
    """Share of records whose heart rate is within 2 beats/min of the truth."""
    return float(((found["heart_rate"] - truth["heart_rate"]).abs() <= 2).mean())


def sinus_agreement(n: int, seed: int) -> dict[str, float]:
    """`hr_within_2`, `qrs_spearman`, `pr_spearman` on up to `n` clean regular records."""
    from scipy.stats import spearmanr

    signals, truth = clean_records(3 * n, seed)
    rows = np.flatnonzero(truth["regular"])[:n]
    found, truth = measure(signals[rows]), truth.iloc[rows].reset_index(drop=True)
    rho = {
        f"{name}_spearman": spearmanr(found[f"{name}_ms"], truth[f"{name}_ms"], nan_policy="omit")[
            0
        ]
        for name in ("qrs", "pr")
    }
    return {"n_sinus": len(rows), "hr_within_2": within_2(found, truth)} | rho


def rates_by_rhythm(n: int, seed: int) -> pd.DataFrame:
    """Per rhythm the share of `n` records without noise whose heart rate is within 2 beats/min."""
    rows = {}
    for code in (*REGULAR, *OTHERS):
        drawn = draw_examples(code, n, seed)
        found = measure(render_examples(drawn, FS, seed, noisy=False), delineate=False)
        error = (found["heart_rate"] - drawn.truth["heart_rate"]).abs()
        rows[code] = (within_2(found, drawn.truth), error.median())
    return pd.DataFrame(rows, index=["hr_within_2", "median_error"]).T
