"""ESI, the ECG Semantic Integrator: an ECG encoder, a text encoder and a captioning decoder trained
together.

`protocol="reference"` is the published code: one pooled ECG vector, and a caption decoder fed by a
bidirectional text encoder, which has already seen the word it must say. `protocol="paper"` is what
the paper draws: the decoder attends to several pooled ECG tokens and reads text states that know
only the words before them.

Usage:
    model = ESI(encoder, text_encoder, ESIConfig(vocab_size=28_895))
    out = model(signals, ids, mask)      # (B, C, T) mV, (B, L), (B, L) -> named tensors
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from ecgkit.models.esi_decoder import CrossAttention, Decoder, ScaleNorm


@dataclass(frozen=True)
class ESIConfig:
    """Sizes of the part between the two encoders. The width D is the text encoder's hidden size."""

    vocab_size: int
    n_layers: int = 6
    n_heads: int = 8
    head_dim: int = 64
    ff_mult: int = 4
    n_queries: int = 8
    protocol: str = "reference"
    text_gradient: float = 1.0  # share of the contrastive gradient that reaches the text encoder


class Latents(nn.Module):
    """Linear map into the space where ECG and text are compared, then unit length."""

    def __init__(self, width: int):
        super().__init__()
        self.to_latents = nn.Linear(width, width, bias=False)

    def forward(self, x):
        return F.normalize(self.to_latents(x), dim=-1)


class ESI(nn.Module):
    """Parameter names follow the published ones; parts the reference never calls are kept so that
    its weights load.

    `encoder`: any module with `.width` that maps (B, C, T) to {"embedding": (B, E), "tokens": (B,
    P, E_t)}.
    `text_encoder`: any Hugging Face encoder with `last_hidden_state` (B, L, D).
    """

    def __init__(self, encoder: nn.Module, text_encoder: nn.Module, config: ESIConfig):
        super().__init__()
        width, token_width = text_encoder.config.hidden_size, token_width_of(encoder)
        self.config = config
        self.temperature = nn.Parameter(torch.ones(1))
        self.img_encoder = encoder
        self.img_token_head = nn.Linear(encoder.width, width)
        heads = {"head_dim": config.head_dim, "n_heads": config.n_heads}
        self.img_attn_pool = CrossAttention(width, token_width, norm_context=True, **heads)
        self.img_attn_pool_norm = ScaleNorm(width)
        self.text_cls_norm = ScaleNorm(width)
        self.img_to_latents = Latents(width)
        self.text_to_latents = Latents(width)
        self.unimodal_layers = text_encoder
        self.multimodal_layers = Decoder(width, config.n_layers, ff_mult=config.ff_mult, **heads)
        self.to_logits = nn.Sequential(
            ScaleNorm(width), nn.Linear(width, config.vocab_size, bias=False)
        )
        if config.protocol == "paper":  # the published code pools without queries of its own
            self.img_queries = nn.Parameter(torch.randn(config.n_queries, width) * 0.02)

    # --- the two sides ---

    def encode_ecg(self, signals):
        """signals (B, C, T) -> {"ecg_embedding" (B, D), "ecg_latents" (B, D) unit length,
        "ecg_tokens" (B, Q, D)}.
        """
        out = self.img_encoder(signals)
        embedding = self.img_attn_pool_norm(self.img_token_head(out["embedding"]))
        # Reference: this one vector is all the decoder sees of the ECG. The contrast uses it in
        # both protocols; the pooled tokens of protocol paper serve the captions.
        context = embedding.unsqueeze(1)
        if self.config.protocol == "paper":
            queries = self.img_queries.expand(len(signals), -1, -1)  # (B, Q, D)
            context = self.img_attn_pool_norm(self.img_attn_pool(queries, out["tokens"]))
        return {
            "encoder_embedding": out["embedding"],
            "ecg_embedding": embedding,
            "ecg_latents": self.img_to_latents(embedding),
            "ecg_tokens": context,
        }

    def encode_text(self, ids, mask):
        """ids, mask (B, L) -> {"text_embedding" (B, D), "text_latents" (B, D) unit length,
        "text_states" (B, L, D)}.
        """
        states = self.unimodal_layers(input_ids=ids, attention_mask=mask).last_hidden_state
        embedding = states[:, 0]
        if self.config.protocol == "paper":
            embedding = self.text_cls_norm(embedding)
        share = self.config.text_gradient
        if share < 1:  # the value stays, only its gradient shrinks
            embedding = share * embedding + (1 - share) * embedding.detach()
        return {
            "text_embedding": embedding,
            "text_latents": self.text_to_latents(embedding),
            "text_states": states,
        }

    def causal_states(self, ids):
        """Text states (B, L, D) in which position i knows only tokens up to i (right padding needs
        no mask).
        """
        n = ids.shape[1]
        causal = (
            torch.ones(n, n, dtype=torch.bool, device=ids.device).tril().expand(len(ids), 1, n, n)
        )
        return self.unimodal_layers(input_ids=ids, attention_mask=causal).last_hidden_state

    # --- both ---

    def forward(self, signals, ids, mask):
        """Everything the losses need; ids and mask as `losses_esi.shift_captions` leaves them.

        "logits" (B, L, V) in protocol paper, (B, L-1, V) in protocol reference: aligned with the
        shifted labels.
        """
        ecg, text = self.encode_ecg(signals), self.encode_text(ids, mask)
        logits = self.say(self.words_before(ids, text["text_states"]), ecg["ecg_tokens"])
        return {**ecg, **text, "logits": logits, "temperature": self.temperature}

    def words_before(self, ids, states):
        """What the decoder reads: causal states, or (reference) the bidirectional ones without
        [CLS].
        """
        return self.causal_states(ids) if self.config.protocol == "paper" else states[:, 1:]

    def say(self, text, ecg_tokens):
        """Text states (B, L, D) and ECG tokens (B, Q, D) -> logits (B, L, V)."""
        return self.to_logits(self.multimodal_layers(text, ecg_tokens))

    @torch.no_grad()
    def generate(self, signals, start_ids, end_id: int, max_tokens: int = 48):
        """Greedy captions: appends the likeliest token to `start_ids` (B, L) until every row said
        `end_id`.

        Returns ids (B, L + n); after its `end_id` a row is filled with `end_id`. In protocol
        reference start_ids must hold [CLS] and one word, for that decoder never learnt to say the
        first one.
        """
        ecg, ids = self.encode_ecg(signals)["ecg_tokens"], start_ids
        done = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
        for _ in range(max_tokens):
            mask = torch.ones_like(ids)
            states = (
                None
                if self.config.protocol == "paper"
                else self.encode_text(ids, mask)["text_states"]
            )
            token = self.say(self.words_before(ids, states), ecg)[:, -1].argmax(-1)
            token = token.masked_fill(done, end_id)
            ids = torch.cat([ids, token[:, None]], dim=1)
            done |= token == end_id
            if done.all():
                break
        return ids


def token_width_of(encoder) -> int:
    """Width of the encoder's tokens; XResNet's embedding is twice as wide, for it joins a maximum
    and a mean.
    """
    return getattr(encoder, "token_width", encoder.width)


def from_published(state: dict) -> dict:
    """A published ESI state dict under the kit's names.

    The text encoder is registered twice there; either prefix serves. Position ids of older
    transformers are dropped.
    """
    renamed = {
        key.replace("pretrained_text_encoder.", "unimodal_layers.", 1): value
        for key, value in state.items()
    }
    return {
        key: value for key, value in renamed.items() if not key.endswith("embeddings.position_ids")
    }
