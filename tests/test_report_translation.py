"""Which language a report is in, and its translation beside the original. No report's text is
printed: the real ones are read in place, and only counts are compared.
"""

import io
import json
import zipfile
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
import torch
from chat_server import ChatServer, Reply

from ecgkit.data.synthetic.report_text import report_text
from ecgkit.text.chat_client import ChatClient
from ecgkit.text.encoders import train_wordpiece
from ecgkit.text.report_glossary import TERMS, glossary
from ecgkit.text.report_language import language_of
from ecgkit.text.report_translation import (
    ChatTranslator,
    MarianTranslator,
    open_translator,
    translate_reports,
)
from ecgkit.types import ConfigError, DataError, ModelError

GERMAN = "Sinusrhythmus, Linkstyp, unvollständiger Rechtsschenkelblock, sonst normales EKG"
SWEDISH = "sinusrytm vänster el-axel eljest normalt ekg"
ENGLISH = "sinus rhythm. left axis deviation. otherwise normal ecg."


@pytest.fixture(scope="module")
def real(shared) -> pd.Series:
    with zipfile.ZipFile(shared / "data" / "ptbxl-subset-400.zip") as file:
        name = next(n for n in file.namelist() if n.endswith("ptbxl_database.csv"))
        return pd.read_csv(io.BytesIO(file.read(name)))["report"]


# --- language ---


def test_three_languages_and_not_to_be_told():
    found = [language_of(text) for text in (GERMAN, SWEDISH, ENGLISH, "LVH 12 V1", "")]
    assert found == ["german", "swedish", "english", "unknown", "unknown"]
    assert language_of("SINUSRHYTHMUS QRS(T) ABNORMAL") == "german"


def test_real_reports_are_told_apart_without_their_telltale_rhythm(real):
    """The rhythm's spelling gives the language away; what is left of a report must agree."""
    telltale = {"german": "sinusrhythmus", "swedish": "sinusrytm", "english": "sinus rhythm"}
    for language, word in telltale.items():
        own = real[real.str.contains(word)]
        found = own.map(language_of)
        rest = own.map(lambda text, word=word: language_of(text.replace(word, " ")))
        right = float((rest == language).mean())
        assert len(own) > 30 and (found == language).all(), language
        assert right > 0.95, (language, round(right, 3))
    counts = real.map(language_of).value_counts()
    assert counts["german"] > 200 and counts.get("unknown", 0) <= 4


def test_simulated_reports_are_told_apart():
    wrong = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        text = report_text({"AFIB": 0.0, "IMI": 50.0, "LVH": 100.0}, "LAD", rng)
        german = np.random.default_rng(seed).random() < 0.6
        wrong += language_of(text) != ("german" if german else "english")
    assert wrong <= 4


# --- glossary ---


def test_glossary_is_small_honest_and_leaves_what_it_lacks():
    assert len(TERMS) <= 80
    english, share = glossary("Sinusrhythmus, überdrehter Linkstyp")
    assert english == "sinus rhythm, marked left axis deviation" and share == 1
    english, share = glossary("Vorhofflimmern, Quatschwort")
    assert english == "atrial fibrillation, quatschwort" and share == 0.5
    assert glossary("") == ("", 0.0)
    assert "infarkten" in glossary("infarkten")[0]  # no part of a word is replaced


def test_glossary_knows_most_words_of_real_german_reports(real):
    shares = real[real.map(language_of) == "german"].map(lambda text: glossary(text)[1])
    assert shares.mean() > 0.9


# --- translating ---


class Spy:
    name, languages = "spy", ("german",)

    def __init__(self, answer=str.upper):
        self.asked, self.answer = [], answer

    def __call__(self, texts):
        self.asked += texts
        return [self.answer(text) for text in texts]


def test_each_distinct_report_once_and_kept_beside_its_original(tmp_path):
    spy, kept = Spy(), tmp_path / "kept.jsonl"
    done = translate_reports([GERMAN, ENGLISH, GERMAN, SWEDISH, "", None], spy, kept)
    assert spy.asked == [GERMAN] and done.n_untranslated == 3
    table = done.table
    assert table["original"].tolist() == [GERMAN, ENGLISH, GERMAN, SWEDISH, "", ""]
    assert table["english"].tolist() == [GERMAN.upper(), ENGLISH, GERMAN.upper(), "", "", ""]
    assert table["translated_by"].tolist() == ["spy", "already English", "spy", "", "", ""]
    assert done.summary() == (
        "6 reports: 2 by spy; 1 already English; untranslated: 2 empty, 1 swedish."
    )
    again = Spy()
    assert translate_reports([GERMAN], again, kept).n_untranslated == 0 and not again.asked
    assert GERMAN not in kept.read_text()  # the original is not written


