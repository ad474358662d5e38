"""ECG encoders by name, and on disk: ConvNeXt, XResNet, ViT, or a published transformer in
segments, all with the same contract.

An encoder has `.width` (E), maybe `.token_width` (E_t), and maps (B, C, T) mV to {"embedding": (B,
E), "tokens": (B, P, E_t)}.

Usage:

    encoder = encoder_for("atto", norm="channel")         # names: config.esi.ENCODERS
    save_encoder(encoder, folder, fs=100, input="esi_preprocess")
    encoder = load_encoder(folder); encoder.notes["fs"]
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from torch import nn

from ecgkit.models import convnext, segment_encoder, vit1d, xresnet
from ecgkit.models.checkpoints import load_into
from ecgkit.models.registry import make_config
from ecgkit.runtime import replacing
from ecgkit.types import ModelError

SMALL_CONVNEXT = {  # the kit's own sizes: (depths, dims)
    "micro": ((1, 1, 1, 1), (8, 16, 24, 32)),
    "small": ((1, 1, 2, 1), (32, 48, 64, 128)),
}
KINDS = {  # as config.json names them
    "convnext1d": (convnext.ConvNeXt1D, convnext.ConvNeXtConfig),
    "xresnet1d": (xresnet.XResNet1D, xresnet.XResNetConfig),
    "vit1d": (vit1d.ViT1D, vit1d.ViTConfig),
    "segments": (segment_encoder.SegmentEncoder, segment_encoder.SegmentConfig),
}


def encoder_for(name: str, norm: str = "channel") -> nn.Module:
    """An encoder with random weights. `norm`, of a ConvNeXt's stem and downsampling: channel | time
    (published code, with its first weights; else they are as large as a layer's inputs allow); the
    others have no such choice. Raises ModelError for an unknown name.
    """
    if name in xresnet.PRESETS:
        return xresnet.XResNet1D(xresnet.XResNetConfig.preset(name))
    if name in vit1d.PRESETS:
        return vit1d.ViT1D(vit1d.ViTConfig.preset(name))
    if name in SMALL_CONVNEXT:
        depths, dims = SMALL_CONVNEXT[name]
        sizes = convnext.ConvNeXtConfig(depths=depths, dims=dims, init_std=0.0, norm=norm)
    elif name in convnext.PRESETS:
        start = {"init_std": 0.0} if norm == "channel" else {}
        sizes = convnext.ConvNeXtConfig.preset(name, norm=norm, **start)
    else:
        raise ModelError(f"Encoder {name!r} is unknown; choose one of {', '.join(names())}.")
    return convnext.ConvNeXt1D(sizes)


def names() -> list[str]:
    """Every name `encoder_for` knows."""
    return [*SMALL_CONVNEXT, *convnext.PRESETS, *xresnet.PRESETS, *vit1d.PRESETS]


# --- on disk ---


def save_encoder(encoder: nn.Module, folder: str | Path, **notes) -> Path:
    """Writes `model.safetensors` and `config.json` (sizes, plus `notes` such as fs and how the
    input is scaled). Raises ModelError for a module that is none of KINDS.
    """
    from safetensors.torch import save_file

    kind = next((k for k, (module, _) in KINDS.items() if type(encoder) is module), None)
    if kind is None:
        raise ModelError(
            f"{type(encoder).__name__} is no ECG encoder of the kit; save_encoder takes "
            f"{', '.join(module.__name__ for module, _ in KINDS.values())}."
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.detach().cpu().contiguous() for key, value in encoder.state_dict().items()}
    with replacing(folder / "model.safetensors") as scratch:
        save_file(state, str(scratch))
    body = {"kind": kind, **dataclasses.asdict(encoder.config), "notes": notes}
    with replacing(folder / "config.json") as scratch:
        scratch.write_text(json.dumps(body, indent=2) + "\n")
    return folder


def load_encoder(folder: str | Path) -> nn.Module:
    """Returns the encoder `save_encoder` wrote, in eval mode; `encoder.notes` holds the notes.

    Raises ModelError when the folder is not such an encoder, or the weights do not fit its config.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    try:
        body = json.loads((folder / "config.json").read_text())
        state = load_file(str(folder / "model.safetensors"))
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(
            f"{folder.name}/ holds no ECG encoder ({error}); run notebook 04 to train one."
        ) from None
    kind, notes = body.pop("kind", None), body.pop("notes", {})
    if kind not in KINDS:
        raise ModelError(
            f"{folder.name}/config.json names the encoder {kind!r}, the kit has "
            f"{', '.join(KINDS)}; run notebook 04 to write one."
        )
    module, config = KINDS[kind]
    try:
        encoder = module(make_config(config, body))
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(
            f"{folder.name}/config.json has sizes that make no {kind} ({error})."
        ) from None
    encoder = load_into(encoder, state, f"{folder.name}/model.safetensors")
    encoder.notes = notes
    return encoder.eval()
