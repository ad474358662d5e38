"""Vision-language pretraining: hidden words, exchanged reports, losses, and tiny runs of M3AE and
MedViLL."""

import dataclasses

import numpy as np
import pytest
import torch

from ecgkit.config import BaselinesConfig
from ecgkit.config.vl_pretraining import VlSettings
from ecgkit.models import losses_vl
from ecgkit.tasks import vl_pretrain
from ecgkit.tasks.upperbound import build_classifier
from ecgkit.tasks.vl_pairs import (
    draw_exchanges,
    exchanged,
    half_exchanged,
    hide_tokens,
    open_pairs,
    report_texts,
    statement_numbers,
)
from ecgkit.text.masked_words import IGNORED, mask_words, word_numbers, word_pieces
from ecgkit.text.question_tokenizer import encode_questions, train_tokenizer
from ecgkit.types import ConfigError, DataError, ModelError

REPORTS = ["sinus rhythm normal ecg", "atrial fibrillation inferior infarct", "sinus tachycardia",
           "left axis deviation anterior infarct old", "zxqy"]


@dataclasses.dataclass(frozen=True)
class _Config(BaselinesConfig, VlSettings):
    pass


SMALL = {"preset": "tiny", "device": "cpu", "precision": "fp32", "n_convs": 4, "dim": 16,
         "ffn_dim": 32, "n_layers": 1, "conv_channels": 8, "vl_vocab_size": 300,
         "vl_max_text": 32, "vl_decoder_dim": 16}
CONFIG = _Config.from_params(SMALL)


@pytest.fixture(scope="module")
def tokenizer():
    # few entries: "tachycardia", "deviation" and others are spelt as letters with "##"
    return train_tokenizer(REPORTS[:4] + REPORTS[:1] * 3, vocab_size=48)


@pytest.fixture(scope="module")
def coded(tokenizer):
    ids, padding = encode_questions(tokenizer, REPORTS * 40)
    return ids, padding, word_pieces(tokenizer)


@pytest.fixture(scope="module")
def pairs(tiny_cohort):
    return open_pairs(CONFIG, tiny_cohort)


# --- hidden words ---------------------------------------------------------------------------------


@pytest.mark.parametrize("whole_word", [True, False])
def test_only_words_are_hidden_and_targets_tell_which(coded, whole_word):
    ids, padding, words = coded
    masked, targets = mask_words(ids, padding, words, np.random.default_rng(0), 0.25, whole_word)
    hidden = targets != IGNORED
    assert not (hidden & (padding | words.special[ids])).any()
    assert (targets[hidden] == ids[hidden]).all() and (masked[~hidden] == ids[~hidden]).all()
    assert not words.special[masked[hidden & (masked != words.mask_id)]].any()
    has_word = (word_numbers(ids, padding, words) >= 0).any(1)
    assert (hidden.any(1) == has_word).all()
    assert has_word.reshape(-1, 5)[0].tolist() == [True, True, True, True, False]  # "zxqy": [UNK]


def test_whole_words_are_hidden_whole_and_a_quarter_of_them(coded, tokenizer):
    ids, padding, words = coded
    assert words.continues[ids].any(), "no word of the test is split into pieces"
    number = word_numbers(ids, padding, words)
    _, targets = mask_words(ids, padding, words, np.random.default_rng(1), 0.25)
    share = []
    for row, hidden in zip(number, targets != IGNORED):
        for word in range(row.max() + 1):
            assert hidden[row == word].all() or not hidden[row == word].any()
        share += [len(set(row[hidden])), row.max() + 1]
    for hidden, n_words in zip(share[::2], share[1::2]):
        assert hidden == (max(1, np.rint(0.25 * n_words)) if n_words else 0)
    pieces = tokenizer.convert_ids_to_tokens(ids[2])
    want = [-1, 0, *([1] * len("tachycardia")), -1]
    assert number[2, : len(want)].tolist() == want, pieces


