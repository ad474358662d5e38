"""`tasks.look_inside`: attention of real words only, leads that act, errors counted."""

import dataclasses
import types

import numpy as np
import pandas as pd
import pytest
import torch

from ecgkit.config import BaselinesConfig
from ecgkit.tasks import baselines_qa, look_inside
from ecgkit.types import DataError, ModelError


@pytest.fixture(scope="module")
def data(tiny_cohort):
    from ecgkit.data.ecgqa import open_questions

    config = BaselinesConfig.from_params({"preset": "tiny"})
    questions = open_questions(config, tiny_cohort, quiet=True)
    return baselines_qa.prepare(config, tiny_cohort, questions)


def build(data, kind="fusion", **settings):
    config = BaselinesConfig.from_params({"preset": "tiny", **settings})
    torch.manual_seed(0)
    return baselines_qa.build_qa(config, data, kind).eval()


@pytest.fixture(scope="module")
def model(data):
    return build(data)


@pytest.fixture(scope="module")
def single(data):
    return int(np.flatnonzero(data.row2 < 0)[0])


@pytest.fixture(scope="module")
def pair(data):
    return int(np.flatnonzero(data.row2 >= 0)[0])


def one_batch(data, position):
    return data.batch(np.array([position]))


# --- attention ------------------------------------------------------------------------------------


def test_shapes_and_sums(model, data, single):
    seen = look_inside.look(model, data, single)
    n_tokens = model.encoder.config.n_tokens(data.batch(np.array([single]))["ecg"].shape[-1])
    assert seen.rows.shape == (len(seen.words), n_tokens)
    assert seen.gradient.shape == seen.relevance.shape == (12, n_tokens)
    assert seen.drop.shape == (12,) and seen.attention.shape == (n_tokens,)
    assert seen.relevance.sum() == pytest.approx(1) and (seen.relevance >= 0).all()
    assert (seen.rows.sum(1) < 1).all() and (seen.rows >= 0).all()  # words attend to words too
    assert seen.words[0] == "[CLS]" and not any(w.startswith("##") for w in seen.words)
    assert seen.where == "layer 2 of 2, mean of 2 heads"


def test_frozen_convolutions_are_looked_through(model, data, single):
    free = look_inside.look(model, data, single)
    config = model.encoder.config
    model.encoder.config = dataclasses.replace(config, feature_grad_mult=0.0)
    try:
        frozen = look_inside.look(model, data, single)
        assert model.encoder.config.feature_grad_mult == 0.0  # as it was
    finally:
        model.encoder.config = config
    np.testing.assert_allclose(frozen.gradient, free.gradient, atol=1e-7)


def test_a_row_is_the_softmax_row_of_that_layer_and_head(model, data, single):
    batch = one_batch(data, single)
    out = baselines_qa.answer(model, batch, return_attention=True)
    n = out["parts"]["first"].stop
    rows = look_inside.word_rows(out, batch, layer=0, head=1)
    assert torch.equal(rows, out["attention"][0][:, 1, n:, :n])
    both = [look_inside.word_rows(out, batch, 0, head) for head in (0, 1)]
    mean = look_inside.word_rows(out, batch, layer=0)
    torch.testing.assert_close(sum(both) / 2, mean)
    assert look_inside.look(model, data, single, layer=0, head=1).where == (
        "layer 1 of 2, head 2 of 2")


@pytest.mark.parametrize("protocol", ["paper", "reference"])
def test_padding_words_get_no_weight(data, protocol):
    model, lengths = build(data, protocol=protocol), data.tokens.lengths(slice(None))
    singles = np.flatnonzero(data.row2 < 0)
    short, long = (singles[f(lengths[singles])] for f in (np.argmin, np.argmax))
    batch = data.batch(np.array([short, long]))
    padding = batch["text_padding_mask"]
    assert padding[0].any() and not padding[1].any()
    out = baselines_qa.answer(model, batch, return_attention=True)
    rows = look_inside.word_rows(out, batch)
    assert (rows[padding] == 0).all() and (rows[~padding].sum(-1) > 0).all()
    if protocol == "paper":  # then batch mates change nothing
        alone = look_inside.look(model, data, int(short)).attention
        n_real = int((~padding[0]).sum())
        np.testing.assert_allclose(rows[0].detach().sum(0) / n_real, alone, atol=1e-6)


def test_second_ecg_is_read_at_its_own_tokens(data, pair):
    model = build(data)
    batch = one_batch(data, pair)
    out = baselines_qa.answer(model, batch, return_attention=True)
    n = out["parts"]["first"].stop
    rows = look_inside.word_rows(out, batch, part="second")
    expected = out["attention"][-1].mean(1)[:, 2 * n + 1 :, n + 1 : 2 * n + 1]  # after separator
    assert torch.equal(rows, expected)
    late = {**out, "parts": {**out["parts"], "second": slice(n, 2 * n)}}  # the published window
    shifted = look_inside.word_rows(late, batch, part="second")
    assert torch.equal(shifted, expected)


