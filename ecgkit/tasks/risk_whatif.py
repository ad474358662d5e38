"""What if this lead were silent, taller, or the beat a little later? Changes of a network's input.

They act on the z-scored input. In mV, a lead made taller is z-scored back to what it was, so the
network cannot tell; the factor here shows what it would do if it could. Shape letters: C leads, T
samples.

Usage:

    change = Change(silent=("V1", "V2"), scaled=("II",), factor=1.5, shift_ms=20)
    reply = scorer.score_input(change.of(x, scorer.spec.leads, scorer.spec.fs))
"""

from __future__ import annotations

import dataclasses

import torch

from ecgkit.types import DataError


@dataclasses.dataclass(frozen=True)
class Change:
    """`silent` leads become 0, their mean; `scaled` ones are multiplied by `factor`; everything
    moves `shift_ms` to the right, zeros coming in."""

    silent: tuple[str, ...] = ()
    scaled: tuple[str, ...] = ()
    factor: float = 1.0
    shift_ms: float = 0.0

    @property
    def nothing(self) -> bool:
        """Whether the input stays as it is."""
        return not (self.silent or self.shift_ms or (self.scaled and self.factor != 1))

    def of(self, x: torch.Tensor, leads: tuple[str, ...], fs: float) -> torch.Tensor:
        """x (C, T), a row per name in `leads`, fs Hz -> the changed copy. Raises DataError for a
        lead that is not among them."""
        unknown = [lead for lead in (*self.silent, *self.scaled) if lead not in leads]
        if unknown:
            raise DataError(
                f"There is no lead {', '.join(unknown)} here; choose among {', '.join(leads)}."
            )
        x, step = x.clone(), round(self.shift_ms * fs / 1000)
        if step:
            moved, n = torch.zeros_like(x), x.shape[-1]
            keep = max(0, n - abs(step))
            start, source = (step, 0) if step > 0 else (0, -step)
            moved[:, start : start + keep] = x[:, source : source + keep]
            x = moved
        for row, lead in enumerate(leads):
            if lead in self.silent:
                x[row] = 0
            elif lead in self.scaled:
                x[row] *= self.factor
        return x

    def words(self) -> str:
        """What was changed, for a caption."""
        if self.nothing:
            return "as recorded"
        parts = [f"{', '.join(self.silent)} silent"] if self.silent else []
        loud = [lead for lead in self.scaled if lead not in self.silent]
        if loud and self.factor != 1:
            parts.append(f"{', '.join(loud)} × {self.factor:g}")
        return "; ".join(parts + ([f"shifted {self.shift_ms:+g} ms"] if self.shift_ms else []))
