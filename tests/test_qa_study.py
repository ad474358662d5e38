"""The QA study as a whole: published sizes and settings, six kinds trained alike, bad input.

On the tiny simulated cohort. The overfitting of each kind is in test_baselines.py, the real
questions are in test_qa_real.py.
"""

import dataclasses
import json
import types

import numpy as np
import pandas as pd
import pytest
import torch

from ecgkit.config import BaselinesConfig
from ecgkit.config.baselines import DEMO_ROW, QA_MODELS, UPPER_BOUNDS
from ecgkit.data.ecgqa import open_questions
from ecgkit.data.labels import BENCHMARK_TASKS
from ecgkit.models import checkpoints, registry
from ecgkit.models.m3ae import M3AEPretraining
from ecgkit.models.medvill import MedViLLPretraining
from ecgkit.models.saving import load_pretrained, save_pretrained
from ecgkit.models.se_wrn import SEWideResNet
from ecgkit.tasks import (
    baselines_qa,
    classifiers,
    metrics_qa,
    qa_data,
    qa_models,
    qa_study,
    ssl_pretrain,
    vl_pretrain,
)
from ecgkit.types import ConfigError, DataError, ModelError

PUBLISHED = {"fusion": 114_447_847, "blind": 108_972_391, "deaf": 90_532_327,
             "resnet_lstm": 48_428_775, "m3ae": 317_573_863, "medvill": 114_447_847}
PUBLISHED_BOUNDS = {"ecg_transformer": 90_437_075, "resnet_attention": 6_563_127,
                    "se_wrn": 1_361_757}
N_STEPS = 3


@pytest.fixture(scope="module")
def config():
    return BaselinesConfig.from_params({
        "preset": "tiny", "device": "cpu", "precision": "fp32", "n_steps": N_STEPS,
        "search_steps": 1, "vl_steps": 2, "eval_questions": 8, "protocol": "paper"})


@pytest.fixture(scope="module")
def paper():
    return BaselinesConfig.from_params({"preset": "paper"})


@pytest.fixture(scope="module")
def questions(config, tiny_cohort):
    return open_questions(config, tiny_cohort, quiet=True)


@pytest.fixture(scope="module")
def data(config, tiny_cohort, questions):
    return baselines_qa.prepare(config, tiny_cohort, questions)


@pytest.fixture(scope="module")
def starts(config, tiny_cohort, data, tmp_path_factory):
    """kind -> what it starts from: an ECG classifier, or two steps of its own pretraining."""
    torch.manual_seed(77)  # not the weights that training would draw itself
    classifier = classifiers.build_classifier(config, "ecg_transformer", 5)
    folder = tmp_path_factory.mktemp("vl")
    pretrained = {
        kind: vl_pretrain.pretrain_vl(config, tiny_cohort, kind, folder / kind, classifier,
                                      data.tokenizer).model
        for kind in qa_models.FROM_REPORTS}
    return qa_models.starting_points(classifier, pretrained)


@pytest.fixture(scope="module")
def trained(config, data, starts, tmp_path_factory):
    """kind -> (TrainedQA, positions of each batch it was given), all of the same settings."""
    found, batch = {}, qa_data.QAData.batch
    folder = tmp_path_factory.mktemp("qa")
    with pytest.MonkeyPatch.context() as patch:
        for kind in QA_MODELS:
            seen = []

            def noted(self, positions, *args, seen=seen, **kwargs):
                seen.append(np.asarray(positions).tolist())
                return batch(self, positions, *args, **kwargs)

            patch.setattr(qa_data.QAData, "batch", noted)
            result = baselines_qa.train_qa(config, data, kind, folder / kind, starts.get(kind))
            found[kind] = (result, seen)
    return found


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("given, names", [
    ("", [*DEMO_ROW]), ("all", [*QA_MODELS, *UPPER_BOUNDS]), ("se_wrn, blind", ["blind", "se_wrn"]),
    ("m3ae m3ae", ["m3ae"]),
])
def test_models_are_chosen_by_name(given, names):
    assert BaselinesConfig.from_params({"preset": "tiny", "models": given}).chosen_models() == names


