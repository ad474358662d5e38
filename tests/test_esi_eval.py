"""ESI's evaluation: sets of labels, zero-shot, probes, label shares, what cannot be scored."""

import dataclasses

import numpy as np
import pytest
import torch

from ecgkit.config import EsiEvalConfig
from ecgkit.models.convnext import ConvNeXt1D, ConvNeXtConfig
from ecgkit.tasks import (
    embeddings,
    esi_eval,
    eval_tables,
    label_sets,
    probes,
    thresholds,
    zero_shot,
)
from ecgkit.types import ConfigError, DataError, ModelError

SIZES = ConvNeXtConfig(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32), init_std=0.1, norm="channel")


@pytest.fixture(scope="module")
def config():
    return EsiEvalConfig.from_params({"preset": "tiny", "device": "cpu"})


@pytest.fixture(scope="module")
def labels(tiny_cohort):
    return label_sets.label_set(tiny_cohort, "superdiagnostic")


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return embeddings.EcgEncoder("random", ConvNeXt1D(SIZES))


@pytest.fixture(scope="module")
def features(encoder, tiny_cohort):
    return encoder.features(tiny_cohort.store)


class Sayings:
    """Stands for model and tokenizer: a prompt's latent is the axis of the class it was given."""

    def __init__(self, axis_of):
        self.axis_of, self.weight = axis_of, torch.nn.Parameter(torch.zeros(1))

    def __call__(self, texts, **how):
        ids = torch.tensor([[self.axis_of[t]] for t in texts])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def parameters(self):
        return iter([self.weight])

    def eval(self):
        return self

    def encode_text(self, ids, mask):
        return {"text_latents": torch.eye(8)[ids[:, 0]]}


# --- sets of labels -------------------------------------------------------------------------------


def test_sets_of_labels_keep_the_splits_and_their_order(tiny_cohort, labels):
    assert labels.classes == ["NORM", "MI", "STTC", "CD", "HYP"]
    for split in ("train", "valid", "test"):
        rows = labels.rows[labels.index(split)]
        assert len(rows) and set(rows) <= set(tiny_cohort.rows(split))
    row = labels.rows[0]
    codes = set(tiny_cohort.table["scp_codes"].iloc[row])
    for name, has in zip(labels.classes, labels.labels[0]):
        assert bool(codes & set(labels.members[name])) == bool(has)


def test_icbeb_and_chapman_are_asked_of_any_source_with_codes(tiny_cohort):
    nine = label_sets.label_set(tiny_cohort, "icbeb")
    assert len(nine.classes) == 9 and nine.labels.any(1).all()
    rhythm = label_sets.label_set(tiny_cohort, "chapman_rhythm")
    codes = tiny_cohort.table["scp_codes"].iloc[rhythm.rows]
    fast = rhythm.labels[:, rhythm.classes.index("GSVT")] > 0.5
    assert fast.tolist() == [bool({"SVTAC", "PSVT", "STACH"} & set(c)) for c in codes]


def test_unknown_task_is_refused(tiny_cohort):
    with pytest.raises(ConfigError, match="chapman_rhythm"):
        label_sets.label_set(tiny_cohort, "everything")
    with pytest.raises(ConfigError, match="TASKS is empty"):
        label_sets.label_sets(tiny_cohort, " ")
    assert len(label_sets.label_sets(tiny_cohort, "superdiagnostic, rhythm")) == 2


# --- thresholds and F1 ----------------------------------------------------------------------------


def test_thresholds_are_the_best_of_all_and_f1_is_scikit_learns():
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(0)
    labels = (rng.random((60, 3)) < 0.3).astype(float)
    scores = np.round(labels + rng.normal(size=labels.shape), 1)  # with ties
    at = thresholds.best_thresholds(labels, scores)
    for k in range(3):
        tried = [f1_score(labels[:, k], scores[:, k] >= t) for t in scores[:, k]]
        assert f1_score(labels[:, k], scores[:, k] >= at[k]) == pytest.approx(max(tried))
    ours = thresholds.macro_f1(labels, scores >= at)
    assert ours == pytest.approx(f1_score(labels, scores >= at, average="macro"))


