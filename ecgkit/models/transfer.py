"""Weights handed from a pretrained model to another: what fits by name and shape is copied.

Usage:

    n_tensors = copy_fitting(model.ecg_encoder, ecg_weights(pretrained))
"""

from __future__ import annotations

import torch
from torch import nn

from ecgkit.models.ecg_transformer import ECGTransformer
from ecgkit.types import ModelError

State = dict[str, torch.Tensor]
FIRST = "feature_extractor.conv_layers.0.0.weight"  # the layer that reads the ECG


def ecg_weights(source: nn.Module) -> State:
    """The tensors of the ECG transformer that `source` is, or holds as `encoder`.

    Takes wav2vec pretraining, an ECG transformer, its classifier, and the ECG-only model; heads
    come along and fit nowhere. Raises ModelError for other models.
    """
    for part in (source, getattr(source, "encoder", None)):
        if isinstance(part, ECGTransformer):
            return part.state_dict()
    raise ModelError(
        f"{type(source).__name__} holds no ECG transformer; start from an ECG transformer "
        "classifier or from wav2vec pretraining."
    )


def copy_fitting(target: nn.Module, state: State) -> int:
    """Copies into `target` what has a place of the same name and shape; returns how many tensors.

    Of a position table of another length the rows both have are copied, since the first positions
    mean the same in both. Other layers, heads or vocabularies than the target's are passed over;
    raises ModelError when fewer than half of the tensors of the same name fit, or when the first
    convolutions read different channels.
    """
    own, fitting = target.state_dict(), {}
    shared = [name for name in own if name in state]
    for name in shared:
        given, place = state[name], own[name]
        if given.shape == place.shape:
            fitting[name] = given
        elif "position_embedding" in name and given.shape[1:] == place.shape[1:]:
            n = min(len(given), len(place))
            fitting[name] = torch.cat([given[:n].to(place), place[n:]])
    for name in (name for name in shared if name.endswith(FIRST)):
        given, place = state[name].shape[1], own[name].shape[1]
        if given != place:
            raise ModelError(
                f"The given model reads {given} channels of an ECG, {type(target).__name__} "
                f"{place}; build both alike (leads, ROUGHNESS_MV)."
            )
    if not fitting or 2 * len(fitting) < len(shared):
        raise ModelError(
            f"Only {len(fitting)} of {len(state)} given tensors fit into {type(target).__name__}; "
            "build both models with the same sizes (dim, ffn_dim, conv_layers)."
        )
    target.load_state_dict(fitting, strict=False)
    return len(fitting)