def test_m3ae_is_looked_at_alike(data, pair):
    m3ae = build(data, "m3ae")
    both = [look_inside.look(m3ae, data, pair, part) for part in ("first", "second")]
    for seen in both:
        assert seen.rows.shape[1] == len(seen.centres) and seen.drop.shape == (12,)
        assert seen.relevance.sum() == pytest.approx(1)
    share = sum(seen.rows.sum(1) for seen in both)
    assert (share < 1).all() and (share > 0.9).all()  # the rest: class token and separator


def test_pieces_become_words():
    rows = np.array([[1.0, 0], [0, 1], [0.5, 0.5]])
    words, merged = look_inside.merge_pieces(["myo", "##cardial", "?"], rows)
    assert words == ["myocardial", "?"]
    assert merged.tolist() == [[0.5, 0.5], [0.5, 0.5]]


# --- where tokens lie -----------------------------------------------------------------------------


def test_published_tokens_tile_and_wide_kernels_start_late():
    config = types.SimpleNamespace(conv_layers=((256, 2, 2),) * 4, n_tokens=lambda n: n // 16)
    centres, reach = look_inside.token_places(config, 5000)
    assert reach * 5000 == 16 and centres[0] * 5000 == 8 and centres[-1] * 5000 == 4984
    wide = types.SimpleNamespace(conv_layers=((8, 9, 2),) * 2, n_tokens=lambda n: 3)
    centres, reach = look_inside.token_places(wide, 100)
    assert reach * 100 == pytest.approx(25)  # 1 + 8 + 16
    assert (centres * 100).tolist() == pytest.approx([12.5, 16.5, 20.5])


def test_a_token_feels_its_field_and_nothing_else(model):
    """The stated field is the real one: the gradient of one conv token ends where it ends."""
    config = model.encoder.config
    signal = torch.randn(1, 12, 400, requires_grad=True)
    # Group norm mixes all of time, so the first layer's norm is left out here.
    x = signal
    for layer in model.encoder.feature_extractor.conv_layers:
        x = layer[0](x)
    x[0, :, 5].sum().backward()
    felt = np.flatnonzero(signal.grad[0].abs().sum(0).numpy())
    centres, reach = look_inside.token_places(config, 400)
    assert felt[0] == pytest.approx((centres[5] - reach / 2) * 400)
    assert felt[-1] + 1 == pytest.approx((centres[5] + reach / 2) * 400)


def test_every_sample_goes_to_one_token():
    samples, centres = np.arange(24.0).reshape(2, 12), np.array([0.25, 0.5, 0.9])
    pooled = look_inside.pool_to_tokens(samples, centres)
    np.testing.assert_allclose(pooled.sum(1), samples.sum(1))
    owner = look_inside.nearest_token(centres, 12)
    assert owner[0] == 0 and owner[-1] == 2 and (np.diff(owner) >= 0).all()
    assert owner[5] == 1  # its middle, 0.458, is nearest to 0.5


# --- leads ----------------------------------------------------------------------------------------


def test_a_lead_the_model_cannot_see_changes_nothing(data, single):
    model = build(data)
    with torch.no_grad():
        model.encoder.feature_extractor.conv_layers[0][0].weight[:, 4] = 0
    seen = look_inside.look(model, data, single)
    assert seen.drop[4] == pytest.approx(0, abs=1e-6) and (seen.gradient[4] == 0).all()
    assert (seen.relevance[4] == 0).all()
    others = np.delete(np.arange(12), 4)
    assert (np.abs(seen.drop[others]) > 1e-5).any() and (seen.gradient[others].sum(1) > 0).all()


def test_drop_is_the_difference_of_two_forwards(model, data, pair):
    for part, name in (("first", "ecg"), ("second", "ecg_2")):
        batch = one_batch(data, pair)
        before = batch[name].clone()
        drop = look_inside.occlude_leads(model, batch, answer=3, part=part)
        assert torch.equal(batch[name], before)
        with torch.no_grad():
            whole = baselines_qa.answer(model, batch)["logits"][0, 3]
            batch[name][:, 7] = 0
            without = baselines_qa.answer(model, batch)["logits"][0, 3]
        assert drop[7] == pytest.approx(float(whole - without), abs=1e-5)


@pytest.mark.parametrize("method", list(look_inside.METHODS))
def test_every_method_is_a_share_of_the_whole(model, data, single, method):
    seen = look_inside.look(model, data, single, method=method)
    assert seen.relevance.sum() == pytest.approx(1) and (seen.relevance >= 0).all()
    if method == "attention":
        assert (seen.relevance == seen.relevance[0]).all()
    if method == "attention x occlusion":
        assert (seen.relevance[seen.drop <= 0] == 0).all()


def test_the_answer_is_a_valid_one_or_the_one_asked_for(model, data, single):
    valid = data.questions.valid_mask(np.array([single]))[0]
    names = np.array(data.questions.classes)
    assert look_inside.look(model, data, single).answer in names[valid]
    assert look_inside.look(model, data, single, answer=5).answer == names[5]


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how, error, words", [
    ({"part": "second"}, DataError, "about one ECG"), ({"part": "third"}, DataError, "first or"),
    ({"layer": 2}, ModelError, "no layer 2"), ({"head": 9}, ModelError, "no head 9"),
    ({"method": "magic"}, DataError, "attention x gradient"),
])
def test_what_is_not_there_is_a_sentence(model, data, single, how, error, words):
    with pytest.raises(error, match=words):
        look_inside.look(model, data, single, **how)


