"""The simulator's knobs, its widget and its gallery: what they show is what was asked for."""

import numpy as np
import pytest

from ecgkit import runtime
from ecgkit.data.synthetic import known_codes, simulate
from ecgkit.data.synthetic.controls import LIMITS
from ecgkit.reports import simulator_figures as gallery
from ecgkit.reports import simulator_widget as bench
from ecgkit.types import ConfigError


def truth_of(**knobs) -> dict:
    return simulate("SR", fs=100, seed=3, **knobs).meta["truth"]


@pytest.mark.parametrize("qrs_ms", [90, 120, 150])
def test_the_qrs_is_as_wide_as_asked(qrs_ms):
    assert truth_of(qrs_ms=qrs_ms)["qrs_ms"] == pytest.approx(qrs_ms, abs=5)


@pytest.mark.parametrize("axis_deg", [-60, 0, 60, 110])
def test_the_axis_points_where_asked(axis_deg):
    assert truth_of(axis_deg=axis_deg)["axis_deg"] == pytest.approx(axis_deg, abs=3)


def test_st_and_rate_follow_their_knobs():
    plain, raised = truth_of(), truth_of(st_mv=0.2)
    assert raised["st_V5"] - plain["st_V5"] == pytest.approx(0.2, abs=0.03)
    assert truth_of(heart_rate=120)["heart_rate"] == pytest.approx(120, rel=0.05)
    still = truth_of(qrs_ms=140)
    assert still["pr_ms"] == pytest.approx(plain["pr_ms"], abs=6)  # PR does not move with the QRS


@pytest.mark.parametrize("name", LIMITS)
def test_what_nobody_can_mean_is_refused_in_a_sentence(name):
    least, most, _ = LIMITS[name]
    for value in (least - 1, 2 * most + 1, float("nan"), "75"):
        with pytest.raises(ConfigError, match=f"^{name} is .*; give {least} to"):
            simulate("SR", **{"fs": 100, name: value})


@pytest.mark.parametrize("name", [n for n in LIMITS if n not in ("seconds", "seed")])
def test_at_the_ends_of_the_limits_there_is_an_ecg(name):
    for value in LIMITS[name][:2]:
        signal = simulate("SR", **{"fs": 100, name: value}).signal
        assert np.isfinite(signal).all() and 0.2 < np.abs(signal).max() < 8
    assert simulate("SR", fs=100, seconds=0.5).signal.shape == (12, 50)


@pytest.mark.parametrize(
    "codes", ["AFIB SR", "CLBBB CRBBB", "2AVB AFIB", "PACE WPW", "STACH SBRAD", "all"]
)
def test_statements_that_bar_each_other_still_give_an_ecg(codes):
    codes = known_codes() if codes == "all" else codes.split()
    signal = simulate(codes, fs=100, seed=2).signal
    assert np.isfinite(signal).all() and 0.2 < np.abs(signal).max() < 8


def test_a_batch_run_shows_one_marked_page(monkeypatch):
    monkeypatch.setattr(runtime, "is_batch", lambda: True)
    figure = bench.meet_simulator("AFIB", seed=2)
    words = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert "Simulated" in words and "no P wave" in words


def test_the_gallery_shows_every_code_once_with_its_criterion():
    groups = (gallery.RHYTHM, gallery.CONDUCTION, gallery.INFARCTION, gallery.REPOLARISATION)
    shown = [code for group in groups for code in group]
    assert len(shown) == len(set(shown))
    assert set(known_codes()) == set(shown)
    figure = gallery.plot_gallery(("AFIB", "LAFB"), seed=1)
    words = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert "Simulated" in words and "axis -45 to -90" in words and "atrial fibrillation" in words
    traces = [line for line in figure.axes[0].lines]
    assert len(traces) == 1 + 3 and all(np.isfinite(line.get_ydata()).all() for line in traces)


def test_an_unknown_code_is_a_sentence():
    with pytest.raises(ConfigError, match="does not draw XYZ"):
        bench.meet_simulator("XYZ")