def test_an_unknown_model_is_a_sentence_with_the_choices(config, data):
    with pytest.raises(ConfigError) as error:
        BaselinesConfig.from_params({"preset": "tiny", "models": "fusion gpt"})
    assert "MODELS names gpt;" in str(error.value)
    assert all(name in str(error.value) for name in (*QA_MODELS, *UPPER_BOUNDS, "or all"))
    with pytest.raises(ConfigError, match="'se_wrn' is no answering model; choose one of fusion"):
        baselines_qa.build_qa(config, data, "se_wrn")


def test_the_paper_preset_takes_what_was_published_for_a_model(paper):
    own = paper.of_model("resnet_lstm")
    assert own.learning_rates() == [5e-5] and own.weight_decay == 1e-4
    assert own.schedule == "constant" and own.batch_size == 64
    assert paper.of_model("m3ae").learning_rates() == [5e-5]
    assert paper.of_model("m3ae").feature_grad_mult == paper.of_model("medvill").feature_grad_mult
    assert paper.of_model("medvill").feature_grad_mult == 0.1
    assert paper.of_model("medvill").learning_rates() == [1e-4]
    for kind in ("fusion", "blind", "deaf"):
        assert paper.of_model(kind) == paper


def test_a_given_value_stays(paper):
    given = BaselinesConfig.from_params({"preset": "paper", "lr_grid": "3e-4 1e-3"})
    own = given.of_model("resnet_lstm")
    assert own.learning_rates() == [3e-4, 1e-3] and own.batch_size == 64
    demo = BaselinesConfig.from_params({"preset": "demo"})
    assert all(demo.of_model(kind) == demo for kind in QA_MODELS)


@pytest.mark.parametrize("given, named", [
    ({"accumulate": 9}, "ACCUMULATE is 9 but BATCH_SIZE 8"),
    ({"length_window": 0}, "LENGTH_WINDOW"),
    ({"questions_per_ecg": 0}, "QUESTIONS_PER_ECG"),
    ({"roughness_mv": -1.0}, "ROUGHNESS_MV"),
    ({"noise_importance": -1.0}, "NOISE_IMPORTANCE"),
    ({"pretrain_layers": 3}, "PRETRAIN_LAYERS"), ({"lr_grid": "0"}, "LR_GRID"),
])
def test_contradictions_are_sentences(given, named):
    with pytest.raises(ConfigError, match=named):
        BaselinesConfig.from_params({"preset": "tiny", **given})


# --- published sizes ------------------------------------------------------------------------------


def stub(n_classes=103):
    """Data of the published sizes, as far as `build_qa` looks: BERT's words, ECG-QA's answers."""

    class Bert:
        pad_token_id, sep_token_id = 0, 102

        def __len__(self):
            return 30522

    tokens = types.SimpleNamespace(lengths=lambda positions: np.array([40]))
    questions = types.SimpleNamespace(classes=[str(i) for i in range(n_classes)])
    return types.SimpleNamespace(tokenizer=Bert(), tokens=tokens, questions=questions)


