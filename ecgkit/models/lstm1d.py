"""An LSTM over an ECG: the recurrent classifier of the PTB-XL benchmark, below its head.

Letters: B batch, C leads, T samples, W width of the LSTM, D = 3 W width of the output.
Source: Strodthoff et al. 2021, section III: recurrent layers over the samples, then the last state
beside the maximum and the mean over time. Here `pool` samples are averaged to one step first: an
LSTM is serial, and 500 Hz tell it little that 125 Hz do not (ours; 1 leaves it out).

Usage:

    LSTM1D()(signal)                            # (B, 12, T) mV -> {"embedding": (B, 768)}
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class LSTM1D(nn.Module):
    """`n_layers` LSTM layers of `hidden`; the embedding is [maximum, mean, last state]."""

    def __init__(self, n_leads: int = 12, hidden: int = 256, n_layers: int = 2, pool: int = 4):
        super().__init__()
        self.lstm = nn.LSTM(n_leads, hidden, n_layers, batch_first=True)
        self.pool, self.width = pool, 3 * hidden

    def forward(self, signal: torch.Tensor) -> dict[str, torch.Tensor]:
        """(B, C, T) -> embedding (B, D), tokens (B, T / pool, W)."""
        steps = F.avg_pool1d(signal, self.pool) if self.pool > 1 else signal
        states, _ = self.lstm(steps.transpose(1, 2))  # (B, C, T) -> (B, T / pool, W)
        parts = [states.amax(1), states.mean(1), states[:, -1]]
        return {"embedding": torch.cat(parts, dim=1), "tokens": states}
