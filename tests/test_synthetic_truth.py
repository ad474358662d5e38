"""The simulator's truth: measured from what was drawn, and every statement's textbook criterion."""

import numpy as np
import pandas as pd
import pytest

from ecgkit.data.synthetic import findings, read_beats, simulate, write_cohort
from ecgkit.data.synthetic import hearts as waves
from ecgkit.data.synthetic.criteria import CRITERIA, rates
from ecgkit.data.synthetic.examples import draw_examples, render_examples
from ecgkit.data.synthetic.truth import ground_truth
from ecgkit.data.synthetic.truth_beats import FS, SEEN_QRS, measure
from ecgkit.types import LEADS, DataError

DRAWN = [code for code in CRITERIA if code in findings.EFFECTS]
# Limits that many healthy people exceed: those of a young heart, and ABQRS, a word for anything.
OFTEN_NORMAL = {"NORM", "SR", "ABQRS"}


@pytest.fixture(scope="module")
def normal():
    return draw_examples("NORM", 150, seed=11)


# --- measuring ------------------------------------------------------------------------------------


def one_r_wave(drawn, height=1.0, sd=0.010):
    """The first heart with nothing but one R wave of `height` mV in lead II."""
    h = drawn.hearts
    heart = type(h)(**{name: getattr(h, name)[:1].copy() for name in h.__dataclass_fields__})
    heart.dipole[:], heart.local[:], heart.centre[:, waves.R1] = 0, 0, 0
    heart.rise[:, waves.R1], heart.fall[:, waves.R1] = sd, 2 * sd
    heart.local[:, waves.R1, 1] = height
    return heart


def test_edges_are_where_the_eye_sees_the_wave_begin(normal):
    marks, sizes = measure(one_r_wave(normal, height=1.0, sd=0.010))
    reach = np.sqrt(2 * np.log(1.0 / SEEN_QRS))  # standard deviations to 0.05 mV
    assert marks["qrs_on"][0] == pytest.approx(-0.010 * reach, abs=1 / FS)
    assert marks["qrs_off"][0] == pytest.approx(0.020 * reach, abs=1 / FS)
    assert marks["p_on"].isna().all()
    assert sizes["r_II"][0] == pytest.approx(1.0, abs=0.01)
    assert sizes["s_aVL"][0] == pytest.approx(0.5, abs=0.01) and sizes["r_aVL"][0] == 0


def test_moving_p_moves_pr_alone(normal):
    before = measure(normal.hearts)[0]
    h = normal.hearts
    moved = type(h)(**{name: getattr(h, name).copy() for name in h.__dataclass_fields__})
    moved.centre[:, list(waves.P_WAVES)] -= 0.040
    after = measure(moved)[0]
    longer = (after["qrs_on"] - after["p_on"]) - (before["qrs_on"] - before["p_on"])
    assert longer.to_numpy() == pytest.approx(0.040, abs=1.1 / FS)
    assert (after["qrs_off"] - before["qrs_off"]).abs().max() == 0


def test_sizes_are_those_of_the_signal(normal):
    signal = render_examples(normal, fs=500, seed=0, noisy=False)
    truth = normal.truth
    for lead in ("II", "V2", "V5"):
        x = signal[:, LEADS.index(lead)]
        tallest = x.max(axis=1) - np.median(x, axis=1)
        tall = truth[f"r_{lead}"] > 0.4 + truth[f"t_{lead}"].abs()
        assert np.corrcoef(tallest[tall], truth[f"r_{lead}"][tall])[0, 1] > 0.97
        assert np.median(tallest[tall] / truth[f"r_{lead}"][tall]) == pytest.approx(1, abs=0.12)


def test_limb_leads_agree(normal):
    t = normal.truth
    assert (t["st_II"] - t["st_I"] - t["st_III"]).abs().max() < 0.003
    assert (t["sokolow_mv"] - t["s_V1"] - t[["r_V5", "r_V6"]].max(axis=1)).abs().max() < 0.003


def test_corrected_qt_follows_its_formulas(normal):
    t = normal.truth
    rr = t["rr_ms"] / 1000
    assert (t["qtc_ms"] - t["qt_ms"] / rr**0.5).abs().max() < 0.5
    assert (t["qtcf_ms"] - t["qt_ms"] / rr ** (1 / 3)).abs().max() < 0.5
    assert (60_000 / t["rr_ms"] - t["heart_rate"]).abs().max() < 0.5


def test_normal_hearts_measure_normal(normal):
    t = normal.truth
    assert 75 < t["qrs_ms"].median() < 100
    assert 95 < t["p_ms"].median() < 115 and 145 < t["pr_ms"].median() < 175
    assert 380 < t["qtc_ms"].median() < 425 and 15 < t["axis_deg"].median() < 60
    assert 1.5 < t["sokolow_mv"].median() < 2.8