def test_what_fails_is_counted_and_asked_again(tmp_path):
    kept = tmp_path / "kept.jsonl"
    assert translate_reports([GERMAN], Spy(lambda text: None), kept).n_untranslated == 1
    spy = Spy()
    translate_reports([GERMAN], spy, kept)
    assert spy.asked == [GERMAN]
    with pytest.raises(ModelError, match="one each"):
        bad = Spy()
        bad.__class__ = type("Bad", (Spy,), {"__call__": lambda self, texts: []})
        translate_reports([GERMAN], bad, None)


def test_without_a_translator_all_but_english_is_left():
    done = translate_reports([GERMAN, ENGLISH], open_translator("none"))
    assert done.n_untranslated == 1 and done.table["english"].tolist() == ["", ENGLISH]


def test_offline_default_is_the_glossary_by_its_name():
    done = translate_reports([GERMAN, "quatschwort und unsinn mit kauderwelsch"], open_translator())
    assert done.n_untranslated == 1
    assert done.table["translated_by"][0] == f"glossary, word by word ({len(TERMS)} terms)"


# --- MarianMT ---


@pytest.fixture(scope="module")
def marian(tmp_path_factory):
    """A tiny random MarianMT with a WordPiece tokenizer: what it says is noise, how is tested."""
    from transformers import MarianConfig, MarianMTModel

    folder = tmp_path_factory.mktemp("opus-mt-de-en")
    tokenizer = train_wordpiece([GERMAN, ENGLISH], 200)
    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
        decoder_ffn_dim=16, max_position_embeddings=64, pad_token_id=0, eos_token_id=3,
        decoder_start_token_id=0, forced_eos_token_id=None,
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    MarianMTModel(config).save_pretrained(folder)
    return folder


def test_marian_translates_in_batches_as_it_does_one_by_one(marian):
    translator = MarianTranslator(str(marian), batch_size=2, most_tokens=8)
    assert translator.languages == ("german",) and str(marian) not in translator.name
    texts = [GERMAN, "Linkstyp", "Vorhofflimmern, sonst normales EKG"]
    together, alone = translator(texts), [translator([text])[0] for text in texts]
    assert together == alone and any(together)
    done = translate_reports([*texts, ENGLISH], translator, None)
    assert set(done.table["translated_by"]) <= {translator.name, "already English", ""}


def test_marian_that_cannot_be_loaded_is_one_sentence(tmp_path):
    with pytest.raises(ModelError, match="holds no translation model"):
        MarianTranslator(str(tmp_path))(["x"])
    with pytest.raises(ModelError, match="glossary"):
        MarianTranslator("nobody/opus-mt-de-en")(["x"])


def test_marian_as_published_without_sentencepiece_names_the_extra(marian, tmp_path):
    """Files as in opus-mt-de-en: a SentencePiece model, and no tokenizer.json."""
    for path in marian.iterdir():
        if not path.name.startswith("tokenizer"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "MarianTokenizer"}')
    (tmp_path / "vocab.json").write_text('{"<unk>": 0, "</s>": 1, "<pad>": 2}')
    for name in ("source.spm", "target.spm"):
        (tmp_path / name).write_bytes(b"")
    if find_spec("sentencepiece") is not None:
        pytest.skip("sentencepiece is installed, so nothing is missing")
    with pytest.raises(ModelError, match=r"ecgkit\[translate\]"):
        MarianTranslator(str(tmp_path))(["x"])


# --- an endpoint ---


def test_a_chat_model_translates_and_failures_are_counted(tmp_path):
    with ChatServer(reply=lambda text: f"**in English**: {len(text)}") as server:
        client = ChatClient(server.url, "m", retries=0, jobs=1)
        done = translate_reports(
            [GERMAN, SWEDISH, ENGLISH], open_translator("endpoint", client), tmp_path / "a.jsonl"
        )
        assert done.n_untranslated == 0 and len(server.asked) == 2
        assert done.table["english"][0] == f"in English: {len(GERMAN)}"
        server.script = [Reply(400, {"error": {"message": "no"}})]
        failed = translate_reports([GERMAN], ChatTranslator(client), tmp_path / "b.jsonl")
    assert failed.n_untranslated == 1 and len(failed.problems) == 1
    assert json.loads((tmp_path / "a.jsonl").read_text().split("\n")[1])["text"]


def test_credentialed_text_goes_to_this_machine_only(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    far = ChatClient("https://models.example.org/v1", "m")
    with pytest.raises(ConfigError, match="ALLOW_REMOTE_TEXT"):
        open_translator("endpoint", far, credentialed=True)
    assert open_translator("endpoint", far, credentialed=True, allow_remote=True)
    near = ChatClient("http://127.0.0.1:9/v1", "m", key_env="")
    assert open_translator("endpoint", near, credentialed=True)
    with pytest.raises(DataError, match="ChatClient"):
        open_translator("endpoint")
