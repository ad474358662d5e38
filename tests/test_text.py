"""Text room: notes and retrieval, captions, prompts kept back, tokenizer, encoders without
network.
"""

import time

import numpy as np
import pandas as pd
import pytest

from ecgkit.text import captions as cap
from ecgkit.text import encoders
from ecgkit.text.cqa import MIN_SCORE, Notes, first_sentence, question, read_notes
from ecgkit.text.prompts import (
    CLASSES,
    FINDINGS,
    RUN,
    assert_unseen,
    finding_prompts,
    superclass_prompts,
)
from ecgkit.types import DataError, ModelError

STATEMENTS = pd.DataFrame(
    {
        "description": ["normal ECG", "sinus rhythm", "inferior myocardial infarction"],
        "diagnostic_class": ["NORM", np.nan, "MI"],
    },
    index=["NORM", "SR", "IMI"],
)


def table(codes, age=63.0, sex=0):
    n = len(codes)
    return pd.DataFrame({"ecg_id": range(1, n + 1), "age": [age] * n, "sex": [sex] * n,
                         "scp_codes": codes})  # fmt: skip


# --- notes ---


def test_every_note_names_codes_and_says_something():
    notes = read_notes()
    assert len(notes) > 30
    for note in notes:
        assert note.codes and len(note.text.split()) >= 8, note.title
    codes = [code for note in notes for code in note.codes]
    assert len(codes) == len(set(codes)), "two notes claim one code"


@pytest.mark.parametrize(
    ("finding", "title"),
    [
        ("atrial fibrillation", "Atrial fibrillation"),
        ("complete left bundle branch block", "Complete left bundle branch block"),
        ("inferior myocardial infarction", "Inferior myocardial infarction"),
        ("long QT-interval", "Long QT interval"),
    ],
)
def test_retrieval_finds_the_right_note(finding, title):
    found = Notes().retrieve(question(finding), k=2)
    assert found[0][1].title == title and found[0][0] >= found[-1][0] >= MIN_SCORE


def test_no_text_is_made_up_for_a_technical_statement():
    for words in ("lead(s) unsuitable for analysis", "interpretation made without gender or age"):
        assert Notes().answer(words) == "", words


def test_first_sentence_keeps_decimals():
    assert first_sentence("ST sinks 0.05 mV. Then it rises.") == "ST sinks 0.05 mV."


# --- captions ---


def test_caption_has_three_parts_and_zero_likelihood_codes():
    written = cap.write_captions(table([{"IMI": 80.0, "SR": 0.0}]), STATEMENTS, Notes(), n_short=3)
    text = written.full[0]
    assert text.startswith("This patient is a 63 year-old male. ECG Findings: inferior myocardial")
    assert "sinus rhythm" in text and "Potential ECG waveforms:" in text and "Q waves" in text
    assert len(written.variants[0]) == 4 and written.variants[0][0] == text


def test_captions_repeat_and_name_unknown_codes():
    codes = [{"NORM": 100.0}, {"XYZ": 0.0}, {}]
    first = cap.write_captions(table(codes, float("nan"), 1), STATEMENTS, Notes(), seed=3)
    assert first.variants == cap.write_captions(
        table(codes, float("nan"), 1), STATEMENTS, Notes(), seed=3
    ).variants
    assert "female of unknown age" in first.full[0] and "XYZ" in first.full[1]
    assert "no statement" in first.full[2]
    assert "over 89" in cap.demographics(90.0, 0)


# --- prompts ---


def test_prompts_share_no_four_words_with_any_caption_of_any_code(shared, tiny_cohort):
    """Each SCP code alone, in every wording the caption writer has, against every prompt."""
    statements, notes = tiny_cohort.statements, Notes()
    texts = [note.text for note in read_notes()]
    texts += [w for words in (*cap.SYNONYMS.values(), *cap.CLASS_WORDS.values()) for w in words]
    texts += [cap.describe(code, statements) for code in statements.index]
    written = cap.write_captions(tiny_cohort.table, statements, notes)
    prompts = superclass_prompts(list(CLASSES)) | {
        f"{k} finding": v for k, v in finding_prompts(list(FINDINGS)).items()
    }
    report = assert_unseen(prompts, texts + written.all_texts())
    assert report["longest_run"] < RUN and report["n_prompts"] > 80


def test_a_seen_prompt_is_refused():
    with pytest.raises(DataError, match="not zero-shot"):
        assert_unseen({"A": ["deep Q waves in lead II"]}, ["There were deep Q-waves, in lead II."])
    assert assert_unseen({"A": ["deep waves"]}, ["waves deep"])["longest_run"] == 1
    with pytest.raises(DataError):  # short, but the whole of it was read
        assert_unseen({"A": ["normal ECG"]}, ["A normal ECG."])


# --- tokenizer and encoders ---


def test_tokenizer_round_trip_and_pad_id():
    texts = ["sinus rhythm, normal ECG", "atrial fibrillation with fast rate"] * 3
    tokenizer = encoders.train_wordpiece(texts, 200)
    assert "rhythm" in tokenizer.get_vocab()
    out = tokenizer(texts[:2], padding=True)
    assert tokenizer.pad_token_id == 0 and out["input_ids"][0][0] == tokenizer.cls_token_id
    said = tokenizer.decode(out["input_ids"][0], skip_special_tokens=True)
    assert said.startswith("sinus rhythm")
    again = encoders.train_wordpiece(list(reversed(texts)), 200)
    assert again.get_vocab() == tokenizer.get_vocab()


def test_a_local_folder_loads_and_a_wrong_one_is_a_sentence(tmp_path):
    tokenizer = encoders.train_wordpiece(["sinus rhythm"], 60)
    encoders.small_bert(len(tokenizer), 16, 1).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    _, model = encoders.load_text_encoder(str(tmp_path / "bert"))
    assert model.config.hidden_size == 16
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="holds no Hugging Face text encoder"):
        encoders.load_text_encoder(str(tmp_path / "empty"))


@pytest.mark.parametrize("offline", ["1", "0"])
def test_hub_id_without_network_is_one_sentence_within_five_seconds(monkeypatch, offline):
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    from transformers import AutoModel  # noqa: F401  the import is not what is timed

    start = time.monotonic()
    with pytest.raises(ModelError, match="cannot be reached") as caught:
        encoders.load_text_encoder("example/no-such-encoder")
    assert time.monotonic() - start < 5
    assert "\n" not in str(caught.value)
