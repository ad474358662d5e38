"""A small text encoder trained in place on the kit's own text, for reports without a clinical BERT.

It reads one wording of a finding (PTB-XL's descriptions, machine statements, a note's title or a
sentence of it) and names the words of the whole note. Findings whose notes use the same words come
to lie close, whatever they are called. It has read 134 notes and nothing else: it is not a clinical
language model. Diagnostic classes are not in what it reads.

Letters: B batch, L tokens, D width, V words of the notes.

Usage:

    embed, what = open_text_embedder("")              # trained here, kept in the cache
    embed, what = open_text_embedder("stand-in")      # TF-IDF + SVD; or a hub id, or a folder
    statement_check(embed, statements)                # {"auroc": 0.8, "low": ..., "high": ...}
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from ecgkit import runtime
from ecgkit.config import short_hash
from ecgkit.data.scp_table import scp_statements
from ecgkit.tasks.engine import TrainSettings, fit
from ecgkit.text.encoders import small_bert, train_wordpiece
from ecgkit.text.passages import read_folder
from ecgkit.text.report_encoder import Embedder, pooled, text_embedder
from ecgkit.text.statement_table import statement_table

TRAINED = "small encoder trained in place on the kit's notes, not a clinical language model"
RECIPE = 1  # raise it where training changes, so that no old encoder is taken from the cache
WIDTH, LAYERS, VOCABULARY, MOST_TOKENS = 64, 2, 2000, 100
N_STEPS, BATCH, LR, HIDDEN_SHARE = 200, 32, 2e-3, 0.15


def open_text_embedder(
    name: str = "", style: str = "seed", pooling: str = "", seed: int = 0, device: str = "auto"
) -> tuple[Embedder, str]:
    """(embedder, what it is): "" = trained in place, else as `report_encoder.text_embedder`."""
    if name:
        return text_embedder(name, style, pooling, device)
    embed, what = text_embedder(str(trained_encoder(seed)), style, pooling, device)
    return embed, f"{TRAINED}, {what.rsplit(', ', 1)[1]}"


# --- what is read ---------------------------------------------------------------------------------


def wordings() -> dict[str, list[str]]:
    """Note -> the ways to speak of it: title, machine statements, sentences, SCP descriptions."""
    table, found = scp_statements(), {}
    for note in read_folder().passages:
        sentences = [s for s in re.split(r"(?<=[.;])\s+", note.text) if len(s.split()) > 2]
        said = [note.title, *note.statements, *sentences]
        for code in note.codes:
            if code in table.index:
                line = table.loc[code]
                said += [line["description"], line["SCP-ECG Statement Description"]]
        found.setdefault(note.title, []).extend(dict.fromkeys(said))
    return found


def note_words(notes: dict[str, list[str]]) -> np.ndarray:
    """(notes, V) float32 shares of each note's words by TF-IDF; rows sum to 1. Words of one note
    alone, and of every third, tell nothing of what notes have in common.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    counter = TfidfVectorizer(
        token_pattern=r"[a-z0-9]{2,}", min_df=2, max_df=0.3, sublinear_tf=True, stop_words="english"
    )
    weights = counter.fit_transform(" ".join(said) for said in notes.values()).toarray()
    total = weights.sum(1, keepdims=True)
    return (weights / np.maximum(total, 1e-12)).astype(np.float32)


# --- training -------------------------------------------------------------------------------------


class NoteReader(nn.Module):
    """Encoder and the head that names a note's words."""

    def __init__(self, encoder: nn.Module, n_words: int):
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(encoder.config.hidden_size, n_words)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """ids, mask (B, L) -> "text" (B, D), "words" (B, V) log probabilities."""
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        text = pooled(states, mask, "mean")
        return {"text": text, "words": F.log_softmax(self.head(text), 1)}


def note_loss(model: nn.Module, batch: dict) -> dict[str, torch.Tensor]:
    """Cross-entropy of the named words against the note's shares (B, V)."""
    out = model(batch["ids"], batch["mask"])
    return {"loss": -(batch["words"] * out["words"]).sum(1).mean()}


