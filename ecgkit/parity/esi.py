"""Golden fixtures of ESI: the encoders, the whole model, its losses and its input scaling.

Every size is read off the arrays. One thing is not in any shape, the text encoder's number of
heads: see `text_heads`.
"""

from __future__ import annotations

import re

import numpy as np
import torch

from ecgkit.features.esi_input import esi_preprocess
from ecgkit.models import convnext, esi_published, xresnet
from ecgkit.models.esi import ESI
from ecgkit.models.losses_esi import caption_loss, contrastive_loss, shift_captions
from ecgkit.parity.base import Case, Check, close

ATOL, LOSS_ATOL = 1e-4, 1e-5


def _part(arrays: dict, prefix: str, device="cpu") -> dict[str, torch.Tensor]:
    """The tensors stored under `prefix`, without it. Copied, so that nothing aliases the
    fixture.
    """
    found = {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}
    return {k: torch.as_tensor(np.array(v)).to(device) for k, v in found.items()}


def _tensor(array, device):
    return torch.as_tensor(np.array(array)).to(device)


def _start(ours, expected):
    """Intermediate maps are stored for their first steps only."""
    return ours[..., : expected.shape[-1]]


# --- ConvNeXt ---


def compare_convnext(arrays: dict, device) -> list[Check]:
    state = _part(arrays, "sd/", device)
    model = convnext.ConvNeXt1D(convnext.ConvNeXtConfig.of_state_dict(state)).to(device).eval()
    model.load_state_dict(state)
    out = model(_tensor(arrays["x"], device).transpose(1, 2), return_stages=True)
    checks = [close("embedding", out["embedding"], arrays["emb"], ATOL)]
    if "logits" in arrays:
        checks.append(close("logits", out["logits"], arrays["logits"], ATOL))
    maps = {"down": out["down"], "stage": out["stages"]}
    for key in sorted(k for k in arrays if re.fullmatch(r"mid/(down|stage)\d+(_shape)?", k)):
        kind, index, is_shape = re.fullmatch(r"mid/(down|stage)(\d+)(_shape)?", key).groups()
        ours = maps[kind][int(index)]
        expected = arrays[key]
        if is_shape:
            checks.append(close(key, np.array(ours.shape), expected, 0))
        else:
            checks.append(close(key, _start(ours, expected), expected, ATOL))
    if "cot" in arrays:
        (out["embedding"] * _tensor(arrays["cot"], device)).sum().backward()
        checks += _gradients(model, arrays)
    return checks


def _gradients(model, arrays) -> list[Check]:
    expected = {k[5:]: v for k, v in arrays.items() if k.startswith("grad/")}
    ours = {name: p.grad for name, p in model.named_parameters()}
    return [
        close(f"grad {k}", _zero_if_none(ours[k], v), v, ATOL, rtol=1e-4)
        for k, v in expected.items()
    ]


def _zero_if_none(gradient, expected):
    return np.zeros(np.shape(expected)) if gradient is None else gradient


def compare_ops(arrays: dict, device) -> list[Check]:
    """Single pieces, each under its own prefix; `ln` and `blk` take (B, C, L), `grn` takes (B, L,
    C).
    """
    build = {
        "ln": lambda sd: convnext.TimeNorm(sd["weight"].shape[1]),
        "grn": lambda sd: convnext.GlobalResponseNorm(sd["gamma"].shape[-1]),
        "blk": lambda sd: convnext.Block(
            sd["dwconv.weight"].shape[0], sd["dwconv.weight"].shape[2]
        ),
    }
    checks = []
    for name in (n for n in build if f"{n}_x" in arrays):
        state = _part(arrays, f"{name}/", device)
        module = build[name](state).to(device)
        module.load_state_dict(state)
        checks.append(
            close(name, module(_tensor(arrays[f"{name}_x"], device)), arrays[f"{name}_y"], ATOL)
        )
    return checks


# --- XResNet ---