def size(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("kind", QA_MODELS)
def test_answering_models_have_the_published_size(paper, kind):
    with torch.device("meta"):
        model = baselines_qa.build_qa(paper.of_model(kind), stub(), kind)
    assert size(model) == PUBLISHED[kind]


def test_a_pretrained_m3ae_has_the_published_size_too(paper):
    with torch.device("meta"):
        pretrained = vl_pretrain.build_vl(paper, vl_pretrain.vl_sizes(paper, stub().tokenizer,
                                                                      "m3ae"))
        model = baselines_qa.build_qa(paper, stub(), "m3ae", pretrained)
    assert size(pretrained) == 346_585_724 and size(model) == PUBLISHED["m3ae"]


@pytest.mark.parametrize("name", UPPER_BOUNDS)
def test_upper_bounds_have_the_published_size(paper, name):
    with torch.device("meta"):
        assert size(classifiers.build_classifier(paper, name, 83)) == PUBLISHED_BOUNDS[name]


def test_pretraining_and_the_mimic_answers_have_the_published_size(paper):
    with torch.device("meta"):
        assert size(ssl_pretrain.build_wav2vec(paper)) == 90_883_072
        assert size(baselines_qa.build_qa(paper, stub(187), "fusion")) == 114_641_467


# --- six kinds, trained alike ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", QA_MODELS)
def test_every_kind_trains(config, data, trained, kind):
    result, _ = trained[kind]
    assert result.log.finished and not result.log.reused
    assert result.log.table["step"].tolist() == [N_STEPS]
    assert np.isfinite(result.log.table[["loss", "eval_loss", "eval_exact_match"]]).all(None)
    test = data.questions.index("test")[:6]
    scores = baselines_qa.predict(result.model, data, test)
    assert scores.shape == (6, len(data.questions.classes))
    assert ((scores > 0) & (scores < 1)).all()


def test_all_kinds_see_the_same_questions_in_the_same_order(config, data, trained):
    train = baselines_qa.usable(data, "train")
    order = qa_data.grouped_batches(config, data, train, N_STEPS)
    wanted = [train[order(step)].tolist() for step in range(N_STEPS)]
    for kind in QA_MODELS:
        assert trained[kind][1][:N_STEPS] == wanted, kind
        assert trained[kind][1] == trained["fusion"][1], kind


@pytest.mark.parametrize("kind", [*qa_models.FROM_ECG, *qa_models.FROM_REPORTS])
def test_weights_start_where_they_were_pretrained(config, data, starts, kind):
    start = starts[kind]
    model = baselines_qa.build_qa(config, data, kind, start)
    n_copied = qa_models.start_qa(model, start)
    own = model.state_dict()
    conv = "feature_extractor.conv_layers.0.0.weight"
    found, = [own[name] for name in own if name.endswith(conv)]
    given, = [value for name, value in start.state_dict().items() if name.endswith(conv)]
    assert torch.equal(found, given) and n_copied > 20
    if kind in qa_models.FROM_REPORTS:  # the words too, all of them: one tokenizer for both
        table = {"m3ae": "encoder.language_encoder.embeddings.word_embeddings.weight",
                 "medvill": "encoder.language_embedding.weight"}[kind]
        assert torch.equal(own[table], start.state_dict()[table])
        assert len(own[table]) == len(data.tokenizer)


def test_each_kind_starts_from_its_own_kind_of_pretraining(starts):
    assert set(starts) == {"fusion", "deaf", "m3ae", "medvill"}
    assert starts["fusion"] is starts["deaf"]
    assert isinstance(starts["m3ae"], M3AEPretraining)
    assert isinstance(starts["medvill"], MedViLLPretraining)
    assert qa_models.starting_points() == {}


def test_m3ae_is_as_deep_as_its_pretraining_or_as_the_study_says(config, data, starts):
    assert config.pretrain_layers < config.n_layers  # else nothing is told apart here
    for start, depth in ((starts["m3ae"], config.pretrain_layers), (None, config.n_layers)):
        model = baselines_qa.build_qa(config, data, "m3ae", start)
        assert len(model.encoder.ecg_encoder.encoder.layers) == depth
        assert model.encoder.config.feature_grad_mult == config.feature_grad_mult
    model = baselines_qa.build_qa(config, data, "m3ae", starts["m3ae"])
    below = starts["m3ae"].encoder.state_dict()
    assert model.load_pretrained(starts["m3ae"]) == len(below)  # nothing was passed over
    assert all(torch.equal(value, below[name]) for name, value in
               model.encoder.state_dict().items())


@pytest.mark.parametrize("kind", QA_MODELS)
def test_answers_do_not_depend_on_batch_mates(data, trained, kind):
    test = data.questions.index("test")
    pairs = data.row2[test] >= 0
    mixed = np.r_[test[pairs][:4], test[~pairs][:4]][[4, 0, 5, 1, 6, 2, 7, 3]]
    assert len(np.unique(data.tokens.lengths(mixed))) > 1
    model = trained[kind][0].model
    with torch.no_grad():  # predict would put like with like; here all are in one batch
        together = torch.sigmoid(baselines_qa.answer(
            model, data.batch(mixed, qa_models.reads_ecg(model)))["logits"]).numpy()
    alone = baselines_qa.predict(model, data, mixed, batch=1)
    np.testing.assert_allclose(together, alone, atol=2e-5)
    np.testing.assert_allclose(baselines_qa.predict(model, data, mixed), alone, atol=2e-5)


@pytest.mark.parametrize("kind", QA_MODELS)
def test_a_saved_model_gives_the_same_answers(data, trained, tmp_path, kind):
    model, test = trained[kind][0].model, data.questions.index("test")[:8]
    folder = save_pretrained(model, tmp_path, {"classes": data.questions.classes})
    again = load_pretrained(folder)
    assert again.about["classes"] == data.questions.classes
    np.testing.assert_array_equal(baselines_qa.predict(again, data, test),
                                  baselines_qa.predict(model, data, test))


def test_micro_batches_give_the_same_log(config, data, tmp_path):
    logs = []
    for accumulate in (1, 4):
        # Not sorted by length, so that portions are padded to lengths of their own; and no noise,
        # which each portion would draw anew. The published loss is a mean over questions.
        how = dataclasses.replace(config, accumulate=accumulate, loss_over="all", length_window=1,
                                  activation_dropout=0.0, dropout=0.0, time_shift=False)
        train = baselines_qa.usable(data, "train")
        order = qa_data.grouped_batches(how, data, train, N_STEPS)
        assert len(np.unique(data.tokens.lengths(train[order(0)]))) > 2
        result = baselines_qa.train_qa(how, data, "fusion", tmp_path / str(accumulate))
        logs.append(result)
    for name in ("loss", "eval_loss"):
        one, four = (log.log.table[name].to_numpy() for log in logs)
        np.testing.assert_allclose(one, four, rtol=1e-4)
    for a, b in zip(logs[0].model.parameters(), logs[1].model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("changed", [
    {"protocol": "reference"}, {"n_heads": 4}, {"activation_dropout": 0.5}, {"length_window": 1},
    {"loss_over": "all"}, {"eval_questions": 5}, {"questions_per_ecg": 1}, {"roughness_mv": 0.01},
])
def test_other_settings_are_another_training(config, data, tmp_path, changed):
    """Even those that leave no trace in the shapes of the weights."""
    first = baselines_qa.train_qa(config, data, "fusion", tmp_path)
    assert not first.log.reused
    other = dataclasses.replace(config, **changed)
    assert not baselines_qa.train_qa(other, data, "fusion", tmp_path).log.reused
    assert baselines_qa.train_qa(other, data, "fusion", tmp_path).log.reused


def test_other_words_or_questions_are_another_training(config, tiny_cohort, data, questions):
    assert baselines_qa.prepare(config, tiny_cohort, questions).fingerprint == data.fingerprint
    from ecgkit.text.question_tokenizer import train_tokenizer

    words = train_tokenizer([text[::-1] for text in questions.table["question"]], 400)
    assert baselines_qa.prepare(config, tiny_cohort, questions, words).fingerprint != (
        data.fingerprint)
    half = np.arange(len(questions)) % 2 == 0
    one, other = (baselines_qa.prepare(config, tiny_cohort, questions.only(keep), data.tokenizer)
                  for keep in (half, ~half))
    assert len(one.questions) == len(other.questions)
    assert one.fingerprint != other.fingerprint


# --- bad input ------------------------------------------------------------------------------------


def test_another_number_of_answers_is_a_sentence(questions):
    test = questions.index("test")
    for n, k in ((len(test), len(questions.classes) - 1), (len(test), 187)):
        with pytest.raises(DataError, match=rf"fused has scores of shape \({n}, {k}\) but these "
                                            rf"questions have {len(questions.classes)} answer"):
            metrics_qa.published_table(questions, test, {"fused": np.zeros((n, k))}, n_boot=2)
    short = np.zeros((len(test) - 1, len(questions.classes)))
    with pytest.raises(DataError, match=f"{len(test) - 1} questions but {len(test)} positions"):
        metrics_qa.scored(questions, test, short)


def test_a_model_of_another_source_is_a_sentence(config, data, questions):
    """187 answers, as of MIMIC-IV-ECG, given questions about PTB-XL."""
    wider = types.SimpleNamespace(**{**vars(stub(187)), "tokenizer": data.tokenizer,
                                     "tokens": data.tokens})
    model = baselines_qa.build_qa(config, wider, "blind")
    test = questions.index("test")[:4]
    with pytest.raises(DataError, match="187"):
        metrics_qa.published_table(
            questions, test, {"mimic": baselines_qa.predict(model, data, test)}, n_boot=2)


def test_names_must_be_those_of_the_outputs(data, trained, tmp_path):
    names = data.questions.classes[:-1]
    with pytest.raises(ConfigError, match=f"names {len(names)} classes, but BlindQA"):
        save_pretrained(trained["blind"][0].model, tmp_path, {"classes": names})


def test_an_unknown_attribute_is_a_sentence(questions):
    test = questions.index("test", "single-verify")
    scores = questions.labels(test)
    with pytest.raises(DataError, match="are not among the 1 classes"):
        metrics_qa.by_attribute(questions, test, scores, classes=["nothing of the kind"])


@pytest.fixture(scope="module")
def with_an_empty_list(questions):
    """(questions, template) where the commonest template of single-verify allows no answer."""
    of_kind = questions.table[questions.table["question_type"] == "single-verify"]
    template = int(of_kind["template_id"].mode().iloc[0])
    kinds = np.unique(questions._kind[questions.table["template_id"].to_numpy() == template])
    judged = questions._judged.copy()
    judged[kinds] = False
    return dataclasses.replace(questions, _judged=judged), template


def test_a_template_without_valid_answers_is_left_out_and_counted(
    config, tiny_cohort, with_an_empty_list
):
    questions, template = with_an_empty_list
    test = questions.index("test")
    of_template = questions.table["template_id"].to_numpy() == template
    n_out = int(of_template[test].sum())
    assert 0 < n_out < len(test)
    scores = {"right": questions.labels(test), "wrong": 1 - questions.labels(test)}
    table = metrics_qa.published_table(questions, test, scores, n_boot=20)
    assert (table[("left_out", "n")] == n_out).all()
    assert (table[("All", "n")] == len(test) - n_out).all()
    assert table.loc["right", ("All", "value")] == 1 and table.loc["wrong", ("All", "value")] == 0
    listed = metrics_qa.unanswerable(questions, test)
    assert set(listed["template_id"]) == {template} and len(listed) == n_out
    data = baselines_qa.prepare(config, tiny_cohort, questions)
    for split in ("train", "valid"):
        usable = baselines_qa.usable(data, split)
        assert len(usable) and not of_template[usable].any()


def test_a_wholly_empty_list_stops_the_training(config, tiny_cohort, questions, tmp_path):
    nothing = dataclasses.replace(questions, _judged=np.zeros_like(questions._judged))
    data = baselines_qa.prepare(config, tiny_cohort, nothing)
    with pytest.raises(DataError, match="No training question has a list of valid answers"):
        baselines_qa.train_qa(config, data, "blind", tmp_path)
    table = metrics_qa.published_table(nothing, nothing.index("test"), {
        "any": nothing.labels(nothing.index("test"))}, n_boot=5)
    assert table.loc["any", ("All", "n")] == 0 and np.isnan(table.loc["any", ("All", "value")])


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_without_questions_is_a_sentence(config, tiny_cohort, questions, split):
    kept = questions.only((questions.table["split"] != split).to_numpy())
    with pytest.raises(DataError, match=f"no question in the {split} split"):
        baselines_qa.prepare(config, tiny_cohort, kept)


def test_without_valid_questions_the_first_rate_is_taken(config, tiny_cohort, questions, tmp_path):
    kept = questions.only((questions.table["split"] != "valid").to_numpy())
    how = dataclasses.replace(config, lr_grid="2e-3 1e-3", keep="best", patience=1, n_steps=2)
    data = baselines_qa.prepare(how, tiny_cohort, kept)
    result = baselines_qa.train_qa(how, data, "blind", tmp_path)
    assert result.lr == 2e-3 and result.log.finished
    assert result.search["loss"].isna().all() and len(result.search) == 2


def test_without_training_on_labels_models_start_from_the_checkpoint_as_it_is(
    config, tiny_cohort, data, questions, starts, tmp_path
):
    save_pretrained(starts["fusion"], tmp_path / "elsewhere")
    how = dataclasses.replace(config, models="fusion deaf", pretrain_steps=0, n_steps=1,
                              lr_grid="1e-3", feature_grad_mult=0.0, search_steps=1,
                              checkpoint=str(tmp_path / "elsewhere"))
    assert qa_study.train_bounds(how, tiny_cohort, None, tmp_path) == {}
    given = starts["fusion"].encoder.feature_extractor.state_dict()
    for chosen, same in ((how, True), (dataclasses.replace(how, checkpoint=""), False)):
        trained = qa_study.train_models(chosen, tiny_cohort, questions, tmp_path / str(same),
                                        data=data)
        for one in trained.values():
            found = {name: value for name, value in one.qa.model.state_dict().items()
                     if "feature_extractor" in name}
            assert len(found) == len(given)
            alike = [torch.equal(value, given[name.split("feature_extractor.")[1]])
                     for name, value in found.items() if name.endswith("0.weight")]
            assert all(alike) if same else not any(alike)


def test_a_checkpoint_of_another_model_names_what_does_not_fit(config, data):
    fusion = baselines_qa.build_qa(config, data, "fusion")
    target = SEWideResNet(len(data.questions.classes))
    with pytest.raises(ModelError) as error:
        checkpoints.load_into(target, fusion.state_dict(), "fusion.pt")
    words = str(error.value)
    assert "fusion.pt does not fit SEWideResNet" in words
    assert "missing: encoder.conv.weight" in words
    assert "unexpected: encoder.feature_extractor" in words or "unexpected: encoder." in words
    n_missing = len(set(target.state_dict()) - set(fusion.state_dict()))
    assert f"{n_missing} missing" in words


def test_a_saved_folder_with_other_weights_is_a_sentence(data, trained, tmp_path):
    """Weights of one model beside the description of another."""
    blind = save_pretrained(trained["blind"][0].model, tmp_path / "blind")
    deaf = save_pretrained(trained["deaf"][0].model, tmp_path / "deaf")
    (blind / "model.safetensors").write_bytes((deaf / "model.safetensors").read_bytes())
    with pytest.raises(ModelError, match="does not fit BlindQA: .* missing.* unexpected"):
        load_pretrained(blind)
    with pytest.raises(ModelError, match="holds no ECG transformer"):
        qa_models.start_qa(trained["fusion"][0].model, trained["blind"][0].model)
    assert registry.n_labels_of(trained["m3ae"][0].model) == len(data.questions.classes)


class Damaged:
    """A store in which one recording is NaN."""

    def __init__(self, store, row):
        self.store, self.row = store, row

    def __getattr__(self, name):
        return getattr(self.store, name)

    def read(self, rows):
        signal = np.array(self.store.read(rows))
        signal[np.asarray(rows) == self.row] = np.nan
        return signal


def test_an_ecg_of_nan_stops_the_training_and_is_named(config, data, tmp_path):
    train = baselines_qa.usable(data, "train")
    order = qa_data.grouped_batches(config, data, train, N_STEPS)
    batches = [train[order(step)] for step in range(N_STEPS)]
    before = set(data.row1[batches[0]]) | set(data.row2[batches[0]])
    new = [row for row in data.row1[batches[1]] if row not in before]
    damaged = dataclasses.replace(data, store=Damaged(data.store, new[0]))
    with pytest.raises(ModelError, match="not finite at step 1 of qa .*bad_batch.json"):
        baselines_qa.train_qa(config, damaged, "fusion", tmp_path / "qa")
    written = json.loads((tmp_path / "qa" / "bad_batch.json").read_text())
    assert written["step"] == 1 and written["items"] == data.names(batches[1])
    question = data.questions.table.iloc[batches[1][data.row1[batches[1]] == new[0]][0]]
    named = f"train sample {question['sample_id']}, ECG {question['ecg_id']}"
    assert named in written["items"] and str(question["ecg_id"][0]) in named
    assert not (tmp_path / "qa" / "done.json").exists()
    # A model that reads no ECG is not stopped by one.
    assert baselines_qa.train_qa(config, damaged, "blind", tmp_path / "b").log.finished


def test_scores_of_a_damaged_ecg_are_refused(data, trained):
    test = data.questions.index("test")[:6]
    damaged = dataclasses.replace(data, store=Damaged(data.store, data.row1[test[0]]))
    scores = baselines_qa.predict(trained["fusion"][0].model, damaged, test)
    with pytest.raises(DataError, match="scores that are not finite for"):
        metrics_qa.published_table(data.questions, test, {"fusion": scores}, n_boot=2)


def test_out_of_memory_names_the_knobs(config, data, tmp_path, monkeypatch):
    def full(*args):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(baselines_qa, "answer_bce", full)
    with pytest.raises(ModelError) as error:
        baselines_qa.train_qa(config, data, "fusion", tmp_path / "fused")
    words = str(error.value)
    assert "Out of memory at step 0 of fused: 8 items" in words
    assert "Raise ACCUMULATE above 1" in words and "BATCH_SIZE below 8" in words


def test_the_bars_of_one_run_share_their_questions(data, trained):
    """What the study prints: one table of all kinds, n alike, values inside their intervals."""
    test = data.questions.index("test")[::4]
    scores = {kind: baselines_qa.predict(trained[kind][0].model, data, test) for kind in QA_MODELS}
    table = metrics_qa.published_table(data.questions, test, scores, n_boot=30)
    assert table.index.tolist() == [*QA_MODELS]
    for column in (*metrics_qa.COLUMNS, metrics_qa.ALL):
        cell = table[column]
        assert cell["n"].nunique() == 1
        assert ((cell["low"] <= cell["value"]) & (cell["value"] <= cell["high"])).all()
    assert isinstance(metrics_qa.printable(table), pd.DataFrame)


def test_benchmark_tasks_by_name():
    def tasks(**given):
        return BaselinesConfig.from_params({"preset": "tiny", **given}).benchmark_tasks()

    assert tasks() == [] and tasks(benchmark="form, rhythm") == ["form", "rhythm"]
    assert tasks(models="all") == list(BENCHMARK_TASKS)
    with pytest.raises(ConfigError, match="BENCHMARK names shape"):
        tasks(benchmark="shape")
