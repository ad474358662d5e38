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


def ecg_weights(source: nn.Module) -> State:
    """The ECG transformer's tensors in `source`: itself or its children `encoder`, `ecg_encoder`.

    Takes an ECGTransformer (also pretraining and ECG-only models, whose heads come along and fit
    nowhere) or a model that holds one, such as the classifier or M3AE. Raises ModelError if none.
    """
    for part in (source, getattr(source, "encoder", None), getattr(source, "ecg_encoder", None)):
        if isinstance(part, ECGTransformer):
            return part.state_dict()
    raise ModelError(
        f"{type(source).__name__} holds no ECG transformer; start from an ECG transformer "
        "classifier or from wav2vec pretraining."
    )


def copy_fitting(target: nn.Module, state: State) -> int:
    """Copies into `target` what has a place of the same name and shape; returns how many tensors.

    Raises ModelError when nothing fits: that is a checkpoint of another model or other sizes.
    """
    own = target.state_dict()
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    if not fitting:
        raise ModelError(
            f"None of the {len(state)} given tensors fits into {type(target).__name__}; build both "
            "models with the same sizes (dim, ffn_dim, n_layers, conv_layers)."
        )
    target.load_state_dict(fitting, strict=False)
    return len(fitting)
