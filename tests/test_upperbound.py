"""ECG classifiers on SCP codes, grounding tuples and the PTB-XL benchmark's tasks; the gap."""

import dataclasses
import types

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from ecgkit.config import BaselinesConfig, KitConfig
from ecgkit.config.classifiers import ClassifierSettings
from ecgkit.data.cohort import open_cohort
from ecgkit.data.ecgqa import open_questions
from ecgkit.data.grounding import read_grounding
from ecgkit.data.labels import (
    BENCHMARK_TASKS,
    annotation_labels,
    benchmark_classes,
    benchmark_labels,
)
from ecgkit.data.scp_table import scp_statements
from ecgkit.models.losses_qa import attribute_macro_bce
from ecgkit.tasks import benchmark_heads, classifiers, upperbound
from ecgkit.tasks.upperbound_gap import upper_bound_gap
from ecgkit.types import ConfigError, DataError, ModelError

PUBLISHED = {"all": 71, "diagnostic": 44, "subdiagnostic": 23, "superdiagnostic": 5, "form": 19,
             "rhythm": 12}  # fmt: skip


@pytest.fixture(scope="module")
def config():
    return BaselinesConfig.from_params({"preset": "tiny"})


@pytest.fixture(scope="module")
def template(config, tiny_cohort):
    return open_questions(dataclasses.replace(config, flavour="template"), tiny_cohort, quiet=True)


@pytest.fixture(scope="module")
def grounding(template):
    return read_grounding(template)


@pytest.fixture(scope="module")
def bound(config, tiny_cohort, grounding, tmp_path_factory):
    folder = tmp_path_factory.mktemp("grounding")
    return upperbound.train_on_grounding(config, tiny_cohort, grounding, "se_wrn", folder)


# --- settings -------------------------------------------------------------------------------------


def test_paper_settings_are_the_published_ones():
    paper = ClassifierSettings.from_params({"preset": "paper"})
    assert paper.training("se_wrn") == {
        "n_steps": 100_000, "batch_size": 128, "lr": 1e-4, "weight_decay": 5e-4,
        "betas": (0.9, 0.98)}
    assert paper.training("ecg_transformer") == {
        "n_steps": 100_000, "batch_size": 64, "lr": 5e-5, "weight_decay": 1e-4,
        "betas": (0.9, 0.98)}
    assert paper.training("resnet_attention")["weight_decay"] == 1e-4
    assert paper.training("se_wrn", grounding=True) == paper.training("se_wrn")
    demo = ClassifierSettings.from_params({"preset": "demo", "grounding_steps": 9})
    assert demo.training("se_wrn", grounding=True)["n_steps"] == 9
    assert demo.training("se_wrn")["n_steps"] != 9
    assert (paper.dropout_of("se_wrn"), paper.dropout_of("resnet_attention")) == (0.3, 0.5)
    published = {"se_wrn": 1_361_757, "resnet_attention": 6_563_127}
    for name, n_parameters in published.items():
        with torch.device("meta"):
            model = classifiers.build_classifier(paper, name, 83)
        assert sum(p.numel() for p in model.parameters()) == n_parameters


def test_any_study_can_train_classifiers():
    settings = ClassifierSettings.of(KitConfig.from_params({"preset": "tiny", "seed": 5}))
    assert settings.seed == 5 and settings.upper_steps == 4


@pytest.mark.parametrize("given, says", [
    ({"upper_dropout": 1.5}, "UPPER_DROPOUT"), ({"upper_stem_stride": 0}, "UPPER_STEM_STRIDE"),
    ({"upper_decay": -0.5}, "UPPER_DECAY"), ({"finetune_grad_mult": 2}, "FINETUNE_GRAD_MULT"),
    ({"upper_model": "resnet"}, "se_wrn"), ({"upper_kernel": 8}, "UPPER_KERNEL"),
    ({"upper_width": -1}, "UPPER_WIDTH"), ({"upper_beta2": 1}, "UPPER_BETA2"),
])
def test_settings_out_of_range_are_sentences(given, says):
    with pytest.raises(ConfigError, match=says):
        ClassifierSettings.from_params(given)


# --- items ----------------------------------------------------------------------------------------