@pytest.mark.parametrize("kind", ["blind", "deaf", "resnet_lstm"])
def test_models_whose_words_attend_to_no_ecg_are_named(data, single, kind):
    other = build(data, kind)
    with pytest.raises(ModelError, match=f"In {type(other).__name__} no word attends"):
        look_inside.look(other, data, single)


@pytest.mark.parametrize("kind", ["deaf", "resnet_lstm"])
def test_leads_of_any_model_with_an_ecg_can_be_silenced(data, single, kind):
    drop = look_inside.occlude_leads(build(data, kind), one_batch(data, single), answer=0)
    assert drop.shape == (12,) and (np.abs(drop) > 1e-7).any()


# --- which question -------------------------------------------------------------------------------


def test_telling_question_prefers_what_only_the_ecg_tells(data):
    everyone = np.arange(len(data.questions))
    truth = data.questions.labels(everyone)
    wrong = 1 - truth
    table = data.questions.table
    for n_ecgs in (1, 2):
        chosen = look_inside.telling_question(data, everyone, truth, wrong, n_ecgs)
        assert (data.row2[chosen] >= 0) == (n_ecgs == 2)
        assert not {"no", "none"} & set(table["answer"].iloc[chosen])


# --- errors ---------------------------------------------------------------------------------------


@pytest.fixture
def toy():
    answers = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 0], [0, 1, 1]], dtype=np.float32)
    table = pd.DataFrame({
        "attribute": [["a"], ["a"], ["b"], ["b", "c"], None],
        "attribute_type": ["scp_code"] * 4 + ["noise"],
        "answer": [["no"], ["yes"], ["yes"], ["none"], ["yes", "x"]],
        "question_type": ["single-verify"] * 3 + ["single-query"] * 2,
    })
    return types.SimpleNamespace(table=table, classes=["no", "yes", "x"],
                                 labels=lambda i: answers[i],
                                 valid_mask=lambda i: np.ones((len(i), 3), bool))


def rates(table, model):
    return table[table["model"] == model].set_index("item")["rate"].to_dict()


def test_errors_by_attribute_and_answer(toy):
    everyone = np.arange(5)
    right = toy.labels(everyone)
    always_no = np.tile([1.0, 0, 0], (5, 1))
    predicted = {"right": right, "no": always_no}
    by_attribute = look_inside.error_table(toy, everyone, predicted)
    assert rates(by_attribute, "right") == {"a": 0, "b": 0}
    assert rates(by_attribute, "no") == {"a": 0.5, "b": 1}  # neither lists nor null count
    assert by_attribute["item"].iloc[0] == "a" and by_attribute["n"].iloc[0] == 2
    by_answer = look_inside.error_table(toy, everyone, predicted, "answer")
    assert rates(by_answer, "no") == {"no": 0, "yes": 1, "none": 1, "x": 1}
    assert by_answer.set_index(["model", "item"]).loc[("no", "yes"), "n"] == 3
    assert by_answer["wrong"].sum() == 5
    some = look_inside.error_table(toy, np.array([4, 1]), {"no": always_no[:2]}, "attribute_type")
    assert rates(some, "no") == {"noise": 1, "scp_code": 1}
    with pytest.raises(DataError, match="attribute_type"):
        look_inside.error_table(toy, everyone, predicted, "colour")


def test_confusion_counts_every_question_once(toy):
    everyone = np.arange(5)
    always_no = np.tile([1.0, 0, 0], (5, 1))
    table = look_inside.confusion(toy, everyone, always_no, n=4)
    assert table.index[0] == "yes" and table.to_numpy().sum() == 5
    assert table.loc["yes", "no"] == 2 and table.loc["yes, x", "no"] == 1
    assert table.columns[-1] == "another answer" and table["another answer"].sum() == 0
    top = look_inside.confusion(toy, everyone, always_no, n=1)
    assert top.to_numpy().tolist() == [[0, 2]]  # `no` is not shown: another answer
    queries = look_inside.confusion(toy, everyone, toy.labels(everyone), 4, "single-query")
    assert sorted(queries.index) == ["none", "yes, x"] and np.diag(queries).sum() == 2
