"""Ordinary simulated ECGs: normal limits, spread between people, noise that is where it is named,
and a yardstick that can tell a caricature."""

import sys
from pathlib import Path

import numpy as np
import pytest

from ecgkit.data.synthetic import anatomy, artefacts, findings, recorder, truth
from ecgkit.data.synthetic.hearts import N1, N2, P_WAVES, T, U, one_beat
from ecgkit.data.synthetic.render import render, twelve_leads
from ecgkit.data.synthetic.rhythm import draw_beats

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
realism = pytest.importorskip("realism")
N = 400


def people(n, seed=0, age=None, sex=None):
    rng = np.random.default_rng(seed)
    latents = rng.standard_normal((n, anatomy.N_LATENTS))
    age = rng.uniform(18, 90, n) if age is None else np.full(n, float(age))
    sex = rng.integers(0, 2, n) if sex is None else np.full(n, sex)
    hearts = anatomy.normal_hearts(latents, age, sex, rng)
    findings.apply_findings(hearts, {"SR": np.ones(n, bool)}, {"SR": np.full(n, 0.5)}, rng)
    return hearts, rng


@pytest.fixture(scope="module")
def normal():
    return people(N)


def leads(hearts):
    return twelve_leads(one_beat(hearts, fs=250))


# --- normal hearts --------------------------------------------------------------------------------


def test_normal_hearts_are_within_normal_limits(normal):
    hearts, rng = normal
    table = truth.ground_truth(hearts, draw_beats(hearts, 10, rng), 10)
    assert table["qrs_ms"].max() < 120
    assert table["pr_ms"].between(118, 202).mean() > 0.98
    assert table["axis_deg"].between(-31, 101).mean() > 0.985
    assert table["p_ms"].max() <= 122


def test_normal_hearts_span_what_normal_ecgs_span(normal):
    beat = leads(normal[0])
    r_v5, s_v2 = beat[:, 10].max(axis=1), -beat[:, 7].min(axis=1)
    assert 1.0 < np.median(r_v5) < 1.9 and np.ptp(np.quantile(r_v5, [0.05, 0.95])) > 1.0
    assert 0.8 < np.median(s_v2) < 1.6 and np.ptp(np.quantile(s_v2, [0.05, 0.95])) > 0.9
    r_v1 = beat[:, 6].max(axis=1)
    assert (r_v1 < 0.05).mean() < 0.3 and np.quantile(r_v1, 0.9) > 0.2


def test_age_and_sex_have_their_effects():
    young, old = (people(N, 1, age, 0)[0] for age in (22, 75))
    woman = people(N, 1, 22, 1)[0]
    size = [np.ptp(leads(h)[:, 9:], axis=2).mean() for h in (young, old, woman)]
    assert size[0] > 1.1 * size[1] and size[0] > 1.05 * size[2]  # tall R of young men
    axis = [np.median(truth.net_axis(h)) for h in (young, old)]
    assert axis[0] > axis[1] + 8  # to the left with age
    assert np.mean(woman.qtc) > np.mean(young.qtc) + 0.004
    t_v2 = [h.amplitudes()[:, T, 3].mean() for h in (young, woman)]
    assert t_v2[0] > t_v2[1] + 0.05


def test_a_patient_keeps_the_anatomy():
    rng = np.random.default_rng(0)
    latents, age, sex = rng.standard_normal((N, anatomy.N_LATENTS)), np.full(N, 50.0), np.zeros(N)
    one, two = (
        leads(anatomy.normal_hearts(latents, age, sex, np.random.default_rng(s))) for s in (1, 2)
    )
    apart = np.abs(one - two).mean()
    assert 0 < apart < 0.6 * np.abs(one - two[::-1]).mean()


def test_small_waves_are_small(normal):
    size = np.abs(normal[0].amplitudes())
    assert np.median(size[:, [N1, N2]].max(axis=(1, 2))) < 0.35
    assert np.median(size[:, U].max(axis=1)) < 0.2 < np.median(size[:, T].max(axis=1))
    assert 0.03 < np.median(size[:, list(P_WAVES), 1].max(axis=1)) < 0.25


# --- noise ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def art():
    return artefacts.draw_artefacts(1500, np.random.default_rng(5))


def test_artefacts_are_as_frequent_as_in_ptbxl(art):
    for kind, rate in zip(artefacts.KINDS, artefacts.RATES):
        share = np.mean([text != "" for text in art.text[kind]])
        assert abs(share - rate) < 4 * np.sqrt(rate / 1500)