def test_leads_not_asked_about_are_zeros(tiny_cohort, grounding):
    items = upperbound.grounding_items(grounding)
    some = np.flatnonzero(items.leads.sum(1) == 1)[:4]
    ecg = items.batch(tiny_cohort.store, some)["ecg"].numpy()
    plain = tiny_cohort.store.read(items.rows[some])
    assert ecg.shape == (4, 12, 1000)
    for one, whole, leads in zip(ecg, plain, items.leads[some]):
        np.testing.assert_array_equal(one[leads], whole[leads])
        assert not one[~leads].any() and whole[~leads].any()


def test_loss_takes_asked_tuples_only(tiny_cohort, grounding, config):
    items = upperbound.grounding_items(grounding)
    model = classifiers.build_classifier(config, "se_wrn", len(items.classes)).eval()
    batch = items.batch(tiny_cohort.store, np.arange(8))
    loss = classifiers.classifier_loss(model, batch)["loss"]
    flipped = {**batch, "labels": torch.where(batch["asked"], batch["labels"], 1.0)}
    assert classifiers.classifier_loss(model, flipped)["loss"] == loss
    whole = {k: v for k, v in flipped.items() if k != "asked"}
    assert classifiers.classifier_loss(model, whole)["loss"] != loss


def test_rates_are_shares_of_what_was_asked():
    labels = np.array([[1, 0], [1, 0], [0, 0]], np.float32)
    asked = np.array([[True, False], [True, False], [True, False]])
    items = classifiers.Items(np.arange(3), labels, ["a", "b"], asked)
    assert items.rates(np.arange(3)).tolist() == [pytest.approx(2 / 3), 0.0]
    assert items.key() != classifiers.Items(np.arange(3), 1 - labels, ["a", "b"], asked).key()


@pytest.mark.parametrize("parts, says", [
    ({"labels": np.zeros((3, 4))}, "labels is"), ({"rows": np.array([0, -1, 2])}, "1 of 3 ECGs"),
    ({"leads": np.ones((2, 12), bool)}, "leads has 2 rows"),
])
def test_items_that_do_not_fit_are_sentences(parts, says):
    with pytest.raises(DataError, match=says):
        classifiers.Items(**{"rows": np.arange(3), "labels": np.zeros((3, 2)),
                             "classes": ["a", "b"], **parts})


# --- models ---------------------------------------------------------------------------------------


def test_a_pretrained_encoder_is_where_training_starts(config):
    torch.manual_seed(9)
    start = classifiers.build_classifier(config, "ecg_transformer", 7)
    model = classifiers.started_classifier(config, "ecg_transformer", 3, start)
    for name, value in start.encoder.state_dict().items():
        assert torch.equal(value, model.encoder.state_dict()[name])
    assert model.encoder.config.feature_grad_mult == 0.1
    fresh = classifiers.started_classifier(config, "ecg_transformer", 3)
    assert fresh.encoder.config.feature_grad_mult == 1.0
    with pytest.raises(ModelError, match="se_wrn cannot start from a ECGTransformerClassifier"):
        classifiers.started_classifier(config, "se_wrn", 3, start)
    codes = classifiers.started_classifier(config, "se_wrn", 7)
    torch.nn.init.ones_(codes.proj.weight)
    torch.nn.init.constant_(codes.bn.weight, 2.0)
    model = classifiers.started_classifier(config, "se_wrn", 3, codes)
    assert (model.bn.weight == 2).all()
    assert torch.equal(model.encoder.conv.weight, codes.encoder.conv.weight)
    assert not (model.proj.weight == 1).any()  # the head is the new task's own
    with pytest.raises(ConfigError, match="'xresnet' is no classifier"):
        classifiers.build_classifier(config, "xresnet", 3)


def test_a_longer_first_step_costs_no_parameter(config):
    sizes = []
    for stride in (1, 2):
        how = dataclasses.replace(ClassifierSettings.of(config), upper_stem_stride=stride)
        model = classifiers.build_classifier(how, "se_wrn", 5).eval()
        sizes.append(sum(p.numel() for p in model.parameters()))
        length = model(torch.zeros(1, 12, 320))["encoder_out"].shape[-1]
        assert length == 320 // 16 // stride
    assert sizes[0] == sizes[1]


