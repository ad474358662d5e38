"""Checkpoints of the published code (fairseq-signals: ECG-FM, ECG-QA's models; ESI), in and out.

`read_fairseq` takes a path or a hub id, reads the file safely (`torch_files.py`) and tells by its
keys which model it is; `load_fairseq` builds that model; `export_fairseq` writes the same names.
`docs/checkpoints.md` says what is accepted and what each model wants as input.

ESI's own code is another one; its files are read here as well, but none is written.
Weights of the published code get `protocol="reference"` by default: they were trained with its
pooling and masks. Letters: C leads, T samples.

Usage:

    model = load_fairseq("wanglab/ecg-fm")            # or a path; Wav2Vec2CMSC in eval mode
    model(ecg_fm_input(signal, fs=500)[:, 0])["pooled"]
    export_fairseq(model, "mine.pt")
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from ecgkit.models import esi_published, hub, registry
from ecgkit.models.checkpoint_cfg import cfg_of
from ecgkit.models.checkpoint_sizes import (
    fusion_sizes,
    pretraining_sizes,
    resnet_attention_sizes,
    se_wrn_sizes,
    transformer_sizes,
)
from ecgkit.models.torch_files import read_weights
from ecgkit.runtime import replacing
from ecgkit.types import ConfigError, ModelError

State = dict[str, torch.Tensor]
# Files of hub models that are named by their id alone.
MAIN_FILE = {"wanglab/ecg-fm": "mimic_iv_ecg_physionet_pretrained.pt"}
# kind -> class of the kit, and a key that no other kind has (the first that is found decides).
KINDS = {
    "pretraining": ("Wav2Vec2CMSC", "quantizer.vars"),
    "fusion": ("FusionQA", "encoder.language_embedding.weight"),
    "classifier": ("ECGTransformerClassifier", "encoder.post_extract_proj.weight"),
    "encoder": ("ECGTransformer", "post_extract_proj.weight"),
    "se_wrn": ("SEWideResNet", "encoder.groups.0.layers.0.conv1.weight"),
    "resnet_attention": ("ResNetAttention", "mha.in_proj_weight"),
    "esi": ("ESI", "img_to_latents.to_latents.weight"),
}
# Heads of pretraining that the published code leaves in, or takes out of, a fine-tuned model.
_PRETRAINING_ONLY = re.compile(r"(encoder\.)?(mask_emb|quantizer\..+|project_q\..+|final_proj\..+)")
_OLD_NAMES = {"parametrizations.weight.original0": "weight_g",
              "parametrizations.weight.original1": "weight_v"}  # fmt: skip

ECG_FM_INPUT = (
    "12 leads in the order I, II, III, aVR, aVL, aVF, V1-V6; 500 Hz; segments of 5 s (2500 "
    "samples); each lead of a record z-scored over the whole record, a constant lead all 0: "
    "features.ecg_fm_input.ecg_fm_input(signal, fs)"
)
ECG_QA_INPUT = (
    "12 leads in the order I, II, III, aVR, aVL, aVF, V1-V6; 500 Hz; 10 s (5000 samples); mV as "
    "recorded, neither filtered nor scaled; leads that are not shown are 0"
)


@dataclass(frozen=True)
class FairseqCheckpoint:
    """What a published file holds, under the kit's names.

    `kind` is a key of KINDS, `settings` builds the kit's class (`registry.build`), `state` has its
    weights, `cfg` the published settings, `left_out` the weights that the model has no place for,
    `old_names` whether weight norm was spelt weight_g / weight_v.
    """

    kind: str
    state: State = field(repr=False)
    cfg: dict = field(repr=False)
    settings: dict = field(repr=False)
    n_labels: int | None = None
    left_out: tuple[str, ...] = ()
    old_names: bool = False
    source: str = ""

    @property
    def model_class(self) -> str:
        return KINDS[self.kind][0]

    @property
    def n_parameters(self) -> int:
        return sum(value.numel() for value in self.state.values())

    @property
    def is_ecg_fm(self) -> bool:
        """By its name: nothing in the file says so."""
        return bool(re.search(r"ecg.?fm|mimic_iv_ecg", self.source.lower()))


# --- in -------------------------------------------------------------------------------------------


def read_fairseq(path_or_id: str | Path, protocol: str = "reference") -> FairseqCheckpoint:
    """Reads a file of the published code, without running anything in it.

    `path_or_id`: a path, `owner/name/file.pt`, or `wanglab/ecg-fm` for ECG-FM. Raises ModelError in
    a sentence: not there, not reachable, damaged, of no model of the kit, sizes that contradict.
    """
    path = _local(path_or_id)
    weights, cfg = read_weights(path)
    state = {_new_name(name.removeprefix("module.")): value for name, value in weights.items()}
    cfg = cfg if isinstance(cfg.get("model"), dict) else {**cfg, "model": {}}
    kind = _kind(state, path.name)
    left_out = () if kind == "pretraining" else tuple(filter(_PRETRAINING_ONLY.fullmatch, state))
    state = {name: value for name, value in state.items() if name not in left_out}
    if kind == "esi":
        state = _esi_state(state, protocol, path.name)
    try:
        if kind == "esi":
            settings = esi_published.settings_of_state(state)
        else:
            settings = _settings(kind, {k: tuple(v.shape) for k, v in state.items()}, cfg["model"])
    except ModelError as error:
        raise ModelError(f"{path.name}: {error}.") from None
    except (KeyError, IndexError, ValueError) as error:
        raise ModelError(
            f"{path.name} looks like {KINDS[kind][0]}, but what gives its sizes is missing or of "
            f"another shape ({error}); it is incomplete or of another model."
        ) from None
    if kind != "se_wrn":
        settings["protocol"] = protocol
    n_labels = len(state["proj.bias"]) if "proj.bias" in state else None
    old_names = any(name.endswith(tuple(_OLD_NAMES.values())) for name in weights)
    return FairseqCheckpoint(
        kind, state, cfg, settings, n_labels, left_out, old_names, str(path_or_id))


def load_fairseq(path_or_id: str | Path | FairseqCheckpoint, model: nn.Module | None = None,
                 protocol: str = "reference") -> nn.Module:
    """The model of a published file, in eval mode; or `model`, with the file's weights in it.

    Every weight of the model must be in the file and the other way round: see `load_into` for the
    errors, `read_fairseq` for those of the file, which may be given read already.
    """
    found = path_or_id
    if not isinstance(found, FairseqCheckpoint):
        found = read_fairseq(found, protocol)
    if model is None:
        model = registry.build(found.model_class, found.settings, found.n_labels)
    return load_into(model, found.state, Path(found.source).name).eval()


def load_into(model: nn.Module, state: State, what: str) -> nn.Module:
    """Copies `state` into `model`, all of it. Raises ModelError naming what does not fit."""
    own, state = model.state_dict(), {_new_name(name): value for name, value in state.items()}
    missing, unexpected = [k for k in own if k not in state], [k for k in state if k not in own]
    shapes = [f"{k} {tuple(state[k].shape)} for {tuple(own[k].shape)}"
              for k in own if k in state and own[k].shape != state[k].shape]  # fmt: skip
    faults = [f"{len(names)} {fault}: {_few(names)}" for fault, names in (
        ("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)) if names]
    if faults:
        raise ModelError(
            f"{what} does not fit {type(model).__name__}: {'; '.join(faults)}. It is a checkpoint "
            "of another model or of other sizes; `ecgkit model show` says which."
        )
    model.load_state_dict(state)
    return model


def input_of(checkpoint: FairseqCheckpoint) -> str:
    """What the model was trained on, in a sentence: leads, rate, length, units, scaling.

    Encoders and their pretraining follow ECG-FM; ECG-QA's own models were fed raw mV. A fine-tuned
    classifier may be either, and its file does not say which, unless it is named after ECG-FM.
    """
    if checkpoint.kind == "esi":
        return esi_published.INPUT
    if checkpoint.kind in ("pretraining", "encoder"):
        return ECG_FM_INPUT
    if checkpoint.kind != "classifier":
        return ECG_QA_INPUT
    if checkpoint.is_ecg_fm:
        return ECG_FM_INPUT
    return f"that of its training; fine-tuned from ECG-FM: {ECG_FM_INPUT}; ECG-QA's: {ECG_QA_INPUT}"


# --- out ------------------------------------------------------------------------------------------


def export_fairseq(model: nn.Module, path: str | Path, spelling: str = "new") -> Path:
    """Writes {"model", "cfg", ...} under the published names, so that the published code loads it.

    `spelling` of weight norm: new (parametrizations) | old (weight_g, weight_v; torch before 2).
    Raises ModelError for a model that the published code does not have.
    """
    if spelling not in ("new", "old"):
        raise ConfigError(f"spelling is {spelling!r}; choose new or old.")
    body = exported(model, spelling)
    path = Path(path).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as scratch:  # never over a file that is still being read
        torch.save(body, scratch)
    return path


def exported(model: nn.Module, spelling: str = "new") -> dict:
    """What `export_fairseq` writes. The entries beside model and cfg are those without which the
    published loader takes the file for one of an older version."""
    kinds = {name: kind for kind, (name, _) in KINDS.items() if kind != "esi"}
    kind = kinds.get(type(model).__name__)
    if kind is None:
        raise ModelError(
            f"The published code has no counterpart of {type(model).__name__} that the kit knows; "
            f"it can be given {', '.join(kinds)}. Use save_pretrained for the others."
        )
    state = {name: value.detach() for name, value in model.state_dict().items()}
    if spelling == "old":
        state = {_old_name(name): value for name, value in state.items()}
    progress = {"lr_scheduler_state": {}, "num_updates": 0}
    return {"args": None, "cfg": cfg_of(kind, model), "model": state,
            "optimizer_history": [progress], "last_optimizer_state": None,
            "extra_state": {"train_iterator": {"epoch": 1}, "val_loss": None}}  # fmt: skip


# --- parts ----------------------------------------------------------------------------------------


def _local(path_or_id: str | Path) -> Path:
    named = hub.split_id(str(path_or_id))
    if named is None:
        path = Path(path_or_id).expanduser()
        if path.is_dir():
            raise ModelError(
                f"{path} is a folder; give the .pt file in it, or open a folder that the kit saved "
                "with load_pretrained."
            )
        return path
    return hub.fetch(str(path_or_id), MAIN_FILE.get(named[0], ""))


def _kind(state: State, name: str) -> str:
    found = next((kind for kind, (_, key) in KINDS.items() if key in state), None)
    if found is None:
        raise ModelError(
            f"{name} belongs to no model the kit can import: none of "
            f"{', '.join(key for _, key in KINDS.values())} is among its {len(state)} keys "
            f"({_few(list(state))})."
        )
    return found


def _esi_state(state: State, protocol: str, name: str) -> State:
    if protocol == "paper":
        raise ModelError(
            f"{name} is an ESI of the published code, which has no pooling queries; import it with "
            "protocol reference, and copy what a model of protocol paper shares with it "
            "(transfer.copy_fitting)."
        )
    return esi_published.kit_names(state)


def _settings(kind: str, shapes: dict, cfg: dict) -> dict:
    """What builds the kit's class, but for the protocol."""
    if kind == "pretraining":
        return pretraining_sizes(shapes, cfg)
    if kind == "fusion":
        return fusion_sizes(shapes, cfg)
    if kind in ("classifier", "encoder"):
        return transformer_sizes(shapes, "encoder." if kind == "classifier" else "", cfg)
    return se_wrn_sizes(shapes) if kind == "se_wrn" else resnet_attention_sizes(shapes)


def _new_name(name: str) -> str:
    for new, old in _OLD_NAMES.items():
        name = re.sub(rf"\.{old}$", f".{new}", name)
    return name


def _old_name(name: str) -> str:
    for new, old in _OLD_NAMES.items():
        name = name.replace(new, old)
    return name


def _few(names: list[str], limit: int = 3) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