def test_what_is_named_is_disturbed(art):
    rng = np.random.default_rng(0)
    texts = art.text["baseline_drift"]
    rows = np.array([i for i, text in enumerate(texts) if text.strip(" ,") in ("V1", "V6")][:12])
    assert len(rows) > 3
    noise = artefacts.draw_noise(art, rows, 100, 1000, rng)
    for i, row in enumerate(rows):
        named = 2 if "V1" in texts[row] else 7
        others = np.delete(noise[i, 2:].std(axis=1), named - 2)
        assert noise[i, named].std() > 1.2 * np.median(others)


def test_limb_electrode_shows_in_its_leads_alone():
    quiet = artefacts.draw_artefacts(1, np.random.default_rng(0), rates=(0, 0, 0, 0))
    for name in ("drift", "fine", "mains"):
        getattr(quiet, name)[:] = 0
    quiet.static[0, 1] = 0.1  # left arm
    noise = artefacts.draw_noise(quiet, slice(None), 500, 5000, np.random.default_rng(1))
    noise = twelve_leads(noise)[0].std(axis=1)
    assert noise[0] > 0.05 and noise[1] == 0 and noise[2] > 0.05  # I and III, not II
    assert noise[6] == pytest.approx(noise[0] / 3, rel=0.05)  # a third by Wilson's terminal


def test_noise_has_the_same_strength_at_every_rate():
    art = artefacts.draw_artefacts(60, np.random.default_rng(0), rates=(0, 0, 0, 0))
    slow, fast = (
        artefacts.draw_noise(art, slice(None), fs, 10 * fs, np.random.default_rng(1)).std()
        for fs in (100, 500)
    )
    assert slow == pytest.approx(fast, rel=0.25)


def test_lost_contact_takes_the_lead_away():
    signal = np.random.default_rng(0).standard_normal((1, 8, 4000)).astype(np.float32)
    quiet = artefacts.draw_artefacts(1, np.random.default_rng(0), rates=(0, 0, 0, 0))
    quiet.loose[0, 4] = 0.5  # V2
    for seed in range(20):
        after = signal.copy()
        artefacts.disturb(after, quiet, slice(None), 400, np.random.default_rng(seed))
        lost = np.abs(np.diff(after[0, 3])) < 0.01
        if lost.mean() > 0.09:
            break
    assert lost.mean() > 0.09
    assert (np.abs(np.diff(after[0, 4])) < 0.01).mean() < 0.05  # V3 keeps its contact


# --- recorder -------------------------------------------------------------------------------------


def test_recorder_stores_400_hz_in_steps_of_5_uv(normal):
    hearts = normal[0]
    rng = np.random.default_rng(0)
    signal = render(hearts, draw_beats(hearts, 10, rng), 400, 4000, rng)[:20]
    out = recorder.at_500(signal)
    assert out.shape == (20, 8, 5000) and out.dtype == np.float32
    steps = out[..., ::5] / 0.005
    assert np.abs(steps - np.rint(steps)).max() < 1e-3
    wanted = np.stack(
        [
            [np.interp(np.arange(5000) / 500, np.arange(4000) / 400, lead) for lead in record]
            for record in signal
        ]
    )
    assert np.abs(out - wanted).mean() < 0.006
    assert np.quantile(np.abs(out - wanted), 0.99) < 0.03  # the QRS is kept whole
    still = (np.diff(out[:, 2], axis=-1) == 0).mean()
    assert still > 0.3


# --- yardstick ------------------------------------------------------------------------------------


def test_yardstick_tells_a_caricature_and_not_a_twin(normal, monkeypatch):
    both = realism._models(0)
    monkeypatch.setattr(realism, "_models", lambda seed: {"logistic": both["logistic"]})
    hearts, rng = normal
    signal = render(hearts, draw_beats(hearts, 10, rng), 100, 1000, rng)
    art = artefacts.draw_artefacts(N, rng, rates=(0, 0, 0, 0))
    artefacts.disturb(signal, art, slice(None), 100, rng)
    signal = twelve_leads(signal)
    groups = np.arange(160)
    auc, ranking = realism.sim_vs_real_auc(signal[:80], signal[80:160], groups)
    assert 0.25 < auc < 0.75
    louder = signal[80:160] * np.float32(1.6)
    auc, ranking = realism.sim_vs_real_auc(signal[:80], louder, groups)
    assert auc > 0.85 and ranking["ks"].iloc[0] > 0.3
    assert ranking["ks"].is_monotonic_decreasing


def test_features_survive_a_record_without_beats():
    features = realism.summary_features(np.zeros((2, 12, 1000), np.float32))
    assert len(features) == 2 and features["heart_rate"].isna().all()
