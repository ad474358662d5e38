"""What a state dict's shapes and a published `cfg` say of a model: keyword arguments to build it.

Letters: D width, H heads, F conv channels, G codebooks, V codes a book.
Almost every size is in the shapes. Three are not: the number of heads (cfg, else D / 64 as
published), the strides (cfg, else each equal to its kernel, as published) and what only matters in
training (dropout, temperatures; cfg, else the published defaults). Where cfg and shapes contradict
each other the file is refused.

Source: names of the published settings and weights (fact sheet ecgqa.md 3.0-3.4).

Usage:

    sizes = transformer_sizes({name: tuple(t.shape) for name, t in state.items()}, "encoder.")
    config = ECGTransformerConfig(**sizes)
"""

from __future__ import annotations

import re

from ecgkit.types import ModelError

Shapes = dict[str, tuple[int, ...]]

# published name -> ours. Sizes that the shapes show as well are checked against them.
SHOWN = {"encoder_embed_dim": "dim", "encoder_ffn_embed_dim": "ffn_dim",
         "encoder_layers": "n_layers", "conv_pos": "pos_kernel", "conv_pos_groups": "pos_groups",
         "in_d": "n_leads"}  # fmt: skip
NOT_SHOWN = {"dropout": "dropout", "attention_dropout": "attention_dropout",
             "activation_dropout": "activation_dropout",
             "feature_grad_mult": "feature_grad_mult"}  # fmt: skip
PRETRAINING = {"num_negatives": "n_negatives", "logit_temp": "logit_temperature",
               "dropout_features": "feature_dropout"}  # fmt: skip
# What the kit's transformer has no other form of.
ONLY = {"extractor_mode": "default", "conv_bias": False, "layer_norm_first": False,
        "activation_fn": "gelu", "target_glu": False, "quantize_input": False}  # fmt: skip


def count(shapes: Shapes, pattern: str) -> int:
    """How many different numbers stand where `pattern` has its group, among the weight names."""
    found = (re.match(pattern, key) for key in shapes)
    return len({m.group(1) for m in found if m})


# --- the transformers -----------------------------------------------------------------------------


