"""BERTScore against values of the bert-score package 0.3.13, one text a batch (in larger batches
its padding counts as a match of cosine 0), and against the formula by hand.
"""

import json
import math

import numpy as np
import pytest
import torch

from ecgkit.text import encoders
from ecgkit.text.bertscore import BertScorer, greedy_match
from ecgkit.types import DataError, ModelError

REFERENCES = [
    "P waves are absent and the rhythm is irregularly irregular.",
    "The QRS complex is wide, with a broad R wave in V6.",
    "ST segments are raised in II, III and aVF.",
    "The PR interval is longer than 200 ms.",
    "T waves are inverted in V1 to V4.",
]
CANDIDATES = [
    "The rhythm is irregular, without P waves.",
    "A wide QRS with a notched R wave in lateral leads.",
    "ST elevation in the inferior leads II, III and aVF, with reciprocal depression.",
    "The PR interval is longer than 200 ms.",
    "The axis points to the left.",
]
# (layer, idf) -> precision, recall, F1 of the five pairs
PACKAGE = {
    (2, False): [[0.9814607, 0.9478861, 0.9308638, 1.0, 0.7464477],
                 [0.9866636, 0.9725840, 0.9539249, 1.0, 0.9652426],
                 [0.9840553, 0.9600763, 0.9422532, 1.0, 0.8418616]],
    (3, False): [[0.9800982, 0.9379927, 0.9212465, 1.0, 0.7279769],
                 [0.9836591, 0.9646158, 0.9468731, 1.0, 0.9596950],
                 [0.9818755, 0.9511180, 0.9338840, 1.0, 0.8279285]],
    (3, True): [[0.9923894, 0.9679381, 0.8982189, 1.0, 0.9251751],
                [0.9880263, 0.9846743, 0.9336424, 1.0, 0.9630572],
                [0.9902031, 0.9762345, 0.9155881, 1.0, 0.9437361]],
}  # fmt: skip


@pytest.fixture(scope="module")
def encoder():
    """A small BERT whose weights are sines, so that they are the same everywhere."""
    tokenizer = encoders.train_wordpiece(REFERENCES + CANDIDATES, 300)
    model = encoders.small_bert(len(tokenizer), 32, 3)
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim > 1:
                steps = torch.arange(p.numel(), dtype=torch.float64) * 0.7 + p.numel()
                p.copy_((torch.sin(steps) / p.shape[-1] ** 0.5).reshape(p.shape))
    return tokenizer, model


@pytest.mark.parametrize(("layer", "idf"), PACKAGE)
@pytest.mark.parametrize("batch_size", [1, 32])
def test_values_are_the_packages_whatever_the_batch(encoder, layer, idf, batch_size):
    scorer = BertScorer(encoder, layer, batch_size, device="cpu")
    scores = scorer.score(CANDIDATES, REFERENCES, idf)
    given = np.stack([scores.precision, scores.recall, scores.f1])
    np.testing.assert_allclose(given, PACKAGE[layer, idf], atol=1e-5)
    assert not scores.empty.any()


def test_the_formula_by_hand():
    candidate = np.array([[1.0, 0.0], [0.6, 0.8]])
    reference = np.array([[0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]])
    p, r, f, empty = greedy_match(candidate, reference, np.ones(2), np.array([1.0, 1.0, 2.0]))
    assert (p, r) == pytest.approx(((1 + 0.8) / 2, (0.8 + 1 - 2 * 0.6) / 4)) and not empty
    assert f == pytest.approx(2 * p * r / (p + r))


def test_rarity_weighs_tokens_by_the_references_that_hold_them(encoder):
    scorer = BertScorer(encoder, device="cpu")
    weigh = scorer._rarity(["p wave", "p p qrs", "t"])
    ids = scorer.tokenizer.convert_tokens_to_ids
    assert weigh(ids("p")) == pytest.approx(math.log(4 / 3))
    assert weigh(ids("qrs")) == pytest.approx(math.log(4 / 2))
    assert weigh(ids("absent")) == pytest.approx(math.log(4))
    assert weigh(scorer.tokenizer.cls_token_id) == 0


def test_empty_texts_score_zero_and_are_counted(encoder):
    scorer = BertScorer(encoder, device="cpu")
    texts, others = ["", "P waves", "  \n", "P waves"], ["P waves", "", "", "P waves"]
    for idf in (False, ["P waves", "QRS"]):
        scores = scorer.score(texts, others, idf)
        assert scores.empty.tolist() == [True, True, True, False]
        assert scores.f1.tolist() == pytest.approx([0, 0, 0, 1], abs=1e-6)
    assert "3 empty, scored 0" in str(scores) and scores.summary()["n"] == 4
    assert scorer.score([], []).f1.shape == (0,)
    assert math.isnan(scorer.score([], []).summary()["f1"])
    # Where every reference holds every token, no token has a weight.
    assert scorer.score(["qrs"], ["qrs"], idf=True).empty.all()


def test_long_texts_are_cut_and_wrong_calls_are_sentences(encoder):
    scorer = BertScorer(encoder, device="cpu")
    assert scorer.score(["wave " * 500], ["wave " * 128]).f1[0] == pytest.approx(1, abs=1e-5)
    with pytest.raises(DataError, match="1 candidates against 2 references"):
        scorer.score(["a"], ["a", "b"])
    with pytest.raises(ModelError, match="has no layer 4; it has 0 .* to 3"):
        BertScorer(encoder, layer=4)
    assert scorer.layer == 3 and "bert, layer 3 of 3" in str(scorer.score(["a"], ["a"]))


def test_a_folder_of_a_known_model_takes_its_authors_layer(encoder, tmp_path):
    tokenizer, model = encoder
    for part in encoder:
        part.save_pretrained(tmp_path / "other")
        part.save_pretrained(tmp_path / "bert-base-uncased")
    assert BertScorer(str(tmp_path / "other")).layer == 3
    with pytest.raises(ModelError, match="no layer 9"):  # that model has twelve
        BertScorer(str(tmp_path / "bert-base-uncased"))


def test_a_byte_level_tokenizer_reads_the_first_word_as_any_other():
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

    bpe = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe.train_from_iterator(REFERENCES * 5, vocab_size=400, special_tokens=special)
    merges = [tuple(m) for m in json.loads(bpe.to_str())["model"]["merges"]]
    tokenizer = RobertaTokenizer(vocab=bpe.get_vocab(), merges=merges)
    model = RobertaModel(RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=40, pad_token_id=1,
    ))  # fmt: skip
    scorer = BertScorer((tokenizer, model), device="cpu")
    assert scorer._tokens(["waves"])[0][1:-1] == scorer._tokens(["P waves"])[0][-2:-1]
    assert scorer.score(["waves " * 99], ["waves " * 99]).f1[0] == pytest.approx(1, abs=1e-5)
