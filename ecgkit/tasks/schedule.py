"""The learning rate as a function of the training step."""

from __future__ import annotations

import math

SCHEDULES = ("cosine", "linear", "constant", "tri_stage", "step")


def lr_factor(step: int, n_steps: int, schedule: str, warmup_fraction: float = 0.1) -> float:
    """Fraction of `lr` at `step` (from 0). tri_stage is fairseq's: 10 % warm-up from 0.01, 40 %
    hold, 50 % decay to 0.05. step: a tenth of it after each third of the training (ESI: every 10 of
    30 epochs).
    """
    if schedule == "tri_stage":
        if step < 0.1 * n_steps:
            return 0.01 + 0.99 * step / (0.1 * n_steps)
        return (
            1.0 if step < 0.5 * n_steps else math.exp(math.log(0.05) * (step / n_steps - 0.5) / 0.5)
        )
    warmup = warmup_fraction * n_steps
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "step":
        return 0.1 ** (3 * step // n_steps)
    done = (step - warmup) / max(1.0, n_steps - warmup)
    shapes = {"cosine": 0.5 * (1 + math.cos(math.pi * done)), "linear": 1 - done, "constant": 1.0}
    return max(0.0, shapes[schedule])
