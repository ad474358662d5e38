"""Modules in which an encoder is pretrained without labels: wav2vec / CMSC, SimCLR, BYOL.

Letters: B batch, N pairs, C leads, T samples, P tokens, D width of an embedding, Q of a projection.
Sources: Oh et al. 2022 section 3; Chen et al. 2020 section 2; Grill et al. 2020 section 3.

Two things follow the optimiser step: wav2vec's Gumbel temperature and BYOL's target network. The
step is a buffer of the module (`micro_step`, one per training forward), so that it is in every
checkpoint and a resumed run goes on with the same numbers. BYOL's target moves at the *start* of
the forward that follows an update (the training loop has no hook after one), by the EMA of that
update; the very last update is followed by no forward, and no loss needs its target either.

Usage:

    module = SimCLR(encoder, width=96, hidden=128, out=64)        # encoder(x)["pooled"] (B, 96)
    out = module(first, second)                                   # z_1, z_2 (N, 64), embedding
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import nn

from ecgkit.types import ModelError

Embed = Callable[[nn.Module, torch.Tensor], torch.Tensor]


def embed_pooled(encoder: nn.Module, signal: torch.Tensor) -> torch.Tensor:
    """The (B, D) embedding of an encoder that returns it, or a dict with "pooled" or "embedding".

    For other encoders give a function of your own. Raises ModelError where neither is there.
    """
    out = encoder(signal)
    if isinstance(out, dict):
        out = out.get("pooled", out.get("embedding"))
    if not isinstance(out, torch.Tensor) or out.dim() != 2:
        raise ModelError(
            f"{type(encoder).__name__} returns no (B, D) tensor, nor one named pooled or "
            "embedding; give embed=, a function of encoder and signal that does."
        )
    return out


@torch.no_grad()
def embedding_width(encoder: nn.Module, embed: Embed, shape: tuple[int, int]) -> int:
    """D of what `embed` makes of signals of `shape` (C, T); leaves the encoder as it was."""
    was_training = encoder.training
    where = next(encoder.parameters()).device
    width = embed(encoder.eval(), torch.zeros(2, *shape, device=where)).shape[-1]
    encoder.train(was_training)
    return width


def mlp(width: int, hidden: int, out: int) -> nn.Sequential:
    """Linear, batch norm, ReLU, Linear: projector and predictor of both methods."""
    return nn.Sequential(
        nn.Linear(width, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, out),
    )


class Counted(nn.Module):
    """Knows which optimiser step it is in: the engine's `accumulate` forwards make one step."""

    def __init__(self, accumulate: int = 1):
        super().__init__()
        self.accumulate = accumulate
        self.register_buffer("micro_step", torch.zeros((), dtype=torch.long))

    def begin(self) -> int:
        """To be called once by each forward; returns the step it belongs to (from 0)."""
        step, part = divmod(int(self.micro_step), self.accumulate)
        if self.training:
            if part == 0 and step > 0:
                self.after_update(step - 1)
            self.micro_step += 1
        return step

    def after_update(self, step: int) -> None:
        """What follows optimiser step `step`; nothing by default."""


class Wav2VecPretraining(Counted):
    """A `Wav2Vec2CMSC` whose Gumbel temperature follows the optimiser step."""

    def __init__(self, encoder: nn.Module, accumulate: int = 1):
        super().__init__(accumulate)
        self.encoder = encoder

    def forward(self, signal, mask_indices=None) -> dict:
        """signal (B, C, T), mask_indices (B, P) bool or None (CMSC alone) -> the encoder's dict and
        `temperature` ()."""
        step = self.begin()
        out = self.encoder(signal, mask_indices=mask_indices, step=step)
        return {**out, "temperature": signal.new_tensor(self.encoder.temperature(step))}


class SimCLR(nn.Module):
    """Encoder and projector, the same for both views."""

    def __init__(self, encoder, width: int, hidden: int, out: int, embed: Embed = embed_pooled):
        super().__init__()
        self.encoder, self.embed = encoder, embed
        self.projector = mlp(width, hidden, out)

    def forward(self, first, second) -> dict:
        """Views (N, C, T) -> z_1, z_2 (N, Q) and embedding (N, D), that of the first view."""
        embedding = self.embed(self.encoder, torch.cat([first, second]))
        z_1, z_2 = self.projector(embedding).chunk(2)
        return {"z_1": z_1, "z_2": z_2, "embedding": embedding[: len(first)]}


class BYOL(Counted):
    """Online encoder, projector and predictor; a target encoder and projector that follow them.

    `n_steps` is the number of optimiser steps the EMA takes to reach 1. The target is in the state
    dict, never has a gradient, and keeps its own batch-norm statistics.
    """

    def __init__(
        self,
        encoder,
        width: int,
        hidden: int,
        out: int,
        n_steps: int,
        decay: float = 0.996,
        accumulate: int = 1,
        embed: Embed = embed_pooled,
    ):
        super().__init__(accumulate)
        self.encoder, self.embed = encoder, embed
        self.projector, self.predictor = mlp(width, hidden, out), mlp(out, hidden, out)
        self.target_encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.target_projector = copy.deepcopy(self.projector).requires_grad_(False)
        self.n_steps, self.decay = n_steps, decay

    def after_update(self, step: int) -> None:
        decay = byol_decay(step, self.n_steps, self.decay)
        follow(self.target_encoder, self.encoder, decay)
        follow(self.target_projector, self.projector, decay)

    def forward(self, first, second) -> dict:
        """Views (N, C, T) -> predicted_1, predicted_2, target_1, target_2 (N, Q), embedding (N, D)
        of the first view."""
        self.begin()
        both = torch.cat([first, second])
        embedding = self.embed(self.encoder, both)
        predicted = self.predictor(self.projector(embedding)).chunk(2)
        with torch.no_grad():
            target = self.target_projector(self.embed(self.target_encoder, both)).chunk(2)
        return {
            "predicted_1": predicted[0],
            "predicted_2": predicted[1],
            "target_1": target[0],
            "target_2": target[1],
            "embedding": embedding[: len(first)],
        }


def byol_decay(step: int, n_steps: int, start: float = 0.996) -> float:
    """EMA after `step` (from 0): 1 - (1 - start) (cos(pi step / n_steps) + 1) / 2."""
    return 1 - (1 - start) * (math.cos(math.pi * step / n_steps) + 1) / 2


@torch.no_grad()
def follow(target: nn.Module, online: nn.Module, decay: float) -> None:
    """target <- decay * target + (1 - decay) * online, for every parameter."""
    for mine, theirs in zip(target.parameters(), online.parameters()):
        mine.mul_(decay).add_(theirs.detach(), alpha=1 - decay)
