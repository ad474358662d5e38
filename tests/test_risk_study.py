"""Structured reports, alignment, fine-tuning and the controls of the risk study, at tiny size."""

import numpy as np
import pandas as pd
import pytest
import torch
from risk_parts import tiny_study

from ecgkit.config.risk import RiskConfig
from ecgkit.reports import risk_figures
from ecgkit.tasks import risk, risk_finetune, risk_study
from ecgkit.tasks.metrics import harrell_c
from ecgkit.text.reports import (
    aggregate,
    embed_reports,
    render,
    stand_in_embedder,
    structured_report,
)
from ecgkit.types import ConfigError, DataError

STATEMENTS = pd.DataFrame(
    {
        "description": ["inferior myocardial infarction", "long QT", "atrial fibrillation"],
        "Statement Category": [
            "Myocardial Infarction", "other ST-T descriptive statements", "Rhythm",
        ],
        "SCP-ECG Statement Description": ["inferior MI", "long QT-interval", "atrial fibrillation"],
    },
    index=["IMI", "LNGQT", "AFIB"],
)
CODES = {"IMI": 15.0, "LNGQT": 100.0, "AFIB": 0.0}


@pytest.fixture(scope="module")
def study(tiny_cohort):
    return tiny_study(tiny_cohort)


# --- reports --------------------------------------------------------------------------------------


def test_report_drops_or_keeps_statements_without_likelihood():
    dropped = structured_report(CODES, STATEMENTS)
    assert [f.code for f in dropped] == ["IMI", "LNGQT"]
    kept = structured_report(CODES, STATEMENTS, "keep", 0.4)
    assert kept[-1].code == "AFIB" and kept[-1].confidence == 0.4


def test_both_styles_of_text():
    findings = structured_report(CODES, STATEMENTS)
    assert render(findings).splitlines()[0] == (
        "Myocardial Infarction: inferior MI, Confidence score: 15.0"
    )
    assert render(findings, "reference").splitlines()[0] == (
        "[CLS] Myocardial Infarction:inferior MI [SCP]"
    )
    assert "No statement" in render([])
    with pytest.raises(DataError, match="seed or reference"):
        render(findings, "poem")


def test_unknown_code_is_named():
    with pytest.raises(DataError, match="'XYZ' is not in"):
        structured_report({"XYZ": 100.0}, STATEMENTS)


def test_aggregation_weights_and_what_normalising_loses():
    e = np.eye(2)
    assert aggregate(e, [0.15, 1.0]) == pytest.approx([0.1304, 0.8696], abs=1e-4)
    assert (aggregate(e[:1], [0.15]) == aggregate(e[:1], [1.0])).all()
    assert aggregate(e[:1], [0.15], normalise=False) == pytest.approx([0.15, 0])


def test_book_embeds_each_statement_once_and_marks_empty_reports():
    seen = []

    def embed(texts):
        seen.extend(texts)
        return np.eye(len(texts))

    book = embed_reports([CODES, {"AFIB": 0.0}, {"IMI": 80.0}, CODES], STATEMENTS, embed, "seed")
    assert seen == ["Myocardial Infarction: inferior MI",
                    "other ST-T descriptive statements: long QT-interval"]  # fmt: skip
    assert book.group[0] == book.group[3] != book.group[2]
    assert book.has_text.tolist() == [True, False, True, True] and not book.vectors[1].any()


def test_stand_in_puts_like_texts_close():
    like, same, other = stand_in_embedder(8)(
        ["inferior myocardial infarction", "anterior myocardial infarction", "sinus rhythm"]
    )
    assert like @ same > like @ other


# --- study ----------------------------------------------------------------------------------------


def test_patients_of_train_and_test_are_apart(study):
    patients = study.outcomes.table["patient_id"].to_numpy()
    assert not set(patients[study.train]) & set(patients[study.test])
    assert len(study.train) + len(study.test) == len(study.x) == len(study.text)


def test_overfits_one_batch(study):
    """A network that cannot order sixteen people it has seen cannot learn anything."""
    torch.manual_seed(0)
    model = risk.RiskModel(study.network)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    at, first = study.train[:16], None
    batch = {
        "x": study.x[at], "years": study.years[at],
        "event": torch.tensor([1.0, 1.0, 0.0, 1.0] * 4),
    }  # fmt: skip
    for _ in range(60):
        losses = risk.risk_losses(model.train(), batch, study.config)
        first = losses if first is None else first
        optimiser.zero_grad()
        losses["loss"].backward()
        optimiser.step()
    assert losses["cox"] < 0.5 * first["cox"]
    assert losses["reconstruction"] < first["reconstruction"]