def test_pieces_are_hidden_one_by_one_for_medvill(coded):
    ids, padding, words = coded
    number = word_numbers(ids, padding, words, whole_word=False)
    n_pieces = (number >= 0).sum(1)
    assert (number.max(1) + 1 == n_pieces).all()
    _, targets = mask_words(ids, padding, words, np.random.default_rng(1), 0.5, False)
    want = np.where(n_pieces > 0, np.maximum(1, np.rint(0.5 * n_pieces)), 0)
    np.testing.assert_array_equal((targets != IGNORED).sum(1), want)


def test_of_hidden_pieces_80_become_mask_10_another_10_stay(tokenizer):
    words = word_pieces(tokenizer)
    ids = np.full((200, 100), words.ordinary[3])
    masked, targets = mask_words(ids, np.zeros_like(ids, bool), words, np.random.default_rng(2))
    got = masked[targets != IGNORED]
    assert len(got) == 5000
    assert (got == words.mask_id).mean() == pytest.approx(0.8, abs=0.03)
    stay = 0.1 + 0.1 / len(words.ordinary)
    assert (got == ids[0, 0]).mean() == pytest.approx(stay, abs=0.02)
    assert set(np.unique(got)) - {words.mask_id} == set(words.ordinary)


def test_masking_depends_on_the_generator_alone(coded):
    ids, padding, words = coded
    first, again, other = (mask_words(ids, padding, words, np.random.default_rng(s))[0]
                           for s in (3, 3, 4))
    assert (first == again).all() and (first != other).any()


def test_a_tokenizer_without_mask_is_refused(tokenizer):
    class NoMask:
        mask_token_id = None

    with pytest.raises(ModelError, match="no \\[MASK\\] token"):
        word_pieces(NoMask())


# --- losses, against numpy ------------------------------------------------------------------------


def _softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_mlm_loss_values():
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(3, 5, 7)), rng.integers(0, 7, (3, 5))
    targets[0], targets[1, 2:] = IGNORED, IGNORED
    b, t = np.nonzero(targets != IGNORED)
    each = -np.log(_softmax(logits)[b, t, targets[b, t]])
    args = torch.from_numpy(logits), torch.from_numpy(targets)
    assert float(losses_vl.mlm_loss(*args)) == pytest.approx(each.mean(), rel=1e-5)
    assert float(losses_vl.mlm_loss(*args, "sum")) == pytest.approx(each.sum(), rel=1e-5)
    assert losses_vl.IGNORED == IGNORED


def test_matching_loss_values():
    rng = np.random.default_rng(1)
    logits, matched = rng.normal(size=(6, 2)), rng.random(6) < 0.5
    want = -np.log(_softmax(logits)[np.arange(6), matched.astype(int)]).mean()
    got = losses_vl.itm_loss(torch.from_numpy(logits), torch.from_numpy(matched))
    assert float(got) == pytest.approx(want, rel=1e-5)
    p = 1 / (1 + np.exp(-logits[:, 0]))
    each = -np.where(matched, np.log(p), np.log(1 - p))
    args = torch.from_numpy(logits[:, 0]), torch.from_numpy(matched)
    assert float(losses_vl.alignment_loss(*args)) == pytest.approx(each.mean(), rel=1e-5)
    scaled = each.sum() * 40 / 6  # published: the sum, times #words / #pairs
    assert float(losses_vl.alignment_loss(*args, 40)) == pytest.approx(scaled, rel=1e-5)


