"""Settings of notebook 07."""

from __future__ import annotations

import dataclasses

from ecgkit.config.base import KitConfig


@dataclasses.dataclass(frozen=True)
class RiskConfig(KitConfig):
    """Settings of notebook 07."""
