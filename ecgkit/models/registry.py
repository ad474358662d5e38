"""Models by name: what a saved folder needs to know to build its model again.

One line per model. `config` is its frozen dataclass of sizes; a model without one keeps its
keyword arguments in `model.sizes`. `head` is the last layer, whose outputs are the labels; '' where
there are none. `more` are constructor arguments beside the config, kept as attributes of that name.
A model made of others has functions of its own: `build` (settings -> model) and `settings` (back).

Usage:

    build("SEWideResNet", {"widths": [16, 16, 32], "n_blocks": 1}, n_labels=5)
    settings_of(model), n_labels_of(model)
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import typing
from dataclasses import dataclass

from torch import nn

from ecgkit.types import ConfigError, ModelError


@dataclass(frozen=True)
class Entry:
    """Where a model's class lives, its config class, its head, what it does, `more`, and the names
    of its own `build` and `settings`.
    """

    module: str
    config: str
    head: str
    what: str
    more: tuple[str, ...] = ()
    build: str = ""
    settings: str = ""

    def load(self, name: str):
        """The attribute `name` of the model's module."""
        return getattr(importlib.import_module(f"ecgkit.models.{self.module}"), name)


_SIZES = "ECGTransformerConfig"
MODELS = {
    "ECGTransformer": Entry("ecg_transformer", _SIZES, "", "turns ECGs into vectors"),
    "ECGTransformerClassifier": Entry("ecg_transformer", _SIZES, "proj", "labels ECGs"),
    "Wav2Vec2CMSC": Entry("wav2vec", "Wav2VecConfig", "", "turns ECGs into vectors, pretrained"),
    "SEWideResNet": Entry("se_wrn", "", "proj", "labels ECGs"),
    "ResNetAttention": Entry("resnet_attention", "", "proj", "labels ECGs"),
    "FusionQA": Entry("fusion_qa", "FusionConfig", "proj", "answers questions about ECGs"),
    "BlindQA": Entry("fusion_qa", "FusionConfig", "proj", "answers questions without the ECG"),
    "DeafQA": Entry("deaf_qa", _SIZES, "proj", "answers without the question", ("num_ecgs",)),
    "ResNetLSTM": Entry("resnet_lstm", "ResNetLSTMConfig", "proj", "answers questions about ECGs"),
    "M3AEQA": Entry("m3ae", "M3AEConfig", "head.3", "answers questions about ECGs"),
    "M3AEPretraining": Entry("m3ae", "M3AEConfig", "", "fills gaps in ECGs and reports"),
    "MedViLLPretraining": Entry("medvill", "FusionConfig", "", "fills gaps in reports",
                                ("attention",)),
    "ConvNeXt1D": Entry("convnext", "ConvNeXtConfig", "", "turns ECGs into vectors"),
    "XResNet1D": Entry("xresnet", "XResNetConfig", "", "turns ECGs into vectors"),
    "ViT1D": Entry("vit1d", "ViTConfig", "", "turns ECGs into vectors"),
    "ESI": Entry("esi_published", "", "", "compares ECGs with texts and captions ECGs",
                 build="of_settings", settings="settings_of"),
    "AttentionMapper": Entry("prefix_mapper", "", "", "turns ECG embeddings into soft tokens"),
    "FeedForwardMapper": Entry("prefix_mapper", "", "", "turns ECG embeddings into soft tokens"),
    "PerceiverMapper": Entry("prefix_mapper", "", "", "turns ECG embeddings into soft tokens"),
}  # fmt: skip


def find(name: str) -> Entry:
    """The entry of a class. Raises ModelError naming those there are."""
    if name not in MODELS:
        raise ModelError(
            f"The kit has no model {name!r} to save or load; it has {', '.join(MODELS)}. A newer "
            "version of the kit may have it."
        )
    return MODELS[name]


def config_of(model: nn.Module):
    """The dataclass a model was built from (its own, or its encoder's); None where it has none."""
    own = getattr(model, "config", None)
    return own if own is not None else getattr(getattr(model, "encoder", None), "config", None)


def settings_of(model: nn.Module) -> dict:
    """Sizes and switches by name, as plain values. Raises ModelError for an unknown class."""
    entry = find(type(model).__name__)
    if entry.settings:
        return entry.load(entry.settings)(model)
    sizes = dataclasses.asdict(config_of(model)) if entry.config else dict(model.sizes)
    return sizes | {name: getattr(model, name) for name in entry.more}


def n_labels_of(model: nn.Module) -> int | None:
    """How many labels or answers the model's head has; None without a head."""
    head = find(type(model).__name__).head
    return model.get_submodule(head).weight.shape[0] if head else None


def build(name: str, settings: dict, n_labels: int | None = None) -> nn.Module:
    """A model with random weights. Raises ModelError for an unknown class, setting or value."""
    entry = find(name)
    head = () if not entry.head else (n_labels,)
    if entry.head and (not isinstance(n_labels, int) or n_labels < 1):
        raise ModelError(f"{name} needs n_labels, the number of its labels; it is {n_labels!r}.")
    more = {k: settings[k] for k in entry.more if k in settings}
    sizes = {k: _tuples(v) for k, v in settings.items() if k not in more}
    try:
        if entry.build:
            return entry.load(entry.build)(settings)
        model_class = entry.load(name)
        if not entry.config:
            refuse_unknown(name, sizes, inspect.signature(model_class).parameters)
            return model_class(*head, **sizes)
        return model_class(make_config(entry.load(entry.config), sizes), *head, **more)
    except (TypeError, ValueError, KeyError, RuntimeError, ConfigError) as error:
        raise ModelError(f"{name} cannot be built from these settings: {error}") from None


def make_config(config_class, settings: dict):
    """A dataclass from plain values: lists become tuples, inner dicts inner dataclasses."""
    hints = typing.get_type_hints(config_class)
    fields = {field.name for field in dataclasses.fields(config_class)}
    refuse_unknown(config_class.__name__, settings, fields)
    values = {
        name: make_config(hints[name], value)
        if dataclasses.is_dataclass(hints[name]) and isinstance(value, dict)
        else _tuples(value)
        for name, value in settings.items()
    }
    return config_class(**values)


def refuse_unknown(what: str, settings: dict, known) -> None:
    """Raises ModelError naming settings that `what` does not have."""
    unknown = [name for name in settings if name not in known]
    if unknown:
        raise ModelError(
            f"{what} has no setting {', '.join(unknown)}; the folder may be from another version "
            "of the kit."
        )


def _tuples(value):
    return tuple(_tuples(v) for v in value) if isinstance(value, (list, tuple)) else value