def test_other_strides_or_dropout_are_another_training(tiny_cohort, tmp_path):
    settings = ClassifierSettings.from_params({"preset": "tiny"})
    targets = upperbound.code_targets(tiny_cohort, 3)
    train = [settings, dataclasses.replace(settings, upper_stem_stride=4),
             dataclasses.replace(settings, upper_stem_stride=4, upper_dropout=0.2)]
    for how in train:
        bound = upperbound.train_upper_bound(how, tiny_cohort, targets, "se_wrn", tmp_path)
        assert not bound.log.reused
    assert upperbound.train_upper_bound(how, tiny_cohort, targets, "se_wrn", tmp_path).log.reused


def test_se_wrn_overfits_one_batch(config, tiny_cohort):
    targets = upperbound.code_targets(tiny_cohort, config.min_code_count)
    items = classifiers.Items(np.arange(len(targets.labels)), targets.labels, targets.codes)
    torch.manual_seed(0)
    how = dataclasses.replace(ClassifierSettings.of(config), upper_dropout=0.0)
    model = classifiers.build_classifier(how, "se_wrn", len(targets.codes))
    batch = items.batch(tiny_cohort.store, tiny_cohort.rows("train")[:8])
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = classifiers.classifier_loss(model, batch)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.02


# --- SCP codes and grounding ----------------------------------------------------------------------


def test_codes_train_and_are_scored_like_scikit_learn(config, tiny_cohort, tmp_path):
    targets = upperbound.code_targets(tiny_cohort, config.min_code_count)
    upper = upperbound.train_upper_bound(config, tiny_cohort, targets, "se_wrn", tmp_path)
    labels = targets.labels[tiny_cohort.rows("test")]
    for row, y, p in zip(upper.table.itertuples(), labels.T, upper.scores.T):
        assert row.n == len(y) and row.positives == y.sum()
        if 0 < y.sum() < len(y):
            assert row.auroc == pytest.approx(roc_auc_score(y, p))
    assert upper.macro[0] == pytest.approx(upper.table["auroc"].mean())
    assert upper.macro[1] < upper.macro[0] < upper.macro[2]
    again = upperbound.predict_codes(upper.model, tiny_cohort.store, tiny_cohort.rows("test"))
    np.testing.assert_allclose(again, upper.scores, atol=1e-6)
    assert upperbound.train_upper_bound(config, tiny_cohort, targets, "se_wrn",
                                        tmp_path).log.reused
    with pytest.raises(DataError, match="MIN_CODE_COUNT"):
        upperbound.code_targets(tiny_cohort, 10_000)


@pytest.mark.parametrize("name", ["ecg_transformer", "resnet_attention"])
def test_other_models_train_on_grounding(config, tiny_cohort, grounding, tmp_path, name):
    torch.manual_seed(1)
    start = None
    if name == "ecg_transformer":
        start = classifiers.build_classifier(config, name, 2)
    bound = upperbound.train_on_grounding(config, tiny_cohort, grounding, name, tmp_path, start)
    assert np.isfinite(bound.scores).all() and np.isfinite(bound.log.table["loss"]).all()
    if start is not None:  # another start is another training
        fresh = upperbound.train_on_grounding(config, tiny_cohort, grounding, name, tmp_path)
        assert not fresh.log.reused


def test_grounding_metrics_count_asked_tuples_and_attributes_once(bound, tiny_cohort, grounding):
    tuples = grounding.tuples()
    test = tuples[tuples["split"] == "test"]
    assert bound.table["n"].sum() == len(test)
    where = {key: i for i, key in enumerate(zip(
        *grounding.table.iloc[bound.index][["ecg_id", "leads"]].to_numpy().T.tolist()))}
    score = np.array([bound.scores[where[t.ecg_id, t.leads], k] for t, k in
                      zip(test.itertuples(), test["class"])])  # fmt: skip
    right = (score > 0.5) == (test["label"] == 1)
    by_attribute = right.groupby(test["attribute"].to_numpy()).mean()
    assert bound.macro_accuracy[0] == pytest.approx(by_attribute.mean())
    assert bound.accuracy == pytest.approx(right.mean())
    aucs = [roc_auc_score(test["label"][at], score[at]) for name in bound.table["attribute"]
            if test["label"][at := (test["attribute"] == name).to_numpy()].nunique() == 2]
    assert bound.macro_auroc[0] == pytest.approx(np.mean(aucs))


