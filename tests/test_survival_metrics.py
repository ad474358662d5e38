"""C, AUC and Brier by hand and against torchsurv; calibration, net benefit; bad input.

torchsurv works in float32, so values agree to 2e-5 where the definitions do. They differ in one:
an event's censoring weight is 1 / P(C >= T) here (the curve just before T) and 1 / P(C > T) there.
Without a time at which one is censored and another has the event these are the same; with such
ties the kit's weights are handed to torchsurv, and its own ones must then give something else.
"""

import warnings

import numpy as np
import pytest

from ecgkit.tasks import survival_followup as followup
from ecgkit.tasks.metrics import harrell_c
from ecgkit.tasks.survival_auc import auc_over_time
from ecgkit.tasks.survival_brier import breslow, brier_over_time, integrated_brier
from ecgkit.tasks.survival_calibration import calibration_groups, calibration_summary
from ecgkit.tasks.survival_concordance import c_gaps, c_table, null_sd
from ecgkit.tasks.survival_decision import net_benefit
from ecgkit.types import DataError

AT = [1.0, 2.5, 4.0]
TOLERANCE = 2e-5


def cohort(n=300, seed=0, tied=False):
    rng = np.random.default_rng(seed)
    risk = rng.normal(size=n)
    failure, end = rng.exponential(5 * np.exp(-risk)), rng.uniform(1, 8, n)
    time, event = np.minimum(failure, end), (failure <= end).astype(int)
    return (np.ceil(2 * time) / 2, event, risk.round(1)) if tied else (time, event, risk)


# --- by hand --------------------------------------------------------------------------------------


def test_uno_c_by_hand():
    """Events at 1 and 4; censored at 2, 5, 6. P(C >= 4) = 1 - 1/4, so the second event's pairs
    weigh 16/9: C = (3 + 16/9 * 1) / (4 + 16/9 * 2)."""
    time, event = [1.0, 2.0, 4.0, 5.0, 6.0], [1, 0, 1, 0, 0]
    risk = [2.0, 3.0, 1.0, 0.0, 1.5]
    row = c_table(time, event, {"a": risk}, tau=9, n_boot=0).iloc[0]
    assert row["harrell"] == pytest.approx((3 + 1) / (4 + 2))
    assert row["uno"] == pytest.approx((3 + 16 / 9) / (4 + 2 * 16 / 9))
    before = c_table(time, event, {"a": risk}, tau=4, n_boot=0).iloc[0]
    assert before["uno"] == pytest.approx(3 / 4), "an event at tau is no longer counted"


@pytest.mark.parametrize("tied", [False, True])
def test_curves_of_event_and_censoring_multiply_to_who_is_left(tied):
    """Holds only where events come before censorings of the same time."""
    time, event, _ = cohort(tied=tied)
    weights = followup.resamples(300, 4)
    times, free = followup.survival_curve(time, event == 1, weights)
    _, observed = followup.censoring_curve(time, event == 1, weights)
    left = weights @ (time[:, None] > times) / 300
    assert np.allclose(free * observed, left, atol=1e-6)


def test_competing_events_count_as_censored():
    time, event, risk = cohort()
    competing = np.where((event == 0) & (np.arange(300) % 2 == 0), 2, event)
    for code in (event, competing):
        row = c_table(time, code, {"a": risk}, n_boot=0).iloc[0]
        assert row["harrell"] == pytest.approx(harrell_c(time, event, risk), abs=1e-6)
    assert row["events"] == event.sum()


def test_without_censoring_auc_and_brier_are_the_ordinary_ones():
    from sklearn.metrics import roc_auc_score

    time, _, risk = cohort()
    everyone = np.ones(300)
    survival = np.random.default_rng(1).random((300, 1))
    table = auc_over_time(time, everyone, risk, [2], n_boot=0)
    assert table["auc"][0] == pytest.approx(roc_auc_score(time <= 2, risk))
    score = brier_over_time(time, everyone, survival, [2], n_boot=0)["brier"][0]
    assert score == pytest.approx(np.mean((survival[:, 0] - (time > 2)) ** 2))


