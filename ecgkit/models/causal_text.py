"""A bidirectional text encoder read from left to right, and a proof that it really is.

Letters: B texts, L words, D width.

Usage:

    require_causal(text_encoder)                     # once; a sentence for those that look ahead
    states = causal_states(text_encoder, ids)        # (B, L) -> (B, L, D)
"""

from __future__ import annotations

import torch

from ecgkit.types import ModelError


def causal_states(text_encoder, ids):
    """States (B, L, D) of ids (B, L) in which position i knows only words up to i (right padding
    needs no mask).
    """
    n = ids.shape[1]
    causal = torch.ones(n, n, dtype=torch.bool, device=ids.device).tril()
    causal = causal.expand(len(ids), 1, n, n)
    return text_encoder(input_ids=ids, attention_mask=causal).last_hidden_state


@torch.no_grad()
def require_causal(text_encoder) -> None:
    """Raises ModelError where a state changes with a later word: some encoders of transformers take
    a causal mask and do not keep to it, and a caption would then be copied, not told.

    Weights on the meta device have no values to try; they pass.
    """
    weight = next(text_encoder.parameters())
    if weight.is_meta:
        return
    n_words = text_encoder.config.vocab_size
    ids = torch.arange(8, device=weight.device).remainder(n_words)[None]
    ids = torch.cat([ids, ids]).clone()
    ids[0, -1], ids[1, -1] = n_words - 1, n_words - 2  # two texts that differ in their last word
    was_training = text_encoder.training
    text_encoder.eval()
    try:
        one, other = causal_states(text_encoder, ids)[:, :-1].float()
        looks_ahead = (one - other).abs().max() > 1e-4
    except (RuntimeError, ValueError, IndexError):  # it knows no mask of its own for each word
        looks_ahead = True
    finally:
        text_encoder.train(was_training)
    if looks_ahead:
        raise ModelError(
            f"{type(text_encoder).__name__} does not keep to a causal mask, so captions could be "
            "copied from words not yet said; take a BERT, RoBERTa, DistilBERT, ELECTRA, ALBERT or "
            "ModernBERT (TEXT_ENCODER), or protocol reference, which is defined that way."
        )