def test_grounding_without_a_test_split_is_a_sentence(config, tiny_cohort, template, tmp_path):
    train_only = read_grounding(template.only((template.table["split"] == "train").to_numpy()))
    with pytest.raises(DataError, match="no tuple in the test split"):
        upperbound.train_on_grounding(config, tiny_cohort, train_only, "se_wrn", tmp_path)


# --- the gap --------------------------------------------------------------------------------------


def perfect(questions, positions):
    return questions.labels(positions)


def test_gap_compares_the_same_questions(bound, template, config, tiny_cohort):
    worded = open_questions(config, tiny_cohort, quiet=True)
    assert worded.flavour == "paraphrased"
    test = worded.index("test", "single-verify")
    scores = {"perfect": perfect(worded, test), "never": np.zeros((len(test), len(worded.classes)))}
    gap = upper_bound_gap(bound, worded, test, scores, template=template)
    table = gap.table.set_index("model")
    assert len(gap.positions) + sum(gap.left_out.values()) == len(test)
    assert table["n"].nunique() == 1 and table.loc["perfect", "exact_match"] == 1
    upper = table.loc["se_wrn"]
    assert table.loc["perfect", "gap"] == pytest.approx(upper["exact_match"] - 1)
    assert table.loc["never", "gap"] == pytest.approx(upper["exact_match"])  # says neither
    assert upper["gap"] == upper["gap_low"] == upper["gap_high"] == 0
    assert table.loc["perfect", "auroc"] == 1 and table.loc["never", "auroc"] == 0.5
    assert gap.by_attribute["n"].sum() == len(gap.positions)
    assert gap.by_attribute["se_wrn"].mean() == pytest.approx(upper["macro"])


def test_a_classifier_that_knows_the_labels_answers_all(bound, template, grounding):
    """Each question finds its own tuple: with the table's labels as scores none is wrong."""
    labels = (grounding.labels(bound.index) == 1).astype(float)
    knows = dataclasses.replace(bound, scores=labels)
    test = template.index("test")
    gap = upper_bound_gap(knows, template, test, {"perfect": perfect(template, test)})
    found = gap.table.set_index("model")["exact_match"]
    assert not len(grounding.conflicts), "a tuple said both ways cannot be right twice"
    assert found["se_wrn"] == 1
    wrong = dataclasses.replace(bound, scores=1 - labels)
    gap = upper_bound_gap(wrong, template, test, {"perfect": perfect(template, test)})
    assert gap.table["exact_match"].iloc[0] == pytest.approx(1 - found["se_wrn"])


def test_gap_refuses_what_does_not_belong_together(bound, template, config, tiny_cohort):
    worded = open_questions(config, tiny_cohort, quiet=True)
    test, k = worded.index("test"), len(worded.classes)
    with pytest.raises(DataError, match="give template="):
        upper_bound_gap(bound, worded, test, {})
    with pytest.raises(DataError, match="holds paraphrased"):
        upper_bound_gap(bound, template, template.index("test"), {}, template=worded)
    part = template.only((template.table["split"] != "test").to_numpy())
    with pytest.raises(DataError, match="not among the template ones"):
        upper_bound_gap(bound, worded, test, {"m": np.zeros((len(test), k))}, template=part)
    train = template.index("train")
    with pytest.raises(DataError, match="Not one single-verify question"):
        upper_bound_gap(bound, template, train, {"m": np.zeros((len(train), k))})


# --- PTB-XL's benchmark ---------------------------------------------------------------------------


@pytest.mark.parametrize("task", BENCHMARK_TASKS)
def test_tasks_have_the_published_number_of_classes(task):
    assert len(set(benchmark_classes(scp_statements(), task).values())) == PUBLISHED[task]


def test_real_statements_give_the_same_tasks(shared):
    data = shared / "data" / "ptbxl-subset-400.zip"
    config = KitConfig.from_params({"preset": "tiny", "data": str(data), "jobs": 1})
    cohort = open_cohort(config, quiet=True)
    for task, n in PUBLISHED.items():
        labels, classes, rows = benchmark_labels(cohort, task)
        assert labels.shape == (len(rows), n) and classes == sorted(classes)
        assert (labels.sum(1) >= 1).all() and len(rows) <= len(cohort)
    assert benchmark_labels(cohort, "superdiagnostic")[1] == ["CD", "HYP", "MI", "NORM", "STTC"]


