"""An ESI study put together: the ECGs, their captions as tokens, and the model.

Letters: N items (ECGs), W wordings of each, P items to train on.

Usage:

    study = prepare(config, cohort)
    print(study.summary()); study.mixture.table()
    model = build_model(config, text_encoder, len(tokenizer))
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from ecgkit import runtime
from ecgkit.config import EsiConfig
from ecgkit.models.ecg_encoders import encoder_for
from ecgkit.models.esi import ESI, ESIConfig
from ecgkit.tasks.esi_data import Mixture, dealt, open_mixture
from ecgkit.tasks.esi_tokens import CaptionTokens, caption_tokens
from ecgkit.text.captions import Captions, write_captions
from ecgkit.text.cqa import Assistant, open_assistant
from ecgkit.text.encoders import (
    load_text_encoder,
    longest_input,
    small_bert,
    train_wordpiece,
)
from ecgkit.types import DataError


@dataclass
class Study:
    """What pretraining needs, in one place. Rows of `cohort` are the first items of `mixture`;
    `captions` and `tokens` have one entry per item. `train` (P,): the items to train on;
    `caption_of` (N,): the item whose caption each is shown (its own, but for SHUFFLED_SHARE).
    `assistant` wrote how findings look; None where captions do not say it.
    """

    config: EsiConfig
    cohort: object
    mixture: Mixture
    train: np.ndarray
    caption_of: np.ndarray
    assistant: Assistant | None
    captions: Captions
    tokenizer: object
    tokens: CaptionTokens
    model: ESI

    def training_texts(self) -> list[str]:
        """Every caption the model may have read: all wordings of the ECGs it trains on."""
        return self.captions.all_texts(self.train)

    def summary(self) -> str:
        """One or two lines: how many pairs, how long their captions are, what was cut or left."""
        tokens, train = self.tokens, self.train
        mean = tokens.lengths(train).mean()
        said = [f"{len(train)} pairs, captions of {mean:.0f} tokens on average"]
        if n := tokens.n_cut(train):
            said.append(f"{n} of more than {tokens.max_tokens} tokens are cut there")
        if n := len(self.mixture.train) - len(train):
            said.append(f"{n} ECGs without a caption are left out")
        if n := int((self.caption_of != np.arange(len(self.caption_of))).sum()):
            said.append(f"{n} are shown the caption of another ECG (SHUFFLED_SHARE)")
        return "; ".join(said)


def prepare(config: EsiConfig, cohort) -> Study:
    """Writes the captions, learns the tokenizer on training captions, builds the model.

    Raises DataError when there is no ECG to train on, or none with a caption.
    """
    mixture = open_mixture(config, cohort)
    credentialed = any(cohort.credentialed for cohort in mixture.cohorts)
    assistant = open_assistant(config, credentialed=credentialed)
    captions = _captions(config, mixture, assistant)
    train = mixture.train[[bool(captions.full[i].strip()) for i in mixture.train]]
    if not len(train):
        raise DataError(
            f"None of {len(mixture.train)} ECGs has a caption, so ESI cannot be trained on them; "
            "give a source with statements or reports (DATA, MORE_DATA)."
        )
    caption_of = dealt(train, len(mixture), config.shuffled_share, config.seed)
    runtime.set_seed(config.seed)
    tokenizer, text_encoder = _text_side(config, captions.all_texts(train))
    model = build_model(config, text_encoder, len(tokenizer))
    room = min(config.max_tokens, longest_input(tokenizer, text_encoder))
    tokens = caption_tokens(tokenizer, captions.variants, room)
    return Study(
        config, cohort, mixture, train, caption_of, assistant, captions, tokenizer, tokens, model
    )


def _captions(config: EsiConfig, mixture: Mixture, assistant: Assistant | None) -> Captions:
    """Of every item. Short wordings that no step would read are not written."""
    n_short = config.n_short if config.full_share < 1 else 0
    parts = [
        write_captions(cohort.table.iloc[mixture.rows_of(s)], cohort.statements, assistant,
                       config.seed, n_short)
        for s, cohort in enumerate(mixture.cohorts)
    ]  # fmt: skip
    report = sum(part.report[["distinct", "ecgs"]] for part in parts)
    examples = pd.concat([part.report["example"] for part in parts], axis=1)
    return Captions(
        [text for part in parts for text in part.full],
        [wordings for part in parts for wordings in part.variants],
        report.assign(example=examples.max(axis=1)),  # any of them
    )


# --- the model ------------------------------------------------------------------------------------


def _text_side(config: EsiConfig, texts: list[str]):
    if config.text_encoder:
        return load_text_encoder(config.text_encoder)
    tokenizer = train_wordpiece(texts, config.vocab_size)
    encoder = small_bert(
        len(tokenizer), config.text_width, config.text_layers, config.max_tokens
    )
    return tokenizer, encoder


def build_model(config: EsiConfig, text_encoder, vocab_size: int) -> ESI:
    """The ESI model of `config` around `text_encoder`. Only the reference protocol has the norm
    over time of the published code, after which no wave is large or small any more.
    """
    norm = "time" if config.protocol == "reference" else "channel"
    encoder, width = encoder_for(config.encoder, norm), text_encoder.config.hidden_size
    head_dim = 64 if width >= 512 else max(8, width // 4)
    sizes = ESIConfig(
        vocab_size=vocab_size, n_layers=config.decoder_layers, n_heads=8 if width >= 512 else 4,
        head_dim=head_dim, ff_mult=4 if width >= 512 else 2, n_queries=config.n_queries,
        protocol=config.protocol, text_gradient=config.text_gradient,
        contrast_pool=config.contrast_pool, text_pool=config.text_pool,
    )  # fmt: skip
    model = ESI(encoder, text_encoder, sizes)
    torch.nn.init.constant_(model.temperature, config.temperature)
    return model