def test_mim_loss_counts_hidden_patches_lead_by_lead():
    rng = np.random.default_rng(2)
    ecg, n_tokens, patch = rng.normal(3, 2, (2, 12, 70)), 4, 16
    ecg[1, 5] = 0.7  # a flat lead
    prediction, counted = rng.normal(size=(2, n_tokens, 12 * patch)), rng.random((2, 4)) < 0.5
    counted[0, 1] = True
    errors = []
    for b, p in zip(*np.nonzero(counted)):
        for c in range(12):
            lead = ecg[b, c, :64]
            lead = (lead - lead.mean()) / np.sqrt(lead.var(ddof=1) + 1e-6)
            guess = prediction[b, p, c * patch : (c + 1) * patch]
            errors.append(((guess - lead[p * patch : (p + 1) * patch]) ** 2).mean())
    args = [torch.from_numpy(a) for a in (prediction, ecg, counted)]
    assert float(losses_vl.mim_loss(*args)) == pytest.approx(np.mean(errors), rel=1e-4)


def test_nothing_to_count_gives_zero_and_a_zero_gradient():
    logits = torch.randn(2, 3, 5, requires_grad=True)
    prediction = torch.randn(2, 4, 24, requires_grad=True)
    loss = losses_vl.mlm_loss(logits, torch.full((2, 3), IGNORED))
    loss = loss + losses_vl.mim_loss(prediction, torch.randn(2, 12, 8),
                                     torch.zeros(2, 4, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().sum() == 0 and prediction.grad.abs().sum() == 0


@pytest.mark.parametrize("share, n_tokens", [(0.75, 59), (0.75, 312), (0.5, 3)])
def test_the_same_number_of_tokens_is_hidden_in_each_row(share, n_tokens):
    hidden = hide_tokens(6, n_tokens, share, np.random.default_rng(0))
    assert (hidden.sum(1) == n_tokens - int(n_tokens * (1 - share))).all()
    assert len(np.unique(hidden, axis=0)) > 1


# --- exchanged reports ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_exchanges_never_give_a_row_its_own_words_or_findings(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 40))
    wording, content = rng.integers(0, 6, n), rng.integers(0, 6, n)
    exchanges = draw_exchanges(wording, content, rng, share=rng.random())
    rows = exchanges.ravel()
    source = exchanged(exchanges, n)
    assert len(np.unique(rows)) == len(rows)
    assert sorted(source) == list(range(n))  # every report is still there once
    assert (wording[source[rows]] != wording[rows]).all()
    assert (content[source[rows]] != content[rows]).all()
    others = np.setdiff1d(np.arange(n), rows)
    assert (source[others] == others).all()


@pytest.mark.parametrize("n", [2, 3, 7, 32])
def test_half_of_the_rows_are_exchanged_on_average(n):
    rng, names = np.random.default_rng(0), np.arange(n)
    share = np.mean([2 * len(draw_exchanges(names, names, rng)) / n for _ in range(600)])
    assert share == pytest.approx(0.5, abs=0.05)


def test_rows_that_all_say_the_same_stay_matched():
    same, names = np.zeros(8, dtype=int), np.arange(8)
    for wording, content in ((same, names), (names, same), (same, same)):
        assert draw_exchanges(wording, content, np.random.default_rng(0), 1.0).shape == (0, 2)


def test_the_fault_is_what_a_tuple_swap_of_tensor_rows_does():
    texts = torch.arange(6)[:, None].repeat(1, 3)
    exchanges = np.array([[0, 4], [5, 2]])
    for i, j in exchanges:
        texts[i], texts[j] = texts[j], texts[i]
    assert texts[:, 0].tolist() == half_exchanged(exchanges, 6).tolist() == [4, 1, 2, 3, 4, 2]


# --- pairs and batches ----------------------------------------------------------------------------


def test_pairs_take_reports_else_statements_and_count_the_rest(tiny_cohort):
    table = tiny_cohort.table.copy()
    table.loc[0, "report"] = "   "
    table.at[0, "scp_codes"] = {"IMI": 0.0, "UNHEARD": 100.0}
    table.loc[1, "report"] = None
    table.at[1, "scp_codes"] = {}
    texts = report_texts(table, tiny_cohort.statements)
    assert texts[0] == "inferior myocardial infarction" and texts[1] == ""
    pairs = open_pairs(CONFIG, dataclasses.replace(tiny_cohort, table=table))
    assert pairs.n_left_out == 1 and len(pairs) == len(table) - 1 and 1 not in pairs.rows
    parts = [pairs.index(name) for name in ("train", "valid", "test")]
    assert sum(map(len, parts)) == len(pairs)


def test_no_report_at_all_is_a_sentence(tiny_cohort):
    table = tiny_cohort.table.assign(report="", scp_codes=[{}] * len(tiny_cohort))
    with pytest.raises(DataError, match="nothing to pretrain on"):
        open_pairs(CONFIG, dataclasses.replace(tiny_cohort, table=table))


def test_equal_sets_of_codes_are_equal_and_none_is_like_no_other():
    numbers = statement_numbers([{"A": 1, "B": 0}, {}, {"B": 9, "A": 2}, {}])
    assert numbers[0] == numbers[2] and len(set(numbers)) == 3


def test_the_tokenizer_is_shared_both_ways(tiny_cohort, pairs):
    asked = open_pairs(CONFIG, tiny_cohort, questions=["does this show quokkaitis ?"] * 999)
    assert "quokkaitis" in asked.tokenizer.get_vocab()
    again = open_pairs(CONFIG, tiny_cohort, tokenizer=asked.tokenizer)
    assert again.tokenizer is asked.tokenizer and again.fingerprint == asked.fingerprint
    assert asked.fingerprint != pairs.fingerprint


def _batch(pairs, kind, seed=0, n=16, **settings):
    config = _Config.from_params({**SMALL, **settings})
    positions = pairs.index("train")[:n]
    batch = vl_pretrain.paired_batch(config, pairs, kind, positions, np.random.default_rng(seed))
    own = pairs.batch(positions)
    return batch, own, positions


@pytest.mark.parametrize("kind", vl_pretrain.KINDS)
def test_mended_negatives_show_another_report_wherever_the_label_says_so(pairs, kind):
    batch, own, positions = _batch(pairs, kind)
    same = (batch["text"] == own["text"]).all(1)
    assert 0 < batch["matched"].sum() < len(positions)
    np.testing.assert_array_equal(same, batch["matched"])
    np.testing.assert_array_equal(batch["ecg"], own["ecg"])
    pad = pairs.tokenizer.pad_token_id
    np.testing.assert_array_equal(batch["text_padding_mask"], batch["text"] == pad)


def test_reference_negatives_repeat_the_fault(pairs):
    batch, own, _ = _batch(pairs, "m3ae", vl_negatives="reference")
    assert not batch["matched"].all()
    np.testing.assert_array_equal(batch["text"], own["text"])  # nobody is shown another report
    batch, own, _ = _batch(pairs, "medvill", vl_negatives="reference")
    same = (batch["text"] == own["text"]).all(1)
    assert (same & ~batch["matched"]).sum() == (~same & ~batch["matched"]).sum() > 0


@pytest.mark.parametrize("kind", vl_pretrain.KINDS)
def test_words_and_stretches_count_in_matched_pairs_only(pairs, kind):
    sizes = vl_pretrain.vl_sizes(CONFIG, pairs.tokenizer, kind)
    batch = vl_pretrain.batch_maker(CONFIG, pairs, kind, sizes)(np.arange(16),
                                                                np.random.default_rng(1))
    counts = (batch["words"] != IGNORED).any(1)
    assert torch.equal(counts, batch["matched"]) and not counts.all()
    if kind == "m3ae":
        assert torch.equal(batch["counted"].any(1), batch["matched"])
        assert (batch["hidden"].sum(1) == batch["hidden"][0].sum()).all()
        assert batch["hidden"].shape[1] == sizes.n_tokens(batch["ecg"].shape[-1])


# --- training -------------------------------------------------------------------------------------


def _cohort_with_equal_reports(cohort):
    table = cohort.table.assign(report="sinus rhythm", scp_codes=[{"SR": 0.0}] * len(cohort))
    return dataclasses.replace(cohort, table=table, fingerprint="equal")


@pytest.mark.parametrize("kind", vl_pretrain.KINDS)
def test_a_killed_run_resumes_to_the_same_weights(tiny_cohort, tmp_path, monkeypatch, kind):
    settings = vl_pretrain.train_settings
    monkeypatch.setattr(vl_pretrain, "train_settings", lambda *a: dataclasses.replace(
        settings(*a), checkpoint_every=2, log_every=1))
    whole = vl_pretrain.pretrain_vl(CONFIG, tiny_cohort, kind, tmp_path / "whole")
    assert whole.log.finished and np.isfinite(whole.log.table["loss"]).all()
    assert 0 <= whole.itm_auroc <= 1 and whole.matching["n"] > 0
    masking, calls = vl_pretrain.mask_words, []

    def killed(*args, **kwargs):
        calls.append(1)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return masking(*args, **kwargs)

    monkeypatch.setattr(vl_pretrain, "mask_words", killed)
    with pytest.raises(KeyboardInterrupt):
        vl_pretrain.pretrain_vl(CONFIG, tiny_cohort, kind, tmp_path / "killed")
    monkeypatch.setattr(vl_pretrain, "mask_words", masking)
    torch.manual_seed(99)
    resumed = vl_pretrain.pretrain_vl(CONFIG, tiny_cohort, kind, tmp_path / "killed")
    assert resumed.log.table["step"].tolist() == list(range(1, CONFIG.vl_steps + 1))
    for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert vl_pretrain.pretrain_vl(CONFIG, tiny_cohort, kind, tmp_path / "whole").log.reused
    other = _Config.from_params({**SMALL, "vl_negatives": "reference", "vl_steps": 1})
    assert not vl_pretrain.pretrain_vl(other, tiny_cohort, kind, tmp_path / "whole").log.reused


@pytest.mark.parametrize("kind", vl_pretrain.KINDS)
@pytest.mark.parametrize("equal", [False, True])
def test_batches_of_two_and_equal_reports_stay_finite(tiny_cohort, tmp_path, kind, equal):
    cohort = _cohort_with_equal_reports(tiny_cohort) if equal else tiny_cohort
    config = _Config.from_params({**SMALL, "vl_batch": 2, "vl_steps": 4})
    trained = vl_pretrain.pretrain_vl(config, cohort, kind, tmp_path)
    assert np.isfinite(trained.log.table["loss"].dropna()).all() and "loss" in trained.log.last
    assert all(torch.isfinite(p).all() for p in trained.model.parameters())
    assert np.isnan(trained.itm_auroc) == equal  # where no two reports differ nothing can be told


@pytest.mark.parametrize("kind", vl_pretrain.KINDS)
def test_one_batch_can_be_learnt_by_heart(pairs, kind):
    torch.manual_seed(0)
    config = _Config.from_params({**SMALL, "dim": 32, "ffn_dim": 64})
    sizes = vl_pretrain.vl_sizes(config, pairs.tokenizer, kind)
    model = vl_pretrain.build_vl(config, sizes).train()
    batch = vl_pretrain.batch_maker(config, pairs, kind, sizes)(np.arange(6),
                                                                np.random.default_rng(2))
    batch["ecg"] = batch["ecg"][..., :320]  # two seconds and a bit are learnt sooner
    for name in {"hidden", "counted"} & set(batch):
        batch[name] = batch[name][:, : sizes.n_tokens(320)]
    loss_fn = vl_pretrain.LOSSES[kind]
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    first = {k: v.item() for k, v in loss_fn(model, batch).items()}
    for _ in range(70):
        losses = loss_fn(model, batch)
        optimiser.zero_grad()
        losses["loss"].backward()
        optimiser.step()
    assert not batch["matched"].all()
    assert losses["itm"].item() < 0.05 and losses["mlm"].item() < 0.1 * first["mlm"]
    if kind == "m3ae":
        assert losses["mim"].item() < 0.7 * first["mim"]


def test_a_model_that_looks_at_one_side_only_scores_one_half(pairs):
    positions = pairs.index("train")

    class Reader(torch.nn.Module):
        def __init__(self, side):
            super().__init__()
            self.side, self.weight = side, torch.nn.Parameter(torch.zeros(1))

        def forward(self, ecg, text, padding):
            seen = ecg.double().std((1, 2)) if self.side == "ecg" else text[:, 1].double()
            return {"alignment_logits": seen}

    for side in ("ecg", "text"):
        found = vl_pretrain.matching(Reader(side), pairs, positions)
        assert found["auroc"] == pytest.approx(0.5) and found["n"] > len(positions)


# --- settings -------------------------------------------------------------------------------------


def test_published_schedules():
    paper = _Config.from_params({"preset": "paper"})
    m3ae = vl_pretrain.train_settings(paper, "m3ae", 17_000)
    medvill = vl_pretrain.train_settings(paper, "medvill", 17_000)
    assert (m3ae.n_steps, m3ae.batch_size, m3ae.lr, m3ae.schedule) == (60_000, 256, 5e-5,
                                                                       "tri_stage")
    assert (medvill.n_steps, medvill.schedule, medvill.warmup_fraction) == (800 * 66, "constant", 0)
    assert m3ae.weight_decay == medvill.weight_decay == 0.01


@pytest.mark.parametrize("kind, published", [("m3ae", 346_585_724), ("medvill", 137_684_155)])
def test_paper_preset_builds_the_published_models(kind, published):
    class Bert:  # bert-base-uncased, as far as sizes go
        pad_token_id, sep_token_id = 0, 102

        def __len__(self):
            return 30522

    paper = _Config.from_params({"preset": "paper"})
    with torch.device("meta"):
        model = vl_pretrain.build_vl(paper, vl_pretrain.vl_sizes(paper, Bert(), kind))
    assert sum(p.numel() for p in model.parameters()) == published


@pytest.mark.parametrize("kind", vl_pretrain.KINDS)
def test_an_ecg_classifier_hands_on_its_ecg_side(tiny_cohort, tmp_path, kind):
    torch.manual_seed(CONFIG.seed + 5)  # not the weights pretraining would draw itself
    classifier = build_classifier(CONFIG, "ecg_transformer", 3)
    config = _Config.from_params({**SMALL, "vl_steps": 1})
    want = classifier.encoder.feature_extractor.conv_layers[0][0].weight
    for start, taken_over in ((None, False), (classifier, True)):
        trained = vl_pretrain.pretrain_vl(config, tiny_cohort, kind, tmp_path / str(start is None),
                                          start_from=start)
        got, = [p for name, p in trained.model.named_parameters()
                if name.endswith("feature_extractor.conv_layers.0.0.weight")]
        assert bool((got - want).abs().max() < 0.01) == taken_over  # one step of 1e-3 apart


@pytest.mark.parametrize("wrong, named", [
    ({"vl_mlm_share": 0}, "VL_MLM_SHARE"), ({"vl_mim_share": 1}, "VL_MIM_SHARE"),
    ({"vl_mismatch_share": 1.5}, "VL_MISMATCH_SHARE"), ({"vl_decoder_dim": 15}, "VL_DECODER_HEADS"),
    ({"vl_mim_layer": 9}, "VL_CO_LAYERS"), ({"vl_negatives": "none"}, "VL_NEGATIVES"),
])
def test_contradictions_are_named(wrong, named):
    with pytest.raises(ConfigError, match=named):
        _Config.from_params({"preset": "tiny", **wrong})


def test_an_unknown_kind_is_a_sentence(tiny_cohort, tmp_path):
    with pytest.raises(ConfigError, match="choose m3ae or medvill"):
        vl_pretrain.pretrain_vl(CONFIG, tiny_cohort, "vilt", tmp_path)