def test_who_has_no_label_is_left_out_and_likelihood_does_not_matter():
    codes = [{"NORM": 0.0, "SR": 0.0}, {"SR": 0.0}, {"IMI": 15.0, "AMI": 50.0}, {"ABQRS": 0.0}]
    cohort = types.SimpleNamespace(statements=scp_statements(),
                                   table=pd.DataFrame({"scp_codes": codes}))
    labels, classes, rows = benchmark_labels(cohort, "superdiagnostic")
    assert rows.tolist() == [0, 2]
    assert [[classes[k] for k in np.flatnonzero(row)] for row in labels] == [["NORM"], ["MI"]]
    assert benchmark_labels(cohort, "form")[2].tolist() == [3]
    assert benchmark_labels(cohort, "subdiagnostic")[0].sum(1).tolist() == [1, 2]  # IMI and AMI
    with pytest.raises(ConfigError, match="'super' is no task"):
        benchmark_labels(cohort, "super")
    cohort.table["scp_codes"] = [{}] * 4
    with pytest.raises(DataError, match="None of the 4 ECGs"):
        benchmark_labels(cohort, "rhythm")


def test_a_head_trains_on_ecgs_with_a_label(config, tiny_cohort, tmp_path):
    head = benchmark_heads.train_benchmark_head(config, tiny_cohort, "form", "se_wrn", tmp_path)
    labels, classes, rows = benchmark_labels(tiny_cohort, "form")
    kept = np.isin(rows, tiny_cohort.rows("test"))
    assert head.rows.tolist() == rows[kept].tolist() and head.scores.shape[1] == 19
    assert head.table["positives"].tolist() == labels[kept].sum(0).astype(int).tolist()
    assert 0 < head.f_max <= 1 and 0 < head.macro_f_max <= 1
    table = benchmark_heads.benchmark_table([head])
    assert table["auroc"].iloc[0] == pytest.approx(head.table["auroc"].mean())
    assert table["scored"].iloc[0] == head.table["auroc"].notna().sum()


def test_start_targets_add_what_questions_ask_beside_the_codes(tiny_cohort):
    labels, names = annotation_labels(tiny_cohort)
    table = tiny_cohort.table
    assert labels.shape == (len(table), len(names))
    noisy = labels[:, names.index("static_noise")] > 0
    assert (noisy == (table["static_noise"].fillna("").str.strip() != "")).all() and noisy.any()
    ventricular = labels[:, names.index("extra beats, ventricular")] > 0
    beats = table["extra_beats"].fillna("")
    assert not ventricular[beats.str.fullmatch(r"\d*SVES")].any()
    targets = upperbound.start_targets(tiny_cohort, 3)
    codes = upperbound.code_targets(tiny_cohort, 3).codes
    assert targets.codes[: len(codes)] == codes and "static_noise" in targets.codes
    assert targets.labels[tiny_cohort.rows("train")].sum(0).min() >= 3
    assert targets.importance is None
    weighed = upperbound.start_targets(tiny_cohort, 3, noise_importance=3).importance
    assert dict(zip(targets.codes, weighed))["static_noise"] == 3
    assert (weighed[: len(codes)] == 1).all()


def test_importance_multiplies_a_class_and_changes_what_is_trained():
    logits, labels = torch.randn(6, 3), torch.randint(0, 2, (6, 3)).float()
    each = [attribute_macro_bce(logits[:, [k]], labels[:, [k]]) for k in range(3)]
    found = attribute_macro_bce(logits, labels, importance=torch.tensor([1.0, 4.0, 1.0]))
    torch.testing.assert_close(found, (each[0] + 4 * each[1] + each[2]) / 3)
    rows, names = np.arange(6), ["a", "b", "c"]
    keys = {classifiers.Items(rows, labels.numpy(), names, importance=weights).key()
            for weights in (None, np.ones(3, np.float32), np.full(3, 2, np.float32))}
    assert len(keys) == 3
