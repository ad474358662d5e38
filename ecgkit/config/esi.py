"""Settings of notebook 04."""

from __future__ import annotations

import dataclasses

from ecgkit.config.base import KitConfig


@dataclasses.dataclass(frozen=True)
class EsiConfig(KitConfig):
    """Settings of notebook 04."""


@dataclasses.dataclass(frozen=True)
class EsiEvalConfig(EsiConfig):
    """Settings of notebook 05: those of the pretraining it evaluates, plus the evaluation's own."""
