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


def test_a_folder_whose_weights_are_not_all_there_is_refused(tmp_path):
    """The library would fill them in at random and only warn."""
    from safetensors.torch import load_file, save_file

    tokenizer = encoders.train_wordpiece(["sinus rhythm"], 60)
    encoders.small_bert(len(tokenizer), 16, 1).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    lacking = {k: v for k, v in weights.items() if "encoder.layer.0" not in k}
    save_file(lacking, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="weights, e.g. .*encoder.layer.0"):
        encoders.load_text_encoder(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(ModelError, match="holds no Hugging Face text encoder"):
        encoders.load_text_encoder(str(tmp_path))


TEXTS = ["sinus rhythm", "", "atrial fibrillation with a fast ventricular rate, " * 9, "flutter"]


def test_text_vectors_leave_out_padding_and_keep_the_order():
    tokenizer = encoders.train_wordpiece(TEXTS, 200)
    model = encoders.small_bert(len(tokenizer), 16, 1, max_tokens=24).eval()
    together = encoders.text_vectors(tokenizer, model, TEXTS, batch_size=3, device="cpu")
    alone = [encoders.text_vectors(tokenizer, model, [t], device="cpu")[0] for t in TEXTS]
    assert together.shape == (4, 16) and together.dtype == np.float32
    assert np.isfinite(together).all() and together == pytest.approx(np.stack(alone), abs=1e-5)
    ids = tokenizer("flutter", return_tensors="pt")
    plain = model(**{k: ids[k] for k in ("input_ids", "attention_mask")}).last_hidden_state
    assert together[3] == pytest.approx(plain[0].mean(0).detach().numpy(), abs=1e-5)
    assert encoders.text_vectors(tokenizer, model, [], device="cpu").shape == (0, 16)


def _roberta(n):
    from transformers import RobertaConfig, RobertaModel

    return RobertaModel(RobertaConfig(
        vocab_size=n, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=20, pad_token_id=1))  # fmt: skip


def _t5(n):
    from transformers import T5Config, T5Model

    return T5Model(T5Config(vocab_size=n, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2))


def _gpt2(n):
    from transformers import GPT2Config, GPT2Model

    return GPT2Model(GPT2Config(vocab_size=n, n_embd=16, n_layer=1, n_head=2, n_positions=16))


@pytest.mark.parametrize("build", [_roberta, _t5, _gpt2])
def test_text_vectors_of_other_families(build):
    """Positions behind a padding id, no limit of positions, a decoder: none overruns its length."""
    tokenizer = encoders.train_wordpiece(TEXTS, 200)
    vectors = encoders.text_vectors(tokenizer, build(len(tokenizer)), TEXTS, device="cpu")
    assert vectors.shape == (4, 16) and np.isfinite(vectors).all()
    assert np.abs(vectors[0] - vectors[3]).max() > 1e-4


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