# --- rhythm and beats -----------------------------------------------------------------------------


def test_atria_without_p_waves_have_no_p_and_no_pr():
    for code in ("AFIB", "AFLT"):
        t = draw_examples(code, 40, seed=1).truth
        assert t["p_ms"].isna().all() and t["pr_ms"].isna().all() and (t["n_p"] == 0).all()
        assert not t["beat_label"].str.contains("p").any()


def test_dropped_and_independent_beats_are_counted():
    dropping = draw_examples("2AVB", 40, seed=1).truth
    assert (dropping["n_blocked"] >= 1).all() and dropping["pr_ms"].notna().all()
    apart = draw_examples("3AVB", 40, seed=1).truth
    assert apart["pr_ms"].isna().all() and (apart["atrial_rate"] > apart["heart_rate"]).all()
    assert apart["beat_label"].str.contains("[jE]").all()


def test_labels_say_which_beats_are_premature():
    t = draw_examples("PVC", 40, seed=2).truth
    assert (t["beat_label"].str.count("V") == t["n_pvc"]).all() and (t["n_pvc"] > 0).mean() > 0.95
    t = draw_examples("PAC", 40, seed=2).truth
    assert (t["beat_label"].str.count("[Aa]") == t["n_pac"]).all()
    paced = draw_examples("PACE", 40, seed=2).truth
    assert paced["beat_label"].str.contains("/").mean() > 0.5


def test_beats_of_a_cohort_come_back(tmp_path):
    folder = write_cohort(tmp_path / "cohort", 60, seed=4)
    truth, beats = pd.read_csv(folder / "truth.csv"), read_beats(folder)
    assert set(beats.columns) == {"ecg_id", "time_s", "label"}
    assert beats["time_s"].between(0, 10).all()
    assert beats.groupby("ecg_id")["time_s"].is_monotonic_increasing.all()
    ventricular = beats[beats["label"] != "p"]
    counts = ventricular.groupby("ecg_id").size().reindex(truth["ecg_id"], fill_value=0)
    assert counts.tolist() == truth["n_beats"].tolist()
    gap = ventricular.groupby("ecg_id")["time_s"].agg(lambda s: 1000 * s.diff().mean())
    assert (gap.to_numpy() - truth.set_index("ecg_id")["rr_ms"]).abs().max() < 1
    assert not {"beat_ms", "beat_label"} & set(truth.columns)


def test_beats_of_another_folder_are_refused_with_a_sentence(tmp_path):
    with pytest.raises(DataError, match="truth_beats.csv is not there"):
        read_beats(tmp_path)


def test_one_record_carries_its_beats():
    beats = simulate("PVC", fs=100, seed=3).meta["truth"]["beats"]
    assert len(beats["time_s"]) == len(beats["label"]) > 8
    assert "V" in beats["label"] and "p" in beats["label"]


def test_truth_does_not_touch_the_hearts(normal):
    before = normal.hearts.dipole.copy(), normal.hearts.centre.copy()
    again = ground_truth(normal.hearts, normal.beats, 10)
    assert np.array_equal(before[0], normal.hearts.dipole)
    assert np.array_equal(before[1], normal.hearts.centre)
    pd.testing.assert_frame_equal(again, normal.truth)


# --- criteria -------------------------------------------------------------------------------------


def test_every_statement_that_is_drawn_has_a_criterion():
    known = {*findings.EFFECTS, *findings.DESCRIPTIVE}
    assert known == set(CRITERIA)
    assert all(c.text and c.source for c in CRITERIA.values())


@pytest.mark.parametrize("code", DRAWN)
def test_certain_records_meet_their_criterion(code):
    truth = draw_examples(code, 300, seed=7).truth
    assert rates(truth, [code])[code] >= 0.95


def test_normal_records_meet_few_criteria(normal):
    met = rates(normal.truth, [code for code in CRITERIA if code not in OFTEN_NORMAL])
    assert met.max() < 0.30 and met.mean() < 0.04, met.nlargest(5).to_dict()
    assert rates(normal.truth, ["NORM"])["NORM"] >= 0.95


def test_uncertain_records_meet_their_criterion_less_often():
    for code in ("LVH", "IMI", "STD_", "NDT"):
        sure = rates(draw_examples(code, 60, seed=7).truth, [code])[code]
        unsure = rates(draw_examples(code, 60, seed=7, severity=(0.0, 0.25)).truth, [code])[code]
        assert unsure < sure - 0.2, code