def test_thresholds_come_from_the_validation_split_alone():
    labels = np.array([[1.0], [0.0], [1.0], [0.0]])
    poor = np.array([[0.1], [0.9], [0.2], [0.8]])  # upside down
    at = thresholds.best_thresholds(labels, 1 - poor)
    line = thresholds.f1_line("m", "t", labels, [poor], [at], ["A"], np.arange(4), n_boot=5)
    assert line["value"] == 0 and "validation" in line["note"]


def test_a_class_without_a_validation_ecg_has_no_threshold():
    labels = np.array([[1.0, 0.0], [0.0, 0.0]])
    at = thresholds.best_thresholds(labels, labels)
    assert np.isnan(at[1])
    truth = np.array([[1.0, 1.0], [0.0, 0.0]])
    line = thresholds.f1_line("m", "t", truth, [truth], [at], ["A", "B"], np.arange(2), n_boot=5)
    assert line["value"] == 1 and "B" in line["note"]


# --- zero-shot ------------------------------------------------------------------------------------


def test_zero_shot_reads_what_the_prompts_point_at(labels, config):
    asked = zero_shot.task_prompts(labels)
    axis = {p: k for k, group in enumerate(asked.values()) for p in group}
    model = Sayings(axis)
    n = labels.rows.max() + 1
    latents = np.zeros((n, 8), np.float32)
    latents[labels.rows, :5] = labels.labels
    read = zero_shot.read_by_prompts(model, model, latents, labels, config)
    table = read.table.set_index("metric")
    assert table.loc["macro AUC", "value"] == 1 and table.loc["macro F1", "value"] == 1
    assert len(read.by_class) == 5 and read.scores.shape == (len(labels.rows), 5)
    # Another latent for the test ECGs moves their score, not the thresholds.
    spoilt = latents.copy()
    spoilt[labels.rows[labels.index("test")]] = 0
    again = zero_shot.read_by_prompts(model, model, spoilt, labels, config)
    assert np.array_equal(again.thresholds, read.thresholds)
    assert again.table["value"].iloc[0] == 0.5


def test_classes_without_prompts_are_named(tiny_cohort, config):
    labels = label_sets.label_set(tiny_cohort, "all")
    asked = zero_shot.task_prompts(labels)
    silent = [c for c in labels.classes if c not in asked]
    model = Sayings({p: k % 8 for k, group in enumerate(asked.values()) for p in group})
    read = zero_shot.read_by_prompts(model, model, np.ones((len(tiny_cohort), 8)), labels, config)
    if silent:
        assert f"No prompts for {len(silent)} classes" in read.table["note"].iloc[0]
    assert read.table["n"].iloc[0] == len(labels.index("test"))


def test_scored_against_normal():
    latents, prompts = np.eye(3), np.eye(3)
    scores = zero_shot.zero_shot(latents, prompts, normal=0)
    assert scores[1, 1] == 1 and scores[0, 1] == -1 and scores[0, 0] == 1


# --- probes ---------------------------------------------------------------------------------------


def test_shares_are_nested_by_patient():
    patients = np.repeat(np.arange(50), 2)
    parts = probes.nested_shares(patients, [0.01, 0.1, 0.5, 1.0], seed=3)
    assert [len(parts[s]) for s in (0.01, 0.1, 0.5, 1.0)] == [2, 10, 50, 100]
    assert set(parts[0.01]) <= set(parts[0.1]) <= set(parts[0.5])
    for part in parts.values():
        assert all((patients[part] == p).sum() == 2 for p in np.unique(patients[part]))
    again = probes.nested_shares(patients, [0.1], seed=3)[0.1]
    assert np.array_equal(again, parts[0.1])
    assert not np.array_equal(probes.nested_shares(patients, [0.1], 4)[0.1], parts[0.1])


def test_a_penalty_is_chosen_on_the_validation_split():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 40))
    labels = (x[:, :1] + 3 * rng.normal(size=(300, 1)) > 0).astype(float)
    assert probes.choose_c(x[:60], labels[:60], x[60:], labels[60:]) < 1
    assert probes.choose_c(x[:60], labels[:60], x[:0], labels[:0]) in probes.GRID


