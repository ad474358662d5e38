"""What the risk network looked at, with planted answers; the scorer on disk; what-if changes."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from risk_parts import tiny_study
from torch import nn

from ecgkit.tasks import risk, risk_curve, risk_files, risk_look
from ecgkit.tasks.risk_whatif import Change
from ecgkit.types import LEADS, DataError, ECGRecord, ModelError

LEAD, TOKEN, N, T = 3, 5, 8, 64  # the one place the planted risk rests on


class Reader(nn.Module):
    """Codes are the energy at one place; attention is most at `attended`, even elsewhere."""

    def __init__(self, attended):
        super().__init__()
        self.weight, self.attended = nn.Parameter(torch.ones(1)), attended

    def encode(self, x, return_attention=False):
        part = x.unflatten(-1, (N, -1))[:, LEAD, TOKEN]
        out = {"z": part.square().mean(-1, keepdim=True)}
        if return_attention:
            lead, token = self.attended
            time = torch.full((len(x), 12, N, N), 1 / N)
            time[:, lead] = 0.02
            time[:, lead, :, token] = 1 - 0.02 * (N - 1)
            leads = torch.full((len(x), 12, 12), 0.5 / 11)
            leads[:, :, lead] = 0.5
            out |= {"time_attention": time, "lead_attention": leads}
        return out


class Planted(nn.Module):
    def __init__(self, attended=(LEAD, TOKEN)):
        super().__init__()
        self.autoencoder = Reader(attended)

    def head(self, z):
        return {"log_risk": z[:, 0]}


@pytest.fixture(scope="module")
def x():
    return torch.randn(60, 12, T, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def study(tiny_cohort):
    return tiny_study(tiny_cohort)


@pytest.fixture(scope="module")
def network(study):
    torch.manual_seed(0)
    model = risk.RiskModel(study.network, 16)
    model(study.x[:64])  # fills the batch statistics, so that scores differ
    return model.eval()


# --- deletion -------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["time", "lead"])
def test_deletion_finds_the_one_place_the_risk_rests_on(x, by):
    check = risk_look.deletion_check(Planted(), x, by=by, n_boot=200)
    row = check.table.set_index("silenced")
    everything = float(risk.predict_risk(Planted(), x).mean())
    assert row.loc["most attended", "change"] == pytest.approx(everything, rel=1e-5)
    assert row.loc["random", "change"] < 0.3 * everything
    assert row.loc["most attended", "gap_low"] > 0 and row.loc["least attended", "change"] == 0
    assert "moves the risk more" in check.words


def test_attention_elsewhere_is_not_taken_for_an_explanation(x):
    check = risk_look.deletion_check(Planted((LEAD, 0)), x, n_boot=200)
    row = check.table.set_index("silenced").loc["most attended"]
    assert row["change"] == 0 and row["gap_high"] < 0
    assert "misleads" in check.words


def test_random_silencing_changes_what_its_share_says(x):
    check = risk_look.deletion_check(Planted(), x, share=0.25, n_random=40, n_boot=200)
    everything = risk.predict_risk(Planted(), x).mean()
    assert check.change["random"].mean() / everything == pytest.approx(0.25, abs=0.03)
    again = risk_look.deletion_check(Planted(), x, share=0.25, n_random=40, n_boot=200)
    assert check.table.equals(again.table)


def test_a_flat_lead_is_not_among_what_is_silenced(x):
    flat = x.clone()
    flat[:, :6] = 0
    scores = risk_look._token_scores(risk_look.attention_of(Planted(), flat), flat, "time")
    assert (scores["largest signal"][:, :6] == 0).all()
    check = risk_look.deletion_check(Planted(), flat, n_boot=50)  # the place itself is flat
    assert (check.change.to_numpy() == 0).all()
    assert "does not tell" in check.words


def test_silencing_only_touches_the_chosen_tokens(x):
    tokens = np.zeros((60, 12, N), bool)
    tokens[:, 2, 1] = True
    out = risk_look.silence(x, tokens)
    assert (out[:, 2, 8:16] == 0).all() and torch.equal(out[:, 2, 16:], x[:, 2, 16:])
    assert torch.equal(out[:, 3:], x[:, 3:])


def test_bad_requests_are_sentences(x):
    for share, n_random in ((0, 5), (1, 5), (0.1, 0)):
        with pytest.raises(DataError, match="between 0 and 1"):
            risk_look.deletion_check(Planted(), x, share, n_random)
    with pytest.raises(DataError, match="choose time or lead"):
        risk_look.deletion_check(Planted(), x, by="page")
    with pytest.raises(ModelError, match="TIME_ATTENTION"):
        risk_look.Attention(None, None).time_read()


def test_deletion_on_a_real_network_and_attention_in_chunks(network, study):
    whole, parts = (risk_look.attention_of(network, study.x[:20], n) for n in (99, 7))
    assert np.allclose(whole.lead, parts.lead, atol=1e-6)
    assert np.allclose(whole.time, parts.time, atol=1e-6)
    assert np.allclose(whole.time.sum(-1), 1, atol=1e-5) and whole.lead.shape == (20, 12, 12)
    assert np.isfinite(risk_look.deletion_check(network, study.x[:20], n_boot=20).change).all(None)


# --- groups ---------------------------------------------------------------------------------------


def test_group_difference_finds_the_planted_cell():
    rng = np.random.default_rng(1)
    group = np.arange(300) % 3 == 0
    values = rng.normal(size=(300, 6, 6))
    values[group, 2, 4] += 1.0
    found = risk_look.group_difference(values, group)
    assert found.held[2, 4] and found.held.sum() <= 2 and found.apart.sum() <= 6
    assert found.low[2, 4] < found.mean[2, 4] < found.high[2, 4]
    assert found.mean[2, 4] == pytest.approx(1.0, abs=0.35) and "100 against 200" in found.note


def test_interval_is_as_wide_as_theory_says():
    rng = np.random.default_rng(2)
    group = np.arange(400) < 150
    values = rng.normal(size=(400, 30))
    found = risk_look.group_difference(values, group, n_boot=3000)
    theory = 2 * 1.96 * np.sqrt(values[group].var(0) / 150 + values[~group].var(0) / 250)
    assert ((found.high - found.low) / theory).mean() == pytest.approx(1, abs=0.02)


def test_false_discovery_as_in_the_paper():
    """The fifteen p-values of Benjamini and Hochberg 1995, section 4.1: four are rejected."""
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262,
         0.5719, 0.6528, 0.7590, 1.0]  # fmt: skip
    order = np.random.default_rng(0).permutation(15)
    passed = risk_look.false_discovery(np.array(p)[order])
    assert sorted(np.array(p)[order][passed]) == p[:4]
    assert not risk_look.false_discovery(np.ones(4)).any()


def test_groups_too_small_are_refused():
    with pytest.raises(DataError, match="two in each"):
        risk_look.group_difference(np.zeros((5, 2)), np.array([1, 0, 0, 0, 0]))
    with pytest.raises(DataError, match="one for each"):
        risk_look.group_difference(np.zeros((5, 2)), np.zeros(4))


# --- codes, reconstructions -----------------------------------------------------------------------


def test_latent_map_is_the_plane_of_largest_variance():
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(80, 2)) * [5, 2]
    basis = np.linalg.qr(rng.normal(size=(9, 2)))[0]
    xy, shares = risk_look.latent_map(plane @ basis.T + 0.01 * rng.normal(size=(80, 9)))
    centred = plane - plane.mean(0)
    assert sum(shares) > 0.999 and shares[0] > shares[1]
    near = np.linalg.lstsq(centred, xy, rcond=None)[1]
    assert near.sum() < 0.01 * (xy**2).sum()
    assert risk_look.latent_map(plane[:12], "tsne")[0].shape == (12, 2)
    with pytest.raises(DataError, match="pca or tsne"):
        risk_look.latent_map(plane, "umap")
    with pytest.raises(DataError, match="at least three"):
        risk_look.latent_map(plane[:2])


def test_reconstruction_quality_by_lead():
    wave = np.tile(np.sin(np.linspace(0, 12, 50)), (2, 3, 1))
    rebuilt = wave.copy()
    rebuilt[:, 1] *= -1
    rebuilt[:, 2] = 0
    table = risk_look.reconstruction_quality(wave, rebuilt, ("I", "II", "V1"))
    of = table.groupby("lead").mean()
    assert of.loc["I", "mse"] == 0 and of.loc["I", "correlation"] == pytest.approx(1)
    assert of.loc["II", "correlation"] == pytest.approx(-1)
    assert np.isnan(of.loc["V1", "correlation"]) and len(table) == 6


# --- curve and files ------------------------------------------------------------------------------


def test_curve_of_equal_scores_is_nelson_aalen_and_thirds_are_in_order():
    curve = risk_curve.training_curve(np.full(3, 7.0), np.array([1.0, 2, 3]), np.ones(3))
    assert curve.survival(7.0, np.array([0.5, 1, 2]))[1:] == pytest.approx(
        np.exp([-1 / 3, -1 / 3 - 1 / 2])
    )
    rng = np.random.default_rng(0)
    score = rng.normal(size=300)
    years = rng.exponential(np.exp(-score))
    curve = risk_curve.training_curve(score, years, np.ones(300))
    thirds = curve.thirds(curve.grid(20))
    assert (thirds[0] >= thirds[1]).all() and (thirds[1] >= thirds[2]).all()
    assert curve.percentile(score.min() - 1) == 0 and curve.percentile(score.max() + 1) == 100
    assert curve.percentile(np.median(score)) == pytest.approx(50, abs=0.5)
    with pytest.raises(DataError, match="thirds"):
        risk_curve.training_curve(score[:2], years[:2], np.ones(2))


@pytest.fixture(scope="module")
def saved(network, study, tiny_cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("risk")
    return risk_files.save_risk(folder / "risk", network, study, tiny_cohort)


def test_round_trip_scores_a_record_as_the_study_did(saved, network, study, tiny_cohort):
    scorer = risk_files.load_risk(saved)
    before = risk_files.scorer_of(network, study, tiny_cohort)
    expected = risk.predict_risk(network, study.x[study.test])
    for at, wanted in list(zip(study.test, expected, strict=True))[:6]:
        record = tiny_cohort.record(int(study.outcomes.table["row"].iloc[at]))
        assert torch.allclose(scorer.input_of(record), study.x[at], atol=1e-6)
        reply, other = scorer.score(record), before.score(record)
        assert reply.log_risk == pytest.approx(wanted, abs=1e-6)
        assert np.allclose(reply.survival, other.survival, atol=1e-6)
        assert np.allclose(reply.time_attention, other.time_attention, atol=1e-6)
        assert reply.percentile == other.percentile and "SIMULATED" in reply.note
        assert 0 <= reply.risk_at(1) <= 1 and np.isnan(reply.risk_at(99))


def test_lead_order_and_millivolts_do_not_matter(saved, tiny_cohort):
    """Each lead is z-scored, so a taller ECG is the same ECG; the what-if widget says so."""
    scorer, record = risk_files.load_risk(saved), tiny_cohort.record(3)
    wanted = scorer.score(record).log_risk
    shuffled = record.select(tuple(reversed(LEADS)))
    louder = dataclasses.replace(record, signal=record.signal * 1.5)
    assert scorer.score(shuffled).log_risk == pytest.approx(wanted, abs=1e-6)
    assert scorer.score(louder).log_risk == pytest.approx(wanted, abs=1e-4)
    assert "absent" in scorer.score(record.select(LEADS[:11])).note


def test_no_patient_is_written(saved, study):
    body = json.loads((saved / "risk.json").read_text())
    assert set(body) == {"format", "about", "network", "head", "input"}
    with np.load(saved / "baseline.npz") as file:
        assert set(file.files) == {"times", "log_hazard", "scores", "horizon"}
        assert (np.diff(file["scores"]) >= 0).all()  # sorted, so no row says who it was


def test_what_cannot_be_read_is_a_sentence(saved, tmp_path):
    with pytest.raises(ModelError, match="ecgkit run 07"):
        risk_files.load_risk(tmp_path)
    body = json.loads((saved / "risk.json").read_text())
    (tmp_path / "risk.json").write_text(json.dumps(body | {"format": 99}))
    with pytest.raises(ModelError, match="format 99"):
        risk_files.load_risk(tmp_path)
    scorer = risk_files.load_risk(saved)
    with pytest.raises(DataError, match="flat"):
        scorer.score(ECGRecord(np.zeros((12, 1000), np.float32), 100))
    drift = np.linspace(0, 2, 1000, dtype=np.float32) * np.ones((12, 1), np.float32)
    with pytest.raises(DataError, match="no whole heart beat"):
        scorer.score(ECGRecord(drift, 100))


# --- what if --------------------------------------------------------------------------------------


def test_changes_do_what_they_say(x):
    one = x[0]
    out = Change(("V1",), ("II", "V1"), 2.0).of(one, LEADS, 100)
    assert (out[6] == 0).all() and torch.equal(out[1], 2 * one[1]) and torch.equal(out[0], one[0])
    later = Change(shift_ms=30).of(one, LEADS, 100)
    assert (later[:, :3] == 0).all() and torch.equal(later[:, 3:], one[:, :-3])
    earlier = Change(shift_ms=-30).of(one, LEADS, 100)
    assert (earlier[:, -3:] == 0).all() and torch.equal(earlier[:, :-3], one[:, 3:])
    assert torch.equal(Change().of(one, LEADS, 100), one) and Change().nothing
    with pytest.raises(DataError, match="no lead V9"):
        Change(("V9",)).of(one, LEADS, 100)


def test_changes_in_words():
    assert Change(scaled=("II",), factor=1.0).words() == "as recorded"
    words = Change(("V1", "V2"), ("II", "V1"), 1.5, -20).words()
    assert words == "V1, V2 silent; II × 1.5; shifted -20 ms"
