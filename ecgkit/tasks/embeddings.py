"""What an encoder makes of ECGs, and which ECGs it cannot be asked about.

A lead without a finite sample makes its record's embedding NaN. Such ECGs are named, counted and
set aside; one of them must not stop an evaluation, nor be scored as if it had been read.

Letters: n ECGs, C leads, T samples, E width of an embedding, D width of a latent.

Usage:

    ecg = embed(model, cohort)                     # {"embedding": (n, E), "latents": (n, D)}
    aside = set_aside(ecg["embedding"], cohort.table["ecg_id"]);  print(aside.sentence)
    labels, sentence = readable(labels, ecg["embedding"])      # every table does this by itself
    esi = EcgEncoder("ESI", model.img_encoder);  esi.features(cohort.store)     # (n, E)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ecgkit.features.encoder_input import prepare_for
from ecgkit.features.esi_input import esi_preprocess
from ecgkit.models.ecg_encoders import load_encoder
from ecgkit.models.ssl_heads import Embed, embed_pooled
from ecgkit.types import ModelError


@dataclass(frozen=True)
class EcgEncoder:
    """An encoder under the name of its row. `prepare` makes its input of (B, C, T) mV, `embed`
    (B, E) of what it returns.
    """

    name: str
    module: nn.Module
    prepare: Callable[[np.ndarray], np.ndarray] = esi_preprocess
    embed: Embed = embed_pooled

    def signal(self, mv: np.ndarray) -> torch.Tensor:
        """(B, C, T) mV -> the encoder's input."""
        return torch.from_numpy(np.ascontiguousarray(self.prepare(mv), dtype=np.float32))

    @torch.no_grad()
    def of_signals(self, mv: np.ndarray, batch_size: int = 128) -> np.ndarray:
        """(n, C, T) mV -> (n, E) float32, in evaluation mode."""
        device, module = next(self.module.parameters()).device, self.module.eval()
        parts = [
            self.embed(module, self.signal(mv[i : i + batch_size]).to(device)).float().cpu().numpy()
            for i in range(0, len(mv), batch_size)
        ]
        return np.concatenate(parts) if parts else _nothing()

    def features(self, store, rows: np.ndarray | None = None, batch_size: int = 128) -> np.ndarray:
        """(n, E) of `rows` of a store (default: all)."""
        rows = np.arange(len(store)) if rows is None else np.asarray(rows)
        starts = range(0, len(rows), batch_size)
        parts = [self.of_signals(store.read(rows[i : i + batch_size])) for i in starts]
        return np.concatenate(parts) if parts else _nothing()


def from_folder(name: str, folder: str | Path) -> EcgEncoder:
    """An encoder that `save_encoder` wrote; its notes say how its input is prepared."""
    encoder = load_encoder(folder)
    return EcgEncoder(name, encoder, prepare_for(encoder.notes.get("input", "")))


@torch.no_grad()
def embed(model, cohort, rows: np.ndarray | None = None, batch_size: int = 128) -> dict:
    """ECGs of `rows` (default: all) -> {"embedding" (n, E) of the encoder, "latents" (n, D)}."""
    rows = np.arange(len(cohort.store)) if rows is None else np.asarray(rows)
    device, model = next(model.parameters()).device, model.eval()
    pooled, latents = [], []
    for start in range(0, len(rows), batch_size):
        x = esi_preprocess(cohort.store.read(rows[start : start + batch_size]))
        out = model.encode_ecg(torch.from_numpy(x).to(device))
        pooled.append(out["encoder_embedding"].float().cpu().numpy())
        latents.append(out["ecg_latents"].float().cpu().numpy())
    if not pooled:
        _nothing()
    return {"embedding": np.concatenate(pooled), "latents": np.concatenate(latents)}


def _nothing():
    raise ModelError("There are no ECGs to embed; check the split that was asked for.")


# --- what cannot be read --------------------------------------------------------------------------


@dataclass(frozen=True)
class SetAside:
    """`good` (n,) bool; `ids` of the others; `sentence` for a table's note, "" where all are good.
    """

    good: np.ndarray
    ids: list
    sentence: str


def set_aside(embedding: np.ndarray, ecg_ids: Sequence) -> SetAside:
    """Which ECGs have a finite embedding (n, E). Raises ModelError where not one has."""
    good = np.isfinite(embedding).all(1)
    ids = [i for i, fine in zip(list(ecg_ids), good) if not fine]
    if len(good) and not good.any():
        raise ModelError(
            f"None of {len(good)} embeddings is finite; look for NaN in the model's weights, or in "
            "the signals."
        )
    if not ids:
        return SetAside(good, [], "")
    shown = ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")
    sentence = f"{len(ids)} of {len(good)} ECGs set aside, embedding not finite: {shown}."
    return SetAside(good, ids, sentence)


def readable(labels, features: np.ndarray):
    """(`labels` without the ECGs whose `features` (rows of the store, E) are not finite, a sentence
    on them): a `LabelSet` in, one out. Raises ModelError where not one is finite.
    """
    aside = set_aside(features[labels.rows], labels.ids)
    return labels.take(aside.good), aside.sentence
