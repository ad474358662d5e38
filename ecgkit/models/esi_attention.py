"""Where a trained ESI of protocol paper looks: each word over time, through the pooled ECG tokens.

A word of the caption weighs the Q pooled tokens, each of which weighs the P tokens of the encoder
in time; the product of the two says which part of the ECG the word was said from. The encoder's
tokens have seen their surroundings, so this is where it looks, not a proof of what it uses.

Letters: B ECGs, C leads, T samples, P encoder tokens, Q pooled tokens, H heads, N decoder layers, L
words.

Usage:

    maps = look(model, signals, ids)
    maps["over_time"][0, i]       # (P,) of the word that is said after ids[0, :i + 1]; its sum is 1
"""

from __future__ import annotations

import torch

from ecgkit.models.esi import ESI
from ecgkit.models.esi_decoder import CrossAttention
from ecgkit.types import ModelError


def weights(cross: CrossAttention, x, context) -> torch.Tensor:
    """How queries x (B, L, D) weigh context (B, P, D_c): (B, H, L, P), each row's sum is 1."""
    q = cross.to_q(cross.norm(x)).unflatten(-1, (cross.n_heads, -1)).transpose(1, 2)
    k = cross.to_kv(cross.context_norm(context)).chunk(2, dim=-1)[0]  # (B, P, d)
    return (q @ k.unsqueeze(1).mT / q.shape[-1] ** 0.5).softmax(-1)


@torch.no_grad()
def look(model: ESI, signals, ids) -> dict[str, torch.Tensor]:
    """signals (B, C, T) and right-padded ids (B, L) -> {"pool" (B, H, Q, P), "words" (B, N, H, L,
    Q), "over_time" (B, L, P): their product, averaged over layers and heads, "contrast" (B, P): of
    the contrast's own query, averaged over heads, where the model has one}.

    Raises ModelError for protocol reference, whose decoder is given one vector and cannot choose.
    """
    if model.config.protocol != "paper":
        raise ModelError(
            "The decoder of protocol reference sees one vector of the ECG, so its attention is the "
            "same everywhere; train with protocol paper to see where words look."
        )
    tokens = model.img_encoder(signals)["tokens"]
    queries = model.img_queries.expand(len(tokens), -1, -1)
    pool = weights(model.img_attn_pool, queries, tokens)  # (B, H, Q or Q + 1, P)
    ecg = model.encode_ecg(signals)["ecg_tokens"]
    out = {}
    if model.config.has_contrast_query:
        pool, out["contrast"] = pool[:, :, :-1], pool[:, :, -1].mean(1)
    x, words = model.words_before(ids), []
    for block, cross in model.multimodal_layers:
        x = block(x)
        words.append(weights(cross.fn, x, ecg))
        x = cross(x, ecg)
    words = torch.stack(words, dim=1)  # (B, N, H, L, Q)
    return out | {
        "pool": pool, "words": words, "over_time": words.mean((1, 2)) @ pool.mean(1),
    }  # fmt: skip
