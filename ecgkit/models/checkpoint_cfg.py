"""The published code's settings (`cfg`) for a model of the kit, so that it can build the model.

The reverse of `checkpoint_sizes`. What the kit does not have (layer drop, channel masks) is set to
what the kit does: nothing. Source: names of the published settings (fact sheet ecgqa.md 3.0-3.4).

Usage:

    cfg_of("pretraining", model)["model"]["encoder_layers"]
"""

from __future__ import annotations

from torch import nn

from ecgkit.models.registry import config_of, n_labels_of
from ecgkit.types import ModelError

PUBLISHED_NAME = {
    "pretraining": "wav2vec2_cmsc",
    "fusion": "ecg_language_transformer_classifier",
    "classifier": "ecg_transformer_classifier",
    "encoder": "ecg_transformer",
    "se_wrn": "se_wrn_classifier",
    "resnet_attention": "nejedly2021resnet_classifier",
}
_TASK = {"pretraining": "ecg_pretraining", "encoder": "ecg_pretraining",
         "fusion": "ecg_question_answering"}  # fmt: skip


def cfg_of(kind: str, model: nn.Module) -> dict:
    """Nested plain dict with the entries model and task; `kind` as in `checkpoints.KINDS`."""
    sizes = model.sizes if config_of(model) is None else None
    body = _RESIDUAL[kind](sizes) if sizes else transformer_cfg(config_of(model))
    if kind == "pretraining":
        body |= pretraining_cfg(model.config)
    if kind == "fusion":
        body |= fusion_cfg(config_of(model))
    if n_labels_of(model):
        body |= {"num_labels": n_labels_of(model), "model_path": None,
                 "no_pretrained_weights": True, "freeze_finetune_updates": 0}  # fmt: skip
    shared = {"normalize": False, "filter": False, "data": ""}
    task = {"_name": _TASK.get(kind, "ecg_classification"), **shared}
    if kind == "fusion":
        task |= {"sep_token": body["sep_token"], "pad_token": body["pad_token"],
                 "max_text_size": body["max_text_size"]}  # fmt: skip
    model_cfg = {"_name": PUBLISHED_NAME[kind], **body, **shared, "all_gather": False, "args": None}
    return {"model": model_cfg, "task": task, "criterion": None, "lr_scheduler": None}


def transformer_cfg(c) -> dict:
    """Raises ModelError for a transformer that the published format cannot describe."""
    if c.roughness_mv:
        raise ModelError(
            f"It reads the leads' roughness (ROUGHNESS_MV={c.roughness_mv:g}), which the published "
            "format does not know; keep it as the kit's own folder (save_pretrained)."
        )
    return {
        "encoder_layers": c.n_layers, "encoder_embed_dim": c.dim,
        "encoder_ffn_embed_dim": c.ffn_dim, "encoder_attention_heads": c.n_heads,
        "layer_norm_first": False, "extractor_mode": "default", "conv_bias": False,
        "conv_feature_layers": str([tuple(layer) for layer in c.conv_layers]),
        "in_d": c.n_leads, "conv_pos": c.pos_kernel, "conv_pos_groups": c.pos_groups,
        "dropout": c.dropout, "attention_dropout": c.attention_dropout,
        "activation_dropout": c.activation_dropout, "dropout_input": c.dropout,
        "dropout_features": 0.0, "encoder_layerdrop": 0.0,
        "feature_grad_mult": c.feature_grad_mult, "apply_mask": False,
    }  # fmt: skip


def pretraining_cfg(c) -> dict:
    return {
        "apply_mask": True, "mask_prob": 0.65, "mask_length": 10, "quantize_targets": True,
        "latent_vars": c.n_codes, "latent_groups": c.n_codebooks, "latent_dim": c.code_dim,
        "latent_temp": list(c.code_temperature), "final_dim": c.final_dim,
        "num_negatives": c.n_negatives, "logit_temp": c.logit_temperature,
        "dropout_features": c.feature_dropout,
    }  # fmt: skip


def fusion_cfg(c) -> dict:
    return {"vocab_size": c.vocab_size, "load_bert_embedding": False, "pad_token": 0,
            "sep_token": c.sep_id, "max_text_size": c.max_text}  # fmt: skip


def se_wrn_cfg(s: dict) -> dict:
    blocks = s["n_blocks"] if isinstance(s["n_blocks"], int) else s["n_blocks"][0]
    return {"num_filters": str(list(s["widths"])), "num_blocks": blocks, "widening_factor": 1,
            "kernel_size": s["kernel"], "in_d": s["n_leads"], "conv_bias": False, "leadwise": False,
            "ratio": max(1, s["widths"][1] // s["squeezes"][0]),
            "final_dropout": s["dropout"]}  # fmt: skip


def resnet_attention_cfg(s: dict) -> dict:
    return {"in_d": s["n_leads"], "num_blocks": s["n_blocks"], "num_filters": s["width"],
            "kernel_size": str(list(s["kernels"])), "stride": 2, "conv_bias": False,
            "leadwise": False, "indicate_leads": True, "use_mha": True,
            "final_dropout": s["dropout"]}  # fmt: skip


_RESIDUAL = {"se_wrn": se_wrn_cfg, "resnet_attention": resnet_attention_cfg}