def test_the_sweep_says_which_class_a_share_lacks(features, labels, config):
    config = dataclasses.replace(config, fractions="0.01 1", n_seeds=3)
    table = probes.label_sweep("probe", features, labels, config)
    assert table["fraction"].tolist() == [0.01, 1.0]
    assert table["metric"].iloc[0] == "macro AUC at 1 % of labels"
    assert "No training ECG of" in table["note"].iloc[0]
    assert np.isfinite(table["sd"].iloc[0]) and np.isnan(table["sd"].iloc[1])
    assert (table["low"] <= table["value"]).all() and (table["value"] <= table["high"]).all()


def test_probe_table_and_wrong_fractions(features, labels, config):
    table = probes.probe_table("probe", features, labels, dataclasses.replace(config, probe_c=0))
    assert list(table) == eval_tables.COLUMNS and table["metric"].tolist() == [
        "macro AUC", "macro F1"]
    assert "C = " in table["note"].iloc[0]
    for wrong in ("", "0", "2", "half"):
        with pytest.raises(ConfigError, match="FRACTIONS"):
            probes.parse_fractions(wrong)


def test_a_test_split_of_one_label_is_said_not_crashed(features, labels, config):
    test = labels.index("test")
    one = dataclasses.replace(labels, labels=labels.labels.copy())
    one.labels[test] = 0
    table = probes.probe_table("probe", features, one, config)
    assert table["value"].isna().all() and table["low"].isna().all()
    assert "no class is left" in table["note"].iloc[0]
    value, low, high = esi_eval.macro_interval(one.labels[test], np.zeros((len(test), 5)),
                                               one.patients[test], 10)
    assert np.isnan([value, low, high]).all()
    with pytest.raises(DataError, match="needs both"):
        probes.probe_table("probe", features, labels.take(labels.index("train")), config)


def test_an_ecg_without_an_embedding_is_named_in_every_table(features, labels, config):
    broken = features.copy()
    row = labels.rows[labels.index("test")[0]]
    broken[row] = np.nan
    asked = zero_shot.task_prompts(labels)
    model = Sayings({p: k for k, group in enumerate(asked.values()) for p in group})
    tables = [
        probes.probe_table("probe", broken, labels, config),
        probes.label_sweep("probe", broken, labels, config),
        zero_shot.read_by_prompts(model, model, broken[:, :8], labels, config).table,
    ]
    for table in tables:
        assert (table["n"] == len(labels.index("test")) - 1).all()
        assert f"not finite: {labels.ids[labels.rows == row][0]}." in table["note"].iloc[0]


# --- what cannot be read --------------------------------------------------------------------------


def test_an_empty_lead_is_set_aside_and_counted(encoder, tiny_cohort):
    signal = tiny_cohort.store.read(np.arange(4))
    signal[2, 5] = np.nan
    embedding = encoder.of_signals(signal)
    aside = embeddings.set_aside(embedding, ["a", "b", "c", "d"])
    assert aside.ids == ["c"] and aside.good.tolist() == [True, True, False, True]
    assert aside.sentence == "1 of 4 ECGs set aside, embedding not finite: c."
    alone = encoder.of_signals(signal[3:])
    assert np.allclose(alone, embedding[3:], atol=1e-5)  # its neighbour did not suffer
    with pytest.raises(ModelError, match="None of 1"):
        embeddings.set_aside(embedding[2:3], ["c"])


def test_rare_classes_are_left_out_of_the_macro_value_and_named():
    labels = np.zeros((40, 2))
    labels[:10, 0], labels[0, 1] = 1, 1
    scores = labels.copy()
    scores[0, 1] = -1  # the rare class is read wrongly
    at = [np.array([0.5, 0.5])]
    common = dict(classes=["A", "B"], patients=np.arange(40), n_boot=20)
    for least, value in ((1, 0.5), (2, 1.0)):
        auc = eval_tables.auc_line("m", "t", labels, [scores], min_positive=least, **common)
        f1 = thresholds.f1_line("m", "t", labels, [scores], at, min_positive=least, **common)
        assert auc["value"] == f1["value"] == value
        assert ("Not scored: B (fewer than 2 of 40" in auc["note"]) == (least == 2)
