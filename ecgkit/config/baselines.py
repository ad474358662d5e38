"""Settings of notebook 03."""

from __future__ import annotations

import dataclasses

from ecgkit.config.base import KitConfig


@dataclasses.dataclass(frozen=True)
class BaselinesConfig(KitConfig):
    """Settings of notebook 03."""