def compare_xresnet(arrays: dict, device) -> list[Check]:
    state = xresnet.from_published(_part(arrays, "sd/", device))
    model = xresnet.XResNet1D(xresnet.XResNetConfig.of_state_dict(state)).to(device).eval()
    model.load_state_dict(state)
    x = _tensor(arrays["x"], device)
    out = model(x, return_stages=True)
    checks = [
        close("embedding, eval", out["embedding"], arrays["y_eval"], ATOL),
        *_xresnet_maps(out, arrays),
    ]
    if "y_train_batchstats" in arrays:
        ours, expected = model.train()(x)["embedding"], arrays["y_train_batchstats"]
        checks.append(close("embedding, batch statistics", ours, expected, ATOL))
    return checks


def _xresnet_maps(out: dict, arrays: dict) -> list[Check]:
    """`mid/i` is the output of published child i: stages from 4, then the pooled vector with and
    without a last axis.
    """
    n_stages, checks = len(out["stages"]), []
    for key in (k for k in arrays if re.fullmatch(r"mid/\d+", k)):
        index, expected = int(key[4:]) - 4, arrays[key]
        if 0 <= index < n_stages:
            checks.append(close(key, _start(out["stages"][index], expected), expected, ATOL))
        elif index >= n_stages:
            checks.append(close(key, out["embedding"].reshape(expected.shape), expected, ATOL))
    return checks


# --- the whole model ---


