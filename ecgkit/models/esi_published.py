"""ESI models of the published code, and of the kit's own folders: which sizes a state dict has, the
model of these sizes, and the settings that build a model again.

Letters: D width of the text encoder.

Usage:

    state = kit_names(published_state)                   # one name per weight, the kit's
    model = of_settings(settings_of_state(state))        # protocol reference
    load_into(model, state, "esi.pt")                    # checkpoints: strictly, or a sentence
    model = load_fairseq("esi.pt")                       # checkpoints: all three, from a file
"""

from __future__ import annotations

import dataclasses
import re

import torch

from ecgkit.models import convnext, registry, xresnet
from ecgkit.models.esi import ESI, ESIConfig, from_published
from ecgkit.types import ModelError

INPUT = (
    "12 leads in the order of MIMIC-IV-ECG, I, II, III, aVR, aVF, aVL, V1-V6 (the bulk of its "
    "training; the published loader orders nothing); 500 Hz; 10 s (5000 samples); the whole record "
    "z-scored with one mean and one standard deviation: features.esi_input.esi_preprocess(signal). "
    "Texts: BioLinkBERT's tokenizer (michiyasunaga/BioLinkBERT-base), at most 500 tokens"
)
ENCODER = "img_encoder."
Weights = dict[str, torch.Tensor]


def kit_names(state: dict) -> dict:
    """A published state dict (or any dict with its keys) under the kit's names, each weight once.

    Copies under a second name, position ids of older transformers and the prefix of parallel
    training are dropped.
    """
    state = from_published({key.removeprefix("module."): value for key, value in state.items()})
    encoder = _below(state, ENCODER)
    if not any(re.match(r"\d+\.\d+\.weight", key) for key in encoder):  # 0.0.weight: an XResNet
        return state
    others = {key: value for key, value in state.items() if not key.startswith(ENCODER)}
    renamed = xresnet.from_published(encoder)
    return others | {ENCODER + key: value for key, value in renamed.items()}


def settings_of_state(state: Weights, text_heads: int | None = None) -> dict:
    """Every size of a state dict in the kit's names, as `of_settings` takes them.

    No weight has the shape of the text encoder's heads: `text_heads`, else as published, D / 64.
    Raises KeyError or ValueError where a weight that gives a size is missing.
    """
    text = _below(state, "unimodal_layers.")
    vocab, width = text["embeddings.word_embeddings.weight"].shape
    cross, block = "multimodal_layers.0.1.fn.", "multimodal_layers.0.0.fn."
    head_dim = state[cross + "to_kv.weight"].shape[0] // 2
    sizes = ESIConfig(
        vocab_size=state["to_logits.1.weight"].shape[0],
        n_layers=_count(state, r"multimodal_layers\.(\d+)\."),
        n_heads=state[cross + "to_q.weight"].shape[0] // head_dim,
        head_dim=head_dim,
        ff_mult=state[block + "ff_out.1.weight"].shape[1] // width,
    )
    text_sizes = {
        "model_type": "bert", "vocab_size": vocab, "hidden_size": width,
        "num_attention_heads": text_heads or max(1, width // 64),
        "num_hidden_layers": _count(text, r"encoder\.layer\.(\d+)\."),
        "intermediate_size": text["encoder.layer.0.intermediate.dense.weight"].shape[0],
        "max_position_embeddings": text["embeddings.position_embeddings.weight"].shape[0],
        "type_vocab_size": text["embeddings.token_type_embeddings.weight"].shape[0],
    }  # fmt: skip
    return {
        **dataclasses.asdict(sizes),
        "encoder": _encoder_sizes(_below(state, ENCODER)),
        "text_encoder": text_sizes,
        "pooler": "pooler.dense.weight" in text,
    }


def settings_of(model: ESI) -> dict:
    """What `of_settings` needs to build a model like this one, as plain values."""
    text = model.unimodal_layers
    text_sizes = text.config.to_diff_dict()
    return {
        **dataclasses.asdict(model.config),
        "encoder": _named(model.img_encoder, registry.settings_of(model.img_encoder)),
        "text_encoder": {k: v for k, v in text_sizes.items() if k != "transformers_version"},
        "pooler": getattr(text, "pooler", None) is not None,
    }


def of_settings(settings: dict) -> ESI:
    """An ESI with random weights. Raises ModelError, TypeError, ValueError or KeyError for settings
    that make none; `registry.build` puts them in a sentence.
    """
    from transformers import AutoConfig, AutoModel

    sizes = {k: v for k, v in settings.items() if k not in ("encoder", "text_encoder", "pooler")}
    missing = [k for k in ("encoder", "text_encoder") if k not in settings]
    if missing:
        raise ModelError(f"an ESI's settings lack {', '.join(missing)}")
    encoder = dict(settings["encoder"])
    # A pooler belongs to BERT and its kin only, and only some of their constructors know the word.
    pooler = {} if settings.get("pooler", True) else {"add_pooling_layer": False}
    text_config = AutoConfig.for_model(**settings["text_encoder"])
    return ESI(
        registry.build(encoder.pop("class"), encoder),
        AutoModel.from_config(text_config, **pooler),
        registry.make_config(ESIConfig, sizes),
    )


def in_standard_order(model: ESI) -> ESI:
    """The same model for leads in the order I, II, III, aVR, aVL, aVF, V1-V6: the inputs of its
    first convolution change places (MIMIC-IV-ECG has aVF before aVL). Changes `model`.
    """
    first = next(m for m in model.img_encoder.modules() if isinstance(m, torch.nn.Conv1d))
    with torch.no_grad():
        first.weight[:, [4, 5]] = first.weight[:, [5, 4]].clone()
    return model


# --- parts ---


def _encoder_sizes(state: Weights) -> dict:
    kind = convnext.ConvNeXt1D, convnext.ConvNeXtConfig
    if "stem.0.conv.weight" in state:
        kind = xresnet.XResNet1D, xresnet.XResNetConfig
    module, config = kind
    return {"class": module.__name__, **dataclasses.asdict(config.of_state_dict(state))}


def _named(module, settings: dict) -> dict:
    return {"class": type(module).__name__, **settings}


def _below(state: dict, prefix: str) -> dict:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _count(state: dict, pattern: str) -> int:
    """How many numbered parts there are. Raises ValueError where there is none."""
    found = {int(match[1]) for match in (re.match(pattern, key) for key in state) if match}
    if not found:
        raise ValueError(f"no weight is named {pattern}")
    return 1 + max(found)
