"""The mapper that is tested: the trained one with dropout off, or what the released code tests.

Usage:

    mapper = mapper_at_test(trained, task.quirks, seed=0)
"""

from __future__ import annotations

import copy
from collections.abc import Collection

import torch
from torch import nn

PUBLISHED_DROPOUT = 0.5


def mapper_at_test(mapper: nn.Module, quirks: Collection[str], seed: int = 0) -> nn.Module:
    """`mapper` in eval mode, or a changed copy of it.

    Quirks of the released code: `untrained_mapper`, a random one of the same shape (its inference
    script never loads the trained weights); `live_dropout`, dropout 0.5 stays on while testing.
    Without the latter a mapper that was trained with it is tested with dropout off.
    """
    live, random = "live_dropout" in quirks, "untrained_mapper" in quirks
    if not (live or random or getattr(mapper, "always_drop", False)):
        return mapper.eval()
    mapper = copy.deepcopy(mapper).eval()
    if random:
        _draw_anew(mapper, seed)
    for module in mapper.modules():
        if hasattr(module, "always_drop"):
            module.always_drop = live
            module.dropout = PUBLISHED_DROPOUT if live else module.dropout
        elif live and isinstance(module, nn.Dropout):
            module.p = PUBLISHED_DROPOUT
            module.train()
    return mapper


def _draw_anew(mapper: nn.Module, seed: int) -> None:
    """Gives every weight a random start, as at the beginning of training."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed + 1)  # another draw than the one training began with
        for module in mapper.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
                continue
            for parameter in module.parameters(recurse=False):
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)