def text_heads(state: dict, arrays: dict) -> list[int]:
    """Candidates for the text encoder's head count, likeliest first: no weight has its shape.

    A stored `heads` entry settles it; else as wide as the decoder's heads (64 in the published
    model: 768 / 64 = 12), then any other count that divides the width. The first that reproduces
    `text_embeds` is kept; all other arrays (logits, losses, gradients) remain checks that had no
    say in the choice.
    """
    width = state["unimodal_layers.embeddings.word_embeddings.weight"].shape[1]
    stored = [
        int(np.ravel(arrays[k])[0])
        for k in ("bert_heads", "text_heads", "num_attention_heads")
        if k in arrays
    ]
    head_dim = state["multimodal_layers.0.1.fn.to_kv.weight"].shape[0] // 2
    rule = [width // head_dim, 4, max(1, width // 64)]
    order = dict.fromkeys(stored + rule + list(range(1, width + 1)))
    return [n for n in order if 0 < n <= width and width % n == 0]


def _esi_state(arrays: dict, device) -> dict:
    """The fixture's weights under our names."""
    return esi_published.kit_names(_part(arrays, "sd/", device))


def _fitting_model(state, arrays, ids, mask, device) -> ESI:
    """The model with the first head count that reproduces the text embedding, or the likeliest if
    none does.
    """
    candidates, first = text_heads(state, arrays), None
    for heads in candidates:
        settings = esi_published.settings_of_state(state, text_heads=heads)
        model = esi_published.of_settings(settings).to(device).eval()
        model.load_state_dict(state)
        first = first or model
        with torch.no_grad():
            gap = model.encode_text(ids, mask)["text_embedding"] - _tensor(
                arrays["text_embeds"], device
            )
        if gap.abs().max() < ATOL:
            return model
    return first


def compare_model(arrays: dict, device) -> list[Check]:
    state = _esi_state(arrays, device)
    ids, mask = (_tensor(arrays[k], device).long() for k in ("ids", "mask"))
    inputs, seen, labels = shift_captions(ids, mask, "reference")
    signals = _tensor(arrays["signals"], device)
    is_convnext = any(k.startswith("img_encoder.downsample_layers") for k in state)
    signals = signals.transpose(1, 2) if is_convnext else signals
    model = _fitting_model(state, arrays, inputs, seen, device)
    out = model(signals, inputs, seen)
    caption = caption_loss(out["logits"], labels)
    short = model(signals, inputs, seen, labels)  # only where there is a word to say
    short_caption = caption_loss(short["caption_logits"], short["caption_labels"])
    contrast = contrastive_loss(out["ecg_latents"], out["text_latents"], out["temperature"])
    checks = [
        close("text embedding", out["text_embedding"], arrays["text_embeds"], ATOL),
        close("ECG embedding", out["ecg_embedding"], arrays["image_embeds"], ATOL),
        close("logits", out["logits"], arrays["logits"], ATOL),
        close("caption loss", caption, arrays["caption"], ATOL),
        close("caption loss at labelled words", short_caption, arrays["caption"], ATOL),
        close("contrastive loss", contrast, arrays["contrastive"], ATOL),
        close("total loss", caption + contrast, arrays["total"], ATOL),
    ]
    if "gradnorm_keys" in arrays:
        (caption + contrast).backward()
        checks += _gradient_norms(model, arrays)
    return checks


def _gradient_norms(model, arrays: dict) -> list[Check]:
    norms = {
        k: 0.0 if p.grad is None else float(p.grad.norm()) for k, p in model.named_parameters()
    }
    expected = {str(k): float(v) for k, v in zip(arrays["gradnorm_keys"], arrays["gradnorms"])}
    expected = esi_published.kit_names(expected)
    missing = sorted(set(expected) - set(norms))
    if missing:
        return [Check(f"gradient norms: no parameter {missing[0]}", float("inf"), ATOL, False)]
    keys = list(expected)
    return [
        close(
            f"{len(keys)} gradient norms",
            np.array([norms[k] for k in keys]),
            np.array([expected[k] for k in keys]),
            ATOL,
            rtol=1e-4,
        )
    ]


# --- losses and input ---


def compare_losses(arrays: dict, device) -> list[Check]:
    checks = []
    for key in (k for k in arrays if k.startswith("con_temp")):
        temperature = torch.tensor(_full_precision(float(key[8:])), device=device)
        ours = contrastive_loss(
            _tensor(arrays["s"], device), _tensor(arrays["t"], device), temperature
        )
        checks.append(close(key, ours, arrays[key], LOSS_ATOL))
    if "caption" in arrays:
        ours = caption_loss(_tensor(arrays["logits"], device), _tensor(arrays["labels"], device))
        checks.append(close("caption", ours, arrays["caption"], LOSS_ATOL))
    if "s_raw" in arrays:
        for raw, unit in (("s_raw", "s"), ("t_raw", "t")):
            ours = torch.nn.functional.normalize(_tensor(arrays[raw], device), dim=-1)
            checks.append(close(f"{unit} of unit length", ours, arrays[unit], LOSS_ATOL))
    return checks


def _full_precision(shown: float) -> float:
    """File keys round the temperature to four digits; log(1 / s) of a usual softmax temperature s
    is meant exactly.
    """
    exact = [float(np.log(1 / s)) for s in (0.01, 0.02, 0.05, 0.07, 0.1, 0.2, 0.5)]
    return next((e for e in exact if abs(e - shown) < 6e-5), shown)


def compare_preproc(arrays: dict, device) -> list[Check]:
    del device  # this step runs in numpy
    ours = esi_preprocess(np.swapaxes(arrays["raw"], -1, -2))
    return [close("z-scored record", np.swapaxes(ours, -1, -2), arrays["y"], LOSS_ATOL)]


def _has(*keys: str):
    return lambda name, arrays: all(key in arrays for key in keys)


CASES = [
    Case("esi_convnextv2", _has("x", "emb", "sd/downsample_layers.0.0.weight"), compare_convnext),
    Case(
        "esi_convnextv2_ops", lambda name, a: bool({"ln_x", "grn_x", "blk_x"} & set(a)), compare_ops
    ),
    Case("esi_xresnet1d", _has("x", "y_eval", "sd/4.0.convs.0.0.weight"), compare_xresnet),
    Case("esi_model", _has("ids", "signals", "sd/to_logits.1.weight"), compare_model),
    Case(
        "esi_losses",
        lambda name, a: "s" in a and "t" in a and any(k.startswith("con_temp") for k in a),
        compare_losses,
    ),
    Case(
        "esi_preproc",
        lambda name, a: "raw" in a and "y" in a and not any(k.startswith("sd/") for k in a),
        compare_preproc,
    ),
]
