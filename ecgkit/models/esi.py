"""ESI, the ECG Semantic Integrator: an ECG encoder, a text encoder and a captioning decoder trained
together.

`protocol="reference"` is the published code: one pooled ECG vector, and a caption decoder fed by a
bidirectional text encoder, which has already seen the word it must say. `protocol="paper"` is what
the paper draws (after CoCa): queries pool the ECG's tokens by attention, and the decoder reads text
states that know only the words before them.

Letters: B ECGs and their texts, C leads, T samples, P encoder tokens, Q pooled tokens, L words with
[CLS] and [SEP], D width of the text encoder, E of the ECG encoder, V vocabulary, N labelled words.
Source: Yu et al., ESI (TMLR 2024); CoCa (Yu et al. 2022), section 3.2.

Usage:

    model = ESI(encoder, text_encoder, ESIConfig(vocab_size=28_895))
    ids, mask, labels = shift_captions(ids, mask, "reference")
    out = model(signals, ids, mask, labels)      # (B, C, T) mV, (B, L), (B, L) -> named tensors
    model.generate(signals, start_ids, end_id, n_beams=4)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from ecgkit.models import esi_generate
from ecgkit.models.causal_text import causal_states, require_causal
from ecgkit.models.esi_decoder import (
    CrossAttention,
    Decoder,
    Packing,
    ScaleNorm,
    packed_states,
    packs,
)
from ecgkit.types import ModelError

POOLS, TEXT_POOLS = ("mean", "query"), ("cls", "mean")


@dataclass(frozen=True)
class ESIConfig:
    """Sizes of the part between the two encoders. The width D is the text encoder's hidden size.

    `n_queries` and `contrast_pool` belong to protocol paper alone: the published code has no
    queries. `contrast_pool` is what the contrast sees of the ECG: "mean", the encoder's own pooled
    vector, or "query", a pooling query of its own (CoCa); `text_pool` what it sees of a text: the
    state of [CLS] ("cls", as published) or the mean of all states ("mean": in a text encoder that
    nothing has trained yet, [CLS] hardly knows the words). Raises ModelError for another word.
    """

    vocab_size: int
    n_layers: int = 6
    n_heads: int = 8
    head_dim: int = 64
    ff_mult: int = 4
    n_queries: int = 8
    protocol: str = "reference"
    text_gradient: float = 1.0  # share of the contrastive gradient that reaches the text encoder
    contrast_pool: str = "mean"
    text_pool: str = "cls"

    def __post_init__(self):
        if self.protocol not in ("paper", "reference"):
            raise ModelError(f"protocol is {self.protocol!r}; choose paper or reference.")
        if self.contrast_pool not in POOLS:
            raise ModelError(
                f"contrast_pool is {self.contrast_pool!r}; choose {' or '.join(POOLS)}."
            )
        if self.text_pool not in TEXT_POOLS:
            raise ModelError(f"text_pool is {self.text_pool!r}; choose {' or '.join(TEXT_POOLS)}.")

    @property
    def has_contrast_query(self) -> bool:
        return self.protocol == "paper" and self.contrast_pool == "query"


class Latents(nn.Module):
    """Linear map into the space where ECG and text are compared, then unit length."""

    def __init__(self, width: int):
        super().__init__()
        self.to_latents = nn.Linear(width, width, bias=False)

    def forward(self, x):
        return F.normalize(self.to_latents(x).float(), dim=-1)  # bf16 is too coarse for unit length


class ESI(nn.Module):
    """Parameter names follow the published ones; in protocol reference, parts that are never called
    are kept so that its weights load.

    `encoder`: any module with `.width` that maps (B, C, T) to {"embedding": (B, E), "tokens": (B,
    P, E_t)}; see `ecg_encoders`.
    `text_encoder`: any Hugging Face encoder with `last_hidden_state` (B, L, D).
    Raises ModelError in protocol paper where the text encoder does not keep to a causal mask.
    """

    def __init__(self, encoder: nn.Module, text_encoder: nn.Module, config: ESIConfig):
        super().__init__()
        width, token_width = text_encoder.config.hidden_size, token_width_of(encoder)
        self.config = config
        self.temperature = nn.Parameter(torch.ones(1))
        self.img_encoder = encoder
        if not config.has_contrast_query:
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
            require_causal(text_encoder)
            n_queries = config.n_queries + config.has_contrast_query  # that of the contrast is last
            self.img_queries = nn.Parameter(torch.randn(n_queries, width) * 0.02)

    # --- the two sides ---

    def encode_ecg(self, signals):
        """signals (B, C, T) -> {"encoder_embedding" (B, E) without a gradient, "ecg_embedding" (B,
        D), "ecg_latents" (B, D) float32 of unit length, "ecg_tokens" (B, Q, D) for the captions}.
        """
        out = self.img_encoder(signals)
        tokens = self.pool(out["tokens"]) if self.config.protocol == "paper" else None
        if self.config.has_contrast_query:
            tokens, embedding = tokens[:, :-1], tokens[:, -1]
        else:
            embedding = self.img_attn_pool_norm(self.img_token_head(out["embedding"]))
        return {
            # To look at. Parallel training waits for the gradient of every weight that an output
            # comes from, and the contrast's query bypasses the encoder's last norm.
            "encoder_embedding": out["embedding"].detach(),
            "ecg_embedding": embedding,
            "ecg_latents": self.img_to_latents(embedding),
            # Reference: one vector is all the decoder sees of the ECG.
            "ecg_tokens": embedding.unsqueeze(1) if tokens is None else tokens,
        }

    def pool(self, tokens):
        """Encoder tokens (B, P, E_t) -> one vector per query (B, Q, D); protocol paper only."""
        queries = self.img_queries.expand(len(tokens), -1, -1)
        return self.img_attn_pool_norm(self.img_attn_pool(queries, tokens))

    def encode_text(self, ids, mask):
        """ids, mask (B, L) -> {"text_embedding" (B, D), "text_latents" (B, D) float32 of unit
        length, "text_states" (B, L, D), which see the whole text}.
        """
        states = self.unimodal_layers(input_ids=ids, attention_mask=mask).last_hidden_state
        words = Packing(mask)
        return self._compared(words.pack(states), words) | {"text_states": states}

    def _compared(self, states, words):
        """The contrast's side of the text, from the states (N, D) of its `words`."""
        embedding = states[words.position == 0]  # (B, D) of [CLS]
        if self.config.protocol == "paper" and self.config.text_pool == "mean":
            each = states.new_zeros(words.shape[0], states.shape[-1])
            each = each.index_add(0, words.row, states)
            embedding = each / each.new_tensor(words.lengths).unsqueeze(1)
        if self.config.protocol == "paper":
            embedding = self.text_cls_norm(embedding)
        share = self.config.text_gradient
        if share < 1:  # the value stays, only its gradient shrinks
            embedding = share * embedding + (1 - share) * embedding.detach()
        return {"text_embedding": embedding, "text_latents": self.text_to_latents(embedding)}

    def causal_states(self, ids):
        """Text states (B, L, D) in which position i knows only words up to i."""
        return causal_states(self.unimodal_layers, ids)

    # --- both ---

    def forward(self, signals, ids, mask, labels=None, captions: bool = True):
        """Everything the losses need; ids, mask (B, L) and labels (B, L') as
        `losses_esi.shift_captions` leaves them.

        Without `labels`: "text_states" and "logits" (B, L', V), aligned with the labels, L' = L -
        1. With them: "caption_logits" (N, V) and "caption_labels" (N,) at the positions that are
        not padding: the same numbers, without time or memory for the others.
        `captions=False` leaves out the decoder, the tokens it reads and, in protocol paper, the
        second pass over the text. Raises ModelError for labels of another shape.
        """
        # A copy: parallel training takes a parameter handed out as it is for one without use.
        ecg = self.encode_ecg(signals) | {"temperature": self.temperature.clone()}
        if captions and labels is not None:
            return ecg | self._at_labels(ids, mask, labels, ecg["ecg_tokens"])
        text = self.encode_text(ids, mask)
        if not captions:
            ecg.pop("ecg_tokens")  # nothing may hang on weights that get no gradient: encode_ecg
            return ecg | text
        return ecg | text | {"logits": self.say(self._before(ids, text), ecg["ecg_tokens"])}

    def _before(self, ids, text):
        """What the decoder reads (B, L - 1, D) to say the labels. Protocol paper: a second pass,
        for [CLS] needs states that have seen the whole text, the captions states that have not; the
        last word has no successor to say.
        """
        paper = self.config.protocol == "paper"
        return self.causal_states(ids[:, :-1]) if paper else text["text_states"][:, 1:]

    def _at_labels(self, ids, mask, labels, ecg_tokens):
        expected = (len(ids), ids.shape[1] - 1)
        if labels.shape != expected:
            raise ModelError(
                f"labels are {tuple(labels.shape)}, what the decoder says {expected}; make them "
                f"with shift_captions(ids, mask, {self.config.protocol!r})."
            )
        words = Packing(labels)
        if packs(self.unimodal_layers) and len(words.where):
            text, before = self._packed_text(ids, mask, words)
        else:
            text = self.encode_text(ids, mask)
            before = words.pack(self._before(ids, text))
        said = self.multimodal_layers(before, ecg_tokens, words)
        return text | {
            "caption_logits": self.to_logits(said),
            "caption_labels": words.pack(labels),
        }

    def _packed_text(self, ids, mask, words):
        """The contrast's side of the text, and `_before` at the labelled `words` (N, D), neither
        with any padding.
        """
        texts = Packing(mask)
        states = packed_states(self.unimodal_layers, ids, texts)
        text = self._compared(states, texts)
        if self.config.protocol == "paper":
            before = packed_states(self.unimodal_layers, ids[:, :-1], words, causal=True)
        else:
            before = words.pack(texts.pad(states)[:, 1:])
        return text, before

    def words_before(self, ids):
        """What the decoder reads to say what follows `ids` (B, L): causal states, or (reference)
        the bidirectional ones without [CLS].
        """
        if self.config.protocol == "paper":
            return self.causal_states(ids)
        return self.encode_text(ids, torch.ones_like(ids))["text_states"][:, 1:]

    def say(self, text, ecg_tokens):
        """Text states (B, L, D) and ECG tokens (B, Q, D) -> logits (B, L, V)."""
        return self.to_logits(self.multimodal_layers(text, ecg_tokens))

    @torch.no_grad()
    def generate(self, signals, start_ids, end_id: int, max_tokens: int = 48, n_beams: int = 1):
        """Captions that begin with `start_ids` (B, L): greedy, or the best of a beam search.

        Returns ids (B, L + n), n <= max_tokens; after its `end_id` a row is filled with `end_id`.
        In protocol reference start_ids must hold [CLS] and one word, for that decoder never learnt
        to say the first one. Raises ModelError where it does not, or n_beams < 1.
        """
        if self.config.protocol == "reference" and start_ids.shape[1] < 2:
            raise ModelError(
                "Protocol reference never learns to say the first word; give start_ids [CLS] and "
                "one word."
            )
        tokens = self.encode_ecg(signals)["ecg_tokens"]

        def next_word(ids, rows):
            last = self.multimodal_layers(self.words_before(ids), tokens[rows])[:, -1]
            return self.to_logits(last).float().log_softmax(-1)

        return esi_generate.search(next_word, start_ids, end_id, max_tokens, n_beams)


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
