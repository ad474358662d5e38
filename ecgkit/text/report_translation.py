"""Source reports in English: an optional step that keeps the original beside what it became.

A translator takes n texts to n translations, None for one that it could not do; it has a `name`
(the cache's key, and what is said beside the text) and `languages` it takes. Three are here: the
glossary (word by word, offline), a MarianMT model, a chat model at an endpoint.

Usage:

    translator = open_translator("Helsinki-NLP/opus-mt-de-en")     # or a folder; "" = the glossary
    done = translate_reports(cohort.table["report"], translator)
    done.table                    # original, language, english, translated_by
    print(done.summary())         # "400 reports: 103 English, 245 translated by ..., 52 left"
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from ecgkit import runtime
from ecgkit.config import short_hash
from ecgkit.text import endpoints
from ecgkit.text.answer_cache import AnswerCache
from ecgkit.text.chat_client import ChatClient
from ecgkit.text.encoders import load_pretrained
from ecgkit.text.llm import tidy
from ecgkit.text.report_encoder import name_of_weights
from ecgkit.text.report_glossary import TERMS, glossary
from ecgkit.text.report_language import language_of
from ecgkit.types import DataError, KitError, ModelError

ORIGINAL, NOBODY = "already English", ""
CHUNK = 64  # texts that a translator is given at once
LEAST_KNOWN = 0.5  # share of a report's words that the glossary must know to be of use
RULES = (
    "You translate ECG reports into English. Keep the medical meaning, the leads and all numbers; "
    "add nothing and leave nothing out. Answer with the translation alone."
)


class Translator(Protocol):
    name: str
    languages: tuple[str, ...]

    def __call__(self, texts: list[str]) -> list[str | None]: ...


@dataclass(frozen=True)
class Translations:
    """`table` one row per report: original, language, english ("" where there is none) and
    translated_by. `problems`: what the translator said where it failed, by number of texts.
    """

    table: pd.DataFrame
    problems: dict[str, int] = field(default_factory=dict)

    @property
    def n_untranslated(self) -> int:
        return int((self.table["english"] == "").sum())

    def summary(self) -> str:
        """Counts in a sentence; no text of a report."""
        by = self.table.loc[self.table["english"] != "", "translated_by"].value_counts()
        told = [f"{n} {'' if name == ORIGINAL else 'by '}{name}" for name, n in by.items()]
        left = self.table.loc[self.table["english"] == "", "language"].value_counts()
        if len(left):
            told.append("untranslated: " + ", ".join(f"{n} {name}" for name, n in left.items()))
        return f"{len(self.table)} reports: " + "; ".join([*told, *self.problems]) + "."


def translate_reports(
    reports: Iterable[str], translator: Translator | None = None,
    kept: Path | str | None = "cache",
) -> Translations:
    """Each distinct report once; English ones stay, those of a language the translator does not
    take (and empty ones) are left and counted.

    kept: a JSON-lines file of translations by the content of the original, which itself is not
    written; "cache" = one per translator in the kit's cache, None = nowhere.
    """
    texts = ["" if pd.isna(text) else " ".join(str(text).split()) for text in reports]
    language = {text: language_of(text) for text in dict.fromkeys(texts)}
    english = {text: text for text, name in language.items() if name == "english"}
    asked = [text for text, name in language.items()
             if translator is not None and text and name in translator.languages]  # fmt: skip
    done, problems = _translated(asked, translator, kept) if asked else ({}, {})
    english |= done
    names = dict.fromkeys(done, translator.name) if asked else {}
    names |= {text: ORIGINAL for text, name in language.items() if name == "english"}
    table = pd.DataFrame({
        "original": texts,
        "language": [language[text] if text else "empty" for text in texts],
        "english": [english.get(text, "") for text in texts],
        "translated_by": [names.get(text, NOBODY) for text in texts],
    })  # fmt: skip
    return Translations(table, problems)


def _translated(texts: list[str], translator: Translator, kept) -> tuple[dict, dict]:
    """(original -> English for those that could be done, problem -> how many texts)."""
    if kept == "cache":
        kept = runtime.cache_dir() / f"translations-{short_hash([translator.name])}.jsonl"
    cache = AnswerCache(Path(kept) if kept else None)
    marks = {text: hashlib.sha256(text.encode()).hexdigest() for text in texts}
    missing = [text for text in texts if cache.get(marks[text]) is None]
    problems: Counter[str] = Counter()
    for start in range(0, len(missing), CHUNK):  # what is done is on disk before the next is asked
        part = missing[start : start + CHUNK]
        given = translator(part)
        if len(given) != len(part):
            raise ModelError(
                f"{translator.name} gave {len(given)} translations for {len(part)} reports; it "
                "must give one each."
            )
        for text, translation in zip(part, given):
            if translation:
                cache.put(marks[text], {"text": translation})
        problems.update(getattr(translator, "problems", {}))
    found = {text: cache.get(marks[text]) for text in texts}
    return {text: english for text, english in found.items() if english}, dict(problems)


# --- translators ----------------------------------------------------------------------------------


def open_translator(
    name: str = "", client: ChatClient | None = None, credentialed: bool = False,
    allow_remote: bool = False,
) -> Translator | None:
    """"" = the glossary; "none" = None; "endpoint" = the chat model of `client`; else a MarianMT
    model by hub id or folder.
    """
    if name == "endpoint":
        return ChatTranslator(client, credentialed, allow_remote)
    if name in ("", "none"):
        return None if name else Glossary()
    return MarianTranslator(name)


class Glossary:
    """The small word list of `report_glossary`; a report of which it knows under half is left."""

    languages = ("german",)

    def __init__(self):
        self.name = f"glossary, word by word ({len(TERMS)} terms)"

    def __call__(self, texts: list[str]) -> list[str | None]:
        found = map(glossary, texts)
        return [english if share >= LEAST_KNOWN else None for english, share in found]


class MarianTranslator:
    """A sequence-to-sequence model by hub id or folder, such as Helsinki-NLP/opus-mt-de-en.

    `languages` it takes; None = read from its name (de-en, sv-en), else all. Raises ModelError when
    it is first used and cannot be loaded.
    """

    def __init__(
        self, model: str, languages: tuple[str, ...] | None = None, batch_size: int = 16,
        most_tokens: int = 256, device: str = "auto",
    ):  # fmt: skip
        self.name = f"{Path(model).name} ({short_hash([name_of_weights(model)])})"
        self.languages = languages or _languages_of(Path(model).name)
        self._model, self._batch, self._most, self._device = model, batch_size, most_tokens, device
        self._loaded = None

    def __call__(self, texts: list[str]) -> list[str | None]:
        import torch

        if self._loaded is None:
            tokenizer, model = load_translator(self._model)
            self._loaded = tokenizer, model.to(runtime.pick_device(self._device)).eval()
        tokenizer, model = self._loaded
        order = np.argsort([len(text) for text in texts], kind="stable")
        out: list[str | None] = [None] * len(texts)
        for start in range(0, len(texts), self._batch):
            rows = order[start : start + self._batch]
            batch = tokenizer([texts[i] for i in rows], padding=True, truncation=True,
                              max_length=self._most, return_tensors="pt")  # fmt: skip
            asked = {name: batch[name].to(model.device) for name in ("input_ids", "attention_mask")}
            with torch.inference_mode():
                ids = model.generate(**asked, max_new_tokens=self._most)
            said = tokenizer.batch_decode(ids, skip_special_tokens=True)
            for i, text in zip(rows, said):
                out[i] = " ".join(text.split()) or None
        return out


def _languages_of(name: str) -> tuple[str, ...]:
    pairs = {"de-en": ("german",), "sv-en": ("swedish",)}
    return next((own for pair, own in pairs.items() if pair in name), ("german", "swedish"))


def load_translator(name: str, timeout_s: float = 4.0):
    """(tokenizer, model) from a local folder, the hub's local cache, or the hub. Raises ModelError
    in a sentence.
    """
    from transformers import AutoModelForSeq2SeqLM

    return load_pretrained(AutoModelForSeq2SeqLM, name, "Translator", _not_available, timeout_s)


def _not_available(name: str, local: bool, offline: bool, error: Exception) -> ModelError:
    said = runtime.first_line(error)
    whole = not local or (Path(name).expanduser() / "config.json").exists()
    if whole and "sentencepiece" in str(error).lower() and find_spec("sentencepiece") is None:
        return ModelError(
            f"The tokenizer of {Path(name).name} needs sentencepiece, which is not installed; run "
            "pip install ecgkit[translate]."
        )
    if local:
        return ModelError(
            f"{Path(name).name}/ holds no translation model ({said}); give a folder with "
            "config.json, weights and tokenizer."
        )
    why = "the hub cannot be reached from here" if offline else said
    return ModelError(
        f"Translator {name!r} is not available ({why}); give a local folder that holds it, or "
        "leave the name empty for the glossary."
    )


class ChatTranslator:
    """A chat model at an OpenAI-compatible endpoint, several reports at a time.

    Raises ConfigError where text of `credentialed` records would leave this machine without
    `allow_remote`, before anything is sent.
    """

    languages = ("german", "swedish", "unknown")

    def __init__(
        self, client: ChatClient | None, credentialed: bool = False, allow_remote: bool = False
    ):
        if client is None:
            raise DataError("Translating by an endpoint needs a ChatClient; give LLM_URL.")
        endpoints.check(client.url, credentialed, allow_remote)
        self.client, self.problems = client, {}
        self.name = f"{client.model} at an endpoint ({short_hash([RULES])})"

    def __call__(self, texts: list[str]) -> list[str | None]:
        asked = {i: [{"role": "system", "content": RULES}, {"role": "user", "content": text}]
                 for i, text in enumerate(texts)}  # fmt: skip
        answers = self.client.chat_many(asked)
        self.problems = {}
        for answer in answers.values():
            if isinstance(answer, KitError):
                self.problems[str(answer)] = self.problems.get(str(answer), 0) + 1
        return [tidy(a) or None if isinstance(a, str) else None for a in answers.values()]