def test_uno_does_not_move_with_censoring_and_harrell_does():
    rng = np.random.default_rng(3)
    risk = rng.normal(size=20_000)
    # Effects that fade: early events are easy to order, late ones are not.
    failure = rng.exponential(np.where(rng.random(20_000) < 0.5, np.exp(-2 * risk), 4.0))
    found = {}
    for name, end in (("late", rng.uniform(3, 9, 20_000)), ("early", rng.exponential(1.5, 20_000))):
        pick = slice(0, 4000)
        time, event = np.minimum(failure, end)[pick], (failure <= end)[pick]
        found[name] = c_table(time, event, {"a": risk[pick]}, tau=3, n_boot=0).iloc[0]
    assert abs(found["late"]["uno"] - found["early"]["uno"]) < 0.015
    assert abs(found["late"]["harrell"] - found["early"]["harrell"]) > 0.03


# --- against torchsurv ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torchsurv():
    return pytest.importorskip("torchsurv", reason="torchsurv (a development extra) is absent")


def weights_of(time, event):
    """The kit's weights of patients and of the times AT, as float32 tensors."""
    import torch

    times, free = followup.censoring_curve(time, event == 1)
    own = followup.inverse(followup.step_at(times, free, time, before=True))[0]
    at = followup.inverse(followup.step_at(times, free, AT))[0]
    return torch.tensor(own, dtype=torch.float32), torch.tensor(at, dtype=torch.float32)


