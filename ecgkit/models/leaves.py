"""LEAVES: SimCLR whose views are learned. A few strengths of augmentation are parameters of the
network; they are trained against the encoder, to make the two views of an ECG hard to match.

Letters: N ECGs, C leads, T samples, G knots of a slow curve, D width.
Source: Yu et al. 2022 (LEAVES: learning views for time-series data in contrastive learning). Of its
five steps the permutation of pieces is left out: it has no gradient without a surrogate, and an ECG
in pieces is none. Each strength has a ceiling here (a sigmoid below `CEILINGS`); the paper caps the
noise alone.

Usage:

    module = Leaves(SimCLR(encoder, width=96, hidden=128, out=64))
    module(signal)                        # (N, C, T) mV -> z_1, z_2, embedding, strengths
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

N_KNOTS = 8
# Largest strengths: noise (mV), gain of a lead, slow change of gain, and time moved (share of T).
CEILINGS = {"jitter": 0.1, "scale": 0.5, "warp": 0.5, "distort": 0.05}


class LearnedViews(nn.Module):
    """(N, C, T) -> (N, C, T): jitter, scaling, magnitude warping, time distortion, each with a
    learned strength.

    `adversarial` reverses the gradient into the strengths, so that minimising the contrast trains
    the encoder to match views and these views not to be matched.
    """

    def __init__(self, adversarial: bool = True):
        super().__init__()
        self.raw = nn.Parameter(torch.full((len(CEILINGS),), -1.0))
        self.register_buffer("ceilings", torch.tensor(list(CEILINGS.values())))
        self.adversarial = adversarial

    def strengths(self) -> dict[str, torch.Tensor]:
        """Strength of each step, as it stands."""
        return dict(zip(CEILINGS, self.ceilings * torch.sigmoid(self.raw)))

    def forward(self, signal):
        raw = 2 * self.raw.detach() - self.raw if self.adversarial else self.raw  # same value
        jitter, scale, warp, distort = self.ceilings * torch.sigmoid(raw)
        n, c, t = signal.shape
        x = _moved(signal, distort * _slow_curves(signal.new_empty(n, 1, t)))
        x = x * (1 + scale * torch.randn(n, c, 1, device=x.device, dtype=x.dtype))
        x = x * (1 + warp * _slow_curves(x))
        return x + jitter * torch.randn_like(x)


class Leaves(nn.Module):
    """A `SimCLR` whose two views of each ECG come from one `LearnedViews`."""

    def __init__(self, simclr: nn.Module, adversarial: bool = True):
        super().__init__()
        self.simclr, self.views = simclr, LearnedViews(adversarial)

    @property
    def encoder(self) -> nn.Module:
        return self.simclr.encoder

    def forward(self, signal) -> dict:
        """(N, C, T) -> z_1, z_2 (N, Q), embedding (N, D), strengths (name -> scalar)."""
        out = self.simclr(self.views(signal), self.views(signal))
        return out | {"strengths": {k: v.detach() for k, v in self.views.strengths().items()}}


def _slow_curves(like):
    """Random curves of the shape of `like` (N, C, T): N_KNOTS standard normal knots, joined."""
    n, c, t = like.shape
    knots = torch.randn(n, c, N_KNOTS, device=like.device, dtype=like.dtype)
    return F.interpolate(knots, size=t, mode="linear", align_corners=True)


def _moved(signal, shift):
    """signal (N, C, T) read at times moved by `shift` (N, 1, T), a share of T; linear between
    samples."""
    t = signal.shape[-1]
    at = torch.arange(t, device=signal.device, dtype=signal.dtype)
    at = (at + t * shift).clamp(0, t - 1)  # (N, 1, T)
    before = at.detach().floor().clamp(max=t - 2).long()
    left = signal.gather(-1, before.expand_as(signal))
    right = signal.gather(-1, (before + 1).expand_as(signal))
    return left + (at - before) * (right - left)
