"""Simulated recordings as independent software measures them: NeuroKit2's rate, PR and QRS."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("neurokit2", reason="NeuroKit2 is not installed")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import simulator_neurokit as neurokit  # noqa: E402
from simulator_probe import FS, beat_features, probe_auc  # noqa: E402

from ecgkit.data.synthetic.examples import draw_examples, render_examples  # noqa: E402

N = 40


@pytest.fixture(scope="module")
def measured():
    """NeuroKit's measurements and the truth of N clean regular sinus records."""
    signals, truth = neurokit.clean_records(3 * N, seed=5)
    rows = np.flatnonzero(truth["regular"])[:N]
    return neurokit.measure(signals[rows]), truth.iloc[rows].reset_index(drop=True)


def test_clean_regular_records_have_the_rate_neurokit_finds(measured):
    """98 % of 500 in benchmarks/simulator_truth.py."""
    assert len(measured[0]) == N
    assert neurokit.within_2(*measured) >= 0.95


@pytest.mark.parametrize("name", ["qrs", "pr"])
def test_intervals_follow_neurokits(measured, name, record_property):
    found, truth = (table[f"{name}_ms"] for table in measured)
    rho = found.corr(truth, method="spearman")
    record_property("spearman", float(round(rho, 3)))
    print(f"{name}: Spearman {rho:.2f} over {N} records, 500 in benchmarks/simulator_truth.py")
    assert rho >= 0.6


@pytest.mark.parametrize("code", ["AFIB", "CLBBB", "IMI", "LVH", "NDT"])
def test_a_linear_model_tells_a_statement_from_normal(code):
    """All statements: benchmarks/simulator_truth.py."""
    signals = [render_examples(draw_examples(c, 90, seed=6), FS, 6) for c in ("NORM", code)]
    assert probe_auc(*map(beat_features, signals)) > 0.8
