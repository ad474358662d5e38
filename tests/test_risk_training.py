"""Batches, masks, collapse monitors, validation, cross-validation and bad outcomes of the study."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from risk_parts import tiny_study

from ecgkit.config.risk import RiskConfig
from ecgkit.data.outcomes import open_outcomes
from ecgkit.tasks import risk, risk_align, risk_finetune, risk_masks
from ecgkit.tasks.risk_batches import EventBatches, PublishedBatches, event_batches
from ecgkit.tasks.risk_cv import SEEDS, cross_validate, cv_summary, null_sd
from ecgkit.tasks.risk_study import check_follow_up, follow_up_notes
from ecgkit.text.reports import embed_reports, stand_in_embedder
from ecgkit.types import ConfigError, DataError, ModelError


@pytest.fixture(scope="module")
def study(tiny_cohort):
    return tiny_study(tiny_cohort)


def of(study, **config):
    return study.on(study.train, study.test, **config)


# --- batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n, n_events, size", [(500, 180, 64), (300, 9, 32), (90, 2, 16)])
def test_every_batch_has_the_cohorts_share_of_events_and_at_least_one(n, n_events, size):
    event = np.zeros(n)
    event[np.random.default_rng(0).choice(n, n_events, replace=False)] = 1
    batches = EventBatches(event, size, seed=3)
    counts = [int(event[batches(step)].sum()) for step in range(5 * batches.per_epoch)]
    share = n_events / n * size
    assert min(counts) >= max(1, np.floor(share)) and max(counts) <= max(1, np.ceil(share))
    assert {len(batches(step)) for step in range(20)} == {size}


def test_an_epoch_uses_nobody_twice_where_events_suffice():
    event = (np.arange(640) % 3 == 0).astype(float)
    batches = EventBatches(event, 64, seed=0)
    seen = np.concatenate([batches(step) for step in range(batches.per_epoch)])
    assert len(np.unique(seen)) == len(seen) == 640
    again = EventBatches(event, 64, seed=0)
    assert (again(7) == batches(7)).all() and (again(7) != batches(17)).any()


def test_extreme_cohorts_still_give_batches():
    everybody = EventBatches(np.ones(50), 20, seed=0)
    assert len(everybody(3)) == 20
    assert sorted(EventBatches(np.eye(1, 30)[0], 128, seed=0)(4)) == list(range(30))
    with pytest.raises(DataError, match="None of the 40 patients"):
        EventBatches(np.zeros(40), 8, seed=0)


def test_published_sampler_with_its_faults():
    """risk.md 3: 320/128 -> 2 x 160 (7 + 6 events); 250/128 -> one batch; 100/128 -> an assertion;
    3 events in 4 folds -> a batch without one."""
    event = np.zeros(320)
    event[:13] = 1
    batches = PublishedBatches(event, 128, seed=0)
    assert [len(batches(step)) for step in range(2)] == [160, 160]
    assert sorted(int(event[batches(step)].sum()) for step in range(2)) == [6, 7]
    assert len(PublishedBatches(event[:250], 128, seed=0)(5)) == 250
    with pytest.raises(ConfigError, match="published sampler asserts"):
        event_batches(event[:100], 128, 0, "reference")
    few = np.zeros(512)
    few[:3] = 1
    assert min(few[PublishedBatches(few, 128, 0)(step)].sum() for step in range(4)) == 0


# --- masks ----------------------------------------------------------------------------------------


def test_a_quarter_of_the_ecgs_lose_leads_and_half_of_the_batches():
    rng = np.random.default_rng(0)
    lost = risk_masks.pretraining_masks(4000, rng, 4)
    assert lost.any((1, 2)).mean() == pytest.approx(0.25, abs=0.025)  # risk.md 2: 24.8 % of 4,000
    assert not lost.all((1, 2)).any()
    active = [risk_masks.batch_mask(rng, 4).any() for _ in range(2000)]
    assert np.mean(active) == pytest.approx(0.5, abs=0.04)
    assert not lost[:, :2].any() and lost[:, 2:].any((0, 2)).all()  # I and II are in every set


def test_stretches_are_masked_in_strips():
    """With the published floor of 80 samples a window at 100 Hz is a whole beat."""
    lost = np.zeros((2, 1200, 1000), bool)
    for one, floor in zip(lost, (0, 80)):
        risk_masks._mask_stretches(
            one, np.arange(50, 1000, 80), np.random.default_rng(0), 100, floor
        )
    halves = 0.2 * 0.5
    assert lost[0].mean() == pytest.approx(halves + 0.9 * 0.2 * 0.2 * 0.16, abs=0.015)
    assert lost[1].mean() == pytest.approx(halves + 0.9 * 0.2 * 0.2 * 0.98, abs=0.02)
    peaks = [np.arange(50, 1000, 80)] * 200
    all_kinds = risk_masks.pretraining_masks(200, np.random.default_rng(0), 1000, peaks, 100, 80)
    assert 0.2 < all_kinds.mean() < 0.36  # risk.md 2: .305


def test_masked_samples_are_zero_and_the_rest_stays():
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 12, 100))).float()
    x = risk_masks.rescored(x)
    lost = np.zeros((1, 12, 100), bool)
    lost[0, 3, :50] = lost[0, 7] = True
    kit = risk_masks.masked(x, lost)
    assert not kit[torch.from_numpy(lost)].any()
    assert torch.equal(kit[~torch.from_numpy(lost)], x[~torch.from_numpy(lost)])
    published = risk_masks.masked(x, lost, "reference")
    grown = published[0, 3, 50:].std() / x[0, 3, 50:].std()
    assert float(grown) == pytest.approx(1.4, abs=0.1)  # risk.md 5.6: 1.39
    assert published[0, 3, :50].abs().min() > 0.01 and not published[0, 7].any()


def test_padding_stays_zero_when_scored_again():
    x = torch.zeros(1, 12, 20)
    x[..., 4:16] = torch.randn(1, 12, 12)
    out = risk_masks.rescored(x, (4, 16))
    assert not out[..., :4].any() and not out[..., 16:].any()
    assert out[..., 4:16].mean(-1).abs().max() < 1e-5


def test_noise_leaves_masked_samples_alone():
    x = torch.ones(2, 12, 50)
    x[:, 3] = 0
    out = risk_masks.noisy(x, 0.1, np.random.default_rng(0))
    assert not out[:, 3].any() and float((out - x)[:, :3].std()) == pytest.approx(0.1, abs=0.02)
    assert risk_masks.noisy(x, 0.0, None) is x


def test_what_is_rebuilt_is_the_whole_ecg_except_under_reference(study):
    rows = np.arange(16)

    def batch(protocol, seed):
        one = of(study, protocol=protocol, noise_sd=0.0)
        return risk_finetune._risk_batches(one, False)(rows, np.random.default_rng(seed))

    seed = next(
        s for s in range(20) if not risk_masks.kept_leads(np.random.default_rng(s)).all()
    )
    whole = study.x[study.train[rows]]
    assert torch.equal(batch("paper", seed)["target"], whole)
    assert not torch.equal(batch("paper", seed)["x"], whole)
    assert torch.equal(batch("reference", seed)["target"], batch("reference", seed)["x"])
    plain = of(study, masking="none", noise_sd=0.0)
    batch = risk_finetune._risk_batches(plain, False)(rows, np.random.default_rng(seed))
    assert torch.equal(batch["x"], whole)


def test_strips_bring_their_peaks(tiny_cohort):
    config = RiskConfig.from_params({"preset": "tiny", "input_kind": "strip", "n_down": 5})
    outcomes = open_outcomes(config, tiny_cohort)
    codes = tiny_cohort.table["scp_codes"].iloc[outcomes.table["row"]]
    book = embed_reports(codes, tiny_cohort.statements, stand_in_embedder(8), "seed")
    strips = risk.prepare(config, tiny_cohort, outcomes, book)
    assert strips.inside == (12, 1012) and len(strips.peaks) == len(strips.x)
    batch = risk_align._pair_batches(strips)(np.arange(8), np.random.default_rng(0))
    assert (batch["x"] == 0).float().mean() > (batch["target"] == 0).float().mean()


# --- alignment ------------------------------------------------------------------------------------


def test_collapse_shows_in_every_evaluated_row(study, tmp_path):
    names = ["matched_cos", "mismatched_cos", "spread", "text_spread", "recall@5", "chance@5",
             "reconstruction"]  # fmt: skip
    _, log = risk.pretrain(of(study, pretrain_steps=10), tmp_path)
    rows = log.table.dropna(subset=["eval_spread"])
    assert rows["step"].tolist() == [5, 10] and rows["loss"].notna().all()
    assert not rows[[f"eval_{name}" for name in names]].isna().any().any()


def test_published_rule_collapses_on_unpaired_vectors_and_the_others_do_not():
    """risk.md 2: on random pairs the published loss falls to nothing, matched and mismatched
    cosine alike."""
    torch.manual_seed(0)
    z, text, group = torch.randn(256, 32), torch.randn(256, 24), torch.arange(256)
    found = {}
    for rule in ("cosine", "infonce", "frozen_text"):
        model = risk.Projectors(32, 24, rule == "frozen_text")
        optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
        for _ in range(150):
            loss = risk.alignment_loss(model(z, text), group, rule)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        out = {name: v.detach() for name, v in model(z, text).items()}
        found[rule] = risk_align.pair_report(out["ecg"], out["text"], group)
    cosine = found["cosine"]
    assert cosine["mismatched_cos"] > 0.95 and cosine["spread"] < 0.3 > cosine["text_spread"]
    for rule in ("infonce", "frozen_text"):
        assert found[rule]["mismatched_cos"] < 0.3 and found[rule]["spread"] > 0.7, found


def test_frozen_text_stays_as_it_is(study, tmp_path):
    aligned, _ = risk.pretrain(of(study, align_loss="frozen_text"), tmp_path)
    text = study.text[:4]
    shown = aligned.projectors(torch.zeros(4, 32), text)["text"]
    assert torch.allclose(shown, text - study.text[study.train].mean(0), atol=1e-6)
    assert not list(aligned.projectors.text.parameters())


def test_realigned_projectors_report_collapse(study, tmp_path):
    aligned = risk.AlignmentModel(study.network, study.text.shape[1])
    _, log = risk.realigned(study, aligned, "cosine", tmp_path, 10)
    assert "eval_mismatched_cos" in log.table and log.finished
    with pytest.raises(ConfigError, match="choose one of cosine"):
        risk.alignment_loss({"ecg": 0, "text": 0}, study.group, "clip")


@pytest.mark.parametrize("rule", ["infonce", "frozen_text"])
def test_a_head_on_the_aligned_projection_starts_with_its_weights(study, tmp_path, rule):
    one = of(study, align_loss=rule, head_reads="aligned")
    aligned = risk.AlignmentModel(one.network, one.text.shape[1], rule == "frozen_text")
    start = risk_finetune.started(one, aligned)
    z = torch.randn(4, one.config.code_width)
    assert torch.equal(start.head.projector(z), aligned.projectors.ecg(z))
    again = risk.RiskModel(one.network, **start.head_sizes)
    again.load_state_dict(start.state_dict())
    assert torch.equal(again.eval().head(z)["log_risk"], start.eval().head(z)["log_risk"])
    network, _ = risk.finetune(one, aligned, tmp_path)  # head first, then everything
    assert (tmp_path / "head" / "log.csv").exists()
    assert np.isfinite(risk.predict_risk(network, one.x[:4])).all()
    scratch, _ = risk.finetune(one, None, tmp_path / "scratch")
    assert scratch.head_sizes["projection"] is None


# --- validation and cross-validation --------------------------------------------------------------


def test_best_weights_by_validation_c_and_early_stop(study, tmp_path):
    one = of(study, finetune_steps=40, valid_share=0.3, patience=2)
    network, log = risk.finetune(one, None, tmp_path)
    curve = log.table["eval_valid_c"].dropna()
    assert log.best["value"] == pytest.approx(curve.max(), abs=1e-9)
    learn, valid = risk_finetune.split_off_validation(one, one.train)
    assert len(valid) == pytest.approx(0.3 * len(one.train), abs=2)
    at = one.train[valid]
    c = risk.ladder(of(one).on(one.train[learn], at), {"n": risk.predict_risk(network, one.x[at])},
                    n_boot=2)  # fmt: skip
    assert c[0]["c"] == pytest.approx(log.best["value"], abs=0.02)


def test_no_validation_takes_the_last_weights(study, tmp_path):
    _, log = risk.finetune(of(study, valid_share=0.0), None, tmp_path)
    assert log.best is None and not [c for c in log.table if c.startswith("eval_")]


def test_cross_validation_as_published_and_nested(study, tmp_path):
    quick = dataclasses.replace(study.config, finetune_steps=5)
    table = cross_validate(study, quick, tmp_path, seeds=SEEDS[:2])
    assert table[["seed", "fold"]].to_numpy().tolist() == [[42, 0], [42, 1], [2021, 0], [2021, 1]]
    for _, rows in table.groupby("seed"):
        assert rows["events"].sum() == study.event[study.train].sum()
        assert rows["n"].sum() == len(study.train)
    assert table["C"].between(0, 1).all() and table["C"].nunique() > 1
    grid = [{"finetune_lr": 1e-3}, {"finetune_lr": 1e-2}]
    nested = cross_validate(study, quick, seeds=(42,), grid=grid)
    assert set(nested["chosen"]) <= {"finetune_lr=0.001", "finetune_lr=0.01"}
    with pytest.raises(ConfigError, match="'lr', which is no setting"):
        cross_validate(study, quick, grid=[{"lr": 1}])
    with pytest.raises(DataError, match="do not fill 200 folds"):
        cross_validate(study, quick, n_folds=200)


def test_spread_of_noise_and_the_correct_sd():
    """risk.md 4: 400 people with 16 events, SD .084; 5 x 2 folds of 800 people with 32 events:
    .027 (independent models) to .052 (one and the same score)."""
    rng = np.random.default_rng(0)
    n, n_events = 800, 32
    event = np.zeros(n)
    event[:n_events] = 1
    study = type("", (), {"years": torch.from_numpy(rng.uniform(0.1, 7, n)),
                          "event": torch.from_numpy(event), "train": np.arange(n)})()  # fmt: skip
    table = pd.DataFrame([{"seed": s, "fold": f} for s in SEEDS for f in (0, 1)])
    null = null_sd(study, table, n_sims=40)
    assert null["fold"] == pytest.approx(0.084, abs=0.02)
    assert null["mean_independent"] == pytest.approx(0.027, abs=0.008)
    assert null["mean_same"] == pytest.approx(0.052, abs=0.018)
    published = [0.4943, 0.6701, 0.5874, 0.5479, 0.6468, 0.6093, 0.6478, 0.3953, 0.5656, 0.6407]
    found = cv_summary(table.assign(C=published, events=16), null)
    assert found["mean"] == pytest.approx(0.5805, abs=1e-4)
    assert found["sd"] == pytest.approx(0.0843, abs=1e-3)  # .080 with ddof 0, as risk.md says
    assert found["se"] == pytest.approx(found["sd"] * np.sqrt(1.1))
    assert found["published_sd"] < found["sd"] and found["null_fold"] == null["fold"]


# --- outcomes that cannot be, and those that limit ------------------------------------------------


@pytest.mark.parametrize(
    "years, event, said",
    [
        ([1.0, 0.0, 2.0], [1, 0, 0], "1 of 3 patients have a follow-up that is missing or not"),
        ([1.0, -2.0, np.nan], [1, 0, 0], "2 of 3 patients"),
        ([1.0, np.inf, 2.0], [1, 0, 0], "missing or not above 0"),
        ([1.0, 1.0, 2.0], [1, 2, 0], "holds 2.0; the risk study takes 1"),
        ([1.0, 1.0, 2.0], [1, np.nan, 0], "holds nan"),
    ],
)
def test_impossible_follow_up_is_one_sentence(years, event, said):
    with pytest.raises(DataError, match=said):
        check_follow_up(np.array(years), np.array(event))


def notes_of(study, **columns):
    table = study.outcomes.table.assign(**columns)
    outcomes = dataclasses.replace(study.outcomes, table=table)
    return " ".join(follow_up_notes(study.config, outcomes, study.train, study.test))


def test_outcomes_that_limit_what_can_be_said(study):
    assert "Everybody has the event" in notes_of(study, event=1)
    assert "share one time" in notes_of(study, time_days=365.25)
    years = np.ceil(study.outcomes.years)
    assert "TIES = efron" in notes_of(study, time_days=years * 365.25, event=1)
    few = np.zeros(len(study.x))
    few[[study.train[0], study.test[0]]] = 1
    assert "Only 1 events among" in notes_of(study, event=few)
    wide = of(study, finetune_batch=4096)
    notes = follow_up_notes(wide.config, wide.outcomes, wide.train, wide.test)
    assert any("each update sees all of them" in note for note in notes)


@pytest.mark.parametrize("columns", [{"event": 1}, {"time_days": 365.25}], ids=["all", "ties"])
def test_extreme_outcomes_train_to_finite_scores(study, tmp_path, columns):
    table = study.outcomes.table.assign(**columns)
    outcomes = dataclasses.replace(study.outcomes, table=table)
    extreme = dataclasses.replace(
        of(study, finetune_batch=4096), outcomes=outcomes,
        years=torch.from_numpy(outcomes.years).float(),
        event=torch.from_numpy(outcomes.event).float(),
    )  # fmt: skip
    network, log = risk.finetune(extreme, None, tmp_path)
    assert log.finished and np.isfinite(risk.predict_risk(network, study.x)).all()


def test_no_event_in_a_part_is_one_sentence(study, tmp_path):
    nobody = dataclasses.replace(study, event=torch.zeros(len(study.x)))
    with pytest.raises(DataError, match="has no event among|None of the"):
        risk.finetune(nobody, None, tmp_path)


def test_a_patient_in_both_parts_is_refused(study):
    with pytest.raises(DataError, match="1 patients are in both parts"):
        study.on(study.train, study.train[:1])


@pytest.mark.parametrize(
    "params, sentence",
    [
        ({"PATIENCE": 3, "VALID_SHARE": 0.0}, "PATIENCE is 3 but VALID_SHARE is 0"),
        ({"VALID_SHARE": 0.9}, "give 0 to 0.5"),
        ({"TEMPERATURE": 0}, "TEMPERATURE is 0"),
        ({"ALIGN_LOSS": "clip"}, "choose one of"),
        ({"MASKING": "all"}, "choose one of"),
    ],
)
def test_wrong_settings_are_sentences(params, sentence):
    with pytest.raises(ConfigError, match=sentence):
        RiskConfig.from_params({"preset": "tiny", **params})


def test_a_loss_that_is_not_finite_names_its_ecgs(study, tmp_path):
    x = study.x.clone()
    x[study.train] = float("nan")
    with pytest.raises(ModelError, match="not finite at step 0"):
        risk.finetune(dataclasses.replace(study, x=x), None, tmp_path)