def trained_encoder(seed: int = 0, n_steps: int = N_STEPS) -> Path:
    """The folder of the encoder and its tokenizer: trained on the first call, in seconds."""
    notes = wordings()
    key = short_hash([RECIPE, WIDTH, LAYERS, VOCABULARY, N_STEPS, BATCH, LR, HIDDEN_SHARE, seed,
                      n_steps, notes])  # fmt: skip
    home = runtime.cache_dir() / "report_encoder" / key
    with runtime.one_at_a_time(home, "training the same report encoder"):
        return runtime.write_once(home / "model", lambda to: _train(notes, seed, n_steps, home, to))


def _train(notes: dict, seed: int, n_steps: int, home: Path, to: Path) -> None:
    tokenizer = train_wordpiece([text for said in notes.values() for text in said], VOCABULARY)
    words = torch.from_numpy(note_words(notes))
    torch.manual_seed(seed)
    encoder = small_bert(len(tokenizer), WIDTH, LAYERS, MOST_TOKENS)
    model = NoteReader(encoder, words.shape[1])
    settings = TrainSettings(
        n_steps=n_steps, batch_size=BATCH, lr=LR, seed=seed, device="cpu", precision="no",
        log_every=50, checkpoint_every=10 * n_steps,
    )  # fmt: skip
    make_batch = _batch_maker(list(notes.values()), words, tokenizer)
    training = home / "training"
    fit(model, len(notes), make_batch, note_loss, settings, training, fingerprint=home.name)
    _whole(encoder).save_pretrained(to)
    tokenizer.save_pretrained(to)


def _whole(encoder: nn.Module) -> nn.Module:
    """With a pooler, which nobody reads: without it, loading prints a report of missing weights."""
    from transformers import BertModel, logging

    logging.disable_progress_bar()
    model = BertModel(encoder.config)
    model.load_state_dict(encoder.state_dict(), strict=False)
    return model


def _batch_maker(said: list[list[str]], words: torch.Tensor, tokenizer):
    def make_batch(indices: np.ndarray, rng: np.random.Generator) -> dict:
        texts = [said[i][rng.integers(len(said[i]))] for i in indices]
        tokens = tokenizer(texts, padding=True, truncation=True, max_length=MOST_TOKENS,
                           return_tensors="pt")  # fmt: skip
        ids, mask = tokens["input_ids"], tokens["attention_mask"]
        # Hidden words keep it from naming a note by one telling word.
        hidden = torch.from_numpy(rng.random(ids.shape) < HIDDEN_SHARE)
        hidden &= (ids >= len(tokenizer.all_special_ids)) & mask.bool()
        ids = ids.masked_fill(hidden, tokenizer.mask_token_id)
        return {"ids": ids, "mask": mask, "words": words[torch.from_numpy(indices)]}

    return make_batch


# --- is it of use? --------------------------------------------------------------------------------


def statement_check(
    embed: Embedder, statements: pd.DataFrame, with_category: bool = False, centred: bool = False,
    n_boot: int = 200, seed: int = 0,
) -> dict[str, float]:
    """Are statements of one diagnostic superclass nearer to each other than to the rest?

    AUROC of the cosine over all pairs of the diagnostic statements (same superclass against not),
    0.5 = chance, with a 95 % interval that resamples statements. `with_category` adds the category,
    which nearly gives the superclass away; `centred` takes off the mean vector first.
    """
    from sklearn.metrics import roc_auc_score

    table = statement_table(statements)
    table = table[table["diagnostic_class"].notna()]
    texts = table["description"].tolist()
    if with_category:
        texts = [f"{c}: {t}" for c, t in zip(table["Statement Category"], texts)]
    vectors = np.asarray(embed(texts), dtype=np.float64)
    vectors = vectors - vectors.mean(0) if centred else vectors
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    cosine, kind = unit @ unit.T, table["diagnostic_class"].to_numpy()

    def auroc(chosen: np.ndarray) -> float:
        first, second = np.triu_indices(len(chosen), 1)
        first, second = chosen[first], chosen[second]
        apart = first != second  # a statement drawn twice is no pair
        first, second = first[apart], second[apart]
        return roc_auc_score(kind[first] == kind[second], cosine[first, second])

    rng, every = np.random.default_rng(seed), np.arange(len(kind))
    draws = [auroc(rng.choice(every, len(every))) for _ in range(n_boot)]
    low, high = np.percentile(draws, [2.5, 97.5]) if draws else (np.nan, np.nan)
    return {"auroc": auroc(every), "low": float(low), "high": float(high), "n": len(kind)}
