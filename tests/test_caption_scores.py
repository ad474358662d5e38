"""Scores of captions: BLEU and ROUGE-L by hand, which findings are named, the shuffled control."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ecgkit.config import EsiEvalConfig
from ecgkit.data.scp_table import scp_statements
from ecgkit.tasks import caption_scores as captions
from ecgkit.tasks.named_findings import Lexicon, findings_part
from ecgkit.tasks.text_overlap import overlap_counts, overlap_scores, rouge_l
from ecgkit.types import DataError


@pytest.fixture(scope="module")
def config():
    return EsiEvalConfig.from_params({"preset": "tiny", "device": "cpu"})


@pytest.fixture(scope="module")
def lexicon():
    return Lexicon.of(scp_statements())


def scores(said, true):
    return overlap_scores(overlap_counts(said, true).sum(0))


# --- overlap --------------------------------------------------------------------------------------


def test_bleu_by_hand():
    # Papineni et al. 2002, example 2: "the" is matched twice at most.
    clipped = scores(["the the the the the the the"], ["the cat is on the mat"])
    assert clipped["BLEU-1"] == pytest.approx(2 / 7) and clipped["BLEU-2"] == 0
    # 5 of 6 words, 3 of 5 pairs, 2 of 4 triples, 1 of 3 fours; as long as the true text.
    one = scores(["the cat sat on the mat"], ["the cat is on the mat"])
    assert one["BLEU-1"] == pytest.approx(5 / 6)
    assert one["BLEU-2"] == pytest.approx(math.sqrt(5 / 6 * 3 / 5))
    assert one["BLEU-3"] == pytest.approx((5 / 6 * 3 / 5 * 1 / 4) ** (1 / 3))
    assert one["BLEU-4"] == 0


def test_bleu_is_of_the_corpus_and_short_texts_pay():
    said, true = ["sinus rhythm", "atrial"], ["sinus rhythm", "atrial fibrillation fast"]
    got = scores(said, true)
    assert got["BLEU-1"] == pytest.approx(math.exp(1 - 5 / 3))  # all right, 3 words for 5
    assert got["BLEU-2"] == pytest.approx(math.exp(1 - 5 / 3))
    same = scores(["a b c d e"], ["A b, c d e."])
    assert all(value == pytest.approx(1) for value in same.values())


def test_rouge_l_by_hand():
    # Lin 2004, its example of two candidates: three and two words in the right order.
    assert rouge_l("police kill the gunman".split(), "police killed the gunman".split()) == 0.75
    assert rouge_l("the gunman kill police".split(), "police killed the gunman".split()) == 0.5
    assert rouge_l([], ["a"]) == 0 and rouge_l(list("abcd"), list("ab")) == pytest.approx(2 / 3)


def test_nothing_said_scores_nothing():
    got = scores(["", ""], ["sinus rhythm", "atrial flutter"])
    assert all(value == 0 for value in got.values())


# --- findings -------------------------------------------------------------------------------------


def test_longer_wordings_come_first(lexicon):
    assert lexicon.named("incomplete right bundle branch block") == {"IRBBB"}
    assert lexicon.named("complete right bundle branch block, sinus rhythm") == {"CRBBB", "SR"}
    assert lexicon.named("RBBB, wide QRS and nothing else") == {"CRBBB"}
    assert lexicon.named("no words for this") == frozenset()


def test_every_description_names_its_own_code(lexicon):
    for code, text in scp_statements()["description"].items():
        assert any(code in named.split("/") or code == named for named in lexicon.named(text)), code


def test_demographics_and_waveforms_are_not_findings():
    text = ("This patient is a 60 year-old male. ECG Findings: atrial fibrillation.\n"
            "Potential ECG waveforms: no P waves, unlike sinus rhythm.")
    assert findings_part(text) == "atrial fibrillation."
    assert findings_part("this ecg shows sinus rhythm") == "this ecg shows sinus rhythm"


# --- the whole ------------------------------------------------------------------------------------

TRUE = ["ECG findings: sinus rhythm, normal ECG.", "ECG findings: atrial fibrillation.",
        "ECG findings: atrial flutter.", "ECG findings: sinus bradycardia, LVH, high voltage."] * 3


def test_true_captions_beat_the_shuffled_control(lexicon, config):
    got = captions.score_captions(TRUE, TRUE, lexicon, np.arange(12), config)
    table = got.table.set_index(["metric", "model"])["value"]
    for metric in ("BLEU-1", "ROUGE-L", "finding precision", "finding recall", "finding F1"):
        assert table[metric, "generated"] == pytest.approx(1)
        assert table[metric, "shuffled"] < 0.7
    above = got.above.set_index("metric")
    assert (above.loc[["ROUGE-L", "finding F1"], "low"] > 0).all()
    assert got.each["present"].iloc[3] == ["LVH", "SBRAD"]


def test_one_caption_for_all_is_no_better_than_its_control(lexicon, config):
    said = ["ECG findings: sinus rhythm."] * 12
    above = captions.score_captions(said, TRUE, lexicon, np.arange(12), config).above
    above = above.set_index("metric")
    assert above.loc["finding recall", "value"] == pytest.approx(0, abs=1e-9)
    assert above.loc["ROUGE-L", "low"] <= 0 <= above.loc["ROUGE-L", "high"]


def test_findings_are_counted_over_all_ecgs(lexicon, config):
    said = ["atrial flutter, LVH, high voltage", "sinus tachycardia"]
    true = ["atrial flutter", "sinus tachycardia, long QT interval"]
    table = captions.score_captions(said, true, lexicon, np.arange(2), config).table
    value = table[table["model"] == "generated"].set_index("metric")["value"]
    assert value["finding precision"] == pytest.approx(2 / 3)
    assert value["finding recall"] == pytest.approx(2 / 3)


def test_no_finding_named_leaves_precision_undefined(lexicon, config):
    table = captions.score_captions(["mumble"] * 3, TRUE[:3], lexicon, np.arange(3), config).table
    value = table[table["model"] == "generated"].set_index("metric")["value"]
    assert np.isnan(value["finding precision"]) and value["finding recall"] == 0
    with pytest.raises(DataError, match="at least 2"):
        captions.score_captions(["a"], ["a"], lexicon, np.arange(1), config)


def test_a_scorer_of_pairs_joins_the_table(lexicon, config):
    class SameOrNot:
        def score(self, said, true):
            same = np.array([float(a == b) for a, b in zip(said, true)])
            return SimpleNamespace(precision=same, recall=same, f1=same)

    got = captions.score_captions(TRUE, TRUE, lexicon, np.arange(12), config, SameOrNot())
    value = got.table.set_index(["metric", "model"])["value"]
    assert value["BERTScore F1", "generated"] == 1 and value["BERTScore F1", "shuffled"] < 0.5


def test_nobody_keeps_the_own_text():
    for order in captions.derangements(7, 20, seed=0):
        assert sorted(order) == list(range(7)) and (order != np.arange(7)).all()


class Speaker(torch.nn.Module):
    """Says the tokens it is given after the start, whatever it sees."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        config = SimpleNamespace(max_position_embeddings=20)
        self.unimodal_layers = SimpleNamespace(config=config)
        self.asked = []

    def generate(self, signals, start_ids, end_id, max_tokens=48, n_beams=1):
        self.asked.append((tuple(signals.shape), max_tokens, n_beams))
        said = torch.tensor([[5, 6, end_id]]).expand(len(signals), -1)
        return torch.cat([start_ids, said], dim=1)


def test_captions_are_written_in_batches_within_the_text_encoders_room(tiny_cohort):
    from ecgkit.text.encoders import train_wordpiece

    tokenizer, model = train_wordpiece(["ecg findings: sinus rhythm"], 200), Speaker()
    rows = np.arange(5)
    said = captions.write_captions_of(model, tokenizer, tiny_cohort, rows, n_beams=3, batch_size=2)
    assert len(said) == 5 and all(text.startswith("ecg findings :") for text in said)
    assert [shape[0] for shape, *_ in model.asked] == [2, 2, 1]
    assert all(room <= 20 - 4 and beams == 3 for _, room, beams in model.asked)