@pytest.mark.parametrize("tied", [False, True])
def test_agrees_with_torchsurv(torchsurv, tied):
    import torch
    from torchsurv.metrics.auc import Auc
    from torchsurv.metrics.brier_score import BrierScore
    from torchsurv.metrics.cindex import ConcordanceIndex

    time, event, risk = cohort(tied=tied)
    own, at = weights_of(time, event)
    t, r, when = (torch.tensor(v, dtype=torch.float32) for v in (time, risk, AT))
    e = torch.tensor(event == 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = [
            ConcordanceIndex()(r, e, t),
            ConcordanceIndex()(r, e, t, weight=own, tmax=torch.tensor(4.0)),
            *Auc()(r, e, t, new_time=when, weight=own, weight_new_time=at),
        ]
        survival = breslow(risk, time, event).survival(risk, AT)
        score = BrierScore()
        theirs += list(score(torch.tensor(survival).float(), e, t, when, own, at))
    table = c_table(time, event, {"a": risk}, tau=4, n_boot=0)
    ours = [
        *table[["harrell", "uno"]].iloc[0],
        *auc_over_time(time, event, risk, AT, n_boot=0)["auc"],
        *brier_over_time(time, event, survival, AT, n_boot=0)["brier"],
    ]
    assert np.allclose(ours, [float(v) for v in theirs], atol=TOLERANCE)


def test_weights_differ_from_torchsurv_only_at_tied_times(torchsurv):
    import torch
    from torchsurv.stats.ipcw import get_ipcw

    for tied, agree in ((False, True), (True, False)):
        time, event, _ = cohort(tied=tied)
        seen = event == 1
        their = get_ipcw(torch.tensor(seen), torch.tensor(time, dtype=torch.float32)).numpy()
        assert np.allclose(weights_of(time, event)[0][seen], their[seen], rtol=1e-4) is agree


# --- intervals, noise -----------------------------------------------------------------------------


def test_intervals_hold_the_value_and_gaps_are_sharper_than_them():
    time, event, risk = cohort(400)
    other = risk + np.random.default_rng(5).normal(scale=0.5, size=400)
    table = c_table(time, event, {"a": risk, "b": other}, n_boot=200).set_index("name")
    for low, value, high in (("low", "harrell", "high"), ("uno_low", "uno", "uno_high")):
        assert ((table[low] < table[value]) & (table[value] < table[high])).all()
    gap = c_gaps(time, event, {"a": risk, "b": other}, [("a", "b")], n_boot=200).iloc[0]
    assert gap["gap"] == pytest.approx(table["harrell"]["a"] - table["harrell"]["b"])
    assert gap["high"] - gap["low"] < table["high"]["a"] - table["low"]["a"]
    with pytest.raises(DataError, match="no score 'c'"):
        c_gaps(time, event, {"a": risk}, [("a", "c")])


@pytest.mark.parametrize("tied", [False, True])
def test_null_sd_equals_what_noise_does(tied):
    time, event, _ = cohort(80, seed=2, tied=tied)
    rng = np.random.default_rng(0)
    drawn = np.std([harrell_c(time, event, rng.normal(size=80)) for _ in range(3000)])
    assert null_sd(time, event) == pytest.approx(drawn, rel=0.06)


def test_noise_on_the_published_cohort_size():
    """400 people with 16 events: the sheet measured a standard deviation of 0.084."""
    rng = np.random.default_rng(0)
    event = np.zeros(400)
    event[:16] = 1
    spread = np.mean([null_sd(rng.uniform(0.5, 7, 400), event) for _ in range(50)])
    assert spread == pytest.approx(0.084, abs=0.005)


# --- prediction -----------------------------------------------------------------------------------


def true_prediction(n=2000):
    time, event, risk = cohort(n, seed=7)
    half = n // 2
    return breslow(risk[:half], time[:half], event[:half]), time[half:], event[half:], risk[half:]


def test_breslow_finds_the_true_baseline():
    baseline, *_ = true_prediction()
    assert baseline.hazard([0.0], [1, 3, 5])[0] == pytest.approx([0.2, 0.6, 1.0], rel=0.12)
    assert baseline.survival([0.0, 1e3], [2]).shape == (2, 1)
    assert baseline.survival([1e3], [2])[0, 0] == 0


def test_calibration_of_a_true_and_of_an_overconfident_model():
    baseline, time, event, risk = true_prediction()
    good = calibration_summary(time, event, baseline, risk, (1, 3, 5))
    inside = (good["slope_low"] < 1.05) & (good["slope_high"] > 0.95)
    assert inside.all() and good["ratio"].between(0.85, 1.15).all()
    assert good["slope"].between(0.85, 1.15).all()
    twice = calibration_summary(time, event, baseline, risk + np.log(2), [3]).iloc[0]
    assert twice["ratio"] == pytest.approx(good["ratio"][1] / 2)
    assert twice["intercept_high"] < 0 and twice["predicted"] > twice["observed"]
    doubled = calibration_summary(time, event, baseline, 2 * risk, [3]).iloc[0]
    assert doubled["slope_high"] < 0.7
    groups = calibration_groups(time, event, baseline.risk(risk, 3), 3)
    assert len(groups) == 5 and groups["n"].sum() == len(time)
    above, below = groups["low"] - 0.03 < groups["predicted"], groups["high"] + 0.03
    assert above.all() and (groups["predicted"] < below).all()
    assert groups["predicted"].is_monotonic_increasing


def test_brier_is_below_the_average_curve_and_net_benefit_above_both_policies():
    baseline, time, event, risk = true_prediction()
    score = integrated_brier(time, event, baseline, risk, n_boot=50)
    assert score["low"] < score["ibs"] < score["high"] < score["average"]
    table = net_benefit(time, event, baseline.risk(risk, 3), 3, [0.05, 0.3, 0.5, 0.7], n_boot=50)
    assert (table["model"] >= np.maximum(table["all"], 0) - 1e-9).all()
    assert table["model"][2] > max(table["all"][2], 0) + 0.05
    everybody = net_benefit(time, event, np.full(len(time), 0.9), 3, [0.3], n_boot=0).iloc[0]
    assert everybody["model"] == pytest.approx(everybody["all"])
    with pytest.raises(DataError, match="between 0 and 1"):
        net_benefit(time, event, risk, 3, [0.0, 0.5])


# --- bad input ------------------------------------------------------------------------------------

SENTENCES = [
    ([], [], "no patients"), ([1.0, -2.0], [1, 0], "not above 0"), ([1.0, 0.0], [1, 0], "above 0"),
    ([1.0, np.nan], [1, 0], "not above 0"), ([1.0, 2.0], [1, 3], "Event code 3.0 at row 1"),
    ([1.0, 2.0], [1, np.nan], "Event code nan"), ([1.0, 2.0], [1], "one of each per patient"),
]  # fmt: skip


@pytest.mark.parametrize("time, event, words", SENTENCES, ids=[s[2] for s in SENTENCES])
def test_bad_follow_up_is_one_sentence(time, event, words):
    for measure in (
        lambda: c_table(time, event, {"a": time}),
        lambda: auc_over_time(time, event, time, [1]),
        lambda: brier_over_time(time, event, np.zeros((len(time), 1)), [1]),
        lambda: net_benefit(time, event, time, 1),
        lambda: calibration_groups(time, event, time, 1),
        lambda: null_sd(time, event),
    ):
        with pytest.raises(DataError, match=words):
            measure()


def everything_of(time, event, risk):
    """Every measure of one small cohort; none may raise. Returns (C row, AUC row)."""
    baseline = breslow(np.zeros(2), [1.0, 2.0], [1, 0])
    predicted = baseline.risk(np.asarray(risk, float), 1.5)
    c_gaps(time, event, {"a": risk, "b": risk}, [("a", "b")], n_boot=5)
    brier_over_time(time, event, 1 - predicted[:, None], [1.5], n_boot=5)
    integrated_brier(time, event, baseline, risk, n_boot=5)
    calibration_groups(time, event, predicted, 1.5)
    calibration_summary(time, event, baseline, risk, [1.5])
    net_benefit(time, event, predicted, 1.5, [0.2], n_boot=5)
    row = c_table(time, event, {"a": risk}, n_boot=5).iloc[0]
    return row, auc_over_time(time, event, risk, [1.5], n_boot=5).iloc[0]


ODD = {
    "no event": ([1.0, 2, 3], [0, 0, 2], [1.0, 2, 3], "no event among 3"),
    "one patient": ([1.0], [1], [0.3], "only 1 patient"),
    "NaN scores": ([1.0, 2, 3], [1, 1, 0], [1.0, np.nan, 3], "1 of 3 scores"),
    "one time": ([2.0] * 4, [1] * 4, [1.0, 2, 3, 4], "nobody outlived"),
}


@pytest.mark.parametrize("case", ODD)
def test_no_number_comes_with_a_reason(case):
    time, event, risk, words = ODD[case]
    row, auc = everything_of(time, event, risk)
    assert np.isnan(row["harrell"]) and np.isnan(row["uno"]) and words in row["note"]
    assert np.isnan(auc["auc"]) and auc["note"]


def test_all_events_and_ties_everywhere_have_values():
    rng = np.random.default_rng(0)
    risk = rng.normal(size=60)
    row, auc = everything_of(rng.integers(1, 4, 60).astype(float), np.ones(60), risk.round())
    assert 0 <= row["uno"] <= 1 and 0 <= auc["auc"] <= 1 and not row["note"]
    row, auc = everything_of(rng.integers(1, 4, 60).astype(float), np.ones(60), np.zeros(60))
    assert row["harrell"] == row["uno"] == auc["auc"] == 0.5


def test_beyond_follow_up_is_nan_with_a_reason():
    time, event, risk = cohort(50)
    survival = np.full((50, 1), 0.5)
    row = brier_over_time(time, event, survival, [99], n_boot=5).iloc[0]
    assert np.isnan(row["brier"]) and "99" in row["note"]
    assert "99" in auc_over_time(time, event, risk, [99], n_boot=5)["note"][0]
    assert "99" in net_benefit(time, event, survival[:, 0], 99, n_boot=5)["note"][0]
    with pytest.raises(DataError, match="shape"):
        brier_over_time(time, event, survival, [1, 2])
    with pytest.raises(DataError, match="baseline hazard"):
        breslow(risk, time, np.zeros(50))