def test_both_stages_and_the_control_run_and_reload(study, tmp_path):
    aligned, log = risk.pretrain(study, tmp_path / "align")
    assert {"reconstruction", "alignment"} <= set(log.table) and log.finished
    network, _ = risk.finetune(study, aligned, tmp_path / "risk")
    again, log = risk.finetune(study, aligned, tmp_path / "risk")
    assert log.reused
    x = study.x[study.test]
    assert np.allclose(risk.predict_risk(network, x), risk.predict_risk(again, x), atol=1e-5)
    control, _ = risk.finetune(study, aligned, tmp_path / "control", shuffled=True)
    assert not np.allclose(risk.predict_risk(network, x), risk.predict_risk(control, x))
    seen = risk.look(network, x[:3])
    assert seen["lead_attention"].shape == (3, 12, 12)
    pairs = risk.held_out_pairs(
        study, aligned.autoencoder, risk.realign(study, aligned, "infonce", tmp_path / "nce", 3)
    )
    assert len(pairs[0]) == len(pairs[1]) == len(pairs[2])


def test_control_keeps_outcomes_whole_and_ecgs_in_place(study):
    indices = np.arange(12)
    true, shuffled = (
        risk_finetune._risk_batches(study, flag)(indices, np.random.default_rng(0))
        for flag in (False, True)
    )
    assert torch.equal(true["x"], shuffled["x"])
    assert not torch.equal(true["years"], shuffled["years"])
    known = {(t, e) for t, e in zip(study.years.tolist(), study.event.tolist())}
    assert all(p in known for p in zip(shuffled["years"].tolist(), shuffled["event"].tolist()))


def test_ladder_has_an_oracle_above_chance(study):
    scores = risk.baseline_scores(study)
    rows = {row["name"]: row for row in risk.ladder(study, scores, n_boot=20)}
    assert rows["true hazard"]["n"] == len(study.test)
    eta = study.outcomes.table["eta"].to_numpy()
    assert harrell_c(study.years.numpy(), study.event.numpy(), eta) > 0.6


def test_no_event_to_test_on_is_one_sentence(study, tiny_cohort):
    import dataclasses

    table = study.outcomes.table.assign(event=0)
    outcomes = dataclasses.replace(study.outcomes, table=table)
    with pytest.raises(DataError, match="No event among"):
        risk.prepare(study.config, tiny_cohort, outcomes, None)


@pytest.mark.parametrize(
    "name, value", [("ALPHA", 1.5), ("EVENT_RISK", 0), ("TEST_FOLDS", 9), ("BASE_FEATURES", 3)]
)
def test_contradictions_are_refused(name, value):
    with pytest.raises(ConfigError, match=name):
        RiskConfig.from_params({"preset": "tiny", name: value})


def test_figures_take_data_and_return_figures():
    rng = np.random.default_rng(0)
    pairs = {"cosine": (rng.normal(size=(9, 4)), rng.normal(size=(9, 4)))}
    weights = np.full((12, 8), 1 / 8)
    figures = [
        risk_figures.plot_similarity(pairs, np.arange(9) // 3),
        risk_figures.plot_lead_attention(np.full((12, 12), 1 / 12)),
        risk_figures.plot_beat_attention(rng.normal(size=(12, 64)), 100, weights, "beat"),
        risk_figures.plot_reconstruction(np.zeros((12, 64)), np.zeros((12, 64)), 100),
        risk_figures.plot_risk_by_truth(rng.normal(size=9), rng.normal(size=9), np.arange(9) % 2),
    ]
    assert all(figure.axes for figure in figures)


def test_any_bert_folder_embeds_statements(tmp_path):
    """Kit pooling does not depend on what else is in the batch; the published one pads to 100."""
    from ecgkit.text.encoders import small_bert, train_wordpiece
    from ecgkit.text.reports import text_embedder

    texts = ["inferior myocardial infarction", "long QT"]
    tokenizer = train_wordpiece(texts, 60)
    torch.manual_seed(0)
    tokenizer.save_pretrained(tmp_path)
    small_bert(len(tokenizer), width=32, n_layers=1).save_pretrained(tmp_path)
    embed, what = text_embedder(str(tmp_path), "seed")
    assert embed(texts).shape == (2, 32) and str(tmp_path) in what
    assert np.allclose(embed(texts)[1], embed(texts[1:])[0], atol=1e-5)
    published, _ = text_embedder(str(tmp_path), "reference")
    assert not np.allclose(published(texts), embed(texts), atol=1e-3)
    assert "stand-in" in text_embedder("")[1]


def test_ecgs_without_anything_to_read_are_named(tiny_cohort):
    rows = np.array([4, 2, 7])
    x = torch.ones(3, 12, 16)
    assert risk_study.empty_notes(x, tiny_cohort, rows) == []
    x[1] = 0
    (note,) = risk_study.empty_notes(x, tiny_cohort, rows)
    assert note.startswith("1 of 3") and str(tiny_cohort.table["ecg_id"].iloc[2]) in note