def transformer_sizes(shapes: Shapes, prefix: str = "", cfg: dict | None = None) -> dict:
    """Keyword arguments of ECGTransformerConfig, from weights named under `prefix`."""
    at = {k.removeprefix(prefix): v for k, v in shapes.items() if k.startswith(prefix)}
    n_convs = count(at, r"feature_extractor\.conv_layers\.(\d+)\.0\.weight")
    convs = [at[f"feature_extractor.conv_layers.{i}.0.weight"] for i in range(n_convs)]
    dim, per_group, kernel = at["conv_pos.pos_conv.0.parametrizations.weight.original1"]
    sizes = {
        "n_leads": convs[0][1], "dim": dim, "pos_kernel": kernel, "pos_groups": dim // per_group,
        "ffn_dim": at["encoder.layers.0.fc1.weight"][0],
        "n_layers": count(at, r"encoder\.layers\.(\d+)\."),
        "n_heads": max(1, dim // 64),
        "conv_layers": tuple((c[0], c[2], c[2]) for c in convs),
    }  # fmt: skip
    return sizes | _from_cfg(sizes, cfg or {})


def pretraining_sizes(shapes: Shapes, cfg: dict | None = None) -> dict:
    """Keyword arguments of Wav2VecConfig."""
    code_dim, (_, n_total, per_book) = shapes["project_q.weight"][1], shapes["quantizer.vars"]
    n_books = code_dim // per_book
    sizes = transformer_sizes(shapes, "", cfg) | {
        "code_dim": code_dim, "n_codebooks": n_books, "n_codes": n_total // n_books,
        "final_dim": shapes["final_proj.weight"][0],
    }  # fmt: skip
    cfg = cfg or {}
    _agree(cfg, sizes, {"latent_vars": "n_codes", "latent_groups": "n_codebooks"})
    told = {ours: cfg[name] for name, ours in PRETRAINING.items() if _is_number(cfg.get(name))}
    if isinstance(cfg.get("latent_temp"), list) and len(cfg["latent_temp"]) == 3:
        told["code_temperature"] = tuple(float(t) for t in cfg["latent_temp"])
    return sizes | told


def fusion_sizes(shapes: Shapes, cfg: dict | None = None) -> dict:
    """Keyword arguments of FusionConfig."""
    cfg, table = cfg or {}, "encoder.{}_embedding.weight"
    sizes = transformer_sizes(shapes, "encoder.", cfg) | {
        "vocab_size": shapes[table.format("language")][0],
        "max_text": shapes[table.format("position")][0],
    }  # fmt: skip
    return sizes | ({"sep_id": cfg["sep_token"]} if _is_number(cfg.get("sep_token")) else {})


def _from_cfg(sizes: dict, cfg: dict) -> dict:
    """What only `cfg` knows. Raises ModelError where it contradicts the weights."""
    _agree(cfg, sizes, SHOWN)
    for name, value in ONLY.items():
        if cfg.get(name, value) != value:
            raise ModelError(
                f"its settings say {name}={cfg[name]!r}; the kit has this model with {value!r} "
                "only, so the weights would be used wrongly"
            )
    told = {ours: cfg[name] for name, ours in NOT_SHOWN.items() if _is_number(cfg.get(name))}
    if _is_number(cfg.get("encoder_attention_heads")):
        told["n_heads"] = cfg["encoder_attention_heads"]
    if isinstance(cfg.get("conv_feature_layers"), str):
        told["conv_layers"] = conv_layers(cfg["conv_feature_layers"])
        if [c[:2] for c in told["conv_layers"]] != [c[:2] for c in sizes["conv_layers"]]:
            raise ModelError(
                f"its settings say conv_feature_layers={cfg['conv_feature_layers']}, its weights "
                f"(channels, kernel) {[c[:2] for c in sizes['conv_layers']]}; it was put together "
                "from two models"
            )
    return told


def _agree(cfg: dict, sizes: dict, names: dict[str, str]) -> None:
    for name, ours in names.items():
        if _is_number(cfg.get(name)) and cfg[name] != sizes[ours]:
            raise ModelError(
                f"its settings say {name}={cfg[name]}, its weights {sizes[ours]}; it was put "
                "together from two models"
            )


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def conv_layers(text: str) -> tuple[tuple[int, int, int], ...]:
    """Reads the published notation, `[(256, 2, 2)] * 4 + [(512, 3, 2)]`, without evaluating it."""
    layers, triple = [], r"\(\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\)"
    for term in text.split("+"):
        whole = re.fullmatch(r"\s*\[((?:\s*" + triple + r"\s*,?)+)\]\s*(?:\*\s*(\d+)\s*)?", term)
        if not whole:
            raise ModelError(f"its setting conv_feature_layers={text!r} cannot be read")
        found = [tuple(int(n) for n in t) for t in re.findall(triple, whole.group(1))]
        layers += found * int(whole.groups()[-1] or 1)
    return tuple(layers)


# --- the residual networks ------------------------------------------------------------------------


def se_wrn_sizes(shapes: Shapes) -> dict:
    """Keyword arguments of SEWideResNet but for `n_labels`."""
    stem, n_leads, kernel = shapes["encoder.conv.weight"]
    n_groups = count(shapes, r"encoder\.groups\.(\d+)\.")
    first = [f"encoder.groups.{g}.layers.0" for g in range(n_groups)]
    blocks = [count(shapes, rf"encoder\.groups\.{g}\.layers\.(\d+)\.") for g in range(n_groups)]
    return {
        "n_leads": n_leads, "kernel": kernel, "n_blocks": tuple(blocks),
        "widths": (stem, *(shapes[f"{g}.conv1.weight"][0] for g in first)),
        "squeezes": tuple(shapes[f"{g}.fc1.bias"][0] for g in first),
    }  # fmt: skip


def resnet_attention_sizes(shapes: Shapes) -> dict:
    """Keyword arguments of ResNetAttention but for `n_labels`: 8 heads as published, or the next
    smaller number that divides the width."""
    width, n_leads, stem = shapes["encoder.conv.weight"]
    return {
        "n_leads": n_leads, "width": width, "n_blocks": count(shapes, r"encoder\.blocks\.(\d+)\."),
        "n_heads": next(h for h in range(8, 0, -1) if width % h == 0),
        "kernels": (stem, shapes["encoder.blocks.0.conv1.weight"][2]),
    }  # fmt: skip
